//! Section "What this rests on": what was found of each log, how the page was made, and how to check it without this
//! program.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use jiff::Timestamp;

use super::html::Html;
use super::html::cells::{bdi, ends, mono, time};
use super::{Section, Truncated};
use crate::ask::evidence::Made;
use relay_log::ledger::entry::Entry;
use relay_log::stderr;
use relay_log::text::escape::escape;
use relay_log::text::number::{count, plural};
use relay_log::text::shell::quoted;
use relay_log::verify::log::{Covered, Verdict, Verified};

/// Faults of one log told in full.
const FAULTS: usize = 20;
/// Anchors of one log listed.
const ANCHORS: usize = 20;
/// Versions of the relay that are named.
const WRITERS: usize = 16;

/// The arithmetic of the log, as auditors get it; it needs nothing of ours.
const RECOMPUTE: &str = include_str!("../../../../docs/auditor/recompute.py");

pub(super) const SECTION: Section = Section::new("evidence", "What this rests on", draw);

/// What one log's part of the page rests on.
#[derive(Debug)]
pub struct Evidence {
    /// How it was found.
    pub verified: Verified,
    /// The times of its first record and of its last one.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Versions of the relay that wrote it.
    pub written_by: Vec<String>,
}

impl Evidence {
    /// What is wrong with lines, segments and checkpoints, and where it is behind an anchor.
    pub(super) fn faults(&self) -> Truncated<&str> {
        let Verified { damage, rolled_back, damages, .. } = &self.verified;
        let rows: Vec<&str> = damage.iter().chain(rolled_back).map(String::as_str).collect();
        let more = damages.saturating_sub(rows.len() as u64);
        Truncated::first(FAULTS, rows, more)
    }
}

/// When and by whom the records of each log were written.
#[derive(Default)]
pub(super) struct Origins {
    spans: HashMap<usize, (Timestamp, Timestamp)>,
    writers: HashMap<usize, BTreeSet<String>>,
}

impl Origins {
    /// The next record.
    pub(super) fn take(&mut self, log: usize, entry: &Entry<'_>) {
        let (first, last) = self.spans.entry(log).or_insert((entry.time, entry.time));
        (*first, *last) = ((*first).min(entry.time), (*last).max(entry.time));
        let writers = self.writers.entry(log).or_default();
        if let Some(version) = entry.written_by.as_deref()
            && writers.len() < WRITERS
            && !writers.contains(version)
        {
            writers.insert(version.to_owned());
        }
    }

    /// With what was found of each log, in their order.
    pub(super) fn finish(mut self, verified: Vec<Verified>) -> Vec<Evidence> {
        let all = verified.into_iter().enumerate().map(|(log, verified)| Evidence {
            verified,
            span: self.spans.get(&log).copied(),
            written_by: self.writers.remove(&log).unwrap_or_default().into_iter().collect(),
        });
        all.collect()
    }
}

fn draw(html: &mut Html<'_>) {
    for log in &html.page.evidence {
        draw_log(html, log);
    }
    let first = html.page.evidence.first().map(|log| &log.verified);
    let pruned = match first.map_or(0, |log| log.pruned) {
        0 => String::new(),
        pruned => format!(" --pruned {pruned} \"$log/hashes\""),
    };
    let folder = first.map(|log| log.log.display().to_string());
    put!(
        html,
        "<h3>How this page was made</h3><dl class=\"rests\"><dt>Program</dt><dd>{}</dd><dt>Command</dt><dd><code>{}</code></dd>\
             <dt>At</dt><dd>{}</dd></dl>",
        escape(Made::BY),
        escape(&html.page.made.command),
        time(html.page.made.at)
    );
    put!(
        html,
        "<h3>How to check it without this program</h3>\
             <p>1. The signature: <code>openssl</code> 3 checks the newest checkpoint against the log's key, and says \
             <code>Signature Verified Successfully</code>. Run this in an empty folder, in a shell; <code>log</code> is the \
             log's folder, as it was named when this page was made: write where yours is. Compare the key \
             with one that you were given on another day; a key that comes with the log proves only that log and checkpoint \
             belong together. Do the same for checkpoints that were kept elsewhere: only these show an end that was cut off.</p>\
             <pre>log={}\nvkey={}\n{}</pre>\
             <p>2. The records: a script computes the tree over the lines (RFC 6962) and says whether the log is what \
             the checkpoint signs. It is <code>docs/auditor/recompute.py</code> of this program, and stands below on a screen; \
             it is not printed. Save it as <code>recompute.py</code> in the same folder, and go on in the same shell. \
             <code>zstd</code> is needed where segments are compressed.</p>\
             <pre>{}</pre>\
             <p>3. <code>{} kit</code> puts both, this page and the segments into one file.</p>\
             <pre class=\"script\">{}</pre>",
        escape(&quoted(folder.as_deref().unwrap_or("LOG"))),
        escape(&quoted(first.map_or("NAME+ID+KEY", |log| &log.key))),
        lines(OPENSSL),
        lines(&format!("{LINES} | python3 recompute.py{pruned} \"$log/checkpoint\"")),
        stderr::reader(),
        lines(RECOMPUTE)
    );
}

