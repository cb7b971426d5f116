//! Random histories, and what the readers say of them against what truly happened: two relays, deployments that go
//! around them for a while, lost replies, rejections, month ends, units that overlap, keys that roll over.
//!
//! A history follows from its seed; `ORACLE_SEED=n` tries that one alone, and `ORACLE_COUNT` says how many.

mod answers;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use license_relay::licensing::message::Change;
use serde_json::Value;
use tempfile::TempDir;

use answers::{Holder, Item};
use world::{ALLOTMENTS, At, Dice, End, LICENSES, TIME, What, World};

use crate::common::length::by_length;
use crate::common::{program, run, scenes};

/// A history that is written, and the readers.
struct Case {
    world: World,
    items: Vec<Item>,
    logs: Vec<PathBuf>,
    /// Pseudonym to person.
    people: BTreeMap<String, usize>,
    sources: BTreeMap<String, usize>,
    folder: TempDir,
}

impl Case {
    fn new(world: World, segment: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let logs = world.write(folder.path(), segment);
        let mut people = BTreeMap::new();
        for key in world.keys(folder.path()) {
            for person in 0..world.people {
                people.insert(key.of(&scenes::subject(&world::name(person, false))), person);
            }
        }
        let sources = world.deployments.iter().enumerate().map(|(n, d)| (d.source.clone(), n)).collect();
        let items = answers::told(&world);
        Self { world, items, logs, people, sources, folder }
    }

    /// What a verb says with `--json`.
    fn ask(&self, verb: &[&str]) -> Value {
        let mut command = program();
        command.args(["audit", verb[0], "--json"]).args(&verb[1..]);
        for log in &self.logs {
            command.arg("--log").arg(log);
        }
        let output = run(&mut command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code();
        // Some verbs say by it that they have found something.
        assert!(matches!(code, Some(0 | 4)), "{verb:?}: {code:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{verb:?}: {e}: {said}"))
    }

    fn time(&self, at: At) -> String {
        self.world.time(at).to_string()
    }

    fn at(&self, time: &Value) -> Option<At> {
        let time: Timestamp = time.as_str()?.parse().unwrap();
        Some(time.duration_since(self.world.begin).as_secs())
    }

    fn person(&self, row: &Value, column: &str) -> usize {
        let subject = row[column].as_str().unwrap_or_else(|| panic!("no {column}: {row}"));
        *self.people.get(subject).unwrap_or_else(|| panic!("nobody is {subject}: {row}"))
    }

    fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

fn rows(answer: &Value) -> &[Value] {
    answer["rows"].as_array().unwrap_or_else(|| panic!("no rows: {answer:#}"))
}

fn license(row: &Value) -> usize {
    LICENSES.iter().position(|license| row["license"] == *license).unwrap_or_else(|| panic!("{row}"))
}

fn allotment(row: &Value) -> usize {
    ALLOTMENTS.iter().position(|allotment| row["allotment"] == *allotment).unwrap_or_else(|| panic!("{row}"))
}

/// Two lists that must be the same; only what differs is told.
fn same<T: Clone + Ord + std::fmt::Debug>(what: &str, theirs: &[T], ours: &[T]) {
    let (mut theirs, mut ours) = (theirs.to_vec(), ours.to_vec());
    theirs.sort();
    ours.sort();
    let mut missing = Vec::new();
    for row in ours {
        match theirs.iter().position(|other| *other == row) {
            Some(place) => drop(theirs.remove(place)),
            None => missing.push(row),
        }
    }
    assert!(
        theirs.is_empty() && missing.is_empty(),
        "{what}\n  said, and not true: {theirs:#?}\n  true, and not said: {missing:#?}"
    );
}

fn check_state(case: &Case, at: At) {
    let answer = case.ask(&["state", "--at", &case.time(at)]);
    let statuses = ["holds", "unknown", "pending add", "pending delete", "unknown add", "unknown delete"];
    let theirs: Vec<Holder> = rows(&answer)
        .iter()
        .map(|row| {
            let status = statuses.iter().find(|status| row["status"] == **status);
            let status = *status.unwrap_or_else(|| panic!("{row}"));
            let told = matches!(status, "holds" | "unknown");
            Holder {
                license: license(row),
                allotment: allotment(row),
                person: case.person(row, "subject"),
                status,
                since: case.at(&row["since"]).filter(|_| told),
                version: row["version"].as_u64().filter(|_| told),
            }
        })
        .collect();
    same(
        &format!("state at {} ({at})", case.time(at)),
        &theirs,
        &answers::state(&case.world, &case.items, at),
    );
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Add => "add",
        Change::Delete => "delete",
        Change::Unknown => "unknown",
    }
}

