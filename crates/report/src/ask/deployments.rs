//! Which deployments use which license.

use std::io;

use super::answer::{Context, Footer, Question};
use crate::fold::deployments::{self, Deployments};
use crate::input::deployment_names::DeploymentNames;
use crate::read::open::Read;
use relay_log::ledger::entry::Entry;

/// Which deployments use which license.
#[derive(Debug)]
pub struct Users {
    called: DeploymentNames,
    all: Deployments,
}

impl Users {
    /// With the names that the allow-list has for them.
    pub fn new(called: DeploymentNames) -> Self {
        Self { called, all: Deployments::default() }
    }
}

impl Question for Users {
    fn columns(&self) -> &'static [&'static str] {
        deployments::COLUMNS
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, _: &mut Context<'_, '_>) -> io::Result<()> {
        self.all.take(log, entry);
        Ok(())
    }

    fn finish(&mut self, _: &Read, context: &mut Context<'_, '_>) -> io::Result<Footer> {
        for deployment in self.all.rows() {
            let mut deployment = deployment.clone();
            deployment.name = match &*deployment.source {
                "" => Some("(activations and definitions name no source)".to_owned()),
                source => self.called.name(source),
            };
            context.rows.row(deployment.cells())?;
        }
        let mut notes = self.all.in_use();
        if self.all.beyond > 0 {
            notes.push(format!(
                "{} records are of deployments that are too many to be listed",
                self.all.beyond
            ));
        }
        Ok(Footer { notes, ..Footer::default() })
    }
}
