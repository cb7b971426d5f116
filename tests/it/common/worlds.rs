//! Folders of a relay with something of everything in them, cheap to copy, so that a test can spoil one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::Timestamp;
use license_relay::policy::users::PasswordHash;
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::record::Record;
use relay_log::ledger::segment;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use super::made::Made;
use super::once::once_a_run;
use super::traced::{End, Fault, Traced};
use super::*;

/// A deployment that the base world has refused.
pub const STRANGER: &str = "0b6b1a2c-5f0e-4d55-9d3a-6a2b8f1f7c11";
/// Users of the base world.
pub const USERS: [&str; 3] = ["ann", "bob", "cy"];
/// The first day that the log of the base world has after its old ones.
pub const PRUNED: &str = "2024-06-01";

const ORIGIN: &str = "license-relay/world";
const OLD: u64 = 90;

/// A folder of its own, in memory where there is room for it: no test here cuts the power.
pub fn empty() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A folder with a configuration and nothing else.
pub fn bare() -> TempDir {
    let folder = empty();
    fs::write(folder.path().join("relay.toml"), config()).unwrap();
    folder
}

/// The configuration of a relay with its own authority. Its one destination is a tunnel, which needs no leaf: making one
/// takes most of a start.
fn config() -> String {
    let plan = Plan::leading_to("127.0.0.1:9", Path::new("none"));
    let plan = plan.with("trust = \"files\"\nextra_ca = [\"none\"]", "trust = \"bundled\"");
    with_log(plan.with("connect_to", "mode = \"tunnel\"\nconnect_to")).config
}

/// The base world with leaves that somebody else has made, as a company's own authority would: a relay starts at once on it.
pub fn quick() -> PathBuf {
    once_a_run("quick-world", |world| {
        copy(&base(), world);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(["localhost".to_owned(), HOST.to_owned()]).unwrap();
        let leaf = leaf.self_signed(&key).unwrap();
        fs::write(world.join("leaf.pem"), leaf.pem()).unwrap();
        private(&world.join("leaf.key"), &key.serialize_pem());
        let own =
            "root = \"certs/root.pem\"\nissuer = \"certs/issuer.pem\"\nissuer_key = \"certs/issuer.key\"";
        let config = config();
        assert!(config.contains(own), "{config}");
        let config = config.replace(own, "certificate = [\"leaf.pem\"]\nkey = [\"leaf.key\"]");
        let config = config.replace(", \"127.0.0.1\"]", "]");
        fs::write(world.join("relay.toml"), config).unwrap();
    })
}

/// The same before its first start: no log, and no keys but that of the leaf.
pub fn quick_bare() -> TempDir {
    let world = empty();
    for name in ["relay.toml", "leaf.pem", "leaf.key"] {
        fs::copy(quick().join(name), world.path().join(name)).unwrap();
    }
    world
}

