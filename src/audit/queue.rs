//! What waits for the writer of the log: bounded in bytes, and handed out fairly.
//!
//! Each client has a lane of its own for each source that it speaks for. Lanes are served by deficit round robin (Shreedhar
//! and Varghese, 1995), new ones first as in FQ-CoDel (RFC 8290 §4.2): whoever hands over little finds its batch in the
//! next write, however much others have waiting. The bytes are bounded in all (`audit.queue`) and for each lane, and the
//! last of them are kept for lanes that hold nothing.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::journal::CommitError;
use crate::bounds;
use crate::config::names::client;
use relay_log::ledger::record::Record;
use relay_log::names::SourceId;

/// Whose records wait behind each other.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Lane {
    /// The relay itself.
    Relay,
    /// What nobody waits for, such as refusals: strangers cause it, and keep nothing else from being written.
    Notes,
    /// A client that speaks for a source; those that no entry lets in speak for none.
    Client(IpAddr, Option<SourceId>),
}

impl Lane {
    /// The lane of a client at this address.
    pub fn of(address: IpAddr, source: Option<SourceId>) -> Self {
        Self::Client(client(address), source)
    }
}

/// The answer to whoever waits for a batch: how many bytes its lines have, once they are on disk.
pub(super) type Done = oneshot::Sender<Result<u64, CommitError>>;

/// Records that are written together or not at all.
#[derive(Debug)]
pub(super) struct Batch {
    /// In their order.
    pub records: Vec<Record>,
    /// What becomes of them where they can't be written.
    pub kind: BatchKind,
    /// Who waits for that; nobody for a note.
    pub done: Option<Done>,
    /// Given back when the batch is dropped.
    pub room: QueueRoom,
}

/// What becomes of a batch that can't be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BatchKind {
    /// It is refused: nothing has happened yet.
    Intent,
    /// It is written with the last of the space: it has happened already.
    Outcome,
    /// It is kept for later, within a bound.
    Note,
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Next {
    /// It writes this.
    Batch(Batch),
    /// It signs a checkpoint.
    Sign(oneshot::Sender<()>),
    /// It ends: all that was handed over is written.
    End(Option<oneshot::Sender<()>>),
    /// Nothing came in time.
    Nothing,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Lanes>,
    filled: Condvar,
    given_back: Notify,
}

#[derive(Debug, Default)]
struct Lanes {
    most: usize,
    /// Bytes of all batches that are not yet written, and those of each lane.
    sum: usize,
    held: HashMap<Lane, usize>,
    lanes: HashMap<Lane, Batches>,
    /// Batches in all lanes.
    count: usize,
    /// Lanes that have just come, in their order; and those that have had a turn.
    new: VecDeque<Lane>,
    old: VecDeque<Lane>,
    sign: VecDeque<oneshot::Sender<()>>,
    /// No more is taken.
    is_closed: bool,
    end: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Batches {
    list: VecDeque<Batch>,
    /// The bytes that the lane may have written before the others have their turn.
    credit: usize,
}

/// Ends the queue once the writer is gone, in whatever way.
#[derive(Debug)]
pub(super) struct Ending<'q>(pub(super) &'q Queue);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Bytes of a lane in the queue.
#[derive(Debug)]
pub(super) struct QueueRoom {
    queue: Arc<Queue>,
    lane: Lane,
    bytes: usize,
}

impl Queue {
    /// A queue of at most so many bytes.
    pub(super) fn new(most: u64) -> Arc<Self> {
        let waiting = Lanes { most: bytes(most), ..Lanes::default() };
        Arc::new(Self { waiting: Mutex::new(waiting), filled: Condvar::new(), given_back: Notify::new() })
    }

    /// Takes more or less from now on; what waits already stays.
    pub(super) fn resize(&self, most: u64) {
        self.lock().most = bytes(most);
        self.given_back.notify_waiters();
    }

