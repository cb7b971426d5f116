//! The program under a tracer that counts its calls to the system and makes one of them fail, or kills the process
//! before it. strace could do this too, but it counts for each thread and for each name of a call; here all calls have one
//! number, so that a test can go through them one after the other.
//!
//! Only calls on files below one folder count, over all threads: those that change or sync something, and those that look
//! at something.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use nix::errno::Errno;
use nix::libc::{self, c_long, user_regs_struct};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::PATIENCE;

/// A call to the system on a file of the folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    pub name: &'static str,
    /// The file, relative to the folder; of two, the one that the call makes.
    pub path: PathBuf,
    pub kind: Kind,
}

/// What a call does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It takes room: a full disk refuses it.
    Grows,
    /// It changes something else.
    Changes,
    /// It makes something durable.
    Syncs,
    /// It changes nothing.
    Looks,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.path.display())
    }
}

/// What happens to a call. Calls are counted from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Nothing: the calls are only counted.
    None,
    /// The process is killed before it makes this call.
    Kill(usize),
    /// This call fails.
    Once(usize, Errno),
    /// From this call on, all that change something fail.
    ReadOnlyFrom(usize),
    /// From this call on, all that take room fail.
    FullFrom(usize),
}

impl Fault {
    /// Whether a call is not made, and what it fails with.
    fn of(self, number: usize, kind: Kind) -> Option<Errno> {
        match self {
            Self::Once(at, errno) if at == number => Some(errno),
            Self::ReadOnlyFrom(from) if number >= from && matches!(kind, Kind::Grows | Kind::Changes) => {
                Some(Errno::EROFS)
            }
            Self::FullFrom(from) if number >= from && kind == Kind::Grows => Some(Errno::ENOSPC),
            _ => None,
        }
    }
}

/// How a traced process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// By itself.
    Code(i32),
    /// By the fault that was ordered.
    Killed,
    /// A relay has greeted, and was killed then.
    Greeted,
    /// By a signal of its own.
    Signal(Signal),
    /// Not within the deadline.
    Hung,
}

/// What a traced process did.
#[derive(Debug)]
pub struct Traced {
    pub end: End,
    pub calls: Vec<Call>,
    /// The first call that was not made.
    pub failed: Option<Call>,
    /// What it said on both outputs.
    pub said: String,
}

/// Whether processes can be traced here; where not, the test is noted as skipped.
pub fn is_possible() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let traced = Traced::run(folder.path(), Command::new("true"), "", Fault::None);
    if let Err(e) = &traced {
        super::skip::skipped(&format!("no process can be traced here: {e}"));
    }
    traced.is_ok()
}

impl Traced {
    /// Runs a command to its end, or to a relay's greeting, with this text as its standard input.
    ///
    /// # Errors
    /// The system lets nobody be traced.
    pub fn run(folder: &Path, command: Command, input: &str, fault: Fault) -> nix::Result<Self> {
        // In a thread of its own, which waits for all of its children: other children of the test are none of its.
        std::thread::scope(|scope| {
            scope.spawn(|| Self::run_here(folder, &command, input, fault)).join().unwrap()
        })
    }

    #[allow(clippy::zombie_processes, reason = "the tracer waits for it by its own call")]
    fn run_here(folder: &Path, command: &Command, input: &str, fault: Fault) -> nix::Result<Self> {
        let said = tempfile::NamedTempFile::new().unwrap();
        let output = || File::options().append(true).open(said.path()).unwrap();
        // A shell that waits to be traced, and then becomes the program. It reads no more than its line.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "read -r _ && exec \"$@\"", "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let mut child = shell.stdin(Stdio::piped()).stdout(output()).stderr(output()).spawn().unwrap();
        let main = Pid::from_raw(child.id().cast_signed());
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        if let Err(e) = ptrace::seize(main, options) {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err(e);
        }
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(format!("\n{input}").as_bytes()).unwrap();
        drop(stdin);

        let mut tracer = Tracer {
            main,
            folder: fs::canonicalize(folder).unwrap(),
            fault,
            inside: HashMap::new(),
            calls: Vec::new(),
            failed: None,
            stopped_for: None,
        };
        let (done, is_done) = mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            let is_late = is_done.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
            if is_late {
                let _ = kill(main, Signal::SIGKILL);
            }
            is_late
        });
        let end = tracer.follow();
        drop(done);
        let end = if watch.join().unwrap() { End::Hung } else { end };
        let said = fs::read_to_string(said.path()).unwrap();
        Ok(Self { end, calls: tracer.calls, failed: tracer.failed, said })
    }
}

