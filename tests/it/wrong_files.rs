//! What is no regular file, or is far too large, in the place of each configured file: a verb and a start refuse it in a
//! sentence, a running relay keeps what was in force, and nothing waits for it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};

use crate::common::wire::*;
use crate::common::*;

/// Puts something at a path.
type Put = fn(&Path);

/// What is said of what lies there instead of a file, and how it gets there.
const WRONG: [(&str, Put); 6] = [
    ("no regular file, but a FIFO", |path| {
        assert!(run(tool("mkfifo", "coreutils").args(["-m", "600"]).arg(path)).status.success());
    }),
    ("no regular file, but a device", |path| symlink("/dev/zero", path).unwrap()),
    ("no regular file, but a folder", |path| fs::create_dir(path).unwrap()),
    ("no regular file, but a socket", |path| drop(UnixListener::bind(path).unwrap())),
    ("Too many levels of symbolic links", |path| symlink(path.file_name().unwrap(), path).unwrap()),
    ("it is larger than 8388608 bytes", |path| {
        File::create(path).unwrap().set_len(6 << 30).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }),
];

/// Every file that a configuration can name but for certificates of the company's own.
const FILES: [&str; 11] = [
    "relay.toml",
    "sources.toml",
    "users",
    "vocabulary.toml",
    "token",
    "ca.pem",
    "certs/root.pem",
    "certs/issuer.pem",
    "certs/issuer.key",
    "certs/subject.key",
    "certs/log.key",
];

/// A relay that reads all of these files.
fn started() -> (Stub, Relay, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub)
        .with(&stub.ca.display().to_string(), "ca.pem")
        .with("[admin]", "[licensing]\nvocabulary = \"vocabulary.toml\"\n\n[admin]\ntoken_file = \"token\"");
    fs::copy(&stub.ca, plan.path("ca.pem")).unwrap();
    fs::write(plan.path("vocabulary.toml"), "# none of our own\n").unwrap();
    for (name, text) in [
        ("users", "# nobody\n"),
        ("token", "a token of sixteen characters or more".replace(' ', "-").as_str()),
    ] {
        fs::write(plan.path(name), text).unwrap();
        fs::set_permissions(plan.path(name), Permissions::from_mode(0o600)).unwrap();
    }
    (stub, plan.start(), folder)
}

/// Takes away whatever lies there.
fn clear(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::remove_dir(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_start_and_a_check_refuse_it_and_say_what_it_is() {
    let (_stub, mut relay, _folder) = started();
    assert!(relay.stop().success());
    let folder = relay.into_plan().folder;
    let aside = folder.path().join("aside");
    for name in FILES {
        let path = folder.path().join(name);
        fs::rename(&path, &aside).unwrap();
        for (what, put) in WRONG {
            put(&path);
            for verb in ["check", "serve"] {
                let begun = SystemTime::now();
                let output = run(program().arg(verb).arg("--config").arg(folder.path().join("relay.toml")));
                let said = all_said(&output);
                assert_eq!(output.status.code(), Some(78), "{verb}, {name}: {said}");
                let file = Path::new(name).file_name().unwrap().to_str().unwrap();
                assert!(said.contains(what) && said.contains(file), "{verb}, {name}, {what}: {said}");
                assert!(
                    begun.elapsed().unwrap_or_default() < Duration::from_secs(10),
                    "{verb}, {name}, {what}"
                );
            }
            clear(&path);
        }
        fs::rename(&aside, &path).unwrap();
    }
    let check = run(program().arg("check").arg("--config").arg(folder.path().join("relay.toml")));
    ended(&check, 0, "fine");
}

#[test]
fn a_path_that_is_not_utf_8_is_refused_at_the_start_and_no_later_answer_fails_at_it() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(std::ffi::OsStr::from_bytes(b"relay-\xff")).join("relay.toml");
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "").unwrap();
    for verb in ["serve", "check", "reload"] {
        ended(&run(program().args([verb, "--config"]).arg(&path)), 78, "its path is not UTF-8");
    }
}