fn private(path: &Path, text: &str) {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn with_log(plan: Plan) -> Plan {
    let named = format!("directory = \"audit\"\norigin = \"{ORIGIN}\"");
    plan.with("directory = \"audit\"", &named).with("certs/log.key", "audit.key")
}

/// The folder of a relay that has served, refused, and stopped: three allowed sources, three users, a log with two old
/// segments that may be pruned, one refused deployment, shapes of messages.
pub fn base() -> PathBuf {
    once_a_run("base-world", |world| {
        let folder = empty();
        let stub = Stub::start(folder.path(), &[]);
        let entry = |name: &str| format!("\n# {name}\n[[source]]\nname = \"{name}\"\nusers = [\"{name}\"]\n");
        let plan = with_log(Plan::new(&stub));
        let sources = format!("{}{}{}", plan.sources, entry("first"), entry("second"));
        let plan = plan.sources(&sources);
        old_records(&plan.path("audit"));
        let hash = PasswordHash::new("long password").unwrap();
        let users: String = USERS.iter().map(|name| format!("{name}:{hash}\n")).collect();
        private(&plan.path("users"), &users);

        let mut relay = plan.start();
        assert_eq!(relay.post("/v1/sync", &SYNC.replace(SOURCE, STRANGER)).status, 503);
        assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
        assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
        // A stop leaves a segment that is being compressed to the next start, whose calls are counted here.
        let segments = relay.folder.path().join("audit").join(segment::FOLDER);
        eventually("the sealed segments to be put away", || {
            let names = fs::read_dir(&segments).unwrap().map(|entry| entry.unwrap().file_name());
            // The active segment, and the list of sums.
            let others = names.filter(|name| !name.to_str().unwrap().ends_with(".zst")).count();
            (others == 2).then_some(())
        });
        assert!(relay.stop().success());
        copy(relay.folder.path(), world);
        fs::write(world.join("relay.toml"), config()).unwrap();
        fs::remove_file(world.join("stderr")).unwrap();
    })
}

fn old_records(log: &Path) {
    let mut made = Made::begin(log, ORIGIN).segments_of(30).compressed();
    let first: Timestamp = "2024-01-01T12:00:00Z".parse().unwrap();
    for n in 0..OLD {
        let at = first + jiff::SignedDuration::from_hours(n.cast_signed());
        let stop = n + 1 == OLD;
        let mut record =
            Record::new(if stop { Action::RelayStop } else { Action::RelayStart }, Uuid::from_u128(n.into()));
        record.outcome = Outcome::Success;
        made.write(at, &[record]);
    }
    made.end();
}

/// Copies what is in a folder into another, but for sockets, which only their relay can make.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target);
            fs::set_permissions(&target, entry.metadata().unwrap().permissions()).unwrap();
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A copy of a world.
pub fn copied(from: &Path) -> TempDir {
    let folder = empty();
    copy(from, folder.path());
    folder
}

/// Every file and link below a folder by its path in there, with what it holds or leads to, and its mode; no
/// sockets.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let (mut found, mut open) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            }
            if !kind.is_file() && !kind.is_symlink() {
                continue;
            }
            let bytes = match kind.is_symlink() {
                true => fs::read_link(entry.path()).unwrap().into_os_string().into_vec(),
                false => fs::read(entry.path()).unwrap(),
            };
            let name = entry.path().strip_prefix(folder).unwrap().to_owned();
            found.insert(name, (bytes, entry.metadata().unwrap().mode()));
        }
    }
    found
}

/// The program with a world's configuration, run in that world.
pub fn verb(world: &Path, arguments: &[&str]) -> Command {
    let mut command = program();
    command.arg("--config").arg(world.join("relay.toml"));
    // Files that a verb is told to write lie in the world as well.
    command.args(arguments.iter().map(|argument| argument.replace("WORLD", &world.display().to_string())));
    command
}

/// Runs a verb to its end.
pub fn done(world: &Path, arguments: &[&str]) -> Output {
    run(&mut verb(world, arguments))
}

/// What a verb prints, as JSON. `None` where it fails.
pub fn json(world: &Path, arguments: &[&str]) -> Option<Value> {
    let output = done(world, arguments);
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// Starts the relay in a copy of a world until it greets: its exit code and words where it does not.
///
/// # Errors
/// How it ended instead.
pub fn serves(world: &Path) -> Result<(), String> {
    let world = copied(world);
    let traced = Traced::run(world.path(), verb(world.path(), &["serve"]), "", Fault::None).unwrap();
    match traced.end {
        End::Greeted => Ok(()),
        end => Err(format!("{end:?}: {}", traced.said)),
    }
}

/// The number of the deployment that the base world has refused.
pub fn number() -> String {
    let pending = json(&base(), &["sources", "pending", "--json"]).unwrap();
    let is_it = |row: &&Value| row["source"] == STRANGER;
    pending.as_array().unwrap().iter().find(is_it).unwrap()["number"].to_string().replace('"', "")
}
