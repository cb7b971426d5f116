//! The log's growth is bounded by values that an administrator wrote: whoever has used up its bytes of a day is told so
//! before anything is forwarded or written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::common::wire::*;
use crate::common::*;

/// An entry with a budget.
fn entry(id: &str, budget: &str) -> String {
    let limit = format!(
        "{{ requests = 100000, per = \"1s\", burst = 100000, records = 1000000000, log_per_day = \"{budget}\" }}"
    );
    format!("[[source]]\nid = \"{id}\"\nlimit = {limit}\n")
}

/// A version above all that the stub tells.
const NEWEST: u64 = 1 << 40;

#[test]
fn a_dear_first_message_passes_a_full_budget_is_owed_and_refuses_the_next_before_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources(&entry(SOURCE, "256KiB")).start();
    let mut inside = relay.inside();
    let begun = relay.log_text().len();
    assert_eq!(ask(&mut inside, changes(SOURCE, 0, 300)).status, 200);
    let written = relay.log_text().len() - begun;
    assert!(written > 150_000, "more than half of the budget: {written}");
    let sent = stub.counters()["requests"].clone();
    let refused = ask(&mut inside, changes(SOURCE, NEWEST, 0));
    let wait = refused.refuses_for_a_while(429, "connection_limit_reached");
    // What is written beyond half a budget is worked off at half a budget a day, and then the next must fit.
    let beyond = written as f64 - 128.0 * 1024.0;
    let most = (beyond + 3000.0) / (128.0 * 1024.0) * 86_400.0;
    let least = (beyond + 1300.0) / (128.0 * 1024.0) * 86_400.0;
    assert!((least..=most).contains(&(wait as f64)), "{wait} s, and {least} to {most} are true");
    assert!(refused.reason.contains("raise log_per_day (its limit, or limits.per_source)"), "{refused:?}");
    assert_eq!(stub.counters()["requests"], sent, "it is refused before it is sent");
    let mut other = relay.inside_from("127.0.0.2", "");
    assert_eq!(
        ask(&mut other, changes(SOURCE, NEWEST, 0)).status,
        200,
        "another address has a budget of its own"
    );
    let limited = relay.records("access.limited");
    assert_eq!(limited.len(), 1);
    assert!(limited[0]["event"]["reason"].as_str().unwrap().contains("log_per_day"), "{limited:?}");
}

#[test]
fn whoever_waits_as_long_as_the_log_told_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources(&entry(SOURCE, "24MiB")).start();
    let mut inside = relay.inside();
    // Close to the end of the 12 MiB that may be written at once, and then on until it is reached.
    let mut count = 4000;
    let wait = loop {
        let answer = ask(&mut inside, changes(SOURCE, NEWEST, count));
        match (answer.status, count) {
            (200, _) => {}
            (429, 0) => break answer.refuses_for_a_while(429, "connection_limit_reached"),
            (429, _) => count /= 2,
            _ => panic!("{answer:?}"),
        }
    };
    // 12 MiB a day are 145 bytes a second.
    assert!((1..=21).contains(&wait), "{wait} s");
    // What is tried is that this very wait is enough: no event tells it.
    thread::sleep(Duration::from_secs(wait));
    assert_eq!(ask(&mut inside, changes(SOURCE, NEWEST, 0)).status, 200, "after {wait} s");
}

#[test]
fn what_the_back_end_tells_beyond_what_was_reserved_is_recorded_whole_and_owed() {
    // Once they are less than the 128 KiB that may be written at once, and twice half a day's more, whatever the name of this
    // machine, which is in each record.
    const TOLD: usize = 120;
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources(&entry(SOURCE, "256KiB")).start();
    assert_eq!(ask(&mut relay.inside(), changes(SOURCE, NEWEST, TOLD)).status, 200);
    let mut other = relay.inside_from("127.0.0.2", "");
    let told = |relay: &Relay| {
        let adds = relay.records("license.assignment.add");
        adds.iter()
            .filter(|add| add["qlik"]["direction"] == "in" && add["source"]["ip"] == "127.0.0.2")
            .count()
    };
    // It asks for nothing and is told more than its budget: not reserved, and not refused.
    assert_eq!(ask(&mut other, changes(SOURCE, 0, 0)).status, 200);
    assert_eq!(told(&relay), TOLD);
    assert_eq!(ask(&mut other, changes(SOURCE, NEWEST, 0)).status, 200, "there is room for one more");
    assert_eq!(ask(&mut other, changes(SOURCE, 0, 0)).status, 200, "what is told is not known before");
    assert_eq!(told(&relay), 2 * TOLD, "and is written however much it is");
    let refused = ask(&mut other, changes(SOURCE, NEWEST, 0));
    let wait = refused.refuses_for_a_while(429, "connection_limit_reached");
    assert!(wait > 43_200, "it is hours until that is worked off: {wait} s");
}

