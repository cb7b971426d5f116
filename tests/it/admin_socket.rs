//! Verbs ask the running relay over its admin socket: a verb that ends with 0 has done what it says there, and one that
//! can't have it done, or can't know, says so.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use license_relay::bounds;
use serde_json::Value;

use crate::common::wire::*;
use crate::common::*;

const OTHER: &str = "22222222-3333-4444-5555-666666666666";
const SOCKET: &str = "audit/admin.sock";

fn sync(inside: &mut Inside, id: &str) -> u16 {
    ask(inside, post("/v1/sync", &IDLE.replace(SOURCE, id))).status
}

/// A relay that lets two deployments in, with a users file of its own.
fn relay_and_stub() -> (Relay, Stub, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    (plan(&stub).start(), stub, folder)
}

fn plan(stub: &Stub) -> Plan {
    let list = format!("[[source]]\nid = \"{SOURCE}\"\n[[source]]\nid = \"{OTHER}\"\n");
    Plan::new(stub).with("[listen]", "[listen]\nusers = \"users\"").sources(&list)
}

fn write_users(relay: &Relay, text: &str) {
    let path = relay.path("users");
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// Status and body of a request to a socket.
fn over(socket: &Path, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").unwrap();
    parsed(&mut stream)
}

fn parsed(stream: &mut impl Read) -> (u16, String) {
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn generation(relay: &Relay) -> u64 {
    let status: Value = serde_json::from_str(&relay.admin("/status").1).unwrap();
    status["configuration"]["generation"].as_u64().unwrap()
}

#[test]
fn what_a_verb_did_is_so_for_the_very_next_request() {
    let (relay, _stub, _folder) = relay_and_stub();
    let mut kept = relay.inside();
    for _ in 0..3 {
        assert_eq!((sync(&mut kept, OTHER), sync(&mut kept, SOURCE)), (200, 200));
        let denied = relay.verb(&["sources", "deny", OTHER]);
        assert_eq!((sync(&mut kept, OTHER), sync(&mut relay.inside(), OTHER)), (503, 503));
        ended(&denied, 0, &format!("in force since generation {}\n", generation(&relay)));
        let allowed = relay.verb(&["sources", "allow", OTHER]);
        assert_eq!(sync(&mut relay.inside(), OTHER), 200);
        ended(&allowed, 0, &format!("in force since generation {}\n", generation(&relay)));
        kept = relay.inside();
    }
    assert!(relay.stderr().contains("asks for a reload over the admin socket"), "{}", relay.stderr());
}

#[test]
fn users_are_in_force_once_the_verb_has_ended() {
    let (relay, _stub, _folder) = relay_and_stub();
    let user = |word: &str| {
        let mut verb = program();
        verb.arg("--config").arg(relay.path("relay.toml")).args(["sources", "user", word, "ann"]);
        let mut child = verb.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "secret").unwrap();
        child.wait_with_output().unwrap()
    };
    let proxy = || {
        let asked = relay.curl(&["--proxy-user", "ann:secret", &format!("https://{HOST}/")]);
        asked.connect
    };
    ended(&user("add"), 0, "in force since generation 2");
    assert_eq!(proxy(), 200);
    ended(&user("remove"), 0, "in force since generation 3");
    assert_eq!(proxy(), 407);
}

#[test]
fn a_verb_that_finds_nothing_to_change_asks_as_well() {
    let (relay, _stub, _folder) = relay_and_stub();
    let refused = ask(&mut relay.inside(), post("/v1/sync", &IDLE.replace(SOURCE, "stranger-1")));
    let number = number_in(&refused.reason);
    // While the relay stands still, it notices no change by itself, and forgets no number.
    relay.signal("STOP");
    let list = fs::read_to_string(relay.path("sources.toml")).unwrap();
    fs::write(relay.path("sources.toml"), format!("{list}[[source]]\nid = \"stranger-1\"\n")).unwrap();
    let mut allow = program();
    allow.arg("--config").arg(relay.path("relay.toml")).args(["sources", "allow", &number]);
    let mut allow = allow.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(allow.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.next().unwrap().ends_with("; nothing was written"));
    relay.signal("CONT");
    assert_eq!(said.next().unwrap(), "in force since generation 2");
    assert!(allow.wait().unwrap().success());
    assert_eq!(sync(&mut relay.inside(), "stranger-1"), 200);
}

#[test]
fn the_generation_that_is_told_is_the_one_that_a_file_came_into_force_with() {
    let (relay, _stub, _folder) = relay_and_stub();
    ended(&relay.verb(&["sources", "deny", OTHER]), 0, "in force since generation 2");
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    fs::write(relay.path("relay.toml"), config + "# more\n").unwrap();
    write_users(&relay, "nonsense\n");
    let answer = relay.verb(&["reload", "--json"]);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let since = |part: &str| {
        let parts = answer["parts"].as_array().unwrap();
        parts.iter().find(|row| row["part"] == part).unwrap()["since_generation"].as_u64().unwrap()
    };
    assert_eq!(answer["configuration"]["generation"], 3);
    assert_eq!((since("configuration"), since("allow-list"), since("list of users")), (3, 2, 1));
}

#[test]
fn one_bad_file_is_told_and_only_the_verb_that_wrote_it_fails() {
    let (relay, _stub, _folder) = relay_and_stub();
    let mut inside = relay.inside();
    assert_eq!(sync(&mut inside, OTHER), 200);
    write_users(&relay, "nonsense\n");
    let denied = relay.verb(&["sources", "deny", OTHER]);
    assert_eq!(sync(&mut inside, OTHER), 503);
    ended(&denied, 0, "in force since generation 2");
    let said = String::from_utf8_lossy(&denied.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("warning: list of users: what is in force is not what the files say, since "),
        "{said}"
    );
    assert!(said.contains("users: line 1"), "{said}");

    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    fs::write(relay.path("relay.toml"), format!("{config}\n[log]\nformat = \"json\"\n")).unwrap();
    let mut add = program();
    add.arg("--config").arg(relay.path("relay.toml")).args(["sources", "user", "add", "ann"]);
    fs::write(relay.path("password"), "secret\n").unwrap();
    let added = add.stdin(fs::File::open(relay.path("password")).unwrap()).output().unwrap();
    ended(&added, 78, "it is written, but not in force: ");
    let said = all_said(&added);
    assert!(said.contains("users: line 1") && said.contains("then run license-relay reload"), "{said}");
    assert!(said.contains("warning: configuration: what is in force is not what the files say"), "{said}");
    assert!(!said.contains("in force since"), "{said}");
}

#[test]
fn a_list_that_the_running_relay_does_not_use_is_not_in_force() {
    let (relay, _stub, _folder) = relay_and_stub();
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    // The log's name needs a restart, so nothing of this file is taken.
    let other = config.replace("[audit]", "[sources]\nfile = \"others.toml\"\n[audit]\norigin = \"another\"");
    fs::write(relay.path("relay.toml"), other).unwrap();
    let allowed = relay.verb(&["sources", "allow", "somebody"]);
    ended(&allowed, 78, "it is written, but not in force: the running relay has its allow-list from ");
    let said = all_said(&allowed);
    assert!(said.contains("sources.toml") && said.contains("audit.origin"), "{said}");
    assert_eq!(generation(&relay), 1);
}

#[test]
fn without_a_relay_a_verb_says_when_it_takes_effect() {
    let (mut relay, _stub, _folder) = relay_and_stub();
    assert!(relay.stop().success());
    assert!(!relay.path(SOCKET).exists(), "the socket is left");
    ended(&relay.verb(&["sources", "deny", OTHER]), 0, "it takes effect at the next start");
    ended(&relay.verb(&["reload"]), 74, "there is none to ask");
    // A folder that no relay has ever used.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("relay.toml"), "").unwrap();
    let mut first = program();
    first.arg("--config").arg(folder.path().join("relay.toml")).args(["sources", "allow", "somebody"]);
    ended(&run(&mut first), 0, "it takes effect at the next start");
    assert!(!folder.path().join("../var/audit").exists());
}

#[test]
fn a_socket_that_a_crash_left_is_nobody_and_is_replaced() {
    let (mut relay, _stub, _folder) = relay_and_stub();
    relay.signal("KILL");
    relay.wait();
    assert!(fs::symlink_metadata(relay.path(SOCKET)).unwrap().file_type().is_socket());
    ended(&relay.verb(&["sources", "deny", OTHER]), 0, "it takes effect at the next start");
    let relay = relay.again();
    ended(&relay.verb(&["sources", "allow", OTHER]), 0, "in force since generation 2");
    assert_eq!(sync(&mut relay.inside(), OTHER), 200);
}

#[test]
fn the_socket_is_for_owner_and_group_and_needs_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = plan(&stub).with("[admin]", "[admin]\nsocket = \"s.sock\"\ntoken_file = \"token\"");
    fs::write(plan.path("token"), "0123456789abcdef\n").unwrap();
    fs::set_permissions(plan.path("token"), Permissions::from_mode(0o600)).unwrap();
    let relay = plan.start();
    let socket = relay.path("s.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o7777, 0o660);
    assert!(!relay.path(SOCKET).exists());
    assert_eq!(relay.admin("/status").0, 401);
    let (status, said) = over(&socket, "GET /status");
    assert!(status == 200 && said.contains("\"generation\": 1"), "{status} {said}");
    assert_eq!(over(&socket, "GET /readyz"), (200, "ready\n".into()));
    assert_eq!(over(&socket, "GET /reload").0, 404);
    assert_eq!(over(&socket, "POST /status").0, 405);
    assert_eq!(over(&socket, "DELETE /reload").0, 405);
    ended(&relay.verb(&["sources", "deny", OTHER]), 0, "in force since generation 2");
}

#[test]
fn a_socket_in_the_folder_that_systemd_makes_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let runtime = tempfile::tempdir().unwrap();
    let mut env = tool("env", "coreutils");
    env.arg(format!("RUNTIME_DIRECTORY={}:/nowhere", runtime.path().display()));
    let relay = plan(&stub).start_under(env);
    assert!(runtime.path().join("admin.sock").exists() && !relay.path(SOCKET).exists());
    let mut verb = program();
    verb.arg("--config").arg(relay.path("relay.toml")).args(["sources", "deny", OTHER]);
    ended(&run(verb.env("RUNTIME_DIRECTORY", runtime.path())), 0, "in force since generation 2");
    // Nothing leads to it from elsewhere; but there is a relay, and that is told.
    let allowed = relay.verb(&["sources", "allow", OTHER]);
    ended(&allowed, 74, "it is written, but whether it is in force is not known");
    let beside_log = format!("has no admin socket at {}", relay.path(SOCKET).display());
    assert!(all_said(&allowed).contains(&beside_log), "{}", all_said(&allowed));
}

