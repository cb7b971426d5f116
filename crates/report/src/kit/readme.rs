//! The page that a kit begins with, written for the very logs in it: what is here, which commands to type, what each of
//! them says if all is well, and what none of them can show. Tests type the commands: `$ ` stands before one, and the lines
//! below it, up to the next empty one or command, are in its answer.
//!
//! Names of logs, which hold the relay's host name, and paths have lines of their own, indented by four spaces or more: all
//! other lines have the same width on every machine.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::Packed;
use crate::ask::evidence::left_out;
use relay_log::stderr;
use relay_log::text::hex::hex;
use relay_log::verify::log::Verdict;

/// The name of an anchor below its log's folder, by its place in the list.
pub(super) fn anchor(place: usize) -> String {
    format!("anchors/{}.note", place + 1)
}

/// Makes a note of the newest checkpoint in a relay's own log.
const TO_NOTE: &str = "sed -n 's/.*audit checkpoint *\\([A-Za-z0-9+/=]*\\).*/\\1/p' relay.log | tail -n 1 | base64 -d > ANCHOR.note";

/// The page.
pub(super) fn text<'p>(logs: impl Iterator<Item = &'p Packed> + Clone, made: Timestamp) -> String {
    let mut out = String::new();
    // Writing to a text can't fail.
    let _ = write(&mut out, logs, made);
    out
}

fn write<'p>(
    out: &mut String,
    logs: impl Iterator<Item = &'p Packed> + Clone,
    made: Timestamp,
) -> std::fmt::Result {
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        out,
        "ASSIGNMENT LOGS OF LICENSE-RELAY: A KIT FOR THE AUDITOR\n\n\
         Made at {made:.0} by license-relay {version}. All times are UTC, by the relay's clock. To check what is here\n\
         takes openssl, Python 3 and, where segments are compressed, zstd; no relay, no network, and no program of ours\n\
         that is too long to read. The people in it are pseudonyms, and still people: treat it as personal data.\n\n\
         report.html is the report on the records that are in here; open it in a browser."
    )?;
    for log in logs.clone() {
        about(out, log)?;
    }
    writeln!(
        out,
        "\n\nWHAT TO TYPE, AND WHAT IT SAYS IF ALL IS WELL\n\n\
         Type each line behind a $ in the folder of this file. A line below it is part of the answer.\n\n\
         1. Has everything arrived as it was packed? This finds accidents only: who changes a file can change the list.\n\n    \
         $ sha256sum -c --quiet SHA256SUMS && echo as packed\n    as packed"
    )?;
    writeln!(
        out,
        "\n2. Is it what was signed? Read verify.sh and recompute.py first; they are short. A line that was changed,\n\
         removed, moved or added is named, the exit code is 1, and the last line of the answer is missing."
    )?;
    for log in logs.clone() {
        let folder = &log.folder;
        let anchors =
            if log.anchors.is_empty() { String::new() } else { format!(" {folder}/anchors/*.note") };
        let (records, root) = (log.size, STANDARD.encode(log.root));
        writeln!(
            out,
            "\n    $ sh verify.sh -k \"$(cat {folder}/key.vkey)\" {folder}/log{anchors}\n    \
             records      {records}\n    root         {root}\n    all is as it was signed"
        )?;
    }
    writeln!(
        out,
        "\n3. The signature, with openssl alone. The first command is the key's fingerprint: compare it with the one that\n\
         you were given, on another day and by another way than this kit."
    )?;
    for log in logs.clone() {
        let (folder, note) = (&log.folder, format!("{}/{}", log.folder, log.checkpoint));
        writeln!(
            out,
            "\n    $ openssl pkey -pubin -in {folder}/key.pem -outform DER | sha256sum\n    {}\n    \
             $ sed '/^$/,$d' {note} > body\n    \
             $ sed '1,/^$/d' {note} | head -n 1 | awk '{{ print $3 }}' | base64 -d | tail -c 64 > signature\n    \
             $ openssl pkeyutl -verify -pubin -inkey {folder}/key.pem -rawin -in body -sigfile signature\n    \
             Signature Verified Successfully\n    \
             $ cat body\n    {}\n    {}\n    {}",
            log.key.fingerprint(),
            log.key.name,
            log.size,
            STANDARD.encode(log.root)
        )?;
    }
    writeln!(
        out,
        "\n4. To read the records: each is a line of JSON, with the names of the Elastic Common Schema, and qlik.* where that\n\
         has none. event.action says what happened; qlik.direction is out for what a deployment asked and in for what the\n\
         back end told. What is in, and has the outcome success, is in force.\n"
    )?;
    for log in logs.clone() {
        let folder = &log.folder;
        let from = match (log.compressed, log.plain) {
            (true, true) => format!(
                "{{ zstd -dcq {folder}/log/segments/*.jsonl.zst; cat {folder}/log/segments/*.jsonl; }}"
            ),
            (true, false) => format!("zstd -dcq {folder}/log/segments/*.jsonl.zst"),
            (false, true) => format!("cat {folder}/log/segments/*.jsonl"),
            (false, false) => continue,
        };
        writeln!(out, "    $ {from} > {folder}/records.jsonl")?;
        writeln!(out, "    $ wc -l < {folder}/records.jsonl\n    {}", log.size - log.first)?;
    }
    writeln!(
        out,
        "\n5. If you have the program: it names the first record that is wrong, answers what the log can be asked, and can\n\
         prove one record to others without showing them any other (check_proof.py checks such a proof).\n"
    )?;
    for log in logs.clone() {
        let folder = &log.folder;
        let anchors: String =
            (0..log.anchors.len()).map(|place| format!(" --anchor {folder}/{}", anchor(place))).collect();
        writeln!(out, "    {} verify --log {folder}/log{anchors}", stderr::reader())?;
    }
    limits(out, logs)
}