struct Tracer {
    main: Pid,
    folder: PathBuf,
    fault: Fault,
    /// Threads inside a call, with the registers that one has to be given back whose call was not made, and the error.
    inside: HashMap<Pid, Option<(user_regs_struct, Errno)>>,
    calls: Vec<Call>,
    failed: Option<Call>,
    /// Why the tracer has killed the process.
    stopped_for: Option<End>,
}

impl Tracer {
    fn follow(&mut self) -> End {
        // Other tests trace processes of their own at the same time, in other threads.
        let wanted = Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD);
        let mut end = None;
        loop {
            let (thread, signal) = match waitpid(None, wanted) {
                Ok(WaitStatus::Exited(thread, code)) => {
                    if thread == self.main {
                        end = Some(End::Code(code));
                    }
                    continue;
                }
                Ok(WaitStatus::Signaled(thread, signal, _)) => {
                    if thread == self.main {
                        end = Some(self.stopped_for.unwrap_or(End::Signal(signal)));
                    }
                    continue;
                }
                Ok(WaitStatus::PtraceSyscall(thread)) => {
                    self.at_call(thread);
                    (thread, None)
                }
                Ok(WaitStatus::PtraceEvent(thread, _, event)) => {
                    if event == libc::PTRACE_EVENT_EXEC {
                        self.inside.insert(thread, None);
                    }
                    (thread, None)
                }
                Ok(WaitStatus::Stopped(thread, signal)) => (thread, Some(signal)),
                Ok(_) => continue,
                Err(Errno::ECHILD) => return end.unwrap(),
                Err(e) => panic!("waitpid: {e}"),
            };
            match ptrace::syscall(thread, signal) {
                // It was killed meanwhile.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => panic!("ptrace: {e}"),
            }
        }
    }

    /// A thread stands before or behind a call.
    fn at_call(&mut self, thread: Pid) {
        match self.inside.remove(&thread) {
            None => {
                let refused = self.before(thread);
                self.inside.insert(thread, refused);
            }
            Some(Some((registers, errno))) => {
                let _ = ptrace::setregs(thread, machine::returns(registers, errno));
            }
            Some(None) => {}
        }
    }

    fn before(&mut self, thread: Pid) -> Option<(user_regs_struct, Errno)> {
        let registers = ptrace::getregs(thread).ok()?;
        let (number, arguments) = machine::call(&registers);
        if number == libc::SYS_write && arguments[0] == 1 && self.is_greeting(arguments) {
            self.kill(End::Greeted);
        }
        if self.stopped_for.is_some() {
            return None;
        }
        let call = self.counted(thread, number, arguments)?;
        let at = self.calls.len();
        self.calls.push(call.clone());
        if self.fault == Fault::Kill(at) {
            self.failed = Some(call);
            self.kill(End::Killed);
            return None;
        }
        let errno = self.fault.of(at, call.kind)?;
        self.failed.get_or_insert(call);
        // With these arguments, no call does anything.
        ptrace::setregs(thread, machine::without_arguments(registers)).ok()?;
        Some((registers, errno))
    }

    fn kill(&mut self, why: End) {
        self.stopped_for = Some(why);
        kill(self.main, Signal::SIGKILL).unwrap();
    }

    fn is_greeting(&self, arguments: [u64; 3]) -> bool {
        let text = self.memory(arguments[1], arguments[2].min(4096) as usize);
        String::from_utf8_lossy(&text).contains("/readyz")
    }

    /// The call as it is counted, if it is one of those on a file below the folder.
    fn counted(&self, thread: Pid, number: c_long, arguments: [u64; 3]) -> Option<Call> {
        let (_, name, kind, file) = CALLS.iter().find(|(call, ..)| *call == number)?;
        let path = match *file {
            Descriptor => self.opened(arguments[0])?,
            At(folder, path) => self.at(folder.map(|folder| arguments[folder]), arguments[path])?,
            // The last two arguments of `renameat2` and `linkat`.
            SecondAt => {
                let registers = ptrace::getregs(thread).ok()?;
                self.at(Some(arguments[2]), machine::fourth(&registers))?
            }
        };
        let path = path.strip_prefix(&self.folder).ok()?.to_owned();
        let writes = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
        let kind = match (*name, *kind) {
            ("openat", _) if arguments[2] & writes as u64 == 0 => Kind::Looks,
            ("open", _) if arguments[1] & writes as u64 == 0 => Kind::Looks,
            (_, kind) => kind,
        };
        Some(Call { name, path, kind })
    }

    fn opened(&self, descriptor: u64) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/fd/{}", self.main, descriptor as u32)).ok()
    }

    fn at(&self, folder: Option<u64>, path: u64) -> Option<PathBuf> {
        let mut path = self.text(path);
        if path.is_relative() {
            let folder = folder.filter(|folder| *folder as i32 != libc::AT_FDCWD);
            let folder = match folder {
                Some(folder) => self.opened(folder)?,
                None => fs::read_link(format!("/proc/{}/cwd", self.main)).ok()?,
            };
            path = folder.join(path);
        }
        // `.` and `..`, which no call needs that this program makes.
        Some(path.components().filter(|part| *part != Component::CurDir).collect())
    }

    fn text(&self, address: u64) -> PathBuf {
        let mut bytes = self.memory(address, 4096);
        bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or_default());
        PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What lies in the process's memory, or as much of it as there is.
    fn memory(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let Ok(memory) = File::open(format!("/proc/{}/mem", self.main)) else { return Vec::new() };
        let read = memory.read_at(&mut bytes, address).unwrap_or_default();
        bytes.truncate(read);
        bytes
    }
}