#[test]
fn the_admin_address_takes_no_reloads() {
    let (relay, _stub, _folder) = relay_and_stub();
    for request in ["POST /reload", "PUT /reload", "POST /status"] {
        let mut stream = TcpStream::connect(relay.admin).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: relay\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(parsed(&mut stream).0, 405, "{request}");
    }
    assert!(!relay.stderr().contains("asks for a reload"));
}

#[test]
fn each_of_two_relays_is_asked_about_its_own_log() {
    let (one, stub, _folder) = relay_and_stub();
    let other = plan(&stub).start();
    ended(&one.verb(&["sources", "deny", OTHER]), 0, "in force since generation 2");
    assert_eq!((generation(&one), generation(&other)), (2, 1));

    // A relay that has gone, and whose configuration names the socket of one that runs.
    let mut gone =
        plan(&stub).with("[admin]", &format!("[admin]\nsocket = \"{}\"", one.path(SOCKET).display()));
    gone.sources = format!("[[source]]\nid = \"{OTHER}\"\n");
    gone.write();
    let mut deny = program();
    deny.arg("--config").arg(gone.path("relay.toml")).args(["sources", "deny", OTHER]);
    let asked = one.stderr().matches("asks for a reload").count();
    ended(&run(&mut deny), 0, "it takes effect at the next start");
    assert_eq!(one.stderr().matches("asks for a reload").count(), asked, "the wrong relay was asked");
    let (status, said) = gone.refuses_to_start();
    assert_eq!(status.code(), Some(75), "{said}");
    assert!(said.contains("another process listens there"), "{said}");
    ended(&one.verb(&["sources", "allow", OTHER]), 0, "in force since generation 3");
}

