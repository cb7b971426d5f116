//! No subject and no bearer token is ever at rest in the clear, however oddly a message carries it; what
//! is secret on disk is for its owner alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::common::backend::Backend;
use crate::common::secrets::{Wanted, files, in_url};
use crate::common::tls::{Tls, post};
use crate::common::*;

/// Names as directories have them, each with a part that occurs nowhere else.
const NAMES: [&str; 24] = [
    "ACME\\Quorlax0",
    "acme/Vexidon1",
    "ACME.LOCAL\\Zymbrak2",
    "\\Plorvik3",
    "Trundax4",
    "Drovelin5\\",
    "wexlima6@corp.example",
    "ACME\\Quell Jorvanix7",
    "ACME\\O'Brandoz8",
    "ACME\\\"Kwyrtol9\"",
    "ACME\\Zo\u{eb}mirq10",
    "ACME\\Zoe\u{308}mirq11",
    "ACME\\\u{141}ukaszov12",
    "\u{6f22}\u{5b57}\\\u{540d}\u{524d}13",
    "ACME\\Tab\tborq14",
    "ACME\\line\nfeedorq15",
    "CN=Ixlor Vane16,OU=Staff,DC=corp",
    "ACME\\Emoji\u{1f600}orq17",
    "S-1-5-21-777-888-99918",
    "ACME\\Pip|Yarvel19",
    " ACME\\Spacey Quex20 ",
    "ACME\\Str\u{df}enquol21",
    "ACME\\\u{130}stanquol22",
    "ACME\\back\\slash\\Jumbrel23",
];
/// Those, and as many in ordinary and odd forms as make 500.
fn names() -> Vec<String> {
    let generated = (60..536).map(|n| match n % 10 {
        0 => format!("Zyl{n}quorp"),
        1 => format!("\\Zyl{n}quorp"),
        2 => format!("Zyl{n}quorp\\"),
        3 => format!("zyl{n}quorp@corp.example"),
        4 => format!("ACME/zyl{n}quorp"),
        5 => format!("ACME\\\"Zyl{n}quorp\""),
        6 => format!("ACME\\Z\u{fd}l{n}quorp"),
        7 => format!("CN=Zyl{n}quorp Vane,OU=Staff,DC=corp"),
        8 => format!("ACME.LOCAL\\ZYL{n}QUORP"),
        _ => format!("ACME\\Zyl{n}quorp"),
    });
    let names: Vec<String> = NAMES.into_iter().map(str::to_owned).chain(generated).collect();
    assert_eq!(names.len(), 500);
    names
}

/// In the replies of the back end: holders of other deployments, and people it mentions.
const TOLD: [&str; 3] = ["OTHER\\Brelvano31", "OTHER\\Skjolvar32", "OTHER\\Mirvanto33"];
const PASSWORD: &str = "pass-Wudrelko41";
const PARTS_OF_MANY: [&str; 5] = ["ACME.LOCAL", "corp.example", "OU=Staff", "corp", "slash"];

/// A key of a license that nobody listed.
fn unlisted_key() -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = part(json!({"license": 8888000000004242u64, "jti": "0", "sub": "ACME\\Garvilon51"}));
    [part(json!({"alg": "RS512", "kid": "Unlisted52"})), claims, part(json!("signature-Prolvine53"))]
        .join(".")
}

fn secrets() -> Wanted {
    let more = TOLD.into_iter().chain(["ACME\\Garvilon51"]).map(str::to_owned);
    let names = names().into_iter().chain(more);
    let mut texts = vec![PASSWORD.to_owned()];
    for name in names {
        let parts = name.split(['\\', '/', '@', ',']).filter(|part| !PARTS_OF_MANY.contains(part));
        texts.extend(parts.map(str::to_owned));
        texts.push(name);
    }
    for key in [KEY.trim().to_owned(), unlisted_key()] {
        texts.extend(key.split('.').map(str::to_owned));
        // A part that is cut short is a part still.
        texts.extend(key.as_bytes().chunks(24).map(|chunk| String::from_utf8(chunk.to_vec()).unwrap()));
        texts.push(key);
    }
    Wanted::new(texts)
}

