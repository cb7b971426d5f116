//! What fields are called, in messages like these: to tell a name of the vendor's from somebody's own, and to guess what
//! an unknown one stands for.

use std::collections::HashSet;
use std::sync::LazyLock;

use relay_log::text::redact::HIDDEN;

/// All words of [`like`].
static WORDS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    [
        like::SOURCE,
        like::KEY,
        like::LICENSE,
        like::CAUSE,
        like::PATCHES,
        like::ADDITIONS,
        like::DELETIONS,
        like::BASES,
        like::VERSION,
        like::INSTANCE,
        like::ALLOTMENT,
        like::SUBJECT,
        like::CREATED,
        like::REJECTION,
        like::MARKER,
        like::MONTH,
        like::CONSUMPTION,
        like::TOTAL,
        like::WRAPPED,
        like::CLASS,
        like::ACCESS,
        like::COUNT,
        like::VALID,
        like::FROM,
        like::TO,
        like::AROUND,
    ]
    .concat()
    .into_iter()
    .collect()
});

/// Whether a name has a word in it that fields are named by. People's names have none, or hardly ever: by this a record
/// with fields is told from a map with somebody's name before each value.
pub(super) fn is_field(name: &str) -> bool {
    let known = |word: &str| WORDS.contains(word);
    known(&plain(name)) || words(name).any(|word| known(&word))
}

/// Whether a name has no other words than those that fields are named by, or these.
pub(super) fn is_made_of(name: &str, more: &[&str]) -> bool {
    let known = |word: &str| WORDS.contains(word) || more.contains(&word);
    let mut words = words(name).peekable();
    known(&plain(name)) || (words.peek().is_some() && words.all(|word| known(&word)))
}

/// The words of a name in lower case: camelCase, snake_case, kebab-case.
fn words(name: &str) -> impl Iterator<Item = String> {
    let (mut word, mut before) = (String::new(), ' ');
    name.chars().chain([' ']).filter_map(move |c| {
        let begins = c.is_ascii_uppercase() && !before.is_ascii_uppercase();
        let ended = (begins || !c.is_ascii_alphanumeric()).then(|| std::mem::take(&mut word));
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        }
        before = c;
        ended.filter(|word| !word.is_empty())
    })
}

