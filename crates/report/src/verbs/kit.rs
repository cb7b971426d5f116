//! `audit kit`: all that an auditor needs, in one file.

use std::path::PathBuf;

use jiff::Timestamp;

use super::Site;
use super::sources::Logs;
use crate::ask::evidence::{Made, left_out, word, worst};
use crate::input::deployment_names::DeploymentNames;
use crate::input::names::Names;
use crate::kit::{Contents, KitError, Packed};
use crate::page::{ReportOptions, render, report};
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::show;
use relay_log::console::out::{command_line, outln, progress};
use relay_log::console::out_file::{hand_over, refuse};
use relay_log::console::period::Period;
use relay_log::text::hex::hex;
use relay_log::verify::log::Verified;

pub(super) const HELP: &str = "Takes segments, checkpoints, hashes and the public key, up to the newest checkpoint, and \
    never a private key. Exit codes as of audit verify: a log that is not fine is packed as it is\n\n\
    Examples:\n  license-relay audit kit --out kit.zip\n  \
    license-relay audit kit --out kit.zip --log /mnt/a/audit --log /mnt/b/audit --anchor /mnt/anchor";

/// What to pack.
#[derive(Debug, clap::Args)]
pub struct Kit {
    /// The zip to write; for its owner alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    logs: Logs,
    /// Take the place of a file that is there
    #[arg(long)]
    force: bool,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(super) fn run(args: Kit, site: &dyn Site) -> Result<Exit, Failure> {
    let Kit { out, logs, force, json } = args;
    let (logs, anchors, _) = logs.find(site)?;
    refuse(&out, &logs, force)?;
    let contents = Contents::look(&logs, &anchors)?;
    let (page, verified) = page(&logs, &anchors, contents.sizes())?;
    let packed = hand_over(&out, |file| contents.pack(file, &page, verified, Timestamp::now()))?;
    let worst = worst(packed.iter().map(|log| log.verified.verdict())).into();
    if json {
        let logs: Vec<_> = packed.iter().map(json_of).collect();
        outln!("{:#}", serde_json::json!({ "kit": out, "logs": logs }));
        return Ok(worst);
    }
    show(format!("{}: begin with README.txt in it", out.display()));
    for Packed { folder, key, size, verified, .. } in &packed {
        let (name, verdict) = (&key.name, word(verified.verdict()));
        show(match left_out(verified, *size) {
            None => format!("  {folder}: {size} records of {name}; {verdict}"),
            Some(left) => {
                format!("  {folder}: {size} of {} records of {name}; {left}; {verdict}", verified.records)
            }
        });
        for fault in verified.damage.iter().chain(&verified.rolled_back) {
            show(format!("    {fault}"));
        }
        show(format!("    fingerprint of its key, to be told on another way: {}", key.fingerprint()));
    }
    Ok(worst)
}

/// The report on the records that are packed, with pseudonyms: a kit holds no key and no name.
fn page(logs: &[PathBuf], anchors: &[PathBuf], sizes: Vec<u64>) -> Result<(Vec<u8>, Vec<Verified>), Failure> {
    let options = ReportOptions {
        logs: logs.to_owned(),
        anchors: anchors.to_owned(),
        sizes,
        period: Period::default(),
        names: Names::default(),
        called: DeploymentNames::default(),
        opening: None,
        churn: None,
        made: Made::now(command_line()),
        named: "--log LOG".to_owned(),
    };
    let page = report(options, progress())?;
    let html = render(&page).into_bytes();
    Ok((html, page.evidence.into_iter().map(|log| log.verified).collect()))
}

fn json_of(log: &Packed) -> serde_json::Value {
    serde_json::json!({
        "folder": log.folder,
        "origin": log.key.name,
        "records": log.size,
        "records_in_log": log.verified.records,
        "root": hex(&log.root),
        "time": log.time,
        "key": log.key.to_string(),
        "fingerprint": log.key.fingerprint(),
        "verdict": word(log.verified.verdict()),
    })
}

impl From<KitError> for Failure {
    fn from(e: KitError) -> Self {
        match e {
            KitError::Log(e) => e.into(),
            KitError::Anchor(_) => Self::new(Exit::Usage, e),
            KitError::Read { ref cause, .. } => Self::new(Exit::of_log(cause), e),
            KitError::Write(_) => Self::new(Exit::Io, e),
        }
    }
}