#[test]
fn a_certificate_of_the_company_is_read_as_carefully() {
    let plan = Plan::leading_to("127.0.0.1:9", Path::new("none"));
    let (before, after) = plan.config.split_once("[tls]").unwrap();
    let after = after.split_once("[limits]").unwrap().1;
    let config = format!("{before}[tls]\ncertificate = \"leaf.pem\"\nkey = \"leaf.key\"\n[limits]{after}");
    let plan = Plan {
        config: config.replace("trust = \"files\"\nextra_ca = [\"none\"]", "trust = \"bundled\""),
        ..plan
    };
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([HOST, "localhost", "127.0.0.1"].map(str::to_owned))
        .unwrap()
        .self_signed(&key)
        .unwrap();
    for (name, text) in [("leaf.pem", leaf.pem()), ("leaf.key", key.serialize_pem())] {
        fs::write(plan.path(name), text).unwrap();
        fs::set_permissions(plan.path(name), Permissions::from_mode(0o600)).unwrap();
    }
    // The key is read once the certificate can be; so its turn comes first, and the certificate's after that.
    for name in ["leaf.key", "leaf.pem"] {
        let path = plan.path(name);
        for (what, put) in WRONG {
            clear(&path);
            put(&path);
            let (status, said) = plan.refuses_to_start();
            assert_eq!(status.code(), Some(78), "{name}: {said}");
            assert!(said.contains(what), "{name}, {what}: {said}");
        }
    }
}

#[test]
fn the_parents_credentials_are_read_as_carefully() {
    let plan = Plan::leading_to("127.0.0.1:9", Path::new("none"))
        .with("trust = \"files\"\nextra_ca = [\"none\"]", "trust = \"bundled\"")
        .with(
            "[upstream]",
            "[upstream]\nparent_proxy = \"http://127.0.0.1:9\"\nparent_credentials = \"parent.txt\"",
        );
    let path = plan.path("parent.txt");
    for (what, put) in WRONG {
        put(&path);
        let (status, said) = plan.refuses_to_start();
        assert_eq!(status.code(), Some(78), "{said}");
        assert!(said.contains(what) && said.contains("parent.txt"), "{what}: {said}");
        let check = run(program().arg("check").arg("--config").arg(plan.path("relay.toml")));
        ended(&check, 78, what);
        clear(&path);
    }
}

#[test]
fn verbs_end_with_a_sentence_and_wait_for_nothing() {
    let (_stub, mut relay, _folder) = started();
    assert!(relay.stop().success());
    let aside = relay.path("aside");
    for (name, verbs) in [
        (
            "relay.toml",
            &[&["sources", "list"][..], &["ca", "show"], &["audit", "verify"], &["vocabulary", "show"]][..],
        ),
        (
            "sources.toml",
            &[&["sources", "list"], &["sources", "allow", "another"], &["sources", "deny", SOURCE]],
        ),
        ("users", &[&["sources", "user", "remove", "ann"]]),
        ("vocabulary.toml", &[&["vocabulary", "show"]]),
        ("certs/root.pem", &[&["ca", "show"], &["ca", "status"], &["ca", "export"]]),
        ("certs/subject.key", &[&["audit", "key", "list"], &["audit", "key", "new"]]),
        ("certs/log.key", &[&["audit", "key", "new"], &["audit", "fork", "--reason", "a test"]]),
    ] {
        let path = relay.path(name);
        fs::rename(&path, &aside).unwrap();
        for (what, put) in WRONG {
            put(&path);
            for verb in verbs {
                let begun = SystemTime::now();
                let output = relay.verb(verb);
                let said = all_said(&output);
                let code = output.status.code().unwrap_or_default();
                assert!(matches!(code, 64 | 74 | 78), "{verb:?}, {name}, {what}: {code} {said}");
                assert!(said.contains(what), "{verb:?}, {name}, {what}: {said}");
                assert!(begun.elapsed().unwrap_or_default() < Duration::from_secs(10), "{verb:?}, {name}");
            }
            clear(&path);
        }
        fs::rename(&aside, &path).unwrap();
    }
}

/// A sync of the deployment that is allowed, on a connection from before.
fn passes(inside: &mut Inside) -> bool {
    ask(inside, post("/v1/sync", IDLE)).status == 200
}

