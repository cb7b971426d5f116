//! What one reply of the back end says.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;

use super::coding;
use super::compare::{Known, known};
use super::json::{self, Json};
use super::message::{Consumption, MessageKind, Patch, Sync, heap, people, report_of, sync_of, too_many};
use super::read::{Body, holds_a_change};
use super::shape::Shape;
use super::vocabulary::{Place, Vocabulary, Words};
use crate::bounds;
use relay_log::names::LicenseNumber;
use relay_log::text::redact::{date, word};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// What a reply tells, read in the light of what was asked.
#[derive(Debug)]
pub struct ReplyFacts {
    /// What it tells.
    pub what: What,
    /// The names of members that are doubled in one object.
    pub doubled: Vec<String>,
    /// The shape of a reply that is understood, but holds an array or an object of which nothing was read.
    pub unread: Option<String>,
    /// The shape of its body, where that can be read.
    pub shape: Option<Shape>,
    /// Changes that the built-in vocabulary reads and the site's own one does not.
    pub other: Vec<Patch>,
}

/// What a reply tells.
#[derive(Debug)]
pub enum What {
    /// Nothing that is recorded: the reply to a test, or an error without a body worth reading.
    Nothing,
    /// The allotments of a license.
    Entitlements(Vec<Entitlement>),
    /// Totals of all deployments.
    Totals(Vec<Total>),
    /// Assignments, those of other deployments among them.
    Sync(Sync),
    /// A reply that can't be read, or of which nothing is known.
    Unread {
        /// Why, or its shape.
        why: String,
    },
}

/// One unit of one allotment.
#[derive(Debug)]
pub struct Entitlement {
    /// The license.
    pub license: Option<LicenseNumber>,
    /// `professional`, `analyzer_time`.
    pub name: String,
    /// `assigned`, `time`.
    pub class: Option<String>,
    /// What it gives access to.
    pub access_type: Option<String>,
    /// How many.
    pub count: Option<serde_json::Number>,
    /// From when and until when; empty: open.
    pub valid: (String, String),
    /// A number, `unlimited` or `unknown`.
    pub overage: Option<String>,
}

/// The total of one allotment in one month.
#[derive(Debug)]
pub struct Total {
    /// The allotment.
    pub allotment: String,
    /// `YYYY-MM`.
    pub month: String,
    /// Of all deployments.
    pub total: Option<serde_json::Number>,
}

impl ReplyFacts {
    /// Nothing that is recorded.
    pub fn nothing() -> Self {
        What::Nothing.into()
    }

    /// A reply that can't be read, and why.
    pub fn unread(why: impl Into<String>) -> Self {
        What::Unread { why: why.into() }.into()
    }

    /// The memory that it takes.
    pub fn bytes(&self) -> usize {
        let what = match &self.what {
            What::Sync(sync) => sync.bytes(),
            What::Entitlements(all) => all.iter().map(Entitlement::bytes).sum(),
            What::Totals(all) => all.iter().map(Total::bytes).sum(),
            What::Nothing | What::Unread { .. } => 0,
        };
        let shape = self.shape.as_ref().map_or(0, Shape::bytes);
        what + shape + self.other.iter().map(Patch::bytes).sum::<usize>()
    }

