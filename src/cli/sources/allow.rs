//! `sources allow`: lets in a deployment that is named, or one that was refused, by its number.

use std::collections::HashSet;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;

use super::read_pending;
use crate::cli::configuration;
use crate::config::model::{AllowList, Config, Learn, Source};
use crate::config::sources::{self, Enrolment, NewSource};
use crate::config::toml_table::plain;
use crate::policy::pending::{Claim, Code, Refused, network_of};
use crate::policy::sources::Registry;
use relay_log::console::exit::{Exit, Failure};
use relay_log::files::regular::is_missing;
use relay_log::names::SourcePattern;
use relay_log::names::{LicenseNumber, SourceId};

/// How long an enrolment waits where nobody says.
const LEARN: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, clap::Args)]
pub(super) struct Allow {
    /// An id (in clear or as sha256:<64 hex>), or the number that a refusal tells
    #[arg(value_name = "ID|NUMBER", required_unless_present_any = ["license", "user", "network"])]
    who: Option<String>,
    /// A license that lets in activations and definitions without an id; may repeat
    #[arg(long, value_name = "NUMBER")]
    license: Vec<LicenseNumber>,
    /// Take the first id that comes with the license within this time (default with --license alone: 24h)
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "license")]
    learn: Option<Duration>,
    /// What to call it
    #[arg(long, default_value = "")]
    name: String,
    /// A network it must come from; may repeat
    #[arg(long, value_name = "NETWORK")]
    network: Vec<IpNet>,
    /// A Basic user it must be; may repeat
    #[arg(long, value_name = "NAME")]
    user: Vec<String>,
    /// Show the entry, and write nothing
    #[arg(long)]
    print: bool,
}

impl Allow {
    /// Whether it writes nothing.
    pub(super) fn is_shown_only(&self) -> bool {
        self.print
    }
}

fn usage(words: impl ToString) -> Failure {
    Failure::new(Exit::Usage, words)
}

/// Writes the entry, or shows it; gives what to say.
pub(super) fn run(config: &Config, args: Allow) -> Result<String, Failure> {
    let file = &config.sources.file;
    let mut new = NewSource {
        name: args.name,
        licenses: args.license,
        users: args.user,
        networks: args.network.into_iter().map(plain).collect(),
        ..NewSource::default()
    };
    let mut learn_for = args.learn;
    let mut from = None;
    match args.who.as_deref().map(Who::of).transpose()? {
        Some(Who::Id(id)) => new.id = Some(id),
        Some(Who::Number(number)) => {
            let all = read_pending(config)?;
            let deployment = PendingDeployment::of(number, &all)?;
            let list = current(config)?;
            // Nothing but who it is: what else is said belongs into an entry of its own.
            let plain = new.licenses.is_empty() && new.users.is_empty() && new.networks.is_empty();
            if plain {
                if deployment.is_let_in(config, &list) {
                    let said = format!("{}: {number} is let in by what stands there", file.display());
                    return if new.name.is_empty() {
                        Ok(format!("{said}; nothing was written"))
                    } else {
                        Err(usage(format!("{said}; write its name there")))
                    };
                }
                deployment.has_no_entry(config, &list)?;
                if new.name.is_empty()
                    && let Some(said) = deployment.end_enrolment(config, &list, args.print)?
                {
                    return Ok(said);
                }
            }
            match deployment.claim {
                Claim::Source(id) => {
                    let id: SourceId = id.parse().map_err(|e| usage(format!("the id of {number} {e}")))?;
                    new.id = Some(SourcePattern::Clear(id));
                    new.licenses.extend(deployment.license());
                    let mut seen = HashSet::new();
                    new.licenses.retain(|license| seen.insert(license.clone()));
                }
                Claim::License(license, _) => {
                    new.licenses.extend(license.parse());
                    learn_for = learn_for.or(Some(LEARN));
                    from = Some(deployment.newest.address);
                }
                Claim::Network(network) if new.networks.is_empty() && new.users.is_empty() => {
                    deployment.has_its_network_alone(&all, network)?;
                    new.networks.push(network);
                }
                Claim::Network(_) => {}
            }
        }
        None if !new.licenses.is_empty() => {
            learn_for = learn_for.or(Some(LEARN));
            from = known_address(config, &new.licenses);
        }
        None => {}
    }
    if new.id.is_none()
        && !new.licenses.is_empty()
        && let Some(wait) = learn_for
    {
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let until = now.checked_add(wait).map_err(|e| usage(format!("--learn: {e}")))?;
        new.learn = Some(Learn { until, from });
    }
    let entry = new.to_string();
    if args.print {
        sources::parse(&entry, file).map_err(configuration)?;
        return Ok(entry.trim_end().to_owned());
    }
    if !sources::append(file, &new)? {
        return Ok(format!("{}: this entry stands there already; nothing was written", file.display()));
    }
    let mut said = format!("{}: added\n\n{}", file.display(), entry.trim_end());
    if let Some(Learn { until, from }) = new.learn {
        let from = from.map(|address| format!(" from {address}")).unwrap_or_default();
        said += &format!(
            "\n\nthe first id that comes with this license{from} until {until:.0} is taken as its id"
        );
    }
    Ok(said)
}

