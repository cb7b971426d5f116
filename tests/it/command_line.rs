//! The frame of the command line: where output goes, what each exit code means, and what was called otherwise before.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::*;

/// Every verb, with arguments that it can do its work with, what it reads, and its exit code.
const VERBS: [(&str, &str, i32); 47] = [
    ("serve", "", 0),
    ("demo", "", 0),
    ("check", "", 0),
    // No relay runs that could be asked.
    ("reload", "", 74),
    ("ca init", "", 0),
    ("ca show", "", 0),
    ("ca status", "", 0),
    ("ca export", "", 0),
    ("ca rotate", "", 0),
    ("sources list", "", 0),
    ("sources pending", "", 0),
    ("sources allow", "somebody", 0),
    ("sources deny", SOURCE, 0),
    ("sources user add", "bob", 0),
    ("sources user remove", "ann", 0),
    ("audit verify", "", 0),
    ("audit state", "", 0),
    ("audit history", "--subject ACME\\bob", 0),
    ("audit changes", "", 0),
    ("audit reconcile", "", 0),
    ("audit gaps", "", 0),
    ("audit consumption", "", 0),
    ("audit deployments", "", 0),
    ("audit denied", "", 0),
    ("audit churn", "", 0),
    ("audit subject", "ACME\\bob", 0),
    ("audit report", "", 0),
    ("audit export", "", 0),
    ("audit prove", "--seq 0 --out p.tlog-proof", 0),
    ("audit kit", "--out kit.zip", 0),
    ("audit fork", "--reason tried", 0),
    ("audit key list", "", 0),
    ("audit key new", "", 0),
    ("audit key destroy", "k0 --yes", 64),
    ("audit prune", "--before 2026-01-01", 0),
    ("vocabulary show", "", 0),
    ("vocabulary suggest", "", 0),
    ("vocabulary capture", "--out shapes.json", 0),
    ("stub", "--listen 127.0.0.1:0 --out ca.pem", 0),
    // The same once more, where the answer takes another way out.
    ("check", "--replay", 0),
    ("check", "--replay --json", 0),
    ("ca export", "--der", 0),
    ("ca status", "--json", 0),
    ("sources list", "--json", 0),
    ("audit verify", "--json", 0),
    ("audit export", "--format jsonl", 0),
    ("vocabulary suggest", "--json", 0),
];

/// Verbs that print nothing to standard output when they do what the table says.
const SILENT: [&str; 1] = ["audit key destroy"];

/// Where the output of a verb goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    NoTerminal,
    ClosedPipe,
    BothClosed,
    FullDevice,
}

impl Way {
    const ALL: [Self; 4] = [Self::NoTerminal, Self::ClosedPipe, Self::BothClosed, Self::FullDevice];

    fn stdout(self) -> Stdio {
        match self {
            Self::NoTerminal => Stdio::piped(),
            Self::ClosedPipe | Self::BothClosed => closed(),
            Self::FullDevice => File::options().write(true).open("/dev/full").unwrap().into(),
        }
    }
}

/// A pipe that nobody reads any more.
fn closed() -> Stdio {
    io::pipe().unwrap().1.into()
}

fn no_terminal() -> Command {
    let mut command = tool("setsid", "util-linux");
    command
        .arg(env!("CARGO_BIN_EXE_license-relay"))
        .env_remove("LICENSE_RELAY_CONFIG")
        .env_remove("RUNTIME_DIRECTORY");
    command
}

/// All verbs below this one, as the help lists them.
fn below(verb: &str) -> Vec<String> {
    let help = run(program().args(verb.split_whitespace()).arg("--help"));
    let help = String::from_utf8(help.stdout).unwrap();
    let Some((_, commands)) = help.split_once("\nCommands:\n") else { return vec![verb.to_owned()] };
    let names = commands.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?;
        name.split_whitespace().next().filter(|name| *name != "help")
    });
    names.flat_map(|name| below(format!("{verb} {name}").trim())).collect()
}

/// All verbs, and those that only have verbs below them.
fn all_and_groups() -> Vec<String> {
    let mut all: Vec<String> = below("");
    for verb in all.clone() {
        let words: Vec<&str> = verb.split(' ').collect();
        all.extend((0..words.len()).map(|count| words[..count].join(" ")));
    }
    all.sort();
    all.dedup();
    all
}

/// The folder of a relay that has run, has a user and has been told of people, and is stopped.
fn stopped() -> (Stub, Relay, TempDir) {
    let (stub, mut relay, folder) = pair();
    relay.add_user("ann", "secret");
    assert_eq!(relay.post("/sync", SYNC).status, 200);
    assert!(relay.stop().success());
    (stub, relay, folder)
}

