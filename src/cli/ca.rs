//! `license-relay ca`: make the authority, show it, hand out the root, change it without an outage.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{ask, load};
use crate::config::model::{Config, Identity};
use crate::config::names::Host;
use crate::setup::held::Part;
use crate::tls::authority::{Authority, AuthorityError, FilePaths, Files, in_pem, is_key_of};
use crate::tls::constraints::Reach;
use crate::tls::generations::{self, AuthorityChange, AuthorityState};
use crate::tls::identities::{self, Signer, fingerprint};
use crate::tls::leaf::LeafError;
use crate::tls::readiness::{self, HeldUp, Holdup};
use crate::tls::trust::{AddressTrust, ShownTrust, TrustTable};
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::{Out, out};
use relay_log::files::regular;

/// The root that clients must trust, and the issuer below it.
#[derive(Debug, clap::Args)]
pub(super) struct Ca {
    #[command(subcommand)]
    action: CaVerb,
}

#[derive(Debug, clap::Subcommand)]
enum CaVerb {
    /// Make root and issuer now, instead of at the first start; the root's key is thrown away
    #[command(after_help = "Example:\n  license-relay ca init\n  \
        license-relay ca init --root-key /media/offline/root.key")]
    Init {
        /// Keep the root's key in this file, for offline custody, instead of throwing it away
        #[arg(long, value_name = "FILE")]
        root_key: Option<PathBuf>,
    },
    /// Show what clients must trust, until when, and which names can be signed for
    #[command(after_help = "Example:\n  license-relay ca show")]
    Show,
    /// Show for each client whether it trusts the root, and how far a rotation is
    #[command(after_help = "Example:\n  license-relay ca status")]
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Print the root: the file to install where the product looks for trusted roots
    #[command(after_help = "Example:\n  license-relay ca export --der > license-relay-root.cer")]
    Export {
        /// DER, as Windows takes it, instead of PEM
        #[arg(long)]
        der: bool,
    },
    /// Make a new root and issuer beside the old, for the names that are configured now; then try them, and finish or abort
    #[command(
        after_help = "Example, in this order:\n  license-relay ca rotate                     (then install the new root)\n  \
        license-relay ca rotate --try 10.20.0.0/24  (these clients are served the new leaves)\n  \
        license-relay ca status                     (who trusts it)\n  \
        license-relay ca rotate --finish            (everybody is; the old root is put away)\n  \
        license-relay ca rotate --finish --despite 10.20.0.99   (a machine that is none of yours)"
    )]
    Rotate {
        /// Serve the new leaves to this network or address; may repeat, and each call adds
        #[arg(long = "try", value_name = "NETWORK", value_parser = network, conflicts_with_all = ["finish", "abort"])]
        networks: Vec<IpNet>,
        /// Serve the new leaves to everybody; refused while a client would be cut off, as far as ca status knows
        #[arg(long, conflicts_with = "abort")]
        finish: bool,
        /// Finish though this client holds it up, and leave it behind: an address or a network; may repeat
        #[arg(long, value_name = "ADDRESS", value_parser = network, requires = "finish")]
        despite: Vec<IpNet>,
        /// Take the new root and issuer away; refused once a finish has begun
        #[arg(long)]
        abort: bool,
    },
}

/// Runs a `ca` verb.
pub(super) fn run(args: Ca, path: &Path) -> Result<(), Failure> {
    let config = load(path)?;
    let Identity::Issuer { root, issuer, issuer_key } = &config.tls.identity else {
        let words = "the certificates come from tls.certificate; there is no authority of the relay's own";
        return Err(Failure::new(Exit::Configuration, words));
    };
    let files = Files { root, issuer, issuer_key };
    let said = match args.action {
        CaVerb::Init { root_key } => init(&config, files, root_key.as_deref())?,
        CaVerb::Show => show(&config, files)?,
        CaVerb::Status { json } => status(&config, files, json)?,
        CaVerb::Export { der } => {
            // The root alone: what lies beside it in the file is not for everybody.
            let root = read(&in_force(files, &standing(files)?).root)?;
            let bytes = if der { root.to_vec() } else { in_pem(&root) };
            // A failure is kept, and told at the end.
            let _ = Out.write_all(&bytes);
            return Ok(());
        }
        CaVerb::Rotate { finish: true, despite, .. } => {
            return finish(&config, files, &despite)?.take_force(&config);
        }
        CaVerb::Rotate { abort: true, .. } => return abort(&config, files)?.take_force(&config),
        CaVerb::Rotate { networks, .. } if networks.is_empty() => {
            return rotate(&config, files)?.take_force(&config);
        }
        CaVerb::Rotate { networks, .. } => return try_on(files, networks)?.take_force(&config),
    };
    out!("{said}");
    Ok(())
}

