//! Every limit that is not configuration, in one place: buffers, queues, tables and waits.
//!
//! What a site may want to change is in `relay.toml` (`[limits]`, `listen.max_connections`, `[upstream]` time-outs).

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::SignedDuration;

// --- clients: waits ---------------------------------------------------------------------------------------------

/// The first byte of a connection, and the first inside a tunnel.
pub const FIRST_BYTE: Duration = Duration::from_secs(10);
/// The first request of a conversation: clients open connections ahead of need.
pub const UNUSED: Duration = Duration::from_secs(30);
/// The whole TLS handshake, from the first byte of the ClientHello.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// A request head, from its first byte.
pub const HEAD: Duration = Duration::from_secs(30);
/// A kept connection without a request; above the 90 s of Go's client, so that the client closes first.
pub const IDLE: Duration = Duration::from_secs(100);
/// The next bytes of a request body, and of the place that a reply is written to.
pub const STALL: Duration = Duration::from_secs(20);
/// A whole request body.
pub const BODY: Duration = Duration::from_secs(300);
/// A request body may take this long in any case; beyond, it must have come at [`BODY_RATE`].
pub const BODY_HEAD_START: Duration = Duration::from_secs(30);
/// Bytes of a request body in a second, below which its client is one that only holds a place.
pub const BODY_RATE: u64 = 1024;
/// A refused client's unread bytes: so long and so many are read, so that it sees the refusal and not a reset.
pub const LINGER: Duration = Duration::from_secs(2);
/// See [`LINGER`].
pub const LINGER_BYTES: u64 = 1 << 20;
/// A connection over the limits is told so, if it says something within this time.
pub const OVER_LIMIT: Duration = Duration::from_secs(2);
/// Waiting for a part of the memory for bodies.
pub const BODY_MEMORY: Duration = Duration::from_secs(5);
/// How long a body that is there waits for the memory to be read in: as long as what is before it in the line may take.
pub const READING_WAIT: Duration = Duration::from_secs(30);

// --- clients: sizes ---------------------------------------------------------------------------------------------

/// A request head.
pub const HEAD_BYTES: usize = 64 * 1024;
/// Header fields of a request.
pub const HEADERS: usize = 100;
/// Connections over the limits that are being told so at one time; further ones are closed at once.
pub const OVER_LIMIT_AT_ONCE: usize = 64;
/// A connection is idle, and may give way where all places are taken, once it has had no request in hand and no byte has moved
/// for so long: a few round trips over a slow network, so that nobody who has just come and is about to speak gives way.
pub const PLACE_GRACE: Duration = Duration::from_secs(2);
/// Connections that the system may queue before they are accepted.
pub const BACKLOG: i32 = 1024;

/// The first piece of memory that a request body gets; from there it doubles as bytes arrive.
pub const BODY_PIECE: u64 = 16 * 1024;
/// One client holds at most one in so many parts of the memory for bodies, for messages and for replies; or the dearest
/// single one, where that is more.
pub const BODIES_SHARE: u64 = 4;
/// One in so many parts of each is left to what is small.
pub const SMALL_SHARE: u64 = 8;
/// What is small, in bytes: what may be kept of a request of 20 KiB, or of a reply of 10 KiB.
pub const SMALL_MEMORY: u64 = 4 << 20;
/// What decoding and parsing one body takes at most, beside what is kept of it: 16 MiB decoded and 16 MiB of text, and 60 MB
/// of values. The dearest bodies that are known take 57 MB for theirs: pairs of one member twice.
pub const READING: u64 = 92 << 20;

// --- tunnels ----------------------------------------------------------------------------------------------------

/// A tunnel without a byte in either direction.
pub const TUNNEL_IDLE: Duration = Duration::from_secs(300);
/// A tunnel of which one side has ended, without a byte from the other.
pub const HALF_CLOSED: Duration = Duration::from_secs(30);
/// A tunnel in all.
pub const TUNNEL_AGE: Duration = Duration::from_secs(24 * 3600);
/// A tunnel without a byte in either direction for so long is idle like a connection without a request: twice the time that
/// a reply may take by default, as nobody sees whether a request is in hand.
pub const TUNNEL_QUIET: Duration = Duration::from_secs(120);
/// A buffer, borrowed while bytes flow.
pub const TUNNEL_BUFFER: usize = 64 * 1024;
/// Buffers that are kept for the next bytes.
pub const TUNNEL_BUFFERS: usize = 64;
/// Requests on the proxy face that may be answered with a challenge before the connection is closed.
pub const CHALLENGES: usize = 4;