fn copied(relay: &Relay) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(format!("{}/.", relay.path("").display())).arg(folder.path());
    assert!(copy.status().unwrap().success());
    fs::write(folder.path().join("input"), "a password\n").unwrap();
    folder
}

/// Runs a verb in a folder of a relay. Those that run until they are told to end are told so once they have begun.
fn ends(folder: &Path, verb: &str, arguments: &str, way: Way) -> (Option<i32>, String) {
    let mut command = no_terminal();
    command.args(verb.split(' ')).args(arguments.split_whitespace());
    if !matches!(verb, "demo" | "stub") {
        command.args(["--config", "relay.toml"]);
    }
    command.current_dir(folder).stdin(File::open(folder.join("input")).unwrap());
    command.stdout(way.stdout()).stderr(if way == Way::BothClosed { closed() } else { Stdio::piped() });
    let mut child = command.spawn().unwrap();
    drop(command);
    let begun = match verb {
        "serve" => Some(folder.join("audit/LOCK")),
        "stub" => Some(folder.join("ca.pem")),
        _ => None,
    };
    let until_told = begun.is_some_and(|file| {
        eventually("an end or a begin", || {
            let has_begun = fs::metadata(&file).is_ok_and(|found| found.len() > 0);
            let over = child.try_wait().unwrap().is_some();
            (over || has_begun).then_some(!over)
        })
    });
    if until_told {
        // setsid has become the program: a child leads no group, so there is no fork.
        let told = run(tool("kill", "procps").args(["-TERM", &child.id().to_string()]));
        assert!(told.status.success(), "{verb} can't be told to end");
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), all_said(&output))
}

#[test]
fn wherever_the_output_goes_every_verb_ends_without_a_panic_and_with_its_exit_code() {
    let (_stub, relay, _folder) = stopped();
    let mut without: Vec<String> = below("");
    without.retain(|verb| !VERBS.iter().any(|(known, ..)| known == verb));
    assert_eq!(without, [""; 0], "these verbs have no row");

    for (verb, arguments, code) in VERBS {
        for way in Way::ALL {
            let folder = copied(&relay);
            fs::remove_file(folder.path().join("audit/LOCK")).unwrap_or_default();
            let (ended, said) = ends(folder.path(), verb, arguments, way);
            let expected = match way {
                // What serve greets with is no answer: it serves all the same.
                Way::FullDevice if verb != "serve" && !SILENT.contains(&verb) => 74,
                _ => code,
            };
            assert_eq!(ended, Some(expected), "{verb} {arguments} {way:?}: {said}");
            assert!(!said.contains("panicked") && !said.contains("backtrace"), "{verb} {way:?}: {said}");
            if expected == 74 && code != 74 {
                assert!(said.contains("can't be written"), "{verb} {way:?}: {said}");
            }
        }
    }
}

#[test]
fn a_damaged_log_is_1_also_where_the_reader_of_the_answer_has_left() {
    let (_stub, relay, _folder) = stopped();
    let folder = copied(&relay);
    let segments = fs::read_dir(folder.path().join("audit/segments")).unwrap();
    let segment = segments.map(|entry| entry.unwrap().path()).next().unwrap();
    let bent = fs::read_to_string(&segment).unwrap().replacen("relay.start", "relay.stort", 1);
    fs::write(&segment, bent).unwrap();
    for verb in ["audit verify", "audit state", "audit export", "audit report"] {
        assert_eq!(ends(folder.path(), verb, "", Way::ClosedPipe).0, Some(1), "{verb}");
    }
}

#[test]
fn every_verb_has_an_example_and_takes_a_configuration() {
    for verb in all_and_groups() {
        let output = run(program().args(verb.split_whitespace()).arg("-h"));
        let help = String::from_utf8(output.stdout).unwrap();
        let example = help.split_once("\nExample").map(|(_, example)| example);
        assert!(example.is_some_and(|it| it.contains(&format!("license-relay {verb}"))), "{verb}: {help}");
        assert!(help.contains("--config"), "{verb}: {help}");
    }
}

#[test]
fn help_and_documentation_say_the_same_of_exit_codes() {
    let help = String::from_utf8(run(program().arg("--help")).stdout).unwrap();
    let table = help.split_once("\nExit codes:\n").unwrap().1;
    let said: Vec<(&str, &str)> = table
        .lines()
        .take_while(|line| !line.is_empty())
        .map(|line| line.trim_start().split_once("  ").unwrap())
        .collect();
    let docs = fs::read_to_string("docs/exit-codes.md").unwrap();
    let documented: Vec<(&str, &str)> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .filter(|(code, _)| code.parse::<u8>().is_ok())
        .collect();
    assert_eq!(said, documented);
    assert!(said.iter().all(|(code, _)| code.parse::<u8>().is_ok_and(|code| code <= 4 || code >= 64)));
}

