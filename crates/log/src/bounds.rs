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
pub const LINKS: usize = 40;
/// How long a file is waited for before that is told.
pub const READ_TOLD: Duration = Duration::from_secs(3);
/// How long an edit waits for another one before it says so.
pub const LOCK_TOLD: Duration = Duration::from_secs(1);
/// How long it waits in all.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How often it tries: a lock of a file gives no event that could be waited for with a limit.
pub const LOCK_TRY: Duration = Duration::from_millis(10);
/// Files that are made for one that is handed over, until one of them is not taken away by somebody else.
pub const LOCK_TRIES: usize = 8;
/// Locks of the whole system that are looked through for the holder of one.
pub const LOCKS_LISTED: u64 = 1 << 20;

// --- keys -------------------------------------------------------------------------------------------------------

/// Retired keys of pseudonyms beside the newest one: one a year, and some more.
pub const RETIRED_KEYS: usize = 16;

// --- threads and standard error ----------------------------------------------------------------------------------

/// How long threads that were started to count them may take to end.
pub const THREADS_END: Duration = Duration::from_secs(1);
/// Lines that wait to be written; further ones are dropped and counted.
pub const LOG_LINES: usize = 4096;
/// How long the end of the program waits for them.
pub const LOG_FLUSH: Duration = Duration::from_secs(2);
