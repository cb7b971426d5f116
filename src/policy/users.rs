//! Basic users: a file of names and password hashes, and checks that don't wait for one another.
//!
//! A hash takes about a tenth of a second to check, on purpose; so each pair is hashed once, off the workers, and a
//! bounded table of keyed digests remembers those that were right.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::identity::{CredentialFault, Unproven, User};
use super::limits::AddressLimits;
use crate::bounds;
use crate::config::model::Rate;
use relay_log::files::edit::Editing;
use relay_log::files::private::read_private;
use relay_log::files::regular::is_missing;

/// OWASP's count for PBKDF2-HMAC-SHA-256.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).unwrap();
/// More rounds than this in a file are a mistake that would keep a core busy for seconds.
const MOST_ROUNDS: u32 = 10_000_000;
const SCHEME: &str = "pbkdf2-sha256";
/// Pairs of one address that are not remembered as right: ten at once, then one in six seconds.
const ATTEMPTS: Rate = Rate {
    requests: NonZeroU32::new(10).unwrap(),
    per: Duration::from_secs(60),
    burst: NonZeroU32::new(10).unwrap(),
};

/// The users of the file, and what is remembered about them.
pub struct Users {
    hashes: HashMap<String, PasswordHash>,
    /// Digests of pairs that were right, under a key that lives as long as this table.
    right: Mutex<HashSet<[u8; 32]>>,
    key: hmac::Key,
    attempts: AddressLimits,
    /// Hashes that are checked at one time.
    at_once: Arc<Semaphore>,
    /// Places to wait for that.
    waiting: Semaphore,
}

/// A stored password: `pbkdf2-sha256$ROUNDS$SALT$HASH`, salt and hash in base64.
#[derive(Clone, Eq, PartialEq)]
pub struct PasswordHash {
    rounds: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

/// Gives a user a password, or takes the user out (`None`); other lines stay as they are. One edit at a time; the file is
/// replaced whole.
///
/// # Errors
/// It can't be read or written, or others may read it. `Ok(false)`: there was nobody to take out.
pub fn edit(path: &Path, name: &str, hash: Option<&PasswordHash>) -> io::Result<bool> {
    if hash.is_none() && is_missing(path) {
        return Ok(false);
    }
    let editing = Editing::begin(path)?;
    let text = match read_private(editing.target()) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Zeroizing::default(),
        Err(e) => return Err(e),
    };
    let mut was_there = false;
    let mut new = Zeroizing::new(String::new());
    for line in text.lines() {
        if line.split_once(':').is_some_and(|(user, _)| user.trim() == name) {
            was_there = true;
        } else {
            new.push_str(line);
            new.push('\n');
        }
    }
    if let Some(hash) = hash {
        new.push_str(&format!("{name}:{hash}\n"));
    } else if !was_there {
        return Ok(false);
    }
    editing.replace(new.as_bytes())?;
    Ok(true)
}

