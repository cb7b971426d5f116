//! The layout of certificates before there were generations: it is read as it lies, and moved by the next `ca` verb or
//! start that has to change something.
//!
//! The new files of a rotation lay beside the old, as `root.next.pem`, `issuer.next.pem` and `issuer.next.key`, and
//! `rotation.json` said that it was under way. A finish renamed each over its old one: where one is gone, a finish was
//! cut off, and what is left of it is in force from where it lies.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

use super::authority::{FilePaths, Files};

/// What `rotation.json` held.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FormerRotation {
    pub(super) under_way: bool,
    pub(super) networks: Vec<IpNet>,
    #[serde(rename = "step")]
    _step: u64,
}

impl FormerRotation {
    /// Whether a finish was cut off.
    pub(super) fn is_finishing(files: Files<'_>) -> bool {
        !next_to(files).files().all().iter().all(|path| path.exists())
    }

    /// Where the files in force lie while a rotation is under way.
    pub(super) fn in_force(files: Files<'_>) -> FilePaths {
        let (next, is_finishing) = (next_to(files), Self::is_finishing(files));
        let of = |next: PathBuf, own: &Path| {
            if is_finishing && next.exists() { next } else { own.to_owned() }
        };
        FilePaths {
            root: of(next.root, files.root),
            issuer: of(next.issuer, files.issuer),
            issuer_key: of(next.issuer_key, files.issuer_key),
        }
    }
}

/// Where the new files lay.
pub(super) fn next_to(files: Files<'_>) -> FilePaths {
    FilePaths { root: next(files.root), issuer: next(files.issuer), issuer_key: next(files.issuer_key) }
}

/// `root.pem` makes `root.next.pem`.
fn next(path: &Path) -> PathBuf {
    let extension = path.extension().map(|extension| format!("next.{}", extension.to_string_lossy()));
    path.with_extension(extension.unwrap_or_else(|| "next".to_owned()))
}
