//! All that clients of a relay may do to it at one time, each as fast as it is let: a deployment that floods, one that sends
//! syncs of 5,000 changes, one whose bodies are dear to read, one on a slow network, one that the back end tells floods, and
//! strangers.
//!
//! A test runs it in a process of its own, with a lower priority than its own and the relay's: what is tried is the relay,
//! and not how the clients take its processors away.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Scope, sleep};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::wire::{Inside, connect_from, post};
use super::{HOST, IDLE, LICENSE, SOURCE, run, tool};

/// The entries of the allow-list that the load comes from. Their limits are the defaults, but for the log that a flood of the
/// back end may fill: it is to last as long as the test.
pub const SOURCES: &str = r#"
[[source]]
id = "flooding"

[[source]]
id = "syncing"

[[source]]
id = "dear"

[[source]]
id = "slow"

[[source]]
id = "told"
limit = { requests = 60, per = "1m", burst = 30, log_per_day = "1000GiB" }
"#;

/// Changes of a sync of a large site.
const MANY: usize = 5_000;
/// Changes that the back end tells at once; the last is as many as are read.
const TOLD: [usize; 3] = [5_000, 20_000, 50_000];
/// The path of a sync that the back end answers with so many changes.
const TOLD_PATH: &str = "/v1/sync/told/";

/// Addresses that send syncs of many changes: as many as have a limit of their own at one entry.
const SYNCING: u32 = 16;
const STRANGERS: usize = 64;
/// After a refusal, or a connection that has ended.
const AGAIN: Duration = Duration::from_millis(20);
/// Between two requests of a stranger.
const STRANGE: Duration = Duration::from_millis(500);
/// Between two bodies that are dear, on one connection.
const DEAR: Duration = Duration::from_millis(100);
/// Bytes that the slow network carries at once, and the time between.
const TRICKLE: usize = 16;
const SLOW: Duration = Duration::from_millis(20);

/// So many changes of different people, as JSON; new ones have no version.
fn changes(count: usize, version: impl Fn(usize) -> usize) -> String {
    let mut patches = String::new();
    for n in 0..count {
        let (comma, version) = (if n == 0 { "" } else { "," }, version(n));
        let instance =
            if version == 0 { String::new() } else { format!("{}", 5_382_018_630_938_000_000 + version) };
        let _ = write!(
            patches,
            r#"{comma}{{"instance":"{instance}","version":{version},"license":"{LICENSE}","allotment":"analyzer","subject":"ACME\\person{n}","created":"2019-04-18T10:01:35.024031Z"}}"#
        );
    }
    patches
}

/// A sync of a deployment that has so many changes.
pub fn sync(source: &str, count: usize) -> String {
    let patches = changes(count, |_| 0);
    format!(
        r#"{{"source":"{source}","bases":[{{"license":"{LICENSE}","version":17}}],"patches":[{patches}]}}"#
    )
}

/// The back end's answer that tells so many changes.
pub fn told(count: usize) -> String {
    let patches = changes(count, |n| 18 + n);
    format!(r#"{{"bases":[{{"license":"{LICENSE}","version":{}}}],"patches":[{patches}]}}"#, 17 + count)
}

/// An answer with this body, and these fields in its head.
pub fn answer(body: &[u8], fields: &str) -> Arc<[u8]> {
    let length = format!("Content-Length: {}\r\n", body.len());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}{length}\r\n");
    [head.as_bytes(), body].concat().into()
}

/// The answers of a back end that tells floods, each with the beginning of the request that it is for.
pub fn floods(folder: &Path) -> Vec<(String, Arc<[u8]>)> {
    let flood = |count| {
        let body = gzip(told(count).as_bytes(), folder);
        (format!("POST {TOLD_PATH}{count} "), answer(&body, "Content-Encoding: gzip\r\n"))
    };
    TOLD.into_iter().map(flood).collect()
}