impl Users {
    /// Reads the file; no file, no users.
    ///
    /// # Errors
    /// It can't be read, others may read it, or a line is not `name:hash`; the line's number is told.
    pub fn load(path: &Path) -> io::Result<Self> {
        let text = match read_private(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Zeroizing::default(),
            Err(e) => return Err(e),
        };
        let mut hashes = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || {
                let words = format!("line {} is not name:{SCHEME}$rounds$salt$hash", at + 1);
                io::Error::new(io::ErrorKind::InvalidData, words)
            };
            let (name, hash) = line.split_once(':').ok_or_else(wrong)?;
            hashes.insert(name.to_owned(), PasswordHash::parse(hash).ok_or_else(wrong)?);
        }
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key)
            .map_err(|_| io::Error::other("the system gives no random numbers"))?;
        Ok(Self {
            hashes,
            right: Mutex::default(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            attempts: AddressLimits::new(ATTEMPTS),
            at_once: Arc::new(Semaphore::new(bounds::PASSWORDS_AT_ONCE)),
            waiting: Semaphore::new(bounds::PASSWORDS_WAITING),
        })
    }

    /// Whether there is a user of this name.
    pub fn has(&self, name: &str) -> bool {
        self.hashes.contains_key(name)
    }

    /// All of them, each as if the right password had been sent.
    #[cfg(feature = "report")]
    pub(super) fn all(&self) -> impl Iterator<Item = User> {
        self.hashes.iter().map(|(name, stored)| User::new(name.clone(), stored.clone()))
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether what a user has proved still holds: the user is there, and the password is the same.
    pub fn still(&self, user: &User) -> bool {
        self.hashes.get(&**user).is_some_and(|stored| user.stored() == Some(stored))
    }

    /// Checks the value of a `Proxy-Authorization` header (RFC 7617).
    ///
    /// # Errors
    /// It proves nobody.
    pub async fn check(&self, header: &[u8], address: IpAddr) -> Result<User, Unproven> {
        let pair = BasicCredentials::read(header);
        // Of another scheme nothing is looked at, so nothing is tried.
        if let Err(unproven @ Unproven { why: CredentialFault::Scheme(_), .. }) = pair {
            return Err(unproven);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(&self.key, header).as_ref());
        if let Ok(BasicCredentials { user, .. }) = &pair
            && let Some(stored) = self.hashes.get(user)
            && self.right.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest)
        {
            return Ok(User::new(user.clone(), stored.clone()));
        }
        let tried = match &pair {
            Ok(BasicCredentials { user, .. }) => Some(user.clone()),
            Err(unproven) => unproven.tried.clone(),
        };
        let unproven = |why| Err(Unproven { why, tried });
        if !self.hashes.is_empty()
            && let Err(wait) = self.attempts.check(address)
        {
            return unproven(CredentialFault::TooMany(wait));
        }
        let BasicCredentials { user, password } = match pair {
            Ok(pair) => pair,
            Err(Unproven { why, .. }) => return unproven(why),
        };
        let encoded = looks_encoded(&user) || looks_encoded(&password);
        if self.hashes.is_empty() {
            return unproven(CredentialFault::UnknownUser { encoded });
        }
        // A user that isn't there costs as much as one that is: names can't be told apart by the clock.
        let known = self.hashes.get(&user).cloned();
        let stored = known.clone().unwrap_or_else(PasswordHash::of_nobody);
        let Ok(waits) = self.waiting.try_acquire() else { return unproven(CredentialFault::Busy) };
        let Ok(Ok(place)) = timeout(bounds::PASSWORD_WAIT, self.at_once.clone().acquire_owned()).await else {
            return unproven(CredentialFault::Busy);
        };
        drop(waits);
        let check = move || {
            // Given back by the check itself, which goes on where nobody waits for it any more.
            let _place = place;
            stored.is_of(&password)
        };
        let right = tokio::task::spawn_blocking(check).await.unwrap_or(false);
        let stored = match known {
            Some(stored) if right => stored,
            Some(_) => return unproven(CredentialFault::WrongPassword { encoded }),
            None => return unproven(CredentialFault::UnknownUser { encoded }),
        };
        let mut remembered = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= bounds::REMEMBERED_PASSWORDS {
            remembered.clear();
        }
        remembered.insert(digest);
        Ok(User::new(user, stored))
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("users", &self.hashes.len()).finish_non_exhaustive()
    }
}

impl PasswordHash {
    /// Hashes a password with a fresh salt; `None` where the system gives no random numbers.
    pub fn new(password: &str) -> Option<Self> {
        let mut salt = vec![0; 16];
        aws_lc_rs::rand::fill(&mut salt).ok()?;
        let mut hash = vec![0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, &salt, password.as_bytes(), &mut hash);
        Some(Self { rounds: ROUNDS, salt, hash })
    }

    /// Reads a stored one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('$');
        let (scheme, rounds, salt, hash) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let rounds = rounds.parse().ok().filter(|rounds: &NonZeroU32| rounds.get() <= MOST_ROUNDS)?;
        let parsed = Self { rounds, salt: STANDARD.decode(salt).ok()?, hash: STANDARD.decode(hash).ok()? };
        (scheme == SCHEME && parts.next().is_none() && parsed.hash.len() == 32).then_some(parsed)
    }

    fn of_nobody() -> Self {
        Self { rounds: ROUNDS, salt: vec![0; 16], hash: vec![0; 32] }
    }

    fn is_of(&self, password: &str) -> bool {
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::verify(algorithm, self.rounds, &self.salt, password.as_bytes(), &self.hash).is_ok()
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}${}${}${}", self.rounds, STANDARD.encode(&self.salt), STANDARD.encode(&self.hash))
    }
}

/// User and password of a Basic header.
struct BasicCredentials {
    user: String,
    password: Zeroizing<String>,
}