    /// Reads the body of a reply, whatever was asked and whatever its status: what it tells is recorded.
    pub fn read(
        asked: &MessageKind,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        words: &Words,
    ) -> Self {
        let success = status.is_success();
        let expected = success
            && !matches!(
                asked,
                MessageKind::ConnectivityTest | MessageKind::Bare | MessageKind::Unreadable { .. }
            );
        if body.is_empty() && !expected {
            return Self::nothing();
        }
        if status == StatusCode::PARTIAL_CONTENT {
            return Self::unread("the reply is a part of another one");
        }
        let plain = match coding::plain(headers, body) {
            Ok(plain) => plain,
            Err(why) => return Self::unread(why.to_string()),
        };
        let read = match json::read(plain.bytes()) {
            Ok(read) => read,
            Err(e) if expected || claims_json(headers) || e.is_contradiction() => {
                return Self::unread(e.to_string());
            }
            Err(_) => return Self::nothing(),
        };
        let shape = Shape::of(&read.json);
        let mut told = match Self::under(asked, &read.json, &shape, &words.in_force) {
            ReplyReading::ReplyFacts(told) => told,
            ReplyReading::Hole(told) => return told,
        };
        if let Some(built_in) = &words.built_in {
            let other = match Self::under(asked, &read.json, &shape, built_in) {
                ReplyReading::ReplyFacts(other) => other,
                ReplyReading::Hole(other) => return other,
            };
            let own = told.what.patches();
            if let What::Sync(sync) = other.what {
                let known = known(&sync.patches, own);
                let others = sync.patches.into_iter().zip(known);
                told.other =
                    others.filter_map(|(patch, known)| (known != Known::Whole).then_some(patch)).collect();
            }
        }
        // An error in words of its own is an error, and a page about nothing is one, unless it speaks of changes.
        if matches!(told.what, What::Unread { .. }) && !success && !holds_a_change(&read.json) {
            told.what = What::Nothing;
        }
        Self { shape: Some(shape), ..told }
    }

    fn under(asked: &MessageKind, json: &Json<'_>, shape: &Shape, words: &Vocabulary) -> ReplyReading {
        let body = Body::new(json);
        let mut hidden = None;
        let sync = sync_of(&body, words);
        let mut beyond = sync.as_ref().and_then(|sync| sync.beyond.clone());
        let what = match asked {
            MessageKind::Activation { .. } | MessageKind::Definition => {
                entitlements(&body, words, None, 0, &mut hidden).map(What::Entitlements)
            }
            MessageKind::Capacity(report) => totals(&body, words, report).map(What::Totals),
            _ => None,
        };
        let nothing_asked = || totals(&body, words, &[]).filter(|all| !all.is_empty()).map(What::Totals);
        let what = what.or_else(|| sync.map(What::Sync)).or_else(nothing_asked).or_else(|| {
            let all = entitlements(&body, words, None, 0, &mut hidden)?;
            Some(What::Entitlements(all))
        });
        let doubled = json.doubled();
        let unread = || What::Unread { why: shape.to_string() };
        beyond = beyond.or_else(|| what.as_ref().and_then(What::beyond));
        if let Some(why) = beyond {
            return ReplyReading::Hole(Self { doubled, ..Self::unread(why) });
        }
        if body.contradiction().is_some() {
            return ReplyReading::Hole(Self { doubled, ..unread().into() });
        }
        ReplyReading::ReplyFacts(match what {
            Some(what) => {
                let hides = || body.has_unread(&words.harmless, people(what.patches()));
                let unread = hidden.or_else(|| hides().then(|| shape.to_string()));
                Self { what, doubled, unread, shape: None, other: vec![] }
            }
            None => Self { doubled, ..unread().into() },
        })
    }
}

impl What {
    /// Why not all of it is kept.
    fn beyond(&self) -> Option<String> {
        match self {
            Self::Totals(all) if all.len() > relay_log::bounds::CHANGES => Some(too_many()),
            Self::Entitlements(all) if all.len() > bounds::UNITS => {
                Some(format!("the reply has more than {} units of allotments", bounds::UNITS))
            }
            _ => None,
        }
    }

    /// The changes that it tells.
    pub(crate) fn patches(&self) -> &[Patch] {
        if let Self::Sync(sync) = self { &sync.patches } else { &[] }
    }
}

impl Entitlement {
    /// The memory that it takes.
    fn bytes(&self) -> usize {
        let texts = [&self.class, &self.access_type, &self.overage];
        let texts = texts.into_iter().flatten().chain([&self.name, &self.valid.0, &self.valid.1]);
        let license = self.license.as_ref().map_or(0, |license| heap(license.as_str().len()));
        size_of::<Self>() + license + texts.map(|text| heap(text.len())).sum::<usize>()
    }
}

impl Total {
    /// The memory that it takes.
    fn bytes(&self) -> usize {
        size_of::<Self>() + heap(self.allotment.len()) + heap(self.month.len())
    }
}

/// What one vocabulary makes of a reply. One that contradicts itself, or that tells more changes than are read, is a hole
/// in the log whatever its status.
enum ReplyReading {
    ReplyFacts(ReplyFacts),
    Hole(ReplyFacts),
}

