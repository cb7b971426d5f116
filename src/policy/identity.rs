//! Who a client is, as far as it has proved it: the only reader of credentials, for every way in.
//!
//! A [`ClientIdentity`] is made where a client comes in and goes with each of its requests to [`Policy::judge`], which
//! decides who asks. What `listen.credentials = "required"` demands is checked here, and of every way in alike; and
//! here it is told which entries of the allow-list can't let anybody in as they are written.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use super::sources::Match;
use super::users::{PasswordHash, Users};
use super::{Denial, Policy};
use crate::config::model::{AllowList, Config, Credentials, Mode, Source};
use crate::config::{Problem, Severity};
pub use crate::observe::labels::WayIn;

/// Who a client is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientIdentity {
    /// How it came in.
    pub way: WayIn,
    /// The Basic user it has proved to be.
    pub user: Option<User>,
    /// Its address.
    pub address: IpAddr,
}

/// A Basic user who has sent the right password, and what that password was checked against.
#[derive(Clone, Eq, PartialEq)]
pub struct User {
    name: String,
    /// None for a user of a test.
    stored: Option<PasswordHash>,
}

/// Why credentials prove nobody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unproven {
    /// What is wrong.
    pub why: CredentialFault,
    /// The user name that was tried, where one can be read.
    pub tried: Option<String>,
}

/// What is wrong with credentials. Its words are for the log: they tell an unknown user from a wrong password, which
/// the client is not told.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CredentialFault {
    /// There are none, and they are demanded.
    #[error("no user name and password were sent")]
    NoneSent,
    /// There are several.
    #[error("more than one Proxy-Authorization")]
    Several,
    /// They are not Basic; the scheme, where it is a plain word.
    #[error("this relay takes Basic credentials only{}", .0.as_ref().map(|scheme| format!(" ({scheme} was sent)")).unwrap_or_default())]
    Scheme(Option<String>),
    /// They are not base64.
    #[error("the Basic credentials are not base64")]
    NotBase64,
    /// They are not UTF-8.
    #[error("the Basic credentials are not UTF-8")]
    NotUtf8,
    /// Nothing separates the user name from the password.
    #[error("the Basic credentials have no colon behind the user name")]
    NoColon,
    /// The user name is empty, or a control character is in it or in the password.
    #[error("the Basic credentials name no user, or hold a control character")]
    Unfit,
    /// Nobody has this name.
    #[error("there is no such user{}", hint(*.encoded))]
    UnknownUser {
        /// It looks percent-encoded.
        encoded: bool,
    },
    /// It is not the user's password.
    #[error("the password is wrong{}", hint(*.encoded))]
    WrongPassword {
        /// It looks percent-encoded.
        encoded: bool,
    },
    /// This address has tried too many; the wait until it may try again.
    #[error("too many wrong credentials of this address")]
    TooMany(Duration),
    /// Not known: too many others are being checked.
    #[error("too many passwords are being checked at once")]
    Busy,
}

fn hint(encoded: bool) -> &'static str {
    if encoded { "; it looks percent-encoded, and is to be sent as it is" } else { "" }
}

impl ClientIdentity {
    /// Reads what a client has sent to the proxy (the values of `Proxy-Authorization`).
    ///
    /// # Errors
    /// It proves nobody, or nothing was sent though it is demanded.
    pub async fn read(
        way: WayIn,
        address: IpAddr,
        sent: &[&[u8]],
        credentials: Credentials,
        users: &Users,
    ) -> Result<Self, Unproven> {
        let user = match (credentials, sent) {
            (Credentials::Off, _) | (Credentials::Optional, []) => None,
            (Credentials::Required, []) => return Err(CredentialFault::NoneSent.of_nobody()),
            (_, [header]) => Some(users.check(header, address).await?),
            (_, _) => return Err(CredentialFault::Several.of_nobody()),
        };
        Ok(Self { way, user, address })
    }

    /// A client of direct TLS, which can't send credentials to us.
    pub fn direct(address: IpAddr) -> Self {
        Self { way: WayIn::Direct, user: None, address }
    }

    /// As it stands now: a user who is gone, or has another password since, proves nothing any more.
    pub fn now(self, credentials: Credentials, users: &Users) -> Self {
        let user = self.user.filter(|user| credentials != Credentials::Off && users.still(user));
        Self { user, ..self }
    }
}

impl ClientIdentity {
    /// Why the user it has proved to be does not count any more; none where there is no user, or users don't count at all.
    pub(crate) fn lost_user(&self, credentials: Credentials, users: &Users) -> Option<String> {
        let user = self.user.as_ref().filter(|user| credentials != Credentials::Off && !users.still(user))?;
        Some(match users.has(user) {
            true => format!("the user {:?} has another password", &**user),
            false => format!("there is no user {:?} any more", &**user),
        })
    }
}

