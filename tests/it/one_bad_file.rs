//! One file that can't be used holds up no other: who is let in follows the allow-list and the users all the same, and
//! what is not in force is told until it is. And no list goes into force while it is being written.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::common::wire::*;
use crate::common::*;

const OTHER: &str = "22222222-3333-4444-5555-666666666666";

fn entry(id: &str) -> String {
    format!("[[source]]\nid = \"{id}\"\n")
}

fn sync(inside: &mut Inside, id: &str) -> u16 {
    ask(inside, post("/v1/sync", &IDLE.replace(SOURCE, id))).status
}

fn configuration(relay: &Relay) -> Value {
    let (_, body) = relay.admin("/status");
    serde_json::from_str::<Value>(&body).unwrap()["configuration"].take()
}

/// What `/status` says is not in force, and the number that `/metrics` tells.
fn not_in_force(relay: &Relay) -> (Vec<String>, u64) {
    let parts = configuration(relay)["not_in_force"].take();
    let parts =
        parts.as_array().unwrap().iter().map(|part| part["part"].as_str().unwrap().to_owned()).collect();
    let (_, text) = relay.admin("/metrics");
    let line =
        text.lines().find_map(|line| line.strip_prefix("license_relay_configuration_parts_not_in_force "));
    (parts, line.unwrap().parse().unwrap())
}

/// Waits until these parts, and no others, are not in force.
#[track_caller]
fn becomes(relay: &Relay, parts: &[&str]) {
    eventually(&format!("{parts:?} is not in force"), || (not_in_force(relay).0 == parts).then_some(()));
    assert_eq!(not_in_force(relay).1, parts.len() as u64);
    let (status, said) = relay.admin("/readyz?verbose");
    assert!(status == 200 && said.starts_with("ready\n"), "{status} {said}");
    assert_eq!(said.lines().count() - 1, parts.len(), "{said}");
    for part in parts {
        assert!(
            said.contains(&format!("{part}: what is in force is not what the files say, since ")),
            "{said}"
        );
    }
    assert_eq!(relay.admin("/readyz"), (200, "ready\n".to_owned()));
}

/// A relay with every file there is, and two deployments that are let in.
struct World {
    relay: Relay,
    _stub: Stub,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stub = Stub::start(folder.path(), &[]);
        let ca = stub.ca.display().to_string();
        let plan = Plan::new(&stub)
            .with(&ca, "ca.pem")
            .with("[listen]", "[listen]\nusers = \"users\"")
            .and("[licensing]\nvocabulary = \"vocabulary.toml\"\n")
            .sources(&format!("{}{}", entry(SOURCE), entry(OTHER)));
        fs::copy(&stub.ca, plan.path("ca.pem")).unwrap();
        fs::write(plan.path("vocabulary.toml"), "# nothing of ours yet\n").unwrap();
        fs::write(plan.path("users"), "# nobody yet\n").unwrap();
        private(&plan.path("users"));
        Self { relay: plan.start(), _stub: stub, _folder: folder }
    }

    /// Breaks a file: a deployment is taken out, and another user comes in, all the same. Then it is mended.
    #[track_caller]
    fn breaks(&self, parts: &[&str], file: &str, bad: &dyn Fn(&str) -> Option<String>) {
        let path = self.relay.path(file);
        let good = fs::read_to_string(&path).unwrap();
        let mut inside = self.relay.inside();
        assert_eq!((sync(&mut inside, SOURCE), sync(&mut inside, OTHER)), (200, 200));
        match bad(&good) {
            Some(bad) => fs::write(&path, bad).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        becomes(&self.relay, parts);
        let said = self.relay.stderr();
        for part in parts {
            let stays = if *part == "certificates" { "stay" } else { "stays" };
            let told = format!("the old {part} {stays} in force");
            assert!(said.lines().any(|line| line.contains(&told) && line.contains(file)), "{said}");
        }
        let why = configuration(&self.relay)["last_reload_refused"]["why"].as_str().unwrap().to_owned();
        assert!(why.contains(file), "{why}");

        if parts != ["allow-list"] {
            fs::write(self.relay.path("sources.toml"), entry(SOURCE)).unwrap();
            eventually("it is out", || (sync(&mut inside, OTHER) == 503).then_some(()));
            assert_eq!(sync(&mut inside, SOURCE), 200, "by what was in force before");
        }
        if parts != ["list of users"] {
            let hash = license_relay::policy::users::PasswordHash::new("a-password").unwrap();
            let before = configuration(&self.relay)["generation"].as_u64();
            fs::write(self.relay.path("users"), format!("qlik:{hash}\n")).unwrap();
            eventually("the user is in", || {
                (configuration(&self.relay)["generation"].as_u64() > before).then_some(())
            });
            let pair = "Proxy-Authorization: Basic cWxpazphLXBhc3N3b3Jk\r\n"; // qlik:a-password
            assert_eq!(sync(&mut self.relay.inside_from("127.0.0.1", pair), SOURCE), 200);
        }
        becomes(&self.relay, parts);

        fs::write(&path, good).unwrap();
        fs::write(self.relay.path("sources.toml"), format!("{}{}", entry(SOURCE), entry(OTHER))).unwrap();
        becomes(&self.relay, &[]);
        let is_over = |part: &&str| {
            self.relay.stderr().contains(&format!("the {part} in force is what its files say again"))
        };
        eventually("that it is over is said", || parts.iter().all(is_over).then_some(()));
        eventually("both are in again", || (sync(&mut inside, OTHER) == 200).then_some(()));
    }
}