/// The longest authentication scheme that is told by its name, in bytes; a longer word may be a secret.
pub const SCHEME: usize = 16;

// --- accepting --------------------------------------------------------------------------------------------------

/// The first pause after `accept` failed; each further one doubles.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause after `accept` failed.
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

// --- certificates -----------------------------------------------------------------------------------------------

/// A key of session tickets: so long it makes them, and then as long again it reads them.
pub const TICKET_KEY: Duration = Duration::from_secs(6 * 3600);
/// Clients whose trust in a root is remembered.
pub const TRUST: usize = 10_000;
/// How often leaves are looked at for renewal, besides at each handshake.
pub const RENEWAL_CHECK: Duration = Duration::from_secs(1);
/// How long a handshake waits for a renewal: two keys are made.
pub const RENEWAL_WAIT: Duration = Duration::from_secs(5);
/// How soon a renewal that failed is tried again.
pub const RENEWAL_RETRY: Duration = Duration::from_secs(60);
/// A client that leaves within this time of a handshake without having asked for anything does not trust the root.
pub const TRUST_LEFT: Duration = Duration::from_secs(2);
/// Where an address has trusted a root and refused it within this time, there are several clients behind it.
pub const TRUST_MIXED: SignedDuration = SignedDuration::from_hours(24);
/// A client that used the old root within this time, and never the new one, would be cut off by the end of a rotation.
pub const TRUST_LATELY: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How often `trust.json` is written at most.
pub const TRUST_WRITE: Duration = Duration::from_secs(1);

// --- upstream ---------------------------------------------------------------------------------------------------

/// A kept connection, unused; nginx keeps its side for 75 s.
pub const UPSTREAM_IDLE: Duration = Duration::from_secs(30);
/// A kept connection in all, so that changes in DNS are noticed.
pub const UPSTREAM_AGE: Duration = Duration::from_secs(300);
/// Kept connections of one destination.
pub const UPSTREAM_KEPT: usize = 32;
/// One question to one resolver of `upstream.dns`, TCP included.
pub const DNS: Duration = Duration::from_secs(3);
/// An answer over UDP.
pub const DNS_ANSWER: usize = 4096;
/// How much longer than for IPv4 addresses is waited for IPv6 addresses of a name (RFC 8305 §3).
pub const DNS_DELAY: Duration = Duration::from_millis(50);
/// Records of an answer, all sections together.
pub const DNS_RECORDS: usize = 128;
/// Aliases between a name and its addresses.
pub const DNS_ALIASES: usize = 8;
/// Addresses of one name that are tried.
pub const ADDRESSES: usize = 8;
/// The start of the next address's attempt while the last one still runs (RFC 8305 §5).
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// A reply head.
pub const REPLY_HEAD_BYTES: usize = 64 * 1024;
/// So many bytes in a row of the parent's credentials are never told.
pub const SECRET_PART: usize = 6;
/// A reply that is read whole; a longer one is passed on as it comes and recorded as unread.
pub const REPLY_BYTES: usize = 8 << 20;

// --- what is said -----------------------------------------------------------------------------------------------

