//! Accepting connections: caps in all and for each address, and a loop that survives running out of descriptors.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::proxy_protocol;
use super::sniff::Entrance;
use crate::bounds;
use crate::http::reply::{Cause, Refusal};
use crate::policy::limits;
use crate::setup::InForce;
use crate::stream::{First, Rewound, last_word};

/// Who may connect, and how many at one time: counted here, limited by the setup in force.
#[derive(Debug)]
pub struct Door {
    setup: Arc<InForce>,
    counts: Arc<Mutex<Counts>>,
    /// Places for those who are told that there is no place.
    turned_away: Semaphore,
}

/// Open connections.
#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place among all, and among those of its address once that is known; given back when it is dropped.
#[derive(Debug)]
struct Place {
    counts: Arc<Mutex<Counts>>,
    address: Option<IpAddr>,
}

impl Door {
    /// A door to a relay with this setup.
    pub fn new(setup: Arc<InForce>) -> Self {
        Self { setup, counts: Arc::default(), turned_away: Semaphore::new(bounds::OVER_LIMIT_AT_ONCE) }
    }

    /// Accepts until the relay stops. Never ends because `accept` failed.
    pub async fn keep_open(self: Arc<Self>, listener: TcpListener, entrance: Arc<Entrance>) {
        let stop = entrance.conversations.stop.clone();
        let mut pause = bounds::ACCEPT_PAUSE;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = bounds::ACCEPT_PAUSE;
                    self.admit(stream, peer, &entrance);
                }
                Err(e) if is_the_peers(&e) => {}
                Err(e) => {
                    // Out of descriptors or memory: connections wait in the back-log until some are given back.
                    tracing::error!("no connection can be accepted for now: {e}");
                    sleep(pause).await;
                    pause = (2 * pause).min(bounds::ACCEPT_PAUSE_MAX);
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, entrance: &Arc<Entrance>) {
        // Small messages in both directions: waiting to fill a segment only adds latency. A socket that refuses is
        // one that is gone.
        let _ = stream.set_nodelay(true);
        // An IPv4 client of an IPv6 socket is an IPv4 client.
        let peer = peer.ip().to_canonical();
        let (door, entrance) = (self.clone(), entrance.clone());
        let tasks = entrance.conversations.tasks.clone();
        match self.place() {
            Some(place) => drop(tasks.spawn(door.welcome(stream, peer, place, entrance))),
            None => {
                let refusal =
                    Refusal::new(Cause::Connections, "too many connections (listen.max_connections)");
                tasks.spawn(async move { door.turn_away(stream, peer, &refusal, &entrance).await });
            }
        }
    }

    async fn welcome(
        self: Arc<Self>,
        mut stream: TcpStream,
        peer: IpAddr,
        mut place: Place,
        entrance: Arc<Entrance>,
    ) {
        let mut client = peer;
        if self.setup.load().config.listen.proxy_protocol_from.iter().any(|network| network.contains(&peer)) {
            let told = timeout(bounds::FIRST_BYTE, proxy_protocol::read(&mut stream)).await;
            match told {
                Ok(Ok(told)) => client = told.unwrap_or(peer),
                Ok(Err(e)) => {
                    return tracing::warn!("{peer} is a load balancer (listen.proxy_protocol_from): {e}");
                }
                Err(_) => return,
            }
        }
        match self.seat(&mut place, client) {
            Ok(()) => {
                entrance.serve(stream, client).await;
                drop(place);
            }
            Err(refusal) => {
                drop(place);
                self.turn_away(stream, client, &refusal, &entrance).await;
            }
        }
    }

    /// A place among all connections.
    fn place(&self) -> Option<Place> {
        let most = self.setup.load().config.listen.max_connections;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.all >= most {
            return None;
        }
        counts.all += 1;
        Some(Place { counts: self.counts.clone(), address: None })
    }

    /// Makes it a place among those of its address.
    fn seat(&self, place: &mut Place, address: IpAddr) -> Result<(), Refusal> {
        let setup = self.setup.load();
        let listen = &setup.config.listen;
        if !listen.lets_connect(address) {
            return Err(Refusal::address(address));
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // One machine may use a whole /64.
        let client = limits::client(address);
        let count = counts.by_address.entry(client).or_default();
        if *count >= listen.max_connections_per_address {
            let words = format!("too many connections of {address} (listen.max_connections_per_address)");
            return Err(Refusal::new(Cause::Connections, &words));
        }
        *count += 1;
        place.address = Some(client);
        Ok(())
    }

    /// It is recorded, and a client that speaks HTTP is told why, as long as there are not too many to be told; one that
    /// speaks TLS can't be told anything cheaper than a handshake.
    async fn turn_away(&self, stream: TcpStream, client: IpAddr, refusal: &Refusal, entrance: &Entrance) {
        let id = Uuid::now_v7();
        entrance.conversations.note_turned_away(refusal, client, id);
        let Ok(_place) = self.turned_away.try_acquire() else { return };
        let mut stream = Rewound::new(bytes::Bytes::new(), stream);
        if let First::Byte(b'A'..=b'Z') = stream.first_byte(Instant::now() + bounds::OVER_LIMIT).await {
            let bytes = refusal.to_bytes(refusal.on_connect(), id);
            let _ = timeout(bounds::OVER_LIMIT, last_word(&mut stream, &bytes)).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        let Some(address) = self.address else { return };
        if let Some(count) = counts.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

/// A listening socket; several relays' ports don't collide silently, and a restart needn't wait for old connections.
///
/// # Errors
/// The address is taken, or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(bounds::BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Errors of one connection that was over before it was accepted (accept(2)).
fn is_the_peers(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(e.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
