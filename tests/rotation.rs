//! Changing the root without an outage, and keeping a root's key offline.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::*;

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
    let new = relay.path("certs/root.next.pem");
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
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read(relay.root()).unwrap(), new_root);
    assert_eq!(fs::read(relay.path("certs/root.old.pem")).unwrap(), fs::read(&old).unwrap());
    assert!(!new.exists() && !relay.path("certs/issuer.old.key").exists());
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
    assert_eq!(rotate(&relay, &["--abort"]).0, Some(0));
    eventually("the old leaves are served again", || (trusting(&relay, &current) == (0, 404)).then_some(()));
    assert_eq!(fs::read(relay.root()).unwrap(), root);
    assert!(!relay.path("certs/issuer.next.key").exists());
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
    let new = relay.path("certs/root.next.pem");
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
    assert_eq!(rotate(&relay, &["--finish"]).0, Some(78), "its last word was a refusal");
    assert_eq!(trusting(&relay, &new), (0, 404));
    eventually("the request is seen", || (rotate(&relay, &["--finish"]).0 == Some(0)).then_some(()));
}

#[test]
fn a_rotation_under_load_loses_no_request() {
    let (_stub, relay, _folder) = pair();
    let both = relay.path("both.pem");
    let bundle = |relay: &Relay| {
        let new = fs::read(relay.path("certs/root.next.pem")).unwrap_or_default();
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

#[test]
fn a_finish_that_was_cut_off_anywhere_costs_no_root() {
    let (stub, relay, _folder) = pair();
    let _stub = stub;
    let mut relay = relay;
    assert!(relay.stop().success());
    assert_eq!(rotate(&relay, &[]).0, Some(0));
    let kept = tempfile::tempdir().unwrap();
    let certs = relay.path("certs");
    let all = [
        "issuer.key",
        "issuer.pem",
        "root.pem",
        "issuer.next.key",
        "issuer.next.pem",
        "root.next.pem",
        "rotation.json",
    ];
    for name in all {
        fs::copy(certs.join(name), kept.path().join(name)).unwrap();
    }
    let new_root = fs::read(certs.join("root.next.pem")).unwrap();
    for cut in 0..=3 {
        for name in all {
            let _ = fs::remove_file(certs.join(name));
            fs::copy(kept.path().join(name), certs.join(name)).unwrap();
        }
        // What had been put in its place, in the order of the finish.
        for (new, old) in [
            ("issuer.next.key", "issuer.key"),
            ("issuer.next.pem", "issuer.pem"),
            ("root.next.pem", "root.pem"),
        ]
        .iter()
        .take(cut)
        {
            fs::rename(certs.join(new), certs.join(old)).unwrap();
        }
        ended(&relay.verb(&["check"]), 0, "");
        relay = relay.again();
        let trusted = if cut == 0 { fs::read(certs.join("root.pem")).unwrap() } else { new_root.clone() };
        let root = kept.path().join("trusted.pem");
        fs::write(&root, &trusted).unwrap();
        assert_eq!(trusting(&relay, &root), (0, 404), "after {cut} renames");
        assert!(relay.stop().success());
        assert_eq!(relay.verb(&["ca", "export"]).stdout, trusted, "after {cut} renames");
        if cut > 0 {
            // There is no way back, and nothing is lost by asking for it.
            for way in [
                &["ca", "rotate", "--abort"][..],
                &["ca", "rotate", "--try", "127.0.0.0/8"],
                &["ca", "rotate"],
            ] {
                ended(&relay.verb(way), 64, "license-relay ca rotate --finish");
            }
        }
        ended(&relay.verb(&["ca", "rotate", "--finish"]), 0, "");
        assert_eq!(fs::read(certs.join("root.pem")).unwrap(), new_root, "after {cut} renames");
        ended(&relay.verb(&["check"]), 0, "");
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