/// Where the file of a call is found in its arguments.
#[derive(Clone, Copy)]
enum Named {
    Descriptor,
    /// The numbers of the folder's descriptor, if it takes one, and of the path.
    At(Option<usize>, usize),
    SecondAt,
}
use Named::{At, Descriptor, SecondAt};

const CALLS: &[(c_long, &str, Kind, Named)] = &[
    (libc::SYS_openat, "openat", Kind::Grows, At(Some(0), 1)),
    // A folder is opened so, to be locked.
    (libc::SYS_openat2, "openat2", Kind::Looks, At(Some(0), 1)),
    (libc::SYS_write, "write", Kind::Grows, Descriptor),
    (libc::SYS_pwrite64, "pwrite64", Kind::Grows, Descriptor),
    (libc::SYS_writev, "writev", Kind::Grows, Descriptor),
    (libc::SYS_fallocate, "fallocate", Kind::Grows, Descriptor),
    (libc::SYS_copy_file_range, "copy_file_range", Kind::Looks, Descriptor),
    (libc::SYS_mkdirat, "mkdirat", Kind::Grows, At(Some(0), 1)),
    (libc::SYS_symlinkat, "symlinkat", Kind::Grows, At(Some(1), 2)),
    (libc::SYS_linkat, "linkat", Kind::Grows, SecondAt),
    (libc::SYS_renameat2, "renameat2", Kind::Grows, SecondAt),
    (libc::SYS_unlinkat, "unlinkat", Kind::Changes, At(Some(0), 1)),
    (libc::SYS_ftruncate, "ftruncate", Kind::Changes, Descriptor),
    (libc::SYS_fchmod, "fchmod", Kind::Changes, Descriptor),
    (libc::SYS_fchmodat, "fchmodat", Kind::Changes, At(Some(0), 1)),
    (libc::SYS_fchown, "fchown", Kind::Changes, Descriptor),
    (libc::SYS_fchownat, "fchownat", Kind::Changes, At(Some(0), 1)),
    (libc::SYS_utimensat, "utimensat", Kind::Changes, At(Some(0), 1)),
    (libc::SYS_fsync, "fsync", Kind::Syncs, Descriptor),
    (libc::SYS_fdatasync, "fdatasync", Kind::Syncs, Descriptor),
    (libc::SYS_flock, "flock", Kind::Looks, Descriptor),
    (libc::SYS_read, "read", Kind::Looks, Descriptor),
    (libc::SYS_pread64, "pread64", Kind::Looks, Descriptor),
    (libc::SYS_statx, "statx", Kind::Looks, At(Some(0), 1)),
    (libc::SYS_readlinkat, "readlinkat", Kind::Looks, At(Some(0), 1)),
    (libc::SYS_getdents64, "getdents64", Kind::Looks, Descriptor),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open", Kind::Grows, At(None, 0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "mkdir", Kind::Grows, At(None, 0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_symlink, "symlink", Kind::Grows, At(None, 1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, "link", Kind::Grows, At(None, 1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename", Kind::Grows, At(None, 1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_renameat, "renameat", Kind::Grows, SecondAt),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink", Kind::Changes, At(None, 0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, "rmdir", Kind::Changes, At(None, 0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, "chmod", Kind::Changes, At(None, 0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, "chown", Kind::Changes, At(None, 0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, "readlink", Kind::Looks, At(None, 0)),
];

