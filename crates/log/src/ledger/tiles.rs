//! The leaf hashes of the tree, 256 a file, where C2SP tlog-tiles wants them: `hashes/0/x001/234`, and `067.p/12` for a
//! part. They can be made anew from the segments; those of segments that were pruned are the only copy there is.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::merkle::Hash;
use super::regular_file;

/// Leaf hashes in a full tile.
pub const WIDTH: u64 = 256;

/// The folder below the log's own.
pub const FOLDER: &str = "hashes";

/// The file of a tile; `part` for the first so many hashes of one that is not full.
pub fn path(log: &Path, tile: u64, part: Option<u64>) -> PathBuf {
    // Groups of three digits, all but the last with an x before them.
    let mut groups = vec![format!("{:03}", tile % 1000)];
    let mut rest = tile / 1000;
    while rest > 0 {
        groups.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    let mut path = log.join(FOLDER).join("0");
    path.extend(groups.iter().rev());
    match part {
        Some(count) => {
            path.as_mut_os_string().push(".p");
            path.join(count.to_string())
        }
        None => path,
    }
}

/// Reads the first so many hashes of a tile. A part that has just these comes first: where the segments behind it were
/// pruned it was synced, and the full tile, which came later, was not.
///
/// # Errors
/// It can't be read, or has not so many.
pub fn read(log: &Path, tile: u64, count: u64) -> io::Result<Vec<Hash>> {
    let part = (count < WIDTH).then_some(count);
    part.and_then(|_| read_file(&path(log, tile, part), count).ok())
        .map_or_else(|| read_file(&path(log, tile, None), count), Ok)
}

fn read_file(path: &Path, count: u64) -> io::Result<Vec<Hash>> {
    let bytes = regular_file::read(path, 32 * WIDTH)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    let wanted = usize::try_from(count).unwrap_or(usize::MAX);
    if !rest.is_empty() || hashes.len() < wanted {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display())));
    }
    Ok(hashes[..wanted].to_vec())
}

/// Reads the first so many leaf hashes of a log, a tile at a time.
///
/// # Errors
/// A tile is missing or damaged.
pub fn read_first(log: &Path, size: u64, mut each: impl FnMut(Hash)) -> io::Result<()> {
    for tile in 0..size.div_ceil(WIDTH) {
        let count = WIDTH.min(size - tile * WIDTH);
        read(log, tile, count)?.into_iter().for_each(&mut each);
    }
    Ok(())
}

/// Writes a tile. Not synced: it can be made anew.
///
/// # Errors
/// The system refuses.
pub fn write(log: &Path, tile: u64, hashes: &[Hash]) -> io::Result<()> {
    let count = hashes.len() as u64;
    let path = path(log, tile, (count < WIDTH).then_some(count));
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(hashes.as_flattened())?;
    fs::rename(&temporary, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_have_the_names_of_the_standard() {
        let name = |tile, part| path("log".as_ref(), tile, part).display().to_string();
        assert_eq!(name(0, None), "log/hashes/0/000");
        assert_eq!(name(1234067, None), "log/hashes/0/x001/x234/067");
        assert_eq!(name(273, Some(12)), "log/hashes/0/273.p/12");
    }

    #[test]
    fn what_is_written_is_read_and_a_damaged_tile_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path();
        let leaf = |n: u64| crate::ledger::merkle::leaf(&n.to_be_bytes());
        let all: Vec<Hash> = (0..700).map(leaf).collect();
        for (tile, hashes) in all.chunks(WIDTH as usize).enumerate() {
            write(log, tile as u64, hashes).unwrap();
        }
        for size in [0, 1, 255, 256, 257, 512, 700] {
            let mut read = Vec::new();
            let done = read_first(log, size, |hash| read.push(hash));
            done.unwrap();
            assert_eq!(read, all[..size as usize]);
        }
        assert!(read_first(log, 701, |_| {}).is_err());
        fs::write(path(log, 1, None), "short").unwrap();
        assert!(read_first(log, 700, |_| {}).is_err());
    }
}
