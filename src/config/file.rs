//! `relay.toml` as it is written, made into a [`Config`].
//!
//! One function a section, in the order of the file. Each takes its keys and says what is wrong with them;
//! the values then hold whatever is at hand, since a file with errors makes no configuration.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use relay_log::stderr::LogFormat;
use toml::de::DeValue;

use super::model::{
    Admin, Audit, ClientAddress, Config, Credentials, Destination, Identity, Licensing, Limits, Listen, Log,
    LogLevel, Mode, OnFailure, ParentProxy, Rate, SourceRate, Sources, Stranger, Tls, TlsVersion, Trust,
    Unread, Upstream,
};
use super::names::{Host, HostName};
use super::toml_table::{self, NamedFiles, PathKind, Table, Wrong};
use super::{MAX_LIST, Problem, Problems, Severity};
use crate::body_cost;
use crate::bounds;
use relay_log::ledger::subject::{SubjectCase, SubjectForm};

/// Reads `path`: the configuration and its warnings, or every problem of the file.
pub fn load(path: &Path) -> Result<(Config, Problems), Problems> {
    parse(&text(path)?, path)
}

/// As [`load`], without a look at the files that it names: for verbs that need few of them, and must do their work while
/// another one is wrong.
pub(crate) fn load_alone(path: &Path) -> Result<(Config, Problems), Problems> {
    toml_table::read_with(NamedFiles::Ignored, &text(path)?, path, |top| config(top, path))
}

const WHERE: &str = "make it, or name another with --config or $LICENSE_RELAY_CONFIG";

/// What the file holds. All paths are absolute by its own, and a relay tells them in JSON, which has no others than UTF-8.
fn text(path: &Path) -> Result<String, Problems> {
    if toml_table::absolute(path).to_str().is_none() {
        return Err(Problems(vec![Problem {
            file: path.to_owned(),
            line: 0,
            what: "its path is not UTF-8".into(),
            instead: "rename its folder or the file".into(),
            severity: Severity::Error,
        }]));
    }
    toml_table::load(path, WHERE)
}

/// Reads `text` as the contents of `path`, which itself need not exist: the configuration and its warnings,
/// or every problem. Looks at the files that the text names (are they there, are secrets private) and changes
/// none.
pub fn parse(text: &str, path: &Path) -> Result<(Config, Problems), Problems> {
    toml_table::read(text, path, |top| config(top, path))
}

fn config(top: &mut Table<'_, '_>, path: &Path) -> Config {
    let listen = top.table("listen", listen);
    let admin = top.table("admin", |t| admin(t, &listen.addresses));
    let licensing = top.table("licensing", licensing);
    Config {
        file: toml_table::absolute(path),
        listen,
        destinations: destinations(top),
        upstream: top.table("upstream", upstream),
        tls: top.table("tls", tls),
        sources: top.table("sources", sources),
        limits: top.table("limits", |t| limits(t, licensing.vocabularies())),
        audit: top.table("audit", audit),
        licensing,
        admin,
        via: top.table("http", |t| t.or("via", false, toml_table::boolean)),
        log: top.table("log", log),
    }
}

fn listen(t: &mut Table<'_, '_>) -> Listen {
    const MAX_CONNECTIONS: u64 = 1_000_000;
    let host = |value: &DeValue<'_>| toml_table::name("a host name or address", "relay.corp.example", value);
    let addresses = t
        .list("address", 1, toml_table::socket)
        .unwrap_or_else(|| vec![SocketAddr::from(([127, 0, 0, 1], 8888))]);
    let mut seen = HashSet::new();
    if let Some(twice) = addresses.iter().find(|address| address.port() != 0 && !seen.insert(**address)) {
        t.error("address", format!("{twice} is listed twice"), "remove one of the two");
    }
    let hostnames = t.list("hostnames", 1, host);
    let connections = |value: &DeValue<'_>| toml_table::integer(1..=MAX_CONNECTIONS, value);
    let max_connections = t.or("max_connections", 10_000, connections);
    let per_address = t.or("max_connections_per_address", max_connections.min(256), connections);
    if per_address > max_connections {
        t.error(
            "max_connections_per_address",
            format!("{per_address} is more than max_connections, {max_connections}"),
            format!("write at most {max_connections}"),
        );
    }
    Listen {
        addresses,
        hostnames: hostnames.unwrap_or_else(|| "localhost".parse::<Host>().into_iter().collect()),
        max_connections: max_connections as usize,
        max_connections_per_address: per_address as usize,
        allow_from: t.list("allow_from", 0, toml_table::network).unwrap_or_default(),
        proxy_protocol_from: t.list("proxy_protocol_from", 0, toml_table::network).unwrap_or_default(),
        credentials: t.or(
            "credentials",
            Credentials::Optional,
            toml_table::one_of([
                ("off", Credentials::Off),
                ("optional", Credentials::Optional),
                ("required", Credentials::Required),
            ]),
        ),
        users: t.path("users", "users", PathKind::File),
    }
}

