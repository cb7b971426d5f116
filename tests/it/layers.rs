//! The sources themselves. Imports point down: what a module may use stands below it in this list. The sources are read for the
//! paths that they name; what only tests name does not count. And nothing refers to a document that a clone does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::common::sources::{all, is_test, program, texts};

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

#[test]
fn every_document_that_is_referred_to_is_in_the_tree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "crates", "tests", "benches", "docs", "config", "fuzz/fuzz_targets"];
    let mut all: Vec<_> = folders.iter().flat_map(|folder| texts(&root.join(folder))).collect();
    let documents = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    all.extend(documents.map(|name| (root.join(name), fs::read_to_string(root.join(name)).unwrap())));
    let names: BTreeSet<_> = all.iter().filter_map(|(path, _)| path.file_name()?.to_str()).collect();
    let mut lacking = Vec::new();
    for (path, text) in &all {
        let words =
            text.split(|c: char| !(c.is_alphanumeric() || "/._-§ ".contains(c))).flat_map(|s| s.split(' '));
        let mut before = "";
        for word in words {
            let document = word.trim_end_matches('.').rsplit('/').next().filter(|name| {
                let stem = name.strip_suffix(".md").unwrap_or_default();
                !stem.is_empty() && !stem.starts_with('-')
            });
            let is_lacking = document.is_some_and(|name| !names.contains(name));
            // A section of a document that is called by its name alone, as no standard is.
            let is_section =
                word.starts_with('§') && before.len() > 3 && before.chars().all(char::is_uppercase);
            if is_lacking || is_section {
                lacking.push(format!("{}: {before} {word}", path.display()));
            }
            before = word;
        }
    }
    assert!(lacking.is_empty(), "not in the tree: {lacking:#?}");
}

#[test]
fn no_type_has_the_name_of_another_one_of_its_crate() {
    let mut seen: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut twice = Vec::new();
    for (path, text) in all() {
        let of = path.split_once("src/").map_or("", |(of, _)| of).to_owned();
        for line in text.lines() {
            let words = line
                .strip_prefix("pub(")
                .and_then(|rest| rest.split_once(") "))
                .map_or(line, |(_, rest)| rest);
            let words = words.strip_prefix("pub ").unwrap_or(words);
            let Some((kind, rest)) = words.split_once(' ') else { continue };
            if !["struct", "enum", "trait", "type", "union"].contains(&kind) {
                continue;
            }
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            if let Some(other) = seen.insert((of.clone(), name.clone()), path.clone()) {
                twice.push(format!("{name}: {other} and {path}"));
            }
        }
    }
    assert!(seen.len() > 400, "only {} types were found", seen.len());
    assert!(twice.is_empty(), "{twice:#?}");
}
