//! Small file systems of a test's own, gone with it. Where the system lets us mount none, as it does for any user but root,
//! there is `None`, and the test is noted as skipped.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::skip::skipped;
use super::{run, tool};

/// What a file system hands out at a time.
pub const PAGE: u64 = 4096;

/// One that is mounted.
pub struct Disk {
    folder: TempDir,
    _image: Option<TempDir>,
}

impl Disk {
    /// In memory, of this size as `mount` has it.
    pub fn in_memory(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = tool("mount", "mount");
        let options = format!("size={size},mode=0700");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]);
        Self::mounted(mount, folder, None)
    }

    /// ext4 of 8 MiB in a file, read-only after the first error. It needs a loop device as well.
    pub fn ext4() -> Option<Self> {
        let (folder, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = image.path().join("image");
        File::create(&file).unwrap().set_len(8 << 20).unwrap();
        let made = run(tool("mkfs.ext4", "e2fsprogs").args(["-q", "-m", "0"]).arg(&file));
        assert!(made.status.success(), "{made:?}");
        let mut mount = tool("mount", "mount");
        mount.args(["-o", "loop,errors=remount-ro"]).arg(&file);
        Self::mounted(mount, folder, Some(image))
    }

    fn mounted(mut mount: Command, folder: TempDir, image: Option<TempDir>) -> Option<Self> {
        let done = run(mount.arg(folder.path()));
        if !done.status.success() {
            skipped(&format!("no mounts here: {}", String::from_utf8_lossy(&done.stderr)));
            return None;
        }
        Some(Self { folder, _image: image })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all there is, to the last page.
    pub fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.filler()).unwrap();
        // What is not on disk yet may turn out to take less than was set aside for it.
        let mut before = u64::MAX;
        while before != file.metadata().unwrap().len() {
            before = file.metadata().unwrap().len();
            while file.write_all(&[0; PAGE as usize]).is_ok() {}
            file.sync_all().unwrap();
        }
    }

    pub fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// Another size, while it is in use.
    pub fn resize(&self, size: &str) {
        let mut mount = tool("mount", "mount");
        let done = run(mount.args(["-o", &format!("remount,size={size}")]).arg(self.path()));
        assert!(done.status.success(), "{done:?}");
    }

    /// Makes ext4 do what it does when it finds itself damaged: it is read-only from here on. (Its switch in /sys would
    /// do the same, and can't be written in many a container.)
    pub fn fail(&self) {
        let mut mount = tool("mount", "mount");
        let done = run(mount.args(["-o", "remount,abort"]).arg(self.path()));
        assert!(done.status.success(), "{done:?}");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
