//! The authority that clients trust: a root whose key is thrown away as soon as it has signed one issuer.
//!
//! Root and issuer carry the same *critical* name constraints (RFC 5280 §4.2.1.10), so that whoever steals the
//! issuer's key can sign for nothing but the terminated hosts and the relay's own names. Two levels, because Java
//! ignores constraints on a trust anchor and enforces them on an issuer below it.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PublicKeyData, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::{Zeroize, Zeroizing};

use super::dates::{self, Window};
use crate::config::names::Host;
use relay_log::files::private::{pem, read_private, read_private_for};
use relay_log::files::regular;
use relay_log::text::hex::hex;

/// The issuer that signs leaves, with the chain it hands out.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    issuer_der: CertificateDer<'static>,
    root_der: CertificateDer<'static>,
    window: Window,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("window", &self.window).finish_non_exhaustive()
    }
}

/// Where the three files of an authority lie.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The root certificate, for clients.
    pub root: &'a Path,
    /// The issuer's certificate.
    pub issuer: &'a Path,
    /// The issuer's key.
    pub issuer_key: &'a Path,
}

/// The same, owned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilePaths {
    /// The root certificate.
    pub root: PathBuf,
    /// The issuer's certificate.
    pub issuer: PathBuf,
    /// The issuer's key.
    pub issuer_key: PathBuf,
}

/// What an authority consists of, in PEM.
#[derive(Debug)]
pub(crate) struct Pem {
    /// The root certificate.
    pub(crate) root: Vec<u8>,
    /// The issuer's certificate.
    pub(crate) issuer: Vec<u8>,
    /// The issuer's key.
    pub(crate) issuer_key: SecretPem,
}

/// A key in PEM. It can't be printed, and is wiped once it is dropped.
pub(crate) struct SecretPem(pub(crate) Zeroizing<String>);

impl std::fmt::Debug for SecretPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretPem(…)")
    }
}

impl<'a> Files<'a> {
    /// All three of them; the root is the last one, as nobody can have it before it is there.
    pub(super) fn all(self) -> [&'a Path; 3] {
        [self.issuer_key, self.issuer, self.root]
    }

    /// The same, owned.
    pub(crate) fn to_paths(self) -> FilePaths {
        let Files { root, issuer, issuer_key } = self;
        FilePaths { root: root.into(), issuer: issuer.into(), issuer_key: issuer_key.into() }
    }
}

impl FilePaths {
    /// Without owning them.
    pub fn files(&self) -> Files<'_> {
        Files { root: &self.root, issuer: &self.issuer, issuer_key: &self.issuer_key }
    }
}

impl Pem {
    /// Reads all three files, to write them again for a user, who may have put links there. Of the public ones the
    /// certificate alone is taken: a file may hold a secret of somebody else beside one.
    pub(super) fn read_for(files: Files<'_>, user: u32) -> Result<Self, AuthorityError> {
        Ok(Self {
            root: in_pem(&read_certificate(files.root)?),
            issuer: in_pem(&read_certificate(files.issuer)?),
            issuer_key: read_private_for(files.issuer_key, user)
                .map(SecretPem)
                .map_err(|e| io_error(files.issuer_key, e))?,
        })
    }
}

/// Why there is no authority to sign with.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file can't be read or written.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Some of the three files are there and some are not.
    #[error(
        "{missing} is missing while {present} is there; restore it, or move the others away to have a new \
         root and issuer made (clients must then trust the new root)"
    )]
    Partial {
        /// One that is missing.
        missing: PathBuf,
        /// One that is there.
        present: PathBuf,
    },
    /// The files are gone, or what a link led to is, and nothing says where they are.
    #[error("{path}: {fault}")]
    Lost {
        /// What is gone.
        path: PathBuf,
        /// What is left, and what to do.
        fault: String,
    },
    /// A file is not what it should be.
    #[error("{path}: {fault}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        fault: String,
    },
    /// The library refused to make a certificate.
    #[error("a certificate can't be made: {0}")]
    Mint(#[from] rcgen::Error),
}

