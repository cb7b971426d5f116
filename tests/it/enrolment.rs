//! Enrolment stays one command: the number that a refusal tells works at once, is the same on every relay that
//! shares the subject key, and lets in the deployment that was refused and nobody else.

use std::fs;
use std::io::Write;

use serde_json::Value;

use crate::common::wire::*;
use crate::common::*;

/// A message that names neither an id nor a license.
const NAMELESS: &str = "{\"cause\":\"Initial\"}";

/// A relay that believes a balancer on this machine for its clients' addresses.
fn balanced(stub: &Stub, list: &str, more: &str) -> Relay {
    let plan = Plan::new(stub).with("[listen]", "[listen]\nproxy_protocol_from = [\"127.0.0.1/32\"]");
    plan.and(more).sources(list).start()
}

/// A conversation inside a tunnel of a client with this address.
fn from(relay: &Relay, address: [u8; 4]) -> Inside {
    let mut stream = relay.connect();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(address);
    header.extend([127, 0, 0, 1, 0, 9, 0, 9]);
    stream.write_all(&header).unwrap();
    write!(stream, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
    let answer = Answer::read(&mut stream);
    assert_eq!(answer.status, 200, "{answer:?}");
    tls(stream, HOST, &relay.root())
}

/// The number that a refused client is told.
#[track_caller]
fn refused(relay: &Relay, address: [u8; 4], body: &str) -> String {
    let answer = ask(&mut from(relay, address), post("/v1/x", body));
    number_in(answer.refuses(503, "http_request_denied"))
}

fn pending(relay: &Relay) -> Vec<Value> {
    serde_json::from_slice(&relay.verb(&["sources", "pending", "--json"]).stdout).unwrap()
}

fn list(relay: &Relay) -> String {
    fs::read_to_string(relay.path("sources.toml")).unwrap()
}

fn stub() -> (Stub, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Stub::start(folder.path(), &[]), folder)
}

#[test]
fn the_command_works_as_soon_as_it_is_told_however_many_are_told_one() {
    let (stub, _folder) = stub();
    let relay = balanced(&stub, "# nobody\n", "");
    for n in 0..5u8 {
        let number = refused(&relay, [10, 20, n, 7], &SYNC.replace(SOURCE, &format!("deployment {n}")));
        ended(&relay.verb(&["sources", "allow", &number, "--name", &format!("{n}")]), 0, "added");
    }
    assert_eq!(list(&relay).matches("\n[[source]]").count(), 5);
    eventually("nobody is pending", || pending(&relay).is_empty().then_some(()));
}

#[test]
fn relays_that_share_the_subject_key_tell_one_number_and_others_another() {
    let (stub, _folder) = stub();
    let one = balanced(&stub, "# nobody\n", "");
    let plan = Plan::new(&stub).with("[listen]", "[listen]\nproxy_protocol_from = [\"127.0.0.1/32\"]");
    let plan = plan.with("[audit]", "[audit]\nsubject = \"raw\"").sources("# nobody\n");
    fs::create_dir(plan.path("certs")).unwrap();
    fs::copy(one.path("certs/subject.key"), plan.path("certs/subject.key")).unwrap();
    let two = plan.start();
    let other = balanced(&stub, "# nobody\n", "");
    for body in [SYNC, ACTIVATION, NAMELESS] {
        let [one, two, other] = [&one, &two, &other].map(|relay| refused(relay, [10, 20, 0, 7], body));
        assert_eq!(one, two, "{body}");
        assert_ne!(one, other, "{body}");
    }
    let elsewhere = refused(&one, [10, 20, 0, 8], SYNC);
    assert_eq!(elsewhere, refused(&two, [10, 20, 0, 9], SYNC), "an id is the same wherever it comes from");
    assert_ne!(refused(&one, [10, 20, 0, 8], ACTIVATION), refused(&one, [10, 20, 0, 7], ACTIVATION));
}

