//! What the relay is told: `relay.toml` and the files it names.
//!
//! Each file is read whole, checked whole, and taken or left whole: [`mod@file`] makes a [`model::Config`] of
//! `relay.toml`, [`sources`] an allow-list of `sources.toml`. What is wrong is said in one go, each
//! [`Problem`] with its line and what to write instead. [`watch`] tells when a file has changed.

pub mod file;
pub mod model;
pub mod names;
pub(crate) mod read;
pub mod sources;
pub mod state_file;
pub(crate) mod toml_table;
pub mod watch;

use std::path::PathBuf;
use std::{env, fmt};

/// The most elements that one list holds.
pub const MAX_LIST: usize = 1_000;

/// The most entries that `sources.toml` holds.
pub const MAX_SOURCES: usize = 10_000;

/// Where the configuration is: `explicit` (the `--config` of the command line), else `$LICENSE_RELAY_CONFIG`,
/// else the first of `config/relay.toml` and `/etc/license-relay/relay.toml` that exists. Where none does, it
/// is `config/relay.toml`, so that the complaint names the place to put it.
pub fn locate(explicit: Option<PathBuf>) -> PathBuf {
    let variable = || env::var_os("LICENSE_RELAY_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from);
    explicit.or_else(variable).unwrap_or_else(|| {
        let [near, far] = ["config/relay.toml", "/etc/license-relay/relay.toml"].map(PathBuf::from);
        if !near.exists() && far.exists() { far } else { near }
    })
}

/// One thing that is wrong with a file, or that its reader should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, 1 and up; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong, and with which key.
    pub what: String,
    /// What to write or do instead.
    pub instead: String,
    /// Whether the file can be used all the same.
    pub severity: Severity,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}; {}", self.what, self.instead)
    }
}

/// Whether a file with a problem can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// It can't.
    Error,
    /// It can, and means what it says.
    Warning,
}

/// All problems of a file, by line; printed one a line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Whether any of them keeps the file from being used.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_on_the_command_line_wins() {
        assert_eq!(locate(Some("x.toml".into())), PathBuf::from("x.toml"));
    }

    #[test]
    fn a_problem_is_one_line() {
        let error = Problem {
            file: "relay.toml".into(),
            line: 3,
            what: "a".into(),
            instead: "write b".into(),
            severity: Severity::Error,
        };
        let warning = Problem { line: 0, severity: Severity::Warning, ..error.clone() };
        assert!(!Problems(vec![warning.clone()]).has_errors());
        let both = Problems(vec![error, warning]);
        assert!(both.has_errors());
        assert_eq!(both.to_string(), "relay.toml:3: a; write b\nrelay.toml: a; write b");
    }
}
