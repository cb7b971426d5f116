//! What is said on standard error, by a thread of its own: a reader that has stopped reading must not stop the relay.
//!
//! Lines wait in a bounded queue; those for which there is no room, and those that the system does not take, are counted, and
//! the count is told once there is room again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::{bounds, threads};

/// What the program is called that this is a part of.
static PROGRAM: OnceLock<&str> = OnceLock::new();

/// The queue to standard error, which is one for the process.
static LINES: OnceLock<Arc<LineQueue>> = OnceLock::new();

/// The form of the program's own log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Names the program, before anything is said.
pub fn set_program(name: &'static str) {
    let _ = PROGRAM.set(name);
}

/// What the program is called in its own lines, and in the commands that it shows.
pub fn program() -> &'static str {
    PROGRAM.get().copied().unwrap_or("license-relay")
}

/// How the program begins a command that reads a log.
pub fn reader() -> &'static str {
    match program() {
        "license-relay" => "license-relay audit",
        alone => alone,
    }
}

/// Says a line, which ends in a line feed. Never waits, but where the system gave no thread to write it: a relay does not
/// start there, and that the last words of a verb are heard is worth more.
pub fn write(line: Vec<u8>) {
    let lines = to_stderr();
    if lines.has_writer.load(Ordering::Relaxed) {
        lines.push(line);
    } else {
        // Where it can't be said there is nobody to say that to.
        let _ = io::stderr().write_all(&line);
    }
}

/// Says what people should know now: in the log of a relay, and before that is started, as in a verb, as it is.
pub fn tell(words: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::warn!("{words}");
    } else {
        write(format!("{}: {words}\n", program()).into_bytes());
    }
}

/// How the line looks that counts dropped ones.
pub fn set_format(format: LogFormat) {
    to_stderr().lock().format = format;
}

/// Waits until all that was said is written, for so long.
pub fn flush(within: Duration) {
    if let Some(lines) = LINES.get() {
        lines.flush(within);
    }
}

/// A writer for one event of the program's own log.
#[derive(Debug)]
pub struct EventWriter;

impl Write for EventWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines on their way.
#[derive(Debug)]
struct LineQueue {
    queue: Mutex<Queue>,
    /// There is something to write.
    said: Condvar,
    /// There is nothing to write any more.
    written: Condvar,
    /// The system gives a thread.
    has_writer: AtomicBool,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Vec<u8>>,
    /// A line is being written.
    writing: bool,
    /// Lines for which there was no room, since that was told last.
    dropped: u64,
    format: LogFormat,
}

fn to_stderr() -> &'static Arc<LineQueue> {
    LINES.get_or_init(|| LineQueue::start(io::stderr()))
}

impl LineQueue {
    fn start(to: impl Write + Send + 'static) -> Arc<Self> {
        let queue = Queue { waiting: VecDeque::new(), writing: false, dropped: 0, format: LogFormat::Text };
        let lines = Arc::new(Self {
            queue: Mutex::new(queue),
            said: Condvar::new(),
            written: Condvar::new(),
            has_writer: AtomicBool::new(true),
        });
        let writer = lines.clone();
        if threads::start("log", move || writer.run(to)).is_err() {
            lines.has_writer.store(false, Ordering::Relaxed);
        }
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Vec<u8>) {
        let mut queue = self.lock();
        if queue.waiting.len() >= bounds::LOG_LINES {
            queue.dropped += 1;
            return;
        }
        queue.waiting.push_back(line);
        drop(queue);
        self.said.notify_one();
    }

    fn run(&self, mut to: impl Write) {
        let mut queue = self.lock();
        // What was written last is a part of a line.
        let mut cut = false;
        loop {
            let Some(line) = queue.waiting.pop_front() else {
                queue.writing = false;
                self.written.notify_all();
                queue = self.said.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.writing = true;
            let dropped = std::mem::take(&mut queue.dropped);
            let told = if dropped > 0 { gap(dropped, queue.format) } else { Vec::new() };
            drop(queue);
            let begin: &[u8] = if cut { b"\n" } else { b"" };
            let bytes = [begin, &told, &line].concat();
            let written = write_some(&mut to, &bytes);
            queue = self.lock();
            if written < bytes.len() {
                // Where it can't be said there is nobody to say that to, until it can.
                queue.dropped += dropped + 1;
            }
            cut = (cut && written == 0) || (written > 0 && written < bytes.len());
        }
    }

    fn flush(&self, within: Duration) {
        let busy = |queue: &mut Queue| queue.writing || !queue.waiting.is_empty();
        let _ = self.written.wait_timeout_while(self.lock(), within, busy);
    }
}

/// Writes as much as can be written, and says how much that is.
fn write_some(to: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    written
}

fn gap(lines: u64, format: LogFormat) -> Vec<u8> {
    let words = format!("{lines} lines of this log were dropped, because they could not be written");
    let now = Timestamp::now();
    match format {
        LogFormat::Text => format!("{now:.6} WARN {words}\n"),
        LogFormat::Json => {
            format!("{{\"timestamp\":\"{now:.6}\",\"level\":\"WARN\",\"message\":\"{words}\"}}\n")
        }
    }
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::thread;

    use super::*;

    /// Takes a line when the other side does.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn text(taken: &Receiver<Vec<u8>>) -> String {
        String::from_utf8(taken.recv().unwrap()).unwrap()
    }

    #[test]
    fn lines_that_nobody_takes_are_dropped_and_counted_and_hold_nobody_up() {
        let (slow, taken) = sync_channel(0);
        let lines = LineQueue::start(Slow(slow));
        lines.push(b"first\n".to_vec());
        while !lines.lock().writing {
            thread::yield_now();
        }
        for n in 0..bounds::LOG_LINES + 100 {
            lines.push(format!("{n}\n").into_bytes());
        }
        lines.flush(Duration::from_millis(20));
        assert_eq!(lines.lock().dropped, 100);
        let all: Vec<String> = (0..=bounds::LOG_LINES).map(|_| text(&taken)).collect();
        assert_eq!(all[0], "first\n");
        assert!(
            all[1].ends_with(" 100 lines of this log were dropped, because they could not be written\n0\n"),
            "{}",
            all[1]
        );
        assert_eq!(all[2], "1\n");
        assert_eq!(all.last().unwrap(), &format!("{}\n", bounds::LOG_LINES - 1));
        assert_eq!(lines.lock().dropped, 0);
    }

    #[test]
    fn a_flush_waits_for_what_was_said() {
        let (slow, taken) = sync_channel(10);
        let lines = LineQueue::start(Slow(slow));
        for _ in 0..5 {
            lines.push(b"x\n".to_vec());
        }
        lines.flush(Duration::from_secs(10));
        assert_eq!(taken.try_iter().count(), 5);
    }
}
