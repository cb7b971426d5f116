//! At the limit of processes of its user (`ulimit -u`, `LimitNPROC=`) the relay serves with fewer threads, or ends at its
//! start with a sentence; so does a verb. Nothing panics, and no relay lives that doesn't serve.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::common::*;

const HINT: &str =
    "raise the limit of processes of its user (ulimit -u), or LimitNPROC= and TasksMax= of its unit";

/// The limit does not bind root, and counts all processes of a user: each test has a user of its own, where it may.
struct User(Option<u32>);

impl User {
    fn new(number: u32) -> Self {
        let probe = format!("--reuid={number}");
        let mut setpriv = tool("setpriv", "util-linux");
        let can = run(setpriv.args([&probe, "--clear-groups", "true"])).status.success();
        Self(can.then_some(number))
    }

    /// The program as this user, with so many processes and threads.
    fn limited(&self, most: u32, program: &PathBuf) -> Command {
        let limit = format!("--nproc={most}:{most}");
        let mut command = match self.0 {
            Some(number) => {
                let mut command = tool("setpriv", "util-linux");
                command.args([format!("--reuid={number}"), format!("--regid={number}")]);
                command.args(["--clear-groups", "prlimit", &limit]);
                command
            }
            None => {
                let mut command = tool("prlimit", "util-linux");
                command.arg(&limit);
                command
            }
        };
        command.arg(program);
        command
    }

    /// Gives it what it shall run on, and a copy of the program where it can be reached.
    fn owns(&self, plan: &Plan) -> PathBuf {
        let program = plan.path("license-relay");
        fs::copy(env!("CARGO_BIN_EXE_license-relay"), &program).unwrap();
        if let Some(number) = self.0 {
            let owner = format!("{number}:{number}");
            let done = run(tool("chown", "coreutils").args(["-R", &owner]).arg(plan.folder.path()));
            assert!(done.status.success(), "{done:?}");
        }
        program
    }
}

/// A sync that a relay answers on this address.
fn is_served(plan: &Plan, address: &str) -> Curl {
    let mut command = tool("curl", "curl");
    command.args(["-x", &format!("http://{address}"), "--cacert"]).arg(plan.path("certs/root.pem"));
    Curl::run(command, &["-d", IDLE, &format!("https://{HOST}/v1/sync")])
}

#[test]
fn a_relay_with_few_threads_serves_or_says_at_its_start_that_it_can_not() {
    let user = User::new(61_601);
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let (mut served, mut refused) = (0, 0);
    for most in 1..=14 {
        let plan = Plan::new(&stub);
        fs::copy(&stub.ca, plan.path("ca.pem")).unwrap();
        let plan = plan.with(&stub.ca.display().to_string(), "ca.pem");
        plan.write();
        let program = user.owns(&plan);
        let mut command = user.limited(most, &program);
        command.args(["serve", "--config"]).arg(plan.path("relay.toml"));
        let begun = SystemTime::now();
        let errors = fs::File::create(folder.path().join("stderr")).unwrap();
        let said = || fs::read_to_string(folder.path().join("stderr")).unwrap();
        let mut relay = command.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        // It says where it listens, or closes its end as it ends.
        let mut lines = BufReader::new(relay.stdout.take().unwrap()).lines().map_while(Result::ok);
        match lines.find(|line| line.contains("listens on")) {
            Some(line) => {
                let reply = is_served(&plan, line.split_whitespace().last().unwrap());
                assert_eq!(reply.status, 200, "{most}: {reply:?} {}", said());
                // What is done off its workers is done as well.
                let signal = |name: &str| {
                    let pid = relay.id().to_string();
                    assert!(run(tool("kill", "procps").args([name, &pid])).status.success());
                };
                fs::write(plan.path("sources.toml"), format!("{}# more\n", plan.sources)).unwrap();
                signal("-HUP");
                eventually("a reload", || {
                    said().contains("generation 2 of the configuration is").then_some(())
                });
                signal("-TERM");
                let ended = eventually("the relay ends", || relay.try_wait().unwrap());
                assert!(ended.success(), "{most}: {ended} {}", said());
                served += 1;
            }
            None => {
                let ended = eventually("the relay ends", || relay.try_wait().unwrap());
                assert_eq!(ended.code(), Some(70), "{most}: {}", said());
                assert!(said().contains(HINT), "{most}: {}", said());
                refused += 1;
            }
        }
        assert!(!said().contains("panicked"), "{most}: {}", said());
        assert!(begun.elapsed().unwrap_or_default() < Duration::from_secs(20), "{most}");
    }
    assert!(refused > 0, "the limit does nothing");
    // An ordinary user has other processes, which count.
    assert!(served > 3 || user.0.is_none(), "{served} served, {refused} refused");
}

#[test]
fn a_verb_with_no_thread_to_be_had_does_its_work_or_says_that_it_can_not() {
    let user = User::new(61_602);
    let (_stub, mut relay, _folder) = pair();
    assert_eq!(relay.post("/v1/sync", IDLE).status, 200);
    assert!(relay.stop().success());
    let plan = relay.into_plan();
    let ca = plan.path("ca.pem");
    let config = fs::read_to_string(plan.path("relay.toml")).unwrap();
    let was = config.split("extra_ca = [\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    fs::copy(&was, &ca).unwrap();
    fs::write(plan.path("relay.toml"), config.replace(&was, "ca.pem")).unwrap();
    let program = user.owns(&plan);
    for (arguments, wants_threads) in [
        (&["check"][..], false),
        (&["sources", "allow", "another"], false),
        (&["ca", "status"], false),
        (&["audit", "verify"], true),
        (&["audit", "key", "new"], true),
        (&["stub", "--listen", "127.0.0.1:0"], true),
    ] {
        let mut command = user.limited(1, &program);
        command.args(arguments);
        if arguments[0] != "stub" {
            command.arg("--config").arg(plan.path("relay.toml"));
        }
        let output = run(&mut command);
        let said = all_said(&output);
        if wants_threads {
            ended(&output, 70, HINT);
        } else {
            assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        }
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}
