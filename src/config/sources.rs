//! `sources.toml`: who may ask. Read by the relay, edited by people, by `sources allow` and by enrolment.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use toml::de::DeValue;
use toml_edit::{DocumentMut, Item, Key};

use super::model::{AllowList, Learn, Mode, Source};
use super::toml_table::{self, Table, Wrong};
use super::{MAX_SOURCES, Problem, Problems, Severity};
use relay_log::files::edit::{self, Editing, Fault};
use relay_log::files::regular::is_missing;
use relay_log::names::SourcePattern;
use relay_log::names::{LicenseNumber, SourceId};

/// What a new file holds: nobody, and how to change that.
pub const TEMPLATE: &str = "\
# sources.toml: who may reach the license back end through this relay. It is read again as it changes.
#
#   license-relay sources pending        shows who was refused, each with its number
#   license-relay sources allow NUMBER   adds it here, and keeps what you wrote; a refusal tells the number too
#
# An entry allows whom any of its id, licenses, users or networks fits. Where it lists users or networks, a
# request that names the id must come from one of them too, as must one that names a license and no id: neither proves
# anything. Only activations and definitions, which never name an id, are let in by the license from anywhere. Its limit
# then counts all requests from there together; any other request counts for its own address, so that no stranger uses
# up the share of a deployment, and activations count apart.
#
# [[source]]
# id = \"fbe89d02-6d24-4595-915e-c52ce76f2195\"   # the id a deployment sends, or \"sha256:<64 hex>\" of it
# name = \"Production, Qlik Sense on Windows\"
# licenses = [\"9999000000001253\"]       # activations carry no id: these vouch for them
# users = [\"qlik-prod\"]                 # or this Basic user
# networks = [\"10.20.0.0/24\"]           # or these addresses
# limit = { requests = 120, per = \"1m\", burst = 60 }   # instead of limits.per_source
# mode = \"terminate\"                    # or \"tunnel\", for one that can't trust the CA or can't be read
";

/// A command that is run again within this time is meant to do once what it says.
const AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// Reads `path`: the allow-list, or every problem of the file.
pub fn load(path: &Path) -> Result<AllowList, Problems> {
    parse(&toml_table::load(path, "make it, with a comment in it if nobody is allowed yet")?, path)
}

/// Reads `text` as the contents of `path`. A comment alone is an empty list; nothing at all is what an editor
/// leaves half-way, and an error.
pub fn parse(text: &str, path: &Path) -> Result<AllowList, Problems> {
    if text.is_empty() {
        return Err(Problems(vec![Problem {
            file: path.to_owned(),
            line: 0,
            what: "0 bytes are a half-written sources.toml, never an empty list".to_owned(),
            instead: "write it again, with a comment in it if nobody is allowed".to_owned(),
            severity: Severity::Error,
        }]));
    }
    let mut lines = HashMap::new();
    toml_table::read(text, path, |top| top.tables("source", MAX_SOURCES, |t| source(t, &mut lines)))
        .map(|(sources, _)| AllowList { sources: sources.unwrap_or_default() })
}

fn source(t: &mut Table<'_, '_>, lines: &mut HashMap<[u8; 32], usize>) -> Source {
    let id = t.optional("id", |value| {
        toml_table::name::<SourcePattern>("a source id", "fbe89d02-6d24-4595-915e-c52ce76f2195", value)
    });
    if let Some(first) = id.as_ref().and_then(|id| lines.insert(id.digest(), t.line("id"))) {
        t.error("id", format!("is the same as on line {first}"), "make one entry of the two");
    }
    let name = t.or("name", String::new(), label);
    let licenses =
        t.list("licenses", 0, |value| toml_table::name("a license number", "9999000000001253", value));
    let users = t.list("users", 0, user);
    let networks = t.list("networks", 0, toml_table::network);
    let mode =
        t.optional("mode", toml_table::one_of([("terminate", Mode::Terminate), ("tunnel", Mode::Tunnel)]));
    let limit = t.source_rate("limit");
    let learn = t.table("learn", learn);

    let no_caller = t.lacks("users", &users) && t.lacks("networks", &networks);
    if no_caller && !t.has("id") && t.lacks("licenses", &licenses) {
        t.error("id", "the entry allows nobody", "write an id, licenses, users or networks");
    } else if no_caller && mode == Some(Mode::Tunnel) {
        t.error(
            "mode",
            "ids and licenses can't be read in a tunnel",
            "write users or networks, or \"terminate\"",
        );
    }
    if t.has("learn") && t.has("id") {
        t.error("learn", "the id is known already", "remove learn, or the id");
    } else if t.has("learn") && t.lacks("licenses", &licenses) {
        t.error("learn", "an id is learned by its license", "write licenses = [\"9999000000001253\"]");
    }
    Source {
        id,
        name,
        licenses: licenses.unwrap_or_default(),
        users: users.unwrap_or_default(),
        networks: networks.unwrap_or_default(),
        limit,
        mode,
        learn,
        line: t.line(""),
    }
}

