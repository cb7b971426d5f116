//! One reply of the back end: what it told.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use super::coding;
use super::json::Json;
use super::message::{Kind, Sync, sync_of};
use super::shape::Shape;
use super::vocabulary::{Vocabulary, member};
use crate::config::names::LicenseNumber;
use crate::ledger::record::{date, word};

/// What a reply tells, read in the light of what was asked.
#[derive(Debug)]
pub enum Told {
    /// Nothing that is recorded: the reply to a test, or an error without a body worth reading.
    Nothing,
    /// The allotments of a license.
    Entitlements(Vec<Entitlement>),
    /// Totals of all deployments.
    Totals(Vec<Total>),
    /// Assignments, those of other deployments among them.
    Sync(Sync),
    /// A reply that does not fit the question.
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

impl Told {
    /// Reads the body of a successful reply.
    pub fn read(asked: &Kind, headers: &HeaderMap, body: &[u8], words: &Vocabulary) -> Self {
        if matches!(asked, Kind::ConnectivityTest | Kind::Bare | Kind::Unreadable { .. }) {
            return Self::Nothing;
        }
        let plain = match coding::plain(headers, body) {
            Ok(plain) => plain,
            Err(why) => return Self::Unread { why: why.into() },
        };
        let json = match Json::parse(plain.bytes()) {
            Ok(json) => json,
            Err(e) => return Self::Unread { why: e.to_string() },
        };
        let told = match asked {
            Kind::Activation { .. } | Kind::Definition => {
                entitlements(&json, words, 0).map(Self::Entitlements)
            }
            Kind::Capacity(_) => totals(&json, words).map(Self::Totals),
            Kind::Sync(_) => sync_of(&json, words).map(Self::Sync),
            _ => None,
        };
        told.unwrap_or_else(|| Self::Unread { why: Shape::of(&json).to_string() })
    }
}

fn totals(json: &Json<'_>, words: &Vocabulary) -> Option<Vec<Total>> {
    let names = &words.capacity;
    let element = |json| {
        Some(Total {
            allotment: word(&member(json, &names.allotment)?.to_text()?),
            month: date(&member(json, &names.month)?.to_text()?),
            total: number(member(json, &names.total)?),
        })
    };
    match json {
        Json::Array(elements) => elements.iter().map(element).collect(),
        _ => None,
    }
}

/// Definitions come as they are, or wrapped in base64 up to twice.
fn entitlements(json: &Json<'_>, words: &Vocabulary, depth: u8) -> Option<Vec<Entitlement>> {
    let names = &words.definition;
    let license = || json.get("license").and_then(Json::to_text).and_then(|text| text.parse().ok());
    if let Some(list) = names.allotments.iter().flat_map(|place| place.find(json)).next() {
        let mut all = Vec::new();
        for allotment in list.elements() {
            allotment_units(allotment, license(), words, &mut all);
        }
        return Some(all);
    }
    if depth > 2 {
        return None;
    }
    let wrapped = names.wrapped.iter().flat_map(|place| place.find(json)).filter_map(Json::as_str).next()?;
    let inner = STANDARD.decode(wrapped).ok()?;
    entitlements(&Json::parse(&inner).ok()?, words, depth + 1)
}

fn allotment_units(
    allotment: &Json<'_>,
    license: Option<LicenseNumber>,
    words: &Vocabulary,
    all: &mut Vec<Entitlement>,
) {
    let names = &words.definition;
    let first = |places: &[super::vocabulary::Place]| -> Option<String> {
        places.iter().flat_map(|place| place.find(allotment)).find_map(Json::to_text).map(|text| word(&text))
    };
    let Some(name) = member(allotment, &names.name).and_then(Json::to_text) else { return };
    for unit in member(allotment, &names.units).map(Json::elements).unwrap_or_default() {
        let valid = member(unit, &names.valid).and_then(Json::as_str).unwrap_or_default();
        let (from, to) = valid.split_once('/').unwrap_or((valid, ""));
        // The public API of Qlik Cloud writes an open end as a dot.
        let end = |text: &str| date(text.trim_matches('.'));
        all.push(Entitlement {
            license: license.clone(),
            name: word(&name),
            class: first(&names.class),
            access_type: first(&names.access_type),
            count: member(unit, &names.count).and_then(number),
            valid: (end(from), end(to)),
            overage: first(&names.overage).map(overage),
        });
    }
}

fn number(json: &Json<'_>) -> Option<serde_json::Number> {
    match json {
        Json::Number(number) => Some(number.clone()),
        other => other.as_u64().map(Into::into),
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

    fn told(asked: &Kind, body: &[u8]) -> Told {
        Told::read(asked, &HeaderMap::new(), body, &Vocabulary::built_in().unwrap())
    }

    #[test]
    fn entitlements_are_read_from_an_activation_and_from_a_wrapped_definition() {
        let activation = Kind::Activation { cause: "Initial".into() };
        let plain = told(&activation, include_bytes!("../../tests/samples/activation-reply.json"));
        let wrapped = told(&Kind::Definition, include_bytes!("../../tests/samples/definition-reply.json"));
        for told in [plain, wrapped] {
            let Told::Entitlements(all) = told else { panic!("{told:?}") };
            assert_eq!(all.len(), 3);
            assert_eq!(all[0].valid, ("2018-06-01".into(), "2018-12-31".into()));
            assert_eq!(all[1].valid, (String::new(), String::new()));
            assert_eq!(all[2].count, Some(50.into()));
        }
    }

    #[test]
    fn a_sync_reply_tells_versions_and_rejections() {
        let reply = told(&Kind::Sync(Sync::default()), include_bytes!("../../tests/samples/sync-reply.json"));
        let Told::Sync(sync) = reply else { panic!("{reply:?}") };
        assert_eq!(sync.bases[0].1, Some(17));
        assert_eq!(sync.patches[3].rejection.as_deref(), Some("no unit left"));
        assert_eq!(sync.patches[0].instance.as_deref(), Some("5382018630938057025"));
    }

    #[test]
    fn a_capacity_reply_tells_totals_and_anything_else_is_unread() {
        let asked = Kind::Capacity(vec![]);
        let reply = told(&asked, include_bytes!("../../tests/samples/capacity-reply.json"));
        assert!(matches!(&reply, Told::Totals(all) if all[0].total == Some(12345.into())), "{reply:?}");
        assert!(matches!(told(&asked, b"<html>"), Told::Unread { .. }));
        assert!(matches!(told(&asked, b"{\"ok\":true}"), Told::Unread { .. }));
    }
}
