//! Arguments to verb, verb to exit code.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;

use license_relay::cli;

/// Halves what thousands of idle connections take.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
