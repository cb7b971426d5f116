//! What the stub knows as a license back end: consumption and assignments, in memory, for each license.
//!
//! It adds up and numbers whatever it is told, twice if it is told twice: that is how a test sees that a
//! relay sent something again. Paths are not published, so messages are recognised by their shape.

use std::collections::{BTreeMap, BTreeSet};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::wire::{Reply, Request};

/// What a request is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestKind {
    /// A license is asked for with its signed key.
    Activation,
    /// The license's definition is fetched.
    Definition,
    /// Minutes used are reported.
    Capacity,
    /// Assignments are told, and asked for.
    Sync,
    /// The connectivity test, `GET /`.
    Root,
    /// Anything else, bad requests included.
    Other,
}

/// One change of an assignment, as the stub keeps it.
#[derive(Clone, Debug, Serialize)]
pub struct Assignment {
    /// The license number, digits only.
    pub license: String,
    /// The access type.
    pub allotment: String,
    /// Who holds it, as sent.
    pub subject: String,
    /// The change's number within its license, from 1.
    pub version: u64,
    /// 19 decimal digits.
    pub instance: String,
    /// The deployment that asked for it.
    pub source: String,
    /// Empty, or why it was refused.
    pub rejection: &'static str,
    /// The stub's own invention: how a delete is told is not published.
    pub deleted: bool,
    #[serde(skip)]
    created: String,
}

/// What all deployments have told.
#[derive(Default)]
pub(super) struct Licensing {
    consumption: BTreeMap<String, i64>,
    licenses: BTreeMap<String, License>,
    changes: u64,
}

#[derive(Default)]
struct License {
    changes: Vec<Assignment>,
    /// (allotment, subject): twice the same is one holder.
    holders: BTreeSet<(String, String)>,
}

/// What a request says.
pub(super) enum RequestContent {
    Root,
    Definition,
    Message(Message),
    Other,
}

/// The bodies that are understood, told apart by their members.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Message {
    Capacity(Vec<Consumption>),
    Wrapped {
        source: Option<String>,
        metadata: Assignments,
    },
    Sync(Assignments),
    #[serde(rename_all = "camelCase")]
    Activation {
        signed_license_key: String,
        #[serde(rename = "cause")]
        _cause: String,
    },
}

#[derive(Deserialize)]
pub(super) struct Consumption {
    #[serde(default)]
    id: Value,
    allotment: String,
    month: String,
    consumption: i64,
}

/// The reply to one consumption, in the sample's order.
#[derive(Serialize)]
struct Total {
    id: Value,
    allotment: String,
    month: String,
    total: i64,
}

#[derive(Deserialize)]
pub(super) struct Assignments {
    source: Option<String>,
    bases: Vec<Base>,
    patches: Vec<Patch>,
}

#[derive(Deserialize, Serialize)]
struct Base {
    license: String,
    version: u64,
}

/// A change as a deployment, or a test on the control address, asks for it.
#[derive(Deserialize)]
pub(super) struct Patch {
    /// Zero for a new one; others are known and are passed over, unless they say that they are deleted.
    #[serde(default)]
    version: u64,
    license: String,
    allotment: String,
    subject: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    deleted: bool,
}

impl Patch {
    /// A new assignment.
    pub(super) fn new(license: &str, allotment: &str, subject: &str) -> Self {
        let [license, allotment, subject] = [license, allotment, subject].map(str::to_owned);
        Self { version: 0, license, allotment, subject, created: String::new(), deleted: false }
    }
}

/// The reply to a sync.
#[derive(Serialize)]
struct Synced<'a> {
    bases: Vec<Base>,
    patches: Vec<ChangeReply<'a>>,
}

/// A change as deployments are told it, in the sample's order.
#[derive(Serialize)]
struct ChangeReply<'a> {
    instance: &'a str,
    version: u64,
    license: String,
    allotment: &'a str,
    subject: &'a str,
    created: &'a str,
    rejection: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

