//! One person's history joined over a change of keys: the first time that a log sees a person under the newest key, what
//! the retired keys made of the name is linked to what the newest makes of it. After that a retired key may be destroyed.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::records::NamedRecord;
use crate::bounds;
use crate::config::state_file;
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::record::Record;
use relay_log::ledger::subject::keys::Keys;

/// The people that are linked already, in memory and in `linked.json` beside the log.
#[derive(Debug)]
pub struct Aliases {
    path: PathBuf,
    table: Mutex<LinkedTable>,
    changed: Notify,
    /// Held by the one who writes the file.
    writing: Mutex<()>,
}

/// What the file holds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct LinkedTable {
    /// The name of the log that the aliases are in: one that begins anew has none of them.
    log: String,
    /// The newest pseudonyms of people, which have the key's id in them.
    linked: HashSet<String>,
}

/// Records with the aliases of whom they name for the first time, made as they are taken.
#[derive(Debug)]
pub struct Joined<'a, I> {
    aliases: &'a Aliases,
    /// None where no key is retired.
    keys: Option<&'a Keys>,
    records: I,
    /// What comes before the next of `records`: aliases, and the record that they are for.
    ready: VecDeque<Record>,
    /// Whose aliases were taken and are not yet known to be written, by their newest pseudonyms.
    people: HashSet<String>,
}

impl<'s, I: Iterator<Item = NamedRecord<'s>>> Iterator for Joined<'_, I> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if let Some(record) = self.ready.pop_front() {
            return Some(record);
        }
        let NamedRecord { record, subject } = self.records.next()?;
        if let (Some(keys), Some(subject), Some(newest)) = (self.keys, subject, &record.subject)
            && !self.aliases.knows(newest)
            && self.people.insert(newest.clone())
        {
            let older = keys.older(subject).into_iter().map(|old| alias(&record, newest, old));
            self.ready.extend(older);
        }
        self.ready.push_back(record);
        self.ready.pop_front()
    }
}

impl<I> Joined<'_, I> {
    /// Everything that was taken is on disk.
    pub fn is_written(&mut self) {
        self.aliases.remember(self.people.drain());
    }
}

impl Aliases {
    /// Goes on with what the file beside a log of this name holds. Where it is lost, people are linked once more.
    pub fn open(folder: &Path, log: &str) -> Self {
        let path = folder.join("linked.json");
        let mut table = state_file::read_or_warn::<LinkedTable>(&path);
        if table.log != log {
            table = LinkedTable { log: log.to_owned(), linked: HashSet::new() };
        }
        Self { path, table: Mutex::new(table), changed: Notify::new(), writing: Mutex::default() }
    }

    /// Puts an alias for each retired key before the first record that names a person, where none is written yet. Two
    /// exchanges that name a person at the same moment may both do it: what counts is that no record stands without.
    pub fn join<'a, 's, I>(&'a self, records: I, keys: Option<&'a Keys>) -> Joined<'a, I>
    where
        I: Iterator<Item = NamedRecord<'s>>,
    {
        let keys = keys.filter(|keys| !keys.retired().is_empty());
        Joined { aliases: self, keys, records, ready: VecDeque::new(), people: HashSet::new() }
    }

    /// Remembers people whose aliases are on disk. A table that is full begins anew: they are linked once more then.
    fn remember(&self, people: impl ExactSizeIterator<Item = String>) {
        if people.len() == 0 {
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
        state_file::keep_written(self, |this| &this.changed, Self::write, bounds::LINKED_WRITE).await;
    }

    /// Writes the file a last time.
    pub(crate) async fn write_last(self: Arc<Self>) {
        state_file::write_last(self, Self::write).await;
    }

    fn write(&self) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.table().linked.is_empty() {
            return Ok(());
        }
        let table = self.table().clone();
        state_file::write(&self.path, &table)
    }

    fn knows(&self, person: &str) -> bool {
        self.table().linked.contains(person)
    }

    fn table(&self) -> MutexGuard<'_, LinkedTable> {
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
    use relay_log::files::private::write_private;
    use relay_log::ledger::subject::Subject;
    use relay_log::ledger::subject::SubjectCase;

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

