//! Whom the upstream leg believes: the system's store, Mozilla's, or files, and `extra_ca` added to any of them.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::{ALPN_HTTP_1_1, provider};
use crate::config::model::{Trust, Upstream};

/// Why nobody can be believed.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A file can't be used.
    #[error("{path}: {fault}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The TLS library refused.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// The TLS configuration of the upstream leg: verified, HTTP/1.1 in ALPN.
///
/// # Errors
/// No root could be read; a broken root in the system's store is passed over as every program does.
pub fn client_config(upstream: &Upstream) -> Result<Arc<ClientConfig>, RootsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(root_store(upstream)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

fn root_store(upstream: &Upstream) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    match upstream.trust {
        Trust::System => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            // The relay starts all the same: it must be there to say why a product gets no license.
            if added == 0 {
                let why = found.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
                tracing::warn!(
                    "the system's certificate store holds no root{why}: no back end is believed but by \
                     upstream.extra_ca; install ca-certificates, or set upstream.trust = \"bundled\""
                );
            }
        }
        Trust::Bundled => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Trust::Files => {}
    }
    for path in &upstream.extra_ca {
        let fault = |fault: String| RootsError::File { path: path.clone(), fault };
        let before = roots.len();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| fault(e.to_string()))? {
            let certificate =
                certificate.map_err(|e| fault(format!("holds no certificates in PEM ({e})")))?;
            roots
                .add(certificate)
                .map_err(|e| fault(format!("holds a certificate that is no root ({e})")))?;
        }
        if roots.len() == before {
            return Err(fault("holds no certificate in PEM".into()));
        }
    }
    Ok(roots)
}
