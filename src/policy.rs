//! May it: where to, who asks, how often.

pub mod denial;
pub mod destination;
pub mod identity;
pub mod limits;
pub mod pending;
pub mod places;
#[cfg(feature = "report")]
pub(crate) mod replay;
pub mod sources;
pub mod users;

use std::sync::Arc;

use crate::budget::Room;
use crate::config::model::{AllowList, Config, Credentials, Mode, Stranger, Unread};
use crate::licensing::asker::{ClaimedSource, Understanding};
use crate::policy::denial::Denial;
use destination::Destinations;
use identity::ClientIdentity;
use limits::{AddressLimits, StrangerLimits, StrangerRate};
use relay_log::ledger::action::IdentifiedBy;
use relay_log::names::{LicenseNumber, SourceId};
use sources::{Entry, Match, Registry};

/// All that is allowed.
#[derive(Debug)]
pub struct Policy {
    /// What may be reached.
    pub destinations: Destinations,
    /// One limiter for each client address.
    pub per_address: Arc<AddressLimits>,
    /// TLS handshakes with the port, for each client address. Twice the rate of requests: a client that opens a connection for
    /// each request is refused in HTTP, and only one that opens more is turned away before the handshake.
    pub handshakes: Arc<AddressLimits>,
    /// The limits of strangers, whom no entry lets in.
    strangers: Arc<StrangerLimits>,
    /// Who may ask.
    pub registry: Registry,
    credentials: Credentials,
    unknown: Stranger,
    unidentified: Stranger,
    unreadable: Unread,
    unrecognised: Unread,
}

/// What there is to judge a request by.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInput<'a> {
    /// How much of it is understood.
    pub understanding: Understanding<'a>,
    /// Who says it is asking.
    pub source: &'a ClaimedSource,
    /// The licenses it names.
    pub licenses: &'a [LicenseNumber],
    /// Who the client is, as far as it has proved it.
    pub identity: &'a ClientIdentity,
    /// Whether it is an activation, which is counted apart.
    pub activates: bool,
    /// Whether such messages name no source by nature: activations and definitions.
    pub sourceless: bool,
    /// How many records it has in the log before it is sent.
    pub records: usize,
}

impl<'a> PolicyInput<'a> {
    /// Who opens a tunnel: user and address are all there is to know.
    pub(crate) fn of_tunnel(identity: &'a ClientIdentity) -> Self {
        Self {
            understanding: Understanding::Message,
            source: &ClaimedSource::Nobody,
            licenses: &[],
            identity,
            activates: false,
            sourceless: false,
            records: 1,
        }
    }
}

/// Why a request is let in: what the log says about it.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What identified the deployment.
    pub identified_by: IdentifiedBy,
    /// Whether the allow-list has it; `false` where `observe` let a stranger in.
    pub listed: bool,
    /// What people call the deployment; empty for a stranger.
    pub name: String,
    /// The id that an enrolment has just learned, to be written into the file.
    pub learned: Option<SourceId>,
    /// What is reserved for it in the log, until the last who has this lets go of it.
    pub room: Arc<Room>,
}

impl Policy {
    /// The policy of a configuration and an allow-list. Limiters of the one before whose rate is the same go on counting.
    pub fn new(config: &Config, list: AllowList, before: Option<&Self>) -> Self {
        let rate = config.limits.per_address;
        let (per_address, handshakes) = match before {
            Some(before) if before.per_address.rate() == rate => {
                (before.per_address.clone(), before.handshakes.clone())
            }
            _ => (Arc::new(AddressLimits::new(rate)), Arc::new(AddressLimits::new(rate.twice()))),
        };
        let rate = config.limits.per_source;
        let stranger = StrangerRate { source: rate, log_per_day: config.limits.strangers_log_per_day };
        let strangers = match before {
            Some(before) if before.strangers.rate == stranger => before.strangers.clone(),
            _ => Arc::new(StrangerLimits::new(stranger)),
        };
        let known = before.map(|before| &before.registry);
        Self {
            destinations: Destinations::new(config.destinations.clone()),
            per_address,
            handshakes,
            strangers,
            registry: Registry::new(list, rate, known),
            credentials: config.listen.credentials,
            unknown: config.sources.unknown,
            unidentified: config.sources.unidentified,
            unreadable: config.licensing.unreadable,
            unrecognised: config.licensing.unrecognised,
        }
    }

