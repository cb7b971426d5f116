//! A relay's life as its administrator sees it: first start, second start, stop, what it says about itself, and what
//! keeps it from starting.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::common::wire::*;
use crate::common::*;

/// The shipped configuration in a tree of its own, with nothing prepared and only its ports changed.
fn shipped() -> Plan {
    let mut config = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/relay.toml")).unwrap();
    for address in ["127.0.0.1:8888", "127.0.0.1:9901"] {
        let line = format!("\naddress = \"{address}\"");
        assert_eq!(config.matches(&line).count(), 1, "{address} is not where it is shipped");
        config = config.replace(&line, "\naddress = \"127.0.0.1:0\"");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("config")).unwrap();
    Plan { folder, config, file: "config/relay.toml", sources: String::new() }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o777
}

const SECRETS: [&str; 3] = ["certs/issuer.key", "certs/subject.key", "certs/log.key"];
const MADE: [&str; 4] = ["certs/root.pem", "certs/issuer.pem", "config/sources.toml", "var/audit"];

#[test]
fn the_shipped_configuration_starts_with_nothing_prepared_and_makes_what_is_missing() {
    let mut relay = shipped().start();
    for secret in SECRETS {
        assert_eq!(mode(&relay.path(secret)), 0o600, "{secret}");
    }
    for made in MADE {
        assert!(relay.path(made).exists(), "{made}");
    }
    let said = &relay.greeting;
    assert!(said.contains("is ready"), "{said}");
    assert!(said.contains(&format!("proxy-uri=http://localhost:{}\n", relay.address.port())), "{said}");
    assert!(said.contains(fs::canonicalize(relay.root()).unwrap().file_name().unwrap().to_str().unwrap()));
    let root = said.lines().find(|line| line.contains("root to trust")).unwrap();
    let root = root.split_whitespace().find(|word| word.ends_with("root.pem")).unwrap();
    assert_eq!(fs::canonicalize(root).unwrap(), fs::canonicalize(relay.root()).unwrap());
    assert!(said.contains("leads to              license.qlikcloud.com:443"), "{said}");

    assert_eq!(relay.admin("/healthz"), (200, "alive\n".to_owned()));
    assert_eq!(relay.admin("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(relay.refused_connect("example.com:443").status, 403);
    drop(relay.inside());
    assert!(relay.verb(&["check"]).status.success());
    let listed = relay.verb(&["sources", "list"]);
    assert!(
        listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains("nobody is allowed yet")
    );
    assert_eq!(relay.stop().code(), Some(0), "{}", relay.stderr());
}

#[test]
fn a_second_start_uses_what_the_first_one_made() {
    let mut relay = shipped().start();
    let files = [&SECRETS[..], &MADE[..3]].concat();
    let read = |relay: &Relay| -> Vec<Vec<u8>> {
        files.iter().map(|file| fs::read(relay.path(file)).unwrap()).collect()
    };
    let (before, records) = (read(&relay), log_lines(&relay));
    assert_eq!(relay.stop().code(), Some(0));
    let relay = relay.again();
    assert!(!relay.greeting.contains("made just now"), "{}", relay.greeting);
    assert_eq!(read(&relay), before);
    drop(relay.inside());
    let after = log_lines(&relay);
    assert!(after.starts_with(&records) && after.len() > records.len() + 1, "{after:#?}");
}

fn log_lines(relay: &Relay) -> Vec<String> {
    let file = relay.path("var/audit/segments/00000000000000000000.jsonl");
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn sigterm_and_sigint_answer_what_is_in_hand_take_nothing_new_and_end_with_0() {
    let folder = tempfile::tempdir().unwrap();
    for signal in ["TERM", "INT"] {
        let stub = Stub::start(folder.path(), &["--trouble", "delay=2s"]);
        let mut relay = Plan::new(&stub).start();
        let mut inside = relay.inside();
        inside.write_all(post("/v1/capacity", CAPACITY).as_bytes()).unwrap();
        eventually("it is in hand", || (stub.counters()["requests"] == 1).then_some(()));
        relay.signal(signal);
        eventually("new connections are refused", || TcpStream::connect(relay.address).err());
        assert_eq!(relay.admin("/readyz"), (503, "not ready: draining\n".to_owned()));
        assert_eq!(relay.admin("/healthz").0, 200);
        let answer = Answer::read(&mut inside);
        assert_eq!(answer.status, 200, "{answer:?}");
        is_closed(&mut inside);
        assert_eq!(relay.wait().code(), Some(0), "{}", relay.stderr());
        assert_eq!(stub.counters()["requests"], 1);
        assert_eq!(relay.records("license.consumption.response").len(), 1);
        assert_eq!(relay.log().last().unwrap()["event"]["outcome"], "success");
    }
}

#[test]
fn a_client_that_hangs_up_does_not_cancel_what_is_in_hand() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &["--trouble", "delay=1s"]);
    let mut relay = Plan::new(&stub).start();
    let mut inside = relay.inside();
    inside.write_all(post("/v1/capacity", CAPACITY).as_bytes()).unwrap();
    eventually("it is in hand", || (stub.counters()["requests"] == 1).then_some(()));
    drop(inside);
    assert_eq!(relay.stop().code(), Some(0), "{}", relay.stderr());
    let outcome = relay.records("license.consumption.response");
    assert_eq!(outcome[0]["event"]["outcome"], "success", "{outcome:?}");
}

#[test]
fn a_port_or_a_log_that_another_one_has_is_75_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let mut relay = Plan::new(&stub).start();
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    let log = relay.log_text();
    // The log is held by the first one.
    let second = relay.verb(&["serve"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(75), "{said}");
    assert!(said.contains("audit"), "{said}");
    assert_eq!(relay.log_text(), log);
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    assert_eq!(relay.stop().code(), Some(0));
    let log = relay.log_text();

    for (old, key) in
        [("[listen]\naddress = \"127.0.0.1:0\"", "listen"), ("[admin]\naddress = \"127.0.0.1:0\"", "admin")]
    {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
        let changed = config.replace(old, &format!("[{key}]\naddress = \"{address}\""));
        assert_ne!(config, changed);
        fs::write(relay.path("relay.toml"), changed).unwrap();
        let refused = relay.verb(&["serve"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(75), "{said}");
        assert!(said.contains(&address) && said.contains(&format!("{key}.address")), "{said}");
        assert_eq!(relay.log_text(), log);
        fs::write(relay.path("relay.toml"), config).unwrap();
    }
    let relay = relay.again();
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    assert!(relay.log_text().starts_with(&log));
}

#[test]
fn an_unknown_key_is_78_with_its_line_and_the_nearest_known_one() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub).with("hostnames = ", "hostname = ");
    let line = plan.config.lines().position(|line| line.starts_with("hostname = ")).unwrap() + 1;
    let (status, said) = plan.refuses_to_start();
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains(&format!("relay.toml:{line}: ")) && said.contains("listen.hostnames"), "{said}");
    assert!(!plan.path("certs").exists() && !plan.path("audit").exists());
}

