//! What the messages call things, and where: the built-in names, and those that a site's own file adds.
//!
//! `config/vocabulary.toml` is the built-in vocabulary and explains each list where a site reads it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use http::header::{self, HeaderName};
use toml::de::DeValue;

use super::json::{Json, same_name};
use crate::bounds;
use crate::config::Problems;
use crate::config::toml_table::{self, Table, Wrong};

const BUILT_IN: &str = include_str!("../../config/vocabulary.toml");

/// All names and places, best first in each list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)] // config/vocabulary.toml explains each.
pub struct Vocabulary {
    pub source: Vec<Place>,
    pub key: Vec<Place>,
    pub license: Vec<Place>,
    pub harmless: Vec<Place>,
    pub activation: Activation,
    pub definition: Definition,
    pub capacity: Capacity,
    pub sync: SyncNames,
}

/// What requests and replies are read with.
#[derive(Clone, Debug)]
pub struct Words {
    /// The names in force: a site's own and, unless its file leaves them out, the built-in ones behind them.
    pub in_force: Vocabulary,
    /// The built-in names alone, where a site's file has changed anything: they are always read as well.
    pub built_in: Option<Vocabulary>,
}

impl Words {
    /// How many vocabularies every body is read with.
    pub fn count(&self) -> usize {
        1 + usize::from(self.built_in.is_some())
    }

    /// The built-in names, and those of a site's file where there is one.
    ///
    /// # Errors
    /// As [`Vocabulary::load`].
    pub fn load(file: Option<&Path>) -> Result<Self, Problems> {
        Ok(Self::new(Vocabulary::load(file)?, Vocabulary::built_in()?))
    }

    fn new(in_force: Vocabulary, built_in: Vocabulary) -> Self {
        let built_in = (built_in != in_force).then_some(built_in);
        Self { in_force, built_in }
    }
}

impl TryFrom<Vocabulary> for Words {
    type Error = Problems;

    fn try_from(in_force: Vocabulary) -> Result<Self, Problems> {
        Ok(Self::new(in_force, Vocabulary::built_in()?))
    }
}

/// `[activation]`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)]
pub struct Activation {
    pub cause: Vec<Place>,
}

/// `[definition]`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)]
pub struct Definition {
    pub allotments: Vec<Place>,
    pub wrapped: Vec<Place>,
    pub license: Vec<Place>,
    pub name: Vec<Place>,
    pub class: Vec<Place>,
    pub access_type: Vec<Place>,
    pub units: Vec<Place>,
    pub count: Vec<Place>,
    pub valid: Vec<Place>,
    pub valid_from: Vec<Place>,
    pub valid_to: Vec<Place>,
    pub overage: Vec<Place>,
}

/// `[capacity]`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)]
pub struct Capacity {
    pub element: Vec<Place>,
    pub id: Vec<Place>,
    pub allotment: Vec<Place>,
    pub month: Vec<Place>,
    pub consumption: Vec<Place>,
    pub total: Vec<Place>,
}

/// `[sync]`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)]
pub struct SyncNames {
    pub within: Vec<Place>,
    pub bases: Vec<Place>,
    pub bases_by_license: Vec<Place>,
    pub idle_without_patches: bool,
    pub patches: Vec<Place>,
    pub additions: Vec<Place>,
    pub deletions: Vec<Place>,
    pub license: Vec<Place>,
    pub version: Vec<Place>,
    pub instance: Vec<Place>,
    pub allotment: Vec<Place>,
    pub subject: Vec<Place>,
    pub created: Vec<Place>,
    pub rejection: Vec<Place>,
    pub marker: Vec<Marker>,
}

/// A member of a patch that may tell an add from a delete.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Marker {
    /// Where it stands in a patch.
    pub member: Place,
    /// Its values in a delete, in lower case.
    pub delete: Vec<String>,
    /// Its values in an add, in lower case.
    pub add: Vec<String>,
}