#[test]
fn a_socket_that_says_nothing_is_not_waited_for_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = plan(&stub).with("[admin]", "[admin]\nsocket = \"silent.sock\"");
    plan.write();
    let _silent = UnixListener::bind(plan.path("silent.sock")).unwrap();
    let begun = SystemTime::now();
    let mut deny = program();
    deny.arg("--config").arg(plan.path("relay.toml")).args(["sources", "deny", OTHER]);
    ended(&run(&mut deny), 74, "no answer within");
    let waited = begun.elapsed().unwrap();
    assert!(waited >= bounds::ASK_WHO && waited < 2 * bounds::ASK_WHO, "{waited:?}");
    assert!(
        !fs::read_to_string(plan.path("sources.toml")).unwrap().contains(OTHER),
        "it is written all the same"
    );
}

#[test]
fn what_another_user_answers_in_the_place_of_the_relay_is_not_believed() {
    use std::os::unix::process::CommandExt;
    let shared = tempfile::tempdir().unwrap();
    fs::set_permissions(shared.path(), Permissions::from_mode(0o777)).unwrap();
    let socket = shared.path().join("admin.sock");
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let mut relay =
        plan(&stub).with("[admin]", &format!("[admin]\nsocket = \"{}\"", socket.display())).start();
    if fs::metadata(relay.path("relay.toml")).unwrap().uid() != 0 {
        return skip::skipped("only root can start a process of another user");
    }
    // That user puts a socket of its own there, which answers as the relay would.
    fs::remove_file(&socket).unwrap();
    let mut python = tool("python3", "python3");
    python.args(["-c", FAKE]).arg(&socket).arg(relay.path("audit")).arg(relay.path("sources.toml"));
    let mut fake = python.uid(65534).current_dir("/").stdout(Stdio::piped()).spawn().unwrap();
    let mut listens = String::new();
    BufReader::new(fake.stdout.take().unwrap()).read_line(&mut listens).unwrap();
    let running = relay.verb(&["sources", "deny", OTHER]);
    let stopped = relay.stop();
    let gone = relay.verb(&["sources", "allow", OTHER]);
    fake.kill().unwrap();
    fake.wait().unwrap();
    ended(&running, 74, "user 65534 listens there, and the relay is user 0's");
    assert!(stopped.success());
    ended(&gone, 0, "it takes effect at the next start");
}