fn destinations(top: &mut Table<'_, '_>) -> Vec<Destination> {
    let mut lines = HashMap::new();
    let written = top.tables("destination", MAX_LIST, |t| destination(t, &mut lines));
    if written.as_ref().is_some_and(Vec::is_empty) {
        top.error("destination", "nothing is listed, so nothing could be reached", "write one, or remove it");
    }
    let mut all = written.unwrap_or_default();
    if all.is_empty() {
        // Taken already, so this walks an empty table: the default destination.
        all.push(top.table("destination", |t| destination(t, &mut lines)));
    }
    all.into_iter().flatten().collect()
}

fn destination(t: &mut Table<'_, '_>, lines: &mut HashMap<(HostName, u16), usize>) -> Option<Destination> {
    const DEFAULT: &str = "license.qlikcloud.com";
    let host = t.optional("host", |value| toml_table::name::<HostName>("a host name", DEFAULT, value));
    let port = t.optional("port", |value| toml_table::integer(1..=65_535, value));
    let mode = t.or(
        "mode",
        Mode::Terminate,
        toml_table::one_of([("terminate", Mode::Terminate), ("tunnel", Mode::Tunnel), ("http", Mode::Http)]),
    );
    let connect_to = t.optional("connect_to", |value| {
        toml_table::name("a host and a port", "license.corp.example:443", value)
    });
    let host = if t.has("host") { host } else { DEFAULT.parse().ok() }?;
    let port =
        port.and_then(|port| u16::try_from(port).ok()).unwrap_or(if mode == Mode::Http { 80 } else { 443 });
    if let Some(first) = lines.insert((host.clone(), port), t.line("host")) {
        let what = format!("{host}:{port} is listed on line {first} already");
        t.error("host", what, "remove one of the two");
    }
    Some(Destination { host, port, mode, connect_to })
}

fn upstream(t: &mut Table<'_, '_>) -> Upstream {
    let trust = t.or(
        "trust",
        Trust::System,
        toml_table::one_of([("system", Trust::System), ("bundled", Trust::Bundled), ("files", Trust::Files)]),
    );
    let extra_ca = t.paths("extra_ca", 0, PathKind::File, true);
    if trust == Trust::Files && t.lacks("extra_ca", &extra_ca) {
        t.error(
            "trust",
            "\"files\" trusts extra_ca alone, and that is empty",
            "write extra_ca = [\"ca.pem\"], or trust = \"system\"",
        );
    }
    let dns = t.list("dns", 0, resolver).unwrap_or_default();
    let parent_proxy = t.optional("parent_proxy", parent_proxy);
    let credentials = t.existing("parent_credentials", PathKind::Secret);
    if credentials.is_some() && !t.has("parent_proxy") {
        t.error(
            "parent_credentials",
            "there is no parent proxy that they are for",
            "write parent_proxy = \"http://proxy.corp:3128\", or remove them",
        );
    }
    Upstream {
        trust,
        extra_ca: extra_ca.unwrap_or_default(),
        dns,
        parent_proxy: parent_proxy.map(|parent| ParentProxy { credentials, ..parent }),
        connect_timeout: t.or("connect_timeout", Duration::from_secs(10), toml_table::duration),
        response_timeout: t.or("response_timeout", Duration::from_secs(60), toml_table::duration),
    }
}

fn resolver(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    const WRITE: &str = "write an IP address, with a port unless it is 53, in quotes, as in \"10.0.0.53\"";
    let text = toml_table::text(value, WRITE)?;
    text.parse::<IpAddr>()
        .map(|address| SocketAddr::new(address, 53))
        .or_else(|_| text.parse())
        .map_err(|_| Wrong::new(format!("{} is not an IP address", toml_table::quoted(text)), WRITE))
}