/// In a marker: the member is not there.
pub const ABSENT: &str = "(absent)";
/// In a marker: any value that neither list names, but no `null` and nothing empty.
pub const ANY: &str = "(any)";

/// Where something may stand: `/`-separated steps from the thing at hand, `*` for every element of an array; a name
/// alone for one of its members; `/` for the thing itself; `header:<name>` for a header of the request, and
/// `query:<name>` for a parameter of its target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place(At);

#[derive(Clone, Debug, Eq, PartialEq)]
enum At {
    Header(HeaderName),
    Query(String),
    Body(Vec<Step>),
}

/// One step of a place within a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Every element of an array.
    Each,
    /// The members of this name.
    Member(String),
}

/// What a list is for decides which places make sense in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    /// Who or what a message is about: may stand in a header or in the target.
    Identity,
    /// A value, or a list of things: has a name.
    Named,
    /// A value that may be the whole of the thing at hand.
    Whole,
    /// Something with parts of its own, which are what it is recognised by.
    Parts,
}

type Lists<'v> = Vec<(&'static str, Role, &'v mut Vec<Place>)>;

/// The members by which the built-in vocabulary knows changes. No file can call harmless what holds one.
pub(super) const OF_A_CHANGE: [&str; 3] = ["patches", "allotment", PERSON];
/// The one that names a person.
pub(super) const PERSON: &str = "subject";

impl Vocabulary {
    /// The built-in names.
    ///
    /// # Errors
    /// Never: a test reads the same text.
    pub fn built_in() -> Result<Self, Problems> {
        read(BUILT_IN, "config/vocabulary.toml".as_ref(), Self::default())
    }

    /// A site's file with the built-in names behind it; the built-in ones alone where there is no file.
    ///
    /// # Errors
    /// The file can't be read or is not a vocabulary: every problem, with its line.
    pub fn load(file: Option<&Path>) -> Result<Self, Problems> {
        match file {
            Some(path) => Self::parse(&toml_table::load(path, "name a file that can be read")?, path),
            None => Self::built_in(),
        }
    }

    /// As [`load`](Self::load), from the text of a file.
    ///
    /// # Errors
    /// It is not a vocabulary: every problem, with its line.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Problems> {
        read(text, file, Self::built_in()?)
    }

    /// As a file that stands alone, with `built_in = false`.
    pub fn to_toml(&self) -> String {
        let mut text = String::from("built_in = false\n");
        for (section, lists) in self.clone().sections() {
            if !section.is_empty() {
                text.push_str(&format!("\n[{section}]\n"));
            }
            for (key, _, places) in lists {
                let places: toml_edit::Array = places.iter().map(ToString::to_string).collect();
                text.push_str(&format!("{key} = {places}\n"));
            }
            if section == "sync" {
                text.push_str(&format!("idle_without_patches = {}\n", self.sync.idle_without_patches));
            }
        }
        for Marker { member, delete, add } in &self.sync.marker {
            let member = toml_edit::Value::from(member.to_string());
            let [delete, add] = [delete, add].map(|list| list.iter().collect::<toml_edit::Array>());
            text.push_str(&format!("\n[[sync.marker]]\nmember = {member}\ndelete = {delete}\nadd = {add}\n"));
        }
        text
    }

    /// Every list but the markers, under its section and key, in the order of the file.
    fn sections(&mut self) -> [(&'static str, Lists<'_>); 5] {
        use Role::{Identity, Named, Parts, Whole};
        let Self { source, key, license, harmless, activation, definition, capacity, sync } = self;
        [
            (
                "",
                vec![
                    ("source", Identity, source),
                    ("key", Identity, key),
                    ("license", Identity, license),
                    ("harmless", Named, harmless),
                ],
            ),
            ("activation", vec![("cause", Named, &mut activation.cause)]),
            (
                "definition",
                vec![
                    ("allotments", Parts, &mut definition.allotments),
                    ("wrapped", Whole, &mut definition.wrapped),
                    ("license", Named, &mut definition.license),
                    ("name", Named, &mut definition.name),
                    ("class", Named, &mut definition.class),
                    ("access_type", Named, &mut definition.access_type),
                    ("units", Parts, &mut definition.units),
                    ("count", Named, &mut definition.count),
                    ("valid", Named, &mut definition.valid),
                    ("valid_from", Named, &mut definition.valid_from),
                    ("valid_to", Named, &mut definition.valid_to),
                    ("overage", Named, &mut definition.overage),
                ],
            ),
            (
                "capacity",
                vec![
                    ("element", Parts, &mut capacity.element),
                    ("id", Named, &mut capacity.id),
                    ("allotment", Named, &mut capacity.allotment),
                    ("month", Named, &mut capacity.month),
                    ("consumption", Named, &mut capacity.consumption),
                    ("total", Named, &mut capacity.total),
                ],
            ),
            (
                "sync",
                vec![
                    ("within", Parts, &mut sync.within),
                    ("bases", Whole, &mut sync.bases),
                    ("bases_by_license", Named, &mut sync.bases_by_license),
                    ("patches", Named, &mut sync.patches),
                    ("additions", Named, &mut sync.additions),
                    ("deletions", Named, &mut sync.deletions),
                    ("license", Named, &mut sync.license),
                    ("version", Named, &mut sync.version),
                    ("instance", Named, &mut sync.instance),
                    ("allotment", Named, &mut sync.allotment),
                    ("subject", Whole, &mut sync.subject),
                    ("created", Named, &mut sync.created),
                    ("rejection", Named, &mut sync.rejection),
                ],
            ),
        ]
    }
}

