//! What the relay does not understand is counted and told, and never passes for nothing.

use std::fs;

use serde_json::{Value, json};

use crate::common::*;

/// What a deployment says whose words nobody here knows.
const FOREIGN: &str = r#"{"source":"fbe89d02-6d24-4595-915e-c52ce76f2195","deeds":[{"who":"ACME\\bob"}]}"#;

#[test]
fn a_deployment_that_is_not_understood_for_a_day_is_a_warning_a_metric_and_a_mark_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let mut relay = Plan::new(&stub).start();
    assert_eq!(relay.post("/v1/any", FOREIGN).status, 404, "the stub knows them no better");
    let file = relay.path("audit/unread.json");
    let mut table: Value = eventually("the table is written", || {
        let table: Value = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        (table.as_array()?.len() == 1).then_some(table)
    });
    assert!(relay.records("license.unrecognised.lasting").is_empty(), "not yet");
    assert!(relay.admin("/metrics").1.contains("license_relay_deployments_not_understood 0\n"));
    assert!(!table.to_string().contains("bob"));
    relay.stop();
    // As if it had begun yesterday.
    let ago = |hours: i64| (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours)).to_string();
    table[0]["since"] = json!(ago(25));
    table[0]["last"] = json!(ago(1));
    table[0]["count"] = json!(150);
    fs::write(&file, table.to_string()).unwrap();
    let relay = relay.again();
    assert_eq!(relay.post("/v1/any", FOREIGN).status, 404, "the stub knows them no better");
    let marks = eventually("the mark is in the log", || {
        Some(relay.records("license.unrecognised.lasting")).filter(|marks| !marks.is_empty())
    });
    assert_eq!(marks.len(), 1);
    assert_eq!(marks[0]["qlik"]["source_id"], SOURCE);
    assert_eq!(marks[0]["qlik"]["repeat"]["count"], 151);
    let said = relay.stderr();
    assert!(said.contains("151 bodies of source") && said.contains("vocabulary suggest"), "{said}");
    assert!(relay.admin("/metrics").1.contains("license_relay_deployments_not_understood 1\n"));
    // Told once a day, not with each request.
    assert_eq!(relay.post("/v1/any", FOREIGN).status, 404, "the stub knows them no better");
    assert_eq!(relay.records("license.unrecognised.request").len(), 3);
    assert_eq!(relay.records("license.unrecognised.lasting").len(), 1);
}

#[test]
fn metrics_and_status_show_no_id_license_address_or_name() {
    let (_stub, relay, _folder) = pair();
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    assert_eq!(relay.post("/v1/sync", &SYNC.replace(SOURCE, "a-stranger")).status, 503);
    let shown = relay.admin("/metrics").1 + &relay.admin("/status").1;
    assert!(shown.contains("exchange=\"sync\"") && shown.contains("verdict=\"refuse\""), "{shown}");
    for hidden in [SOURCE, LICENSE, "a-stranger", "bob", KEY.trim()] {
        assert!(!shown.contains(hidden), "{hidden}: {shown}");
    }
}
