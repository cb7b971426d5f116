//! Every verb that writes, and a first start, killed before each call that changes a file, and each of their calls made to
//! fail: what is there after that is the old or the new state, whole; `check` and `serve` agree that it is fine; the same
//! command again mends it; no root, key or user is lost; and the exit code tells what is there.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::errno::Errno;
use relay_log::verify::log::{Verdict, verify};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::length::by_length;
use crate::common::traced::{Call, End, Fault, Kind, Traced};
use crate::common::worlds::{self, base, copied, done, files, json, quick, serves, verb};
use crate::common::*;

/// What a verb has made of a world.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Old,
    New,
    /// Some of several steps are done; only verbs that say so may leave this.
    Between,
}
use State::{Between, New, Old};

/// A verb, and how to tell what it has done.
struct Verb {
    arguments: Vec<String>,
    input: &'static str,
    /// What it is run on.
    world: TempDir,
    /// What it has made of the world, by the worlds before it and after an undisturbed run.
    state: fn(before: &Path, after: &Path, now: &Path) -> Result<State, String>,
    /// What it may change; everything else stays as it was, byte for byte.
    touches: &'static [&'static str],
    /// How it ends where it finds the new state; empty where it does its work once more.
    again: &'static [i32],
    /// Whether it has several steps, of which some may be done.
    steps: bool,
    /// A file that may be left and is to be removed by hand, as the same command then says.
    in_the_way: Option<&'static str>,
    /// Between its steps no relay starts, and says that it is to be run again.
    starts_none: bool,
}

