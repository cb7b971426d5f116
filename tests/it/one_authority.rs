//! The authority can do one thing. Every client refuses what it may not sign, because of its constraints;
//! no key of the root is left; and the profile is one that the strictest clients take.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::PublicKeyData;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::*;

use crate::common::clients::*;
use crate::common::*;

const DAY: i64 = 24 * 3600;
const OWN: [&str; 4] = ["localhost", "relay.corp.example", "127.0.0.1", "::1"];
/// Those that a client can name in its ClientHello. BoringSSL refuses a leaf with an address below name constraints.
const NAMES: [&str; 2] = ["localhost", "relay.corp.example"];

fn openssl(arguments: &[&str]) -> Command {
    let mut command = tool("openssl", "openssl");
    command.args(arguments);
    command
}

/// A relay with two names and an address of each family.
fn well_known() -> (Stub, Relay, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let own = "hostnames = [\"localhost\", \"relay.corp.example\", \"127.0.0.1\", \"::1\"]";
    let relay = Plan::new(&stub).with("hostnames = [\"localhost\", \"127.0.0.1\"]", own).start();
    (stub, relay, folder)
}

/// The chain that is sent to a client with this SNI (none where it is empty) and these `s_client` arguments.
fn sent(relay: &Relay, sni: &str, more: &[&str]) -> Vec<CertificateDer<'static>> {
    let address = relay.address.to_string();
    let mut command = openssl(&["s_client", "-connect", &address, "-showcerts"]);
    match sni {
        "" => command.arg("-noservername"),
        name => command.args(["-servername", name]),
    };
    let output = run(command.args(more));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&output.stdout).collect();
    chain.unwrap()
}

/// The two leaves, each over both versions of TLS.
const LEAVES: [(&str, &[&str]); 4] = [
    ("1.2.840.10045.2.1", &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]),
    ("1.2.840.113549.1.1.1", &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]),
    ("1.2.840.10045.2.1", &["-tls1_3", "-sigalgs", "ECDSA+SHA256"]),
    ("1.2.840.113549.1.1.1", &["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"]),
];

fn parsed<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    X509Certificate::from_der(der).unwrap().1
}

fn write_pem(path: &Path, chain: &[CertificateDer<'_>]) {
    let pem: String = chain.iter().map(|der| pem_of(der)).collect();
    fs::write(path, pem).unwrap();
}

fn pem_of(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// `openssl verify -x509_strict`, with the chain's other certificates as they were sent.
fn verify(root: &Path, chain: &Path, name: &str) -> (bool, String) {
    let mut command =
        openssl(&["verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-no-CAstore"]);
    command.arg("-CAfile").arg(root).arg("-untrusted").arg(chain);
    match name.parse::<IpAddr>() {
        Ok(_) => command.args(["-verify_ip", name]),
        Err(_) => command.args(["-verify_hostname", name]),
    };
    said(command.arg(chain))
}

#[test]
fn openssl_strictly_accepts_both_leaves_for_each_name() {
    let (_stub, relay, folder) = well_known();
    let chain_file = folder.path().join("chain.pem");
    for (algorithm, arguments) in LEAVES {
        for (sni, names) in [(HOST, &[HOST][..]), ("relay.corp.example", &NAMES), ("", &OWN)] {
            let chain = sent(&relay, sni, arguments);
            assert_eq!(chain.len(), 2, "leaf and issuer, and not the root: {sni} {arguments:?}");
            assert_eq!(
                parsed(&chain[0]).public_key().algorithm.algorithm.to_string(),
                algorithm,
                "{arguments:?}"
            );
            write_pem(&chain_file, &chain);
            for name in names {
                let (accepted, words) = verify(&relay.root(), &chain_file, name);
                assert!(accepted, "{name} {arguments:?}: {words}");
            }
            let (accepted, _) = verify(&relay.root(), &chain_file, "evil.example");
            assert!(!accepted, "{sni} {arguments:?} is good for any name");
        }
    }
}

#[test]
fn the_profile_is_one_that_every_client_takes() {
    let (_stub, relay, _folder) = well_known();
    let root_der = CertificateDer::from_pem_file(relay.root()).unwrap();
    let root = parsed(&root_der);
    for (sni, names) in [(HOST, &[HOST][..]), ("localhost", &NAMES), ("", &OWN)] {
        for (_, arguments) in LEAVES {
            let chain = sent(&relay, sni, arguments);
            let (leaf, issuer) = (parsed(&chain[0]), parsed(&chain[1]));
            assert_leaf(&leaf, names);
            assert_eq!(authority_key(&leaf), subject_key(&issuer));
            assert_eq!(authority_key(&issuer), subject_key(&root));
            assert!(subject_key(&leaf).is_some());
            for (certificate, path_length) in [(&issuer, 0), (&root, 1)] {
                assert_authority(certificate, path_length);
            }
            assert!(leaf.validity().not_after <= issuer.validity().not_after);
        }
    }
}

fn assert_leaf(leaf: &X509Certificate<'_>, names: &[&str]) {
    assert_serial(leaf);
    let (from, to) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    assert!(to - from <= 90 * DAY, "{} days", (to - from) / DAY);
    assert!(ASN1Time::now().timestamp() - from >= DAY, "not back-dated");
    assert!(!leaf.is_ca());
    let usage = leaf.key_usage().unwrap().expect("keyUsage");
    assert!(usage.value.digital_signature() && !usage.value.key_cert_sign());
    let purposes = leaf.extended_key_usage().unwrap().expect("extendedKeyUsage").value;
    assert!(purposes.server_auth && !purposes.client_auth && !purposes.any && purposes.other.is_empty());
    let listed: Vec<String> = leaf
        .subject_alternative_name()
        .unwrap()
        .expect("SAN")
        .value
        .general_names
        .iter()
        .map(general_name)
        .collect();
    assert_eq!(listed, names, "exactly these names");
    assert!(leaf.subject().iter_common_name().next().is_none(), "names stand in the SAN alone");
}

fn assert_authority(certificate: &X509Certificate<'_>, path_length: u32) {
    assert_serial(certificate);
    let basic = certificate.basic_constraints().unwrap().expect("basicConstraints");
    assert!(basic.critical && basic.value.ca);
    assert_eq!(basic.value.path_len_constraint, Some(path_length));
    let usage = certificate.key_usage().unwrap().expect("keyUsage");
    assert!(usage.critical && usage.value.key_cert_sign() && !usage.value.digital_signature());
    assert!(subject_key(certificate).is_some());
    let from = certificate.validity().not_before.timestamp();
    assert!(ASN1Time::now().timestamp() - from >= DAY, "not back-dated");

    let constraints = certificate.name_constraints().unwrap().expect("nameConstraints");
    assert!(constraints.critical);
    let mut permitted = subtrees(constraints.value.permitted_subtrees.as_deref());
    permitted.sort();
    let mut expected = vec![
        HOST.to_owned(),
        "localhost".into(),
        "relay.corp.example".into(),
        "127.0.0.1/255.255.255.255".into(),
        "::1/ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".into(),
    ];
    expected.sort();
    assert_eq!(permitted, expected);
    assert!(
        subtrees(constraints.value.excluded_subtrees.as_deref()).is_empty(),
        "both families have an address"
    );
}

fn assert_serial(certificate: &X509Certificate<'_>) {
    let serial = certificate.raw_serial();
    assert!(serial[0] & 0x80 == 0, "negative serial {}", certificate.raw_serial_as_string());
    assert!((8..=20).contains(&serial.len()), "serial {}", certificate.raw_serial_as_string());
}

fn authority_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => Some(id.key_identifier.as_ref()?.0),
        _ => None,
    })
}