/// Whether a reply is said to be JSON.
fn claims_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("json"))
}

impl From<What> for ReplyFacts {
    fn from(what: What) -> Self {
        Self { what, doubled: vec![], unread: None, shape: None, other: vec![] }
    }
}

fn totals(body: &Body<'_, '_>, words: &Vocabulary, asked: &[Consumption]) -> Option<Vec<Total>> {
    // To nothing that is known, an empty list is an answer.
    if matches!(body.json, Json::Array(elements) if elements.is_empty()) {
        return Some(vec![]);
    }
    // An id that was sent twice is nobody's.
    let mut by_id: HashMap<&str, Option<&Consumption>> = HashMap::new();
    for element in asked {
        if let Some(id) = element.id.as_deref() {
            by_id.entry(id).and_modify(|element| *element = None).or_insert(Some(element));
        }
    }
    let totals = report_of(body, &words.capacity.total, words, |id| by_id.get(id).copied().flatten())?;
    let total = |Consumption { allotment, month, delta, .. }| Total { allotment, month, total: delta };
    Some(totals.into_iter().map(total).collect())
}

/// Definitions come as they are, or wrapped in base64. `hidden` gets the shape of what is wrapped, where something in it
/// was not read.
fn entitlements(
    body: &Body<'_, '_>,
    words: &Vocabulary,
    outer: Option<&LicenseNumber>,
    depth: usize,
    hidden: &mut Option<String>,
) -> Option<Vec<Entitlement>> {
    let names = &words.definition;
    let license = body.licenses(&names.license, body.json).into_iter().next().or_else(|| outer.cloned());
    let as_it_is = body.attempt(|| {
        let allotments = body.list(&names.allotments, body.json)?;
        let mut all = Vec::new();
        let named =
            allotments.iter().filter(|json| units(body, json, license.as_ref(), words, &mut all)).count();
        (named > 0 || allotments.is_empty()).then_some(all)
    });
    if as_it_is.is_some() || depth == bounds::WRAPPED {
        return as_it_is;
    }
    let mut texts = names.wrapped.iter().flat_map(|place| body.values(place)).filter_map(Json::as_str);
    texts.find_map(|text| unwrapped(text, words, license.as_ref(), depth + 1, hidden))
}

/// What is wrapped is a definition, or wrapped itself.
fn unwrapped(
    text: &str,
    words: &Vocabulary,
    outer: Option<&LicenseNumber>,
    depth: usize,
    hidden: &mut Option<String>,
) -> Option<Vec<Entitlement>> {
    let inner = unwrap(text)?;
    let Ok(json) = Json::parse_wrapped(&inner) else {
        let text = std::str::from_utf8(&inner).ok().filter(|_| depth < bounds::WRAPPED)?;
        return unwrapped(text, words, outer, depth + 1, hidden);
    };
    let body = Body::new(&json);
    let all = entitlements(&body, words, outer, depth, hidden)?;
    if hidden.is_none() && body.has_unread(&words.harmless, 0) {
        *hidden = Some(Shape::of(&json).to_string());
    }
    Some(all)
}

/// Base64 of either alphabet, with padding or without, in lines or not.
fn unwrap(text: &str) -> Option<Vec<u8>> {
    let text: Cow<'_, str> = if text.contains(char::is_whitespace) {
        text.split_whitespace().collect::<String>().into()
    } else {
        text.into()
    };
    let alphabet = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    GeneralPurpose::new(&alphabet, LENIENT).decode(text.as_bytes()).ok()
}

