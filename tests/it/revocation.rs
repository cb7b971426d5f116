//! What is revoked is over within seconds for everybody who is connected: every kind of connection is open while a user, a
//! password, an entry, a network, a destination or an address is taken away.
//!
//! A tunnel, whose bytes nobody reads, is closed. In a conversation the next request is refused, which ends it: it has a
//! client to be told why, and no request of it passes unjudged.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::common::wire::*;
use crate::common::*;

const LEGACY: &str = "lef1.qliktech.com";
/// `prod:first-password` and `pinned:first-password`.
const PROD: &str = "Proxy-Authorization: Basic cHJvZDpmaXJzdC1wYXNzd29yZA==\r\n";
const PINNED: &str = "Proxy-Authorization: Basic cGlubmVkOmZpcnN0LXBhc3N3b3Jk\r\n";
/// Who comes in by network: one is read, one is tunnelled.
const DIRECT: &str = "127.0.0.3";
const NEAR: &str = "127.0.0.2";

const SOURCES: &str = r#"
[[source]]
name = "read"
id = "fbe89d02-6d24-4595-915e-c52ce76f2195"
users = ["prod"]
networks = ["127.0.0.3/32"]

[[source]]
name = "pinned by user"
users = ["pinned"]
mode = "tunnel"

[[source]]
name = "pinned by network"
networks = ["127.0.0.2/32"]
mode = "tunnel"
"#;

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A kind of connection, in the order in which they are opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Connect,
    TlsConnect,
    Direct,
    Absolute,
    TunnelByUser,
    TunnelByNetwork,
}

use Kind::{Absolute, Connect, Direct, TlsConnect, TunnelByNetwork, TunnelByUser};

impl Kind {
    const ALL: [Self; 6] = [Connect, TlsConnect, Direct, Absolute, TunnelByUser, TunnelByNetwork];

    fn is_tunnel(self) -> bool {
        matches!(self, TunnelByUser | TunnelByNetwork)
    }

    fn open(self, relay: &Relay, stub: &Stub) -> Box<dyn Stream> {
        let connect = |stream: &mut dyn Stream, fields: &str| {
            write!(stream, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n").unwrap();
            stream.flush().unwrap();
            assert_eq!(Answer::read(&mut &mut *stream).status, 200, "{self:?}");
        };
        match self {
            Connect => Box::new(relay.inside_from("127.0.0.1", PROD)),
            TlsConnect => {
                let mut outer = tls(relay.connect(), "localhost", &relay.root());
                connect(&mut outer, PROD);
                Box::new(tls(outer, HOST, &relay.root()))
            }
            Direct => Box::new(tls(relay.connect_from(DIRECT), HOST, &relay.root())),
            Absolute => Box::new(relay.connect()),
            TunnelByUser => {
                let mut stream = relay.connect();
                connect(&mut stream, PINNED);
                Box::new(tls(stream, HOST, &stub.ca))
            }
            TunnelByNetwork => {
                let mut stream = relay.connect_from(NEAR);
                connect(&mut stream, "");
                Box::new(tls(stream, HOST, &stub.ca))
            }
        }
    }

    fn ask(self, stream: &mut dyn Stream) -> Answer {
        let request = match self {
            Absolute => format!("GET http://{LEGACY}/counters HTTP/1.1\r\nHost: {LEGACY}\r\n{PROD}\r\n"),
            _ => post("/v1/sync", IDLE),
        };
        ask(&mut &mut *stream, request)
    }
}

/// A relay, and a connection of each kind that has just been used.
struct World {
    stub: Stub,
    relay: Relay,
    open: Vec<(Kind, Box<dyn Stream>)>,
    config: String,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stub = Stub::start(folder.path(), &[]);
        let relay = Plan::new(&stub)
            .and(&format!(
                "\n[[destination]]\nhost = \"{LEGACY}\"\nmode = \"http\"\nconnect_to = \"{}\"\n",
                stub.control
            ))
            .sources(SOURCES)
            .start();
        for user in ["prod", "pinned"] {
            after(&relay, || relay.add_user(user, "first-password"));
        }
        let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
        let open = Kind::ALL.map(|kind| (kind, kind.open(&relay, &stub))).into();
        let mut world = Self { stub, relay, open, config, _folder: folder };
        for (kind, stream) in &mut world.open {
            assert_eq!(kind.ask(stream.as_mut()).status, 200, "{kind:?} {}", world.relay.stderr());
        }
        world
    }