/// Arrays and objects within each other, in a body that is read. What is deeper is checked and kept unread: no place of
/// a vocabulary leads there.
pub const JSON_DEPTH: usize = 32;
/// Arrays and objects within each other that a body may have at all, as in Go's `encoding/json`.
pub const JSON_LEVELS: usize = 10_000;
/// Values in a body that is read, all levels together: 15 for each of [`CHANGES`](relay_log::bounds::CHANGES), and syncs have up to 14.
pub const JSON_VALUES: usize = 750_000;
/// Members of one object.
pub const JSON_MEMBERS: usize = 50_000;
/// Bytes of text in a body that is not written as it is: with escapes, or not in UTF-8.
pub const JSON_TEXT: usize = 16 << 20;
/// A compressed body, once it is decoded to be read.
pub const DECODED: usize = 16 << 20;
/// A definition inside a definition, as base64.
pub const WRAPPED: usize = 3;
/// Values in each of them.
pub const WRAPPED_VALUES: usize = 50_000;
/// Allotments of definitions in one reply, each unit counted.
pub const UNITS: usize = 10_000;
/// Bytes of memory that the changes of one message take, which are kept until its reply is in the log: 400 for each of
/// [`CHANGES`](relay_log::bounds::CHANGES).
pub const MESSAGE: usize = 20_000_000;
/// The id of an element of a report, in bytes; a longer one is none.
pub const ELEMENT_ID: usize = 128;
/// Access types of one allotment that are recorded.
pub const ACCESS_TYPES: usize = 8;
/// A name of a person, in bytes; a message with a longer one is recorded as unread.
pub const SUBJECT: usize = 1024;
/// People whose pseudonyms are known to be linked over a change of keys; beyond, the table begins anew.
pub const LINKED: usize = 100_000;
/// How often the file that holds them is written at most.
pub const LINKED_WRITE: Duration = Duration::from_secs(10);
/// Source ids of one message that did not decide and are recorded.
pub const OTHER_SOURCES: usize = 4;
/// Names of doubled members that are recorded of one message.
pub const DOUBLED: usize = 8;
/// The text of a shape, in bytes.
pub const SHAPE: usize = 8 * 1024;
/// A body that is read on the spot, in bytes; a longer one, and one that is compressed, is read off the workers.
pub const QUICK_BODY: usize = 32 * 1024;
/// Records that are made on the spot.
pub const QUICK_RECORDS: usize = 100;
/// Clients whose turn at such work is remembered before those are forgotten that have none.
pub const TURNS: usize = 1024;
/// Values of a body that its shape is made of.
pub const SHAPE_VALUES: usize = 20_000;
/// Elements of an array that its shape is made of.
pub const SHAPE_ELEMENTS: usize = 64;
/// Members of an object that its shape shows.
pub const SHAPE_MEMBERS: usize = 64;
/// Digits of a member's name that is told outside the site; one with more may be an id.
pub const NAME_DIGITS: usize = 3;
/// Names of headers, or of query parameters, of one message that are told outside the site.
pub const OUTLINE_NAMES: usize = 32;
/// Segments of a path that are.
pub const OUTLINE_PATH: usize = 8;
/// Different exchanges of one kind of message whose shapes are kept for `vocabulary capture`.
pub const CAPTURED: usize = 32;
/// Those of them that one client brings, so that it keeps no room from others.
pub const CAPTURED_PER_CLIENT: usize = 12;
/// How often the file that holds them is written at most.
pub const CAPTURE_WRITE: Duration = Duration::from_secs(5);
/// Places in one list of a vocabulary, the built-in ones not counted.
pub const PLACES: usize = 64;
/// Steps of one place.
pub const STEPS: usize = 8;
/// A member's name in a place, in bytes.
pub const STEP: usize = 128;
/// Different shapes that `vocabulary suggest` looks at.
pub const SHAPES: usize = 1_000;

// --- policy -----------------------------------------------------------------------------------------------------

