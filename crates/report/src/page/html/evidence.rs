//! What the page rests on, log by log, and how to check that without this program.

use std::fmt::Write as _;

use super::Html;
use super::cells::*;
use crate::page::*;
use relay_log::text::escape::escape;
use relay_log::text::number::{count, plural};
use relay_log::text::shell::quoted;
use relay_log::verify::log::Verdict;

/// The arithmetic of the log, as auditors get it; it needs nothing of ours.
const RECOMPUTE: &str = include_str!("../../../../../docs/auditor/recompute.py");

impl Html<'_> {
    pub(super) fn evidence(&mut self) {
        self.section("evidence");
        for log in &self.page.evidence {
            self.log(log);
        }
        let first = self.page.evidence.first();
        let pruned = match first.and_then(|log| log.pruned) {
            Some((_, last)) => format!(" --pruned {} \"$log/hashes\"", last.saturating_add(1)),
            None => String::new(),
        };
        put!(
            self,
            "<h3>How this page was made</h3><dl class=\"rests\"><dt>Program</dt><dd>{}</dd><dt>Command</dt><dd><code>{}</code></dd>\
             <dt>At</dt><dd>{}</dd></dl>",
            escape(&self.page.made.by),
            escape(&self.page.made.command),
            time(self.page.made.at)
        );
        put!(
            self,
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
             <p>3. <code>license-relay audit kit</code> puts both, this page and the segments into one file.</p>\
             <pre class=\"script\">{}</pre>",
            escape(&quoted(first.map_or("LOG", |log| &log.log))),
            escape(&quoted(first.map_or("NAME+ID+KEY", |log| &log.key))),
            lines(OPENSSL),
            lines(&format!("{LINES} | python3 recompute.py{pruned} \"$log/checkpoint\"")),
            lines(RECOMPUTE)
        );
        self.end();
    }

    pub(super) fn log(&mut self, log: &Evidence) {
        put!(self, "<h3>{}</h3>", bdi(&log.origin));
        let verdict = match log.verdict {
            Verdict::Fine if log.unsigned > 0 => "whole; as it was signed up to its newest checkpoint",
            Verdict::Fine => "whole, as it was signed",
            Verdict::Damaged => "<span class=\"bad\">damaged</span>",
            Verdict::RolledBack => {
                "<span class=\"bad\">rolled back, or another history than an anchor's</span>"
            }
            Verdict::StaleTail => "<span class=\"bad\">its end is not signed, and too old for that</span>",
            Verdict::Gaps => "whole; it says itself that exchanges are not in it",
        };
        let mut rows: Vec<(&str, String)> = vec![
            ("Folder", mono(&log.log)),
            ("Verdict", verdict.into()),
            ("Tree size", plural(log.records, "record", "records")),
            ("Root", log.root.as_deref().map(mono).unwrap_or_else(|| "none: records are missing".into())),
        ];
        if let (Some(first), Some(last)) = (log.first, log.last) {
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
        for anchor in log.anchors.rows.iter().take(ANCHORS) {
            rows.push(("Anchor", covered(anchor)));
        }
        if log.anchors.total > shown(&log.anchors, ANCHORS) {
            rows.push(("", format!("and {} more", count(log.anchors.total - shown(&log.anchors, ANCHORS)))));
        }
        rows.push(match log.protected_since {
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
        if let Some((origin, size, root)) = &log.predecessor {
            rows.push((
                "Goes on from",
                format!("{} at {}, root {}", bdi(origin), plural(*size, "record", "records"), mono(root)),
            ));
        }
        if let Some((from, to)) = log.pruned {
            rows.push((
                "Pruned",
                format!(
                    "records {} to {}; their hashes are kept, so the root still holds",
                    count(from),
                    count(to)
                ),
            ));
        }
        if !log.written_by.is_empty() {
            let versions: Vec<_> = log.written_by.iter().map(|version| escape(version)).collect();
            rows.push(("Written by", versions.join(", ")));
        }
        for fault in log.damage.rows.iter().take(DAMAGE) {
            rows.push(("Fault", format!("<span class=\"bad\">{}</span>", escape(fault))));
        }
        if log.damage.total > shown(&log.damage, DAMAGE) {
            rows.push((
                "",
                format!("and {} more of these", count(log.damage.total - shown(&log.damage, DAMAGE))),
            ));
        }
        put!(self, "<dl class=\"rests\">");
        for (name, value) in rows {
            put!(self, "<dt>{name}</dt><dd>{value}</dd>");
        }
        put!(self, "</dl>");
    }
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