fn label(value: &DeValue<'_>) -> Result<String, Wrong> {
    const WRITE: &str = "write at most 200 characters on one line, in quotes";
    let text = toml_table::text(value, WRITE)?;
    if text.chars().count() > 200 || text.chars().any(char::is_control) {
        return Err(Wrong::new("is longer, or holds a control character", WRITE));
    }
    Ok(text.to_owned())
}

/// A user of Basic credentials, which end at the first colon (RFC 7617).
fn user(value: &DeValue<'_>) -> Result<String, Wrong> {
    const WRITE: &str = "write a user name of at most 128 bytes, without a colon, in quotes";
    let text = toml_table::filled(value, WRITE)?;
    if text.len() > 128 || text.contains(':') || text.chars().any(char::is_control) {
        return Err(Wrong::new(format!("{} is not a user name", toml_table::quoted(text)), WRITE));
    }
    Ok(text.to_owned())
}

fn learn(t: &mut Table<'_, '_>) -> Option<Learn> {
    const WRITE: &str = "write a time with its zone, as in \"2026-01-31T12:00:00Z\"";
    let until = t.optional("until", |value| {
        let text = match value {
            DeValue::Datetime(time) => time.to_string(),
            other => toml_table::text(other, WRITE)?.to_owned(),
        };
        text.parse().map_err(|_| {
            Wrong::new(format!("{} is not a time with a zone", toml_table::quoted(&text)), WRITE)
        })
    });
    let from = t.optional("from", |value| {
        const WRITE: &str = "write an IP address in quotes";
        let text = toml_table::text(value, WRITE)?;
        let address: IpAddr = text
            .parse()
            .map_err(|_| Wrong::new(format!("{} is not an IP address", toml_table::quoted(text)), WRITE))?;
        Ok(address.to_canonical())
    });
    if t.is_written() && !t.has("until") {
        t.error("until", "is missing", WRITE);
    }
    until.map(|until| Learn { until, from })
}

/// An entry that is to be added.
#[derive(Clone, Debug, Default)]
pub struct NewSource {
    /// The id, where it is known.
    pub id: Option<SourcePattern>,
    /// What people call it; may be empty.
    pub name: String,
    /// Licenses that vouch for messages without an id.
    pub licenses: Vec<LicenseNumber>,
    /// Basic users.
    pub users: Vec<String>,
    /// Client networks.
    pub networks: Vec<IpNet>,
    /// Waits for the id; only without one, and with a license.
    pub learn: Option<Learn>,
}

/// Why the list was not edited. The file is as it was, unless the words say that it is written.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It can't be read or written.
    #[error("{}", edit::words(.path, .source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has problems, or would have them after the edit.
    #[error("{0}")]
    Invalid(Problems),
    /// Which entry is meant can't be told.
    #[error("{0}")]
    Unclear(String),
    /// Its entries are not written as `[[source]]`.
    #[error("{path} is written in a form that only people can edit; write each entry under [[source]]")]
    Form {
        /// The file.
        path: PathBuf,
    },
}

/// Makes `path`, and the directories above it, unless it is there: an empty list that explains itself.
/// Says whether it did.
pub fn create_if_missing(path: &Path) -> io::Result<bool> {
    if !is_missing(path) {
        return Ok(false);
    }
    match Editing::begin(path)?.create(TEMPLATE.as_bytes(), 0o600) {
        // Somebody else was faster.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|()| true),
    }
}

/// Adds an entry at the end of `path`, which is made if it is missing. `false` where the entry stands there already: a
/// command that is run again, as after a failure, does nothing twice.
pub fn append(path: &Path, new: &NewSource) -> Result<bool, EditError> {
    create_if_missing(path).map_err(|source| EditError::Io { path: path.to_owned(), source })?;
    // As text, since toml_edit would move a comment at the end of the file below the new entry.
    edit(path, |text, list| {
        if list.sources.iter().any(|source| new.is_as(source)) {
            return Ok(None);
        }
        let gap = if text.ends_with('\n') { "\n" } else { "\n\n" };
        Ok(Some(format!("{text}{gap}{new}")))
    })
}

