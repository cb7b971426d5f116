//! A tunnel as an exchange: its bytes aren't read, so who asks is decided by user or address, and what the log says is
//! that something passed, how much, and that nobody here knows what.
//!
//! A tunnel may be open for a day, so it keeps what it was let in by, and is judged again under each new setup.

use uuid::Uuid;

use super::records::Records;
use super::writing::Hand;
use super::{Exchange, Fault};
use crate::config::model::{Destination, Mode};
use crate::observe::facts::Access;
use crate::policy::denial::Denial;
use crate::policy::identity::ClientIdentity;
use crate::policy::pending::DeploymentFacts;
use crate::policy::sources::Entry;
use crate::policy::{Admission, PolicyInput};
use crate::setup::Setup;
use crate::upstream::dial::Opened;
use relay_log::ledger::action::{Action, Direction, Outcome};
use relay_log::ledger::record::Record;
use relay_log::text::causes::whole_cause;
use relay_log::text::redact::clip;

/// A tunnel that was let in.
#[derive(Debug)]
pub struct OpenTunnel {
    id: Uuid,
    identity: ClientIdentity,
    to: Destination,
    admission: Admission,
    /// What people tell the entry by that let it in; none for a stranger.
    entry: Option<String>,
    /// The setup it was judged by.
    generation: u64,
    /// Its opening is in the log.
    logged: bool,
}

/// What ended a tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndedBy {
    /// The client.
    Client,
    /// The destination.
    Destination,
    /// No byte came for too long.
    Idle,
    /// It was open for as long as any may be.
    Age,
    /// The relay stops.
    Stop,
    /// It would not be let in any more.
    Revocation,
    /// Its place was needed.
    Limit,
}

impl EndedBy {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Destination => "destination",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Stop => "stop",
            Self::Revocation => "revocation",
            Self::Limit => "limit",
        }
    }
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
        identity: &ClientIdentity,
        access: &mut Access,
    ) -> Result<(Opened, OpenTunnel), Fault> {
        let (id, client) = (access.id(), identity.address);
        let admission = match setup.policy.judge(PolicyInput::of_tunnel(identity), None) {
            Ok(admission) => admission,
            Err(denial) => {
                return Err(self.refuse_tunnel(setup, access, identity.user.as_deref(), denial).await);
            }
        };
        access.understood("tunnel", None, None);
        access.admitted(admission.identified_by, admission.listed, admission.room.clone());
        if admission.listed {
            self.pending.saw_listed(client);
        }
        let entry = setup.policy.entry_of(identity).filter(|_| admission.listed).map(Entry::label);
        let (identity, to, generation) = (identity.clone(), to.clone(), setup.generation);
        let mut tunnel = OpenTunnel { id, identity, to, admission, entry, generation, logged: true };
        let opening = tunnel.record(Action::TunnelOpen, Direction::Out);
        let log = Hand::of_tunnel(&tunnel.admission, client);
        let written = self.write_intent(setup, &log, only(opening), true).await;
        tunnel.logged = written.map_err(|unwritten| unwritten.error)?;
        access.sent(setup.sender.dialer.has_parent());
        match setup.sender.dialer.open(&tunnel.to).await {
            Ok(opened) => {
                access.reached(Some(opened.address));
                Ok((opened, tunnel))
            }
            Err(error) => {
                access.failed(error.class(), whole_cause(&error));
                let mut record = tunnel.record(Action::UpstreamError, Direction::In);
                record.outcome = Outcome::Failure;
                record.reason = format!("{}: {error}", error.class());
                self.write_outcome(&log, only(record), true, tunnel.logged).await;
                Err(error.into())
            }
        }
    }

    /// Writes what a tunnel did; and why it was revoked, where it was.
    pub async fn close_tunnel(
        &self,
        tunnel: OpenTunnel,
        sent: u64,
        received: u64,
        ended_by: EndedBy,
        revoked: Option<&str>,
    ) {
        let mut record = tunnel.record(Action::TunnelClose, Direction::In);
        let why = revoked.map(|why| format!(": {why}")).unwrap_or_default();
        record.reason = format!("ended by {}{why}; its bytes were not read", ended_by.as_str());
        record.qlik.bytes_sent = Some(sent);
        record.qlik.bytes_received = Some(received);
        let log = Hand::of_tunnel(&tunnel.admission, tunnel.identity.address);
        self.write_outcome(&log, only(record), true, tunnel.logged).await;
    }

    async fn refuse_tunnel(
        &self,
        setup: &Setup,
        access: &Access,
        user: Option<&str>,
        denial: Denial,
    ) -> Fault {
        let mut record = Record::new(denial.action(), access.id());
        record.reason = denial.to_string();
        self.refusals.note(record, access.client());
        if !denial.is_about_who(&setup.config.licensing) {
            return Fault::Denied { denial, pending: None };
        }
        let noted = self.pending.note(
            DeploymentFacts { user, ..DeploymentFacts::default() },
            access.client(),
            &denial.to_string(),
        );
        self.pending.on_disk(noted).await;
        Fault::Denied { denial, pending: Some(noted.number) }
    }
}

fn only(record: Record) -> Records<'static> {
    Box::new(std::iter::once(record.into()))
}

impl OpenTunnel {
    /// The setup it was judged by.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Why it would not be let in under this setup. Nothing is counted, so that no reload uses up a limit.
    pub(crate) fn revoked(&self, setup: &Setup) -> Option<String> {
        let Self { to, identity, .. } = self;
        let listen = &setup.config.listen;
        if !listen.lets_connect(identity.address) {
            return Some(format!("{} may not connect any more (listen.allow_from)", identity.address));
        }
        match setup.policy.destinations.still(to) {
            None => {
                return Some(format!("{}:{} is not in the list of destinations any more", to.host, to.port));
            }
            Some(now) if now != to => return Some(format!("{}:{} leads elsewhere now", to.host, to.port)),
            Some(_) => {}
        }
        if let Some(why) = identity.lost_user(listen.credentials, &setup.users) {
            return Some(why);
        }
        let identity = identity.clone().now(listen.credentials, &setup.users);
        match setup.policy.foresee(PolicyInput::of_tunnel(&identity), None) {
            Err(Denial::Unidentified(_)) => {
                let entry = self.entry.as_deref().unwrap_or("observe");
                Some(format!("the allow-list does not let it in any more, as {entry:?} did"))
            }
            Err(denial) => Some(denial.to_string()),
            Ok(_) if to.mode == Mode::Terminate && !setup.policy.wants_tunnel(&identity) => {
                Some("no entry asks for mode \"tunnel\" for it any more".to_owned())
            }
            Ok(_) => None,
        }
    }

    fn record(&self, action: Action, direction: Direction) -> Record {
        let mut record = Record::new(action, self.id);
        record.client = Some(self.identity.address);
        record.qlik.direction = Some(direction);
        record.qlik.identified_by = Some(self.admission.identified_by);
        record.qlik.listed = (!self.admission.listed).then_some(false);
        record.qlik.entry = self.entry.as_deref().map(clip);
        record.qlik.proxy_user = self.identity.user.as_deref().map(clip);
        record.qlik.destination = Some(format!("{}:{}", self.to.host, self.to.port));
        record
    }
}
