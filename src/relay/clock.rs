//! What happens by the clock: counts of folded refusals, signs of life, and renewed leaves.

use std::sync::Arc;

use tokio::time::sleep;
use uuid::Uuid;

use crate::app::App;
use crate::bounds;
use crate::tls::dates;
use relay_log::ledger::action::Action;
use relay_log::ledger::record::Record;

/// Writes counts of folded refusals, and a sign of life where nothing else was written, so that a crash is dated to the
/// minute.
pub(super) async fn keep_time(app: Arc<App>) {
    let journal = &app.exchange.journal;
    let mut written = *journal.committed().borrow();
    loop {
        sleep(bounds::REFUSAL_WINDOW).await;
        app.exchange.refusals.flush();
        app.setup.load().access.write_folded();
        let committed = *journal.committed().borrow();
        let silent = written == committed;
        if silent {
            journal.note_in_turn(vec![Record::new(Action::RelayHeartbeat, Uuid::now_v7())]).await;
        }
        written = committed + u64::from(silent);
    }
}

/// Renews leaves even while no client comes, and logs once when a leaf in use is not valid. It looks each second, so that it
/// finds every step of the clock.
pub(super) async fn keep_leaves(app: Arc<App>) {
    let mut told = false;
    loop {
        let faces = app.setup.load().faces.clone();
        faces.freshen().await;
        let fault = faces.fault(dates::now());
        if let Some(fault) = fault.as_ref().filter(|_| !told) {
            tracing::error!("clients refuse this relay: {fault}");
        }
        told = fault.is_some();
        drop(faces);
        sleep(bounds::RENEWAL_CHECK).await;
    }
}
