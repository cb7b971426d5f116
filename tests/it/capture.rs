//! `vocabulary capture`: what a site can read and share of the wire that nobody here has seen. It must tell how messages
//! look, whatever they are, and nothing of what they say.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::common::backend::Backend;
use crate::common::secrets::{Wanted, in_url};
use crate::common::tls::{Tls, post};
use crate::common::*;

/// Values of every kind that a message may carry, none of which may leave the site.
const SECRETS: [&str; 12] = [
    "ACME\\Quorlax0",
    "vexidon1@corp.example",
    "CN=Ixlor Vane16,OU=Krendal",
    "Zo\u{eb}mirq10",
    "relay7.zymbrak.example",
    "9999000000001253",
    "9999 0000 0000 1253",
    "fbe89d02-6d24-4595-915e-c52ce76f2195",
    "c0ffee00c0ffee00c0ffee00c0ffee00",
    "wurmlok-4711-quend",
    "5382018630938057025",
    "10.77.88.99",
];

fn capture(relay: &Relay, out: &Path) -> Value {
    ended(
        &relay.verb(&["vocabulary", "capture", "--force", "--out", out.to_str().unwrap()]),
        0,
        "read it before you share it",
    );
    serde_json::from_slice(&fs::read(out).unwrap()).unwrap()
}

#[test]
fn what_passed_is_told_by_shape_and_survives_the_relay() {
    let (stub, mut relay, folder) = pair();
    let out = folder.path().join("shapes.json");
    let plain = |relay: &Relay| relay.verb(&["vocabulary", "capture", "--out", out.to_str().unwrap()]);
    ended(&plain(&relay), 64, "nothing has passed yet");
    assert!(!out.exists());

    assert_eq!(relay.post("/v1/sync", &SYNC.replace(SOURCE, "stranger")).status, 503);
    for _ in 0..3 {
        assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    }
    relay.post("/v1/capacity", CAPACITY);
    assert!(relay.stop().success());
    ended(&plain(&relay), 0, "");
    ended(&plain(&relay), 64, "--force");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let file = relay.path("audit/captured.json");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let inside = relay.path("audit/shapes.json");
    ended(
        &relay.verb(&["vocabulary", "capture", "--out", inside.to_str().unwrap()]),
        64,
        "the log's own folder",
    );

    let text = fs::read_to_string(&out).unwrap();
    assert!(text.starts_with("{\n  \"about\": \"shapes of"), "{text}");
    assert!(text.lines().nth(1).unwrap().contains("names and types only; no values"), "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    let rows = told["exchanges"].as_array().unwrap();
    let kinds: Vec<&str> = rows.iter().map(|row| row["exchange"].as_str().unwrap()).collect();
    // The reply to the first sync differs from the later ones, or it does not.
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("sync", "capacity"), "{text}");
    let syncs: u64 =
        rows.iter().filter(|row| row["exchange"] == "sync").map(|row| row["count"].as_u64().unwrap()).sum();
    assert_eq!(syncs, 3, "what was refused is not told, or what passed is not: {text}");
    let sync = &rows[0];
    assert_eq!(
        (&sync["method"], &sync["path"], &sync["status"]),
        (&json!("POST"), &json!("/v1/sync"), &json!(200))
    );
    assert_eq!(sync["request"]["content_type"], "application/json");
    let body = sync["request"]["body"].as_str().unwrap();
    assert!(body.starts_with("{source:text,bases:[{license:text,version:number}],patches:[{"), "{body}");
    assert!(sync["reply"]["body"].as_str().unwrap().contains("subject:text"), "{sync}");
    assert!(sync["first"].as_str().unwrap() <= sync["last"].as_str().unwrap());

    // The next run goes on from there.
    let relay = relay.again();
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    let went_on = eventually("the table is written", || {
        let told = capture(&relay, &out);
        let rows = told["exchanges"].as_array().unwrap().clone();
        let syncs = rows.iter().filter(|row| row["exchange"] == "sync");
        (syncs.map(|row| row["count"].as_u64().unwrap()).sum::<u64>() == 4).then_some(rows.len())
    });
    assert!(went_on >= rows.len());
    drop(stub);
}

/// Says every secret in every place of a reply.
fn answer(request: &str) -> Vec<u8> {
    let number: usize = request.len() % SECRETS.len();
    let secret = SECRETS[number];
    let body = match request.len() % 3 {
        0 => json!({ secret: {"name": secret}, "version": 1, "what": [secret] }).to_string(),
        1 => json!({"errors": [{"title": secret, secret: secret}], secret: 1}).to_string(),
        _ => format!("{secret} is no JSON"),
    };
    let head = format!(
        "X-{}: 1\r\nX-Who: {}\r\nContent-Type: application/{}; who={}\r\nServer: {}\r\nContent-Length: {}\r\nConnection: close",
        in_url(secret).replace('%', "-"),
        in_url(secret),
        in_url(secret).replace('%', "-"),
        in_url(secret),
        in_url(secret),
        body.len()
    );
    format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").into_bytes()
}

