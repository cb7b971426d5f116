//! The certificates shown to clients: an ECDSA and an RSA leaf for each face, minted at start-up, renewed at
//! half-life while the relay runs, checked with the clients' own rules before they are used.
//!
//! Two leaves, because TLS 1.2 clients limited to `ECDHE_RSA` suites can't use an ECDSA one and the suites of
//! Qlik's own example can't use an RSA one.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{self, Authority, AuthorityError};
use super::{ALPN_HTTP_1_1, provider};
use crate::config::model::TlsVersion;
use crate::config::names::Host;
use crate::config::private::read_private;
use crate::config::regular;

/// A leaf lives 90 days in all, its two days of back-dating included (PEERS: the public limits keep shrinking).
const LEAF_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// Why a face can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// The authority failed.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A freshly minted leaf is refused by the rules that clients apply.
    #[error(
        "the issuer (tls.issuer) may not sign for {name}: {}. Take the name out again, or make a new root and \
         issuer, which clients then must trust: license-relay ca rotate",
        why(.cause)
    )]
    NotPermitted {
        /// The name.
        name: Host,
        /// What the verifier said.
        cause: rustls::Error,
    },
    /// The company's own leaf or key is not usable.
    #[error("{path}: {fault}")]
    Unfit {
        /// The file.
        path: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The TLS library refused.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What a client's rules have against a leaf, in words.
fn why(cause: &rustls::Error) -> String {
    let text = cause.to_string();
    if text.contains("NameConstraintViolation") {
        return "its name constraints were made for other names".into();
    }
    text
}

/// What one face of the relay shows: the pair of leaves for its names.
pub struct Face {
    names: Vec<Host>,
    current: ArcSwap<Pair>,
}

struct Pair {
    ecdsa: Option<Arc<CertifiedKey>>,
    rsa: Option<Arc<CertifiedKey>>,
    /// `None` for the company's own leaves: only their owner can renew them.
    renew_at: Option<SystemTime>,
}

impl Face {
    /// Mints the pair for these names; at least one.
    ///
    /// # Errors
    /// The issuer doesn't permit a name, or a library refuses.
    pub fn mint(authority: &Authority, names: Vec<Host>) -> Result<Arc<Self>, LeafError> {
        let pair = mint_pair(authority, &names)?;
        Ok(Arc::new(Self { names, current: ArcSwap::from_pointee(pair) }))
    }

    /// Mints a new pair once half of the old one's life is over. The flag says that it did.
    ///
    /// # Errors
    /// As [`Self::mint`]; the old pair stays.
    pub fn renew(&self, authority: &Authority, now: SystemTime) -> Result<bool, LeafError> {
        if self.current.load().renew_at.is_none_or(|at| now < at) {
            return Ok(false);
        }
        self.current.store(Arc::new(mint_pair(authority, &self.names)?));
        Ok(true)
    }

    /// Takes the company's own leaves, PEM with chain, and keys; each is checked before it is used.
    ///
    /// # Errors
    /// A file can't be read, a key is not its certificate's, the chain is out of order, the dates are past, or a name
    /// is not covered.
    pub fn load(pairs: &[(PathBuf, PathBuf)], names: &BTreeSet<Host>) -> Result<Arc<Self>, LeafError> {
        let mut pair = Pair { ecdsa: None, rsa: None, renew_at: None };
        for (chain, key) in pairs {
            let certified = Arc::new(load_pair(chain, key, names)?);
            match certified.key.algorithm() {
                rustls::SignatureAlgorithm::RSA => pair.rsa = Some(certified),
                _ => pair.ecdsa = Some(certified),
            }
        }
        let names = names.iter().cloned().collect();
        Ok(Arc::new(Self { names, current: ArcSwap::from_pointee(pair) }))
    }

    /// The configuration that serves this face: one ticket, HTTP/1.1 or nothing in ALPN, no session store.
    ///
    /// # Errors
    /// The TLS library refuses.
    pub fn server_config(self: Arc<Self>, oldest: TlsVersion) -> Result<Arc<ServerConfig>, LeafError> {
        let versions: &[&rustls::SupportedProtocolVersion] = match oldest {
            TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(self);
        config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Face {
    /// ECDSA first: it is an order of magnitude cheaper. rustls has already trimmed the client's signature schemes
    /// by its TLS 1.2 suites, so a leaf that can sign can also be used.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pair = self.current.load();
        let usable = |leaf: &Option<Arc<CertifiedKey>>| {
            leaf.clone().filter(|leaf| leaf.key.choose_scheme(hello.signature_schemes()).is_some())
        };
        // Where neither can be used, rustls says so best itself: with the alert that clients expect.
        usable(&pair.ecdsa)
            .or_else(|| usable(&pair.rsa))
            .or_else(|| pair.ecdsa.clone())
            .or_else(|| pair.rsa.clone())
    }
}

impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Face").field("names", &self.names).finish_non_exhaustive()
    }
}

fn mint_pair(authority: &Authority, names: &[Host]) -> Result<Pair, LeafError> {
    let ecdsa = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Mint)?;
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(AuthorityError::Mint)?;
    let not_before = SystemTime::now() - authority::BACKDATE;
    let not_after = (not_before + LEAF_LIFE).min(authority.not_after());
    Ok(Pair {
        ecdsa: Some(Arc::new(mint_leaf(authority, names, &ecdsa, not_before, not_after)?)),
        rsa: Some(Arc::new(mint_leaf(authority, names, &rsa, not_before, not_after)?)),
        renew_at: Some(not_before + not_after.duration_since(not_before).unwrap_or_default() / 2),
    })
}