impl Verb {
    fn new(
        world: &Path,
        arguments: &[&str],
        state: fn(&Path, &Path, &Path) -> Result<State, String>,
        touches: &'static [&'static str],
        again: &'static [i32],
    ) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self {
            arguments,
            input: "",
            world: copied(world),
            state,
            touches,
            again,
            steps: false,
            in_the_way: None,
            starts_none: false,
        }
    }

    fn reading(self, input: &'static str) -> Self {
        Self { input, ..self }
    }

    fn in_steps(self) -> Self {
        Self { steps: true, ..self }
    }

    fn in_steps_that_start_none(self) -> Self {
        Self { steps: true, starts_none: true, ..self }
    }

    fn may_leave(self, in_the_way: &'static str) -> Self {
        Self { in_the_way: Some(in_the_way), ..self }
    }

    fn run(&self, world: &Path, fault: Fault) -> Traced {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Traced::run(world, verb(world, &arguments), self.input, fault).unwrap()
    }

    /// Everything that is wrong after faults at each call.
    fn wrongs(&self) -> Vec<String> {
        let name = self.arguments.join(" ");
        let after = copied(self.world.path());
        let whole = self.run(after.path(), Fault::None);
        assert_eq!(whole.end, End::Code(0), "{name}: {}", whole.said);
        let state = (self.state)(self.world.path(), after.path(), after.path());
        assert_eq!(state, Ok(New), "{name}");
        let mut tally = Tally::default();
        for fault in faults_of(&whole.calls).into_iter().step_by(by_length(SOME, 1, 1)) {
            self.judge(fault, after.path(), &mut tally);
        }
        println!("{name}: {} calls, {} runs, ends {:?}", whole.calls.len(), tally.runs, tally.ends);
        tally.wrongs.iter().map(|wrong| format!("{name}: {wrong}")).collect()
    }

    fn judge(&self, fault: Fault, after: &Path, tally: &mut Tally) {
        let world = copied(self.world.path());
        let (before, now) = (self.world.path(), world.path());
        let traced = self.run(now, fault);
        // Threads may be faster or slower than in the first run, and a call fewer is made.
        let Some(call) = &traced.failed else { return };
        tally.count(&traced);
        let mut wrong = |words: &str| {
            let Traced { end, said, .. } = &traced;
            tally.wrong(format!("{fault:?} ({call}), which ended with {end:?}: {words}\n{said}"));
        };
        let state = match (self.state)(before, after, now) {
            Ok(state) => state,
            Err(why) => return wrong(&format!("neither the old state nor the new: {why}")),
        };
        if state == Between && !self.steps {
            wrong("between the old state and the new");
        }
        // A log goes on without one of the kept checkpoints, which are copies, and without the space that is kept free.
        let is_spare =
            ["audit/checkpoints", "audit/reserve"].iter().any(|spare| call.path.starts_with(spare));
        let is_unsynced = call.kind == Kind::Syncs && traced.end != End::Killed && !is_spare;
        match traced.end {
            End::Killed => {}
            End::Code(0) if state != New => wrong(&format!("0, and the state is {state:?}")),
            End::Code(0) if is_unsynced => wrong("0, and what it wrote is not durable"),
            End::Code(0 | 64 | 70 | 74 | 75 | 76 | 78) => {}
            _ => wrong("no exit code that is documented"),
        }
        if traced.end == End::Code(64) {
            wrong("a wrong command line is not what was wrong");
        }
        if let End::Code(code) = traced.end
            && code != 0
            && state == New
            && !self.steps
            && !["durable", "it is written"].iter().any(|words| traced.said.contains(words))
        {
            wrong("the new state is there, and it doesn't say so");
        }
        let (old, found) = (files(before), files(now));
        for (path, was) in &old {
            let is_other = !self.touches.iter().any(|touched| path.starts_with(touched));
            if is_other && found.get(path) != Some(was) {
                wrong(&format!("{} is not as it was", path.display()));
            }
        }
        let fine = match state {
            Between if self.starts_none => is_checked(now),
            _ => both_fine(before, now),
        };
        if let Err(words) = fine {
            wrong(&words);
        }
        if state == New && self.again.is_empty() {
            return;
        }
        let mut again = self.run(now, Fault::None);
        if let Some(name) = self.in_the_way
            && again.end == End::Code(64)
            && again.said.contains("remove it, and run this again")
            && state == Old
        {
            fs::remove_file(now.join(name)).unwrap();
            again = self.run(now, Fault::None);
        }
        let is_fine = match again.end {
            End::Code(0) => true,
            End::Code(code) => state == New && self.again.contains(&code),
            _ => false,
        };
        if !is_fine {
            wrong(&format!(
                "found {state:?}, the same command again ended with {:?}: {}",
                again.end, again.said
            ));
        }
        match (self.state)(before, after, now) {
            Ok(New) => {}
            other => wrong(&format!("after the same command again the state is {other:?}")),
        }
        let left: Vec<_> = files(now).into_keys().filter(|path| is_temporary(path)).collect();
        if !left.is_empty() {
            wrong(&format!("after the same command again there is still {left:?}"));
        }
        if let Err(words) = both_fine(before, now) {
            wrong(&format!("after the same command again: {words}"));
        }
    }
}

#[derive(Default)]
struct Tally {
    runs: usize,
    ends: BTreeMap<String, usize>,
    wrongs: Vec<String>,
}

impl Tally {
    /// Told at once as well: all faults take minutes.
    fn wrong(&mut self, wrong: String) {
        println!("{wrong}");
        self.wrongs.push(wrong);
    }

    fn count(&mut self, traced: &Traced) {
        self.runs += 1;
        *self.ends.entry(format!("{:?}", traced.end)).or_default() += 1;
    }
}

/// In a short run, of all faults every so many.
const SOME: usize = 12;

/// How often calls of one name fail on files of one folder: verbs that read a log read it in many pieces.
const SAME: usize = 1;

/// What is done to a verb that makes these calls. It is killed before each call that changes something. Any call may fail,
/// and a disk may be full or turn read-only at any that changes something: the first calls of their kind in a folder do,
/// and full or read-only in turn.
fn faults_of(calls: &[Call]) -> Vec<Fault> {
    let (mut faults, mut same) = (Vec::new(), BTreeMap::new());
    for (at, call) in calls.iter().enumerate() {
        let count: &mut usize =
            same.entry((call.name, call.path.parent(), is_temporary(&call.path))).or_default();
        *count += 1;
        if *count > SAME {
            if call.kind != Kind::Looks {
                faults.push(Fault::Kill(at));
            }
            continue;
        }
        faults.push(Fault::Once(at, Errno::EIO));
        match call.kind {
            Kind::Looks => {}
            Kind::Syncs => faults.push(Fault::Kill(at)),
            Kind::Changes => faults.extend([Fault::Kill(at), Fault::ReadOnlyFrom(at)]),
            Kind::Grows if at % 2 == 0 => faults.extend([Fault::Kill(at), Fault::FullFrom(at)]),
            Kind::Grows => faults.extend([Fault::Kill(at), Fault::ReadOnlyFrom(at)]),
        }
    }
    faults
}

