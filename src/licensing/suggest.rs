//! Entries for a vocabulary, guessed from the shapes of messages that were not understood: by names that mean about the
//! same, and by what stands beside what. A guess is for people to read; each says what it is based on.

use std::collections::BTreeMap;

use super::shape::Shape;
use super::terms::{like, plain};
use super::vocabulary::{Place, Step, Vocabulary};
use crate::bounds;
use relay_log::text::redact::HIDDEN;

/// A shape that was met, and whether it is that of a reply.
#[derive(Clone, Copy, Debug)]
pub struct Met<'s> {
    /// The shape.
    pub shape: &'s Shape,
    /// Of a reply of the back end, and not of a request.
    pub is_reply: bool,
}

/// What may be added to a vocabulary.
#[derive(Debug, Default)]
pub struct Suggestion {
    lists: BTreeMap<(usize, &'static str), Vec<SuggestedEntry>>,
    markers: Vec<SuggestedEntry>,
}

#[derive(Debug)]
struct SuggestedEntry {
    place: String,
    because: String,
}

const SECTIONS: [&str; 5] = ["", "activation", "definition", "capacity", "sync"];

/// Guesses what the vocabulary lacks for these shapes.
pub fn suggest<'s>(met: impl IntoIterator<Item = Met<'s>>, words: &Vocabulary) -> Suggestion {
    let mut suggestion = Suggestion::default();
    for Met { shape, is_reply } in met.into_iter().take(bounds::SHAPES) {
        let things = things(shape);
        let mut known = suggestion.sync(&things, words);
        known |= suggestion.report(&things, words, is_reply);
        if is_reply && !known {
            suggestion.definition(shape, &things, words);
        } else if !is_reply {
            suggestion.activation(shape, words, known);
            suggestion.who(shape, &things, words);
        }
    }
    suggestion
}

/// A thing that holds others: an object of the shape, and the steps to it.
struct Thing<'s> {
    path: String,
    shape: &'s Shape,
}

/// A member somewhere in a thing, no array in between.
struct Field<'s> {
    path: String,
    name: &'s str,
    shape: &'s Shape,
}

fn things(shape: &Shape) -> Vec<Thing<'_>> {
    let mut found = vec![Thing { path: String::new(), shape }];
    let mut at = 0;
    while let Some(thing) = found.get(at) {
        at += 1;
        let path = thing.path.clone();
        match thing.shape {
            Shape::Array(Some(element)) => found.push(Thing { path: format!("{path}/*"), shape: element }),
            Shape::Object(members) => {
                let inner = members.iter().filter(|(name, shape)| {
                    is_name(name) && matches!(shape, Shape::Array(Some(_)) | Shape::Object(_))
                });
                found.extend(inner.map(|(name, shape)| Thing { path: format!("{path}/{name}"), shape }));
            }
            _ => {}
        }
    }
    found.retain(|thing| thing.path.matches('/').count() < bounds::STEPS - 1);
    found
}

fn fields(shape: &Shape) -> Vec<Field<'_>> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), shape, 0)];
    while let Some((path, shape, depth)) = open.pop() {
        let Shape::Object(members) = shape else { continue };
        for (name, shape) in members.iter().filter(|(name, _)| is_name(name)) {
            let path = format!("{path}/{name}");
            if depth < 3 {
                open.push((path.clone(), shape, depth + 1));
            }
            found.push(Field { path, name, shape });
        }
    }
    found
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name != HIDDEN
}

/// How alike a name is to those; 0 where it is not.
fn likeness(name: &str, names: &[&str]) -> usize {
    let plain = plain(name);
    let place = |fits: &dyn Fn(&str) -> bool| names.iter().position(|known| fits(known));
    if let Some(at) = place(&|known| known == plain) {
        return 2000 - at;
    }
    // "deploymentFingerprint", "usedMinutes"; short words are in too many others.
    place(&|known| known.len() >= 4 && plain.contains(known)).map_or(0, |at| 1000 - at)
}

