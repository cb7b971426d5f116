//! The certificates shown to clients: an ECDSA and an RSA leaf for each face, minted at start-up, renewed while the
//! relay runs whenever half of their life is over or the clock was set, checked with the clients' own rules before they
//! are used.
//!
//! Two leaves, because TLS 1.2 clients limited to `ECDHE_RSA` suites can't use an ECDSA one and the suites of
//! Qlik's own example can't use an RSA one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
use tokio::sync::Mutex;
use tokio::time::Instant;
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{self, Authority, AuthorityError};
use super::dates::{self, Window};
use super::tickets::Tickets;
use super::{ALPN_HTTP_1_1, provider};
use crate::bounds;
use crate::config::model::TlsVersion;
use crate::config::names::Host;
use relay_log::files::private::read_private;
use relay_log::files::regular;

/// Why a face can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// The authority failed.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A freshly minted leaf is refused by the rules that clients apply.
    #[error("the issuer (tls.issuer) may not sign for {name}: {}. {}", why(.cause), remedy(*.is_tried))]
    NotPermitted {
        /// The name.
        name: Host,
        /// What the verifier said.
        cause: rustls::Error,
        /// A rotation is under way, and its new issuer may not either.
        is_tried: bool,
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

/// What to do about a name that nobody may sign for.
fn remedy(is_tried: bool) -> &'static str {
    if is_tried {
        return "Nor may the new one of the rotation under way. Take the name out again, or make a new root and issuer \
                anew: license-relay ca rotate --abort, then license-relay ca rotate";
    }
    "Take the name out again, or make a new root and issuer, which clients then must trust: license-relay ca rotate"
}

/// The names that an issuer may not sign for, by the rules that clients apply, each with what they say.
///
/// # Errors
/// A library refuses.
pub(super) fn refused(
    authority: &Authority,
    names: &BTreeSet<Host>,
) -> Result<BTreeMap<Host, rustls::Error>, LeafError> {
    let now = dates::now();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Mint)?;
    let window = Window::of_leaf(authority.window(), now);
    let mut refused = BTreeMap::new();
    for name in names {
        match mint_leaf(authority, std::slice::from_ref(name), &key, window, now) {
            Err(LeafError::NotPermitted { name, cause, .. }) => drop(refused.insert(name, cause)),
            minted => drop(minted?),
        }
    }
    Ok(refused)
}

/// What one face of the relay shows: the pair of leaves for its names.
pub struct Face {
    names: Vec<Host>,
    /// `None` for the company's own leaves: only their owner can renew them.
    authority: Option<Arc<Authority>>,
    current: ArcSwap<LeafPair>,
    /// Held by the one who renews: when that failed last, if it did.
    renewing: Arc<Mutex<Option<Instant>>>,
}

struct LeafPair {
    ecdsa: Option<Arc<CertifiedKey>>,
    rsa: Option<Arc<CertifiedKey>>,
    /// When both of them, and what they are sent with, are valid.
    window: Window,
}

impl Face {
    /// Mints the pair for these names; at least one.
    ///
    /// # Errors
    /// The issuer doesn't permit a name, or a library refuses.
    pub fn mint(authority: &Arc<Authority>, names: Vec<Host>) -> Result<Arc<Self>, LeafError> {
        let pair = mint_pair(authority, &names, dates::now())?;
        Ok(Arc::new(Self::new(names, Some(authority.clone()), pair)))
    }

    fn new(names: Vec<Host>, authority: Option<Arc<Authority>>, pair: LeafPair) -> Self {
        Self { names, authority, current: ArcSwap::from_pointee(pair), renewing: Arc::default() }
    }

