//! `license-relay audit`: is the log whole, what does it say, and the way out where it is not.

mod key;
mod kit;
mod prove;
mod prune;
mod questions;
mod report;
mod sources;
mod verify;

use std::path::PathBuf;

use super::out::outln;
use super::{Exit, Failure, load};
use crate::audit::fork::{self, ForkError, Forked};
use crate::audit::recover::OpenError;
use crate::config;
use crate::text::terminal::{printable, printable_line};
pub(super) use sources::anchors_of;

/// The assignment log: ask it, check it, keep it.
#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    action: AuditVerb,
}

#[derive(Debug, clap::Subcommand)]
enum AuditVerb {
    /// Check every line, checkpoint and anchor; reads only, works on a copy and while a relay writes
    #[command(
        after_help = "Exit codes: 0 fine, 1 damaged, 2 rolled back against an anchor, 3 the end is not signed and too old \
                      for that, 4 whole, with gaps that the log itself tells of; errors are 64 and above\n\n\
                      Examples:\n  license-relay audit verify\n  \
                      license-relay audit verify --log /mnt/copy/audit --anchor /mnt/anchor --anchor syslog.txt"
    )]
    Verify(verify::Verify),
    /// Who holds what at a time, as the back end confirmed it; what is only asked for or not known is kept apart
    #[command(after_help = "Examples:\n  license-relay audit state --at 2026-06-30\n  \
                            license-relay audit state --log COPY --names staff.csv --subject-key subject.key --csv > holders.csv")]
    State(questions::StateArgs),
    /// All that the log says of one person, over all keys that hid the name
    #[command(
        after_help = "Example:\n  license-relay audit history --subject 'ACME\\bob' --subject-key certs/subject.key"
    )]
    History(questions::HistoryArgs),
    /// What the back end told in a time, each change once, and who asked for it
    #[command(after_help = "Example:\n  license-relay audit changes --from 2026-06-01 --to 2026-06-30")]
    Changes(questions::PeriodArgs),
    /// Use against what was bought, by day: at its end, at most, and by how much it was too much
    #[command(after_help = "Example:\n  license-relay audit reconcile --from 2026-01-01 --csv > year.csv")]
    Reconcile(questions::ReconcileArgs),
    /// Where the ten-minute rhythm of a deployment's syncs broke, and why: relay down, refused, back end failing, source silent,
    /// or around this relay
    #[command(
        after_help = "Exit code 4 where there are any.\n\nExample:\n  license-relay audit gaps --csv > gaps.csv"
    )]
    Gaps(questions::GapsArgs),
    /// What was consumed in a month, by deployment, against the back end's total and the quota
    #[command(after_help = "Example:\n  license-relay audit consumption --month 2026-10")]
    Consumption(questions::ConsumptionArgs),
    /// Which deployments use which license: product, addresses, first and last seen ("may I move my key?")
    #[command(after_help = "Example:\n  license-relay audit deployments")]
    Deployments(questions::DeploymentsArgs),
    /// Who was refused or limited, when and why
    #[command(after_help = "Example:\n  license-relay audit denied --from 2026-11-01")]
    Denied(questions::DeniedArgs),
    /// Units that moved from one person to another within a time; it watches people, so ask only where you may
    #[command(after_help = "Example:\n  license-relay audit churn --within 7d")]
    Churn(questions::ChurnArgs),
    /// The pseudonyms of a name under every key that is kept, and how often each is in the log
    #[command(
        after_help = "Examples:\n  license-relay audit subject 'ACME\\bob'\n  license-relay audit subject 'acme\\bob' --qlik-form md5"
    )]
    Subject(questions::SubjectArgs),
    /// One page that answers it all: who held what, is anything over-allocated or missing, and how that is known
    #[command(after_help = report::HELP)]
    Report(report::Report),
    /// Every record as a flat table; or the fields of Qlik's own Offline User Assignment Log, to compare
    #[command(after_help = "Examples:\n  license-relay audit export --format jsonl --out records.jsonl\n  \
                            license-relay audit export --format qlik --qlik-form md5 --names staff.csv --subject-key subject.key")]
    Export(questions::ExportArgs),
    /// Show that one record is in the log, without showing any other; or check such a proof
    #[command(after_help = prove::HELP)]
    Prove(prove::Prove),
    /// All that an auditor needs in one zip: the log, its checkpoints and key, and how to check them without this program
    #[command(after_help = kit::HELP)]
    Kit(kit::Kit),
    /// Put a log aside that can't be written to any more, and begin one that names it; needs the relay stopped
    #[command(
        after_help = "Example:\n  license-relay audit fork --reason \"restored from the backup of 24 November after a disk failure\""
    )]
    Fork {
        /// Why; it becomes the first record of the new log
        #[arg(long, value_name = "WORDS")]
        reason: String,
    },
    /// The keys that people's pseudonyms are made under
    #[command(after_help = "Example:\n  license-relay audit key list")]
    Key(key::Key),
    /// Remove what is older than a time, by whole segments; hashes and checkpoints stay, so that what is left is proven as
    /// before
    #[command(after_help = prune::HELP)]
    Prune(prune::Prune),
}