/// What an entry that waits for its id is known by, over every edit of the others: all that tells it from another one
/// of the same license.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Enrolment {
    /// What people call it.
    pub name: String,
    /// Its licenses; at least one.
    pub licenses: Vec<LicenseNumber>,
    /// Basic users, one of which or a network it must come from.
    pub users: Vec<String>,
    /// Likewise.
    pub networks: Vec<IpNet>,
    /// How long it waits, and for whom.
    pub learn: Learn,
}

impl Enrolment {
    /// That of an entry, if it waits.
    pub fn of(source: &Source) -> Option<Self> {
        let Source { name, licenses, users, networks, learn, .. } = source.clone();
        Some(Self { name, licenses, users, networks, learn: learn? })
    }
}

/// Writes `id` to the entry that waits for it, in the place of its `learn`. False, and nothing is written, where it
/// waits no more.
pub fn bind(path: &Path, enrolment: &Enrolment, id: &SourceId) -> Result<bool, EditError> {
    let bound = edit(path, |text, list| {
        let waits = |source: &Source| Enrolment::of(source).as_ref() == Some(enrolment);
        let Some(index) = list.sources.iter().position(waits) else {
            return Ok(None);
        };
        let mut document = document(text, path)?;
        let entry = document
            .get_mut("source")
            .and_then(Item::as_array_of_tables_mut)
            .and_then(|entries| entries.get_mut(index))
            .ok_or_else(|| EditError::Form { path: path.to_owned() })?;
        // The comments above and beside `learn` stay where they are.
        let mut key = Key::new("id");
        let mut value = toml_edit::Value::from(SourcePattern::Clear(id.clone()).to_string());
        if let Some((old_key, old)) = entry.remove_entry("learn") {
            *key.leaf_decor_mut() = old_key.leaf_decor().clone();
            if let Some(old) = old.as_value() {
                *value.decor_mut() = old.decor().clone();
            }
        }
        entry.insert_formatted(&key, Item::Value(value));
        Ok(Some(document.to_string()))
    });
    match bound {
        // The entry has its id, and would not be found waiting a second time.
        Err(EditError::Io { source, .. }) if Fault::is_written(&source) => {
            tracing::warn!("{}: {source}", path.display());
            Ok(true)
        }
        bound => bound,
    }
}

/// Removes the entry that is chosen by its place in the list, with the comments right above it.
pub fn remove(
    path: &Path,
    choose: impl FnOnce(&AllowList) -> Result<usize, String>,
) -> Result<(), EditError> {
    let removed = edit(path, |text, list| {
        let index = choose(list).map_err(EditError::Unclear)?;
        let mut document = document(text, path)?;
        let entries = document
            .get_mut("source")
            .and_then(Item::as_array_of_tables_mut)
            .ok_or_else(|| EditError::Form { path: path.to_owned() })?;
        // What stands above it, up to an empty line, is about something else.
        let above = entries.get(index).and_then(|entry| entry.decor().prefix()?.as_str()).unwrap_or_default();
        let kept = above.rfind("\n\n").map_or("", |end| &above[..end + 1]).to_owned();
        entries.remove(index);
        match entries.get_mut(index) {
            Some(next) => {
                let prefix = next.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
                let prefix = format!("{kept}{prefix}");
                next.decor_mut().set_prefix(prefix);
            }
            None => {
                let trailing = format!("{kept}{}", document.trailing().as_str().unwrap_or_default());
                document.set_trailing(trailing);
            }
        }
        let text = document.to_string();
        // The last entry of a file without comments: an empty file would be taken for a half-written one.
        Ok(Some(if text.is_empty() { TEMPLATE.to_owned() } else { text }))
    });
    removed.map(drop)
}

impl NewSource {
    /// Whether an entry is this one, from a run of the same command before. An enrolment is the same while it waits, unless
    /// it shall wait much longer now.
    fn is_as(&self, source: &Source) -> bool {
        let learns = match (self.learn, source.learn) {
            (None, None) => true,
            (Some(new), Some(old)) => {
                let now = Timestamp::now();
                old.from == new.from && old.until > now && new.until.duration_since(old.until) <= AGAIN
            }
            _ => false,
        };
        let Source { id, name, licenses, users, networks, .. } = source;
        learns
            && (&self.id, &self.licenses, &self.users, &self.networks) == (id, licenses, users, networks)
            && self.name == *name
    }
}