/// What a verb has written, and what to do once a relay works with it.
struct Written {
    done: String,
    then: String,
}

impl Written {
    fn take_force(self, config: &Config) -> Result<(), Failure> {
        ask::take_force(config, Part::Certificates, self.done.trim_end())?;
        out!("{}", self.then);
        Ok(())
    }
}

fn init(config: &Config, files: Files<'_>, root_key: Option<&Path>) -> Result<String, Failure> {
    let standing = standing(files)?;
    if let (None, Some(key)) = (&standing.in_force, root_key)
        && !regular::is_missing(key)
    {
        let words = format!(
            "{} is there already, and is not replaced; name another file. If a ca init was cut off that should have made \
             it, it is the key of a root that nobody has: remove it, and run this again",
            key.display()
        );
        return Err(Failure::new(Exit::Usage, words));
    }
    let made = match standing.in_force {
        Some(_) if standing.is_settled => false,
        _ => begin(files)?.first(&identities::names(config), root_key).map_err(unfit)?,
    };
    if !made {
        Authority::open(files).map_err(unfit)?;
    }
    let what = if made { "made" } else { "there already, nothing changed" };
    let said = format!("{}: {what}\n{}: {what}\n", files.root.display(), files.issuer.display());
    let Some(key) = root_key else { return Ok(said) };
    // One that was cut off may have kept it.
    if !made && !is_key_of(key, files.root).unwrap_or(false) {
        let words = format!(
            "there is an authority already in {}; its root's key is gone and can't be had any more. Make a new one \
             with ca rotate, or move root.pem, issuer.pem, issuer.key and generations away first",
            files.root.display()
        );
        return Err(Failure::new(Exit::Configuration, words));
    }
    Ok(format!("{said}{}: the root's key; take it off this machine now\n", key.display()))
}

fn show(config: &Config, files: Files<'_>) -> Result<String, Failure> {
    let standing = standing(files)?;
    let in_force = in_force(files, &standing);
    let names = identities::names(config);
    let current = generations::open(files, &in_force).map_err(unfit)?;
    let current = Signer::new(current, &names).map_err(unusable)?;
    let mut said = shown(&in_force.root)? + &shown(&in_force.issuer)?;
    said += &format!("names that are configured: {}\n", listed(&names));
    if current.refused.is_empty() {
        said += "the issuer may sign for all of them\n";
    } else {
        said += &format!("the issuer may not sign for: {}\n", listed(current.refused.keys()));
    }
    let Some(trial) = standing.trial.map_err(unfit)? else {
        if !current.refused.is_empty() {
            said += "have a new root and issuer made for them: license-relay ca rotate\n";
        }
        return Ok(said);
    };
    let new = Authority::open(trial.files.files()).map_err(unfit)?;
    let new = Signer::new(new, &names).map_err(unusable)?;
    said += "\na rotation is under way; the new root and issuer are:\n";
    said += &(shown(&trial.files.root)? + &shown(&trial.files.issuer)?);
    if new.refused.is_empty() {
        said += "the new issuer may sign for all names that are configured\n";
    } else {
        said += &format!("{}\n", made_for_others(&new));
    }
    Ok(said)
}

fn rotate(config: &Config, files: Files<'_>) -> Result<Written, Failure> {
    let change = begin(files)?;
    refuse_after_finish(&change)?;
    if change.is_under_way() {
        return Err(Failure::new(Exit::Usage, "a rotation is under way; --try, --finish or --abort it"));
    }
    let next = change.rotate(&identities::names(config)).map_err(unfit)?;
    Ok(Written {
        done: format!("{}: the new root; install it on every client beside the old one", next.root.display()),
        then: "then: license-relay ca rotate --try NETWORK\n".into(),
    })
}

fn try_on(files: Files<'_>, networks: Vec<IpNet>) -> Result<Written, Failure> {
    let mut change = begin(files)?;
    refuse_after_finish(&change)?;
    refuse_without_rotation(&change)?;
    change.add_networks(networks).map_err(unfit)?;
    Ok(Written {
        done: format!("clients in {} get leaves below the new root", listed(change.networks())),
        then: "who trusts it: license-relay ca status\n".into(),
    })
}

