//! What all others do at one time costs a deployment at most as much again: beside its own flush of the disk it waits for
//! the one that is under way, and for nothing that others have sent.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread::{sleep, spawn};
use std::time::{Duration, SystemTime};

use crate::common::backend::Backend;
use crate::common::load::{self, Load};
use crate::common::slow_disk::with_flushes_of;
use crate::common::wire::*;
use crate::common::*;

/// Names the relay, its root, and a folder to the test's own child.
const CHILD: &str = "LICENSE_RELAY_TEST_LOAD";
/// The load ends by itself after this time, should the test be killed.
const LONGEST: Duration = Duration::from_secs(120);
/// The deployment that is measured.
const SEVENTH: &str = "seventh";
/// How often it is measured at most.
const TRIES: usize = 3;
/// In each round it sends so many idle syncs, and one with changes.
const ROUNDS: usize = 100;
const IDLE_SYNCS: usize = 3;
const CHANGES: usize = 20;
/// From one request to the next, unless one takes longer.
const PACE: Duration = Duration::from_millis(40);
/// The writes that an idle sync waits for, and one with changes: its own, and those that are under way when they come.
const WRITES_IDLE: u32 = 2;
const WRITES_CHANGES: u32 = 4;

/// Prints a line past the output of the test, which is not shown for one that passes.
fn say(line: String) {
    std::io::stderr().write_all((line + "\n").as_bytes()).unwrap();
}

/// How long syncs took.
#[derive(Default)]
struct Took {
    idle: Times,
    changes: Times,
}

#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.0.clone();
        times.sort();
        times[times.len() * percent / 100 - 1]
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, longest] = [50, 99, 100].map(|percent| self.percentile(percent));
        write!(f, "p50 {half:.1?} p99 {most:.1?} longest {longest:.1?}")
    }
}

#[test]
fn with_all_load_at_once_another_deployment_waits_at_most_twice_as_long_at_a_disk_of_1_ms_and_of_50_ms() {
    // One after the other: they would measure each other.
    for flush in [1, 50] {
        // What else the machine does can only make it look worse.
        let unfair: Vec<_> = (0..TRIES).map_while(|_| measured(flush).err()).collect();
        assert!(unfair.len() < TRIES, "p99 is more than twice as long with the load, each time: {unfair:?}");
    }
}

#[test]
fn an_exchange_that_writes_nothing_waits_for_no_write_of_others() {
    const FLUSH: Duration = Duration::from_millis(400);
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).start_under(with_flushes_of(FLUSH, folder.path()));
    let (mut writing, mut silent) = (relay.inside(), relay.inside_from("127.0.0.2", ""));
    let time = |inside: &mut Inside, request: &str, status: u16| {
        let begun = SystemTime::now();
        assert_eq!(ask(inside, request).status, status);
        begun.elapsed().unwrap()
    };
    std::thread::scope(|scope| {
        let sync = scope.spawn(|| time(&mut writing, &post("/v1/sync", SYNC), 200));
        let mut times = Vec::new();
        while !sync.is_finished() {
            times.push(time(&mut silent, &good(), 404));
            sleep(PACE);
        }
        let (sync, longest) = (sync.join().unwrap(), times.iter().max().unwrap());
        say(format!("a sync took {sync:?}, the longest of {} tests meanwhile {longest:?}", times.len()));
        assert!(sync >= 2 * FLUSH && *longest < FLUSH / 2, "{sync:?}, {longest:?}");
    });
}

/// Measures once, and prints it.
fn measured(flush: u64) -> Result<(), String> {
    let Measured { quiet, beside, loaded, counts } = measure(Duration::from_millis(flush));
    say(format!("a flush takes {flush} ms\nthe load, by answers (0 and 1: none): {counts}"));
    // As the log makes them: for a sixteenth of a sync, or a millisecond.
    let lines = (Duration::from_millis(flush) / 16).max(Duration::from_millis(1));
    let idle = is_fair("idle", [&quiet.idle, &beside.idle, &loaded.idle], WRITES_IDLE * lines);
    let changes =
        is_fair("20 changes", [&quiet.changes, &beside.changes, &loaded.changes], WRITES_CHANGES * lines);
    match idle && changes {
        true => Ok(()),
        false => Err(format!("at {flush} ms, idle {idle}, 20 changes {changes}")),
    }
}

/// The load, the back end and the relay share the machine's processors with whoever is measured. What that costs is known
/// from the same load on another relay. On this one a sync waits for the write that is under way and for its own, and each
/// of them takes a moment for its lines.
fn is_fair(what: &str, [quiet, beside, loaded]: [&Times; 3], lines: Duration) -> bool {
    let [before, busy, with] = [quiet, beside, loaded].map(|times| times.percentile(99));
    let times = |of: Duration| with.as_secs_f64() / of.as_secs_f64();
    say(format!(
        "    {what:10} quiet: {quiet}; with the load on another relay: {beside}; with the load: {loaded}"
    ));
    say(format!(
        "    {what:10} p99 {:.2} times the quiet one, {:.2} times that with the load on another relay",
        times(before),
        times(busy)
    ));
    with <= 2 * busy + lines
}