/// `check` and `serve` say that a world is fine. A start takes a second, so worlds that differ in nothing but random names,
/// times and hashes are started on once. Of certificates and keys it counts which of them are those of the world before;
/// that others belong together is what `check` says each time.
fn both_fine(before: &Path, world: &Path) -> Result<(), String> {
    static STARTED: Mutex<BTreeMap<Looks, Result<(), String>>> = Mutex::new(BTreeMap::new());
    let looks = looks(before, world);
    let has_new_certificates =
        looks.1.iter().any(|(path, _, _, was)| path.starts_with("certs") && was.is_none());
    let known = STARTED.lock().unwrap().get(&looks).cloned();
    if let Some(known) = known {
        return if has_new_certificates { known.and_then(|()| is_checked(world)) } else { known };
    }
    let check = done(world, &["check"]);
    let both = match (check.status.code(), serves(world)) {
        (Some(0), Ok(())) => Ok(()),
        (code, served) => Err(format!("check: {code:?} {}; serve: {served:?}", all_said(&check))),
    };
    STARTED.lock().unwrap().insert(looks, both.clone());
    both
}

/// `check` alone says that a world is fine.
fn is_checked(world: &Path) -> Result<(), String> {
    let check = done(world, &["check"]);
    match check.status.success() {
        true => Ok(()),
        false => Err(format!("check: {}", all_said(&check))),
    }
}

type Looks = (PathBuf, Vec<(PathBuf, u32, usize, Option<PathBuf>)>);

fn looks(before: &Path, world: &Path) -> Looks {
    let old = files(before);
    let looks = files(world).into_iter().map(|(path, (bytes, mode))| {
        let from_before = || old.iter().find(|(_, (was, _))| *was == bytes).map(|(path, _)| path.clone());
        let was = path.starts_with("certs").then(from_before).flatten();
        // Keys and signatures of a new authority differ by some bytes in length.
        let size = if path.starts_with("certs") && was.is_none() { 0 } else { bytes.len() };
        let path = match is_temporary(&path) {
            true => path.with_file_name("temporary"),
            false => path,
        };
        (path, mode, size, was)
    });
    (before.to_owned(), looks.collect())
}

fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') && (name.ends_with(".tmp") || name.ends_with(".new"))
}

#[track_caller]
fn hold(verbs: Vec<Verb>) {
    let wrongs: Vec<String> = verbs.iter().flat_map(Verb::wrongs).collect();
    assert!(wrongs.is_empty(), "{} wrongs:\n{}", wrongs.len(), wrongs.join("\n"));
}

/// A file that is as before, or as an undisturbed run leaves it.
fn of_file(name: &str, before: &Path, after: &Path, now: &Path) -> Result<State, String> {
    let read = |folder: &Path| fs::read_to_string(folder.join(name)).ok().map(|text| timeless(&text));
    // One that nobody stands in yet says what none says.
    let found = read(now).filter(|text| text.contains("\n[[source]]") || text.starts_with("[[source]]"));
    match found {
        found if found == read(before) => Ok(Old),
        found if found == read(after) => Ok(New),
        found => Err(format!("{name} holds {found:?}")),
    }
}

