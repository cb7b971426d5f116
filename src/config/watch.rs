//! Files that change while the relay runs: noticed in their folders, compared by content, read once they are settled.
//!
//! Editors write in place, deployment tools rename over, Kubernetes swaps a symlink: so folders are watched, not
//! files, and a poll finds what no event told. All files must have been unchanged for [`bounds::SETTLE`] before they
//! count, so that two that belong together are read together; and for [`bounds::QUIET`] where no event told that whoever
//! writes has closed the file, or moved it into its place, so that a half-written one is not read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::read::{ReadFailure, Reads};
use crate::bounds;
use relay_log::files::regular;

/// What files held at one moment: the SHA-256 of each, `None` where it could not be read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Contents(BTreeMap<PathBuf, Option<[u8; 32]>>);

/// Why files are read again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReloadCause {
    /// A file has changed, and settled.
    Changed,
    /// Somebody told the relay to (SIGHUP), who knows that the files are whole.
    OnDemand,
    /// Nothing has changed, but what could not be used is to be tried again.
    Again,
}

/// Watched files.
pub struct Watch {
    seen: Contents,
    /// What they held as [`Self::changed`] last returned.
    settled: Contents,
    /// When to try again what could not be used.
    again: Option<Instant>,
    whole: Arc<Mutex<Whole>>,
    /// Looks at the files for changes.
    looks: Reads,
    /// Whether the last look failed, which has been told then.
    is_blind: bool,
    /// Reads the files again, also where a look hangs: somebody may have put right what it hangs at, and asked.
    reads: Reads,
    poke: Arc<Notify>,
    /// Held for its events; `None` where the system has none to give, and the poll must do.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

/// The files that their writers have closed or moved into their places, as far as events tell.
#[derive(Debug, Default)]
struct Whole {
    /// Events of other files in the same folders are of no interest.
    followed: BTreeSet<PathBuf>,
    closed: BTreeSet<PathBuf>,
    /// How often each was written: one that is overwritten with what it held is unchanged, and yet not settled.
    writes: BTreeMap<PathBuf, u64>,
}

impl Whole {
    fn note(&mut self, event: &notify::Event) {
        if event.need_rescan() {
            return self.closed.clear();
        }
        for path in event.paths.iter().filter(|path| self.followed.contains(*path)) {
            if !matches!(event.kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_))) {
                *self.writes.entry(path.clone()).or_default() += 1;
            }
            match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(_)) => {
                    self.closed.insert(path.clone());
                }
                EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => {}
                _ => {
                    self.closed.remove(path);
                }
            }
        }
    }
}