impl User {
    /// A user whose password was checked against this.
    pub(super) fn new(name: String, stored: PasswordHash) -> Self {
        Self { name, stored: Some(stored) }
    }

    /// What the password was checked against.
    pub(super) fn stored(&self) -> Option<&PasswordHash> {
        self.stored.as_ref()
    }
}

impl Deref for User {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

/// Without what its password was checked against.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("User").field(&self.name).finish()
    }
}

#[cfg(test)]
impl From<&str> for User {
    fn from(name: &str) -> Self {
        Self { name: name.into(), stored: None }
    }
}

impl CredentialFault {
    /// Where no user name can be read.
    pub(super) fn of_nobody(self) -> Unproven {
        Unproven { why: self, tried: None }
    }

    /// Where this user name was tried.
    pub(super) fn of(self, tried: &str) -> Unproven {
        Unproven { why: self, tried: Some(tried.to_owned()) }
    }
}

impl Policy {
    /// Whether a user or a network of the allow-list proves who this is.
    pub fn is_proven(&self, identity: &ClientIdentity) -> bool {
        let ClientIdentity { user, address, .. } = identity;
        matches!(self.registry.by_circumstance(&[], user.as_deref(), *address, true), Match::Listed { .. })
    }

    /// What `listen.credentials = "required"` demands: a user, on every way in; of direct TLS, which can't send one, a
    /// network of the entry that lets it in.
    pub(super) fn check_credentials(
        &self,
        identity: &ClientIdentity,
        found: &Match<'_>,
    ) -> Result<(), Denial> {
        match (self.credentials, &identity.user, identity.way, found) {
            (Credentials::Off | Credentials::Optional, ..) | (_, Some(_), ..) => Ok(()),
            (Credentials::Required, None, WayIn::Direct, Match::Listed { entry, .. })
                if entry.has_network(identity.address) =>
            {
                Ok(())
            }
            (Credentials::Required, None, WayIn::Direct, _) => Err(Denial::DirectTls),
            (Credentials::Required, None, ..) => Err(Denial::NoUser),
        }
    }
}

/// What can't let anybody in as it is written: a warning for each such entry, and what to write.
pub fn cannot_work(config: &Config, list: &AllowList, users: &Users) -> Vec<Problem> {
    let listen = &config.listen;
    let warning = |file: &Path, line, what: String, instead: String| Problem {
        file: file.to_owned(),
        line,
        what,
        instead,
        severity: Severity::Warning,
    };
    let of_entry = |source: &Source, what, instead| warning(&config.sources.file, source.line, what, instead);
    let mut found = Vec::new();
    let nobody = listen.credentials == Credentials::Required && users.is_empty();
    if nobody {
        found.push(warning(
            &config.file,
            0,
            format!(
                "listen.credentials is \"required\", and {} has no user, so no CONNECT can be let in",
                listen.users.display()
            ),
            "run: license-relay sources user add NAME".into(),
        ));
    }
    let only_tunnels = config.destinations.iter().all(|to| to.mode == Mode::Tunnel);
    let mut first = FirstEntry::default();
    for source in &list.sources {
        if nobody && source.networks.is_empty() {
            found.push(of_entry(
                source,
                "the entry has no networks, and there is no user to come in as, which listen.credentials demands"
                    .into(),
                "run: license-relay sources user add NAME, or write networks".into(),
            ));
        } else if only_tunnels && source.networks.is_empty() && source.users.is_empty() {
            found.push(of_entry(
                source,
                "all destinations are of mode \"tunnel\", in which ids and licenses can't be read".into(),
                "write networks or users in this entry".into(),
            ));
        }
        for user in &source.users {
            if listen.credentials == Credentials::Off {
                found.push(of_entry(
                    source,
                    format!("nobody can be the user {user:?}, because listen.credentials is \"off\""),
                    "write credentials = \"optional\" under [listen], or take the user out here".into(),
                ));
            } else if !users.has(user) {
                found.push(of_entry(
                    source,
                    format!(
                        "nobody can be the user {user:?}, because {} has no such user",
                        listen.users.display()
                    ),
                    format!("run: license-relay sources user add {user}"),
                ));
            }
        }
        if let Some(line) = first.shadows(source) {
            let what = match source.mode {
                Some(Mode::Tunnel) => {
                    "the mode \"tunnel\" never counts, because all users and networks are found by"
                }
                _ => "the entry is never found, because all that it lists is found by",
            };
            found.push(of_entry(
                source,
                format!("{what} the one on line {line} first"),
                "make one entry of the two".into(),
            ));
        }
        first.add(source);
    }
    found
}

/// The lines of the entries that are found first by a user, a network, or a license from anywhere.
#[derive(Debug, Default)]
struct FirstEntry<'a> {
    users: HashMap<&'a str, usize>,
    networks: HashMap<ipnet::IpNet, usize>,
    licenses: HashMap<&'a str, usize>,
}