/// What is known of one log.
fn about(out: &mut String, log: &Packed) -> std::fmt::Result {
    let Packed { folder, key, size, verified, .. } = log;
    let time = log.time.map_or_else(|| "at a time that is not told".into(), |time| format!("{time:.0}"));
    let records = match left_out(verified, *size) {
        None => format!("{size}, numbered from 0"),
        Some(left) => format!("{size} of {}, numbered from 0; {left}", verified.records),
    };
    writeln!(
        out,
        "\n\nTHE LOG\n    {}\n\n  in the folder\n    {folder}/\n  records       {records}\n  \
         root          {}\n  signed        {time}\n  fingerprint   {}\n  key\n    {key}",
        key.name,
        hex(&log.root),
        key.fingerprint()
    )?;
    if log.first > 0 {
        let first = log.first;
        writeln!(
            out,
            "  pruned        the lines before no. {first} are not in the log any more; their hashes are here"
        )?;
    }
    if let Some(old) = &verified.predecessor {
        let (origin, size, root) = (&old.origin, old.size, &old.root);
        writeln!(out, "  goes on from a log given up at {size} records, root {root}\n    {origin}")?;
    }
    let whole = match verified.verdict() {
        Verdict::Fine => "fine",
        Verdict::Damaged => "DAMAGED; what is below does not answer as it says, and that is the finding",
        Verdict::RolledBack => "ROLLED BACK against an anchor; no. 2 below does not answer as it says",
        Verdict::StaleTail => {
            "fine, but for an end that is old and that no checkpoint covers; it is not in here"
        }
        Verdict::Gaps => "whole, and it says itself that something is not in it",
    };
    writeln!(out, "  when packed   {whole}")?;
    for fault in verified.damage.iter().chain(&verified.rolled_back) {
        writeln!(out, "                {fault}")?;
    }
    if verified.gaps > 0 {
        writeln!(
            out,
            "  gaps          {} exchanges went through that are not, or not whole, in the log",
            verified.gaps
        )?;
    }
    for (place, kept) in log.anchors.iter().enumerate() {
        let over = kept.checkpoint.as_ref().map_or_else(
            || "NOT SIGNED WITH THIS KEY".to_owned(),
            |checkpoint| {
                let time = checkpoint.time.map(|time| format!(", signed {time:.0}")).unwrap_or_default();
                format!("over {} records{time}", checkpoint.size)
            },
        );
        writeln!(out, "  anchor        {}, {over}, from\n    {}", anchor(place), kept.from.display())?;
    }
    if log.anchors.is_empty() {
        writeln!(out, "  anchors       none in this kit")?;
    }
    Ok(())
}

/// What none of it shows.
fn limits<'p>(out: &mut String, logs: impl Iterator<Item = &'p Packed> + Clone) -> std::fmt::Result {
    writeln!(out, "\n\nWHAT THIS DOES NOT SHOW\n")?;
    for log in logs {
        let name = &log.key.name;
        let held = log.anchors.iter().filter_map(|anchor| anchor.checkpoint.as_ref());
        match held.max_by_key(|checkpoint| checkpoint.size) {
            Some(newest) => writeln!(
                out,
                "- In the log\n      {name}\n  \
                 what is newer than the anchor over {} records rests on the relay's key alone: whoever has that key can have\n  \
                 rewritten it. And an anchor is worth as much as the way on which it came: one that the maker of this kit has\n  \
                 put in shows little to you unless you compare it with one that you got by yourself.",
                newest.size
            )?,
            None => writeln!(
                out,
                "- In the log\n      {name}\n  \
                 without an anchor nothing here is protected against the relay's own administrator. Whoever has the relay's key\n  \
                 can have rewritten all of it, or have put back an old copy, and signed that anew. Ask for a\n  \
                 checkpoint that was kept where the administrator can't reach it, or for the line \"audit checkpoint\" in what\n  \
                 collects the relay's own log. Of such a line, in a file relay.log say, this makes a note:\n      \
                 {TO_NOTE}\n  \
                 Add ANCHOR.note to the command of no. 2."
            )?,
        }
    }
    writeln!(
        out,
        "- A key that comes with the kit shows only that records and checkpoint belong together.\n\
         - What was written after the checkpoint is not in the kit, nor what the relay has set aside as torn.\n\
         - What happened before the log began, and what went to the back end around the relay, is in no log of it.\n\
         - Times are by the relay's clock; qlik.server_date is the back end's, where it told one.\n\
         - Names can't be had from the pseudonyms without the subject key, which is not in here, and should stay apart."
    )
}