#[test]
fn former_flags_are_refused_and_name_the_new_one() {
    for (former, new) in [
        ("audit report --to report.html", "--out report.html"),
        ("audit report --from 2026-01-01 --until 2026-02-01", "--to"),
        ("audit export --to records.csv", "--out records.csv"),
        ("audit export --until 2026-02-01", "--to"),
        ("audit kit --to kit.zip", "--out"),
        ("audit kit --to=kit.zip", "--out"),
        ("audit prove --seq 1 --to p.tlog-proof", "--out"),
        ("audit changes --until 2026-02-01", "--to"),
        ("audit reconcile --until 2026-02-01", "--to"),
        ("audit denied --until=2026-02-01", "--to"),
    ] {
        ended(&run(program().args(former.split(' '))), 64, new);
    }
    // The other way round.
    ended(
        &run(program().args(["audit", "report", "--log", "/", "--out", "2026-06-30"])),
        64,
        "--to 2026-06-30",
    );
}

#[test]
fn options_that_contradict_or_can_not_apply_are_refused() {
    let (_stub, relay, folder) = stopped();
    let names = folder.path().join("staff.csv");
    fs::write(&names, "ACME\\bob\n").unwrap();
    let (log, names) = (relay.path("audit").display().to_string(), names.display().to_string());
    let key = relay.path("certs/subject.key").display().to_string();
    let config = relay.path("relay.toml").display().to_string();
    for (line, words) in [
        ("audit state --log LOG --json --csv", "--csv"),
        ("audit state --log LOG --subject-key KEY", "--names"),
        ("audit gaps --log LOG --subject-case exact", "--names"),
        ("audit history --log LOG --hash 00 --subject ACME\\bob", "--hash"),
        ("audit history --log LOG --hash 00 --subject-key KEY", "--names"),
        ("audit export --log LOG --qlik-form md5", "--format qlik"),
        ("audit export --log LOG --format jsonl --json", "--json"),
        ("audit export --log LOG --format jsonl --csv", "--csv"),
        ("audit export --log LOG --format csv --json", "--json"),
        ("audit export --log LOG --format html --csv", "--csv"),
        ("audit subject ACME\\bob --qlik-form md5 --log LOG", "--log"),
        ("audit subject ACME\\bob --qlik-form md5 --config CONFIG", "--config"),
        ("audit changes --log LOG --from 2026-05-02 --to 2026-05-01", "ends before it begins"),
        ("audit prove --log LOG --seq 0 --json --force", "--force"),
        ("audit prove --check p --seq 0", "--seq"),
        ("audit prove --check p --config CONFIG", "--config"),
        ("audit prune --before 2026-01-01 --dry-run --yes", "--yes"),
        ("check --log LOG", "--replay"),
        ("check --json", "--replay"),
        ("demo --config CONFIG", "--config"),
        ("stub --listen 127.0.0.1:0 --config CONFIG", "--config"),
        ("stub --listen 127.0.0.1:0 --no-tls --name localhost", "--name"),
        ("ca rotate --finish --abort", "--abort"),
        ("ca rotate --despite 127.0.0.1", "--finish"),
    ] {
        let words_of = |word: &str| match word {
            "LOG" => log.clone(),
            "KEY" => key.clone(),
            "CONFIG" => config.clone(),
            _ => word.to_owned(),
        };
        let output = run(program().args(line.split(' ').map(words_of)));
        assert!(output.stdout.is_empty(), "{line}");
        ended(&output, 64, words);
    }
    let named =
        |more: &[&str]| run(program().args(["audit", "state", "--log", &log, "--names", &names]).args(more));
    ended(&named(&["--subject-key", &key]), 0, "");
}

