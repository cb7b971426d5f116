//! Would the settings that are written now let in what the log says has passed? The policy itself decides, as it does
//! for live requests, on what the log holds of each.
//!
//! The log does not hold everything that decides. What is missing is filled in with all that it can have been: where the
//! policy says the same of all of these, that is its verdict, and where it does not, nobody can tell.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::identity::{ClientIdentity, User, WayIn};
use super::users::Users;
use super::{ClaimedSource, Denial, Policy, PolicyInput, Understanding};
use crate::bounds;
use crate::config::model::{Config, Credentials, Mode};
use relay_log::names::LicenseNumber;

/// An exchange that was let in, as far as the log holds it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Passed {
    /// What the relay read in its message.
    pub(crate) reading: PassedReading,
    /// What the built-in vocabulary read, where that was something else.
    pub(crate) other: Option<PassedReading>,
    /// Its client's address; none in records that lack it.
    pub(crate) client: Option<IpAddr>,
}

/// What one vocabulary read.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct PassedReading {
    /// What the message was.
    pub(crate) kind: PassedKind,
    /// The id.
    pub(crate) source: Option<String>,
    /// The licenses.
    pub(crate) licenses: Vec<LicenseNumber>,
}

/// What a message was.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum PassedKind {
    /// The connectivity test.
    Test,
    /// An activation.
    Activation,
    /// A definition that was fetched.
    Definition,
    /// One that is recognised, and is none of these.
    Message,
    /// One that changes nothing and stands in the log for its reply alone: a definition, or something else.
    Quiet,
    /// JSON that no vocabulary entry matched.
    Unrecognised,
    /// A body that could not be read, and why.
    Unreadable(String),
    /// A tunnel, of which nothing was read.
    Tunnel,
}

/// What would become of an exchange.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Judgement {
    /// It is let in, by an entry of this name; empty where it has none.
    In(String),
    /// It is refused, and why.
    Out(String),
    /// The log does not hold what decides, or what comes first does.
    Unknown(&'static str),
}

const NO_CLIENT: &str = "the log does not hold the client's address";
const WHO: &str = "the log does not hold which user name came with it, nor by which way it came in";
const QUIET: &str = "the log does not hold whether a definition was fetched, nor its license";
const WORDS: &str = "the body is not in the log, and the vocabulary may read it now";
const TUNNEL: &str = "its messages went through a tunnel, and would be read now";
const MODE: &str = "the log does not hold which destination it went to, and one is a tunnel";
const LEARN: &str = "an enrolment waits, and lets in whose id comes first";

/// The settings that exchanges are judged by.
#[derive(Debug)]
pub(crate) struct Replay<'p> {
    policy: &'p Policy,
    /// Who may have asked.
    users: Vec<Option<User>>,
    ways: &'static [WayIn],
    /// A site's vocabulary is in force, so that the built-in one reads beside it.
    has_own_words: bool,
    tunnels: Tunnels,
    known: HashMap<Passed, Judgement>,
}

/// Which destinations are tunnels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tunnels {
    None,
    Some,
    All,
}

/// A reading as it may have been, and why it is not known to have been this one.
struct Guess<'r> {
    understanding: Understanding<'r>,
    activates: bool,
    sourceless: bool,
    licenses: &'r [LicenseNumber],
    why: &'static str,
}