fn subject_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

fn subtrees(subtrees: Option<&[GeneralSubtree<'_>]>) -> Vec<String> {
    subtrees.unwrap_or_default().iter().map(|subtree| general_name(&subtree.base)).collect()
}

/// A DNS name as it is; an address, or an address and its mask.
fn general_name(name: &GeneralName<'_>) -> String {
    let address = |bytes: &[u8]| -> IpAddr {
        match <[u8; 4]>::try_from(bytes) {
            Ok(octets) => octets.into(),
            Err(_) => <[u8; 16]>::try_from(bytes).unwrap().into(),
        }
    };
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) if matches!(bytes.len(), 4 | 16) => address(bytes).to_string(),
        GeneralName::IPAddress(bytes) => {
            let (network, mask) = bytes.split_at(bytes.len() / 2);
            format!("{}/{}", address(network), address(mask))
        }
        other => panic!("a name of another kind: {other:?}"),
    }
}

#[test]
fn without_an_address_both_families_are_excluded_whole() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let hostnames = "hostnames = [\"localhost\", \"127.0.0.1\"]";
    let none = ["0.0.0.0/0.0.0.0", "::/::"];
    for (own, excluded) in [("localhost", &none[..]), ("localhost\", \"127.0.0.1", &[])] {
        let relay = Plan::new(&stub).with(hostnames, &format!("hostnames = [\"{own}\"]"));
        relay.write();
        let made = run(program().args(["ca", "init", "--config"]).arg(relay.path("relay.toml")));
        assert!(made.status.success(), "{}", text(&made));
        for file in ["certs/root.pem", "certs/issuer.pem"] {
            let der = CertificateDer::from_pem_file(relay.path(file)).unwrap();
            let certificate = parsed(&der);
            let constraints = certificate.name_constraints().unwrap().unwrap();
            assert_eq!(subtrees(constraints.value.excluded_subtrees.as_deref()), excluded, "{file}");
        }
    }
}

