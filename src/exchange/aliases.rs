//! One person's history joined over a change of keys: the first time that a log sees a person under the newest key, what
//! the retired keys made of the name is linked to what the newest makes of it. After that a retired key may be destroyed.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::bounds;
use crate::config::state;
use crate::ledger::record::{Action, Outcome, Record};
use crate::ledger::subject::keys::Keys;
use crate::licensing::message::{Kind, Message, Patch};
use crate::licensing::reply::Told;

/// The people that are linked already, in memory and in `linked.json` beside the log.
#[derive(Debug)]
pub struct Aliases {
    path: PathBuf,
    table: Mutex<Table>,
    changed: Notify,
    /// Held by the one who writes the file.
    writing: Mutex<()>,
}

/// What the file holds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Table {
    /// The name of the log that the aliases are in: one that begins anew has none of them.
    log: String,
    /// The newest pseudonyms of people, which have the key's id in them.
    linked: HashSet<String>,
}

/// Records, and the people that are linked once these are written.
#[derive(Debug)]
pub struct Joined {
    /// All of them, in their order.
    pub records: Vec<Record>,
    /// By their newest pseudonyms.
    pub people: Vec<String>,
}

/// The changes that a message asks for.
pub fn asked(message: &Message) -> impl Iterator<Item = &Patch> {
    let other = message.other.as_deref().map(|other| &other.kind);
    std::iter::once(&message.kind).chain(other).flat_map(Kind::patches)
}

/// The changes that a reply tells of.
pub fn told(told: &Told) -> impl Iterator<Item = &Patch> {
    told.what.patches().iter().chain(&told.other)
}

impl Aliases {
    /// Goes on with what the file beside a log of this name holds. Where it is lost, people are linked once more.
    pub fn open(folder: &Path, log: &str) -> Self {
        let path = folder.join("linked.json");
        let mut table = state::read_or_warn::<Table>(&path);
        if table.log != log {
            table = Table { log: log.to_owned(), linked: HashSet::new() };
        }
        Self { path, table: Mutex::new(table), changed: Notify::new(), writing: Mutex::default() }
    }

