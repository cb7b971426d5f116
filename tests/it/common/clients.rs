//! Real clients, the three ways in that they take, and the strict recording origin that they ask through the relay.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use super::length::{Length, length};
use super::once::once_a_run;
use super::*;

/// A file of the tests.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The command of the package golang-go.
const DEBIANS_GO: &str = "/usr/bin/go";

/// A tool that `tests/run` installs for the tests alone.
pub fn installed(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools").join(name);
    assert!(path.exists(), "{name} is not installed; run: tests/run");
    path
}

/// Builds a Go program of the tests, once a run, with nothing from the network: with Debian's Go, which is an old one, or
/// where that is not installed, as for a short run, with the newest.
pub fn go(name: &str) -> PathBuf {
    match Path::new(DEBIANS_GO).exists() || length() != Length::Short {
        true => go_with(tool("go", "golang-go"), name, name),
        false => newest_go(name),
    }
}

/// Builds it with the newest Go.
pub fn newest_go(name: &str) -> PathBuf {
    go_with(Command::new(installed("bin/go")), name, &format!("{name}-newest"))
}

fn go_with(mut command: Command, name: &str, built: &str) -> PathBuf {
    let folder = once_a_run(built, |folder| {
        command.env("GO111MODULE", "off").env("GOFLAGS", "").env("CGO_ENABLED", "0");
        // Debian's packages of Go libraries.
        command.env("GOPATH", "/usr/share/gocode").args(["build", "-o"]).arg(folder.join(name));
        let output = run(command.current_dir(file("clients").join(name)));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
    folder.join(name)
}

/// `java` with a class whose source is among the clients.
pub fn java(class: &str) -> Command {
    let classes = java_class(&format!("clients/{class}.java"));
    let mut command = tool("java", "default-jre-headless");
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]).arg(classes).arg(class);
    command
}

/// Compiles a source of the tests, once a run, for the Java that deployments have, or a newer one: by Eclipse's compiler,
/// which is a twentieth of a JDK. Gives the folder of its classes.
pub fn java_class(source: &str) -> PathBuf {
    once_a_run(&source.replace('/', "-"), |folder| {
        let mut compiler = tool("ecj", "ecj");
        compiler.args(["-17", "-nowarn", "-proc:none", "-d"]).arg(folder).arg(file(source));
        let (done, words) = said(&mut compiler);
        assert!(done, "{words}");
    })
}

/// Standard output and error of a command, and whether it succeeded.
pub fn said(command: &mut Command) -> (bool, String) {
    let output = run(command);
    let words = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.success(), String::from_utf8_lossy(&words).into_owned())
}

/// `origin.py`: answers everything with 200 and writes down what reached it.
pub struct Origin {
    child: Child,
    pub address: SocketAddr,
    pub ca: PathBuf,
    pub log: PathBuf,
}

impl Origin {
    pub fn start(folder: &Path) -> Self {
        let at = |name: &str| folder.join(name);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([HOST.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        fs::write(at("origin-ca.pem"), ca.pem()).unwrap();
        fs::write(at("origin.pem"), leaf.pem()).unwrap();
        fs::write(at("origin.key"), key.serialize_pem()).unwrap();

        let mut command = tool("python3", "python3");
        command.arg(file("probes/origin.py")).arg("0").arg("--log").arg(at("origin.log"));
        command.arg("--tls-cert").arg(at("origin.pem")).arg("--tls-key").arg(at("origin.key"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().parse().expect("the origin's address");
        Self { child, address, ca: at("origin-ca.pem"), log: at("origin.log") }
    }

    /// A relay that leads to it and lets everybody in.
    pub fn open_relay(&self) -> Plan {
        Plan::leading_to(&self.address.to_string(), &self.ca)
            .and("\n[sources]\nunidentified = \"observe\"\nunknown = \"observe\"\n")
            .with("[listen]", "[listen]\nmax_connections_per_address = 5000")
    }

    /// What reached it.
    pub fn requests(&self) -> Vec<Value> {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The three ways in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// `http://relay:8888` is the product's proxy.
    Http,
    /// `https://relay:8888` is.
    Https,
    /// DNS leads the host's name to the relay.
    Direct,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Http, Self::Https, Self::Direct];

    fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Direct => "direct",
        }
    }
}

/// What a client needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub way: Way,
    /// The relay, as the proxy URI names it.
    pub relay: &'a str,
    pub port: u16,
    /// The root it trusts.
    pub ca: &'a Path,
}

/// A real client: its name, and the command that asks in one way; `None` where it does not know that way.
pub type Client = (&'static str, fn(Ask<'_>) -> Option<Command>);

pub const CLIENTS: [Client; 8] = [
    ("curl", |ask| Some(curl(ask, "--http1.1"))),
    ("curl that offers h2", |ask| Some(curl(ask, "--http2"))),
    ("Go", |ask| Some(go_client(ask))),
    ("Python", |ask| {
        let mut command = tool("python3", "python3");
        command.arg(file("clients/ask.py"));
        (ask.way != Way::Https).then(|| with_ask(command, ask))
    }),
    ("Node", |ask| {
        let mut command = tool("node", "nodejs");
        command.arg(file("clients/ask.mjs"));
        Some(with_ask(command, ask))
    }),
    ("Java", |ask| Some(with_ask(java("Ask"), ask))),
    ("wget", wget),
    ("openssl s_client", s_client),
];

