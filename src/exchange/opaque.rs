//! A tunnel as an exchange: its bytes aren't read, so who asks is decided by user or address, and what the log says is
//! that something passed, how much, and that nobody here knows what.

use std::net::IpAddr;

use uuid::Uuid;

use super::{Exchange, Fault};
use crate::config::model::Destination;
use crate::ledger::record::{Action, Direction, Outcome, Record};
use crate::observe::access::Access;
use crate::policy::identity::Identity;
use crate::policy::pending::Told;
use crate::policy::{Admission, Asker, Asking, Denial, Said};
use crate::setup::Setup;
use crate::upstream::dial::Opened;

/// A tunnel that was let in.
#[derive(Debug)]
pub struct Passage {
    id: Uuid,
    client: IpAddr,
    admission: Admission,
    /// Its opening is in the log.
    logged: bool,
}

impl Exchange {
    /// Judges a tunnel, writes that it opens, and opens it.
    ///
    /// # Errors
    /// It is refused, the log can't be written, or the destination can't be reached.
    pub async fn open_tunnel(
        &self,
        setup: &Setup,
        to: &Destination,
        identity: &Identity,
        access: &mut Access,
    ) -> Result<(Opened, Passage), Fault> {
        let (id, client) = (access.id, identity.address);
        let asker = Asker {
            said: Said::Message,
            source: &Asking::Nobody,
            licenses: &[],
            identity,
            activates: false,
            sourceless: false,
        };
        let admission = match setup.policy.judge(asker, None) {
            Ok(admission) => admission,
            Err(denial) => return Err(self.refuse_tunnel(access, identity.user.as_deref(), denial).await),
        };
        access.exchange = Some("tunnel");
        access.identified_by = Some(admission.identified_by);
        access.verdict = if admission.listed { "allow" } else { "observe" };
        if admission.listed {
            self.pending.saw_listed(client);
        }
        let mut passage = Passage { id, client, admission, logged: true };
        passage.logged =
            self.write_intent(setup, vec![passage.record(Action::TunnelOpen, Direction::Out)]).await?;
        access.via_parent = setup.sender.dialer.has_parent();
        match setup.sender.dialer.open(to).await {
            Ok(opened) => {
                access.upstream = Some(opened.address);
                Ok((opened, passage))
            }
            Err(error) => {
                access.error = Some(error.class());
                access.cause = Some(crate::upstream::whole_cause(&error));
                let mut record = passage.record(Action::UpstreamError, Direction::In);
                record.outcome = Outcome::Failure;
                record.reason = format!("{}: {error}", error.class());
                self.write_outcome(vec![record], passage.logged).await;
                Err(error.into())
            }
        }
    }

    /// Writes what a tunnel did.
    pub async fn close_tunnel(&self, passage: Passage, sent: u64, received: u64, ended_by: &str) {
        let mut record = passage.record(Action::TunnelClose, Direction::In);
        record.reason = format!("ended by {ended_by}; its bytes were not read");
        record.qlik.bytes_sent = Some(sent);
        record.qlik.bytes_received = Some(received);
        self.write_outcome(vec![record], passage.logged).await;
    }

    async fn refuse_tunnel(&self, access: &Access, user: Option<&str>, denial: Denial) -> Fault {
        let limited = matches!(denial, Denial::SourceLimit(_));
        let mut record =
            Record::new(if limited { Action::AccessLimited } else { Action::AccessDenied }, access.id);
        record.reason = denial.to_string();
        self.refusals.note(record, access.client);
        if limited || matches!(denial, Denial::DirectTls | Denial::NoUser) {
            return Fault::Denied { denial, pending: None };
        }
        let noted = self.pending.note(Told { user, ..Told::default() }, access.client, &denial.to_string());
        self.pending.on_disk(noted).await;
        Fault::Denied { denial, pending: Some(noted.number) }
    }
}

impl Passage {
    fn record(&self, action: Action, direction: Direction) -> Record {
        let mut record = Record::new(action, self.id);
        record.client = Some(self.client);
        record.qlik.direction = Some(direction);
        record.qlik.identified_by = Some(self.admission.identified_by);
        record.qlik.listed = (!self.admission.listed).then_some(false);
        record
    }
}
