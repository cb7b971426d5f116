//! `license-relay vocabulary capture`: what messages look like here, as one file that may be shared. The relay has put
//! it together from what it forwarded; nothing is read here but that table.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::load;
use crate::config::state_file;
use crate::exchange::captured::{Captured, CapturedShape, CapturedShapes};
use crate::licensing::outline::Outline;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::outln;
use relay_log::console::out_file::{hand_over, refuse};
use relay_log::text::terminal::printable_line;

/// What the file begins with, for whoever gets it and whoever sends it.
const WHAT: &str =
    "shapes of licensing messages that passed a license-relay: names and types only; no values";
const FIRST: &str = "Read it before you share it. Names of members are shown where they look like the vendor's own, beside \
                     names that are known; (other) stands for all else. Nothing of it says who sent a message.";

/// What to write.
#[derive(Debug, clap::Args)]
pub(super) struct Capture {
    /// The file to write; for its owner alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Take the place of a file that is there
    #[arg(long)]
    force: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Capture, config: &Path) -> Result<(), Failure> {
    let Capture { out, force } = args;
    let log = load(config)?.audit.directory;
    refuse(out, std::slice::from_ref(&log), *force)?;
    let path = Captured::path(&log);
    let table = state_file::read::<CapturedShapes>(&path).map_err(|e| Failure::unread(&path, &e))?;
    let CapturedShapes { exchanges, left_out } = &table;
    let (Some(since), Some(to)) =
        (exchanges.iter().map(|seen| seen.first).min(), exchanges.iter().map(|seen| seen.last).max())
    else {
        let words = format!(
            "nothing has passed yet: the relay writes {} once a message of a deployment was forwarded and answered; let \
             a deployment in (license-relay sources pending), and run this again",
            path.display()
        );
        return Err(Failure::new(Exit::Usage, words));
    };
    let document = CaptureFile {
        about: WHAT,
        before_sharing: FIRST,
        version: env!("CARGO_PKG_VERSION"),
        made: second(Timestamp::now()),
        left_out: *left_out,
        exchanges: exchanges.iter().map(CaptureEntry::of).collect(),
    };
    let text = serde_json::to_string_pretty(&document).map_err(|e| Failure::new(Exit::Internal, e))?;
    hand_over(out, |mut file| writeln!(file, "{text}"))
        .map_err(|e| Failure::new(Exit::Io, format!("{} can't be written: {e}", out.display())))?;
    let count: u64 = exchanges.iter().fold(0, |sum, seen| sum.saturating_add(seen.count));
    outln!(
        "{}: {} shapes of {count} exchanges from {since:.0} to {to:.0}, {left_out} exchanges left out; names and types \
         only; read it before you share it",
        printable_line(&out.display().to_string()),
        exchanges.len()
    );
    Ok(())
}

/// The file, in the order that people read it.
#[derive(Serialize)]
struct CaptureFile<'a> {
    about: &'static str,
    before_sharing: &'static str,
    version: &'static str,
    made: String,
    left_out: u64,
    exchanges: Vec<CaptureEntry<'a>>,
}

#[derive(Serialize)]
struct CaptureEntry<'a> {
    #[serde(flatten)]
    outline: &'a Outline,
    count: u64,
    first: String,
    last: String,
}

impl<'a> CaptureEntry<'a> {
    fn of(seen: &'a CapturedShape) -> Self {
        let CapturedShape { outline, count, first, last, .. } = seen;
        Self { outline, count: *count, first: second(*first), last: second(*last) }
    }
}

fn second(time: Timestamp) -> String {
    format!("{time:.0}")
}