/// Adds the units of an allotment; `false` where it has no name.
fn units<'j, 'a>(
    body: &Body<'j, 'a>,
    allotment: &'j Json<'a>,
    license: Option<&LicenseNumber>,
    words: &Vocabulary,
    all: &mut Vec<Entitlement>,
) -> bool {
    let names = &words.definition;
    let text = |places: &[Place], json| body.value(places, json).value.and_then(Json::to_text);
    let Some(name) = text(&names.name, allotment) else { return false };
    let first = |places| text(places, allotment).map(|text| word(&text));
    let class = first(&names.class);
    // One unit may give access to several things, and is one unit all the same.
    let types = body.texts(&names.access_type, allotment);
    let types: Vec<String> = types.iter().take(bounds::ACCESS_TYPES).map(|text| word(text)).collect();
    let access_type = (!types.is_empty()).then(|| types.join(", "));
    let overage = first(&names.overage).map(overage);
    for unit in body.list(&names.units, allotment).unwrap_or_default() {
        // One more than may be is enough to know.
        if all.len() > bounds::UNITS {
            break;
        }
        let valid = text(&names.valid, unit).unwrap_or_default();
        let (from, to) = valid.split_once('/').unwrap_or((&valid, ""));
        // The public API of Qlik Cloud writes an open end as a dot.
        let end = |text: &str| day(text.trim_matches('.'));
        let apart = |places| text(places, unit).map(|text| end(&text));
        all.push(Entitlement {
            license: license.cloned(),
            name: word(&name),
            class: class.clone(),
            access_type: access_type.clone(),
            count: body.value(&names.count, unit).value.and_then(Json::to_number),
            valid: (
                apart(&names.valid_from).unwrap_or_else(|| end(from)),
                apart(&names.valid_to).unwrap_or_else(|| end(to)),
            ),
            overage: overage.clone(),
        });
    }
    true
}

/// A day in the one form that is recorded. It may come without hyphens, with a time that is midnight, or as seconds or
/// milliseconds since 1970; what is none of these stays as it is.
fn day(text: &str) -> String {
    let (day, time) = text.split_once('T').unwrap_or((text, ""));
    if !time.bytes().all(|b| matches!(b, b'0' | b':' | b'.' | b'+' | b'Z')) {
        return date(text);
    }
    let digits = day.bytes().all(|b| b.is_ascii_digit());
    let seconds = match (day.len(), day.parse::<i64>()) {
        (10, Ok(seconds)) if time.is_empty() => Some(seconds),
        (13, Ok(milliseconds)) if time.is_empty() => Some(milliseconds / 1000),
        _ => None,
    };
    match (day.get(..4), day.get(4..6), day.get(6..)) {
        (Some(year), Some(month), Some(day)) if digits && day.len() == 2 => format!("{year}-{month}-{day}"),
        _ => match seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
            Some(time) => time.to_string().trim_end_matches("T00:00:00Z").to_owned(),
            None => date(day),
        },
    }
}