impl<'p> Replay<'p> {
    /// Judges by this policy, which was made of this configuration, and these users.
    pub(crate) fn new(policy: &'p Policy, config: &Config, users: &Users) -> Self {
        let listed: HashSet<&str> = policy
            .registry
            .entries()
            .iter()
            .flat_map(|entry| entry.source.users.iter().map(String::as_str))
            .collect();
        let mut candidates = vec![None];
        let credentials = config.listen.credentials;
        if credentials != Credentials::Off {
            // Those that no entry lists are all alike.
            let (named, others): (Vec<User>, Vec<User>) =
                users.all().partition(|user| listed.contains(&**user));
            candidates.extend(named.into_iter().chain(others.into_iter().next()).map(Some));
        }
        if credentials == Credentials::Required {
            // Of several reasons the first is told, and what is wrong beside a missing user tells more.
            candidates.rotate_left(1);
        }
        // The others differ from these in nothing that is judged.
        let ways: &[WayIn] = match credentials {
            Credentials::Required => &[WayIn::Connect, WayIn::Direct],
            Credentials::Off | Credentials::Optional => &[WayIn::Connect],
        };
        let of_tunnels = config.destinations.iter().filter(|to| to.mode == Mode::Tunnel).count();
        let tunnels = match of_tunnels {
            0 => Tunnels::None,
            all if all == config.destinations.len() => Tunnels::All,
            _ => Tunnels::Some,
        };
        let has_own_words = config.licensing.vocabulary.is_some();
        Self { policy, users: candidates, ways, has_own_words, tunnels, known: HashMap::new() }
    }

    /// What would become of this exchange. Limits of how often somebody may ask are left out.
    pub(crate) fn judge(&mut self, passed: Passed) -> Judgement {
        if let Some(verdict) = self.known.get(&passed) {
            return verdict.clone();
        }
        let verdict = self.judge_anew(&passed);
        if self.known.len() >= bounds::REPLAY_KNOWN {
            self.known.clear();
        }
        self.known.insert(passed, verdict.clone());
        verdict
    }

    fn judge_anew(&self, passed: &Passed) -> Judgement {
        let Some(address) = passed.client else { return Judgement::Unknown(NO_CLIENT) };
        // Without a site's vocabulary, what the built-in one read is all that there is.
        let (own, other) = match &passed.other {
            Some(other) if !self.has_own_words => (other, None),
            other => (&passed.reading, other.as_ref()),
        };
        let mut verdict: Option<Judgement> = None;
        for guess in self.guesses(own) {
            let of_guess = self.over_clients(own, &guess, other, address);
            verdict = Some(match verdict {
                Some(before) => both(before, of_guess, guess.why),
                None => of_guess,
            });
        }
        verdict.unwrap_or(Judgement::Unknown(WORDS))
    }

    /// What may have been read.
    fn guesses<'r>(&self, reading: &'r PassedReading) -> Vec<Guess<'r>> {
        let licenses = reading.licenses.as_slice();
        let guess = |understanding, activates, sourceless| Guess {
            understanding,
            activates,
            sourceless,
            licenses,
            why: QUIET,
        };
        let message = guess(Understanding::Message, false, false);
        let definition = guess(Understanding::Message, false, true);
        let activation = guess(Understanding::Message, true, true);
        match &reading.kind {
            PassedKind::Test => vec![guess(Understanding::Test, false, false)],
            PassedKind::Activation => vec![activation],
            PassedKind::Definition => vec![definition],
            PassedKind::Message => vec![message],
            PassedKind::Tunnel => vec![Guess { licenses: &[], ..message }],
            // Its reply may have told of licenses that it did not ask about.
            PassedKind::Quiet if reading.source.is_none() => {
                vec![definition, message, guess(Understanding::Message, false, true).without_licenses()]
            }
            PassedKind::Quiet => vec![message],
            PassedKind::Unrecognised => {
                let unrecognised = guess(Understanding::Unrecognised, false, false);
                let now = [message, activation].map(|guess| Guess { why: WORDS, ..guess });
                std::iter::once(unrecognised).chain(now.into_iter().filter(|_| self.has_own_words)).collect()
            }
            PassedKind::Unreadable(why) => vec![guess(Understanding::Unreadable(why), false, false)],
        }
    }

    fn over_clients(
        &self,
        own: &PassedReading,
        guess: &Guess<'_>,
        other: Option<&PassedReading>,
        address: IpAddr,
    ) -> Judgement {
        let mut verdict: Option<Judgement> = None;
        for way in self.ways {
            for user in &self.users {
                let identity = ClientIdentity { way: *way, user: user.clone(), address };
                let of_client = self.of_client(own, guess, other, &identity);
                let joined = match verdict {
                    Some(before) => both(before, of_client, WHO),
                    None => of_client,
                };
                if matches!(joined, Judgement::Unknown(_)) {
                    return joined;
                }
                verdict = Some(joined);
            }
        }
        verdict.unwrap_or(Judgement::Unknown(WHO))
    }

    fn of_client(
        &self,
        own: &PassedReading,
        guess: &Guess<'_>,
        other: Option<&PassedReading>,
        identity: &ClientIdentity,
    ) -> Judgement {
        let tunnelled = self.tunnels == Tunnels::All || self.policy.wants_tunnel(identity);
        let tunnel = || verdict(self.policy.foresee(PolicyInput::of_tunnel(identity), None));
        match (&own.kind, tunnelled) {
            (PassedKind::Tunnel, false) => return Judgement::Unknown(TUNNEL),
            (_, true) => return tunnel(),
            (_, false) => {}
        }
        let source = asking(own);
        let input = guess.input(&source, identity);
        let read = match other {
            None => verdict(self.policy.foresee(input, None)),
            Some(other) => {
                let source = asking(other);
                let mut all = self
                    .guesses(other)
                    .into_iter()
                    .map(|guess| verdict(self.policy.foresee(input, Some(guess.input(&source, identity)))));
                let first = all.next().unwrap_or(Judgement::Unknown(WORDS));
                all.fold(first, |before, more| both(before, more, WORDS))
            }
        };
        if self.tunnels == Tunnels::Some { both(read, tunnel(), MODE) } else { read }
    }
}

