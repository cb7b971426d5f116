//! A changed file becomes the new configuration whole, or the old one stays and says why; no connection is
//! dropped for it.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::common::wire::*;
use crate::common::*;

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
            let (_, last) = said.rsplit_once("the old allow-list stays in force")?;
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
        Some(relay.stderr()).filter(|said| said.contains("the old allow-list stays in force"))
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

/// Stops the asking even where the test fails, which would wait for it for ever.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What `/status` says of the configuration.
fn status(relay: &Relay) -> Value {
    let (status, body) = relay.admin("/status");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["configuration"].take()
}

fn generation(relay: &Relay) -> u64 {
    status(relay)["generation"].as_u64().unwrap()
}

/// A counter or gauge without labels.
fn metric(relay: &Relay, name: &str) -> u64 {
    let (_, text) = relay.admin("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("license_relay_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// Writes a file of the relay and asks for a reload, until it has been looked at: whether it is in force.
#[track_caller]
fn reloads(relay: &Relay, file: &str, text: &str) -> bool {
    let counts = || (generation(relay), metric(relay, "reloads_refused_total"));
    let (before, refused) = counts();
    fs::write(relay.path(file), text).unwrap();
    relay.signal("HUP");
    eventually(&format!("{file} is looked at"), || match counts() {
        (now, _) if now > before => Some(true),
        (_, now) if now > refused => Some(false),
        _ => None,
    })
}

#[test]
fn a_thousand_reloads_under_load_fail_no_request_and_take_no_memory() {
    let (_stub, mut relay, mut inside, _folder) = started();
    let done = AtomicBool::new(false);
    let mut warm = 0;
    let asked = std::thread::scope(|scope| {
        let _until = Until(&done);
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(sync(&mut inside, SOURCE), 200, "after {asked} requests");
                asked += 1;
            }
            asked
        });
        for n in 0..1000 {
            let text = match n % 4 {
                0 => format!("{}# {n}\n", entry(SOURCE)),
                1 => format!("# {n}\n[[source]\n"),
                2 => format!("{}{}# {n}\n", entry(OTHER), entry(SOURCE)),
                _ => String::new(),
            };
            assert_eq!(reloads(&relay, "sources.toml", &text), n % 2 == 0, "{n}: {text}");
            if n == 200 {
                warm = relay.vital("VmRSS");
            }
        }
        done.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });
    assert!(asked > 100, "{asked} requests");
    assert_eq!((generation(&relay), metric(&relay, "reloads_refused_total")), (501, 500));
    assert_eq!(metric(&relay, "setups_live"), 1, "old setups are kept alive");
    let now = relay.vital("VmRSS");
    assert!(now < warm + 16 * 1024, "{warm} KiB after 200 reloads, {now} KiB after 1000");
    assert!(relay.is_running());
}

#[test]
fn relay_toml_is_read_again_whole_or_not_at_all_and_the_reason_is_told() {
    let (stub, relay, mut inside, _folder) = started();
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    let via =
        || stub.requests().last().unwrap()["head"].as_str().unwrap().to_lowercase().contains("\r\nvia:");
    assert!(!via());
    assert!(reloads(&relay, "relay.toml", &format!("{config}[http]\nvia = true\n")));
    assert_eq!((sync(&mut inside, SOURCE), via()), (200, true), "on the connection from before");
    // Right but for one line, and so nothing of it counts.
    let half = format!("{config}[sources]\nunknown = \"observe\"\nunidentifed = \"deny\"\n");
    assert!(!reloads(&relay, "relay.toml", &half));
    let why = status(&relay)["last_reload_refused"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("relay.toml:") && why.contains("unidentified"), "{why}");
    assert!(relay.stderr().contains(&why), "{why}");
    assert_eq!((sync(&mut inside, OTHER), sync(&mut inside, SOURCE), via()), (503, 200, true));
    assert!(reloads(&relay, "relay.toml", &format!("{config}[sources]\nunknown = \"observe\"\n")));
    assert_eq!(status(&relay)["last_reload_refused"], Value::Null);
    assert_eq!((sync(&mut inside, OTHER), via()), (200, false));
    assert_eq!(metric(&relay, "observe"), 1);
    assert!(relay.stderr().contains("\"observe\" forwards"), "a reload warns too");
    assert_eq!(relay.records("relay.config").len(), 2);
}