impl RequestContent {
    /// Recognises a request.
    pub(super) fn by(request: &Request) -> Self {
        match (request.method.as_str(), request.path()) {
            ("GET" | "HEAD", "/") => Self::Root,
            ("GET", "/v1/definitions/portable/info") => Self::Definition,
            ("GET" | "HEAD", _) => Self::Other,
            _ => serde_json::from_slice(&request.body).map_or(Self::Other, Self::Message),
        }
    }

    /// What it is about.
    pub(super) fn kind(&self) -> RequestKind {
        match self {
            Self::Root => RequestKind::Root,
            Self::Definition => RequestKind::Definition,
            Self::Message(Message::Capacity(_)) => RequestKind::Capacity,
            Self::Message(Message::Wrapped { .. } | Message::Sync(_)) => RequestKind::Sync,
            Self::Message(Message::Activation { .. }) => RequestKind::Activation,
            Self::Other => RequestKind::Other,
        }
    }
}

impl Licensing {
    /// Does what is said, and answers.
    pub(super) fn answer(&mut self, said: RequestContent, request: &Request) -> Reply {
        let bearer = bearer_license(request);
        match said {
            RequestContent::Root => Reply::new(404, "text/html", NGINX_404),
            RequestContent::Definition => match bearer {
                Some(license) => definition(&license),
                None => Reply::error(401, "a signed license key is needed"),
            },
            RequestContent::Message(Message::Activation { signed_license_key, .. }) => {
                match license_of(&signed_license_key).or(bearer) {
                    Some(license) => Reply::new(200, "application/json", license_definition(&license)),
                    None => Reply::error(401, "the signed license key can't be read"),
                }
            }
            RequestContent::Message(Message::Capacity(reports)) => {
                self.capacity(&bearer.unwrap_or_default(), reports)
            }
            RequestContent::Message(Message::Wrapped { source, metadata }) => {
                self.sync(source.or_else(|| metadata.source.clone()).unwrap_or_default(), metadata)
            }
            RequestContent::Message(Message::Sync(assignments)) => {
                self.sync(assignments.source.clone().unwrap_or_default(), assignments)
            }
            RequestContent::Other => Reply::error(404, "not found"),
        }
    }

    fn capacity(&mut self, license: &str, reports: Vec<Consumption>) -> Reply {
        let mut totals = Vec::new();
        for Consumption { id, allotment, month, consumption } in reports {
            let total = self.consumption.entry(format!("{license}/{allotment}/{month}")).or_default();
            *total = total.saturating_add(consumption);
            totals.push(Total { id, allotment, month, total: *total });
        }
        Reply::json(200, &totals)
    }

    fn sync(&mut self, source: String, assignments: Assignments) -> Reply {
        // Patches of a license without a base are told from the start.
        let mut bases: BTreeMap<String, u64> = BTreeMap::new();
        for patch in assignments.patches.into_iter().filter(|patch| patch.version == 0 || patch.deleted) {
            bases.insert(self.assign(&source, patch).license, 0);
        }
        bases.extend(assignments.bases.iter().map(|base| (digits(&base.license), base.version)));
        let (mut current, mut told) = (Vec::new(), Vec::new());
        for (license, base) in bases {
            let changes = self.licenses.get(&license).map_or(&[][..], |license| &license.changes);
            current.push(Base { license: groups(&license), version: changes.len() as u64 });
            told.extend(changes.iter().filter(|change| change.version > base).map(|change| ChangeReply {
                instance: &change.instance,
                version: change.version,
                license: groups(&license),
                allotment: &change.allotment,
                subject: &change.subject,
                created: &change.created,
                rejection: change.rejection,
                deleted: change.deleted,
            }));
        }
        Reply::json(200, &Synced { bases: current, patches: told })
    }

