//! Go's reading of a body beside ours: a Go program that is asked body after body, and what counts as a disagreement.
//!
//! It is a file of its own, with nothing of the other helpers, because a fuzz target takes it too.

use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use http::{HeaderMap, Method, Uri};
use license_relay::licensing::asker::ClaimedSource;
use license_relay::licensing::message::{Change, Consumption, Message, MessageKind, Patch};
use license_relay::licensing::vocabulary::Words;

/// The program `tests/clients/gojson`, running.
pub(crate) struct Go {
    child: Child,
    bodies: BufWriter<ChildStdin>,
    readings: BufReader<ChildStdout>,
}

/// One way in which Go reads a body.
pub(crate) struct Reading {
    /// With which functions, into what.
    pub(crate) way: String,
    /// What it read, written again by Go.
    pub(crate) json: String,
}

impl Go {
    /// Starts the program.
    pub(crate) fn start(program: &Path) -> io::Result<Self> {
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (bodies, readings) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Ok(Self { child, bodies: BufWriter::new(bodies), readings: BufReader::new(readings) })
    }

    /// All different readings of a body that Go has.
    pub(crate) fn read(&mut self, body: &[u8]) -> Vec<Reading> {
        self.bodies.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).unwrap();
        self.bodies.write_all(body).unwrap();
        self.bodies.flush().unwrap();
        let mut all = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.readings.read_line(&mut line).unwrap(), 0, "the Go program has ended");
            let Some((way, json)) = line.trim_end_matches('\n').split_once('\t') else { return all };
            all.push(Reading { way: way.to_owned(), json: json.to_owned() });
        }
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a body with the built-in vocabulary.
pub(crate) fn read(body: &[u8], words: &Words) -> Message {
    Message::read(&Method::POST, &Uri::from_static("/v1/any"), &HeaderMap::new(), body, words)
}

/// Whether a message is refused, or let in for proven clients alone as one that can't be read: who asks and what changes
/// is then not taken from it.
pub(crate) fn is_refused(message: &Message) -> bool {
    message.source.is_contradiction()
        || matches!(message.source, ClaimedSource::Unfit(_))
        || matches!(message.kind, MessageKind::Unreadable { .. })
}

/// What Go reads of a body and we don't, with both readings in full; `None` where we agree, or refuse the body.
///
/// What Go has written again has one spelling alone, so our reader can tell what stands in it: who asks, and what changes,
/// must be the same in that and in the body itself.
pub(crate) fn disagreement(body: &[u8], readings: &[Reading], words: &Words) -> Option<String> {
    let ours = read(body, words);
    if is_refused(&ours) {
        return None;
    }
    let found = readings.iter().find_map(|reading| {
        let theirs = read(reading.json.as_bytes(), words);
        Some((difference(&ours, &theirs)?, reading, theirs))
    });
    let (what, Reading { way, json }, theirs) = found?;
    Some(format!(
        "{what} differs\nbody: {}\nGo, {way}: {json}\n  which is: {}\nours: {}",
        body.escape_ascii(),
        shown(&theirs),
        shown(&ours),
    ))
}

/// What Go has read otherwise, or we have not.
fn difference(ours: &Message, theirs: &Message) -> Option<&'static str> {
    if theirs.source != ClaimedSource::Nobody && theirs.source != ours.source {
        return Some("source");
    }
    if theirs.license().is_some() && theirs.license() != ours.license() {
        return Some("license");
    }
    match (&theirs.kind, &ours.kind) {
        (MessageKind::Sync(theirs), MessageKind::Sync(ours)) => {
            // Into a structure, Go reads `null` as a patch of which nothing is told.
            let is_empty = |patch: &Patch| {
                patch.license.is_none() && patch.allotment.is_none() && patch.subject.is_none()
            };
            let read = |patch: &Patch| is_empty(patch) || ours.patches.iter().any(|own| says(own, patch));
            (!theirs.patches.iter().all(read)).then_some("a change")
        }
        (MessageKind::Sync(theirs), _) => {
            theirs.patches.iter().any(|patch| patch.subject.is_some()).then_some("a sync")
        }
        (MessageKind::Capacity(theirs), MessageKind::Capacity(ours)) => {
            let read = theirs.iter().all(|element| {
                ours.iter().any(|own| {
                    (&own.allotment, &own.month) == (&element.allotment, &element.month)
                        && (element.delta.is_none() || amount(own) == amount(element))
                })
            });
            (!read).then_some("a report")
        }
        (MessageKind::Capacity(_), _) => Some("a report"),
        (MessageKind::Activation { cause: theirs }, MessageKind::Activation { cause: ours }) => {
            (theirs != ours).then_some("a cause")
        }
        _ => None,
    }
}

/// What was used, as a number: Go writes 100000.0 as 100000.
fn amount(element: &Consumption) -> Option<f64> {
    element.delta.as_ref()?.as_f64()
}

/// Whether our patch says all that Go's does. Of a patch that lacks a person or an allotment, Go can't tell what it does.
fn says(own: &Patch, theirs: &Patch) -> bool {
    let is_told = theirs.subject.is_some() && theirs.allotment.is_some();
    (theirs.license.is_none() || own.license == theirs.license)
        && (theirs.allotment.is_none() || own.allotment == theirs.allotment)
        && (theirs.subject.is_none() || own.subject == theirs.subject)
        && (own.change == theirs.change || (theirs.change == Change::Unknown && !is_told))
}

fn shown(message: &Message) -> String {
    let Message { kind, source, licenses, lenient, .. } = message;
    format!("{source:?} {licenses:?} {kind:?} {lenient:?}")
}
