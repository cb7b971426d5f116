//! Files that change while the relay runs: noticed in the folder, compared by content, read once they are settled.
//!
//! Editors write in place, deployment tools rename over, Kubernetes swaps a symlink: so the folder is watched, not the
//! file, and a poll finds what no event told. A file must have been unchanged for [`bounds::SETTLE`] before it
//! counts, so that a half-written one is never read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Digest, SHA256, digest};
use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::bounds;

/// One watched file.
pub struct Watch {
    path: PathBuf,
    seen: Option<Digest>,
    poke: Arc<Notify>,
    /// Held for its events; `None` where the system has none to give, and the poll must do.
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Watch {
    /// Watches a file, as it is now.
    pub fn new(path: &Path) -> Self {
        let poke = Arc::new(Notify::new());
        let watcher = watch_folder(path, poke.clone())
            .map_err(|e| tracing::warn!("{} is only looked at every few seconds: {e}", path.display()))
            .ok();
        Self { path: path.to_owned(), seen: content(path), poke, _watcher: watcher }
    }

    /// Looks at the file now.
    pub fn poke(&self) -> Arc<Notify> {
        self.poke.clone()
    }

    /// Returns once the content has changed and settled; so it does for a file that is gone for longer than a moment,
    /// which its reader will say.
    pub async fn changed(&mut self) {
        loop {
            // Without an event within the poll time the file is looked at all the same.
            let _ = timeout(bounds::POLL, self.poke.notified()).await;
            let mut now = look(&self.path).await;
            while !same(&now, &self.seen) {
                sleep(bounds::SETTLE).await;
                let later = look(&self.path).await;
                if same(&now, &later) {
                    self.seen = later;
                    return;
                }
                now = later;
            }
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("path", &self.path).finish_non_exhaustive()
    }
}

fn watch_folder(path: &Path, poke: Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // That somebody reads is an event too, and it is us: to look then would never end.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            poke.notify_one();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// A disk that stalls must not stall a worker.
async fn look(path: &Path) -> Option<Digest> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || content(&path)).await.ok().flatten()
}

fn content(path: &Path) -> Option<Digest> {
    std::fs::read(path).ok().map(|bytes| digest(&SHA256, &bytes))
}

fn same(a: &Option<Digest>, b: &Option<Digest>) -> bool {
    a.as_ref().map(Digest::as_ref) == b.as_ref().map(Digest::as_ref)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    async fn notices(watch: &mut Watch) -> bool {
        timeout(Duration::from_secs(20), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn reading_a_file_is_no_reason_to_look_at_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sources.toml");
        fs::write(&path, "a").unwrap();
        let watch = Watch::new(&path);
        let poke = watch.poke();
        fs::read(&path).unwrap();
        assert!(timeout(Duration::from_millis(300), poke.notified()).await.is_err(), "an event of reading");
        fs::write(&path, "b").unwrap();
        assert!(timeout(Duration::from_secs(20), poke.notified()).await.is_ok(), "no event of writing");
    }

    #[tokio::test]
    async fn every_way_of_writing_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sources.toml");
        fs::write(&path, "a").unwrap();
        let mut watch = Watch::new(&path);

        fs::write(&path, "b").unwrap();
        assert!(notices(&mut watch).await, "in place");

        fs::write(folder.path().join("new"), "c").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(notices(&mut watch).await, "renamed over");

        fs::remove_file(&path).unwrap();
        fs::create_dir(folder.path().join("v1")).unwrap();
        fs::write(folder.path().join("v1/sources.toml"), "d").unwrap();
        std::os::unix::fs::symlink("v1", folder.path().join("data")).unwrap();
        std::os::unix::fs::symlink("data/sources.toml", &path).unwrap();
        assert!(notices(&mut watch).await, "removed and back as a link");

        fs::create_dir(folder.path().join("v2")).unwrap();
        fs::write(folder.path().join("v2/sources.toml"), "e").unwrap();
        std::os::unix::fs::symlink("v2", folder.path().join("data.new")).unwrap();
        fs::rename(folder.path().join("data.new"), folder.path().join("data")).unwrap();
        assert!(notices(&mut watch).await, "a folder's link swapped");
    }
}