#[test]
fn strangers_share_one_budget_of_which_an_address_has_a_quarter() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub).and("[sources]\nunknown = \"observe\"\n");
    let relay = plan.with("[limits]\n", "[limits]\nstrangers_log_per_day = \"1MiB\"\n").start();
    let fills = |address: &str| {
        let (mut inside, before) = (relay.inside_from(address, ""), relay.log_text().len());
        let refused = loop {
            let answer = ask(&mut inside, changes("stranger", NEWEST, 10));
            if answer.status != 200 {
                break answer;
            }
        };
        refused.refuses_for_a_while(429, "connection_limit_reached");
        assert!(refused.reason.contains("limits.strangers_log_per_day"), "{refused:?}");
        relay.log_text().len() - before
    };
    let filled: Vec<usize> = (2..8).map(|n| fills(&format!("127.0.0.{n}"))).collect();
    // An eighth of the budget is what one address may fill at once, and half of it what all may.
    assert!(filled[..4].iter().all(|bytes| (100_000..131_072 + 1000).contains(bytes)), "{filled:?}");
    assert!(filled[4] < 70_000 && filled[5] < 1000, "then all have filled what they may: {filled:?}");
    let mut listed = relay.inside_from("127.0.0.6", "");
    assert_eq!(ask(&mut listed, changes(SOURCE, NEWEST, 0)).status, 200, "who is listed has its own");
}

#[test]
fn a_tunnel_takes_room_for_its_records_and_is_refused_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let limit = "{ requests = 100000, per = \"1s\", log_per_day = \"256KiB\" }";
    let relay = Plan::new(&stub)
        .with("[[destination]]", "[[destination]]\nmode = \"tunnel\"")
        .sources(&format!("[[source]]\nnetworks = [\"127.0.0.0/8\"]\nlimit = {limit}\n"))
        .start();
    // Each is held open, with what is reserved for its records: 2,900 bytes of 131,072.
    let mut held = vec![];
    let refused = loop {
        let mut stream = relay.connect();
        let asked = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let answer = ask(&mut stream, asked);
        match answer.status {
            200 if held.len() < 100 => held.push(stream),
            _ => break answer,
        }
    };
    refused.refuses_for_a_while(429, "connection_limit_reached");
    assert!(refused.closes() && refused.reason.contains("log_per_day"), "{refused:?}");
    assert_eq!(held.len(), 45);
    drop(held);
    eventually("what was not written is given back", || {
        let mut stream = relay.connect();
        let asked = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        (ask(&mut stream, asked).status == 200).then_some(())
    });
}

#[test]
fn refusals_of_many_addresses_end_as_counts_and_fill_no_more_than_their_budget() {
    const ADDRESSES: u64 = 1000;
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let all = "per_address = { requests = 100000, per = \"1s\", burst = 100000 }";
    let mut relay = Plan::new(&stub)
        .with(all, "per_address = { requests = 1, per = \"1h\", burst = 1 }")
        .with("[limits]\n", "[limits]\nstrangers_log_per_day = \"1MiB\"\n")
        .start();
    let before = relay.log_text().len();
    let agent = "x".repeat(190);
    for n in 0..ADDRESSES {
        let address = format!("127.1.{}.{}", n / 250, n % 250 + 1);
        for status in [403, 429] {
            let mut stream = relay.connect_from(&address);
            // A name that is as long as names may be: whoever is refused chooses what the record says.
            let host = format!("{}.{}.{n}.example:443", "a".repeat(60), "b".repeat(60));
            let asked = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n\r\n");
            assert_eq!(ask(&mut stream, asked).status, status);
        }
    }
    relay.stop();
    let grown = relay.log_text().len() - before;
    println!("{} refusals of {ADDRESSES} addresses: {grown} bytes", 2 * ADDRESSES);
    assert!(grown < 512 * 1024 + 10_000, "half of a budget, and the counts of all: {grown}");
    let said = relay.stderr();
    let lines: Vec<_> = said.lines().filter(|line| line.contains(" access id=")).collect();
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    println!("their access lines: {bytes} bytes in {} lines", lines.len());
    assert!(bytes < 512 * 1024 + 2000, "the same of access lines: {bytes}");
    let count = |line: &&str| {
        let count = line.split(" count=").nth(1).map(|rest| rest.split(' ').next().unwrap());
        count.map_or(1, |count| count.parse::<u64>().unwrap())
    };
    assert_eq!(lines.iter().map(count).sum::<u64>(), 2 * ADDRESSES);
    let refusals: Vec<_> = ["access.denied", "access.limited"].map(|action| relay.records(action)).concat();
    let stands_for = |record: &serde_json::Value| record["qlik"]["repeat"]["count"].as_u64().unwrap_or(1);
    assert_eq!(refusals.iter().map(stands_for).sum::<u64>(), 2 * ADDRESSES, "none is lost");
    let others = refusals.iter().filter(|record| record["source"].is_null());
    let together: u64 = others.map(stands_for).sum();
    assert!(together > 100, "what had no room is counted together: {together}");
}