/// Runs the verb.
pub(super) async fn run(args: Audit, config: Option<PathBuf>) -> Result<Exit, Failure> {
    match args.action {
        AuditVerb::Verify(args) => verify::run(args, config),
        AuditVerb::State(args) => questions::state(args, config),
        AuditVerb::History(args) => questions::history(args, config),
        AuditVerb::Changes(args) => questions::changes(args, config),
        AuditVerb::Reconcile(args) => questions::reconcile(args, config),
        AuditVerb::Gaps(args) => questions::gaps(args, config),
        AuditVerb::Consumption(args) => questions::consumption(args, config),
        AuditVerb::Deployments(args) => questions::deployments(args, config),
        AuditVerb::Denied(args) => questions::denied(args, config),
        AuditVerb::Churn(args) => questions::churn(args, config),
        AuditVerb::Subject(args) => questions::subject(args, config),
        AuditVerb::Report(args) => report::run(args, config),
        AuditVerb::Export(args) => questions::export(args, config),
        AuditVerb::Prune(args) => prune::run(args, config).await,
        AuditVerb::Prove(args) => prove::run(args, config),
        AuditVerb::Kit(args) => kit::run(args, config),
        AuditVerb::Fork { reason } => {
            let config = load(&config::locate(config))?;
            let Forked { origin, predecessor, kept } = fork::fork(&config.audit, &reason).await?;
            let words = format!(
                "the log {} ({} records, root {}) lies in {} now;\n{origin} goes on from it, and its first record says why",
                predecessor.origin,
                predecessor.size,
                predecessor.root,
                kept.display()
            );
            outln!("{}", printable(&words));
            Ok(Exit::Fine)
        }
        AuditVerb::Key(args) => key::run(args, config).await.map(|()| Exit::Fine),
    }
}

/// Prints one line, which may hold what a log says, or what a file is called.
fn say(line: impl AsRef<str>) {
    outln!("{}", printable_line(line.as_ref()));
}

impl From<ForkError> for Failure {
    fn from(e: ForkError) -> Self {
        let exit = match &e {
            ForkError::Open(OpenError::Locked { .. }) => Exit::Running,
            ForkError::Key(_) | ForkError::NoLog(_) | ForkError::Open(OpenError::Foreign { .. }) => {
                Exit::Configuration
            }
            ForkError::Open(OpenError::WentBack { .. } | OpenError::Unproven { .. }) => Exit::WentBack,
            ForkError::Open(OpenError::Thread(_)) => Exit::Internal,
            ForkError::Open(_) | ForkError::Io { .. } | ForkError::FirstRecord(_) => Exit::Io,
        };
        Self::new(exit, e)
    }
}
