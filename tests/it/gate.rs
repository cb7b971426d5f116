//! The gate holds however a change is written: nobody gets one past the allow-list or past the log by two readings of one
//! body, by what can't be read, or by what looks like something else.

use std::io::Write as _;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};
use serde_json::Value;

use crate::common::backend::Backend;
use crate::common::wire::*;
use crate::common::*;

/// A change asked for by somebody who is not listed, with room for one more member.
const MALLORY: &str = r#"{"source":"not-listed","bases":[{"license":"9999000000001253","version":17}],"patches":[{"instance":"","version":0,"license":"9999000000001253","allotment":"professional","subject":"ACME\\mallory","created":"2026-11-30T00:00:00Z"}]MORE}"#;

/// The list of changes of [`MALLORY`], as another deployment's.
const CHANGE: &str = r#"[{"instance":"5382018630938057027","version":18,"license":"9999000000001253","allotment":"professional","subject":"ACME\\mallory"}]"#;

/// One listed id, its license with it.
const LIST: &str = "[[source]]\nid = \"s1\"\nlicenses = [\"9999000000001253\"]\n";

/// What a request has, besides its method, its host and its length.
#[derive(Clone, Default)]
struct Asked {
    method: &'static str,
    target: String,
    fields: String,
    body: Vec<u8>,
}

impl Asked {
    fn body(body: impl Into<Vec<u8>>) -> Self {
        Self { method: "POST", target: "/v1/sync".into(), fields: String::new(), body: body.into() }
    }

    fn coded(coding: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::body(body).with(&format!("Content-Encoding: {coding}"))
    }

    fn with(mut self, field: &str) -> Self {
        self.fields += &format!("{field}\r\n");
        self
    }

    fn to(mut self, target: &str) -> Self {
        self.target = target.into();
        self
    }

    fn by(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { method, target, fields, body } = self;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}Content-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }
}

