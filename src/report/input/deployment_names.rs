//! What the allow-list calls deployments; no log knows that.

use std::collections::HashMap;

use crate::config::model::{AllowList, SourcePattern};

/// What the allow-list calls deployments; no log knows that.
#[derive(Debug, Default)]
pub struct DeploymentNames(HashMap<[u8; 32], String>);

impl DeploymentNames {
    /// As this list has it.
    pub fn new(list: &AllowList) -> Self {
        let named = list.sources.iter().filter(|source| !source.name.is_empty());
        Self(named.filter_map(|source| Some((source.id.as_ref()?.digest(), source.name.clone()))).collect())
    }

    /// The name of a source.
    pub fn name(&self, id: &str) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&SourcePattern::Clear(id.parse().ok()?).digest()).cloned()
    }
}
