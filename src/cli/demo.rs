//! `license-relay demo`: the whole job on this machine, for real, every hop over TCP and TLS.
//!
//! A stub back end, the relay as `serve` runs it, and a simulated deployment that knows nothing but its proxy setting
//! and the root. Every step says what it shows; one that doesn't hold ends the demo with exit code 1.

mod deployment;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config;
use crate::observe::log;
use crate::relay::{self, Ended, Relay};
use deployment::{DemoDeployment, RelayReply};
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::outln;
use relay_log::verify::log::{Verdict, verify};
use relay_stub::{Identity, Options, Stub};

/// See the whole job done on this machine.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Keep the folder with its configuration, certificates and log, and print where it is
    #[arg(long)]
    keep: bool,
}

const KEY: &str = include_str!("../../tests/samples/signed-license-key.jwt");
const LICENSE: &str = "9999000000001253";
const SOURCE: &str = "fbe89d02-6d24-4595-915e-c52ce76f2195";
const HOST: &str = "license.qlikcloud.com";

/// Runs the demo.
pub(super) async fn run(args: Demo) -> Result<(), Failure> {
    let folder = std::env::temp_dir().join(format!("license-relay-demo-{}", std::process::id()));
    let played = play(&folder).await;
    if args.keep {
        outln!("\nkept: {}", folder.display());
    } else if let Err(e) = fs::remove_dir_all(&folder) {
        outln!("\n{} can't be removed: {e}", folder.display());
    }
    played.map_err(|step| Failure::new(Exit::Failed, format!("a step did not hold: {step}")))?;
    outln!("\nevery step held");
    Ok(())
}

