//! A request whose bytes may have reached the back end is never sent again, whatever the back end does;
//! the client hears the truth, and so does the log.

use serde_json::Value;

use crate::common::tls::Tls;
use crate::common::*;

/// What the sample report adds each time the back end counts it.
const DELTA: i64 = 242;

/// What became of one capacity report under some trouble.
#[derive(Debug, PartialEq)]
struct Seen {
    /// The status that the client got.
    status: u16,
    /// How often the back end counted it.
    counted: i64,
    /// The outcome in the log.
    outcome: String,
}

/// A stub, a relay before it with a short time-out, and the reports so far.
struct Scene {
    stub: Stub,
    relay: Relay,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stub = Stub::start(folder.path(), &["--keep-alive", "2s"]);
        let relay = Plan::new(&stub)
            .with("trust = \"files\"", "trust = \"files\"\nresponse_timeout = \"1s\"")
            .start();
        Self { stub, relay, _folder: folder }
    }

    fn counted(&self) -> i64 {
        let consumption = self.stub.consumption();
        assert_eq!(consumption % DELTA, 0, "a part of a report was counted");
        consumption / DELTA
    }

    /// Outcomes of reports in the log.
    fn outcomes(&self) -> Vec<Value> {
        self.relay.records("license.consumption.response")
    }

    /// Reports once while this trouble waits for one request, and then once more without.
    fn report(&self, trouble: &str) -> (Seen, String) {
        let (counted, outcomes) = (self.counted(), self.outcomes().len());
        self.stub.trouble(&format!("{trouble}*1"));
        let reply = self.relay.post("/v1/capacity", CAPACITY);
        assert_eq!(reply.exit, 0, "{trouble}: no reply at all: {reply:?}");
        let all = self.outcomes();
        assert_eq!(all.len(), outcomes + 1, "{trouble}: not one outcome for one report");
        let outcome = all[outcomes]["event"]["outcome"].as_str().unwrap().to_owned();
        let seen = Seen { status: reply.status, counted: self.counted() - counted, outcome };
        let made_here = reply.header("Proxy-Status").is_some();
        assert_eq!(made_here, matches!(seen.status, 502 | 504), "{trouble}: {reply:?}");

        self.stub.trouble("");
        let next = self.relay.post("/v1/capacity", CAPACITY);
        assert_eq!(next.status, 200, "the request after {trouble}: {next:?}");
        assert_eq!(next.json()[0]["total"], self.stub.consumption(), "the request after {trouble}");
        assert_eq!(self.counted() - counted, seen.counted + 1, "the request after {trouble}");
        (seen, reply.text())
    }
}

fn seen(status: u16, counted: i64, outcome: &str) -> Seen {
    Seen { status, counted, outcome: outcome.into() }
}

#[test]
fn a_report_whose_reply_is_lost_is_counted_once_and_its_outcome_is_unknown() {
    let scene = Scene::new();
    // Sent again, it would have been counted twice: each of these troubles ends with the first request.
    for (trouble, status) in [
        ("close-before", 502),
        ("reset-before", 502),
        ("close-middle", 502),
        ("wrong-length", 502),
        ("endless-header", 502),
        ("garbage", 502),
        ("no-answer", 504),
        ("delay=1500ms", 504),
    ] {
        let (what, body) = scene.report(trouble);
        assert_eq!(what, seen(status, 1, "unknown"), "{trouble}: {body}");
        let errors = scene.relay.records("upstream.error");
        let exchange = &errors.last().unwrap()["event"]["id"];
        assert!(scene.outcomes().iter().any(|record| &record["event"]["id"] == exchange), "{trouble}");
    }
}

#[test]
fn a_whole_reply_is_passed_on_whatever_the_connection_does_then() {
    let scene = Scene::new();
    for trouble in ["close-after", "short-length", "delay=200ms"] {
        let (what, body) = scene.report(trouble);
        assert_eq!(what, seen(200, 1, "success"), "{trouble}: {body}");
        assert!(!body.contains("forged"), "{trouble}: {body}");
    }
}

#[test]
fn an_error_of_the_back_end_is_passed_on_and_not_asked_for_again() {
    let scene = Scene::new();
    for status in [400, 404, 429, 500, 503] {
        let (what, body) = scene.report(&format!("status={status}"));
        assert_eq!(what, seen(status, 0, "failure"), "{body}");
        assert!(body.contains("trouble"), "{status}: {body}");
        let records = scene.outcomes();
        assert_eq!(records[records.len() - 2]["qlik"]["http_status"], status);
    }
}

