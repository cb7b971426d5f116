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
use crate::ledger::record::hex;

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
        let zip = ZipWriter::new(Out(Some(BufWriter::new(to))));
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
/// error that it can't.
struct Out(Option<BufWriter<File>>);

impl Out {
    fn with<T: Default>(&mut self, act: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> io::Result<T> {
        let Some(file) = &mut self.0 else { return Ok(T::default()) };
        let done = act(file);
        if done.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::Interrupted)
            && let Some(file) = self.0.take()
        {
            // What it still has is not written either.
            drop(file.into_parts());
        }
        done
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.is_none() { Ok(bytes.len()) } else { self.with(|file| file.write(bytes)) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(Write::flush)
    }
}

impl Seek for Out {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.with(|file| file.seek(to))
    }
}
