//! What the allow-list calls deployments; no log knows that.

use std::collections::HashMap;

use relay_log::names::SourceId;

/// What the allow-list calls deployments, by the SHA-256 of their ids.
#[derive(Debug, Default)]
pub struct DeploymentNames(HashMap<[u8; 32], String>);

impl DeploymentNames {
    /// These names, each with the digest of an id.
    pub fn new(named: impl IntoIterator<Item = ([u8; 32], String)>) -> Self {
        Self(named.into_iter().filter(|(_, name)| !name.is_empty()).collect())
    }

    /// The name of a source.
    pub fn name(&self, id: &str) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&id.parse::<SourceId>().ok()?.digest()).cloned()
    }
}
