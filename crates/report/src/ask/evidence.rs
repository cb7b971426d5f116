//! What every answer rests on: which log, how far it is signed, what is missing, and who made the answer with which
//! command. Without that a list is a claim.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fold::coverage::LicenseCoverage;
use crate::table::rows::Closing;
use relay_log::verify::log::{Verdict, Verified};

/// The words of a verdict.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "fine",
        Verdict::Damaged => "damaged",
        Verdict::RolledBack => "rolled back",
        Verdict::StaleTail => "unsigned end",
        Verdict::Gaps => "gaps",
    }
}

/// The worst of several verdicts: the lowest exit code but 0.
pub fn worst(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let order = [Verdict::Damaged, Verdict::RolledBack, Verdict::StaleTail, Verdict::Gaps];
    let verdicts: Vec<_> = verdicts.into_iter().collect();
    order.into_iter().find(|verdict| verdicts.contains(verdict)).unwrap_or(Verdict::Fine)
}

/// What is said of the records behind so many, where only these were taken.
pub fn left_out(verified: &Verified, taken: u64) -> Option<String> {
    let left = verified.records.checked_sub(taken).filter(|left| *left > 0)?;
    let signed = verified.checkpoint.as_ref().map_or(0, |newest| newest.size);
    Some(match signed > taken && !verified.stale_tail {
        true => format!("the last {left} came while this was made and are not in here"),
        false => format!("the last {left} are not signed and are NOT in here"),
    })
}

/// Who made an answer.
#[derive(Clone, Debug)]
pub struct Made {
    /// When.
    pub at: Timestamp,
    /// The command line, as it was given.
    pub command: String,
}

impl Made {
    /// The program and its version.
    pub(crate) const BY: &str = concat!("license-relay ", env!("CARGO_PKG_VERSION"));

    /// Now, with this command line.
    pub fn now(command: String) -> Self {
        Self { at: Timestamp::now(), command }
    }
}

/// What stands behind the rows of an answer.
pub fn closing(
    notes: Vec<String>,
    coverage: &[LicenseCoverage],
    verified: &[Verified],
    made: &Made,
) -> Closing {
    let mut lines = vec![String::new(), "what this rests on (all times are UTC)".to_owned()];
    lines.extend(coverage.iter().map(|covered| format!("  {}", covered.words())));
    for log in verified {
        lines.extend(text(log));
    }
    lines.push(format!("  made by      {} at {:.0}: {}", Made::BY, made.at, made.command));
    let members = vec![
        ("coverage", serde_json::to_value(coverage).unwrap_or_default()),
        ("evidence", verified.iter().map(member).collect()),
        ("made", json!({ "by": Made::BY, "at": made.at.to_string(), "command": made.command })),
    ];
    Closing { notes, members, lines }
}

/// The evidence of one log, for programs.
pub fn member(verified: &Verified) -> Value {
    let mut member = serde_json::to_value(verified).unwrap_or_default();
    member["verdict"] = word(verified.verdict()).into();
    member["protected_since"] = verified.protected_since().map(|time| time.to_string()).into();
    member
}

/// The same for people.
pub fn text(verified: &Verified) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", verified.log.display(), word(verified.verdict()))];
    let mut line = |text: String| lines.push(text);
    for fault in &verified.damage {
        line(format!("  damaged: {fault}"));
    }
    if verified.damages > verified.damage.len() as u64 {
        line(format!("  and {} more of these", verified.damages - verified.damage.len() as u64));
    }
    for fault in &verified.rolled_back {
        line(format!("  rolled back: {fault}"));
    }
    if verified.stale_tail && verified.checkpoint.is_none() {
        line("  no checkpoint holds: nothing shows that a relay has written this".to_owned());
    } else if verified.stale_tail {
        line(format!("  the last {} records are covered by no checkpoint, and old", verified.unsigned));
    }
    line(match verified.gaps {
        0 => "  gaps         none that the log itself tells of".to_owned(),
        gaps => {
            format!("  gaps: {gaps} exchanges went through that are not, or not whole, in the log")
        }
    });
    line(format!("  log          {}", verified.origin));
    line(match verified.pruned {
        0 => format!("  records      {}", verified.records),
        pruned => {
            format!(
                "  records      {}; {pruned} of them were pruned, and their hashes are here",
                verified.records
            )
        }
    });
    if let Some(root) = &verified.root {
        line(format!("  root         {root}"));
    }
    match &verified.checkpoint {
        Some(newest) => {
            let time = newest.time.map(|time| format!(", signed {time:.0} (UTC)")).unwrap_or_default();
            line(format!("  checkpoint   {} records{time}; {} behind it", newest.size, verified.unsigned));
        }
        None => line("  checkpoint   none that holds".to_owned()),
    }
    line(format!("  checkpoints  {} hold", verified.checkpoints));
    line(format!("  key          {}", verified.key));
    line(match verified.protection() {
        Some((oldest, newest)) => {
            let one = |anchor: &relay_log::verify::log::Covered| {
                let time = anchor.time.map(|time| format!(" since {time:.0}")).unwrap_or_default();
                format!("the first {} records{time}", anchor.size)
            };
            let mut covered = one(oldest);
            if oldest.size != newest.size {
                covered = format!("{covered}, {}", one(newest));
            }
            format!(
                "  anchors      {} hold ({}): {covered} can't have been changed by whoever has the relay's own key, if the anchor \
                 was out of their reach since then",
                verified.anchors.len(),
                newest.file.display()
            )
        }
        None if !verified.anchors.is_empty() => {
            "  anchors      those given cover no record, so they protect none".to_owned()
        }
        None if !verified.rolled_back.is_empty() => {
            format!("  anchors      {} given, and none holds", verified.rolled_back.len())
        }
        None => {
            "  anchors      none given: nothing here shows protection against whoever has the relay's own key"
                .to_owned()
        }
    });
    for own in &verified.own_anchors {
        line(format!("  anchors      {} is this copy's own; it protects from nothing", own.display()));
    }
    if verified.unreadable > 0 {
        line(format!(
            "  unreadable   {} whole records can't be read by this program, and are in no answer of it; a newer one may",
            verified.unreadable
        ));
    }
    if let Some(old) = &verified.predecessor {
        line(format!(
            "  goes on from {} at {} records, root {}; its records are not in this answer unless that log is named as well",
            old.origin, old.size, old.root
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_verdict_is_the_lowest_code_but_fine() {
        assert_eq!(worst([]), Verdict::Fine);
        assert_eq!(worst([Verdict::Fine, Verdict::Gaps]), Verdict::Gaps);
        assert_eq!(worst([Verdict::Gaps, Verdict::Damaged, Verdict::Fine]), Verdict::Damaged);
    }
}