impl Place {
    /// The header it is, where it is one.
    pub fn header(&self) -> Option<&HeaderName> {
        match &self.0 {
            At::Header(name) => Some(name),
            At::Query(_) | At::Body(_) => None,
        }
    }

    /// The parameter of the target that it is, where it is one.
    pub fn query(&self) -> Option<&str> {
        match &self.0 {
            At::Query(name) => Some(name),
            At::Header(_) | At::Body(_) => None,
        }
    }

    /// The steps to it in a body; `None` where it is outside of that.
    pub(super) fn steps(&self) -> Option<&[Step]> {
        match &self.0 {
            At::Header(_) | At::Query(_) => None,
            At::Body(steps) => Some(steps),
        }
    }

    /// Whether both lead to the same values, whatever the case of their names.
    pub fn same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (At::Body(a), At::Body(b)) => {
                a.len() == b.len()
                    && a.iter().zip(b).all(|steps| match steps {
                        (Step::Each, Step::Each) => true,
                        (Step::Member(a), Step::Member(b)) => same_name(a, b),
                        _ => false,
                    })
            }
            (a, b) => a == b,
        }
    }

    fn judge(self, role: Role) -> Result<Self, Wrong> {
        let written = toml_table::quoted(&self.to_string());
        let wrong = |what: &str, instead: &str| Err(Wrong::new(format!("{written} {what}"), instead));
        match &self.0 {
            At::Header(_) | At::Query(_) if role != Role::Identity => wrong(
                "is outside of the body, where only source, key and license may stand",
                "write a member's name, as in \"source\"",
            ),
            At::Header(name)
                if [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE].contains(name) =>
            {
                wrong(
                    "holds credentials, which are never taken for a name",
                    "remove it; Authorization: Bearer is always looked at for the signed key",
                )
            }
            At::Body(steps) if !steps.iter().any(|step| matches!(step, Step::Member(_))) => {
                match (role, steps.is_empty()) {
                    (Role::Parts, _) | (Role::Whole, true) => Ok(self),
                    _ => {
                        wrong("has no name in it, and would match whatever is sent", "write a member's name")
                    }
                }
            }
            _ => Ok(self),
        }
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if let Some(name) = text.strip_prefix("header:") {
            let name = name.trim();
            if name.len() > bounds::STEP {
                return Err(PlaceError::Long);
            }
            return match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Ok(Self(At::Header(name))),
                Err(_) => Err(PlaceError::Header),
            };
        }
        if let Some(parameter) = text.strip_prefix("query:") {
            return name(parameter.trim()).map(|name| Self(At::Query(name)));
        }
        let Some(pointer) = text.strip_prefix('/') else {
            return Ok(Self(At::Body(vec![Step::Member(name(text)?)])));
        };
        if pointer.is_empty() {
            return Ok(Self(At::Body(vec![])));
        }
        let step = |step: &str| match step {
            "*" => Ok(Step::Each),
            step => name(&step.replace("~1", "/").replace("~0", "~")).map(Step::Member),
        };
        let steps: Vec<Step> =
            pointer.split('/').take(bounds::STEPS + 1).map(step).collect::<Result<_, _>>()?;
        if steps.len() > bounds::STEPS { Err(PlaceError::Steps) } else { Ok(Self(At::Body(steps))) }
    }
}

