//! Every pair of writing verbs at once, and each of them beside a relay that starts: what ends with 0 has happened, what
//! doesn't has not, and the world is fine. That two edits of one file both take effect is in `edits.rs`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::common::length::by_length;
use crate::common::traced::{End, Fault, Traced};
use crate::common::worlds::{base, copied, done, json, serves, verb};
use crate::common::*;

/// How often two edits run at once. Which one is faster changes.
fn edits() -> usize {
    by_length(6, 20, 20)
}
/// The same for pairs with a verb that makes keys or writes the log, which takes longer.
const ROUNDS: usize = 4;
/// The same beside a start, which takes longest.
const STARTS: usize = 2;

struct Verb {
    arguments: &'static [&'static str],
    /// Whether the world is as the verb says that it has made it.
    has_happened: fn(&Path) -> bool,
    /// How it may end where the other one was faster or still works.
    refused: &'static [i32],
}

const VERBS: [Verb; 8] = [
    Verb {
        arguments: &["sources", "allow", "11111111-2222-4333-8444-555555555555"],
        has_happened: |world| holds(world, "sources.toml", "11111111-2222-4333-8444-555555555555"),
        refused: &[],
    },
    Verb {
        arguments: &["sources", "deny", "first"],
        has_happened: |world| !holds(world, "sources.toml", "name = \"first\""),
        refused: &[],
    },
    Verb {
        arguments: &["sources", "user", "add", "new"],
        has_happened: |world| holds(world, "users", "new:pbkdf2"),
        refused: &[],
    },
    Verb {
        arguments: &["sources", "user", "remove", "bob"],
        has_happened: |world| !holds(world, "users", "bob:"),
        refused: &[],
    },
    Verb {
        arguments: &["ca", "init"],
        has_happened: |world| done(world, &["ca", "export"]).status.success(),
        refused: &[75],
    },
    Verb { arguments: &["ca", "rotate"], has_happened: is_rotating, refused: &[75] },
    Verb {
        arguments: &["audit", "key", "new"],
        has_happened: |world| {
            let keys = json(world, &["audit", "key", "list", "--json"]).unwrap();
            keys.as_array().unwrap().len() == 2
        },
        refused: &[75],
    },
    Verb {
        arguments: &["audit", "fork", "--reason", "a test"],
        has_happened: |world| world.join("audit/forks/1/log.json").exists(),
        refused: &[75],
    },
];

fn holds(world: &Path, name: &str, text: &str) -> bool {
    fs::read_to_string(world.join(name)).unwrap().contains(text)
}

fn is_rotating(world: &Path) -> bool {
    json(world, &["ca", "status", "--json"]).unwrap()["rotation"] == true
}

fn begin(world: &Path, arguments: &[&str]) -> Child {
    let mut command = verb(world, arguments);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // One that reads nothing may have ended by now.
    let _ = child.stdin.take().unwrap().write_all(b"another password\n");
    child
}

/// What a verb is beside that may be killed while the verb asks it.
const A_START: &str = "a start";

impl Verb {
    /// Its exit code is true.
    #[track_caller]
    fn is_true(&self, world: &Path, output: &std::process::Output, beside: &str) {
        let said = all_said(output);
        let has_happened = (self.has_happened)(world);
        let what = format!("{:?} beside {beside}: {:?}: {said}", self.arguments, output.status);
        match output.status.code() {
            Some(0) => assert!(has_happened, "{what}"),
            // There is an authority all the time, whoever was refused to make one.
            Some(code) if self.refused.contains(&code) => {
                assert!(!has_happened || self.arguments == ["ca", "init"], "{what}");
            }
            // The relay was killed when it had greeted, while it was asked.
            Some(74) if beside == A_START => assert!(has_happened, "{what}"),
            _ => panic!("{what}"),
        }
    }
}

#[track_caller]
fn is_fine(world: &Path) {
    ended(&done(world, &["check"]), 0, "fine");
}

#[test]
fn of_every_pair_of_writing_verbs_at_once_each_exit_code_is_true() {
    for (at, one) in VERBS.iter().enumerate() {
        for other in &VERBS[at + 1..] {
            let mut last = None;
            let are_edits = [one, other].iter().all(|verb| verb.arguments[0] == "sources");
            for _ in 0..if are_edits { edits() } else { ROUNDS } {
                let world = copied(&base());
                let path = world.path();
                let (first, second) = (begin(path, one.arguments), begin(path, other.arguments));
                let (first, second) = (first.wait_with_output().unwrap(), second.wait_with_output().unwrap());
                one.is_true(path, &first, &format!("{:?}", other.arguments));
                other.is_true(path, &second, &format!("{:?}", one.arguments));
                is_fine(path);
                last = Some(world);
            }
            if traced::is_possible() {
                serves(last.unwrap().path()).unwrap();
            }
        }
    }
}

#[test]
fn a_verb_beside_a_relay_that_starts_tells_the_truth_and_the_relay_starts() {
    if !traced::is_possible() {
        return;
    }
    for one in &VERBS {
        for _ in 0..STARTS {
            let world = copied(&base());
            let path = world.path();
            let child = begin(path, one.arguments);
            let traced = Traced::run(path, verb(path, &["serve"]), "", Fault::None).unwrap();
            let output = child.wait_with_output().unwrap();
            one.is_true(path, &output, A_START);
            // A verb that visits the log has its lock.
            let is_kept_out = one.arguments[0] == "audit" && traced.end == End::Code(75);
            assert!(traced.end == End::Greeted || is_kept_out, "{:?}: {}", one.arguments, traced.said);
            is_fine(path);
            serves(path).unwrap();
        }
    }
}

fn root(world: &Path) -> Vec<u8> {
    let output = done(world, &["ca", "export"]);
    ended(&output, 0, "");
    output.stdout
}

#[test]
fn of_two_steps_of_a_rotation_at_once_each_leaves_the_root_that_it_says() {
    let tried = copied(&base());
    for arguments in [&["ca", "rotate"][..], &["ca", "rotate", "--try", "10.1.0.0/16"]] {
        ended(&done(tried.path(), arguments), 0, "");
    }
    let old = root(tried.path());
    const TRY: &[&str] = &["ca", "rotate", "--try", "10.2.0.0/16"];
    const ABORT: &[&str] = &["ca", "rotate", "--abort"];
    // The one client of this world has never seen the new root.
    const FINISH: &[&str] = &["ca", "rotate", "--finish", "--despite", "127.0.0.1"];
    for pair in [[TRY, ABORT], [TRY, FINISH], [ABORT, FINISH], [FINISH, FINISH]] {
        for _ in 0..edits() / 2 {
            let world = copied(tried.path());
            let path = world.path();
            let outputs =
                pair.map(|arguments| begin(path, arguments)).map(|child| child.wait_with_output().unwrap());
            let said = outputs.each_ref().map(all_said);
            let codes = outputs.each_ref().map(|output| output.status.code());
            // Whoever comes second may find that no rotation is under way any more.
            assert!(
                matches!(codes, [Some(0), Some(0 | 64)] | [Some(64), Some(0)]),
                "{pair:?}: {codes:?} {said:?}"
            );
            let done_of =
                |step: &[&str]| (0..2).filter(|at| pair[*at] == step && codes[*at] == Some(0)).count();
            assert!(done_of(FINISH) + done_of(ABORT) <= 1, "{pair:?}: {said:?}");
            assert_eq!(root(path) != old, done_of(FINISH) == 1, "{pair:?}: {said:?}");
            assert!(!is_rotating(path), "{pair:?}: {said:?}");
            is_fine(path);
        }
    }
}