impl Authority {
    /// Reads an authority and checks that it can sign: whole, CA, usage, dates, the key is the certificate's and the
    /// root is the issuer's.
    ///
    /// # Errors
    /// A file that can't be read, a set that is not whole, or a certificate that is not fit to sign.
    pub fn open(files: Files<'_>) -> Result<Self, AuthorityError> {
        let (present, missing): (Vec<&Path>, Vec<&Path>) =
            [files.root, files.issuer, files.issuer_key].into_iter().partition(|path| path.exists());
        if let (Some(present), Some(missing)) = (present.first(), missing.first()) {
            let (present, missing) = (present.to_path_buf(), missing.to_path_buf());
            return Err(AuthorityError::Partial { missing, present });
        }
        let root_der = read_certificate(files.root)?;
        let issuer_der = read_certificate(files.issuer)?;
        let key = read_key(files.issuer_key)?;
        let window = {
            let certificate = parse(files.issuer, &issuer_der)?;
            check_can_sign(files.issuer, &certificate)?;
            let root = parse(files.root, &root_der)?;
            check_can_sign(files.root, &root)?;
            if certificate.issuer().as_raw() != root.subject().as_raw() {
                return Err(unfit(
                    files.root,
                    format!(
                        "is not the root of {}; put the one that signed it there",
                        files.issuer.display()
                    ),
                ));
            }
            if certificate.public_key().raw != key.subject_public_key_info() {
                return Err(unfit(
                    files.issuer_key,
                    format!(
                        "is not the key of {}; put the key that belongs to it there",
                        files.issuer.display()
                    ),
                ));
            }
            Window::of(certificate.validity()).and(Window::of(root.validity()))
        };
        let issuer = Issuer::from_ca_cert_der(&issuer_der, key)?;
        Ok(Self { issuer, issuer_der, root_der, window })
    }

    /// Makes root, issuer and key for these names. The root's key is thrown away, or handed to those who want it offline.
    ///
    /// # Errors
    /// The library refuses, or the root's key can't be kept.
    pub(super) fn make(
        names: &BTreeSet<Host>,
        keep_root_key: impl FnOnce(&SecretPem) -> Result<(), AuthorityError>,
    ) -> Result<Pem, AuthorityError> {
        let mut root_key = KeyPair::generate()?;
        let window = Window::of_authority(dates::now());
        let root = CertifiedIssuer::self_signed(authority_params("root", 1, names, window)?, &root_key)?;
        let mut issuer_key = KeyPair::generate()?;
        let mut params = authority_params("issuer", 0, names, window)?;
        params.use_authority_key_identifier_extension = true;
        // Chains through this issuer are good for servers alone (Go, OpenSSL and Windows nest key purposes).
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&issuer_key, &root)?;
        let root_pem = root.pem().into_bytes();
        drop(root);
        let kept = keep_root_key(&SecretPem(Zeroizing::new(root_key.serialize_pem())));
        root_key.zeroize();
        kept?;
        let key_pem = SecretPem(Zeroizing::new(issuer_key.serialize_pem()));
        issuer_key.zeroize();
        Ok(Pem { root: root_pem, issuer: certificate.pem().into_bytes(), issuer_key: key_pem })
    }

    /// The issuer that leaves are signed with.
    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// What a leaf is sent with, and what clients trust.
    pub(super) fn chain(&self) -> (&CertificateDer<'static>, &CertificateDer<'static>) {
        (&self.issuer_der, &self.root_der)
    }

    /// What clients trust.
    pub fn root_der(&self) -> &[u8] {
        &self.root_der
    }

    /// When the issuer and its root are valid; no leaf is valid outside of that.
    pub(super) fn window(&self) -> Window {
        self.window
    }
}

/// Whether a file holds the key of a certificate.
///
/// # Errors
/// One of them can't be read, or is no certificate or key.
pub(crate) fn is_key_of(key: &Path, certificate: &Path) -> Result<bool, AuthorityError> {
    let der = read_certificate(certificate)?;
    let public_key = parse(certificate, &der)?.public_key().raw.to_vec();
    Ok(public_key == read_key(key)?.subject_public_key_info())
}

/// A random, positive serial number of 16 bytes: Go refuses negative ones and Firefox repeated ones.
pub(super) fn serial() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn authority_params(
    role: &str,
    path_length: u8,
    names: &BTreeSet<Host>,
    window: Window,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    let serial = serial()?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "license-relay");
    // The serial in the name keeps two authorities of one relay apart in a client's store.
    subject.push(DnType::CommonName, format!("license-relay {role} {}", &hex(&serial.to_bytes())[..8]));
    params.distinguished_name = subject;
    params.serial_number = Some(serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(constraints(names));
    let (from, until) = window.times();
    (params.not_before, params.not_after) = (from.into(), until.into());
    Ok(params)
}

/// Names are permitted exactly as listed (a DNS constraint also covers names below it), addresses as /32 or /128.
/// Where no address is listed, both families are excluded whole. Where one is, nothing needs to be excluded: addresses
/// of either family are one form of name (RFC 5280 §4.2.1.10), and what is not permitted is refused. Nor may it be:
/// Java 17 fails on an IPv4 address under an excluded `::/0`, and refuses an IPv6 one under an excluded `0.0.0.0/0`.
fn constraints(names: &BTreeSet<Host>) -> NameConstraints {
    let permitted: Vec<GeneralSubtree> = names
        .iter()
        .map(|name| match name {
            Host::Name(name) => GeneralSubtree::DnsName(name.as_str().to_owned()),
            Host::Address(IpAddr::V4(address)) => {
                GeneralSubtree::IpAddress(CidrSubnet::V4(address.octets(), [0xff; 4]))
            }
            Host::Address(IpAddr::V6(address)) => {
                GeneralSubtree::IpAddress(CidrSubnet::V6(address.octets(), [0xff; 16]))
            }
        })
        .collect();
    let excluded = if permitted.iter().any(|tree| matches!(tree, GeneralSubtree::IpAddress(_))) {
        Vec::new()
    } else {
        vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ]
    };
    NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded }
}