    /// Numbers and keeps one change.
    pub(super) fn assign(&mut self, source: &str, patch: Patch) -> Assignment {
        self.changes += 1;
        let number = digits(&patch.license);
        let license = self.licenses.entry(number.clone()).or_default();
        // The guide shows one person's domain in different case.
        let holder = (patch.allotment.clone(), patch.subject.to_lowercase());
        let held = license.holders.iter().filter(|(allotment, _)| *allotment == patch.allotment).count();
        let limit = match patch.allotment.as_str() {
            "professional" => PROFESSIONAL,
            "analyzer" => ANALYZER,
            _ => usize::MAX,
        };
        let mut rejection = "";
        if patch.deleted {
            license.holders.remove(&holder);
        } else if held < limit {
            license.holders.insert(holder);
        } else if !license.holders.contains(&holder) {
            rejection = "no unit left";
        }
        let created = patch.created.parse().unwrap_or_else(|_| Timestamp::now());
        let assignment = Assignment {
            license: number,
            allotment: patch.allotment,
            subject: patch.subject,
            version: license.changes.len() as u64 + 1,
            instance: (FIRST_INSTANCE + self.changes).to_string(),
            source: source.to_owned(),
            rejection,
            deleted: patch.deleted,
            created: created.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        };
        license.changes.push(assignment.clone());
        assignment
    }

    /// Totals by `license/allotment/month`.
    pub(super) fn consumption(&self) -> BTreeMap<String, i64> {
        self.consumption.clone()
    }

    /// Every change of every license, in order.
    pub(super) fn assignments(&self) -> Vec<Assignment> {
        self.licenses.values().flat_map(|license| &license.changes).cloned().collect()
    }
}

fn definition(license: &str) -> Reply {
    let definition = BASE64_STANDARD.encode(license_definition(license));
    let sld = format!(r#"{{"signedDef": {{"definition": "{definition}"}}, "signature": "AAAA"}}"#);
    Reply::json(200, &json!({"license": license, "sld": BASE64_STANDARD.encode(sld)}))
}

/// The sample's, for this license.
fn license_definition(license: &str) -> String {
    let license = groups(license);
    format!(
        r#"{{"license": "{license}", "allotments": [
{{"name": "analyzer_time", "usage": {{"class": "time", "minimum": 5}},
 "provisions": [{{"accessType": "analyzer"}}],
 "units": [{{"count": 200, "valid": "2018-06-01/2018-12-31"}}]}},
{{"name": "professional", "usage": {{"class": "assigned", "minimum": 1}},
 "provisions": [{{"accessType": "professional"}}],
 "units": [{{"count": {PROFESSIONAL}, "valid": ""}}]}},
{{"name": "analyzer", "usage": {{"class": "assigned", "minimum": 1}},
 "provisions": [{{"accessType": "analyzer"}}],
 "units": [{{"count": {ANALYZER}, "valid": "2019-01-01/"}}]}}]}}"#
    )
}

