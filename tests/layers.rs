//! Imports point down: what a module may use stands below it in this list. The sources are read for the paths that they name;
//! what only tests name does not count.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/sources.rs"]
mod sources;

use std::collections::BTreeSet;
use std::fs;

use sources::{all_in, is_test, program, src};

/// The modules of the house, from the top to the ground.
const LAYERS: [&str; 27] = [
    "cli",
    "stub",
    "relay",
    "listen",
    "tunnel",
    "http",
    "app",
    "exchange",
    "setup",
    "policy",
    "licensing",
    "upstream",
    "tls",
    "audit",
    "report",
    "verify",
    "observe",
    "ledger",
    "memory",
    "turns",
    "config",
    "budget",
    "threads",
    "file_size",
    "stream",
    "text",
    "bounds",
];

/// What points up all the same, and why. It is to become empty.
const UPWARDS: [(&str, &str, &str); 3] = [
    ("config/lock.rs", "observe", "tells on standard error whom it waits for"),
    ("config/waits.rs", "observe", "tells on standard error whom it waits for"),
    ("config/file.rs", "memory", "warns of memory that is less than one body takes"),
];

/// Modules that use nothing of the house.
const GROUND: [&str; 2] = ["bounds", "text"];

/// The modules of the house that a source names, at the beginning of a path: `crate::text::…`, `crate::{bounds, threads}`, or
/// `super::…` in one that stands so deep.
fn named(text: &str, depth: usize) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let first = |path: &str| path.trim().split(|c| !is_name(c)).next().unwrap_or_default().to_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let text = lines.join("\n").replace(&"super::".repeat(depth), "crate::");
    let mut names = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => names.extend(members(group).iter().map(|path| first(path))),
            None => drop(names.insert(first(rest))),
        }
    }
    names
}

/// The paths of a group up to its end; one that holds a group itself is one path.
fn members(group: &str) -> Vec<String> {
    let (mut depth, mut paths) = (0, vec![String::new()]);
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => paths.push(String::new()),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                paths.last_mut().unwrap().push(c);
            }
        }
    }
    paths
}

#[test]
fn imports_point_down_and_the_ground_stands_on_nothing() {
    let src = src();
    let all = all_in(&src);
    assert!(all.len() > 200, "{} sources", all.len());
    let rank = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for path in &all {
        let name = path.strip_prefix(&src).unwrap().display().to_string();
        let module = name.split(['/', '.']).next().unwrap();
        if is_test(&name) || module == "lib" || module == "main" {
            continue;
        }
        let own = rank(module).unwrap_or_else(|| panic!("src/{name} has no place in LAYERS"));
        let text = fs::read_to_string(path).unwrap();
        let depth = name.split('/').count();
        for other in named(program(&text), depth).iter().filter(|other| *other != module) {
            let Some(below) = rank(other) else { continue };
            let listed = UPWARDS.iter().find(|(file, up, _)| *file == name && up == other);
            match listed {
                Some(listed) => drop(used.insert(listed)),
                None if below < own => wrong.push(format!("src/{name} uses {other}, which stands above it")),
                None if GROUND.contains(&module) => {
                    wrong.push(format!("src/{name} uses {other}, and is ground"))
                }
                None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for listed in &UPWARDS {
        assert!(used.contains(listed), "{listed:?} points up no more; take it off the list");
    }
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let text = "use crate::a::{B, c};\n// crate::not\nuse crate::{d, e::{F, not}, g};\nfn x() -> crate::h::I {}\n\
                use super::super::i;\nuse super::not;\n";
    assert_eq!(named(text, 2).into_iter().collect::<Vec<_>>(), ["a", "d", "e", "g", "h", "i"]);
    assert_eq!(program("a\n#[cfg(test)]\nmod tests {\n b"), "a\n");
}