fn check_can_sign(path: &Path, certificate: &X509Certificate<'_>) -> Result<(), AuthorityError> {
    let is_ca = matches!(certificate.basic_constraints(), Ok(Some(c)) if c.critical && c.value.ca);
    if !is_ca {
        return Err(unfit(
            path,
            "is no CA certificate (basicConstraints CA:TRUE, critical, is missing)".into(),
        ));
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if usage.value.key_cert_sign() => {}
        _ => return Err(unfit(path, "may not sign certificates (keyUsage keyCertSign is missing)".into())),
    }
    // One that is not valid yet is no fault of the file: the clock is behind, and will be set.
    let (window, now) = (Window::of(certificate.validity()), dates::now());
    if window.until < now {
        let clock = dates::timestamp(now);
        let fault = format!(
            "is valid from {window}, and the clock shows {clock}; set the clock, or have a new one made"
        );
        return Err(unfit(path, fault));
    }
    Ok(())
}

pub(super) fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, AuthorityError> {
    let pem = regular::read(path).map_err(|cause| io_error(path, cause))?;
    CertificateDer::from_pem_slice(&pem)
        .map_err(|e| unfit(path, format!("holds no certificate in PEM ({e})")))
}

/// A certificate in PEM, in lines of 64 characters (RFC 7468 §2).
pub(crate) fn in_pem(certificate: &CertificateDer<'_>) -> Vec<u8> {
    pem("CERTIFICATE", certificate).as_bytes().to_vec()
}

fn read_key(path: &Path) -> Result<KeyPair, AuthorityError> {
    let pem = read_private(path).map_err(|cause| io_error(path, cause))?;
    KeyPair::from_pem(&pem).map_err(|_| unfit(path, "holds no private key in PKCS#8 PEM".into()))
}

pub(super) fn parse<'a>(
    path: &Path,
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, AuthorityError> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(e) => Err(unfit(path, format!("holds no X.509 certificate ({e})"))),
    }
}

pub(super) fn io_error(path: &Path, cause: io::Error) -> AuthorityError {
    AuthorityError::Io { path: path.to_owned(), cause }
}

fn unfit(path: &Path, fault: String) -> AuthorityError {
    AuthorityError::Unfit { path: path.to_owned(), fault }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;
    use relay_log::files::private::write_private;

    fn hosts(names: &[&str]) -> BTreeSet<Host> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn without_a_listed_address_both_families_are_excluded_whole() {
        let none = constraints(&hosts(&["license.qlikcloud.com", "localhost"]));
        assert_eq!(none.permitted_subtrees.len(), 2);
        assert_eq!(none.excluded_subtrees.len(), 2);
        let v4 = constraints(&hosts(&["relay.corp", "10.1.2.3"]));
        assert_eq!(
            v4.permitted_subtrees[1],
            GeneralSubtree::IpAddress(CidrSubnet::V4([10, 1, 2, 3], [0xff; 4]))
        );
        assert!(v4.excluded_subtrees.is_empty());
    }

    /// The files of a new authority, in a folder.
    pub(crate) fn written(folder: &Path, names: &BTreeSet<Host>) -> FilePaths {
        let Pem { root, issuer, issuer_key } = Authority::make(names, |_| Ok(())).unwrap();
        let at = |name: &str| folder.join(name);
        let paths =
            FilePaths { root: at("root.pem"), issuer: at("issuer.pem"), issuer_key: at("issuer.key") };
        fs::write(&paths.root, root).unwrap();
        fs::write(&paths.issuer, issuer).unwrap();
        write_private(&paths.issuer_key, issuer_key.0.as_bytes()).unwrap();
        paths
    }

    #[test]
    fn a_set_that_is_not_whole_or_does_not_belong_together_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let paths = written(folder.path(), &hosts(&["a.example"]));
        let (files, key) = (paths.files(), &paths.issuer_key);
        Authority::open(files).unwrap();
        fs::remove_file(key).unwrap();
        write_private(key, KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap();
        let fault = Authority::open(files).err().unwrap().to_string();
        assert!(fault.contains("is not the key of"), "{fault}");
        fs::remove_file(key).unwrap();
        let fault = Authority::open(files).err().unwrap().to_string();
        assert!(fault.contains("issuer.key is missing while"), "{fault}");
    }

    #[test]
    fn serial_numbers_are_positive_and_differ() {
        let (a, b) = (serial().unwrap().to_bytes(), serial().unwrap().to_bytes());
        assert_ne!(a, b);
        assert_eq!(a.len(), 16);
        assert!(a[0] & 0x80 == 0);
    }
}
