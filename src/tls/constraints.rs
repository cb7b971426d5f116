//! What a CA certificate may really sign for: its name constraints (RFC 5280 §4.2.1.10), in words.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, GeneralSubtree};
use x509_parser::prelude::X509Certificate;

use super::authority::{self, AuthorityError};

/// The names and addresses that a certificate may sign for.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Reach {
    names: NameLimits,
    addresses: NameLimits,
}

/// What is said of one form of name. Nothing permitted means that all are.
#[derive(Debug, Default, Eq, PartialEq)]
struct NameLimits {
    permitted: Vec<String>,
    excluded: Vec<String>,
    are_all_excluded: bool,
}

impl Reach {
    /// Reads the constraints of a certificate; without any, it may sign for everything.
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        let Ok(Some(constraints)) = certificate.name_constraints() else { return Self::default() };
        let mut reach = Self::default();
        let trees = |trees: &Option<Vec<GeneralSubtree<'_>>>| -> Vec<(bool, String)> {
            trees.iter().flatten().filter_map(|tree| tree_in_words(&tree.base)).collect()
        };
        for (is_address, words) in trees(&constraints.value.permitted_subtrees) {
            reach.limits(is_address).permitted.push(words);
        }
        for (is_address, words) in trees(&constraints.value.excluded_subtrees) {
            reach.limits(is_address).excluded.push(words);
        }
        let all = ["0.0.0.0/0", "::/0"];
        let addresses = &mut reach.addresses;
        addresses.are_all_excluded =
            all.iter().all(|all| addresses.excluded.iter().any(|words| words == all));
        reach.names.are_all_excluded = reach.names.excluded.iter().any(String::is_empty);
        reach
    }

    /// Reads a PEM file.
    pub(super) fn of_pem(path: &Path) -> Result<Self, AuthorityError> {
        let der: CertificateDer<'static> = authority::read_certificate(path)?;
        authority::parse(path, &der).map(|certificate| Self::of(&certificate))
    }

    /// The names and addresses that are permitted by name.
    pub(super) fn permitted(&self) -> Vec<String> {
        self.names.permitted.iter().chain(&self.addresses.permitted).cloned().collect()
    }

    fn limits(&mut self, is_address: bool) -> &mut NameLimits {
        if is_address { &mut self.addresses } else { &mut self.names }
    }
}

/// For people: `a.example and names below it; addresses: none`.
impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("any name and any address (it has no name constraints)");
        }
        self.names.write(f, "names", " (and names below them)")?;
        f.write_str("; ")?;
        self.addresses.write(f, "addresses", "")
    }
}

impl NameLimits {
    fn write(&self, f: &mut fmt::Formatter<'_>, what: &str, more: &str) -> fmt::Result {
        if self.are_all_excluded {
            return write!(f, "{what}: none");
        }
        match self.permitted.as_slice() {
            [] => write!(f, "{what}: any")?,
            permitted => write!(f, "{what}: {}{more}", permitted.join(", "))?,
        }
        match self.excluded.as_slice() {
            [] => Ok(()),
            excluded => write!(f, ", but not {}", excluded.join(", ")),
        }
    }
}

/// A subtree in words, and whether it is one of addresses; other forms of name are of no interest to a server.
fn tree_in_words(name: &GeneralName<'_>) -> Option<(bool, String)> {
    match name {
        GeneralName::DNSName(name) => Some((false, (*name).to_owned())),
        GeneralName::IPAddress(bytes) => Some((true, network(bytes)?)),
        _ => None,
    }
}

/// `10.1.2.3` for a network of one address, `10.0.0.0/8` for others.
fn network(bytes: &[u8]) -> Option<String> {
    let (address, mask) = bytes.split_at(bytes.len() / 2);
    let of = |bytes: &[u8]| -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
    };
    let (address, mask) = (of(address)?, of(mask)?);
    match ipnet::ip_mask_to_prefix(mask) {
        Ok(prefix) if usize::from(prefix) == bytes.len() * 4 => Some(address.to_string()),
        Ok(prefix) => Some(format!("{address}/{prefix}")),
        Err(_) => Some(format!("{address} with the mask {mask}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rcgen::{CertificateParams, CidrSubnet, GeneralSubtree as Tree, KeyPair, NameConstraints};
    use x509_parser::prelude::FromDer;

    use super::*;
    use crate::config::names::Host;

    fn words(permitted: Vec<Tree>, excluded: Vec<Tree>) -> String {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        if !permitted.is_empty() || !excluded.is_empty() {
            params.name_constraints =
                Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Reach::of(&X509Certificate::from_der(certificate.der()).unwrap().1).to_string()
    }

    #[test]
    fn each_kind_of_constraint_has_its_words() {
        let name = |name: &str| Tree::DnsName(name.into());
        let v4 = |address, mask| Tree::IpAddress(CidrSubnet::V4(address, mask));
        let v6 = Tree::IpAddress(CidrSubnet::V6([0; 16], [0; 16]));
        assert_eq!(words(vec![], vec![]), "any name and any address (it has no name constraints)");
        assert_eq!(
            words(vec![name("a.example"), name("b.example")], vec![v4([0; 4], [0; 4]), v6]),
            "names: a.example, b.example (and names below them); addresses: none"
        );
        assert_eq!(
            words(
                vec![v4([10, 1, 2, 3], [255; 4]), v4([10, 0, 0, 0], [255, 0, 0, 0])],
                vec![name("c.example")]
            ),
            "names: any, but not c.example; addresses: 10.1.2.3, 10.0.0.0/8"
        );
    }

    #[test]
    fn what_an_authority_is_made_for_is_what_it_may_sign_for() {
        let folder = tempfile::tempdir().unwrap();
        let names: BTreeSet<Host> =
            ["a.example", "10.1.2.3"].iter().map(|name| name.parse().unwrap()).collect();
        let paths = authority::tests::written(folder.path(), &names);
        let expected: BTreeSet<String> = names.iter().map(Host::to_string).collect();
        for path in [&paths.root, &paths.issuer] {
            assert_eq!(
                Reach::of_pem(path).unwrap().permitted().into_iter().collect::<BTreeSet<_>>(),
                expected
            );
        }
    }
}