#[test]
fn the_worst_that_clients_of_an_entry_do_stays_below_what_check_computes() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let limits = "[limits]\nstrangers_log_per_day = \"1MiB\"\n";
    let relay = Plan::new(&stub).with("[limits]\n", limits).sources(&entry(SOURCE, "256KiB")).start();
    let computed = relay.verb(&["check", "--replay", "--json"]);
    let computed: serde_json::Value = serde_json::from_slice(&computed.stdout).unwrap();
    let at_most = &computed["a_day_at_most"]["log"];
    assert_eq!(at_most["entries"], 17 * 256 * 1024);
    let folder_size = || {
        let du = run(std::process::Command::new("du").arg("-sb").arg(relay.path("audit")));
        String::from_utf8(du.stdout).unwrap().split('\t').next().unwrap().parse::<u64>().unwrap()
    };
    let (begun, before, folder_before) = (Instant::now(), relay.log_text().len() as u64, folder_size());
    // Many addresses at once, each with as long a name as is recorded and as many changes as its budget lets in, and then on.
    let refused = AtomicU64::new(0);
    thread::scope(|scope| {
        for lane in 0..4 {
            let (relay, refused) = (&relay, &refused);
            scope.spawn(move || {
                let mut clients: Vec<_> =
                    (0..6).map(|n| relay.inside_from(&format!("127.0.{lane}.{}", n + 2), "")).collect();
                let agent = "\u{ff}".repeat(200);
                let dear = changes(SOURCE, NEWEST, 10);
                let dear = dear.replacen("\r\n", &format!("\r\nUser-Agent: {agent}\r\n"), 1);
                while begun.elapsed() < Duration::from_secs(6) {
                    for inside in &mut clients {
                        match ask(inside, &dear).status {
                            200 => {}
                            429 => _ = refused.fetch_add(1, Ordering::Relaxed),
                            status => panic!("{status}"),
                        }
                    }
                }
            });
        }
    });
    assert!(refused.load(Ordering::Relaxed) > 24, "all have used up their budgets");
    let grown = relay.log_text().len() as u64 - before;
    let folder_grown = folder_size() - folder_before;
    let refusals: usize =
        relay.log_text().lines().filter(|line| line.contains("access.limited")).map(str::len).sum();
    let of_entry = grown - refusals as u64;
    // At once half of each budget, then as much as the time pays for, and of the last message what was longer than reserved.
    let budget = 17.0 * 128.0 * 1024.0 * (1.0 + begun.elapsed().as_secs_f64() / 86_400.0) + 17.0 * 20_000.0;
    println!(
        "the log grew by {grown} bytes ({of_entry} of the entry, {budget:.0} at most), its folder by {folder_grown}; a day's most \
         is {}",
        at_most["bytes"]
    );
    assert!((of_entry as f64) < budget, "{of_entry} bytes, and {budget} were computed");
    assert!(of_entry > 17 * 100 * 1024, "it was driven to the end of the budgets: {of_entry}");
    let hashes = 1.0 + 1.0 / 9.0;
    assert!((folder_grown as f64) < (budget + refusals as f64) * hashes + 20_000.0);
    assert!(folder_grown < at_most["bytes"].as_u64().unwrap());
}

#[test]
fn who_asks_for_what_leaves_no_record_is_limited_by_its_access_lines() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let limits = "[limits]\nstrangers_log_per_day = \"1MiB\"\n";
    let relay = Plan::new(&stub).with("[limits]\n", limits).start();
    let mut inside = relay.inside_from("127.0.0.9", "");
    let mut passed = 0;
    let refused = loop {
        let answer = ask(&mut inside, good());
        if answer.status == 429 || passed > 1000 {
            break answer;
        }
        passed += 1;
    };
    refused.refuses_for_a_while(429, "connection_limit_reached");
    assert!(refused.reason.contains("limits.strangers_log_per_day"), "{refused:?}");
    let said = relay.stderr();
    let tests = said.lines().filter(|line| line.contains("verdict=allow"));
    let bytes: usize = tests.map(|line| line.len() + 1).sum();
    assert!((120_000..=131_072).contains(&bytes), "{bytes} bytes in {passed} lines");
}
