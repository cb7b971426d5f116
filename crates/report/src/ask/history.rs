//! All that the log says of one person, over all keys that hid the name; and under which of them there is anything.

use std::collections::BTreeSet;
use std::io;

use super::answer::{Context, Footer, Question};
use crate::fold::assignments::Change;
use crate::read::open::Read;
use crate::table::rows::counted;
use relay_log::ledger::entry::{Ended, Entry};

/// Everything of one person.
#[derive(Debug)]
pub(crate) struct History {
    pseudonyms: BTreeSet<String>,
    found: BTreeSet<String>,
    /// What the back end calls the person's assignments, each with its license: a delete may name nothing else.
    instances: BTreeSet<(String, String)>,
}

/// Assignments of one person that are remembered.
const INSTANCES: usize = 100_000;

impl History {
    /// Of the person with these pseudonyms.
    pub(crate) fn new(pseudonyms: BTreeSet<String>) -> Self {
        Self { pseudonyms, found: BTreeSet::new(), instances: BTreeSet::new() }
    }
}

impl Question for History {
    fn columns(&self) -> &'static [&'static str] {
        &[
            "time",
            "license",
            "allotment",
            "direction",
            "change",
            "outcome",
            "rejection",
            "version",
            "source",
            "address",
            "sequence",
            "subject",
            "name",
        ]
    }

    fn take(&mut self, _: usize, entry: &Entry<'_>, context: &mut Context<'_, '_>) -> io::Result<()> {
        let subject = entry.subject.as_deref();
        let told = entry.qlik.license.as_deref().zip(entry.qlik.instance.as_deref());
        let instance = told.filter(|(_, instance)| !instance.is_empty());
        let instance = instance.map(|(license, instance)| (license.to_owned(), instance.to_owned()));
        let is_of = |subject: &str| self.pseudonyms.contains(subject);
        let of_instance = || instance.as_ref().is_some_and(|instance| self.instances.contains(instance));
        if !subject.map_or_else(of_instance, is_of) {
            return Ok(());
        }
        if let Some(instance) = instance.filter(|_| subject.is_some() && self.instances.len() < INSTANCES) {
            self.instances.insert(instance);
        }
        let subject = subject.unwrap_or_default();
        if !subject.is_empty() && !self.found.contains(subject) {
            self.found.insert(subject.to_owned());
        }
        let change = match Change::of(&entry.action) {
            Some(change) => change.word(),
            None if &*entry.action == "audit.alias" => "alias",
            None => &entry.action,
        };
        let qlik = &entry.qlik;
        context.rows.row(vec![
            entry.time.into(),
            qlik.license.as_deref().into(),
            qlik.allotment.as_deref().into(),
            qlik.direction
                .as_deref()
                .map(|direction| if direction == "in" { "told" } else { "asked" })
                .into(),
            change.into(),
            match (qlik.direction.as_deref(), entry.outcome) {
                // What becomes of it is told by the record of the answer.
                (Some("out"), Ended::Unknown) => "asked".into(),
                _ => entry.outcome.word().into(),
            },
            qlik.rejection.as_deref().filter(|rejection| !rejection.is_empty()).into(),
            qlik.version.filter(|version| *version > 0).into(),
            qlik.source_id.as_deref().into(),
            entry.client.map(|client| client.to_string()).into(),
            entry.sequence.into(),
            Some(subject).filter(|subject| !subject.is_empty()).into(),
            context.names.of(subject).into(),
        ])
    }

    fn finish(&mut self, _: &Read, context: &mut Context<'_, '_>) -> io::Result<Footer> {
        let notes = vec![match self.found.len() {
            0 => {
                let tried: BTreeSet<&str> =
                    self.pseudonyms.iter().filter_map(|one| one.split(':').rev().nth(1)).collect();
                let tried: Vec<&str> = tried.into_iter().collect();
                format!("nothing in the log is about this person under what was tried ({})", tried.join(", "))
            }
            many => format!(
                "{}, under {}",
                counted(context.rows.count, "record", "records"),
                counted(many as u64, "pseudonym", "pseudonyms that are one person's")
            ),
        }];
        Ok(Footer { notes, ..Footer::default() })
    }
}
