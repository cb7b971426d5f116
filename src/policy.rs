//! May it: where to, who asks, how often.

pub mod destination;
pub mod identity;
pub mod limits;
pub mod pending;
pub mod places;
pub(crate) mod replay;
pub mod sources;
pub mod users;

use std::sync::Arc;
use std::time::Duration;

use crate::budget::Room;
use crate::config::model::{AllowList, Config, Credentials, Mode, Stranger, Unread};
use crate::config::names::{LicenseNumber, SourceId};
use destination::Destinations;
use identity::Identity;
use limits::{AddressLimits, Limited, StrangerLimits, StrangerRate};
use sources::{Entry, Registry, Standing};

/// All that is allowed.
#[derive(Debug)]
pub struct Policy {
    /// What may be reached.
    pub destinations: Destinations,
    /// One limiter for each client address.
    pub per_address: Arc<AddressLimits>,
    /// TLS handshakes with the port, for each client address. Twice the rate of requests: whoever opens a connection for
    /// each request is told in HTTP, and only who opens more of them is turned away before the handshake.
    pub handshakes: Arc<AddressLimits>,
    /// What those may cause whom no entry lets in.
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
pub struct Asker<'a> {
    /// How much of it is understood.
    pub said: Said<'a>,
    /// Who says it is asking.
    pub source: &'a Asking,
    /// The licenses it names.
    pub licenses: &'a [LicenseNumber],
    /// Who the client is, as far as it has proved it.
    pub identity: &'a Identity,
    /// Whether it is an activation, which is counted apart.
    pub activates: bool,
    /// Whether such messages name no source by nature: activations and definitions.
    pub sourceless: bool,
    /// How many records it has in the log before it is sent.
    pub records: usize,
}

impl<'a> Asker<'a> {
    /// Who opens a tunnel: user and address are all there is to know.
    pub(crate) fn of_tunnel(identity: &'a Identity) -> Self {
        Self {
            said: Said::Message,
            source: &Asking::Nobody,
            licenses: &[],
            identity,
            activates: false,
            sourceless: false,
            records: 1,
        }
    }
}

/// How much of a request is understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Said<'a> {
    /// The connectivity test that people use.
    Test,
    /// A message.
    Message,
    /// A message that no vocabulary entry matches.
    Unrecognised,
    /// A body that can't be read, and why.
    Unreadable(&'a str),
}

/// Who says it is asking.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Asking {
    /// Nobody says.
    Nobody,
    /// This source.
    Source(SourceId),
    /// Two different ids stand at one place.
    Conflict,
    /// Two different license keys stand at one place, or keys of two licenses.
    TwoKeys,
    /// Two different license numbers stand at one place, or in a message that is about one license.
    TwoLicenses,
    /// What stands there can't be an id.
    Unfit(String),
    /// The bytes have two readings, and why.
    Contradiction(&'static str),
}

impl Asking {
    /// The id that is said, where one is.
    pub fn id(&self) -> Option<&SourceId> {
        match self {
            Self::Source(id) => Some(id),
            _ => None,
        }
    }

    /// Whether what is said contradicts itself.
    pub fn is_contradiction(&self) -> bool {
        matches!(self, Self::Conflict | Self::TwoKeys | Self::TwoLicenses | Self::Contradiction(_))
    }
}

/// Why a request is let in: what the log says about it.
#[derive(Clone, Debug)]
pub struct Admission {
    /// `source`, `license`, `user`, `network`, `test` or `none`.
    pub identified_by: &'static str,
    /// Whether the allow-list has it; `false` where `observe` let a stranger in.
    pub listed: bool,
    /// What people call the deployment; empty for a stranger.
    pub name: String,
    /// The id that an enrolment has just learned, to be written into the file.
    pub learned: Option<SourceId>,
    /// What is reserved for it in the log, until the last who has this lets go of it.
    pub room: Arc<Room>,
}