async fn play(folder: &Path) -> Result<(), String> {
    let failed = |what: &'static str| move |e: &dyn std::fmt::Display| format!("{what}: {e}");
    fs::create_dir_all(folder).map_err(|e| failed("the folder of the demo")(&e))?;

    step("a stub stands in for the license back end");
    let options = Options { identity: Identity::Own(vec![HOST.into()]), ..Options::default() };
    let stub = Stub::start(options).await.map_err(|e| failed("the stub does not start")(&e))?;
    shown(&format!("it listens on {} with a certificate for {HOST}", stub.address()));

    step("the relay starts in an empty folder, and makes what it needs");
    let file = write_configuration(folder, &stub)?;
    let (config, _) = config::file::load(&file).map_err(|e| failed("the configuration")(&e))?;
    log::start(config.log);
    let audit_log = config.clone();
    let relay = Relay::start(config).await.map_err(|e| failed("the relay does not start")(&e))?;
    let address = *relay.addresses().first().ok_or("the relay listens nowhere")?;
    let admin = relay.admin();
    let root = folder.join("certs/root.pem");
    shown(&format!("it listens on {address}; the root to trust is {}", root.display()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(relay.run(async move { drop(stopped.await) }));

    let deployment = DemoDeployment::new(address, HOST, &root)?;
    let conversation = converse(&deployment, &stub, &file, admin).await;

    // The relay is stopped in any case; only then is the log whole.
    drop(stop);
    let ended = running.await.map_err(|e| failed("the relay")(&e))?;
    conversation?;
    step("the relay drains and stops");
    expect(ended == Ended::Stopped, "every request in hand was answered")?;
    stub.stop().await;

    step("what came of it, line by line, in the assignment log");
    show_log(&relay::active_log(&audit_log))?;

    step("an auditor asks who holds what, and on what that rests");
    run_command(&file, &["audit", "state"]).await?;

    step("all answers as one page");
    let page = folder.join("report.html");
    run_command(&file, &["audit", "report", "--out", &page.to_string_lossy()]).await?;
    let html = fs::read_to_string(&page).map_err(|e| failed("the report")(&e))?;
    let words =
        format!("{} has {} bytes, and nothing of it is loaded from elsewhere", page.display(), html.len());
    expect(html.contains(LICENSE) && html.contains("<svg") && !html.contains("<script"), &words)?;

    step("an auditor checks that nothing was changed or removed, and what a single changed letter does");
    let log = &audit_log.audit.directory;
    let verified = verify(log, &[], |_| {}).map_err(|e| failed("audit verify")(&e))?;
    let signed = verified.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
    let said = format!("{} records, {signed} of them signed, none damaged", verified.records);
    expect(verified.verdict() == Verdict::Fine && verified.unsigned == 0, &said)?;
    let segment = relay::active_log(&audit_log);
    let text = fs::read_to_string(&segment).map_err(|e| failed("the log")(&e))?;
    fs::write(&segment, text.replacen("\"professional\"", "\"analyzer\"", 1))
        .map_err(|e| failed("the log")(&e))?;
    let bent = verify(log, &[], |_| {}).map_err(|e| failed("audit verify")(&e))?;
    fs::write(&segment, text).map_err(|e| failed("the log")(&e))?;
    let said = bent.damage.first().cloned().unwrap_or_default();
    expect(bent.verdict() == Verdict::Damaged && said.contains("was changed"), &said)
}

async fn converse(
    deployment: &DemoDeployment,
    stub: &Stub,
    file: &Path,
    admin: SocketAddr,
) -> Result<(), String> {
    step("the connectivity test that people use: GET / gives the back end's own 404");
    let said = deployment.get("/", None).await?;
    expect(said.status == 404, &said.line())?;

    step("a host that is not listed is refused, and the product's log would show this");
    let refused = deployment.connect_to("evil.example:443").await?;
    expect(refused.status == 403, &refused.line())?;

    let key = Some(KEY.trim());
    step("a fresh deployment activates its license, and is refused");
    let activation = serde_json::json!({ "signedLicenseKey": KEY.trim(), "cause": "Initial" });
    let said = deployment.post("/v1/activation", &activation, None).await?;
    expect(said.status == 503 && said.reason.contains("sources allow"), &said.line())?;
    expect(stub.counters().requests == 1, "the back end has seen the connectivity test and nothing else")?;

    step("one command lets it in");
    let number = said.reason.rsplit(' ').next().unwrap_or_default();
    run_command(file, &["sources", "allow", number, "--name", "Demo"]).await?;
    let said = until(200, || deployment.post("/v1/activation", &activation, None)).await?;
    shown(&said.line());

    step("it fetches its definition");
    let said = deployment.get("/v1/definitions/portable/info", key).await?;
    expect(said.status == 200 && said.body.contains("sld"), &said.line())?;

    step("it syncs two assignments; the relay learns its id, and lets in no other");
    let said = deployment.post("/v1/sync", &sync(0, &["\\generated4", "acme\\bob"]), key).await?;
    expect(said.status == 200 && said.body.contains("\"rejection\":\"\""), &said.line())?;
    let stranger = serde_json::json!({ "source": "somebody else", "bases": [], "patches": [] });
    let refused = deployment.post("/v1/sync", &stranger, None).await?;
    expect(refused.status == 503, &refused.line())?;

    step("another deployment assigns somebody; this one is told at its next sync");
    stub.assign(LICENSE, "analyzer", "ACME\\carol");
    let said = deployment.post("/v1/sync", &sync(2, &[]), key).await?;
    expect(said.status == 200 && said.body.contains("carol"), &said.line())?;

    step("it reports capacity, and the back end cuts the connection before it answers");
    stub.set_trouble(vec!["close-before*1".parse().map_err(|_| "the trouble switch")?]);
    let report = serde_json::json!([{ "id": 1, "allotment": "analyzer_time", "month": "2026-11",
        "consumption": 242, "source": SOURCE }]);
    let said = deployment.post("/v1/capacity", &report, key).await?;
    expect(said.status == 502, &said.line())?;
    let total: i64 = stub.counters().consumption.values().sum();
    expect(total == 242, "the back end counted it once, and the log says: outcome unknown")?;

    step("the next report goes through");
    let said = deployment.post("/v1/capacity", &report, key).await?;
    expect(said.status == 200 && said.body.contains("484"), &said.line())?;

    step("the relay says that it is ready");
    let said = deployment::plain_get(admin, "/readyz").await?;
    expect(said.status == 200, &said.line())
}

fn sync(base: u64, subjects: &[&str]) -> serde_json::Value {
    let license = "9999 0000 0000 1253";
    let patch = |subject: &&str| {
        serde_json::json!({ "instance": "", "version": 0, "license": license, "allotment": "analyzer",
            "subject": subject, "created": "2026-11-25T10:01:35.024031Z" })
    };
    let patches: Vec<_> = subjects.iter().map(patch).collect();
    serde_json::json!({ "source": SOURCE, "bases": [{ "license": license, "version": base }],
        "patches": patches })
}

fn write_configuration(folder: &Path, stub: &Stub) -> Result<PathBuf, String> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map(|()| path).map_err(|e| format!("{name}: {e}"))
    };
    write("stub-ca.pem", stub.root().ok_or("the stub has no certificate of its own")?)?;
    let text = format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n\n\
         [[destination]]\nhost = \"{HOST}\"\nconnect_to = \"{}\"\n\n\
         [upstream]\ntrust = \"files\"\nextra_ca = [\"stub-ca.pem\"]\n\n\
         [tls]\nroot = \"certs/root.pem\"\nissuer = \"certs/issuer.pem\"\nissuer_key = \"certs/issuer.key\"\n\n\
         [audit]\ndirectory = \"audit\"\nsubject_key = \"certs/subject.key\"\nsigning_key = \"certs/log.key\"\n\n\
         [admin]\naddress = \"127.0.0.1:0\"\n\n[log]\nlevel = \"error\"\n",
        stub.address()
    );
    write("relay.toml", &text)
}

