//! `license-relay stub`: the stand-in for the license back end, alone, until it is told to stop.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::{self, out};
use relay_stub::{Identity, Options, Trouble, duration};

/// A stand-in for license.qlikcloud.com, to try the relay with.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  license-relay stub --listen 127.0.0.1:9443 --control 127.0.0.1:9444 \
    --out stub-ca.pem --trouble 'close-before*2'")]
pub(super) struct Stub {
    /// Where it listens; port 0 for a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where tests look into it and steer it: plain HTTP, loopback only.
    #[arg(long, value_name = "ADDRESS")]
    control: Option<SocketAddr>,
    /// Where the root of its own throw-away CA is written, for the relay's `upstream.extra_ca`.
    #[arg(long, alias = "ca-out", value_name = "FILE", conflicts_with_all = ["cert", "no_tls"])]
    out: Option<PathBuf>,
    /// A certificate with its chain, in PEM, instead of its own CA.
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "no_tls")]
    cert: Option<PathBuf>,
    /// The certificate's key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// A name or address in the certificate; may repeat.
    #[arg(long, value_name = "HOST", default_value = "license.qlikcloud.com", conflicts_with_all = ["cert", "no_tls"])]
    name: Vec<String>,
    /// How it misbehaves, such as `delay=2s` or `close-before*2`; may repeat.
    #[arg(long, value_name = "SPEC")]
    trouble: Vec<Trouble>,
    /// How long an idle connection stays.
    #[arg(long, value_name = "DURATION", default_value = "75s", value_parser = parse_duration)]
    keep_alive: Duration,
    /// Plain HTTP.
    #[arg(long)]
    no_tls: bool,
}

/// Runs the stub until SIGTERM or SIGINT.
///
/// # Errors
/// An address can't be had, a file can't be read or written, or the certificate is not usable.
pub(super) async fn run(args: Stub) -> Result<(), Failure> {
    let signals = |kind| signal(kind).map_err(|e| Failure::new(Exit::Internal, format!("no signals: {e}")));
    let (mut terminate, mut interrupt) =
        (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    let scheme = if args.no_tls { "http" } else { "https" };
    let identity = match (args.cert, args.key) {
        _ if args.no_tls => Identity::Plain,
        (Some(certificate), Some(key)) => Identity::Files(certificate, key),
        _ => Identity::Own(args.name),
    };
    let stub = relay_stub::Stub::start(Options {
        listen: args.listen,
        control: args.control,
        identity,
        keep_alive: args.keep_alive,
        trouble: args.trouble,
    })
    .await
    .map_err(unfit)?;
    if let (Some(path), Some(root)) = (args.out, stub.root()) {
        let unwritten = |e| Failure::new(Exit::Io, format!("{} can't be written: {e}", path.display()));
        fs::write(&path, root).map_err(unwritten)?;
    }
    let mut lines = format!("stub listens on {scheme}://{}\n", stub.address());
    if let Some(address) = stub.control() {
        lines.push_str(&format!("control on http://{address}\n"));
    }
    out!("{lines}");
    // Whoever can't read where it listens can't use it.
    out::is_written()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stub.stop().await;
    Ok(())
}

fn unfit(e: io::Error) -> Failure {
    let exit = match e.kind() {
        io::ErrorKind::AddrInUse => Exit::Running,
        io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidData
        | io::ErrorKind::NotFound => Exit::Usage,
        _ => Exit::Io,
    };
    Failure::new(exit, e)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| format!("{text:?} is no duration; write 75s or 500ms"))
}
