//! What the messages call things, and where: the built-in names, or a site's own file over them.

use std::path::Path;

use serde::Deserialize;

use super::json::Json;
use crate::config::{Problem, Problems, Severity};

const BUILT_IN: &str = include_str!("../../config/vocabulary.toml");

/// All names and places, best first in each list.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // config/vocabulary.toml explains each where a site reads it.
pub struct Vocabulary {
    pub source: Vec<Place>,
    pub key: Vec<Place>,
    pub license: Vec<Place>,
    pub activation: Activation,
    pub definition: Definition,
    pub capacity: Capacity,
    pub sync: Sync,
}

/// `[activation]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Activation {
    pub cause: Vec<String>,
}

/// `[definition]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Definition {
    pub allotments: Vec<Place>,
    pub wrapped: Vec<Place>,
    pub name: Vec<String>,
    pub class: Vec<Place>,
    pub access_type: Vec<Place>,
    pub units: Vec<String>,
    pub count: Vec<String>,
    pub valid: Vec<String>,
    pub overage: Vec<Place>,
}

/// `[capacity]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Capacity {
    pub allotment: Vec<String>,
    pub month: Vec<String>,
    pub consumption: Vec<String>,
    pub total: Vec<String>,
}

/// `[sync]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Sync {
    pub within: Vec<String>,
    pub bases: Vec<String>,
    pub patches: Vec<String>,
    pub license: Vec<String>,
    pub version: Vec<String>,
    pub instance: Vec<String>,
    pub allotment: Vec<String>,
    pub subject: Vec<String>,
    pub created: Vec<String>,
    pub rejection: Vec<String>,
    pub marker: Vec<Marker>,
}

/// A member that may tell an add from a delete.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Marker {
    pub member: String,
    pub delete: Vec<String>,
    pub add: Vec<String>,
}

/// A JSON pointer (RFC 6901) in which `*` stands for every element of an array.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Place(Vec<String>);

impl Vocabulary {
    /// The built-in names.
    ///
    /// # Errors
    /// Never: a test parses the same text.
    pub fn built_in() -> Result<Self, Problems> {
        parse(None, BUILT_IN.as_ref())
    }

    /// A site's file over the built-in names; the built-in ones alone where there is no file.
    ///
    /// # Errors
    /// The file can't be read or is not a vocabulary, with its line.
    pub fn load(file: Option<&Path>) -> Result<Self, Problems> {
        let Some(path) = file else { return Self::built_in() };
        match std::fs::read_to_string(path) {
            Ok(text) => parse(Some(&text), path),
            Err(e) => Err(problem(path, 0, e.to_string(), "name a file that can be read".into())),
        }
    }
}

impl Place {
    /// Everything that stands there; more than one in arrays and where members are doubled.
    pub fn find<'j>(&self, json: &'j Json<'j>) -> Vec<&'j Json<'j>> {
        let mut found = vec![json];
        for step in &self.0 {
            found = found
                .into_iter()
                .flat_map(|json| match step.as_str() {
                    "*" => json.elements().iter().collect::<Vec<_>>(),
                    name => json.named(name).collect(),
                })
                .collect();
        }
        found
    }
}

impl TryFrom<String> for Place {
    type Error = &'static str;

    fn try_from(pointer: String) -> Result<Self, Self::Error> {
        let steps = pointer.strip_prefix('/').ok_or("a place is a JSON pointer and starts with /")?;
        let unescape = |step: &str| step.replace("~1", "/").replace("~0", "~");
        Ok(Self(steps.split('/').map(unescape).collect()))
    }
}

/// The first member that is there under one of its spellings.
pub(super) fn member<'j>(json: &'j Json<'_>, spellings: &[String]) -> Option<&'j Json<'j>> {
    spellings.iter().find_map(|name| json.get(name))
}

fn parse(site: Option<&str>, path: &Path) -> Result<Vocabulary, Problems> {
    let unusable = |text: &str, e: &toml::de::Error| {
        let line = e.span().map_or(0, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        problem(path, line, e.message().to_owned(), "compare with config/vocabulary.toml".into())
    };
    let mut table: toml::Table = BUILT_IN.parse().map_err(|e| unusable(BUILT_IN, &e))?;
    if let Some(text) = site {
        // Read as a whole first, so that a wrong name or type is told with its line.
        let own: toml::Table = text.parse().map_err(|e| unusable(text, &e))?;
        for (name, value) in own {
            match (table.get_mut(&name), value) {
                (Some(toml::Value::Table(built_in)), toml::Value::Table(own)) => built_in.extend(own),
                (_, value) => drop(table.insert(name, value)),
            }
        }
    }
    table.try_into().map_err(|e: toml::de::Error| unusable(site.unwrap_or(BUILT_IN), &e))
}

fn problem(path: &Path, line: usize, what: String, instead: String) -> Problems {
    Problems(vec![Problem { file: path.to_owned(), line, what, instead, severity: Severity::Error }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_vocabulary_is_one() {
        assert_eq!(Vocabulary::built_in().unwrap().source.len(), 5);
    }

    #[test]
    fn a_sites_file_replaces_the_lists_it_names_and_keeps_the_others() {
        let own =
            parse(Some("source = [\"/deployment/id\"]\n[sync]\npatches = [\"changes\"]\n"), "v".as_ref());
        let own = own.unwrap();
        assert_eq!(own.source, [Place(vec!["deployment".into(), "id".into()])]);
        assert_eq!((own.sync.patches, own.sync.bases), (vec!["changes".into()], vec!["bases".into()]));
        assert!(parse(Some("sources = []"), "v".as_ref()).unwrap_err().to_string().contains("unknown field"));
        assert!(parse(Some("source = [\"id\"]"), "v".as_ref()).is_err());
    }

    #[test]
    fn a_place_finds_every_element_and_every_double() {
        let json = Json::parse(br#"[{"source":"a"},{"source":"b","source":"c"},{}]"#).unwrap();
        let place = Place::try_from("/*/source".to_owned()).unwrap();
        let found: Vec<_> = place.find(&json).into_iter().filter_map(Json::as_str).collect();
        assert_eq!(found, ["a", "b", "c"]);
    }
}
