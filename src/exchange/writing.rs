//! How the records of an exchange get into the log: in turns, behind those of the same client, and made only once the turn
//! before is on disk. So a message of 50,000 changes takes the memory of one turn, and others have theirs in between.

use std::net::IpAddr;
use std::sync::Arc;

use super::Exchange;
use super::records::Records;
use crate::audit::journal::{BatchKind, CommitError, Lane, Turn};
use crate::budget::Room;
use crate::config::model::OnFailure;
use crate::licensing::message::Message;
use crate::policy::Admission;
use crate::setup::Setup;

/// Whose records go into the log.
#[derive(Debug)]
pub(super) struct Hand {
    /// Behind whose records they wait.
    lane: Lane,
    /// In whose turn they are made.
    client: IpAddr,
    /// What is reserved for them.
    room: Arc<Room>,
}

impl Hand {
    /// A source has a lane of its own at each client that speaks for it, but only where an entry lets it in: strangers could
    /// make up any number.
    pub(super) fn of(admission: &Admission, message: &Message, client: IpAddr) -> Self {
        let source = message.source.id().filter(|_| admission.listed).cloned();
        Self { lane: Lane::of(client, source), client, room: admission.room.clone() }
    }

    /// That of a tunnel, which names no source.
    pub(super) fn of_tunnel(admission: &Admission, client: IpAddr) -> Self {
        Self { lane: Lane::of(client, None), client, room: admission.room.clone() }
    }
}

/// Records that are not all in the log.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// Why.
    pub error: CommitError,
    /// Whether some of them are.
    pub is_begun: bool,
}

impl Exchange {
    /// On disk before it is forwarded; or, where the site chose `degrade`, forwarded and counted. `false` where it is
    /// counted already, so that a gap counts exchanges.
    pub(super) async fn write_intent(
        &self,
        setup: &Setup,
        log: &Hand,
        records: Records<'_>,
        is_quick: bool,
    ) -> Result<bool, Unwritten> {
        let degrades = setup.config.audit.on_failure == OnFailure::Degrade;
        match self.write(log, BatchKind::Intent, records, is_quick).await {
            // What leaves no intent must not pass either while its outcome could not be written.
            Ok(0) if !degrades => {
                self.journal.check().map_err(|error| Unwritten { error, is_begun: false })?;
                Ok(true)
            }
            Ok(_) => Ok(true),
            Err(_) if degrades => {
                self.journal.count_lost();
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// On disk before it is answered. Where that fails, the answer is passed on all the same: withholding it would
    /// make the product report the same consumption twice. The intent then stands as unknown, and the gap is counted.
    pub(super) async fn write_outcome(&self, log: &Hand, records: Records<'_>, is_quick: bool, logged: bool) {
        if let Err(Unwritten { error, .. }) = self.write(log, BatchKind::Outcome, records, is_quick).await {
            tracing::warn!("an outcome is not in the audit log, its intent stands as unknown: {error}");
            if logged {
                self.journal.count_lost();
            }
        }
    }

    /// Makes records and writes them in turns, between which others have theirs: each turn is on disk before the next one is
    /// made. Returns how many bytes their lines have.
    async fn write(
        &self,
        log: &Hand,
        writing: BatchKind,
        records: Records<'_>,
        is_quick: bool,
    ) -> Result<u64, Unwritten> {
        let mut records = self.aliases.join(records, self.pseudonyms.keys());
        let mut bytes = 0;
        loop {
            let turn = self.heavy_work.writing.work(log.client, is_quick, || Turn::of(&mut records)).await;
            let written = self.journal.write(&log.lane, writing, turn.records).await;
            let more = written.map_err(|error| Unwritten { error, is_begun: bytes > 0 })?;
            log.room.wrote(more);
            bytes += more;
            records.is_written();
            if turn.is_last {
                return Ok(bytes);
            }
        }
    }
}