/// Tells of people in every way a back end could.
fn answer(request: &str) -> Vec<u8> {
    let [other, rejected, mentioned] = TOLD;
    let asked: Vec<String> = names()
        .into_iter()
        .filter(|name| request.contains(json!(name).to_string().trim_matches('"')))
        .collect();
    let patch = |subject: &str, rejection: &str| {
        json!({"instance": "5382018630938057025", "version": 1, "license": LICENSE, "allotment": "analyzer",
            "subject": subject, "created": "2019-04-18T10:01:35.024Z", "rejection": rejection})
    };
    let mut patches = vec![
        patch(other, ""),
        patch(rejected, &format!("no unit left for {rejected}, {mentioned} has the last")),
    ];
    patches
        .extend(asked.iter().map(|name| patch(name, &format!("{name} ({}) has none", name.to_uppercase()))));
    let sync = json!({"bases": [{"license": LICENSE, "version": 1}], "patches": patches}).to_string();
    let people = format!("{other}, {rejected}, {mentioned}, {asked:?}, {KEY}");
    let reply = |status: &str, body: &str| {
        let headers =
            format!("X-Who: {}\r\nContent-Length: {}\r\nConnection: close", in_url(&people), body.len());
        format!("HTTP/1.1 {status}\r\n{headers}\r\n\r\n{body}").into_bytes()
    };
    match request.split(' ').nth(1).unwrap() {
        "/error" => {
            reply(&format!("500 {other} is unknown"), &json!({"errors": [{"title": people}]}).to_string())
        }
        "/garbage" => format!("{people}\r\n\r\n").into_bytes(),
        "/cut" => [&reply("200 OK", &people)[..40], people.as_bytes()].concat(),
        "/odd" => reply("200 OK", &json!({people.as_str(): {"x": [other]}}).to_string()),
        "/no-json" => reply("200 OK", &people),
        _ => reply("200 OK", &sync),
    }
}