    /// Whether the deployment of this client can't trust our root, and is tunnelled instead.
    pub fn wants_tunnel(&self, identity: &ClientIdentity) -> bool {
        self.entry_of(identity).is_some_and(|entry| entry.source.mode == Some(Mode::Tunnel))
    }

    /// The entry that a client is let in by whose messages aren't read.
    pub(crate) fn entry_of(&self, identity: &ClientIdentity) -> Option<&Entry> {
        let ClientIdentity { user, address, .. } = identity;
        match self.registry.by_circumstance(&[], user.as_deref(), *address, true) {
            Match::Listed { entry, .. } => Some(entry),
            _ => None,
        }
    }

    /// Judges a request. Where the built-in vocabulary reads it in another way than the site's own does (`other`), both
    /// readings must be let in.
    ///
    /// # Errors
    /// It is refused, and why.
    pub fn judge(&self, input: PolicyInput<'_>, other: Option<PolicyInput<'_>>) -> Result<Admission, Denial> {
        match self.weigh(input, other)? {
            Decision::In(admission, None) => {
                Ok(admission.with(self.strangers.check(input.identity.address, input.records)?))
            }
            Decision::In(admission, Some(entry)) => Ok(admission.with(entry.count(input)?)),
            Decision::Unlisted(id) => {
                let ClientIdentity { user, address, .. } = input.identity;
                let learns = input.understanding == Understanding::Message;
                let learned = || self.registry.learn(id, input.licenses, user.as_deref(), *address);
                match learns.then(learned).flatten() {
                    Some((entry, first)) => {
                        // What was just learned must reach the file, so this one is not turned away.
                        let room = if first { entry.owe(input.identity) } else { entry.count(input)? };
                        let admission =
                            Admission::new(IdentifiedBy::License, true, &entry.source.name).with(room);
                        Ok(Admission { learned: first.then(|| id.clone()), ..admission })
                    }
                    None => {
                        let admission = self.stranger(id)?;
                        Ok(admission.with(self.strangers.check(*address, input.records)?))
                    }
                }
            }
        }
    }

    /// What [`judge`](Self::judge) would say, as far as it is no matter of how often somebody asks; counts nothing and
    /// learns nothing. `None` where an enrolment waits for an id, and whose comes first decides.
    ///
    /// # Errors
    /// As [`judge`](Self::judge).
    pub(crate) fn foresee(
        &self,
        input: PolicyInput<'_>,
        other: Option<PolicyInput<'_>>,
    ) -> Result<Option<Admission>, Denial> {
        match self.weigh(input, other)? {
            Decision::In(admission, _) => Ok(Some(admission)),
            Decision::Unlisted(id) => {
                let ClientIdentity { user, address, .. } = input.identity;
                let waits = || self.registry.is_waiting(input.licenses, user.as_deref(), *address);
                if input.understanding == Understanding::Message && waits() {
                    return Ok(None);
                }
                self.stranger(id).map(Some)
            }
        }
    }