fn check_changes(case: &Case, from: At, to: At) {
    let answer = case.ask(&["changes", "--from", &case.time(from), "--to", &case.time(to)]);
    type Row = (At, usize, usize, String, String, Option<usize>, Option<u64>);
    let theirs: Vec<Row> = rows(&answer)
        .iter()
        .map(|row| {
            let text = |column: &str| row[column].as_str().unwrap_or_default().to_owned();
            let subject = row["subject"].as_str().map(|_| case.person(row, "subject"));
            let version = row["version"].as_u64().filter(|version| *version > 0);
            (
                case.at(&row["time"]).unwrap(),
                license(row),
                allotment(row),
                text("change"),
                text("result"),
                subject,
                version,
            )
        })
        .collect();
    let new =
        case.items.iter().enumerate().filter(|(_, item)| !item.repeat && from <= item.at && item.at <= to);
    let ours: Vec<Row> = new
        .map(|(place, item)| {
            let result = if item.told.rejected { "rejected" } else { "done" };
            let version = Some(item.told.version).filter(|version| *version > 0);
            let person = answers::person_of(item, &case.items[..place]);
            let change = word(item.told.change).to_owned();
            (item.at, item.license, item.told.allotment, change, result.to_owned(), person, version)
        })
        .collect();
    same(&format!("changes from {} to {}", case.time(from), case.time(to)), &theirs, &ours);
}

fn check_reconcile(case: &Case) {
    let answer = case.ask(&["reconcile"]);
    let ours = answers::reconcile(&case.world, &case.items);
    let mut said = BTreeMap::new();
    for row in rows(&answer) {
        if row["allotment"] == TIME {
            continue;
        }
        let key = (row["day"].as_str().unwrap().parse().unwrap(), license(row), allotment(row));
        let mut theirs = answers::Use {
            at_end: row["at_end"].as_i64().unwrap(),
            peak: row["peak"].as_i64().unwrap(),
            units: row["units"].as_i64(),
            cap: row["cap"].as_i64(),
            over: row["over"].as_i64(),
            overage_unknown: false,
        };
        if ours.get(&key).is_some_and(|ours| ours.overage_unknown) {
            // What could not be read may be any number: whether that is over is nobody's to say.
            (theirs.cap, theirs.over, theirs.overage_unknown) = (None, None, true);
        }
        assert_eq!(Some(&theirs), ours.get(&key), "reconcile {key:?}: theirs, ours; {row}");
        assert!(said.insert(key, theirs).is_none(), "reconcile says {key:?} twice");
    }
    for (key, day) in ours {
        assert!(day.peak == 0 || said.contains_key(&key), "reconcile has no row for {key:?}: {day:?}");
    }
}

