//! Services that the relay can't do without: when one ends or panics, the relay ends and says which.

use std::thread;

use tokio::sync::watch;

/// The first of the vital services that has ended.
#[derive(Clone, Debug)]
pub(super) struct Vital(watch::Sender<Option<String>>);

/// Reports how a service ended, unless it was aborted.
struct ServiceGuard {
    service: &'static str,
    ended: watch::Sender<Option<String>>,
    done: bool,
}

impl Vital {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// A service that is not expected to end.
    pub(super) fn service<W: Future<Output = ()>>(
        &self,
        service: &'static str,
        work: W,
    ) -> impl Future<Output = ()> + use<W> {
        let guard = ServiceGuard { service, ended: self.0.clone(), done: false };
        async move {
            work.await;
            guard.tell_end();
        }
    }

    /// Waits for one to end, and says which and how.
    pub(super) async fn ended(&self) -> String {
        let mut ended = self.0.subscribe();
        let ended = ended.wait_for(Option::is_some).await;
        ended.ok().and_then(|ended| ended.clone()).unwrap_or_default()
    }
}

impl ServiceGuard {
    fn tell_end(mut self) {
        self.done = true;
    }
}

impl Drop for ServiceGuard {
    /// A task that is aborted is dropped too: neither done nor panicking.
    fn drop(&mut self) {
        let how = match (self.done, thread::panicking()) {
            (true, _) => "has ended",
            (false, true) => "has failed",
            (false, false) => return,
        };
        let words = format!("what {} {how}, which is our mistake", self.service);
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            ended.get_or_insert(words);
            is_first
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_service_that_ends_or_panics_is_told_and_one_that_is_stopped_is_not() {
        for (panics, how) in [(false, "has ended"), (true, "has failed")] {
            let vital = Vital::new();
            let stopped = tokio::spawn(vital.service("waits", pending()));
            stopped.abort();
            assert!(stopped.await.unwrap_err().is_cancelled());
            assert!(vital.0.borrow().is_none());
            let work = async move { assert!(!panics, "on purpose") };
            let _ = tokio::spawn(vital.service("works", work)).await;
            let said = vital.ended().await;
            assert!(said.contains("what works") && said.contains(how), "{said}");
        }
    }
}