    /// Renews the pair if that is due. It is asked at each handshake, and costs no more than a look at the clock as long
    /// as nothing is due. Whoever asks while another one renews waits for that.
    pub(super) async fn freshen(self: &Arc<Self>) {
        if !self.is_due(dates::now()) {
            return;
        }
        let mut failed = self.renewing.clone().lock_owned().await;
        if failed.is_some_and(|at| at.elapsed() < bounds::RENEWAL_RETRY) {
            return;
        }
        let face = self.clone();
        // Keys are made, which takes long enough to be kept off the workers. The lock goes along: who asked may leave.
        let renewal = tokio::task::spawn_blocking(move || {
            *failed = match face.renew(dates::now()) {
                Ok(renewed) => {
                    if renewed {
                        tracing::info!("renewed the leaves of {face}: valid from {}", face.window());
                    }
                    None
                }
                Err(e) => {
                    tracing::error!("the leaves of {face} can't be renewed: {e}");
                    Some(Instant::now())
                }
            };
        });
        let _ = renewal.await;
    }

    /// What clients with the same clock have against the pair: it is not valid at this time.
    pub(super) fn fault(&self, now: i64) -> Option<String> {
        let window = self.window();
        let clock = dates::timestamp(now);
        let words =
            || format!("the certificate for {self} is valid from {window}, and the clock shows {clock}");
        (!window.contains(now)).then(words)
    }

    /// Mints a new pair where one is due. The flag says that it did. On an error the old pair stays.
    fn renew(&self, now: i64) -> Result<bool, LeafError> {
        match &self.authority {
            Some(authority) if self.is_due(now) => {
                self.current.store(Arc::new(mint_pair(authority, &self.names, now)?));
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn is_due(&self, now: i64) -> bool {
        self.authority.as_ref().is_some_and(|authority| self.window().is_due(authority.window(), now))
    }

    fn window(&self) -> Window {
        self.current.load().window
    }

    /// Takes the company's own leaves, PEM with chain, and keys; each is checked before it is used.
    ///
    /// # Errors
    /// A file can't be read, a key is not its certificate's, the chain is out of order, the dates are past, or a name
    /// is not covered.
    pub fn load(pairs: &[(PathBuf, PathBuf)], names: &BTreeSet<Host>) -> Result<Arc<Self>, LeafError> {
        let mut pair =
            LeafPair { ecdsa: None, rsa: None, window: Window { from: i64::MIN, until: i64::MAX } };
        for (chain, key) in pairs {
            let (certified, window) = load_pair(chain, key, names)?;
            pair.window = pair.window.and(window);
            let certified = Arc::new(certified);
            match certified.key.algorithm() {
                rustls::SignatureAlgorithm::RSA => pair.rsa = Some(certified),
                _ => pair.ecdsa = Some(certified),
            }
        }
        Ok(Arc::new(Self::new(names.iter().cloned().collect(), None, pair)))
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
        config.ticketer = Arc::new(Tickets::new()?);
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

/// Its names, for people.
impl fmt::Display for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.names.iter().map(Host::to_string).collect();
        f.write_str(&names.join(", "))
    }
}

fn mint_pair(authority: &Authority, names: &[Host], now: i64) -> Result<LeafPair, LeafError> {
    let ecdsa = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Mint)?;
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(AuthorityError::Mint)?;
    let window = Window::of_leaf(authority.window(), now);
    Ok(LeafPair {
        ecdsa: Some(Arc::new(mint_leaf(authority, names, &ecdsa, window, now)?)),
        rsa: Some(Arc::new(mint_leaf(authority, names, &rsa, window, now)?)),
        window,
    })
}

fn mint_leaf(
    authority: &Authority,
    names: &[Host],
    key: &KeyPair,
    window: Window,
    now: i64,
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
    let (from, until) = window.times();
    (params.not_before, params.not_after) = (from.into(), until.into());
    let certificate = params.signed_by(key, authority.issuer()).map_err(AuthorityError::Mint)?;
    // By a clock that is right: a wrong one is told elsewhere, and must not keep the relay from starting.
    check_as_a_client(certificate.der(), authority, names, window.nearest(now))?;

    let key_der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing_key = provider().key_provider.load_private_key(key_der)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone(), authority.chain().0.clone()], signing_key))
}