#[test]
fn who_named_nothing_is_let_in_by_its_network_in_an_entry_of_its_own() {
    let (stub, _folder) = stub();
    let listed = "[[source]]\nid = \"somebody else\"\n";
    let relay = balanced(&stub, listed, "");
    let number = refused(&relay, [10, 20, 0, 7], NAMELESS);
    let before = list(&relay);
    let shown = relay.verb(&["sources", "allow", &number, "--print"]);
    ended(&shown, 0, "[[source]]\nnetworks = [\"10.20.0.7/32\"]\n");
    assert_eq!(list(&relay), before, "--print writes nothing");
    ended(&relay.verb(&["sources", "allow", &number, "--name", "Odd"]), 0, "added");
    assert_eq!(
        list(&relay),
        format!("{before}\n[[source]]\nname = \"Odd\"\nnetworks = [\"10.20.0.7/32\"]\n")
    );
    eventually("it is let in", || {
        (ask(&mut from(&relay, [10, 20, 0, 7]), post("/v1/x", NAMELESS)).status != 503).then_some(())
    });
    eventually("it is pending no more", || pending(&relay).is_empty().then_some(()));
    refused(&relay, [10, 20, 0, 8], NAMELESS);
    ended(&relay.verb(&["sources", "deny", "--network", "10.20.0.7"]), 64, "");
    ended(&relay.verb(&["sources", "deny", "--network", "10.20.0.7/32"]), 0, "took out the entry");
    assert_eq!(list(&relay), before);
}

#[test]
fn an_address_that_several_share_is_not_opened_unless_somebody_says_so() {
    let (stub, _folder) = stub();
    let relay = balanced(&stub, &format!("[[source]]\nid = \"{SOURCE}\"\n"), "");
    // A listed deployment has come from there.
    assert_eq!(ask(&mut from(&relay, [10, 20, 0, 7]), post("/v1/sync", IDLE)).status, 200);
    let behind_it = refused(&relay, [10, 20, 0, 7], NAMELESS);
    // Two were refused there.
    refused(&relay, [10, 20, 0, 8], &SYNC.replace(SOURCE, "another"));
    let beside_it = refused(&relay, [10, 20, 0, 8], NAMELESS);
    let before = list(&relay);
    for (number, network) in [(&behind_it, "10.20.0.7/32"), (&beside_it, "10.20.0.8/32")] {
        let asked = relay.verb(&["sources", "allow", number]);
        ended(&asked, 64, &format!("license-relay sources allow {number} --network {network}"));
        assert_eq!(list(&relay), before);
    }
    ended(&relay.verb(&["sources", "allow", &behind_it, "--network", "10.20.0.7/32"]), 0, "added");

    // This machine is everybody on it.
    let local = Plan::new(&stub).sources("# nobody\n").start();
    let answer = local.post("/v1/x", NAMELESS);
    let number = number_in(&answer.reason());
    ended(&local.verb(&["sources", "allow", &number]), 64, "this machine itself");
    assert_eq!(list(&local), "# nobody\n");
    ended(&local.verb(&["sources", "allow", &number, "--network", "127.0.0.1/32"]), 0, "added");
}

#[test]
fn a_number_of_two_deployments_is_refused_and_both_are_named() {
    let (stub, _folder) = stub();
    let mut relay = balanced(&stub, "# nobody\n", "");
    refused(&relay, [10, 20, 0, 7], &SYNC.replace(SOURCE, "first"));
    refused(&relay, [10, 20, 0, 8], &SYNC.replace(SOURCE, "second"));
    let numbers: Vec<String> =
        pending(&relay).iter().map(|row| row["number"].as_str().unwrap().to_owned()).collect();
    assert!(relay.stop().success());
    // One in 10^13; made here by hand.
    let file = relay.path("audit/pending.json");
    let text = fs::read_to_string(&file).unwrap().replace(&numbers[1], &numbers[0]);
    fs::write(&file, text).unwrap();
    let asked = relay.verb(&["sources", "allow", &numbers[0]]);
    ended(&asked, 64, "is of 2 deployments");
    assert!(all_said(&asked).contains("first, or second"), "{}", all_said(&asked));
    assert_eq!(list(&relay), "# nobody\n");
}

#[test]
fn an_entry_for_another_place_is_neither_doubled_nor_undone() {
    let (stub, _folder) = stub();
    let placed =
        format!("[[source]]\nid = \"{SOURCE}\"\nlicenses = [\"{LICENSE}\"]\nnetworks = [\"10.1.0.0/16\"]\n");
    let relay = balanced(&stub, &placed, "");
    let answer = ask(&mut from(&relay, [10, 20, 0, 7]), post("/v1/sync", SYNC));
    assert!(answer.refuses(503, "http_request_denied").ends_with("from this address or user"), "{answer:?}");
    let number = pending(&relay)[0]["number"].as_str().unwrap().to_owned();
    ended(&relay.verb(&["sources", "allow", &number]), 64, "sources.toml:1 has its id already");
    assert_eq!(list(&relay), placed);
}

