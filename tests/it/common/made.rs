//! Logs that no relay has written, signed as one would have: for histories that would take months, and for sizes that
//! would take days. Streams: memory does not grow with the log.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::log::LogFile;
use relay_log::ledger::merkle::{Frontier, leaf};
use relay_log::ledger::note::{CHECKPOINT, Checkpoint, Signer};
use relay_log::ledger::record::{Observer, Record};
use relay_log::ledger::segment::{self, SUMS};
use relay_log::text::hex::hex;
use uuid::Uuid;

/// A log that is being made.
pub struct Made {
    log: PathBuf,
    signer: Signer,
    observer: Observer,
    tree: Frontier,
    file: Option<BufWriter<File>>,
    /// The number of the first record of the segment, and of those that it takes.
    first: u64,
    segment: u64,
    compressed: bool,
    sums: String,
    last: Timestamp,
}

impl Made {
    /// Begins a log in this folder, which must not be there yet; its signing key is made beside it.
    pub fn begin(log: &Path, origin: &str) -> Self {
        fs::create_dir_all(log.join(segment::FOLDER)).unwrap();
        let signer = Signer::open_or_make(&log.with_extension("key"), origin).unwrap();
        let about = LogFile::new(origin, signer.verifier.to_string(), None);
        fs::write(LogFile::path(log), about.to_bytes()).unwrap();
        Self {
            log: log.to_owned(),
            signer,
            observer: Observer { name: origin.to_owned(), version: env!("CARGO_PKG_VERSION") },
            tree: Frontier::default(),
            file: None,
            first: 0,
            segment: u64::MAX,
            compressed: false,
            sums: String::new(),
            last: Timestamp::MIN,
        }
    }

    /// A segment is sealed once it has so many records.
    pub fn segments_of(mut self, records: u64) -> Self {
        self.segment = records;
        self
    }

    /// Sealed segments are compressed and listed with their hashes, as a relay leaves them.
    pub fn compressed(mut self) -> Self {
        self.compressed = true;
        self
    }

    /// Records so far.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Writes records of one time, as one commit does.
    pub fn write(&mut self, at: Timestamp, records: &[Record]) {
        if records.is_empty() {
            return;
        }
        if self.file.is_some() && self.size() - self.first >= self.segment {
            let sealed = segment::path(&self.log, self.first);
            self.close();
            let mut record = Record::new(Action::AuditSealed, Uuid::from_u128(u128::from(self.size())));
            record.outcome = Outcome::Success;
            let name = sealed.file_name().unwrap_or_default().to_string_lossy().into_owned();
            record.reason = format!("{name} is complete: the log has {} records", self.size());
            self.line(at, &record);
        }
        records.iter().for_each(|record| self.line(at, record));
    }

    fn line(&mut self, at: Timestamp, record: &Record) {
        let line = record.line(self.size(), at, &self.observer).unwrap();
        if self.file.is_none() {
            self.first = self.size();
            self.file = Some(BufWriter::new(File::create(segment::path(&self.log, self.first)).unwrap()));
        }
        self.tree.push(leaf(&line[..line.len() - 1]));
        self.file.as_mut().unwrap().write_all(&line).unwrap();
        self.last = at;
    }

    /// Seals the segment.
    fn close(&mut self) {
        let Some(file) = self.file.take() else { return };
        file.into_inner().unwrap();
        if !self.compressed {
            return;
        }
        let plain = segment::path(&self.log, self.first);
        let packed = segment::compressed_path(&plain);
        let mut from =
            Hashed { inner: BufReader::new(File::open(&plain).unwrap()), hash: Context::new(&SHA256) };
        let to =
            Hashed { inner: BufWriter::new(File::create(&packed).unwrap()), hash: Context::new(&SHA256) };
        let mut encoder = zstd::Encoder::new(to, 3).unwrap();
        io::copy(&mut from, &mut encoder).unwrap();
        let mut to = encoder.finish().unwrap();
        to.flush().unwrap();
        for (path, hash) in [(&plain, from.hash), (&packed, to.hash)] {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.sums.push_str(&format!("{}  {name}\n", hex(hash.finish().as_ref())));
        }
        fs::remove_file(plain).unwrap();
        fs::write(self.log.join(segment::FOLDER).join(SUMS), &self.sums).unwrap();
    }

    /// Signs all that is there, at the time of the last record: the checkpoint that a relay leaves when it stops.
    pub fn sign(&mut self) {
        if let Some(file) = &mut self.file {
            file.flush().unwrap();
        }
        let (origin, size, root) = (self.observer.name.clone(), self.size(), self.tree.root());
        let checkpoint = Checkpoint { origin, size, root, time: Some(self.last) };
        fs::write(self.log.join(CHECKPOINT), self.signer.sign(&checkpoint)).unwrap();
    }

    /// Signs it and ends; gives the number of its records. The last segment stays plain, as the one that is written.
    pub fn end(mut self) -> u64 {
        self.sign();
        self.size()
    }
}

/// A stream whose bytes are hashed on their way.
struct Hashed<T> {
    inner: T,
    hash: Context,
}

impl<T: io::Read> io::Read for Hashed<T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.hash.update(&into[..read]);
        Ok(read)
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