fn mint_leaf(
    authority: &Authority,
    names: &[Host],
    key: &KeyPair,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<CertifiedKey, LeafError> {
    let names_as_text: Vec<String> = names.iter().map(Host::to_string).collect();
    let mut params = CertificateParams::new(names_as_text).map_err(AuthorityError::Mint)?;
    // No common name: names stand in the SAN alone (RFC 9525 §2).
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "license-relay");
    params.serial_number = Some(authority::serial().map_err(AuthorityError::Mint)?);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    let certificate = params.signed_by(key, authority.issuer()).map_err(AuthorityError::Mint)?;
    check_as_a_client(certificate.der(), authority, names).map_err(|fault| match names {
        [] | [_] => fault,
        // One name that is not permitted spoils the others with it: find out which.
        several => {
            let alone = |name: &Host| {
                mint_leaf(authority, std::slice::from_ref(name), key, not_before, not_after).err()
            };
            several.iter().find_map(alone).unwrap_or(fault)
        }
    })?;

    let key_der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing_key = provider().key_provider.load_private_key(key_der)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone(), authority.chain().0.clone()], signing_key))
}

fn check_as_a_client(
    leaf: &CertificateDer<'_>,
    authority: &Authority,
    names: &[Host],
) -> Result<(), LeafError> {
    let (issuer, root) = authority.chain();
    let mut roots = RootCertStore::empty();
    roots.add(root.clone())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    for name in names {
        let server_name = server_name(name)?;
        verifier
            .verify_server_cert(leaf, std::slice::from_ref(issuer), &server_name, &[], UnixTime::now())
            .map_err(|cause| LeafError::NotPermitted { name: name.clone(), cause })?;
    }
    Ok(())
}

fn load_pair(chain: &Path, key: &Path, names: &BTreeSet<Host>) -> Result<CertifiedKey, LeafError> {
    let unfit = |path: &Path, fault: String| LeafError::Unfit { path: path.display().to_string(), fault };
    let chain_pem = regular::read(chain).map_err(|e| unfit(chain, e.to_string()))?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|e| unfit(chain, format!("holds no certificates in PEM ({e})")))?;
    check_chain(&certificates, names).map_err(|fault| unfit(chain, fault))?;
    let pem = read_private(key).map_err(|e| unfit(key, e.to_string()))?;
    let key_der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| unfit(key, format!("holds no private key in PEM ({e})")))?;
    CertifiedKey::from_der(certificates, key_der, &provider())
        .map_err(|e| unfit(key, format!("is not the key of {} ({e})", chain.display())))
}

