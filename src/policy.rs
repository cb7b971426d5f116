//! May it: where to, who asks, how often.

pub mod destination;
pub mod identity;
pub mod limits;
pub mod pending;
pub mod sources;
pub mod users;

use std::sync::Arc;
use std::time::Duration;

use crate::config::model::{AllowList, Config, Credentials, Mode, Stranger, Unread};
use crate::config::names::{LicenseNumber, SourceId};
use destination::Destinations;
use identity::Identity;
use limits::AddressLimits;
use sources::{Registry, Standing};

/// All that is allowed.
#[derive(Debug)]
pub struct Policy {
    /// What may be reached.
    pub destinations: Destinations,
    /// One limiter for each client address.
    pub per_address: Arc<AddressLimits>,
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
    /// Two different license keys stand at one place.
    TwoKeys,
    /// Two different license numbers stand under one name in one object.
    TwoLicenses,
    /// What stands there can't be an id.
    Unfit(String),
}

impl Asking {
    /// The id that is said, where one is.
    pub fn id(&self) -> Option<&SourceId> {
        match self {
            Self::Source(id) => Some(id),
            _ => None,
        }
    }
}

/// Why a request is let in: what the log says about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admission {
    /// `source`, `license`, `user`, `network`, `test` or `none`.
    pub identified_by: &'static str,
    /// Whether the allow-list has it; `false` where `observe` let a stranger in.
    pub listed: bool,
    /// What people call the deployment; empty for a stranger.
    pub name: String,
    /// The id that an enrolment has just learned, to be written into the file.
    pub learned: Option<SourceId>,
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
    /// Nothing in it is known.
    #[error("{}", match .0 { Some(n) => format!("license {n} is not allowed"), None => "no source or license to allow it by".into() })]
    Unidentified(Option<String>),
    /// Two sources in one message.
    #[error("the message names two different sources")]
    TwoSources,
    /// Two license keys at one place of a message.
    #[error("the message names two different license keys")]
    TwoKeys,
    /// Two license numbers under one name.
    #[error("the message names two different licenses in one object")]
    TwoLicenses,
    /// The id can't be one.
    #[error("the source id {0}")]
    UnfitSource(String),
    /// `licensing.unreadable = "deny"`.
    #[error("the body can't be read ({0})")]
    Unreadable(String),
    /// `licensing.unrecognised = "deny"`.
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
    /// Too many requests of this address.
    #[error("too many requests of this address")]
    AddressLimit(Duration),
}

impl Policy {
    /// The policy of a configuration and an allow-list. Limiters of the one before whose rate is the same go on counting.
    pub fn new(config: &Config, list: AllowList, before: Option<&Self>) -> Self {
        let rate = config.limits.per_address;
        let per_address = match before {
            Some(before) if before.per_address.rate() == rate => before.per_address.clone(),
            _ => Arc::new(AddressLimits::new(rate)),
        };
        let known = before.map(|before| &before.registry);
        Self {
            destinations: Destinations::new(config.destinations.clone()),
            per_address,
            registry: Registry::new(list, config.limits.per_source, known),
            credentials: config.listen.credentials,
            unknown: config.sources.unknown,
            unidentified: config.sources.unidentified,
            unreadable: config.licensing.unreadable,
            unrecognised: config.licensing.unrecognised,
        }
    }

    /// Whether the deployment of this client can't trust our root, and is tunnelled instead.
    pub fn wants_tunnel(&self, identity: &Identity) -> bool {
        let Identity { user, address, .. } = identity;
        match self.registry.by_circumstance(&[], user.as_deref(), *address, true) {
            Standing::Listed { entry, .. } => entry.source.mode == Some(Mode::Tunnel),
            _ => false,
        }
    }

    /// Judges a request.
    ///
    /// # Errors
    /// It is refused, and why.
    pub fn judge(&self, asker: Asker<'_>) -> Result<Admission, Denial> {
        let Asker { said, source, licenses, identity, sourceless, .. } = asker;
        let (user, address) = (identity.user.as_deref(), identity.address);
        match said {
            Said::Test => return Ok(Admission::new("test", true, "")),
            Said::Unreadable(why) if self.unreadable == Unread::Deny => {
                return Err(Denial::Unreadable(why.to_owned()));
            }
            Said::Unrecognised if self.unrecognised == Unread::Deny => return Err(Denial::Unrecognised),
            _ => {}
        }
        let registry = &self.registry;
        let standing = match source {
            Asking::Conflict => return Err(Denial::TwoSources),
            Asking::TwoKeys => return Err(Denial::TwoKeys),
            Asking::TwoLicenses => return Err(Denial::TwoLicenses),
            Asking::Unfit(why) => return Err(Denial::UnfitSource(why.clone())),
            Asking::Source(id) => registry.by_id(id, user, address),
            Asking::Nobody => registry.by_circumstance(licenses, user, address, sourceless),
        };
        self.check_credentials(identity, &standing)?;
        let stranger = |stranger, denial| match stranger {
            Stranger::Observe => Ok(Admission::new("none", false, "")),
            Stranger::Deny => Err(denial),
        };
        match standing {
            Standing::Listed { entry, by } => {
                entry.count(asker).map_err(Denial::SourceLimit)?;
                Ok(Admission::new(by, true, &entry.source.name))
            }
            Standing::WrongPlace(id) => Err(Denial::WrongPlace(id.to_string())),
            Standing::LicenseElsewhere(license) => Err(Denial::LicenseElsewhere(license.to_string())),
            Standing::UnknownSource(id) => match registry.learn(&id, licenses, user, address) {
                Some((entry, first)) => {
                    // What was just learned must reach the file, so this one is not turned away.
                    if !first {
                        entry.count(asker).map_err(Denial::SourceLimit)?;
                    }
                    let admission = Admission::new("license", true, &entry.source.name);
                    Ok(Admission { learned: first.then_some(id), ..admission })
                }
                None => stranger(self.unknown, Denial::UnknownSource(id.to_string())),
            },
            Standing::Nobody => {
                let license = licenses.first().map(ToString::to_string);
                stranger(self.unidentified, Denial::Unidentified(license))
            }
        }
    }
}

impl Admission {
    fn new(identified_by: &'static str, listed: bool, name: &str) -> Self {
        Self { identified_by, listed, name: name.to_owned(), learned: None }
    }
}