    /// Puts a batch into its lane once there is room for it.
    ///
    /// # Errors
    /// There was none in time, or the writer has ended.
    pub(super) async fn put(
        self: &Arc<Self>,
        lane: &Lane,
        records: Vec<Record>,
        kind: BatchKind,
        done: Option<Done>,
    ) -> Result<(), CommitError> {
        // What has happened already must not be lost because others hand over much.
        let wait =
            if kind == BatchKind::Intent { bounds::JOURNAL_WAIT } else { bounds::JOURNAL_OUTCOME_WAIT };
        let deadline = Instant::now() + wait;
        let weight = records.iter().map(Record::weight).sum();
        let mut batch = Some((records, kind, done));
        loop {
            let given_back = self.given_back.notified();
            if self.offer(lane, weight, 1, &mut batch)? {
                return Ok(());
            }
            timeout_at(deadline, given_back).await.map_err(|_| CommitError::Busy)?;
        }
    }

    /// Puts a batch that nobody waits for into its lane. `false` where the queue is half full.
    pub(super) fn put_note(self: &Arc<Self>, records: Vec<Record>) -> bool {
        let weight = records.iter().map(Record::weight).sum();
        self.offer(&Lane::Notes, weight, 2, &mut Some((records, BatchKind::Note, None))).unwrap_or(false)
    }

