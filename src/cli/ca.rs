//! `license-relay ca`: make the authority, show it, hand out the root.

use std::io::Write as _;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Exit, Failure, load};
use crate::config::model::Identity;
use crate::tls::authority::{Authority, Files};
use crate::tls::faces;

/// The root that clients must trust, and the issuer below it.
#[derive(Debug, clap::Args)]
pub(super) struct Ca {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make root and issuer now, instead of at the first start; the root's key is thrown away
    #[command(after_help = "Example:\n  license-relay ca init")]
    Init,
    /// Show what clients must trust, until when, and for which names
    #[command(after_help = "Example:\n  license-relay ca show")]
    Show,
    /// Print the root: the file to install where the product looks for trusted roots
    #[command(after_help = "Example:\n  license-relay ca export --der > license-relay-root.cer")]
    Export {
        /// DER, as Windows takes it, instead of PEM
        #[arg(long)]
        der: bool,
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
    let unfit = |e| Failure::new(Exit::Configuration, e);
    match args.action {
        Action::Init => {
            let (_, made) = Authority::open_or_make(files, &faces::names(&config)).map_err(unfit)?;
            let what = if made { "made" } else { "there already, nothing changed" };
            println!("{}: {what}\n{}: {what}", root.display(), issuer.display());
        }
        Action::Show => {
            Authority::open(files).map_err(unfit)?;
            show(root)?;
            show(issuer)?;
            let names: Vec<String> = faces::names(&config).iter().map(ToString::to_string).collect();
            println!("certificates are made for: {}", names.join(", "));
        }
        Action::Export { der } => {
            let bytes = if der { read(root)?.to_vec() } else { read_file(root)? };
            std::io::stdout()
                .write_all(&bytes)
                .map_err(|e| Failure::new(Exit::Internal, format!("the root can't be printed: {e}")))?;
        }
    }
    Ok(())
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
    println!(
        "{}\n  {}\n  valid {} to {}\n  SHA-256 {fingerprint}",
        path.display(),
        certificate.subject(),
        certificate.validity().not_before,
        certificate.validity().not_after
    );
    Ok(())
}

fn read(path: &Path) -> Result<CertificateDer<'static>, Failure> {
    CertificateDer::from_pem_file(path).map_err(|e| missing(path, &e.to_string()))
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| missing(path, &e.to_string()))
}

fn missing(path: &Path, why: &str) -> Failure {
    let advice = "it is made at the first start, or by: license-relay ca init";
    Failure::new(Exit::Configuration, format!("{} can't be read ({why}); {advice}", path.display()))
}