fn requests() -> Vec<String> {
    let mut all = Vec::new();
    let sync = |patches: Value| json!({"source": SOURCE, "bases": [{"license": LICENSE, "version": 0}], "patches": patches});
    for secret in SECRETS {
        let url = in_url(secret);
        let field = url.replace('%', "-");
        let patch = json!({"license": LICENSE, "version": 0, "allotment": "analyzer", "subject": secret, secret: secret});
        all.push(post("/v1/sync", &sync(json!([patch])).to_string()));
        let nested =
            json!({"source": SOURCE, "version": 1, secret: {secret: {"name": secret}}, "list": [secret]});
        let idle = IDLE.trim();
        for (path, body) in [
            (format!("/v1/{url}/sync"), idle.to_owned()),
            (format!("/v1/sync?{url}={url}&{url}&key={url}"), idle.to_owned()),
            (format!("/{url}"), nested.to_string()),
            ("/v1/sync".into(), nested.to_string()),
            ("/v1/sync".into(), format!("{{\"source\": \"{SOURCE}\", \"who\": {secret}")),
            (
                "/v1/any".into(),
                json!({"signedLicenseKey": secret, "source": SOURCE, "cause": secret}).to_string(),
            ),
        ] {
            all.push(post(&path, &body));
        }
        for line in [
            format!("X-{field}: {url}"),
            format!("X-Who: {url}"),
            format!("Cookie: {field}={url}"),
            format!("Authorization: Basic {}", BASE64_STANDARD.encode(format!("{secret}:{secret}"))),
            format!("Authorization: Bearer {}", KEY.trim()),
            format!("Content-Type: application/json; who={url}"),
            format!("Content-Type: {field}/{field}"),
            format!("Content-Encoding: {field}"),
            format!("User-Agent: {url}"),
        ] {
            all.push(format!(
                "POST /v1/sync HTTP/1.1\r\nHost: {HOST}\r\n{line}\r\nContent-Length: {}\r\n\r\n{idle}",
                idle.len()
            ));
        }
        all.push(format!(
            "{} /v1/sync HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{idle}",
            field.replace('.', "-"),
            idle.len()
        ));
    }
    all
}

#[test]
fn no_value_is_in_it_wherever_a_message_carries_one() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), answer);
    let sources = format!("[[source]]\nid = \"{SOURCE}\"\nnetworks = [\"127.0.0.0/8\"]\n");
    let mut relay = Plan::leading_to(&backend.address.to_string(), &backend.ca).sources(&sources).start();
    let mut answered = 0;
    for request in requests() {
        answered += u32::from(Tls::new(&relay).ask(&request).status() == 200);
    }
    assert!(answered > 120, "only {answered} requests reached the back end");
    assert!(relay.stop().success());
    let out = folder.path().join("shapes.json");
    let told = capture(&relay, &out);
    let rows = told["exchanges"].as_array().unwrap();
    let has = |kind: &str| rows.iter().any(|row| row["exchange"] == kind);
    assert!(["sync", "sync-idle", "unrecognised", "unreadable"].into_iter().all(has), "{told:#}");

    let mut texts: Vec<String> = SECRETS.iter().map(|&secret| secret.to_owned()).collect();
    texts.extend(
        SECRETS.iter().flat_map(|secret| secret.split(['\\', '@', '=', ',', '.', ' '])).map(str::to_owned),
    );
    texts.extend(KEY.trim().split('.').map(str::to_owned));
    texts.retain(|text| !["example", "ACME", "corp"].contains(&text.as_str()));
    let wanted = Wanted::new(texts);
    assert!(!wanted.found(IDLE.as_bytes()).is_empty(), "the search finds nothing at all");
    for file in [out, relay.path("audit/captured.json")] {
        let found = wanted.found(&fs::read(&file).unwrap());
        assert!(found.is_empty(), "{}: {}", file.display(), found.join("\n"));
    }
}

#[test]
fn one_client_that_varies_its_shapes_keeps_no_other_out() {
    let (_stub, mut relay, folder) = pair();
    for n in 0..40 {
        let body = json!({"source": SOURCE, "bases": [{"license": LICENSE, "version": 0}], "patches": [], "info": vec![json!({"item": 1, format!("a{}", "b".repeat(n)): 1})]});
        assert_eq!(relay.post("/v1/sync", &body.to_string()).status, 200);
    }
    relay.post("/v1/capacity", CAPACITY);
    assert!(relay.stop().success());
    let told = capture(&relay, &folder.path().join("shapes.json"));
    let of_kind = |kind: &str| {
        told["exchanges"].as_array().unwrap().iter().filter(|row| row["exchange"] == kind).count()
    };
    assert_eq!((of_kind("sync-idle"), of_kind("capacity")), (12, 1), "{told:#}");
    assert_eq!(told["left_out"], 28);
}
