//! Flags and words of the command line that have another name now: each is refused with the new one.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The former name, and what to write in its place.
const RENAMED: [(&str, &str); 2] = [
    ("--until", "the end of a period is --to, and a single time is --at"),
    ("--to", "here, a file to write is --out"),
];

/// What to write instead, where an argument that clap does not know is a former one.
pub(super) fn named_anew(e: &clap::Error) -> Option<String> {
    if e.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(unknown)) = e.get(ContextKind::InvalidArg) else { return None };
    let (former, instead) = RENAMED.iter().find(|(former, _)| former == unknown)?;
    Some(format!("{former} is not an option of this command: {instead}"))
}
