//! Every limit of the log, its files and its keys, in one place: sizes, tables and waits. What the formats themselves limit
//! stands with each format.

use std::time::Duration;

// --- records of one message -------------------------------------------------------------------------------------

/// Different licenses of one message that are kept; the rest are not looked at.
pub const LICENSES: usize = 16;
/// Changes, or elements of a capacity report, in one message; one with more is recorded as unread. A first sync of a large
/// site has some thousand.
pub const CHANGES: usize = 50_000;

// --- files ------------------------------------------------------------------------------------------------------

/// The largest file that the configuration names, in bytes.
pub const CONFIGURED: u64 = 8 << 20;
/// Links that lead from one to the next on the way to a file, as many as Linux follows.
pub(crate) const LINKS: usize = 40;
/// How long a file is waited for before that is told.
pub(crate) const READ_TOLD: Duration = Duration::from_secs(3);
/// How long an edit waits for another one before it says so.
pub(crate) const LOCK_TOLD: Duration = Duration::from_secs(1);
/// How long it waits in all.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How often it tries: a lock of a file gives no event that could be waited for with a limit.
pub const LOCK_TRY: Duration = Duration::from_millis(10);
/// Files that are made for one that is handed over, until one of them is not taken away by somebody else.
pub(crate) const LOCK_TRIES: usize = 8;
/// Locks of the whole system that are looked through for the holder of one.
pub(crate) const LOCKS_LISTED: u64 = 1 << 20;

// --- verification -----------------------------------------------------------------------------------------------

/// Threads that hash the lines of one log, at most: more of them would wait for the thread that judges the lines.
pub(crate) const HASHERS: usize = 4;
/// Bytes of a batch of lines that is hashed together, and those of one more line at most.
pub(crate) const HASH_BATCH: usize = 256 * 1024;
/// Lines of one: many lines that are short would take more than their bytes.
pub(crate) const HASH_LINES: usize = HASH_BATCH / 64;
/// Batches that wait before each thread that hashes lines, and as many behind it.
pub(crate) const HASH_WAITING: usize = 2;
/// Bytes of a segment that are read at one time.
pub(crate) const READ_PIECE: usize = 128 * 1024;
/// The same of a compressed segment: as much as this is lost before the place where one is damaged.
pub(crate) const UNPACKED_PIECE: usize = 8 * 1024;
/// Faults of a log that are listed one by one; all are counted.
pub(crate) const FAULTS_LISTED: usize = 20;

// --- keys -------------------------------------------------------------------------------------------------------

/// Retired keys of pseudonyms beside the newest one: one a year, and some more.
pub const RETIRED_KEYS: usize = 16;

// --- threads and standard error ----------------------------------------------------------------------------------

/// How long threads that were started to count them may take to end.
pub(crate) const THREADS_END: Duration = Duration::from_secs(1);
/// Lines that wait to be written; further ones are dropped and counted.
pub(crate) const LOG_LINES: usize = 4096;
/// How long the end of the program waits for them.
pub(crate) const LOG_FLUSH: Duration = Duration::from_secs(2);
