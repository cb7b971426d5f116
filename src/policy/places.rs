//! The places of connections: how many are taken, in all and by each client, and which one gives way where all are.
//!
//! A connection of which no request is in hand rests, and one that has rested quietly for [`bounds::PLACE_GRACE`] is idle.
//! Where all places are taken, the connection that has been idle longest is closed and the newcomer gets its place: of one
//! client where its own places are all taken, and otherwise of the client that holds the most, so that nobody with many
//! connections pushes out the few of others. A client is an IPv4 address, or the /64 of an IPv6 address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bounds;
use crate::observe::metrics::Metrics;
use crate::policy::limits;
use crate::stream::socket::ClientSocket;

/// The places of a relay.
#[derive(Debug)]
pub(crate) struct Places {
    table: Mutex<PlaceTable>,
    metrics: Arc<Metrics>,
}

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// In all.
    pub(crate) in_all: usize,
    /// For one client.
    pub(crate) of_client: usize,
}

/// All places are taken, and nobody who has one is idle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    /// All there are.
    InAll,
    /// Those of the client.
    OfClient,
}

/// The place of a connection; it is given back when it is dropped.
#[derive(Debug)]
pub struct ConnectionPlace {
    places: Arc<Places>,
    id: u64,
    gone: CancellationToken,
    ends_itself: AtomicBool,
}

/// Who has which place, and who of them rests.
#[derive(Debug, Default)]
struct PlaceTable {
    next: u64,
    taken: HashMap<u64, TakenPlace>,
    clients: HashMap<IpAddr, Client>,
    /// Clients of whom a connection rests, by how many places they hold, each with the time from which its first is idle.
    resting: BTreeMap<usize, BTreeSet<(Instant, IpAddr)>>,
}

#[derive(Debug)]
struct TakenPlace {
    socket: ClientSocket,
    /// `None` until a load balancer has named it.
    client: Option<IpAddr>,
    rest: Option<Rest>,
    gone: CancellationToken,
}

/// A connection rests.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// From then on it is idle, unless bytes have moved in the meantime.
    idle_from: Instant,
    /// How long it must be quiet to be idle.
    patience: Duration,
}

#[derive(Debug, Default)]
struct Client {
    places: usize,
    /// Those of its connections that rest, by the time from which they are idle.
    resting: BTreeSet<(Instant, u64)>,
}