#[test]
fn serial_numbers_are_new_at_each_start_and_the_authority_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let certs = folder.path().join("certs").display().to_string();
    let start = || Plan::new(&stub).with("= \"certs/", &format!("= \"{certs}/")).start();
    let mut seen = std::collections::BTreeSet::new();
    let look = |relay: &Relay| -> (Vec<String>, String) {
        let chains: Vec<_> = LEAVES[2..].iter().map(|(_, arguments)| sent(relay, HOST, arguments)).collect();
        let leaves = chains.iter().map(|chain| parsed(&chain[0]).raw_serial_as_string()).collect();
        (leaves, parsed(&chains[0][1]).raw_serial_as_string())
    };
    let relay = start();
    assert!(relay.greeting.contains("made just now"), "{}", relay.greeting);
    let (leaves, issuer) = look(&relay);
    seen.extend(leaves);
    assert!({ relay }.stop().success());
    let relay = start();
    let (leaves, same_issuer) = look(&relay);
    seen.extend(leaves);
    assert_eq!(issuer, same_issuer);
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(!relay.greeting.contains("made just now"), "{}", relay.greeting);
}

// === what the authority can't do ===

/// A chain with its key: a leaf for this name, signed with the relay's own issuer by whoever stole its key.
struct Forged {
    chain: PathBuf,
    key: PathBuf,
    name: &'static str,
}

fn forge(relay: &Relay, folder: &Path, name: &'static str) -> Forged {
    let at = |what: &str| folder.join(format!("{name}.{what}"));
    let kind = if name.parse::<IpAddr>().is_ok() { "IP" } else { "DNS" };
    let extensions = format!(
        "subjectAltName={kind}:{name}\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
         extendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always\n"
    );
    fs::write(at("extensions"), extensions).unwrap();
    let mut request = openssl(&["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    request.args(["-subj", "/O=forged", "-keyout"]).arg(at("key")).arg("-out").arg(at("request"));
    assert!(run(&mut request).status.success());
    let mut sign = openssl(&["x509", "-req", "-days", "20", "-CAcreateserial"]);
    sign.arg("-CAserial")
        .arg(at("serial"))
        .arg("-in")
        .arg(at("request"))
        .arg("-extfile")
        .arg(at("extensions"));
    sign.arg("-CA").arg(relay.path("certs/issuer.pem")).arg("-CAkey").arg(relay.path("certs/issuer.key"));
    let (signed, words) = said(sign.arg("-out").arg(at("leaf")));
    assert!(signed, "{words}");
    let chain = [fs::read(at("leaf")).unwrap(), fs::read(relay.path("certs/issuer.pem")).unwrap()].concat();
    fs::write(at("chain"), chain).unwrap();
    Forged { chain: at("chain"), key: at("key"), name }
}

/// The true name first, as proof that nothing but the name is wrong with the others.
fn forgeries() -> (Relay, Vec<Forged>, tempfile::TempDir, Stub) {
    let (stub, relay, folder) = pair();
    let names = [HOST, "evil.example", "10.9.9.9", "2001:db8::9"];
    let forged = names.map(|name| forge(&relay, folder.path(), name));
    (relay, forged.into(), folder, stub)
}

/// One line a chain: the first is accepted, the others are refused in words that name the constraint.
fn assert_refused_by_constraint(words: &str, because: &str) {
    let lines: Vec<&str> = words.lines().collect();
    assert_eq!(lines.len(), 4, "{words}");
    assert_eq!(lines[0], "accepted", "{words}");
    for line in &lines[1..] {
        assert!(line.starts_with("refused:") && line.contains(because), "{words}");
    }
}

#[test]
fn openssl_refuses_what_the_issuer_may_not_sign() {
    let (relay, forged, _folder, _stub) = forgeries();
    for Forged { chain, name, .. } in &forged {
        let (accepted, words) = verify(&relay.root(), chain, name);
        match *name {
            HOST => assert!(accepted, "{words}"),
            _ => assert!(!accepted && words.contains("permitted subtree violation"), "{name}: {words}"),
        }
    }
}

#[test]
fn go_refuses_what_the_issuer_may_not_sign() {
    let (relay, forged, folder, _stub) = forgeries();
    let real = folder.path().join("real.pem");
    write_pem(&real, &sent(&relay, HOST, LEAVES[2].1));
    let mut command = Command::new(go("goverify"));
    command.arg(relay.root());
    for Forged { chain, name, .. } in &forged {
        command.arg(chain).arg(name);
    }
    let (_, words) = said(&mut command);
    assert_refused_by_constraint(&words, "is not permitted by any constraint");
    let (_, words) = said(Command::new(go("goverify")).arg(relay.root()).arg(real).arg(HOST));
    assert_eq!(words.trim(), "accepted");
}

#[test]
fn java_refuses_what_the_issuer_may_not_sign() {
    let (relay, forged, folder, _stub) = forgeries();
    let (real, own) = (folder.path().join("real.pem"), folder.path().join("own.pem"));
    write_pem(&real, &sent(&relay, HOST, LEAVES[2].1));
    write_pem(&own, &sent(&relay, "localhost", LEAVES[2].1));
    let mut command = java("Verify");
    command.arg(relay.root()).args(forged.iter().map(|forged| &forged.chain)).args([&real, &own]);
    let (_, words) = said(&mut command);
    let (words, real) = words.split_at(words.match_indices('\n').nth(3).map_or(0, |(at, _)| at + 1));
    assert_eq!(real, "accepted\naccepted\n", "{words}");
    assert_refused_by_constraint(words, "name constraints");
}

#[test]
fn python_refuses_what_the_issuer_may_not_sign() {
    let (relay, forged, _folder, _stub) = forgeries();
    let mut command = tool("python3", "python3");
    let (_, words) = said(with_forged(command.arg(file("clients/verify.py")).arg(relay.root()), &forged));
    assert_refused_by_constraint(&words, "permitted subtree violation");
}

#[test]
fn node_refuses_what_the_issuer_may_not_sign() {
    let (relay, forged, _folder, _stub) = forgeries();
    let mut command = tool("node", "nodejs");
    let (_, words) = said(with_forged(command.arg(file("clients/verify.mjs")).arg(relay.root()), &forged));
    assert_refused_by_constraint(&words, "permitted subtree violation");
}

fn with_forged<'c>(command: &'c mut Command, forged: &[Forged]) -> &'c mut Command {
    for Forged { chain, key, name } in forged {
        command.arg(chain).arg(key).arg(name);
    }
    command
}

