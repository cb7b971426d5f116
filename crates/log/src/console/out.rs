//! All that the program prints goes through here; clippy denies the standard macros everywhere else.
//!
//! A write that fails does not stop a verb halfway: what it changes is more than what it tells. The first failure is kept,
//! nothing is written after it, and [`finish`] makes it the end of the program. A reader that closed its end, as `head`
//! does, has seen enough: that is no failure, and the verb goes on to its verdict.

#![expect(clippy::disallowed_methods, reason = "this is the one place that has standard output")]

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;

use super::exit::{Exit, Failure};
use crate::stderr;
use crate::text::shell;
use crate::text::terminal::{printable, printable_line};
use crate::{bounds, file_size};

/// Why standard output takes no more.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Prints a line to standard output.
#[macro_export]
macro_rules! outln {
    ($($words:tt)*) => { $crate::console::out::print(format_args!($($words)*), "\n") };
}

/// Prints to standard output, without ending the line.
#[macro_export]
macro_rules! out {
    ($($words:tt)*) => { $crate::console::out::print(format_args!($($words)*), "") };
}

/// Says a line on standard error.
#[macro_export]
macro_rules! note {
    ($($words:tt)*) => { $crate::console::out::say(&format!($($words)*)) };
}

pub use crate::{note, out, outln};

/// Standard output, for what is written in pieces.
#[derive(Debug)]
pub struct Out;

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        keep(LOST.get().is_none().then(|| io::stdout().lock().write_all(bytes)))
    }

    fn flush(&mut self) -> io::Result<()> {
        keep(LOST.get().is_none().then(|| io::stdout().lock().flush()))
    }
}

/// Keeps the first failure. What comes after it fails like it, and goes nowhere.
fn keep(done: Option<io::Result<()>>) -> io::Result<()> {
    if let Some(Err(e)) = done {
        let _ = LOST.set(e);
    }
    match LOST.get() {
        Some(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(io::Error::new(e.kind(), e.to_string())),
        _ => Ok(()),
    }
}

/// What [`out!`] and [`outln!`] stand for.
pub fn print(words: fmt::Arguments<'_>, end: &str) {
    // A failure is kept, and told by `finish`.
    let _ = write!(Out, "{words}{end}");
}

/// Prints one line, which may hold what a log says, or what a file is called.
pub fn show(line: impl AsRef<str>) {
    print(format_args!("{}", printable_line(line.as_ref())), "\n");
}

/// What [`note!`] stands for: it waits behind what the program's own log has said.
pub fn say(words: &str) {
    stderr::write(format!("{words}\n").into_bytes());
}

/// Prints what is good to know and no answer: where that fails, the program goes on.
pub fn greet(words: &str) {
    let done = io::stdout().lock().write_all(words.as_bytes());
    if let Err(e) = done
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        note!("license-relay: warning: standard output can't be written ({e}); the relay goes on without it");
    }
}

/// Puts a question to a person, on standard error, and waits until it is there to be read.
pub fn ask(question: &str) {
    stderr::write(question.as_bytes().to_vec());
    stderr::flush(bounds::LOG_FLUSH);
}

/// Whether all that was printed could be; a reader that closed its end counts as one that has it.
pub fn is_written() -> Result<(), Failure> {
    Out.flush().map_err(|e| Failure::new(Exit::Io, format!("standard output can't be written: {e}")))
}

/// Ends the program: says why it failed, where it did, and gives its exit code.
pub fn finish(done: Result<Exit, Failure>) -> Exit {
    // A failure of the verb itself is told first; output that is lost as well changes nothing about it.
    let exit = match done.and_then(|exit| is_written().map(|()| exit)) {
        Ok(exit) => exit,
        Err(Failure { exit, words }) => {
            // Whatever the error was made into on its way: this is what it comes from, and the way out.
            let is_limit = exit == Exit::Io && file_size::is_reached();
            let limit = if is_limit { file_size::words() } else { String::new() };
            say(&format!("{}: {}{limit}", stderr::program(), printable(&words)));
            exit
        }
    };
    // A reader that has stopped reading holds up no exit.
    stderr::flush(bounds::LOG_FLUSH);
    exit
}

/// Tells a person who waits how far it is.
pub fn progress() -> impl FnMut(u64) + Send {
    let shown = io::stderr().is_terminal();
    move |records| {
        if shown {
            note!("{records} records …");
        }
    }
}

/// The command line, so that the answer can be asked for again.
pub fn command_line() -> String {
    let words = std::env::args_os().skip(1).map(|word| shell::word(&word.to_string_lossy()));
    std::iter::once(stderr::program().to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
