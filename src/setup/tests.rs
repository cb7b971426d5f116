//! A setup is taken whole, later ones are told to whoever waits, and what can't change under a log is refused.

use super::*;
use crate::observe::access;

fn lasting(folder: &Path) -> Shared {
    Shared {
        trust: Arc::new(TrustTable::open(folder)),
        own: Arc::default(),
        metrics: Arc::default(),
        refused: access::refused(1 << 20),
    }
}

/// A folder with a configuration, and that.
fn config(folder: &Path, more: &str) -> Config {
    let path = folder.join("config/relay.toml");
    std::fs::create_dir_all(folder.join("config")).unwrap();
    std::fs::write(&path, format!("[listen]\naddress = \"127.0.0.1:0\"\n{more}")).unwrap();
    file::load(&path).unwrap().0
}

#[tokio::test]
async fn a_start_makes_what_is_missing_and_a_later_setup_is_told_to_whoever_waits() {
    let folder = tempfile::tempdir().unwrap();
    let lasting = lasting(folder.path());
    let first = Setup::first(config(folder.path(), ""), &lasting).unwrap();
    assert!(first.faces.made && first.config.sources.file.exists() && !first.observes());
    let in_force = Arc::new(InForce::new(first));
    let waiting = tokio::spawn({
        let in_force = in_force.clone();
        let now = in_force.load().generation;
        async move { in_force.after(now).await.generation }
    });
    config(folder.path(), "[sources]\nunknown = \"observe\"\n");
    let attempt = in_force.load_full().again(&lasting).unwrap();
    assert!(attempt.held.is_empty() && attempt.made.observes());
    let mut made = attempt.made;
    made.generation = in_force.load().generation + 1;
    let newest = made.generation;
    in_force.store(made);
    assert_eq!(waiting.await.unwrap(), newest);
    assert!(in_force.load().observes());
}

#[test]
fn a_configuration_that_can_not_be_used_is_held_and_what_was_in_force_stays() {
    let folder = tempfile::tempdir().unwrap();
    let lasting = lasting(folder.path());
    let first = Setup::first(config(folder.path(), ""), &lasting).unwrap();
    std::fs::write(&first.config.file, "no configuration").unwrap();
    let attempt = first.again(&lasting).unwrap();
    assert_eq!(attempt.held.len(), 1);
    assert_eq!(attempt.made.config.listen.addresses, first.config.listen.addresses);
}

#[test]
fn what_lies_under_the_log_needs_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let old = config(folder.path(), "");
    assert!(refuse_fixed(&old, &old).is_ok());
    let new = config(folder.path(), "[audit]\ndirectory = \"elsewhere\"\n[log]\nformat = \"json\"\n");
    let Err(SetupError::RestartNeeded { keys, .. }) = refuse_fixed(&old, &new) else { panic!("it is taken") };
    assert!(keys.contains("audit.directory") && keys.contains("log.format"), "{keys}");
}

#[test]
fn a_token_that_is_as_good_as_none_is_refused_and_shown_by_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let load = |text: &str| {
        let _ = std::fs::remove_file(&path);
        private::write_private(&path, text.as_bytes()).unwrap();
        AdminToken::load(&path)
    };
    let short = "x".repeat(bounds::ADMIN_TOKEN - 1);
    for bad in ["", &short, "sixteen characters with spaces", "sechzehn-Zeichen-ü-ö"] {
        let said = load(bad).unwrap_err().to_string();
        assert!(said.contains("openssl rand -hex 32"), "{said}");
    }
    let token = load(&format!("{short}x\n")).unwrap();
    assert_eq!(format!("{token:?}"), "AdminToken(…)");
}