    /// Takes something away, and asks on all connections: these kinds are over, and their records say so in these words;
    /// the others go on.
    #[track_caller]
    fn revoke(mut self, revoke: impl FnOnce(&Relay, &str), over: &[(Kind, &str)]) {
        after(&self.relay, || revoke(&self.relay, &self.config));
        let begun = SystemTime::now();
        let asked = self.stub.counters()["requests"].as_u64().unwrap();
        let (mut passed, mut told) = (0, 0);
        // What is to be closed unasked first: the others wait for nobody.
        self.open.sort_by_key(|(kind, _)| !kind.is_tunnel());
        for (kind, stream) in &mut self.open {
            let Some((_, words)) = over.iter().find(|(over, _)| over == kind) else {
                assert_eq!(kind.ask(stream.as_mut()).status, 200, "{kind:?} {}", self.relay.stderr());
                passed += u64::from(*kind != Absolute);
                continue;
            };
            if kind.is_tunnel() {
                // Without a word of ours: the relay lets go of it.
                let end = stream.read(&mut [0; 16]);
                assert!(!matches!(end, Ok(1..)), "{kind:?} {end:?}");
                let took = begun.elapsed().unwrap();
                assert!(took < Duration::from_secs(2), "{kind:?} {took:?}");
                Self::is_recorded_as_closed(&self.relay, *kind, words);
            } else {
                let refused = kind.ask(stream.as_mut());
                assert!([400, 407, 503].contains(&refused.status), "{kind:?} {refused:?}");
                assert!(refused.reason.contains(words), "{kind:?} {refused:?}");
                assert!(*kind == Absolute || refused.closes() || *words == "source", "{kind:?} {refused:?}");
                told += 1;
            }
        }
        assert_eq!(self.stub.counters()["requests"].as_u64().unwrap(), asked + passed);
        eventually("refusals are recorded", || {
            (self.relay.records("access.denied").len() == told).then_some(())
        });
    }

    #[track_caller]
    fn is_recorded_as_closed(relay: &Relay, kind: Kind, words: &str) {
        let (entry, user) = match kind {
            TunnelByUser => ("pinned by user", Value::from("pinned")),
            _ => ("pinned by network", Value::Null),
        };
        let closed = eventually(&format!("{kind:?} is recorded"), || {
            let closed = relay.records("license.tunnel.close");
            closed.into_iter().find(|record| record["qlik"]["entry"] == entry)
        });
        let reason = closed["event"]["reason"].as_str().unwrap();
        assert!(reason.starts_with("ended by revocation: ") && reason.contains(words), "{closed}");
        assert_eq!(closed["qlik"]["proxy_user"], user, "{closed}");
        assert_eq!(closed["qlik"]["destination"], format!("{HOST}:443"), "{closed}");
        assert!(closed["qlik"]["bytes_sent"].as_u64().unwrap() > 0, "{closed}");
        let said = relay.stderr();
        assert!(said.contains("ended by revocation") && said.contains(&words.replace('"', "\\\"")), "{said}");
    }
}

/// Does something that must be in force before it goes on.
#[track_caller]
fn after(relay: &Relay, change: impl FnOnce()) {
    let generation = || {
        let (_, body) = relay.admin("/status");
        serde_json::from_str::<Value>(&body).unwrap()["configuration"]["generation"].as_u64().unwrap()
    };
    let before = generation();
    change();
    eventually("it is in force", || (generation() > before).then_some(()));
}

#[test]
fn a_user_who_is_removed() {
    World::new().revoke(
        |relay, _| {
            // Both at once, so that one generation takes both away.
            fs::write(relay.path("users"), "# nobody\n").unwrap();
        },
        &[
            (Connect, "from this address or user"),
            (TlsConnect, "from this address or user"),
            (Absolute, "password"),
            (TunnelByUser, "there is no user \"pinned\" any more"),
        ],
    );
}

