//! `audit prove`: one record for an auditor who may see no other one.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Site;
use super::sources::Logs;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::show;
use relay_log::console::out::{outln, progress};
use relay_log::console::out_file::{hand_over, refuse};
use relay_log::ledger::merkle::leaf;
use relay_log::ledger::note::Verifier;
use relay_log::ledger::record::MAX_LINE;
use relay_log::ledger::regular_file;
use relay_log::stderr;
use relay_log::text::hex::hex;
use relay_log::text::shell;
use relay_log::verify::proof::{CheckError, Checked, MAX_PROOF, Proof, Proved, prove};

pub(super) const HELP: &str = "Writes record-N.tlog-proof (C2SP tlog-proof) and, beside it, the record itself as \
    record-N.json.\nExit codes of a check: 0 it holds, 1 it does not\n\n\
    Examples:\n  license-relay audit prove --seq 10452 --log /mnt/copy/audit\n  \
    license-relay audit prove --check record-10452.tlog-proof --key \"$VKEY\"";

/// Make or check a proof.
#[derive(Debug, clap::Args)]
pub struct Prove {
    /// The record's number (event.sequence)
    #[arg(long, value_name = "N", required_unless_present = "check", conflicts_with = "check")]
    seq: Option<u64>,
    /// The folder of the log, the one with segments/ in it. Without it: the configured one
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    log: Option<PathBuf>,
    /// Prove against the checkpoint that was kept here, a folder or a file, and not the log's newest one
    #[arg(long, value_name = "PATH", conflicts_with = "check")]
    anchor: Option<PathBuf>,
    /// Where the proof goes; the record goes beside it, with .json in place of its last ending
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    out: Option<PathBuf>,
    /// Take the place of files that are there
    #[arg(long, conflicts_with = "check")]
    force: bool,
    /// Check this proof, with nothing of the log
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// The record's line: of a check, where it is not beside the proof; otherwise, where its segment was pruned
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// The log's key as you were given it (name+id+key); without it, the one that the proof names
    #[arg(long, value_name = "VKEY", requires = "check")]
    key: Option<String>,
    /// For programs: all in one object on standard output, and no files unless --out is there
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'p> {
    sequence: u64,
    leaf: Option<String>,
    origin: &'p str,
    records: u64,
    root: String,
    time: Option<String>,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_from: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<&'p Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
    record: Option<String>,
}

/// Runs the verb.
pub(super) fn run(args: Prove, site: &dyn Site) -> Result<Exit, Failure> {
    match (&args.check, args.seq) {
        (Some(proof), _) => {
            site.reads_none("--check")?;
            check(&args, proof)
        }
        (None, Some(sequence)) => make(&args, sequence, site),
        (None, None) => Err(Failure::new(Exit::Usage, "--seq or --check is needed")),
    }
}

fn make(args: &Prove, sequence: u64, site: &dyn Site) -> Result<Exit, Failure> {
    let logs = Logs { log: args.log.clone().into_iter().collect(), anchor: Vec::new() };
    let (logs, ..) = logs.find(site)?;
    let Some(log) = logs.first() else { return Err(Failure::new(Exit::Usage, "no log is named")) };
    let files = match &args.out {
        None if args.json && args.force => {
            let words = "--force is for files, and --json alone writes none; add --out, or leave --force out";
            return Err(Failure::new(Exit::Usage, words));
        }
        None if args.json => None,
        None => Some(PathBuf::from(format!("record-{sequence}.tlog-proof"))),
        Some(out) => Some(out.clone()),
    };
    let files = files.map(|proof| (beside(&proof), proof));
    if let Some((record, proof)) = &files {
        if record == proof {
            let words =
                format!("{} would be proof and record in one; let it end in .tlog-proof", proof.display());
            return Err(Failure::new(Exit::Usage, words));
        }
        [proof, record].into_iter().try_for_each(|file| refuse(file, &logs, args.force))?;
    }
    let given = args.record.as_deref().map(read_record).transpose()?;
    let proved = prove(log, sequence, args.anchor.as_deref(), given.as_deref(), progress())?;
    if let Some((record, proof)) = &files {
        write(proof, proved.proof.text().as_bytes())?;
        if let Some(line) = &proved.record {
            write(record, &[line.as_slice(), b"\n"].concat())?;
        }
    }
    let Proved { proof, checkpoint, file, record } = &proved;
    let key = proof.key.as_ref().map(Verifier::to_string).unwrap_or_default();
    if args.json {
        print_json(&Shown {
            sequence,
            leaf: record.as_ref().map(|line| hex(&leaf(line))),
            origin: &checkpoint.origin,
            records: checkpoint.size,
            root: hex(&checkpoint.root),
            time: checkpoint.time.map(|time| time.to_string()),
            key,
            key_from: None,
            checkpoint: Some(file),
            proof: Some(proof.text()),
            record: record.as_ref().map(|line| String::from_utf8_lossy(line).into_owned()),
        });
    } else if let Some((record_file, proof_file)) = &files {
        show(format!("record {sequence} of {} is in the log", checkpoint.origin));
        show(format!("  proof        {}", proof_file.display()));
        match record {
            Some(_) => show(format!("  the record   {}", record_file.display())),
            None => show(
                "  the record   is not in the log any more; whoever has its line can check it (--record FILE)",
            ),
        }
        let time = checkpoint.time.map(|time| format!(", signed {time:.0} (UTC)")).unwrap_or_default();
        show(format!("  checkpoint   {} records{time} ({})", checkpoint.size, file.display()));
        show(format!("  root         {}", hex(&checkpoint.root)));
        show(format!("  key          {key}"));
        let (proof_file, key) = (shell::word(&proof_file.to_string_lossy()), shell::word(&key));
        show(format!("to check it: {} prove --check {proof_file} --key {key}", stderr::reader()));
    }
    Ok(Exit::Fine)
}

