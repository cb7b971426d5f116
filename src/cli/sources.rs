//! `license-relay sources`: who may ask, who was refused lately, and the one command that lets them in.

mod allow;
mod deny;

use std::io::{self, BufRead, IsTerminal as _};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::{ask, configuration, load_alone};
use crate::config::model::{AllowList, Config, Credentials, Source};
use crate::config::sources::{self, EditError};
use crate::policy::pending::{Pending, Refused};
use crate::policy::users::{self, PasswordHash};
use crate::setup::held::Part;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::{self, outln};
use relay_log::files::edit;
use relay_log::files::regular::is_missing;

/// Who may ask.
#[derive(Debug, clap::Args)]
pub(super) struct SourcesCommand {
    #[command(subcommand)]
    action: SourcesVerb,
}

#[derive(Debug, clap::Subcommand)]
enum SourcesVerb {
    /// Show the allow-list
    #[command(after_help = "Example:\n  license-relay sources list")]
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Show who was refused lately, each with its number for `allow`
    #[command(after_help = "Example:\n  license-relay sources pending")]
    Pending {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Let a deployment in, also in the running relay
    #[command(after_help = "Examples:\n  license-relay sources allow 0123456789012\n  \
        license-relay sources allow --license 9999000000001253 --learn 24h\n  \
        license-relay sources allow fbe89d02-6d24-4595-915e-c52ce76f2195 --name Production")]
    Allow(allow::Allow),
    /// Take a deployment out of the allow-list, also in the running relay
    #[command(
        after_help = "Examples:\n  license-relay sources deny fbe89d02-6d24-4595-915e-c52ce76f2195\n  \
        license-relay sources deny Production\n  license-relay sources deny --network 10.20.0.7/32"
    )]
    Deny(deny::Deny),
    /// Basic users, for deployments that send a user name and password; a running relay takes the change at once
    #[command(after_help = "Example:\n  license-relay sources user add qlik-prod < password.txt")]
    User {
        #[command(subcommand)]
        action: UserAction,
    },
}

#[derive(Debug, clap::Subcommand)]
enum UserAction {
    /// Add a user, or give one a new password; it is read from standard input, and not shown on a terminal
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

/// Runs a `sources` verb.
pub(super) fn run(args: SourcesCommand, path: &Path) -> Result<(), Failure> {
    // Somebody must be taken out also while a certificate is missing.
    let config = load_alone(path)?;
    match args.action {
        SourcesVerb::List { json } => list(&config, json),
        SourcesVerb::Pending { json } => pending(&config, json),
        SourcesVerb::Allow(args) if args.is_shown_only() => {
            outln!("{}", allow::run(&config, args)?);
            Ok(())
        }
        SourcesVerb::Allow(args) => ask::take_force(&config, Part::AllowList, &allow::run(&config, args)?),
        SourcesVerb::Deny(args) => ask::take_force(&config, Part::AllowList, &deny::run(&config, &args)?),
        SourcesVerb::User { action: UserAction::Add { name } } => add_user(&config, &name),
        SourcesVerb::User { action: UserAction::Remove { name } } => remove_user(&config, &name),
    }
}

fn list(config: &Config, json: bool) -> Result<(), Failure> {
    let file = &config.sources.file;
    let AllowList { sources } =
        if is_missing(file) { AllowList::default() } else { sources::load(file).map_err(configuration)? };
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
            let number = number.map_or_else(|| "(no number)".into(), |number| number.to_string());
            outln!("{number:>13}  {who}  license {}  from {address}", shown(row.license.as_deref()));
            outln!("               {}; {}", shown(agent.as_deref()), reason.escape_default());
            outln!("               {count} times, first {first:.0}, last {last:.0}");
            if row.number.is_none() {
                outln!(
                    "               an earlier version wrote this; a relay that starts gives it its number"
                );
            }
            if let Some(Refused { number: Some(other), .. }) = activation(row) {
                outln!(
                    "               the same license and address as number {other}: one deployment, it seems; \
                     allow {number} lets in both"
                );
            }
        }
        outln!("let one in with: license-relay sources allow NUMBER");
    }
    Ok(())
}

