//! Small file systems of a test's own, gone with it. They need root.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

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
    pub fn in_memory(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = tool("mount", "mount");
        let options = format!("size={size},mode=0700");
        let done = run(mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()));
        assert!(done.status.success(), "a small tmpfs can't be mounted, run this test as root: {done:?}");
        Self { folder, _image: None }
    }

    /// ext4 of 8 MiB in a file, read-only after the first error. `None`, said where it can't be overlooked, on a machine
    /// without loop devices.
    pub fn ext4() -> Option<Self> {
        let (folder, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = image.path().join("image");
        File::create(&file).unwrap().set_len(8 << 20).unwrap();
        let made = run(tool("mkfs.ext4", "e2fsprogs").args(["-q", "-m", "0"]).arg(&file));
        assert!(made.status.success(), "{made:?}");
        let mut mount = tool("mount", "mount");
        let done = run(mount.args(["-o", "loop,errors=remount-ro"]).arg(&file).arg(folder.path()));
        if !done.status.success() {
            // Past the test harness, which would keep it for itself.
            let why = String::from_utf8_lossy(&done.stderr).into_owned();
            let skipped = format!("\nSKIPPED, 1 test: no ext4 on a loop device here: {why}\n");
            std::io::stderr().write_all(skipped.as_bytes()).unwrap();
            return None;
        }
        Some(Self { folder, _image: Some(image) })
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

    /// Makes the kernel believe that the file system is damaged: it is read-only from here on.
    pub fn fail(&self) {
        let source = run(tool("findmnt", "util-linux").args(["-no", "SOURCE"]).arg(self.path()));
        let device = String::from_utf8(source.stdout).unwrap().trim().replace("/dev/", "");
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").unwrap();
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
