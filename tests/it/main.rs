//! The integration tests: they drive the built program over real sockets. Each module is a promise, and says in its first
//! lines which; `common` is what they all stand on.
//!
//! `tests/run` runs each test in a process of its own, with cargo-nextest, and those that measure the machine alone
//! (`.config/nextest.toml`). Under plain `cargo test` they share one process: the tests that measure fail there beside others.

#![allow(unreachable_pub, missing_docs, reason = "nothing outside stands on a test")]

mod common;

// The way of a request: who gets in, and what reaches the back end.
mod allow_list;
mod bad_input;
mod door;
mod enrolment;
mod fresh_deployment;
mod gate;
mod identity;
mod once;
mod one_authority;
mod only_there;
mod outages;
mod parent_faults;
mod parent_proxy;
mod refusals;
mod revocation;
mod rotation;
mod transparent;
mod tunnels;
mod ways_in;
mod whole_job;

// What a message means.
mod capture;
mod dialects;
mod honest;
mod messages;
mod read_as_go;
mod replay;

// The log, and what is on disk.
mod audit_log;
mod disk_full;
mod file_size;
mod foreign;
mod keys;
mod kill;
mod log_budget;
mod no_secrets;
mod on_disk_first;
mod retention;

// What readers say of a log.
mod answers;
mod claims;
mod hostile;
mod kit;
mod long_log;
mod oracle;
mod prove;
mod readers;
mod report;
mod second_opinion;

// The program and its files, as administrators meet them.
mod admin_socket;
mod clock;
mod command_line;
mod edits;
mod faults;
mod handed_over;
mod life;
mod one_bad_file;
mod pairs;
mod reload;
mod verbs;
mod wrong_files;

// Limits, load and attacks.
mod bounded;
mod fairness;
mod few_threads;
mod flood;
mod memory;
mod probes;
mod scanners;
mod soak;

// The sources themselves.
mod layers;
mod one_way_to_write;