fn with(more: impl AsRef<[u8]>) -> Vec<u8> {
    let (before, after) = MALLORY.split_once("MORE").unwrap();
    [before.as_bytes(), more.as_ref(), after.as_bytes()].concat()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bare_deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The change as it is, and behind it somebody else's sync as bare RFC 1951 data.
fn change_and_deflate() -> Vec<u8> {
    let idle = br#"{"source":"s1","bases":[],"patches":[]}"#;
    [with("").as_slice(), &bare_deflate(idle)].concat()
}

fn nested(levels: usize) -> String {
    format!(",\"note\":{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// A license key of this license, of which nobody can check the signature.
fn key(license: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", part(r#"{"alg":"RS512"}"#), part(&format!(r#"{{"license":"{license}"}}"#)))
}

/// The one change written in every odd way that somebody has thought of: none of them may be let in.
fn oddly_written() -> Vec<(&'static str, Asked)> {
    let utf16: Vec<u8> =
        String::from_utf8(with("")).unwrap().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let listed_first =
        MALLORY.replace("\"not-listed\"", "\"s1\",\"source\":\"not-listed\"").replace("MORE", "");
    let listed_last =
        MALLORY.replace("\"not-listed\"", "\"not-listed\",\"source\":\"s1\"").replace("MORE", "");
    let in_key = |name: &str| MALLORY.replace("\"source\"", &format!("\"{name}\"")).replace("MORE", "");
    let long = format!(",\"note\":\"{}\"", "x".repeat(4 << 20));
    vec![
        ("as it is", Asked::body(with(""))),
        ("a byte that is no UTF-8 in a member that nobody reads", Asked::body(with(b",\"note\":\"\xff\""))),
        ("half a surrogate pair", Asked::body(with(r#","note":"\ud800""#))),
        ("the other half", Asked::body(with(r#","note":"\udc00\ud800""#))),
        ("br, and not compressed", Asked::coded("br", with(""))),
        ("a coding that nobody registered", Asked::coded("utf-8", with(""))),
        ("gzip, identity, x", Asked::coded("gzip, identity, x", gzip(&with("")))),
        ("gzip, identity, x, and not compressed", Asked::coded("gzip, identity, x", with(""))),
        ("gzip", Asked::coded("gzip", gzip(&with("")))),
        ("gzip twice", Asked::coded("gzip, gzip", gzip(&gzip(&with(""))))),
        ("gzip named twice", Asked::coded("gzip", gzip(&with(""))).with("Content-Encoding: gzip")),
        ("gzip without its end", Asked::coded("gzip", gzip(&with(""))[..80].to_vec())),
        ("gzip with something behind it", Asked::coded("gzip", [gzip(&with("")), b"x".to_vec()].concat())),
        ("two members of gzip", Asked::coded("gzip", [gzip(&with("")), gzip(&with(""))].concat())),
        ("deflate", Asked::coded("deflate", zlib(&with("")))),
        ("deflate without zlib's header", Asked::coded("deflate", bare_deflate(&with("")))),
        ("deflate behind the change as it is", Asked::coded("deflate", change_and_deflate())),
        ("compressed, and nobody says so", Asked::body(gzip(&with("")))),
        ("33 levels", Asked::body(with(nested(33)))),
        ("9,990 levels", Asked::body(with(nested(9_990)))),
        ("10,001 levels", Asked::body(with(nested(10_001)))),
        ("a million levels", Asked::body(with(nested(1_000_000)))),
        ("a byte order mark", Asked::body([b"\xef\xbb\xbf".to_vec(), with("")].concat())),
        ("UTF-16", Asked::body(utf16)),
        ("a listed id first", Asked::body(listed_first)),
        ("a listed id last", Asked::body(listed_last)),
        ("a listed id in capitals of the name", Asked::body(with(r#","SOURCE":"s1""#))),
        ("a listed id under a name with a long s", Asked::body(with(",\"\u{17f}ource\":\"s1\""))),
        ("a listed id under an escaped name", Asked::body(with(r#","\u0073ource":"s1""#))),
        ("a listed id that is null", Asked::body(with(r#","source":null"#))),
        ("its own id under a name in capitals", Asked::body(in_key("SOURCE"))),
        ("its own id under an escaped name", Asked::body(in_key(r"\u0073ource"))),
        ("a listed id at a lower place", Asked::body(with(r#","metadata":{"source":"s1"}"#))),
        ("a listed id in capitals", Asked::body(MALLORY.replace("not-listed", "S1").replace("MORE", ""))),
        (
            "a listed id, percent-encoded",
            Asked::body(MALLORY.replace("not-listed", "%73%31").replace("MORE", "")),
        ),
        ("a listed id in the target", Asked::body(with("")).to("/v1/sync?source=s1&sourceId=s1")),
        ("a listed id in the path", Asked::body(with("")).to("/v1/s1/sync")),
        ("a listed id in fields", Asked::body(with("")).with("X-Source: s1").with("Source: s1")),
        (
            "an id that the allow-list would take for the hash of another one",
            Asked::body(MALLORY.replace("not-listed", "sha256:s1").replace("MORE", "")),
        ),
        ("no id, and a listed license", Asked::body(in_key("nobody"))),
        (
            "an activation's cause beside it",
            Asked::body(in_key("nobody").replacen('{', r#"{"cause":"Initial","#, 1)),
        ),
        (
            "a key and a cause beside it",
            Asked::body(in_key("nobody").replacen(
                '{',
                &format!(r#"{{"cause":"Initial","signedLicenseKey":"{}","#, key(LICENSE)),
                1,
            )),
        ),
        (
            "an activation with a list of changes under another name",
            Asked::body(format!(
                r#"{{"cause":"Initial","signedLicenseKey":"{}","changes":{CHANGE}}}"#,
                key(LICENSE)
            )),
        ),
        (
            "an activation of another method",
            Asked::body(format!(r#"{{"cause":"Initial","signedLicenseKey":"{}"}}"#, key(LICENSE))).by("PUT"),
        ),
        (
            "an activation that says that it is a DELETE",
            Asked::body(format!(r#"{{"cause":"Initial","signedLicenseKey":"{}"}}"#, key(LICENSE)))
                .with("X-HTTP-Method-Override: DELETE"),
        ),
        (
            "an activation that says so in another spelling",
            Asked::body(format!(r#"{{"cause":"Initial","signedLicenseKey":"{}"}}"#, key(LICENSE)))
                .with("X_HTTP_Method_Override: DELETE"),
        ),
        (
            "an activation that says so in its target",
            Asked::body(format!(r#"{{"cause":"Initial","signedLicenseKey":"{}"}}"#, key(LICENSE)))
                .to("/v1/x?_HttpMethod=DELETE"),
        ),
        (
            "an activation that says so in a member",
            Asked::body(format!(
                r#"{{"cause":"Initial","_method":"DELETE","signedLicenseKey":"{}"}}"#,
                key(LICENSE)
            )),
        ),
        (
            "an activation with a change among its own members",
            Asked::body(format!(
                r#"{{"cause":"Initial","signedLicenseKey":"{}","subject":"ACME\mallory","allotment":"professional"}}"#,
                key(LICENSE)
            )),
        ),
        (
            "an activation with the mark of a change",
            Asked::body(format!(
                r#"{{"cause":"Initial","signedLicenseKey":"{}","user":"ACME\mallory","operation":"add"}}"#,
                key(LICENSE)
            )),
        ),
        (
            "an activation with a license that can't be read",
            Asked::body(format!(
                r#"{{"cause":"Initial","signedLicenseKey":"{}","license":"8888.0000.0000.1111"}}"#,
                key(LICENSE)
            )),
        ),
        (
            "an activation with another key in two lines",
            Asked::body(format!(
                r#"{{"cause":"Initial","signedLicenseKey":"{}
A","slk":"{}"}}"#,
                key("8888000000001111"),
                key(LICENSE)
            )),
        ),
        (
            "an activation with another key behind a tab",
            Asked::body(format!(r#"{{"cause":"Initial","signedLicenseKey":"{}"}}"#, key(LICENSE)))
                .with(&format!("Authorization: Bearer\t{}", key("8888000000001111"))),
        ),
        (
            "a definition that says that it is a POST",
            Asked::default()
                .by("GET")
                .to("/v1/definition")
                .with(&format!("Authorization: Bearer {}", key(LICENSE)))
                .with("X-HTTP-Method: POST"),
        ),
        (
            "a definition with a body that can't be read",
            Asked::body("{").by("GET").with(&format!("Authorization: Bearer {}", key(LICENSE))),
        ),
        (
            "a DELETE without a body, and a listed license",
            Asked::default().by("DELETE").to("/v1/x?license=9999000000001253"),
        ),
        ("more behind it", Asked::body([with(""), b"{\"source\":\"s1\"}".to_vec()].concat())),
        ("more in front of it", Asked::body([b"{\"source\":\"s1\"}".to_vec(), with("")].concat())),
        ("in a list", Asked::body([b"[".to_vec(), with(""), b"]".to_vec()].concat())),
        (
            "in a list beside a listed one",
            Asked::body([b"[{\"source\":\"s1\"},".to_vec(), with(""), b"]".to_vec()].concat()),
        ),
        ("in a member", Asked::body([b"{\"data\":".to_vec(), with(""), b"}".to_vec()].concat())),
        ("as text in a member", Asked::body(Value::from(String::from_utf8(with("")).unwrap()).to_string())),
        ("a comment", Asked::body([b"/* s1 */".to_vec(), with("")].concat())),
        ("a comma too many", Asked::body(with(","))),
        ("NaN", Asked::body(with(",\"note\":NaN"))),
        ("a number of 400 digits", Asked::body(with(format!(",\"note\":{}", "9".repeat(400))))),
        ("1e999", Asked::body(with(",\"note\":1e999"))),
        ("NUL behind it", Asked::body([with(""), b"\0".to_vec()].concat())),
        ("4 MiB of one string", Asked::body(with(long))),
        (
            "as a form",
            Asked::body("source=s1&data=x").with("Content-Type: application/x-www-form-urlencoded"),
        ),
        (
            "in parts",
            Asked::body([b"--x\r\n\r\n".to_vec(), with(""), b"\r\n--x--\r\n".to_vec()].concat())
                .with("Content-Type: multipart/mixed; boundary=x"),
        ),
    ]
}

fn told_nothing(_: &str) -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}".to_vec()
}

fn before(backend: &Backend, list: &str, more: &str) -> Relay {
    Plan::leading_to(&backend.address.to_string(), &backend.ca).sources(list).and(more).start()
}

#[test]
fn no_way_to_write_a_change_gets_it_past_the_allow_list() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), told_nothing);
    for settings in [
        "",
        "\n[licensing]\nunreadable = \"proven\"\nunrecognised = \"proven\"\n",
        "\n[licensing]\nunreadable = \"deny\"\nunrecognised = \"deny\"\n",
    ] {
        let relay = before(&backend, LIST, settings);
        for (how, asked) in oddly_written() {
            let answer = ask(&mut relay.inside(), asked.bytes());
            assert_eq!(answer.status, 503, "{how}, with {settings:?}: {answer:?}");
            answer.refuses_for_a_while(503, "http_request_denied");
        }
        // Whom it names is let in all the same.
        let listed = MALLORY.replace("not-listed", "s1").replace("MORE", "");
        assert_eq!(ask(&mut relay.inside(), Asked::body(listed).bytes()).status, 200, "{settings:?}");
    }
}

/// The reasons of refusals for which no setting and no entry is a remedy.
fn contradicts(reason: &str) -> bool {
    ["two ", "twice", "more than one", "begins as JSON", "behind"].iter().any(|word| reason.contains(word))
}

#[test]
fn no_way_to_write_a_change_gets_it_past_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), told_nothing);
    // All that comes from this machine is let in, so that nothing but a contradiction is refused.
    let relay = before(
        &backend,
        &format!("{LIST}\n[[source]]\nnetworks = [\"127.0.0.0/8\"]\n"),
        "\n[sources]\nunknown = \"observe\"\nunidentified = \"observe\"\n",
    );
    for (how, asked) in oddly_written() {
        let records = relay.log().len();
        let answer = ask(&mut relay.inside(), asked.bytes());
        let log = eventually(how, || {
            let log = relay.log();
            (log.len() > records).then(|| log[records..].to_vec())
        });
        let actions: Vec<&str> =
            log.iter().map(|record| record["event"]["action"].as_str().unwrap()).collect();
        if answer.status == 503 {
            let reason = answer.refuses(503, "http_request_denied").to_owned();
            assert!(contradicts(&reason), "{how}: {answer:?}");
            assert!(actions.contains(&"access.invalid"), "{how}: {actions:?}");
            continue;
        }
        assert_eq!(answer.status, 200, "{how}: {answer:?}");
        let has = |wanted: &[&str]| actions.iter().any(|action| wanted.contains(action));
        let whole = log.iter().any(|record| record["user"].is_object() || record["user"].is_array());
        let told = has(&["license.assignment.add"]) && whole
            || has(&["license.unrecognised.request", "license.activation.request"])
            || asked.method == "GET";
        assert!(told, "{how}: {log:?}");
    }
}

#[test]
fn a_cause_beside_a_change_does_not_walk_out_of_an_entrys_networks() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), told_nothing);
    let list = "[[source]]\nid = \"s1\"\nlicenses = [\"9999000000001253\"]\nnetworks = [\"127.0.0.2/32\"]\n";
    let relay = before(&backend, list, "");
    let change = MALLORY.replace("not-listed", "s1");
    let anonymous = MALLORY.replace("\"source\"", "\"nobody\"");
    let key = key(LICENSE);
    for more in [
        String::new(),
        r#","cause":"Initial""#.into(),
        format!(r#","cause":"Initial","signedLicenseKey":"{key}""#),
        format!(r#","cause":"Update","key":"{key}","licenseKey":"{key}""#),
    ] {
        for body in [&change, &anonymous] {
            let body = body.replace("MORE", &more);
            let asked = Asked::body(body.as_str()).with(&format!("Authorization: Bearer {key}")).bytes();
            let elsewhere = ask(&mut relay.inside_from("127.0.0.3", ""), &asked);
            assert_eq!(elsewhere.status, 503, "{body}: {elsewhere:?}");
        }
        let at_home = Asked::body(change.replace("MORE", &more)).bytes();
        assert_eq!(ask(&mut relay.inside_from("127.0.0.2", ""), at_home).status, 200, "{more}");
    }
    let activation = format!(r#"{{"cause":"Initial","signedLicenseKey":"{key}"}}"#);
    assert_eq!(
        ask(&mut relay.inside_from("127.0.0.3", ""), Asked::body(activation.as_str()).bytes()).status,
        200,
        "a license vouches for exactly an activation"
    );
}

/// What the log knows of the persons of a site's own reading and of the built-in one.
fn changes(relay: &Relay) -> Vec<(String, bool)> {
    let log = relay.log();
    let of = |record: &&Value| record["event"]["action"].as_str().unwrap().starts_with("license.assignment.");
    log.iter()
        .filter(of)
        .map(|record| {
            (
                record["event"]["action"].as_str().unwrap().to_owned(),
                record["qlik"]["other_reading"].is_object(),
            )
        })
        .collect()
}

#[test]
fn a_vocabulary_can_neither_hide_a_change_nor_lend_it_to_another_person() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), |_| {
        let body =
            format!(r#"{{"bases":[{{"license":"9999000000001253","version":18}}],"patches":{CHANGE}}}"#);
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    });
    let harmless = r#"
built_in = false
source = ["source"]
license = ["/bases/*/license"]
harmless = ["/patches", "/bases"]
[sync]
within = ["/"]
bases = ["bases"]
idle_without_patches = true
version = ["rev"]
license = ["license"]
patches = ["nothing-of-the-kind"]
subject = ["nobody"]
allotment = ["nothing"]
"#;
    let elsewhere = "[sync]\nsubject = [\"instance\"]\n";
    let deletes = "[[sync.marker]]\nmember = \"allotment\"\ndelete = [\"(any)\"]\nadd = []\n";
    let own_source = "source = [\"/bases/*/license\"]\n";
    let body = MALLORY.replace("not-listed", "s1").replace("MORE", "");
    let sent = |words: &str, body: &str| {
        let plan = Plan::leading_to(&backend.address.to_string(), &backend.ca).sources(LIST);
        let plan = plan.and("\n[licensing]\nvocabulary = \"words.toml\"\n");
        std::fs::write(plan.path("words.toml"), words).unwrap();
        let relay = plan.start();
        let answer = ask(&mut relay.inside(), Asked::body(body).bytes());
        (relay, answer.status)
    };
    for (what, words) in [
        ("everything is harmless", harmless),
        ("the subject is another member", elsewhere),
        ("each change is a delete", deletes),
    ] {
        let (relay, status) = sent(words, &body);
        assert_eq!(status, 200, "{what}");
        eventually(what, || {
            let changes = changes(&relay);
            // Asked and told; as the built-in vocabulary reads them.

            (changes.iter().filter(|(_, other)| *other).count() == 2).then_some(())
        });
        let told = relay.log();
        let told = told.iter().rfind(|record| record["qlik"]["other_reading"].is_object()).unwrap();
        assert_eq!(
            (told["qlik"]["direction"].as_str(), told["event"]["outcome"].as_str()),
            (Some("in"), Some("success")),
            "{what}: {told}"
        );
    }
    // A site's reading of who asks does not let in whom the built-in one names.
    let (_relay, status) = sent(own_source, &MALLORY.replace("MORE", ""));
    assert_eq!(status, 503);
    let (_relay, status) =
        sent(&harmless.replace("\"source\"", "\"/x\""), &MALLORY.replace("MORE", r#","x":"s1""#));
    assert_eq!(status, 503, "a member that the site reads as the id");
}

#[test]
fn a_vocabulary_can_call_nothing_harmless_that_changes_are_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), told_nothing);
    // The license is at home elsewhere; from here it vouches for exactly an activation.
    let list = "[[source]]\nid = \"s1\"\n\n[[source]]\nlicenses = [\"9999000000001253\"]\nnetworks = [\"10.0.0.0/8\"]\n";
    let activation = format!(r#"{{"cause":"Initial","signedLicenseKey":"{}""#, key(LICENSE));
    let change = r#""subject":"ACME\\mallory","allotment":"professional""#;
    let other_names = "built_in = false\nsource = [\"source\"]\nharmless = [\"patches\", \"bases\"]\n[activation]\ncause = \
        [\"cause\"]\n[sync]\nwithin = [\"/\"]\nbases = [\"b\"]\npatches = [\"p\"]\nsubject = [\"s\"]\nallotment = [\"a\"]\n\
        license = [\"l\"]\nversion = [\"v\"]\n";
    let other_names = other_names.replacen("[activation]", "key = [\"signedLicenseKey\"]\n[activation]", 1);
    let many = vec![r#"{"subject":"a","allotment":"b"}"#; 50_001].join(",");
    let with_words = |words: &str| {
        let plan = Plan::leading_to(&backend.address.to_string(), &backend.ca).sources(list);
        let plan = plan.and("\n[licensing]\nvocabulary = \"words.toml\"\n");
        std::fs::write(plan.path("words.toml"), words).unwrap();
        plan.start()
    };
    for (words, body) in [
        ("harmless = [\"patches\"]\n", format!("{activation},\"patches\":{CHANGE}}}")),
        ("harmless = [\"more\"]\n", format!("{activation},\"more\":{{\"patches\":{CHANGE}}}}}")),
        (other_names.as_str(), format!("{activation},{change}}}")),
        (other_names.as_str(), format!("{activation},\"bases\":[],\"patches\":[{many}]}}")),
    ] {
        let relay = with_words(words);
        let shown: String = body.chars().take(300).collect();
        let answer = ask(&mut relay.inside(), Asked::body(body).bytes());
        assert_eq!(answer.status, 503, "{words}{shown}: {answer:?}");
        // The same activation without it is one.
        assert_eq!(
            ask(&mut relay.inside(), Asked::body(format!("{activation}}}")).bytes()).status,
            200,
            "{words}"
        );
    }
    // A listed deployment may send such a thing, and it is no idle sync.
    let relay = with_words("harmless = [\"/metadata\"]\n");
    let idle = r#"{"source":"s1","bases":[{"license":"9999000000001253","version":17}],"patches":[]MORE}"#;
    for more in [format!(r#","metadata":{{"x":{{"patches":{CHANGE}}}}}"#), format!(",{change}")] {
        let records = relay.log().len();
        let body = idle.replace("MORE", &more);
        assert_eq!(ask(&mut relay.inside(), Asked::body(body.as_str()).bytes()).status, 200, "{body}");
        let log = relay.log();
        let request =
            log[records..].iter().find(|record| record["event"]["action"] == "license.sync.request");
        assert!(
            request.is_some_and(|record| record["qlik"]["shape"].is_string()),
            "{body}: {:?}",
            &log[records..]
        );
    }
}

#[test]
fn a_change_whose_license_can_not_be_read_is_under_no_license_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), told_nothing);
    let relay = before(&backend, LIST, "");
    let listed = MALLORY.replace("not-listed", "s1").replace("MORE", "");
    for license in [r#""9999.0000.0000.2468""#, r#""9999000000002468\t""#, "true", "-9999000000002468"] {
        let (before, after) = listed.rsplit_once(r#""9999000000001253""#).unwrap();
        let records = relay.log().len();
        let answer = ask(&mut relay.inside(), Asked::body(format!("{before}{license}{after}")).bytes());
        assert_eq!(answer.status, 200, "{license}: {answer:?}");
        let log = relay.log();
        let change = log[records..].iter().find(|record| record["user"].is_object()).unwrap();
        assert_eq!(change["event"]["action"], "license.assignment.unknown", "{license}: {change}");
        assert!(change["qlik"]["license"].is_null(), "{license}: {change}");
        assert!(change["qlik"]["lenient"].to_string().contains("license that can't be read"), "{change}");
    }
    let many: Vec<String> =
        (0..16).map(|n| format!(r#"{{"license":"88880000{n:04}","version":1}}"#)).collect();
    let body = listed.replacen(r#""bases":["#, &format!(r#""bases":[{},"#, many.join(",")), 1);
    let answer = ask(&mut relay.inside(), Asked::body(body).bytes());
    assert!(answer.refuses(503, "http_request_denied").contains("more than 16 licenses"), "{answer:?}");
}

#[test]
fn a_site_that_observes_who_names_nobody_lets_in_nobody_it_can_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), told_nothing);
    let observes = |unknown: &str| {
        before(&backend, LIST, &format!("\n[sources]\nunknown = \"{unknown}\"\nunidentified = \"observe\"\n"))
    };
    let (some, all) = (observes("deny"), observes("observe"));
    let coded = || Asked::coded("zstd", zstd::encode_all(with("").as_slice(), 1).unwrap()).bytes();
    for (how, bytes) in [("as it is", Asked::body(with("")).bytes()), ("coded", coded())] {
        assert_eq!(ask(&mut some.inside(), &bytes).status, 503, "{how}");
        assert_eq!(ask(&mut all.inside(), &bytes).status, 200, "{how}");
    }
    let nobody = Asked::body(MALLORY.replace("\"source\"", "\"nobody\"").replace("MORE", "")).bytes();
    assert_eq!(ask(&mut some.inside(), nobody).status, 200);
}

#[test]
fn what_any_reply_tells_is_recorded_and_what_can_not_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    // The target of the request says what to answer.
    let backend = Backend::start(folder.path(), |request| {
        let target = request.split(' ').nth(1).unwrap();
        let body =
            format!(r#"{{"bases":[{{"license":"9999000000001253","version":18}}],"patches":{CHANGE}}}"#);
        let (status, fields, body) = match target {
            "/plain" => ("200 OK", "Content-Type: application/json", body.into_bytes()),
            "/untyped" => ("200 OK", "Content-Type: text/plain", body.into_bytes()),
            "/error" => ("409 Conflict", "Content-Type: application/json", body.into_bytes()),
            "/gzip" => ("200 OK", "Content-Encoding: gzip", gzip(body.as_bytes())),
            "/deflate" => ("200 OK", "Content-Encoding: deflate", zlib(body.as_bytes())),
            "/unregistered" => ("200 OK", "Content-Encoding: x", body.into_bytes()),
            "/bare-deflate" => ("200 OK", "Content-Encoding: deflate", bare_deflate(body.as_bytes())),
            "/br" => ("200 OK", "Content-Encoding: br", b"\x0b\x02\x80{}\x03".to_vec()),
            "/zstd" => ("200 OK", "Content-Encoding: zstd", zstd::encode_all(body.as_bytes(), 1).unwrap()),
            "/twice" => ("200 OK", "Content-Encoding: gzip, gzip", gzip(&gzip(body.as_bytes()))),
            "/cut" => ("200 OK", "Content-Encoding: gzip", gzip(body.as_bytes())[..60].to_vec()),
            "/range" => ("206 Partial Content", "Content-Range: bytes 0-9/99", body.into_bytes()),
            "/behind" => ("200 OK", "Content-Type: text/plain", [body.as_bytes(), b"{}"].concat()),
            "/doubled" => (
                "400 Bad Request",
                "Content-Type: text/plain",
                body.replacen('{', r#"{"patches":[],"#, 1).into_bytes(),
            ),
            _ => ("200 OK", "Content-Type: application/json", vec![b' '; 65 << 20]),
        };
        let head = format!("HTTP/1.1 {status}\r\n{fields}\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), &body].concat()
    });
    let relay = before(&backend, &format!("{LIST}\n[[source]]\nnetworks = [\"127.0.0.0/8\"]\n"), "");
    for target in ["/plain", "/untyped", "/error", "/gzip", "/deflate", "/unregistered"] {
        let records = relay.log().len();
        let asked = Asked::default().by("GET").to(target).bytes();
        ask(&mut relay.inside(), asked);
        let told = eventually(target, || {
            let log = relay.log();
            log[records..]
                .iter()
                .find(|record| record["event"]["action"] == "license.assignment.add")
                .cloned()
        });
        assert_eq!(told["qlik"]["direction"], "in", "{target}: {told}");
        let sure = if target == "/error" { "unknown" } else { "success" };
        assert_eq!(told["event"]["outcome"], sure, "{target}: {told}");
    }
    for target in
        ["/bare-deflate", "/br", "/zstd", "/twice", "/cut", "/range", "/behind", "/doubled", "/too-large"]
    {
        let records = relay.log().len();
        ask(&mut relay.inside(), Asked::default().by("GET").to(target).bytes());
        eventually(target, || {
            let log = relay.log();
            log[records..]
                .iter()
                .find(|record| record["event"]["action"] == "license.unrecognised.response")
                .map(|_| ())
        });
    }
    let (_, metrics) = relay.admin("/metrics");
    assert!(metrics.contains("license_relay_replies_unread_total 9\n"), "{metrics}");
    // Whoever reads the log later is told of them.
    let gaps = all_said(&relay.verb(&["audit", "gaps"]));
    assert!(gaps.contains("NOT UNDERSTOOD: 9 exchanges"), "{gaps}");
}

#[test]
fn what_a_client_accepts_is_passed_on_as_it_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), |request| {
        let head = request.split("\r\n\r\n").next().unwrap();
        let accept: Vec<&str> =
            head.lines().filter(|line| line.to_lowercase().starts_with("accept-encoding")).collect();
        let body = accept.join("|");
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    });
    let relay = before(&backend, LIST, "");
    for accepted in ["accept-encoding: gzip", "Accept-Encoding: br;q=1.0, zstd , *;q=0", "ACCEPT-ENCODING: "]
    {
        let body = MALLORY.replace("not-listed", "s1").replace("MORE", "");
        let answer = ask(&mut relay.inside(), Asked::body(body).with(accepted).bytes());
        assert_eq!(String::from_utf8_lossy(&answer.body).trim(), accepted.trim(), "{accepted}");
    }
    let body = MALLORY.replace("not-listed", "s1").replace("MORE", "");
    assert_eq!(
        ask(&mut relay.inside(), Asked::body(body).bytes()).body,
        b"",
        "nothing is asked for that was not"
    );
}

#[test]
fn a_string_of_64_megabytes_is_judged_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), told_nothing);
    let plan = Plan::leading_to(&backend.address.to_string(), &backend.ca).sources(LIST);
    let listed = MALLORY.replace("not-listed", "s1").replace("MORE", "");
    let string = "x".repeat(64 << 20);
    // More than limits.max_body is refused as soon as it is announced.
    let mut relay = plan.start();
    let head =
        format!("POST /v1/sync HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n", string.len() + 2);
    let answer = ask(&mut relay.inside(), head);
    assert!(answer.refuses(503, "http_request_error").contains("limits.max_body"), "{answer:?}");
    assert_eq!(ask(&mut relay.inside(), Asked::body(listed.as_str()).bytes()).status, 200);
    // Where a site has allowed for it, it is read.
    assert!(relay.stop().success());
    let relay = relay.into_plan().with("[limits]", "[limits]\nmax_body = 67200000").start();
    let note = format!(",\"note\":\"{string}\"");
    for (body, status) in [
        (format!("\"{string}\"").into_bytes(), 503),
        (with(&note), 503),
        (MALLORY.replace("not-listed", "s1").replace("MORE", &note).into_bytes(), 200),
    ] {
        assert_eq!(ask(&mut relay.inside(), Asked::body(body).bytes()).status, status);
    }
}

#[test]
fn what_can_not_be_read_is_let_in_by_the_number_of_its_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), told_nothing);
    let relay = before(&backend, LIST, "");
    for (what, body) in [("unreadable", "{"), ("unrecognised", "{\"what\":[1]}")] {
        let asked = |from: &str| ask(&mut relay.inside_from(from, ""), Asked::body(body).bytes());
        let home = if what == "unreadable" { "127.0.5.1" } else { "127.0.5.2" };
        let number = number_in(asked(home).refuses(503, "http_request_denied"));
        let network = format!("{home}/32");
        ended(&relay.verb(&["sources", "allow", &number]), 64, "--network");
        ended(&relay.verb(&["sources", "allow", &number, "--network", &network]), 0, "added");
        eventually(what, || (asked(home).status == 200).then_some(()));
        assert_eq!(asked("127.0.5.3").status, 503, "{what}");
        ended(&relay.verb(&["sources", "deny", "--network", &network]), 0, "took out the entry");
    }
    let list = std::fs::read_to_string(relay.path("sources.toml")).unwrap();
    assert!(list.starts_with(LIST.trim_end()), "the entry that has an id is as it was: {list}");
}
