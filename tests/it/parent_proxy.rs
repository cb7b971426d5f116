//! Through the company's own proxy: a real Squid as parent, with credentials and re-signing TLS, and a relay as an
//! `https://` parent.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::common::wire::free_port;
use crate::common::*;

/// A Squid on a port of its own, its files in a folder that it may write.
struct Squid {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Squid {
    /// A Squid with more configuration; `{folder}` and `{port}` stand for its own.
    fn start(prepare: impl FnOnce(&Path), more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        prepare(folder.path());
        let config = format!(
            "pid_filename none\ncache deny all\naccess_log stdio:{{folder}}/access.log\n\
             cache_log {{folder}}/cache.log\nshutdown_lifetime 0 seconds\nvisible_hostname squid\n\
             coredump_dir {{folder}}\n{more}"
        );
        let config =
            config.replace("{folder}", folder.path().to_str().unwrap()).replace("{port}", &port.to_string());
        fs::write(folder.path().join("squid.conf"), config).unwrap();
        // It gives up root before it writes.
        assert!(run(Command::new("chmod").args(["-R", "a+rwX"]).arg(folder.path())).status.success());
        let child = tool("squid", "squid-openssl")
            .args(["-N", "-f"])
            .arg(folder.path().join("squid.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let squid = Self { child, folder, port };
        eventually("Squid listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        squid
    }

    fn access_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A relay that reaches a stub through a parent, by the host's *name*, which only the parent resolves.
fn plan_through(stub: &Stub, parent: &str) -> Plan {
    let port = stub.address.port();
    Plan::new(stub)
        .with(&format!("connect_to = \"{}\"", stub.address), &format!("port = {port}"))
        .with("[upstream]", &format!("[upstream]\nparent_proxy = \"{parent}\""))
}

fn post_to(relay: &Relay, stub: &Stub) -> Curl {
    relay.curl(&["-d", SYNC, &format!("https://{HOST}:{}/v1/sync", stub.address.port())])
}

const HOSTS: &str = "hosts_file {folder}/hosts\n";

fn hosts(folder: &Path) {
    fs::write(folder.join("hosts"), format!("127.0.0.1 {HOST}\n")).unwrap();
}

#[test]
fn squid_with_basic_credentials_gets_the_name_and_opens_the_tunnel() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let squid = Squid::start(
        |folder| {
            hosts(folder);
            let hash = run(tool("openssl", "openssl").args(["passwd", "-apr1", "s3cret"]));
            let hash = String::from_utf8(hash.stdout).unwrap();
            fs::write(folder.join("passwords"), format!("relay:{hash}")).unwrap();
        },
        &format!(
            "http_port 127.0.0.1:{{port}}\n{HOSTS}\
             auth_param basic program /usr/lib/squid/basic_ncsa_auth {{folder}}/passwords\n\
             auth_param basic realm squid\nacl known proxy_auth REQUIRED\n\
             http_access allow known\nhttp_access deny all\n"
        ),
    );
    let parent = format!("http://127.0.0.1:{}", squid.port);

    let without = plan_through(&stub, &parent).start();
    let refused = post_to(&without, &stub);
    assert_eq!(
        (refused.status, refused.connect),
        (502, 200),
        "the parent's 407 is never passed on: {refused:?}"
    );
    assert!(
        refused.reason().contains("answered 407") && refused.reason().contains("it wants Basic"),
        "{refused:?}"
    );
    assert!(refused.header("Proxy-Status").unwrap().contains("error=proxy_configuration_error"));
    assert!(refused.header("Proxy-Authenticate").is_none());
    assert_eq!(without.records("upstream.error").len(), 1);

    let plan = plan_through(&stub, &parent)
        .with("parent_proxy", "parent_credentials = \"parent.txt\"\nparent_proxy");
    fs::write(plan.path("parent.txt"), "relay:wrong\n").unwrap();
    assert!(run(Command::new("chmod").arg("600").arg(plan.path("parent.txt"))).status.success());
    let with = plan.start();
    assert!(post_to(&with, &stub).reason().contains("answered 407"));
    fs::write(with.path("parent.txt"), "relay:s3cret\n").unwrap();
    eventually("the new password is in force", || {
        with.stderr().contains("generation 2 of the configuration is in force").then_some(())
    });
    let synced = post_to(&with, &stub);
    assert_eq!(synced.status, 200, "{synced:?} {}", with.stderr());
    assert!(with.stderr().contains("via_parent=true"), "{}", with.stderr());
    let asked = format!("CONNECT {HOST}:{}", stub.address.port());
    assert!(squid.access_log().contains(&asked), "{}", squid.access_log());
    assert!(!with.stderr().contains("s3cret") && !with.log_text().contains("s3cret"));
}

#[test]
fn a_parent_that_signs_tls_anew_is_named_until_its_ca_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let stub_ca = fs::read(&stub.ca).unwrap();
    let squid = Squid::start(
        |folder| {
            hosts(folder);
            fs::write(folder.join("stub-ca.pem"), &stub_ca).unwrap();
            let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
            let made = run(tool("openssl", "openssl").args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "30",
                "-subj",
                "/CN=Corporate Inspection CA",
                "-addext",
                "basicConstraints=critical,CA:TRUE",
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
                "-keyout",
                &at("ca.key"),
                "-out",
                &at("ca.pem"),
            ]));
            assert!(made.status.success(), "{made:?}");
            let made = run(Command::new("/usr/lib/squid/security_file_certgen").args([
                "-c",
                "-s",
                &at("db"),
                "-M",
                "4MB",
            ]));
            assert!(made.status.success(), "{made:?}");
        },
        &format!(
            "http_port 127.0.0.1:{{port}} ssl-bump tls-cert={{folder}}/ca.pem tls-key={{folder}}/ca.key \
             generate-host-certificates=on\n{HOSTS}\
             sslcrtd_program /usr/lib/squid/security_file_certgen -s {{folder}}/db -M 4MB\n\
             ssl_bump bump all\ntls_outgoing_options cafile={{folder}}/stub-ca.pem\nhttp_access allow all\n"
        ),
    );
    let parent = format!("http://127.0.0.1:{}", squid.port);

