//! What understanding and judging a request costs: `cargo bench --bench licensing`.
//!
//! Bytes a second and allocations of a sync of 1 KB, of 20 KB, and of a first sync of 5,000 people; of its JSON alone, beside
//! serde_json; and a decision of the allow-list with 10 and with 10,000 sources, which must be the same within noise.

use std::hint::black_box;
use std::net::IpAddr;

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher};
use http::{HeaderMap, Method, Uri};
use license_relay::config::file;
use license_relay::config::sources;
use license_relay::licensing::json;
use license_relay::licensing::message::Message;
use license_relay::licensing::vocabulary::Words;
use license_relay::policy::identity::ClientIdentity;
use license_relay::policy::{Policy, PolicyInput};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// The id of a source in lists and bodies.
fn id(n: usize) -> String {
    format!("{n:08x}-6d24-4595-915e-c52ce76f2195")
}

/// A sync with so many patches, each about 200 bytes as the guide writes them.
fn sync(patches: usize) -> Vec<u8> {
    let patch = |n: usize| {
        format!(
            r#"{{"instance":"","version":0,"license":"9999 0000 0000 1253","allotment":"analyzer","subject":"HEADQUARTERS-EUROPE\\firstname.lastname.department.{n:05}","created":"2019-04-18T10:01:35.{n:06}Z"}}"#
        )
    };
    let patches: Vec<String> = (0..patches).map(patch).collect();
    format!(
        r#"{{"source":"{}","bases":[{{"license":"9999 0000 0000 1253","version":17}}],"patches":[{}]}}"#,
        id(3),
        patches.join(",")
    )
    .into_bytes()
}

/// A policy with so many sources, each with an id, a license and a network.
fn policy(entries: usize) -> Policy {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("relay.toml");
    let text = "[limits]\nper_source = { requests = 4000000000, per = \"1h\", burst = 4000000000 }\n";
    std::fs::write(&path, text).expect("a file");
    let (config, _) = file::load(&path).expect("a configuration");
    let entry = |n: usize| {
        let (a, b) = (n / 256, n % 256);
        format!(
            "[[source]]\nid = \"{}\"\nlicenses = [\"{:016}\"]\n[[source]]\nnetworks = [\"10.{a}.{b}.0/24\"]\n",
            id(n),
            n
        )
    };
    let text: String = (0..entries / 2).map(entry).collect();
    let list = sources::parse(&text, &path).expect("a list");
    Policy::new(&config, list, None)
}

fn read(body: &[u8], words: &Words) -> Message {
    Message::read(&Method::POST, &Uri::from_static("/v1/any"), &HeaderMap::new(), body, words)
}

fn judge(policy: &Policy, message: &Message) -> bool {
    let asker = PolicyInput {
        understanding: message.understanding(),
        source: &message.source,
        licenses: &message.licenses,
        identity: &ClientIdentity::direct(IpAddr::from([192, 0, 2, 1])),
        activates: false,
        sourceless: false,
        records: 1,
    };
    policy.judge(asker, None).is_ok()
}

/// 5 patches are about 1 KB, 105 are 20 KB, 5,000 are 1 MB.
#[divan::bench(args = [5, 105, 5_000])]
fn recognise_and_check(bencher: Bencher<'_, '_>, patches: usize) {
    let (body, policy) = (sync(patches), policy(10));
    let words = Words::load(None).expect("a vocabulary");
    assert!(judge(&policy, &read(&body, &words)));
    bencher.counter(BytesCount::new(body.len())).bench(|| {
        let message = read(black_box(&body), &words);
        judge(&policy, &message)
    });
}

#[divan::bench(args = [5, 105, 5_000])]
fn read_json(bencher: Bencher<'_, '_>, patches: usize) {
    let body = sync(patches);
    assert!(json::read(&body).is_ok());
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| json::read(black_box(&body)).map(|reading| reading.odd));
}

/// Into a tree of its own as well, for comparison.
#[divan::bench(args = [5, 105, 5_000])]
fn read_json_with_serde(bencher: Bencher<'_, '_>, patches: usize) {
    let body = sync(patches);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| serde_json::from_slice::<serde_json::Value>(black_box(&body)).is_ok());
}

#[divan::bench(args = [10, 10_000])]
fn decide_by_id(bencher: Bencher<'_, '_>, entries: usize) {
    let (policy, words) = (policy(entries), Words::load(None).expect("a vocabulary"));
    let message = read(&sync(0), &words);
    assert!(judge(&policy, &message));
    bencher.bench(|| judge(&policy, black_box(&message)));
}

#[divan::bench(args = [10, 10_000])]
fn refuse_a_stranger(bencher: Bencher<'_, '_>, entries: usize) {
    let (policy, words) = (policy(entries), Words::load(None).expect("a vocabulary"));
    let body = String::from_utf8(sync(0)).expect("text").replace(&id(3), "nobody-knows-me");
    let message = read(body.as_bytes(), &words);
    assert!(!judge(&policy, &message));
    bencher.bench(|| judge(&policy, black_box(&message)));
}