/// Whom the command names.
enum Who {
    Id(SourcePattern),
    Number(Code),
}

impl Who {
    fn of(text: &str) -> Result<Self, Failure> {
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        // Ids are opaque, but none is as short as the numbers once were.
        if text.len() < 6 && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(usage(format!(
                "{text} is no number of a refused deployment: they have {} digits now; see: license-relay sources pending",
                Code::DIGITS
            )));
        }
        text.parse().map(Self::Id).map_err(|e| usage(format!("{text}: {e}")))
    }
}

/// The one deployment that has a number.
struct PendingDeployment<'a> {
    claim: Claim<'a>,
    /// Its rows: an id may have come from several networks.
    rows: Vec<&'a Refused>,
    newest: &'a Refused,
}

impl<'a> PendingDeployment<'a> {
    fn of(number: Code, all: &'a [Refused]) -> Result<Self, Failure> {
        let rows: Vec<&Refused> = all.iter().filter(|row| row.number == Some(number)).collect();
        let Some(newest) = rows.iter().copied().max_by_key(|row| row.last) else {
            let id: Result<SourcePattern, _> = number.to_string().parse();
            let digest = id.map(|id| SourcePattern::Sha256(id.digest()).to_string()).unwrap_or_default();
            return Err(usage(format!(
                "nobody who was refused lately has the number {number}; see: license-relay sources pending. \
                 If it is an id, write it as {digest}"
            )));
        };
        let claims: HashSet<Claim<'_>> = rows.iter().map(|row| row.claim()).collect();
        if claims.len() > 1 {
            let mut ways: Vec<String> = claims
                .iter()
                .map(|claim| match claim {
                    Claim::Source(id) => id.escape_default().to_string(),
                    Claim::License(license, _) => format!("--license {license}"),
                    Claim::Network(network) => format!("--network {network}"),
                })
                .collect();
            ways.sort();
            return Err(usage(format!(
                "the number {number} is of {} deployments; name the one that you mean, after license-relay sources \
                 allow: {}",
                claims.len(),
                ways.join(", or ")
            )));
        }
        Ok(Self { claim: newest.claim(), rows, newest })
    }

    /// Its license, unless its rows name several: ids prove nothing, and a stranger's license gets into no entry.
    fn license(&self) -> Option<LicenseNumber> {
        let licenses: HashSet<&str> = self.rows.iter().filter_map(|row| row.license.as_deref()).collect();
        match Vec::from_iter(licenses).as_slice() {
            [license] => license.parse().ok(),
            _ => None,
        }
    }

    fn is_let_in(&self, config: &Config, list: &AllowList) -> bool {
        let registry = Registry::new(list.clone(), config.limits.per_source, None);
        self.rows.iter().all(|row| registry.lets_in(row))
    }