// === keys and files ===

#[test]
fn no_key_of_the_root_is_on_the_disk() {
    let (_stub, mut relay, _folder) = pair();
    let root_der = CertificateDer::from_pem_file(relay.root()).unwrap();
    let root_key = parsed(&root_der).public_key().raw.to_vec();
    assert!(relay.stop().success());
    let mut keys = Vec::new();
    for path in secrets::files(relay.folder.path()) {
        let bytes = fs::read(&path).unwrap();
        if !bytes.windows(11).any(|window| window == b"PRIVATE KEY") {
            continue;
        }
        let key = rcgen::KeyPair::from_pem(std::str::from_utf8(&bytes).unwrap()).unwrap();
        assert_ne!(key.subject_public_key_info(), root_key, "{} is the root's key", path.display());
        keys.push(path.strip_prefix(relay.folder.path()).unwrap().display().to_string());
    }
    keys.sort();
    assert_eq!(keys, ["certs/generations/1/issuer.key", "certs/log.key"]);
}

/// Nothing is written outside of the folders that the configuration names, not even for a moment.
#[test]
fn the_root_key_is_never_written_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub);
    plan.write();
    let trace = folder.path().join("trace");
    let options = ["-f", "-y", "-s", "4096", "-e", "trace=open,openat,creat,write,pwrite64,writev", "-o"];
    let Some(mut command) = strace(&options) else { return };
    command
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_license-relay"))
        .args(["ca", "init", "--config"])
        .arg(plan.path("relay.toml"));
    let output = run(&mut command);
    assert!(output.status.success(), "{}", text(&output));
    let trace = fs::read_to_string(trace).unwrap();
    let written: Vec<&str> = trace
        .lines()
        .filter(|line| ["O_WRONLY", "O_RDWR", "creat("].iter().any(|flag| line.contains(flag)))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    // In a folder that has a name which nobody can know before, and no other one until it is whole.
    assert_eq!(written, ["issuer.key", "issuer.pem", "root.pem", "made.json", "in-force"]);
    let beside = format!("{}/generations/.1.", plan.path("certs").display());
    let made = trace.lines().filter(|line| line.contains("O_CREAT") && line.contains(&format!("<{beside}")));
    assert_eq!(made.count(), 4, "{trace}");
    assert_eq!(trace.matches("PRIVATE KEY-----").count(), 2, "one key, its first and last line: {trace}");
}

#[test]
fn ca_init_show_and_export() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub);
    plan.write();
    let ca = |arguments: &[&str]| {
        run(program().arg("ca").args(arguments).arg("--config").arg(plan.path("relay.toml")))
    };
    for arguments in [&["show"][..], &["export"], &["export", "--der"]] {
        let early = ca(arguments);
        assert_eq!(early.status.code(), Some(78), "{arguments:?}: {}", text(&early));
        assert!(text(&early).contains("root.pem"), "{arguments:?}: {}", text(&early));
    }

    let made = ca(&["init"]);
    assert!(made.status.success() && text(&made).contains("root.pem: made\n"), "{}", text(&made));
    let mode = |file: &str| fs::metadata(plan.path(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("certs"), mode("certs/issuer.key"), mode("certs/root.pem")), (0o700, 0o600, 0o644));
    let root = fs::read(plan.path("certs/root.pem")).unwrap();
    let again = ca(&["init"]);
    assert!(again.status.success() && text(&again).contains("nothing changed"), "{}", text(&again));
    assert_eq!(fs::read(plan.path("certs/root.pem")).unwrap(), root);

    let exported = ca(&["export"]);
    assert_eq!((exported.status.code(), exported.stdout), (Some(0), root));
    let der = ca(&["export", "--der"]);
    let by_openssl = run(openssl(&["x509", "-outform", "DER", "-in"]).arg(plan.path("certs/root.pem")));
    assert_eq!((der.status.code(), der.stdout), (Some(0), by_openssl.stdout));

    let shown = ca(&["show"]);
    let by_openssl =
        run(openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(plan.path("certs/root.pem")));
    let fingerprint = text(&by_openssl).trim().rsplit('=').next().unwrap().to_owned();
    assert!(text(&shown).contains(&fingerprint), "{}", text(&shown));
    for name in ["root.pem", "issuer.pem", HOST, "localhost", "127.0.0.1"] {
        assert!(text(&shown).contains(name), "no {name}: {}", text(&shown));
    }

    let relay = plan.start();
    assert!(!relay.greeting.contains("made just now"), "{}", relay.greeting);
}