/// Runs this very program, as an administrator would.
async fn run_command(file: &Path, arguments: &[&str]) -> Result<(), String> {
    outln!("    $ license-relay {}", arguments.join(" "));
    let program = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    let mut command = std::process::Command::new(program);
    command.arg("--config").arg(file).args(arguments);
    let run = tokio::task::spawn_blocking(move || command.output()).await.map_err(|e| e.to_string())?;
    let output = run.map_err(|e| format!("the command: {e}"))?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        outln!("    {line}");
    }
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// The relay notices a changed file within a moment; the deployment asks again, as a product does.
async fn until<F>(status: u16, ask: impl Fn() -> F) -> Result<RelayReply, String>
where
    F: Future<Output = Result<RelayReply, String>>,
{
    let mut said = ask().await?;
    for _ in 0..100 {
        if said.status == status {
            return Ok(said);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        said = ask().await?;
    }
    Err(format!("still: {}", said.line()))
}

fn show_log(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut assignments = 0;
    for line in text.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).map_err(|e| format!("a line of the log: {e}"))?;
        let (event, qlik) = (&line["event"], &line["qlik"]);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let action = text(&event["action"]);
        let what = ["allotment", "count", "month", "delta", "total", "rejection"].map(|name| &qlik[name]);
        let what: Vec<String> = what
            .into_iter()
            .map(|value| value.as_str().map_or_else(|| value.to_string(), Into::into))
            .filter(|value| !value.is_empty() && value != "null")
            .collect();
        let hash = text(&line["user"]["target"]["hash"]);
        outln!(
            "    {:>3} {:<30} {:<3} {:<8} {} {}",
            event["sequence"],
            action,
            text(&qlik["direction"]),
            text(&event["outcome"]),
            what.join(" "),
            hash.get(..30).unwrap_or(&hash)
        );
        assignments += u32::from(action.starts_with("license.assignment"));
    }
    expect(assignments >= 5, &format!("{assignments} lines of assignments, each person as a pseudonym"))?;
    let clear = text.to_lowercase();
    expect(
        !clear.contains("carol")
            && !clear.contains("generated4")
            && !clear.contains(&KEY.trim().to_lowercase()),
        "no name and no license key stands in it",
    )
}

fn step(what: &str) {
    outln!("\n* {what}");
}

fn shown(what: &str) {
    outln!("    {what}");
}

fn expect(held: bool, what: &str) -> Result<(), String> {
    shown(what);
    if held { Ok(()) } else { Err(what.to_owned()) }
}
