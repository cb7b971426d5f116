//! Checkpoints and their signatures, in formats that others can verify (C2SP signed-note and tlog-checkpoint, v1).
//!
//! A checkpoint is the log's origin, its size and the root over all its records; here also when it was made. The note
//! around it carries an Ed25519 signature, which `openssl` alone can check. Signature lines of others, witnesses say,
//! are passed over.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, io};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::merkle::Hash;
use crate::files::private::{pem, read_private, write_private};
use crate::files::regular::is_missing;
use crate::text::hex::hex;

/// The longest note that is read, in bytes; one of ours has about 250.
pub const MAX_NOTE: usize = 64 * 1024;

/// The newest checkpoint, below the log's folder.
pub const CHECKPOINT: &str = "checkpoint";
/// The folder of those that are kept.
pub const KEPT: &str = "checkpoints";
/// What a line of the program's own log with a checkpoint in it says before the note, which is in base64.
pub const LINE: &str = "audit checkpoint";

/// The type of a signature in C2SP signed-note: Ed25519.
const ED25519_TYPE: u8 = 1;
const DASH: &str = "\u{2014} ";
/// What stands before an Ed25519 key in X.509 (RFC 8410 §4).
const X509: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// How far a log had come at one time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Its records.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// When it was signed, by the relay's clock.
    pub time: Option<Timestamp>,
}

/// Signs checkpoints. It can't be printed.
pub struct Signer {
    pair: Ed25519KeyPair,
    /// What others verify with.
    pub verifier: Verifier,
}

/// Verifies checkpoints: the public key with its log's name. Written as C2SP writes it, `name+id+key`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verifier {
    /// The key's name, which is the log's origin.
    pub name: String,
    id: [u8; 4],
    key: [u8; 32],
}

/// Why a note is not a checkpoint of a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoteError {
    /// It is no signed note with a checkpoint.
    #[error("is no signed checkpoint")]
    Malformed,
    /// No line of it is by this key.
    #[error("is not signed with this log's key")]
    NotOurs,
    /// The signature is wrong.
    #[error("has a signature that does not match")]
    Forged,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct SigningKeyError {
    path: PathBuf,
    fault: String,
}

/// A text is no key for verifying.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("is no key for verifying (name+id+key, as in log.json)")]
pub struct NoVerifier;

impl Checkpoint {
    /// What is signed.
    fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root));
        if let Some(time) = self.time {
            text.push_str(&format!("time {time:.6}\n"));
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let canonical = size == "0" || !size.starts_with(['0', '+']);
        let root = STANDARD.decode(root).ok()?.try_into().ok()?;
        let mut time = None;
        for line in lines {
            if line.is_empty() {
                return None;
            }
            time = time.or_else(|| line.strip_prefix("time ")?.parse().ok());
        }
        let size = size.parse().ok().filter(|_| canonical)?;
        (!origin.is_empty()).then(|| Self { origin: origin.to_owned(), size, root, time })
    }
}

impl Signer {
    /// As [`load`](Self::load); a key that is not there is made.
    ///
    /// # Errors
    /// As [`load`](Self::load), or it can't be made.
    pub fn open_or_make(path: &Path, origin: &str) -> Result<Self, SigningKeyError> {
        if is_missing(path) {
            let made = match Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()) {
                // Version 1, which OpenSSL 3.0 reads: an auditor's own tools are the point of this key.
                Ok(key) => write_private(path, pem("PRIVATE KEY", key.as_ref()).as_bytes()),
                Err(_) => Err(io::Error::other("the system gives no random numbers")),
            };
            made.map_err(|e| SigningKeyError { path: path.to_owned(), fault: e.to_string() })?;
        }
        Self::load(path, origin)
    }

    /// Reads the key (PEM, PKCS #8) of the log with this origin.
    ///
    /// # Errors
    /// It can't be read, others may read it, or it is no Ed25519 key.
    pub fn load(path: &Path, origin: &str) -> Result<Self, SigningKeyError> {
        let fault = |fault: String| SigningKeyError { path: path.to_owned(), fault };
        let pem = read_private(path).map_err(|e| fault(e.to_string()))?;
        let no_key = || fault("holds no Ed25519 key (PEM, PKCS #8)".into());
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| no_key())?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_der()).map_err(|_| no_key())?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| no_key())?;
        Ok(Self { pair, verifier: Verifier::new(origin, key) })
    }

    /// A checkpoint as a signed note.
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        let text = checkpoint.text();
        let mut signature = self.verifier.id.to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n{DASH}{} {}\n", self.verifier.name, STANDARD.encode(signature))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl Verifier {
    fn new(name: &str, key: [u8; 32]) -> Self {
        let named = [name.as_bytes(), b"\n", &[ED25519_TYPE], &key].concat();
        let mut id = [0; 4];
        id.copy_from_slice(&digest(&SHA256, &named).as_ref()[..4]);
        Self { name: name.to_owned(), id, key }
    }

    /// The checkpoint of a note that is signed with this key.
    ///
    /// # Errors
    /// It isn't.
    pub fn open(&self, note: &[u8]) -> Result<Checkpoint, NoteError> {
        let (text, lines) = split(note).ok_or(NoteError::Malformed)?;
        let ours = lines.iter().find_map(|line| {
            let (name, signature) = line.strip_prefix(DASH)?.split_once(' ')?;
            let signature = STANDARD.decode(signature).ok()?;
            (name == self.name && signature.starts_with(&self.id)).then_some(signature)
        });
        let signature = ours.ok_or(NoteError::NotOurs)?;
        let key = ParsedPublicKey::new(&ED25519, self.key).map_err(|_| NoteError::Forged)?;
        key.verify_sig(text.as_bytes(), &signature[4..]).map_err(|_| NoteError::Forged)?;
        let checkpoint = Checkpoint::parse(&text).ok_or(NoteError::Malformed)?;
        if checkpoint.origin == self.name { Ok(checkpoint) } else { Err(NoteError::NotOurs) }
    }

    /// The key as `openssl` reads it.
    pub fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.x509()).to_string()
    }

    /// SHA-256 over the key's DER, in hex: short enough to be read out, and what others show for such a key.
    pub fn fingerprint(&self) -> String {
        hex(digest(&SHA256, &self.x509()).as_ref())
    }

    fn x509(&self) -> Vec<u8> {
        [X509.as_slice(), &self.key].concat()
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id);
        let key = STANDARD.encode([&[ED25519_TYPE], self.key.as_slice()].concat());
        write!(f, "{}+{id:08x}+{key}", self.name)
    }
}