    /// Both readings of a request, of which the one that is refused decides.
    fn weigh<'a>(
        &'a self,
        input: PolicyInput<'a>,
        other: Option<PolicyInput<'a>>,
    ) -> Result<Decision<'a>, Denial> {
        if let Some(other) = other
            && let Decision::Unlisted(id) = self.decide(other)?
            && other.source != input.source
            && self.unknown == Stranger::Deny
        {
            return Err(Denial::UnknownSource(id.to_string()));
        }
        self.decide(input)
    }

    fn stranger(&self, id: &SourceId) -> Result<Admission, Denial> {
        match self.unknown {
            Stranger::Observe => Ok(Admission::stranger()),
            Stranger::Deny => Err(Denial::UnknownSource(id.to_string())),
        }
    }

    /// Who asks, and may it; counts nothing and learns nothing.
    ///
    /// # Errors
    /// It is refused whatever else holds.
    fn decide<'a>(&'a self, input: PolicyInput<'a>) -> Result<Decision<'a>, Denial> {
        let PolicyInput { understanding, source, licenses, identity, sourceless, .. } = input;
        let (user, address) = (identity.user.as_deref(), identity.address);
        match (source, understanding) {
            (ClaimedSource::Conflict, _) => return Err(Denial::TwoSources),
            (ClaimedSource::TwoKeys, _) => return Err(Denial::TwoKeys),
            (ClaimedSource::TwoLicenses, _) => return Err(Denial::TwoLicenses),
            (ClaimedSource::Contradiction(why), _) => return Err(Denial::Contradiction(why)),
            (ClaimedSource::Unfit(why), _) => return Err(Denial::UnfitSource(why.clone())),
            (_, Understanding::Test) => {
                return Ok(Decision::In(Admission::new(IdentifiedBy::Test, true, ""), None));
            }
            (_, Understanding::Unreadable(why)) if self.unreadable == Unread::Deny => {
                return Err(Denial::Unreadable(why.to_owned()));
            }
            (_, Understanding::Unrecognised) if self.unrecognised == Unread::Deny => {
                return Err(Denial::Unrecognised);
            }
            (ClaimedSource::Nobody | ClaimedSource::Source(_), _) => {}
        }
        let found = match source {
            ClaimedSource::Source(id) => self.registry.by_id(id, user, address),
            // What is not exactly an activation or a definition is nobody's by its license alone.
            _ => self.registry.by_circumstance(licenses, user, address, sourceless),
        };
        self.check_credentials(identity, &found)?;
        let not_understood = |why: &str| Denial::Unreadable(why.to_owned());
        match (found, understanding) {
            (Match::Listed { entry, .. }, Understanding::Unreadable(why)) if !entry.proves(user, address) => {
                Err(not_understood(why))
            }
            (Match::Listed { entry, by }, _) => {
                Ok(Decision::In(Admission::new(by, true, &entry.source.name), Some(entry)))
            }
            (Match::WrongPlace(id), _) => Err(Denial::WrongPlace(id.to_string())),
            (Match::UnknownSource(_), _) => match source.id() {
                Some(id) => Ok(Decision::Unlisted(id)),
                None => Err(Denial::Unidentified(None)),
            },
            (Match::LicenseElsewhere(license), _) => Err(Denial::LicenseElsewhere(license.to_string())),
            (Match::LicenseAlone(_) | Match::Nobody, understanding) if self.observes(understanding) => {
                Ok(Decision::In(Admission::stranger(), None))
            }
            (_, Understanding::Unreadable(why)) => Err(not_understood(why)),
            (_, Understanding::Unrecognised) if licenses.is_empty() => Err(Denial::Unidentified(None)),
            (_, Understanding::Unrecognised) => Err(Denial::Unrecognised),
            (Match::LicenseAlone(license), _) => Err(Denial::LicenseAlone(license.to_string())),
            (Match::Nobody, _) => Err(Denial::Unidentified(licenses.first().map(ToString::to_string))),
        }
    }

    /// Whether a request that names nobody is let in all the same. What can't be read may name somebody who is not
    /// allowed, so that takes a site that lets in everybody.
    fn observes(&self, understanding: Understanding<'_>) -> bool {
        let read = !matches!(understanding, Understanding::Unreadable(_));
        self.unidentified == Stranger::Observe && (read || self.unknown == Stranger::Observe)
    }
}

/// What is decided about a request before anything is counted.
enum Decision<'a> {
    /// It is let in, by an entry or by none.
    In(Admission, Option<&'a Entry>),
    /// Its id is not listed; an enrolment may be waiting for it.
    Unlisted(&'a SourceId),
}

impl Admission {
    fn new(identified_by: IdentifiedBy, listed: bool, name: &str) -> Self {
        Self { identified_by, listed, name: name.to_owned(), learned: None, room: Arc::default() }
    }

    fn with(self, room: Room) -> Self {
        Self { room: Arc::new(room), ..self }
    }

    /// The admission of a client that nothing identifies, and that the site lets in all the same.
    fn stranger() -> Self {
        Self::new(IdentifiedBy::Nothing, false, "")
    }
}