#[test]
fn a_kept_connection_that_is_reset_under_a_request_does_not_get_it_sent_twice() {
    let scene = Scene::new();
    for _ in 0..5 {
        let requests = scene.stub.counters()["requests"].as_u64().unwrap();
        assert_eq!(scene.relay.post("/v1/capacity", CAPACITY).status, 200, "keeps a connection");
        let (what, body) = scene.report("stale");
        // Either hyper had written it, and then nobody knows; or it was handed back unsent, and then it goes once.
        let possible = [seen(502, 0, "unknown"), seen(200, 1, "success")];
        assert!(possible.contains(&what), "{what:?}: {body}");
        let requests = scene.stub.counters()["requests"].as_u64().unwrap() - requests;
        assert!(requests <= 3, "{requests} requests for 3");
    }
}

#[test]
fn a_connection_that_the_back_end_closed_while_idle_costs_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &["--keep-alive", "100ms"]);
    let relay = Plan::new(&stub).start();
    let mut tls = Tls::new(&relay);
    // The relay's own ends of connections to the stub: of all its files, these alone are meant.
    let port = format!(":{}", stub.address.port());
    let held = || {
        let shown = run(tool("ss", "iproute2").args(["-Htn", "dport", "=", &port]));
        assert!(shown.status.success(), "{shown:?}");
        String::from_utf8_lossy(&shown.stdout).lines().any(|line| !line.starts_with("TIME-WAIT"))
    };
    for round in 1..=5 {
        assert_eq!(tls.post("/v1/capacity", CAPACITY).status(), 200, "round {round}");
        eventually("the relay has let go of the closed connection", || (!held()).then_some(()));
    }
    assert_eq!((stub.consumption(), stub.counters()["connections"].as_u64()), (5 * DELTA, Some(5)));
}

#[test]
fn a_forged_second_reply_never_reaches_a_client() {
    let scene = Scene::new();
    scene.stub.trouble("short-length");
    let mut tls = Tls::new(&scene.relay);
    for round in 1..=40 {
        let reply = tls.post("/v1/capacity", CAPACITY);
        assert!(!reply.text().contains("forged") && reply.header("X-Forged").is_none(), "{round}: {reply:?}");
        assert!(matches!(reply.status(), 200 | 502), "{round}: {reply:?}");
    }
    assert!(scene.counted() <= 40, "{} of 40 reports were counted", scene.counted());
}

#[test]
fn back_to_back_reports_on_connections_that_close_are_counted_once_each() {
    let scene = Scene::new();
    scene.stub.trouble("close-after");
    let mut tls = Tls::new(&scene.relay);
    let answered = (0..40).filter(|_| tls.post("/v1/capacity", CAPACITY).status() == 200).count();
    let counted = scene.counted();
    assert!((answered..=40).contains(&(counted as usize)), "{answered} answered, {counted} counted");
    let outcomes = scene.outcomes();
    let successes = outcomes.iter().filter(|record| record["event"]["outcome"] == "success").count();
    assert_eq!((outcomes.len(), successes), (40, answered));
}

#[test]
fn a_client_that_hangs_up_does_not_keep_its_outcome_out_of_the_log() {
    let scene = Scene::new();
    for (round, reset) in [true, false, true, false].into_iter().enumerate() {
        scene.stub.trouble("delay=300ms*1");
        let mut tls = Tls::new(&scene.relay);
        tls.send(tls::post("/v1/capacity", CAPACITY));
        eventually("the report is with the back end", || (scene.counted() == round as i64 + 1).then_some(()));
        if reset {
            tls.reset();
        } else {
            drop(tls);
        }
        let outcomes = eventually("the outcome is in the log", || {
            Some(scene.outcomes()).filter(|outcomes| outcomes.len() == round + 1)
        });
        assert_eq!(outcomes[round]["event"]["outcome"], "success");
        assert_eq!(outcomes[round]["qlik"]["total"], scene.stub.consumption());
    }
    assert_eq!(scene.counted(), 4);
}

#[test]
fn a_client_that_hangs_up_before_its_body_is_whole_reports_nothing() {
    let scene = Scene::new();
    for reset in [true, false] {
        let mut tls = Tls::new(&scene.relay);
        let whole = tls::post("/v1/capacity", CAPACITY);
        tls.send(&whole[..whole.len() - 1]);
        if reset {
            tls.reset();
        } else {
            tls.half_close();
            assert_ne!(tls.rest().get(9..12), Some(&b"200"[..]));
        }
    }
    assert_eq!(scene.relay.post("/v1/capacity", CAPACITY).status, 200);
    assert_eq!((scene.counted(), scene.relay.records("license.consumption.report").len()), (1, 1));
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let scene = Scene::new();
    scene.stub.trouble("delay=300ms*1");
    let mut tls = Tls::new(&scene.relay);
    tls.send(tls::post("/v1/capacity", CAPACITY));
    tls.half_close();
    let reply = tls.reply();
    assert_eq!(reply.status(), 200, "{reply:?}");
    assert!(reply.text().contains("\"total\":242"), "{reply:?}");
    assert!(tls.rest().is_empty(), "bytes behind the reply");
}