fn name(text: &str) -> Result<String, PlaceError> {
    match text {
        "" => Err(PlaceError::Empty),
        _ if text.len() > bounds::STEP => Err(PlaceError::Long),
        _ if text.chars().any(char::is_control) => Err(PlaceError::Control),
        _ => Ok(text.to_owned()),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = match &self.0 {
            At::Header(name) => return write!(f, "header:{name}"),
            At::Query(name) => return write!(f, "query:{name}"),
            At::Body(steps) => steps,
        };
        match steps.as_slice() {
            [] => f.write_str("/"),
            [Step::Member(name)]
                if !["/", "header:", "query:"].iter().any(|start| name.starts_with(start)) =>
            {
                f.write_str(name)
            }
            steps => steps.iter().try_for_each(|step| match step {
                Step::Each => f.write_str("/*"),
                Step::Member(name) => write!(f, "/{}", name.replace('~', "~0").replace('/', "~1")),
            }),
        }
    }
}

/// Why a text is not a place: a phrase that completes "…, because it …".
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // Each says what it is.
pub enum PlaceError {
    #[error("has a name that is empty")]
    Empty,
    #[error("has a name of more than {} bytes", bounds::STEP)]
    Long,
    #[error("has a control character")]
    Control,
    #[error("has more than {} steps", bounds::STEPS)]
    Steps,
    #[error("names no header that there can be")]
    Header,
}

impl Marker {
    /// What the member's value says of a patch; `None` where it says nothing. As to the back end, `null` is as good as
    /// absent unless a list names it.
    pub(super) fn judge(&self, value: Option<&Json<'_>>) -> Option<Vote> {
        // As it is suggested, before somebody has said what it means.
        if self.delete.is_empty() && self.add.is_empty() {
            return Some(Vote::Unknown);
        }
        let lists = [(&self.delete, Vote::Delete), (&self.add, Vote::Add)];
        let named =
            |word: &str| lists.iter().find(|(list, _)| list.iter().any(|w| w == word)).map(|(_, vote)| *vote);
        let word = match value {
            None => return named(ABSENT),
            Some(Json::Null) => return named("null").or_else(|| named(ABSENT)),
            Some(Json::Bool(value)) => value.to_string(),
            Some(Json::Array(elements)) if elements.is_empty() => String::new(),
            Some(value @ Json::Object(_)) if !value.is_filled() => String::new(),
            Some(other) => {
                other.to_text().map_or_else(|| "(other)".into(), |text| text.trim().to_lowercase())
            }
        };
        let any = || if word.is_empty() { None } else { named(ANY) };
        Some(named(&word).or_else(any).unwrap_or(Vote::Unknown))
    }
}

/// What a marker says of a patch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Vote {
    Add,
    Delete,
    Unknown,
}

