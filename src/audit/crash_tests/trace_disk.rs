//! A file system that keeps a trace of what was asked of it, and does as it is told: fails, writes less, or waits.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::audit::disk::{AppendFile, Disk, FileState, RealDisk};

/// What was done, in order. A file is known by its number, whatever its name is meanwhile.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::audit) enum Op {
    Create(PathBuf, usize),
    Write(usize, Vec<u8>),
    Sync(usize),
    Cut(usize, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncFolder(PathBuf),
    /// Not of the file system: these records were handed over.
    Handed(Vec<u64>),
    /// Not of the file system: these were acknowledged.
    Acked(Vec<u64>),
}

/// What is about to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::audit) enum Call {
    Create,
    Write(usize),
    Sync,
    Cut,
    Rename,
    Remove,
    SyncFolder,
}

/// What shall go wrong with it.
#[derive(Clone, Copy, Debug)]
pub(in crate::audit) enum DiskFault {
    /// The system says this, and does nothing.
    Error(rustix::io::Errno),
    /// Only so many bytes are written.
    Short(usize),
}

type Order = dyn Fn(Call, &Path) -> Option<DiskFault> + Send + Sync;

/// The traced disk; paths are told relative to its root.
pub(in crate::audit) struct TraceDisk(Arc<TracedState>);

struct TracedState {
    root: PathBuf,
    ops: Mutex<Vec<Op>>,
    files: Mutex<HashMap<PathBuf, usize>>,
    order: Mutex<Arc<Order>>,
}

impl TraceDisk {
    pub(in crate::audit) fn new(root: &Path) -> Arc<Self> {
        Arc::new(Self(Arc::new(TracedState {
            root: root.to_owned(),
            ops: Mutex::default(),
            files: Mutex::default(),
            order: Mutex::new(Arc::new(|_, _| None)),
        })))
    }

    /// From now on each call does as this says.
    pub(in crate::audit) fn order(
        &self,
        order: impl Fn(Call, &Path) -> Option<DiskFault> + Send + Sync + 'static,
    ) {
        *self.0.order.lock().unwrap() = Arc::new(order);
    }

    /// From now on nothing goes wrong.
    pub(in crate::audit) fn heal(&self) {
        self.order(|_, _| None);
    }

    pub(in crate::audit) fn ops(&self) -> Vec<Op> {
        self.0.ops.lock().unwrap().clone()
    }

    pub(in crate::audit) fn tell(&self, op: Op) {
        self.0.tell(op);
    }

    /// The number of a file that was there before the trace began, or is by now.
    pub(in crate::audit) fn file(&self, path: &Path) -> usize {
        self.0.file(path)
    }

    /// How often files of this folder were synced.
    pub(in crate::audit) fn syncs(&self, folder: &str) -> usize {
        let files = self.0.files.lock().unwrap().clone();
        let there: Vec<usize> =
            files.iter().filter(|(path, _)| path.starts_with(folder)).map(|(_, file)| *file).collect();
        self.ops().iter().filter(|op| matches!(op, Op::Sync(file) if there.contains(file))).count()
    }
}

impl TracedState {
    fn tell(&self, op: Op) {
        self.ops.lock().unwrap().push(op);
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }

    fn file(&self, path: &Path) -> usize {
        let mut files = self.files.lock().unwrap();
        let next = files.len();
        *files.entry(path.to_owned()).or_insert(next)
    }

    fn ask(&self, call: Call, path: &Path) -> io::Result<Option<usize>> {
        let order = self.order.lock().unwrap().clone();
        match order(call, path) {
            Some(DiskFault::Error(errno)) => Err(errno.into()),
            Some(DiskFault::Short(bytes)) => Ok(Some(bytes)),
            None => Ok(None),
        }
    }
}

impl fmt::Debug for TraceDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TraceDisk")
    }
}

impl Disk for TraceDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let name = self.0.relative(path);
        self.0.ask(Call::Create, &name)?;
        let append_file = RealDisk.create(path)?;
        let file = {
            // A name that is used again is another file.
            let mut files = self.0.files.lock().unwrap();
            let next = files.len();
            if let Some(old) = files.insert(name.clone(), next) {
                files.insert(PathBuf::from(format!("{}#{old}", name.display())), old);
            }
            files[&name]
        };
        self.0.tell(Op::Create(name.clone(), file));
        Ok(Box::new(TraceFile { inner: self.0.clone(), name, file, append_file }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let name = self.0.relative(path);
        let file = self.0.file(&name);
        let append_file = RealDisk.append(path)?;
        Ok(Box::new(TraceFile { inner: self.0.clone(), name, file, append_file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (old, new) = (self.0.relative(from), self.0.relative(to));
        self.0.ask(Call::Rename, &new)?;
        RealDisk.rename(from, to)?;
        {
            let mut files = self.0.files.lock().unwrap();
            if let Some(replaced) = files.remove(&new) {
                files.insert(PathBuf::from(format!("{}#{replaced}", new.display())), replaced);
            }
            if let Some(file) = files.remove(&old) {
                files.insert(new.clone(), file);
            }
        }
        self.0.tell(Op::Rename(old, new));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let name = self.0.relative(path);
        self.0.ask(Call::Remove, &name)?;
        RealDisk.remove(path)?;
        self.0.tell(Op::Remove(name));
        Ok(())
    }

    fn inode(&self, path: &Path) -> io::Result<u64> {
        RealDisk.inode(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let name = self.0.relative(path);
        self.0.ask(Call::SyncFolder, &name)?;
        self.0.tell(Op::SyncFolder(name));
        Ok(())
    }
}

struct TraceFile {
    inner: Arc<TracedState>,
    name: PathBuf,
    file: usize,
    append_file: Box<dyn AppendFile>,
}

impl AppendFile for TraceFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let short = self.inner.ask(Call::Write(bytes.len()), &self.name)?;
        let written = self.append_file.write(&bytes[..short.unwrap_or(bytes.len()).min(bytes.len())])?;
        self.inner.tell(Op::Write(self.file, bytes[..written].to_vec()));
        Ok(written)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.inner.ask(Call::Sync, &self.name)?;
        self.inner.tell(Op::Sync(self.file));
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.sync()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.inner.ask(Call::Cut, &self.name)?;
        self.append_file.cut(length)?;
        self.inner.tell(Op::Cut(self.file, length));
        Ok(())
    }

    fn state(&self) -> io::Result<FileState> {
        self.append_file.state()
    }
}
