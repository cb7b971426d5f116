//! The program's own log: lines for people or for machines, on standard error.

use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::model::{Log, LogLevel};
use relay_log::stderr::{self, LogFormat};

/// What sets the level of the one log that a process has.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts the log. A second call changes nothing.
pub fn start(log: Log) {
    stderr::set_format(log.format);
    let (level, handle) = reload::Layer::new(filter(log.level));
    let lines = fmt::layer().with_writer(|| stderr::EventWriter).with_target(false);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    if tracing_subscriber::registry().with(level).with(lines).try_init().is_ok() {
        let _ = LEVEL.set(handle);
    }
}

/// Shows more from now on, or less.
pub fn set_level(level: LogLevel) {
    if let Some(Err(e)) = LEVEL.get().map(|handle| handle.reload(filter(level))) {
        tracing::warn!("the level of the log stays as it was: {e}");
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