/// Everything that carries a name or a key, as raw requests of one conversation each.
fn requests() -> Vec<String> {
    let mut requests = Vec::new();
    let mut send = |path: &str, body: Value| requests.push(post(path, &body.to_string()));
    let sync = |patches: Value| json!({"source": SOURCE, "bases": [{"license": LICENSE, "version": 0}], "patches": patches});
    let patch = |subject: &str| json!({"version": 0, "license": LICENSE, "allotment": "analyzer", "subject": subject});
    let with = |mut patch: Value, member: &str, value: &str| {
        patch[member] = value.into();
        patch
    };
    let all = names();
    for (some, path) in all.chunks(50).zip(["/v1/sync", "/error", "/garbage", "/cut", "/odd"].iter().cycle())
    {
        send(path, sync(some.iter().map(|name| patch(name)).collect()));
        let in_urls = some.iter().map(|name| in_url(name)).collect::<Vec<_>>().join("&");
        send(&format!("{path}?{in_urls}"), json!({"source": SOURCE, "who": some}));
    }
    for path in ["/v1/sync", "/error", "/garbage", "/cut", "/odd", "/no-json"] {
        send(path, sync(NAMES.map(patch).into_iter().collect()));
    }
    for name in NAMES {
        send(
            "/v1/sync",
            sync([name.to_uppercase(), name.to_lowercase()].iter().map(|name| patch(name)).collect()),
        );
        for member in ["instance", "created", "user", "deleted", "operation"] {
            send(
                "/v1/sync",
                sync(json!([with(patch("ACME\\x"), member, name), with(patch(name), member, name)])),
            );
        }
        send("/v1/any", json!({"source": SOURCE, "who": name, "more": [{"name": name}]}));
        send("/v1/any", json!({"source": SOURCE, "bases": name, "patches": {"subject": name}}));
        send(
            "/v1/capacity",
            json!([{"source": SOURCE, "id": name, "allotment": "analyzer_time", "month": name, "consumption": name}]),
        );
        if name.contains(['\\', '/', '@', '=']) {
            // A single word could be a word of the vendor's just as well.
            send("/v1/activation", json!({"signedLicenseKey": KEY.trim(), "cause": name}));
            send(&format!("/v1/users/{}", in_url(name)), json!({"source": SOURCE}));
            send(
                "/v1/sync",
                sync(json!([
                    with(patch("ACME\\x"), "rejection", name),
                    with(patch(name), "rejection", name)
                ])),
            );
            send("/v1/any", json!({"source": SOURCE, name: {name: name}, format!("{name}.x"): 1}));
            send(
                "/v1/sync",
                json!({"source": SOURCE, "metadata": {"source": name, "bases": [], "patches": [patch(name)]}}),
            );
        }
        send(&format!("/v1/any?user={}&{}", in_url(name), in_url(name)), json!({"source": SOURCE}));
    }
    for key in [KEY.trim(), &unlisted_key()] {
        send("/v1/activation", json!({"signedLicenseKey": key, "cause": "Initial"}));
        send("/v1/activation", json!({"signedLicenseKey": key, "cause": key}));
        send("/v1/any", json!({"source": SOURCE, "key": key, key: key}));
        send("/v1/any", json!({"source": key, "license": key}));
        send(
            "/v1/sync",
            json!({"source": SOURCE, "metadata": {"source": key, "bases": [], "patches": [patch(key)]}}),
        );
        send("/v1/sync", sync(json!([with(patch(key), "instance", key)])));
        send(&format!("/v1/keys/{key}?key={key}"), json!({"source": SOURCE}));
    }
    let head = |more: &str, body: &str| {
        format!("POST /v1/any HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len())
    };
    for name in NAMES.into_iter().filter(|name| !name.contains(char::is_control)) {
        let basic = BASE64_STANDARD.encode(format!("{name}:{PASSWORD}"));
        for field in [
            format!("X-User: {name}"),
            format!("Cookie: user={name}"),
            format!("Authorization: Basic {basic}"),
            format!("Proxy-Authorization: Basic {basic}"),
            format!("Referer: https://x/{name}"),
            format!("Content-Encoding: {name}"),
        ] {
            requests.push(head(&format!("{field}\r\n"), IDLE));
        }
        requests.push(head("", &format!("{{\"source\": \"{SOURCE}\", \"who\": {name} {KEY}")));
    }
    for key in [KEY.trim(), &unlisted_key()] {
        for field in
            [format!("Authorization: Bearer {key}"), format!("Authorization: {key}"), format!("X-Key: {key}")]
        {
            requests.push(head(&format!("{field}\r\n"), IDLE));
            requests.push(head(&format!("{field}\r\n"), ""));
        }
    }
    requests
}

/// What is said to the port itself: all of it is refused.
fn outside() -> Vec<String> {
    let key = KEY.trim();
    let basic = BASE64_STANDARD.encode(format!("{}:{PASSWORD}", NAMES[0]));
    vec![
        format!("CONNECT {PASSWORD}:{PASSWORD}@{HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n"),
        format!("CONNECT {PASSWORD}@ HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n"),
        format!(
            "CONNECT else.example:443 HTTP/1.1\r\nHost: else.example:443\r\nProxy-Authorization: Basic {basic}\r\n\r\n"
        ),
        format!("GET http://u:{PASSWORD}@{HOST}/v1?key={key} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("GET http://{HOST}/?key={key} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("GET /v1/{key}?key={key} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {key}\r\n\r\n"),
        format!("{key} / HTTP/1.1\r\nHost: {key}\r\n\r\n"),
    ]
}

fn nothing_is_left_behind(format: &str) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), answer);
    let mut relay = Plan::leading_to(&backend.address.to_string(), &backend.ca)
        .and(&format!("\n[log]\nformat = \"{format}\"\nlevel = \"trace\"\n"))
        .start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", relay.pid())).unwrap();
    let core: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max core")).unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "core dumps are possible");

    let mut answered = 0;
    let mut tls = Tls::new(&relay);
    for request in requests() {
        let reply = tls.ask(&request);
        answered += u32::from(reply.status() == 200);
        if reply.header("Connection").as_deref() == Some("close") {
            tls = Tls::new(&relay);
        }
    }
    assert!(answered > 300, "only {answered} requests reached the back end");
    for request in outside() {
        assert!(relay.raw(request.as_bytes()).starts_with(b"HTTP/1.1 4"), "{request}");
    }
    eventually("the refused are pending", || {
        fs::read_to_string(relay.path("audit/pending.json"))
            .ok()
            .filter(|pending| pending.contains("8888000000004242"))
    });
    assert!(relay.log_text().matches("hmac-sha256:").count() > 300, "subjects are not recorded at all");
    let mut shown: Vec<(String, String)> = ["/metrics", "/status", "/readyz", "/healthz"]
        .map(|path| (path.to_owned(), relay.admin(path).1))
        .into();
    assert!(shown[0].1.contains("license_relay_") && shown[1].1.contains("version"), "{shown:?}");
    assert!(relay.stop().success());
    shown.push(("stdout".into(), relay.stdout()));

    let secrets = secrets();
    assert!(
        secrets.found(SYNC.replace("bob", "quorlax0").as_bytes()).len() > 1,
        "the search finds nothing at all"
    );
    let mut found = Vec::new();
    for (name, text) in shown {
        found.extend(secrets.found(text.as_bytes()).into_iter().map(|what| format!("{what} on {name}")));
    }
    let configuration = [relay.path("relay.toml"), relay.path("sources.toml")];
    for file in files(relay.folder.path()).into_iter().filter(|file| !configuration.contains(file)) {
        let bytes = fs::read(&file).unwrap();
        let name = file.strip_prefix(relay.folder.path()).unwrap().display();
        found.extend(secrets.found(&bytes).into_iter().map(|what| format!("{what} in {name}")));
    }
    assert!(found.is_empty(), "{} found:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_name_and_no_key_is_left_behind_with_the_log_as_text() {
    nothing_is_left_behind("text");
}