/// Bytes as gzip, by the tool: the library, which tests build without optimisation, would take many seconds.
fn gzip(bytes: &[u8], folder: &Path) -> Vec<u8> {
    let file = folder.join("to-gzip");
    std::fs::write(&file, bytes).unwrap();
    let output = run(tool("gzip", "gzip").arg("-9c").arg(&file));
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// The load on a relay, until it is over.
#[derive(Debug)]
pub struct Load {
    relay: SocketAddr,
    tls: Arc<ClientConfig>,
    syncs: [Vec<u8>; 2],
    dear: Vec<Vec<u8>>,
    over: AtomicBool,
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
}

impl Load {
    /// On this relay, whose root is in this file; with a folder for what it makes. All bodies that take long to make are
    /// made here.
    pub fn new(relay: SocketAddr, root: &Path, folder: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
        let tls = ClientConfig::builder_with_provider(license_relay::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let sync = sync("syncing", MANY);
        let syncs = [post("/v1/sync", &sync).into_bytes(), coded(&sync, folder)];
        let (over, answers) = (AtomicBool::new(false), Mutex::default());
        Self { relay, tls: Arc::new(tls), syncs, dear: dear(folder), over, answers }
    }

    /// Runs until `over` returns; how many answers of each status each of the clients has had.
    pub fn run(&self, over: impl FnOnce()) -> String {
        std::thread::scope(|scope| {
            self.flooding(scope);
            self.syncing(scope);
            self.dear(scope);
            self.slow(scope);
            self.told(scope);
            self.strangers(scope);
            over();
            self.over.store(true, Ordering::Relaxed);
        });
        let answers = self.answers.lock().unwrap();
        answers.iter().map(|((who, status), count)| format!("{who} {status}: {count}, ")).collect()
    }

    /// Small syncs without a pause, idle ones and such with changes.
    fn flooding<'a>(&'a self, scope: &'a Scope<'a, '_>) {
        for _ in 0..4 {
            scope.spawn(|| {
                let idle = post("/v1/sync", &IDLE.replace(SOURCE, "flooding")).into_bytes();
                let changes = post("/v1/sync", &sync("flooding", 100)).into_bytes();
                self.client("flooding", "127.0.0.21", [&idle, &changes], Duration::ZERO, false);
            });
        }
    }

    /// Syncs of 5,000 changes. After one of them its sender waits for some 40 s, as it is told; so that there is always one
    /// under way, they come from all addresses that have places of their own at the entry, one a second after the other.
    fn syncing<'a>(&'a self, scope: &'a Scope<'a, '_>) {
        for (n, sync) in (0..SYNCING).zip(self.syncs.iter().cycle()) {
            scope.spawn(move || {
                self.rest(Duration::from_secs(1) * n);
                self.client("syncing", &format!("127.0.2.{}", n + 1), [sync], Duration::ZERO, true);
            });
        }
    }

    fn dear<'a>(&'a self, scope: &'a Scope<'a, '_>) {
        for n in 0..4 {
            let bodies = self.dear.iter().cycle().skip(n).take(self.dear.len());
            scope.spawn(move || self.client("dear", "127.0.0.41", bodies, DEAR, false));
        }
    }

    /// Whole requests that come a few bytes at a time, and answers that are read so.
    fn slow<'a>(&'a self, scope: &'a Scope<'a, '_>) {
        for many in [false, true, false, true] {
            scope.spawn(move || {
                let body = if many { sync("slow", 20) } else { IDLE.replace(SOURCE, "slow") };
                let request = post("/v1/sync", &body).into_bytes();
                while !self.is_over() {
                    let asked = self.open("127.0.0.42").and_then(|mut inside| {
                        let head = trickle(&mut inside, &request, self)?;
                        Ok(self.count("slow", &head))
                    });
                    if asked.is_err() {
                        sleep(AGAIN);
                    }
                }
            });
        }
    }

    fn told<'a>(&'a self, scope: &'a Scope<'a, '_>) {
        for n in 0..3 {
            scope.spawn(move || {
                let idle = IDLE.replace(SOURCE, "told");
                let asked = TOLD.map(|count| post(&format!("{TOLD_PATH}{count}"), &idle).into_bytes());
                let asked = asked.iter().cycle().skip(n).take(TOLD.len());
                self.client("told", "127.0.0.43", asked, Duration::ZERO, false);
            });
        }
    }

    /// Ids that are in no list, each from an address of its own, with a silent connection beside.
    fn strangers<'a>(&'a self, scope: &'a Scope<'a, '_>) {
        for n in 1..=STRANGERS {
            scope.spawn(move || {
                let address = format!("127.0.1.{n}");
                let idle = post("/v1/sync", &IDLE.replace(SOURCE, &format!("stranger-{n}"))).into_bytes();
                let _silent = connect_from(&address, self.relay);
                self.client("strangers", &address, [&idle], STRANGE, false);
            });
        }
    }

    /// Sends these requests in turn on a connection that is opened again where it ends. Whoever is told to come again
    /// later does so after that time if it obeys, and soon otherwise.
    fn client<'r>(
        &self,
        who: &'static str,
        from: &str,
        requests: impl IntoIterator<Item = &'r Vec<u8>, IntoIter: Clone>,
        pause: Duration,
        obeys: bool,
    ) {
        let mut kept = None;
        for request in requests.into_iter().cycle() {
            if self.is_over() {
                return;
            }
            let Ok(mut inside) = kept.take().map_or_else(|| self.open(from), Ok) else {
                self.counted(who, 0);
                sleep(pause.max(AGAIN));
                continue;
            };
            match exchange(&mut inside, request) {
                Ok(head) => {
                    let status = self.count(who, &head);
                    if !head.to_lowercase().contains("\r\nconnection: close\r\n") {
                        kept = Some(inside);
                    }
                    match field(&head, "retry-after").filter(|_| obeys) {
                        Some(seconds) => self.rest(Duration::from_secs(seconds)),
                        None if status == 200 => sleep(pause),
                        None => sleep(pause.max(AGAIN)),
                    }
                }
                Err(_) => {
                    self.counted(who, 1);
                    sleep(pause.max(AGAIN));
                }
            }
        }
    }

    /// A conversation inside a tunnel of a client with this address.
    fn open(&self, from: &str) -> io::Result<Inside> {
        let mut stream = connect_from(from, self.relay)?;
        write!(stream, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n")?;
        if !head(&mut stream)?.starts_with("HTTP/1.1 200 ") {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let name = ServerName::try_from(HOST).unwrap();
        let mut connection = ClientConnection::new(self.tls.clone(), name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::<_, TcpStream>::new(connection, stream))
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Rests for so long, or until it is over.
    fn rest(&self, pause: Duration) {
        let begun = SystemTime::now();
        while !self.is_over() && begun.elapsed().unwrap_or_default() < pause {
            sleep(AGAIN);
        }
    }

    fn count(&self, who: &'static str, head: &str) -> u16 {
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        self.counted(who, status);
        status
    }

    fn counted(&self, who: &'static str, status: u16) {
        *self.answers.lock().unwrap().entry((who, status)).or_insert(0) += 1;
    }
}

/// Bodies that are short on the wire and long to read, and one that is nearly as long as is let in.
fn dear(folder: &Path) -> Vec<Vec<u8>> {
    let with = |more: &str| format!(r#"{{"source":"dear","bases":[],"patches":[],"more":{more}}}"#);
    let mut members = String::from(r#"{"a":0"#);
    for n in 0..400_000 {
        let _ = write!(members, r#","{n}":0"#);
    }
    members.push('}');
    let nested = format!("{}{}", "[".repeat(29), "]".repeat(29));
    let bodies = [
        members,
        format!("[{}]", vec!["1"; 950_000].join(",")),
        format!("[{}]", vec![&nested[..]; 30_000].join(",")),
        format!("\"{}\"", r"\u00e4".repeat(2_500_000)),
        // More values than are read.
        format!("[{}]", vec!["0"; 8_000_000].join(",")),
    ];
    let mut dear: Vec<_> = bodies.iter().map(|more| coded(&with(more), folder)).collect();
    dear.push(coded(&sync("dear", 50_000), folder));
    dear.push(post("/v1/sync", &with(&format!("\"{}\"", "x".repeat(40 << 20)))).into_bytes());
    dear
}

/// A `POST` of this body as gzip.
fn coded(body: &str, folder: &Path) -> Vec<u8> {
    let body = gzip(body.as_bytes(), folder);
    let fields = format!("Host: {HOST}\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n", body.len());
    [format!("POST /v1/sync HTTP/1.1\r\n{fields}\r\n").as_bytes(), &body].concat()
}

/// Sends a request and reads its whole answer: the head.
fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> io::Result<String> {
    stream.write_all(request)?;
    stream.flush()?;
    let head = head(stream)?;
    let length = field(&head, "content-length").unwrap_or(0);
    let read = io::copy(&mut stream.take(length), &mut io::sink())?;
    if read == length { Ok(head) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// As [`exchange`], a few bytes at a time.
fn trickle(stream: &mut (impl Read + Write), request: &[u8], load: &Load) -> io::Result<String> {
    for bytes in request.chunks(TRICKLE) {
        stream.write_all(bytes)?;
        stream.flush()?;
        sleep(SLOW);
        if load.is_over() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    let head = head(stream)?;
    let mut left = field(&head, "content-length").unwrap_or(0);
    let mut buffer = [0; TRICKLE];
    while left > 0 && !load.is_over() {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left = left.saturating_sub(read as u64);
        sleep(SLOW);
    }
    Ok(head)
}

/// The head of an answer.
fn head(stream: &mut impl Read) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The number that a field of a head has.
fn field(head: &str, name: &str) -> Option<u64> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut values = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    values.next()?.1.trim().parse().ok()
}