fn check_consumption(case: &Case) {
    for ((license, month), consumed) in answers::consumption(&case.world) {
        let answer = case.ask(&["consumption", "--month", &month]);
        let own: Vec<&Value> = rows(&answer)
            .iter()
            .filter(|row| row["license"] == LICENSES[license] && row["allotment"] == TIME)
            .collect();
        let (sums, sources): (Vec<&Value>, Vec<&Value>) =
            own.iter().partition(|row| row["source"].as_str().unwrap_or_default().is_empty());
        let number = |row: &Value, column: &str| row[column].as_i64().unwrap_or(0);
        let theirs: Vec<_> = sources
            .iter()
            .map(|row| {
                let source = case.sources[row["source"].as_str().unwrap()];
                (source, number(row, "delta"), number(row, "delta_unknown"))
            })
            .filter(|(_, delta, unknown)| (*delta, *unknown) != (0, 0))
            .collect();
        let ours: Vec<_> = consumed
            .sources
            .iter()
            .map(|(source, (delta, unknown))| (*source, *delta, *unknown))
            .filter(|(_, delta, unknown)| (*delta, *unknown) != (0, 0))
            .collect();
        same(&format!("consumption in {month}"), &theirs, &ours);
        let low: i64 = consumed.sources.values().map(|(delta, _)| delta).sum();
        let high: i64 = low + consumed.sources.values().map(|(_, unknown)| unknown).sum::<i64>();
        let [sum] = sums.as_slice() else { panic!("not one sum of {month}: {answer:#}") };
        let numbers = |columns: [&str; 5]| columns.map(|column| sum[column].as_i64());
        assert_eq!(
            numbers(["delta_low", "delta_high", "total", "difference", "difference_low"]),
            [
                Some(low),
                Some(high),
                consumed.total,
                consumed.total.map(|total| total - low),
                consumed.total.map(|total| total - high),
            ],
            "{month}: {sum:#}"
        );
    }
}

fn check_gaps(case: &Case) {
    let answer = case.ask(&["gaps"]);
    type Row = (usize, At, At, [i64; 7], bool);
    let whole = |row: &Value, column: &str| {
        let minutes = row[column].as_f64().unwrap_or_else(|| panic!("no {column}: {row}"));
        assert_eq!(minutes.fract(), 0.0, "{column}: {row}");
        minutes as i64
    };
    let of_source =
        |row: &&Value| row["source"].as_str().is_some_and(|source| case.sources.contains_key(source));
    let kinds = ["relay_down", "refused", "failing", "silent", "around", "waiting"];
    let theirs: Vec<Row> = rows(&answer)
        .iter()
        .filter(of_source)
        .filter(|row| !row["minutes"].is_null())
        .map(|row| {
            let [a, b, c, d, e, f] = kinds.map(|kind| whole(row, kind));
            let largest = [a, b, c, d, e].into_iter().max().unwrap();
            let kind = row["kind"].as_str().unwrap().replace(' ', "_");
            let place = kinds.iter().position(|known| *known == kind).unwrap_or_else(|| panic!("{row}"));
            assert_eq!([a, b, c, d, e, f][place], largest, "not the largest: {row}");
            assert_eq!(row["inferred"].as_bool().unwrap(), e > 0, "{row}");
            (
                case.sources[row["source"].as_str().unwrap()],
                case.at(&row["from"]).unwrap(),
                case.at(&row["to"]).unwrap(),
                [whole(row, "minutes"), a, b, c, d, e, f],
                row["ongoing"].as_bool().unwrap(),
            )
        })
        .collect();
    let ours: Vec<Row> = answers::gaps(&case.world)
        .into_iter()
        .map(|gap| {
            let minutes = (gap.to - gap.from) / 60;
            let parts = [minutes, gap.down, gap.refused, gap.failing, gap.silent, gap.around, gap.waiting];
            (gap.by, gap.from, gap.to, parts, gap.ongoing)
        })
        .collect();
    same("gaps", &theirs, &ours);
}

