//! Which deployments use which license.

use std::io;

use super::answer::{Desk, Question, Said};
use crate::fold::deployments::{self, Deployments};
use crate::input::deployment_names::Called;
use crate::read::open::Read;
use relay_log::ledger::entry::Entry;

/// Which deployments use which license.
#[derive(Debug)]
pub struct Users {
    called: Called,
    all: Deployments,
}

impl Users {
    /// With the names that the allow-list has for them.
    pub fn new(called: Called) -> Self {
        Self { called, all: Deployments::default() }
    }
}

impl Question for Users {
    fn columns(&self) -> &'static [&'static str] {
        deployments::COLUMNS
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, _: &mut Desk<'_, '_>) -> io::Result<()> {
        self.all.take(log, entry);
        Ok(())
    }

    fn finish(&mut self, _: &Read, desk: &mut Desk<'_, '_>) -> io::Result<Said> {
        for deployment in self.all.rows() {
            let mut deployment = deployment.clone();
            deployment.name = match &*deployment.source {
                "" => Some("(activations and definitions name no source)".to_owned()),
                source => self.called.name(source),
            };
            desk.rows.row(deployment.cells())?;
        }
        let mut notes = self.all.in_use();
        if self.all.beyond > 0 {
            notes.push(format!(
                "{} records are of deployments that are too many to be listed",
                self.all.beyond
            ));
        }
        Ok(Said { notes, ..Said::default() })
    }
}
