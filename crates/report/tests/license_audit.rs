//! `license-audit` reads a log with nothing of a relay around it: what the relay's own program says, this one says.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../../../tests/it/common/made.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests use the rest")]
mod made;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use made::Made;
use relay_log::ledger::action::Action;
use relay_log::ledger::record::Record;
use serde_json::Value;
use uuid::Uuid;

const SOURCE: &str = "fbe89d02-6d24-4595-915e-c52ce76f2195";

/// A signed log of some syncs of one source.
fn log(folder: &Path) -> String {
    let log = folder.join("audit");
    let mut made = Made::begin(&log, "license-relay/of-the-test");
    for minute in 0..30 {
        let mut record = Record::new(Action::SyncRequest, Uuid::from_u128(minute + 1));
        record.qlik.source_id = Some(SOURCE.into());
        record.qlik.license = Some("9999000000001253".into());
        let at = format!("2026-05-01T00:{minute:02}:00Z").parse().unwrap();
        made.write(at, &[record]);
    }
    made.sign();
    log.display().to_string()
}

/// With no configuration in reach, and none in the environment.
fn license_audit(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_license-audit"));
    command.args(arguments).current_dir(folder).env_clear().output().unwrap()
}

#[test]
fn it_reads_a_log_that_is_named_and_says_what_is_missing_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let (here, log) = (folder.path(), log(folder.path()));
    let run = |arguments: &[&str]| license_audit(here, arguments);
    let text =
        |output: &Output| String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();

    let verified = run(&["verify", "--log", &log, "--json"]);
    let said: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!((verified.status.code(), &said["records"]), (Some(0), &30.into()), "{said:#}");

    let list = here.join("sources.toml");
    fs::write(&list, format!("[[source]]\nname = \"Site B\"\nid = \"{SOURCE}\"\nmade_up = 1\n")).unwrap();
    let deployments = run(&["deployments", "--log", &log, "--sources", list.to_str().unwrap()]);
    assert!(text(&deployments).contains("Site B"), "{}", text(&deployments));

    let path = here.join("report.html");
    let report = run(&["report", "--log", &log, "--out", path.to_str().unwrap()]);
    assert_eq!(report.status.code(), Some(0), "{}", text(&report));
    let page = fs::read_to_string(&path).unwrap();
    assert!(page.contains("license-audit report") && page.contains("<code>license-audit kit</code>"));
    assert!(!page.contains("license-relay audit"), "all commands on it are of the program that made it");

    let proved = run(&["prove", "--log", &log, "--seq", "7"]);
    assert!(text(&proved).contains("to check it: license-audit prove --check"), "{}", text(&proved));

    let missing = run(&["state"]);
    assert_eq!(missing.status.code(), Some(64));
    assert!(text(&missing).starts_with("license-audit: --log is missing"), "{}", text(&missing));

    let help = text(&run(&["state", "--help"]));
    assert!(help.contains("license-audit state --at") && !help.contains("license-relay"), "{help}");
    let verbs: Vec<String> = {
        let all = text(&run(&["--help"]));
        let listed =
            all.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().map(str::to_owned)).collect()
    };
    let is_verb = |verb: &&String| !verb.is_empty() && *verb != "help";
    assert!(verbs.iter().filter(is_verb).count() >= 14, "{verbs:?}");
    for verb in verbs.iter().filter(is_verb) {
        let help = text(&run(&[verb, "--help"]));
        assert!(!help.contains("configured one"), "there is no configuration: {help}");
        // Each begins behind two spaces; what is long goes on in the next line.
        for example in help.split("\n  license-audit ").skip(1) {
            let reads = example.contains("--log ") || example.contains("--check ");
            assert!(reads, "that reads no log: {example}");
        }
    }
    assert_eq!(run(&["serve"]).status.code(), Some(64), "it has no verb of a relay");

    let segment = Path::new(&log).join("segments/00000000000000000000.jsonl");
    let bent = fs::read_to_string(&segment).unwrap().replacen("9999000000001253", "9999000000001254", 1);
    fs::write(&segment, bent).unwrap();
    assert_eq!(run(&["verify", "--log", &log]).status.code(), Some(1));
}
