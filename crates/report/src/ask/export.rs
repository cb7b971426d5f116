//! The log as a flat table, for other programs; and in the fields of Qlik's own Offline User Assignment Log, to be held
//! against one.

use std::io;

use serde_json::json;

use super::answer::{Context, Footer, Question};
use crate::fold::assignments::Change;
use crate::read::open::Read;
use crate::table::rows::counted;
use relay_log::console::period::Period;
use relay_log::ledger::entry::Entry;
use relay_log::ledger::subject::{QlikForm, Subject, qlik_form};

/// Every record, flat.
#[derive(Debug)]
pub(crate) struct Flat {
    period: Period,
}

impl Flat {
    /// Of this period.
    pub(crate) fn new(period: Period) -> Self {
        Self { period }
    }
}

impl Question for Flat {
    fn period(&self) -> Period {
        self.period
    }

    fn columns(&self) -> &'static [&'static str] {
        &[
            "time",
            "log",
            "sequence",
            "exchange",
            "action",
            "direction",
            "outcome",
            "reason",
            "source",
            "license",
            "allotment",
            "subject",
            "name",
            "instance",
            "version",
            "base_version",
            "created",
            "rejection",
            "month",
            "delta",
            "total",
            "count",
            "valid_from",
            "valid_to",
            "overage",
            "http_status",
            "server_date",
            "repeat",
            "alias_of",
            "address",
            "user_agent",
            "written_by",
        ]
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, context: &mut Context<'_, '_>) -> io::Result<()> {
        if !self.period.has(entry.time) {
            return Ok(());
        }
        let qlik = &entry.qlik;
        let name = entry.subject.as_deref().and_then(|subject| context.names.of(subject));
        context.rows.row(vec![
            entry.time.into(),
            log.into(),
            entry.sequence.into(),
            (*entry.exchange).into(),
            (*entry.action).into(),
            qlik.direction.as_deref().into(),
            entry.outcome.word().into(),
            Some(&*entry.reason).filter(|reason| !reason.is_empty()).into(),
            qlik.source_id.as_deref().into(),
            qlik.license.as_deref().into(),
            qlik.allotment.as_deref().into(),
            entry.subject.as_deref().into(),
            name.into(),
            qlik.instance.as_deref().into(),
            qlik.version.into(),
            qlik.base_version.into(),
            qlik.created.as_deref().into(),
            qlik.rejection.as_deref().into(),
            qlik.month.as_deref().into(),
            qlik.delta.into(),
            qlik.total.into(),
            qlik.count.into(),
            qlik.valid_from.as_deref().into(),
            qlik.valid_to.as_deref().into(),
            qlik.overage.as_deref().into(),
            qlik.http_status.map(u64::from).into(),
            qlik.server_date.as_deref().into(),
            qlik.repeat.map(|repeat| repeat.count).into(),
            qlik.alias_of.as_deref().into(),
            entry.client.map(|client| client.to_string()).into(),
            entry.user_agent.as_deref().into(),
            entry.written_by.as_deref().into(),
        ])
    }

    fn finish(&mut self, read: &Read, context: &mut Context<'_, '_>) -> io::Result<Footer> {
        let logs = read.verified.iter().enumerate().map(|(at, log)| format!("log {at} is {}", log.origin));
        let notes = std::iter::once(counted(context.rows.count, "record", "records")).chain(logs).collect();
        Ok(Footer { notes, ..Footer::default() })
    }
}

/// Assignments in the fields of the Offline User Assignment Log.
#[derive(Debug)]
pub(crate) struct AsQlik {
    period: Period,
    form: QlikForm,
    unresolved: u64,
}

impl AsQlik {
    /// Of this period, with subjects in this form.
    pub(crate) fn new(period: Period, form: QlikForm) -> Self {
        Self { period, form, unresolved: 0 }
    }
}

impl Question for AsQlik {
    fn columns(&self) -> &'static [&'static str] {
        &["time", "license", "license_jti", "allotment", "change", "subject", "user_agent"]
    }

    fn take(&mut self, _: usize, entry: &Entry<'_>, context: &mut Context<'_, '_>) -> io::Result<()> {
        let qlik = &entry.qlik;
        let asked = qlik.direction.as_deref() == Some("out");
        let change = Change::of(&entry.action).filter(|_| asked);
        let (Some(change), Some(subject), true) =
            (change, entry.subject.as_deref(), self.period.has(entry.time))
        else {
            return Ok(());
        };
        let name = context.names.of(subject);
        self.unresolved += u64::from(name.is_none());
        let hashed = name.map(|name| qlik_form(&Subject::new(&name), self.form));
        context.rows.row(vec![
            entry.time.into(),
            qlik.license.as_deref().into(),
            qlik.license_jti.as_deref().into(),
            qlik.allotment.as_deref().into(),
            change.word().into(),
            hashed.into(),
            entry.user_agent.as_deref().into(),
        ])
    }

    fn finish(&mut self, _: &Read, _: &mut Context<'_, '_>) -> io::Result<Footer> {
        let mut notes = vec![
            "these are the fields that Qlik's article on the Offline User Assignment Log names; the layout of that file is \
             not public, and uploads are for long-term offline licenses, so this is for comparing, not for uploading"
                .to_owned(),
            "the signed key itself is in no log: license and license_jti are what it says of itself".to_owned(),
            "subjects are hashed exactly as the list of names spells them, without a key: a staff list undoes them in \
             seconds, so keep this file as you would keep the names"
                .to_owned(),
        ];
        if self.unresolved > 0 {
            notes.push(format!(
                "{} rows have no subject, because the list of names or the keys do not resolve it",
                self.unresolved
            ));
        }
        Ok(Footer { notes, members: vec![("unresolved", json!(self.unresolved))], gaps: false })
    }
}
