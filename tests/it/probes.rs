//! The probes in `tests/probes`, each against a relay of its own and a strict recording origin: every line must pass.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::common::clients::*;
use crate::common::*;

/// Runs a probe with `HOST PORT` and more; `{ca}` and `{log}` stand for the relay's root and the origin's log.
fn passes(mut probe: Command, more: &str) {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path());
    let relay = origin.open_relay().start();
    let more =
        more.replace("{ca}", relay.root().to_str().unwrap()).replace("{log}", origin.log.to_str().unwrap());
    probe.arg("127.0.0.1").arg(relay.address.port().to_string()).args(more.split_whitespace());
    let (passed, words) = said(&mut probe);
    let failed: Vec<&str> = words.lines().filter(|line| !line.starts_with("PASS")).collect();
    assert!(passed && words.contains(" passed, 0 failed"), "{}", failed.join("\n"));
    assert!(words.lines().filter(|line| line.starts_with("PASS")).count() >= 10, "{words}");
}

fn python(probe: &str) -> Command {
    let mut command = tool("python3", "python3");
    command.arg(file("probes").join(probe));
    command
}

#[test]
fn connect() {
    passes(python("connect_probe.py"), "--target license.qlikcloud.com:443");
}

#[test]
fn connect_over_tls() {
    passes(python("connect_probe.py"), "--target license.qlikcloud.com:443 --proxy-tls --sni localhost");
}

#[test]
fn smuggling_directly() {
    passes(
        python("smuggle_probe.py"),
        "--tls --sni license.qlikcloud.com --authority license.qlikcloud.com --origin-log {log}",
    );
}

#[test]
fn smuggling_in_a_tunnel() {
    passes(
        python("smuggle_probe.py"),
        "--connect license.qlikcloud.com:443 --sni license.qlikcloud.com --authority license.qlikcloud.com \
         --origin-log {log}",
    );
}

/// What is slow is cut after 10 to 31 s; the limit leaves room for a busy machine, and is far below the 300 s that a
/// body may take in all.
#[test]
fn slow_clients_directly() {
    passes(
        python("slow_probe.py"),
        "--tls --sni license.qlikcloud.com --authority license.qlikcloud.com --limit 90 --latency 10 --skip keepalive-idle",
    );
}

#[test]
fn slow_clients_in_a_tunnel() {
    passes(
        python("slow_probe.py"),
        "--connect license.qlikcloud.com:443 --sni license.qlikcloud.com --authority license.qlikcloud.com \
         --limit 90 --latency 10 --skip keepalive-idle",
    );
}

#[test]
fn tls_versions_suites_and_groups() {
    let _is_there = tool("openssl", "openssl");
    let mut probe = tool("bash", "bash");
    probe.arg(file("probes/tls_matrix.sh"));
    passes(probe, "license.qlikcloud.com {ca}");
}

/// A kept connection may idle for longer than a head may take: Go keeps its own for 90 s, and a `POST` on one that
/// the relay has closed is an error that the product shows.
#[test]
fn a_kept_connection_outlives_the_wait_for_a_head() {
    let (_stub, relay, _folder) = pair();
    let mut stream = TcpStream::connect(relay.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").unwrap();
    let mut tls = tls_inside(&relay, stream, HOST);
    let mut ask = |what: &str| {
        write!(tls, "GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.read_exact(&mut byte).unwrap_or_else(|e| panic!("{what}: {e}"));
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 404 "), "{what}: {head}");
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        tls.read_exact(&mut body).unwrap();
    };
    ask("first");
    // A wait for the clock, because the clock is what is tested; it runs beside the slow probes.
    std::thread::sleep(Duration::from_secs(33));
    ask("after 33 s");
}

#[test]
fn a_relay_that_nobody_asks_does_nothing() {
    let (_stub, relay, _folder) = pair();
    let spent = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", relay.pid())).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(") ").next().unwrap().split(' ').map(|n| n.parse().unwrap_or(0)).collect();
        fields[11] + fields[12]
    };
    // Its files are looked at once a poll; nothing may feed on that.
    let before = spent();
    std::thread::sleep(Duration::from_secs(6));
    let ticks = spent() - before;
    assert!(ticks < 60, "an idle relay used {ticks} of 600 clock ticks");
}