/// What is done to an authority, how, and the words that tell of it.
type Case<'c> = (&'c str, &'c dyn Fn(&Plan), &'c [&'c str]);

#[test]
fn an_authority_that_is_not_whole_or_not_fit_is_told_with_file_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let elsewhere = made(&stub);
    let cases: [Case<'_>; 10] = [
        (
            "another key",
            &|plan| {
                fs::copy(elsewhere.path("certs/issuer.key"), plan.path("certs/issuer.key")).unwrap();
            },
            &[
                "certs/issuer.key",
                "is not the key of",
                "certs/issuer.pem",
                "put the key that belongs to it there",
            ],
        ),
        (
            "another root",
            &|plan| {
                fs::copy(elsewhere.path("certs/root.pem"), plan.path("certs/root.pem")).unwrap();
            },
            &["certs/root.pem", "is not the root of", "certs/issuer.pem", "put the one that signed it there"],
        ),
        (
            "no root",
            &|plan| {
                make_plain(plan);
                fs::remove_file(plan.path("certs/root.pem")).unwrap();
            },
            &["certs/root.pem is missing while", "restore it"],
        ),
        (
            "no issuer",
            &|plan| {
                make_plain(plan);
                fs::remove_file(plan.path("certs/issuer.pem")).unwrap();
            },
            &["certs/issuer.pem is missing while", "restore it"],
        ),
        (
            "no key",
            &|plan| {
                make_plain(plan);
                fs::remove_file(plan.path("certs/issuer.key")).unwrap();
            },
            &["certs/issuer.key is missing while", "restore it"],
        ),
        (
            "an open key",
            &|plan| {
                fs::set_permissions(plan.path("certs/issuer.key"), fs::Permissions::from_mode(0o644)).unwrap()
            },
            &["certs/issuer.key", "is open to others than its owner", "chmod 600"],
        ),
        (
            "no certificate",
            &|plan| fs::write(plan.path("certs/issuer.pem"), "x").unwrap(),
            &["certs/issuer.pem", "holds no certificate in PEM"],
        ),
        (
            "no private key",
            &|plan| fs::write(plan.path("certs/issuer.key"), "x").unwrap(),
            &["certs/issuer.key", "holds no private key"],
        ),
        (
            "no generation",
            &|plan| fs::remove_dir_all(plan.path("certs/generations")).unwrap(),
            &["certs/root.pem: is gone", "no whole generation", "restore both"],
        ),
        (
            "no key in the generation",
            &|plan| fs::remove_file(plan.path("certs/generations/1/issuer.key")).unwrap(),
            &["certs/issuer.key is missing while", "restore it"],
        ),
    ];
    for (what, spoil, words) in cases {
        let plan = made(&stub);
        spoil(&plan);
        assert_refused(what, &plan, words);
    }
}

/// Puts the files themselves in the place of the links, as another PKI does.
fn make_plain(plan: &Plan) {
    for name in FILES {
        let path = plan.path("certs").join(name);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::remove_dir_all(plan.path("certs/generations")).unwrap();
}

const FILES: [&str; 3] = ["issuer.key", "issuer.pem", "root.pem"];

/// `ca init` of a plan.
fn init(plan: &Plan) -> Output {
    run(program().args(["ca", "init", "--config"]).arg(plan.path("relay.toml")))
}

#[test]
fn a_first_start_that_was_cut_off_anywhere_goes_on_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = made(&stub);
    let certs = plan.path("certs");
    let root = fs::read(certs.join("root.pem")).unwrap();
    // What is there, in the order in which it is made: the generation, `current`, then a link for each file.
    let links = ["generations/current", "issuer.key", "issuer.pem", "root.pem"];
    for cut in 0..=links.len() {
        for link in &links[cut..] {
            let _ = fs::remove_file(certs.join(link));
        }
        let check = run(program().args(["check", "--config"]).arg(plan.path("relay.toml")));
        ended(&check, 0, "fine");
        assert_eq!(
            links.iter().filter(|link| certs.join(link).exists()).count(),
            cut,
            "check changes something"
        );
        assert!(init(&plan).status.success());
        assert_eq!(fs::read(certs.join("root.pem")).unwrap(), root, "cut off after {cut} links");
    }
    // A generation that is not whole yet has no name.
    for name in links {
        fs::remove_file(certs.join(name)).unwrap();
    }
    fs::rename(certs.join("generations/1"), certs.join("generations/.1.0123456789abcdef.tmp")).unwrap();
    fs::remove_file(certs.join("generations/.1.0123456789abcdef.tmp/root.pem")).unwrap();
    let relay = plan.start();
    assert!(relay.greeting.contains("made just now"), "{}", relay.greeting);
    assert_ne!(fs::read(certs.join("root.pem")).unwrap(), root, "nobody can have had that root");
    assert_eq!(fs::read_dir(certs.join("generations")).unwrap().count(), 2);
}