fn pending_row(row: &Refused, activation: Option<&Refused>) -> serde_json::Value {
    let Refused { number, source, license, fingerprint, user, address, user_agent, .. } = row;
    let Refused { shared, reason, first, last, count, .. } = row;
    let product = row.product();
    serde_json::json!({
        "number": number,
        "source": source,
        "license": license,
        "fingerprint": fingerprint,
        "product": product.map(|(product, _)| product),
        "version": product.map(|(_, version)| version),
        "user_agent": user_agent,
        "user": user,
        "address": address,
        "shared": shared,
        "reason": reason,
        "first": first,
        "last": last,
        "count": count,
        "same_deployment_as": activation.and_then(|other| other.number),
    })
}

fn add_user(config: &Config, name: &str) -> Result<(), Failure> {
    let path = &config.listen.users;
    let line =
        read_password(name).map_err(|e| Failure::new(Exit::Usage, format!("no password was read: {e}")))?;
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
    let done = format!("{}: {name} is written with this password", path.display());
    ask::take_force(config, Part::Users, &done)?;
    if config.listen.credentials == Credentials::Off {
        outln!("listen.credentials is \"off\": nobody's user name is looked at until that is changed");
    }
    Ok(())
}

/// One line of standard input. A terminal doesn't show it, and is asked for it once: the same verb mends what was
/// mistyped.
fn read_password(name: &str) -> io::Result<Zeroizing<String>> {
    let stdin = io::stdin();
    let mut line = Zeroizing::new(String::new());
    if !stdin.is_terminal() {
        stdin.read_line(&mut line)?;
        return Ok(line);
    }
    let hidden = Hidden::new(&stdin)?;
    out::ask(&format!("password for {name} (it is not shown, and asked for once): "));
    let read = read_typed(&mut stdin.lock(), &mut line);
    drop(hidden);
    out::ask("\n");
    read?;
    match line.ends_with(INTERRUPT) {
        true => Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted; nothing was changed")),
        false => Ok(line),
    }
}

/// What a terminal gives in one piece: a line, or less where it was interrupted.
fn read_typed(terminal: &mut impl BufRead, line: &mut String) -> io::Result<()> {
    let typed = terminal.fill_buf()?;
    let text = std::str::from_utf8(typed).map_err(io::Error::other);
    let (length, pushed) = (typed.len(), text.map(|text| line.push_str(text)));
    terminal.consume(length);
    pushed
}

/// What Ctrl-C sends.
const INTERRUPT: char = '\u{3}';

/// A terminal that shows nothing of what is typed, until this is dropped. Its keys raise no signal, which could end the
/// program before that: Ctrl-C ends the line instead.
struct Hidden<'a> {
    terminal: &'a io::Stdin,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(terminal: &'a io::Stdin) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ISIG);
        hidden.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT as u8;
        tcsetattr(terminal, OptionalActions::Drain, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}

fn remove_user(config: &Config, name: &str) -> Result<(), Failure> {
    let path = &config.listen.users;
    match users::edit(path, name, None).map_err(|e| unwritable(path, &e))? {
        true => ask::take_force(config, Part::Users, &format!("{}: {name} is taken out", path.display())),
        false => Err(Failure::new(Exit::Usage, format!("{} has no user {name}", path.display()))),
    }
}

fn unwritable(path: &Path, e: &io::Error) -> Failure {
    Failure::new(Exit::of_configured(e), edit::words(path, e))
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
    Pending::read(&path).map_err(|e| Failure::unread(&path, &e))
}

impl From<EditError> for Failure {
    fn from(e: EditError) -> Self {
        let exit = match &e {
            EditError::Io { source, .. } => Exit::of_configured(source),
            EditError::Unclear(_) => Exit::Usage,
            EditError::Invalid(_) | EditError::Form { .. } => Exit::Configuration,
        };
        Self::new(exit, e)
    }
}