fn check(args: &Prove, file: &Path) -> Result<Exit, Failure> {
    let key = args.key.as_deref().map(str::parse::<Verifier>).transpose();
    let key = key.map_err(|e| Failure::new(Exit::Usage, format!("--key {e}")))?;
    let text = read(file, MAX_PROOF)?;
    let record = read_record(&args.record.clone().unwrap_or_else(|| beside(file)))?;
    let checked = Proof::parse(&text).and_then(|proof| Ok((proof.check(&record, key.as_ref())?, proof)));
    let (Checked { origin, size, root, time, key: used }, proof) = match checked {
        Ok(checked) => checked,
        Err(CheckError::NoKey) => {
            return Err(Failure::new(Exit::Usage, format!("{} {}", file.display(), CheckError::NoKey)));
        }
        Err(e) => return Err(Failure::new(Exit::Failed, format!("{} {e}", file.display()))),
    };
    if args.json {
        print_json(&Shown {
            sequence: proof.index,
            leaf: Some(hex(&leaf(&record))),
            origin: &origin,
            records: size,
            root: hex(&root),
            time: time.map(|time| time.to_string()),
            key: used.to_string(),
            key_from: Some(if key.is_some() { "given" } else { "proof" }),
            checkpoint: None,
            proof: None,
            record: Some(String::from_utf8_lossy(&record).into_owned()),
        });
        return Ok(Exit::Fine);
    }
    show(format!("it holds: this is record {} of {origin}", proof.index));
    let time = time.map(|time| format!(", signed {time:.0} (UTC)")).unwrap_or_default();
    show(format!("  checkpoint   {size} records{time}"));
    show(format!("  root         {}", hex(&root)));
    show(format!("  key          {used}"));
    if key.is_none() {
        show(
            "               from the proof itself: compare it with the one that you were given, or give that with --key",
        );
    }
    Ok(Exit::Fine)
}

/// The record of a proof.
fn beside(proof: &Path) -> PathBuf {
    proof.with_extension("json")
}

/// A record's line, whatever line end it has got on its way.
fn read_record(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut line = read(file, MAX_LINE + 2)?;
    if line.ends_with(b"\n") {
        line.pop();
        line.pop_if(|last| *last == b'\r');
    }
    Ok(line)
}

fn read(file: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let fault = |e| Failure::new(Exit::of_named(&e), format!("{}: {e}", file.display()));
    regular_file::read(file, most as u64).map_err(fault)
}

fn write(to: &Path, bytes: &[u8]) -> Result<(), Failure> {
    hand_over(to, |mut file| file.write_all(bytes))
        .map_err(|e| Failure::new(Exit::Io, format!("{} can't be written: {e}", to.display())))
}

fn print_json(shown: &Shown<'_>) {
    outln!("{:#}", serde_json::to_value(shown).unwrap_or_default());
}