/// `YES` in a LEF and -1 in the API both mean that there is no cap.
fn overage(text: String) -> String {
    match text.as_str() {
        "YES" | "yes" | "-1" => "unlimited".into(),
        number if number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() => text,
        _ => "unknown".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(asked: &MessageKind, body: &[u8]) -> What {
        ReplyFacts::read(asked, StatusCode::OK, &HeaderMap::new(), body, &Words::load(None).unwrap()).what
    }

    #[test]
    fn entitlements_are_read_from_an_activation_and_from_a_wrapped_definition() {
        let activation = MessageKind::Activation { cause: "Initial".into() };
        let plain = told(&activation, include_bytes!("../../tests/samples/activation-reply.json"));
        let wrapped =
            told(&MessageKind::Definition, include_bytes!("../../tests/samples/definition-reply.json"));
        for told in [plain, wrapped] {
            let What::Entitlements(all) = told else { panic!("{told:?}") };
            assert_eq!(all.len(), 3);
            assert_eq!(all[0].valid, ("2018-06-01".into(), "2018-12-31".into()));
            assert_eq!(all[1].valid, (String::new(), String::new()));
            assert_eq!(all[2].count, Some(50.into()));
        }
    }

    #[test]
    fn a_sync_reply_tells_versions_and_rejections() {
        let reply =
            told(&MessageKind::Sync(Sync::default()), include_bytes!("../../tests/samples/sync-reply.json"));
        let What::Sync(sync) = reply else { panic!("{reply:?}") };
        assert_eq!(sync.bases[0].1, Some(17));
        assert_eq!(sync.patches[3].rejection.as_deref(), Some("no unit left"));
        assert_eq!(sync.patches[0].instance.as_deref(), Some("5382018630938057025"));
    }

    #[test]
    fn a_capacity_reply_tells_totals_and_anything_else_is_unread() {
        let asked = MessageKind::Capacity(vec![]);
        let reply = told(&asked, include_bytes!("../../tests/samples/capacity-reply.json"));
        assert!(matches!(&reply, What::Totals(all) if all[0].total == Some(12345.into())), "{reply:?}");
        assert!(matches!(told(&asked, b"<html>"), What::Unread { .. }));
        assert!(matches!(told(&asked, b"{\"ok\":true}"), What::Unread { .. }));
    }

    #[test]
    fn a_reply_that_hides_something_shows_its_shape() {
        let body = br#"{"bases":[],"patches":[],"Bases":[],"rejected":[{"user":"a"}]}"#;
        let reply = ReplyFacts::read(
            &MessageKind::Sync(Sync::default()),
            StatusCode::OK,
            &HeaderMap::new(),
            body,
            &Words::load(None).unwrap(),
        );
        assert!(matches!(reply.what, What::Sync(_)));
        assert_eq!(reply.unread.unwrap(), "{Bases:[],patches:[],rejected:[{user:text}]}");
        assert_eq!(reply.doubled, ["Bases"]);
    }

    #[test]
    fn definitions_are_unwrapped_from_either_alphabet_with_padding_or_without() {
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
        let inner = "{\"licen\u{17f}e\":\"9999 0000\",\"allotments\":[{\"name\":\"~~~???>>\",\"units\":[{\"count\":1}]}]}";
        let wrapped = [
            STANDARD.encode(inner),
            STANDARD_NO_PAD.encode(inner),
            URL_SAFE.encode(inner),
            URL_SAFE_NO_PAD.encode(inner),
            STANDARD.encode(inner).replace("e", "e\n "),
        ];
        for text in wrapped {
            let mut body = serde_json::json!({ "sld": text }).to_string();
            for _ in 0..2 {
                let What::Entitlements(all) = told(&MessageKind::Definition, body.as_bytes()) else {
                    panic!("{body}")
                };
                assert_eq!(all[0].license.as_ref().unwrap().as_str(), "99990000");
                body = serde_json::json!({ "sld": URL_SAFE_NO_PAD.encode(body) }).to_string();
            }
            for _ in 0..2 {
                body = serde_json::json!({ "sld": URL_SAFE_NO_PAD.encode(body) }).to_string();
            }
            assert!(matches!(told(&MessageKind::Definition, body.as_bytes()), What::Unread { .. }));
        }
    }

    #[test]
    fn units_may_be_flat_and_their_dates_apart() {
        let own = "[definition]\nallotments = [\"/*\"]\nunits = [\"/\"]\nvalid_from = [\"from\"]\nvalid_to = [\"to\"]";
        let words = Vocabulary::parse(own, "v.toml".as_ref()).unwrap();
        let body = br#"[{"name":"analyzer","count":"5","from":"2018-06-01","to":null,"overage":-1},null]"#;
        let told = ReplyFacts::read(
            &MessageKind::Definition,
            StatusCode::OK,
            &HeaderMap::new(),
            body,
            &words.try_into().unwrap(),
        );
        let What::Entitlements(all) = &told.what else { panic!("{told:?}") };
        assert_eq!(all[0].valid, ("2018-06-01".into(), String::new()));
        assert_eq!((all[0].count.clone(), all[0].overage.as_deref()), (Some(5.into()), Some("unlimited")));
        assert!(told.unread.is_none());
    }

    #[test]
    fn a_day_is_recorded_in_one_form() {
        for text in [
            "2018-06-01",
            "20180601",
            "2018-06-01T00:00:00",
            "2018-06-01T00:00:00.000Z",
            "2018-06-01T00:00:00+00:00",
            "20180601T000000Z",
            "1527811200",
            "1527811200000",
        ] {
            assert_eq!(day(text), "2018-06-01", "{text}");
        }
        for text in ["", "2018-06-01T10:00:00Z", "2018-06-01T00:00:00+01:00", "2018", "20180601T1"] {
            assert_eq!(day(text), text);
        }
        assert_eq!(day("1527811201"), "2018-06-01T00:00:01Z");
        assert_eq!(day("Monday"), "(other)");
    }
}