fn best<'f, 's>(
    fields: &'f [Field<'s>],
    names: &[&str],
    fits: impl Fn(&Shape) -> bool,
) -> Option<&'f Field<'s>> {
    let alike = fields.iter().filter(|field| fits(field.shape));
    let ranked =
        alike.map(|field| (likeness(field.name, names), field)).filter(|(likeness, _)| *likeness > 0);
    // An id of the thing itself, whatever it is called, before one of something inside of it.
    let nested = |field: &Field<'_>| 600 * (field.path.matches('/').count() - 1);
    ranked
        .max_by_key(|(likeness, field)| {
            (likeness.saturating_sub(nested(field)), usize::MAX - field.path.len())
        })
        .map(|(_, field)| field)
}

fn is_value(shape: &Shape) -> bool {
    matches!(shape, Shape::Text | Shape::Number | Shape::Any | Shape::Null)
}

fn is_text(shape: &Shape) -> bool {
    matches!(shape, Shape::Text | Shape::Any)
}

/// Whether any of the places leads to something in the shape.
fn leads(places: &[Place], shape: &Shape) -> bool {
    fn walk(steps: &[Step], shape: &Shape) -> bool {
        match (steps.split_first(), shape) {
            (None, _) => true,
            (Some((Step::Each, rest)), Shape::Array(Some(element))) => walk(rest, element),
            (Some((Step::Member(name), rest)), Shape::Object(members)) => members
                .iter()
                .any(|(known, shape)| crate::licensing::json::same_name(known, name) && walk(rest, shape)),
            _ => false,
        }
    }
    places.iter().filter_map(Place::steps).any(|steps| walk(steps, shape))
}

/// The element of a list; an object is a list of one. `None` inside: nothing is known of it.
fn element(shape: &Shape) -> Option<Option<&Shape>> {
    match shape {
        Shape::Array(element) => Some(element.as_deref()),
        Shape::Object(_) => Some(Some(shape)),
        _ => None,
    }
}

/// As it is written in a vocabulary.
fn written(path: &str) -> String {
    match path.strip_prefix('/') {
        None => "/".into(),
        Some(name) if !name.contains('/') && name != "*" => name.into(),
        Some(_) => path.into(),
    }
}

