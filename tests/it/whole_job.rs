//! The main job from end to end, and the two commands of the README that show it.

use crate::common::*;

#[test]
fn the_demo_holds_every_step() {
    let output = run(program().arg("demo"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for step in ["is refused", "one command lets it in", "reports capacity", "every step held"] {
        assert!(said.contains(step), "no step {step:?} in:\n{said}");
    }
}

#[test]
fn a_fresh_deployment_is_refused_and_one_command_lets_it_in() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources("").start();

    let refused = relay.post("/v1/activation", ACTIVATION);
    assert_eq!((refused.status, refused.exit), (503, 0), "{refused:?}");
    let number = number_in(&refused.reason());
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(stub.counters()["requests"], 0);

    let pending = eventually("the refusal is pending", || {
        let output = relay.verb(&["sources", "pending"]);
        Some(String::from_utf8(output.stdout).unwrap()).filter(|text| text.contains(LICENSE))
    });
    assert!(pending.contains("from 127.0.0.1"), "{pending}");

    assert!(relay.verb(&["sources", "allow", &number, "--name", "Production"]).status.success());
    let activated = eventually("the activation passes", || {
        Some(relay.post("/v1/activation", ACTIVATION)).filter(|said| said.status == 200)
    });
    assert_eq!(activated.json()["license"], "9999 0000 0000 1253");

    let definition = relay.curl(&[
        "-H",
        &format!("Authorization: Bearer {}", KEY.trim()),
        &format!("https://{HOST}/v1/definitions/portable/info"),
    ]);
    assert_eq!(definition.status, 200, "{definition:?}");
    let synced = relay.post("/v1/sync", SYNC);
    assert_eq!(synced.status, 200, "{synced:?}");
    assert_eq!(synced.json()["patches"].as_array().unwrap().len(), 2);
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);

    eventually("the learned id is in sources.toml", || {
        std::fs::read_to_string(relay.path("sources.toml")).unwrap().contains(SOURCE).then_some(())
    });
    assert_eq!(relay.records("license.assignment.add").len(), 4);
    assert_eq!(relay.records("license.consumption.response").len(), 1);
}
