//! Promise 8: a changed `sources.toml` becomes the allow-list whole, or the old one stays and says why; no connection
//! is dropped for it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use common::wire::*;
use common::*;

const OTHER: &str = "22222222-3333-4444-5555-666666666666";

fn entry(id: &str) -> String {
    format!("[[source]]\nid = \"{id}\"\n")
}

/// What a sync of this source gets on this connection.
fn sync(inside: &mut Inside, id: &str) -> u16 {
    ask(inside, post("/v1/sync", &IDLE.replace(SOURCE, id))).status
}

/// Waits until a sync of this source gets this status. The connection must last.
#[track_caller]
fn becomes(inside: &mut Inside, id: &str, status: u16) {
    eventually(&format!("{id} gets {status}"), || (sync(inside, id) == status).then_some(()));
}

/// A relay that allows the one source, with a connection that must outlive everything.
fn started() -> (Stub, Relay, Inside, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources(&entry(SOURCE)).start();
    let mut inside = relay.inside();
    assert_eq!((sync(&mut inside, SOURCE), sync(&mut inside, OTHER)), (200, 503));
    (stub, relay, inside, folder)
}

fn renamed_over(relay: &Relay, text: &str) {
    fs::write(relay.path("sources.new"), text).unwrap();
    fs::rename(relay.path("sources.new"), relay.path("sources.toml")).unwrap();
}

#[test]
fn a_list_written_in_place_or_renamed_over_is_in_force_without_a_restart() {
    let (_stub, mut relay, mut inside, _folder) = started();
    fs::write(relay.path("sources.toml"), entry(OTHER)).unwrap();
    becomes(&mut inside, OTHER, 200);
    assert_eq!(sync(&mut inside, SOURCE), 503);
    renamed_over(&relay, &entry(SOURCE));
    becomes(&mut inside, SOURCE, 200);
    assert_eq!(sync(&mut inside, OTHER), 503);
    assert!(relay.is_running());
}

#[test]
fn a_list_behind_a_link_that_is_swapped_is_in_force() {
    let (_stub, relay, mut inside, _folder) = started();
    // As Kubernetes mounts it: the file is a link into a folder that is itself a link.
    for (version, id) in [("v1", SOURCE), ("v2", OTHER)] {
        fs::create_dir(relay.path(version)).unwrap();
        fs::write(relay.path(version).join("sources.toml"), entry(id)).unwrap();
    }
    symlink("v1", relay.path("..data")).unwrap();
    fs::remove_file(relay.path("sources.toml")).unwrap();
    symlink("..data/sources.toml", relay.path("sources.toml")).unwrap();
    assert_eq!(sync(&mut inside, SOURCE), 200);
    symlink("v2", relay.path("..data.new")).unwrap();
    fs::rename(relay.path("..data.new"), relay.path("..data")).unwrap();
    becomes(&mut inside, OTHER, 200);
    assert_eq!(sync(&mut inside, SOURCE), 503);
}

#[test]
fn a_list_that_is_not_whole_changes_nothing_and_says_why_until_a_good_one_is_there() {
    let (_stub, relay, mut inside, _folder) = started();
    let half = entry(OTHER);
    for (text, why) in [
        (&half[..half.len() - 3], "sources.toml:2"),
        ("", "0 bytes"),
        ("[[source]]\nidd = \"x\"\n", "sources.toml:2"),
        ("[[source]]\nname = \"allows nobody\"\n", "allows nobody"),
        (&format!("{half}{half}"), "same as on line 2"),
    ] {
        fs::write(relay.path("sources.toml"), text).unwrap();
        eventually(&format!("{why:?} is said"), || {
            let said = relay.stderr();
            let (_, last) = said.rsplit_once("the old list of sources stays in force")?;
            last.contains(why).then_some(())
        });
        assert_eq!((sync(&mut inside, SOURCE), sync(&mut inside, OTHER)), (200, 503), "{text:?}");
    }
    renamed_over(&relay, &half);
    becomes(&mut inside, OTHER, 200);
}

#[test]
fn a_list_that_is_gone_stays_in_force_until_it_is_back() {
    let (_stub, relay, mut inside, _folder) = started();
    fs::remove_file(relay.path("sources.toml")).unwrap();
    relay.signal("HUP");
    let said = eventually("it is said that the file is gone", || {
        Some(relay.stderr()).filter(|said| said.contains("the old list of sources stays in force"))
    });
    assert!(said.contains("sources.toml"), "{said}");
    assert_eq!((sync(&mut inside, SOURCE), sync(&mut inside, OTHER)), (200, 503));
    assert!(!relay.path("sources.toml").exists(), "nobody asked for an empty list");
    fs::write(relay.path("sources.toml"), entry(OTHER)).unwrap();
    becomes(&mut inside, OTHER, 200);
}

