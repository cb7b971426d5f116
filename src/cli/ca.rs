//! `license-relay ca`: make the authority, show it, hand out the root, change it without an outage.

use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::out::{Out, outln};
use super::{Exit, Failure, load};
use crate::config::model::{Config, Identity};
use crate::config::regular;
use crate::config::regular::is_missing;
use crate::tls::authority::{Authority, AuthorityError, Files};
use crate::tls::faces::{self, fingerprint};
use crate::tls::rotation::{self, FilePaths, Rotation};
use crate::tls::trust::{Seen, Trust, Verdict};

/// The root that clients must trust, and the issuer below it.
#[derive(Debug, clap::Args)]
pub(super) struct Ca {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make root and issuer now, instead of at the first start; the root's key is thrown away
    #[command(after_help = "Example:\n  license-relay ca init\n  \
        license-relay ca init --root-key /media/offline/root.key")]
    Init {
        /// Keep the root's key in this file, for offline custody, instead of throwing it away
        #[arg(long, value_name = "FILE")]
        root_key: Option<PathBuf>,
    },
    /// Show what clients must trust, until when, and for which names
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
    /// Make a new root and issuer beside the old; then try them, and finish or abort
    #[command(
        after_help = "Example, in this order:\n  license-relay ca rotate                     (then install the new root)\n  \
        license-relay ca rotate --try 10.20.0.0/24  (these clients are served the new leaves)\n  \
        license-relay ca status                     (who trusts it)\n  \
        license-relay ca rotate --finish            (everybody is; the old root is put away)\n  \
        license-relay ca rotate --finish --despite 10.20.0.99   (a machine that is none of yours)"
    )]
    Rotate {
        /// Serve the new leaves to this network; may repeat, and each call adds
        #[arg(long = "try", value_name = "NETWORK", conflicts_with_all = ["finish", "abort"])]
        networks: Vec<IpNet>,
        /// Serve the new leaves to everybody; refused while a client's last word was that it doesn't trust them
        #[arg(long, conflicts_with = "abort")]
        finish: bool,
        /// Finish though this client does not trust the new root, or has said so once: an address or a network; may repeat
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
    let _lock = match &args.action {
        Action::Init { .. } | Action::Rotate { .. } => Some(lock(files)?),
        Action::Show | Action::Status { .. } | Action::Export { .. } => None,
    };
    match args.action {
        Action::Init { root_key } => init(&config, files, root_key.as_deref()),
        Action::Show => {
            let in_force = read_rotation(files)?.in_force(files);
            Authority::open(in_force.files()).map_err(unfit)?;
            show(&in_force.root)?;
            show(&in_force.issuer)?;
            let names: Vec<String> = faces::names(&config).iter().map(ToString::to_string).collect();
            outln!("certificates are made for: {}", names.join(", "));
            Ok(())
        }
        Action::Status { json } => status(&config, files, json),
        Action::Export { der } => {
            let root = read_rotation(files)?.in_force(files).root;
            let bytes = if der { read(&root)?.to_vec() } else { read_file(&root)?.to_vec() };
            // A failure is kept, and told at the end.
            let _ = Out.write_all(&bytes);
            Ok(())
        }
        Action::Rotate { finish: true, despite, .. } => finish(&config, files, &despite),
        Action::Rotate { abort: true, .. } => abort(files),
        Action::Rotate { networks, .. } => rotate(&config, files, networks),
    }
}

/// Two verbs at once would each undo what the other does.
fn lock(files: Files<'_>) -> Result<File, Failure> {
    let locked = rotation::lock(files).map_err(|e| unwritable(files.root, &e))?;
    let words = "another license-relay ca is at work on these certificates; wait for it, then run this again";
    locked.ok_or_else(|| Failure::new(Exit::Running, words))
}

fn init(config: &Config, files: Files<'_>, root_key: Option<&Path>) -> Result<(), Failure> {
    let present = [files.root, files.issuer, files.issuer_key].iter().any(|path| !is_missing(path));
    let Some(key) = root_key else {
        let (_, made) = Authority::open_or_make(files, &faces::names(config)).map_err(unfit)?;
        let what = if made { "made" } else { "there already, nothing changed" };
        outln!("{}: {what}\n{}: {what}", files.root.display(), files.issuer.display());
        return Ok(());
    };
    if present {
        let words = format!(
            "there is an authority already in {}; its root's key is gone and can't be had any more. Make a new one \
             with ca rotate, or move root.pem, issuer.pem and issuer.key away first",
            files.root.display()
        );
        return Err(Failure::new(Exit::Configuration, words));
    }
    Authority::make(files, &faces::names(config), Some(key)).map_err(unfit)?;
    outln!("{}: made\n{}: made", files.root.display(), files.issuer.display());
    outln!("{}: the root's key; take it off this machine now", key.display());
    Ok(())
}