    /// Takes a batch of this weight if there is room for it in such a part of the queue.
    fn offer(
        self: &Arc<Self>,
        lane: &Lane,
        weight: usize,
        part: usize,
        batch: &mut Option<(Vec<Record>, BatchKind, Option<Done>)>,
    ) -> Result<bool, CommitError> {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Err(CommitError::ended());
        }
        if !waiting.has_room(lane, weight, part) {
            return Ok(false);
        }
        let Some((records, kind, done)) = batch.take() else { return Ok(true) };
        waiting.sum += weight;
        *waiting.held.entry(lane.clone()).or_default() += weight;
        let room = QueueRoom { queue: self.clone(), lane: lane.clone(), bytes: weight };
        waiting.push(Batch { records, kind, done, room });
        drop(waiting);
        self.filled.notify_one();
        Ok(true)
    }

    /// Wants a checkpoint; the answer comes once it is signed.
    pub(super) fn sign(&self) -> oneshot::Receiver<()> {
        let (done, signed) = oneshot::channel();
        self.lock().sign.push_back(done);
        self.filled.notify_one();
        signed
    }

    /// Takes no more; the answer comes once all that was handed over is written.
    pub(super) fn close(&self) -> oneshot::Receiver<()> {
        let (done, ended) = oneshot::channel();
        let mut waiting = self.lock();
        (waiting.is_closed, waiting.end) = (true, Some(done));
        drop(waiting);
        self.filled.notify_one();
        self.given_back.notify_waiters();
        ended
    }

    /// The same for one whom nobody waits for.
    pub(super) fn leave(&self) {
        self.lock().is_closed = true;
        self.filled.notify_one();
    }

    /// Takes no more, and gives up what waits: whoever waits for it is told that the writer has ended.
    fn end(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        let given_up =
            (std::mem::take(&mut waiting.lanes), std::mem::take(&mut waiting.sign), waiting.end.take());
        drop(waiting);
        drop(given_up);
        self.given_back.notify_waiters();
    }

    /// What the writer does next; waits for it that long.
    pub(super) fn next(&self, patience: Duration) -> Next {
        let is_idle = |waiting: &mut Lanes| waiting.is_idle();
        let woken = self.filled.wait_timeout_while(self.lock(), patience, is_idle);
        let (mut waiting, _) = woken.unwrap_or_else(PoisonError::into_inner);
        waiting.next().unwrap_or(Next::Nothing)
    }

    /// A batch that is there already, for the write that is being prepared.
    pub(super) fn more(&self) -> Option<Batch> {
        let mut waiting = self.lock();
        // A checkpoint is not kept waiting by what came after it.
        if waiting.sign.is_empty() { waiting.batch() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    /// Whether a lane may have so many bytes now, in such a part of the queue. A batch that is larger than all of it passes
    /// alone.
    fn has_room(&self, lane: &Lane, weight: usize, part: usize) -> bool {
        let (most, all) = (self.most / part, self.sum + weight);
        match self.held.get(lane) {
            None => all <= most || self.sum == 0,
            Some(held) => {
                held + weight <= self.most / bounds::JOURNAL_LANE_SHARE
                    && all <= most - most / bounds::JOURNAL_KEPT
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.count == 0 && self.sign.is_empty() && !self.is_closed
    }

    fn push(&mut self, batch: Batch) {
        self.count += 1;
        let lane = batch.room.lane.clone();
        match self.lanes.get_mut(&lane) {
            Some(batches) => batches.list.push_back(batch),
            None => {
                self.new.push_back(lane.clone());
                self.lanes.insert(lane, Batches { list: [batch].into(), credit: bounds::JOURNAL_QUANTUM });
            }
        }
    }

    fn next(&mut self) -> Option<Next> {
        if let Some(done) = self.sign.pop_front() {
            return Some(Next::Sign(done));
        }
        match self.batch() {
            Some(batch) => Some(Next::Batch(batch)),
            None => self.is_closed.then(|| Next::End(self.end.take())),
        }
    }

    /// The next batch by deficit round robin. A lane that is served empty while it is new becomes an old one, so that it is
    /// not new again before the others have had their turn.
    fn batch(&mut self) -> Option<Batch> {
        loop {
            let is_new = !self.new.is_empty();
            let lane = self.new.pop_front().or_else(|| self.old.pop_front())?;
            let Some(batches) = self.lanes.get_mut(&lane) else { continue };
            match batches.list.front() {
                Some(batch) if batch.room.bytes <= batches.credit => {
                    batches.credit -= batch.room.bytes;
                    self.count -= 1;
                    let batch = batches.list.pop_front();
                    let order = if is_new { &mut self.new } else { &mut self.old };
                    order.push_front(lane);
                    return batch;
                }
                Some(_) => {
                    batches.credit += bounds::JOURNAL_QUANTUM;
                    self.old.push_back(lane);
                }
                None if is_new => self.old.push_back(lane),
                None => drop(self.lanes.remove(&lane)),
            }
        }
    }
}

impl Drop for QueueRoom {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        waiting.sum -= self.bytes;
        if let Some(held) = waiting.held.get_mut(&self.lane) {
            *held -= self.bytes;
            if *held == 0 {
                waiting.held.remove(&self.lane);
            }
        }
        drop(waiting);
        self.queue.given_back.notify_waiters();
    }
}

fn bytes(most: u64) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use relay_log::ledger::action::Action;

    const LARGE: u64 = 32 << 20;

    fn lane(client: u8) -> Lane {
        Lane::of([10, 0, 0, client].into(), None)
    }

    fn records(count: usize) -> Vec<Record> {
        vec![Record::new(Action::AssignmentAdd, Uuid::nil()); count]
    }

    fn weight(count: usize) -> u64 {
        records(count).iter().map(Record::weight).sum::<usize>() as u64
    }

    async fn put(queue: &Arc<Queue>, client: u8, count: usize) -> Result<(), CommitError> {
        queue.put(&lane(client), records(count), BatchKind::Intent, None).await
    }

    /// The clients whose batches come, and how many records each has.
    fn order(queue: &Queue) -> Vec<(Lane, usize)> {
        let mut batches = Vec::new();
        while let Some(batch) = queue.more() {
            batches.push((batch.room.lane.clone(), batch.records.len()));
        }
        batches
    }

    #[tokio::test]
    async fn a_lane_with_little_comes_before_the_second_batch_of_one_with_much() {
        let queue = Queue::new(LARGE);
        for _ in 0..3 {
            put(&queue, 1, 500).await.unwrap();
            put(&queue, 2, 500).await.unwrap();
        }
        put(&queue, 3, 20).await.unwrap();
        let order = order(&queue);
        assert_eq!(order[0], (lane(3), 20));
        let clients: Vec<&Lane> = order[1..].iter().map(|(lane, _)| lane).collect();
        let fairly = [lane(1), lane(2), lane(1), lane(2), lane(1), lane(2)];
        assert_eq!(clients, fairly.iter().collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn lanes_share_by_bytes_and_not_by_batches() {
        let queue = Queue::new(LARGE);
        for _ in 0..100 {
            put(&queue, 1, 10).await.unwrap();
        }
        put(&queue, 2, 500).await.unwrap();
        put(&queue, 2, 500).await.unwrap();
        let order = order(&queue);
        let first_large = order.iter().position(|(_, count)| *count == 500).unwrap();
        assert!((40..=60).contains(&first_large), "after {first_large} batches of 10");
        assert_eq!(order.last().unwrap().1, 500);
    }

    #[tokio::test]
    async fn who_is_served_empty_is_not_new_again_before_the_others_have_had_their_turn() {
        let queue = Queue::new(LARGE);
        put(&queue, 1, 30).await.unwrap();
        put(&queue, 1, 30).await.unwrap();
        put(&queue, 2, 1).await.unwrap();
        let (mut of_one, mut of_other) = (0, 0);
        while of_one < 2 {
            match queue.more().map(|batch| batch.room.lane.clone()) {
                Some(served) if served == lane(1) => of_one += 1,
                _ => {
                    of_other += 1;
                    put(&queue, 2, 1).await.unwrap();
                }
            }
            assert!(of_other as u64 * weight(1) <= 3 * bounds::JOURNAL_QUANTUM as u64, "it is never served");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_has_a_quarter_and_who_holds_nothing_always_finds_room() {
        let queue = Queue::new(weight(800));
        for _ in 0..2 {
            put(&queue, 1, 100).await.unwrap();
        }
        assert!(
            matches!(put(&queue, 1, 1).await, Err(CommitError::Busy)),
            "a quarter is all that it may have"
        );
        for client in 2..=4 {
            put(&queue, client, 100).await.unwrap();
            put(&queue, client, 100).await.map_or_else(|_| assert_eq!(client, 4), |()| assert!(client < 4));
        }
        assert!(matches!(put(&queue, 4, 1).await, Err(CommitError::Busy)), "the last eighth is kept");
        put(&queue, 5, 100).await.unwrap();
        assert!(matches!(put(&queue, 6, 1).await, Err(CommitError::Busy)), "and nothing is left");
        drop(queue.more());
        put(&queue, 6, 1).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_has_its_room_once_something_is_written_and_a_note_has_none_in_the_second_half() {
        let queue = Queue::new(weight(400));
        put(&queue, 1, 100).await.unwrap();
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { put(&queue, 1, 50).await }
        });
        assert!(queue.put_note(records(100)));
        assert!(!queue.put_note(records(1)));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(queue.more());
        drop(queue.more());
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_happened_already_waits_longer_for_its_place_than_an_intent() {
        let queue = Queue::new(weight(800));
        for _ in 0..2 {
            put(&queue, 1, 100).await.unwrap();
        }
        let waits =
            [(BatchKind::Intent, bounds::JOURNAL_WAIT), (BatchKind::Outcome, bounds::JOURNAL_OUTCOME_WAIT)];
        for (kind, wait) in waits {
            let begun = Instant::now();
            assert!(matches!(queue.put(&lane(1), records(1), kind, None).await, Err(CommitError::Busy)));
            assert_eq!(begun.elapsed().as_secs(), wait.as_secs());
        }
    }

    #[tokio::test]
    async fn a_batch_that_is_larger_than_the_queue_passes_alone() {
        let queue = Queue::new(10);
        put(&queue, 1, 1).await.unwrap();
        assert_eq!(order(&queue).len(), 1);
    }

    #[tokio::test]
    async fn who_waits_for_a_writer_that_is_gone_is_told() {
        let queue = Queue::new(LARGE);
        let (done, written) = oneshot::channel();
        queue.put(&lane(1), records(1), BatchKind::Intent, Some(done)).await.unwrap();
        drop(Ending(&queue));
        assert!(written.await.is_err());
        assert!(matches!(put(&queue, 1, 1).await, Err(CommitError::Poisoned(_))));
    }

    #[tokio::test]
    async fn what_was_handed_over_before_the_end_is_written_and_nothing_after_it_is_taken() {
        let queue = Queue::new(LARGE);
        put(&queue, 1, 1).await.unwrap();
        let _ended = queue.close();
        assert!(matches!(put(&queue, 1, 1).await, Err(CommitError::Poisoned(_))));
        assert!(matches!(queue.next(Duration::ZERO), Next::Batch(_)));
        assert!(matches!(queue.next(Duration::ZERO), Next::End(Some(_))));
    }
}
