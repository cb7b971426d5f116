//! Imports point down: what a module may use stands below it in this list. The sources are read for the paths that they name;
//! what only tests name does not count.

use std::collections::BTreeSet;

use crate::common::sources::{all, is_test, program};

/// The modules of each crate, from the top to the ground. What a crate may use of another one, the compiler knows.
const LAYERS: [(&str, &[&str]); 4] = [
    (
        "src",
        &[
            "cli",
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
            "observe",
            "memory",
            "turns",
            "config",
            "body_cost",
            "budget",
            "stream",
            "bounds",
        ],
    ),
    ("crates/stub/src", &["control", "licensing", "trouble", "wire"]),
    ("crates/report/src", &["verbs", "kit", "page", "ask", "read", "fold", "input", "table"]),
    (
        "crates/log/src",
        &[
            "console",
            "verify",
            "ledger",
            "names",
            "files",
            "stderr",
            "file_size",
            "threads",
            "text",
            "bounds",
        ],
    ),
];

/// Modules that use nothing of the house.
const GROUND: [&str; 2] = ["bounds", "text"];

/// The modules of the house that a source names, at the beginning of a path: `relay_log::text::…`, `crate::{bounds, threads}`, or
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
    let all = all();
    assert!(all.len() > 200, "{} sources", all.len());
    let mut wrong = Vec::new();
    for (path, text) in &all {
        let (crate_, layers) = LAYERS
            .iter()
            .find(|(crate_, _)| path.starts_with(&format!("{crate_}/")))
            .unwrap_or_else(|| panic!("{path} is in a crate that has no place in LAYERS"));
        let name = &path[crate_.len() + 1..];
        let module = name.split(['/', '.']).next().unwrap();
        if is_test(path) || module == "lib" || module == "main" {
            continue;
        }
        let rank = |module: &str| layers.iter().position(|layer| *layer == module);
        let own = rank(module).unwrap_or_else(|| panic!("{path} has no place in LAYERS"));
        let depth = name.split('/').count();
        for other in named(program(text), depth).iter().filter(|other| *other != module) {
            let Some(below) = rank(other) else { continue };
            if below < own {
                wrong.push(format!("{path} uses {other}, which stands above it"));
            } else if GROUND.contains(&module) {
                wrong.push(format!("{path} uses {other}, and is ground"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let text = "use crate::a::{B, c};\n// crate::not\nuse crate::{d, e::{F, not}, g};\nfn x() -> crate::h::I {}\n\
                use super::super::i;\nuse super::not;\n";
    assert_eq!(named(text, 2).into_iter().collect::<Vec<_>>(), ["a", "d", "e", "g", "h", "i"]);
    assert_eq!(program("a\n#[cfg(test)]\nmod tests {\n b"), "a\n");
}
