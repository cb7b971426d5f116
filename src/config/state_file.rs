//! Small tables that a running relay keeps in a file beside its log, so that a verb can read them without asking it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::bounds;
use relay_log::files::private::replace_private;
use relay_log::files::regular;

/// What a file holds; nothing where there is none.
///
/// # Errors
/// It can't be read, or isn't one that the relay wrote.
pub fn read<T: DeserializeOwned + Default>(path: &Path) -> io::Result<T> {
    match regular::open(path).and_then(|file| regular::read_opened(file, bounds::TABLE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(e) => Err(e),
    }
}

/// As [`read`], at start-up: a file that can't be read is only worth a warning, and what it held is learned anew.
pub fn read_or_warn<T: DeserializeOwned + Default>(path: &Path) -> T {
    read(path).unwrap_or_else(|e| {
        tracing::warn!("{} can't be read ({e}); what it held is learned anew", path.display());
        T::default()
    })
}

/// Writes a table, whole or not at all, for its owner alone.
///
/// # Errors
/// The system refuses.
pub fn write(path: &Path, table: &impl Serialize) -> io::Result<()> {
    replace_private(path, &serde_json::to_vec_pretty(table)?)
}

/// Writes a table whenever something changed, at most once in a while. Never returns. Runs off the workers: a disk that
/// stalls must not stall them.
pub async fn keep_written<T: Send + Sync + 'static>(
    table: Arc<T>,
    changed: impl Fn(&T) -> &Notify,
    write: fn(&T) -> io::Result<()>,
    at_most_every: Duration,
) {
    loop {
        changed(&table).notified().await;
        let table = table.clone();
        if let Ok(Err(e)) = tokio::task::spawn_blocking(move || write(&table)).await {
            tracing::warn!("a table beside the log can't be written: {e}");
        }
        tokio::time::sleep(at_most_every).await;
    }
}

/// Writes a table a last time.
pub async fn write_last<T: Send + Sync + 'static>(table: Arc<T>, write: fn(&T) -> io::Result<()>) {
    if let Ok(Err(e)) = tokio::task::spawn_blocking(move || write(&table)).await {
        tracing::warn!("a table beside the log can't be written a last time: {e}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written_and_a_broken_one_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.json");
        assert_eq!(read::<Vec<u8>>(&path).unwrap(), Vec::<u8>::new());
        write(&path, &[1, 2]).unwrap();
        assert_eq!(read::<Vec<u8>>(&path).unwrap(), [1, 2]);
        std::fs::write(&path, "[1,").unwrap();
        assert!(read::<Vec<u8>>(&path).is_err());
        assert_eq!(read_or_warn::<Vec<u8>>(&path), Vec::<u8>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_changes_all_the_time_is_written_once_in_a_while() {
        const EVERY: Duration = Duration::from_secs(5);
        #[derive(Default)]
        struct Table {
            changed: Notify,
            written: Mutex<Vec<Instant>>,
        }
        let write = |table: &Table| {
            table.written.lock().unwrap().push(Instant::now());
            Ok(())
        };
        let table = Arc::new(Table::default());
        let writer = tokio::spawn(keep_written(table.clone(), |table| &table.changed, write, EVERY));
        let begun = Instant::now();
        while begun.elapsed() < 3 * EVERY {
            table.changed.notify_one();
            tokio::time::sleep(EVERY / 10).await;
        }
        writer.abort();
        let written = table.written.lock().unwrap();
        assert!((3..=4).contains(&written.len()), "{written:?}");
        assert!(written.windows(2).all(|pair| pair[1] - pair[0] >= EVERY), "{written:?}");
    }
}