impl Suggestion {
    /// Whether there is nothing to suggest.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.markers.is_empty()
    }

    /// As a vocabulary file, each entry under a comment that says why.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = 0;
        for ((at, key), entries) in &self.lists {
            if *at != section {
                section = *at;
                text.push_str(&format!("\n[{}]\n", SECTIONS.get(section).unwrap_or(&"")));
            }
            for entry in entries {
                text.push_str(&format!("# {}: {}\n", entry.place, entry.because));
            }
            let places: toml_edit::Array = entries.iter().map(|entry| entry.place.as_str()).collect();
            text.push_str(&format!("{key} = {places}\n"));
        }
        for entry in &self.markers {
            let member = toml_edit::Value::from(entry.place.as_str());
            text.push_str(&format!(
                "\n# {}: {}\n# Until its values stand here, every change is recorded as unknown; if it is no such thing, remove it.\n\
                 [[sync.marker]]\nmember = {member}\ndelete = []\nadd = []\n",
                entry.place, entry.because
            ));
        }
        text.trim_start().to_owned()
    }

    fn add(&mut self, section: &str, key: &'static str, path: &str, because: impl Into<String>) {
        let at = SECTIONS.iter().position(|name| *name == section).unwrap_or(0);
        put(self.lists.entry((at, key)).or_default(), path, because.into());
    }

    /// Adds the most likely member of a thing, where no known place leads to one.
    fn part(
        &mut self,
        (section, key): (&str, &'static str),
        thing: &Shape,
        known: &[Place],
        names: &[&str],
        fits: impl Fn(&Shape) -> bool,
    ) -> bool {
        if leads(known, thing) {
            return true;
        }
        let fields = fields(thing);
        let Some(field) = best(&fields, names, fits) else { return false };
        self.add(section, key, &field.path, format!("its name is like {key}"));
        true
    }

    /// Holders of two lists, or more: what people are in, and how far the deployment has got.
    fn sync(&mut self, things: &[Thing<'_>], words: &Vocabulary) -> bool {
        let names = &words.sync;
        let mut found = false;
        let mut inside: Vec<String> = Vec::new();
        for Thing { path, shape } in things {
            // What stands in a list of changes is no holder of its own.
            if inside.iter().any(|list| path.starts_with(list.as_str())) {
                continue;
            }
            let Shape::Object(members) = *shape else { continue };
            let lists: Vec<(&str, Option<&Shape>)> = members
                .iter()
                .filter(|(name, _)| is_name(name))
                .filter_map(|(name, shape)| Some((name.as_str(), element(shape)?)))
                .collect();
            let known = |places: &[Place], name: &str| {
                leads(places, &Shape::Object(vec![(name.to_owned(), Shape::Null)]))
            };
            let person = |element: Option<&Shape>| {
                element.is_some_and(|element| {
                    leads(&names.subject, element)
                        || best(&fields(element), like::SUBJECT, is_value).is_some()
                })
            };
            let version = |element: Option<&Shape>| {
                element.is_some_and(|element| {
                    leads(&names.version, element)
                        || best(&fields(element), like::VERSION, is_value).is_some()
                })
            };
            let mut bases: Option<(&str, Option<&Shape>, String)> = None;
            let mut changes = Vec::new();
            for (name, element) in lists {
                let score = |names| likeness(name, names);
                if known(&names.bases, name) {
                    bases = Some((name, element, String::new()));
                    continue;
                }
                let (kinds, is_known) = (
                    [
                        ("patches", &names.patches, like::PATCHES),
                        ("additions", &names.additions, like::ADDITIONS),
                        ("deletions", &names.deletions, like::DELETIONS),
                    ],
                    [&names.patches, &names.additions, &names.deletions]
                        .iter()
                        .any(|places| known(places, name)),
                );
                let (key, likeliest) = kinds
                    .iter()
                    .map(|(key, _, names)| (*key, score(names)))
                    .max_by_key(|(key, score)| (*score, *key == "patches"))
                    .unwrap_or(("patches", 0));
                if is_known {
                    changes.push((name, element, "", String::new()));
                } else if person(element)
                    || (matches!(element, None | Some(Shape::Text)) && likeliest > score(like::BASES))
                {
                    let because = match likeliest {
                        0 => "a list of things that name a person".to_owned(),
                        _ => format!("a list, and its name is like {key}"),
                    };
                    changes.push((name, element, key, because));
                } else if bases.is_none() && (version(element) || score(like::BASES) > 0) {
                    let because = match score(like::BASES) {
                        0 => "a list of things with a version, and of no persons",
                        _ => "a list, and its name is like bases",
                    };
                    bases = Some((name, element, because.to_owned()));
                }
            }
            let Some((base, base_element, because)) = bases.filter(|_| !changes.is_empty()) else { continue };
            found = true;
            if !because.is_empty() {
                self.add("sync", "bases", &format!("/{base}"), because);
            }
            if !leads_to(&names.within, path) {
                self.add("sync", "within", path, "it holds both lists");
            }
            inside.push(format!("{path}/{base}"));
            if let Some(element) = base_element {
                self.part(("sync", "license"), element, &names.license, like::LICENSE, is_value);
                self.part(("sync", "version"), element, &names.version, like::VERSION, is_value);
            }
            for (name, element, key, because) in changes {
                inside.push(format!("{path}/{name}"));
                if !key.is_empty() {
                    self.add("sync", key, &format!("/{name}"), because);
                }
                if let Some(element) = element {
                    self.change(element, words);
                }
            }
        }
        found
    }

    /// The members of one change.
    fn change(&mut self, element: &Shape, words: &Vocabulary) {
        let names = &words.sync;
        if *element == Shape::Text {
            self.add("sync", "subject", "", "a change is nothing but a name");
            return;
        }
        let parts: [(&'static str, &[Place], &[&str]); 7] = [
            ("subject", &names.subject, like::SUBJECT),
            ("allotment", &names.allotment, like::ALLOTMENT),
            ("license", &names.license, like::LICENSE),
            ("version", &names.version, like::VERSION),
            ("instance", &names.instance, like::INSTANCE),
            ("created", &names.created, like::CREATED),
            ("rejection", &names.rejection, like::REJECTION),
        ];
        for (key, known, names) in parts {
            self.part(("sync", key), element, known, names, is_value);
        }
        let markers: Vec<Place> = names.marker.iter().map(|marker| marker.member.clone()).collect();
        let taken: Vec<String> = self
            .lists
            .iter()
            .filter(|((at, _), _)| SECTIONS.get(*at) == Some(&"sync"))
            .flat_map(|(_, entries)| entries.iter().map(|entry| entry.place.clone()))
            .collect();
        for field in fields(element) {
            let (place, inside) = (written(&field.path), format!("{}/", field.path));
            let is_read = taken.contains(&place) || taken.iter().any(|place| place.starts_with(&inside));
            if is_read || leads(&markers, &only(&field.path, field.shape)) {
                continue;
            }
            let is_alone = field.path.matches('/').count() == 1;
            let because = match field.shape {
                Shape::Bool => "true or false, so it may tell an add from a delete",
                Shape::Object(_) if is_alone => "whether it is there may tell an add from a delete",
                shape if is_value(shape) && likeness(field.name, like::MARKER) > 1000 => {
                    "by its name, it may tell an add from a delete"
                }
                _ => continue,
            };
            put(&mut self.markers, &field.path, because.into());
        }
    }

    /// Things with a name, a month and a number.
    fn report(&mut self, things: &[Thing<'_>], words: &Vocabulary, is_reply: bool) -> bool {
        let names = &words.capacity;
        let (key, known, alike) = if is_reply {
            ("total", &names.total, like::TOTAL)
        } else {
            ("consumption", &names.consumption, like::CONSUMPTION)
        };
        let mut found = false;
        for Thing { path, shape } in things {
            let parts: [(&'static str, &[Place], &[&str]); 3] = [
                ("allotment", &names.allotment, like::ALLOTMENT),
                ("month", &names.month, like::MONTH),
                (key, known, alike),
            ];
            let own = own_fields(shape);
            let has = |(_, known, alike): &(_, &[Place], &[&str])| {
                leads(known, shape) || best(&own, alike, is_value).is_some()
            };
            if !matches!(shape, Shape::Object(_)) || !parts.iter().all(has) {
                continue;
            }
            found = true;
            if !leads_to(&names.element, path) {
                self.add("capacity", "element", path, "it has an allotment, a month and a number");
            }
            for (key, known, alike) in parts {
                self.part(("capacity", key), shape, known, alike, is_value);
            }
        }
        found
    }

    /// A text that may be a key, and one that may be a cause.
    fn activation(&mut self, shape: &Shape, words: &Vocabulary, is_known: bool) {
        let fields = fields(shape);
        if !leads(&words.key, shape)
            && let Some(key) = best(&fields, like::KEY, is_text)
        {
            self.add("", "key", &key.path, "a text, and its name is like that of a signed key");
        }
        if !is_known {
            self.part(("activation", "cause"), shape, &words.activation.cause, like::CAUSE, is_text);
        }
    }

    /// Where the source may stand: at the top, or in the elements of the body.
    fn who(&mut self, shape: &Shape, things: &[Thing<'_>], words: &Vocabulary) {
        if leads(&words.source, shape) {
            return;
        }
        for Thing { path, shape } in things {
            let fields = own_fields(shape);
            if let Some(field) = best(&fields, like::SOURCE, is_value) {
                self.add("", "source", &format!("{path}{}", field.path), "its name is like source");
                return;
            }
        }
    }

    /// Allotments with units, or with a count of their own; else a text that they may be wrapped in.
    fn definition(&mut self, whole: &Shape, things: &[Thing<'_>], words: &Vocabulary) {
        let names = &words.definition;
        for Thing { path, shape } in things {
            let Some(list) = path.strip_suffix("/*") else { continue };
            let Shape::Object(members) = *shape else { continue };
            let counted = |shape: &Shape| {
                leads(&names.count, shape) || best(&own_fields(shape), like::COUNT, is_value).is_some()
            };
            let units = members.iter().find_map(|(name, shape)| match shape {
                Shape::Array(Some(element)) if counted(element) => Some((name, &**element)),
                _ => None,
            });
            let unit = match units {
                Some((_, unit)) => unit,
                None if counted(shape) => shape,
                None => continue,
            };
            if !leads_to(&names.allotments, list) {
                self.add("definition", "allotments", list, "a list of things that are counted");
            }
            if !leads(&names.units, shape) {
                match units {
                    Some((name, _)) => {
                        self.add("definition", "units", &format!("/{name}"), "a list of things with a count");
                    }
                    None => self.add("definition", "units", "", "an allotment has its count itself"),
                }
            }
            self.part(("definition", "name"), shape, &names.name, like::ALLOTMENT, is_text);
            self.part(("definition", "class"), shape, &names.class, like::CLASS, is_text);
            self.part(("definition", "access_type"), shape, &names.access_type, like::ACCESS, is_text);
            self.part(("definition", "overage"), shape, &names.overage, like::OVERAGE, is_value);
            self.part(("definition", "count"), unit, &names.count, like::COUNT, is_value);
            if !leads(&names.valid, unit) && best(&own_fields(unit), like::VALID, is_text).is_some() {
                self.part(("definition", "valid"), unit, &names.valid, like::VALID, is_text);
            } else if !leads(&names.valid, unit) {
                self.part(("definition", "valid_from"), unit, &names.valid_from, like::FROM, is_value);
                self.part(("definition", "valid_to"), unit, &names.valid_to, like::TO, is_value);
            }
            self.part(("definition", "license"), whole, &names.license, like::LICENSE, is_value);
            return;
        }
        self.part(("definition", "wrapped"), whole, &names.wrapped, like::WRAPPED, is_text);
    }
}

fn put(entries: &mut Vec<SuggestedEntry>, path: &str, because: String) {
    let place = written(path);
    if entries.len() < bounds::PLACES && !entries.iter().any(|entry| entry.place == place) {
        entries.push(SuggestedEntry { place, because });
    }
}

/// The members of a thing itself.
fn own_fields(shape: &Shape) -> Vec<Field<'_>> {
    let mut own = fields(shape);
    own.retain(|field| field.path.matches('/').count() == 1);
    own
}

/// A shape with nothing but what stands at the path.
fn only(path: &str, shape: &Shape) -> Shape {
    path.rsplit('/')
        .filter(|name| !name.is_empty())
        .fold(shape.clone(), |inner, name| Shape::Object(vec![(name.to_owned(), inner)]))
}

/// Whether the list has this very place.
fn leads_to(places: &[Place], path: &str) -> bool {
    written(path).parse::<Place>().is_ok_and(|place| places.iter().any(|known| known.same(&place)))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, StatusCode, Uri};

    use super::*;
    use crate::licensing::asker::ClaimedSource;
    use crate::licensing::json::Json;
    use crate::licensing::message::{Change, Message, MessageKind};
    use crate::licensing::reply::{ReplyFacts, What};
    use crate::licensing::vocabulary::Words;

    /// A dialect that the built-in names know nothing of.
    const SYNC: &str = r#"{"Envelope":{"DeploymentId":"fbe89d02","Baselines":[{"Lic":"9999 0000","Rev":17}],
        "Operations":[{"Lic":"9999 0000","Entitlement":"analyzer","Principal":"acme\\bob","At":"2019-04-18"},null]}}"#;
    const IDLE: &str = r#"{"Envelope":{"DeploymentId":"fbe89d02","Baselines":[{"Lic":"9999 0000","Rev":17}],
        "Operations":[]}}"#;
    const REPORT: &str = r#"{"origin":"fbe89d02","usage":[{"entitlement":"analyzer_time","period":"2018-11",
        "usedMinutes":242}]}"#;
    const TOTALS: &str =
        r#"{"usage":[{"entitlement":"analyzer_time","period":"2018-11","totalMinutes":12345}]}"#;
    const ACTIVATION: &str = r#"{"jwt":"e30.eyJsaWNlbnNlIjoiOTk5OTAwMDAifQ.c2ln","reason":"Initial"}"#;
    const DEFINITION: &str = r#"{"licenseNumber":"9999 0000","products":[{"type":"analyzer",
        "quotas":[{"seats":5,"start":"2018-06-01","end":"2018-12-31"}]}]}"#;

    fn words(bodies: &[(&str, bool)]) -> Vocabulary {
        let built_in = Vocabulary::built_in().unwrap();
        // Through the log and back.
        let shape = |body: &str| Shape::parse(&Shape::of(&Json::parse(body.as_bytes()).unwrap()).to_string());
        let shapes: Vec<_> =
            bodies.iter().map(|(body, is_reply)| (shape(body).unwrap(), *is_reply)).collect();
        let met = shapes.iter().map(|(shape, is_reply)| Met { shape, is_reply: *is_reply });
        let text = suggest(met, &built_in).to_toml();
        Vocabulary::parse(&text, "suggested.toml".as_ref()).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    fn read(body: &str, words: &Vocabulary) -> Message {
        Message::read(&Method::POST, &Uri::from_static("/x"), &HeaderMap::new(), body.as_bytes(), &of(words))
    }

    fn of(words: &Vocabulary) -> Words {
        words.clone().try_into().unwrap()
    }

    fn told(asked: &MessageKind, body: &str, words: &Vocabulary) -> What {
        ReplyFacts::read(asked, StatusCode::OK, &HeaderMap::new(), body.as_bytes(), &of(words)).what
    }

    #[test]
    fn a_made_up_dialect_is_understood_with_what_is_suggested_for_it() {
        let all = [(SYNC, false), (REPORT, false), (TOTALS, true), (ACTIVATION, false), (DEFINITION, true)];
        let words = words(&all);

        let sync = read(SYNC, &words);
        let MessageKind::Sync(asked) = &sync.kind else { panic!("{sync:?}") };
        assert_eq!(sync.source, ClaimedSource::Source("fbe89d02".parse().unwrap()));
        assert_eq!(sync.license().unwrap().as_str(), "99990000");
        assert_eq!((asked.bases[0].1, asked.patches.len()), (Some(17), 1));
        assert_eq!((asked.patches[0].change, sync.unread.as_deref()), (Change::Add, None));
        assert_eq!(read(IDLE, &words).kind.name(), "sync-idle");

        let report = read(REPORT, &words);
        assert!(
            matches!(&report.kind, MessageKind::Capacity(all) if all[0].delta == Some(242.into())),
            "{report:?}"
        );
        assert_eq!(report.source, ClaimedSource::Source("fbe89d02".parse().unwrap()));
        let totals = told(&report.kind, TOTALS, &words);
        assert!(matches!(&totals, What::Totals(all) if all[0].total == Some(12345.into())), "{totals:?}");

        let activation = read(ACTIVATION, &words);
        assert!(
            matches!(&activation.kind, MessageKind::Activation { cause } if cause == "Initial"),
            "{activation:?}"
        );
        let definition = told(&activation.kind, DEFINITION, &words);
        let What::Entitlements(all) = &definition else { panic!("{definition:?}") };
        assert_eq!((all[0].name.as_str(), all[0].count.clone()), ("analyzer", Some(5.into())));
        assert_eq!(all[0].valid, ("2018-06-01".into(), "2018-12-31".into()));
    }

    #[test]
    fn an_idle_sync_with_an_unknown_list_gets_a_name_for_the_list() {
        let body = r#"{"source":"a","bases":[],"patches":[],"revoked":[{"subject":"a","allotment":"b"}]}"#;
        let words = words(&[(body, false)]);
        let MessageKind::Sync(sync) = read(body, &words).kind else { panic!() };
        assert_eq!(sync.patches[0].change, Change::Delete);
    }

    #[test]
    fn a_member_that_may_mark_a_delete_makes_no_adds_before_somebody_says_what_it_means() {
        let body = r#"{"source":"a","bases":[],"changes":[{"user":"a","allotment":"b","verb":"x"}]}"#;
        let words = words(&[(body, false)]);
        let MessageKind::Sync(sync) = read(body, &words).kind else { panic!() };
        assert_eq!(sync.patches[0].change, Change::Unknown);
    }

    #[test]
    fn what_is_known_or_like_nothing_gets_no_suggestion() {
        for body in
            [include_str!("../../tests/samples/sync-request.json"), "{\"ok\":true}", "[1,[2]]", "{}", "3"]
        {
            let shape = Shape::of(&Json::parse(body.as_bytes()).unwrap());
            let suggestion =
                suggest([Met { shape: &shape, is_reply: false }], &Vocabulary::built_in().unwrap());
            assert!(suggestion.is_empty(), "{body}\n{}", suggestion.to_toml());
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_suggested_is_a_vocabulary(text in "[{]([a-z]{2,8}|user|changes|base|used|month|key):([\\[]{0,2}[{][a-z]{1,9}:(text|number)[}][\\]]{0,2}|text),(from|op|state):number[}]", is_reply: bool) {
            if let Some(shape) = Shape::parse(&text) {
                let words = Vocabulary::built_in().unwrap();
                let toml = suggest([Met { shape: &shape, is_reply }], &words).to_toml();
                let read = Vocabulary::parse(&toml, "v.toml".as_ref());
                proptest::prop_assert!(read.is_ok(), "{toml}");
            }
        }
    }
}