impl Guess<'_> {
    fn without_licenses(self) -> Self {
        Self { licenses: &[], ..self }
    }

    fn input<'a>(&'a self, source: &'a ClaimedSource, identity: &'a ClientIdentity) -> PolicyInput<'a> {
        let Self { understanding, activates, sourceless, licenses, .. } = *self;
        PolicyInput { understanding, source, licenses, identity, activates, sourceless, records: 1 }
    }
}

/// What is said of two cases that may both have been.
fn both(one: Judgement, other: Judgement, why: &'static str) -> Judgement {
    match (one, other) {
        (unknown @ Judgement::Unknown(_), _) | (_, unknown @ Judgement::Unknown(_)) => unknown,
        (one @ Judgement::In(_), Judgement::In(_)) | (one @ Judgement::Out(_), Judgement::Out(_)) => one,
        (Judgement::In(_), Judgement::Out(_)) | (Judgement::Out(_), Judgement::In(_)) => {
            Judgement::Unknown(why)
        }
    }
}

fn verdict(foreseen: Result<Option<super::Admission>, Denial>) -> Judgement {
    match foreseen {
        Ok(Some(admission)) => Judgement::In(admission.name),
        Ok(None) => Judgement::Unknown(LEARN),
        Err(denial) => Judgement::Out(denial.to_string()),
    }
}