#[test]
fn no_name_and_no_key_is_left_behind_with_the_log_as_json() {
    nothing_is_left_behind("json");
}

#[test]
fn a_password_in_a_target_is_told_to_nobody_however_it_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plain =
        "\n[[destination]]\nhost = \"lef1.qliktech.com\"\nmode = \"http\"\nconnect_to = \"127.0.0.1:9\"\n";
    let relay = Plan::new(&stub).and(plain).sources("[[source]]\nnetworks = [\"127.0.0.0/8\"]\n").start();
    let first = "GET http://lef1.qliktech.com/ HTTP/1.1\r\nHost: lef1.qliktech.com\r\n\r\n";
    for userinfo in [
        "qlik:s3cretPW",
        "qlik:s3cretPW/quorp",
        "qlik:s3cretPW?quorp",
        "qlik:s3cretPW#quorp",
        "qlik:s3cretPW/quorp/s3cretPW",
        "qlik:80/s3cretPW/quorp",
        "qlik:8042#s3cretPW",
        "s3cretPW",
    ] {
        let target = format!("http://{userinfo}@other.example/");
        let asked = format!("GET {target} HTTP/1.1\r\nHost: other.example\r\n\r\n");
        let alone = relay.raw(asked.as_bytes());
        let later = relay.raw([first, &asked].concat().as_bytes());
        for (when, answer) in [("first", alone), ("later", later)] {
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.contains("HTTP/1.1 4") && answer.contains("http_request_error"), "{answer}");
            for secret in ["s3cret", "8042", "quorp"] {
                assert!(!answer.contains(secret), "{secret} of {target} ({when}) is told: {answer}");
            }
        }
        relay.raw(format!("CONNECT {userinfo}@other.example:443 HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    }
    let named = relay.raw([first, &first.replace("lef1", "lef2")].concat().as_bytes());
    let named = String::from_utf8_lossy(&named).into_owned();
    assert!(named.contains("lef2.qliktech.com is not a listed host for plain http"), "{named}");
    let mut relay = relay;
    assert!(relay.stop().success());
    for (place, text) in [("the log", relay.stderr()), ("the audit log", relay.log_text())] {
        for secret in ["s3cret", ":8042", "quorp"] {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} is in {place}: {line:?}");
        }
    }
}

#[test]
fn what_is_made_on_disk_is_for_its_owner_alone_and_no_root_key_is_kept() {
    let (_stub, mut relay, _folder) = pair();
    assert_eq!(relay.post("/v1/sync", SYNC.replace(SOURCE, "stranger").as_str()).status, 503);
    eventually("a refusal is pending", || relay.path("audit/pending.json").exists().then_some(()));
    assert!(relay.stop().success());

    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in ["certs", "audit", "audit/segments"] {
        assert_eq!(mode(&relay.path(folder)), 0o700, "{folder}");
    }
    let public = ["root.pem", "issuer.pem"].map(|name| relay.path("certs/generations/1").join(name));
    for file in [files(&relay.path("certs")), files(&relay.path("audit"))].concat() {
        // Written once, and never to be written again.
        let done = file == relay.path("audit/log.json");
        let expected = if public.contains(&file) {
            0o644
        } else if done {
            0o400
        } else {
            0o600
        };
        assert_eq!(mode(&file), expected, "{}", file.display());
    }

    let of_root = CertificateDer::from_pem_file(relay.root()).unwrap();
    let keys = files(relay.folder.path()).into_iter().filter_map(|file| {
        let key = rcgen::KeyPair::from_pem(&fs::read_to_string(&file).ok()?).ok()?;
        let public = key.public_key_raw();
        assert!(
            !of_root.windows(public.len()).any(|window| window == public),
            "{} is the root's",
            file.display()
        );
        Some(file.strip_prefix(relay.folder.path()).unwrap().display().to_string())
    });
    let mut keys: Vec<_> = keys.collect();
    keys.sort();
    assert_eq!(keys, ["certs/generations/1/issuer.key", "certs/log.key"]);
    let armoured = files(relay.folder.path())
        .into_iter()
        .filter(|file| fs::read(file).unwrap().windows(11).any(|window| window == b"PRIVATE KEY"));
    assert_eq!(armoured.count(), keys.len(), "a private key that can't be read");
}