/// For its owner alone, as files with secrets must be.
fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn with_a_bad_line(good: &str) -> Option<String> {
    Some(format!("{good}\nnonsense\n"))
}

#[test]
fn relay_toml_with_a_bad_line_or_a_change_that_needs_a_restart_holds_nothing_up() {
    let world = World::new();
    world.breaks(&["configuration"], "relay.toml", &with_a_bad_line);
    world.breaks(&["configuration"], "relay.toml", &|good| {
        Some(good.replace("directory = \"audit\"", "directory = \"elsewhere\""))
    });
}

#[test]
fn a_vocabulary_with_a_bad_line_holds_nothing_up() {
    World::new().breaks(&["vocabulary"], "vocabulary.toml", &with_a_bad_line);
}

#[test]
fn users_with_a_bad_line_hold_nothing_up() {
    World::new().breaks(&["list of users"], "users", &with_a_bad_line);
}

#[test]
fn an_allow_list_with_a_bad_line_holds_nothing_up() {
    World::new().breaks(&["allow-list"], "sources.toml", &with_a_bad_line);
}

#[test]
fn a_ca_that_is_spoilt_or_gone_holds_nothing_up() {
    let world = World::new();
    world.breaks(&["trust in the back end"], "ca.pem", &|good| Some(good[..good.len() / 2].to_owned()));
    // `relay.toml` is not right as long as a file is not there that it names.
    world.breaks(&["configuration", "trust in the back end"], "ca.pem", &|_| None);
}

#[test]
fn an_issuer_that_is_spoilt_or_gone_holds_nothing_up() {
    let world = World::new();
    world.breaks(&["certificates"], "certs/issuer.pem", &|good| Some(good[..good.len() / 2].to_owned()));
    world.breaks(&["certificates"], "certs/issuer.pem", &|_| None);
}

#[test]
fn a_deployment_is_taken_out_while_other_files_are_wrong() {
    let world = World::new();
    let relay = &world.relay;
    assert_eq!(sync(&mut relay.inside(), OTHER), 200);
    fs::remove_file(relay.path("ca.pem")).unwrap();
    fs::set_permissions(relay.path("certs/issuer.key"), Permissions::from_mode(0o644)).unwrap();
    ended(&relay.verb(&["sources", "deny", OTHER]), 0, "took out");
    eventually("it is refused", || (sync(&mut relay.inside(), OTHER) == 503).then_some(()));
    assert_eq!(sync(&mut relay.inside(), SOURCE), 200);
}

#[test]
fn a_port_that_is_taken_holds_nothing_up_and_is_tried_again() {
    let world = World::new();
    let (relay, good) = (&world.relay, fs::read_to_string(world.relay.path("relay.toml")).unwrap());
    let taken = TcpListener::bind("127.0.0.4:0").unwrap();
    let address = taken.local_addr().unwrap();
    let two = good.replacen("\"127.0.0.1:0\"", &format!("[\"127.0.0.1:0\", \"{address}\"]"), 1);
    fs::write(relay.path("relay.toml"), two).unwrap();
    becomes(relay, &["configuration"]);
    let mut inside = relay.inside();
    assert!(relay.verb(&["sources", "deny", OTHER]).status.success());
    eventually("it is out", || (sync(&mut inside, OTHER) == 503).then_some(()));
    let refused = relay.stderr().matches("the old configuration stays in force").count();
    // No file changes when somebody gives a port back.
    drop(taken);
    becomes(relay, &[]);
    assert!(std::net::TcpStream::connect(address).is_ok());
    let said = relay.stderr();
    assert_eq!(said.matches("the old configuration stays in force").count(), refused, "told once: {said}");
}

