//! `license-relay sources`: who may ask, who was refused lately, and the one command that lets them in.

use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::out::{self, outln};
use super::{Exit, Failure, configuration, load};
use crate::config::model::{AllowList, Config, Credentials, Learn, Source, SourcePattern};
use crate::config::names::{LicenseNumber, SourceId};
use crate::config::sources::{self, Enrolment, NewSource};
use crate::policy::pending::{Pending, Refused};
use crate::policy::users::{self, PasswordHash};

/// Who may ask.
#[derive(Debug, clap::Args)]
pub(super) struct Sources {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show the allow-list
    #[command(after_help = "Example:\n  license-relay sources list")]
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Show who was refused lately, numbered for `allow`
    #[command(after_help = "Example:\n  license-relay sources pending")]
    Pending {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Let a deployment in; a running relay notices by itself
    #[command(after_help = "Examples:\n  license-relay sources allow 3\n  \
        license-relay sources allow --license 9999000000001253 --learn 24h\n  \
        license-relay sources allow fbe89d02-6d24-4595-915e-c52ce76f2195 --name Production")]
    Allow(Allow),
    /// Take a deployment out of the allow-list; a running relay notices by itself
    #[command(after_help = "Example:\n  license-relay sources deny fbe89d02-6d24-4595-915e-c52ce76f2195")]
    Deny {
        /// The id, in clear or as sha256:<64 hex>
        #[arg(value_name = "ID")]
        id: SourcePattern,
    },
    /// Basic users, for deployments that send a user name and password; a running relay notices by itself
    #[command(after_help = "Example:\n  license-relay sources user add qlik-prod < password.txt")]
    User {
        #[command(subcommand)]
        action: UserAction,
    },
}

#[derive(Debug, clap::Subcommand)]
enum UserAction {
    /// Add a user, or give one a new password; it is read from standard input
    #[command(after_help = "Example:\n  license-relay sources user add qlik-prod < password.txt")]
    Add {
        /// The user's name
        #[arg(value_name = "NAME", value_parser = user_name)]
        name: String,
    },
    /// Take a user out
    #[command(after_help = "Example:\n  license-relay sources user remove qlik-prod")]
    Remove {
        /// The user's name
        #[arg(value_name = "NAME", value_parser = user_name)]
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Allow {
    /// An id (in clear or as sha256:<64 hex>), or a number of `sources pending`
    #[arg(value_name = "ID|NUMBER", required_unless_present_any = ["license", "user", "network"])]
    who: Option<String>,
    /// A license that vouches for messages without an id; may repeat
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
}

/// Runs a `sources` verb.
pub(super) fn run(args: Sources, path: &Path) -> Result<(), Failure> {
    let config = load(path)?;
    match args.action {
        Action::List { json } => list(&config, json),
        Action::Pending { json } => pending(&config, json),
        Action::Allow(args) => allow(&config, args),
        Action::Deny { id } => deny(&config, &id),
        Action::User { action: UserAction::Add { name } } => add_user(&config, &name),
        Action::User { action: UserAction::Remove { name } } => remove_user(&config, &name),
    }
}

fn list(config: &Config, json: bool) -> Result<(), Failure> {
    let file = &config.sources.file;
    let AllowList { sources } =
        if file.exists() { sources::load(file).map_err(configuration)? } else { AllowList::default() };
    if json {
        let rows: Vec<_> = sources.iter().map(row).collect();
        outln!("{}", serde_json::Value::from(rows));
    } else if sources.is_empty() {
        outln!("nobody is allowed yet; see who was refused with: license-relay sources pending");
    } else {
        for source in &sources {
            let id = source.id.as_ref().map_or_else(|| "(no id)".into(), ToString::to_string);
            outln!("{id}  {}", source.name);
            detail("licenses", &source.licenses);
            detail("users", &source.users);
            detail("networks", &source.networks);
            if let Some(learn) = source.learn {
                outln!("    waits for its id until {:.0}", learn.until);
            }
        }
    }
    Ok(())
}

fn row(source: &Source) -> serde_json::Value {
    let texts = |list: Vec<String>| serde_json::Value::from(list);
    serde_json::json!({
        "id": source.id.as_ref().map(ToString::to_string),
        "name": source.name,
        "licenses": texts(source.licenses.iter().map(ToString::to_string).collect()),
        "users": texts(source.users.clone()),
        "networks": texts(source.networks.iter().map(ToString::to_string).collect()),
        "learn_until": source.learn.map(|learn| learn.until.to_string()),
        "line": source.line,
    })
}

fn detail(what: &str, values: &[impl ToString]) {
    if !values.is_empty() {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        outln!("    {what}: {}", values.join(", "));
    }
}

fn pending(config: &Config, json: bool) -> Result<(), Failure> {
    let refused = read_pending(config)?;
    // The row of its activation, where a deployment that names its id was refused by both.
    let activation = |row: &Refused| refused.iter().find(|other| row.has_activated_as(other));
    if json {
        let rows: Vec<_> = refused.iter().map(|row| pending_row(row, activation(row))).collect();
        outln!("{}", serde_json::Value::from(rows));
    } else if refused.is_empty() {
        outln!("nobody was refused lately");
    } else {
        for row in &refused {
            let Refused { number, address, reason, first, last, count, .. } = row;
            let shown = |value: Option<&str>| value.unwrap_or("-").escape_default().to_string();
            let who = match (&row.source, &row.fingerprint) {
                (None, Some(key)) => format!("key {}", shown(Some(key))),
                (source, _) => format!("source {}", shown(source.as_deref())),
            };
            let agent = row.product().map(|(product, version)| format!("{product} {version}"));
            let agent = agent.or_else(|| row.user_agent.clone());
            outln!("{number:>4}  {who}  license {}  from {address}", shown(row.license.as_deref()));
            outln!("      {}; {}", shown(agent.as_deref()), reason.escape_default());
            outln!("      {count} times, first {first:.0}, last {last:.0}");
            if let Some(Refused { number: other, .. }) = activation(row) {
                outln!(
                    "      the same license and address as number {other}: one deployment, it seems; \
                     allow {number} lets in both"
                );
            }
        }
        outln!("let one in with: license-relay sources allow NUMBER");
    }
    Ok(())
}

fn pending_row(row: &Refused, activation: Option<&Refused>) -> serde_json::Value {
    let Refused { number, source, license, fingerprint, address, user_agent, reason, first, last, count } =
        row;
    let product = row.product();
    serde_json::json!({
        "number": number,
        "source": source,
        "license": license,
        "fingerprint": fingerprint,
        "product": product.map(|(product, _)| product),
        "version": product.map(|(_, version)| version),
        "user_agent": user_agent,
        "address": address,
        "reason": reason,
        "first": first,
        "last": last,
        "count": count,
        "same_deployment_as": activation.map(|other| other.number),
    })
}

fn allow(config: &Config, args: Allow) -> Result<(), Failure> {
    let usage = |words: String| Failure::new(Exit::Usage, words);
    let mut new = NewSource {
        name: args.name,
        licenses: args.license,
        users: args.user,
        networks: args.network,
        ..NewSource::default()
    };
    // Nothing but who it is: what else is said belongs into an entry of its own.
    let plain =
        new.name.is_empty() && new.licenses.is_empty() && new.users.is_empty() && new.networks.is_empty();
    let mut learn_for = args.learn;
    let mut from = None;
    if let Some(who) = args.who {
        let refused =
            who.parse::<u32>().ok().map(|number| find_pending(config, number)).transpose()?.flatten();
        match refused {
            Some(refused) => match (&refused.source, &refused.license) {
                (Some(source), license) => {
                    let id: SourceId = source.parse().map_err(|e| usage(format!("the id of {who} {e}")))?;
                    new.licenses.extend(license.iter().filter_map(|number| number.parse().ok()));
                    new.licenses.dedup();
                    if plain && end_enrolment(config, &new.licenses, refused.address, &id)? {
                        return Ok(());
                    }
                    new.id = Some(SourcePattern::Clear(id));
                }
                (None, Some(license)) => {
                    new.licenses.extend(license.parse());
                    learn_for = learn_for.or(Some(LEARN));
                    from = Some(refused.address);
                }
                (None, None) => new.networks.push(IpNet::from(refused.address)),
            },
            // Ids are opaque, but none is as short as a number.
            None if who.len() < 6 && who.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(usage(format!(
                    "nobody has the number {who}; see: license-relay sources pending"
                )));
            }
            None => new.id = Some(who.parse().map_err(|e| usage(format!("{who}: {e}")))?),
        }
    } else if !new.licenses.is_empty() {
        learn_for = learn_for.or(Some(LEARN));
        from = known_address(config, &new.licenses);
    }
    if new.id.is_none()
        && let Some(wait) = learn_for
    {
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let until = now.checked_add(wait).map_err(|e| usage(format!("--learn: {e}")))?;
        new.learn = Some(Learn { until, from });
    }
    sources::append(&config.sources.file, &new).map_err(|e| Failure::new(Exit::Configuration, e))?;
    outln!("{}: added\n\n{}", config.sources.file.display(), new.to_string().trim_end());
    if let Some(Learn { until, from }) = new.learn {
        let from = from.map(|address| format!(" from {address}")).unwrap_or_default();
        outln!("\nthe first id that comes with this license{from} until {until:.0} is taken as its id");
    }
    Ok(())
}

/// Gives an id to the entry that waits for it, where there is one: a second entry would leave that one waiting, for
/// whoever comes next.
fn end_enrolment(
    config: &Config,
    licenses: &[LicenseNumber],
    address: IpAddr,
    id: &SourceId,
) -> Result<bool, Failure> {
    let file = &config.sources.file;
    if !file.exists() {
        return Ok(false);
    }
    let AllowList { sources } = sources::load(file).map_err(configuration)?;
    let now = Timestamp::now();
    let anywhere = |source: &&Source| source.networks.is_empty() && source.users.is_empty();
    let waiting = sources.iter().filter(anywhere).find_map(|source| {
        let waits = |learn: &Learn| learn.until > now && learn.from.is_none_or(|from| from == address);
        let license = source.licenses.iter().find(|license| licenses.contains(license))?;
        Some((license, Enrolment::of(source).filter(|enrolment| waits(&enrolment.learn))?))
    });
    let Some((license, enrolment)) = waiting else { return Ok(false) };
    let bound = sources::bind(file, &enrolment, id);
    let bound = bound.map_err(|e| Failure::new(Exit::Configuration, e))?;
    if bound {
        outln!("{}: the entry that waited for the id of license {license} has it: {id}", file.display());
    }
    Ok(bound)
}

/// How long an enrolment waits where nobody says.
const LEARN: Duration = Duration::from_secs(24 * 3600);

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

fn deny(config: &Config, id: &SourcePattern) -> Result<(), Failure> {
    let file = config.sources.file.display();
    match sources::remove_id(&config.sources.file, id).map_err(|e| Failure::new(Exit::Configuration, e))? {
        true => outln!("{file}: {id} is no longer allowed"),
        false => return Err(Failure::new(Exit::Usage, format!("{file} has no entry with the id {id}"))),
    }
    Ok(())
}

fn add_user(config: &Config, name: &str) -> Result<(), Failure> {
    let path = &config.listen.users;
    if std::io::stdin().is_terminal() {
        out::ask(&format!("password for {name} (it is shown as you type): "));
    }
    let mut line = Zeroizing::new(String::new());
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|e| Failure::new(Exit::Usage, format!("no password: {e}")))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.chars().any(char::is_control) {
        return Err(Failure::new(
            Exit::Usage,
            "the password on standard input is empty or has control characters",
        ));
    }
    let hash = PasswordHash::new(password)
        .ok_or_else(|| Failure::new(Exit::Internal, "the system gives no random numbers"))?;
    users::edit(path, name, Some(&hash)).map_err(|e| unwritable(path, &e))?;
    outln!("{}: {name} may now use this relay with this password", path.display());
    if config.listen.credentials == Credentials::Off {
        outln!("listen.credentials is \"off\": nobody's user name is looked at until that is changed");
    }
    Ok(())
}

fn remove_user(config: &Config, name: &str) -> Result<(), Failure> {
    let path = &config.listen.users;
    match users::edit(path, name, None).map_err(|e| unwritable(path, &e))? {
        true => outln!("{}: {name} is taken out", path.display()),
        false => return Err(Failure::new(Exit::Usage, format!("{} has no user {name}", path.display()))),
    }
    Ok(())
}

fn unwritable(path: &Path, e: &std::io::Error) -> Failure {
    Failure::new(Exit::Configuration, format!("{} can't be edited: {e}", path.display()))
}

/// A colon would end the name in a Basic header (RFC 7617 §2), and starts the hash in the file.
fn user_name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 64 && !text.starts_with('#');
    if fits && !text.contains(':') && !text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Ok(text.to_owned())
    } else {
        Err("a user name has 1 to 64 characters, no colon, no white space, and no # in front".into())
    }
}

fn read_pending(config: &Config) -> Result<Vec<Refused>, Failure> {
    let path = Pending::path(&config.audit.directory);
    Pending::read(&path).map_err(|e| Failure::new(Exit::Configuration, format!("{}: {e}", path.display())))
}

fn find_pending(config: &Config, number: u32) -> Result<Option<Refused>, Failure> {
    Ok(read_pending(config)?.into_iter().find(|refused| refused.number == number))
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| "not a duration such as 24h or 30m".to_owned())?;
    Duration::try_from(span).map_err(|_| "a duration can't be negative".into())
}