const URL: &str = "https://license.qlikcloud.com/x";

fn with_ask(mut command: Command, ask: Ask<'_>) -> Command {
    command.args([ask.way.scheme(), ask.relay, &ask.port.to_string(), URL]).arg(ask.ca);
    command
}

fn curl(ask: Ask<'_>, version: &str) -> Command {
    let mut command = tool("curl", "curl");
    command.args([version, "-fsS", "-m", "30", "-d", "{}", "-w", "%{http_version}", "--cacert"]).arg(ask.ca);
    command.args(["-H", "Content-Type: application/json", "-o", "/dev/null", URL]);
    match ask.way {
        Way::Direct => command.args(["--connect-to", &format!("{HOST}:443:{}:{}", ask.relay, ask.port)]),
        way => command
            .args(["-x", &format!("{}://{}:{}", way.scheme(), ask.relay, ask.port), "--proxy-cacert"])
            .arg(ask.ca),
    };
    command
}

fn go_client(ask: Ask<'_>) -> Command {
    let mut command = Command::new(go("goclient"));
    command.args([ask.relay, &ask.port.to_string(), "-target", URL, "-n", "2", "-ca"]).arg(ask.ca);
    match ask.way {
        Way::Direct => command.arg("-direct"),
        way => command.args(["-scheme", way.scheme()]),
    };
    command
}

fn wget(ask: Ask<'_>) -> Option<Command> {
    let mut command = tool("wget", "wget");
    command.args(["-nv", "-T", "30", "-t", "1", "-O", "/dev/null", "--post-data={}", URL]);
    command.arg(format!("--ca-certificate={}", ask.ca.display()));
    command.args(["-e", "use_proxy=yes", "-e", &format!("https_proxy=http://{}:{}", ask.relay, ask.port)]);
    (ask.way == Way::Http).then_some(command)
}

fn s_client(ask: Ask<'_>) -> Option<Command> {
    let relay = format!("{}:{}", ask.relay, ask.port);
    let way = match ask.way {
        Way::Http => format!("-proxy {relay} -connect {HOST}:443"),
        Way::Https => return None,
        Way::Direct => format!("-connect {relay}"),
    };
    let _is_there = tool("openssl", "openssl");
    let mut command = tool("sh", "dash");
    command.arg("-c").arg(format!(
        "printf 'GET /x HTTP/1.1\\r\\nHost: {HOST}\\r\\nConnection: close\\r\\n\\r\\n' | openssl s_client {way} \
         -servername {HOST} -verify_hostname {HOST} -CAfile '{}' -no-CApath -no-CAstore -verify_return_error \
         -quiet -ign_eof 2>&1 | tee /dev/stderr | grep -q '^HTTP/1.1 200'",
        ask.ca.display()
    ));
    Some(command)
}

/// A TLS client that trusts the relay's root. Its hello is the shortest that there is: one key share.
pub fn tls_client(relay: &Relay, name: &str, alpn: &[&[u8]]) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(relay.root()).unwrap()).unwrap();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap()
}

/// The head that opens a tunnel, and not a byte more.
pub fn assert_established(stream: &mut impl Read) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert_eq!(String::from_utf8(head).unwrap(), "HTTP/1.1 200 Connection established\r\n\r\n");
}

/// TLS inside a tunnel that has just been asked for.
pub fn tls_inside(
    relay: &Relay,
    mut stream: TcpStream,
    name: &str,
) -> StreamOwned<ClientConnection, TcpStream> {
    assert_established(&mut stream);
    StreamOwned::new(tls_client(relay, name, &[b"http/1.1"]), stream)
}

/// A license service in Go, with its proxy setting and the root it trusts; it keeps its connections.
pub struct Deployment {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Deployment {
    pub fn of(relay: &Relay) -> Self {
        let mut command = Command::new(go("godeployment"));
        command.arg(format!("http://{}", relay.address)).arg(relay.root());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    /// What the product has for its own log.
    pub fn asks(&mut self, method: &str, path: &str, body: &str, bearer: &str) -> Value {
        let request = json!({ "method": method, "url": format!("https://{HOST}{path}"), "body": body, "bearer": bearer });
        writeln!(self.child.stdin.as_mut().unwrap(), "{request}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["error"], "", "{answer}");
        answer
    }

    pub fn activates(&mut self) -> Value {
        self.asks("POST", "/v1/activation", ACTIVATION, "")
    }

    pub fn fetches_its_definition(&mut self) -> Value {
        self.asks("GET", "/v1/definitions/portable/info", "", KEY.trim())
    }

    pub fn syncs(&mut self, body: &str) -> Value {
        self.asks("POST", "/v1/sync", body, "")
    }

    pub fn reports(&mut self) -> Value {
        self.asks("POST", "/v1/capacity", CAPACITY, "")
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
