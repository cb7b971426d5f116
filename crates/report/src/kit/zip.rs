//! The zip that a kit is, as it is written: each file hashed on its way, and none held in memory.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

use super::KitError;
use relay_log::text::hex::hex;

/// What is read at a time.
const PIECE: usize = 128 * 1024;
/// From this length on, a file gets the form that has room for more than 4 GiB.
const LARGE: u64 = 1 << 30;

/// A kit that is being written.
pub(super) struct Archive {
    zip: ZipWriter<Out>,
    sums: String,
    made: DateTime,
}

impl Archive {
    pub(super) fn new(to: File, made: Timestamp) -> Self {
        let at = TimeZone::UTC.to_datetime(made);
        let unsigned = |part: i8| u8::try_from(part).unwrap_or_default();
        let made = DateTime::from_date_and_time(
            u16::try_from(at.year()).unwrap_or_default(),
            unsigned(at.month()),
            unsigned(at.day()),
            unsigned(at.hour()),
            unsigned(at.minute()),
            unsigned(at.second()),
        );
        let zip = ZipWriter::new(Out::new(to));
        Self { zip, sums: String::new(), made: made.unwrap_or_default() }
    }

    /// Adds a file of these bytes.
    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), KitError> {
        self.copy(name, &mut &*bytes, bytes.len() as u64, Path::new(name))
    }

    /// Adds a file of at most so many bytes from where it is read; `path` is what an error names.
    pub(super) fn copy(
        &mut self,
        name: &str,
        from: &mut impl Read,
        length: u64,
        path: &Path,
    ) -> Result<(), KitError> {
        // Compressed segments and hashes get no smaller.
        let text = !name.ends_with(".zst") && !name.contains("/log/hashes/");
        let method = if text { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .last_modified_time(self.made)
            .unix_permissions(if name.ends_with(".sh") || name.ends_with(".py") { 0o700 } else { 0o600 })
            .large_file(length >= LARGE);
        self.zip.start_file(name, options).map_err(io::Error::from)?;
        let (mut hash, mut buffer) = (Context::new(&SHA256), vec![0; PIECE]);
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => return Err(KitError::Read { path: path.to_owned(), cause }),
            };
            hash.update(&buffer[..read]);
            self.zip.write_all(&buffer[..read])?;
        }
        self.sums.push_str(&format!("{}  {name}\n", hex(hash.finish().as_ref())));
        Ok(())
    }

    /// Adds the list of what all files hash to, and ends the zip.
    pub(super) fn finish(mut self) -> Result<(), KitError> {
        let sums = std::mem::take(&mut self.sums);
        self.put("SHA256SUMS", sums.as_bytes())?;
        self.zip.finish().map_err(io::Error::from)?.flush()?;
        Ok(())
    }
}

/// The file; once it has failed, nowhere: a zip that is given up writes its end all the same, and would say on standard
/// error that it can't. It relies on positions that only grow, so they are kept up without the file as well.
struct Out {
    file: Option<BufWriter<File>>,
    /// Where the next byte goes, and where the file ends.
    at: u64,
    end: u64,
}

impl Out {
    fn new(to: File) -> Self {
        Self { file: Some(BufWriter::new(to)), at: 0, end: 0 }
    }

    /// What the file does; `None` once it has failed.
    fn with<T>(&mut self, act: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> io::Result<Option<T>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let done = act(file);
        if done.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::Interrupted)
            && let Some(file) = self.file.take()
        {
            // What it still has is not written either.
            drop(file.into_parts());
        }
        done.map(Some)
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.with(|file| file.write(bytes))?.unwrap_or(bytes.len());
        self.at = self.at.saturating_add(written as u64);
        self.end = self.end.max(self.at);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(Write::flush).map(|_| ())
    }
}

impl Seek for Out {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (at, end) = (self.at, self.end);
        let there = || match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => at.saturating_add_signed(by),
            SeekFrom::End(by) => end.saturating_add_signed(by),
        };
        self.at = self.with(|file| file.seek(to))?.unwrap_or_else(there);
        Ok(self.at)
    }
}