/// Records in the log that a source may cause for each request that it may send, unless the configuration says so: with the
/// default limit, a first sync of 5,000 people passes.
pub const RECORDS_A_REQUEST: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// The longest that a source may owe for a message dearer than its limit.
pub const OWED: Duration = Duration::from_secs(366 * 24 * 3600);
/// Bytes of the log that one client of an entry may fill in a day, and those whom no entry lets in, unless the configuration
/// says so. Half of it may be filled at once: a sync of 50,000 people takes about 90 MB.
pub const LOG_PER_DAY: u64 = 256 << 20;
/// As many for each request that a source may send in a day, where that is more: whoever raises the rate of requests is not
/// held up by the log.
pub const LOG_A_REQUEST: u64 = 3 << 10;
/// The most that it is unless the configuration says so.
pub const LOG_PER_DAY_MOST: u64 = 1 << 40;
/// The least that it may be: half of it holds an intent and an outcome of the longest lines.
pub const LEAST_LOG_PER_DAY: u64 = 256 << 10;
/// The time that such a budget is for.
pub const LOG_DAY: Duration = Duration::from_secs(24 * 3600);
/// One address of those whom no entry lets in fills at most one in so many parts of what they have together.
pub const STRANGER_SHARE: u64 = 4;
/// Bytes that are reserved for a record before a request is sent. With the names and numbers of a usual site it has 650 to
/// 820; a longer one is owed.
pub const RECORD_ASKED: u64 = 900;
/// And for a record of the answer, which has about 100 more.
pub const RECORD_TOLD: u64 = 1000;
/// Client addresses with a limiter of their own; beyond, limiters that have refilled are forgotten, and where none has,
/// further addresses share one.
pub const LIMITED_ADDRESSES: usize = 10_000;
/// Addresses with a limiter of their own at one entry of the allow-list; beyond, further addresses share one until an
/// address loses its place.
pub const ADDRESSES_PER_SOURCE: usize = 16;
/// An address loses its place at an entry once it has been silent for so long: two idle syncs of a deployment, and some.
pub const PLACE_SILENT: Duration = Duration::from_secs(3600);
/// One that has come for so long has its place for longer.
pub const PLACE_STANDING: Duration = Duration::from_secs(24 * 3600);
/// As long as that, when it is silent.
pub const PLACE_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often a full table of limiters is searched for those that have refilled at most.
pub const LIMITER_SWEEP: Duration = Duration::from_secs(1);
/// Refused deployments kept for `sources pending`.
pub const PENDING: usize = 1_000;
/// Refused deployments kept of one address.
pub const PENDING_PER_ADDRESS: usize = 32;
/// Deployments that `check --replay` tells one by one.
pub const REPLAYED: usize = 10_000;
/// Reasons, licenses and addresses of one of them, each.
pub const REPLAYED_OF_ONE: usize = 8;
/// Different exchanges whose verdict it remembers.
pub const REPLAY_KNOWN: usize = 50_000;
/// How long bodies of a deployment are not understood before it is told.
pub const UNREAD_FOR: SignedDuration = SignedDuration::from_hours(24);
/// Deployments kept whose bodies are not understood.
pub const UNREAD: usize = 1_000;
/// Those of one address.
pub const UNREAD_PER_ADDRESS: usize = 32;
/// Password hashes that are checked at one time.
pub const PASSWORDS_AT_ONCE: usize = 2;
/// Requests that wait for that; a further one is refused at once.
pub const PASSWORDS_WAITING: usize = 64;
/// How long one waits.
pub const PASSWORD_WAIT: Duration = Duration::from_secs(5);
/// Pairs of user and password that are remembered as right.
pub const REMEMBERED_PASSWORDS: usize = 10_000;
/// Enrolments that wait to be written into `sources.toml`.
pub const LEARNED: usize = 64;
/// How soon that is tried again where the file can't be written.
pub const LEARNED_RETRY: Duration = Duration::from_secs(30);
/// How often `pending.json` is written at most where only counts have changed.
pub const PENDING_WRITE: Duration = Duration::from_secs(1);
/// How often it is written at most where a number is new.
pub const PENDING_WRITE_NEW: Duration = Duration::from_millis(100);
/// How long a refusal waits for its number to be on disk.
pub const PENDING_WAIT: Duration = Duration::from_secs(2);
/// Client networks that listed deployments were seen in; where there are more, every network counts as shared.
pub const SEEN_NETWORKS: usize = 10_000;

// --- the log ----------------------------------------------------------------------------------------------------

