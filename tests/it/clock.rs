//! A clock that is set while the relay runs, or was wrong when it started: the log keeps the time as it was told, its
//! order by number, and says by how much the clock was set; the next handshake shows a leaf that is valid; limits,
//! tickets and kept connections go by the other clock, which nobody sets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use relay_log::ledger::segment::{self, Lines};
use relay_log::verify::log::{Verdict, verify};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use x509_parser::prelude::*;

use crate::common::tls::Tls;
use crate::common::*;

const HOUR: f64 = 3600.0;
const YEAR: f64 = 365.0 * 24.0 * HOUR;

/// Debian's libfaketime, wherever its architecture puts it.
fn library() -> PathBuf {
    tool("faketime", "faketime");
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found =
        folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    found.next().expect("libfaketime is not installed; run: apt-get install faketime")
}

fn set(clock: &Path, offset: &str) {
    // Put there whole: it is read at every look at the clock.
    let new = clock.with_extension("new");
    fs::write(&new, offset).unwrap();
    fs::rename(new, clock).unwrap();
}

/// What a relay is started under, so that it sees this clock. The other clock goes on as it does when somebody sets the
/// time.
fn under(clock: &Path) -> Command {
    let mut env = tool("env", "coreutils");
    env.arg(format!("LD_PRELOAD={}", library().display()));
    env.arg(format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()));
    env.args(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"]);
    env
}

/// The clock shows 2001, as with a dead battery.
const IN_2001: &str = "@2001-03-06 12:00:00";

/// All records, of whichever segment.
fn all(relay: &Relay) -> Vec<Value> {
    let mut all = Vec::new();
    for segment in segment::list(&relay.path("audit")).unwrap() {
        // One that is put away meanwhile has another name.
        let Ok(mut lines) = Lines::of(&segment) else { return self::all(relay) };
        while let Some((b'\n', line)) = lines.next_line().unwrap().split_last() {
            all.push(serde_json::from_slice(line).unwrap());
        }
    }
    all
}

/// By how much the clock was set, each time.
fn steps(relay: &Relay) -> Vec<f64> {
    let steps = all(relay).into_iter().filter(|record| record["event"]["action"] == "relay.clock_step");
    steps.map(|record| record["qlik"]["delta"].as_f64().unwrap()).collect()
}

#[track_caller]
fn about(step: f64, wanted: f64) {
    assert!((step - wanted).abs() < 5.0, "{step} and not {wanted}");
}

#[test]
fn a_clock_set_back_an_hour_and_ahead_a_year_is_told_with_the_difference_and_the_order_stays() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let clock = folder.path().join("clock");
    set(&clock, "+0");
    let mut relay = Plan::new(&stub).start_under(under(&clock));
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    assert!(steps(&relay).is_empty());

    set(&clock, "-1h");
    eventually("the first step is told", || (steps(&relay).len() == 1).then_some(()));
    about(steps(&relay)[0], -HOUR);
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    set(&clock, "+365d");
    eventually("the second step is told", || (steps(&relay).len() == 2).then_some(()));
    about(steps(&relay)[1], YEAR + HOUR);
    assert!(relay.stop().success());

    // At the next start, by the right time: the last record is a year ahead.
    let mut relay = relay.again();
    eventually("the third step is told", || (steps(&relay).len() == 3).then_some(()));
    about(steps(&relay)[2], -YEAR);
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    assert!(relay.stop().success());

    let log = all(&relay);
    let sequences: Vec<u64> =
        log.iter().map(|record| record["event"]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (0..log.len() as u64).collect::<Vec<_>>());
    let times: Vec<&str> = log.iter().map(|record| record["@timestamp"].as_str().unwrap()).collect();
    assert!(!times.is_sorted(), "the time is not kept as it was told");
    // Each day that was, and no other, has its segments: also after the clock was set back.
    let firsts = segment::list(&relay.path("audit")).unwrap();
    assert!(firsts.len() >= 3, "{firsts:?}");
    let reports = log.iter().filter(|record| record["event"]["action"] == "license.consumption.report");
    let reported: i64 = reports.map(|record| record["qlik"]["delta"].as_i64().unwrap()).sum();
    assert_eq!(reported, stub.consumption());
    let end = verify(&relay.path("audit"), &[], |_| {}).unwrap();
    assert_eq!((end.verdict(), end.unsigned), (Verdict::Fine, 0), "{end:#?}");
}

/// `openssl s_client` to the host with these arguments: what it said.
fn s_client(relay: &Relay, more: &[&str]) -> String {
    let address = relay.address.to_string();
    let mut client = tool("openssl", "openssl");
    client.args(["s_client", "-connect", &address, "-servername", HOST, "-tls1_2"]);
    all_said(&run(client.args(more)))
}