fn check_coverage(case: &Case) {
    let answer = case.ask(&["changes"]);
    let coverage = answer["coverage"].as_array().unwrap();
    for (place, number) in LICENSES.iter().enumerate() {
        let Some(ours) = answers::coverage(&case.world, place) else { continue };
        let row = coverage.iter().find(|row| row["license"] == *number);
        let row = row.unwrap_or_else(|| panic!("no coverage of {number}: {answer:#}"));
        let holes = row["holes"].as_array().unwrap().iter();
        let holes = holes.map(|hole| {
            assert_eq!(hole["inferred"], true, "{row}");
            (hole["from"].as_u64().unwrap(), hole["to"].as_u64().unwrap())
        });
        let theirs = answers::Covered {
            known_from: row["known_from"].as_u64().unwrap(),
            complete_to: row["complete_to"].as_u64().unwrap(),
            holes: holes.collect(),
        };
        assert_eq!(theirs, ours, "coverage of {number}: theirs, ours");
    }
}

fn check_churn(case: &Case) {
    let answer = case.ask(&["churn", "--within", "7d"]);
    let theirs: Vec<answers::Moved> = rows(&answer)
        .iter()
        .map(|row| {
            let at = |column: &str| case.at(&row[column]).unwrap();
            let person = |column: &str| case.person(row, column);
            (license(row), allotment(row), person("from"), person("to"), at("deleted"), at("added"))
        })
        .collect();
    same("churn", &theirs, &answers::churn(&case.items, SignedDuration::from_hours(7 * 24)));
}

fn check_deployments(case: &Case) {
    let answer = case.ask(&["deployments"]);
    type Row = (usize, usize, i64, i64, i64);
    let theirs: Vec<Row> = rows(&answer)
        .iter()
        .map(|row| {
            let number = |column: &str| row[column].as_i64().unwrap_or_else(|| panic!("{column}: {row}"));
            (
                case.sources[row["source"].as_str().unwrap()],
                license(row),
                number("adds"),
                number("deletes"),
                number("syncs"),
            )
        })
        .collect();
    let mut ours: BTreeMap<usize, Row> = BTreeMap::new();
    for fact in &case.world.facts {
        let (by, exchange, end) = match &fact.what {
            What::Synced { by, exchange, end, .. } => (by, exchange, end),
            What::Asked { by, .. }
            | What::Used { by, .. }
            | What::Refused { by, .. }
            | What::Defined { by, .. }
            | What::UsedEnd { by, .. } => {
                ours.entry(*by).or_insert((*by, case.world.license_of[*by], 0, 0, 0));
                continue;
            }
            _ => continue,
        };
        let row = ours.entry(*by).or_insert((*by, case.world.license_of[*by], 0, 0, 0));
        let End::Told((_, told)) = end else { continue };
        row.4 += 1;
        let asked = case.world.facts.iter().find_map(|fact| match &fact.what {
            What::Asked { exchange: asked, changes, .. } if asked == exchange => Some(changes),
            _ => None,
        });
        for wish in asked.into_iter().flatten() {
            let done = told.iter().any(|told| {
                !told.rejected
                    && !told.nameless
                    && (told.allotment, told.person, told.change)
                        == (wish.allotment, wish.person, wish.change)
            });
            match wish.change {
                Change::Add if done => row.2 += 1,
                Change::Delete if done => row.3 += 1,
                _ => {}
            }
        }
    }
    same("deployments", &theirs, &ours.into_values().collect::<Vec<_>>());
}

