//! Verbs that edit files: what each has said to be done is done, whatever others do at the same time, however a file is
//! linked, and however an edit ends.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use license_relay::policy::users::PasswordHash;

use crate::common::*;

/// A folder with a configuration, and no relay.
struct Site(Plan);

impl Site {
    fn new() -> Self {
        let plan = Plan::leading_to("127.0.0.1:9", Path::new("none"))
            .with("trust = \"files\"\nextra_ca = [\"none\"]", "trust = \"bundled\"");
        plan.write();
        Self(plan)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn users(&self, names: &[&str]) {
        let hash = PasswordHash::new("long password").unwrap();
        let lines: String = names.iter().map(|name| format!("{name}:{hash}\n")).collect();
        fs::write(self.path("users"), format!("# people\n{lines}")).unwrap();
        fs::set_permissions(self.path("users"), Permissions::from_mode(0o600)).unwrap();
    }

    /// Starts a verb, which is given a line on its standard input.
    fn begin(&self, mut command: Command, arguments: &[&str]) -> Child {
        command.arg("--config").arg(self.path("relay.toml")).arg("sources").args(arguments);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        // One that reads nothing may have ended by now.
        let _ = child.stdin.take().unwrap().write_all(b"long password\n");
        child
    }

    fn verb(&self, arguments: &[&str]) -> Output {
        self.begin(program(), arguments).wait_with_output().unwrap()
    }

    /// The verb under strace, which does something to a call of it.
    fn under(&self, inject: &str) -> Option<Command> {
        let calls = inject.split(':').next().unwrap();
        let mut strace = strace(&["-D", "-f", "-qq", "-e", &format!("trace={calls}"), "-e"])?;
        strace.arg(format!("inject={inject}")).arg("-o").arg(self.path("strace"));
        strace.arg(env!("CARGO_BIN_EXE_license-relay"));
        Some(strace)
    }

    /// Files that only an edit can have left.
    fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "tmp")).collect()
    }
}

const RENAME: &str = "rename,renameat,renameat2";

#[track_caller]
fn done(children: Vec<Child>) {
    for child in children {
        ended(&child.wait_with_output().unwrap(), 0, "");
    }
}

#[test]
fn users_that_are_removed_at_once_are_all_removed() {
    let site = Site::new();
    let names = ["u0", "u1", "u2", "u3", "u4", "u5"];
    site.users(&[&names[..], &["stays"]].concat());
    done(names.map(|name| site.begin(program(), &["user", "remove", name])).into());
    let left = site.read("users");
    assert!(left.starts_with("# people\nstays:") && left.lines().count() == 2, "{left}");
}

#[test]
fn of_two_edits_at_once_both_take_effect() {
    type Verb = (&'static [&'static str], fn(&Site) -> bool);
    const VERBS: [(Verb, Verb); 4] = [
        (
            (&["allow", "--network", "10.0.0.1/32"], |site| {
                site.read("sources.toml").contains("10.0.0.1/32")
            }),
            (&["allow", "--network", "10.0.0.2/32"], |site| {
                site.read("sources.toml").contains("10.0.0.2/32")
            }),
        ),
        (
            (&["deny", "first"], |site| !site.read("sources.toml").contains("first")),
            (&["deny", "second"], |site| !site.read("sources.toml").contains("second")),
        ),
        (
            (&["user", "add", "new1"], |site| site.read("users").contains("\nnew1:")),
            (&["user", "add", "new2"], |site| site.read("users").contains("\nnew2:")),
        ),
        (
            (&["user", "remove", "old1"], |site| !site.read("users").contains("old1")),
            (&["user", "remove", "old2"], |site| !site.read("users").contains("old2")),
        ),
    ];
    let site = Site::new();
    for _ in 0..3 {
        for (at, (one, _)) in VERBS.iter().enumerate() {
            for (_, other) in &VERBS[at..] {
                let entry = |name: &str| format!("[[source]]\nname = \"{name}\"\nusers = [\"{name}\"]\n");
                fs::write(site.path("sources.toml"), entry("first") + &entry("second")).unwrap();
                site.users(&["old1", "old2"]);
                done(vec![site.begin(program(), one.0), site.begin(program(), other.0)]);
                for (arguments, has_happened) in [one, other] {
                    assert!(has_happened(&site), "{arguments:?}, with {:?} and {:?}", one.0, other.0);
                }
            }
        }
    }
    assert!(site.left().is_empty());
}

#[test]
fn links_owner_and_mode_are_kept() {
    let site = Site::new();
    site.users(&["old"]);
    fs::create_dir(site.path("real")).unwrap();
    for (name, mode) in [("users", 0o600), ("sources.toml", 0o640)] {
        fs::rename(site.path(name), site.path("real").join(name)).unwrap();
        fs::set_permissions(site.path("real").join(name), Permissions::from_mode(mode)).unwrap();
        symlink(format!("real/{name}"), site.path(name)).unwrap();
    }
    let is_root =
        ["users", "sources.toml"].iter().all(|name| chown(site.path(name), Some(4321), Some(1234)).is_ok());
    ended(&site.verb(&["user", "add", "new"]), 0, "");
    ended(&site.verb(&["allow", "--user", "new"]), 0, "");
    for (name, mode) in [("users", 0o600), ("sources.toml", 0o640)] {
        assert_eq!(fs::read_link(site.path(name)).unwrap(), Path::new("real").join(name));
        let found = fs::symlink_metadata(site.path("real").join(name)).unwrap();
        assert!(found.is_file() && site.read(name).contains("new"), "{name}");
        assert_eq!(found.mode() & 0o777, mode, "{name}");
        assert!(!is_root || (found.uid(), found.gid()) == (4321, 1234), "{name}");
    }
    if !is_root {
        skip::skipped("only root can give files away");
    }
}

