//! The records and access lines of clients that are refused before an exchange is made of their request.

use std::net::IpAddr;

use uuid::Uuid;

use super::reply::{Cause, Refusal};
use crate::app::App;
use crate::observe::facts::{Access, Arrival};
use crate::policy::identity::{CredentialFault, Unproven};
use relay_log::ledger::action::Action;
use relay_log::ledger::record::Record;
use relay_log::text::redact::clip;

impl App {
    /// Records credentials that prove nobody, with the user name that was tried; returns the refusal for the client.
    pub(crate) fn refuse_credentials(&self, unproven: &Unproven, access: &mut Access) -> Refusal {
        let action = match unproven.why {
            CredentialFault::TooMany(_) => Action::AccessLimited,
            // Nothing is known of these but that there were too many.
            CredentialFault::Busy => return Refusal::from(unproven),
            _ => Action::AccessDenied,
        };
        let mut record = Record::new(action, access.id());
        record.reason = format!("credentials: {}", unproven.why);
        record.qlik.tried_user = unproven.tried.as_deref().map(clip);
        self.exchange.refusals.note(record, access.client());
        access.unproven(unproven.tried.clone(), unproven.why.to_string());
        Refusal::from(unproven)
    }

    /// Records a refusal that would meet any client.
    pub(crate) fn note_denied(&self, refusal: &Refusal, client: IpAddr, id: Uuid) {
        let action = match refusal.cause {
            Cause::Connections | Cause::RateLimited => Action::AccessLimited,
            _ => Action::AccessDenied,
        };
        let mut record = Record::new(action, id);
        record.reason.clone_from(&refusal.sentence);
        self.exchange.refusals.note(record, client);
    }

    /// Writes the access line and the record of a client that is turned away before it is served.
    pub(crate) fn note_turned_away(&self, refusal: &Refusal, client: IpAddr, id: Uuid) {
        let mut access = Access::new(id, client, None, Arrival::default());
        refusal.note(&mut access, refusal.on_connect());
        self.setup.load().access.write(access);
        self.note_denied(refusal, client, id);
    }

    /// Writes the access line of a connection that was idle and gave way to another one.
    pub(crate) fn note_gave_way(&self, client: IpAddr) {
        self.setup.load().access.write_gave_way(client);
    }
}
