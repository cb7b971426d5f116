//! A short history told by hand: what happened when, in one log or several.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use jiff::{SignedDuration, Timestamp};
use license_relay::licensing::message::Change;
use relay_log::ledger::action::Action;
use relay_log::ledger::record::Record;
use relay_log::ledger::subject::Pseudonyms;
use relay_log::ledger::subject::{SubjectCase, SubjectForm};
use serde_json::Value;
use tempfile::TempDir;

use super::made::Made;
use super::scenes::{self, Assignment, Deployment, Exchange, Unit};
use super::{program, run};

/// One log that is being told.
pub struct Story {
    pub log: PathBuf,
    pub names: Pseudonyms,
    begin: Timestamp,
    made: Made,
    number: u128,
}

impl Story {
    /// Begins a log of this name in a folder; minutes are counted from then. All of one folder share the subject key.
    pub fn begin(folder: &Path, name: &str, begin: &str) -> Self {
        let log = folder.join(name);
        let key = folder.join("subject.key");
        let names = Pseudonyms::open_or_make(&key, SubjectForm::HmacSha256, SubjectCase::Fold).unwrap();
        let made = Made::begin(&log, &format!("license-relay/{name}"));
        // No two exchanges have one id, whatever log they are in.
        let number = name.bytes().fold(0, |number, byte| number << 8 | u128::from(byte)) << 64;
        Self { log, names, begin: begin.parse().unwrap(), made, number }
    }

    /// A log in a folder of its own.
    pub fn alone(begin: &str) -> (TempDir, Self) {
        let folder = tempfile::tempdir().unwrap();
        let story = Self::begin(folder.path(), "log", begin);
        (folder, story)
    }

    /// A segment is sealed once it has so many records.
    pub fn segments_of(mut self, records: u64) -> Self {
        self.made = self.made.segments_of(records);
        self
    }

    /// When a minute is.
    pub fn time(&self, minute: i64) -> Timestamp {
        self.begin + SignedDuration::from_mins(minute)
    }

    fn next(&mut self) -> u128 {
        self.number += 1;
        self.number
    }

    /// Records that are made by hand.
    pub fn write(&mut self, minute: i64, records: &[Record]) {
        self.made.write(self.time(minute), records);
    }

    /// A sync from one version to another, asked and told at once.
    pub fn sync(
        &mut self,
        minute: i64,
        by: &Deployment,
        from: u64,
        asked: &[Assignment],
        to: u64,
        told: &[Assignment],
    ) {
        let exchange = Exchange::sync(self.next(), by, from, asked);
        let time = self.time(minute);
        self.made.write(time, &exchange.intent(&self.names));
        self.made.write(time, &exchange.told(time, to, told, &self.names));
    }

    /// Nothing asked, nothing told, every ten minutes, both ends included.
    pub fn idle(&mut self, minutes: std::ops::RangeInclusive<i64>, by: &Deployment, base: u64) {
        for minute in minutes.step_by(10) {
            self.sync(minute, by, base, &[], base, &[]);
        }
    }

    /// A sync that the relay could not send, or of which it does not know what became.
    pub fn lost(&mut self, minute: i64, by: &Deployment, from: u64, asked: &[Assignment], sent: bool) {
        let exchange = Exchange::sync(self.next(), by, from, asked);
        self.write(minute, &exchange.intent(&self.names));
        self.write(minute, &exchange.lost(sent));
    }

    /// A sync that the back end answers with an error.
    pub fn failed(&mut self, minute: i64, by: &Deployment, from: u64, asked: &[Assignment]) {
        let exchange = Exchange::sync(self.next(), by, from, asked);
        let time = self.time(minute);
        self.made.write(time, &exchange.intent(&self.names));
        self.made.write(time, &exchange.failed(time, 503, &self.names));
    }

    /// Asked, and nothing more.
    pub fn asked(&mut self, minute: i64, by: &Deployment, from: u64, asked: &[Assignment]) {
        let exchange = Exchange::sync(self.next(), by, from, asked);
        self.write(minute, &exchange.intent(&self.names));
    }