#[test]
fn an_admin_address_that_is_not_loopback_demands_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let everywhere = "[admin]\naddress = \"0.0.0.0:0\"\n";
    let plan = Plan::new(&stub).with("[admin]\naddress = \"127.0.0.1:0\"\n", everywhere);
    let (status, said) = plan.refuses_to_start();
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("token_file"), "{said}");

    let plan = plan.and("token_file = \"admin.token\"\n");
    fs::write(plan.path("admin.token"), "s3cret-t0ken-0123\n").unwrap();
    fs::set_permissions(plan.path("admin.token"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(plan.refuses_to_start().0.code(), Some(78), "a token that all can read");
    fs::set_permissions(plan.path("admin.token"), fs::Permissions::from_mode(0o600)).unwrap();
    let relay = plan.start();
    let asked = |fields: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", relay.admin.port())).unwrap();
        ask(&mut stream, format!("GET /readyz HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).status
    };
    assert_eq!(asked("Authorization: Bearer s3cret-t0ken-0123\r\n"), 200);
    for wrong in [
        "",
        "Authorization: Bearer s3cret-t0ken-012\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer\r\n",
        "Authorization: s3cret-t0ken-0123\r\n",
    ] {
        assert_eq!(asked(wrong), 401, "{wrong:?}");
    }
    assert!(!relay.stderr().contains("s3cret") && !relay.greeting.contains("s3cret"));
}

#[test]
fn a_token_that_is_empty_or_short_is_refused_with_its_file_and_the_command_that_makes_one() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub).and("token_file = \"admin.token\"\n");
    fs::write(plan.path("admin.token"), "").unwrap();
    fs::set_permissions(plan.path("admin.token"), fs::Permissions::from_mode(0o600)).unwrap();
    for bad in [
        "",
        "\n",
        "0123456789abcde",
        "0123456789 abcdef",
        "0123456789abcd\u{e9}f",
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        fs::write(plan.path("admin.token"), bad).unwrap();
        let (status, said) = plan.refuses_to_start();
        let checked = run(program().args(["check", "--config"]).arg(plan.path("relay.toml")));
        let found = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!((status.code(), checked.status.code()), (Some(78), Some(78)), "{bad:?}: {said}{found}");
        for words in [said, found] {
            let told =
                words.contains("admin.token: it must hold a token") && words.contains("openssl rand -hex 32");
            assert!(told, "{bad:?}: {words}");
        }
    }
    fs::write(plan.path("admin.token"), "0123456789abcdef\n").unwrap();
    let relay = plan.start();
    assert_eq!(relay.admin("/readyz").0, 401, "no header at all");
    // A token that is emptied later changes nothing: the old one stays in force.
    fs::write(relay.path("admin.token"), "").unwrap();
    eventually("the empty token is refused", || {
        relay.stderr().contains("the old admin token stays in force").then_some(())
    });
    assert_eq!(relay.admin("/readyz").0, 401);
}