fn check_history(case: &Case, person: usize) {
    let key = case.folder.path().join("subject.key").display().to_string();
    let answer = case.ask(&["history", "--subject", &world::name(person, true), "--subject-key", &key]);
    type Row = (At, String, usize, usize, String, Option<u64>);
    let theirs: Vec<Row> = rows(&answer)
        .iter()
        .filter(|row| row["allotment"].is_string() && row["direction"].is_string())
        .map(|row| {
            assert!(row["subject"].is_null() || case.person(row, "subject") == person, "{row}");
            let text = |column: &str| row[column].as_str().unwrap_or_default().to_owned();
            let version = row["version"].as_u64().filter(|version| *version > 0);
            (
                case.at(&row["time"]).unwrap(),
                text("direction"),
                license(row),
                allotment(row),
                text("change"),
                version,
            )
        })
        .collect();
    let mut ours: Vec<Row> = Vec::new();
    for fact in &case.world.facts {
        let (by, direction, changes) = match &fact.what {
            What::Asked { by, changes, .. } => (by, "asked", changes),
            What::Synced { by, end: End::Told((_, changes)), .. } => (by, "told", changes),
            _ => continue,
        };
        for told in changes.iter().filter(|told| told.person == person && !told.nameless) {
            let version = Some(told.version).filter(|version| *version > 0);
            let license = case.world.license_of[*by];
            ours.push((
                fact.at,
                direction.into(),
                license,
                told.allotment,
                word(told.change).into(),
                version,
            ));
        }
    }
    // A change that names its instance alone may be listed, or not.
    let nameless = |row: &Row| {
        let of = |item: &&Item| item.told.nameless && item.told.person == person;
        row.1 == "told"
            && case
                .items
                .iter()
                .filter(of)
                .any(|item| (item.license, Some(item.told.version)) == (row.2, row.5))
    };
    let theirs: Vec<Row> = theirs.into_iter().filter(|row| !nameless(row)).collect();
    same(&format!("history of {person}"), &theirs, &ours);
}

fn check_denied(case: &Case) {
    let answer = case.ask(&["denied"]);
    type Row = (At, usize, String, i64);
    let theirs: Vec<Row> = rows(&answer)
        .iter()
        .map(|row| {
            let source = case.sources[row["source"].as_str().unwrap()];
            let count = row["count"].as_i64().unwrap_or(1);
            (case.at(&row["time"]).unwrap(), source, row["action"].as_str().unwrap().to_owned(), count)
        })
        .collect();
    let refused = case.world.facts.iter().filter_map(|fact| match &fact.what {
        What::Refused { by, limited } => {
            let action = if *limited { "access.limited" } else { "access.denied" };
            Some((fact.at, *by, action.to_owned(), 1))
        }
        _ => None,
    });
    same("denied", &theirs, &refused.collect::<Vec<Row>>());
}

/// One verb of one history.
type Check<'c> = (&'static str, Box<dyn Fn(&Case) + 'c>);

/// Tries all verbs, or those in `ORACLE_VERBS`; gives what is wrong.
fn check(seed: u64) -> Vec<(&'static str, String)> {
    let mut dice = Dice::new(seed ^ 0xa5a5);
    let segment = if dice.percent(50) { 200 } else { u64::MAX };
    let case = Case::new(World::new(seed), segment);
    let only = std::env::var("ORACLE_VERBS").unwrap_or_default();
    let wanted = |verb: &str| only.is_empty() || only.split(',').any(|one| one == verb);
    let end = case.world.facts.iter().map(|fact| fact.at).max().unwrap();
    let minute = |dice: &mut Dice| dice.within(0, end / 60) * 60;
    // Between two minutes, on one, and at the very end.
    let times = [minute(&mut dice) + 30, minute(&mut dice), end];
    // All of it, or a part.
    let from = if dice.percent(50) { 0 } else { minute(&mut dice) + 30 };
    let to = if from == 0 { end } else { dice.within(from, end.max(from)) };
    let person = usize::try_from(dice.below(case.world.people as u64)).unwrap();
    let checks: Vec<Check<'_>> = vec![
        ("state", Box::new(|case| times.into_iter().for_each(|at| check_state(case, at)))),
        ("changes", Box::new(|case| check_changes(case, from, to))),
        ("reconcile", Box::new(check_reconcile)),
        ("consumption", Box::new(check_consumption)),
        ("gaps", Box::new(check_gaps)),
        ("coverage", Box::new(check_coverage)),
        ("churn", Box::new(check_churn)),
        ("deployments", Box::new(check_deployments)),
        ("denied", Box::new(check_denied)),
        ("history", Box::new(|case| check_history(case, person))),
    ];
    let mut wrong = Vec::new();
    for (verb, check) in checks.iter().filter(|(verb, _)| wanted(verb)) {
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&case)));
        if let Err(why) = checked {
            let words = why.downcast_ref::<String>().cloned().unwrap_or_default();
            wrong.push((*verb, format!("ORACLE_SEED={seed} ORACLE_VERBS={verb}: {words}")));
        }
    }
    if !wrong.is_empty() && std::env::var_os("ORACLE_KEEP").is_some() {
        println!("ORACLE_SEED={seed}: the logs lie in {}", case.keep().display());
    }
    wrong
}

