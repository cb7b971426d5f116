//! `license-relay vocabulary`: the names in force, and entries for messages that were not understood.

mod capture;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{configuration, load};
use crate::bounds;
use crate::licensing::shape::Shape;
use crate::licensing::suggest::{Met, suggest};
use crate::licensing::vocabulary::Vocabulary;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::{out, outln};
use relay_log::ledger::segment::{self, Lines};

/// What messages call things.
#[derive(Debug, clap::Args)]
pub(super) struct VocabularyCommand {
    #[command(subcommand)]
    action: VocabularyVerb,
}

#[derive(Debug, clap::Subcommand)]
enum VocabularyVerb {
    /// Print the vocabulary in force, as a file that stands alone
    #[command(after_help = "Example:\n  license-relay vocabulary show")]
    Show {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Propose entries for messages in the log that were not understood
    #[command(after_help = "Example:\n  license-relay vocabulary suggest > suggested.toml")]
    Suggest {
        /// The folder of a log, such as a copy of one; may repeat [default: the configured one]
        #[arg(long, value_name = "DIR")]
        log: Vec<PathBuf>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Write the shapes of what passes into a file that may be shared: names and types only, no values
    #[command(
        after_help = "The relay collects them as it forwards; the file needs no running relay. Read it before you share \
                      it.\n\nExample:\n  license-relay vocabulary capture --out shapes.json"
    )]
    Capture(capture::Capture),
}

/// Runs a `vocabulary` verb.
pub(super) fn run(args: VocabularyCommand, path: &Path) -> Result<(), Failure> {
    match args.action {
        VocabularyVerb::Show { json } => show(&in_force(path)?, json),
        VocabularyVerb::Capture(args) => capture::run(&args, path),
        VocabularyVerb::Suggest { log, json } => {
            // A copied log is read without the relay that wrote it.
            let words = match path.exists() || log.is_empty() {
                true => in_force(path)?,
                false => Vocabulary::built_in().map_err(configuration)?,
            };
            let logs = if log.is_empty() { vec![load(path)?.audit.directory] } else { log };
            propose(&logs, &words, json)
        }
    }
}

fn in_force(path: &Path) -> Result<Vocabulary, Failure> {
    Vocabulary::load(load(path)?.licensing.vocabulary.as_deref()).map_err(configuration)
}

fn show(words: &Vocabulary, json: bool) -> Result<(), Failure> {
    let text = words.to_toml();
    if json {
        let value: toml::Table = text.parse().map_err(|e| Failure::new(Exit::Internal, e))?;
        outln!("{}", serde_json::to_string(&value).map_err(|e| Failure::new(Exit::Internal, e))?);
    } else {
        out!("{text}");
    }
    Ok(())
}

fn propose(logs: &[PathBuf], words: &Vocabulary, json: bool) -> Result<(), Failure> {
    let mut all = Shapes::default();
    for log in logs {
        let unread = |e: io::Error| {
            let words =
                format!("{} can't be read ({e}); name the folder that has segments/ in it", log.display());
            Failure::new(Exit::Usage, words)
        };
        all.read(log).map_err(unread)?;
    }
    let parsed: Vec<(bool, Shape)> =
        all.seen.keys().filter_map(|(is_reply, text)| Some((*is_reply, Shape::parse(text)?))).collect();
    let met = parsed.iter().map(|(is_reply, shape)| Met { shape, is_reply: *is_reply });
    let suggestion = suggest(met, words);
    let toml = suggestion.to_toml();
    if json {
        let shapes: Vec<_> = all.seen.iter().map(row).collect();
        outln!("{}", serde_json::json!({ "shapes": shapes, "vocabulary": toml }));
        return Ok(());
    }
    out!("{}", all.comment());
    if all.seen.is_empty() {
        outln!("# Every message in the log was understood; there is nothing to suggest.");
    } else if suggestion.is_empty() {
        outln!("# Nothing in them looks like what a vocabulary has names for; there is nothing to suggest.");
    } else {
        outln!(
            "#\n# These are guesses, made by names that mean about the same and by what stands beside what. Read each, put\n\
             # them into the file that licensing.vocabulary names, and run: license-relay check\n"
        );
        out!("{toml}");
    }
    Ok(())
}

/// Bodies that were not understood, by what they are and how they look.
#[derive(Default)]
struct Shapes {
    seen: BTreeMap<(bool, String), Seen>,
    /// Records with a shape beyond [`bounds::SHAPES`] different ones.
    beyond: u64,
    /// Bodies that could not be read at all.
    unreadable: u64,
    /// Lines that are no records, as the last one after a crash.
    torn: u64,
}

#[derive(Default)]
struct Seen {
    count: u64,
    last: String,
    sources: BTreeSet<String>,
}

impl Shapes {
    /// Reads the segments of a log, line by line.
    fn read(&mut self, log: &Path) -> io::Result<()> {
        // A folder that is none is a mistake, and not an empty log.
        fs::read_dir(log.join(segment::FOLDER))?;
        for segment in segment::list(log)? {
            let mut lines = Lines::of(&segment)?;
            loop {
                let line = lines.next_line()?;
                if line.is_empty() {
                    break;
                }
                self.read_line(line);
            }
        }
        Ok(())
    }

    fn read_line(&mut self, line: &[u8]) {
        let Ok(record) = serde_json::from_slice::<serde_json::Value>(line) else {
            self.torn += 1;
            return;
        };
        let text = |pointer| record.pointer(pointer).and_then(serde_json::Value::as_str);
        let Some(shape) = text("/qlik/shape") else { return };
        if Shape::parse(shape).is_none() {
            self.unreadable += 1;
            return;
        }
        let key = (text("/qlik/direction") == Some("in"), shape.to_owned());
        if self.seen.len() >= bounds::SHAPES && !self.seen.contains_key(&key) {
            self.beyond += 1;
            return;
        }
        let seen = self.seen.entry(key).or_default();
        seen.count += 1;
        if let Some(time) = text("/@timestamp").filter(|time| *time > seen.last.as_str()) {
            seen.last = time.to_owned();
        }
        let source = text("/qlik/source_id").or_else(|| text("/source/ip"));
        if let Some(source) = source
            && seen.sources.len() < bounds::OTHER_SOURCES
        {
            seen.sources.insert(source.to_owned());
        }
    }

    /// What was found, as lines of comment.
    fn comment(&self) -> String {
        let mut text =
            String::from("# From the log: messages that were not understood, or not in all their parts.\n");
        for ((is_reply, shape), Seen { count, last, sources }) in &self.seen {
            let what = if *is_reply { "replies" } else { "requests" };
            let sources: Vec<_> = sources.iter().map(|source| source.escape_debug().to_string()).collect();
            let (last, sources) = (last.escape_debug(), sources.join(", "));
            text.push_str(&format!("#\n# {count} {what}, the last at {last}, source {sources}:\n"));
            text.push_str(&format!("#   {}\n", shape.escape_debug()));
        }
        for (count, what) in [
            (self.beyond, "records of further shapes"),
            (self.unreadable, "messages without a body that can be read"),
            (self.torn, "lines that are no records"),
        ] {
            if count > 0 {
                text.push_str(&format!("#\n# and {count} {what}\n"));
            }
        }
        text
    }
}

fn row(((is_reply, shape), Seen { count, last, sources }): (&(bool, String), &Seen)) -> serde_json::Value {
    serde_json::json!({
        "of": if *is_reply { "reply" } else { "request" },
        "shape": shape,
        "count": count,
        "last": last,
        "sources": sources,
    })
}