#[test]
fn what_can_not_change_under_the_log_needs_a_restart_and_says_so() {
    let (_stub, relay, mut inside, _folder) = started();
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    for (old, new, key) in [
        ("directory = \"audit\"", "directory = \"elsewhere\"", "audit.directory"),
        ("directory = \"audit\"", "directory = \"audit\"\norigin = \"another\"", "audit.origin"),
        ("certs/subject.key", "certs/other.key", "audit.subject_key"),
        ("certs/log.key", "certs/other.key", "audit.signing_key"),
        ("directory = \"audit\"", "directory = \"audit\"\nsubject = \"raw\"", "audit.subject"),
        ("[admin]", "[log]\nformat = \"json\"\n[admin]", "log.format"),
    ] {
        // What else is in the file doesn't count either.
        let text = config.replace(old, new) + "[sources]\nunknown = \"observe\"\n";
        assert!(!reloads(&relay, "relay.toml", &text), "{key}");
        let why = status(&relay)["last_reload_refused"]["why"].to_string();
        assert!(why.contains("restart needed") && why.contains(key), "{why}");
        assert_eq!((sync(&mut inside, SOURCE), sync(&mut inside, OTHER)), (200, 503));
    }
    assert!(!relay.path("elsewhere").exists());
}

#[test]
fn a_ca_that_is_added_or_replaced_counts_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let (stub, stranger) = (Stub::start(folder.path(), &[]), Stub::start(other.path(), &[]));
    let plan = Plan::new(&stub);
    let right = fs::read_to_string(&stub.ca).unwrap();
    fs::write(plan.path("ca.pem"), fs::read(&stranger.ca).unwrap()).unwrap();
    let relay = plan.with(&stub.ca.display().to_string(), "ca.pem").start();
    let mut inside = relay.inside();
    assert_eq!(sync(&mut inside, SOURCE), 502);
    assert!(!reloads(&relay, "ca.pem", &right[..right.len() / 2]), "half a certificate");
    assert_eq!(sync(&mut inside, SOURCE), 502);
    assert!(reloads(&relay, "ca.pem", &right));
    assert_eq!(sync(&mut inside, SOURCE), 200, "on the connection from before");
}

#[test]
fn a_certificate_that_is_replaced_is_shown_to_the_next_client_and_lost_ones_are_not_made_anew() {
    let (_stub, relay, mut inside, folder) = started();
    let before = fs::read_to_string(relay.root()).unwrap();
    // A whole new authority beside it, moved over the old one.
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    let there = folder.path().join("new");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("relay.toml"), config).unwrap();
    let made = run(program().arg("--config").arg(there.join("relay.toml")).args(["ca", "init"]));
    assert!(made.status.success(), "{made:?}");
    for file in ["issuer.key", "issuer.pem", "root.pem"] {
        fs::rename(there.join("certs/generations/1").join(file), relay.path("certs").join(file)).unwrap();
    }
    eventually("the new leaves are shown", || (generation(&relay) > 1).then_some(()));
    assert_ne!(fs::read_to_string(relay.root()).unwrap(), before);
    assert_eq!(sync(&mut relay.inside(), SOURCE), 200, "with the new root");
    assert_eq!(sync(&mut inside, SOURCE), 200, "on the connection from before");
    // Gone by mistake: what is in force goes on, and no root is made that nobody trusts.
    for file in ["issuer.key", "issuer.pem", "root.pem"] {
        fs::rename(relay.path("certs").join(file), there.join(file)).unwrap();
    }
    relay.signal("HUP");
    eventually("it is told", || (metric(&relay, "reloads_refused_total") > 0).then_some(()));
    assert!(!relay.root().exists());
    for file in ["issuer.key", "issuer.pem", "root.pem"] {
        fs::rename(there.join(file), relay.path("certs").join(file)).unwrap();
    }
    assert_eq!(sync(&mut relay.inside(), SOURCE), 200);
}

