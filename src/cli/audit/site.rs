//! What the configuration tells the verbs that read logs: which log, which anchors and keys, and what deployments are called.

use std::path::{Path, PathBuf};

use relay_log::console::exit::Failure;
use relay_log::ledger::log::LogFile;
use relay_log::ledger::note::anchor_name;
use relay_report::input::deployment_names::DeploymentNames;
use relay_report::verbs::{Configured, Site};

use crate::cli::{configuration, load, reads_none};
use crate::config;
use crate::config::model::{Audit, Config};

/// The configuration that the command line names, if it names one.
pub(super) struct ConfiguredSite(pub(super) Option<PathBuf>);

impl Site for ConfiguredSite {
    fn named(&self) -> Result<Option<Configured>, Failure> {
        self.0.as_deref().map(|file| load(file).map(|config| configured(config, Vec::new()))).transpose()
    }

    fn configured(&self) -> Result<Configured, Failure> {
        let config = load(&config::locate(self.0.clone())).map_err(|Failure { exit, words }| {
            let words =
                format!("{words}\n(a log is read without a configuration where it is named: --log DIR)");
            Failure::new(exit, words)
        })?;
        let anchors = anchors_of(&config.audit);
        Ok(configured(config, anchors))
    }

    fn reads_none(&self, what: &str) -> Result<(), Failure> {
        reads_none(self.0.as_deref(), what)
    }

    fn deployment_names(&self, allow_list: &Path) -> Result<DeploymentNames, Failure> {
        let list = config::sources::load(allow_list).map_err(configuration)?;
        let named = list.sources.into_iter().filter_map(|source| Some((source.id?.digest(), source.name)));
        Ok(DeploymentNames::new(named))
    }
}

fn configured(config: Config, anchors: Vec<PathBuf>) -> Configured {
    Configured {
        log: config.audit.directory,
        anchors,
        subject_key: config.audit.subject_key,
        subject_case: config.audit.subject_case,
        allow_list: config.sources.file,
    }
}

/// The configured anchors that hold a checkpoint of the configured log, as far as they are in reach.
pub(in crate::cli) fn anchors_of(audit: &Audit) -> Vec<PathBuf> {
    let about = LogFile::read(&audit.directory).ok().flatten();
    let note = about.map(|about| anchor_name(&about.origin)).unwrap_or_default();
    audit.anchors.iter().filter(|anchor| anchor.join(&note).is_file()).cloned().collect()
}
