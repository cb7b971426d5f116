//! The first byte decides who serves a connection: `0x16` is TLS, a letter is HTTP/1. Inside TLS, the ClientHello decides.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use crate::app::App;
use crate::bounds;
use crate::http::reply::{Cause, Refusal};
use crate::http::serve::{ConnectionInfo, ConnectionServer, Target};
use crate::observe::facts::{Access, Arrival};
use crate::policy::identity::{ClientIdentity, WayIn};
use crate::policy::places::ConnectionPlace;
use crate::stream::{AnyStream, First, Rewound, Stream, last_word};
use crate::tls::handshake::{TLS, handshake};
use crate::tunnel::connect::Proxy;

/// Leads each connection to what serves it, by its first byte.
#[derive(Debug)]
pub struct Dispatcher {
    app: Arc<App>,
    proxy: Proxy,
}

impl Dispatcher {
    /// Dispatches the connections of this app.
    pub fn new(app: Arc<App>) -> Self {
        Self { proxy: Proxy::new(app.clone()), app }
    }

    /// The app that connections are led to.
    pub(super) fn app(&self) -> &App {
        &self.app
    }

    /// Serves a connection to its end.
    pub async fn serve(&self, stream: impl Stream + 'static, client: IpAddr, place: Arc<ConnectionPlace>) {
        let mut stream = Rewound::new(bytes::Bytes::new(), AnyStream::new(stream));
        let deadline = Instant::now() + bounds::FIRST_BYTE;
        let first = tokio::select! {
            first = stream.first_byte(deadline) => first,
            () = self.app.stop.cancelled() => {
                return self.refuse(stream, client, &Refusal::draining()).await;
            }
        };
        match first {
            First::Closed(_) => {}
            First::Byte(TLS) => self.tls(stream, client, place).await,
            First::Byte(b'A'..=b'Z' | b'a'..=b'z') => {
                self.proxy.serve(AnyStream::new(stream), client, WayIn::Connect, None, place).await;
            }
            First::Byte(_) => {
                let refusal =
                    Refusal::new(Cause::Malformed, "neither HTTP nor TLS; this port is an HTTP proxy");
                self.refuse(stream, client, &refusal).await;
            }
            First::Silence => {
                let refusal = Refusal::new(Cause::TooSlow, "nothing was sent; this port is an HTTP proxy");
                self.refuse(stream, client, &refusal).await;
            }
        }
    }

    async fn tls(&self, stream: Rewound<AnyStream>, client: IpAddr, place: Arc<ConnectionPlace>) {
        let setup = self.app.setup.load_full();
        // A handshake costs us more than the client; one that is not begun can't be explained.
        if let Err(wait) = setup.policy.handshakes.check(client) {
            let words = "too many TLS connections of this address (limits.per_address)";
            let refusal = Refusal::new(Cause::RateLimited, words).after(wait);
            return self.app.note_turned_away(&refusal, client, Uuid::now_v7());
        }
        let faces = &setup.faces;
        let choose = |sni: Option<&str>| faces.choose(sni, client);
        let (stream, sni) = match handshake(stream, client, faces, choose).await {
            Ok(accepted) => accepted,
            Err(failed) => return setup.access.write(failed.access(client, WayIn::TlsConnect, None)),
        };
        let direct = sni.as_deref().and_then(|name| name.parse().ok());
        let direct = direct.and_then(|name| setup.policy.destinations.terminated(&name));
        let direct = direct.cloned();
        // What follows takes what is in force then, and old setups go with their last request.
        drop(setup);
        match direct {
            Some(to) => {
                let to = Target::Host(to);
                let identity = ClientIdentity::direct(client);
                let info = ConnectionInfo {
                    identity,
                    arrival: Arrival { sni, ..Arrival::default() },
                    to,
                    counted: false,
                };
                ConnectionServer::new(self.app.clone(), info).serve(stream, place).await;
            }
            None => self.proxy.serve(AnyStream::new(stream), client, WayIn::TlsConnect, sni, place).await,
        }
    }

    async fn refuse(&self, mut stream: Rewound<AnyStream>, client: IpAddr, refusal: &Refusal) {
        let mut access = Access::new(Uuid::now_v7(), client, None, Arrival::default());
        refusal.note(&mut access, refusal.on_connect());
        let bytes = refusal.to_bytes(refusal.on_connect(), access.id());
        self.app.setup.load().access.write(access);
        last_word(&mut stream, &bytes).await;
    }
}