fn refusals(relay: &Relay) -> Vec<String> {
    let said = relay.stderr();
    let lines = said.lines().filter(|line| line.contains(" the old ") && line.contains(" in force"));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_running_relay_keeps_what_was_in_force_and_goes_on_once_the_file_is_right() {
    let (_stub, relay, _folder) = started();
    let mut inside = relay.inside();
    let aside = relay.path("aside");
    for name in FILES.into_iter().filter(|name| !name.ends_with("subject.key") && !name.ends_with("log.key"))
    {
        let path = relay.path(name);
        let in_force = || relay.stderr().matches("is in force (").count();
        // Each of them once, with another kind of wrong file.
        for (what, put) in WRONG.into_iter().cycle().skip(name.len()).take(2) {
            let before = refusals(&relay).len();
            fs::rename(&path, &aside).unwrap();
            put(&path);
            relay.signal("HUP");
            let told =
                eventually(&format!("{name}: {what} is told"), || refusals(&relay).get(before).cloned());
            assert!(told.contains(what), "{name}: {told}");
            assert!(passes(&mut inside), "{name}");
            let generations = in_force();
            clear(&path);
            fs::rename(&aside, &path).unwrap();
            // A change that differs from what is in force, in a file that takes one everywhere.
            let list = fs::read_to_string(relay.path("sources.toml")).unwrap();
            fs::write(relay.path("sources.toml"), format!("{list}# {name}: {what}\n")).unwrap();
            relay.signal("HUP");
            eventually(&format!("{name} is right again"), || (in_force() > generations).then_some(()));
            assert!(passes(&mut inside), "{name}");
        }
    }
}

#[test]
fn a_relay_stops_in_time_with_a_fifo_in_the_place_of_its_list() {
    let (_stub, mut relay, _folder) = started();
    let path = relay.path("sources.toml");
    fs::remove_file(&path).unwrap();
    WRONG[0].1(&path);
    relay.signal("HUP");
    eventually("it is told", || refusals(&relay).pop());
    let begun = SystemTime::now();
    assert!(relay.stop().success());
    assert!(begun.elapsed().unwrap_or_default() < Duration::from_secs(5));
}

#[test]
fn a_read_that_hangs_is_told_and_keeps_neither_reloads_nor_the_end_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub);
    let hangs: PathBuf = plan.path("vocabulary.toml");
    fs::write(&hangs, "").unwrap();
    let Some(strace) = slow(&hangs, Duration::from_secs(3600)) else { return };
    let mut relay = plan.start_under(strace);
    let mut inside = relay.inside();
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    fs::write(relay.path("relay.toml"), format!("{config}[licensing]\nvocabulary = \"vocabulary.toml\"\n"))
        .unwrap();
    relay.signal("HUP");
    let told = eventually("it is told that the read hangs", || refusals(&relay).pop());
    assert!(told.contains("a disk or a mount hangs"), "{told}");
    assert!(passes(&mut inside));
    // Who takes the file out again is heard.
    fs::write(relay.path("relay.toml"), format!("{config}# as before\n")).unwrap();
    relay.signal("HUP");
    eventually("a reload", || relay.stderr().contains("generation 2 of the configuration").then_some(()));
    drop(inside);
    let begun = SystemTime::now();
    relay.signal("TERM");
    // It has ended but for the one thread, which strace holds longer than any system does.
    eventually("the relay ends", || status(relay.pid(), "State:").starts_with('Z').then_some(()));
    assert!(begun.elapsed().unwrap_or_default() < Duration::from_secs(15));
    answers_again(relay.pid());
    relay.wait();
}

/// strace that keeps whoever opens this file waiting for so long. The program is our child.
fn slow(path: &Path, time: Duration) -> Option<Command> {
    let path = path.display().to_string();
    let inject = format!("inject=openat:delay_enter={}", time.as_micros());
    strace(&["-D", "-f", "-qq", "-o", "/dev/null", "-P", &path, "-e", "trace=openat", "-e", &inject])
}

#[test]
fn a_start_and_verbs_say_which_file_they_wait_for_and_go_on_once_it_answers() {
    let (_stub, mut relay, _folder) = started();
    assert!(relay.stop().success());
    let plan = relay.into_plan();
    for (name, verb) in [
        ("relay.toml", &["check"][..]),
        ("sources.toml", &["sources", "allow", "another"]),
        ("certs/root.pem", &["ca", "show"]),
        ("certs/subject.key", &["audit", "key", "list"]),
    ] {
        let path = plan.path(name);
        let Some(mut command) = slow(&path, Duration::from_millis(3_500)) else { return };
        command.arg(env!("CARGO_BIN_EXE_license-relay")).args(verb);
        let output = run(command.arg("--config").arg(plan.path("relay.toml")));
        ended(&output, 0, &format!("{name}: its disk or mount does not answer"));
        assert!(all_said(&output).contains("license-relay: waiting for "), "{}", all_said(&output));
    }
    let log = plan.path("certs/log.key");
    let Some(strace) = slow(&log, Duration::from_millis(3_500)) else { return };
    let mut relay = plan.start_under(strace);
    let said = relay.stderr();
    assert_eq!(said.matches("certs/log.key: its disk or mount does not answer").count(), 1, "{said}");
    assert!(relay.stop().success());
}