    /// Puts an alias for each retired key before the first record that names a person of these changes, where none is
    /// written yet. Two exchanges that name a person at the same moment may both do it: what counts is that
    /// no record stands without.
    pub fn join<'p>(
        &self,
        records: Vec<Record>,
        patches: impl IntoIterator<Item = &'p Patch>,
        keys: Option<&Keys>,
    ) -> Joined {
        let Some(keys) = keys.filter(|keys| !keys.retired().is_empty()) else {
            return Joined { records, people: Vec::new() };
        };
        let mut new = HashMap::new();
        for subject in patches.into_iter().filter_map(|patch| patch.subject.as_ref()) {
            let newest = keys.of(subject);
            if !self.knows(&newest) && !new.contains_key(&newest) {
                new.insert(newest, keys.older(subject));
            }
        }
        let mut joined =
            Joined { records: Vec::with_capacity(records.len()), people: Vec::with_capacity(new.len()) };
        for record in records {
            if let Some((newest, older)) = record.subject.as_ref().and_then(|person| new.remove_entry(person))
            {
                joined.records.extend(older.into_iter().map(|old| alias(&record, &newest, old)));
                joined.people.push(newest);
            }
            joined.records.push(record);
        }
        joined
    }

    /// Remembers people whose aliases are on disk. A table that is full begins anew: they are linked once more then.
    pub fn remember(&self, people: Vec<String>) {
        if people.is_empty() {
            return;
        }
        let mut table = self.table();
        for person in people {
            if table.linked.len() >= bounds::LINKED {
                table.linked.clear();
            }
            table.linked.insert(person);
        }
        self.changed.notify_one();
    }

    /// Writes the file whenever something changed, at most once in a while. Never returns.
    pub(crate) async fn keep_written(self: Arc<Self>) {
        state::keep_written(self, |this| &this.changed, Self::write, bounds::LINKED_WRITE).await;
    }

    /// Writes the file a last time.
    pub(crate) async fn write_last(self: Arc<Self>) {
        state::write_last(self, Self::write).await;
    }

    fn write(&self) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.table().linked.is_empty() {
            return Ok(());
        }
        let table = self.table().clone();
        state::write(&self.path, &table)
    }

    fn knows(&self, person: &str) -> bool {
        self.table().linked.contains(person)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn alias(named: &Record, newest: &str, older: String) -> Record {
    let mut record = Record::new(Action::AuditAlias, named.exchange);
    record.outcome = Outcome::Success;
    record.subject = Some(newest.to_owned());
    record.qlik.alias_of = Some(older);
    record
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::config::model::SubjectCase;
    use crate::config::private::write_private;
    use crate::ledger::subject::Subject;
    use crate::licensing::message::Change;
    use crate::licensing::vocabulary::Vocabulary;

    fn keys(retired: &[&str]) -> (tempfile::TempDir, Keys) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subject.key");
        let line = |id: &str| format!("{id}:{}", "5a".repeat(32));
        write_private(&path, line("k2026").as_bytes()).unwrap();
        for id in retired {
            write_private(&folder.path().join(format!("subject.key.{id}")), line(id).as_bytes()).unwrap();
        }
        let keys = Keys::read(&path, SubjectCase::Fold).unwrap();
        (folder, keys)
    }

    /// A sync of these people, and what it leaves in the log.
    fn sync(people: &[&str], keys: &Keys) -> (Vec<Patch>, Vec<Record>) {
        let patch = |name: &&str| Patch {
            instance: None,
            version: None,
            license: None,
            allotment: None,
            subject: Some(Subject::new(name)),
            created: None,
            rejection: None,
            unfit_license: false,
            change: Change::Add,
        };
        let patches: Vec<Patch> = people.iter().map(patch).collect();
        let mut records = vec![Record::new(Action::SyncRequest, Uuid::nil())];
        for patch in &patches {
            let mut record = Record::new(Action::AssignmentAdd, Uuid::nil());
            record.subject = patch.subject.as_ref().map(|subject| keys.of(subject));
            records.push(record);
        }
        (patches, records)
    }

    fn actions(joined: &Joined) -> Vec<Action> {
        joined.records.iter().map(|record| record.action).collect()
    }

    #[test]
    fn a_person_that_only_the_built_in_vocabulary_finds_is_one_to_be_linked() {
        let own = Vocabulary::parse("[sync]\nsubject = [\"created\"]\n", "v.toml".as_ref()).unwrap();
        let words = own.try_into().unwrap();
        let body = br#"{"bases":[],"patches":[{"subject":"a","created":"b","allotment":"x"}]}"#;
        let target = "/x".parse().unwrap();
        let message = Message::read(&http::Method::POST, &target, &http::HeaderMap::new(), body, &words);
        let people: Vec<_> = asked(&message).map(|patch| patch.subject.clone().unwrap()).collect();
        assert_eq!(people, [Subject::new("b"), Subject::new("a")]);
        let told = Told::read(&message.kind, http::StatusCode::OK, &http::HeaderMap::new(), body, &words);
        assert_eq!(super::told(&told).count(), 2);
    }

    #[test]
    fn a_person_is_linked_under_each_retired_key_right_before_being_named_and_once() {
        use Action::{AssignmentAdd as Add, AuditAlias as Alias, SyncRequest as Head};
        let (_folder, keys) = keys(&["k2024", "k2025"]);
        let aliases = Aliases::open(Path::new("/nowhere"), "log");
        let (patches, records) = sync(&["ACME\\bob", "acme\\BOB", "acme\\carol"], &keys);
        let joined = aliases.join(records, &patches, Some(&keys));
        assert_eq!(actions(&joined), [Head, Alias, Alias, Add, Add, Alias, Alias, Add]);
        let of_all = keys.of_all(&Subject::new("acme\\bob"));
        for (at, (_, older)) in of_all[1..].iter().enumerate() {
            let record = &joined.records[1 + at];
            assert_eq!(
                (record.subject.as_ref(), record.qlik.alias_of.as_ref()),
                (Some(&of_all[0].1), Some(older))
            );
        }
        // As long as nothing is known to be written, all of it is to be written.
        let (patches, records) = sync(&["acme\\bob"], &keys);
        assert_eq!(actions(&aliases.join(records, &patches, Some(&keys))), [Head, Alias, Alias, Add]);
        aliases.remember(joined.people);
        let (patches, records) = sync(&["acme\\carol", "acme\\dave", "acme\\bob"], &keys);
        let joined = aliases.join(records, &patches, Some(&keys));
        assert_eq!(actions(&joined), [Head, Add, Alias, Alias, Add, Add]);
    }

    #[test]
    fn without_retired_keys_and_in_the_raw_form_nothing_is_linked() {
        let (_folder, keys) = keys(&[]);
        for keys_of_form in [Some(&keys), None] {
            let (patches, records) = sync(&["acme\\bob"], &keys);
            let joined = Aliases::open(Path::new("/nowhere"), "log").join(records, &patches, keys_of_form);
            assert_eq!((joined.records.len(), joined.people.len()), (2, 0));
        }
    }

    #[test]
    fn who_is_linked_stays_so_in_the_next_run_and_not_in_another_log() {
        let folder = tempfile::tempdir().unwrap();
        let aliases = Aliases::open(folder.path(), "log");
        aliases.remember(vec!["hmac-sha256:k1:00".into()]);
        aliases.write().unwrap();
        assert!(Aliases::open(folder.path(), "log").knows("hmac-sha256:k1:00"));
        assert!(!Aliases::open(folder.path(), "log#2").knows("hmac-sha256:k1:00"));
    }

    #[test]
    fn the_table_of_those_who_are_linked_is_bounded() {
        let aliases = Aliases::open(Path::new("/nowhere"), "log");
        aliases.remember((0..bounds::LINKED).map(|n| n.to_string()).collect());
        assert!(aliases.knows("0"));
        aliases.remember(vec!["one more".into()]);
        assert!(aliases.knows("one more") && !aliases.knows("0"));
    }
}