#[test]
fn a_configuration_beside_a_log_lends_its_key() {
    let (_stub, relay, folder) = stopped();
    let copy = folder.path().join("copy");
    assert!(Command::new("cp").arg("-r").arg(relay.path("audit")).arg(&copy).status().unwrap().success());
    let ask = |verb: &[&str], more: &[&str]| {
        run(program().arg("audit").args(verb).arg("--log").arg(&copy).args(more))
    };
    let config = relay.path("relay.toml").display().to_string();
    ended(&ask(&["subject", "ACME\\bob"], &[]), 64, "--subject-key");
    let lent = ask(&["subject", "ACME\\bob", "--json"], &["--config", &config]);
    let key = relay.path("certs/subject.key").display().to_string();
    let given = ask(&["subject", "ACME\\bob", "--json"], &["--subject-key", &key]);
    let rows = |output: &std::process::Output| {
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["rows"].clone()
    };
    assert_eq!((lent.status.code(), given.status.code()), (Some(0), Some(0)), "{}", all_said(&lent));
    assert_eq!(rows(&lent), rows(&given));
    ended(&ask(&["history", "--subject", "ACME\\bob"], &["--config", &config]), 0, "");
    ended(&ask(&["state"], &["--config", "/nowhere/relay.toml"]), 78, "/nowhere/relay.toml");
}

#[test]
fn what_can_not_be_read_is_an_error_and_what_was_changed_is_a_verdict() {
    let (_stub, relay, folder) = stopped();
    let log = relay.path("audit");
    for (wrong, words) in
        [("/not/there", "No such file"), ("/etc/passwd", "not a folder"), ("/etc", "not a log")]
    {
        for verb in ["verify", "state", "report"] {
            ended(&run(program().args(["audit", verb, "--log", wrong])), 64, words);
        }
        ended(&run(program().args(["audit", "prove", "--seq", "0", "--log", wrong])), 64, words);
        let kit = folder.path().join("kit.zip");
        ended(&run(program().args(["audit", "kit", "--log", wrong, "--out"]).arg(kit)), 64, words);
    }
    let page = relay.path("no/such/folder/page.html");
    ended(&run(program().args(["audit", "report", "--log"]).arg(&log).arg("--out").arg(page)), 64, "no/such");
    ended(
        &run(program().args(["audit", "report", "--log"]).arg(&log).args(["--out", "/proc/page"])),
        74,
        "can't be written",
    );

    // Somebody who may not read it.
    let path = |name: &str| relay.path(name);
    for open in ["", "audit"] {
        fs::set_permissions(path(open), Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(path("audit/segments"), Permissions::from_mode(0o000)).unwrap();
    let program = path("license-relay");
    fs::copy(env!("CARGO_BIN_EXE_license-relay"), &program).unwrap();
    let mut nobody = tool("setpriv", "util-linux");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    nobody.args(["audit", "verify", "--log"]).arg(&log);
    let output = run(&mut nobody);
    fs::set_permissions(path("audit/segments"), Permissions::from_mode(0o755)).unwrap();
    ended(&output, 74, "Permission denied");
}

#[test]
fn a_list_that_the_system_will_not_let_be_written_is_no_mistake_of_the_configuration() {
    let (_stub, relay, _folder) = stopped();
    // Nobody can make a file in /proc.
    let config = fs::read_to_string(relay.path("relay.toml")).unwrap();
    let config = config + "\n[sources]\nfile = \"/proc/sources.toml\"\n";
    let config = config.replace("[listen]", "[listen]\nusers = \"/proc/users\"");
    fs::write(relay.path("relay.toml"), config).unwrap();
    ended(&relay.verb(&["sources", "allow", "somebody"]), 74, "/proc/sources.toml can't be edited");
    let mut add = program();
    add.arg("--config").arg(relay.path("relay.toml")).args(["sources", "user", "add", "ann"]);
    let secret = relay.path("secret");
    fs::write(&secret, "secret\n").unwrap();
    let output = add.stdin(File::open(secret).unwrap()).output().unwrap();
    ended(&output, 74, "/proc/users can't be edited");
}

#[test]
fn what_is_no_file_is_written_into_and_never_replaced() {
    let (_stub, relay, folder) = stopped();
    let log = relay.path("audit");
    let export = |out: &Path| {
        let mut command = program();
        command.args(["audit", "export", "--format", "jsonl", "--log"]).arg(&log).arg("--out").arg(out);
        command
    };
    let pipe = folder.path().join("pipe");
    assert!(tool("mkfifo", "coreutils").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    ended(&run(&mut export(&pipe)), 0, "");
    assert!(reader.join().unwrap().starts_with('{'));
    assert!(!fs::metadata(&pipe).unwrap().is_file(), "a file has taken the place of a pipe");
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    fs::write(&file, "before").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    ended(&run(&mut export(&link)), 0, "");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&file).unwrap().starts_with('{'));
    // A device of our own: this one is everybody's.
    let full = folder.path().join("full");
    if can("a device", tool("mknod", "coreutils").arg(&full).args(["c", "1", "7"])) {
        ended(&run(&mut export(&full)), 74, "can't be written");
        assert!(!fs::metadata(&full).unwrap().is_file(), "a file has taken the place of a device");
    }
}