/// Records that are written together; more are written in turns, beside those of others. Their lines take a millisecond or
/// so to make, for which others wait.
pub const JOURNAL_TURN: usize = 200;
/// A turn ends sooner once its records take so many bytes.
pub const JOURNAL_TURN_BYTES: usize = 1 << 20;
/// The least `audit.queue`: a turn of each of four lanes.
pub const JOURNAL_QUEUE: u64 = 4 << 20;
/// One lane of the queue holds at most this part of it.
pub const JOURNAL_LANE_SHARE: usize = 4;
/// This part of the queue is kept for lanes that hold nothing.
pub const JOURNAL_KEPT: usize = 8;
/// Bytes that a lane may write before the others have their turn: a sync of some 20 changes goes out whole.
pub const JOURNAL_QUANTUM: usize = 64 * 1024;
/// How long a sender waits for room in the queue before it is refused.
pub const JOURNAL_WAIT: Duration = Duration::from_secs(5);
/// How long it waits with what has happened already, which is lost otherwise.
pub const JOURNAL_OUTCOME_WAIT: Duration = Duration::from_secs(60);
/// How long lines are made for one write, where a sixteenth of the time that a sync takes is less.
pub const JOURNAL_LINES: Duration = Duration::from_millis(1);
/// Bytes that one write carries, but for a single longer batch.
pub const JOURNAL_WRITE: usize = 1 << 20;
/// How often a blocked log is tried again, and one that is idle looked at.
pub const JOURNAL_TICK: Duration = Duration::from_secs(1);
/// Records without anybody who waits that are kept while the log is blocked.
pub const JOURNAL_NOTES: usize = 1024;
/// How often a checkpoint is signed at most, while records come.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// How long a seal or a stop waits for its checkpoint.
pub const CHECKPOINTER_WAIT: Duration = Duration::from_secs(10);
/// How long a stop waits for an anchor to have it.
pub const ANCHOR_WAIT: Duration = Duration::from_secs(3);
/// A segment that has grown to this is sealed.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Space that is kept for outcomes and the stop, once the disk is full.
pub const RESERVE: u64 = 1 << 20;
/// A clock that differs by more from what has passed has been set.
pub const CLOCK_STEP: Duration = Duration::from_secs(2);
/// How long refusals are folded before their count is written.
pub const REFUSAL_WINDOW: Duration = Duration::from_secs(60);
/// Refusals of one address in a window that stand as records of their own.
pub const REFUSALS_PER_ADDRESS: u64 = 20;
/// Refusals of all addresses in a window that stand as records of their own.
pub const REFUSALS: u64 = 200;
/// Addresses counted one by one in a window; those beyond share one count.
pub const REFUSAL_ADDRESSES: usize = 1024;

/// What refusals may fill in the log beyond their budget, in a day: in each minute a record for each of their four actions.
pub const REFUSAL_COUNTS_A_DAY: u64 = 4 * 700 * 24 * 60;
/// And in the access lines: a line for each error.
pub const REFUSAL_LINES_A_DAY: u64 = 32 * 500 * 24 * 60;
/// What a relay writes of itself in a day: a sign of life a minute, a mark for each of [`UNREAD`], seals and checkpoints.
pub const OWN_RECORDS_A_DAY: u64 = 4 << 20;
/// The hashes of a log are at most one in so many parts of its lines, of which the shortest has 320 bytes: 32 for each, and
/// 32 more for each 256.
pub const HASHES_SHARE: u64 = 9;

// --- the admin address -------------------------------------------------------------------------------------------

/// The shortest token in `admin.token_file`, in characters.
pub const ADMIN_TOKEN: usize = 16;
/// Connections to it at one time; further ones wait to be accepted.
pub const ADMIN_CONNECTIONS: usize = 64;
/// One connection to it, from its first byte to its last: a request, and the answer.
pub const ADMIN: Duration = Duration::from_secs(10);
/// A request head on it; the least that hyper takes is 8 KiB.
pub const ADMIN_HEAD_BYTES: usize = 16 * 1024;

// --- the admin socket --------------------------------------------------------------------------------------------

