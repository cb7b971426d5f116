//! How tests look into the stub and steer it: the control address, plain HTTP on loopback, and the paths
//! under `/stub/`, asked for where the license back end is, through the relay, for a reply of one's choice.
//! `?close` behind any path closes the connection after the reply.

use std::io;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::json;
use tokio::net::TcpStream;

use super::ANOTHER_DEPLOYMENT;
use super::wire::{Connection, Framing, Reply, Request};
use super::{Record, Shared, State};

/// Serves one connection to the control address.
pub(super) async fn serve(shared: &Shared, socket: TcpStream) -> io::Result<()> {
    let mut connection = Connection::new(socket);
    while connection.ready(shared.keep_alive).await {
        let (reply, keep) = match connection.read().await {
            Ok(request) => (shared.with(|state| answer(state, &request)), request.keep),
            Err(bad) => (Reply::error(400, &bad.fault.to_string()), false),
        };
        connection.write(&reply.render(false, keep)).await?;
        if !keep {
            break;
        }
    }
    connection.close().await
}

fn answer(state: &mut State, request: &Request) -> Reply {
    let text = String::from_utf8_lossy(&request.body);
    match (request.method.as_str(), request.path()) {
        ("GET", "/counters") => Reply::json(200, &state.counters()),
        ("GET", "/requests") => Reply::json(200, &state.records.iter().map(printed).collect::<Vec<_>>()),
        ("POST", "/trouble") => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            match lines.map(str::parse).collect() {
                Ok(trouble) => state.trouble = trouble,
                Err(e) => return Reply::error(400, &e.to_string()),
            }
            Reply::new(204, "text/plain", "")
        }
        ("DELETE", "/trouble") => {
            state.trouble.clear();
            Reply::new(204, "text/plain", "")
        }
        ("POST", "/assign") => match serde_json::from_slice(&request.body) {
            Ok(patch) => Reply::json(200, &state.licensing.assign(ANOTHER_DEPLOYMENT, patch)),
            Err(e) => Reply::error(400, &e.to_string()),
        },
        _ => Reply::error(404, "GET /counters, GET /requests, POST or DELETE /trouble, POST /assign"),
    }
}

/// A record as a test reads it: the head in Latin-1, so that every byte is one character.
fn printed(record: &Record) -> serde_json::Value {
    json!({
        "n": record.number,
        "connection": record.connection,
        "head": record.head.iter().map(|byte| char::from(*byte)).collect::<String>(),
        "body_base64": BASE64_STANDARD.encode(&record.body),
        "body_len": record.body.len(),
        "kind": record.kind,
        "bad": record.bad,
    })
}

/// Replies to a path under `/stub/`.
pub(super) fn helper(request: &Request) -> Reply {
    let number = |name, most: usize| {
        request.query(name).and_then(|value| value.parse().ok()).unwrap_or(0usize).min(most)
    };
    let text = |body: Vec<u8>| Reply::new(200, "text/plain", body);
    match request.path() {
        "/stub/echo" => Reply {
            // Repeated names, odd case, no order: all of it must arrive as it is here.
            headers: vec![
                ("zULU", "1"),
                ("Set-Cookie", "a=1; Path=/"),
                ("X-ALPHA", "two  spaces, \"quotes\""),
                ("set-cookie", "b=2"),
                ("Content-Type", "application/octet-stream"),
                ("x-beta", ""),
                ("ETag", "\"odd\""),
            ],
            ..text([&request.head[..], &request.body[..]].concat())
        },
        "/stub/status" => match number("code", 1000) {
            code @ 200..600 => Reply::json(code as u16, &json!({"status": code})),
            _ => Reply::error(400, "code is not from 200 to 599"),
        },
        "/stub/big" => text(vec![b'x'; number("bytes", MAX_BIG)]),
        "/stub/slow" => {
            Reply { wait: Duration::from_millis(number("ms", MAX_SLOW) as u64), ..text(b"slow\n".to_vec()) }
        }
        "/stub/chunked" => Reply {
            framing: Framing::Chunks(CHUNK.len()),
            ..text(CHUNK.repeat(number("n", MAX_BIG / CHUNK.len())))
        },
        "/stub/until-close" => Reply { framing: Framing::UntilClose, ..text(b"until close\n".to_vec()) },
        "/stub/gzip" => Reply {
            headers: vec![("Content-Type", "text/plain"), ("Content-Encoding", "gzip")],
            ..text(GZIP.to_vec())
        },
        "/stub/early-hints" => Reply {
            preface: "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
            ..text(b"after early hints\n".to_vec())
        },
        "/stub/reply" => Reply { framing: Framing::Verbatim, ..text(request.body.to_vec()) },
        _ => Reply::error(404, "no such path of the stub"),
    }
}

const MAX_BIG: usize = 64 * 1024 * 1024;
/// Ten minutes.
const MAX_SLOW: usize = 600_000;
const CHUNK: &[u8] = b"a chunk\n";
/// `license-relay stub` and a newline, by gzip -n9.
const GZIP: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\xc9LN\xcd+N\xd5-J\xcdI\xacT(.)M\xe2\x02\x00\
    \xc86\"w\x13\x00\x00\x00";