/// What clients would object to in the company's own leaf, as far as it can be seen without its root.
fn check_chain(certificates: &[CertificateDer<'_>], names: &BTreeSet<Host>) -> Result<(), String> {
    let parsed: Vec<X509Certificate<'_>> = certificates
        .iter()
        .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("holds what is no X.509 certificate ({e})"))?;
    let (Some(leaf), Some(leaf_der)) = (parsed.first(), certificates.first()) else {
        return Err("holds no certificate in PEM".into());
    };
    if matches!(leaf.basic_constraints(), Ok(Some(constraints)) if constraints.value.ca) {
        return Err("starts with a CA certificate; put the leaf first, then its issuers".into());
    }
    for (certificate, issuer) in parsed.iter().zip(parsed.iter().skip(1)) {
        if certificate.issuer() != issuer.subject() {
            return Err(format!(
                "is out of order: {} is followed by {}, which did not issue it",
                certificate.subject(),
                issuer.subject()
            ));
        }
    }
    for certificate in &parsed {
        let validity = certificate.validity();
        if !validity.is_valid() {
            let (from, to) = (validity.not_before, validity.not_after);
            return Err(format!("{} is valid from {from} to {to}, which is not now", certificate.subject()));
        }
    }
    let serves = |usage: &ExtendedKeyUsage<'_>| usage.any || usage.server_auth;
    if matches!(leaf.extended_key_usage(), Ok(Some(usage)) if !serves(usage.value)) {
        return Err("is not for servers (its extended key usage lacks serverAuth)".into());
    }
    let readable = ParsedCertificate::try_from(leaf_der).map_err(|e| format!("can't be used ({e})"))?;
    for name in names {
        let server_name = server_name(name).map_err(|e| e.to_string())?;
        verify_server_name(&readable, &server_name).map_err(|_| format!("does not cover the name {name}"))?;
    }
    Ok(())
}

fn server_name(name: &Host) -> Result<ServerName<'static>, rustls::Error> {
    match name {
        Host::Name(dns) => {
            ServerName::try_from(dns.as_str().to_owned()).map_err(|e| rustls::Error::General(e.to_string()))
        }
        Host::Address(address) => Ok(ServerName::from(*address)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{BasicConstraints, CertifiedIssuer};

    use super::*;
    use crate::config::private::write_private;
    use crate::tls::authority::Files;

    fn names(names: &[&str]) -> BTreeSet<Host> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn leaves_are_renewed_at_half_life_and_never_outlive_90_days() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (root, issuer, key) = (at("root.pem"), at("issuer.pem"), at("issuer.key"));
        let files = Files { root: &root, issuer: &issuer, issuer_key: &key };
        let (authority, _) = Authority::open_or_make(files, &names(&["a.example"])).unwrap();
        let face = Face::mint(&authority, vec!["a.example".parse().unwrap()]).unwrap();
        let shown = || face.current.load().ecdsa.as_ref().unwrap().cert[0].clone();
        let days = |days: u64| SystemTime::now() + Duration::from_secs(days * 24 * 3600);
        let first = shown();
        assert!(!face.renew(&authority, days(42)).unwrap());
        assert_eq!(shown(), first);
        assert!(face.renew(&authority, days(44)).unwrap());
        assert_ne!(shown(), first);
        let (_, leaf) = X509Certificate::from_der(&first).unwrap();
        let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
        assert_eq!(life, 90 * 24 * 3600);
    }

    /// A pair of the company's own PKI; what is changed about it is the test's.
    fn own(change: impl FnOnce(&mut CertificateParams)) -> (String, String, String) {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "Company CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["a.example".into(), "relay.corp".into()]).unwrap();
        change(&mut leaf);
        (leaf.signed_by(&key, &ca).unwrap().pem(), ca.pem(), key.serialize_pem())
    }

    fn loaded(chain: &str, key: &str) -> Result<Arc<Face>, String> {
        let folder = tempfile::tempdir().unwrap();
        let (chain_file, key_file) = (folder.path().join("leaf.pem"), folder.path().join("leaf.key"));
        fs::write(&chain_file, chain).unwrap();
        write_private(&key_file, key.as_bytes()).unwrap();
        Face::load(&[(chain_file, key_file)], &names(&["a.example", "relay.corp"])).map_err(|e| e.to_string())
    }

    #[test]
    fn the_companys_own_leaf_is_checked_and_each_fault_has_its_sentence() {
        let (leaf, ca, key) = own(|_| {});
        loaded(&format!("{leaf}{ca}"), &key).unwrap();
        let fault = |chain: &str, key: &str| loaded(chain, key).unwrap_err();
        assert!(fault(&ca, &key).contains("put the leaf first"));
        assert!(fault("", &key).contains("no certificate"));
        assert!(fault(&leaf, &own(|_| {}).2).contains("is not the key of"));
        assert!(fault(&leaf, "no key").contains("no private key"));
        assert!(fault(&format!("{leaf}{leaf}"), &key).contains("out of order"));
        let (other, _, key) = own(|leaf| leaf.subject_alt_names.truncate(1));
        assert!(fault(&other, &key).contains("does not cover the name relay.corp"));
        let (past, _, key) = own(|leaf| leaf.not_after = rcgen::date_time_ymd(2021, 1, 1));
        assert!(fault(&past, &key).contains("which is not now"));
        let (client, _, key) =
            own(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        assert!(fault(&client, &key).contains("not for servers"));
    }
}