/// The license number that a request's bearer token names.
fn bearer_license(request: &Request) -> Option<String> {
    let (scheme, token) = request.header("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| license_of(token))?
}

/// The license number in the claims of a signed key, which is not verified.
fn license_of(key: &str) -> Option<String> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(key.trim().split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(digits(&claims.get("license")?.to_string())).filter(|license| !license.is_empty())
}

fn digits(license: &str) -> String {
    license.chars().filter(char::is_ascii_digit).collect()
}

/// Printed in groups of four.
fn groups(license: &str) -> String {
    let mut text = String::new();
    for (at, digit) in license.chars().enumerate() {
        if at > 0 && at % 4 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

const PROFESSIONAL: usize = 10;
const ANALYZER: usize = 50;
/// The sample's, less one: 19 digits that a double would round.
const FIRST_INSTANCE: u64 = 5_382_018_630_938_057_024;
const NGINX_404: &str = "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n\
    <center><h1>404 Not Found</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// The claims of the published sample, without its signature.
    const KEY: &str = "e30.eyJqdGkiOiI2MjNhYTlhZiIsImxpY2Vuc2UiOjk5OTkwMDAwMDAwMDEyNTN9.e30";

    fn sync(licensing: &mut Licensing, body: Value) -> Value {
        let assignments: Assignments = serde_json::from_value(body).unwrap();
        let source = assignments.source.clone().unwrap_or_default();
        serde_json::from_slice(&licensing.sync(source, assignments).body).unwrap()
    }

    fn patch(subject: &str, allotment: &str, deleted: bool) -> Value {
        json!({"instance": "", "version": 0, "license": "9999 0000 0000 1253", "allotment": allotment,
            "subject": subject, "created": "2019-04-18T10:01:35.024031Z", "deleted": deleted})
    }

    #[test]
    fn a_license_number_is_read_from_the_claims_and_printed_in_groups() {
        assert_eq!(license_of(KEY).unwrap(), "9999000000001253");
        assert_eq!(license_of("a.b.c"), None);
        let definition: Value = serde_json::from_str(&license_definition("9999000000001253")).unwrap();
        assert_eq!(definition["license"], "9999 0000 0000 1253");
        assert_eq!(definition["allotments"][1]["units"][0]["count"], 10);
    }

    #[test]
    fn a_deployment_is_told_its_own_changes_and_those_of_others() {
        let mut licensing = Licensing::default();
        let base = |version: u64| json!([{"license": "9999 0000 0000 1253", "version": version}]);
        let first =
            json!({"source": "a", "bases": base(0), "patches": [patch("acme\\bob", "analyzer", false)]});
        let reply = sync(&mut licensing, first);
        assert_eq!(reply["bases"], base(1));
        assert_eq!(reply["patches"][0]["instance"], "5382018630938057025");
        assert_eq!(reply["patches"][0]["created"], "2019-04-18T10:01:35.024Z");
        assert_eq!(reply["patches"][0]["rejection"], "");

        let idle = json!({"source": "b", "bases": base(0), "patches": []});
        assert_eq!(sync(&mut licensing, idle)["patches"][0]["subject"], "acme\\bob");
        let idle = json!({"source": "b", "bases": base(1), "patches": []});
        assert_eq!(sync(&mut licensing, idle)["patches"], json!([]));
        assert_eq!(licensing.assignments()[0].source, "a");
    }

    #[test]
    fn units_run_out_and_a_delete_frees_one() {
        let mut licensing = Licensing::default();
        let mut add = |subject: &str, deleted| {
            let patch = serde_json::from_value(patch(subject, "professional", deleted)).unwrap();
            licensing.assign("a", patch).rejection
        };
        for number in 0..10 {
            assert_eq!(add(&format!("acme\\{number}"), false), "");
        }
        assert_eq!(add("ACME\\9", false), "", "the same holder again");
        assert_eq!(add("acme\\10", false), "no unit left");
        assert_eq!(add("acme\\9", true), "");
        assert_eq!(add("acme\\10", false), "");
    }

    #[test]
    fn shapes_tell_messages_apart() {
        for (body, kind) in [
            (r#"{"signedLicenseKey":"a.b.c","cause":"Initial"}"#, Some(RequestKind::Activation)),
            (
                r#"[{"id":1,"allotment":"analyzer_time","month":"2018-11","consumption":242}]"#,
                Some(RequestKind::Capacity),
            ),
            (r#"{"source":"a","bases":[],"patches":[]}"#, Some(RequestKind::Sync)),
            (r#"{"source":"a","metadata":{"source":"my","bases":[],"patches":[]}}"#, Some(RequestKind::Sync)),
            (r#"{"source":"a"}"#, None),
            (r#"[1]"#, None),
        ] {
            let said = serde_json::from_str(body).ok().map(|message| RequestContent::Message(message).kind());
            assert_eq!(said, kind, "{body}");
        }
    }
}
