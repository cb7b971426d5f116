//! The rest of the clients and scanners that others have written: the newest Go, a dozen clients with credentials, and
//! Mozilla's rules for TLS. `tests/run` installs what Debian does not have.

use std::process::Stdio;

use std::io::Write;

use crate::common::clients::*;
use crate::common::*;

const CREDENTIALS: &str = "qlik-prod:s3cret";

/// A relay before the recording origin that demands credentials, with one user.
fn demanding(origin: &Origin, more: &str) -> Relay {
    let plan = origin.open_relay().with("[listen]", &format!("[listen]\ncredentials = \"required\"{more}"));
    plan.write();
    let mut add = program()
        .arg("--config")
        .arg(plan.path("relay.toml"))
        .args(["sources", "user", "add", "qlik-prod"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(add.stdin.take().unwrap(), "s3cret").unwrap();
    assert!(add.wait().unwrap().success());
    plan.start()
}

fn passes(mut command: std::process::Command) {
    let (passed, words) = said(&mut command);
    let failed: Vec<&str> = words.lines().filter(|line| !line.starts_with("PASS")).collect();
    assert!(passed && words.contains(" passed, 0 failed"), "{}", failed.join("\n"));
}

#[test]
fn the_newest_go_works_through_every_way_in() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path());
    let go = newest_go("goclient");
    // Direct TLS has no place for a user name and password: it works where none are demanded.
    let demands = demanding(&origin, "");
    let demands_none = origin.open_relay().start();
    for (relay, way) in
        [(&demands, &["-scheme", "both", "-auth", CREDENTIALS][..]), (&demands_none, &["-direct"])]
    {
        let mut command = std::process::Command::new(&go);
        command.args([
            "127.0.0.1",
            &relay.address.port().to_string(),
            "-target",
            "https://license.qlikcloud.com/x",
        ]);
        passes({
            command.arg("-ca").arg(relay.root()).args(way);
            command
        });
    }
}

#[test]
fn a_dozen_clients_with_credentials_work_through_both_kinds_of_proxy_and_not_without() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path());
    let relay = demanding(&origin, "");
    let go = go("goclient");
    let run_clients = |scheme: &str, more: &[&str]| {
        let mut command = tool("python3", "python3");
        command
            .arg(file("probes/clients/run_clients.py"))
            .args(["127.0.0.1", &relay.address.port().to_string()]);
        command
            .args(["--target", "https://license.qlikcloud.com/x", "--scheme", scheme, "--ca"])
            .arg(relay.root());
        command
            .arg("--go")
            .arg(&go)
            .arg("--py")
            .arg(installed("bin/python"))
            .arg("--undici")
            .arg("/usr/share/nodejs") // where Debian puts it
            .arg("--java")
            .arg(java_class("probes/clients/ProxyProbe.java"));
        command.args(more);
        command
    };
    for scheme in ["http", "https"] {
        passes(run_clients(scheme, &["--auth", CREDENTIALS]));
    }
    passes(run_clients("http", &["--want", "no"]));
}

#[test]
fn connect_and_its_credentials_hold_against_every_trick() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path());
    for more in [&[][..], &["--proxy-tls", "--sni", "localhost"]] {
        let relay = demanding(&origin, "");
        let mut command = tool("python3", "python3");
        command.arg(file("probes/connect_probe.py")).args(["127.0.0.1", &relay.address.port().to_string()]);
        command.args(["--target", "license.qlikcloud.com:443", "--proxy-auth", CREDENTIALS]).args(more);
        passes(command);
    }
}

#[test]
fn connect_to_a_tunnel_holds_against_every_trick() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path());
    let relay = origin.open_relay().with("[[destination]]", "[[destination]]\nmode = \"tunnel\"").start();
    let mut command = tool("python3", "python3");
    command.arg(file("probes/connect_probe.py")).args(["127.0.0.1", &relay.address.port().to_string()]);
    command.args(["--target", "license.qlikcloud.com:443", "--blind"]);
    passes(command);
}

#[test]
fn both_tls_faces_follow_mozillas_intermediate_rules() {
    let (_stub, relay, _folder) = pair();
    let port = relay.address.port();
    let (direct, outer) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    for face in [&["--sni", HOST, direct.as_str()][..], &[outer.as_str()]] {
        let mut command = std::process::Command::new(installed("bin/sslyze"));
        command.arg("--mozilla_config=intermediate").arg("--certinfo_ca_file").arg(relay.root()).args(face);
        let (compliant, words) = said(&mut command);
        assert!(compliant, "{face:?}: {words}");
    }
}