#[test]
fn only_the_listener_whose_address_changed_is_bound_anew() {
    let (_stub, relay, mut inside, _folder) = started();
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    let port = free_port();
    let two = config.replacen("\"127.0.0.1:0\"", &format!("[\"127.0.0.1:0\", \"127.0.0.2:{port}\"]"), 1);
    assert!(reloads(&relay, "relay.toml", &two));
    let second = format!("127.0.0.2:{port}");
    assert!(TcpStream::connect(&second).is_ok());
    assert_eq!((sync(&mut inside, SOURCE), sync(&mut relay.inside(), SOURCE)), (200, 200));
    // An address that is taken keeps everything as it was.
    let taken = TcpListener::bind("127.0.0.3:0").unwrap();
    let bad = two.replace(&second, &taken.local_addr().unwrap().to_string());
    assert!(!reloads(&relay, "relay.toml", &bad));
    assert!(status(&relay)["last_reload_refused"]["why"].to_string().contains("can't be listened on"));
    assert!(TcpStream::connect(&second).is_ok());
    assert!(reloads(&relay, "relay.toml", &config));
    assert!(TcpStream::connect(&second).is_err());
    assert_eq!((sync(&mut inside, SOURCE), sync(&mut relay.inside(), SOURCE)), (200, 200));
}

#[test]
fn a_request_in_flight_keeps_what_it_began_with_and_the_next_one_does_not() {
    let (stub, relay, mut inside, _folder) = started();
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    stub.trouble("delay=4s*1");
    inside.write_all(post("/v1/sync", SYNC).as_bytes()).unwrap();
    eventually("it is in hand", || (!relay.records("license.sync.request").is_empty()).then_some(()));
    assert!(reloads(&relay, "sources.toml", &entry(OTHER)));
    assert_eq!(metric(&relay, "setups_live"), 2, "the old one is still in use");
    assert_eq!(Answer::read(&mut inside).status, 200);
    eventually("the old setup is gone", || (metric(&relay, "setups_live") == 1).then_some(()));
    assert_eq!((sync(&mut inside, SOURCE), sync(&mut inside, OTHER)), (503, 200));
    // A destination that is not listed any more is not reached by a conversation that began when it was.
    assert!(reloads(&relay, "relay.toml", &config.replace("[upstream]", "port = 8443\n[upstream]")));
    let answer = ask(&mut inside, post("/v1/sync", &IDLE.replace(SOURCE, OTHER)));
    assert!(answer.refuses(503, "http_request_denied").contains("any more"), "{answer:?}");
}

#[test]
fn a_user_counts_once_added_and_no_longer_once_removed_even_on_a_kept_connection() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources("[[source]]\nusers = [\"prod\"]\n").start();
    // The digest of "secret" under a salt of zeros, as `sources user add` would write it.
    let hash = license_relay::policy::users::PasswordHash::new("secret").unwrap();
    let private = |text: &str| {
        relay_log::files::private::replace_private(&relay.path("users"), text.as_bytes()).unwrap();
        let before = generation(&relay);
        relay.signal("HUP");
        eventually("the users are read", || (generation(&relay) > before).then_some(()));
    };
    private(&format!("prod:{hash}\n"));
    let mut stream = relay.connect();
    let pair = "cHJvZDpzZWNyZXQ="; // prod:secret
    let connect =
        format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: Basic {pair}\r\n\r\n");
    stream.write_all(connect.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 200);
    let mut inside = tls(stream, HOST, &relay.root());
    let by_user = post("/v1/activate", ACTIVATION);
    assert_eq!(ask(&mut inside, &by_user).status, 200);
    private("# nobody\n");
    assert_eq!(ask(&mut inside, &by_user).status, 503);
}

