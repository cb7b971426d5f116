//! Puts sealed segments away: compressed, read back and compared, listed with their hashes. In the background, one at a
//! time; what a stop interrupts, the next start takes up again.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use super::disk::{self, AppendFile, Disk, make_read_only};
use super::recover::OpenError;
use relay_log::ledger::merkle::Hash;
use relay_log::ledger::regular_file::hash_of;
use relay_log::ledger::segment::{self, SUMS};
use relay_log::text::hex::hex;
use relay_log::threads;

/// zstd's own default: a segment of 64 MiB takes half a second and becomes a tenth.
const LEVEL: i32 = 3;

/// Where sealed segments are handed over.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    queue: mpsc::Sender<PathBuf>,
}

impl Archive {
    /// One that leaves all work to the next start.
    pub(super) fn idle() -> Self {
        Self { queue: mpsc::channel().0 }
    }

    /// Starts the thread on what an earlier run has left.
    ///
    /// # Errors
    /// The system gives no thread, or the folder can't be read.
    pub(super) fn start(log: &Path, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let io = |cause| OpenError::Io { path: log.to_owned(), cause };
        let (queue, sealed) = mpsc::channel::<PathBuf>();
        let mut plain: Vec<_> =
            segment::list(log).map_err(io)?.into_iter().filter(|segment| !segment.compressed).collect();
        // The newest is being written.
        plain.pop();
        threads::start("archive", move || {
            threads::give_way();
            let left = plain.into_iter().map(|segment| segment.path);
            for path in left.chain(sealed) {
                if let Err(e) = put_away(disk.as_ref(), &path) {
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
fn put_away(disk: &dyn Disk, plain: &Path) -> io::Result<()> {
    let compressed = segment::compressed_path(plain);
    let hash = hash_of(&mut File::open(plain)?)?;
    // A run before this one may have come so far.
    if unpacked(&compressed).ok() != Some(hash) {
        compress(disk, plain, &compressed, &hash)?;
    }
    list(disk, plain, &hash, &compressed, &hash_of(&mut File::open(&compressed)?)?)?;
    disk.remove(plain)?;
    disk.sync_folder(disk::folder(plain))
}

fn compress(disk: &dyn Disk, plain: &Path, compressed: &Path, hash: &Hash) -> io::Result<()> {
    let temporary = compressed.with_extension("zst.new");
    if let Err(e) = disk.remove(&temporary)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(e);
    }
    let mut from = File::open(plain)?;
    let mut to = zstd::Encoder::new(BufWriter::new(AppendStream(disk.create(&temporary)?)), LEVEL)?;
    to.include_checksum(true)?;
    io::copy(&mut from, &mut to)?;
    let mut file = to.finish()?;
    file.flush()?;
    file.get_mut().0.sync_all()?;
    drop(file);
    if unpacked(&temporary)? != *hash {
        let _ = disk.remove(&temporary);
        let words = "what was compressed does not read back the same";
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    make_read_only(&temporary)?;
    disk.rename(&temporary, compressed)?;
    disk.sync_folder(disk::folder(compressed))
}

/// A file as a stream.
struct AppendStream(Box<dyn AppendFile>);

impl Write for AppendStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// SHA-256 of what is in a compressed file.
fn unpacked(path: &Path) -> io::Result<Hash> {
    hash_of(&mut zstd::Decoder::new(File::open(path)?)?)
}

/// Puts the two lines of a segment into the list, in the place of what a run before this one has said of it.
fn list(disk: &dyn Disk, plain: &Path, hash: &Hash, compressed: &Path, packed: &Hash) -> io::Result<()> {
    let sums = disk::folder(plain).join(SUMS);
    let known = match fs::read(&sums) {
        Ok(known) => known,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e),
    };
    let both = [(plain, hash), (compressed, packed)].map(|(path, hash)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (format!("{}  {name}\n", hex(hash)), format!("  {name}\n"))
    });
    let mut text: Vec<u8> = known
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n") && both.iter().all(|(_, name)| !line.ends_with(name.as_bytes())))
        .flatten()
        .copied()
        .collect();
    both.iter().for_each(|(line, _)| text.extend_from_slice(line.as_bytes()));
    if text == known { Ok(()) } else { disk::put(disk, &sums, &text) }
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
        put_away(&disk::RealDisk, &plain).unwrap();
        assert!(!plain.exists());
        let compressed = segment::compressed_path(&plain);
        assert_eq!(zstd::decode_all(File::open(&compressed).unwrap()).unwrap(), text.as_bytes());
        // A stop between the list and the removal.
        fs::write(&plain, &text).unwrap();
        put_away(&disk::RealDisk, &plain).unwrap();
        let sums = fs::read_to_string(folder.path().join(segment::FOLDER).join(SUMS)).unwrap();
        assert_eq!(sums.lines().count(), 2, "{sums}");
    }
}
