//! A stand-in for license.qlikcloud.com: for the demo, for tests that drive the built program, and for people
//! who want to try the relay before they open a firewall.
//!
//! The life of a request here: a connection is accepted, TLS is spoken with a throw-away CA's leaf, `wire`
//! reads one strict request, it is recorded, `licensing` answers (or `control`, under `/stub/`), and
//! `trouble` sends the answer or spoils it.

#![deny(clippy::print_stderr, clippy::print_stdout)] // The program that starts it prints.

mod control;
mod licensing;
mod trouble;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use licensing::{Assignment, RequestKind};
use licensing::{Licensing, RequestContent};
use trouble::{Then, What};
pub use trouble::{Trouble, TroubleError, duration};
use wire::{Connection, Reply, Request, Socket};

/// How a stub is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 for a free one.
    pub listen: SocketAddr,
    /// Where it is looked into and steered, plain HTTP on loopback.
    pub control: Option<SocketAddr>,
    /// Who it is.
    pub identity: Identity,
    /// How long an idle connection stays.
    pub keep_alive: Duration,
    /// How it misbehaves from the start.
    pub trouble: Vec<Trouble>,
}

/// Who a stub is.
#[derive(Clone, Debug)]
pub enum Identity {
    /// A leaf for these names, by a CA of its own whose key is thrown away.
    Own(Vec<String>),
    /// A certificate with its chain and a key, in PEM.
    Files(PathBuf, PathBuf),
    /// Nobody: no TLS.
    Plain,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            control: None,
            identity: Identity::Own(vec!["license.qlikcloud.com".to_owned()]),
            keep_alive: Duration::from_secs(75),
            trouble: Vec::new(),
        }
    }
}

/// A running stub. It stops when it is dropped.
pub struct Stub {
    address: SocketAddr,
    control: Option<SocketAddr>,
    root: Option<String>,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: DropGuard,
}

/// What the stub has seen since it started.
#[derive(Clone, Debug, Serialize)]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Requests read, bad ones included.
    pub requests: u64,
    /// Requests refused for their form.
    pub bad: u64,
    /// Requests by what they are about.
    pub by_kind: BTreeMap<RequestKind, u64>,
    /// Totals of all deployments by `license/allotment/month`, the license in digits or empty.
    pub consumption: BTreeMap<String, i64>,
    /// Every change of an assignment, rejected ones included.
    pub assignments: Vec<Assignment>,
}

impl Stub {
    /// Binds and serves, until it is stopped.
    ///
    /// # Errors
    /// An address can't be had, control is not on loopback, or the certificate is not usable.
    pub async fn start(options: Options) -> io::Result<Self> {
        let (tls, root) = match options.identity {
            Identity::Own(names) => {
                let (leaf, key, root) = own_leaf(names).map_err(io::Error::other)?;
                (Some(acceptor(vec![leaf], key)?), Some(root))
            }
            Identity::Files(certificate, key) => {
                let chain = CertificateDer::pem_file_iter(&certificate).and_then(Iterator::collect);
                let chain = chain.map_err(|e| unfit(&certificate, &e))?;
                let key = PrivateKeyDer::from_pem_file(&key).map_err(|e| unfit(&key, &e))?;
                (Some(acceptor(chain, key)?), None)
            }
            Identity::Plain => (None, None),
        };
        let state = State { trouble: options.trouble, ..State::default() };
        let shared = Arc::new(Shared { keep_alive: options.keep_alive, state: Mutex::new(state) });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());