    let stranger = plan_through(&stub, &parent).start();
    let refused = post_to(&stranger, &stub);
    assert_eq!(refused.status, 502, "{refused:?}");
    assert!(refused.header("Proxy-Status").unwrap().contains("error=tls_certificate_error"), "{refused:?}");
    assert!(stranger.stderr().contains("Corporate Inspection CA"), "{}", stranger.stderr());
    assert!(refused.reason().contains("Corporate Inspection CA"), "{refused:?}");
    assert_eq!(stub.counters()["requests"], 0);

    let ca = squid.folder.path().join("ca.pem");
    let plan =
        plan_through(&stub, &parent).with("extra_ca = [", &format!("extra_ca = [\"{}\", ", ca.display()));
    let friend = plan.start();
    let synced = post_to(&friend, &stub);
    assert_eq!(synced.status, 200, "{synced:?} {}", friend.stderr());
}

#[test]
fn a_relay_may_be_the_https_parent_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let outer = Plan::new(&stub).start();
    let inner = Plan::leading_to("unused.example:443", &outer.root())
        .with("connect_to = \"unused.example:443\"\n", "")
        .with(
            "[upstream]",
            &format!("[upstream]\nparent_proxy = \"https://localhost:{}\"", outer.address.port()),
        )
        .start();
    let synced = inner.post("/v1/sync", SYNC);
    assert_eq!(synced.status, 200, "{synced:?} {}", inner.stderr());
    for relay in [&inner, &outer] {
        assert_eq!(relay.records("license.sync.request").len(), 1);
    }
}

#[test]
fn a_parent_that_is_down_or_speaks_no_http_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let down = plan_through(&stub, &format!("http://127.0.0.1:{}", free_port())).start();
    let refused = post_to(&down, &stub);
    assert_eq!(refused.status, 502, "{refused:?}");
    assert!(refused.header("Proxy-Status").unwrap().contains("error=connection_refused"), "{refused:?}");

    // The stub speaks TLS: an http:// parent that is none.
    let confused = plan_through(&stub, &format!("http://{}", stub.address)).start();
    let refused = post_to(&confused, &stub);
    assert_eq!(refused.status, 502, "{refused:?}");
    assert!(
        refused.header("Proxy-Status").unwrap().contains("error=proxy_configuration_error"),
        "{refused:?}"
    );
}
