//! Changing the root without an outage, and keeping a root's key offline.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::common::*;

/// The new root of the first rotation.
const NEXT: &str = "certs/generations/2/root.pem";
const FILES: [&str; 3] = ["issuer.key", "issuer.pem", "root.pem"];

fn rotate(relay: &Relay, more: &[&str]) -> (Option<i32>, String) {
    let output = relay.verb(&[&["ca", "rotate"], more].concat());
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn status(relay: &Relay) -> serde_json::Value {
    serde_json::from_slice(&relay.verb(&["ca", "status", "--json"]).stdout).unwrap()
}

/// curl that trusts this root alone: its exit code and the status.
fn trusting(relay: &Relay, root: &PathBuf) -> (i32, u16) {
    let mut command = tool("curl", "curl");
    command.args([
        "-sS",
        "-m",
        "30",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-x",
        &format!("http://{}", relay.address),
    ]);
    let output = run(command.arg("--cacert").arg(root).arg(format!("https://{HOST}/")));
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).parse().unwrap_or(0))
}

#[test]
fn a_rotation_is_tried_on_some_finished_for_all_and_waits_for_whoever_does_not_trust_it() {
    let (_stub, relay, _folder) = pair();
    let old = relay.path("old-root.pem");
    fs::copy(relay.root(), &old).unwrap();
    assert_eq!(trusting(&relay, &old), (0, 404));

    assert_eq!(rotate(&relay, &["--finish"]).0, Some(64), "nothing is under way");
    let (code, said) = rotate(&relay, &[]);
    assert_eq!(code, Some(0), "{said}");
    let new = relay.path(NEXT);
    assert!(said.contains(new.to_str().unwrap()), "{said}");
    assert_eq!(trusting(&relay, &old), (0, 404), "nobody is served the new leaves yet");

    assert_eq!(rotate(&relay, &["--try", "127.0.0.0/8"]).0, Some(0));
    eventually("the old root alone is not enough any more", || {
        (trusting(&relay, &old).0 == 60).then_some(())
    });
    let seen = eventually("the client's refusal is seen", || {
        let status = status(&relay);
        let new = |client: &&serde_json::Value| client["root"] == "new" && client["trusts"] == false;
        status["clients"].as_array().unwrap().iter().find(new).cloned()
    });
    assert_eq!(seen["address"], "127.0.0.1");
    let (code, said) = rotate(&relay, &["--finish"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("127.0.0.1"), "{said}");

    assert_eq!(trusting(&relay, &new), (0, 404));
    eventually("the client trusts the new root", || {
        let status = status(&relay);
        status["clients"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["root"] == "new" && c["trusts"] == true)
            .then_some(())
    });
    let new_root = fs::read(&new).unwrap();
    let (code, said) = rotate(&relay, &["--finish"]);
    assert_eq!(code, Some(78), "both within a day: {said}");
    assert!(said.contains("some behind this address trust the new root"), "{said}");
    let (code, said) = rotate(&relay, &["--finish", "--despite", "127.0.0.1"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read(relay.root()).unwrap(), new_root);
    assert_eq!(fs::read(relay.path("certs/generations/1/root.pem")).unwrap(), fs::read(&old).unwrap());
    assert!(!relay.path("certs/generations/1/issuer.key").exists(), "the former key is on the disk still");
    assert_eq!(trusting(&relay, &relay.root()), (0, 404));
    assert!(relay.verb(&["check"]).status.success());
}

#[test]
fn a_rotation_that_is_aborted_leaves_everything_as_it_was() {
    let (_stub, relay, _folder) = pair();
    let root = fs::read(relay.root()).unwrap();
    rotate(&relay, &[]);
    rotate(&relay, &["--try", "127.0.0.1/32"]);
    let current = relay.root();
    eventually("the new leaves are served", || (trusting(&relay, &current).0 == 60).then_some(()));
    let (code, said) = rotate(&relay, &["--abort"]);
    assert_eq!((code, said.contains("may not sign")), (Some(0), false), "{said}");
    eventually("the old leaves are served again", || (trusting(&relay, &current) == (0, 404)).then_some(()));
    assert_eq!(fs::read(relay.root()).unwrap(), root);
    assert!(!relay.path("certs/generations/2").exists());
}

#[test]
fn a_client_that_only_refuses_holds_up_no_rotation_once_the_administrator_leaves_it_behind() {
    let (_stub, relay, _folder) = pair();
    assert_eq!(rotate(&relay, &["--despite", "127.0.0.1"]).0, Some(64), "it is part of finishing");
    rotate(&relay, &[]);
    rotate(&relay, &["--try", "127.0.0.0/8"]);
    let old = relay.path("old-root.pem");
    fs::copy(relay.root(), &old).unwrap();
    eventually("one refuses", || (trusting(&relay, &old).0 == 60).then_some(()));
    eventually("it is seen", || {
        let status = status(&relay);
        status["clients"].as_array().unwrap().iter().any(|client| client["trusts"] == false).then_some(())
    });
    let (code, said) = rotate(&relay, &["--finish", "--despite", "127.0.0.9", "--despite", "10.0.0.0/8"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("127.0.0.1") && said.contains("--despite ADDRESS"), "{said}");
    assert_eq!(rotate(&relay, &["--finish", "--despite", "nobody"]).0, Some(64));
    let (code, said) = rotate(&relay, &["--finish", "--despite", "127.0.0.1"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("left behind: 127.0.0.1\n"), "{said}");
    assert_eq!(trusting(&relay, &relay.root()), (0, 404));
}

#[test]
fn who_leaves_after_the_handshake_without_a_word_does_not_trust_and_both_from_one_address_is_mixed() {
    let (_stub, relay, _folder) = pair();
    rotate(&relay, &[]);
    rotate(&relay, &["--try", "127.0.0.0/8"]);
    let new = relay.path(NEXT);
    eventually("the new leaves are served", || (trusting(&relay, &new) == (0, 404)).then_some(()));
    let verdict = |root: &str| {
        let clients = status(&relay)["clients"].clone();
        let of_root = |client: &&serde_json::Value| client["root"] == root;
        clients.as_array().unwrap().iter().find(of_root).map(|client| client["verdict"].clone())
    };
    eventually("a request is seen", || (verdict("new")? == "trusts").then_some(()));
    // As a probe does, and a client that checks the certificate late.
    let address = relay.address.to_string();
    let leave =
        || run(tool("openssl", "openssl").args(["s_client", "-connect", &address, "-servername", HOST]));
    assert!(all_said(&leave()).contains("CONNECTED"));
    eventually("both are seen", || (verdict("new")? == "mixed").then_some(()));
    let said = all_said(&relay.verb(&["ca", "status"]));
    assert!(said.contains("is mixed: some trust, and some refuse, the new root"), "{said}");
    let held_up = status(&relay)["holds_up_finish"].clone();
    assert_eq!((&held_up[0]["address"], &held_up[0]["why"]), (&"127.0.0.1".into(), &"mixed-on-new".into()));
    assert_eq!(rotate(&relay, &["--finish"]).0, Some(78));
    assert_eq!(rotate(&relay, &["--finish", "--despite", "127.0.0.0/8"]).0, Some(0));
}

#[test]
fn what_a_client_showed_just_before_a_stop_is_remembered() {
    let (_stub, mut relay, _folder) = pair();
    let (root, address) = (relay.root(), relay.address.to_string());
    assert_eq!(trusting(&relay, &root), (0, 404));
    run(tool("openssl", "openssl").args(["s_client", "-connect", &address, "-servername", HOST]));
    assert!(relay.stop().success());
    assert_eq!(status(&relay)["clients"][0]["verdict"], "mixed");
}

#[test]
fn a_rotation_under_load_loses_no_request() {
    let (_stub, relay, _folder) = pair();
    let both = relay.path("both.pem");
    let bundle = |relay: &Relay| {
        let new = fs::read(relay.path(NEXT)).unwrap_or_default();
        fs::write(&both, [fs::read(relay.root()).unwrap(), new].concat()).unwrap();
    };
    rotate(&relay, &[]);
    bundle(&relay);
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(trusting(&relay, &both), (0, 404), "{}", relay.stderr());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = |n: usize| {
            let until = asked.load(Ordering::Relaxed) + n;
            eventually("requests go on", || (asked.load(Ordering::Relaxed) >= until).then_some(()));
        };
        more(10);
        rotate(&relay, &["--try", "127.0.0.0/8"]);
        eventually("the new root is served", || {
            let status = status(&relay);
            status["clients"].as_array().unwrap().iter().any(|c| c["root"] == "new").then_some(())
        });
        more(10);
        assert_eq!(rotate(&relay, &["--finish"]).0, Some(0));
        more(20);
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_roots_key_is_kept_only_where_and_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub);
    plan.write();
    let key = plan.path("offline/root.key");
    let init = |more: &[&str]| {
        run(program().arg("--config").arg(plan.path("relay.toml")).args(["ca", "init"]).args(more))
    };
    let made = init(&["--root-key", key.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let public =
        |arguments: &[&str], file: &PathBuf| run(tool("openssl", "openssl").args(arguments).arg(file)).stdout;
    let of_key = public(&["pkey", "-pubout", "-in"], &key);
    let of_root = public(&["x509", "-noout", "-pubkey", "-in"], &plan.path("certs/root.pem"));
    assert!(!of_key.is_empty() && of_key == of_root);
    assert_eq!(init(&["--root-key", plan.path("second.key").to_str().unwrap()]).status.code(), Some(78));
    assert!(!plan.path("second.key").exists());
    let relay = plan.start();
    assert_eq!(relay.curl(&[&format!("https://{HOST}/")]).status, 404);
    let log_key =
        run(tool("openssl", "openssl").args(["pkey", "-noout", "-in"]).arg(relay.path("certs/log.key")));
    assert!(log_key.status.success(), "an auditor's openssl reads the key of the log: {log_key:?}");
}

/// Puts the files of an authority that is a generation where they lay before there were generations.
fn make_former(certs: &Path) {
    for name in FILES {
        let bytes = fs::read(certs.join(name)).unwrap();
        fs::remove_file(certs.join(name)).unwrap();
        fs::write(certs.join(name), bytes).unwrap();
        fs::set_permissions(certs.join(name), Permissions::from_mode(0o600)).unwrap();
        let next = certs.join("generations/2").join(name);
        if next.exists() {
            fs::rename(next, certs.join(name.replace('.', ".next."))).unwrap();
        }
    }
    fs::remove_dir_all(certs.join("generations")).unwrap();
}

/// Makes a folder what another one is, links and all.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    assert!(run(tool("cp", "coreutils").arg("-a").arg(from).arg(to)).status.success());
}

#[test]
fn a_finish_of_the_former_layout_that_was_cut_off_anywhere_costs_no_root() {
    let (stub, relay, _folder) = pair();
    let _stub = stub;
    let mut relay = relay;
    assert!(relay.stop().success());
    let kept = tempfile::tempdir().unwrap();
    let (certs, before) = (relay.path("certs"), kept.path().join("certs"));
    assert_eq!(rotate(&relay, &[]).0, Some(0));
    make_former(&certs);
    fs::write(certs.join("rotation.json"), r#"{"under_way": true, "networks": ["10.0.0.0/8"], "step": 2}"#)
        .unwrap();
    copy(&certs, &before);
    let (old_root, new_root) = (fs::read(certs.join("root.pem")), fs::read(certs.join("root.next.pem")));
    let (old_root, new_root) = (old_root.unwrap(), new_root.unwrap());
    for cut in 0..=3 {
        copy(&before, &certs);
        // What had been put in its place, in the order of that finish.
        for name in FILES.iter().take(cut) {
            fs::rename(certs.join(name.replace('.', ".next.")), certs.join(name)).unwrap();
        }
        let trusted = if cut == 0 { &old_root } else { &new_root };
        // Read as it lies, without a change.
        ended(&relay.verb(&["check"]), 0, "");
        assert_eq!(&relay.verb(&["ca", "export"]).stdout, trusted, "after {cut} renames");
        assert_eq!(status(&relay)["rotation"], cut == 0, "after {cut} renames");
        assert!(!certs.join("generations").exists(), "check changes something");

        let by_verb = tempfile::tempdir().unwrap();
        copy(&certs, &by_verb.path().join("certs"));
        relay = relay.again();
        let root = kept.path().join("trusted.pem");
        fs::write(&root, trusted).unwrap();
        assert_eq!(trusting(&relay, &root), (0, 404), "after {cut} renames");
        assert!(relay.stop().success());
        assert_eq!(&fs::read(relay.root()).unwrap(), trusted, "after {cut} renames");
        assert!(!certs.join("issuer.next.key").exists(), "the start moves it");
        assert_eq!(status(&relay)["rotation"], cut == 0);
        let networks = if cut == 0 { serde_json::json!(["10.0.0.0/8"]) } else { serde_json::json!([]) };
        assert_eq!(status(&relay)["networks"], networks);

        // The same, where the administrator is faster than the next start.
        copy(&by_verb.path().join("certs"), &certs);
        if cut > 0 {
            ended(&relay.verb(&["ca", "rotate", "--abort"]), 64, "there is no way back");
        }
        assert_eq!(&fs::read(relay.root()).unwrap(), trusted, "after {cut} renames");
        copy(&by_verb.path().join("certs"), &certs);
        // The address has used the old root only.
        let finish = &["--finish", "--despite", "127.0.0.1"];
        assert_eq!(rotate(&relay, finish).0, Some(0), "after {cut} renames");
        assert_eq!(fs::read(certs.join("root.pem")).unwrap(), new_root, "after {cut} renames");
        ended(&relay.verb(&["check"]), 0, "");
    }
}

#[test]
fn a_finish_that_was_cut_off_after_the_switch_is_a_finish() {
    let (_stub, mut relay, _folder) = pair();
    assert!(relay.stop().success());
    assert_eq!(rotate(&relay, &[]).0, Some(0));
    let new_root = fs::read(relay.path(NEXT)).unwrap();
    let certs = relay.path("certs");
    fs::remove_file(certs.join("generations/current")).unwrap();
    symlink("2", certs.join("generations/current")).unwrap();
    let kept = tempfile::tempdir().unwrap();
    copy(&certs, &kept.path().join("certs"));

    ended(&relay.verb(&["check"]), 0, "fine");
    assert_eq!(relay.verb(&["ca", "export"]).stdout, new_root);
    assert_eq!(status(&relay)["rotation"], false);
    let former_key = relay.path("certs/generations/1/issuer.key");
    assert!(former_key.exists(), "what only reads has changed something");
    for way in [&["--abort"][..], &["--try", "127.0.0.1"], &[]] {
        let (code, said) = rotate(&relay, way);
        assert_eq!(code, Some(64), "{way:?}: {said}");
        assert!(said.contains("there is no way back"), "{way:?}: {said}");
        assert_eq!(fs::read(relay.root()).unwrap(), new_root);
        assert!(!former_key.exists());
        copy(&kept.path().join("certs"), &certs);
    }
    assert_eq!(rotate(&relay, &["--finish"]).0, Some(0), "done again, it is done");
    copy(&kept.path().join("certs"), &certs);
    relay = relay.again();
    assert!(!former_key.exists(), "the start completes it");
    assert_eq!(trusting(&relay, &relay.root()), (0, 404));
    assert_eq!(rotate(&relay, &["--finish"]).0, Some(64), "nothing is under way");
}

#[test]
fn what_a_crash_leaves_beside_the_generation_in_force_is_taken_away_and_nothing_else() {
    let (_stub, mut relay, _folder) = pair();
    assert!(relay.stop().success());
    let root = fs::read(relay.root()).unwrap();
    let generations = relay.path("certs/generations");
    let leave = || {
        copy(&generations.join("1"), &generations.join("2"));
        // Without the mark of one that was in force.
        fs::remove_file(generations.join("2/in-force")).unwrap();
        fs::create_dir(generations.join(".3.0123456789abcdef.tmp")).unwrap();
        fs::write(generations.join(".3.0123456789abcdef.tmp/issuer.key"), "half").unwrap();
        symlink("2", generations.join(".current.0123456789abcdef.tmp")).unwrap();
    };
    let names = || {
        let names = fs::read_dir(&generations).unwrap().map(|entry| entry.unwrap().file_name().into_string());
        let mut names: Vec<String> = names.map(Result::unwrap).collect();
        names.sort();
        names
    };
    leave();
    ended(&relay.verb(&["check"]), 0, "fine");
    assert_eq!(names().len(), 5, "check changes something");
    relay = relay.again();
    assert_eq!(names(), ["1", "current"]);
    leave();
    // The relay that runs is none of the verbs that change something.
    assert_eq!(rotate(&relay, &[]).0, Some(0));
    assert_eq!(names(), ["1", "2", "current"]);
    assert_ne!(fs::read(relay.path(NEXT)).unwrap(), root);
    assert_eq!(fs::read(relay.root()).unwrap(), root);
}

#[test]
fn files_of_the_own_pki_are_used_as_they_are_and_become_a_generation_with_a_rotation() {
    let (_stub, mut relay, _folder) = pair();
    assert!(relay.stop().success());
    let certs = relay.path("certs");
    make_former(&certs);
    let files = || FILES.map(|name| fs::read(certs.join(name)).unwrap());
    let own = files();
    relay = relay.again();
    assert!(!certs.join("generations").exists(), "a start changes what need not be changed");
    let old = relay.path("old-root.pem");
    fs::write(&old, &own[2]).unwrap();
    assert_eq!(trusting(&relay, &old), (0, 404));
    assert_eq!(rotate(&relay, &[]).0, Some(0));
    assert_eq!(files(), own, "the configured paths hold the same");
    assert!(fs::symlink_metadata(certs.join("root.pem")).unwrap().is_symlink());
    assert_eq!(rotate(&relay, &["--finish", "--despite", "127.0.0.1"]).0, Some(0));
    eventually("the new root is served", || (trusting(&relay, &relay.root()) == (0, 404)).then_some(()));
    assert_eq!(fs::read(certs.join("generations/1/root.pem")).unwrap(), own[2]);
    // The own PKI comes back.
    for (name, bytes) in FILES.iter().zip(&own) {
        let beside = relay.path("beside");
        fs::write(&beside, bytes).unwrap();
        fs::set_permissions(&beside, Permissions::from_mode(0o600)).unwrap();
        fs::rename(&beside, certs.join(name)).unwrap();
    }
    eventually("its root is served", || (trusting(&relay, &old) == (0, 404)).then_some(()));
    assert_eq!(rotate(&relay, &[]).0, Some(0));
    assert_eq!(files(), own);
    assert_eq!(fs::read(certs.join("generations/3/root.pem")).unwrap(), own[2]);
}

#[test]
fn a_client_that_used_the_old_root_and_never_the_new_one_holds_up_the_finish() {
    let (_stub, relay, _folder) = pair();
    let old = relay.path("old-root.pem");
    fs::copy(relay.root(), &old).unwrap();
    assert_eq!(trusting(&relay, &old), (0, 404));
    assert_eq!(rotate(&relay, &[]).0, Some(0));
    eventually("its request is seen", || {
        let held_up = status(&relay)["holds_up_finish"].clone();
        (held_up[0]["address"] == "127.0.0.1" && held_up[0]["why"] == "only-old").then_some(())
    });
    let said = all_said(&relay.verb(&["ca", "status"]));
    assert!(said.contains("holds up --finish:\nthese clients used the old root lately"), "{said}");
    assert!(said.contains("last request: 20") && said.contains("last refusal: never"), "{said}");
    let (code, said) = rotate(&relay, &["--finish"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("have never used the new one") && said.contains("127.0.0.1"), "{said}");
    assert_eq!(fs::read(relay.root()).unwrap(), fs::read(&old).unwrap());
    assert_eq!(rotate(&relay, &["--try", "127.0.0.1"]).0, Some(0), "a bare address");
    let new = relay.path(NEXT);
    eventually("it uses the new one", || (trusting(&relay, &new) == (0, 404)).then_some(()));
    eventually("that is seen", || (rotate(&relay, &["--finish"]).0 == Some(0)).then_some(()));
}

/// curl that asks the relay's own https face by a name.
fn asking(relay: &Relay, name: &str, root: &Path) -> i32 {
    let mut command = tool("curl", "curl");
    let at = format!("{name}:{}:127.0.0.1", relay.address.port());
    command.args(["-sS", "-m", "30", "-o", "/dev/null", "--resolve", &at, "--cacert"]).arg(root);
    let output = run(command.arg(format!("https://{name}:{}/", relay.address.port())));
    output.status.code().unwrap()
}

#[test]
fn a_name_that_is_configured_later_is_served_below_the_new_root_and_all_others_as_before() {
    let (_stub, mut relay, _folder) = pair();
    let old = relay.path("old-root.pem");
    fs::copy(relay.root(), &old).unwrap();
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    let more = config.replacen("\"localhost\", ", "\"localhost\", \"relay.corp.example\", ", 1);
    assert_ne!(config, more);
    fs::write(relay.path("relay.toml"), &more).unwrap();
    let check = relay.verb(&["check"]);
    ended(&check, 78, "may not sign for relay.corp.example");
    assert!(all_said(&check).contains("license-relay ca rotate"));
    let said = all_said(&relay.verb(&["ca", "show"]));
    for words in [
        "names that are configured: license.qlikcloud.com, localhost, relay.corp.example, 127.0.0.1\n",
        "may sign for names: license.qlikcloud.com, localhost (and names below them); addresses: 127.0.0.1\n",
        "the issuer may not sign for: relay.corp.example\n",
        "license-relay ca rotate\n",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    // The one command; then check, reload and start are content.
    assert_eq!(rotate(&relay, &[]).0, Some(0));
    ended(&relay.verb(&["check"]), 0, "fine");
    let new = relay.path(NEXT);
    eventually("the name is served", || (asking(&relay, "relay.corp.example", &new) == 0).then_some(()));
    for _ in 0..2 {
        assert_eq!(asking(&relay, "relay.corp.example", &new), 0);
        assert_eq!(asking(&relay, "relay.corp.example", &old), 60, "the old issuer may not sign for it");
        assert_eq!(asking(&relay, "localhost", &old), 0);
        assert_eq!(asking(&relay, "127.0.0.1", &old), 0);
        assert_eq!(trusting(&relay, &old), (0, 404));
        assert!(relay.stop().success());
        relay = relay.again();
    }
    assert_eq!(rotate(&relay, &["--finish", "--despite", "127.0.0.1"]).0, Some(0));
    let all = |relay: &Relay| asking(relay, "localhost", &new) == 0 && trusting(relay, &new) == (0, 404);
    eventually("all is below the new root", || all(&relay).then_some(()));
    // A name that comes while a rotation is under way is covered by none of the two.
    assert_eq!(rotate(&relay, &[]).0, Some(0));
    fs::write(relay.path("relay.toml"), more.replace("relay.corp.example", "other.corp.example")).unwrap();
    ended(&relay.verb(&["check"]), 78, "license-relay ca rotate --abort");
    ended(&relay.verb(&["ca", "rotate", "--finish", "--despite", "0.0.0.0/0"]), 78, "other.corp.example");
    ended(&relay.verb(&["ca", "rotate", "--abort"]), 0, "the old issuer may not sign for other.corp.example");
    assert_eq!(rotate(&relay, &[]).0, Some(0));
    ended(&relay.verb(&["check"]), 0, "fine");
}

#[test]
fn a_new_root_that_is_broken_keeps_nobody_from_the_old_one() {
    let (_stub, mut relay, _folder) = pair();
    let old = relay.root();
    assert_eq!(rotate(&relay, &["--abort"]).0, Some(64));
    for spoil in [
        &(|relay: &Relay| fs::remove_file(relay.path("certs/generations/2/issuer.key")).unwrap())
            as &dyn Fn(&Relay),
        &|relay| fs::write(relay.path("certs/generations/2/issuer.pem"), "").unwrap(),
        &|relay| fs::remove_dir_all(relay.path("certs/generations/2")).unwrap(),
    ] {
        assert_eq!(rotate(&relay, &[]).0, Some(0));
        assert!(relay.stop().success());
        spoil(&relay);
        ended(&relay.verb(&["check"]), 78, "generations/2");
        relay = relay.again();
        assert_eq!(trusting(&relay, &old), (0, 404));
        let said = relay.stderr();
        assert!(said.contains("the new root of the rotation is served to nobody"), "{said}");
        assert_eq!(rotate(&relay, &["--abort"]).0, Some(0));
        ended(&relay.verb(&["check"]), 0, "fine");
    }
}

#[test]
fn verbs_that_change_the_authority_at_once_leave_one_that_works() {
    let (_stub, mut relay, _folder) = pair();
    assert!(relay.stop().success());
    for _ in 0..5 {
        assert_eq!(rotate(&relay, &[]).0, Some(0));
        let verbs = [&["--abort"][..], &["--try", "127.0.0.0/8"], &["--finish"]];
        let codes: Vec<Option<i32>> = std::thread::scope(|scope| {
            let running: Vec<_> = verbs.iter().map(|verb| scope.spawn(|| rotate(&relay, verb).0)).collect();
            running.into_iter().map(|verb| verb.join().unwrap()).collect()
        });
        assert!(codes.iter().all(|code| matches!(code, Some(0 | 64 | 75))), "{codes:?}");
        ended(&relay.verb(&["check"]), 0, "");
        relay = relay.again();
        assert!(relay.stop().success());
        // Where one is under way still.
        let _over = rotate(&relay, &["--abort"]);
    }
}
