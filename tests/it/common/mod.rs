//! What every test stands on: the built relay and the built stub as processes of their own, and real sockets.
//!
//! Ports are picked by the system, every wait is for an event under one generous deadline, and everything is gone when
//! a test ends.

pub mod backend;
pub mod clients;
pub mod disk;
pub mod gojson;
pub mod kit;
pub mod length;
pub mod load;
pub mod made;
pub mod once;
pub mod scenes;
pub mod secrets;
pub mod skip;
pub mod slow_disk;
pub mod sources;
pub mod story;
pub mod tls;
pub mod traced;
pub mod wire;
pub mod worlds;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

pub const HOST: &str = "license.qlikcloud.com";
pub const LICENSE: &str = "9999000000001253";
pub const SOURCE: &str = "fbe89d02-6d24-4595-915e-c52ce76f2195";
pub const KEY: &str = include_str!("../../samples/signed-license-key.jwt");
pub const ACTIVATION: &str = include_str!("../../samples/activation-request.json");
pub const CAPACITY: &str = include_str!("../../samples/capacity-request.json");
pub const SYNC: &str = include_str!("../../samples/sync-request.json");
pub const IDLE: &str = include_str!("../../samples/sync-request-idle.json");

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_license-relay"));
    command.env_remove("LICENSE_RELAY_CONFIG").env_remove("RUNTIME_DIRECTORY");
    command
}

