//! `sources deny`: takes out any entry that `sources allow` writes, named by its id, its name, or all that it claims.

use ipnet::IpNet;

use crate::config::model::{AllowList, Config, Source};
use crate::config::sources;
use crate::config::toml_table::plain;
use relay_log::console::exit::{Exit, Failure};
use relay_log::files::regular::is_missing;
use relay_log::names::LicenseNumber;
use relay_log::names::SourcePattern;

#[derive(Debug, clap::Args)]
pub(super) struct Deny {
    /// The id (in clear or as sha256:<64 hex>), or the name
    #[arg(
        value_name = "ID|NAME",
        required_unless_present_any = ["license", "user", "network"],
        conflicts_with_all = ["license", "user", "network"]
    )]
    who: Option<String>,
    /// A license of an entry without an id; may repeat
    #[arg(long, value_name = "NUMBER")]
    license: Vec<LicenseNumber>,
    /// A network of an entry without an id; may repeat
    #[arg(long, value_name = "NETWORK")]
    network: Vec<IpNet>,
    /// A Basic user of an entry without an id; may repeat
    #[arg(long, value_name = "NAME")]
    user: Vec<String>,
}

/// Takes the entry out; gives what to say.
pub(super) fn run(config: &Config, args: &Deny) -> Result<String, Failure> {
    let file = config.sources.file.display();
    if is_missing(&config.sources.file) {
        return Err(Failure::new(Exit::Usage, format!("{file} is not there: nobody is allowed yet")));
    }
    let mut said = String::new();
    let removed = sources::remove(&config.sources.file, |list| {
        let index = args.choose(list).map_err(|why| format!("{file}: {why}"))?;
        if let Some(source) = list.sources.get(index) {
            said = format!("{file}: took out the entry of line {} ({})", source.line, described(source));
            for other in list.sources.iter().filter(|other| other.line != source.line) {
                if claims_of(source).iter().any(|claim| claims_of(other).contains(claim)) {
                    said += &format!(
                        "\nthe entry of line {} ({}) shares a claim with it, and stands",
                        other.line,
                        described(other)
                    );
                }
            }
        }
        Ok(index)
    });
    match removed {
        Ok(()) => Ok(said),
        Err(e) => Err(e.into()),
    }
}

impl Deny {
    /// Which entry of the list is meant, by its place.
    fn choose(&self, list: &AllowList) -> Result<usize, String> {
        let found: Vec<usize> = list
            .sources
            .iter()
            .enumerate()
            .filter(|(_, source)| self.names(source))
            .map(|(at, _)| at)
            .collect();
        match found.as_slice() {
            [one] => Ok(*one),
            [] => {
                let near: Vec<String> =
                    list.sources.iter().filter(|source| self.is_near(source)).map(candidate).collect();
                let what = self.described();
                if near.is_empty() {
                    Err(format!("no entry has {what}; see: license-relay sources list"))
                } else {
                    Err(format!(
                        "no entry has {what} alone; to take out a whole entry: {}; or edit the file",
                        near.join("; ")
                    ))
                }
            }
            several => {
                let entries: Vec<String> =
                    several.iter().filter_map(|at| list.sources.get(*at)).map(candidate).collect();
                Err(format!(
                    "{} entries have {}; name one: {}; or edit the file",
                    several.len(),
                    self.described(),
                    entries.join("; ")
                ))
            }
        }
    }

    /// Whether an entry has this id or name, or no id and exactly these claims.
    fn names(&self, source: &Source) -> bool {
        match &self.who {
            Some(who) => {
                let id: Option<SourcePattern> = who.parse().ok();
                let is_id = |own: &SourcePattern| id.as_ref().is_some_and(|id| id.digest() == own.digest());
                source.id.as_ref().is_some_and(is_id) || (!source.name.is_empty() && source.name == *who)
            }
            None => source.id.is_none() && claims_of(source) == self.claims(),
        }
    }

    /// Whether an entry has these claims among others.
    fn is_near(&self, source: &Source) -> bool {
        let own = claims_of(source);
        self.who.is_none() && self.claims().iter().all(|claim| own.contains(claim))
    }

    fn claims(&self) -> Vec<String> {
        claims(&self.license, &self.network, &self.user)
    }

    fn described(&self) -> String {
        match &self.who {
            Some(who) => format!("the id or name {}", who.escape_default()),
            None => self.claims().join(" "),
        }
    }
}

/// All that an entry without an id allows by, as options of this verb; sorted, each once.
fn claims(licenses: &[LicenseNumber], networks: &[IpNet], users: &[String]) -> Vec<String> {
    let licenses = licenses.iter().map(|license| format!("--license {license}"));
    let networks = networks.iter().map(|network| format!("--network {}", plain(network.trunc())));
    let users = users.iter().map(|user| format!("--user {}", user.escape_default()));
    let mut all: Vec<String> = licenses.chain(networks).chain(users).collect();
    all.sort();
    all.dedup();
    all
}

fn claims_of(source: &Source) -> Vec<String> {
    claims(&source.licenses, &source.networks, &source.users)
}

fn described(source: &Source) -> String {
    match &source.id {
        Some(id) => format!("id {id}"),
        None => claims_of(source).join(" "),
    }
}

/// How an entry is named to this verb.
fn candidate(source: &Source) -> String {
    let by = match &source.id {
        Some(id) => id.to_string(),
        None => claims_of(source).join(" "),
    };
    let name = if source.name.is_empty() { String::new() } else { format!(", named {:?}", source.name) };
    format!("line {}{name}: license-relay sources deny {by}", source.line)
}