/// Syncs without the load, with it on another relay, and with it; and what answers the load had.
struct Measured {
    quiet: Took,
    beside: Took,
    loaded: Took,
    counts: String,
}

/// Measures on a disk of which a flush takes so long.
fn measure(flush: Duration) -> Measured {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [(_backend, relay), (_other_backend, other)] = folders.each_ref().map(|folder| {
        let backend = backend(folder.path());
        let relay = start(&backend, flush, folder.path());
        (backend, relay)
    });
    let quiet = syncs(&relay, ["127.0.0.11", "127.0.0.12"]);
    let (beside, _) = under_load(&other, folders[1].path(), || syncs(&relay, ["127.0.0.13", "127.0.0.14"]));
    let (loaded, counts) =
        under_load(&relay, folders[0].path(), || syncs(&relay, ["127.0.0.15", "127.0.0.16"]));
    for came in ["flooding 200", "syncing 200", "dear 200", "slow 200", "told 200", "strangers 503"] {
        assert!(counts.contains(came), "there was no load of this kind, {came}: {counts}");
    }
    Measured { quiet, beside, loaded, counts }
}

/// The limit of the deployment that is measured lets through what the test needs of it; all other limits are the defaults.
fn start(backend: &Backend, flush: Duration, folder: &Path) -> Relay {
    let seventh = format!(
        "[[source]]\nid = \"{SEVENTH}\"\nlimit = {{ requests = 6000, per = \"1m\", burst = 600 }}\n{}",
        load::SOURCES
    );
    let plan = Plan::leading_to(&backend.address.to_string(), &backend.ca).with_default_limits();
    plan.sources(&seventh).start_under(with_flushes_of(flush, folder))
}

/// What is measured while this relay has the load, and what answers that had.
fn under_load(relay: &Relay, folder: &Path, measure: impl FnOnce() -> Took) -> (Took, String) {
    let (mut child, mut said) = start_load(relay, folder);
    let took = measure();
    drop(child.stdin.take());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
    let counts = rest.lines().find_map(|line| line.strip_prefix("answers: ")).unwrap();
    (took, counts.to_owned())
}

/// The syncs of the seventh deployment. They come from two addresses in turn, for the limit of an address.
fn syncs(relay: &Relay, addresses: [&str; 2]) -> Took {
    let mut insides = addresses.map(|address| relay.inside_from(address, ""));
    let idle = post("/v1/sync", &IDLE.replace(SOURCE, SEVENTH));
    let changes = post("/v1/sync/changes", &load::sync(SEVENTH, CHANGES));
    let time = |inside: &mut Inside, request: &str, times: &mut Times| {
        let begun = SystemTime::now();
        let answer = ask(inside, request);
        let took = begun.elapsed().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        times.0.push(took);
        took
    };
    let mut took = Took::default();
    for n in 0..ROUNDS * (IDLE_SYNCS + 1) {
        let this = match n % (IDLE_SYNCS + 1) {
            IDLE_SYNCS => time(&mut insides[n % 2], &changes, &mut took.changes),
            _ => time(&mut insides[n % 2], &idle, &mut took.idle),
        };
        // The pace is what is tried, not a wait for something.
        sleep(PACE.saturating_sub(this));
    }
    took
}

/// A back end that has made all of its answers before it is asked.
fn backend(folder: &Path) -> Backend {
    let [idle, changes] = [0, CHANGES].map(|count| load::answer(load::told(count).as_bytes(), ""));
    let floods = load::floods(folder);
    Backend::keeping(folder, move |head| {
        let flood = floods.iter().find(|(start, _)| head.starts_with(start));
        match flood {
            Some((_, flood)) => flood.clone(),
            None if head.starts_with("POST /v1/sync/changes ") => changes.clone(),
            None => idle.clone(),
        }
    })
}

/// The load as a process of its own, of the lowest priority, once it has begun.
fn start_load(relay: &Relay, folder: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut command = tool("nice", "coreutils");
    let arguments = ["--exact", "fairness::as_a_child_it_is_the_load", "--nocapture", "--test-threads=1"];
    command.args(["-n", "19"]).arg(std::env::current_exe().unwrap()).args(arguments);
    command.env(CHILD, format!("{} {} {}", relay.address, relay.root().display(), folder.display()));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.ends_with("begins\n") {
        assert!(said.read_line(&mut line).unwrap() > 0, "the load did not begin: {line}");
    }
    (child, said)
}

#[test]
fn as_a_child_it_is_the_load() {
    let Ok(named) = std::env::var(CHILD) else { return };
    let [relay, root, folder] = named.split(' ').collect::<Vec<_>>()[..] else { panic!("{named}") };
    let load = Load::new(relay.parse().unwrap(), root.as_ref(), folder.as_ref());
    println!("begins");
    let counts = load.run(|| {
        // Until the test closes its end.
        let (tell, told) = mpsc::channel();
        spawn(move || tell.send(std::io::stdin().read_to_end(&mut Vec::new())));
        let _ = told.recv_timeout(LONGEST);
    });
    println!("answers: {counts}");
}