/// A tool that must be there; where it isn't, the test says what to install.
pub fn tool(name: &str, package: &str) -> Command {
    // Debian has some where only root looks.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut find = Command::new("sh");
    let found = find.args(["-c", &format!("command -v {name}")]).env("PATH", &path).output().unwrap();
    assert!(found.status.success(), "{name} is not installed; run: apt-get install {package}");
    let mut command = Command::new(name);
    command.env("PATH", path);
    for variable in [
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
        "CURL_CA_BUNDLE",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Whether this command, which tries what the test needs, succeeds; where it does not, the test is noted as skipped.
pub fn can(what: &str, command: &mut Command) -> bool {
    let output = run(command);
    if !output.status.success() {
        skip::skipped(&format!("{what}: {}", all_said(&output)));
    }
    output.status.success()
}

/// strace with these arguments. `None`, and noted, where the system lets nobody be traced.
pub fn strace(arguments: &[&str]) -> Option<Command> {
    let try_it = ["-qq", "-o", "/dev/null", "true"];
    let mut strace = tool("strace", "strace");
    strace.args(arguments);
    can("no process can be traced here", tool("strace", "strace").args(try_it)).then_some(strace)
}

/// The stand-in for the license back end, as its own process.
pub struct Stub {
    child: Child,
    pub address: SocketAddr,
    pub control: SocketAddr,
    pub ca: PathBuf,
}

impl Stub {
    /// A stub with more arguments, its root written into this folder.
    pub fn start(folder: &Path, more: &[&str]) -> Self {
        let ca = folder.join("stub-ca.pem");
        let out = ca.display().to_string();
        let mut stub = Self::with(&[&["--listen", "127.0.0.1:0", "--out", &out], more].concat());
        stub.ca = ca;
        stub
    }

    /// A stub with these arguments alone, for one with a certificate of the test's own.
    pub fn with(more: &[&str]) -> Self {
        let mut child = program()
            .args(["stub", "--control", "127.0.0.1:0"])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = || -> SocketAddr {
            let line = lines.next().expect("the stub ended").unwrap();
            line.rsplit('/').next().unwrap().parse().unwrap_or_else(|_| panic!("no address in {line:?}"))
        };
        let (address, control) = (address(), address());
        Self { child, address, control, ca: PathBuf::new() }
    }

    /// What it has counted.
    pub fn counters(&self) -> Value {
        serde_json::from_str(&self.control("GET", "/counters", "")).unwrap()
    }

    /// The requests it has recorded, each with `head` (Latin-1) and `body_base64`.
    pub fn requests(&self) -> Vec<Value> {
        serde_json::from_str(&self.control("GET", "/requests", "")).unwrap()
    }

    /// The sum of all consumption it has counted.
    pub fn consumption(&self) -> i64 {
        self.counters()["consumption"].as_object().unwrap().values().map(|n| n.as_i64().unwrap()).sum()
    }

    /// Misbehaves from now on; an empty text clears.
    pub fn trouble(&self, switches: &str) {
        self.control("POST", "/trouble", switches);
    }

    pub fn control(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.control).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: stub\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        let reply = String::from_utf8(reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 20"), "{head}");
        body.to_owned()
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder with a configuration, and the relay that runs on it.
pub struct Relay {
    pub folder: TempDir,
    file: &'static str,
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub greeting: String,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

/// What a relay is made from; every part may be changed before it starts.
pub struct Plan {
    pub folder: TempDir,
    /// `relay.toml`.
    pub config: String,
    /// Where it lies in the folder.
    pub file: &'static str,
    /// `sources.toml`; not written when empty, so that the relay makes it.
    pub sources: String,
}

impl Plan {
    /// The plainest relay that leads to a stub: its source and its license are allowed.
    pub fn new(stub: &Stub) -> Self {
        Self::leading_to(&stub.address.to_string(), &stub.ca)
    }

    pub fn leading_to(address: &str, ca: &Path) -> Self {
        let config = format!(
            r#"
[listen]
address = "127.0.0.1:0"
hostnames = ["localhost", "127.0.0.1"]

[[destination]]
host = "{HOST}"
connect_to = "{address}"

[upstream]
trust = "files"
extra_ca = ["{}"]

[tls]
root = "certs/root.pem"
issuer = "certs/issuer.pem"
issuer_key = "certs/issuer.key"

[limits]
per_source = {{ requests = 100000, per = "1s", burst = 100000 }}
per_address = {{ requests = 100000, per = "1s", burst = 100000 }}

[audit]
directory = "audit"
subject_key = "certs/subject.key"
signing_key = "certs/log.key"

[admin]
address = "127.0.0.1:0"
"#,
            ca.display()
        );
        let sources = format!("[[source]]\nid = \"{SOURCE}\"\nlicenses = [\"{LICENSE}\"]\n");
        Self { folder: tempfile::tempdir().unwrap(), config, file: "relay.toml", sources }
    }

    /// Puts text in place of text; both must be right.
    pub fn with(mut self, old: &str, new: &str) -> Self {
        assert!(self.config.contains(old), "{old:?} is not in the configuration");
        self.config = self.config.replace(old, new);
        self
    }

    /// Limits as they are where none are written.
    pub fn with_default_limits(mut self) -> Self {
        let lines = self.config.lines().filter(|line| !line.starts_with("per_"));
        self.config = lines.flat_map(|line| [line, "\n"]).collect();
        self
    }

    /// Adds a table at the end.
    pub fn and(mut self, more: &str) -> Self {
        self.config.push_str(more);
        self
    }

    pub fn sources(mut self, sources: &str) -> Self {
        self.sources = sources.to_owned();
        self
    }

    /// The path of a file in the plan's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self) {
        fs::write(self.path(self.file), &self.config).unwrap();
        if !self.sources.is_empty() {
            fs::write(self.path("sources.toml"), &self.sources).unwrap();
        }
    }

    /// Writes the files and starts the relay.
    pub fn start(self) -> Relay {
        self.start_by(program())
    }

    /// Starts the relay through another command (`prlimit`, `strace`), which is given the program and its arguments.
    pub fn start_under(self, tool: Command) -> Relay {
        let mut command = tool;
        command.arg(env!("CARGO_BIN_EXE_license-relay"));
        self.start_by(command)
    }

    fn start_by(self, mut command: Command) -> Relay {
        self.write();
        let errors = File::create(self.path("stderr")).unwrap();
        let mut child = command
            .args(["serve", "--config"])
            .arg(self.path(self.file))
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains("/readyz") {
            let read = stdout.read_line(&mut greeting).unwrap();
            assert!(
                read > 0,
                "the relay did not start: {}{}",
                greeting,
                fs::read_to_string(self.path("stderr")).unwrap()
            );
        }
        let value = |what: &str| {
            let line = greeting.lines().find(|line| line.contains(what)).unwrap();
            line.split_whitespace().last().unwrap().to_owned()
        };
        let address = value("listens on").parse().unwrap();
        let admin = value("health").replace("http://", "").replace("/readyz", "").parse().unwrap();
        Relay { folder: self.folder, file: self.file, child, stdout, greeting, address, admin }
    }

    /// Starts a relay that must not start: its exit status and what it said.
    pub fn refuses_to_start(&self) -> (ExitStatus, String) {
        self.write();
        let output = run(program().args(["serve", "--config"]).arg(self.path(self.file)));
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Relay {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn root(&self) -> PathBuf {
        self.path("certs/root.pem")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A verb of the program with this relay's configuration.
    pub fn verb(&self, arguments: &[&str]) -> Output {
        run(program().arg("--config").arg(self.path(self.file)).args(arguments))
    }

    /// Gives a Basic user a password.
    pub fn add_user(&self, name: &str, password: &str) {
        let mut add = program();
        add.arg("--config").arg(self.path(self.file)).args(["sources", "user", "add", name]);
        let mut add = add.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        writeln!(add.stdin.take().unwrap(), "{password}").unwrap();
        assert!(add.wait().unwrap().success());
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let done =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(done.success());
    }

    /// Starts again on what the last run, which must have ended, has left.
    pub fn again(self) -> Self {
        let config = fs::read_to_string(self.path(self.file)).unwrap();
        let file = self.file;
        let (mut child, folder) = self.into_parts();
        assert!(child.try_wait().unwrap().is_some(), "the last run has not ended");
        Plan { folder, config, file, sources: String::new() }.start()
    }

    fn into_parts(mut self) -> (Child, TempDir) {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let gone = Command::new("true").spawn().unwrap();
        (std::mem::replace(&mut self.child, gone), folder)
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the relay ends", || self.child.try_wait().unwrap())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGTERM, and its exit status.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Its own log and access lines. A thread of their own writes them, so they are read once no more come.
    pub fn stderr(&self) -> String {
        let read = || fs::read_to_string(self.path("stderr")).unwrap();
        let mut said = read();
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let more = read();
            if more.len() == said.len() {
                return said;
            }
            said = more;
        }
    }

    /// How many descriptors it has open. It leaves no core dump, and so only root may look.
    pub fn descriptors(&self) -> std::io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// What the system says of the process under this name: `VmRSS` and `VmHWM` in KiB, `Threads`.
    pub fn vital(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let values = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    /// What `/healthz` or `/readyz` answer: status and body.
    pub fn admin(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let status = reply.split(' ').nth(1).unwrap().parse().unwrap();
        (status, reply.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// The lines of the assignment log, parsed.
    pub fn log(&self) -> Vec<Value> {
        self.log_text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn log_text(&self) -> String {
        let file = self.path("audit/segments/00000000000000000000.jsonl");
        fs::read_to_string(file).unwrap()
    }

    /// The records of one action.
    pub fn records(&self, action: &str) -> Vec<Value> {
        let mut log = self.log();
        log.retain(|record| record["event"]["action"] == action);
        log
    }

    /// curl through this relay as `http://` proxy, with the root trusted. `{` and `}` of `-w` are curl's.
    pub fn curl(&self, arguments: &[&str]) -> Curl {
        let mut command = tool("curl", "curl");
        command.args(["-x", &format!("http://{}", self.address), "--cacert"]).arg(self.root());
        Curl::run(command, arguments)
    }

    /// curl with `https://` to the proxy itself.
    pub fn curl_tls_proxy(&self, arguments: &[&str]) -> Curl {
        let mut command = tool("curl", "curl");
        command
            .args(["-x", &format!("https://localhost:{}", self.address.port()), "--cacert"])
            .arg(self.root());
        command.arg("--proxy-cacert").arg(self.root());
        Curl::run(command, arguments)
    }

    /// curl without a proxy, the host's name leading to this relay.
    pub fn curl_direct(&self, arguments: &[&str]) -> Curl {
        let mut command = tool("curl", "curl");
        command.args(["--connect-to", &format!("{HOST}:443:{}", self.address), "--cacert"]).arg(self.root());
        Curl::run(command, arguments)
    }

    /// `POST`s a body through the proxy and gives what came back.
    pub fn post(&self, path: &str, body: &str) -> Curl {
        self.curl(&["-d", body, "-H", "Content-Type: application/json", &format!("https://{HOST}{path}")])
    }

    /// What it has said on standard output, once it has ended.
    pub fn stdout(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        format!("{}{rest}", self.greeting)
    }

    /// Its folder and files, once it has ended, to start another one on them.
    pub fn into_plan(mut self) -> Plan {
        assert!(!self.is_running(), "the relay still runs");
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let config = fs::read_to_string(folder.path().join("relay.toml")).unwrap();
        Plan { folder, config, file: "relay.toml", sources: String::new() }
    }

    /// The raw answer to raw bytes on the port, until the relay closes.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What curl got.
#[derive(Debug)]
pub struct Curl {
    /// curl's exit code.
    pub exit: i32,
    /// The status of the final reply; 0 where there is none.
    pub status: u16,
    /// The status of the CONNECT; 0 where there was none.
    pub connect: u16,
    /// All heads, as they came: the CONNECT's first.
    pub heads: String,
    pub body: Vec<u8>,
    pub stderr: String,
}

impl Curl {
    pub fn run(mut command: Command, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (heads, body) = (folder.path().join("heads"), folder.path().join("body"));
        command.args(["-sS", "-m", "60", "-w", "%{http_code} %{http_connect}", "-D"]).arg(&heads);
        let output = run(command.arg("-o").arg(&body).args(arguments));
        let codes = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut codes = codes.split(' ').map(|code| code.parse().unwrap_or(0));
        let read = |path: &Path| fs::read(path).unwrap_or_default();
        Self {
            exit: output.status.code().unwrap_or(-1),
            status: codes.next().unwrap_or(0),
            connect: codes.next().unwrap_or(0),
            heads: String::from_utf8_lossy(&read(&heads)).into_owned(),
            body: read(&body),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The value of a header of the last head.
    pub fn header(&self, name: &str) -> Option<String> {
        let last = self.heads.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
        let prefix = format!("{}:", name.to_lowercase());
        let line = last.lines().find(|line| line.to_lowercase().starts_with(&prefix))?;
        Some(line[prefix.len()..].trim().to_owned())
    }

    /// The reason phrase of the last head.
    pub fn reason(&self) -> String {
        let last = self.heads.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
        last.lines().next().unwrap_or_default().splitn(3, ' ').nth(2).unwrap_or_default().to_owned()
    }
}

/// The number that a refusal tells.
#[track_caller]
pub fn number_in(said: &str) -> String {
    let (_, rest) =
        said.split_once("license-relay sources allow ").unwrap_or_else(|| panic!("no command in {said:?}"));
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    assert_eq!(number.len(), 13, "{said}");
    number
}

/// Bytes as gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// All that a command has said.
pub fn all_said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A command has ended with this code, and said these words among others.
#[track_caller]
pub fn ended(output: &Output, code: i32, words: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", all_said(output));
    assert!(all_said(output).contains(words), "{}", all_said(output));
}

/// Runs a command to its end, within the deadline.
pub fn run(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    child.unwrap_or_else(|e| panic!("{command:?}: {e}")).wait_with_output().unwrap()
}

/// Asks again until there is an answer; the only way a test waits.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = SystemTime::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed().unwrap_or_default() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A stub in a folder of its own, and the plainest relay before it.
pub fn pair() -> (Stub, Relay, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).start();
    (stub, relay, folder)
}