/// Which register is what.
#[cfg(target_arch = "x86_64")]
mod machine {
    use super::{Errno, c_long, user_regs_struct};

    /// The number of the call that a thread is about to make, and its first arguments.
    pub(super) fn call(registers: &user_regs_struct) -> (c_long, [u64; 3]) {
        (registers.orig_rax.cast_signed(), [registers.rdi, registers.rsi, registers.rdx])
    }

    pub(super) fn fourth(registers: &user_regs_struct) -> u64 {
        registers.r10
    }

    pub(super) fn without_arguments(mut registers: user_regs_struct) -> user_regs_struct {
        let user_regs_struct { rdi, rsi, rdx, r10, .. } = &mut registers;
        for argument in [rdi, rsi, rdx, r10] {
            *argument = u64::MAX;
        }
        registers
    }

    pub(super) fn returns(mut registers: user_regs_struct, errno: Errno) -> user_regs_struct {
        registers.rax = i64::from(-(errno as i32)).cast_unsigned();
        registers
    }
}

/// Which register is what.
#[cfg(target_arch = "aarch64")]
mod machine {
    use super::{Errno, c_long, user_regs_struct};

    /// The number of the call that a thread is about to make, and its first arguments.
    pub(super) fn call(registers: &user_regs_struct) -> (c_long, [u64; 3]) {
        let [a, b, c, ..] = registers.regs;
        (registers.regs[8].cast_signed(), [a, b, c])
    }

    pub(super) fn fourth(registers: &user_regs_struct) -> u64 {
        registers.regs[3]
    }

    pub(super) fn without_arguments(mut registers: user_regs_struct) -> user_regs_struct {
        registers.regs[..4].fill(u64::MAX);
        registers
    }

    pub(super) fn returns(mut registers: user_regs_struct, errno: Errno) -> user_regs_struct {
        registers.regs[0] = i64::from(-(errno as i32)).cast_unsigned();
        registers
    }
}