fn rotate(config: &Config, files: Files<'_>, networks: Vec<IpNet>) -> Result<(), Failure> {
    let next = FilePaths::next_to(files);
    let mut rotation = read_rotation(files)?;
    if networks.is_empty() {
        refuse_while_finishing(&rotation, files)?;
        if rotation.under_way {
            return Err(Failure::new(Exit::Usage, "a rotation is under way; --try, --finish or --abort it"));
        }
        // What an abort that was cut short left.
        rotation::abort(&next).map_err(|e| unwritable(&next.root, &e))?;
        Authority::make(next.files(), &faces::names(config), None).map_err(unfit)?;
        rotation = Rotation { under_way: true, networks: vec![], ..rotation };
        outln!("{}: the new root; install it on every client beside the old one", next.root.display());
        outln!("then: license-relay ca rotate --try NETWORK");
    } else {
        if !rotation.under_way {
            return Err(Failure::new(
                Exit::Usage,
                "no rotation is under way; start with: license-relay ca rotate",
            ));
        }
        refuse_while_finishing(&rotation, files)?;
        for network in networks {
            if !rotation.networks.contains(&network) {
                rotation.networks.push(network);
            }
        }
        let shown: Vec<String> = rotation.networks.iter().map(ToString::to_string).collect();
        outln!("clients in {} are served leaves below the new root", shown.join(", "));
        outln!("who trusts it: license-relay ca status");
    }
    rotation.write(files).map_err(|e| unwritable(files.root, &e))
}

fn finish(config: &Config, files: Files<'_>, despite: &[IpNet]) -> Result<(), Failure> {
    let next = FilePaths::next_to(files);
    let mut rotation = read_rotation(files)?;
    if !rotation.under_way {
        return Err(Failure::new(
            Exit::Usage,
            "no rotation is under way; start with: license-relay ca rotate",
        ));
    }
    // After a finish that was cut short the new root may be in its place already.
    let root = if is_missing(&next.root) { read(files.root)? } else { read(&next.root)? };
    let root = fingerprint(&root);
    let seen = seen(config)?;
    let refusing = seen.iter().filter(|seen| seen.root == root && seen.refuses()).map(|seen| seen.address);
    // Anybody in a tried network can refuse, and so hold a rotation up: who is a client is for people to say.
    let (left_behind, refuse): (Vec<_>, Vec<_>) =
        refusing.partition(|address| despite.iter().any(|network| network.contains(address)));
    let list =
        |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !refuse.is_empty() {
        let words = format!(
            "these clients do not trust the new root yet: {}; install it there, wait until ca status shows a request \
             of theirs below it, then finish; or leave those behind that are none of yours, with --despite ADDRESS",
            list(&refuse)
        );
        return Err(Failure::new(Exit::Configuration, words));
    }
    rotation::finish(files, &next).map_err(|e| unwritable(files.root, &e))?;
    rotation = Rotation { under_way: false, networks: vec![], ..rotation };
    rotation.write(files).map_err(|e| unwritable(files.root, &e))?;
    if !left_behind.is_empty() {
        outln!(
            "these do not trust it, as far as they have said, and are left behind: {}",
            list(&left_behind)
        );
    }
    outln!(
        "{}: the new root is in force for everybody; the old one may be taken off the clients",
        files.root.display()
    );
    Ok(())
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| address())
        .map_err(|_| "not an address such as 10.20.0.99, nor a network".to_owned())
}

fn abort(files: Files<'_>) -> Result<(), Failure> {
    let rotation = read_rotation(files)?;
    if !rotation.under_way {
        return Err(Failure::new(Exit::Usage, "no rotation is under way"));
    }
    refuse_while_finishing(&rotation, files)?;
    // First the relay lets go of the new files, then they go.
    let over = Rotation { under_way: false, networks: vec![], ..rotation };
    over.write(files).map_err(|e| unwritable(files.root, &e))?;
    let next = FilePaths::next_to(files);
    rotation::abort(&next).map_err(|e| unwritable(&next.root, &e))?;
    outln!("the new root and issuer are taken away; everybody is served leaves below the old root");
    Ok(())
}