#[test]
fn links_that_somebody_deleted_are_restored_by_a_start_and_no_root_is_made() {
    let (_stub, mut relay, _folder) = pair();
    let root = fs::read(relay.root()).unwrap();
    for gone in [&FILES[..], &FILES[..1], &FILES[2..]] {
        assert!(relay.stop().success());
        for name in gone {
            fs::remove_file(relay.path("certs").join(name)).unwrap();
        }
        assert_eq!(relay.verb(&["ca", "export"]).stdout, root, "{gone:?}");
        relay = relay.again();
        assert!(!relay.greeting.contains("made just now"), "{}", relay.greeting);
        assert_eq!(fs::read(relay.root()).unwrap(), root, "{gone:?}");
    }
    // Several generations, and nothing says which is in force: no guess, and no new root.
    assert!(relay.verb(&["ca", "rotate"]).status.success());
    assert!(relay.stop().success());
    fs::remove_file(relay.path("certs/generations/current")).unwrap();
    let said = all_said(&relay.verb(&["check"]));
    assert!(said.contains("there are several (1, 2)") && said.contains("ln -s NUMBER"), "{said}");
    ended(&relay.verb(&["ca", "init"]), 78, "there are several");
    std::os::unix::fs::symlink("1", relay.path("certs/generations/current")).unwrap();
    assert_eq!(fs::read(relay.again().root()).unwrap(), root);
}

#[test]
fn a_link_that_somebody_turned_to_an_older_generation_is_told_with_those_that_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = made(&stub);
    let ca = |arguments: &[&str]| {
        run(program().arg("ca").args(arguments).arg("--config").arg(plan.path("relay.toml")))
    };
    ended(&ca(&["rotate"]), 0, "");
    ended(&ca(&["rotate", "--finish"]), 0, "");
    let (certs, current) = (plan.path("certs"), plan.path("certs/generations/current"));
    let root = fs::read(certs.join("root.pem")).unwrap();
    fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink("1", &current).unwrap();
    for gone in FILES {
        for verb in [&["status"][..], &["init"], &["rotate"]] {
            ended(&ca(verb), 78, "leads to generation 1, of which files are gone");
            ended(&ca(verb), 78, "whole (2) into force");
        }
        fs::remove_file(certs.join(gone)).unwrap();
    }
    fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink("2", &current).unwrap();
    ended(&ca(&["init"]), 0, "");
    assert_eq!(fs::read(certs.join("root.pem")).unwrap(), root);
}

#[test]
fn a_copy_that_has_followed_links_serves_and_is_rotated_once_its_current_is_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = made(&stub);
    let (certs, copy) = (plan.path("certs"), plan.path("copy"));
    ended(&run(tool("cp", "coreutils").arg("-rL").args([&certs, &copy])), 0, "");
    fs::remove_dir_all(&certs).unwrap();
    fs::rename(&copy, &certs).unwrap();
    let mut relay = plan.start();
    for _ in 0..2 {
        ended(&relay.verb(&["ca", "rotate"]), 78, "generations/current: is no link");
    }
    let keys = run(tool("find", "findutils").arg(&certs).args(["-name", "issuer.key"]));
    assert_eq!(text(&keys).lines().count(), 3, "a verb that failed has copied the key: {}", text(&keys));
    fs::rename(certs.join("generations/current"), certs.join("moved")).unwrap();
    ended(&relay.verb(&["ca", "rotate"]), 0, "in force");
    assert!(relay.stop().success());
}

#[test]
fn an_abort_takes_nothing_away_where_the_old_issuer_can_not_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = made(&stub);
    let rotate = |more: &[&str]| {
        run(program().args(["ca", "rotate", "--config"]).arg(plan.path("relay.toml")).args(more))
    };
    ended(&rotate(&[]), 0, "");
    let old = fs::read(plan.path("certs/root.pem")).unwrap();
    fs::write(plan.path("certs/generations/1/root.pem"), "").unwrap();
    ended(&rotate(&["--abort"]), 78, "holds no certificate in PEM");
    assert!(plan.path("certs/generations/2/issuer.key").exists());
    fs::write(plan.path("certs/generations/1/root.pem"), old).unwrap();
    ended(&rotate(&["--abort"]), 0, "are taken away");
    // What lies in the way of tidying up is named.
    fs::write(plan.path("certs/generations/7"), "").unwrap();
    ended(&rotate(&[]), 78, "certs/generations/7: Not a directory");
}