/// The times in a list of sources are those of the run.
fn timeless(text: &str) -> String {
    let lines = text.lines().map(|line| if line.starts_with("learn") { "learn" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

fn of_sources(before: &Path, after: &Path, now: &Path) -> Result<State, String> {
    of_file("sources.toml", before, after, now)
}

#[test]
fn the_allow_list_is_the_old_or_the_new_after_a_fault_at_any_call() {
    if !traced::is_possible() {
        return;
    }
    let number = worlds::number();
    let without = copied(&quick());
    fs::remove_file(without.path().join("sources.toml")).unwrap();
    let edit = |world: &Path, arguments: &[&str], again| {
        Verb::new(world, &[&["sources"], arguments].concat(), of_sources, &["sources.toml"], again)
    };
    hold(vec![
        edit(&quick(), &["allow", "11111111-2222-4333-8444-555555555555", "--name", "New"], &[64, 78]),
        edit(&quick(), &["allow", "--license", "9999000000001254"], &[0]),
        edit(&quick(), &["allow", &number], &[0]),
        edit(without.path(), &["allow", "--network", "10.0.0.1/32"], &[0]),
        edit(&quick(), &["deny", "first"], &[64]),
    ]);
}

/// The users of a world by name, each with the line.
fn users(world: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = fs::read_to_string(world.join("users")).unwrap_or_default();
    text.lines()
        .map(|line| {
            let (name, hash) = line.split_once(':').ok_or_else(|| format!("users holds {text:?}"))?;
            match hash.split('$').count() {
                4 => Ok((name.to_owned(), line.to_owned())),
                _ => Err(format!("users holds {text:?}")),
            }
        })
        .collect()
}

/// One user more or less, or one with another password; the others as they were.
fn of_users(before: &Path, after: &Path, now: &Path) -> Result<State, String> {
    let (before, after, now) = (users(before)?, users(after)?, users(now)?);
    if now == before {
        return Ok(Old);
    }
    let stays = before.iter().filter(|(name, line)| after.get(*name) == Some(line));
    let are_there = stays.clone().all(|(name, line)| now.get(name) == Some(line));
    match are_there && now.keys().eq(after.keys()) {
        true => Ok(New),
        false => Err(format!("the users are {:?}", now.keys().collect::<Vec<_>>())),
    }
}

#[test]
fn no_user_is_lost_by_a_fault_at_any_call() {
    if !traced::is_possible() {
        return;
    }
    let without = copied(&quick());
    fs::remove_file(without.path().join("users")).unwrap();
    let edit = |world: &Path, arguments: &[&str], again| {
        let arguments = [&["sources", "user"], arguments].concat();
        Verb::new(world, &arguments, of_users, &["users"], again).reading("another password\n")
    };
    hold(vec![
        edit(&quick(), &["add", "new"], &[0]),
        edit(&quick(), &["add", "bob"], &[0]),
        edit(without.path(), &["add", "new"], &[0]),
        edit(&quick(), &["remove", "bob"], &[64]),
    ]);
}

/// The root that clients are told to trust; `None` where there is none.
fn root(world: &Path) -> Option<Vec<u8>> {
    let output = done(world, &["ca", "export"]);
    output.status.success().then_some(output.stdout)
}

/// An authority that is not there, or whole, or found in its generation by the next start; `check` compares root, issuer and
/// key.
fn of_first_authority(_: &Path, _: &Path, now: &Path) -> Result<State, String> {
    let there = ["root.pem", "issuer.pem", "issuer.key"].map(|name| now.join("certs").join(name).exists());
    match (there, root(now)) {
        ([false, false, false], None) => Ok(Old),
        ([true, true, true], Some(_)) => Ok(New),
        (_, Some(_)) => Ok(Between),
        (_, None) => Err(format!("root, issuer, key: {there:?}, and no root can be handed out")),
    }
}

/// The root that is handed out, and whether a rotation is under way and for whom.
type Authority = (Option<Vec<u8>>, Option<(Value, Value)>);

/// The root is the one before or after; so is what `ca status` says.
fn of_rotation(before: &Path, after: &Path, now: &Path) -> Result<State, String> {
    static KNOWN: Mutex<BTreeMap<PathBuf, Authority>> = Mutex::new(BTreeMap::new());
    let of = |world: &Path| {
        let status = json(world, &["ca", "status", "--json"]);
        (root(world), status.map(|status| (status["rotation"].clone(), status["networks"].clone())))
    };
    // These two stay as they are.
    let once = |world: &Path| {
        let known = KNOWN.lock().unwrap().get(world).cloned();
        known.unwrap_or_else(|| {
            let found = of(world);
            KNOWN.lock().unwrap().insert(world.to_owned(), found.clone());
            found
        })
    };
    let (old, found) = (once(before), of(now));
    let new = if after == now { found.clone() } else { once(after) };
    if found == old {
        Ok(Old)
    } else if found == new {
        Ok(New)
    } else if found.0.is_some() && (found.0 == old.0 || found.0 == new.0) && found.1.is_some() {
        Ok(Between)
    } else {
        let root = if found.0.is_none() { "no root" } else { "another root" };
        Err(format!("{root}, {:?}", found.1))
    }
}

const CERTS: &[&str] = &["certs"];

#[test]
fn a_first_root_is_whole_or_not_there_after_a_fault_at_any_call() {
    if !traced::is_possible() {
        return;
    }
    let bare = worlds::bare();
    hold(vec![Verb::new(bare.path(), &["ca", "init"], of_first_authority, CERTS, &[0]).in_steps()]);
}

#[test]
fn the_key_of_a_root_is_kept_with_it_after_a_fault_at_any_call() {
    if !traced::is_possible() {
        return;
    }
    let bare = worlds::bare();
    let arguments = ["ca", "init", "--root-key", "WORLD/root.key"];
    let verb = Verb::new(bare.path(), &arguments, of_first_authority, &["certs", "root.key"], &[0]);
    hold(vec![verb.in_steps().may_leave("root.key")]);
}

#[test]
fn the_root_in_force_stays_after_a_fault_at_any_call_of_a_rotation() {
    if !traced::is_possible() {
        return;
    }
    hold(vec![Verb::new(&base(), &["ca", "rotate"], of_rotation, CERTS, &[64])]);
}

/// The base world with a new root that some clients try.
fn tried() -> TempDir {
    let tried = copied(&base());
    for arguments in [&["ca", "rotate"][..], &["ca", "rotate", "--try", "10.1.0.0/16"]] {
        ended(&done(tried.path(), arguments), 0, "");
    }
    tried
}

#[test]
fn a_root_on_trial_stays_after_a_fault_at_any_call() {
    if !traced::is_possible() {
        return;
    }
    let tried = tried();
    let more = ["ca", "rotate", "--try", "10.2.0.0/16"];
    hold(vec![
        Verb::new(tried.path(), &more, of_rotation, CERTS, &[0]),
        Verb::new(tried.path(), &["ca", "rotate", "--abort"], of_rotation, CERTS, &[64]).in_steps(),
    ]);
}

#[test]
fn the_old_root_or_the_new_serves_after_a_fault_at_any_call_of_a_finish() {
    if !traced::is_possible() {
        return;
    }
    let tried = tried();
    // The one client of this world has never seen the new root.
    let finish = ["ca", "rotate", "--finish", "--despite", "127.0.0.1"];
    hold(vec![Verb::new(tried.path(), &finish, of_rotation, CERTS, &[64]).in_steps()]);
}

/// The ids of the keys, the newest first.
fn keys(world: &Path) -> Result<Vec<(Value, Value)>, String> {
    let list = json(world, &["audit", "key", "list", "--json"]).ok_or("the keys can't be listed")?;
    Ok(list.as_array().unwrap().iter().map(|key| (key["id"].clone(), key["state"].clone())).collect())
}

/// The log has all that it had, and is whole.
fn log_is_whole(before: &Path, now: &Path) -> Result<(), String> {
    let records = |world: &Path| verify(&world.join("audit"), &[], |_| {}).map_err(|e| e.to_string());
    let (before, now) = (records(before)?, records(now)?);
    match now.verdict() {
        Verdict::Fine if now.records >= before.records => Ok(()),
        verdict => Err(format!("the log is {verdict:?}, with {} records: {:?}", now.records, now.damage)),
    }
}

fn of_new_key(before: &Path, _: &Path, now: &Path) -> Result<State, String> {
    log_is_whole(before, now)?;
    let (before, now) = (keys(before)?, keys(now)?);
    let ids = |keys: &[(Value, Value)]| keys.iter().map(|key| key.0.clone()).collect::<Vec<_>>();
    let (before, now) = (ids(&before), ids(&now));
    if now == before {
        Ok(Old)
    } else if now.get(1..) == Some(&before[..]) {
        Ok(New)
    } else {
        Err(format!("the keys are {now:?}"))
    }
}

fn of_destroyed_key(before: &Path, after: &Path, now: &Path) -> Result<State, String> {
    log_is_whole(before, now)?;
    let (before, after, now) = (keys(before)?, keys(after)?, keys(now)?);
    match now {
        now if now == before => Ok(Old),
        now if now == after => Ok(New),
        now if now[0] == before[0] && now.iter().any(|key| key.1 == "unusable") => Ok(Between),
        now => Err(format!("the keys are {now:?}")),
    }
}

#[test]
fn no_key_of_pseudonyms_is_lost_by_a_fault_at_any_call() {
    if !traced::is_possible() {
        return;
    }
    let retired = copied(&quick());
    ended(&done(retired.path(), &["audit", "key", "new"]), 0, "");
    let id = keys(retired.path()).unwrap()[1].0.as_str().unwrap().to_owned();
    hold(vec![
        Verb::new(&quick(), &["audit", "key", "new"], of_new_key, &["audit", "certs"], &[]).in_steps(),
        Verb::new(
            retired.path(),
            &["audit", "key", "destroy", &id, "--yes"],
            of_destroyed_key,
            &["audit", "certs"],
            &[64],
        )
        .in_steps(),
    ]);
}

/// What was pruned is gone, and all else is there.
fn of_pruned(before: &Path, after: &Path, now: &Path) -> Result<State, String> {
    log_is_whole(before, now)?;
    let segments = |world: &Path| fs::read_dir(world.join("audit/segments")).unwrap().count();
    let verified = verify(&now.join("audit"), &[], |_| {}).map_err(|e| e.to_string())?;
    match (verified.pruned, segments(before).cmp(&segments(now))) {
        (0, Ordering::Greater) => Err(format!("{} segments, and none is said to be pruned", segments(now))),
        (0, _) => Ok(Old),
        _ if segments(now) == segments(after) => Ok(New),
        _ => Ok(Between),
    }
}

/// The log is the old one, or a new one goes on from it.
fn of_forked(before: &Path, _: &Path, now: &Path) -> Result<State, String> {
    let audit = now.join("audit");
    let old = verify(&before.join("audit"), &[], |_| {}).map_err(|e| e.to_string())?;
    let kept = audit.join("forks/1");
    let is_of_old = |log: &Path| {
        verify(log, &[], |_| {}).is_ok_and(|log| log.records >= old.records && log.verdict() == Verdict::Fine)
    };
    if !kept.exists() {
        return log_is_whole(before, now).map(|()| Old);
    }
    let new = verify(&audit, &[], |_| {});
    match new {
        // Run again after the new log was begun, the command forks that one as well.
        Ok(new)
            if ["/fork-1", "/fork-2"].iter().any(|end| new.origin.ends_with(end))
                && new.verdict() == Verdict::Fine
                && new.records > 0 =>
        {
            if is_of_old(&kept) {
                Ok(New)
            } else {
                Err("the log that was put aside is not whole".into())
            }
        }
        _ => Ok(Between),
    }
}

#[test]
fn no_record_is_lost_by_a_fault_at_any_call() {
    if !traced::is_possible() {
        return;
    }
    hold(vec![
        Verb::new(
            &quick(),
            &["audit", "prune", "--before", worlds::PRUNED, "--yes"],
            of_pruned,
            &["audit"],
            &[0],
        )
        .in_steps(),
    ]);
}

#[test]
fn no_log_is_lost_by_a_fault_at_any_call_of_a_fork() {
    if !traced::is_possible() {
        return;
    }
    hold(vec![
        Verb::new(&quick(), &["audit", "fork", "--reason", "a test"], of_forked, &["audit"], &[])
            .in_steps_that_start_none(),
    ]);
}

/// A file that is handed over: not there, or whole.
fn of_handed_over(_: &Path, after: &Path, now: &Path) -> Result<State, String> {
    let Ok(found) = fs::read(now.join("out")) else { return Ok(Old) };
    let whole = fs::read(after.join("out")).unwrap();
    // Times, and their compression, differ a little.
    let (found_end, whole_end) = (found.len(), whole.len());
    match found_end.abs_diff(whole_end) <= 64 {
        true => Ok(New),
        false => Err(format!("{found_end} bytes and not {whole_end}")),
    }
}

#[test]
fn what_is_handed_over_is_whole_or_not_there_after_a_fault_at_any_call() {
    if !traced::is_possible() {
        return;
    }
    let hand_over = |arguments: &[&str]| {
        let arguments = [arguments, &["--out", "WORLD/out"]].concat();
        Verb::new(&quick(), &arguments, of_handed_over, &["out"], &[64])
    };
    hold(vec![
        hand_over(&["vocabulary", "capture"]),
        hand_over(&["audit", "kit"]),
        hand_over(&["audit", "export", "--format", "jsonl"]),
        hand_over(&["audit", "report"]),
    ]);
}

/// A start takes long, and looks at much: of the calls that only look, every fourth fails.
const LOOKS: usize = 4;
/// With an authority of its own a start takes longer still, and what it makes of it `ca init` makes as well: of all faults,
/// every twelfth.
const OF_AUTHORITY: usize = 12;

/// Everything that is wrong after a first start at whose calls there are faults, and after the next one.
fn wrongs_of_first_start(bare: &Path, every: usize) -> Vec<String> {
    let start = |world: &Path, fault| Traced::run(world, verb(world, &["serve"]), "", fault).unwrap();
    let whole = start(copied(bare).path(), Fault::None);
    assert_eq!(whole.end, End::Greeted, "{}", whole.said);
    let mut tally = Tally::default();
    let every = every * by_length(SOME, 1, 1);
    let all = faults_of(&whole.calls);
    let is_look = |fault: &Fault| matches!(fault, Fault::Once(at, _) if whole.calls[*at].kind == Kind::Looks);
    let is_taken =
        |at: usize, fault: &Fault| at.is_multiple_of(if is_look(fault) { every.max(LOOKS) } else { every });
    for (_, &fault) in all.iter().enumerate().filter(|(at, fault)| is_taken(*at, fault)) {
        let world = copied(bare);
        let world = world.path();
        let traced = start(world, fault);
        let Some(call) = &traced.failed else { continue };
        tally.count(&traced);
        let before = root(world);
        let mut wrongs = Vec::new();
        if !matches!(traced.end, End::Killed | End::Greeted | End::Code(70 | 74 | 75 | 78)) {
            wrongs.push("no exit code that is documented".to_owned());
        }
        if let Err(why) = is_checked(world) {
            wrongs.push(why);
        }
        let again = start(world, Fault::None);
        if again.end != End::Greeted {
            wrongs.push(format!("the next start: {:?} {}", again.end, again.said));
        }
        if before.is_some() && root(world) != before {
            wrongs.push("the root is another one after the next start".into());
        }
        let left: Vec<_> = files(world).into_keys().filter(|path| is_temporary(path)).collect();
        if !left.is_empty() {
            wrongs.push(format!("after the next start there is still {left:?}"));
        }
        for wrong in wrongs {
            let Traced { end, said, .. } = &traced;
            tally.wrong(format!("{fault:?} ({call}), which ended with {end:?}: {wrong}\n{said}"));
        }
    }
    println!(
        "serve: {} calls, every {every}. of {} faults, {} runs, ends {:?}",
        whole.calls.len(),
        all.len(),
        tally.runs,
        tally.ends
    );
    tally.wrongs
}

#[test]
fn a_first_start_that_fails_at_any_call_is_made_good_by_the_next() {
    if !traced::is_possible() {
        return;
    }
    let wrongs = wrongs_of_first_start(worlds::quick_bare().path(), 1);
    assert!(wrongs.is_empty(), "{} wrongs:\n{}", wrongs.len(), wrongs.join("\n"));
}

#[test]
fn a_first_start_that_fails_while_it_makes_an_authority_is_made_good_by_the_next() {
    if !traced::is_possible() {
        return;
    }
    let wrongs = wrongs_of_first_start(worlds::bare().path(), OF_AUTHORITY);
    assert!(wrongs.is_empty(), "{} wrongs:\n{}", wrongs.len(), wrongs.join("\n"));
}