/// Says that everything is in force.
const FAKE: &str = r#"
import json, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listens", flush=True)
since = "2026-01-01T00:00:00Z"
part = {"part": "allow-list", "files": sys.argv[3:], "since_generation": 9}
state = {"file": "relay.toml", "generation": 9, "since": since, "not_in_force": []}
answer = {"log": sys.argv[2], "configuration": state, "parts": [part], "changed": []}
while True:
    stream = listener.accept()[0]
    try:
        stream.recv(4096)
        stream.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(answer).encode())
    except OSError:
        pass
    stream.close()
"#;

#[test]
fn a_socket_that_speaks_something_else_is_no_relay() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = plan(&stub).with("[admin]", "[admin]\nsocket = \"other.sock\"");
    plan.write();
    let other = UnixListener::bind(plan.path("other.sock")).unwrap();
    for said in
        ["HTTP/1.1 200 OK\r\n\r\n{}", "HTTP/1.1 404 Not Found\r\n\r\n", "220 mail.example ESMTP\r\n", ""]
    {
        let other = other.try_clone().unwrap();
        let answers = std::thread::spawn(move || {
            let (mut stream, _) = other.accept().unwrap();
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).unwrap() > 0);
            stream.write_all(said.as_bytes()).unwrap();
        });
        let mut verb = program();
        verb.arg("--config").arg(plan.path("relay.toml")).args([
            "sources",
            "allow",
            &format!("id-{}", said.len()),
        ]);
        ended(&run(&mut verb), 74, "it is written, but whether it is in force is not known");
        answers.join().unwrap();
    }
}

#[test]
fn what_is_no_socket_is_never_replaced_and_the_relay_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    for configured in [false, true] {
        let mut plan = plan(&stub);
        if configured {
            plan = plan.with("[admin]", "[admin]\nsocket = \"audit/admin.sock\"");
        }
        fs::create_dir(plan.path("audit")).unwrap();
        let place = plan.path(SOCKET);
        let kinds: [(&str, &dyn Fn()); 3] = [
            ("a file", &|| fs::write(&place, "mine").unwrap()),
            ("a folder", &|| fs::create_dir(&place).unwrap()),
            ("a link", &|| std::os::unix::fs::symlink("nowhere", &place).unwrap()),
        ];
        for (what, make) in kinds {
            make();
            let (status, said) = plan.refuses_to_start();
            assert_eq!(status.code(), Some(78), "{said}");
            let words = format!("admin.sock is {what} and no socket");
            assert!(said.contains(&words), "{said}");
            let mut check = program();
            ended(&run(check.arg("--config").arg(plan.path("relay.toml")).arg("check")), 78, &words);
            let there = fs::symlink_metadata(&place).unwrap();
            if there.is_dir() { fs::remove_dir(&place).unwrap() } else { fs::remove_file(&place).unwrap() }
        }
        drop(plan.start());
    }
}

