//! The main job, as a story: somebody points a fresh deployment at the relay, reads in the product's own log why it is
//! refused, runs the command that stands there, and from then on everything works, with no restart on either side.

use std::fs;

use serde_json::{Value, json};

use crate::common::clients::Deployment;
use crate::common::wire::*;
use crate::common::*;

/// The command at the end of a refusal, run word for word by somebody who has set up the environment; what it said.
#[track_caller]
fn run_what_it_says(relay: &Relay, refused: &Value) -> String {
    let status = refused["status"].as_str().unwrap();
    let (_, command) = status.rsplit_once("; run ").unwrap_or_else(|| panic!("no command in {status:?}"));
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("license-relay"), "{status}");
    let output = run(program().env("LICENSE_RELAY_CONFIG", relay.path("relay.toml")).args(words));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn works(answer: &Value) {
    assert_eq!(answer["status"], "200 OK", "{answer}");
}

/// A relay on an empty folder, before a stub.
fn fresh() -> (Stub, Relay, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources("").start();
    (stub, relay, folder)
}

fn pending(relay: &Relay) -> Value {
    let rows = relay.verb(&["sources", "pending", "--json"]);
    serde_json::from_slice(&rows.stdout).unwrap()
}

#[test]
fn one_command_out_of_the_first_refusal_makes_everything_work() {
    let (stub, mut relay, _folder) = fresh();
    // Open from before the change until after it.
    let mut kept = relay.inside();
    assert_eq!(ask(&mut kept, good()).status, 404);
    let mut deployment = Deployment::of(&relay);
    let tested = deployment.asks("GET", "/", "", "");
    assert_eq!(tested["status"], "404 Not Found", "the connectivity test: {tested}");

    let refused = deployment.activates();
    let number = number_in(refused["status"].as_str().unwrap());
    let sentence =
        format!("license-relay: license {LICENSE} is not allowed; run license-relay sources allow {number}");
    assert_eq!(refused["status"], format!("503 {sentence}"));
    assert!(sentence.len() <= 120);
    assert_eq!(stub.counters()["requests"], 2, "the two tests and nothing else");
    assert_eq!(pending(&relay)[0]["product"], "QSEfW", "it is pending once it is told");

    let said = run_what_it_says(&relay, &refused);
    for words in ["sources.toml: added", LICENSE, "from 127.0.0.1 until", "is taken as its id"] {
        assert!(said.contains(words), "no {words:?} in: {said}");
    }
    // The product tries again, as products do.
    let activated = eventually("the activation works", || {
        Some(deployment.activates()).filter(|answer| answer["status"] == "200 OK")
    });
    assert_eq!(activated["reused"], true, "no connection was dropped: {activated}");
    for answer in [
        deployment.fetches_its_definition(),
        deployment.syncs(IDLE),
        deployment.syncs(SYNC),
        deployment.syncs(IDLE),
        deployment.reports(),
        deployment.activates(),
    ] {
        works(&answer);
        assert_eq!(answer["reused"], true, "{answer}");
    }
    assert_eq!(ask(&mut kept, post("/v1/sync", IDLE)).status, 200, "the connection from before");

    eventually("the id is written, and the enrolment over", || {
        let list = fs::read_to_string(relay.path("sources.toml")).unwrap();
        (list.contains(&format!("\nid = \"{SOURCE}\"")) && !list.contains("\nlearn = ")).then_some(())
    });
    works(&deployment.syncs(SYNC));
    let stranger = deployment.syncs(&IDLE.replace(SOURCE, "somebody else"));
    assert!(stranger["status"].as_str().unwrap().starts_with("503 license-relay: source somebody else"));
    eventually("its first number is pending no more", || {
        pending(&relay).as_array().unwrap().iter().all(|row| row["number"] != number.as_str()).then_some(())
    });
    assert!(relay.is_running());
    eventually("it is recorded", || {
        let enrolled = |record: &Value| {
            let (id, license) = (&record["qlik"]["source_id"], &record["qlik"]["license"]);
            id == SOURCE && license == LICENSE
        };
        relay.records("relay.config").iter().any(enrolled).then_some(())
    });
}

#[test]
fn so_does_the_command_out_of_the_refusal_of_its_sync() {
    let (_stub, relay, _folder) = fresh();
    let mut deployment = Deployment::of(&relay);
    let activation = number_in(deployment.activates()["status"].as_str().unwrap());
    let refused = deployment.syncs(IDLE);
    let number = number_in(refused["status"].as_str().unwrap());
    let sentence = format!("source {SOURCE} is not allowed; run license-relay sources allow {number}");
    assert_eq!(refused["status"], format!("503 license-relay: {sentence}"));
    eventually("both are pending", || {
        (pending(&relay)[1]["same_deployment_as"] == activation.as_str()).then_some(())
    });
    run_what_it_says(&relay, &refused);
    eventually("the sync works", || (deployment.syncs(IDLE)["status"] == "200 OK").then_some(()));
    for answer in [
        deployment.activates(),
        deployment.fetches_its_definition(),
        deployment.syncs(SYNC),
        deployment.syncs(IDLE),
    ] {
        works(&answer);
    }
    eventually("nobody is pending", || (pending(&relay) == json!([])).then_some(()));
}

#[test]
fn the_command_out_of_the_first_refusal_is_as_good_after_others_and_so_are_all_of_them() {
    let (_stub, relay, _folder) = fresh();
    let mut deployment = Deployment::of(&relay);
    let first = deployment.activates();
    let second = deployment.syncs(IDLE);
    deployment.reports();
    eventually("both are pending", || (pending(&relay)[1]["count"] == 2).then_some(()));
    run_what_it_says(&relay, &first);
    // Whoever runs every command there is leaves no entry behind that waits for somebody else's id.
    let said = run_what_it_says(&relay, &second);
    assert!(said.contains(&format!("waited for the id of license {LICENSE} has it: {SOURCE}")), "{said}");
    let list = fs::read_to_string(relay.path("sources.toml")).unwrap();
    assert_eq!(list.matches("\n[[source]]").count(), 1, "{list}");
    assert!(!list.contains("\nlearn = "), "{list}");
    eventually("the activation works", || (deployment.activates()["status"] == "200 OK").then_some(()));
    for answer in
        [deployment.syncs(IDLE), deployment.syncs(SYNC), deployment.syncs(IDLE), deployment.reports()]
    {
        works(&answer);
    }
    eventually("nobody is pending", || (pending(&relay) == json!([])).then_some(()));
}
