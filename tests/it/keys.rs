//! The keys of pseudonyms: a roll-over keeps people's history joined, a destroyed key is gone, and whatever a kill leaves
//! of either is gone on from.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use relay_log::ledger::subject::Subject;
use relay_log::ledger::subject::SubjectCase;
use relay_log::ledger::subject::keys::Keys;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::*;

/// A relay that has seen people and was stopped.
fn lived() -> (Stub, Relay, TempDir) {
    let (stub, mut relay, folder) = pair();
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    assert!(relay.stop().success());
    (stub, relay, folder)
}

/// Exit code and all that was said, in which there is neither a name nor a key.
fn parts(output: &Output, certs: &Path) -> (i32, String) {
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert!(!said.to_lowercase().contains("bob"), "{said}");
    for (name, text) in files(certs) {
        let secret = text.trim().split_once(':').map(|(_, secret)| secret.to_owned()).unwrap_or_default();
        assert!(secret.is_empty() || !said.contains(&secret), "{name} is shown: {said}");
    }
    (output.status.code().unwrap(), said)
}

fn key(relay: &Relay, arguments: &[&str]) -> (i32, String) {
    let output = relay.verb(&[&["audit", "key"], arguments].concat());
    parts(&output, &relay.path("certs"))
}

/// `audit key destroy`, with this typed.
fn destroy(relay: &Relay, id: &str, typed: &str) -> (i32, String) {
    let mut command = program();
    command.arg("--config").arg(relay.path("relay.toml")).args(["audit", "key", "destroy", id]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that refuses before it asks reads nothing.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    parts(&child.wait_with_output().unwrap(), &relay.path("certs"))
}

/// What lies there of subject keys: name and content.
fn files(certs: &Path) -> Vec<(String, String)> {
    let mut found: Vec<_> = fs::read_dir(certs)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().contains("subject.key"))
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    found.sort();
    found
}

fn names(relay: &Relay) -> Vec<String> {
    files(&relay.path("certs")).into_iter().map(|(name, _)| name).collect()
}