impl FromStr for Verifier {
    type Err = NoVerifier;

    fn from_str(text: &str) -> Result<Self, NoVerifier> {
        // Base64 has a + of its own: only the first two part the fields.
        let mut fields = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(NoVerifier);
        };
        let key = STANDARD.decode(key).map_err(|_| NoVerifier)?;
        let [ED25519_TYPE, key @ ..] = key.as_slice() else { return Err(NoVerifier) };
        let verifier = Self::new(name, key.try_into().map_err(|_| NoVerifier)?);
        let same = format!("{:08x}", u32::from_be_bytes(verifier.id)) == id;
        if same && is_name(name) { Ok(verifier) } else { Err(NoVerifier) }
    }
}

/// Whether a log may be called so: its key's name, which C2SP wants without spaces and plus signs.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

/// The file of a log's newest checkpoint in an anchor, which may be that of several logs.
pub fn anchor_name(origin: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    format!("{}.note", origin.chars().map(plain).collect::<String>())
}

/// The note in a line of a program's own log: behind [`LINE`], in base64.
pub fn in_line(line: &[u8]) -> Option<Vec<u8>> {
    let (_, note) = std::str::from_utf8(line).ok()?.split_once(LINE)?;
    let end = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='));
    STANDARD.decode(note.trim_start().split(end).next()?).ok()
}

/// The signed text of a note, with its last line feed, and the lines behind it.
fn split(note: &[u8]) -> Option<(String, Vec<&str>)> {
    let note = std::str::from_utf8(note).ok().filter(|note| note.len() <= MAX_NOTE)?;
    if note.chars().any(|c| c < ' ' && c != '\n') {
        return None;
    }
    let (text, lines) = note.rsplit_once("\n\n")?;
    Some((format!("{text}\n"), lines.strip_suffix('\n')?.split('\n').collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> (tempfile::TempDir, Signer) {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::open_or_make(&folder.path().join("log.key"), "license-relay/test").unwrap();
        (folder, signer)
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: "license-relay/test".into(),
            size: 20852163,
            root: [7; 32],
            time: Some("2026-11-25T08:30:00.5Z".parse().unwrap()),
        }
    }

    #[test]
    fn the_example_of_the_standard_verifies_and_a_changed_one_does_not() {
        // C2SP signed-note v1, "Example".
        let key: Verifier =
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
        let note = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n\n\
            \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        // Its signature is right, and it is no checkpoint.
        assert_eq!(key.open(note.as_bytes()), Err(NoteError::Malformed));
        assert_eq!(key.open(note.replace("answer", "question").as_bytes()), Err(NoteError::Forged));
        assert_eq!(key.to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_signed_and_by_others_too() {
        let (_folder, signer) = signer();
        let note = signer.sign(&checkpoint());
        assert_eq!(signer.verifier.open(note.as_bytes()), Ok(checkpoint()));
        let text = signer.verifier.to_string();
        assert_eq!(text.parse(), Ok(signer.verifier));

        let verifier = signed_note::StandardVerifier::new(&text).unwrap();
        let theirs = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
        let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        assert_eq!(theirs.verify(&known).unwrap().0.len(), 1);
        let theirs = tlog_tiles::Checkpoint::from_bytes(theirs.text()).unwrap();
        assert_eq!(
            (theirs.origin(), theirs.size(), theirs.hash().0),
            ("license-relay/test", 20852163, [7; 32])
        );
    }

    #[test]
    fn a_line_of_a_witness_is_passed_over_and_no_bit_of_the_rest_may_change() {
        let (_folder, signer) = signer();
        let note = signer.sign(&checkpoint());
        let witnessed = format!("{note}\u{2014} witness.example/w1 {}\n", STANDARD.encode([1; 80]));
        assert_eq!(signer.verifier.open(witnessed.as_bytes()), Ok(checkpoint()));
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut bent = note.clone().into_bytes();
                bent[at] ^= 1 << bit;
                assert!(signer.verifier.open(&bent).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn what_is_no_note_and_what_is_no_key_is_refused() {
        let (_folder, signer) = signer();
        let long = "x".repeat(MAX_NOTE + 1);
        for bad in ["", "\n", "\n\n", "a\n\n\u{2014} b c\n", "a\n1\n\n", long.as_str()] {
            assert!(signer.verifier.open(bad.as_bytes()).is_err(), "{bad:.20}");
        }
        for bad in [
            "",
            "a",
            "a+b+c",
            "a+00000000+AQ==",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert_eq!(bad.parse::<Verifier>(), Err(NoVerifier), "{bad}");
        }
        for text in ["a\n01\nAA==\n", "a\n+1\n", "\n1\n", "a\n1\nAA==\n"] {
            assert_eq!(Checkpoint::parse(text), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, text: String) {
            let (_folder, signer) = signer();
            let _ = signer.verifier.open(&bytes);
            let _ = text.parse::<Verifier>();
            let _ = Checkpoint::parse(&text);
        }
    }
}
