//! Bodies that are wrong on purpose: each is a record and an answer, none is a crash, and what is forwarded is what came.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::common::tls::Tls;
use crate::common::*;

/// What becomes of a body.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// Forwarded as it came, and recorded as not understood.
    Unread,
    /// Forwarded as it came, and understood.
    Understood,
    /// 503 with a record.
    Refused,
}

fn sync(more: &str) -> Vec<u8> {
    format!("{{\"source\":\"{SOURCE}\",\"bases\":[],\"patches\":[]{more}}}").into_bytes()
}

#[test]
fn a_bad_body_is_an_answer_and_a_record_and_never_a_crash() {
    use Fate::{Refused, Understood, Unread};
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    // Its network vouches for bodies whose id can't be read.
    let sources = format!("[[source]]\nid = \"{SOURCE}\"\n[[source]]\nnetworks = [\"127.0.0.0/8\"]\n");
    let mut relay = Plan::new(&stub).sources(&sources).start();
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let million: String = (0..1_000_000).map(|n| format!(",\"m{n}\":0")).collect();
    let key = "a".repeat(1 << 20);
    let cases: Vec<(&str, &str, Vec<u8>, Fate)> = vec![
        ("as deep as may be", "", sync(&format!(",\"list\":{}", nested(25))), Understood),
        ("deeper than the tree that is kept", "", sync(&format!(",\"list\":{}", nested(42))), Understood),
        ("100,000 levels", "", nested(100_000).into_bytes(), Unread),
        ("a million members", "", sync(&million), Unread),
        ("a lone surrogate", "", sync(r#","text":"\ud800""#), Understood),
        ("no UTF-8", "", [&b"{\"note\":\"\xff\xfe"[..], b"\"}"].concat(), Unread),
        ("NUL bytes", "", vec![0; 1000], Unread),
        ("a number of 400 digits", "", sync(&format!(",\"n\":{}", "9".repeat(400))), Understood),
        ("a number of 65 bits", "", sync(",\"n\":36893488147419103232"), Understood),
        ("a byte order mark", "", [b"\xef\xbb\xbf", &sync("")[..]].concat(), Understood),
        ("two values", "", [sync(""), sync("")].concat(), Refused),
        ("cut short", "", sync("")[..40].to_vec(), Unread),
        ("gzip", "gzip", gzip(&sync("")), Understood),
        ("gzip that is cut short", "gzip", gzip(&sync(""))[..30].to_vec(), Unread),
        ("a gzip bomb of 1 GiB", "gzip", gzip(&vec![b' '; 1 << 20]).repeat(1024), Unread),
        ("gzip that is none", "gzip", sync(""), Refused),
        ("gzip that is none and no JSON", "gzip", b"x".to_vec(), Unread),
        ("a coding that is not there", "br", sync(""), Refused),
        ("a coding that nobody registered", "utf-8", sync(""), Understood),
        (
            "a JWT of 1 MiB",
            "",
            format!("{{\"signedLicenseKey\":\"{key}.{key}.{key}\"}}").into_bytes(),
            Unread,
        ),
        ("an id of 10 KB", "", format!("{{\"source\":\"{}\"}}", "x".repeat(10_000)).into_bytes(), Refused),
        ("an id with a control character", "", br#"{"source":"a\u0000b"}"#.to_vec(), Refused),
        ("an id with a line feed", "", br#"{"source":"a\nb"}"#.to_vec(), Refused),
        ("an id that is a list", "", br#"{"source":["a","b"]}"#.to_vec(), Refused),
        ("two ids", "", br#"{"source":"a","Source":"b"}"#.to_vec(), Refused),
    ];
    let mut tls = Tls::new(&relay);
    for (what, coding, body, fate) in &cases {
        let (before, records) = (stub.requests().len(), relay.log().len());
        let begun = SystemTime::now();
        let coding =
            if coding.is_empty() { String::new() } else { format!("Content-Encoding: {coding}\r\n") };
        let head = format!(
            "POST /v1/any HTTP/1.1\r\nHost: {HOST}\r\n{coding}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let reply = tls.ask([head.as_bytes(), body].concat());
        let took = begun.elapsed().unwrap();
        assert!(took < Duration::from_secs(20), "{what} took {took:?}");
        let forwarded = stub.requests();
        if *fate == Refused {
            assert_eq!(reply.status(), 503, "{what}: {reply:?}");
            assert_eq!(forwarded.len(), before, "{what} was forwarded");
            let record = eventually(what, || relay.log().get(records).cloned());
            assert_eq!(record["event"]["action"], "access.invalid", "{what}: {record}");
            continue;
        }
        assert_ne!(reply.status(), 503, "{what}: {reply:?}");
        let last = forwarded.last().unwrap();
        let sent = STANDARD.decode(last["body_base64"].as_str().unwrap()).unwrap();
        assert!(sent == *body, "{what}: {} bytes came and {} went on", body.len(), sent.len());
        let log = relay.log();
        let actions: Vec<_> =
            log[records..].iter().map(|record| record["event"]["action"].as_str().unwrap()).collect();
        let unread = actions.first() == Some(&"license.unrecognised.request");
        assert_eq!(unread, *fate == Unread, "{what}: {actions:?}");
        for record in &log[records..] {
            assert!(record.to_string().len() < 5_000, "{what} fills the log");
        }
    }
    assert!(relay.is_running());
    let peak = relay.vital("VmHWM");
    assert!(peak < 600 * 1024, "{peak} KiB at the peak");
}