fn asking(reading: &PassedReading) -> ClaimedSource {
    match (&reading.kind, reading.source.as_deref().map(str::parse)) {
        (PassedKind::Tunnel, _) | (_, None) => ClaimedSource::Nobody,
        (_, Some(Ok(id))) => ClaimedSource::Source(id),
        (_, Some(Err(e))) => ClaimedSource::Unfit(format!("{e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{file, sources};

    /// The verdict of settings without users.
    fn judged(config: &str, list: &str, passed: Passed) -> Judgement {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, config).unwrap();
        let (config, _) = file::load(&path).unwrap();
        let list = sources::parse(list, &config.sources.file).unwrap();
        let policy = Policy::new(&config, list, None);
        let users = Users::load(&config.listen.users).unwrap();
        Replay::new(&policy, &config, &users).judge(passed)
    }

    fn passed(kind: PassedKind, source: &str, license: &str) -> Passed {
        let source = (!source.is_empty()).then(|| source.to_owned());
        let reading = PassedReading { kind, source, licenses: license.parse().into_iter().collect() };
        Passed { reading, other: None, client: Some([10, 0, 0, 7].into()) }
    }

    const NETWORK: &str = "[[source]]\nname = \"N\"\nnetworks = [\"10.0.0.0/8\"]\n";

    #[test]
    fn a_tunnel_is_judged_as_one_where_it_would_still_be_one() {
        let tunnel = || passed(PassedKind::Tunnel, "", "");
        let to = |mode: &str, host: &str| format!("[[destination]]\nhost = \"{host}\"\nmode = \"{mode}\"\n");
        let (all, some) =
            (to("tunnel", "a.example"), to("tunnel", "a.example") + &to("terminate", "b.example"));
        let by_entry = format!("{NETWORK}mode = \"tunnel\"\n");
        let within = Judgement::In("N".into());
        assert_eq!(judged(&all, NETWORK, tunnel()), within);
        assert!(matches!(judged(&all, "# nobody\n", tunnel()), Judgement::Out(_)));
        assert_eq!(judged("", NETWORK, tunnel()), Judgement::Unknown(TUNNEL));
        assert_eq!(judged("", &by_entry, tunnel()), within);
        // The other way round: what was read then, and would go through a tunnel now, whatever its id.
        assert_eq!(judged("", &by_entry, passed(PassedKind::Message, "a", "")), within);
        assert_eq!(
            judged(&some, "[[source]]\nid = \"a\"\n", passed(PassedKind::Message, "a", "")),
            Judgement::Unknown(MODE)
        );
    }

    #[test]
    fn what_is_decided_by_who_comes_first_is_not_told() {
        let waits = "[[source]]\nlicenses = [\"1111\"]\nlearn = { until = \"2999-01-01T00:00:00Z\" }\n";
        assert_eq!(judged("", waits, passed(PassedKind::Message, "a", "1111")), Judgement::Unknown(LEARN));
        assert!(matches!(judged("", waits, passed(PassedKind::Message, "a", "2222")), Judgement::Out(_)));
    }

    #[test]
    fn an_exchange_that_may_have_been_two_things_is_told_where_both_come_to_the_same() {
        let list = "[[source]]\nlicenses = [\"1111\"]\n";
        let quiet = |source, license| passed(PassedKind::Quiet, source, license);
        assert_eq!(judged("", list, quiet("", "1111")), Judgement::Unknown(QUIET));
        assert!(matches!(judged("", list, quiet("", "2222")), Judgement::Out(_)));
        assert!(matches!(judged("", list, quiet("a", "1111")), Judgement::Out(_)));
        assert!(matches!(judged("", NETWORK, quiet("", "1111")), Judgement::In(_)));
        let definition = passed(PassedKind::Definition, "", "1111");
        assert!(matches!(judged("", list, definition), Judgement::In(_)));
    }

    #[test]
    fn a_record_without_an_address_and_an_id_that_is_none_decide_nothing_by_chance() {
        let mut nowhere = passed(PassedKind::Message, "a", "");
        nowhere.client = None;
        assert_eq!(judged("", "[[source]]\nid = \"a\"\n", nowhere), Judgement::Unknown(NO_CLIENT));
        let unfit = passed(PassedKind::Message, &"x".repeat(200), "");
        assert!(matches!(judged("", NETWORK, unfit), Judgement::Out(why) if why.contains("longer")));
    }

    #[test]
    fn a_limit_of_one_request_is_no_reason_in_a_replay() {
        let list = "[[source]]\nid = \"a\"\nlimit = { requests = 1, per = \"1h\", burst = 1 }\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, "").unwrap();
        let (config, _) = file::load(&path).unwrap();
        let policy = Policy::new(&config, sources::parse(list, &path).unwrap(), None);
        let users = Users::load(&config.listen.users).unwrap();
        let mut replay = Replay::new(&policy, &config, &users);
        for address in 1..100 {
            let mut one = passed(PassedKind::Message, "a", "");
            one.client = Some([10, 0, 0, address].into());
            assert!(matches!(replay.judge(one), Judgement::In(_)));
        }
    }
}