impl<'a> FirstEntry<'a> {
    fn add(&mut self, source: &'a Source) {
        for user in &source.users {
            self.users.entry(user).or_insert(source.line);
        }
        for network in &source.networks {
            self.networks.entry(network.trunc()).or_insert(source.line);
        }
        // One that lists users or networks leaves its license to another, elsewhere.
        if source.users.is_empty() && source.networks.is_empty() {
            for license in &source.licenses {
                self.licenses.entry(license.as_str()).or_insert(source.line);
            }
        }
    }

    /// The line of one that is found instead of an entry, whatever comes. An id finds its own entry, but in a tunnel.
    fn shadows(&self, source: &Source) -> Option<usize> {
        let tunnels = source.mode == Some(Mode::Tunnel);
        if !tunnels && (source.id.is_some() || source.learn.is_some()) {
            return None;
        }
        let users = source.users.iter().map(|user| self.users.get(user.as_str()));
        let networks = source.networks.iter().map(|network| self.networks.get(&network.trunc()));
        let placed = !(source.users.is_empty() && source.networks.is_empty());
        let licenses = source.licenses.iter().filter(|_| !tunnels);
        let licenses = licenses.map(|license| self.licenses.get(license.as_str()).filter(|_| !placed));
        let lines: Option<Vec<usize>> =
            users.chain(networks).chain(licenses).map(Option::<&usize>::copied).collect();
        lines?.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{file, sources};
    use relay_log::files::private;

    fn told(credentials: &str, list: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, format!("[listen]\ncredentials = \"{credentials}\"\n")).unwrap();
        let (config, _) = file::load(&path).unwrap();
        let stored = PasswordHash::parse(&format!(
            "pbkdf2-sha256$1$AAAA${}",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
        ))
        .unwrap();
        private::write_private(&config.listen.users, format!("there:{stored}\n").as_bytes()).unwrap();
        let users = Users::load(&config.listen.users).unwrap();
        let list = sources::parse(list, &config.sources.file).unwrap();
        let found = cannot_work(&config, &list, &users);
        assert!(found.iter().all(|problem| problem.severity == Severity::Warning));
        found.iter().map(|problem| format!("{}: {}", problem.line, problem.what)).collect()
    }

    #[test]
    fn an_entry_that_nobody_can_come_in_by_is_told_with_its_line() {
        for (credentials, list, line, words) in [
            ("off", "[[source]]\nid = \"a\"\nusers = [\"there\"]\n", 1, "is \"off\""),
            ("optional", "[[source]]\nusers = [\"gone\"]\n", 1, "has no such user"),
            (
                "optional",
                "[[source]]\nusers = [\"there\"]\n[[source]]\nusers = [\"there\"]\n",
                3,
                "on line 1",
            ),
            (
                "optional",
                "[[source]]\nnetworks = [\"10.0.0.0/8\"]\n[[source]]\nnetworks = [\"10.0.0.0/8\"]\n",
                3,
                "on line 1",
            ),
            (
                "optional",
                "[[source]]\nlicenses = [\"99990000\"]\n[[source]]\nlicenses = [\"9999 0000\"]\n",
                3,
                "on line 1",
            ),
            (
                "optional",
                "[[source]]\nnetworks = [\"10.0.0.0/8\"]\n[[source]]\nid = \"a\"\nmode = \"tunnel\"\nnetworks = [\"10.0.0.0/8\"]\n",
                3,
                "never counts",
            ),
        ] {
            let told = told(credentials, list);
            assert_eq!(told.len(), 1, "{list}: {told:?}");
            assert!(told[0].starts_with(&format!("{line}: ")) && told[0].contains(words), "{list}: {told:?}");
        }
    }

    #[test]
    fn an_entry_that_works_in_one_way_is_not_told_of() {
        for (credentials, list) in [
            ("required", "[[source]]\nid = \"a\"\n"),
            ("required", "[[source]]\nid = \"a\"\nusers = [\"there\"]\n"),
            ("off", "[[source]]\nid = \"a\"\nnetworks = [\"10.0.0.0/8\"]\n"),
            ("optional", "[[source]]\nusers = [\"there\"]\n[[source]]\nid = \"b\"\nusers = [\"there\"]\n"),
            (
                "optional",
                "[[source]]\nnetworks = [\"10.0.0.0/8\"]\n[[source]]\nnetworks = [\"10.1.0.0/16\"]\n",
            ),
            (
                "optional",
                "[[source]]\nlicenses = [\"99990000\"]\n[[source]]\nlicenses = [\"99990000\"]\nnetworks = [\"10.0.0.0/8\"]\n",
            ),
        ] {
            assert_eq!(told(credentials, list), Vec::<String>::new(), "{list}");
        }
    }
}