/// Reads a file, and puts `behind` it: each of its lists behind the file's own, unless the file wants none of it.
fn read(text: &str, file: &Path, behind: Vocabulary) -> Result<Vocabulary, Problems> {
    let (words, _) = toml_table::read(text, file, |top| {
        let mut words =
            if top.or("built_in", true, toml_table::boolean) { behind } else { Vocabulary::default() };
        let mut markers = Vec::new();
        let mut idle_without_patches = words.sync.idle_without_patches;
        for (section, lists) in words.sections() {
            let take = |t: &mut Table<'_, '_>| {
                for (key, role, places) in lists {
                    add_before(places, t, key, role);
                }
                if section == "sync" {
                    let own = t.tables("marker", bounds::PLACES, marker).unwrap_or_default();
                    markers.extend(own.into_iter().flatten());
                    idle_without_patches =
                        t.or("idle_without_patches", idle_without_patches, toml_table::boolean);
                }
            };
            if section.is_empty() { take(top) } else { top.table(section, take) }
        }
        for marker in words.sync.marker.drain(..) {
            if !markers.iter().any(|own| own.member.same(&marker.member)) {
                markers.push(marker);
            }
        }
        words.sync.marker = markers;
        words.sync.idle_without_patches = idle_without_patches;
        check(top, &words);
        words
    })?;
    Ok(words)
}

/// Puts the file's own places before those that are known.
fn add_before(places: &mut Vec<Place>, t: &mut Table<'_, '_>, key: &'static str, role: Role) {
    let Some(mut own) = t.list(key, 0, |value| place(value)?.judge(role)) else { return };
    if own.len() > bounds::PLACES {
        let write = format!("write at most {}", bounds::PLACES);
        t.error(key, format!("{} places are written", own.len()), write);
        return;
    }
    for place in places.drain(..) {
        if !own.iter().any(|known| known.same(&place)) {
            own.push(place);
        }
    }
    *places = own;
}

fn place(value: &DeValue<'_>) -> Result<Place, Wrong> {
    toml_table::name("a place", "/metadata/source", value)
}

fn marker(t: &mut Table<'_, '_>) -> Option<Marker> {
    const WRITE: &str = "write the member's name, its values in a delete and its values in an add";
    let member = t.optional("member", |value| place(value)?.judge(Role::Named));
    let [delete, add] = ["delete", "add"].map(|key| {
        let list = t.list(key, 0, |value| {
            let word =
                toml_table::text(value, "write text in quotes, as in \"delete\", \"true\" or \"(absent)\"")?;
            let word = word.trim().to_lowercase();
            if word.len() > bounds::STEP {
                return Err(Wrong::new("is too long", "write a word"));
            }
            if word.starts_with('(') && word != ABSENT && word != ANY {
                return Err(Wrong::new(
                    format!("{} stands for nothing", toml_table::quoted(&word)),
                    "write \"(absent)\" where the member is not there, or \"(any)\" for any other value",
                ));
            }
            Ok(word)
        });
        list.unwrap_or_default()
    });
    for (key, list) in [("delete", &delete), ("add", &add)] {
        if list.len() > bounds::PLACES {
            t.error(key, format!("{} values are written", list.len()), "write fewer");
        }
    }
    if let Some(word) = delete.iter().find(|word| add.contains(word)) {
        t.error(
            "add",
            format!("{} marks a delete as well", toml_table::quoted(word)),
            "write it in one list",
        );
    }
    if !t.has("member") {
        t.error("member", "is missing", WRITE);
    } else if delete.is_empty() && add.is_empty() && !t.has("delete") && !t.has("add") {
        t.error("delete", "is missing", WRITE);
    }
    member.map(|member| Marker { member, delete, add })
}

