//! Go's `encoding/json` and our reader on the same bodies, generated and mutated: whenever Go reads a source, a license, a
//! person, an allotment or a change, we read the same one, or refuse the body.
//!
//! The mutations are those by which somebody would give a body two readings. They are the same in every run.

use std::path::Path;
use std::process::Command;

use license_relay::licensing::json::same_name;
use license_relay::licensing::vocabulary::Words;
use serde_json::Value;

use crate::common::clients;
use crate::common::gojson::{Go, disagreement, is_refused, read};
use crate::common::length::by_length;

const SAMPLES: [&str; 6] = [
    include_str!("../samples/activation-request.json"),
    include_str!("../samples/capacity-request.json"),
    include_str!("../samples/sync-request.json"),
    include_str!("../samples/sync-request-idle.json"),
    include_str!("../samples/sync-request-wrapped.json"),
    // Deletes, and members at the places of lower rank.
    r#"{"sourceId":"a-deployment","license":"88880000","metadata":{"source":"my assignments","bases":[{"license":"88880000","version":3}],
        "patches":[{"subject":"acme\\bob","allotment":"analyzer","deleted":true},{"subject":"acme\\eve","allotment":"analyzer","op":"remove"}]}}"#,
];

/// The names that are read, in the built-in vocabulary.
const NAMES: [&str; 24] = [
    "source",
    "sourceId",
    "signedLicenseKey",
    "licenseKey",
    "key",
    "slk",
    "license",
    "cause",
    "id",
    "allotment",
    "name",
    "month",
    "consumption",
    "bases",
    "patches",
    "metadata",
    "version",
    "instance",
    "subject",
    "deleted",
    "operation",
    "action",
    "op",
    "harmless",
];

/// Values as they are written: of every type, of every odd spelling, and some that are fit for the places.
const VALUES: [&[u8]; 48] = [
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"1e999",
    b"-1e999",
    b"1E5",
    b"1e5",
    b"100000",
    b"100000.0",
    b"0.5",
    b"9999000000001253",
    b"9999000000001253.0",
    b"88880000",
    b"8.888e7",
    b"9007199254740993",
    b"18446744073709551616",
    b"5382018630938057025",
    b"\"\"",
    b"\" \"",
    b"\"a\"",
    b"\"b\"",
    b"\"other-deployment\"",
    b"\"88880000\"",
    b"\"8888 0000\"",
    b"\"9999 0000 0000 1253\"",
    b"\"acme\\\\bob\"",
    b"\"\\u0061cme\\\\bob\"",
    b"\"acme\\u005cbob\"",
    b"\"\\ud800\"",
    b"\"\\udc00\\ud800\"",
    b"\"\\ud83d\\ude00\"",
    b"\"\\ud800\\u0041\"",
    b"\"a\xffb\"",
    b"\"\xe2\x82\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xf0\x9f\x98\"",
    b"\"caf\xc3\xa9\"",
    b"\"delete\"",
    b"\"add\"",
    b"\"analyzer\"",
    b"\"professional\"",
    b"[]",
    b"{}",
    b"[null]",
    b"[\"a\",\"b\"]",
    b"{\"source\":\"b\",\"license\":\"88880000\"}",
];

/// JSON that may have what no value has: members that come twice, and any spelling.
#[derive(Clone)]
enum Tree {
    Written(Vec<u8>),
    List(Vec<Self>),
    Object(Vec<(Vec<u8>, Self)>),
}

impl Tree {
    fn of(value: &Value) -> Self {
        match value {
            Value::Array(list) => Self::List(list.iter().map(Self::of).collect()),
            Value::Object(members) => {
                Self::Object(members.iter().map(|(name, value)| (quoted(name), Self::of(value))).collect())
            }
            other => Self::Written(other.to_string().into_bytes()),
        }
    }

    fn write(&self, into: &mut Vec<u8>) {
        match self {
            Self::Written(text) => into.extend(text),
            Self::List(list) => {
                into.push(b'[');
                for (at, element) in list.iter().enumerate() {
                    into.extend((at > 0).then_some(b','));
                    element.write(into);
                }
                into.push(b']');
            }
            Self::Object(members) => {
                into.push(b'{');
                for (at, (name, value)) in members.iter().enumerate() {
                    into.extend((at > 0).then_some(b','));
                    into.extend(name);
                    into.push(b':');
                    value.write(into);
                }
                into.push(b'}');
            }
        }
    }