/// A name without what only makes it readable: in lower case, letters and digits only.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// Names that mean about the same, the likeliest first, each [`plain`].
pub(super) mod like {
    pub(in crate::licensing) const SOURCE: &[&str] = &[
        "source",
        "sourceid",
        "deployment",
        "deploymentid",
        "origin",
        "originid",
        "installation",
        "installationid",
        "sender",
        "senderid",
        "clientid",
        "site",
        "siteid",
        "tenant",
        "tenantid",
        "systemid",
        "from",
    ];
    pub(in crate::licensing) const KEY: &[&str] = &[
        "key",
        "licensekey",
        "signedlicensekey",
        "signedkey",
        "slk",
        "jwt",
        "token",
        "licensetoken",
        "activationkey",
    ];
    pub(in crate::licensing) const LICENSE: &[&str] = &[
        "license",
        "licence",
        "licensenumber",
        "licencenumber",
        "licenseid",
        "licenseno",
        "lic",
        "licno",
        "serial",
        "serialnumber",
        "contract",
        "lef",
    ];
    pub(in crate::licensing) const CAUSE: &[&str] =
        &["cause", "reason", "trigger", "event", "why", "purpose", "occasion", "activationtype"];
    pub(in crate::licensing) const PATCHES: &[&str] = &[
        "patches",
        "changes",
        "assignments",
        "operations",
        "delta",
        "deltas",
        "ops",
        "updates",
        "changeset",
        "modifications",
        "mutations",
        "diff",
        "edits",
        "events",
        "entries",
        "allocations",
        "items",
    ];
    pub(in crate::licensing) const ADDITIONS: &[&str] =
        &["additions", "added", "adds", "add", "granted", "grants", "assigned", "inserted", "upserts"];
    pub(in crate::licensing) const DELETIONS: &[&str] = &[
        "deletions",
        "deleted",
        "deletes",
        "delete",
        "removed",
        "removals",
        "remove",
        "revoked",
        "revocations",
        "unassigned",
        "released",
    ];
    pub(in crate::licensing) const BASES: &[&str] = &[
        "bases",
        "base",
        "state",
        "states",
        "baseline",
        "baselines",
        "versions",
        "known",
        "positions",
        "cursors",
        "cursor",
        "checkpoints",
        "heads",
        "revisions",
        "since",
        "anchors",
        "watermarks",
    ];
    pub(in crate::licensing) const VERSION: &[&str] =
        &["version", "ver", "rev", "revision", "seq", "sequence", "generation", "cursor", "position"];
    pub(in crate::licensing) const INSTANCE: &[&str] =
        &["instance", "instanceid", "id", "uid", "assignmentid", "entryid", "changeid", "ref", "inst"];
    pub(in crate::licensing) const ALLOTMENT: &[&str] = &[
        "allotment",
        "entitlement",
        "licensetype",
        "accesstype",
        "allotmentname",
        "seattype",
        "seat",
        "tier",
        "pool",
        "product",
        "access",
        "role",
        "quota",
        "category",
        "class",
        "type",
        "name",
        "allot",
    ];
    pub(in crate::licensing) const SUBJECT: &[&str] = &[
        "subject",
        "user",
        "userid",
        "username",
        "principal",
        "person",
        "account",
        "assignee",
        "holder",
        "identity",
        "member",
        "login",
        "sub",
        "who",
        "subj",
    ];
    pub(in crate::licensing) const CREATED: &[&str] = &[
        "created",
        "createdat",
        "creationtime",
        "timestamp",
        "time",
        "at",
        "when",
        "date",
        "issued",
        "changedat",
    ];
    pub(in crate::licensing) const REJECTION: &[&str] =
        &["rejection", "rejected", "refusal", "error", "failure", "denial", "denied", "problem", "reason"];
    pub(in crate::licensing) const MARKER: &[&str] = &[
        "deleted",
        "removed",
        "operation",
        "op",
        "action",
        "change",
        "changetype",
        "kind",
        "verb",
        "mode",
        "method",
        "status",
        "active",
        "revoked",
        "tombstone",
        "deletedat",
        "removedat",
        "revokedat",
        "state",
        "grant",
        "granted",
        "removal",
        "isdeleted",
        "isremoved",
    ];
    pub(in crate::licensing) const MONTH: &[&str] =
        &["month", "period", "billingperiod", "yearmonth", "ym", "interval"];
    pub(in crate::licensing) const CONSUMPTION: &[&str] = &[
        "consumption",
        "consumed",
        "used",
        "minutes",
        "usage",
        "amount",
        "spent",
        "delta",
        "quantity",
        "value",
    ];
    pub(in crate::licensing) const TOTAL: &[&str] =
        &["total", "totals", "sum", "totalused", "totalminutes", "overall", "cumulative", "used", "minutes"];
    pub(in crate::licensing) const WRAPPED: &[&str] = &[
        "sld",
        "definition",
        "signeddefinition",
        "licensedefinition",
        "payload",
        "document",
        "blob",
        "content",
        "data",
    ];
    pub(in crate::licensing) const CLASS: &[&str] = &["class", "usageclass", "usage", "kind"];
    pub(in crate::licensing) const ACCESS: &[&str] = &["accesstype", "access", "right"];
    pub(in crate::licensing) const COUNT: &[&str] =
        &["count", "quantity", "qty", "amount", "seats", "size", "number", "total"];
    pub(in crate::licensing) const VALID: &[&str] = &["valid", "validity", "interval", "period", "term"];
    pub(in crate::licensing) const FROM: &[&str] =
        &["validfrom", "from", "start", "startdate", "begin", "begins", "notbefore"];
    pub(in crate::licensing) const TO: &[&str] =
        &["validto", "to", "until", "validuntil", "end", "enddate", "ends", "expires", "expiry", "notafter"];
    pub(in crate::licensing) const OVERAGE: &[&str] = &["overage", "overuse", "excess", "extra"];
    /// What holds others, and what stands beside them.
    pub(in crate::licensing) const AROUND: &[&str] = &[
        "data",
        "payload",
        "request",
        "response",
        "reply",
        "params",
        "body",
        "message",
        "envelope",
        "result",
        "results",
        "attributes",
        "attrs",
        "meta",
        "metadata",
        "report",
        "reports",
        "ledger",
        "meter",
        "client",
        "caller",
        "context",
        "header",
        "headers",
        "info",
        "details",
        "item",
        "items",
        "row",
        "rows",
        "entry",
        "entries",
        "list",
        "lists",
        "record",
        "records",
        "values",
        "value",
        "name",
        "type",
        "code",
        "title",
        "units",
        "unit",
        "provisions",
        "provision",
        "allotments",
        "licenses",
        "lics",
        "chg",
        "src",
        "tok",
        "allot",
        "rej",
        "ts",
        "ua",
        "useragent",
        "agent",
        "relationships",
        "included",
        "links",
        "minimum",
        "max",
        "min",
        "signature",
        "definitions",
        "overage",
        "parameters",
        "errors",
        "next",
        "previous",
        "page",
        "limit",
        "offset",
        "format",
        "protocol",
        "environment",
        "platform",
        "host",
        "os",
        "build",
        "release",
        "features",
        "options",
        "settings",
        "config",
        "flags",
        "tags",
        "notes",
        "comment",
        "description",
        "text",
        "language",
    ];
}

/// Names of members are the vendor's; one that looks like data is not shown. (Nor are those of an object without a single
/// name that fields have: that may be a map with somebody's name before each value.)
pub(super) fn shown_name(name: &str) -> &str {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'-'));
    if plain && (1..=40).contains(&name.len()) && !name.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
        name
    } else {
        HIDDEN
    }
}
