//! How the program ends: every exit code, with what it means. Verdicts are 0 to 4, errors 64 and above (sysexits.h, and
//! two of our own).

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::period::NoTime;
use crate::files::edit::Fault;
use crate::ledger::subject::keys::KeyError;
use crate::verify::LogError;
use crate::verify::log::{Verdict, VerifyError};
use crate::verify::proof::ProveError;

/// An exit code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Done, or a log that is fine.
    Fine = 0,
    /// A verdict: what was examined does not hold.
    Failed = 1,
    /// A verdict: the log is behind an anchor.
    RolledBack = 2,
    /// A verdict: the log's end is not signed.
    Unsigned = 3,
    /// A verdict: something is not in the log.
    Gaps = 4,
    /// The command line is wrong.
    Usage = 64,
    /// A mistake of ours, or of the system's.
    Internal = 70,
    /// Something can't be read or written.
    Io = 74,
    /// Another one runs, or the port is taken.
    Running = 75,
    /// The log is behind one of its checkpoints, or differs from it.
    WentBack = 76,
    /// The configuration, or a file it names, is wrong.
    Configuration = 78,
}

impl Exit {
    /// All of them, as `--help` and the documentation list them.
    pub const ALL: [(Self, &str); 11] = [
        (Self::Fine, "done; of a log: it is fine"),
        (Self::Failed, "the log is damaged, a proof does not hold, or a step of the demo failed"),
        (Self::RolledBack, "the log was rolled back against an anchor"),
        (Self::Unsigned, "the end of the log is not signed, and too old for that"),
        (Self::Gaps, "the log is whole, with gaps that it tells of itself"),
        (Self::Usage, "the command line is wrong, or names what is not there"),
        (Self::Internal, "a mistake of the program or of the system"),
        (Self::Io, "a file or folder can't be read or written, a disk is full, or a relay can't be asked"),
        (Self::Running, "another one is running or edits the same files, or a port is taken"),
        (Self::WentBack, "the log went back, or is not what was signed: nothing is added to it"),
        (
            Self::Configuration,
            "the configuration, or a file that it names, is wrong, or not in force in the running relay",
        ),
    ];

    /// For an edit that failed by its own rules: somebody else edits, or the edit is done and may not last.
    pub fn of_edit(e: &io::Error) -> Option<Self> {
        Fault::of(e).map(|fault| match fault {
            Fault::Held { .. } => Self::Running,
            Fault::NotDurable(_) => Self::Io,
        })
    }

    /// For a file that the command line names and that can't be read.
    pub fn of_named(e: &io::Error) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound};
        if let Some(exit) = Self::of_edit(e) {
            return exit;
        }
        match e.kind() {
            InvalidData | InvalidInput | IsADirectory | NotADirectory | NotFound => Self::Usage,
            _ => Self::Io,
        }
    }

    /// For a part of a log that can't be read: where it is gone, or something else lies in its place (a link, a folder), the
    /// log was changed.
    pub fn of_log(e: &io::Error) -> Self {
        use io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound};
        match e.kind() {
            InvalidData | IsADirectory | NotADirectory | NotFound => Self::Failed,
            _ if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Self::Failed,
            _ => Self::Io,
        }
    }

    /// For a log that can't be read at all.
    fn of_log_error(e: &LogError) -> Self {
        match e {
            LogError::NotALog(_) => Self::Usage,
            LogError::Io { cause, .. } => Self::of_log(cause),
        }
    }

    /// For a file that the configuration names or that a relay keeps: what the system refuses is no mistake of whoever
    /// wrote it.
    pub fn of_configured(e: &io::Error) -> Self {
        use io::ErrorKind::{IsADirectory, NotADirectory};
        if let Some(exit) = Self::of_edit(e) {
            return exit;
        }
        match e.kind() {
            IsADirectory | NotADirectory => Self::Configuration,
            _ if e.raw_os_error().is_some() => Self::Io,
            _ => Self::Configuration,
        }
    }

    /// The table of exit codes, a line each, behind this much space.
    pub fn table(indent: &str) -> String {
        Self::ALL.iter().map(|(exit, words)| format!("{indent}{:>2}  {words}\n", *exit as u8)).collect()
    }
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Fine => Self::Fine,
            Verdict::Damaged => Self::Failed,
            Verdict::RolledBack => Self::RolledBack,
            Verdict::StaleTail => Self::Unsigned,
            Verdict::Gaps => Self::Gaps,
        }
    }
}

/// Why a verb failed: what is told, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is told.
    pub words: String,
}

impl Failure {
    /// With an exit code, and the words that stand behind the name of the program.
    pub fn new(exit: Exit, words: impl ToString) -> Self {
        Self { exit, words: words.to_string() }
    }

    /// Where a table can't be read that a relay keeps.
    pub fn unread(path: &Path, e: &io::Error) -> Self {
        Self::new(Exit::of_configured(e), format!("{} can't be read: {e}", path.display()))
    }
}

impl From<VerifyError> for Failure {
    fn from(e: VerifyError) -> Self {
        let exit = match &e {
            VerifyError::Log(e) => Exit::of_log_error(e),
            VerifyError::NoAnchor(_) => Exit::Usage,
            VerifyError::Key { .. } => Exit::Failed,
            VerifyError::Thread(_) => Exit::Internal,
            VerifyError::Stopped => Exit::Io,
        };
        Self::new(exit, e)
    }
}

impl From<NoTime> for Failure {
    fn from(e: NoTime) -> Self {
        Self::new(Exit::Usage, e)
    }
}

impl From<ProveError> for Failure {
    fn from(e: ProveError) -> Self {
        let exit = match &e {
            ProveError::Log(e) => Exit::of_log_error(e),
            ProveError::Beyond { .. } | ProveError::Anchor(..) | ProveError::OtherRecord(_) => Exit::Usage,
            ProveError::Key(_) | ProveError::NoCheckpoint(_) | ProveError::Differs { .. } => Exit::Failed,
        };
        Self::new(exit, e)
    }
}

impl From<KeyError> for Failure {
    fn from(e: KeyError) -> Self {
        let of_edit = e.of_edit().and_then(Exit::of_edit);
        Self::new(of_edit.unwrap_or(Exit::Configuration), e)
    }
}