impl BasicCredentials {
    /// Reads a header: the scheme in any case, the rest exact.
    fn read(header: &[u8]) -> Result<Self, Unproven> {
        let (scheme, pair) = match header.iter().position(|byte| *byte == b' ') {
            Some(space) => header.split_at(space),
            None => (header, &[][..]),
        };
        if !scheme.eq_ignore_ascii_case(b"basic") {
            // A word that is longer may be the secret itself.
            let plain = std::str::from_utf8(scheme).ok().filter(|scheme| {
                (1..=bounds::SCHEME).contains(&scheme.len())
                    && scheme.bytes().all(|byte| byte.is_ascii_alphabetic())
                    && !pair.is_empty()
            });
            return Err(CredentialFault::Scheme(plain.map(Into::into)).of_nobody());
        }
        let pair = STANDARD.decode(pair.trim_ascii()).map_err(|_| CredentialFault::NotBase64.of_nobody())?;
        let pair = Zeroizing::new(pair);
        let colon = pair.iter().position(|byte| *byte == b':');
        let Ok(text) = std::str::from_utf8(&pair) else {
            let name = colon.and_then(|colon| std::str::from_utf8(&pair[..colon]).ok());
            return Err(Unproven { why: CredentialFault::NotUtf8, tried: name.map(Into::into) });
        };
        // Without a colon, what is there may be the password.
        let (user, password) = text.split_once(':').ok_or_else(|| CredentialFault::NoColon.of_nobody())?;
        if user.is_empty() || user.chars().chain(password.chars()).any(char::is_control) {
            return Err(CredentialFault::Unfit.of(user));
        }
        Ok(Self { user: user.to_owned(), password: Zeroizing::new(password.to_owned()) })
    }
}

