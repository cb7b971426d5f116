//! The verbs that read logs, one file for each kind: arguments to answer.
//!
//! Two programs have them. What the one knows from its configuration and the other does not know is a [`Site`].

pub mod kit;
pub mod prove;
pub mod questions;
pub mod report;
mod sources;
pub mod verify;

use std::path::{Path, PathBuf};

use relay_log::console::exit::{Exit, Failure};
use relay_log::ledger::subject::SubjectCase;

use crate::input::deployment_names::DeploymentNames;

/// What a program knows beside its command line.
pub trait Site {
    /// The configuration, where the command line names one. Its anchors are not looked for.
    ///
    /// # Errors
    /// It can't be used.
    fn named(&self) -> Result<Option<Configured>, Failure>;

    /// The configuration, whose log is read because none is named.
    ///
    /// # Errors
    /// There is none, or it can't be used.
    fn configured(&self) -> Result<Configured, Failure>;

    /// Refuses a configuration where none is read.
    ///
    /// # Errors
    /// The command line names one.
    fn reads_none(&self, what: &str) -> Result<(), Failure>;

    /// What an allow-list calls deployments.
    ///
    /// # Errors
    /// It can't be used.
    fn deployment_names(&self, allow_list: &Path) -> Result<DeploymentNames, Failure>;
}

/// What a configuration says to a reader of its log.
#[derive(Clone, Debug)]
pub struct Configured {
    /// The folder of the log.
    pub log: PathBuf,
    /// Its anchors that hold a checkpoint of it, as far as they are in reach.
    pub anchors: Vec<PathBuf>,
    /// The key that names are hidden with.
    pub subject_key: PathBuf,
    /// Whether the case of a name tells two people apart.
    pub subject_case: SubjectCase,
    /// The allow-list.
    pub allow_list: PathBuf,
}

/// A verb that reads logs.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
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
}

/// Runs a verb.
///
/// # Errors
/// What it is asked for can't be read, written or understood.
pub fn run(verb: Verb, site: &dyn Site) -> Result<Exit, Failure> {
    match verb {
        Verb::Verify(args) => verify::run(args, site),
        Verb::State(args) => questions::state(args, site),
        Verb::History(args) => questions::history(args, site),
        Verb::Changes(args) => questions::changes(args, site),
        Verb::Reconcile(args) => questions::reconcile(args, site),
        Verb::Gaps(args) => questions::gaps(args, site),
        Verb::Consumption(args) => questions::consumption(args, site),
        Verb::Deployments(args) => questions::deployments(args, site),
        Verb::Denied(args) => questions::denied(args, site),
        Verb::Churn(args) => questions::churn(args, site),
        Verb::Subject(args) => questions::subject(args, site),
        Verb::Report(args) => report::run(args, site),
        Verb::Export(args) => questions::export(args, site),
        Verb::Prove(args) => prove::run(args, site),
        Verb::Kit(args) => kit::run(args, site),
    }
}
