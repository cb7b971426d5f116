//! The command line: what each verb says, what it writes, and its exit code.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::common::*;

/// Exit code, standard output, standard error.
fn parts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A plan in its files, with no relay: what verbs work on as well.
struct Desk(Plan);

impl Desk {
    fn new(sources: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let plan =
            Plan::leading_to("127.0.0.1:9", &ca).with(&format!("extra_ca = [\"{}\"]", ca.display()), "");
        let plan = plan.with("trust = \"files\"", "trust = \"bundled\"").sources(sources);
        plan.write();
        Self(plan)
    }

    fn verb(&self, arguments: &[&str]) -> (i32, String, String) {
        parts(&run(program().args(arguments).arg("--config").arg(self.0.path("relay.toml"))))
    }

    fn sources(&self) -> String {
        fs::read_to_string(self.0.path("sources.toml")).unwrap()
    }

    /// Every file below the folder, with its content.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let found = run(tool("find", "findutils").arg(self.0.folder.path()).args(["-type", "f"]));
        let mut names: Vec<String> =
            String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
        names.sort();
        names.into_iter().map(|name| (name.clone(), fs::read(name).unwrap())).collect()
    }
}

#[test]
fn help_and_version_are_0_and_every_verb_has_an_example() {
    for verb in [
        "",
        "serve",
        "demo",
        "check",
        "reload",
        "ca",
        "ca init",
        "ca show",
        "ca export",
        "sources",
        "sources list",
        "sources pending",
        "sources allow",
        "sources deny",
        "audit key",
        "audit key list",
        "audit key new",
        "audit key destroy",
        "vocabulary",
        "vocabulary show",
        "vocabulary suggest",
        "vocabulary capture",
        "stub",
    ] {
        let (code, said, _) = parts(&run(program().args(verb.split_whitespace()).arg("-h")));
        assert_eq!(code, 0, "{verb}: {said}");
        let example =
            said.split_once("\nExample").unwrap_or_else(|| panic!("no example under {verb:?}: {said}")).1;
        assert!(example.contains(&format!("license-relay {verb}")), "{verb}: {said}");
        assert!(said.contains("--config"), "{verb}: {said}");
    }
    let (code, said, _) = parts(&run(program().arg("--version")));
    assert_eq!((code, said.as_str()), (0, concat!("license-relay ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn a_wrong_command_line_is_64() {
    for wrong in [
        "",
        "bogus",
        "serve --bogus",
        "serve extra",
        "--config",
        "check --config",
        "sources",
        "sources bogus",
        "sources allow",
        "sources deny",
        "sources allow --license x",
        "sources allow --license 1 --learn soon",
        "sources allow a --learn 24h",
        "sources allow --network 10.0.0.0/33",
        "ca",
        "vocabulary",
        "vocabulary suggest --log",
        "vocabulary suggest --log /nowhere",
        "vocabulary capture",
        "check --replay --log",
        "stub",
        "stub --listen nowhere",
    ] {
        let (code, said, complaint) = parts(&run(program().args(wrong.split_whitespace())));
        assert_eq!((code, said.as_str()), (64, ""), "{wrong:?}: {complaint}");
        assert!(!complaint.is_empty(), "{wrong:?}");
    }
}

#[test]
fn check_says_every_problem_at_once_with_its_line_and_changes_nothing() {
    let desk = Desk::new("# nobody\n");
    let before = desk.files();
    let (code, said, complaint) = desk.verb(&["check"]);
    assert_eq!((code, complaint.as_str()), (0, ""), "{said}");
    assert!(said.contains("relay.toml: fine"), "{said}");

    let config =
        desk.0.config.replace("hostnames", "hostnam").replace("[audit]", "[audit]\non_failure = \"stop\"");
    let config = config.replace("[admin]", "[admn]");
    fs::write(desk.0.path("relay.toml"), &config).unwrap();
    let (code, _, complaint) = desk.verb(&["check"]);
    assert_eq!(code, 78, "{complaint}");
    for (key, advice) in
        [("hostnam ", "listen.hostnames"), ("on_failure", "block"), ("address", "admin.address")]
    {
        let lines: Vec<&str> = config.lines().collect();
        let line = lines.iter().rposition(|line| line.starts_with(key)).unwrap() + 1;
        let place = format!("relay.toml:{line}: ");
        let problem = complaint.lines().find(|said| said.contains(&place));
        assert!(problem.is_some_and(|said| said.contains(advice)), "no {place}{advice} in {complaint}");
    }

    desk.0.write();
    fs::write(
        desk.0.path("sources.toml"),
        "[[source]]\nid = 5\n\n[[source]]\nnetworks = [\"10.0.0.0/40\"]\n",
    )
    .unwrap();
    let (code, _, complaint) = desk.verb(&["check"]);
    assert_eq!(code, 78, "{complaint}");
    assert!(complaint.contains("sources.toml:2") && complaint.contains("sources.toml:5"), "{complaint}");
    desk.0.write();
    assert_eq!(desk.files(), before);
    let nowhere = run(program().args(["check", "--config", "/nonexistent/relay.toml"]));
    assert_eq!(parts(&nowhere).0, 78);
}

#[test]
fn the_configuration_is_found_where_the_manual_says() {
    let desk = Desk::new("# nobody\n");
    let folder = desk.0.folder.path();
    let by = |variable: Option<&str>| {
        let mut command = program();
        command.current_dir(folder).arg("check");
        if let Some(path) = variable {
            command.env("LICENSE_RELAY_CONFIG", path);
        }
        parts(&run(&mut command))
    };
    assert_eq!(by(Some("relay.toml")).0, 0);
    let (code, _, complaint) = by(Some("elsewhere.toml"));
    assert!(code == 78 && complaint.contains("elsewhere.toml"), "{complaint}");
    fs::create_dir(folder.join("config")).unwrap();
    fs::copy(folder.join("relay.toml"), folder.join("config/relay.toml")).unwrap();
    assert!(by(None).1.contains("config/relay.toml: fine"));
}

const LIST: &str = r#"# Written by hand.

# The first, ours.
[[source]]
id = "aaaa"   # never touch
licenses = ["1111 2222 3333 4444"]

# The second.
[[source]]
name = "Second"
id = "bbbb"
networks = ["10.0.0.0/8"]

# The end.
"#;

#[test]
fn allow_and_deny_edit_the_list_and_keep_what_people_wrote() {
    let desk = Desk::new(LIST);
    let (code, said, complaint) =
        desk.verb(&["sources", "allow", "cccc", "--name", "Third \"3\"", "--network", "10.1.0.0/16"]);
    assert_eq!((code, complaint.as_str()), (0, ""), "{said}");
    assert!(desk.sources().starts_with(LIST), "{}", desk.sources());
    assert!(said.contains("id = \"cccc\""), "{said}");

    let (_, listed, _) = desk.verb(&["sources", "list"]);
    let at = |id: &str| listed.find(id).unwrap_or_else(|| panic!("{id} is not in {listed}"));
    assert!(at("aaaa") < at("bbbb") && at("bbbb") < at("cccc"), "{listed}");
    let (_, json, _) = desk.verb(&["sources", "list", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[2]["name"], "Third \"3\"");
    assert_eq!(json[2]["networks"][0], "10.1.0.0/16");
    assert_eq!(json[0]["licenses"][0], "1111222233334444");

    assert_eq!(desk.verb(&["sources", "deny", "bbbb"]).0, 0);
    let left = desk.sources();
    assert!(!left.contains("bbbb") && !left.contains("The second."), "{left}");
    for kept in [
        "# Written by hand.\n\n# The first, ours.\n",
        "id = \"aaaa\"   # never touch\n",
        "# The end.\n",
        "cccc",
    ] {
        assert!(left.contains(kept), "no {kept:?} in {left}");
    }
    let (code, _, complaint) = desk.verb(&["sources", "deny", "bbbb"]);
    assert!(code == 64 && complaint.contains("bbbb"), "{code} {complaint}");
    assert_eq!(desk.verb(&["sources", "deny", "cccc"]).0, 0);
    assert_eq!(desk.verb(&["sources", "deny", "aaaa"]).0, 0);
    assert!(desk.sources().contains("# Written by hand."), "{}", desk.sources());
    assert_eq!(desk.verb(&["sources", "list", "--json"]).1, "[]\n");
}

#[test]
fn a_second_entry_of_one_id_is_refused_in_clear_and_hashed() {
    let desk = Desk::new(LIST);
    // SHA-256 of "aaaa".
    let hashed = "sha256:61be55a8e2f6b4e172338bddf184d6dbee29c98853e0a0485ecee7f27b9af0b4";
    for id in ["aaaa", " aaaa ", hashed, &hashed.to_uppercase().replace("SHA256", "sha256")] {
        let (code, _, complaint) = desk.verb(&["sources", "allow", id]);
        assert_eq!(code, 78, "{id}: {complaint}");
        assert!(complaint.contains("same as on line 5"), "{complaint}");
        assert_eq!(desk.sources(), LIST);
    }
    assert_eq!(desk.verb(&["sources", "deny", hashed]).0, 0);
    assert!(!desk.sources().contains("aaaa"));
    assert_eq!(desk.verb(&["sources", "allow", hashed]).0, 0);
    assert_eq!(desk.verb(&["sources", "allow", "aaaa"]).0, 78);
    for wrong in ["sha256:abcd", &"x".repeat(129), "a\u{7}b"] {
        assert_eq!(desk.verb(&["sources", "allow", wrong]).0, 64, "{wrong}");
    }
}

#[test]
fn a_list_with_a_mistake_is_not_edited() {
    let broken = format!("{LIST}\n[[source]]\nidd = \"x\"\n");
    let desk = Desk::new(&broken);
    for verb in [&["sources", "allow", "cccc"][..], &["sources", "deny", "aaaa"], &["sources", "list"]] {
        let (code, _, complaint) = desk.verb(verb);
        assert_eq!(code, 78, "{verb:?}: {complaint}");
        assert!(complaint.contains("sources.toml:17"), "{complaint}");
    }
    assert_eq!(desk.sources(), broken);
}

#[test]
fn whoever_was_refused_is_listed_with_a_number_and_let_in_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources("").start();
    let empty = parts(&relay.verb(&["sources", "pending"]));
    assert!(empty.0 == 0 && empty.1.contains("nobody was refused lately"), "{empty:?}");
    assert_eq!(parts(&relay.verb(&["sources", "pending", "--json"])).1, "[]\n");

    let agent = "Licenses/1.6.4 (windows) QSEfW";
    let sync = |id: &str| {
        let body = SYNC.replace(SOURCE, id);
        relay.curl(&["-d", &body, "-A", agent, &format!("https://{HOST}/v1/sync")]).status
    };
    assert_eq!((sync("first"), sync("second"), sync("second")), (503, 503, 503));
    let pending = eventually("both are pending", || {
        let (_, json, _) = parts(&relay.verb(&["sources", "pending", "--json"]));
        let json: Value = serde_json::from_str(&json).unwrap();
        (json[1]["count"] == 2).then_some(json)
    });
    let second = pending[1]["number"].as_str().unwrap();
    assert!(second.len() == 13 && pending[0]["number"] != second, "{pending}");
    assert_eq!(pending[1]["source"], "second");
    assert_eq!(pending[1]["license"], LICENSE);
    assert_eq!(pending[1]["address"], "127.0.0.1");
    assert_eq!(pending[1]["user_agent"], agent);
    let (_, text, _) = parts(&relay.verb(&["sources", "pending"]));
    assert!(text.contains("2 times") && text.contains("sources allow NUMBER"), "{text}");

    for (nobodys, words) in [("3", "they have 13 digits now"), ("0000000000000", "write it as sha256:")] {
        let (code, _, complaint) = parts(&relay.verb(&["sources", "allow", nobodys]));
        assert!(code == 64 && complaint.contains("sources pending"), "{complaint}");
        assert!(complaint.contains(words), "{complaint}");
    }
    assert_eq!(parts(&relay.verb(&["sources", "allow", second, "--name", "Second"])).0, 0);
    eventually("the second is let in", || (sync("second") == 200).then_some(()));
    assert_eq!(sync("first"), 503);
    eventually("the first alone is pending", || {
        let (_, json, _) = parts(&relay.verb(&["sources", "pending", "--json"]));
        let json: Value = serde_json::from_str(&json).unwrap();
        (json.as_array().unwrap().len() == 1 && json[0]["source"] == "first").then_some(())
    });
}

#[test]
fn a_deployment_refused_by_its_license_and_by_its_id_is_two_rows_that_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources("").start();
    let ask = |agent: &str, body: &str| {
        relay.curl(&["-d", body, "-A", agent, &format!("https://{HOST}/v1/x")]).status
    };
    let agent = "Licenses/1.6.4 (windows) QSEfW";
    let renewed = ACTIVATION.replace("Initial", "Update");
    for body in [ACTIVATION, &renewed, ACTIVATION, CAPACITY, IDLE, SYNC] {
        assert_eq!(ask(agent, body), 503);
    }
    let definition = ["-A", agent, "-H", &format!("Authorization: Bearer {}", KEY.trim())];
    let definition = relay.curl(&[&definition[..], &[&format!("https://{HOST}/v1/definitions")]].concat());
    assert_eq!(definition.status, 503);
    assert_eq!(ask("curl/8 \"\\n\u{fc}", "{\"source\":\"else\"}"), 503);

    let rows = eventually("all are pending", || {
        let (_, json, _) = parts(&relay.verb(&["sources", "pending", "--json"]));
        let rows: Value = serde_json::from_str(&json).unwrap();
        (rows.as_array().unwrap().len() == 3 && rows[0]["count"] == 4).then_some(rows)
    });
    let key = run(tool("sh", "dash").arg("-c").arg(format!("printf %s '{}' | sha256sum", KEY.trim()))).stdout;
    let key = String::from_utf8(key).unwrap().split(' ').next().unwrap().to_owned();
    let (activation, sync, other) = (&rows[0], &rows[1], &rows[2]);
    assert_eq!((&activation["source"], &activation["license"]), (&Value::Null, &LICENSE.into()));
    assert_eq!(activation["fingerprint"], key[..16]);
    assert_eq!((&activation["product"], &activation["version"]), (&"QSEfW".into(), &"1.6.4".into()));
    assert_eq!(
        (&sync["source"], &sync["license"], &sync["count"]),
        (&SOURCE.into(), &LICENSE.into(), &3.into())
    );
    let number = |row: &Value| row["number"].as_str().unwrap().to_owned();
    let (one, two, three) = (number(activation), number(sync), number(other));
    assert_eq!(
        (&sync["same_deployment_as"], &other["same_deployment_as"]),
        (&one.as_str().into(), &Value::Null)
    );
    assert_eq!((&other["product"], &other["user_agent"]), (&Value::Null, &"curl/8 \"\\n\u{fc}".into()));

    let (_, text, _) = parts(&relay.verb(&["sources", "pending"]));
    assert!(
        text.contains(&format!("{one}  key {}  license {LICENSE}  from 127.0.0.1", &key[..16])),
        "{text}"
    );
    assert!(text.contains(r#"curl/8 \"\\n"#), "{text}");
    assert!(text.contains(&format!("{two}  source {SOURCE}  license {LICENSE}")), "{text}");
    assert_eq!(text.matches("QSEfW 1.6.4").count(), 2, "{text}");
    let same = format!(
        "the same license and address as number {one}: one deployment, it seems; allow {two} lets in both"
    );
    assert_eq!(text.matches(&same).count(), 1, "{text}");

    // What it says is so.
    let (code, said, complaint) = parts(&relay.verb(&["sources", "allow", &two]));
    assert_eq!(code, 0, "{complaint}");
    assert!(said.contains(SOURCE) && said.contains(LICENSE), "{said}");
    eventually("both are let in", || {
        (ask(agent, SYNC) == 200 && ask(agent, ACTIVATION) == 200).then_some(())
    });
    eventually("both rows are gone", || {
        let (_, text, _) = parts(&relay.verb(&["sources", "pending"]));
        (!text.contains("QSEfW") && text.contains(&three)).then_some(())
    });
}

#[test]
fn the_vocabulary_in_force_is_shown_as_a_file_that_says_the_same() {
    let desk = Desk::new("# nobody\n");
    let relay = fs::read_to_string(desk.0.path("relay.toml")).unwrap();
    fs::write(desk.0.path("relay.toml"), format!("{relay}\n[licensing]\nvocabulary = \"own.toml\"\n"))
        .unwrap();
    fs::write(desk.0.path("own.toml"), "source = [\"header:X-Deployment\"]\n").unwrap();
    let (code, shown, _) = desk.verb(&["vocabulary", "show"]);
    assert_eq!(code, 0);
    assert!(shown.contains("source = [\"header:x-deployment\", \"source\""), "{shown}");
    fs::write(desk.0.path("own.toml"), &shown).unwrap();
    assert_eq!(desk.verb(&["vocabulary", "show"]).1, shown);
    let json: Value = serde_json::from_str(&desk.verb(&["vocabulary", "show", "--json"]).1).unwrap();
    assert_eq!(json["sync"]["patches"][0], "patches");

    fs::write(desk.0.path("own.toml"), "\n[sync]\npatchs = [\"x\"]\n").unwrap();
    let (code, _, complaint) = desk.verb(&["check"]);
    assert_eq!(code, 78);
    assert!(
        complaint.contains("own.toml:3: sync.patchs is not a known key; write sync.patches"),
        "{complaint}"
    );
}

#[test]
fn what_a_log_holds_of_unknown_messages_becomes_a_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("copy");
    fs::create_dir_all(log.join("segments")).unwrap();
    let record = |direction: &str, shape: &str| {
        serde_json::json!({
            "@timestamp": "2026-11-25T08:30:00.000000Z",
            "event": { "action": "license.unrecognised.request" },
            "qlik": { "direction": direction, "source_id": "a\u{1b}b", "shape": shape },
        })
        .to_string()
    };
    let sync = record("out", "{origin:text,state:[{rev:number}],changes:[{user:text,tier:text}]}");
    let unread = record("in", "the body is not JSON at line 1 column 1");
    // A crash has torn the last line.
    fs::write(
        log.join("segments/00000000000000000000.jsonl"),
        format!("{sync}\n{sync}\n{unread}\n{}", &sync[..60]),
    )
    .unwrap();
    let verb = |arguments: &[&str]| {
        let mut command = program();
        command.args(["vocabulary", "suggest", "--config", "/nowhere/relay.toml", "--log"]).arg(&log);
        parts(&run(command.args(arguments)))
    };
    let (code, said, complaint) = verb(&[]);
    assert_eq!(code, 0, "{complaint}");
    for part in ["# 2 requests, the last at 2026-11-25", "source = [\"origin\"]", "patches = [\"changes\"]"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains('\u{1b}'));
    let json: Value = serde_json::from_str(&verb(&["--json"]).1).unwrap();
    assert_eq!(json["shapes"][0]["count"], 2);

    // As it stands, it is a site's own file; what it names is suggested no more.
    let desk = Desk::new("# nobody\n");
    let relay = fs::read_to_string(desk.0.path("relay.toml")).unwrap();
    fs::write(desk.0.path("relay.toml"), format!("{relay}\n[licensing]\nvocabulary = \"own.toml\"\n"))
        .unwrap();
    fs::write(desk.0.path("own.toml"), said).unwrap();
    assert_eq!(desk.verb(&["check"]).0, 0);
    let log = log.to_str().unwrap();
    let (code, said, _) = desk.verb(&["vocabulary", "suggest", "--log", log]);
    assert_eq!(code, 0);
    assert!(said.contains("there is nothing to suggest"), "{said}");
}

#[test]
fn an_idle_sync_that_hides_a_list_is_recorded_and_becomes_a_suggestion() {
    let (_stub, relay, _folder) = pair();
    assert_eq!(relay.post("/v1/sync", IDLE).status, 200);
    assert!(relay.records("license.sync.request").is_empty());
    let hiding =
        IDLE.replacen('{', "{\"revoked\": [{\"subject\": \"acme\\\\bob\", \"allotment\": \"analyzer\"}],", 1);
    let doubled = hiding.replacen('{', "{\"Patches\": [],", 1);
    for body in [&hiding, &doubled] {
        assert_eq!(relay.post("/v1/sync", body).status, 200);
    }
    let records = relay.records("license.sync.request");
    let shape = records[0]["qlik"]["shape"].as_str().unwrap();
    assert!(shape.contains("revoked:[{subject:text,allotment:text}]"), "{shape}");
    assert_eq!((&records[0]["qlik"]["doubled"], records.len()), (&Value::Null, 2));
    assert_eq!(records[1]["qlik"]["doubled"][0], "patches");
    let (code, said, _) = parts(&relay.verb(&["vocabulary", "suggest"]));
    assert_eq!(code, 0);
    assert!(said.contains("deletions = [\"revoked\"]"), "{said}");
}