    fn subjects(people: &[&str]) -> Vec<Subject> {
        people.iter().map(|name| Subject::new(name)).collect()
    }

    /// What a sync of these people leaves in the log.
    fn sync<'s>(people: &'s [Subject], keys: &Keys) -> Vec<NamedRecord<'s>> {
        let change = |subject| {
            let mut record = Record::new(Action::AssignmentAdd, Uuid::nil());
            record.subject = Some(keys.of(subject));
            NamedRecord { record, subject: Some(subject) }
        };
        let head = NamedRecord::from(Record::new(Action::SyncRequest, Uuid::nil()));
        std::iter::once(head).chain(people.iter().map(change)).collect()
    }

    fn actions(records: impl Iterator<Item = Record>) -> Vec<Action> {
        records.map(|record| record.action).collect()
    }

    #[test]
    fn a_person_is_linked_under_each_retired_key_right_before_being_named_and_once() {
        use Action::{AssignmentAdd as Add, AuditAlias as Alias, SyncRequest as Head};
        let (_folder, keys) = keys(&["k2024", "k2025"]);
        let aliases = Aliases::open(Path::new("/nowhere"), "log");
        let three = subjects(&["ACME\\bob", "acme\\BOB", "acme\\carol"]);
        let mut joined = aliases.join(sync(&three, &keys).into_iter(), Some(&keys));
        let records: Vec<Record> = joined.by_ref().collect();
        assert_eq!(actions(records.iter().cloned()), [Head, Alias, Alias, Add, Add, Alias, Alias, Add]);
        let of_all = keys.of_all(&Subject::new("acme\\bob"));
        for (at, (_, older)) in of_all[1..].iter().enumerate() {
            let record = &records[1 + at];
            assert_eq!(
                (record.subject.as_ref(), record.qlik.alias_of.as_ref()),
                (Some(&of_all[0].1), Some(older))
            );
        }
        // As long as nothing is known to be written, all of it is to be written.
        let bob = subjects(&["acme\\bob"]);
        let again = aliases.join(sync(&bob, &keys).into_iter(), Some(&keys));
        assert_eq!(actions(again), [Head, Alias, Alias, Add]);
        joined.is_written();
        let others = subjects(&["acme\\carol", "acme\\dave", "acme\\bob"]);
        let joined = aliases.join(sync(&others, &keys).into_iter(), Some(&keys));
        assert_eq!(actions(joined), [Head, Add, Alias, Alias, Add, Add]);
    }

    #[test]
    fn without_retired_keys_and_in_the_raw_form_nothing_is_linked() {
        let (_folder, keys) = keys(&[]);
        let bob = subjects(&["acme\\bob"]);
        for keys_of_form in [Some(&keys), None] {
            let aliases = Aliases::open(Path::new("/nowhere"), "log");
            let mut joined = aliases.join(sync(&bob, &keys).into_iter(), keys_of_form);
            assert_eq!((joined.by_ref().count(), joined.people.len()), (2, 0));
        }
    }

    #[test]
    fn who_is_linked_stays_so_in_the_next_run_and_not_in_another_log() {
        let folder = tempfile::tempdir().unwrap();
        let aliases = Aliases::open(folder.path(), "log");
        aliases.remember(["hmac-sha256:k1:00".to_owned()].into_iter());
        aliases.write().unwrap();
        assert!(Aliases::open(folder.path(), "log").knows("hmac-sha256:k1:00"));
        assert!(!Aliases::open(folder.path(), "log#2").knows("hmac-sha256:k1:00"));
    }

    #[test]
    fn the_table_of_those_who_are_linked_is_bounded() {
        let aliases = Aliases::open(Path::new("/nowhere"), "log");
        aliases.remember((0..bounds::LINKED).map(|n| n.to_string()));
        assert!(aliases.knows("0"));
        aliases.remember(["one more".to_owned()].into_iter());
        assert!(aliases.knows("one more") && !aliases.knows("0"));
    }
}