/// The path of a socket, in bytes (unix(7)).
pub const SOCKET_PATH: usize = 107;
/// A request head on it: whoever asks is on this machine.
pub const SOCKET_HEAD: Duration = Duration::from_secs(2);
/// One connection to it; longer than a reload takes, of which each part has its own limit.
pub const SOCKET: Duration = Duration::from_secs(35);
/// Reloads that are asked for and have not begun; further ones are refused at once.
pub const RELOADS_ASKED: usize = 64;
/// How long a reload that a verb asked for waits for files that somebody writes just now.
pub const RELOAD_SETTLES: Duration = Duration::from_secs(5);
/// How often a reload is tried where files change while they are read.
pub const RELOAD_TRIES: usize = 4;
/// How long a verb waits for the relay to say which one it is.
pub const ASK_WHO: Duration = Duration::from_secs(10);
/// How long a verb waits for a reload.
pub const ASK_RELOAD: Duration = Duration::from_secs(40);
/// How long a verb looks for the socket of a relay that has the log: it may be starting, or stopping.
pub const ASK_STARTING: Duration = Duration::from_secs(3);
/// How often it looks.
pub const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The answer to a verb, in bytes.
pub const ASK_ANSWER: usize = 4 << 20;

// --- standard error ---------------------------------------------------------------------------------------------

/// Entries of the allow-list that can't work and are told one by one at a start.
pub const WARNINGS: usize = 20;

// --- memory in all ----------------------------------------------------------------------------------------------

/// What an open connection takes at most, by resident memory: a request head and a reply head of 55 KB, and a reply of
/// 32 KB, all of them there at one time, took 538 KiB each for 150 connections, with TLS on both sides. An idle one inside
/// `CONNECT` and TLS took 36 KiB.
pub const CONNECTION: u64 = 576 * 1024;
/// What a worker takes at most: its stack, and one body of [`QUICK_BODY`] that it parses (16,384 values).
pub const WORKER: u64 = 8 << 20;
/// All tables together, full: people whose pseudonyms are linked (and the copy that is written), shapes, limiters, refused
/// deployments, trust, and lines that wait for standard error.
pub const TABLES: u64 = 96 << 20;
/// The program, its configuration and its threads: 43 MiB after a start, unoptimised.
pub const PROGRAM: u64 = 64 << 20;
/// The allocator keeps one in so many parts beside what is in use: pages that are partly free, and those that were freed and
/// not given back yet.
pub const ALLOCATOR_SHARE: u64 = 4;

// --- files ------------------------------------------------------------------------------------------------------

/// The largest table that a relay keeps beside its log, in bytes.
pub const TABLE: u64 = 64 << 20;
/// How long a thread for blocking work is kept idle: as long as any relay runs.
pub const THREAD_KEPT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// How often the lock of a log is tried, a [`LOCK_TRY`](relay_log::bounds::LOCK_TRY) after the other: a verb that asks whether a relay runs has it for a
/// moment.
pub const LOG_LOCK_TRIES: u32 = 25;
/// How long the relay waits for a read of its files, which a disk or a mount that hangs never ends.
pub const READ: Duration = Duration::from_secs(10);
/// Reloads that may hang in a read at one time; a further one is refused.
pub const READS_THAT_HANG: usize = 4;
/// How long the end of the program waits for reads and writes that are under way.
pub const LAST_READS: Duration = Duration::from_secs(5);

// --- the relay itself -------------------------------------------------------------------------------------------

/// Requests in hand at SIGTERM get this long to end; longer than one reply may take by default.
pub const DRAIN: Duration = Duration::from_secs(75);
/// A changed file that its writer has closed must be unchanged for this long before it is read.
pub const SETTLE: Duration = Duration::from_millis(250);
/// How long it must be unchanged where nothing told that its writer has closed it.
pub const QUIET: Duration = Duration::from_secs(1);
/// How soon files that can't be used are tried again though nothing tells that they changed: a port may be free by then, or
/// a mode be right.
pub const HELD_RETRY: Duration = Duration::from_secs(10);
/// Entries that a list must have lost at once for them to be told by name.
pub const LOSS: usize = 10;
/// And it must have lost one of so many.
pub const LOSS_SHARE: usize = 10;
/// How long events are gathered before files are looked at.
pub const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often files are looked at where nothing was notified.
pub const POLL: Duration = Duration::from_secs(5);