#[test]
fn a_socket_that_can_not_be_made_ends_the_start_only_where_it_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let wrong = plan(&stub).with("[admin]", "[admin]\nsocket = \"nowhere/admin.sock\"");
    let (status, said) = wrong.refuses_to_start();
    assert_eq!(status.code(), Some(74), "{said}");
    assert!(
        said.contains("nowhere/admin.sock can't be the admin socket: ") && said.contains("make its folder")
    );
    let mut env = tool("env", "coreutils");
    env.arg("RUNTIME_DIRECTORY=/proc/nowhere");
    let relay = plan(&stub).start_under(env);
    let said = relay.stderr();
    assert!(said.contains("there is no admin socket") && said.contains("/proc/nowhere/admin.sock"), "{said}");
    assert_eq!(sync(&mut relay.inside(), OTHER), 200);
}

#[test]
fn a_relay_that_stands_still_is_not_taken_for_none() {
    let (relay, _stub, _folder) = relay_and_stub();
    relay.signal("STOP");
    let denied = relay.verb(&["sources", "deny", OTHER]);
    relay.signal("CONT");
    ended(&denied, 74, "it is written, but whether it is in force is not known");
    eventually("the relay notices by itself", || (sync(&mut relay.inside(), OTHER) == 503).then_some(()));
}

#[test]
fn a_path_that_is_too_long_for_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    // As it is configured, it is a mistake.
    let long = "s".repeat(bounds::SOCKET_PATH);
    let wrong = plan(&stub).with("[admin]", &format!("[admin]\nsocket = \"{long}\""));
    let (status, said) = wrong.refuses_to_start();
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("admin.socket: ") && said.contains("write a path of at most 107 bytes"), "{said}");
    // As it comes out, the relay does without.
    let relay = plan(&stub).with("directory = \"audit\"", &format!("directory = \"{long}\"")).start();
    let said = relay.stderr();
    assert!(said.contains("there is no admin socket") && said.contains("at most 107"), "{said}");
    assert!(!relay.greeting.contains("verbs ask"));
    let denied = relay.verb(&["sources", "deny", OTHER]);
    ended(&denied, 74, "it is written, but whether it is in force is not known");
    let said = all_said(&denied);
    assert!(said.contains(&format!("process {}", relay.pid())), "{said}");
    eventually("the relay notices by itself", || (sync(&mut relay.inside(), OTHER) == 503).then_some(()));
}

#[test]
fn whoever_may_not_ask_is_told_that_it_is_written() {
    let (relay, _stub, _folder) = relay_and_stub();
    let mut nobody = tool("setpriv", "util-linux");
    let nobody = nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    if !can("no other user", tool("setpriv", "util-linux").args(["--reuid=65534", "true"])) {
        return;
    }
    let program = relay.path("license-relay");
    fs::copy(env!("CARGO_BIN_EXE_license-relay"), &program).unwrap();
    let lists = relay.path("lists");
    fs::create_dir(&lists).unwrap();
    fs::set_permissions(&lists, Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(relay.path(""), Permissions::from_mode(0o755)).unwrap();
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap()
        + "\n[sources]\nfile = \"lists/sources.toml\"\n";
    fs::write(relay.path("nobody.toml"), config).unwrap();
    let output = run(nobody
        .arg(program)
        .arg("--config")
        .arg(relay.path("nobody.toml"))
        .args(["sources", "allow", "x"]));
    ended(&output, 74, "it is written, but whether it is in force is not known");
    assert!(all_said(&output).contains("ermission denied"), "{}", all_said(&output));
}

#[test]
fn a_flood_on_the_socket_stops_neither_clients_nor_a_verb() {
    let (mut relay, _stub, _folder) = relay_and_stub();
    let mut inside = relay.inside();
    let silent: Vec<UnixStream> = (0..3 * bounds::ADMIN_CONNECTIONS)
        .map(|_| UnixStream::connect(relay.path(SOCKET)).unwrap())
        .collect();
    assert_eq!(sync(&mut inside, OTHER), 200);
    assert_eq!(relay.admin("/readyz").0, 200);
    ended(&relay.verb(&["sources", "deny", OTHER]), 0, "in force since generation 2");
    assert_eq!(sync(&mut inside, OTHER), 503);
    drop(silent);
    // Many who ask at one time are answered by few reloads.
    let socket = relay.path(SOCKET);
    let asking: Vec<_> = (0..bounds::RELOADS_ASKED)
        .map(|_| {
            let socket = socket.clone();
            std::thread::spawn(move || over(&socket, "POST /reload"))
        })
        .collect();
    for asked in asking {
        let (status, said) = asked.join().unwrap();
        assert!(status == 200 && said.contains("\"generation\": 2"), "{status} {said}");
    }
    assert!(relay.is_running());
}

#[test]
fn a_file_that_is_being_written_is_not_taken_half_and_the_verb_says_so() {
    let (relay, _stub, _folder) = relay_and_stub();
    let over = AtomicBool::new(false);
    let path = relay.path("users");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                n += 1;
                fs::write(&path, format!("# {n}\n")).unwrap();
                // Well below the time for which a file must be left alone.
                std::thread::sleep(bounds::SETTLE / 10);
            }
        });
        let denied = relay.verb(&["sources", "deny", OTHER]);
        over.store(true, Ordering::Relaxed);
        if denied.status.success() {
            return skip::skipped(
                "this machine is too slow to write a file ten times in a quarter of a second",
            );
        }
        ended(&denied, 78, "files that changed do not settle");
    });
    write_users(&relay, "# nobody\n");
    ended(&relay.verb(&["reload"]), 0, "changed by this reload: ");
    assert_eq!(sync(&mut relay.inside(), OTHER), 503);
}