#[test]
fn the_roots_key_is_kept_where_nothing_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub);
    plan.write();
    let keep = |name: &str| {
        let mut init = program();
        init.args(["ca", "init", "--config"]).arg(plan.path("relay.toml")).arg("--root-key");
        run(init.arg(plan.path(name)))
    };
    for name in FILES {
        ended(&keep(&format!("certs/{name}")), 78, &format!("{name}: is the place of a file of tls.root"));
        assert!(!plan.path("certs").join(name).exists());
    }
    fs::write(plan.path("mine"), "mine").unwrap();
    ended(&keep("mine"), 64, "mine is there already, and is not replaced; name another file");
    ended(&keep("root.key"), 0, "root.key: the root's key; take it off this machine now");
    assert!(fs::read_to_string(plan.path("root.key")).unwrap().contains("PRIVATE KEY"));
}

#[test]
fn a_secret_that_lies_beside_a_certificate_is_neither_exported_nor_copied() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = made(&stub);
    let root = fs::read(plan.path("certs/root.pem")).unwrap();
    make_plain(&plan);
    for name in ["root.pem", "issuer.pem"] {
        let path = plan.path("certs").join(name);
        let combined = [
            "a note with a secret\n".as_bytes(),
            &fs::read(&path).unwrap(),
            &fs::read(plan.path("certs/issuer.key")).unwrap(),
        ]
        .concat();
        fs::write(&path, combined).unwrap();
    }
    let ca = |verb| run(program().args(["ca", verb, "--config"]).arg(plan.path("relay.toml")));
    assert_eq!(ca("export").stdout, root);
    ended(&ca("rotate"), 0, "");
    for name in ["root.pem", "issuer.pem"] {
        let copied = fs::read_to_string(plan.path("certs/generations/1").join(name)).unwrap();
        assert!(copied.starts_with("-----BEGIN CERTIFICATE-----") && !copied.contains("KEY"), "{copied}");
    }
    assert_eq!(fs::read(plan.path("certs/root.pem")).unwrap(), root);
}

#[test]
fn a_copy_of_the_folder_leads_to_its_own_files_and_not_to_those_that_it_was_copied_from() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    // The way to the folder leads through another one, and neither the folder nor its parent is there before.
    let plan = Plan::new(&stub).with("\"certs/", "\"config/../tls/certs/");
    plan.write();
    fs::create_dir(plan.path("config")).unwrap();
    assert!(init(&plan).status.success());
    ended(&run(tool("cp", "coreutils").arg("-r").args([plan.path("tls"), plan.path("copy")])), 0, "");
    fs::remove_dir_all(plan.path("tls")).unwrap();
    for name in FILES {
        let path = plan.path("copy/certs").join(name);
        assert!(path.exists(), "{} leads to {:?}", path.display(), fs::read_link(&path));
    }
}

#[test]
fn several_at_once_make_one_authority() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    for _ in 0..5 {
        let plan = Plan::new(&stub);
        plan.write();
        let outputs: Vec<Output> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..4).map(|_| scope.spawn(|| init(&plan))).collect();
            running.into_iter().map(|init| init.join().unwrap()).collect()
        });
        let made = outputs.iter().filter(|output| text(output).contains("root.pem: made\n")).count();
        assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
        assert_eq!(
            (made, fs::read_dir(plan.path("certs/generations")).unwrap().count()),
            (1, 2),
            "{outputs:?}"
        );
    }
    let plan = Plan::new(&stub);
    plan.write();
    let mut beside = program().args(["ca", "init", "--config"]).arg(plan.path("relay.toml")).spawn().unwrap();
    let relay = plan.start();
    assert!(beside.wait().unwrap().success());
    assert_eq!(fs::read_dir(relay.path("certs/generations")).unwrap().count(), 2);
    assert_eq!(relay.curl(&[&format!("https://{HOST}/")]).status, 404);
}

#[test]
fn a_start_with_a_whole_authority_does_not_try_to_write_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    // The keys of the log are made, and so elsewhere.
    let plan = Plan::new(&stub).with("certs/subject.key", "subject.key").with("certs/log.key", "log.key");
    plan.write();
    assert!(init(&plan).status.success());
    let rotate = run(program().args(["ca", "rotate", "--config"]).arg(plan.path("relay.toml")));
    assert!(rotate.status.success(), "{rotate:?}");
    let trace = plan.path("trace");
    let calls = "trace=openat,mkdirat,mkdir,renameat,renameat2,rename,symlinkat,unlinkat,unlink,fchmod";
    // -D: the relay is our child, and strace watches it from beside.
    let Some(mut strace) = strace(&["-D", "-f", "-y", "-qq", "-e", calls, "-o"]) else { return };
    strace.arg(&trace);
    let mut relay = plan.start_under(strace);
    assert!(relay.stop().success());
    let trace = eventually("strace has written", || {
        fs::read_to_string(&trace).ok().filter(|trace| trace.contains("issuer.key"))
    });
    let is_change = |line: &&str| line.contains("/certs") && !line.contains("O_RDONLY");
    let changes: Vec<&str> = trace.lines().filter(is_change).collect();
    assert!(changes.is_empty(), "{changes:?}");
}

