//! Reads of files on behalf of the running relay: off its workers, and under a deadline. A disk that stalls or a mount that
//! hangs costs a thread then, and neither a worker nor the next reload.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::bounds;

/// Reads that may be under way at one time, and how long one may take.
#[derive(Debug)]
pub(crate) struct Reads {
    places: Arc<Semaphore>,
    within: Duration,
}

/// Why nothing was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ReadFailure {
    /// It takes too long, or earlier reads do and there is no place for another.
    #[error(
        "its files can't be read within {} s: a disk or a mount hangs; see dmesg and mount",
        bounds::READ.as_secs()
    )]
    Hangs,
    /// The reader panicked.
    #[error("reading failed; this is our mistake")]
    Failed,
}

impl Reads {
    /// Room for so many, each of which may take [`bounds::READ`].
    pub(crate) fn new(at_once: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(at_once)), within: bounds::READ }
    }

    /// What `read` gives. A read that takes too long goes on, keeps its place, and nobody hears of it any more.
    ///
    /// # Errors
    /// See [`ReadFailure`].
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReadFailure> {
        let reading = async {
            let place = self.places.clone().acquire_owned().await.map_err(|_| ReadFailure::Failed)?;
            let reading = tokio::task::spawn_blocking(move || {
                let _place = place;
                read()
            });
            reading.await.map_err(|_| ReadFailure::Failed)
        };
        timeout(self.within, reading).await.unwrap_or(Err(ReadFailure::Hangs))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_read_that_hangs_is_given_up_and_its_place_is_free_once_it_ends() {
        let reads = Reads { within: Duration::from_millis(50), ..Reads::new(1) };
        let (release, released) = mpsc::channel::<()>();
        let hangs = reads.run(move || released.recv().is_ok());
        assert_eq!(hangs.await, Err(ReadFailure::Hangs));
        assert_eq!(reads.run(|| ()).await, Err(ReadFailure::Hangs), "no place");
        release.send(()).unwrap();
        let place = reads.places.acquire().await.unwrap();
        drop(place);
        let reads = Reads { within: bounds::READ, ..reads };
        assert_eq!(reads.run(|| 5).await, Ok(5));
    }
}