#[test]
fn a_lock_that_is_held_is_told_with_its_holder_and_waited_for() {
    let site = Site::new();
    let lock = File::open(site.0.folder.path()).unwrap();
    lock.lock().unwrap();
    let mut verb = site.begin(program(), &["allow", "--user", "new"]);
    let mut said = BufReader::new(verb.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let own = format!("is locked by process {} (", std::process::id());
    let known = fs::read_to_string("/proc/locks").is_ok_and(|locks| {
        let inode = lock.metadata().unwrap().ino();
        locks.contains(&format!(":{inode} "))
    });
    assert!(line.contains(if known { &own } else { "is locked by " }), "{line}");
    assert!(!site.read("sources.toml").contains("new"));
    drop(lock);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(verb.wait().unwrap().success(), "{rest}");
    assert!(site.read("sources.toml").contains("new"));
}

#[test]
fn a_lock_that_is_not_given_back_ends_the_verb_and_nothing_is_changed() {
    let site = Site::new();
    let before = site.read("sources.toml");
    let lock = File::open(site.0.folder.path()).unwrap();
    lock.lock().unwrap();
    let begun = SystemTime::now();
    let children = [&["allow", "--user", "new"][..], &["user", "add", "new"]];
    for child in children.map(|arguments| site.begin(program(), arguments)) {
        let output = child.wait_with_output().unwrap();
        ended(&output, 75, "end that process or wait for it");
        ended(&output, 75, "can't be edited");
    }
    assert!(begun.elapsed().unwrap_or_default() < Duration::from_secs(25));
    assert!(site.read("sources.toml") == before && !site.path("users").exists());
}

#[test]
fn what_a_killed_edit_leaves_is_gone_after_the_next_edit_or_start() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let site = Site(Plan::new(&stub));
    site.0.write();
    let others = [".users.tmp", ".users.123.tmp", "users.0123456789abcdef.tmp"];
    others.iter().for_each(|name| fs::write(site.path(name), "not ours").unwrap());
    let Some(()) = site.is_killed() else { return };
    ended(&site.verb(&["allow", "--user", "new"]), 0, "");
    assert_eq!(site.left().len(), others.len(), "{:?}", site.left());
    site.is_killed();
    let relay = site.0.start();
    let left = Site(relay_plan(relay));
    assert_eq!(left.left().len(), others.len(), "{:?}", left.left());
    assert!(!left.path("users").exists());
}

/// A relay's folder, once it has ended.
fn relay_plan(mut relay: Relay) -> Plan {
    relay.stop();
    relay.into_plan()
}

impl Site {
    /// A user whose password's hash is left behind, since the verb is killed as it would put it in place.
    fn is_killed(&self) -> Option<()> {
        let before = self.left();
        let killed = self.begin(self.under(&format!("{RENAME}:signal=KILL"))?, &["user", "add", "new"]);
        assert!(!killed.wait_with_output().unwrap().status.success());
        let left = self.left();
        let left: Vec<_> = left.iter().filter(|path| !before.contains(path)).collect();
        assert!(left.len() == 1 && fs::read_to_string(left[0]).unwrap().contains("new:pbkdf2"), "{left:?}");
        Some(())
    }
}

#[test]
fn what_a_living_edit_writes_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let site = Site(Plan::new(&stub));
    site.0.write();
    // Its call is held for as long as it takes to look.
    let Some(strace) = site.under(&format!("{RENAME}:delay_enter=8000000")) else { return };
    let slow = site.begin(strace, &["user", "add", "new"]);
    let left = eventually("it has written", || site.left().pop());
    let relay = site.0.start();
    assert!(left.exists() || relay.path("users").exists());
    ended(&slow.wait_with_output().unwrap(), 0, "is written with this password");
    assert!(fs::read_to_string(relay.path("users")).unwrap().starts_with("new:"));
}

#[test]
fn an_edit_that_may_not_last_is_not_said_to_be_undone() {
    let site = Site::new();
    let verb = |inject: &str| {
        let child = site.begin(site.under(inject)?, &["allow", "--user", "new"]);
        Some(child.wait_with_output().unwrap())
    };
    // The new file, which has not taken the old one's place.
    let Some(output) = verb("fsync:error=EIO:when=1") else { return };
    ended(&output, 74, "can't be edited");
    assert!(!site.read("sources.toml").contains("new") && site.left().is_empty());
    // The folder, after it has.
    let output = verb("fsync:error=EIO:when=2").unwrap();
    ended(&output, 74, "it is written, perhaps not durable");
    assert!(!all_said(&output).contains("can't be edited"));
    assert!(site.read("sources.toml").contains("new") && site.left().is_empty());
}
