//! `license-relay serve`: the relay, until it is told to stop.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use super::{load, runtime};
use crate::config::model::{Config, Identity};
use crate::observe::admin::ReloadRequest;
use crate::observe::log;
use crate::relay::{self, Ended, Relay};
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out;

/// Runs the relay; SIGTERM and SIGINT drain it, SIGHUP makes it read its configuration and all files of it at once.
pub(super) fn run(path: &Path) -> Result<(), Failure> {
    let config = load(path)?;
    log::start(config.log);
    harden();
    runtime::on_workers(relay::THREADS + config.audit.anchors.len(), serve(config))
}

async fn serve(config: Config) -> Result<(), Failure> {
    let signals = |kind| signal(kind).map_err(|e| Failure::new(Exit::Internal, format!("no signals: {e}")));
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut hang_up = signals(SignalKind::hangup())?;
    // On a task of its own: a start that hangs at a disk or a mount can be ended too.
    let mut starting = tokio::spawn(Relay::start(config.clone()));
    let relay = tokio::select! {
        started = &mut starting => started.map_err(|e| Failure::new(Exit::Internal, format!("starting failed: {e}")))??,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    out::greet(&greeting(&config, &relay));

    let reload = relay.reloader();
    let told_to_stop = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hang_up.recv() => drop(reload.try_send(ReloadRequest { by: None })),
            }
        }
    };
    match relay.run(told_to_stop).await {
        Ended::Stopped => Ok(()),
        Ended::CutOff => {
            Err(Failure::new(Exit::Internal, "stopped, and cut off requests that took too long"))
        }
        Ended::ServiceLost(why) => {
            Err(Failure::new(Exit::Internal, format!("{why}; start again, and tell us what its log says")))
        }
        Ended::LogLost(why) => Err(Failure::new(
            Exit::Io,
            format!("the audit log is given up ({why}); make its disk and folder sound, then start again"),
        )),
    }
}

/// No core dump may hold a key or a name, and the descriptors that are allowed are there to be used.
fn harden() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    let dumps_off = setrlimit(Resource::Core, no_core)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(e) = dumps_off {
        tracing::warn!("core dumps can't be switched off ({e}); a crash may leave secrets on disk");
    }
    let open = getrlimit(Resource::Nofile);
    if let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: open.maximum, ..open }) {
        tracing::warn!("the limit of open files can't be raised ({e})");
    }
}

fn greeting(config: &Config, relay: &Relay) -> String {
    let mut text = format!("license-relay {} is ready\n", env!("CARGO_PKG_VERSION"));
    let mut line = |what: &str, value: &str| text.push_str(&format!("  {what:<22}{value}\n"));
    for address in relay.addresses() {
        line("listens on", &address.to_string());
    }
    let host = config.listen.hostnames.first().map(ToString::to_string).unwrap_or_default();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let port = relay.addresses().first().map_or(0, std::net::SocketAddr::port);
    line("the product's proxy", &format!("proxy-uri=http://{host}:{port}"));
    match &config.tls.identity {
        Identity::Issuer { root, .. } => {
            let made = if relay.made_authority() { "  (made just now)" } else { "" };
            line("root to trust", &format!("{}{made}", shown(root)));
        }
        Identity::Leaves(pairs) => {
            let chains: Vec<String> = pairs.iter().map(|(chain, _)| shown(chain)).collect();
            line("certificates", &chains.join(", "));
        }
    }
    for to in &config.destinations {
        line("leads to", &format!("{}:{}", to.host, to.port));
    }
    line("allowed sources", &shown(&config.sources.file));
    line("audit log", &shown(&config.audit.directory));
    if let Some(socket) = relay.socket() {
        line("verbs ask", &shown(socket));
    }
    line("health", &format!("http://{}/readyz", relay.admin()));
    text
}

/// A path as people would write it: without the way through the configuration's folder. The file itself may be a link,
/// which leads elsewhere some day.
fn shown(path: &Path) -> String {
    let place = || Some(std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?));
    place().unwrap_or_else(|| path.to_owned()).display().to_string()
}