impl Contents {
    /// What these files hold now.
    pub fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(files.into_iter().map(|path| (path.clone(), content(&path))).collect())
    }

    /// Merges another snapshot into this one.
    pub fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    /// Takes the content of those that could not be read before.
    pub fn add_new(&mut self) {
        for (path, content) in self.0.iter_mut().filter(|(_, content)| content.is_none()) {
            *content = self::content(path);
        }
    }

    /// The files that are not as they were.
    fn differing<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a PathBuf> {
        let differing = self.0.iter().filter(|(path, content)| before.0.get(*path) != Some(*content));
        differing.map(|(path, _)| path)
    }

    /// Whether these files held the same then and now.
    pub fn agree_on(&self, other: &Self, files: &[PathBuf]) -> bool {
        files.iter().all(|path| self.0.contains_key(path) && self.0.get(path) == other.0.get(path))
    }

    /// Puts what these files held before in the place of what they hold.
    pub fn put_back(&mut self, before: &Self, files: &[PathBuf]) {
        for path in files {
            match before.0.get(path) {
                Some(content) => self.0.insert(path.clone(), *content),
                None => self.0.remove(path),
            };
        }
    }

    /// Whether the files hold the same still.
    pub fn is_still_so(&self) -> bool {
        *self == Self::of(self.0.keys().cloned())
    }

    /// Whether those files that are in both held the same then and now.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.0.iter().all(|(path, content)| other.0.get(path).is_none_or(|other| other == content))
    }

    /// The names of the files that are not as they were, without their folders.
    pub fn changed_since(&self, before: &Self) -> Vec<String> {
        let changed = self.differing(before);
        changed.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
    }
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Self {
        let poke = Arc::new(Notify::new());
        let whole = Arc::new(Mutex::new(Whole::default()));
        let (poked, told) = (poke.clone(), whole.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Ok(event) = &event {
                told.lock().unwrap_or_else(PoisonError::into_inner).note(event);
            }
            // That somebody reads is an event too, and it is us: to look then would never end.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                poked.notify_one();
            }
        });
        let watcher =
            watcher.map_err(|e| tracing::warn!("changed files are only noticed every few seconds: {e}")).ok();
        Self {
            seen: Contents::default(),
            settled: Contents::default(),
            again: None,
            whole,
            looks: Reads::new(1),
            is_blind: false,
            reads: Reads::new(bounds::READS_THAT_HANG),
            poke,
            watcher,
            folders: BTreeSet::new(),
        }
    }

    /// Whether these files, as they were read, are those that had settled.
    pub fn has_settled_at(&self, read: &Contents) -> bool {
        self.settled.agrees_with(read)
    }

    /// Makes [`Self::changed`] look at the files without waiting for an event.
    pub fn look_again(&self) {
        self.poke.notify_one();
    }

    /// Watches these files and no others, from what they held when they were last read. Where some of it could not be used,
    /// it is tried `again` later.
    pub fn follow(&mut self, seen: Contents, again: bool) {
        self.again = again.then(|| Instant::now() + bounds::HELD_RETRY);
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        *whole = Whole { followed: seen.0.keys().cloned().collect(), ..Whole::default() };
        drop(whole);
        let folders: BTreeSet<PathBuf> = seen.0.keys().map(|path| folder(path).to_owned()).collect();
        if let Some(watcher) = &mut self.watcher {
            for gone in self.folders.difference(&folders) {
                // It may not be there any more.
                let _ = watcher.unwatch(gone);
            }
            for new in folders.difference(&self.folders) {
                if let Err(e) = watcher.watch(new, RecursiveMode::NonRecursive) {
                    tracing::warn!(
                        "what changes in {} is only noticed every few seconds: {e}",
                        new.display()
                    );
                }
            }
        }
        self.folders = folders;
        self.seen = seen;
    }

    /// Returns once a content has changed and all have settled, or what could not be used is to be tried again. A file that
    /// is gone for longer than a moment is a change too, which its reader will say. May be dropped at any time.
    pub async fn changed(&mut self) -> ReloadCause {
        loop {
            // Without an event within the poll time the files are looked at all the same.
            let _ = timeout(bounds::POLL, self.poke.notified()).await;
            // Events come in swarms, and a busy folder has some all the time: one look is enough for many.
            sleep(bounds::DEBOUNCE).await;
            match self.settle().await {
                Some(true) => return ReloadCause::Changed,
                Some(false) if self.again.is_some_and(|again| again <= Instant::now()) => {
                    return ReloadCause::Again;
                }
                _ => {}
            }
        }
    }

    /// Waits until what is not as it was read has settled, and says whether there was any. `None` where that can't be
    /// found out.
    pub(crate) async fn settle(&mut self) -> Option<bool> {
        let mut now = self.look().await?;
        let (mut writes, mut since) = (self.writes(&now), Instant::now());
        let mut has_settled = false;
        while !has_settled && now != self.seen {
            sleep(bounds::SETTLE).await;
            let later = self.look().await?;
            let more = self.writes(&later);
            if now != later || writes != more {
                (now, writes, since) = (later, more, Instant::now());
            } else {
                has_settled = self.is_whole(&now) || since.elapsed() >= bounds::QUIET;
            }
        }
        let has_changed = now != self.seen;
        self.settled = now;
        Some(has_changed)
    }

    /// How often what changed has been written, as far as events tell.
    fn writes(&self, now: &Contents) -> u64 {
        let whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        now.differing(&self.seen).filter_map(|path| whole.writes.get(path)).sum()
    }

    /// Whether whoever has written what changed has closed it.
    fn is_whole(&self, now: &Contents) -> bool {
        let whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        now.differing(&self.seen).all(|path| whole.closed.contains(path))
    }

    /// What `read` makes of the files: off the workers, and under a deadline. Why there is nothing is told here.
    ///
    /// # Errors
    /// It takes too long, or panics.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReadFailure> {
        self.reads
            .run(read)
            .await
            .inspect_err(|e| tracing::error!("the old configuration stays in force: {e}"))
    }

    /// What the files hold now; `None` where that can't be found out, which is told once.
    async fn look(&mut self) -> Option<Contents> {
        let files: Vec<PathBuf> = self.seen.0.keys().cloned().collect();
        let look = self.looks.run(move || Contents::of(files)).await;
        match &look {
            Err(e) if !self.is_blind => {
                tracing::error!("changes of the configuration are not noticed: {e}");
            }
            Ok(_) if self.is_blind => tracing::info!("changes of the configuration are noticed again"),
            _ => {}
        }
        self.is_blind = look.is_err();
        look.ok()
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("seen", &self.seen).finish_non_exhaustive()
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn content(path: &Path) -> Option<[u8; 32]> {
    let bytes = regular::read(path).ok()?;
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &bytes).as_ref());
    Some(hash)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    fn watch(path: &Path) -> Watch {
        let mut watch = Watch::new();
        watch.follow(Contents::of([path.to_owned()]), false);
        watch
    }

    /// Whether the change is noticed; what is there now is what the next one is compared with.
    async fn notices(watch: &mut Watch) -> bool {
        let noticed = timeout(Duration::from_secs(20), watch.changed()).await == Ok(ReloadCause::Changed);
        let seen = watch.look().await.unwrap();
        watch.follow(seen, false);
        noticed
    }

    #[tokio::test]
    async fn reading_a_file_is_no_reason_to_look_at_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sources.toml");
        fs::write(&path, "a").unwrap();
        let watch = watch(&path);
        fs::read(&path).unwrap();
        let poked = timeout(Duration::from_millis(300), watch.poke.notified()).await;
        assert!(poked.is_err(), "an event of reading");
        fs::write(&path, "b").unwrap();
        let poked = timeout(Duration::from_secs(20), watch.poke.notified()).await;
        assert!(poked.is_ok(), "no event of writing");
    }

    #[tokio::test]
    async fn every_way_of_writing_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sources.toml");
        fs::write(&path, "a").unwrap();
        let mut watch = watch(&path);

        fs::write(&path, "b").unwrap();
        assert!(notices(&mut watch).await, "in place");

        fs::write(folder.path().join("new"), "c").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(notices(&mut watch).await, "renamed over");

        // As vim saves: the old file is put aside, and a new one takes its name.
        fs::rename(&path, folder.path().join("sources.toml~")).unwrap();
        fs::write(&path, "d").unwrap();
        assert!(notices(&mut watch).await, "put aside and written anew");

        fs::remove_file(&path).unwrap();
        fs::create_dir(folder.path().join("v1")).unwrap();
        fs::write(folder.path().join("v1/sources.toml"), "e").unwrap();
        std::os::unix::fs::symlink("v1", folder.path().join("data")).unwrap();
        std::os::unix::fs::symlink("data/sources.toml", &path).unwrap();
        assert!(notices(&mut watch).await, "removed and back as a link");

        fs::create_dir(folder.path().join("v2")).unwrap();
        fs::write(folder.path().join("v2/sources.toml"), "f").unwrap();
        std::os::unix::fs::symlink("v2", folder.path().join("data.new")).unwrap();
        fs::rename(folder.path().join("data.new"), folder.path().join("data")).unwrap();
        assert!(notices(&mut watch).await, "a folder's link swapped");
    }

    #[tokio::test]
    async fn a_file_that_is_still_being_written_is_not_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sources.toml");
        fs::write(&path, "a").unwrap();
        let mut watch = watch(&path);
        let writer = path.clone();
        let writing = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            for n in 0..20 {
                let begun = std::time::SystemTime::now();
                fs::write(&writer, n.to_string()).unwrap();
                std::thread::sleep(bounds::SETTLE / 5);
                longest = longest.max(begun.elapsed().unwrap_or_default());
            }
            fs::write(&writer, "whole").unwrap();
            longest
        });
        assert_eq!(watch.changed().await, ReloadCause::Changed);
        let read = fs::read_to_string(&path).unwrap();
        // A machine that stands still for so long makes any file look settled.
        assert!(writing.join().unwrap() >= bounds::SETTLE || read == "whole", "{read}");
    }

    #[test]
    fn what_changed_is_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let files = [folder.path().join("relay.toml"), folder.path().join("users")];
        fs::write(&files[0], "a").unwrap();
        let before = Contents::of(files.clone());
        fs::write(&files[1], "b").unwrap();
        let now = Contents::of(files.clone());
        assert_eq!(now.changed_since(&before), ["users"]);
        assert!(now.agree_on(&before, &files[..1]) && !now.agree_on(&before, &files));
    }
}