    /// An entry that is there, and does not let it in, is for people to change: a second one would undo its networks.
    fn has_no_entry(&self, config: &Config, list: &AllowList) -> Result<(), Failure> {
        let (what, entry) = match self.claim {
            Claim::Source(id) => {
                let digest = id.parse().ok().map(|id| SourcePattern::Clear(id).digest());
                let is_it = |source: &&Source| source.id.as_ref().map(SourcePattern::digest) == digest;
                ("id", digest.and_then(|_| list.sources.iter().find(is_it)))
            }
            Claim::License(license, _) => {
                let license: Option<LicenseNumber> = license.parse().ok();
                let is_it =
                    |source: &&Source| license.iter().any(|license| source.licenses.contains(license));
                ("license", list.sources.iter().find(is_it))
            }
            Claim::Network(_) => return Ok(()),
        };
        let Some(Source { line, .. }) = entry else { return Ok(()) };
        let (file, network) = (config.sources.file.display(), network_of(self.newest.address));
        Err(usage(format!(
            "{file}:{line} has its {what} already, and does not let this message in; add {network} to the networks there \
             if it is the same deployment, or give it an entry of its own: license-relay sources allow --network {network}"
        )))
    }

    /// Gives the id to the entry that waits for it, where there is one: a second entry would leave that one waiting, for
    /// whoever comes next.
    fn end_enrolment(
        &self,
        config: &Config,
        list: &AllowList,
        print: bool,
    ) -> Result<Option<String>, Failure> {
        let (Claim::Source(id), Some(license)) = (self.claim, self.license()) else { return Ok(None) };
        let id: SourceId = id.parse().map_err(|e| usage(format!("its id {e}")))?;
        let now = Timestamp::now();
        let is_from = |from| self.rows.iter().any(|row| row.address == from);
        let waits = |learn: &Learn| learn.until > now && learn.from.is_none_or(is_from);
        let waiting = list.sources.iter().find_map(|source| {
            let anywhere = source.networks.is_empty() && source.users.is_empty();
            let fits = anywhere && source.licenses.contains(&license);
            let enrolment = Enrolment::of(source).filter(|enrolment| fits && waits(&enrolment.learn))?;
            Some((source.line, enrolment))
        });
        let Some((line, enrolment)) = waiting else { return Ok(None) };
        let file = &config.sources.file;
        if print {
            return Ok(Some(format!(
                "# in place of learn in the entry of {}:{line}\nid = {}",
                file.display(),
                toml_edit::Value::from(SourcePattern::Clear(id).to_string())
            )));
        }
        let bound = sources::bind(file, &enrolment, &id)?;
        let said = || {
            format!("{}: the entry that waited for the id of license {license} has it: {id}", file.display())
        };
        Ok(bound.then(said))
    }

    /// An entry with a network alone lets in all that comes from there; where that is more than one deployment, somebody
    /// must say that it is meant.
    fn has_its_network_alone(&self, all: &[Refused], network: IpNet) -> Result<(), Failure> {
        let address = self.newest.address;
        let why = if is_ours(address) {
            format!("{address} is this machine itself, and an entry for it lets in all that runs here")
        } else if self.rows.iter().any(|row| row.shares_its_network(all)) {
            format!("other deployments were seen at {network} too, and an entry for it lets in all of them")
        } else {
            return Ok(());
        };
        let number = self.newest.number.map(|number| number.to_string()).unwrap_or_default();
        let user = match &self.newest.user {
            Some(user) => format!(", or name its user: --user {}", user.escape_default()),
            None => String::new(),
        };
        Err(usage(format!(
            "the refused message named no id and no license, only its network; {why}. If that is meant, run \
             license-relay sources allow {number} --network {network}{user}"
        )))
    }
}

/// Whether an address is one of this machine's: nobody else can take a port of it.
fn is_ours(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

fn current(config: &Config) -> Result<AllowList, Failure> {
    let file = &config.sources.file;
    if is_missing(file) { Ok(AllowList::default()) } else { sources::load(file).map_err(configuration) }
}

/// The one address that was refused with one of these licenses; none where there are several.
fn known_address(config: &Config, licenses: &[LicenseNumber]) -> Option<IpAddr> {
    let refused = read_pending(config).ok()?;
    let mut addresses: Vec<IpAddr> = refused
        .iter()
        .filter(|refused| {
            let license = refused.license.as_deref().and_then(|number| number.parse().ok());
            license.is_some_and(|license| licenses.contains(&license))
        })
        .map(|refused| refused.address)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    match addresses.as_slice() {
        [address] => Some(*address),
        _ => None,
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| "not a duration such as 24h or 30m".to_owned())?;
    Duration::try_from(span).map_err(|_| "a duration can't be negative".into())
}