/// Why a request is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Denial {
    /// The source is not in the allow-list.
    #[error("source {0} is not allowed")]
    UnknownSource(String),
    /// The source is in the allow-list, for other addresses or users.
    #[error("source {0} is not allowed from this address or user")]
    WrongPlace(String),
    /// Its license is in the allow-list, for other addresses or users.
    #[error("license {0} is not allowed from this address or user")]
    LicenseElsewhere(String),
    /// Its license is in the allow-list, and it is neither an activation nor a definition.
    #[error("license {0} lets in activations alone, and no source is named")]
    LicenseAlone(String),
    /// Nothing in it is known.
    #[error("{}", match .0 { Some(n) => format!("license {n} is not allowed"), None => "no source or license to allow it by".into() })]
    Unidentified(Option<String>),
    /// Two sources in one message.
    #[error("the message names two different sources")]
    TwoSources,
    /// Two license keys at one place of a message.
    #[error("the message names two different license keys")]
    TwoKeys,
    /// Two license numbers at one place, or in a message that is about one license.
    #[error("the message names two different licenses")]
    TwoLicenses,
    /// The id can't be one.
    #[error("the source id {0}")]
    UnfitSource(String),
    /// The bytes have two readings.
    #[error("{0}")]
    Contradiction(&'static str),
    /// Nothing of the body can be read, and neither a user nor a network proves the client.
    #[error("the body can't be read ({0})")]
    Unreadable(String),
    /// No vocabulary entry matches the message, and neither a user, a network nor a listed id lets it in.
    #[error("the message is not recognised")]
    Unrecognised,
    /// `listen.credentials = "required"`, and direct TLS, in which nothing proves the client by its network.
    #[error(
        "direct TLS can't send the user name and password demanded here; set the proxy, or list its networks"
    )]
    DirectTls,
    /// `listen.credentials = "required"`, and a client that has no user any more.
    #[error(
        "a user name and password are demanded, and those of this connection are missing or no longer right"
    )]
    NoUser,
    /// Too many requests of this source.
    #[error("too many requests of this source")]
    SourceLimit(Duration),
    /// Too many changes of this source.
    #[error("too many changes of this source (limits.per_source.records)")]
    RecordLimit(Duration),
    /// Too much of the log for this source.
    #[error(
        "the log's share of this source is used up; wait, or raise log_per_day (its limit, or limits.per_source)"
    )]
    LogLimit(Duration),
    /// Too much of the log for those whom no entry lets in.
    #[error("the log's share of strangers is used up; wait, or raise limits.strangers_log_per_day")]
    StrangersLogLimit(Duration),
    /// Too many requests of this address.
    #[error("too many requests of this address")]
    AddressLimit(Duration),
}

impl From<Limited> for Denial {
    fn from(limited: Limited) -> Self {
        match limited {
            Limited::Requests(wait) => Self::SourceLimit(wait),
            Limited::Records(wait) => Self::RecordLimit(wait),
            Limited::Log(wait) => Self::LogLimit(wait),
            Limited::StrangersLog(wait) => Self::StrangersLogLimit(wait),
        }
    }
}