impl Places {
    /// Creates places that are all free; connections that give way are counted here.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { table: Mutex::default(), metrics }
    }

    /// A place for a new connection, which has nothing to say yet; of a client where that is known already.
    ///
    /// # Errors
    /// There is none, and nobody gives way.
    pub(crate) fn enter(
        self: &Arc<Self>,
        socket: &ClientSocket,
        client: Option<IpAddr>,
        most: Most,
    ) -> Result<ConnectionPlace, Full> {
        let gone = CancellationToken::new();
        let mut table = self.lock();
        let client = client.map(limits::client);
        if let Some(client) = client {
            self.make_room_of_client(&mut table, client, most)?;
        }
        let now = Instant::now();
        while table.taken.len() >= most.in_all {
            if !table.close_idle(now) {
                return Err(Full::InAll);
            }
            self.metrics.connections_gave_way.inc();
        }
        let id = table.next;
        table.next += 1;
        table
            .taken
            .insert(id, TakenPlace { socket: socket.clone(), client: None, rest: None, gone: gone.clone() });
        if let Some(client) = client {
            table.belongs_to(id, client);
        }
        Ok(ConnectionPlace { places: self.clone(), id, gone, ends_itself: AtomicBool::new(false) })
    }

    /// Closes an idle connection, if there is one: what there is no room for is not a place, but a descriptor.
    pub(crate) fn make_room(&self) {
        if self.lock().close_idle(Instant::now()) {
            self.metrics.connections_gave_way.inc();
        }
    }

    fn make_room_of_client(&self, table: &mut PlaceTable, client: IpAddr, most: Most) -> Result<(), Full> {
        let now = Instant::now();
        while table.clients.get(&client).map_or(0, |known| known.places) >= most.of_client {
            if !table.close_idle_of(client, now) {
                let in_all = table.taken.len() >= most.in_all;
                return Err(if in_all { Full::InAll } else { Full::OfClient });
            }
            self.metrics.connections_gave_way.inc();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, PlaceTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPlace {
    /// Makes it a place of this client, which a load balancer has named.
    ///
    /// # Errors
    /// The client has all of its places, and none gives way.
    pub(crate) fn belongs_to(&self, client: IpAddr, most: Most) -> Result<(), Full> {
        let client = limits::client(client);
        let mut table = self.places.lock();
        self.places.make_room_of_client(&mut table, client, most)?;
        table.belongs_to(self.id, client);
        Ok(())
    }

    /// Nothing of a request is in hand: once that has been so for a moment, and no byte has moved, it may give way.
    pub fn rest(&self) {
        self.places.lock().rest(self.id, bounds::PLACE_GRACE);
    }

    /// Bytes are copied unread, so that it is not known whether a request is in hand: it takes longer to be idle.
    pub fn rest_as_tunnel(&self) {
        self.places.lock().rest(self.id, bounds::TUNNEL_QUIET);
    }

    /// A request has begun, and the connection gives way no more. `false` where it had to already.
    #[must_use]
    pub fn work(&self) -> bool {
        self.places.lock().set(self.id, None)
    }

    /// The server of the connection ends it in its own way once it has to give way, instead of being cut off.
    pub fn ends_itself(&self) {
        self.ends_itself.store(true, Ordering::Release);
    }

    /// Waits until it has to give way.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Waits until it has to give way and is to be cut off.
    pub(crate) async fn cut_off(&self) {
        self.gone().await;
        if self.ends_itself.load(Ordering::Acquire) {
            std::future::pending().await
        }
    }

    /// Whether it had to give way.
    pub(crate) fn gave_way(&self) -> bool {
        self.gone.is_cancelled()
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.places.lock().leave(self.id);
    }
}

impl PlaceTable {
    fn belongs_to(&mut self, id: u64, client: IpAddr) {
        let Some(taken) = self.taken.get_mut(&id) else { return };
        taken.client = Some(client);
        self.change(client, |known| known.places += 1);
        self.rest(id, bounds::PLACE_GRACE);
    }

    fn rest(&mut self, id: u64, patience: Duration) {
        self.set(id, Some(Rest { idle_from: Instant::now() + patience, patience }));
    }

    /// Whether a connection rests, from now on. `false` where it has no place any more.
    fn set(&mut self, id: u64, rest: Option<Rest>) -> bool {
        let Some(taken) = self.taken.get_mut(&id) else { return false };
        let before = std::mem::replace(&mut taken.rest, rest);
        let Some(client) = taken.client else { return true };
        self.change(client, |known| {
            if let Some(before) = before {
                known.resting.remove(&(before.idle_from, id));
            }
            if let Some(rest) = rest {
                known.resting.insert((rest.idle_from, id));
            }
        });
        true
    }

    fn leave(&mut self, id: u64) {
        self.set(id, None);
        let client = self.taken.remove(&id).and_then(|taken| taken.client);
        if let Some(client) = client {
            self.change(client, |known| known.places -= 1);
        }
    }

    /// Changes what is known of a client, and its place in the order of those of whom a connection rests.
    fn change(&mut self, client: IpAddr, change: impl FnOnce(&mut Client)) {
        let known = self.clients.entry(client).or_default();
        if let Some((idle_from, _)) = known.resting.first()
            && let Some(others) = self.resting.get_mut(&known.places)
        {
            others.remove(&(*idle_from, client));
            if others.is_empty() {
                self.resting.remove(&known.places);
            }
        }
        change(known);
        if let Some((idle_from, _)) = known.resting.first() {
            self.resting.entry(known.places).or_default().insert((*idle_from, client));
        }
        if known.places == 0 {
            self.clients.remove(&client);
        }
    }

    /// Closes the connection that has been idle longest of the client with the most places; `false` where nobody is idle.
    fn close_idle(&mut self, now: Instant) -> bool {
        loop {
            // As few steps as there are different counts of places, which is the square root of all places.
            let mut first = self.resting.values().rev().filter_map(BTreeSet::first);
            let Some((_, client)) = first.find(|(idle_from, _)| *idle_from <= now).copied() else {
                return false;
            };
            if self.close_idle_of(client, now) {
                return true;
            }
        }
    }

    /// Closes the connection of this client that has been idle longest; `false` where none is idle.
    fn close_idle_of(&mut self, client: IpAddr, now: Instant) -> bool {
        while let Some((idle_from, id)) =
            self.clients.get(&client).and_then(|known| known.resting.first().copied())
            && idle_from <= now
            && let Some(TakenPlace { socket, rest: Some(Rest { patience, .. }), gone, .. }) =
                self.taken.get(&id)
        {
            let patience = *patience;
            let really_from = socket.quiet_since().unwrap_or(now) + patience;
            if really_from > idle_from {
                // Bytes have moved since it was noted: it takes its true place in the order.
                self.set(id, Some(Rest { idle_from: really_from, patience }));
                continue;
            }
            gone.cancel();
            self.leave(id);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::advance;

    use super::*;

    const MOST: Most = Most { in_all: 3, of_client: 2 };

    /// Both ends of a connection.
    async fn connection(listener: &TcpListener) -> (TcpStream, ClientSocket) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, ClientSocket::new(listener.accept().await.unwrap().0))
    }

    fn client(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_has_had_nothing_to_say_for_a_while_gives_way() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let places = Arc::new(Places::new(Arc::default()));
        let (mut far, mut near) = connection(&listener).await;
        let (_other_far, other) = connection(&listener).await;
        let one = places.enter(&near, client(1), MOST).unwrap();
        let two = places.enter(&other, client(1), MOST).unwrap();
        assert!(two.work());
        let full = || places.enter(&other, client(1), MOST).err();
        assert_eq!(full(), Some(Full::OfClient), "it has only just come");
        advance(bounds::PLACE_GRACE).await;
        far.write_all(b"x").await.unwrap();
        assert_eq!(full(), Some(Full::OfClient), "bytes have come that are unread");
        advance(bounds::PLACE_GRACE / 2).await;
        near.read_u8().await.unwrap();
        advance(bounds::PLACE_GRACE / 2).await;
        assert_eq!(full(), Some(Full::OfClient), "bytes have just been read");
        one.rest_as_tunnel();
        advance(bounds::TUNNEL_QUIET / 2).await;
        assert_eq!(full(), Some(Full::OfClient), "a tunnel may have a request in hand");
        advance(bounds::TUNNEL_QUIET / 2).await;
        let three = places.enter(&other, client(1), MOST).unwrap();
        assert!(one.gave_way() && !one.work() && !two.gave_way());
        assert_eq!(places.metrics.connections_gave_way.get(), 1);
        drop((one, two, three));
        let table = places.lock();
        assert!(table.taken.is_empty() && table.clients.is_empty() && table.resting.is_empty(), "{table:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_places_are_taken_the_client_with_the_most_gives_way_and_then_the_longest_idle() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let places = Arc::new(Places::new(Arc::default()));
        let (_far, socket) = connection(&listener).await;
        let mut taken = Vec::new();
        for last in [1, 2, 2] {
            taken.push(places.enter(&socket, client(last), MOST).unwrap());
            advance(Duration::from_secs(1)).await;
        }
        advance(bounds::PLACE_GRACE).await;
        let gone =
            |taken: &[ConnectionPlace]| taken.iter().map(ConnectionPlace::gave_way).collect::<Vec<_>>();
        taken.push(places.enter(&socket, client(3), MOST).unwrap());
        assert_eq!(gone(&taken), [false, true, false, false]);
        taken.push(places.enter(&socket, client(4), MOST).unwrap());
        assert_eq!(gone(&taken), [true, true, false, false, false]);
        // One whose client is not known yet keeps its place until it is.
        advance(bounds::PLACE_GRACE).await;
        let unknown = places.enter(&socket, None, MOST).unwrap();
        assert_eq!(gone(&taken), [true, true, true, false, false]);
        assert_eq!(unknown.belongs_to(IpAddr::from([10, 0, 0, 3]), MOST), Ok(()));
    }
}