fn finish(config: &Config, files: Files<'_>, despite: &[IpNet]) -> Result<Written, Failure> {
    let change = begin(files)?;
    let done =
        format!("{}: the new root is in the place of the old one, for everybody", files.root.display());
    let then = "the old root may be taken off the clients\n".to_owned();
    if change.has_completed_finish {
        return Ok(Written { done, then });
    }
    refuse_without_rotation(&change)?;
    let standing = standing(files)?;
    let old = fingerprint(&read(&in_force(files, &standing).root)?);
    let Some(trial) = standing.trial.map_err(unfit)? else { return Ok(Written { done, then }) };
    let new = Authority::open(trial.files.files()).map_err(unfit)?;
    let root = fingerprint(new.root_der());
    let new = Signer::new(new, &identities::names(config)).map_err(unusable)?;
    if !new.refused.is_empty() {
        return Err(Failure::new(Exit::Configuration, made_for_others(&new)));
    }
    let held_up = readiness::held_up(&seen(config)?, &old, &root, jiff::Timestamp::now());
    let (left_behind, held_up) = readiness::split(held_up, despite);
    if !held_up.is_empty() {
        let words = format!(
            "the rotation can't be finished yet:\n{}or leave those behind that are none of yours, with --despite ADDRESS",
            held_up_in_words(&held_up)
        );
        return Err(Failure::new(Exit::Configuration, words));
    }
    change.finish().map_err(|e| {
        // What failed after the switch is put in order later, and undoes nothing.
        let is_in_force = read(files.root).is_ok_and(|der| fingerprint(&der) == root);
        let words =
            "the new root is in the place of the old one, for everybody; what is left to do is done by the next start \
             or ca verb";
        match unfit(e) {
            Failure { exit, words: why } if is_in_force => Failure::new(exit, format!("{words} ({why})")),
            failure => failure,
        }
    })?;
    if left_behind.is_empty() {
        return Ok(Written { done, then });
    }
    let addresses = listed(left_behind.iter().map(|client| client.address));
    let done =
        format!("these do not trust it, as far as they have shown, and are left behind: {addresses}\n{done}");
    Ok(Written { done, then })
}

/// A network, or one address; 10.20.0.99/24 is the network 10.20.0.0/24.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .map(|network: IpNet| network.trunc())
        .or_else(|_| address())
        .map_err(|_| "not an address such as 10.20.0.99, nor a network".to_owned())
}

fn abort(config: &Config, files: Files<'_>) -> Result<Written, Failure> {
    let change = begin(files)?;
    refuse_after_finish(&change)?;
    refuse_without_rotation(&change)?;
    // Where the old one can't be used, as it has expired, the new one is all that there is.
    let in_force = in_force(files, &standing(files)?);
    let old = Authority::open(in_force.files()).map_err(unfit)?;
    let old = Signer::new(old, &identities::names(config)).map_err(unusable)?;
    change.abort().map_err(unfit)?;
    let done = "the new root and issuer are taken away; everybody gets leaves below the old root".to_owned();
    if old.refused.is_empty() {
        return Ok(Written { done, then: String::new() });
    }
    let done = format!(
        "{done}\nthe old issuer may not sign for {}: before the relay starts the next time, take that out of the \
         configuration, or run: license-relay ca rotate",
        listed(old.refused.keys())
    );
    Ok(Written { done, then: String::new() })
}

fn status(config: &Config, files: Files<'_>, json: bool) -> Result<String, Failure> {
    let standing = standing(files)?;
    let current = fingerprint(&read(&in_force(files, &standing).root)?);
    let trial = standing.trial.map_err(unfit)?;
    let next =
        trial.as_ref().map(|trial| read(&trial.files.root).map(|der| fingerprint(&der))).transpose()?;
    let seen = seen(config)?;
    let which = |seen: &ShownTrust| match &next {
        _ if seen.root == current => "current",
        Some(next) if seen.root == *next => "new",
        _ => "former",
    };
    let held_up = next.as_ref().map(|next| readiness::held_up(&seen, &current, next, jiff::Timestamp::now()));
    let held_up = held_up.unwrap_or_default();
    let networks = trial.as_ref().map_or(&[][..], |trial| &trial.networks);
    if json {
        let clients: Vec<_> = seen
            .iter()
            .map(|seen| {
                serde_json::json!({ "address": seen.address, "root": which(seen), "good": seen.good,
                    "refused": seen.refused, "trusts": !seen.refuses(), "verdict": seen.verdict() })
            })
            .collect();
        let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        let status = serde_json::json!({ "rotation": trial.is_some(), "networks": networks, "clients": clients,
            "holds_up_finish": held_up });
        return Ok(format!("{status}\n"));
    }
    let mut said = match &trial {
        Some(trial) => format!("a rotation is under way; the new root is {}\n", trial.files.root.display()),
        None => "no rotation is under way\n".to_owned(),
    };
    for network in networks {
        said += &format!("  {network} is served leaves below the new root\n");
    }
    if seen.is_empty() {
        said += "no client has been seen yet\n";
    }
    for client in &seen {
        let verdict = match client.verdict() {
            AddressTrust::Trusts => "trusts",
            AddressTrust::Refuses => "does not trust",
            AddressTrust::Mixed => "is mixed: some trust, and some refuse,",
        };
        said += &format!(
            "{:<40} {verdict} the {} root (last request: {}, last refusal: {})\n",
            client.address.to_string(),
            which(client),
            time(client.good),
            time(client.refused)
        );
    }
    if !held_up.is_empty() {
        said += &format!("holds up --finish:\n{}", held_up_in_words(&held_up));
    }
    Ok(said)
}