#[test]
fn a_vocabulary_that_is_mended_counts_for_the_next_request() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan =
        Plan::new(&stub).sources(&entry(SOURCE)).and("[licensing]\nvocabulary = \"vocabulary.toml\"\n");
    fs::write(plan.path("vocabulary.toml"), "# nothing of ours yet\n").unwrap();
    let relay = plan.start();
    let mut inside = relay.inside();
    let foreign = IDLE.replace("\"source\"", "\"instanceOfOurs\"");
    assert_eq!(ask(&mut inside, post("/v1/sync", &foreign)).status, 503);
    assert!(!reloads(&relay, "vocabulary.toml", "sourse = [\"/x\"]\n"), "a misspelt key");
    let why = status(&relay)["last_reload_refused"]["why"].to_string();
    assert!(why.contains("vocabulary.toml:1"), "{why}");
    assert!(reloads(&relay, "vocabulary.toml", "source = [\"/instanceOfOurs\"]\n"));
    assert_eq!(ask(&mut inside, post("/v1/sync", &foreign)).status, 200);
}

#[test]
fn what_a_first_start_makes_is_no_change_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources("").start();
    assert!(relay.path("sources.toml").exists() && relay.root().exists());
    relay.signal("HUP");
    eventually("it has looked", || relay.stderr().contains("nothing differs").then_some(()));
    assert_eq!((generation(&relay), relay.records("relay.config").len()), (1, 0));
}

#[test]
fn what_no_event_tells_is_found_by_looking() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    // The link's folder is watched, and not the one that it leads to.
    let elsewhere = folder.path().join("elsewhere.toml");
    fs::write(&elsewhere, entry(SOURCE)).unwrap();
    // Without lines of its log, which lies in that folder too, nothing happens there.
    let plan = Plan::new(&stub).sources("").and("[log]\nlevel = \"error\"\n");
    symlink(&elsewhere, plan.path("sources.toml")).unwrap();
    let relay = plan.start();
    let mut inside = relay.inside();
    fs::write(&elsewhere, entry(OTHER)).unwrap();
    becomes(&mut inside, OTHER, 200);
}

#[test]
fn the_admin_token_and_its_address_change_without_a_restart() {
    let (_stub, mut relay, mut inside, _folder) = started();
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    let token = |text: &str| {
        relay_log::files::private::replace_private(&relay.path("token"), text.as_bytes()).unwrap();
    };
    token("first-token-of-the-test");
    let port = free_port();
    let moved = format!("address = \"127.0.0.1:{port}\"\ntoken_file = \"token\"\n");
    let (before, admin) = config.split_once("[admin]").unwrap();
    let admin = admin.replace("address = \"127.0.0.1:0\"\n", &moved);
    fs::write(relay.path("relay.toml"), format!("{before}[admin]{admin}")).unwrap();
    relay.signal("HUP");
    let old = relay.admin;
    relay.admin = format!("127.0.0.1:{port}").parse().unwrap();
    eventually("the new address answers", || TcpStream::connect(relay.admin).ok());
    assert!(TcpStream::connect(old).is_err());
    assert_eq!(relay.admin("/readyz").0, 401);
    let with = |token: &str| {
        let mut stream = TcpStream::connect(relay.admin).unwrap();
        let request = format!(
            "GET /readyz HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(&mut stream).status
    };
    assert_eq!((with("first-token-of-the-test"), with("second-token-of-the-test")), (200, 401));
    relay_log::files::private::replace_private(&relay.path("token"), b"second-token-of-the-test").unwrap();
    eventually("the new token counts", || (with("second-token-of-the-test") == 200).then_some(()));
    assert_eq!((with("first-token-of-the-test"), sync(&mut inside, SOURCE)), (401, 200));
}

#[test]
fn the_level_of_the_log_changes_without_a_restart() {
    let (_stub, relay, mut inside, _folder) = started();
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    assert!(reloads(&relay, "relay.toml", &format!("{config}[log]\nlevel = \"error\"\n")));
    let quiet = relay.stderr().len();
    assert_eq!(sync(&mut inside, SOURCE), 200);
    assert_eq!(relay.stderr().len(), quiet, "{}", &relay.stderr()[quiet..]);
    assert!(reloads(&relay, "relay.toml", &config));
    assert_eq!(sync(&mut inside, SOURCE), 200);
    eventually("the access line is there", || (relay.stderr().len() > quiet).then_some(()));
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