#[test]
fn two_bad_files_are_both_told_and_end_one_by_one() {
    let world = World::new();
    let relay = &world.relay;
    fs::write(relay.path("vocabulary.toml"), "nonsense\n").unwrap();
    becomes(relay, &["vocabulary"]);
    let since = configuration(relay)["not_in_force"][0]["since"].take();
    fs::write(relay.path("users"), "nonsense\n").unwrap();
    becomes(relay, &["vocabulary", "list of users"]);
    assert_eq!(configuration(relay)["not_in_force"][0]["since"], since, "it began when it began");
    fs::write(relay.path("vocabulary.toml"), "# nothing\n").unwrap();
    becomes(relay, &["list of users"]);
    fs::write(relay.path("users"), "# nobody\n").unwrap();
    becomes(relay, &[]);
}

#[test]
fn a_list_is_not_in_force_while_it_is_being_written() {
    let world = World::new();
    let (relay, path) = (&world.relay, world.relay.path("sources.toml"));
    let mut inside = relay.inside();
    for _ in 0..3 {
        let mut writer = File::create(&path).unwrap();
        // A whole entry, so that what is there so far could be used.
        writer.write_all(entry(SOURCE).as_bytes()).unwrap();
        // Longer than a file must be unchanged whose writer has closed it.
        let begun = std::time::SystemTime::now();
        while begun.elapsed().unwrap() < 2 * license_relay::bounds::SETTLE {
            assert_eq!((sync(&mut inside, OTHER), sync(&mut inside, SOURCE)), (200, 200));
        }
        let whole = format!("{}# once more\n", entry(OTHER));
        writer.write_all(whole.as_bytes()).unwrap();
        if begun.elapsed().unwrap() > license_relay::bounds::QUIET {
            return skip::skipped("this machine is too slow to write a file in a second");
        }
        drop(writer);
        let before = configuration(relay)["generation"].as_u64();
        fs::write(&path, format!("{}{}", entry(SOURCE), entry(OTHER))).unwrap();
        eventually("it is looked at", || {
            (configuration(relay)["generation"].as_u64() >= before).then_some(())
        });
    }
    assert!(!relay.stderr().contains(": 1 sources are allowed"), "{}", relay.stderr());
    // A writer that says no more for a second is not waited for.
    let mut writer = File::create(&path).unwrap();
    writer.write_all(entry(SOURCE).as_bytes()).unwrap();
    eventually("what is there counts", || (sync(&mut inside, OTHER) == 503).then_some(()));
    drop(writer);
}

#[test]
fn a_list_that_loses_a_tenth_and_ten_entries_names_them_before_it_is_in_force() {
    let world = World::new();
    let (relay, path) = (&world.relay, world.relay.path("sources.toml"));
    let list = |left: std::ops::Range<usize>| {
        let of = |n| format!("[[source]]\nid = \"id-{n}\"\nname = \"Site {n:03}\"\n");
        format!("{}{}", entry(SOURCE), left.map(of).collect::<String>())
    };
    let writes = |list: String| {
        let before = configuration(relay)["generation"].as_u64();
        fs::write(&path, list).unwrap();
        eventually("it is in force", || (configuration(relay)["generation"].as_u64() > before).then_some(()));
        relay.stderr()
    };
    writes(list(0..100));
    assert!(!writes(list(9..100)).contains("not in the allow-list any more"), "nine are no matter");
    assert!(!writes(list(9..101)).contains("not in the allow-list any more"));
    let said = writes(list(35..101));
    let line = said.lines().find(|line| line.contains("not in the allow-list any more")).unwrap();
    assert!(line.contains("26 of 93 entries") && line.contains("Site 009, Site 010"), "{line}");
    assert!(line.ends_with("Site 028, and 6 more"), "{line}");
    let (before, after) = said.split_once(line).unwrap();
    assert_eq!((before.matches(" is in force (").count(), after.matches(" is in force (").count()), (3, 1));
}