impl fmt::Display for NewSource {
    /// As an entry of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn quoted(text: impl ToString) -> toml_edit::Value {
            text.to_string().into()
        }
        fn list<T: ToString>(items: &[T]) -> Option<toml_edit::Value> {
            (!items.is_empty()).then(|| items.iter().map(ToString::to_string).collect())
        }
        f.write_str("[[source]]\n")?;
        let members = [
            ("id", self.id.as_ref().map(quoted)),
            ("name", Some(&self.name).filter(|name| !name.is_empty()).map(quoted)),
            ("licenses", list(&self.licenses)),
            ("users", list(&self.users)),
            ("networks", list(&self.networks)),
        ];
        for (key, value) in members {
            if let Some(value) = value {
                writeln!(f, "{key} = {value}")?;
            }
        }
        match &self.learn {
            Some(Learn { until, from: Some(from) }) => {
                writeln!(f, "learn = {{ until = \"{until}\", from = \"{from}\" }}")
            }
            Some(Learn { until, from: None }) => writeln!(f, "learn = {{ until = \"{until}\" }}"),
            None => Ok(()),
        }
    }
}

/// Replaces the text of `path` with what `change` makes of it, if anything; says whether it did. One edit at
/// a time; a text with problems is neither edited nor written.
fn edit(
    path: &Path,
    change: impl FnOnce(&str, &AllowList) -> Result<Option<String>, EditError>,
) -> Result<bool, EditError> {
    let failed = |source| EditError::Io { path: path.to_owned(), source };
    let editing = Editing::begin(path).map_err(failed)?;
    let text = toml_table::decode(editing.read(), path, "make it").map_err(EditError::Invalid)?;
    let list = parse(&text, path).map_err(EditError::Invalid)?;
    let Some(changed) = change(&text, &list)? else {
        return Ok(false);
    };
    parse(&changed, path).map_err(EditError::Invalid)?;
    editing.replace(changed.as_bytes()).map_err(failed)?;
    Ok(true)
}