/// Whether there is a `%` with two hex digits behind it.
fn looks_encoded(text: &str) -> bool {
    text.as_bytes().windows(3).any(|three| three[0] == b'%' && three[1..].iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(text: &str) -> io::Result<Users> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        relay_log::files::private::write_private(&path, text.as_bytes()).unwrap();
        Users::load(&path)
    }

    fn header(pair: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(pair)).into_bytes()
    }

    #[tokio::test]
    async fn a_right_pair_is_a_user_and_any_other_is_not() {
        let users =
            users(&format!("# people\n\nqlik:{}\n", PasswordHash::new("pass:word").unwrap())).unwrap();
        let from = |last: u8| IpAddr::from([10, 0, 0, last]);
        assert_eq!(user(&users, &header("qlik:pass:word"), from(1)).await.as_deref(), Some("qlik"));
        let lower = String::from_utf8(header("qlik:pass:word")).unwrap().replace("Basic", "basic");
        assert_eq!(user(&users, lower.as_bytes(), from(1)).await.as_deref(), Some("qlik"));
        for (bad, why) in [
            ("qlik:wrong", CredentialFault::WrongPassword { encoded: false }.of("qlik")),
            ("qlik:pass%3Aword", CredentialFault::WrongPassword { encoded: true }.of("qlik")),
            ("nobody:pass:word", CredentialFault::UnknownUser { encoded: false }.of("nobody")),
            ("qlik", CredentialFault::NoColon.of_nobody()),
            (":pass:word", CredentialFault::Unfit.of("")),
            ("qlik\0:pass:word", CredentialFault::Unfit.of("qlik\0")),
            ("", CredentialFault::NoColon.of_nobody()),
        ] {
            assert_eq!(users.check(&header(bad), from(2)).await, Err(why), "{bad}");
        }
        let not_utf8 = format!("Basic {}", STANDARD.encode(b"qlik:p\xe4ss")).into_bytes();
        for (bad, why) in [
            (&b"Basic !!!!"[..], CredentialFault::NotBase64.of_nobody()),
            (b"Bearer abc", CredentialFault::Scheme(Some("Bearer".into())).of_nobody()),
            (b"NTLM TlRMTVNTUAABAAAA", CredentialFault::Scheme(Some("NTLM".into())).of_nobody()),
            (b"cGFzc3dvcmQ=", CredentialFault::Scheme(None).of_nobody()),
            (b"Basic ", CredentialFault::NoColon.of_nobody()),
            (b"", CredentialFault::Scheme(None).of_nobody()),
            (&not_utf8, CredentialFault::NotUtf8.of("qlik")),
        ] {
            assert_eq!(users.check(bad, from(3)).await, Err(why));
        }
    }

    #[tokio::test]
    async fn what_a_user_has_proved_holds_as_long_as_the_password_is_the_same() {
        let hash = PasswordHash::new("secret").unwrap();
        let now = users(&format!("qlik:{hash}\n")).unwrap();
        let proved = user(&now, &header("qlik:secret"), [10, 0, 0, 1].into()).await.unwrap();
        assert!(now.still(&proved) && users(&format!("a:{hash}\nqlik:{hash}\n")).unwrap().still(&proved));
        let other = PasswordHash::new("secret").unwrap();
        assert!(!users(&format!("qlik:{other}\n")).unwrap().still(&proved));
        assert!(!users(&format!("a:{hash}\n")).unwrap().still(&proved));
    }

    async fn user(users: &Users, header: &[u8], address: IpAddr) -> Option<User> {
        users.check(header, address).await.ok()
    }

    #[tokio::test]
    async fn wrong_passwords_are_limited_by_address_and_a_known_pair_is_not() {
        let users = users(&format!("qlik:{}\n", PasswordHash::new("right").unwrap())).unwrap();
        let address = IpAddr::from([10, 0, 0, 1]);
        assert!(user(&users, &header("qlik:right"), address).await.is_some());
        let mut limited = false;
        for n in 0..20 {
            let checked = users.check(&header(&n.to_string()), address).await;
            limited |= matches!(checked, Err(Unproven { why: CredentialFault::TooMany(_), .. }));
        }
        assert!(limited);
        assert!(user(&users, &header("qlik:right"), address).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_waits_for_a_place_so_long_and_no_longer_and_only_so_many_wait() {
        let users = Arc::new(users(&format!("qlik:{}\n", PasswordHash::of_nobody())).unwrap());
        let all = u32::try_from(bounds::PASSWORDS_AT_ONCE).unwrap();
        let taken = users.at_once.clone().acquire_many_owned(all).await.unwrap();
        let begun = tokio::time::Instant::now();
        let wait = |n: usize| {
            let users = users.clone();
            let from = IpAddr::from([10, 0, 0, n as u8]);
            tokio::spawn(async move { users.check(&header("qlik:x"), from).await })
        };
        let waiting: Vec<_> = (0..bounds::PASSWORDS_WAITING).map(wait).collect();
        while users.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let busy = Err(CredentialFault::Busy.of("qlik"));
        assert_eq!(users.check(&header("qlik:x"), IpAddr::from([10, 1, 0, 1])).await, busy);
        assert!(begun.elapsed() < bounds::PASSWORD_WAIT, "one too many waits all the same");
        for check in waiting {
            assert_eq!(check.await.unwrap(), busy);
        }
        assert!(begun.elapsed() < bounds::PASSWORD_WAIT + Duration::from_secs(1), "{:?}", begun.elapsed());
        drop(taken);
        assert_eq!(users.waiting.available_permits(), bounds::PASSWORDS_WAITING);
    }

    #[tokio::test]
    async fn where_there_are_no_users_nothing_is_hashed() {
        let users = users("").unwrap();
        let taken = users.at_once.clone().acquire_many_owned(bounds::PASSWORDS_AT_ONCE as u32).await;
        let pair = header("a:b");
        for _ in 0..100 {
            let checked = timeout(bounds::PASSWORD_WAIT / 2, users.check(&pair, [10, 0, 0, 1].into())).await;
            assert_eq!(checked, Ok(Err(CredentialFault::UnknownUser { encoded: false }.of("a"))));
        }
        drop(taken);
    }

    #[test]
    fn users_are_added_replaced_and_removed_and_comments_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let hash = PasswordHash::of_nobody();
        assert!(!edit(&path, "a", None).unwrap());
        assert!(edit(&path, "a", Some(&hash)).unwrap());
        let text = format!("# people\n{}", std::fs::read_to_string(&path).unwrap());
        relay_log::files::private::replace_private(&path, text.as_bytes()).unwrap();
        edit(&path, "b", Some(&hash)).unwrap();
        edit(&path, "a", Some(&hash)).unwrap();
        assert!(edit(&path, "b", None).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("# people\na:{hash}\n"));
        assert_eq!(Users::load(&path).unwrap().hashes.len(), 1);
    }

    #[test]
    fn a_line_that_is_no_user_is_told_by_its_number() {
        let fault = users("a:pbkdf2-sha256$1$AAAA$AAAA\n").unwrap_err().to_string();
        assert!(fault.starts_with("line 1 is not"), "{fault}");
        assert!(users("\nplain:password\n").unwrap_err().to_string().contains("line 2"));
        assert!(!format!("{:?}", users("").unwrap()).contains("hash"));
    }
}