fn status(config: &Config, files: Files<'_>, json: bool) -> Result<(), Failure> {
    let rotation = read_rotation(files)?;
    let current = fingerprint(&read(&rotation.in_force(files).root)?);
    let next_path = FilePaths::next_to(files).root;
    let next = if rotation.under_way && !rotation.is_finishing(files) {
        Some(fingerprint(&read(&next_path)?))
    } else {
        None
    };
    let seen = seen(config)?;
    let which = |seen: &Seen| match &next {
        _ if seen.root == current => "current",
        Some(next) if seen.root == *next => "new",
        _ => "former",
    };
    if json {
        let clients: Vec<_> = seen
            .iter()
            .map(|seen| {
                serde_json::json!({ "address": seen.address, "root": which(seen), "good": seen.good,
                    "refused": seen.refused, "trusts": !seen.refuses(), "verdict": seen.verdict() })
            })
            .collect();
        let networks: Vec<String> = rotation.networks.iter().map(ToString::to_string).collect();
        let status =
            serde_json::json!({ "rotation": rotation.under_way, "networks": networks, "clients": clients });
        outln!("{status}");
        return Ok(());
    }
    match &next {
        Some(_) => outln!("a rotation is under way; the new root is {}", next_path.display()),
        None => outln!("no rotation is under way"),
    }
    for network in &rotation.networks {
        outln!("  {network} is served leaves below the new root");
    }
    if seen.is_empty() {
        outln!("no client has been seen yet");
    }
    let time =
        |time: &Option<jiff::Timestamp>| time.map_or_else(|| "never".into(), |time| format!("{time:.0}"));
    for client in &seen {
        let verdict = match client.verdict() {
            Verdict::Trusts => "trusts",
            Verdict::Refuses => "does not trust",
            Verdict::Mixed => "is mixed: some trust, and some refuse,",
        };
        outln!(
            "{:<40} {verdict} the {} root (asked {}, refused {})",
            client.address.to_string(),
            which(client),
            time(&client.good),
            time(&client.refused)
        );
    }
    Ok(())
}

/// The old root's issuer is gone then, or its key: taking the new ones away would leave nothing that clients trust.
fn refuse_while_finishing(rotation: &Rotation, files: Files<'_>) -> Result<(), Failure> {
    let words = "the rotation was cut off while it was finished, and there is no way back; run: license-relay ca rotate \
                 --finish";
    match rotation.is_finishing(files) {
        true => Err(Failure::new(Exit::Usage, words)),
        false => Ok(()),
    }
}

fn seen(config: &Config) -> Result<Vec<Seen>, Failure> {
    let path = Trust::path(&config.audit.directory);
    Trust::read(&path).map_err(|e| Failure::unread(&path, &e))
}

fn read_rotation(files: Files<'_>) -> Result<Rotation, Failure> {
    let path = Rotation::path(files);
    Rotation::read(files).map_err(|e| Failure::unread(&path, &e))
}

/// What is there and no good, or not there, is the configuration's; what the system refuses is not.
fn unfit(e: AuthorityError) -> Failure {
    let exit = match &e {
        AuthorityError::Io { cause, .. } if Exit::of_named(cause) == Exit::Io => Exit::Io,
        AuthorityError::Mint(_) => Exit::Internal,
        _ => Exit::Configuration,
    };
    Failure::new(exit, e)
}

fn unwritable(path: &Path, e: &std::io::Error) -> Failure {
    Failure::new(Exit::Io, format!("the files beside {} can't be changed: {e}", path.display()))
}

fn show(path: &Path) -> Result<(), Failure> {
    let der = read(path)?;
    let fault = |e| Failure::new(Exit::Configuration, format!("{}: {e}", path.display()));
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|e| fault(e.to_string()))?;
    let fingerprint: String = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":");
    outln!(
        "{}\n  {}\n  valid {} to {}\n  SHA-256 {fingerprint}",
        path.display(),
        certificate.subject(),
        certificate.validity().not_before,
        certificate.validity().not_after
    );
    Ok(())
}

fn read(path: &Path) -> Result<CertificateDer<'static>, Failure> {
    CertificateDer::from_pem_slice(&read_file(path)?).map_err(|e| missing(path, &e.to_string()))
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    regular::read(path).map_err(|e| missing(path, &e.to_string()))
}

fn missing(path: &Path, why: &str) -> Failure {
    let advice = "it is made at the first start, or by: license-relay ca init";
    Failure::new(Exit::Configuration, format!("{} can't be read ({why}); {advice}", path.display()))
}