/// One allowed and one refused exchange, and a refused CONNECT; then its access lines.
fn access_lines(format: &str) -> (Relay, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).and(&format!("\n[log]\nformat = \"{format}\"\n")).start();
    let secret = "?token=qu3ry-s3cret";
    assert_eq!(relay.post(&format!("/v1/activation{secret}"), ACTIVATION).status, 200);
    assert_eq!(relay.post("/v1/sync", &SYNC.replace(SOURCE, "nobody")).status, 503);
    assert_eq!(relay.refused_connect("evil.example:443").status, 403);
    let said = relay.stderr();
    for secret in ["qu3ry-s3cret", KEY.trim().split('.').next_back().unwrap(), "acme", "generated4"] {
        assert!(!said.contains(secret), "{secret} is in the log:\n{said}");
    }
    let lines = said.lines().filter(|line| line.contains("access")).map(str::to_owned).collect();
    (relay, lines)
}

#[test]
fn an_access_line_in_text_has_its_fields_and_no_secret() {
    let (_relay, lines) = access_lines("text");
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for (line, fields) in lines.iter().zip([
        &[
            "client=127.0.0.1",
            "mode=connect",
            "sni=license.qlikcloud.com",
            "method=POST",
            "path=/v1/activation ",
            "exchange=activation",
            "license=9999000000001253",
            "verdict=allow",
            "identified_by=license",
            "status=200",
            "made_by=\"back end\"",
            "upstream=127.0.0.1:",
            "bytes=",
            "ms=",
        ][..],
        &[
            "source=nobody",
            "verdict=refuse",
            "status=503",
            "made_by=relay",
            "reason=\"license-relay: ",
            "error=http_request_denied",
        ],
        &["method=CONNECT", "authority=evil.example:443", "verdict=refuse", "status=403"],
    ]) {
        for field in fields {
            assert!(line.contains(field), "no {field} in {line}");
        }
    }
}

#[test]
fn an_access_line_in_json_can_be_read_by_programs_as_can_all_other_lines() {
    let (relay, _) = access_lines("json");
    let lines: Vec<Value> = relay.stderr().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let access: Vec<&Value> = lines.iter().filter(|line| line["log"] == "access").collect();
    assert_eq!(access.len(), 3, "{lines:#?}");
    let [allowed, refused, connect] = access[..] else { unreachable!() };
    for field in [
        "@timestamp",
        "id",
        "client",
        "mode",
        "sni",
        "authority",
        "method",
        "path",
        "exchange",
        "license",
        "verdict",
        "identified_by",
        "status",
        "made_by",
        "upstream",
        "bytes",
        "ms",
    ] {
        assert!(!allowed[field].is_null(), "no {field} in {allowed}");
    }
    assert_eq!((&allowed["status"], &allowed["verdict"]), (&200.into(), &"allow".into()));
    assert_eq!((&refused["status"], &refused["source"]), (&503.into(), &"nobody".into()));
    assert_eq!((&connect["status"], &connect["authority"]), (&403.into(), &"evil.example:443".into()));
    // The line and the refusal have one id.
    let id = uuid::Uuid::parse_str(refused["id"].as_str().unwrap()).unwrap();
    assert_eq!(id.get_version_num(), 7);
}