impl Denial {
    /// The wait until it would be let in, where it is refused because it asks too much.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::SourceLimit(wait)
            | Self::RecordLimit(wait)
            | Self::LogLimit(wait)
            | Self::StrangersLogLimit(wait)
            | Self::AddressLimit(wait) => Some(*wait),
            _ => None,
        }
    }
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
    pub fn wants_tunnel(&self, identity: &Identity) -> bool {
        self.entry_of(identity).is_some_and(|entry| entry.source.mode == Some(Mode::Tunnel))
    }

    /// The entry that a client is let in by whose messages aren't read.
    pub(crate) fn entry_of(&self, identity: &Identity) -> Option<&Entry> {
        let Identity { user, address, .. } = identity;
        match self.registry.by_circumstance(&[], user.as_deref(), *address, true) {
            Standing::Listed { entry, .. } => Some(entry),
            _ => None,
        }
    }

    /// Judges a request. Where the built-in vocabulary reads it in another way than the site's own does (`other`), both
    /// readings must be let in.
    ///
    /// # Errors
    /// It is refused, and why.
    pub fn judge(&self, asker: Asker<'_>, other: Option<Asker<'_>>) -> Result<Admission, Denial> {
        match self.weigh(asker, other)? {
            Decision::In(admission, None) => {
                Ok(admission.with(self.strangers.check(asker.identity.address, asker.records)?))
            }
            Decision::In(admission, Some(entry)) => Ok(admission.with(entry.count(asker)?)),
            Decision::Unlisted(id) => {
                let Identity { user, address, .. } = asker.identity;
                let learns = asker.said == Said::Message;
                let learned = || self.registry.learn(id, asker.licenses, user.as_deref(), *address);
                match learns.then(learned).flatten() {
                    Some((entry, first)) => {
                        // What was just learned must reach the file, so this one is not turned away.
                        let room = if first { entry.owe(asker.identity) } else { entry.count(asker)? };
                        let admission = Admission::new("license", true, &entry.source.name).with(room);
                        Ok(Admission { learned: first.then(|| id.clone()), ..admission })
                    }
                    None => {
                        let admission = self.stranger(id)?;
                        Ok(admission.with(self.strangers.check(*address, asker.records)?))
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
        asker: Asker<'_>,
        other: Option<Asker<'_>>,
    ) -> Result<Option<Admission>, Denial> {
        match self.weigh(asker, other)? {
            Decision::In(admission, _) => Ok(Some(admission)),
            Decision::Unlisted(id) => {
                let Identity { user, address, .. } = asker.identity;
                let waits = || self.registry.is_waiting(asker.licenses, user.as_deref(), *address);
                if asker.said == Said::Message && waits() {
                    return Ok(None);
                }
                self.stranger(id).map(Some)
            }
        }
    }

    /// Both readings of a request, of which the one that is refused decides.
    fn weigh<'a>(&'a self, asker: Asker<'a>, other: Option<Asker<'a>>) -> Result<Decision<'a>, Denial> {
        if let Some(other) = other
            && let Decision::Unlisted(id) = self.decide(other)?
            && other.source != asker.source
            && self.unknown == Stranger::Deny
        {
            return Err(Denial::UnknownSource(id.to_string()));
        }
        self.decide(asker)
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
    fn decide<'a>(&'a self, asker: Asker<'a>) -> Result<Decision<'a>, Denial> {
        let Asker { said, source, licenses, identity, sourceless, .. } = asker;
        let (user, address) = (identity.user.as_deref(), identity.address);
        match (source, said) {
            (Asking::Conflict, _) => return Err(Denial::TwoSources),
            (Asking::TwoKeys, _) => return Err(Denial::TwoKeys),
            (Asking::TwoLicenses, _) => return Err(Denial::TwoLicenses),
            (Asking::Contradiction(why), _) => return Err(Denial::Contradiction(why)),
            (Asking::Unfit(why), _) => return Err(Denial::UnfitSource(why.clone())),
            (_, Said::Test) => return Ok(Decision::In(Admission::new("test", true, ""), None)),
            (_, Said::Unreadable(why)) if self.unreadable == Unread::Deny => {
                return Err(Denial::Unreadable(why.to_owned()));
            }
            (_, Said::Unrecognised) if self.unrecognised == Unread::Deny => return Err(Denial::Unrecognised),
            (Asking::Nobody | Asking::Source(_), _) => {}
        }
        let standing = match source {
            Asking::Source(id) => self.registry.by_id(id, user, address),
            // What is not exactly an activation or a definition is nobody's by its license alone.
            _ => self.registry.by_circumstance(licenses, user, address, sourceless),
        };
        self.check_credentials(identity, &standing)?;
        let not_understood = |why: &str| Denial::Unreadable(why.to_owned());
        match (standing, said) {
            (Standing::Listed { entry, .. }, Said::Unreadable(why)) if !entry.proves(user, address) => {
                Err(not_understood(why))
            }
            (Standing::Listed { entry, by }, _) => {
                Ok(Decision::In(Admission::new(by, true, &entry.source.name), Some(entry)))
            }
            (Standing::WrongPlace(id), _) => Err(Denial::WrongPlace(id.to_string())),
            (Standing::UnknownSource(_), _) => match source.id() {
                Some(id) => Ok(Decision::Unlisted(id)),
                None => Err(Denial::Unidentified(None)),
            },
            (Standing::LicenseElsewhere(license), _) => Err(Denial::LicenseElsewhere(license.to_string())),
            (Standing::LicenseAlone(_) | Standing::Nobody, said) if self.observes(said) => {
                Ok(Decision::In(Admission::stranger(), None))
            }
            (_, Said::Unreadable(why)) => Err(not_understood(why)),
            (_, Said::Unrecognised) if licenses.is_empty() => Err(Denial::Unidentified(None)),
            (_, Said::Unrecognised) => Err(Denial::Unrecognised),
            (Standing::LicenseAlone(license), _) => Err(Denial::LicenseAlone(license.to_string())),
            (Standing::Nobody, _) => Err(Denial::Unidentified(licenses.first().map(ToString::to_string))),
        }
    }

    /// Whether a request that names nobody is let in all the same. What can't be read may name somebody who is not
    /// allowed, so that takes a site that lets in everybody.
    fn observes(&self, said: Said<'_>) -> bool {
        let read = !matches!(said, Said::Unreadable(_));
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
    fn new(identified_by: &'static str, listed: bool, name: &str) -> Self {
        Self { identified_by, listed, name: name.to_owned(), learned: None, room: Arc::default() }
    }

    fn with(self, room: Room) -> Self {
        Self { room: Arc::new(room), ..self }
    }

    /// Of somebody whom nothing proves, and whom the site lets in all the same.
    fn stranger() -> Self {
        Self::new("none", false, "")
    }
}