#[test]
fn deny_takes_out_every_kind_of_entry_that_allow_writes() {
    let (stub, _folder) = stub();
    let relay = Plan::new(&stub).sources("# ours\n").start();
    let both = ["--license", "5555666677778888", "--user", "qlik"];
    let kinds: [(&[&str], &[&str]); 6] = [
        (&["aaaa", "--network", "10.1.0.0/16"], &["aaaa"]),
        (&["bbbb", "--name", "Second one"], &["Second one"]),
        (&["--license", "1111222233334444"], &["--license", "1111222233334444"]),
        (&["--network", "10.2.0.0/16"], &["--network", "10.2.0.0/16"]),
        (&["--user", "alone"], &["--user", "alone"]),
        (&both, &both),
    ];
    for (allow, _) in kinds {
        ended(&relay.verb(&[&["sources", "allow"], allow].concat()), 0, "added");
    }
    let all = list(&relay);
    for (options, words) in [
        (&["--network", "10.1.0.0/16"][..], "license-relay sources deny aaaa"),
        (&["--user", "qlik"], "license-relay sources deny --license 5555666677778888 --user qlik"),
        (&["--license", "9"], ""),
        (&["nobody"], "no entry has the id or name nobody"),
    ] {
        ended(&relay.verb(&[&["sources", "deny"], options].concat()), 64, words);
        assert_eq!(list(&relay), all);
    }
    for (_, deny) in kinds {
        ended(&relay.verb(&[&["sources", "deny"], deny].concat()), 0, "took out the entry of line");
    }
    assert_eq!(list(&relay).trim_end(), "# ours");
}

#[test]
fn two_entries_of_one_name_are_not_guessed_between() {
    let (stub, _folder) = stub();
    let two = "[[source]]\nid = \"a\"\nname = \"Same\"\n\n[[source]]\nid = \"b\"\nname = \"Same\"\n";
    let relay = Plan::new(&stub).sources(two).start();
    ended(&relay.verb(&["sources", "deny", "Same"]), 64, "license-relay sources deny b");
    assert_eq!(list(&relay), two);
}

#[test]
fn who_is_let_in_as_a_user_is_pending_no_more() {
    let (stub, _folder) = stub();
    let plan = Plan::new(&stub).with("[listen]", "[listen]\ncredentials = \"optional\"");
    let relay = plan.sources("# nobody\n").start();
    relay.add_user("site", "right");
    // site:right
    let fields = "Proxy-Authorization: Basic c2l0ZTpyaWdodA==\r\n";
    let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
    eventually("the user is known", || (ask(&mut relay.connect(), &connect).status == 200).then_some(()));
    let asked = || ask(&mut relay.inside_from("127.0.0.7", fields), post("/v1/x", NAMELESS));
    asked().refuses(503, "http_request_denied");
    let rows = eventually("it is pending", || Some(pending(&relay)).filter(|rows| !rows.is_empty()));
    assert_eq!(rows[0]["user"], "site", "{rows:?}");
    ended(&relay.verb(&["sources", "allow", "--user", "site"]), 0, "added");
    eventually("it is pending no more", || pending(&relay).is_empty().then_some(()));
    assert_ne!(asked().status, 503);
}

#[test]
fn an_id_that_looks_like_the_hash_of_another_one_lets_in_nobody_else() {
    let (stub, _folder) = stub();
    let relay = balanced(&stub, "# nobody\n", "");
    // SHA-256 of "victim".
    let id = "sha256:1bdd5b5b92e2d9f30a3b223bb359551d0da20e3702923e5f7b0a73889eba3d21";
    let as_id = |id: &str| SYNC.replace(SOURCE, id);
    let number = refused(&relay, [10, 20, 0, 7], &as_id(id));
    ended(&relay.verb(&["sources", "allow", &number]), 0, "added");
    eventually("it is let in itself", || {
        (ask(&mut from(&relay, [10, 20, 0, 7]), post("/v1/x", &as_id(id))).status == 200).then_some(())
    });
    let list = list(&relay);
    assert!(list.contains("sha256:") && !list.contains(id), "{list}");
    refused(&relay, [10, 20, 0, 9], &as_id("victim"));
    let short = refused(&relay, [10, 20, 0, 8], &as_id("sha256:short"));
    ended(&relay.verb(&["sources", "allow", &short]), 0, "added");
}
