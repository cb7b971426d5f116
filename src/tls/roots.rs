//! Whom the upstream leg believes: the system's store, Mozilla's, or files, and `extra_ca` added to any of them.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{ALPN_HTTP_1_1, provider};
use crate::config::model::{Trust, Upstream};
use relay_log::files::regular;

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
    let roots = Arc::new(root_store(upstream)?);
    // An empty store believes nobody, which rustls's verifier can't be built for.
    let inner = match WebPkiServerVerifier::builder_with_provider(roots, provider()).build() {
        Ok(verifier) => Some(verifier),
        Err(VerifierBuilderError::NoRootAnchors) => None,
        Err(e) => return Err(rustls::Error::General(e.to_string()).into()),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { inner, provider: provider() }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

/// rustls's own verifier, which also names the issuer that it doesn't know: a parent proxy that re-signs TLS is the
/// most common reason of all, and its name tells the administrator which CA to add.
#[derive(Debug)]
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

/// An issuer that nobody here trusts.
#[derive(Debug, thiserror::Error)]
#[error("is issued by \"{0}\", which is not trusted; add that CA to upstream.extra_ca")]
struct Untrusted(String);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = match &self.inner {
            Some(inner) => {
                inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        match verified {
            Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                let untrusted = OtherError(Arc::new(Untrusted(issuer(end_entity))));
                Err(CertificateError::Other(untrusted).into())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The issuer as the certificate names it: its common name, else all of it; short, and fit for a log line.
fn issuer(certificate: &CertificateDer<'_>) -> String {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return "?".into() };
    let issuer = certificate.issuer();
    let common_name = issuer.iter_common_name().next().and_then(|name| name.as_str().ok().map(str::to_owned));
    let name = common_name.unwrap_or_else(|| issuer.to_string());
    name.chars().filter(|c| c.is_ascii_graphic() && *c != '"' || *c == ' ').take(40).collect()
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
        let pem = regular::read(path).map_err(|e| fault(e.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
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