fn document(text: &str, path: &Path) -> Result<DocumentMut, EditError> {
    text.parse().map_err(|_| EditError::Form { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "fbe89d02-6d24-4595-915e-c52ce76f2195";

    fn remove_id(path: &Path, id: &SourcePattern) -> Result<(), EditError> {
        remove(path, |list| {
            let is_it = |source: &Source| source.id.as_ref().is_some_and(|own| own.digest() == id.digest());
            list.sources.iter().position(is_it).ok_or_else(|| "nobody".to_owned())
        })
    }

    fn read(text: &str) -> Result<AllowList, Problems> {
        parse(text, Path::new("sources.toml"))
    }

    #[test]
    fn the_example_of_the_template_is_an_entry() {
        assert_eq!(read(TEMPLATE).unwrap(), AllowList::default());
        let example: Vec<_> =
            TEMPLATE.lines().skip_while(|line| *line != "# [[source]]").map(|line| &line[2..]).collect();
        let list = read(&example.join("\n")).unwrap();
        let source = &list.sources[0];
        assert_eq!(source.id, Some(SourcePattern::Clear(UUID.parse().unwrap())));
        assert_eq!(source.limit.unwrap().requests.burst.get(), 60);
        assert_eq!((source.mode, source.line, source.users.len()), (Some(Mode::Terminate), 1, 1));
    }

    #[test]
    fn each_mistake_is_named_with_its_line_and_its_cure() {
        let hash = SourcePattern::Sha256(SourcePattern::Clear(UUID.parse().unwrap()).digest());
        let twice = format!("[[source]]\nid = \"{UUID}\"\n[[source]]\nid = \"{hash}\"");
        let table = [
            ("", "sources.toml: 0 bytes are a half-written sources.toml, never an empty list"),
            ("[[source]]", ":1: source.id: the entry allows nobody; write an id"),
            ("[[source]]\nlicenses = []", "the entry allows nobody"),
            (
                "[source]\nid = \"a\"",
                ":1: source: found a table instead of a list of tables; write [[source]]",
            ),
            ("[[sources]]\nid = \"a\"", ":1: sources is not a known key; write source,"),
            (
                "[[source]]\nid = \"a\"\nlicense = [\"1\"]",
                ":3: source.license is not a known key; write source.licenses",
            ),
            ("[[source]]\nid = \"sha256:00\"", "because it has no 64 hexadecimal digits"),
            ("[[source]]\nid = \"\"", ":2: source.id: \"\" is not a source id, because it is empty"),
            (
                "[[source]]\nlicenses = [\n\"12\"]",
                ":3: source.licenses: \"12\" is not a license number, because it has",
            ),
            ("[[source]]\nusers = [\"a:b\"]", "\"a:b\" is not a user name; write a user name"),
            ("[[source]]\nnetworks = [\"a\"]", "\"a\" is not a network"),
            (
                "[[source]]\nid = \"a\"\nmode = \"http\"",
                ":3: source.mode: \"http\" is not known; write \"terminate\" or \"tun",
            ),
            (
                "[[source]]\nid = \"a\"\nmode = \"tunnel\"",
                ":3: source.mode: ids and licenses can't be read in a tunnel",
            ),
            ("[[source]]\nid = \"a\"\nlimit = { requests = 0 }", "a limit of 0 lets nobody through"),
            (
                "[[source]]\nid = \"a\"\nlimit = { requests = 1, log_per_day = 9 }",
                ":3: source.limit.log_per_day: 9 bytes are less than",
            ),
            (
                "[[source]]\nlicenses = \"1234\"\nlearn = {}",
                ":3: source.learn.until: is missing; write a time",
            ),
            (
                "[[source]]\nlicenses = \"1234\"\nlearn = { until = 2026-01-01T00:00:00 }",
                "is not a time with a zone",
            ),
            (
                "[[source]]\nid = \"a\"\nlearn = { until = 2026-01-01T00:00:00Z }",
                "learn: the id is known already",
            ),
            (
                "[[source]]\nusers = \"a\"\nlearn = { until = 2026-01-01T00:00:00Z }",
                "an id is learned by its license",
            ),
            (&twice, ":4: source.id: is the same as on line 2; make one entry of the two"),
        ];
        for (text, words) in table {
            let said = read(text).expect_err(text).to_string();
            assert!(said.contains(words), "{text}\n  gave {said}");
            assert_eq!(said.lines().count(), 1, "{text}\n  gave {said}");
        }
    }

    #[test]
    fn an_entry_is_added_bound_and_removed_with_all_else_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below").join("sources.toml");
        assert!(create_if_missing(&path).unwrap());
        assert!(!create_if_missing(&path).unwrap());
        fs::write(
            &path,
            format!("{TEMPLATE}\n# our first\n[[source]] # here\nid = \"one\"   # yes\n# the end"),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::read_to_string(&path).unwrap();

        let learn =
            Learn { until: "2026-01-31T12:00:00Z".parse().unwrap(), from: Some([10, 0, 0, 1].into()) };
        let license: LicenseNumber = "9999 0000 0000 1253".parse().unwrap();
        let new = NewSource {
            name: "a \"new\" one".to_owned(),
            licenses: vec![license],
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            learn: Some(learn),
            ..NewSource::default()
        };
        append(&path, &new).unwrap();
        let after = fs::read_to_string(&path).unwrap();
        assert_eq!(
            after.strip_prefix(&before).unwrap(),
            "\n\n[[source]]\nname = 'a \"new\" one'\nlicenses = [\"9999000000001253\"]\n\
             networks = [\"10.0.0.0/8\"]\n\
             learn = { until = \"2026-01-31T12:00:00Z\", from = \"10.0.0.1\" }\n"
        );
        let added = load(&path).unwrap().sources.remove(1);
        assert_eq!((added.learn, added.id), (Some(learn), None));

        fs::write(
            &path,
            after.replace("learn =", "# waits\nlearn =").replace("10.0.0.1\" }", "10.0.0.1\" } # so"),
        )
        .unwrap();
        let id: SourceId = "two".parse().unwrap();
        let waits = Enrolment::of(&load(&path).unwrap().sources[1]).unwrap();
        let elsewhere = Enrolment { networks: vec![], ..waits.clone() };
        assert!(!bind(&path, &elsewhere, &id).unwrap());
        assert!(bind(&path, &waits, &id).unwrap());
        assert!(!bind(&path, &waits, &id).unwrap());
        let bound = fs::read_to_string(&path).unwrap();
        assert!(bound.starts_with(&before), "{bound}");
        assert!(bound.ends_with("networks = [\"10.0.0.0/8\"]\n# waits\nid = \"two\" # so\n"), "{bound}");

        let hash = SourcePattern::Sha256(SourcePattern::Clear("one".parse().unwrap()).digest());
        remove_id(&path, &hash).unwrap();
        assert!(matches!(remove_id(&path, &hash), Err(EditError::Unclear(_))));
        let left = fs::read_to_string(&path).unwrap();
        assert!(left.starts_with(TEMPLATE) && left.contains("# the end"), "{left}");
        assert!(!left.contains("# our first") && !left.contains("\"one\""), "{left}");
        remove_id(&path, &SourcePattern::Clear(id)).unwrap();
        assert_eq!(load(&path).unwrap(), AllowList::default());
        assert!(fs::read_to_string(&path).unwrap().starts_with(TEMPLATE));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file was left");
    }

    #[test]
    fn a_bad_edit_never_lands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sources.toml");
        let text = "source = [{ id = \"one\" }]\n";
        fs::write(&path, text).unwrap();
        let one = SourcePattern::Clear("one".parse().unwrap());
        let two = NewSource { id: Some("two".parse().unwrap()), ..NewSource::default() };
        assert!(matches!(append(&path, &NewSource::default()), Err(EditError::Invalid(_))));
        assert!(matches!(append(&path, &two), Err(EditError::Invalid(_))));
        assert!(matches!(remove_id(&path, &one), Err(EditError::Form { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::write(&path, "[[source]]\nid = \"two\"\n").unwrap();
        assert!(!append(&path, &two).unwrap(), "the same entry stands there");
        let named = NewSource { name: "other".to_owned(), ..two };
        let twice = append(&path, &named).unwrap_err().to_string();
        assert!(twice.contains("is the same as on line 2"), "{twice}");
        remove_id(&path, &"two".parse().unwrap()).unwrap();
        assert_eq!(load(&path).unwrap(), AllowList::default());
    }

    /// The file that nobody may touch, behind symlinks at all names that an edit could be thought to write to.
    #[test]
    fn an_edit_writes_to_no_name_that_could_be_known_before() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("sources.toml"), folder.path().join("victim"));
        fs::write(&path, "# nobody\n").unwrap();
        fs::write(&victim, "untouched").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join(format!(".sources.toml.{}.tmp", std::process::id()));
        std::os::unix::fs::symlink(&victim, link).unwrap();
        append(&path, &NewSource { users: vec!["qlik".to_owned()], ..NewSource::default() }).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "an edit follows a planted link");
        assert_eq!(load(&path).unwrap().sources[0].users, ["qlik"]);
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[test]
    fn an_edit_by_root_does_not_follow_a_link_of_another_user_to_a_file_that_is_not_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("sources.toml"), folder.path().join("victim"));
        fs::write(&victim, "# only comments, like many a file of the system\n").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        // Not the number of "nobody", who may run this test.
        let other = 65533;
        if let Err(e) = std::os::unix::fs::lchown(&path, Some(other), Some(other)) {
            return crate::skip::skipped(&format!("only root can make a link of another user: {e}"));
        }
        let new = NewSource { users: vec!["qlik".to_owned()], ..NewSource::default() };
        let said = append(&path, &new).unwrap_err().to_string();
        assert!(said.contains("symlink of another user"), "{said}");
        assert!(!fs::read_to_string(&victim).unwrap().contains("qlik"));
        // A link to a file of its own is its own affair.
        std::os::unix::fs::chown(&victim, Some(other), Some(other)).unwrap();
        append(&path, &new).unwrap();
    }

    #[test]
    fn an_edit_goes_through_a_symlink() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file.toml"), folder.path().join("sources.toml"));
        fs::write(&file, "# nobody\r\n").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        append(&link, &NewSource { users: vec!["qlik".to_owned()], ..NewSource::default() }).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(load(&file).unwrap().sources[0].users, ["qlik"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String, id in "[\\PC]{0,80}") {
            let _ = read(&text);
            let _ = read(&format!("[[source]]\nid = {id:?}\nlearn = {{ until = {text:?} }}"));
            let _ = format!("sha256:{id}").parse::<SourcePattern>();
        }

        #[test]
        fn what_is_added_is_what_is_read(
            name in "[^\\p{C}]{0,40}",
            user in "[^\\p{C}: ]{1,20}",
            id in "[^\\p{C} ]{1,20}",
        ) {
            let new = NewSource {
                id: Some(SourcePattern::Clear(id.parse().unwrap())),
                name,
                users: vec![user],
                ..NewSource::default()
            };
            let source = read(&new.to_string()).unwrap().sources.remove(0);
            prop_assert_eq!((source.id, source.name, source.users), (new.id, new.name, new.users));
        }
    }
}
