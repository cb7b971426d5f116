//! Arguments to verb, verb to exit code.

use std::process::ExitCode;

use license_relay::cli;

/// Halves what thousands of idle connections take.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