/// Each group of them with its times, and what to do about it.
fn held_up_in_words(held_up: &[HeldUp]) -> String {
    let mut groups: BTreeMap<Holdup, String> = BTreeMap::new();
    for client in held_up {
        *groups.entry(client.why).or_default() += &format!(
            "  {:<40} last request below the old root: {}, below the new root: {}; last refusal of the new root: {}\n",
            client.address.to_string(),
            time(client.old_request),
            time(client.new_request),
            time(client.new_refusal)
        );
    }
    let in_words = |why: Holdup| {
        let (what, remedy) = why.words();
        groups.get(&why).map(|clients| format!("these clients {what}:\n{clients}{remedy};\n"))
    };
    Holdup::ALL.into_iter().filter_map(in_words).collect()
}

fn time(time: Option<jiff::Timestamp>) -> String {
    time.map_or_else(|| "never".into(), |time| format!("{time:.0}"))
}

fn listed(items: impl IntoIterator<Item = impl Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// What keeps the rotation from its end where names were configured later.
fn made_for_others(new: &Signer) -> String {
    let names: Vec<&Host> = new.refused.keys().collect();
    format!(
        "the new issuer may not sign for {}, as it was made for other names; begin again: license-relay ca rotate \
         --abort, then license-relay ca rotate",
        listed(names)
    )
}

/// The old root's key is gone then: there is no way back, and nothing to be tried.
fn refuse_after_finish(change: &AuthorityChange<'_>) -> Result<(), Failure> {
    let words = "the rotation was cut off while it was finished, and is complete now: the new root is in force for \
                 everybody, and there is no way back; for another one, run: license-relay ca rotate";
    match change.has_completed_finish {
        true => Err(Failure::new(Exit::Usage, words)),
        false => Ok(()),
    }
}

fn refuse_without_rotation(change: &AuthorityChange<'_>) -> Result<(), Failure> {
    match change.is_under_way() {
        true => Ok(()),
        false => {
            Err(Failure::new(Exit::Usage, "no rotation is under way; start with: license-relay ca rotate"))
        }
    }
}

fn begin(files: Files<'_>) -> Result<AuthorityChange<'_>, Failure> {
    AuthorityChange::begin(files).map_err(unfit)
}

fn standing(files: Files<'_>) -> Result<AuthorityState, Failure> {
    generations::standing(files).map_err(unfit)
}

fn in_force(files: Files<'_>, standing: &AuthorityState) -> FilePaths {
    standing.in_force.clone().unwrap_or_else(|| files.to_paths())
}

fn seen(config: &Config) -> Result<Vec<ShownTrust>, Failure> {
    let path = TrustTable::path(&config.audit.directory);
    TrustTable::read(&path).map_err(|e| Failure::unread(&path, &e))
}

/// What is there and no good, or not there, is the configuration's; what the system refuses is not.
fn unfit(e: AuthorityError) -> Failure {
    let exit = match &e {
        AuthorityError::Io { cause, .. } => match Exit::of_named(cause) {
            Exit::Usage => Exit::Configuration,
            exit => exit,
        },
        AuthorityError::Mint(_) => Exit::Internal,
        _ => Exit::Configuration,
    };
    Failure::new(exit, e)
}

fn unusable(e: LeafError) -> Failure {
    match e {
        LeafError::Authority(e) => unfit(e),
        e => Failure::new(Exit::Internal, e),
    }
}

/// A certificate: where it lies, whose it is, until when, for what.
fn shown(path: &Path) -> Result<String, Failure> {
    let der = read(path)?;
    let fault = |e| Failure::new(Exit::Configuration, format!("{}: {e}", path.display()));
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|e| fault(e.to_string()))?;
    let fingerprint: String = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":");
    Ok(format!(
        "{}\n  {}\n  valid {} to {}\n  SHA-256 {fingerprint}\n  may sign for {}\n",
        path.display(),
        certificate.subject(),
        certificate.validity().not_before,
        certificate.validity().not_after,
        Reach::of(&certificate)
    ))
}

fn read(path: &Path) -> Result<CertificateDer<'static>, Failure> {
    let pem = regular::read(path).map_err(|e| missing(path, &e.to_string()))?;
    CertificateDer::from_pem_slice(&pem).map_err(|e| missing(path, &e.to_string()))
}

fn missing(path: &Path, why: &str) -> Failure {
    let advice = "it is made at the first start, or by: license-relay ca init";
    Failure::new(Exit::Configuration, format!("{} can't be read ({why}); {advice}", path.display()))
}