/// Ids and states, as `audit key list --json` has them.
fn listed(relay: &Relay) -> Vec<(Option<String>, String)> {
    let output = relay.verb(&["audit", "key", "list", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    rows.iter()
        .map(|row| {
            assert!(text(&row["made"]).unwrap().ends_with('Z'), "{row}");
            (text(&row["id"]), text(&row["state"]).unwrap())
        })
        .collect()
}

fn newest(relay: &Relay) -> String {
    listed(relay)[0].0.clone().unwrap()
}

fn pseudonym(record: &Value) -> String {
    record["user"]["target"]["hash"].as_str().unwrap_or_default().to_owned()
}

/// What stands for the person of the last sync.
fn last_person(relay: &Relay) -> String {
    pseudonym(relay.records("license.assignment.add").last().unwrap())
}

#[track_caller]
fn verifies(relay: &Relay) {
    let output = relay.verb(&["audit", "verify"]);
    assert!(output.status.success(), "{output:?}");
}

fn done(relay: &Relay) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    relay
        .records("audit.key")
        .iter()
        .map(|record| (text(&record["event"]["reason"]), text(&record["qlik"]["key_id"])))
        .collect()
}

/// A copy of a stopped relay's folder, and a verb on it that is killed at its so-manieth call that changes a file.
struct Doomed(PathBuf);

impl Doomed {
    fn copy(relay: &Relay, to: &Path) -> Self {
        let copied = run(tool("cp", "coreutils").arg("-r").arg(relay.folder.path()).arg(to));
        assert!(copied.status.success(), "{copied:?}");
        Self(to.to_owned())
    }

    fn verb(&self, mut command: Command, arguments: &[&str]) -> Output {
        run(command.arg("--config").arg(self.0.join("relay.toml")).arg("audit").args(arguments))
    }

    /// Counts calls of one kind in the main thread, which does all that is done to keys. `None` where nothing can be traced.
    fn killed_at(&self, (call, at): (&str, u32), arguments: &[&str]) -> Option<Output> {
        let mut strace = strace(&["-qq", "-e", &format!("trace={call}"), "-e"])?;
        strace.arg(format!("inject={call}:signal=KILL:when={at}")).arg("-o").arg(self.0.join("strace"));
        strace.arg(env!("CARGO_BIN_EXE_license-relay"));
        Some(self.verb(strace, arguments))
    }

    fn people(&self) -> Vec<(String, String)> {
        let keys = Keys::read(&self.0.join("certs/subject.key"), SubjectCase::Fold).unwrap();
        keys.of_all(&Subject::new("acme\\bob"))
    }

    fn records(&self, what: &str) -> usize {
        let log = fs::read_to_string(self.0.join("audit/segments/00000000000000000000.jsonl")).unwrap();
        let of_key = log.lines().filter(|line| line.contains("\"audit.key\""));
        of_key.filter(|line| line.contains(&format!("\"reason\":\"{what}\""))).count()
    }

    fn verifies(&self) {
        let output = self.verb(program(), &["verify"]);
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_persons_history_stays_joined_over_a_new_key_and_the_old_one_can_be_destroyed() {
    let (_stub, relay, _folder) = lived();
    let (before, old) = (last_person(&relay), newest(&relay));
    let (code, said) = key(&relay, &["new"]);
    assert_eq!(code, 0, "{said}");
    let new = newest(&relay);
    assert_eq!(new, format!("{old}-2"));
    assert!(said.contains(&new) && said.contains("Back up"), "{said}");
    let state = |id: &str, state: &str| (Some(id.to_owned()), state.to_owned());
    assert_eq!(listed(&relay), [state(&new, "newest"), state(&old, "retired")]);
    let (code, said) = key(&relay, &["list"]);
    assert!(code == 0 && said.contains("newest") && said.contains(&format!("subject.key.{old}")), "{said}");
    verifies(&relay);

    let mut relay = relay.again();
    assert_eq!(relay.records("relay.start")[1]["qlik"]["previous_stop"], "clean");
    assert!(relay.records("audit.recovered").is_empty());
    for _ in 0..3 {
        assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    }
    let after = last_person(&relay);
    assert!(after.starts_with(&format!("hmac-sha256:{new}:")), "{after}");
    let log = relay.log();
    let aliases: Vec<&Value> =
        log.iter().filter(|record| record["event"]["action"] == "audit.alias").collect();
    let of_person: Vec<&&Value> = aliases.iter().filter(|record| pseudonym(record) == after).collect();
    assert_eq!(of_person.len(), 1, "{aliases:#?}");
    assert_eq!(of_person[0]["qlik"]["alias_of"], before.as_str());
    let named = log.iter().find(|record| pseudonym(record) == after && **record != **of_person[0]).unwrap();
    assert!(named["event"]["sequence"].as_u64() > of_person[0]["event"]["sequence"].as_u64());
    assert_eq!(named["event"]["id"], of_person[0]["event"]["id"], "of one batch");
    for alias in &aliases {
        let known =
            log.iter().any(|record| Some(pseudonym(record).as_str()) == alias["qlik"]["alias_of"].as_str());
        assert!(known, "nobody was ever called {alias}");
    }

    for arguments in [&["new"][..], &["destroy", &old, "--yes"]] {
        let (code, said) = key(&relay, arguments);
        assert_eq!(code, 75, "{said}");
    }
    let linked = aliases.len();
    assert!(relay.stop().success());
    let mut relay = relay.again();
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    assert_eq!(relay.records("audit.alias").len(), linked, "once a person, and not once a run");
    assert!(relay.stop().success());
    let kept = files(&relay.path("certs"));
    let lines = relay.log().len();
    for wrong in ["", "\n", "yes\n", "k\n", &format!("{old}x\n"), &format!("{old} \n"), &format!("{new}\n")] {
        let (code, said) = destroy(&relay, &old, wrong);
        assert_eq!(code, 64, "{wrong:?}: {said}");
        assert!(said.contains("nothing was destroyed") && said.contains("can't be resolved"), "{said}");
    }
    for (id, words) in
        [(&*new, "is the newest key"), ("k1999", "there is no retired key"), ("../log.key", "there is no")]
    {
        let (code, said) = key(&relay, &["destroy", id, "--yes"]);
        assert!(code == 64 && said.contains(words), "{code} {said}");
    }
    assert_eq!((files(&relay.path("certs")), relay.log().len()), (kept.clone(), lines));

    let (code, said) = destroy(&relay, &old, &format!("{old}\n"));
    assert!(code == 0 && said.contains("is destroyed"), "{said}");
    assert_eq!(names(&relay), ["subject.key"]);
    let what = |what: &str, id: &str| (what.to_owned(), id.to_owned());
    assert_eq!(done(&relay), [what("retired", &old), what("made", &new), what("destroyed", &old)]);
    verifies(&relay);
    let mut relay = relay.again();
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    assert_eq!(last_person(&relay), after);
    assert_eq!(relay.records("audit.alias").len(), linked);
    assert_eq!(relay.records("relay.start")[3]["qlik"]["previous_stop"], "clean");
    assert!(relay.stop().success());
    verifies(&relay);
    for (_, text) in kept {
        let secret = text.trim().split_once(':').unwrap().1;
        assert!(!relay.log_text().contains(secret) && !relay.stderr().contains(secret), "a key is in a log");
    }
    // An id is never given again.
    assert_eq!(key(&relay, &["new"]).0, 0);
    assert!(newest(&relay).ends_with("-3"), "{}", newest(&relay));
}

#[test]
fn whatever_a_kill_leaves_of_a_new_key_the_relay_starts_on_it_and_the_next_try_goes_on() {
    for temporary in [false, true] {
        let (_stub, relay, _folder) = lived();
        let (before, old) = (last_person(&relay), newest(&relay));
        let newest_file = relay.path("certs/subject.key");
        fs::hard_link(&newest_file, relay.path(&format!("certs/subject.key.{old}"))).unwrap();
        if temporary {
            let left = relay.path("certs/.subject.key.0123456789abcdef.tmp");
            fs::write(&left, format!("{old}-2:{}\n", "7b".repeat(32))).unwrap();
            fs::set_permissions(left, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let secret = fs::read_to_string(&newest_file).unwrap();
        let mut relay = relay.again();
        assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
        assert_eq!(last_person(&relay), before);
        assert!(relay.records("audit.alias").is_empty());
        assert!(relay.stop().success());
        assert_eq!(listed(&relay), [(Some(old.clone()), "newest".to_owned())]);
        let (code, said) = key(&relay, &["destroy", &old, "--yes"]);
        assert_eq!(code, 64, "under its second name it is the newest still: {said}");
        let (code, said) = key(&relay, &["new"]);
        assert_eq!(code, 0, "{said}");
        assert_eq!(names(&relay), ["subject.key", &format!("subject.key.{old}")]);
        let files = files(&relay.path("certs"));
        assert_eq!(files[1].1, secret, "nothing was written over");
        assert!(files[0].1.starts_with(&format!("{old}-2:")) && !files[0].1.contains("7b7b"), "{files:?}");
    }
}

#[test]
fn a_destroy_that_was_killed_is_told_and_finished_by_the_next() {
    let (_stub, relay, _folder) = lived();
    let old = newest(&relay);
    assert_eq!(key(&relay, &["new"]).0, 0);
    let file = relay.path(&format!("certs/subject.key.{old}"));
    fs::write(&file, "0".repeat(70)).unwrap();
    let mut relay = relay.again();
    assert!(relay.stderr().contains("it is not used"), "{}", relay.stderr());
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    assert!(relay.records("audit.alias").is_empty());
    assert!(relay.stop().success());
    assert_eq!(listed(&relay)[1], (None, "unusable".to_owned()));
    assert_eq!(key(&relay, &["destroy", &old, "--yes"]).0, 0);
    assert_eq!(names(&relay), ["subject.key"]);
}

#[test]
fn that_the_relay_was_killed_is_still_known_after_a_key_was_made() {
    let (_stub, mut relay, _folder) = pair();
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    relay.signal("KILL");
    relay.wait();
    let (code, said) = key(&relay, &["new"]);
    assert_eq!(code, 0, "{said}");
    let relay = relay.again();
    assert_eq!(relay.records("relay.start")[1]["qlik"]["previous_stop"], "unclean");
}

#[test]
fn a_newest_key_that_is_gone_is_not_made_anew_beside_a_retired_one() {
    let (_stub, relay, _folder) = lived();
    assert_eq!(key(&relay, &["new"]).0, 0);
    fs::remove_file(relay.path("certs/subject.key")).unwrap();
    for arguments in [&["new"][..], &["destroy", "k1999", "--yes"]] {
        let (code, said) = key(&relay, arguments);
        assert!(code == 78 && said.contains("subject.key"), "{code} {said}");
    }
    let (status, said) = relay.into_plan().refuses_to_start();
    assert!(status.code() == Some(78) && said.contains("put it back"), "{said}");
}

#[test]
fn without_a_log_there_is_nothing_to_record_a_new_key_in_and_the_raw_form_has_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub);
    plan.write();
    let verb = |plan: &Plan, arguments: &[&str]| {
        let output = run(program()
            .arg("--config")
            .arg(plan.path("relay.toml"))
            .args(["audit", "key"])
            .args(arguments));
        let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
        (output.status.code().unwrap(), said)
    };
    let (code, said) = verb(&plan, &["new"]);
    assert!(code == 78 && said.contains("a relay makes one when it starts"), "{said}");
    let (code, said) = verb(&plan, &["list"]);
    assert!(code == 0 && said.contains("makes the first key when it starts"), "{said}");
    assert!(!plan.path("audit").exists() && !plan.path("certs").exists());

    let relay = plan.with("[audit]", "[audit]\nsubject = \"raw\"").start();
    // Numbers of refused deployments are made under it; no pseudonym is, so the verb has nothing to do with it.
    assert!(relay.path("certs/subject.key").exists());
    for arguments in [&["new"][..], &["destroy", "k2025", "--yes"]] {
        let (code, said) = key(&relay, arguments);
        assert!(code == 78 && said.contains("there are no keys"), "{code} {said}");
    }
    let (code, said) = key(&relay, &["list"]);
    assert!(code == 0 && said.contains("there are no keys"), "{said}");
    assert!(listed(&relay).is_empty());
}

/// The calls that change a file, as strace groups them.
const CALLS: [&str; 5] =
    ["link,linkat", "write", "fsync,fdatasync", "rename,renameat,renameat2", "unlink,unlinkat"];

/// Runs a verb on copies of a stopped relay's folder, killed at every call there is, and has each of them looked at:
/// where it was killed, if it was.
fn kill_everywhere(
    relay: &Relay,
    copies: &Path,
    arguments: &[&str],
    mut look: impl FnMut(&Doomed, bool, &str),
) {
    for call in CALLS {
        for at in 1.. {
            let site = Doomed::copy(relay, &copies.join(format!("{}{call}{at}", arguments[1])));
            let Some(output) = site.killed_at((call, at), arguments) else { return };
            let whole = output.status.success();
            look(&site, whole, &format!("{call} {at}"));
            site.verifies();
            if whole {
                break;
            }
        }
    }
}

#[test]
fn a_verb_that_is_killed_at_any_call_has_lost_no_key_and_is_gone_on_from() {
    let (_stub, relay, folder) = lived();
    let old = newest(&relay);
    let before = Doomed(relay.folder.path().to_owned()).people();
    let (mut kills, mut between) = (0, 0);
    kill_everywhere(&relay, folder.path(), &["key", "new"], |site, whole, call| {
        let left = site.people();
        assert!(left.contains(&before[0]), "{call}: the key is lost");
        assert!(left.len() == 1 || site.records("made") == 1, "{call}: made, and not recorded");
        between += u32::from(left.len() == 1 && site.records("made") == 1);
        if !whole {
            kills += 1;
            let again = site.verb(program(), &["key", "new"]);
            assert!(again.status.success(), "{call}: {again:?}");
        }
        let now = site.people();
        assert!(now.len() > 1 && now.contains(&before[0]) && now[0].0 != old, "{call}: {now:?}");
        assert_eq!(files(&site.0.join("certs")).len(), now.len(), "{call}: something was left");
    });
    assert!(kills >= 6 && between > 0, "{kills}, {between} of them between the record and the rename");

    assert_eq!(key(&relay, &["new"]).0, 0);
    let file = format!("certs/subject.key.{old}");
    (kills, between) = (0, 0);
    kill_everywhere(&relay, folder.path(), &["key", "destroy", &old, "--yes"], |site, whole, call| {
        let untouched = fs::read(site.0.join(&file)).ok() == fs::read(relay.path(&file)).ok();
        assert!(untouched || site.records("destroyed") == 1, "{call}: destroyed, and not recorded");
        between += u32::from(untouched && site.records("destroyed") == 1);
        if !whole {
            kills += 1;
            let again = site.verb(program(), &["key", "destroy", &old, "--yes"]);
            assert!(matches!(again.status.code(), Some(0 | 64)), "{call}: {again:?}");
        }
        assert_eq!(site.people().len(), 1, "{call}");
        assert!(!site.0.join(&file).exists() && site.records("destroyed") > 0, "{call}");
    });
    assert!(kills >= 6 && between > 0, "{kills}, {between} of them between the record and the key");
}