#[test]
fn allow_and_deny_are_in_force_without_a_restart() {
    let (_stub, relay, mut inside, _folder) = started();
    for _ in 0..2 {
        assert!(relay.verb(&["sources", "allow", OTHER, "--name", "Test"]).status.success());
        becomes(&mut inside, OTHER, 200);
        assert!(relay.verb(&["sources", "deny", OTHER]).status.success());
        becomes(&mut inside, OTHER, 503);
        assert_eq!(sync(&mut inside, SOURCE), 200);
    }
}

#[test]
fn a_hang_up_makes_it_look_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    // The folder of the link's target is not the one that is watched: without a signal, a poll would find it.
    let elsewhere = folder.path().join("elsewhere.toml");
    fs::write(&elsewhere, entry(SOURCE)).unwrap();
    let plan = Plan::new(&stub).sources("");
    symlink(&elsewhere, plan.path("sources.toml")).unwrap();
    let relay = plan.start();
    let mut inside = relay.inside();
    for n in 0..4 {
        let (on, off) = if n % 2 == 0 { (OTHER, SOURCE) } else { (SOURCE, OTHER) };
        fs::write(&elsewhere, entry(on)).unwrap();
        let begun = std::time::SystemTime::now();
        relay.signal("HUP");
        becomes(&mut inside, on, 200);
        let took = begun.elapsed().unwrap();
        assert!(took < std::time::Duration::from_secs(3), "{took:?}");
        assert_eq!(sync(&mut inside, off), 503);
    }
}

#[test]
fn two_hundred_reloads_under_load_fail_no_request() {
    let (_stub, mut relay, mut inside, _folder) = started();
    let done = AtomicBool::new(false);
    let looks = || relay.stderr().matches("ources.toml has changed").count() + refusals(&relay);
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(sync(&mut inside, SOURCE), 200, "after {asked} requests");
                asked += 1;
            }
            asked
        });
        for n in 0..200 {
            let text = match n % 4 {
                0 => format!("{}# {n}\n", entry(SOURCE)),
                1 => format!("# {n}\n[[source]\n"),
                2 => format!("{}{}# {n}\n", entry(OTHER), entry(SOURCE)),
                _ => String::new(),
            };
            let before = looks();
            match n % 3 {
                0 => renamed_over(&relay, &text),
                _ => fs::write(relay.path("sources.toml"), &text).unwrap(),
            }
            relay.signal("HUP");
            // Most of them come before the last one has settled; some are waited for, good ones and bad ones.
            if n % 9 == 0 {
                eventually("it has looked", || (looks() > before).then_some(()));
            }
        }
        done.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });
    assert!(asked > 100 && refusals(&relay) > 3, "{asked} requests, {}", relay.stderr());
    renamed_over(&relay, &format!("{}{}", entry(OTHER), entry(SOURCE)));
    becomes(&mut inside, OTHER, 200);
    assert!(relay.is_running());
}

fn refusals(relay: &Relay) -> usize {
    relay.stderr().matches("the old list of sources stays in force").count()
}

#[test]
fn a_source_at_its_limit_stays_limited_over_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let limited = |n: usize| {
        let limit = "limit = { requests = 2, per = \"1h\", burst = 2 }";
        format!("[[source]]\nid = \"{SOURCE}\"\nname = \"{n}\"\n{limit}\n")
    };
    let relay = Plan::new(&stub).sources(&limited(0)).start();
    let mut inside = relay.inside();
    assert_eq!([0; 3].map(|_| sync(&mut inside, SOURCE)), [200, 200, 429]);
    for n in 1..4 {
        renamed_over(&relay, &format!("{}{}", limited(n), entry(&format!("{OTHER}-{n}"))));
        becomes(&mut inside, &format!("{OTHER}-{n}"), 200);
        assert_eq!(sync(&mut inside, SOURCE), 429, "a reload gave a fresh burst");
    }
    let other_limit = limited(5).replace("burst = 2", "burst = 1");
    renamed_over(&relay, &other_limit);
    becomes(&mut inside, SOURCE, 200);
}
