//! How far a change of the root is: `rotation.json`, which the running relay watches.

use std::io;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::authority::Files;
use super::former;
use crate::config::state_file;
use relay_log::files::edit::Editing;

/// The trial of a new root. It is over once the new generation is the one in force.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// The generation that is tried, if there is one.
    pub(super) next: Option<u64>,
    /// The client networks that are served its leaves.
    pub(super) networks: Vec<IpNet>,
}

/// What the file may hold.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RotationFile {
    /// As it is written.
    Now(Rotation),
    /// As it was written before there were generations.
    Former(former::FormerRotation),
}

impl Default for RotationFile {
    fn default() -> Self {
        Self::Now(Rotation::default())
    }
}

/// The file beside the root.
pub(crate) fn path(files: Files<'_>) -> PathBuf {
    files.root.with_file_name("rotation.json")
}

/// What it holds; nothing where there is none.
///
/// # Errors
/// It can't be read, or isn't one that this program wrote.
pub(super) fn read(files: Files<'_>) -> io::Result<RotationFile> {
    state_file::read(&path(files)).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            let words =
                format!("{e}; restore the file, or remove it, which ends the rotation that it tells of");
            io::Error::new(io::ErrorKind::InvalidData, words)
        }
        _ => e,
    })
}

impl Rotation {
    /// Writes the file.
    ///
    /// # Errors
    /// It can't be written.
    pub(super) fn write(&self, files: Files<'_>) -> io::Result<()> {
        Editing::begin(&path(files))?.replace(&serde_json::to_vec_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_in_which_it_was_ever_written_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root.pem");
        let files = Files { root: &root, issuer: &root, issuer_key: &root };
        assert!(
            matches!(read(files).unwrap(), RotationFile::Now(rotation) if rotation == Rotation::default())
        );
        let rotation = Rotation { next: Some(2), networks: vec!["10.0.0.0/8".parse().unwrap()] };
        rotation.write(files).unwrap();
        assert!(matches!(read(files).unwrap(), RotationFile::Now(read) if read == rotation));
        std::fs::write(path(files), r#"{"under_way": true, "networks": ["10.0.0.0/8"], "step": 3}"#).unwrap();
        assert!(matches!(read(files).unwrap(), RotationFile::Former(former) if former.under_way));
        for wrong in ["", "{}", "[]", r#"{"next": -1, "networks": []}"#] {
            std::fs::write(path(files), wrong).unwrap();
            assert!(read(files).unwrap_err().to_string().contains("remove it"), "{wrong:?}");
        }
    }
}
