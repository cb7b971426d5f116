//! Writes ids that enrolments have learned into the list of sources.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::sleep;
use uuid::Uuid;

use crate::app::App;
use crate::bounds;
use crate::config::sources;
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::record::Record;
use relay_log::names::SourceId;

/// Writes the ids that enrolments have learned into `sources.toml`, which is then read again as any change of it.
pub(super) async fn keep_learned(app: Arc<App>, mut learned: mpsc::Receiver<SourceId>) {
    while let Some(id) = learned.recv().await {
        // Until the file says so, the id is known to this process alone: a restart would learn anew.
        while let Err(e) = write_learned(&app, &id).await {
            tracing::error!("source {id} can't be written into the allow-list: {e}");
            sleep(bounds::LEARNED_RETRY).await;
        }
    }
}

async fn write_learned(app: &App, id: &SourceId) -> Result<(), String> {
    let setup = app.setup.load_full();
    let Some(enrolment) = setup.policy.registry.enrolment_of(id) else { return Ok(()) };
    let license = enrolment.licenses.first().map(ToString::to_string).unwrap_or_default();
    let (file, bound_id) = (setup.config.sources.file.clone(), id.clone());
    let bind = move || sources::bind(&file, &enrolment, &bound_id);
    let bound = tokio::task::spawn_blocking(bind).await.map_err(|e| e.to_string())?;
    if bound.map_err(|e| e.to_string())? {
        tracing::info!("enrolled: source {id} is now bound to license {license}");
        let mut record = Record::new(Action::RelayConfig, Uuid::now_v7());
        record.outcome = Outcome::Success;
        record.reason = "an enrolment learned the id of its deployment".into();
        record.qlik.source_id = Some(id.to_string());
        record.qlik.license = Some(license);
        app.exchange.journal.note_in_turn(vec![record]).await;
    }
    Ok(())
}
