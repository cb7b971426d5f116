//! Puts sealed segments away: compressed, read back and compared, listed with their hashes. In the background, one at a
//! time; what a stop interrupts, the next start takes up again.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use aws_lc_rs::digest::{Context, SHA256};

use super::disk::{self, make_read_only};
use crate::ledger::merkle::{Hash, hex};
use crate::ledger::segment::{self, SUMS};

/// zstd's own default: a segment of 64 MiB takes half a second and becomes a tenth.
const LEVEL: i32 = 3;

/// Where sealed segments are handed over.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    queue: mpsc::Sender<PathBuf>,
}

impl Archive {
    /// Starts the thread on what an earlier run has left.
    ///
    /// # Errors
    /// The system gives no thread, or the folder can't be read.
    pub(super) fn start(log: &Path) -> io::Result<Self> {
        let (queue, sealed) = mpsc::channel::<PathBuf>();
        let mut plain: Vec<_> =
            segment::list(log)?.into_iter().filter(|segment| !segment.compressed).collect();
        // The newest is being written.
        plain.pop();
        std::thread::Builder::new().name("archive".into()).spawn(move || {
            let left = plain.into_iter().map(|segment| segment.path);
            for path in left.chain(sealed) {
                if let Err(e) = put_away(&path) {
                    tracing::warn!(
                        "{} stays as it is, uncompressed, until the next start: {e}",
                        path.display()
                    );
                }
            }
        })?;
        Ok(Self { queue })
    }

    /// Hands over a segment that is written no more.
    pub(super) fn take(&self, segment: PathBuf) {
        // A thread that is gone leaves its work to the next start.
        let _ = self.queue.send(segment);
    }
}

/// The plain file goes only once the compressed one has been read back and is the same.
fn put_away(plain: &Path) -> io::Result<()> {
    let compressed = segment::compressed_path(plain);
    let temporary = compressed.with_extension("zst.new");
    let hash = hash_of(&mut File::open(plain)?)?;
    {
        let mut from = File::open(plain)?;
        let mut to = zstd::Encoder::new(BufWriter::new(File::create(&temporary)?), LEVEL)?;
        to.include_checksum(true)?;
        io::copy(&mut from, &mut to)?;
        let mut file = to.finish()?;
        file.flush()?;
        file.get_ref().sync_all()?;
    }
    let read_back = hash_of(&mut zstd::Decoder::new(File::open(&temporary)?)?)?;
    if read_back != hash {
        let _ = fs::remove_file(&temporary);
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "what was compressed does not read back the same",
        ));
    }
    let packed = hash_of(&mut File::open(&temporary)?)?;
    make_read_only(&temporary)?;
    fs::rename(&temporary, &compressed)?;
    list(plain, &hash, &compressed, &packed)?;
    fs::remove_file(plain)?;
    File::open(disk::folder(plain))?.sync_all()
}

/// Adds the two lines of a segment, unless a run before this one did.
fn list(plain: &Path, hash: &Hash, compressed: &Path, packed: &Hash) -> io::Result<()> {
    let sums = disk::folder(plain).join(SUMS);
    let known = match fs::read_to_string(&sums) {
        Ok(known) => known,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    let mut file = File::options().append(true).create(true).open(&sums)?;
    for (path, hash) in [(plain, hash), (compressed, packed)] {
        let line = format!("{}  {}\n", hex(hash), path.file_name().unwrap_or_default().to_string_lossy());
        if !known.contains(&line) {
            file.write_all(line.as_bytes())?;
        }
    }
    file.sync_all()?;
    File::open(disk::folder(plain))?.sync_all()
}

/// SHA-256 of all that can be read.
fn hash_of(from: &mut impl Read) -> io::Result<Hash> {
    let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; 128 * 1024]);
    loop {
        match from.read(&mut buffer)? {
            0 => break,
            read => context.update(&buffer[..read]),
        }
    }
    let mut hash = Hash::default();
    hash.copy_from_slice(context.finish().as_ref());
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_put_away_reads_back_and_is_listed_once() {
        let folder = tempfile::tempdir().unwrap();
        let plain = segment::path(folder.path(), 0);
        fs::create_dir(folder.path().join(segment::FOLDER)).unwrap();
        let text = "{\"line\":1}\n".repeat(10_000);
        fs::write(&plain, &text).unwrap();
        put_away(&plain).unwrap();
        assert!(!plain.exists());
        let compressed = segment::compressed_path(&plain);
        assert_eq!(zstd::decode_all(File::open(&compressed).unwrap()).unwrap(), text.as_bytes());
        // A stop between the list and the removal.
        fs::write(&plain, &text).unwrap();
        put_away(&plain).unwrap();
        let sums = fs::read_to_string(folder.path().join(segment::FOLDER).join(SUMS)).unwrap();
        assert_eq!(sums.lines().count(), 2, "{sums}");
        let checked = std::process::Command::new("sha256sum")
            .args(["-c", "--ignore-missing", SUMS])
            .current_dir(folder.path().join(segment::FOLDER))
            .output()
            .unwrap();
        assert!(checked.status.success(), "{checked:?}");
    }
}