    /// A node somewhere in it, more often one near the root than its number would make it.
    fn pick(&mut self, luck: &mut Luck) -> &mut Self {
        let children = match self {
            Self::Written(_) => 0,
            Self::List(list) => list.len(),
            Self::Object(members) => members.len(),
        };
        if children == 0 || luck.one_in(3) {
            return self;
        }
        let at = luck.below(children);
        match self {
            Self::List(list) => list[at].pick(luck),
            Self::Object(members) => members[at].1.pick(luck),
            Self::Written(_) => unreachable!("it has no children"),
        }
    }
}

fn quoted(name: &str) -> Vec<u8> {
    Value::from(name).to_string().into_bytes()
}

/// Random numbers that are the same in every run (SplitMix64).
struct Luck(u64);

impl Luck {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn value(&mut self) -> Tree {
        if self.one_in(60) {
            return Tree::Written(quoted(&"long ".repeat(400)));
        }
        let written = self.of(&VALUES);
        let json = serde_json::from_slice(written);
        json.map_or_else(
            |_| Tree::Written(written.to_vec()),
            |value: Value| {
                // Numbers as they are written.
                if value.is_array() || value.is_object() {
                    Tree::of(&value)
                } else {
                    Tree::Written(written.to_vec())
                }
            },
        )
    }

    /// The same name in a spelling of its own, or one that looks alike.
    fn spelled(&mut self, name: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(name).into_owned();
        let inner = text.trim_matches('"');
        let spelled = match self.below(8) {
            0 => inner.to_uppercase(),
            1 => inner.to_lowercase(),
            2 => inner.chars().map(|c| if self.one_in(2) { c.to_ascii_uppercase() } else { c }).collect(),
            3 => inner.replacen('s', "\u{17f}", 1),
            4 => inner.replacen('k', "\u{212a}", 1).replacen('i', "\u{131}", 1),
            5 => inner
                .chars()
                .map(|c| if self.one_in(2) { format!("\\u{:04x}", u32::from(c)) } else { c.into() })
                .collect(),
            6 => inner.replacen('s', "\\u017F", 1).replacen('e', "\\u0435", 1),
            _ => inner.to_owned(),
        };
        format!("\"{spelled}\"").into_bytes()
    }
}

/// Changes one thing of a body before it is written.
fn change(tree: &mut Tree, luck: &mut Luck) {
    let copy = tree.clone().pick(luck).clone();
    let node = tree.pick(luck);
    match node {
        Tree::Object(members) if !members.is_empty() => {
            let at = luck.below(members.len());
            let place = luck.below(members.len() + 1);
            match luck.below(10) {
                // A double, in the same spelling or another.
                0..=2 => {
                    let name = luck.spelled(&members[at].0);
                    let value = match luck.below(4) {
                        0 => members[at].1.clone(),
                        1 => copy,
                        2 => {
                            let mut value = members[at].1.clone();
                            change(&mut value, luck);
                            value
                        }
                        _ => luck.value(),
                    };
                    members.insert(place, (name, value));
                }
                // An object in two parts, which merge.
                3 => {
                    if let (name, Tree::Object(inner)) = &mut members[at] {
                        let rest = inner.split_off(luck.below(inner.len() + 1));
                        let name = luck.spelled(name);
                        members.insert(place, (name, Tree::Object(rest)));
                    }
                }
                4 => members[at].0 = luck.spelled(&members[at].0),
                5 => members[at].0 = quoted(luck.of(&NAMES)),
                6 => members[at].1 = luck.value(),
                7 => drop(members.remove(at)),
                8 => members.insert(
                    place,
                    (quoted(luck.of(&NAMES)), if luck.one_in(2) { copy } else { luck.value() }),
                ),
                _ => {
                    let name = quoted(luck.of(&NAMES));
                    members.insert(place, (luck.spelled(&name), luck.value()));
                }
            }
        }
        Tree::List(list) => match luck.below(5) {
            0 => list.push(copy),
            1 => list.insert(0, luck.value()),
            2 if !list.is_empty() => drop(list.remove(luck.below(list.len()))),
            3 if list.len() == 1 => *node = list.remove(0),
            _ => list.extend(list.clone()),
        },
        other => {
            *other = match luck.below(4) {
                0 => Tree::List(vec![other.clone()]),
                1 => Tree::Object(vec![(quoted(luck.of(&NAMES)), other.clone())]),
                _ => luck.value(),
            }
        }
    }
}