/// A line of what the system says of a process.
fn status(pid: u32, what: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(what)).unwrap().trim().to_owned()
}

/// Ends the strace that holds a process; what it holds goes on.
fn answers_again(pid: u32) {
    let strace = status(pid, "TracerPid:");
    assert!(run(tool("kill", "procps").args(["-KILL", &strace])).status.success());
}

#[test]
fn a_start_that_hangs_ends_when_it_is_told_to() {
    let (_stub, mut relay, _folder) = started();
    assert!(relay.stop().success());
    let plan = relay.into_plan();
    let Some(mut command) = slow(&plan.path("certs/log.key"), Duration::from_secs(3600)) else { return };
    command.arg(env!("CARGO_BIN_EXE_license-relay")).args(["serve", "--config"]).arg(plan.path("relay.toml"));
    let stderr = plan.path("stderr");
    let mut hangs = command.stdout(Stdio::null()).stderr(File::create(&stderr).unwrap()).spawn().unwrap();
    let said = || fs::read_to_string(&stderr).unwrap();
    eventually("it is told", || said().contains("log.key: its disk or mount does not answer").then_some(()));
    let begun = SystemTime::now();
    assert!(run(tool("kill", "procps").args(["-TERM", &hangs.id().to_string()])).status.success());
    // It has ended but for the one thread, which strace holds longer than any system does.
    eventually("it ends", || status(hangs.id(), "State:").starts_with('Z').then_some(()));
    assert!(begun.elapsed().unwrap_or_default() < Duration::from_secs(15));
    answers_again(hangs.id());
    hangs.wait().unwrap();
}

#[test]
fn a_reload_that_was_given_up_is_made_good_once_the_mount_answers() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub);
    let hangs = plan.path("vocabulary.toml");
    fs::write(&hangs, "").unwrap();
    let Some(strace) = slow(&hangs, Duration::from_secs(3600)) else { return };
    let relay = plan.start_under(strace);
    let mut inside = relay.inside();
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    fs::write(relay.path("relay.toml"), format!("{config}[licensing]\nvocabulary = \"vocabulary.toml\"\n"))
        .unwrap();
    relay.signal("HUP");
    let told = eventually("it is told that the read hangs", || refusals(&relay).pop());
    assert!(told.contains("a disk or a mount hangs"), "{told}");
    assert!(
        relay.stderr().contains("vocabulary.toml: its disk or mount does not answer"),
        "{}",
        relay.stderr()
    );
    assert!(passes(&mut inside));
    answers_again(relay.pid());
    relay.signal("HUP");
    eventually("a reload", || relay.stderr().contains("generation 2 of the configuration").then_some(()));
    assert!(passes(&mut inside));
}

#[test]
fn networks_that_are_written_as_ipv6_fit_ipv4_clients() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let entry = |network: &str| format!("[[source]]\nid = \"{SOURCE}\"\nnetworks = [\"{network}\"]\n");
    for (network, status) in
        [("::ffff:127.0.0.0/104", 200), ("::ffff:127.0.0.1", 200), ("::ffff:10.0.0.0/104", 503)]
    {
        let relay = Plan::new(&stub).sources(&entry(network)).start();
        assert_eq!(ask(&mut relay.inside(), post("/v1/sync", IDLE)).status, status, "{network}");
    }
    let relay = Plan::new(&stub).sources("# nobody\n").start();
    ended(
        &relay.verb(&["sources", "allow", SOURCE, "--network", "::ffff:127.0.0.0/104"]),
        0,
        "\"127.0.0.0/8\"",
    );
    eventually("it is let in", || passes(&mut relay.inside()).then_some(()));
    ended(&relay.verb(&["sources", "allow", "--network", "::ffff:10.0.0.7/128"]), 0, "\"10.0.0.7/32\"");
    ended(&relay.verb(&["sources", "deny", "--network", "::ffff:10.0.0.7/128"]), 0, "took out");
}
