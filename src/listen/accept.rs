//! Accepts connections: each takes a place, of all and of its client. The loop survives running out of descriptors.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::proxy_protocol;
use super::sniff::Dispatcher;
use crate::bounds;
use crate::http::reply::{Cause, Refusal};
use crate::observe::metrics::Metrics;
use crate::policy::places::{ConnectionPlace, Full, Most, Places};
use crate::setup::InForce;
use crate::stream::socket::ClientSocket;
use crate::stream::{First, Rewound, last_word};

/// Accepts connections, as many as the limits of the setup in force allow.
#[derive(Debug)]
pub struct Acceptor {
    setup: Arc<InForce>,
    places: Arc<Places>,
    /// Places for clients that are turned away with an explanation.
    turned_away: Semaphore,
}

impl Acceptor {
    /// Accepts under the limits of this setup and of those that follow it.
    pub fn new(setup: Arc<InForce>, metrics: Arc<Metrics>) -> Self {
        let places = Arc::new(Places::new(metrics));
        Self { setup, places, turned_away: Semaphore::new(bounds::OVER_LIMIT_AT_ONCE) }
    }

    /// Accepts until the relay stops. Never ends because `accept` failed.
    pub async fn keep_open(self: Arc<Self>, listener: TcpListener, dispatcher: Arc<Dispatcher>) {
        let stop = dispatcher.app().stop.clone();
        loop {
            let (stream, peer) = tokio::select! {
                accepted = next(|| listener.accept(), || self.places.make_room()) => accepted,
                () = stop.cancelled() => return,
            };
            self.admit(stream, peer, &dispatcher);
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, dispatcher: &Arc<Dispatcher>) {
        // Small messages in both directions: waiting to fill a segment only adds latency. A socket that refuses is
        // one that is gone.
        let _ = stream.set_nodelay(true);
        // An IPv4 client of an IPv6 socket is an IPv4 client.
        let peer = peer.ip().to_canonical();
        let socket = ClientSocket::new(stream);
        let (acceptor, dispatcher) = (self.clone(), dispatcher.clone());
        let tasks = dispatcher.app().tasks.clone();
        let balancers = &self.setup.load().config.listen.proxy_protocol_from;
        let is_balancer = balancers.iter().any(|network| network.contains(&peer));
        match self.enter(&socket, peer, is_balancer) {
            Ok(place) if is_balancer => {
                drop(tasks.spawn(acceptor.introduce(socket, peer, place, dispatcher)))
            }
            Ok(place) => drop(tasks.spawn(welcome(socket, peer, place, dispatcher))),
            Err(refusal) => {
                tasks.spawn(async move { acceptor.turn_away(socket, peer, &refusal, &dispatcher).await });
            }
        }
    }

    /// Reads from a load balancer which client it connects, and serves that client.
    async fn introduce(
        self: Arc<Self>,
        mut socket: ClientSocket,
        balancer: IpAddr,
        place: ConnectionPlace,
        dispatcher: Arc<Dispatcher>,
    ) {
        let client = match timeout(bounds::FIRST_BYTE, proxy_protocol::read(&mut socket)).await {
            Ok(Ok(told)) => told.unwrap_or(balancer),
            Ok(Err(e)) => {
                return tracing::warn!("{balancer} is a load balancer (listen.proxy_protocol_from): {e}");
            }
            Err(_) => return,
        };
        let seated = self
            .most(client, false)
            .and_then(|most| place.belongs_to(client, most).map_err(|full| no_place(full, client)));
        match seated {
            Ok(()) => welcome(socket, client, place, dispatcher).await,
            Err(refusal) => {
                drop(place);
                self.turn_away(socket, client, &refusal, &dispatcher).await;
            }
        }
    }

    /// Takes a place for a new connection. The client of a load balancer is not known yet.
    fn enter(
        &self,
        socket: &ClientSocket,
        peer: IpAddr,
        is_balancer: bool,
    ) -> Result<ConnectionPlace, Refusal> {
        let most = self.most(peer, is_balancer)?;
        let client = (!is_balancer).then_some(peer);
        self.places.enter(socket, client, most).map_err(|full| no_place(full, peer))
    }

    /// How many places there are; an error for a client that may not connect at all, so that it makes nobody give way.
    fn most(&self, peer: IpAddr, is_balancer: bool) -> Result<Most, Refusal> {
        let setup = self.setup.load();
        let listen = &setup.config.listen;
        if !is_balancer && !listen.lets_connect(peer) {
            return Err(Refusal::address(peer));
        }
        Ok(Most { in_all: listen.max_connections, of_client: listen.max_connections_per_address })
    }

    /// Records the refusal, and explains it to a client that speaks HTTP, to so many at a time. Explaining it in TLS would cost
    /// a handshake.
    async fn turn_away(
        &self,
        stream: ClientSocket,
        client: IpAddr,
        refusal: &Refusal,
        dispatcher: &Dispatcher,
    ) {
        let id = Uuid::now_v7();
        dispatcher.app().note_turned_away(refusal, client, id);
        let Ok(_place) = self.turned_away.try_acquire() else { return };
        let mut stream = Rewound::new(bytes::Bytes::new(), stream);
        if let First::Byte(b'A'..=b'Z') = stream.first_byte(Instant::now() + bounds::OVER_LIMIT).await {
            let bytes = refusal.to_bytes(refusal.on_connect(), id);
            let _ = timeout(bounds::OVER_LIMIT, last_word(&mut stream, &bytes)).await;
        }
    }
}

/// Serves a connection to its end, or until its place is needed while it is idle.
async fn welcome(socket: ClientSocket, client: IpAddr, place: ConnectionPlace, dispatcher: Arc<Dispatcher>) {
    let place = Arc::new(place);
    tokio::select! {
        biased;
        () = dispatcher.serve(socket, client, place.clone()) => {}
        () = place.cut_off() => {}
    }
    if place.gave_way() {
        dispatcher.app().note_gave_way(client);
    }
}

fn no_place(full: Full, client: IpAddr) -> Refusal {
    let words = match full {
        Full::InAll => "too many connections (listen.max_connections)".to_owned(),
        Full::OfClient => format!("too many connections of {client} (listen.max_connections_per_address)"),
    };
    Refusal::new(Cause::Connections, &words)
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

/// The next connection. Where there are no descriptors or no memory, connections wait in the back-log until some are given
/// back, and it is tried again after a pause, which grows.
async fn next<T, F: Future<Output = io::Result<T>>>(accept: impl Fn() -> F, make_room: impl Fn()) -> T {
    let mut pause = bounds::ACCEPT_PAUSE;
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            Err(e) if is_the_peers(&e) => {}
            Err(e) => {
                tracing::error!("no connection can be accepted for now: {e}");
                make_room();
                sleep(pause).await;
                pause = (2 * pause).min(bounds::ACCEPT_PAUSE_MAX);
            }
        }
    }
}

/// Errors of one connection that was over before it was accepted (accept(2)).
fn is_the_peers(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(e.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests;