/// Changes one thing of a body that is written.
fn damage(body: &mut Vec<u8>, luck: &mut Luck) {
    let at = luck.below(body.len());
    let insert =
        |body: &mut Vec<u8>, at: usize, bytes: &[u8]| drop(body.splice(at..at, bytes.iter().copied()));
    let odd: [&[u8]; 10] =
        [b"\xff", b"\xc3", b"\\ud800", b"\\u0000", b"\\", b"\"", b",", b"\x00", b" \t\r\n", b"\xef\xbb\xbf"];
    let behind: [&[u8]; 7] = [b" ", b"\n", b" x", b"{}", b"\x00", b"{\"source\":\"other-deployment\"}", b"]"];
    match luck.below(9) {
        0 => body[at] ^= 1 << luck.below(8),
        1 => body[at] = luck.next().to_be_bytes()[0],
        2 => drop(body.remove(at)),
        3 | 4 => insert(body, at, luck.of(&odd)),
        5 => insert(body, 0, b"\xef\xbb\xbf"),
        6 => body.truncate(at),
        7 => {
            let depth = luck.of(&[1, 31, 33, 9_999, 10_000]);
            let nested = [b"[".repeat(depth), body.clone(), b"]".repeat(depth)].concat();
            *body = nested;
        }
        _ => body.extend(luck.of(&behind)),
    }
}

/// Body number `n`.
fn made(n: usize) -> Vec<u8> {
    let mut luck = Luck(n as u64);
    let mut tree = Tree::of(&serde_json::from_str(luck.of(&SAMPLES)).unwrap());
    for _ in 0..=luck.below(4) {
        change(&mut tree, &mut luck);
    }
    let mut body = Vec::new();
    tree.write(&mut body);
    for _ in 0..luck.below(5).saturating_sub(2) {
        damage(&mut body, &mut luck);
        if body.is_empty() {
            break;
        }
    }
    body
}

/// Asks one Go about all bodies.
fn compare(program: &Path) {
    let words = Words::load(None).unwrap();
    let mut go = Go::start(program).unwrap();
    let (mut compared, mut wrong) = (0, Vec::new());
    // Some seconds on a slow core.
    let bodies = by_length(4_000, 8_000, 80_000);
    for n in 0..bodies {
        let body = made(n);
        let readings = go.read(&body);
        compared += usize::from(!readings.is_empty() && !is_refused(&read(&body, &words)));
        wrong.extend(disagreement(&body, &readings, &words).map(|why| format!("number {n}: {why}\n")));
    }
    let shown = wrong[..wrong.len().min(20)].join("\n");
    assert!(wrong.is_empty(), "{} of {bodies} bodies are read otherwise\n{shown}", wrong.len());
    // The comparison is worth nothing where most bodies are no JSON or refused.
    assert!(compared > bodies / 4, "only {compared} of {bodies} bodies were compared");
}

#[test]
fn what_debians_go_reads_is_what_we_read_or_refuse() {
    compare(&clients::go("gojson"));
}

#[test]
fn what_the_newest_go_reads_is_what_we_read_or_refuse() {
    compare(&clients::newest_go("gojson"));
}

#[test]
fn names_that_go_takes_for_one_are_one() {
    for program in [clients::go("gojson"), clients::newest_go("gojson")] {
        let output = Command::new(program).arg("folds").output().unwrap();
        let letter = |number: &str| char::from_u32(number.parse().unwrap()).unwrap().to_string();
        let mut count = 0;
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let (one, other) = line.split_once(' ').unwrap();
            assert!(same_name(&letter(one), &letter(other)), "{line}");
            count += 1;
        }
        assert!(count > 1000, "{count}");
    }
    // A capital of another letter makes no other case of it.
    for (one, other) in
        [("\u{131}", "i"), ("\u{130}", "i"), ("\u{df}", "ss"), ("\u{149}", "n"), ("\u{fb01}", "fi")]
    {
        assert!(!same_name(one, other) && !same_name(one, &other.to_uppercase()), "{one}");
    }
}

#[test]
fn every_seed_of_the_fuzz_target_is_read_as_go_reads_it() {
    let words = Words::load(None).unwrap();
    let mut go = Go::start(&clients::go("gojson")).unwrap();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/json");
    for seed in std::fs::read_dir(seeds).unwrap() {
        let path = seed.unwrap().path();
        let body = std::fs::read(&path).unwrap();
        let wrong = disagreement(&body, &go.read(&body), &words);
        assert_eq!(wrong, None, "{}", path.display());
    }
}