/// From when the leaf that is shown, the issuer and the root are valid, in seconds since 1970.
fn begins(relay: &Relay) -> [i64; 3] {
    let shown = s_client(relay, &["-showcerts"]);
    let mut chain: Vec<CertificateDer<'_>> =
        CertificateDer::pem_slice_iter(shown.as_bytes()).take(2).map(Result::unwrap).collect();
    chain.push(CertificateDer::from_pem_file(relay.root()).unwrap());
    let begins = chain.iter().map(|der| {
        let certificate = X509Certificate::from_der(der).unwrap().1;
        certificate.validity().not_before.timestamp()
    });
    begins.collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn a_clock_400_days_ahead_at_the_first_start_and_while_it_runs_costs_nothing_once_it_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let clock = folder.path().join("clock");
    set(&clock, "+400d");
    let mut relay = Plan::new(&stub).start_under(under(&clock));
    assert_eq!(relay.admin("/readyz").0, 200, "by its own clock all is well");
    let now = ASN1Time::now().timestamp();
    assert!(begins(&relay)[0] > now);

    for _ in 0..2 {
        set(&clock, "+0");
        // Clients that go by the right time: the first one is served.
        assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200, "{}", relay.stderr());
        assert!(begins(&relay).iter().all(|begin| *begin < now));
        assert_eq!(relay.curl_tls_proxy(&[&format!("https://{HOST}/")]).status, 404);
        eventually("it is ready", || (relay.admin("/readyz").0 == 200).then_some(()));
        set(&clock, "+400d");
        eventually("a leaf of that time is shown", || (begins(&relay)[0] > now).then_some(()));
    }
    assert!(relay.stop().success());
    let mut relay = relay.again();
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    assert!(relay.stop().success());
}

#[test]
fn a_clock_that_shows_2001_at_the_first_start_and_at_later_ones_is_told_and_costs_nothing_once_it_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let clock = folder.path().join("clock");
    let mut plan = Plan::new(&stub);
    for start in ["the first", "a later"] {
        set(&clock, IN_2001);
        let mut relay = plan.start_under(under(&clock));
        let (status, why) = relay.admin("/readyz");
        assert_eq!(status, 503, "{start}");
        assert!(why.contains("the certificate for") && why.contains("the clock shows 2001-03-06T"), "{why}");
        let built = ASN1Time::from_timestamp(1_793_491_200).unwrap();
        assert!(begins(&relay).iter().all(|begin| *begin >= built.timestamp()), "dated before the build");
        eventually("it is told", || relay.stderr().contains("clients refuse this relay").then_some(()));

        set(&clock, "+0");
        assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200, "{}", relay.stderr());
        eventually("it is ready", || (relay.admin("/readyz").0 == 200).then_some(()));
        assert!(relay.stop().success());
        plan = relay.into_plan();
    }
}

#[test]
fn limits_tickets_and_kept_connections_do_not_feel_a_clock_that_jumps_by_a_year() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let clock = folder.path().join("clock");
    set(&clock, "+0");
    let full = "per_source = { requests = 100000, per = \"1s\", burst = 100000 }";
    let limit = "per_source = { requests = 2, per = \"1h\", burst = 2 }";
    let mut relay = Plan::new(&stub).with(full, limit).start_under(under(&clock));
    let mut kept = Tls::new(&relay);
    let mut quiet = Tls::new(&relay);
    assert_eq!(quiet.ask(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).status(), 404);
    for status in [200, 200, 429] {
        assert_eq!(kept.post("/v1/sync", IDLE).status(), status);
    }
    let session = folder.path().join("session");
    let session = session.to_str().unwrap();
    assert!(s_client(&relay, &["-sess_out", session]).contains("New, TLSv1.2"));

    for (told, time) in ["+365d", "+0", "-365d", "+0"].into_iter().enumerate() {
        set(&clock, time);
        eventually("the step is told", || (steps(&relay).len() == told + 1).then_some(()));
        // It doesn't take the leaf of that time amiss.
        let refused = relay.curl(&["-k", "-d", IDLE, &format!("https://{HOST}/v1/sync")]);
        assert_eq!(refused.status, 429, "{time}");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=3600).contains(&wait), "{time}: {wait} s");
        assert!(s_client(&relay, &["-sess_in", session]).contains("Reused, TLSv1.2"), "{time}");
        assert!(quiet.is_quiet(), "{time}: a kept connection was closed");
    }
    assert_eq!(quiet.ask(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).status(), 404);
    assert!(relay.stop().success());
}