#[test]
fn what_root_makes_for_the_user_of_the_relay_is_that_users() {
    use std::os::unix::fs::{MetadataExt, chown};
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub);
    plan.write();
    if fs::metadata(plan.path("relay.toml")).unwrap().uid() != 0 {
        return skip::skipped("only root can give files away");
    }
    fs::create_dir(plan.path("certs")).unwrap();
    fs::set_permissions(plan.path("certs"), fs::Permissions::from_mode(0o750)).unwrap();
    chown(plan.path("certs"), Some(65534), Some(65534)).unwrap();
    assert!(init(&plan).status.success());
    let rotate = run(program().args(["ca", "rotate", "--config"]).arg(plan.path("relay.toml")));
    assert!(rotate.status.success(), "{rotate:?}");
    let found = run(tool("find", "findutils").arg(plan.path("certs")).args(["!", "-user", "65534"]));
    assert_eq!(text(&found), "", "of somebody else");
    // A key that is somebody else's is not copied for that user, who may have put a link to it there.
    let other = made(&stub);
    make_plain(&plan);
    for name in FILES {
        fs::remove_file(plan.path("certs").join(name)).unwrap();
        std::os::unix::fs::symlink(other.path("certs").join(name), plan.path("certs").join(name)).unwrap();
    }
    let rotate = || run(program().args(["ca", "rotate", "--config"]).arg(plan.path("relay.toml")));
    let _rotation = fs::remove_file(plan.path("certs/rotation.json"));
    ended(&rotate(), 74, "would be given to user 65534");
    assert!(!plan.path("certs/generations/1").exists());
    for name in FILES {
        chown(other.path("certs/generations/1").join(name), Some(65534), Some(65534)).unwrap();
    }
    ended(&rotate(), 0, "");
    let mode = |name: &str| fs::metadata(plan.path("certs/generations").join(name)).unwrap().mode() & 0o777;
    assert_eq!(
        (mode("."), mode("2"), mode("2/issuer.key"), mode("2/root.pem")),
        (0o750, 0o750, 0o600, 0o644)
    );
}

#[test]
fn a_backup_that_turns_the_link_back_costs_no_root_that_was_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = made(&stub);
    let copy = |from: &Path, to: &Path| {
        assert!(run(tool("cp", "coreutils").arg("-a").args([from, to])).status.success())
    };
    copy(&plan.path("certs"), &plan.path("backup"));
    for more in [&[][..], &["--finish"]] {
        let output =
            run(program().args(["ca", "rotate"]).args(more).arg("--config").arg(plan.path("relay.toml")));
        assert!(output.status.success(), "{}", text(&output));
    }
    let new = fs::read(plan.path("certs/root.pem")).unwrap();
    copy(&plan.path("backup/."), &plan.path("certs"));
    let relay = plan.start();
    assert_ne!(fs::read(relay.root()).unwrap(), new, "the backup is in force");
    let said = relay.stderr();
    assert!(said.contains("generation 1") && said.contains("ln -sfn 2"), "{said}");
    for name in ["root.pem", "issuer.pem", "issuer.key"] {
        assert!(
            relay.path("certs/generations/2").join(name).exists(),
            "{name} of a root that clients may trust"
        );
    }
    assert_eq!(fs::read(relay.path("certs/generations/2/root.pem")).unwrap(), new);
}

#[test]
fn a_name_that_the_issuer_was_not_made_for_is_told_with_file_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let own = "hostnames = [\"localhost\", \"127.0.0.1\"]";
    for (more, name) in [("\"relay.corp.example\"", "relay.corp.example"), ("\"10.1.2.3\"", "10.1.2.3")] {
        let plan = made(&stub).with(own, &format!("hostnames = [\"localhost\", {more}]"));
        let words = [&format!("may not sign for {name}"), "tls.issuer", "license-relay ca rotate"];
        assert_refused(name, &plan, &words);
    }
    // A name below one that is permitted is permitted.
    let plan = made(&stub).with(own, "hostnames = [\"relay.localhost\"]");
    plan.start();
}

/// A plan whose authority is made.
fn made(stub: &Stub) -> Plan {
    let plan = Plan::new(stub);
    plan.write();
    let output = init(&plan);
    assert!(output.status.success(), "{}", text(&output));
    plan
}

/// `serve` and `check` both end with 78 and say all of these words; nothing is changed by either.
fn assert_refused(what: &str, plan: &Plan, words: &[&str]) {
    let (status, serve) = plan.refuses_to_start();
    let check = run(program().args(["check", "--config"]).arg(plan.path("relay.toml")));
    assert_eq!((status.code(), check.status.code()), (Some(78), Some(78)), "{what}: {serve}{}", text(&check));
    for word in words {
        assert!(serve.contains(word), "{what}: no {word:?} in serve's {serve}");
        assert!(text(&check).contains(word), "{what}: no {word:?} in check's {}", text(&check));
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}