fn draw_log(html: &mut Html<'_>, evidence: &Evidence) {
    let log = &evidence.verified;
    put!(html, "<h3>{}</h3>", bdi(&log.origin));
    let verdict = match log.verdict() {
        Verdict::Fine if log.unsigned > 0 => "whole; as it was signed up to its newest checkpoint",
        Verdict::Fine => "whole, as it was signed",
        Verdict::Damaged => "<span class=\"bad\">damaged</span>",
        Verdict::RolledBack => "<span class=\"bad\">rolled back, or another history than an anchor's</span>",
        Verdict::StaleTail => "<span class=\"bad\">its end is not signed, and too old for that</span>",
        Verdict::Gaps => "whole; it says itself that exchanges are not in it",
    };
    let mut rows: Vec<(&str, String)> = vec![
        ("Folder", mono(&log.log.display().to_string())),
        ("Verdict", verdict.into()),
        ("Tree size", plural(log.records, "record", "records")),
        ("Root", log.root.as_deref().map(mono).unwrap_or_else(|| "none: records are missing".into())),
    ];
    if let Some((first, last)) = evidence.span {
        let (first, last) = ends(first, last);
        rows.push(("Records from", format!("{first} to {last}")));
    }
    rows.push(match &log.checkpoint {
        Some(newest) => ("Newest checkpoint", covered(newest)),
        None => ("Newest checkpoint", "<span class=\"bad\">none that holds</span>".into()),
    });
    rows.push(("Checkpoints", plural(log.checkpoints, "holds", "hold")));
    rows.push(("Key", mono(&log.key)));
    rows.push(("Unsigned tail", plural(log.unsigned, "record", "records")));
    rows.push((
        "Gaps it tells of",
        format!("{} not, or not whole, in it", plural(log.gaps, "exchange", "exchanges")),
    ));
    for anchor in log.anchors.iter().take(ANCHORS) {
        rows.push(("Anchor", covered(anchor)));
    }
    if log.anchors.len() > ANCHORS {
        rows.push(("", format!("and {} more", count((log.anchors.len() - ANCHORS) as u64))));
    }
    rows.push(match log.protected_since() {
            Some(since) => (
                "Protected",
                format!(
                    "each anchor's records against the relay's own administrator, from {} on, if it was out of reach since then",
                    time(since)
                ),
            ),
            None => (
                "Protected",
                "nothing here shows protection against whoever has the relay's own key: no anchor was given"
                    .into(),
            ),
        });
    if let Some(old) = &log.predecessor {
        rows.push((
            "Goes on from",
            format!(
                "{} at {}, root {}",
                bdi(&old.origin),
                plural(old.size, "record", "records"),
                mono(&old.root)
            ),
        ));
    }
    if let Some(last) = log.pruned.checked_sub(1) {
        rows.push((
            "Pruned",
            format!("records 0 to {}; their hashes are kept, so the root still holds", count(last)),
        ));
    }
    if !evidence.written_by.is_empty() {
        let versions: Vec<_> = evidence.written_by.iter().map(|version| escape(version)).collect();
        rows.push(("Written by", versions.join(", ")));
    }
    let faults = evidence.faults();
    for fault in &faults.rows {
        rows.push(("Fault", format!("<span class=\"bad\">{}</span>", escape(fault))));
    }
    let more = faults.total - faults.rows.len() as u64;
    if more > 0 {
        rows.push(("", format!("and {} more of these", count(more))));
    }
    put!(html, "<dl class=\"rests\">");
    for (name, value) in rows {
        put!(html, "<dt>{name}</dt><dd>{value}</dd>");
    }
    put!(html, "</dl>");
}

fn covered(covered: &Covered) -> String {
    let signed = covered.time.map(|at| format!(", signed {}", time(at))).unwrap_or_default();
    let file = mono(&covered.file.display().to_string());
    format!("{}{signed}; {file}", plural(covered.size, "record", "records"))
}

/// Text of our own that has lines.
fn lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

const OPENSSL: &str = r#"{ printf '\060\052\060\005\006\003\053\145\160\003\041\000'
  printf '%s' "$vkey" | cut -d+ -f3- | base64 -d | tail -c 32; } > key.der
openssl pkey -pubin -inform DER -in key.der -out key.pem
sed '/^$/,$d' "$log/checkpoint" > body
sed '1,/^$/d' "$log/checkpoint" | head -n 1 | awk '{print $NF}' | base64 -d | tail -c 64 > signature
openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in body -sigfile signature"#;

/// Each segment once, in their order: the plain one where it is there in both forms.
const LINES: &str = r#"ls "$log/segments" | sed -n 's/\.jsonl.*//p' | sort -u | while read -r segment; do
  file="$log/segments/$segment.jsonl"
  if [ -e "$file" ]; then cat "$file"; else zstd -dcq "$file.zst"; fi
done"#;