/// What no single list can tell.
fn check(top: &mut Table<'_, '_>, words: &Vocabulary) {
    for place in &words.source {
        if words.key.iter().any(|key| key.same(place)) {
            let what = format!("{} stands in key as well", toml_table::quoted(&place.to_string()));
            top.error("source", what, "write it in one of the two: a license key must not end up in the log");
        }
    }
    let Vocabulary { sync, capacity, .. } = words;
    let changes = [&sync.patches, &sync.additions, &sync.deletions].iter().all(|list| list.is_empty());
    let bases = sync.bases.is_empty() && sync.bases_by_license.is_empty();
    // Without the built-in lists, a part that was forgotten makes the others useless.
    let parts = [
        ("sync.within", sync.within.is_empty(), !bases || !changes, "[\"/\"]"),
        ("sync.bases", bases, !changes, "[\"bases\"]"),
        ("sync.patches", changes, !bases, "[\"patches\"]"),
        ("sync.subject", sync.subject.is_empty(), !changes, "[\"subject\"]"),
        ("sync.allotment", sync.allotment.is_empty(), !changes, "[\"allotment\"]"),
        ("capacity.element", capacity.element.is_empty(), !capacity.consumption.is_empty(), "[\"/*\"]"),
        (
            "capacity.allotment",
            capacity.allotment.is_empty(),
            !capacity.consumption.is_empty(),
            "[\"allotment\"]",
        ),
        ("capacity.month", capacity.month.is_empty(), !capacity.consumption.is_empty(), "[\"month\"]"),
    ];
    for (key, missing, wanted, example) in parts {
        if missing && wanted {
            top.error(key, "is empty, and nothing would be recognised", format!("write {key} = {example}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &str) -> Result<Vocabulary, String> {
        Vocabulary::parse(text, "v.toml".as_ref()).map_err(|problems| problems.to_string())
    }

    fn shown(places: &[Place]) -> Vec<String> {
        places.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_built_in_vocabulary_is_one_and_shows_itself_whole() {
        let built_in = Vocabulary::built_in().unwrap();
        assert_eq!(built_in.source.len(), 5);
        assert_eq!(own("").unwrap(), built_in);
        assert_eq!(own(&built_in.to_toml()).unwrap(), built_in);
    }

    #[test]
    fn a_sites_file_adds_its_places_before_the_built_in_ones() {
        let own = own("source = [\"/deployment/id\", \"Source\"]\n[sync]\npatches = \"changes\"\n").unwrap();
        assert_eq!(shown(&own.source)[..3], ["/deployment/id", "Source", "sourceId"]);
        assert_eq!(shown(&own.sync.patches), ["changes", "patches"]);
        assert_eq!(shown(&own.sync.bases), ["bases"]);
    }

    #[test]
    fn a_sites_file_may_do_without_the_built_in_names() {
        let alone = own("built_in = false\nsource = [\"id\"]\n").unwrap();
        assert_eq!(shown(&alone.source), ["id"]);
        assert!(alone.key.is_empty() && alone.sync.marker.is_empty());
        let forgotten = own("built_in = false\n[sync]\npatches = [\"changes\"]\n").unwrap_err();
        assert!(
            forgotten.contains("sync.within: is empty") && forgotten.contains("sync.bases"),
            "{forgotten}"
        );
    }

    #[test]
    fn a_sites_markers_come_first_and_replace_those_for_the_same_member() {
        let own = own("[[sync.marker]]\nmember = \"/x/state\"\ndelete = [\"GONE\"]\nadd = [\"(absent)\"]\n\
                       [[sync.marker]]\nmember = \"Op\"\ndelete = [\"d\"]\nadd = [\"a\"]\n")
        .unwrap();
        let markers: Vec<_> = own.sync.marker.iter().map(|marker| marker.member.to_string()).collect();
        assert_eq!(markers, ["/x/state", "Op", "deleted", "operation", "action"]);
        assert_eq!(own.sync.marker[0].delete, ["gone"]);
    }

    #[test]
    fn a_place_is_shown_as_it_can_be_written() {
        for place in
            ["source", "/metadata/source", "/*", "/", "/*/a~1b/*/c~0", "header:x-source", "query:key"]
        {
            assert_eq!(place.parse::<Place>().unwrap().to_string(), place);
        }
        for (written, shown) in
            [("/source", "source"), ("/~1", "/~1"), ("header: X-Source", "header:x-source")]
        {
            assert_eq!(written.parse::<Place>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn each_mistake_is_named_with_its_line_and_its_cure() {
        let long = format!("source = [\"{}\"]", "x".repeat(129));
        let deep = format!("source = [\"{}\"]", "/a".repeat(9));
        let many = format!("source = [{}]", "\"a\",".repeat(65));
        let table = [
            ("\nsources = []", "v.toml:2: sources is not a known key; write source, the nearest"),
            ("[sync]\npatchs = []", ":2: sync.patchs is not a known key; write sync.patches"),
            (
                "source = [\"a\",\n\"\"]",
                ":2: source: \"\" is not a place, because it has a name that is empty",
            ),
            (
                "source = [\"/a//b\"]",
                ":1: source: \"/a//b\" is not a place, because it has a name that is empty",
            ),
            ("source = [\"/\"]", ":1: source: \"/\" has no name in it, and would match whatever is sent"),
            ("source = [\"/*/*\"]", ":1: source: \"/*/*\" has no name in it"),
            ("[sync]\nsubject = [\"/*\"]", ":2: sync.subject: \"/*\" has no name in it"),
            ("[sync]\nbases = [\"/*\"]", ":2: sync.bases: \"/*\" has no name in it"),
            ("[sync]\npatches = [\"/\"]", ":2: sync.patches: \"/\" has no name in it"),
            ("[capacity]\nmonth = [\"/\"]", ":2: capacity.month: \"/\" has no name in it"),
            ("[activation]\ncause = [\"/*\"]", ":2: activation.cause: \"/*\" has no name in it"),
            (
                "[sync]\nsubject = [\"header:X\"]",
                ":2: sync.subject: \"header:x\" is outside of the body, where only",
            ),
            ("source = [\"header:\"]", ":1: source: \"header:\" is not a place, because it names no header"),
            ("source = [\"header:a b\"]", "because it names no header that there can be"),
            ("source = [\"header:Authorization\"]", "\"header:authorization\" holds credentials"),
            ("source = [\"slk\"]", ":1: source: \"slk\" stands in key as well"),
            (long.as_str(), "because it has a name of more than 128 bytes"),
            (deep.as_str(), "because it has more than 8 steps"),
            (many.as_str(), ":1: source: 65 places are written; write at most 64"),
            ("source = 5", ":1: source: found a whole number instead of text in quotes"),
            ("built_in = \"no\"", ":1: built_in: found text in quotes instead of true or false"),
            ("[[sync.marker]]\ndelete = [\"x\"]", ":1: sync.marker.member: is missing"),
            ("[[sync.marker]]\nmember = \"x\"", ":1: sync.marker.delete: is missing"),
            (
                "[[sync.marker]]\nmember = \"x\"\ndelete = [\"y\"]\nadd = [\"Y\"]",
                ":4: sync.marker.add: \"y\" marks a delete as well",
            ),
            (
                "[[sync.marker]]\nmember = \"x\"\ndelete = [\"(null)\"]",
                ":3: sync.marker.delete: \"(null)\" stands for nothing; write \"(absent)\"",
            ),
        ];
        for (text, expected) in table {
            let problems = own(text).unwrap_err();
            assert!(problems.contains(expected), "{text}\n{problems}\n{expected}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_place_that_is_one_reads_back_as_the_same(text in "(header:|query:)?[/a*~01. -]{0,20}") {
            if let Ok(place) = text.parse::<Place>() {
                proptest::prop_assert_eq!(place.to_string().parse::<Place>(), Ok(place));
            }
        }
    }
}