#[test]
fn reload_tells_what_is_in_force_and_what_it_changed_or_every_problem() {
    let (relay, _stub, _folder) = relay_and_stub();
    let good = fs::read_to_string(relay.path("relay.toml")).unwrap();
    ended(&relay.verb(&["reload"]), 0, "nothing has changed by this reload");
    fs::write(relay.path("relay.toml"), format!("{good}\n[http]\nvia = true\n")).unwrap();
    let reloaded = relay.verb(&["reload"]);
    ended(&reloaded, 0, "generation 2 is in force since ");
    let said = all_said(&reloaded);
    assert!(said.contains("changed by this reload: relay.toml\n"), "{said}");
    for part in ["configuration", "allow-list", "list of users", "certificates"] {
        assert!(said.lines().any(|line| line.starts_with(&format!("  {part} "))), "{part}: {said}");
    }

    let answer = relay.verb(&["reload", "--json"]);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["configuration"]["generation"], 2);
    assert_eq!(answer["changed"].as_array().unwrap().len(), 0);
    assert_eq!(answer["log"], relay.path("audit").display().to_string());

    // Wrong in itself, twice.
    fs::write(relay.path("relay.toml"), format!("{good}\n[http]\nvia = 5\n[nonsense]\nx = 1\n")).unwrap();
    let wrong = relay.verb(&["reload"]);
    ended(&wrong, 78, "http.via: ");
    assert!(all_said(&wrong).contains("nonsense.x"), "{}", all_said(&wrong));
    // What the running relay can't take, and another file.
    fs::write(relay.path("relay.toml"), good.replace("[admin]", "[admin]\nsocket = \"elsewhere.sock\""))
        .unwrap();
    write_users(&relay, "nonsense\n");
    let wrong = relay.verb(&["reload"]);
    ended(&wrong, 78, "restart needed to change admin.socket");
    assert!(all_said(&wrong).contains("users: line 1"), "{}", all_said(&wrong));
    assert!(all_said(&wrong).contains("generation 2 is in force"), "{}", all_said(&wrong));
    let wrong = relay.verb(&["reload", "--json"]);
    assert_eq!(wrong.status.code(), Some(78));
    let answer: Value = serde_json::from_slice(&wrong.stdout).unwrap();
    assert_eq!(answer["configuration"]["not_in_force"].as_array().unwrap().len(), 2);

    fs::write(relay.path("relay.toml"), good).unwrap();
    write_users(&relay, "# nobody\n");
    ended(&relay.verb(&["reload"]), 0, "generation 3 is in force");
}

#[test]
fn readers_of_the_log_pass_over_the_socket() {
    let (relay, _stub, folder) = relay_and_stub();
    assert_eq!(relay.post("/sync", SYNC).status, 200);
    ended(&relay.verb(&["audit", "verify"]), 0, "");
    let kit = folder.path().join("kit.zip").display().to_string();
    ended(&relay.verb(&["audit", "kit", "--out", &kit]), 0, "");
    let copy = folder.path().join("copy");
    assert!(
        tool("cp", "coreutils").arg("-a").arg(relay.path("audit")).arg(&copy).status().unwrap().success()
    );
    ended(&run(program().args(["audit", "verify", "--log"]).arg(&copy)), 0, "");
}