fn parent_proxy(value: &DeValue<'_>) -> Result<ParentProxy, Wrong> {
    const WRITE: &str = "write \"http://HOST:PORT\" or \"https://HOST:PORT\" and nothing else";
    let text = toml_table::text(value, WRITE)?;
    // Before anything that repeats the text: a password must not be printed.
    if text.contains('@') {
        return Err(Wrong::new(
            "holds credentials",
            "write \"http://HOST:PORT\" here, and user:password in a file named by parent_credentials",
        ));
    }
    let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(Wrong::new("does not start with http:// or https://", WRITE)),
    };
    if rest.contains(['/', '?', '#']) {
        return Err(Wrong::new(format!("{} goes on after the port", toml_table::quoted(text)), WRITE));
    }
    let endpoint = rest.parse().map_err(|e| {
        Wrong::new(format!("{} is not a host and a port, because it {e}", toml_table::quoted(rest)), WRITE)
    })?;
    Ok(ParentProxy { tls, endpoint, credentials: None })
}

fn tls(t: &mut Table<'_, '_>) -> Tls {
    let min_version = t.or(
        "min_version",
        TlsVersion::V1_2,
        toml_table::one_of([("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)]),
    );
    let chains = t.paths("certificate", 1, PathKind::File, true);
    let keys = t.paths("key", 1, PathKind::Secret, true);
    let root = t.path("root", "../certs/root.pem", PathKind::File);
    let issuer = t.path("issuer", "../certs/issuer.pem", PathKind::File);
    let issuer_key = t.path("issuer_key", "../certs/issuer.key", PathKind::Secret);
    if !t.has("certificate") && !t.has("key") {
        return Tls { identity: Identity::Issuer { root, issuer, issuer_key }, min_version };
    }
    for key in ["root", "issuer", "issuer_key"] {
        if t.has(key) {
            t.error(key, "certificate and key stand in its place", "remove it, or remove those two");
        }
    }
    if !t.has("key") {
        t.error("certificate", "there is no key for it", "write key = [\"leaf.key\"] too");
    } else if !t.has("certificate") {
        t.error("key", "there is no certificate for it", "write certificate = [\"leaf.pem\"] too");
    }
    let (chains, keys) = (chains.unwrap_or_default(), keys.unwrap_or_default());
    // A list with a wrong element is empty here, and has been complained about.
    if chains.len() != keys.len() && !chains.is_empty() && !keys.is_empty() {
        let what = format!("{} certificates and {} keys are listed", chains.len(), keys.len());
        t.error("key", what, "write one key for each certificate, in the same order");
    }
    Tls { identity: Identity::Leaves(chains.into_iter().zip(keys).collect()), min_version }
}

fn sources(t: &mut Table<'_, '_>) -> Sources {
    let file = t.path("file", "sources.toml", PathKind::File);
    let unknown = t.or("unknown", Stranger::Deny, toml_table::one_of(STRANGERS));
    let unidentified = t.or("unidentified", Stranger::Deny, toml_table::one_of(STRANGERS));
    if unknown == Stranger::Observe {
        t.warn(
            "unknown",
            "\"observe\" forwards the requests of sources that are not on the list",
            "write \"deny\" once they are",
        );
    }
    if unidentified == Stranger::Observe {
        t.warn(
            "unidentified",
            "\"observe\" forwards requests that nothing identifies",
            "write \"deny\" once the list has every license, user or network",
        );
    }
    Sources { file, unknown, unidentified }
}

const STRANGERS: [(&str, Stranger); 2] = [("deny", Stranger::Deny), ("observe", Stranger::Observe)];

fn limits(t: &mut Table<'_, '_>, vocabularies: u64) -> Limits {
    const MINUTE: Duration = Duration::from_secs(60);
    const ALL_BODIES: u64 = 256 << 20;
    const fn a_minute(requests: u32, burst: u32) -> Rate {
        let (one, per) = (NonZeroU32::MIN, MINUTE);
        Rate { requests: one.saturating_add(requests - 1), per, burst: one.saturating_add(burst - 1) }
    }
    let per_source = t.source_rate("per_source").unwrap_or(SourceRate::new(a_minute(60, 30), None));
    let least = bounds::LEAST_LOG_PER_DAY * bounds::STRANGER_SHARE;
    let strangers_log_per_day = t.log_per_day("strangers_log_per_day", least);
    let strangers_log_per_day = strangers_log_per_day.unwrap_or_else(|| per_source.requests.log_per_day());
    let per_address = t.rate("per_address").unwrap_or(a_minute(600, 200));
    let max_body = t.or("max_body", 64 << 20, toml_table::size);
    let least = body_cost::least(max_body, vocabularies);
    // A site's vocabulary and a long body take some more; whoever wants much more writes it.
    let default = if max_body <= ALL_BODIES { least.max(ALL_BODIES) } else { ALL_BODIES };
    let all_bodies = t.or("all_bodies", default, toml_table::size);
    if all_bodies < max_body {
        t.error(
            "all_bodies",
            format!(
                "{all_bodies} bytes are less than max_body, {max_body}, so that one body could wait for ever"
            ),
            "write at least max_body",
        );
    } else if all_bodies < least {
        t.warn(
            "all_bodies",
            format!(
                "{all_bodies} bytes bound bodies as they arrive; what reading them takes comes beside that, since one \
                 of max_body, {max_body}, and its reply take {least}"
            ),
            format!("write at least \"{}MiB\" to bound it all", least.div_ceil(1 << 20)),
        );
    }
    Limits { per_source, strangers_log_per_day, per_address, max_body, all_bodies }
}

fn audit(t: &mut Table<'_, '_>) -> Audit {
    let directory = t.path("directory", "../var/audit", PathKind::Directory);
    let on_failure = t.or(
        "on_failure",
        OnFailure::Block,
        toml_table::one_of([("block", OnFailure::Block), ("degrade", OnFailure::Degrade)]),
    );
    let subject = t.or(
        "subject",
        SubjectForm::HmacSha256,
        toml_table::one_of([("hmac-sha256", SubjectForm::HmacSha256), ("raw", SubjectForm::Raw)]),
    );
    if subject == SubjectForm::Raw {
        t.warn(
            "subject",
            "\"raw\" writes the names of people to the log",
            "write \"hmac-sha256\" to keep them out",
        );
    }
    let subject_key = t.path("subject_key", "../certs/subject.key", PathKind::Secret);
    let subject_case = t.or(
        "subject_case",
        SubjectCase::Fold,
        toml_table::one_of([("fold", SubjectCase::Fold), ("exact", SubjectCase::Exact)]),
    );
    let signing_key = t.path("signing_key", "../certs/log.key", PathKind::Secret);
    let origin = t.optional("origin", origin).flatten().unwrap_or_else(own_origin);
    let anchors = t.paths("anchors", 0, PathKind::Directory, false).unwrap_or_default();
    for anchor in &anchors {
        if device(anchor).is_some_and(|anchor| Some(anchor) == device(&directory)) {
            let what = format!("{:?} is on the same file system as the log", anchor.display().to_string());
            t.warn("anchors", what, "name a directory that does not go when the log goes");
        }
    }
    let queue = t.or("queue", 32 << 20, toml_table::size);
    if queue < bounds::JOURNAL_QUEUE {
        let what = format!("{queue} bytes are fewer than {}, the least that works", bounds::JOURNAL_QUEUE);
        t.error("queue", what, "write at least 4MiB");
    }
    Audit { directory, on_failure, subject, subject_key, subject_case, signing_key, origin, anchors, queue }
}

/// A key name as C2SP signed-note demands it: no white space, no plus sign; none if empty.
fn origin(value: &DeValue<'_>) -> Result<Option<String>, Wrong> {
    const WRITE: &str = "write a name of at most 200 characters like \"license-relay/dmz-1\"";
    let text = toml_table::text(value, WRITE)?;
    match text.chars().find(|c| unfit(*c)) {
        Some(c) => Err(Wrong::new(
            format!("{} holds {c:?}, which checkpoints can't", toml_table::quoted(text)),
            WRITE,
        )),
        None if text.chars().count() > 200 => Err(Wrong::new("is too long", WRITE)),
        None => Ok(Some(text.to_owned()).filter(|name| !name.is_empty())),
    }
}

fn own_origin() -> String {
    let host = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .into_iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .map(|text| text.trim().to_owned())
        .find(|host| !host.is_empty() && !host.contains(unfit));
    format!("license-relay/{}", host.as_deref().unwrap_or("localhost"))
}

fn unfit(c: char) -> bool {
    c.is_whitespace() || c.is_control() || c == '+'
}

/// The file system that `path` is on or will be made on.
fn device(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|parent| fs::metadata(parent).ok()).map(|found| found.dev())
}

fn licensing(t: &mut Table<'_, '_>) -> Licensing {
    Licensing {
        vocabulary: t.existing("vocabulary", PathKind::File),
        unreadable: t.or("unreadable", Unread::Proven, unread),
        unrecognised: t.or("unrecognised", Unread::Proven, unread),
    }
}

/// `"forward"` let in whoever wrote a body oddly enough; a file that still has it names the new word.
fn unread(value: &DeValue<'_>) -> Result<Unread, Wrong> {
    if matches!(toml_table::text(value, ""), Ok("forward")) {
        return Err(Wrong::new(
            "\"forward\" has been replaced by \"proven\"",
            "write \"proven\" (forwarded only for a client that a network or a user of an entry proves) or \"deny\"",
        ));
    }
    toml_table::one_of([("proven", Unread::Proven), ("deny", Unread::Deny)])(value)
}

fn admin(t: &mut Table<'_, '_>, listen: &[SocketAddr]) -> Admin {
    let address = t.or("address", SocketAddr::from(([127, 0, 0, 1], 9901)), toml_table::socket);
    let token_file = t.existing("token_file", PathKind::Secret);
    if !address.ip().is_loopback() && !t.has("token_file") {
        t.error(
            "address",
            format!("{address} is not loopback, so anyone could read what is served there"),
            "write token_file = \"admin.token\" too, or an address like \"127.0.0.1:9901\"",
        );
    }
    if address.port() != 0 && listen.contains(&address) {
        t.error("address", format!("{address} is listen.address too"), "write another port");
    }
    let socket = t.place("socket").filter(|path| {
        let length = path.as_os_str().len();
        if length > bounds::SOCKET_PATH {
            let what = format!("{} is {length} bytes long", path.display());
            t.error("socket", what, format!("write a path of at most {} bytes", bounds::SOCKET_PATH));
        }
        length <= bounds::SOCKET_PATH
    });
    Admin { address, token_file, socket }
}

fn log(t: &mut Table<'_, '_>) -> Log {
    Log {
        format: t.or(
            "format",
            LogFormat::Text,
            toml_table::one_of([("text", LogFormat::Text), ("json", LogFormat::Json)]),
        ),
        client_address: t.or(
            "client_address",
            ClientAddress::Full,
            toml_table::one_of([("full", ClientAddress::Full), ("network", ClientAddress::Network)]),
        ),
        level: t.or(
            "level",
            LogLevel::Info,
            toml_table::one_of([
                ("error", LogLevel::Error),
                ("warn", LogLevel::Warn),
                ("info", LogLevel::Info),
                ("debug", LogLevel::Debug),
                ("trace", LogLevel::Trace),
            ]),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    const SHIPPED: &str = include_str!("../../config/relay.toml");

    fn refused(text: &str) -> String {
        parse(text, Path::new("/nowhere/relay.toml")).expect_err(text).to_string()
    }

    #[test]
    fn whoever_raises_the_rate_of_requests_raises_what_may_be_written_of_them() {
        let log = |limits: &str| {
            let (config, _) = parse(&format!("[limits]\n{limits}"), "/nowhere/relay.toml".as_ref()).unwrap();
            (config.limits.per_source.log_per_day, config.limits.strangers_log_per_day)
        };
        let least = 256 << 20;
        assert_eq!(log("per_source = { requests = 1 }"), (least, least));
        let twice = 2 * 86_400 * (3 << 10);
        assert_eq!(log("per_source = { requests = 120 }"), (twice, twice));
        assert_eq!(log("per_source = { requests = 1_000_000_000, per = \"1s\" }"), (1 << 40, 1 << 40));
        assert_eq!(log("per_source = { requests = 120, log_per_day = \"1MiB\" }"), (1 << 20, twice));
    }

    #[test]
    fn the_shipped_file_is_the_empty_file() {
        let path = Path::new("/nowhere/config/relay.toml");
        let (shipped, warnings) = parse(SHIPPED, path).unwrap();
        assert_eq!(warnings, Problems::default());
        let (empty, _) = parse("", path).unwrap();
        assert_eq!(format!("{shipped:#?}"), format!("{empty:#?}"));
        assert_eq!(empty.destinations[0].host.as_str(), "license.qlikcloud.com");
        assert_eq!(empty.tls_root(), Path::new("/nowhere/config/../certs/root.pem"));
    }

    impl Config {
        fn tls_root(&self) -> &Path {
            match &self.tls.identity {
                Identity::Issuer { root, .. } => root,
                Identity::Leaves(_) => panic!("leaves"),
            }
        }
    }

    #[test]
    fn the_shipped_file_shows_every_key() {
        let lines = SHIPPED.lines().map(|line| match line.strip_prefix("# ") {
            Some(hidden) if hidden.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => hidden,
            _ => line,
        });
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in
            [("parent.txt", 0o600), ("leaf.pem", 0o644), ("leaf.key", 0o600), ("admin.token", 0o600)]
        {
            fs::write(folder.path().join(name), "").unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(folder.path().join("vocabulary.toml"), "").unwrap();
        let all = lines.filter(|line| !["root", "issuer"].iter().any(|key| line.starts_with(key)));
        let (config, _) =
            parse(&all.collect::<Vec<_>>().join("\n"), &folder.path().join("relay.toml")).unwrap();
        assert!(matches!(config.tls.identity, Identity::Leaves(pairs) if pairs.len() == 1));
        assert!(config.upstream.parent_proxy.unwrap().credentials.is_some());
        assert!(config.admin.token_file.is_some() && config.licensing.vocabulary.is_some());
        assert!(config.destinations[0].connect_to.is_some());
    }

    #[test]
    fn each_mistake_is_named_with_its_line_and_its_cure() {
        let table = [
            ("[listn]\nadress = \"a\"", ":2: listn.adress is not a known key; write listen.address"),
            ("[listn]", ":1: listn is not a known key; write listen"),
            (
                "[limits]\nconnect_timeout = \"1s\"",
                ":2: limits.connect_timeout is not a known key; write upstream.conn",
            ),
            ("\"a\\nb\" = 1", ":1: a\\nb is not a known key"),
            ("listen = 5", ":1: listen: found a whole number instead of a table; write a section [listen]"),
            (
                "[listen]\n\naddress = 5",
                ":3: listen.address: found a whole number instead of text in quotes; write an IP",
            ),
            (
                "[listen]\naddress = \"localhost:1\"",
                ":2: listen.address: \"localhost:1\" is not an IP address and a port",
            ),
            ("[listen]\naddress = []", ":2: listen.address: has 0 elements; write a list of 1 to"),
            ("[listen]\naddress = [\"[::]:1\",\n\"::1\"]", ":3: listen.address: \"::1\" is not"),
            ("[listen]\naddress = [\"[::]:1\", \"[::]:1\"]", ":2: listen.address: [::]:1 is listed twice"),
            (
                "[listen]\naddress = \"127.0.0.1:9901\"",
                ": admin.address: 127.0.0.1:9901 is listen.address too",
            ),
            (
                "[listen]\nhostnames = [\"a_b\"]",
                "\"a_b\" is not a host name or address, because it has a character",
            ),
            (
                "[listen]\nmax_connections = 0",
                "listen.max_connections: 0 is out of range; write a whole number from 1",
            ),
            ("[listen]\nmax_connections = -1", "-1 is out of range"),
            ("[listen]\nmax_connections = 1.5", "found a number with a fraction instead of a whole number"),
            (
                "[listen]\nmax_connections = 5\nmax_connections_per_address = 6",
                ":3: listen.max_connections_per_address: 6 is more than max_connections, 5; write at most 5",
            ),
            (
                "[listen]\nallow_from = [\"10.0.0\"]",
                "\"10.0.0\" is not a network; write an address and a prefix",
            ),
            (
                "[listen]\nallow_from = [\"10.0.0.1/8\"]",
                "write \"10.0.0.0/8\" for the network, or \"10.0.0.1\" for",
            ),
            (
                "[listen]\ncredentials = \"on\"",
                "\"on\" is not known; write \"off\" or \"optional\" or \"required\"",
            ),
            (
                "[destination]\nhost = \"a.b\"",
                ":1: destination: found a table instead of a list of tables; write [[dest",
            ),
            ("destination = []", ":1: destination: nothing is listed"),
            (
                "[[destination]]\nhost = \"10.0.0.1\"",
                ":2: destination.host: \"10.0.0.1\" is not a host name, because",
            ),
            ("[[destination]]\nport = 0", ":2: destination.port: 0 is out of range"),
            (
                "[[destination]]\nhost = \"a.b\"\n[[destination]]\nhost = \"A.B.\"\nport = 443",
                ":4: destination.host: a.b:443 is listed on line 2 already; remove one",
            ),
            (
                "[[destination]]\n[[destination]]",
                ":2: destination.host: license.qlikcloud.com:443 is listed on line 1",
            ),
            (
                "[[destination]]\nconnect_to = \"a.b\"",
                "\"a.b\" is not a host and a port, because it has no port",
            ),
            ("[upstream]\ntrust = \"files\"", ":2: upstream.trust: \"files\" trusts extra_ca alone"),
            (
                "[upstream]\nextra_ca = [\"no.pem\"]",
                ":2: upstream.extra_ca: /nowhere/no.pem can't be read: No such file",
            ),
            ("[upstream]\ndns = [\"ns.corp\"]", "\"ns.corp\" is not an IP address"),
            (
                "[upstream]\nparent_proxy = \"http://p\"",
                "\"p\" is not a host and a port, because it has no port",
            ),
            (
                "[upstream]\nparent_proxy = \"http://p:1/\"",
                "goes on after the port; write \"http://HOST:PORT\"",
            ),
            ("[upstream]\nparent_proxy = \"socks5://p:1\"", "does not start with http:// or https://"),
            ("[upstream]\nparent_proxy = \"http://u:hidden@p:1\"", "in a file named by parent_credentials"),
            (
                "[upstream]\nparent_credentials = \"u:hidden\"",
                "write the path of a file with the secret in it",
            ),
            (
                "[upstream]\nparent_credentials = \"/etc/passwd\"",
                "open to others than its owner; run chmod 600 /etc/passwd",
            ),
            (
                "[upstream]\nconnect_timeout = 10",
                "found a whole number instead of text in quotes; write a whole number",
            ),
            ("[upstream]\nconnect_timeout = \"10\"", "\"10\" is not a time"),
            ("[upstream]\nconnect_timeout = \"0s\"", "is no time at all"),
            ("[upstream]\nconnect_timeout = \"25h\"", "\"25h\" is longer than a day"),
            ("[upstream]\nconnect_timeout = \"99999999999999999999h\"", "is not a time"),
            (
                "[tls]\ncertificate = [\"/etc/passwd\"]",
                ":2: tls.certificate: there is no key for it; write key",
            ),
            ("[tls]\nmin_version = \"1.1\"", "\"1.1\" is not known; write \"1.2\" or \"1.3\""),
            ("[sources]\nfile = \"/etc\"", "/etc is no regular file, but a folder; write the path of a file"),
            (
                "[limits]\nper_source = { requests = 0 }",
                ":2: limits.per_source.requests: a limit of 0 lets nobody",
            ),
            (
                "[limits]\nper_source = { burst = 1 }",
                ":2: limits.per_source.requests: is missing; write { requests",
            ),
            (
                "[limits]\nper_source = { requests = 1, pre = \"1s\" }",
                "limits.per_source.pre is not a known key; write limi",
            ),
            ("[limits]\nper_source = 5", "limits.per_source: found a whole number instead of a table"),
            (
                "[limits]\nper_source = { requests = 4_000_000_000, per = \"1s\" }",
                "more than one request a nanosecond",
            ),
            (
                "[limits]\nper_source = { requests = 1, log_per_day = \"255KiB\" }",
                ":2: limits.per_source.log_per_day: 261120 bytes are less than the log may take of one message in half a \
                 day; write at least \"256KiB\"",
            ),
            (
                "[limits]\nper_source = { log_per_day = \"1GiB\" }",
                ":2: limits.per_source.requests: is missing; write { requests",
            ),
            (
                "[limits]\nstrangers_log_per_day = \"1000KiB\"",
                ":2: limits.strangers_log_per_day: 1024000 bytes are less than",
            ),
            ("[limits]\nstranger_log_per_day = 1", "write limits.strangers_log_per_day"),
            ("[limits]\nmax_body = \"64MB\"", "\"64MB\" is not a size; write a number of bytes"),
            ("[limits]\nmax_body = 0", "limits.max_body: 0 is out of range"),
            (
                "[limits]\nmax_body = \"1GiB\"",
                ":1: limits.all_bodies: 268435456 bytes are less than max_body",
            ),
            ("[audit]\ndirectory = \"/dev/null\"", "/dev/null is not a directory"),
            ("[audit]\nqueue = \"1MiB\"", "audit.queue: 1048576 bytes are fewer than 4194304"),
            ("[audit]\norigin = \"a b\"", "\"a b\" holds ' ', which checkpoints can't"),
            ("[audit]\norigin = \"a+b\"", "holds '+'"),
            (
                "[licensing]\nvocabulary = \"v.toml\"",
                ":2: licensing.vocabulary: /nowhere/v.toml can't be read",
            ),
            ("[admin]\naddress = \"0.0.0.0:1\"", ":2: admin.address: 0.0.0.0:1 is not loopback, so anyone"),
            ("[http]\nvia = \"yes\"", "found text in quotes instead of true or false"),
            ("[log]\n\n# no\nlevle = \"info\"", ":4: log.levle is not a known key; write log.level"),
            ("[listen]\naddress = 127.0.0.1:8888", ":2: not TOML: "),
            ("[listen]\n[listen]", ":2: not TOML: duplicate key; remove one of the two"),
            ("[listen\n", ":1: not TOML: unclosed table"),
        ];
        for (text, words) in table {
            let said = refused(text);
            assert!(
                said.contains(words) && said.starts_with("/nowhere/relay.toml:"),
                "{text}\n  gave {said}"
            );
            assert_eq!(said.lines().count(), 1, "{text}\n  gave {said}");
            assert!(!said.contains("hidden"), "a password was printed: {said}");
        }
    }

    #[test]
    fn every_problem_is_said_at_once_and_by_line() {
        let said =
            refused("x = 1\n[listen]\naddress = \nusers = 2\n[log]\nlevel = \"loud\"\n[http]\nvia = 1");
        let lines: Vec<_> = said.lines().map(|line| line.split(':').nth(1).unwrap()).collect();
        assert_eq!(lines, ["1", "3", "4", "6", "8"], "{said}");
    }

    #[test]
    fn leaves_and_an_issuer_exclude_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("leaf.key");
        fs::write(&key, "").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!("[tls]\nroot = \"r\"\ncertificate = [\"/etc/passwd\"]\nkey = [{key:?}, {key:?}]");
        let said = refused(&text);
        assert!(said.contains(":2: tls.root: certificate and key stand in its place; remove it"), "{said}");
        assert!(said.contains(":4: tls.key: 1 certificates and 2 keys are listed; write one"), "{said}");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(refused(&text).contains(&format!("; run chmod 600 {}", key.display())));
    }

    #[test]
    fn what_is_risky_but_wanted_is_a_warning() {
        let text = "[sources]\nunknown = \"observe\"\nunidentified = \"observe\"\n\
             [audit]\nsubject = \"raw\"\n\
             directory = \"/nowhere/log\"\nanchors = [\"/nowhere/anchor\"]";
        let (_, warnings) = parse(text, Path::new("/nowhere/relay.toml")).unwrap();
        assert!(!warnings.has_errors());
        assert_eq!(warnings.0.iter().map(|warning| warning.line).collect::<Vec<_>>(), [2, 3, 5, 7]);
    }

    #[test]
    fn values_mean_what_they_say() {
        let text = r#"
            listen = { address = ["0.0.0.0:0", "[::]:0"], max_connections = 100, allow_from = "10.0.0.9" }
            limits.per_source = { requests = 1000000000, per = "1s" }
            limits.max_body = 0x10
            limits.all_bodies = "2GiB"
            audit.origin = "dmz/1"
            [[destination]]
            host = "lef1.example"
            mode = "http"
            [upstream]
            dns = ["10.0.0.53", "[::1]:54"]
            parent_proxy = "https://proxy.corp:3128"
            connect_timeout = "100ms"
        "#;
        let (config, _) = parse(text, Path::new("relay.toml")).unwrap();
        assert!(config.file.is_absolute() && config.sources.file.is_absolute());
        assert_eq!(config.listen.addresses.len(), 2);
        assert_eq!(config.listen.max_connections_per_address, 100);
        assert_eq!(config.listen.allow_from[0].to_string(), "10.0.0.9/32");
        assert_eq!((config.destinations[0].port, config.destinations[0].mode), (80, Mode::Http));
        assert_eq!(config.upstream.dns, ["10.0.0.53:53".parse().unwrap(), "[::1]:54".parse().unwrap()]);
        let parent = config.upstream.parent_proxy.unwrap();
        assert!(parent.tls && parent.endpoint.to_string() == "proxy.corp:3128");
        assert_eq!(config.upstream.connect_timeout, Duration::from_millis(100));
        assert_eq!(config.limits.per_source.requests.burst.get(), 1_000_000_000);
        assert_eq!((config.limits.max_body, config.limits.all_bodies), (16, 2 << 30));
        assert_eq!(config.audit.origin, "dmz/1");
    }

    #[test]
    fn what_can_not_be_read_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        assert!(load(&path).unwrap_err().to_string().contains("can't be read: No such file"));
        fs::write(&path, b"[http]\nvia = \xff").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("relay.toml:2: the text is not UTF-8"));
        fs::write(&path, "").unwrap();
        assert_eq!(load(&path).unwrap().0.destinations.len(), 1);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = parse(&text, Path::new("/nowhere/relay.toml"));
        }

        #[test]
        fn no_cut_or_splice_of_a_good_file_makes_it_panic(
            cuts in proptest::collection::vec(
                (0..SHIPPED.len(), 0..SHIPPED.len(), "[\\PC\n\"\\[\\]{}=]{0,6}"),
                1..6,
            )
        ) {
            let mut text = SHIPPED.replace("# ", "");
            for (from, to, instead) in cuts {
                let (from, to) = (from.min(to).min(text.len()), from.max(to).min(text.len()));
                if text.is_char_boundary(from) && text.is_char_boundary(to) && to - from < 40 {
                    text.replace_range(from..to, &instead);
                } else if text.is_char_boundary(from) {
                    text.insert_str(from, &instead);
                }
            }
            let _ = parse(&text, Path::new("/nowhere/relay.toml"));
        }
    }
}
