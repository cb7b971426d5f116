//! A disk whose flushes take as long as the test says: a library that is loaded before the relay's own and waits in place of
//! `fsync` and `fdatasync`, in the thread that calls them. So neither the real disk of the machine nor a tracer has a part
//! in what is measured.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{all_said, run, tool};

const WAITS: &str = r"
#include <time.h>

static int flush(void) {
    struct timespec left = { 0, MICROSECONDS * 1000L };
    while (nanosleep(&left, &left) != 0) {}
    return 0;
}

int fsync(int fd) { (void)fd; return flush(); }
int fdatasync(int fd) { (void)fd; return flush(); }
";

/// A command that runs another one on such a disk; the library is made in this folder. A flush takes less than a second.
pub fn with_flushes_of(flush: Duration, folder: &Path) -> Command {
    let (source, library) = (folder.join("slow_disk.c"), folder.join("slow_disk.so"));
    std::fs::write(&source, WAITS).unwrap();
    let mut make = tool("cc", "gcc");
    make.args(["-shared", "-fPIC", "-O2", &format!("-DMICROSECONDS={}", flush.as_micros()), "-o"]);
    let made = run(make.args([&library, &source]));
    assert!(made.status.success(), "{}", all_said(&made));
    let mut command = tool("env", "coreutils");
    command.arg(format!("LD_PRELOAD={}", library.display()));
    command
}
