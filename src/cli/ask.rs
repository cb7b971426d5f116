//! Verbs ask the running relay: a verb that has written a file is done once the relay works with it.
//!
//! The relay is found by its admin socket and known by its log, since others may run on this machine. Where nobody answers,
//! the lock of the log tells whether there is one at all.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use jiff::Timestamp;
use rustix::net::sockopt::socket_peercred;
use serde::Deserialize;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::time::Instant;

use crate::audit::recover;
use crate::bounds;
use crate::config::model::Config;
use crate::listen::local;
use crate::setup::held::{self, Part};
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::{note, outln};
use relay_log::text::terminal::printable;

/// What a relay works with after it has read everything again.
#[derive(Debug, Deserialize)]
pub(super) struct ReloadAnswer {
    pub(super) configuration: StatusConfiguration,
    pub(super) parts: Vec<PartInForce>,
    /// The names of the files that this reload has put into force.
    pub(super) changed: Vec<String>,
    /// Why it could not read everything again.
    pub(super) undone: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct StatusConfiguration {
    pub(super) file: PathBuf,
    pub(super) generation: u64,
    pub(super) since: Timestamp,
    pub(super) not_in_force: Vec<PartNotInForce>,
}

/// A part that is not what its files say.
#[derive(Debug, Deserialize)]
pub(super) struct PartNotInForce {
    pub(super) part: String,
    pub(super) since: Timestamp,
    pub(super) why: String,
}

/// A part as it is in force.
#[derive(Debug, Deserialize)]
pub(super) struct PartInForce {
    pub(super) part: String,
    pub(super) files: Vec<PathBuf>,
    pub(super) since_generation: u64,
}

/// Of an answer, the part that tells which relay it is.
#[derive(Debug, Deserialize)]
struct RelayIdentity {
    log: PathBuf,
}

/// Tells what a verb has done to a part of the configuration, has the running relay take it, and tells that it did.
///
/// # Errors
/// The relay does not work with what was written ([`Exit::Configuration`]), or can't be asked ([`Exit::Io`]).
pub(super) fn take_force(config: &Config, part: Part, done: &str) -> Result<(), Failure> {
    outln!("{done}");
    let unknown = |why| {
        let words = format!(
            "it is written, but whether it is in force is not known: {why}; run license-relay reload as a user who may ask \
             the relay, or see /status at admin.address"
        );
        Failure::new(Exit::Io, words)
    };
    let Some(answer) = reload(config).map_err(unknown)? else {
        outln!(
            "no relay has the log {}: it takes effect at the next start",
            config.audit.directory.display()
        );
        return Ok(());
    };
    let answer = ReloadAnswer::read(&answer).map_err(unknown)?;
    let in_force = answer.since(config, part);
    for held in answer.configuration.not_in_force.iter().filter(|held| held.part != part.name()) {
        note!("license-relay: warning: {}", printable(&held.words()));
    }
    let generation = in_force.map_err(|why| {
        Failure::new(Exit::Configuration, format!("it is written, but not in force: {why}"))
    })?;
    outln!("in force since generation {generation}");
    Ok(())
}

/// Has the relay that has this log read everything again; none where no relay has it.
///
/// # Errors
/// There is one, or may be, and it can't be asked; in words.
pub(super) fn reload(config: &Config) -> Result<Option<Value>, String> {
    let (log, begun) = (&config.audit.directory, Instant::now());
    let places = local::places(config);
    loop {
        let mut denied = None;
        for socket in &places {
            match is_relay_of(log, socket) {
                Ok(true) => {
                    let answer = request(log, socket, "POST /reload", bounds::ASK_RELOAD);
                    return answer.map(Some).map_err(|e| unasked(socket, &e));
                }
                Ok(false) => {}
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => denied = Some(unasked(socket, &e)),
                Err(e) => return Err(unasked(socket, &e)),
            }
        }
        let lock = recover::holder(log);
        let holder = lock.map_err(|e| {
            format!(
                "whether a relay runs can't be known, as the lock of the log {} can't be read: {e}",
                log.display()
            )
        })?;
        let Some(holder) = holder else { return Ok(None) };
        // A relay that starts has no socket yet, and one that stops none any more.
        if denied.is_some() || begun.elapsed() >= bounds::ASK_STARTING {
            let why = denied.unwrap_or_else(|| without_socket(&places));
            return Err(format!("{holder} has the log {}, and {why}", log.display()));
        }
        sleep(bounds::ASK_AGAIN);
    }
}

fn without_socket(places: &[PathBuf]) -> String {
    let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    format!(
        "has no admin socket at {}; where admin.socket was changed, it takes a restart of the relay",
        places.join(" or ")
    )
}

fn unasked(socket: &Path, e: &io::Error) -> String {
    format!("{} can't be asked: {e}", socket.display())
}

/// Whether a relay that has this log answers at a socket. Nobody may listen there, or another relay.
fn is_relay_of(log: &Path, socket: &Path) -> io::Result<bool> {
    use io::ErrorKind::{ConnectionRefused, InvalidInput, NotADirectory, NotFound};
    match request(log, socket, "GET /status", bounds::ASK_WHO) {
        Ok(status) => Ok(is_same(&RelayIdentity::deserialize(&status)?.log, log)),
        // A path that is too long for a socket is one where no relay made any.
        Err(e) if matches!(e.kind(), ConnectionRefused | InvalidInput | NotADirectory | NotFound) => {
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

/// Asks the relay of a log for something, and reads the answer; all of it in time.
fn request(log: &Path, socket: &Path, what: &str, within: Duration) -> io::Result<Value> {
    let until = Instant::now() + within;
    let mut stream = connect(socket, within)?;
    check_listener(&stream, log)?;
    write!(stream, "{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let late =
            || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", within.as_secs()));
        if left.is_zero() {
            return Err(late());
        }
        stream.set_read_timeout(Some(left))?;
        let read = stream.read(&mut piece).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => late(),
            _ => e,
        })?;
        reply.extend_from_slice(piece.get(..read).unwrap_or_default());
        if read == 0 {
            return answer_in(&reply);
        }
        if reply.len() > bounds::ASK_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer does not end"));
        }
    }
}

fn connect(socket: &Path, within: Duration) -> io::Result<UnixStream> {
    let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // It is the limit for connecting, too: a listener whose queue is full keeps whoever connects waiting (unix(7)).
    stream.set_write_timeout(Some(within))?;
    stream.connect(&SockAddr::unix(socket)?)?;
    Ok(UnixStream::from(OwnedFd::from(stream)))
}

/// Refuses a listener of another user than the relay's, whose answer would be worth nothing: the folder of the socket may be
/// one that others can write to. Where the log can't be looked at, who may write there is all that there is to go by.
fn check_listener(stream: &UnixStream, log: &Path) -> io::Result<()> {
    let listener = socket_peercred(stream)?.uid.as_raw();
    // The relay makes this file.
    match fs::metadata(log.join("LOCK")).map(|lock| lock.uid()) {
        Ok(user) if listener != 0 && listener != user => {
            let words = format!("user {listener} listens there, and the relay is user {user}'s");
            Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
        }
        _ => Ok(()),
    }
}

/// What a reply holds. One that is no success says why in its body.
fn answer_in(reply: &[u8]) -> io::Result<Value> {
    let foreign = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not that of a relay");
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(reply) else { return Err(foreign()) };
    let body = reply.get(length..).unwrap_or_default();
    match head.code {
        Some(200) => serde_json::from_slice(body).map_err(|_| foreign()),
        Some(503) => Err(io::Error::other(String::from_utf8_lossy(body).trim().to_owned())),
        _ => Err(foreign()),
    }
}

impl ReloadAnswer {
    /// The answer of a relay.
    ///
    /// # Errors
    /// It is that of another version; in words.
    pub(super) fn read(answer: &Value) -> Result<Self, String> {
        Self::deserialize(answer)
            .map_err(|e| format!("its answer is that of another version of this program ({e})"))
    }