fn check_as_a_client(
    leaf: &CertificateDer<'_>,
    authority: &Authority,
    names: &[Host],
    time: UnixTime,
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
            .verify_server_cert(leaf, std::slice::from_ref(issuer), &server_name, &[], time)
            .map_err(|cause| LeafError::NotPermitted { name: name.clone(), cause, is_tried: false })?;
    }
    Ok(())
}

fn load_pair(chain: &Path, key: &Path, names: &BTreeSet<Host>) -> Result<(CertifiedKey, Window), LeafError> {
    let unfit = |path: &Path, fault: String| LeafError::Unfit { path: path.display().to_string(), fault };
    let chain_pem = regular::read(chain).map_err(|e| unfit(chain, e.to_string()))?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|e| unfit(chain, format!("holds no certificates in PEM ({e})")))?;
    let window = check_chain(&certificates, names).map_err(|fault| unfit(chain, fault))?;
    let pem = read_private(key).map_err(|e| unfit(key, e.to_string()))?;
    let key_der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| unfit(key, format!("holds no private key in PEM ({e})")))?;
    let certified = CertifiedKey::from_der(certificates, key_der, &provider())
        .map_err(|e| unfit(key, format!("is not the key of {} ({e})", chain.display())))?;
    Ok((certified, window))
}

/// What clients would object to in the company's own leaf, as far as it can be seen without its root; else when all of
/// the chain is valid. That it is not valid yet is no fault of the file: the clock is behind, and will be set.
fn check_chain(certificates: &[CertificateDer<'_>], names: &BTreeSet<Host>) -> Result<Window, String> {
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
    let (mut window, now) = (Window::of(leaf.validity()), dates::now());
    for certificate in &parsed {
        let own = Window::of(certificate.validity());
        if own.until < now {
            let clock = dates::timestamp(now);
            let subject = certificate.subject();
            return Err(format!("{subject} is valid from {own}, and the clock shows {clock}"));
        }
        window = window.and(own);
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
    Ok(window)
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
    use relay_log::files::private::write_private;

    fn names(names: &[&str]) -> BTreeSet<Host> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn leaves_are_renewed_at_half_life_and_after_the_clock_was_set() {
        let folder = tempfile::tempdir().unwrap();
        let paths = authority::tests::written(folder.path(), &names(&["a.example"]));
        let authority = Authority::open(paths.files()).unwrap();
        let face = Face::mint(&Arc::new(authority), vec!["a.example".parse().unwrap()]).unwrap();
        let shown = || face.current.load().ecdsa.as_ref().unwrap().cert[0].clone();
        let days = |days: i64| dates::now() + days * 24 * 3600;
        let mut last = shown();
        for (time, renewed) in [(42, false), (44, true), (400, true), (401, false), (0, true), (0, false)] {
            assert_eq!(face.renew(days(time)).unwrap(), renewed, "in {time} days");
            assert_eq!(shown() != last, renewed, "in {time} days");
            assert_eq!(face.fault(days(time)), None);
            last = shown();
            let (_, leaf) = X509Certificate::from_der(&last).unwrap();
            assert_eq!(Window::of(leaf.validity()), face.window(), "what is told is what is shown");
        }
        let fault = face.fault(days(-300)).unwrap();
        assert!(fault.starts_with("the certificate for a.example is valid from 20"), "{fault}");
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
        assert!(fault(&past, &key).contains("to 2021-01-01T00:00:00Z, and the clock shows 20"));
        let (early, _, key) = own(|leaf| leaf.not_before = rcgen::date_time_ymd(2999, 1, 1));
        let early = loaded(&early, &key).unwrap();
        assert!(early.fault(dates::now()).unwrap().contains("is valid from 2999-01-01T00:00:00Z to"));
        assert!(!early.is_due(dates::now()), "only its owner can renew it");
        let (client, _, key) =
            own(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        assert!(fault(&client, &key).contains("not for servers"));
    }
}