    pub fn refused(&mut self, minute: i64, by: &Deployment) {
        let record = scenes::refused(self.next(), Action::AccessDenied, by, "source is not allowed", None);
        self.write(minute, &[record]);
    }

    pub fn limited(&mut self, minute: i64, by: &Deployment) {
        let record = scenes::refused(self.next(), Action::AccessLimited, by, "too many requests", None);
        self.write(minute, &[record]);
    }

    pub fn started(&mut self, minute: i64, previous_stop: Option<&'static str>) {
        let record = scenes::started(self.next(), previous_stop);
        self.write(minute, &[record]);
    }

    pub fn stopped(&mut self, minute: i64) {
        let record = scenes::stopped(self.next());
        self.write(minute, &[record]);
    }

    pub fn heartbeat(&mut self, minute: i64) {
        let record = scenes::heartbeat(self.next());
        self.write(minute, &[record]);
    }

    pub fn defined(&mut self, minute: i64, by: &Deployment, units: &[Unit]) {
        let exchange = Exchange::definition(self.next(), by);
        let time = self.time(minute);
        self.made.write(time, &exchange.defined(time, units, &self.names));
    }

    /// Analyzer time of a month that was used, and what the back end says of it in all; `None`: it says nothing.
    pub fn used(&mut self, minute: i64, by: &Deployment, month: &str, delta: i64, total: Option<i64>) {
        let exchange = Exchange::capacity(self.next(), by, &[("analyzer_time", month, delta)]);
        let time = self.time(minute);
        self.made.write(time, &exchange.intent(&self.names));
        let end = match total {
            Some(total) => exchange.totals(time, &[("analyzer_time", month, total)], &self.names),
            None => exchange.lost(true),
        };
        self.made.write(time, &end);
    }

    /// Signs it; gives the log's folder.
    pub fn end(self) -> PathBuf {
        self.made.end();
        self.log
    }

    /// Signs what is there so far, as a relay that runs on.
    pub fn sign(&mut self) {
        self.made.sign();
    }
}

/// Asked or told: this person gets access.
pub fn add(allotment: &str, person: &str) -> Assignment {
    Assignment::new(Change::Add, allotment, person)
}

/// Asked or told: this person loses it.
pub fn delete(allotment: &str, person: &str) -> Assignment {
    Assignment::new(Change::Delete, allotment, person)
}

/// Units of an allotment, for named users.
pub fn units(allotment: &str, count: i64, from: &str, to: &str, overage: Option<&str>) -> Unit {
    Unit {
        allotment: allotment.to_owned(),
        access_type: allotment.to_owned(),
        class: "assigned".to_owned(),
        count,
        valid: (from.to_owned(), to.to_owned()),
        overage: overage.map(str::to_owned),
    }
}

/// A verb over these logs.
pub fn audit(logs: &[&Path], verb: &[&str]) -> Output {
    let mut command = program();
    command.arg("audit").args(verb);
    for log in logs {
        command.arg("--log").arg(log);
    }
    run(&mut command)
}

/// What a verb says to programs, of logs that are fine; exit code 4 says of `gaps` that there are some.
pub fn answer(logs: &[&Path], verb: &[&str]) -> Value {
    let output = audit(logs, &[verb, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    let fits = code == Some(0) || (code == Some(4) && verb[0] == "gaps");
    assert!(fits, "{verb:?}: {code:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{verb:?}: {e}"))
}

/// Some columns of all rows, as text; what is not there is `-`.
pub fn columns(answer: &Value, names: &[&str]) -> Vec<String> {
    let cell = |row: &Value, name: &str| match &row[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows = answer["rows"].as_array().unwrap_or_else(|| panic!("no rows: {answer:#}"));
    rows.iter().map(|row| names.iter().map(|name| cell(row, name)).collect::<Vec<_>>().join(" ")).collect()
}

/// All bytes of a log's folder, by path, to see that nothing of it has changed.
pub fn bytes_of(log: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![log.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all.push((path.clone(), Vec::new()));
                folders.push(path);
            } else {
                all.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    all.sort();
    all
}