#[test]
fn readers_say_what_truly_happened_in_random_histories() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("ORACLE_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("ORACLE_COUNT").unwrap_or_else(|| by_length(20, 60, 600))).collect(),
    };
    // What is wrong is told at the end, sorted.
    std::panic::set_hook(Box::new(|_| {}));
    let half =
        |part: usize| seeds.iter().skip(part).step_by(2).flat_map(|seed| check(*seed)).collect::<Vec<_>>();
    let wrong = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        [half(0), other.join().unwrap()].concat()
    });
    let _ = std::panic::take_hook();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (verb, words) in &wrong {
        let count = counts.entry(verb).or_default();
        *count += 1;
        if *count <= 2 {
            println!("{words}\n");
        }
    }
    assert!(wrong.is_empty(), "of {} histories, these were told wrong: {counts:?}", seeds.len());
}

/// The histories are worth the name: what is to be told apart is in them.
#[test]
fn the_histories_hold_what_they_are_to_hold() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut note = |what, times: usize| *seen.entry(what).or_default() += times;
    for seed in 0..40 {
        let world = World::new(seed);
        let items = answers::told(&world);
        let count = |fits: &dyn Fn(&Item) -> bool| items.iter().filter(|item| fits(item)).count();
        note("repeats", count(&|item| item.repeat));
        note("rejections", count(&|item| item.told.rejected));
        note("nameless deletes", count(&|item| item.told.nameless));
        note("unknown changes", count(&|item| item.told.change == Change::Unknown));
        note(
            "lost",
            world
                .facts
                .iter()
                .filter(|f| matches!(&f.what, What::Synced { end, .. } if end.is_unknown()))
                .count(),
        );
        note("two logs", usize::from(world.logs == 2));
        let late = |(n, item): (usize, &Item)| {
            !item.repeat
                && items[..n].iter().any(|e| e.license == item.license && e.told.version > item.told.version)
        };
        note("told late", items.iter().enumerate().filter(|one| late(*one)).count());
        let end = world.facts.last().unwrap().at;
        for at in (0..end).step_by(7200) {
            for row in answers::state(&world, &items, at) {
                note(row.status, 1);
            }
        }
        for gap in answers::gaps(&world) {
            for (kind, minutes) in [
                ("down", gap.down),
                ("refused", gap.refused),
                ("failing", gap.failing),
                ("silent", gap.silent),
                ("around", gap.around),
                ("waiting", gap.waiting),
            ] {
                note(kind, usize::from(minutes > 0));
            }
        }
        for license in 0..2 {
            note("holes", answers::coverage(&world, license).map_or(0, |covered| covered.holes.len()));
        }
        note("moved", answers::churn(&items, SignedDuration::from_hours(168)).len());
        let days = answers::reconcile(&world, &items);
        note("over", days.values().filter(|day| day.over.is_some_and(|over| over > 0)).count());
        note("no cap", days.values().filter(|day| day.units.is_some() && day.cap.is_none()).count());
    }
    println!("{seen:#?}");
    for (what, times) in seen {
        assert!(times > 3, "{what}: {times}");
    }
}