        let control = match options.control {
            Some(address) if !address.ip().is_loopback() => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "control is for loopback only"));
            }
            Some(address) => Some(TcpListener::bind(address).await?),
            None => None,
        };
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let control_address = control.as_ref().map(TcpListener::local_addr).transpose()?;
        let serve = {
            let shared = shared.clone();
            move |tcp| converse(shared.clone(), tls.clone(), tcp)
        };
        tasks.spawn(accept(listener, tasks.clone(), stop.clone(), serve));
        if let Some(listener) = control {
            let shared = shared.clone();
            let serve = move |tcp| {
                let shared = shared.clone();
                async move { control::serve(&shared, tcp).await }
            };
            tasks.spawn(accept(listener, tasks.clone(), stop.clone(), serve));
        }
        let stop = stop.drop_guard();
        Ok(Self { address, control: control_address, root, shared, tasks, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is looked into and steered.
    pub fn control(&self) -> Option<SocketAddr> {
        self.control
    }

    /// The root of its own CA in PEM, for whoever shall trust it.
    pub fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// What it has seen.
    pub fn counters(&self) -> Counters {
        self.shared.with(|state| state.counters())
    }

    /// Misbehaves like this from now on, in place of what was set before.
    pub fn set_trouble(&self, trouble: Vec<Trouble>) {
        self.shared.with(|state| state.trouble = trouble);
    }

    /// Changes an assignment as another deployment would.
    pub fn assign(&self, license: &str, allotment: &str, subject: &str) {
        let patch = licensing::Patch::new(license, allotment, subject);
        self.shared.with(|state| state.licensing.assign(ANOTHER_DEPLOYMENT, patch));
    }

    /// Closes everything, and returns when it is closed.
    pub async fn stop(self) {
        drop(self.stop);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The source of what is assigned on the control address.
const ANOTHER_DEPLOYMENT: &str = "another-deployment";

struct Shared {
    keep_alive: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: u64,
    requests: u64,
    bad: u64,
    by_kind: BTreeMap<RequestKind, u64>,
    records: VecDeque<Record>,
    recorded: usize,
    licensing: Licensing,
    trouble: Vec<Trouble>,
}

/// One request as it came.
struct Record {
    number: u64,
    connection: u64,
    head: Bytes,
    body: Bytes,
    kind: RequestKind,
    bad: Option<String>,
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Records a request and does what it says. The answer comes with what shall become of it.
    fn answer(&mut self, connection: u64, request: &Request) -> (Reply, Option<What>) {
        let said = RequestContent::by(request);
        let is_helper = request.path().starts_with("/stub/");
        let kind = if is_helper { RequestKind::Other } else { said.kind() };
        self.record(connection, &request.head, &request.body, kind, None);
        let delay = trouble::take(&mut self.trouble, |what| matches!(what, What::Delay(_)));
        let what = trouble::take(&mut self.trouble, |what| !matches!(what, What::Delay(_) | What::Stale));
        let mut reply = match what {
            Some(What::Status(code)) => Reply::error(code, "trouble"),
            _ if is_helper => control::helper(request),
            _ => self.licensing.answer(said, request),
        };
        if let Some(What::Delay(delay)) = delay {
            reply.wait += delay;
        }
        (reply, what)
    }

    fn record(
        &mut self,
        connection: u64,
        head: &Bytes,
        body: &Bytes,
        kind: RequestKind,
        bad: Option<String>,
    ) {
        self.requests += 1;
        self.bad += u64::from(bad.is_some());
        *self.by_kind.entry(kind).or_default() += 1;
        self.recorded += head.len() + body.len();
        let (head, body) = (head.clone(), body.clone());
        self.records.push_back(Record { number: self.requests, connection, head, body, kind, bad });
        while self.records.len() > MAX_RECORDS || self.recorded > MAX_RECORDED {
            let Some(oldest) = self.records.pop_front() else { break };
            self.recorded -= oldest.head.len() + oldest.body.len();
        }
    }

    fn counters(&self) -> Counters {
        let kinds = [
            RequestKind::Activation,
            RequestKind::Definition,
            RequestKind::Capacity,
            RequestKind::Sync,
            RequestKind::Root,
            RequestKind::Other,
        ];
        let count = |kind| self.by_kind.get(&kind).copied().unwrap_or_default();
        Counters {
            connections: self.connections,
            requests: self.requests,
            bad: self.bad,
            by_kind: kinds.map(|kind| (kind, count(kind))).into(),
            consumption: self.licensing.consumption(),
            assignments: self.licensing.assignments(),
        }
    }
}

/// Accepts until it is told to stop; when all seats are taken, the next ones wait in the system's queue.
async fn accept<F>(
    listener: TcpListener,
    tasks: TaskTracker,
    stop: CancellationToken,
    serve: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        while let Ok(seat) = seats.clone().acquire_owned().await {
            let Ok((tcp, _)) = listener.accept().await else {
                // Out of descriptors, as a rule: they come back as connections end.
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let conversation = serve(tcp);
            let stop = stop.clone();
            tasks.spawn(async move {
                // How a connection ends is the client's affair.
                let _ = stop.run_until_cancelled(conversation).await;
                drop(seat);
            });
        }
    };
    stop.run_until_cancelled(accepting).await;
}

async fn converse(shared: Arc<Shared>, tls: Option<TlsAcceptor>, tcp: TcpStream) -> io::Result<()> {
    let number = shared.with(|state| {
        state.connections += 1;
        state.connections
    });
    tcp.set_nodelay(true)?;
    match tls {
        Some(tls) => serve(&shared, timeout(HANDSHAKE, tls.accept(tcp)).await??, number).await,
        None => serve(&shared, tcp, number).await,
    }
}

async fn serve<S: Socket>(shared: &Shared, socket: S, number: u64) -> io::Result<()> {
    let mut connection = Connection::new(socket);
    let mut is_kept = false;
    while connection.ready(shared.keep_alive).await {
        let is_stale = |state: &mut State| trouble::take(&mut state.trouble, |w| w == What::Stale).is_some();
        if is_kept && shared.with(is_stale) {
            return connection.reset();
        }
        is_kept = true;
        let request = match connection.read().await {
            Ok(request) => request,
            Err(bad) => {
                let fault = bad.fault.to_string();
                let reply = Reply::error(400, &fault);
                shared.with(|state| {
                    state.record(number, &bad.head, &Bytes::new(), RequestKind::Other, Some(fault))
                });
                connection.write(&reply.render(false, false)).await?;
                break;
            }
        };
        let (reply, what) = shared.with(|state| state.answer(number, &request));
        sleep(reply.wait).await;
        let keep = request.keep && request.query("close").is_none();
        match trouble::send(&mut connection, what, reply, request.method == "HEAD", keep).await? {
            Then::Keep => {}
            Then::Close => break,
            Then::Reset => return connection.reset(),
        }
    }
    connection.close().await
}

/// A leaf for these names with its key, and the root that signed it, whose key ends here.
fn own_leaf(
    names: Vec<String>,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>, String), rcgen::Error> {
    let now = SystemTime::now();
    let dated = |mut params: CertificateParams, name: &str| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        // Back-dated, for whoever's clock is behind.
        params.not_before = (now - Duration::from_secs(48 * 3600)).into();
        params.not_after = (now + Duration::from_secs(28 * 24 * 3600)).into();
        params.use_authority_key_identifier_extension = true;
        params
    };
    let mut params = dated(CertificateParams::default(), "license-relay stub, throw-away root");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut params = dated(CertificateParams::new(names)?, "license-relay stub");
    // Said explicitly, and with it the subject's key id.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &root)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((leaf.der().clone(), key.into(), root.pem()))
}

fn acceptor(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> io::Result<TlsAcceptor> {
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// The one crypto provider, named explicitly so that nothing depends on a process-wide default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn unfit(path: &Path, cause: &rustls::pki_types::pem::Error) -> io::Error {
    io::Error::other(format!("{}: {cause}", path.display()))
}

const MAX_CONNECTIONS: usize = 1024;
const MAX_RECORDS: usize = 1000;
/// The bytes of all records together; the oldest go.
const MAX_RECORDED: usize = 256 * 1024 * 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

    use super::*;

    async fn plain(trouble: &[&str]) -> (Stub, TcpStream) {
        let trouble = trouble.iter().map(|spec| spec.parse().unwrap()).collect();
        let options = Options { identity: Identity::Plain, trouble, ..Options::default() };
        let stub = Stub::start(options).await.unwrap();
        let client = TcpStream::connect(stub.address()).await.unwrap();
        (stub, client)
    }

    /// One request, and all that comes back until the connection ends.
    async fn ask(mut client: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> io::Result<String> {
        client.write_all(request.as_bytes()).await?;
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).await?;
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }

    #[tokio::test]
    async fn the_root_of_the_stub_vouches_for_its_leaf() {
        let stub = Stub::start(Options::default()).await.unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(stub.root().unwrap().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        let tcp = TcpStream::connect(stub.address()).await.unwrap();
        let name = ServerName::try_from("license.qlikcloud.com").unwrap();
        let tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap();
        let reply = ask(tls, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 404 Not Found\r\nServer: nginx\r\nDate: "), "{reply}");
        let counters = stub.counters();
        assert_eq!(
            (counters.connections, counters.requests, counters.by_kind[&RequestKind::Root]),
            (1, 1, 1)
        );
        stub.stop().await;
    }

    #[tokio::test]
    async fn what_is_cut_off_is_done_all_the_same() {
        let (stub, client) = plain(&["close-before*1", "reset-before*1"]).await;
        let body = r#"[{"id":1,"allotment":"analyzer_time","month":"2018-11","consumption":5}]"#;
        let request = format!("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(ask(client, &request).await.unwrap(), "");
        let client = TcpStream::connect(stub.address()).await.unwrap();
        let error = ask(client, &request).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(stub.counters().consumption["/analyzer_time/2018-11"], 10);
    }

    #[tokio::test]
    async fn a_stale_connection_answers_once_and_is_reset() {
        let (stub, mut client) = plain(&["stale"]).await;
        let request = b"GET /stub/reply HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n!";
        client.write_all(request).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'!');
        client.write_all(request).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(stub.counters().requests, 1);
    }

    #[tokio::test]
    async fn a_bad_request_is_refused_and_recorded() {
        let (stub, client) = plain(&[]).await;
        let reply = ask(client, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
        assert_eq!(stub.counters().bad, 1);
        stub.shared.with(|state| assert!(state.records[0].head.ends_with(b"Host: b\r\n\r\n")));
    }
}