    /// The generation since which a part is in force as its files say, which are those of this configuration.
    fn since(&self, config: &Config, part: Part) -> Result<u64, String> {
        let name = part.name();
        if let Some(why) = &self.undone {
            return Err(format!("{why}; then run license-relay reload"));
        }
        let Some(in_force) = self.parts.iter().find(|known| known.part == name) else {
            return Err(format!(
                "the relay, another version of this program, does not tell of its {name}; restart it"
            ));
        };
        let files = part.files(config);
        if files.len() != in_force.files.len()
            || files.iter().zip(&in_force.files).any(|(own, other)| !is_same(own, other))
        {
            let others: Vec<String> = in_force.files.iter().map(|file| file.display().to_string()).collect();
            let held =
                self.held(Part::Configuration).map(|held| format!(" ({})", held.why)).unwrap_or_default();
            return Err(format!(
                "the running relay has its {name} from {}, as {} in force says{held}; restart it with this configuration, or \
                 name its own with --config",
                others.join(", "),
                self.configuration.file.display(),
            ));
        }
        match self.held(part) {
            Some(held) => Err(format!("{}; put that right, then run license-relay reload", held.why)),
            None => Ok(in_force.since_generation),
        }
    }

    fn held(&self, part: Part) -> Option<&PartNotInForce> {
        self.configuration.not_in_force.iter().find(|held| held.part == part.name())
    }
}

impl PartNotInForce {
    /// For people.
    pub(super) fn words(&self) -> String {
        held::words(&self.part, self.since, &self.why)
    }
}

/// Whether two paths lead to the same file or folder.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    one == other
        || fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}