#[test]
fn a_password_that_is_changed() {
    World::new().revoke(
        |relay, _| {
            let hash = license_relay::policy::users::PasswordHash::new("second-password").unwrap();
            fs::write(relay.path("users"), format!("prod:{hash}\npinned:{hash}\n")).unwrap();
        },
        &[
            (Connect, "from this address or user"),
            (TlsConnect, "from this address or user"),
            (Absolute, "password"),
            (TunnelByUser, "the user \"pinned\" has another password"),
        ],
    );
}

#[test]
fn an_entry_that_is_removed() {
    let (kept, rest) = SOURCES.split_at(SOURCES.find("[[source]]\nname = \"pinned by user\"").unwrap());
    let (by_user, by_network) = rest.split_at(rest.rfind("[[source]]").unwrap());
    let gone = |sources: String| {
        move |relay: &Relay, _: &str| fs::write(relay.path("sources.toml"), sources).unwrap()
    };
    World::new().revoke(gone(format!("{kept}{by_network}")), &[(TunnelByUser, "\"pinned by user\"")]);
    World::new().revoke(gone(format!("{kept}{by_user}")), &[(TunnelByNetwork, "\"pinned by network\"")]);
    World::new().revoke(
        gone(rest.to_owned()),
        &[
            (Connect, "source"),
            (TlsConnect, "source"),
            (Direct, "source"),
            (Absolute, "no source or license"),
        ],
    );
}

#[test]
fn a_network_that_is_removed_and_a_mode_that_is() {
    let change = |old: &'static str, new: &'static str| {
        move |relay: &Relay, _: &str| {
            assert!(SOURCES.contains(old));
            fs::write(relay.path("sources.toml"), SOURCES.replace(old, new)).unwrap();
        }
    };
    World::new().revoke(
        change("127.0.0.", "10.0.0."),
        &[(Direct, "source"), (TunnelByNetwork, "\"pinned by network\"")],
    );
    let words = "no entry asks for mode";
    World::new().revoke(change("mode = \"tunnel\"", ""), &[(TunnelByUser, words), (TunnelByNetwork, words)]);
}

#[test]
fn a_destination_that_is_removed() {
    let words = "not in the list of destinations any more";
    World::new().revoke(
        |relay, config| {
            let (host, moved) = (format!("host = \"{HOST}\""), format!("host = \"{HOST}\"\nport = 8443"));
            let config = config.replace(&host, &moved).replace(LEGACY, "lef9.qliktech.com");
            fs::write(relay.path("relay.toml"), config).unwrap();
        },
        &[
            (Connect, words),
            (TlsConnect, words),
            (Direct, words),
            (Absolute, "not a listed host"),
            (TunnelByUser, words),
            (TunnelByNetwork, words),
        ],
    );
}

#[test]
fn an_address_that_may_not_connect_any_more() {
    World::new().revoke(
        |relay, config| {
            let allow = "[listen]\nallow_from = [\"127.0.0.1/32\"]\n";
            fs::write(relay.path("relay.toml"), config.replace("[listen]\n", allow)).unwrap();
        },
        &[(Direct, "may not connect"), (TunnelByNetwork, "may not connect any more")],
    );
}

#[test]
fn a_tunnel_lasts_over_reloads_that_leave_it_its_entry() {
    let mut world = World::new();
    for n in 0..3 {
        after(&world.relay, || {
            fs::write(world.relay.path("sources.toml"), format!("# {n}\n{SOURCES}")).unwrap();
        });
        for (kind, stream) in &mut world.open {
            assert_eq!(kind.ask(stream.as_mut()).status, 200, "{kind:?} {}", world.relay.stderr());
        }
    }
    assert!(world.relay.records("license.tunnel.close").is_empty());
    let opened = world.relay.records("license.tunnel.open");
    assert_eq!(opened.len(), 2);
    assert_eq!(opened[0]["qlik"]["entry"], "pinned by user");
    assert_eq!(opened[0]["qlik"]["proxy_user"], "pinned");
}
