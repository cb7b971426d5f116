//! A verb that adds records to the log while no relay writes it.

use std::path::PathBuf;
use std::sync::Arc;

use super::disk::RealDisk;
use super::fork;
use super::journal::{CommitError, Journal, Opening, Writer};
use super::recover::{OpenError, lock};
use crate::config::model::Audit;
use relay_log::ledger::note::{Signer, SigningKeyError};
use relay_log::ledger::record::Record;
use relay_log::ledger::segment::is_begun;

/// The log, held open.
#[derive(Debug)]
pub struct Visit {
    journal: Journal,
    writer: Writer,
}

/// Why nothing is added.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// There is nothing to add to.
    #[error("{0} has no log yet; a relay makes one when it starts")]
    NoLog(PathBuf),
    /// A relay writes the log, or it can't be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The signing key can't be used.
    #[error("{0}")]
    Key(#[from] SigningKeyError),
    /// The log takes no record.
    #[error("{0}")]
    Commit(#[from] CommitError),
}

impl Visit {
    /// Whether a visit is possible just now.
    ///
    /// # Errors
    /// There is no log, or a relay writes it.
    pub fn is_possible(audit: &Audit) -> Result<(), VisitError> {
        if !is_begun(&audit.directory) {
            return Err(VisitError::NoLog(audit.directory.clone()));
        }
        drop(lock(&audit.directory)?);
        Ok(())
    }

    /// Opens the log as a relay would; none starts until this is over.
    ///
    /// # Errors
    /// There is no log, a relay writes it, or it can't be opened.
    pub fn begin(audit: &Audit) -> Result<Self, VisitError> {
        if !is_begun(&audit.directory) {
            return Err(VisitError::NoLog(audit.directory.clone()));
        }
        fork::open_named(audit, |origin| {
            let signer = Signer::load(&audit.signing_key, origin)?;
            let (journal, writer) = Journal::open(Opening::new(audit, signer, Arc::new(RealDisk)))?;
            Ok(Self { journal, writer })
        })
    }

    /// Writes records, which also say how the relay's last run ended: the next start asks the last record for that.
    ///
    /// # Errors
    /// The log takes none; nothing of them is in it.
    pub async fn write(&self, mut records: Vec<Record>) -> Result<(), VisitError> {
        for record in &mut records {
            record.qlik.previous_stop = self.journal.previous_stop();
        }
        self.journal.commit(records).await?;
        Ok(())
    }

    /// Signs what is written, and lets go of the log.
    pub async fn end(self) {
        self.journal.close().await;
        self.writer.finish();
    }
}
