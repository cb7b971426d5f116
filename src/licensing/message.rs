//! One request, as a licensing message: what kind it is, who says it is asking, about which license.
//!
//! Nothing here is proof, and nothing here is changed: the bytes that were read are the bytes that are forwarded.

use std::borrow::Cow;

use http::{HeaderMap, Method, Uri, header};

use super::asker::{ClaimedSource, Understanding};
use super::coding::{self, CodingError, Plain};
use super::compare::{Known, known, unreported};
use super::json::{self, Json};
use super::key::{Claims, Token};
use super::read::{Body, Names, is_said};
use super::shape::Shape;
use super::vocabulary::{Place, Vocabulary, Vote, Words};
use super::wire::{RequestHead, Wire};
use crate::bounds;
use relay_log::ledger::subject::Subject;
use relay_log::names::LicenseNumber;
use relay_log::text::redact::{HIDDEN, date, number, word};

/// What a request says.
#[derive(Debug)]
pub struct Message {
    /// What it is.
    pub kind: MessageKind,
    /// Who says it is asking.
    pub source: ClaimedSource,
    /// What stood at lower-ranked places.
    pub other_sources: Vec<String>,
    /// The licenses it names, the key's own first.
    pub licenses: Vec<LicenseNumber>,
    /// What the signed license key says of itself.
    pub claims: Option<Claims>,
    /// The names of members that are doubled in one object.
    pub doubled: Vec<String>,
    /// The shape of a message that is recognised, but holds an array or an object of which nothing was read.
    pub unread: Option<String>,
    /// The shape of its body, where that can be read.
    pub shape: Option<Shape>,
    /// What a strict reader would not have taken, or would have taken for something else.
    pub lenient: Vec<&'static str>,
    /// It has a part of a change or of a report among its own members, and is not read as one.
    pub holds_change: bool,
    /// What the built-in vocabulary reads, where the site's own one makes something else of the message.
    pub other: Option<Box<Self>>,
}

/// The kind of a message.
#[derive(Debug)]
pub enum MessageKind {
    /// `GET` or `HEAD` of exactly `/`: the test that people use.
    ConnectivityTest,
    /// A license is activated or updated.
    Activation {
        /// `Initial` or `Update`, as sent.
        cause: String,
    },
    /// The license definition is fetched.
    Definition,
    /// Analyzer capacity that was used since the last report.
    Capacity(Vec<Consumption>),
    /// Assignments asked for; no patches: an idle sync.
    Sync(Sync),
    /// A safe request without a body that is none of the above.
    Bare,
    /// JSON that no vocabulary entry matches.
    Unrecognised {
        /// Its member names and types.
        shape: String,
    },
    /// A body that can't be read.
    Unreadable {
        /// Why, without a value of it.
        why: String,
    },
}

/// One element of a capacity report.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumption {
    /// What its reply may be told by.
    pub id: Option<String>,
    /// `analyzer_time`, `core_time`.
    pub allotment: String,
    /// `YYYY-MM`.
    pub month: String,
    /// Used since the last report.
    pub delta: Option<serde_json::Number>,
}

/// An assignment sync, asked or told.
#[derive(Debug, Default)]
pub struct Sync {
    /// License and version each side stands at.
    pub bases: Vec<(Option<LicenseNumber>, Option<u64>)>,
    /// The changes.
    pub patches: Vec<Patch>,
    /// Why not all of it was read.
    pub(super) beyond: Option<String>,
}

/// One change of an assignment.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Added, deleted, or not told.
    pub change: Change,
    /// The license.
    pub license: Option<LicenseNumber>,
    /// `professional`, `analyzer`.
    pub allotment: Option<String>,
    /// The person.
    pub subject: Option<Subject>,
    /// The back end's number for it, a string of 19 digits; empty while it is new.
    pub instance: Option<String>,
    /// The version it came with; 0 while it is new.
    pub version: Option<u64>,
    /// When the deployment made it.
    pub created: Option<String>,
    /// Why the back end refused it; empty where it did not.
    pub rejection: Option<String>,
    /// What stands where its license should can't be a number: nobody here knows which license it is of.
    pub unfit_license: bool,
}

impl Consumption {
    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let id = self.id.as_ref().map_or(0, String::len);
        size_of::<Self>() + heap(id) + heap(self.allotment.len()) + heap(self.month.len())
    }
}

/// What so many bytes take of the heap: as much as is asked for rounded up.
pub(super) fn heap(bytes: usize) -> usize {
    bytes.next_multiple_of(16)
}

impl Sync {
    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let base = |(license, _): &(Option<LicenseNumber>, _)| {
            size_of::<(Option<LicenseNumber>, Option<u64>)>() + license_bytes(license.as_ref())
        };
        self.bases.iter().map(base).sum::<usize>() + self.patches.iter().map(Patch::bytes).sum::<usize>()
    }
}

fn license_bytes(license: Option<&LicenseNumber>) -> usize {
    license.map_or(0, |license| heap(license.as_str().len()))
}

impl Patch {
    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.allotment, &self.instance, &self.created, &self.rejection];
        let texts: usize = texts.into_iter().flatten().map(|text| heap(text.len())).sum();
        let subject = self.subject.as_ref().map_or(0, |subject| heap(subject.expose().len()));
        size_of::<Self>() + texts + subject + license_bytes(self.license.as_ref())
    }
}

/// How many of these changes name a person.
pub(super) fn people(patches: &[Patch]) -> usize {
    patches.iter().filter(|patch| patch.subject.is_some()).count()
}

/// What a patch does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// A person gets access.
    Add,
    /// A person loses it.
    Delete,
    /// Neither can be told.
    Unknown,
}

impl Message {
    /// Reads a request. Never fails: what can't be understood is a kind of its own, and what contradicts itself is asked
    /// by nobody.
    pub fn read(method: &Method, target: &Uri, headers: &HeaderMap, body: &[u8], words: &Words) -> Self {
        let head = RequestHead { method, target, headers };
        if body.is_empty() {
            return Self::of_both(words, |words| Self::without_body(&head, words));
        }
        let mut lenient = Vec::new();
        let plain = match coding::plain(headers, body) {
            Ok(plain) => plain,
            Err(CodingError::Contradiction(why)) => return Self::contradiction(&head, why, words),
            Err(CodingError::Unreadable(why)) => return Self::unreadable(&head, why.to_owned(), words),
        };
        let read = match json::read(plain.bytes()) {
            Ok(read) => read,
            Err(e) if e.is_contradiction() => return Self::contradiction(&head, BEHIND, words),
            Err(_) if matches!(plain, Plain::Unregistered(_)) => {
                let why = "the body has a content coding that is not registered, and is not JSON";
                return Self::unreadable(&head, why.to_owned(), words);
            }
            Err(e) => return Self::unreadable(&head, e.to_string(), words),
        };
        if matches!(plain, Plain::Unregistered(_)) {
            lenient.push("unregistered content coding");
        }
        lenient.extend(read.odd.words());
        let shape = Shape::of(&read.json);
        let with_body = |names, words: &_| {
            Self::with_body(&head, &Body::with(&read.json, names), &shape, lenient.clone(), words)
        };
        let mut message = Self::of_both(words, |words| with_body(Names::Folded, words));
        // A program that reads into a map finds the members that are spelled exactly, and maybe others than one that reads
        // into a structure. A site's file may tell how they are spelled.
        if message.lenient.contains(&FOLDED) {
            let exact = with_body(Names::Exact, &words.in_force);
            if message.is_contradicted_by(&exact) || matches!(exact.source, ClaimedSource::Unfit(_)) {
                message.refuse(ClaimedSource::Contradiction(CASE));
            }
        }
        Self { shape: Some(shape), ..message }
    }

    /// Reads with the names in force. A site's own file may add to what the built-in names read, and can't hide it: where
    /// the built-in ones find something else, both readings are kept, and both are judged.
    fn of_both(words: &Words, read: impl Fn(&Vocabulary) -> Self) -> Self {
        let mut message = read(&words.in_force);
        if let Some(built_in) = &words.built_in {
            let other = read(built_in);
            if message.is_contradicted_by(&other) {
                message.other = Some(Box::new(other));
            }
        }
        message
    }

    /// Whether another reading, such as that with the built-in names, finds something that this one has not. What it does
    /// not find is what a site's file is for.
    fn is_contradicted_by(&self, other: &Self) -> bool {
        let source = match (&other.source, &self.source) {
            (ClaimedSource::Nobody, _) | (ClaimedSource::Unfit(_), ClaimedSource::Source(_)) => false,
            (other, own) => other != own,
        };
        let license = other.license().is_some() && other.license() != self.license();
        let kind = match &other.kind {
            MessageKind::Activation { .. } => !matches!(self.kind, MessageKind::Activation { .. }),
            MessageKind::Capacity(report) => {
                let own = if let MessageKind::Capacity(own) = &self.kind { own.as_slice() } else { &[] };
                !unreported(report, own).is_empty()
            }
            MessageKind::Sync(sync) => {
                let own = if let MessageKind::Sync(own) = &self.kind { Some(own) } else { None };
                own.is_none_or(|own| {
                    known(&sync.patches, &own.patches).iter().any(|known| *known != Known::Whole)
                })
            }
            MessageKind::Unreadable { .. } => !matches!(self.kind, MessageKind::Unreadable { .. }),
            // A license vouches for no message that is more than an activation to somebody.
            MessageKind::Unrecognised { .. } => self.is_sourceless() && other.holds_change,
            MessageKind::ConnectivityTest | MessageKind::Definition | MessageKind::Bare => false,
        };
        source || license || kind
    }

    fn new(kind: MessageKind) -> Self {
        Self {
            kind,
            source: ClaimedSource::Nobody,
            other_sources: vec![],
            licenses: vec![],
            claims: None,
            doubled: vec![],
            unread: None,
            shape: None,
            lenient: vec![],
            holds_change: false,
            other: None,
        }
    }

    fn without_body(head: &RequestHead<'_>, words: &Vocabulary) -> Self {
        let mut message = Self::new(MessageKind::Bare);
        let has_key = message.note_who(&Wire { head, body: None }, words);
        message.kind = bare_kind(head, has_key);
        message
    }

    fn unreadable(head: &RequestHead<'_>, why: String, words: &Words) -> Self {
        Self::of_both(words, |words| {
            let mut message = Self::new(MessageKind::Unreadable { why: why.clone() });
            message.note_who(&Wire { head, body: None }, words);
            message
        })
    }

    fn contradiction(head: &RequestHead<'_>, why: &'static str, words: &Words) -> Self {
        let mut message = Self::unreadable(head, why.to_owned(), words);
        message.source = ClaimedSource::Contradiction(why);
        message
    }

    fn with_body(
        head: &RequestHead<'_>,
        body: &Body<'_, '_>,
        shape: &Shape,
        lenient: Vec<&'static str>,
        words: &Vocabulary,
    ) -> Self {
        let json = body.json;
        let mut message = Self { lenient, doubled: json.doubled(), ..Self::new(MessageKind::Bare) };
        let has_key = message.note_who(&Wire { head, body: Some(body) }, words);
        message.kind = kind_of(body, shape, words, has_key);
        if let MessageKind::Sync(sync) = &message.kind {
            let bases = sync.bases.iter().filter_map(|(license, _)| license.clone());
            let patches = sync.patches.iter().filter_map(|patch| patch.license.clone());
            let licenses: Vec<_> = bases.chain(patches).collect();
            message.note_licenses(licenses);
        }
        let is_activation_too =
            matches!(message.kind, MessageKind::Sync(_)) && has_key && cause_of(body, words).is_some();
        let recognised =
            !matches!(message.kind, MessageKind::Unrecognised { .. } | MessageKind::Unreadable { .. });
        let people = people(message.kind.patches());
        if recognised && (body.has_unread(&words.harmless, people) || is_activation_too) {
            message.unread = Some(shape.to_string());
        }
        if body.has_unfit_license() {
            message.lenient.push(UNFIT_LICENSE);
        }
        let is_activation = matches!(message.kind, MessageKind::Activation { .. });
        message.holds_change = (!recognised || is_activation) && is_change(body, words);
        let is_exact = *head.method == Method::POST
            && message.unread.is_none()
            && !message.holds_change
            && !body.has_unfit_license();
        if is_activation && is_exact && message.licenses.len() > 1 {
            message.refuse(ClaimedSource::TwoLicenses);
        }
        let is_overridden = || head.has_override() || json.get(METHOD_PARAMETER).is_some();
        if recognised && (is_activation && !is_exact || is_overridden()) {
            (message.kind, message.unread) = (MessageKind::Unrecognised { shape: shape.to_string() }, None);
        }
        if message.unread.is_none() && !message.changes_something() && *head.method != Method::POST {
            // The same words may do more under another method.
            message.unread = Some(shape.to_string());
        }
        if *head.method != Method::POST {
            message.lenient.push(METHOD);
        }
        if recognised
            && message.unread.is_none()
            && !words.harmless.is_empty()
            && body.has_unread(&[], people)
        {
            message.lenient.push("a part that the vocabulary calls harmless");
        }
        if body.is_folded() {
            message.lenient.push(FOLDED);
        }
        if let Some(why) = body.contradiction() {
            message.refuse(ClaimedSource::Contradiction(why));
        }
        message
    }

    /// Whether it changes assignments or reports consumption, so that it must be on disk before it is forwarded.
    /// What is not understood may do either.
    pub fn changes_something(&self) -> bool {
        let by_kind = match &self.kind {
            MessageKind::ConnectivityTest | MessageKind::Definition | MessageKind::Bare => false,
            MessageKind::Sync(sync) => !sync.patches.is_empty() || self.unread.is_some(),
            MessageKind::Activation { .. }
            | MessageKind::Capacity(_)
            | MessageKind::Unrecognised { .. }
            | MessageKind::Unreadable { .. } => true,
        };
        by_kind || self.other.as_ref().is_some_and(|other| other.changes_something())
    }

    /// How many records it has in the log before it is sent, at least one: what it costs.
    pub fn records(&self) -> usize {
        let own = match &self.kind {
            MessageKind::Sync(sync) => 1 + sync.patches.len(),
            MessageKind::Capacity(report) => report.len(),
            _ => 1,
        };
        own.max(1) + self.other.as_ref().map_or(0, |other| other.records() - 1)
    }

    /// The memory that it takes, as long as the exchange lasts.
    pub fn bytes(&self) -> usize {
        let own = match &self.kind {
            MessageKind::Sync(sync) => sync.bytes(),
            MessageKind::Capacity(report) => report.iter().map(Consumption::bytes).sum(),
            _ => 0,
        };
        let shape = self.shape.as_ref().map_or(0, Shape::bytes);
        own + shape + self.other.as_ref().map_or(0, |other| other.bytes())
    }

    /// Whether it is exactly an activation or a definition, which name no source by nature.
    pub fn is_sourceless(&self) -> bool {
        matches!(self.kind, MessageKind::Activation { .. } | MessageKind::Definition)
    }

    /// How much of it is understood, for policy.
    pub fn understanding(&self) -> Understanding<'_> {
        match &self.kind {
            // Whose license it is about is not known.
            MessageKind::Sync(_) | MessageKind::Capacity(_) if self.lenient.contains(&UNFIT_LICENSE) => {
                Understanding::Unrecognised
            }
            MessageKind::ConnectivityTest => Understanding::Test,
            MessageKind::Unrecognised { .. } => Understanding::Unrecognised,
            MessageKind::Unreadable { why } => Understanding::Unreadable(why),
            _ => Understanding::Message,
        }
    }

    /// The license it is about: the key's own, else the first it names.
    pub fn license(&self) -> Option<&LicenseNumber> {
        self.licenses.first()
    }

    /// Notes key, licenses and source; whether there is a key.
    fn note_who(&mut self, wire: &Wire<'_, '_, '_>, words: &Vocabulary) -> bool {
        self.note_source(wire, words);
        let has_key = self.note_key(wire, words);
        let of_key = self.claims.as_ref().and_then(|claims| claims.license.clone());
        self.note_licenses(of_key);
        for place in &words.license {
            let numbers: Vec<LicenseNumber> =
                wire.outside(place).iter().flatten().filter_map(|text| text.parse().ok()).collect();
            if numbers.iter().any(|number| Some(number) != numbers.first()) {
                self.refuse(ClaimedSource::TwoLicenses);
            }
            self.note_licenses(numbers);
        }
        if let Some(body) = wire.body {
            self.note_licenses(body.licenses(&words.license, body.json));
        }
        has_key
    }

    /// Two different keys at one place, and keys of two licenses anywhere, can't both be the one that the back end takes.
    /// A token that names no license, such as one that a gateway wants, is in nobody's way.
    fn note_key(&mut self, wire: &Wire<'_, '_, '_>, words: &Vocabulary) -> bool {
        let bearer = wire.head.headers.get_all(header::AUTHORIZATION).iter();
        let bearer = bearer.filter_map(|line| Token::bearer(line.to_str().ok()?)).collect();
        self.note_tokens(bearer);
        for place in &words.key {
            let texts = wire.at(place);
            let tokens = texts
                .iter()
                .flatten()
                .filter_map(|text| Token::bearer(text).or_else(|| Token::new(text.trim())));
            self.note_tokens(tokens.collect());
        }
        self.claims.is_some()
    }

    fn note_tokens(&mut self, tokens: Vec<Token<'_>>) {
        let Some(first) = tokens.first() else { return };
        if !tokens.iter().all(|token| token.is(first)) {
            self.refuse(ClaimedSource::TwoKeys);
        }
        let claims = first.claims();
        match &self.claims {
            Some(known) if known.license.is_some() => {
                if claims.license.is_some() && claims.license != known.license {
                    self.refuse(ClaimedSource::TwoKeys);
                }
            }
            Some(_) if claims.license.is_none() => {}
            _ => self.claims = Some(claims),
        }
    }

    fn note_licenses(&mut self, licenses: impl IntoIterator<Item = LicenseNumber>) {
        for license in licenses {
            if self.licenses.contains(&license) {
                continue;
            }
            if self.licenses.len() == relay_log::bounds::LICENSES {
                return self.refuse(ClaimedSource::Contradiction(LICENSES));
            }
            self.licenses.push(license);
        }
    }

    /// The best place that is present decides; only different values at that one place are a conflict.
    fn note_source(&mut self, wire: &Wire<'_, '_, '_>, words: &Vocabulary) {
        for place in &words.source {
            let values = wire.at(place);
            let Some(first) = values.first() else { continue };
            if self.source != ClaimedSource::Nobody {
                if let Some(other) = first
                    && self.other_sources.len() < bounds::OTHER_SOURCES
                {
                    self.other_sources.push(word(other));
                }
            } else if values.iter().any(|value| value != first) {
                self.source = ClaimedSource::Conflict;
            } else {
                if first.as_ref().is_some_and(|text| text.trim() != text) {
                    self.lenient.push("an id with white space around it");
                }
                self.source = match first.as_ref().map(|text| text.parse()) {
                    Some(Ok(id)) => ClaimedSource::Source(id),
                    Some(Err(e)) => ClaimedSource::Unfit(format!("{e}")),
                    None => ClaimedSource::Unfit("is neither text nor a whole number".into()),
                };
            }
        }
    }

    /// What contradicts itself decides, the first of it.
    fn refuse(&mut self, why: ClaimedSource) {
        if !self.source.is_contradiction() {
            self.source = why;
        }
    }
}

/// What stands for the shape of a message without a body.
pub(crate) const NO_BODY: &str = "no body";
/// Why a body of two values is refused: a decoder that reads one value takes the first, one that reads all fails.
const BEHIND: &str = "the body has data behind its JSON value";
/// Why a message is refused that says one thing to who folds names and another one to who does not.
const CASE: &str = "the message has members whose names differ in case alone, and say different things";
/// Why a message is refused that names more licenses than can be looked up.
const LICENSES: &str = "the message names more than 16 licenses";
const _: () = assert!(relay_log::bounds::LICENSES == 16, "the words above name the limit");
/// What stands where a license number should can't be one: such a message is not recognised, as far as policy goes.
pub(crate) const UNFIT_LICENSE: &str = "a license that can't be read";
/// Another method than that of all messages that are known.
const METHOD: &str = "another method than POST";
/// A member was read that only who folds names finds.
const FOLDED: &str = "a member's name in another case";

/// The member by which a request asks to be taken for one of another method.
const METHOD_PARAMETER: &str = "_method";

impl MessageKind {
    /// The changes that it asks for.
    pub(crate) fn patches(&self) -> &[Patch] {
        if let Self::Sync(sync) = self { &sync.patches } else { &[] }
    }

    /// Its name in log lines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ConnectivityTest => "test",
            Self::Activation { .. } => "activation",
            Self::Definition => "definition",
            Self::Capacity(_) => "capacity",
            Self::Sync(sync) if sync.patches.is_empty() => "sync-idle",
            Self::Sync(_) => "sync",
            Self::Bare => "bare",
            Self::Unrecognised { .. } => "unrecognised",
            Self::Unreadable { .. } => "unreadable",
        }
    }
}

/// Reads the sync that a request or a reply is; `None` where it is none. Everything that holds bases and changes is
/// read.
pub(super) fn sync_of(body: &Body<'_, '_>, words: &Vocabulary) -> Option<Sync> {
    let names = &words.sync;
    let changes =
        [(&names.patches, None), (&names.additions, Some(Vote::Add)), (&names.deletions, Some(Vote::Delete))];
    let (mut count, mut base_count, mut bytes, mut long) = (0, 0, 0, false);
    let holders = body.things(&names.within, |holder| {
        let by_license = body.by_license(&names.bases_by_license, holder);
        let listed = body.list(&names.bases, holder);
        if by_license.is_none() && listed.is_none() {
            return None;
        }
        let by_license = by_license.unwrap_or_default();
        let listed = listed.unwrap_or_default();
        // What has bases counts as one, whether it has any.
        let left = (relay_log::bounds::CHANGES + 1).saturating_sub(base_count);
        base_count += 1 + by_license.len() + listed.len();
        if left == 0 {
            return None;
        }
        let by_license = by_license.into_iter();
        let listed = listed.into_iter().map(|base| {
            let version = body.value(&names.version, base).value.and_then(Json::as_u64);
            (license_of(body, base, &names.license), version)
        });
        let bases: Vec<_> = by_license
            .map(|(license, version)| (license, version.as_u64()))
            .chain(listed)
            .take(left)
            .collect();

        // What a change lacks, it has from what holds it.
        let license = license_of(body, holder, &names.license);
        let allotment = body.text(&names.allotment, holder);
        let mut patches = None;
        for (places, vote) in changes {
            let Some(list) = body.list(places, holder) else { continue };
            count += list.len();
            if count > relay_log::bounds::CHANGES {
                patches.get_or_insert_with(Vec::new);
                continue;
            }
            let patches = patches.get_or_insert_with(Vec::new);
            patches.reserve_exact(list.len());
            for json in list {
                if bytes > bounds::MESSAGE {
                    break;
                }
                let mut patch = patch_of(body, json, vote, allotment.as_deref(), words, &mut long);
                if !patch.unfit_license {
                    patch.license = patch.license.or_else(|| license.clone());
                }
                bytes += patch.bytes();
                patches.push(patch);
            }
        }
        let idle = names.idle_without_patches
            && !bases.is_empty()
            && bases.iter().all(|(_, version)| version.is_some());
        let patches = patches.or_else(|| idle.then(Vec::new))?;
        Some(Sync { bases, patches, beyond: None })
    });
    let all = holders.into_iter().reduce(|mut all, more| {
        all.bases.extend(more.bases);
        all.patches.extend(more.patches);
        all
    });
    let beyond = if count > relay_log::bounds::CHANGES {
        Some(too_many())
    } else if base_count > relay_log::bounds::CHANGES {
        Some(format!("the body has more than {} bases", relay_log::bounds::CHANGES))
    } else if bytes > bounds::MESSAGE {
        Some(format!("the changes of the body take more than {} bytes of memory", bounds::MESSAGE))
    } else {
        long.then(|| format!("the body names somebody in more than {} bytes", bounds::SUBJECT))
    };
    all.map(|all| Sync { beyond, ..all })
}

fn patch_of<'j, 'a>(
    body: &Body<'j, 'a>,
    json: &'j Json<'a>,
    list: Option<Vote>,
    allotment: Option<&'j str>,
    words: &Vocabulary,
    long: &mut bool,
) -> Patch {
    let names = &words.sync;
    let value = |places: &[Place]| body.value(places, json).value;
    let text = |value: Option<&'j Json<'a>>| value.and_then(Json::to_text);
    let allotment = body.text(&names.allotment, json).or_else(|| allotment.map(Cow::Borrowed));
    let subject = body.text(&names.subject, json);
    *long |= subject.as_ref().is_some_and(|subject| subject.len() > bounds::SUBJECT);
    let instance = text(value(&names.instance));
    let version = value(&names.version).and_then(Json::as_u64);
    let created = text(value(&names.created));
    let rejection = value(&names.rejection).and_then(rejection);

    let mut votes: Vec<Vote> = list.into_iter().collect();
    for marker in &names.marker {
        let found = body.presence(&marker.member, json);
        votes.extend(marker.judge(found.value));
    }
    let all = |vote| votes.iter().all(|other| *other == vote);
    let license = license_of(body, json, &names.license);
    let unfit_license = license.is_none() && value(&names.license).is_some_and(is_said);
    let change = if subject.is_none() || unfit_license {
        Change::Unknown
    } else if !votes.is_empty() && all(Vote::Delete) {
        Change::Delete
    } else if all(Vote::Add) && allotment.is_some() {
        Change::Add
    } else {
        Change::Unknown
    };
    Patch {
        change,
        license,
        unfit_license,
        allotment: allotment.map(|text| word(&text)),
        subject: subject.map(|text| Subject::new(&text)),
        instance: instance.map(|text| number(&text)),
        version,
        created: created.map(|text| date(&text)),
        rejection,
    }
}

/// Empty where nothing was rejected.
fn rejection(json: &Json<'_>) -> Option<String> {
    match json {
        Json::Null => None,
        Json::Bool(false) => Some(String::new()),
        Json::Array(_) | Json::Object(_) if !json.is_filled() => Some(String::new()),
        other => Some(other.to_text().map_or_else(|| HIDDEN.into(), Cow::into_owned)),
    }
}

fn license_of<'j, 'a>(body: &Body<'j, 'a>, json: &'j Json<'a>, places: &[Place]) -> Option<LicenseNumber> {
    body.licenses(places, json).into_iter().next()
}

fn bare_kind(head: &RequestHead<'_>, has_key: bool) -> MessageKind {
    let carries = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
    let RequestHead { method, target, headers } = head;
    let plain =
        target.path() == "/" && target.query().is_none() && !carries.iter().any(|h| headers.contains_key(h));
    match **method {
        // Only what is safe (RFC 9110 §9.2.1) can be known to change nothing.
        _ if !method.is_safe() || head.has_override() => MessageKind::Unrecognised { shape: NO_BODY.into() },
        Method::GET if has_key => MessageKind::Definition,
        Method::GET | Method::HEAD if plain => MessageKind::ConnectivityTest,
        _ => MessageKind::Bare,
    }
}

fn kind_of(body: &Body<'_, '_>, shape: &Shape, words: &Vocabulary, has_key: bool) -> MessageKind {
    if let Some(sync) = sync_of(body, words) {
        return match sync.beyond {
            Some(why) => MessageKind::Unreadable { why },
            None => MessageKind::Sync(sync),
        };
    }
    if let Some(report) = report_of(body, &words.capacity.consumption, words, |_| None) {
        let fits = report.len() <= relay_log::bounds::CHANGES;
        return if fits {
            MessageKind::Capacity(report)
        } else {
            MessageKind::Unreadable { why: too_many() }
        };
    }
    if has_key && let Some(cause) = cause_of(body, words) {
        return MessageKind::Activation { cause: word(cause) };
    }
    MessageKind::Unrecognised { shape: shape.to_string() }
}

/// Whether a body has a part of a change or of a report among its own members. Beside a cause, such a message is more than
/// an activation.
fn is_change(body: &Body<'_, '_>, words: &Vocabulary) -> bool {
    let Vocabulary { sync, capacity, .. } = words;
    [&sync.subject, &sync.allotment, &sync.instance, &capacity.consumption, &capacity.month]
        .into_iter()
        .map(Vec::as_slice)
        .chain(sync.marker.iter().map(|marker| std::slice::from_ref(&marker.member)))
        .any(|places| body.value(places, body.json).present)
}

/// One message is one unit of the log, which must stay small enough to be written while others wait.
pub(super) fn too_many() -> String {
    format!("the body has more than {} changes", relay_log::bounds::CHANGES)
}

fn cause_of<'j>(body: &Body<'j, '_>, words: &Vocabulary) -> Option<&'j str> {
    body.value(&words.activation.cause, body.json).value.and_then(Json::as_str)
}

/// The elements of a report, or of its reply: `None` where there are none, or one of them lacks any of its three parts.
/// What `asked` has for an id stands for an allotment and a month that are missing.
pub(super) fn report_of<'q>(
    body: &Body<'_, '_>,
    amount: &[Place],
    words: &Vocabulary,
    asked: impl Fn(&str) -> Option<&'q Consumption>,
) -> Option<Vec<Consumption>> {
    let names = &words.capacity;
    let (mut all, mut count) = (Vec::new(), 0);
    for place in &names.element {
        let report = body.attempt(|| {
            let mut fits = true;
            let elements = body.things(std::slice::from_ref(place), |json| {
                count += 1;
                // One more than may be is enough to know.
                if count > relay_log::bounds::CHANGES + 1 {
                    return None;
                }
                let element = element_of(body, json, amount, words, &asked);
                fits &= element.is_some() || matches!(json, Json::Null);
                element
            });
            fits.then_some(elements)
        });
        all.extend(report.unwrap_or_default());
    }
    (!all.is_empty()).then_some(all)
}

/// What is no number is not known.
fn element_of<'j, 'a, 'q>(
    body: &Body<'j, 'a>,
    json: &'j Json<'a>,
    amount: &[Place],
    words: &Vocabulary,
    asked: impl Fn(&str) -> Option<&'q Consumption>,
) -> Option<Consumption> {
    let names = &words.capacity;
    let amount = body.value(amount, json);
    if !amount.present {
        return None;
    }
    let id = body.value(&names.id, json).value.and_then(Json::to_text);
    let id = id.filter(|id| id.len() <= bounds::ELEMENT_ID).map(Cow::into_owned);
    let before = id.as_deref().and_then(asked);
    let [allotment, month] = [&names.allotment, &names.month].map(|places| body.text(places, json));
    Some(Consumption {
        allotment: allotment.map(|text| word(&text)).or_else(|| Some(before?.allotment.clone()))?,
        month: month.map(|text| date(&text)).or_else(|| Some(before?.month.clone()))?,
        delta: amount.value.and_then(Json::to_number),
        id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(body: &[u8]) -> Message {
        post_as(body, &[], "")
    }

    /// With headers, and a site's own vocabulary.
    fn post_as(body: &[u8], headers: &[(&'static str, &str)], own: &str) -> Message {
        let words = Vocabulary::parse(own, "v.toml".as_ref()).unwrap().try_into().unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Message::read(&Method::POST, &Uri::from_static("/v1/any"), &map, body, &words)
    }

    fn sync(body: &str, own: &str) -> Sync {
        match post_as(body.as_bytes(), &[], own).kind {
            MessageKind::Sync(sync) => sync,
            kind => panic!("{body}: {kind:?}"),
        }
    }

    fn token(claims: &str) -> String {
        use base64::Engine as _;
        format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
    }

    fn id(text: &str) -> ClaimedSource {
        ClaimedSource::Source(text.parse().unwrap())
    }

    const TWO: ClaimedSource =
        ClaimedSource::Contradiction("the message has a member twice, with different values");
    const SOURCE: &str = "fbe89d02-6d24-4595-915e-c52ce76f2195";

    #[test]
    fn the_guides_samples_are_recognised() {
        let activation = post(include_bytes!("../../tests/samples/activation-request.json"));
        assert!(matches!(&activation.kind, MessageKind::Activation { cause } if cause == "Initial"));
        assert_eq!(activation.source, ClaimedSource::Nobody);
        assert_eq!(activation.license().unwrap().as_str(), "9999000000001253");

        let capacity = post(include_bytes!("../../tests/samples/capacity-request.json"));
        assert!(
            matches!(&capacity.kind, MessageKind::Capacity(report) if report[0].delta == Some(242.into()))
        );
        assert_eq!(capacity.source, id(SOURCE));

        let sync = post(include_bytes!("../../tests/samples/sync-request.json"));
        let MessageKind::Sync(asked) = &sync.kind else { panic!("{:?}", sync.kind) };
        assert_eq!((asked.patches.len(), asked.patches[1].change), (2, Change::Add));
        assert!(sync.changes_something());

        let idle = post(include_bytes!("../../tests/samples/sync-request-idle.json"));
        assert_eq!(idle.kind.name(), "sync-idle");
        assert!(!idle.changes_something());
    }

    #[test]
    fn of_two_places_called_source_the_id_decides_and_the_other_is_recorded() {
        let wrapped = post(include_bytes!("../../tests/samples/sync-request-wrapped.json"));
        assert_eq!(wrapped.source, id(SOURCE));
        assert_eq!(wrapped.other_sources, ["my assignments"]);
        assert!(matches!(&wrapped.kind, MessageKind::Sync(sync) if sync.patches.len() == 2));
    }

    #[test]
    fn two_ids_at_one_place_are_a_conflict_and_the_same_id_twice_is_not() {
        assert_eq!(post(br#"[{"source":"a"},{"source":"b"}]"#).source, ClaimedSource::Conflict);
        assert_eq!(post(br#"{"source":"a","source":"b"}"#).source, TWO);
        assert_eq!(post(br#"[{"source":"a"},{"source":"a"},{"source":null}]"#).source, id("a"));
        assert_eq!(post(br#"{"source":"a","Source":"a"}"#).source, id("a"));
        assert_eq!(post(br#"{"source":"a","\u017fource":"b"}"#).source, TWO);
        assert_eq!(post(br#"{"metadata":{"source":"a"},"metadata":{"source":"b"}}"#).source, TWO);
        assert!(matches!(post(br#"{"source":["a"]}"#).source, ClaimedSource::Unfit(_)));
    }

    #[test]
    fn no_two_numbers_are_one_source() {
        assert_eq!(post(br#"{"source":5382018630938057025}"#).source, id("5382018630938057025"));
        assert_eq!(post(br#"{"source":-5}"#).source, id("-5"));
        for number in ["18446744073709551616", "1.0", "1e2", "1e30", "-9223372036854775809"] {
            let source = post(format!(r#"{{"source":{number}}}"#).as_bytes()).source;
            assert!(matches!(source, ClaimedSource::Unfit(_)), "{number}");
            let message = post(format!(r#"{{"license":{number}}}"#).as_bytes());
            assert!(message.source.is_contradiction() && message.license().is_none(), "{number}");
        }
        assert_eq!(post(br#"{"license":-99990000}"#).license(), None);
    }

    #[test]
    fn keys_stand_in_headers_and_bodies_and_two_at_one_place_are_refused() {
        let (key, other) = (token(r#"{"license":"99990000"}"#), token(r#"{"license":"88880000"}"#));
        let none = token(r#"{"sub":"x"}"#);
        let own = "key = [\"header:X-Key\"]";
        let bearer = format!("Bearer {key}");
        for headers in
            [vec![("authorization", bearer.as_str())], vec![("x-key", &key)], vec![("x-key", &bearer)]]
        {
            let message = post_as(br#"{"cause":"Update"}"#, &headers, own);
            assert_eq!(message.license().unwrap().as_str(), "99990000");
            assert!(matches!(&message.kind, MessageKind::Activation { cause } if cause == "Update"));
            assert_eq!(message.source, ClaimedSource::Nobody);
        }
        let body = format!(r#"{{"key":"{key}","Key":"{other}"}}"#);
        assert_eq!(post(body.as_bytes()).source, TWO);
        assert_eq!(post_as(b"", &[("x-key", &key), ("x-key", &other)], own).source, ClaimedSource::TwoKeys);
        assert_eq!(
            post(format!(r#"{{"key":"{key}","KEY":"{key}"}}"#).as_bytes()).source,
            ClaimedSource::Nobody
        );
        let words: Words =
            Vocabulary::parse("key = [\"query:slk\"]", "v.toml".as_ref()).unwrap().try_into().unwrap();
        let get = |query: String| {
            let target = query.parse().unwrap();
            Message::read(&Method::GET, &target, &HeaderMap::new(), b"", &words)
        };
        let fetched = get(format!("/x?a=b&slk={key}"));
        assert_eq!((fetched.kind.name(), fetched.license().unwrap().as_str()), ("definition", "99990000"));
        assert_eq!(get(format!("/x?slk={key}&slk={other}")).source, ClaimedSource::TwoKeys);
        // Some other token that a gateway wants is not in the way of the license key.
        let bearer = format!("Bearer {none}");
        let message = post_as(format!(r#"{{"slk":"{key}"}}"#).as_bytes(), &[("authorization", &bearer)], own);
        assert_eq!(message.license().unwrap().as_str(), "99990000");
    }

    #[test]
    fn an_oversized_key_says_nothing_and_the_message_is_read_all_the_same() {
        let long = "a".repeat(crate::licensing::key::MAX);
        let message = post(format!(r#"{{"key":"{long}.b.c","cause":"Initial"}}"#).as_bytes());
        assert!(matches!(message.kind, MessageKind::Activation { .. }));
        assert_eq!(message.license(), None);
    }

    #[test]
    fn two_licenses_under_one_name_are_refused_and_elsewhere_they_are_not() {
        let refused = |body: &str| post(body.as_bytes()).source == ClaimedSource::TwoLicenses;
        let conflict = |body: &str| post(body.as_bytes()).source == TWO;
        assert!(conflict(r#"{"license":"99990000","License":"88880000"}"#));
        assert!(conflict(r#"{"bases":[{"license":"99990000","license":"88880000"}]}"#));
        assert!(conflict(r#"{"bases":[],"patches":[{"license":"9999","license":"8888"}],"source":"a"}"#));
        assert!(conflict(r#"{"bases":[{"license":"99990000"}],"bases":[{"license":"88880000"}]}"#));
        assert!(!refused(r#"{"bases":[{"license":"99990000"},{"license":"88880000"}]}"#));
        let own = "license = [\"header:X-License\"]";
        let headers = [("x-license", "99990000"), ("x-license", "88880000")];
        assert_eq!(post_as(b"", &headers, own).source, ClaimedSource::TwoLicenses);
        assert_eq!(post_as(b"", &headers[..1], own).license().unwrap().as_str(), "99990000");
    }

    #[test]
    fn doubled_lists_and_members_with_different_values_are_contradictions() {
        let patch = |who: &str| format!(r#"{{"subject":"{who}","allotment":"analyzer"}}"#);
        let body = format!(
            r#"{{"bases":[{{"version":1}}],"patches":[{}],"Patches":[{}],"bases":[{{"version":2}}]}}"#,
            patch("a"),
            patch("b")
        );
        let read = sync(&body, "");
        assert_eq!((read.bases.len(), read.patches.len()), (1, 1));
        assert_eq!(post(body.as_bytes()).source, TWO);
        assert_eq!(post(body.as_bytes()).doubled, ["bases", "Patches"]);
        for double in
            [r#""subject":"b""#, r#""Allotment":null"#, r#""operation":"add","op":"add","OP":"create""#]
        {
            let body = format!(r#"{{"bases":[],"patches":[{{"subject":"a","allotment":"b",{double}}}]}}"#);
            assert_eq!(post(body.as_bytes()).source, TWO, "{double}");
        }
        let body = r#"{"bases":[],"patches":[{"subject":"a","allotment":"b","x":1,"x":2}]}"#;
        assert_eq!(sync(body, "").patches[0].change, Change::Add);
    }

    #[test]
    fn a_map_that_finds_other_members_than_a_structure_makes_two_readings() {
        let case = ClaimedSource::Contradiction(CASE);
        // A program that looks names up in a map finds the second of each alone.
        for body in [
            r#"{"Source":"listed","sourceId":"another"}"#,
            r#"{"SOURCE":"listed","sourceId":1.5}"#,
            r#"{"source":"a","LICENSE":"99990000","bases":[{"license":"88880000","version":1}],"patches":[]}"#,
            r#"{"source":"a","bases":[],"patches":[{"subject":"a","allotment":"b","Deleted":true}]}"#,
            r#"[{"source":"a","Allotment":"b","name":"c","month":"2018-11","consumption":1}]"#,
        ] {
            assert_eq!(post(body.as_bytes()).source, case, "{body}");
        }
        // It finds nothing else in these, or nothing at all.
        for body in [
            r#"{"Source":"a","bases":[],"patches":[{"subject":"a","Allotment":"b"}]}"#,
            r#"{"Source":"a","SourceId":"b","Bases":[],"Patches":[{"Subject":"a","Allotment":"b","Deleted":true}]}"#,
        ] {
            assert_eq!(post(body.as_bytes()).source, id("a"), "{body}");
        }
        // A site that knows how its deployments spell a name writes it so.
        let own = "source = [\"Source\"]";
        assert_eq!(post_as(br#"{"Source":"a","sourceId":"b"}"#, &[], own).source, id("a"));
    }

    #[test]
    fn a_number_with_more_than_one_spelling_where_a_name_should_be_makes_two_readings() {
        let patch = |name: &str, number: &str| {
            let mut patch = serde_json::json!({"subject": "a", "allotment": "b", "license": "88880000"});
            patch[name] = "NUMBER".into();
            format!(r#"{{"source":"a","bases":[],"patches":[{patch}]}}"#).replace("\"NUMBER\"", number)
        };
        for number in ["1e5", "100000.0", "0.5", "-0", "8.888e7", "18446744073709551616", "1e999"] {
            for name in ["subject", "allotment", "license"] {
                let ClaimedSource::Contradiction(why) = post(patch(name, number).as_bytes()).source else {
                    panic!("{name} {number}")
                };
                assert!(why.contains("where a name should be"), "{why}");
            }
            let report = format!(r#"[{{"source":"a","month":"2018-11","consumption":1,"name":{number}}}]"#);
            assert!(post(report.as_bytes()).source.is_contradiction(), "{number}");
            let other = format!(r#"[{{"source":"a","name":{number}}}]"#);
            assert_eq!(post(other.as_bytes()).source, id("a"), "what is no report has other names");
        }
        assert_eq!(post(patch("subject", "100000").as_bytes()).source, id("a"));
        let consumed = br#"[{"source":"a","name":"b","month":"2018-11","consumption":242.5}]"#;
        assert_eq!(post(consumed).source, id("a"));
    }

    #[test]
    fn a_message_that_names_somebody_in_too_many_bytes_can_not_be_read() {
        let of = |length: usize| {
            let who = "x".repeat(length);
            post(format!(r#"{{"bases":[],"patches":[{{"subject":"{who}","allotment":"a"}}]}}"#).as_bytes())
        };
        assert!(matches!(of(bounds::SUBJECT).kind, MessageKind::Sync(_)));
        let long = of(bounds::SUBJECT + 1);
        assert!(
            matches!(&long.kind, MessageKind::Unreadable { why } if why.contains("1024")),
            "{:?}",
            long.kind
        );
    }

    #[test]
    fn one_body_may_carry_several_syncs() {
        let own = "[sync]\nwithin = [\"/*\", \"/syncs/*\"]\n";
        let one = r#"{"bases":[{"version":1}],"patches":[{"subject":"a","allotment":"b"}]}"#;
        for body in [format!("[{one},null,{one}]"), format!(r#"{{"syncs":[{one},{{"x":1}},{one}]}}"#)] {
            let read = sync(&body, own);
            assert_eq!((read.bases.len(), read.patches.len()), (2, 2));
        }
        // Two ways to one list are one.
        let own = "[sync]\nbases = [\"/metadata/bases\"]\npatches = [\"/metadata/patches\"]\n";
        assert_eq!(sync(&format!(r#"{{"metadata":{one}}}"#), own).patches.len(), 1);
    }

    #[test]
    fn a_change_has_license_and_allotment_from_its_holder_where_it_has_none() {
        let own = "[sync]\nwithin = [\"/all/*\"]\nbases = [\"/\"]\n";
        let holder = |more: &str| {
            let patches = r#""patches":[{"subject":"a"},{"subject":"b","license":"8888","allotment":"x"}]"#;
            format!(r#"{{"all":[{{"license":"9999","version":3,"allotment":"y"{more},{patches}}}]}}"#)
        };
        let read = sync(&holder(""), own);
        assert_eq!(read.bases[0], (Some("9999".parse().unwrap()), Some(3)));
        let of =
            |patch: &Patch| (patch.license.clone().unwrap().to_string(), patch.allotment.clone().unwrap());
        assert_eq!(of(&read.patches[0]), ("9999".into(), "y".into()));
        assert_eq!(of(&read.patches[1]), ("8888".into(), "x".into()));
        let doubled = holder(",\"Allotment\":\"z\"");
        assert_eq!(post_as(doubled.as_bytes(), &[], own).source, TWO);
    }

    #[test]
    fn versions_may_stand_in_an_object_under_their_licenses() {
        let own = "[sync]\nbases_by_license = [\"Versions\", \"bases\"]\n";
        for name in ["versions", "bases"] {
            let body = format!(r#"{{"source":"a","{name}":{{"9999 0000":17,"8888":"3"}},"patches":[]}}"#);
            let message = post_as(body.as_bytes(), &[], own);
            let MessageKind::Sync(read) = &message.kind else { panic!("{message:?}") };
            let bases: Vec<_> =
                read.bases.iter().map(|(l, v)| (l.clone().unwrap().to_string(), *v)).collect();
            assert_eq!(bases, [("99990000".into(), Some(17)), ("8888".into(), Some(3))]);
            assert!(!message.changes_something(), "{message:?}");
        }
    }

    #[test]
    fn a_sync_may_be_idle_without_a_list_of_changes_where_the_site_says_so() {
        let own = "[sync]\nidle_without_patches = true\n";
        let body = r#"{"source":"a","bases":[{"license":"9999","version":17}]}"#;
        assert_eq!(post_as(body.as_bytes(), &[], own).kind.name(), "sync-idle");
        assert_eq!(post(body.as_bytes()).kind.name(), "unrecognised");
        for other in
            [r#"{"bases":[]}"#, r#"{"bases":[{"license":"9999"}]}"#, r#"{"bases":{"x":{"version":1}}}"#]
        {
            assert_eq!(post_as(other.as_bytes(), &[], own).kind.name(), "unrecognised", "{other}");
        }
        // With another list beside it, it may change something.
        let hiding = body.replacen('{', "{\"changes\":[{\"who\":\"b\"}],", 1);
        assert!(post_as(hiding.as_bytes(), &[], own).changes_something());
    }

    #[test]
    fn lists_of_nothing_but_adds_or_deletes_say_what_their_elements_are() {
        let own = "[sync]\nadditions = [\"added\"]\ndeletions = [\"/removed/*/users\"]\nsubject = [\"/\"]\n\
                   [[sync.marker]]\nmember = \"allotment\"\ndelete = [\"(absent)\"]\nadd = [\"(any)\"]\n";
        let body = r#"{"bases":null,"added":[{"subject":"a","allotment":"b"},{"subject":"a"}],
            "removed":[{"users":["a\\b"]},{"users":[{"subject":"a","op":"add"}]}]}"#;
        let read = sync(body, own);
        let changes: Vec<_> = read.patches.iter().map(|patch| patch.change).collect();
        assert_eq!(changes, [Change::Add, Change::Unknown, Change::Delete, Change::Unknown]);
        assert_eq!(read.patches[2].subject, Some(Subject::new("a\\b")));
    }

    #[test]
    fn a_list_that_nothing_was_read_of_makes_an_idle_sync_one_that_may_change_something() {
        let idle = r#"{"source":"a","bases":[],"patches":[],"EXTRA}"#;
        let with = |extra: &str, own: &str| {
            post_as(idle.replace("\"EXTRA", extra).as_bytes(), &[], own).changes_something()
        };
        for extra in [
            r#""changes":[{"user":"x"}]"#,
            r#""state":{"a":1}"#,
            r#""a":{"b":[0]}"#,
            r#""metadata":{"x":[1]}"#,
        ] {
            assert!(with(extra, ""), "{extra}");
        }
        for extra in
            [r#""changes":[]"#, r#""n":1,"t":"x""#, r#""metadata":{"source":"x","n":1}"#, r#""a":null"#]
        {
            assert!(!with(extra, ""), "{extra}");
        }
        assert!(!with(r#""state":{"a":[1]}"#, "harmless = [\"state\"]"));
        // A list of changes can't hide where only a license is looked for.
        let body = r#"{"source":"a","bases":[],"patches":[],"metadata":{"patches":[{"license":"9999"}]}}"#;
        assert!(post(body.as_bytes()).changes_something());
        let capacity = r#"[{"allotment":"a","month":"2018-11","consumption":1,"source":"a","more":[1]}]"#;
        assert!(post(capacity.as_bytes()).unread.unwrap().contains("more:[number]"));
    }

    #[test]
    fn reports_are_read_with_and_without_an_array_and_doubled_numbers_are_not_known() {
        let report = |body: &str, own: &str| match post_as(body.as_bytes(), &[], own).kind {
            MessageKind::Capacity(report) => {
                report.into_iter().map(|element| element.delta).collect::<Vec<_>>()
            }
            kind => panic!("{body}: {kind:?}"),
        };
        let one = r#"{"allotment":"a","month":"2018-11","consumption":"242"}"#;
        assert_eq!(report(&format!("[null,{one}]"), ""), [Some(242.into())]);
        assert_eq!(report(one, "[capacity]\nelement = [\"/\"]"), [Some(242.into())]);
        let own = "[capacity]\nelement = [\"/report/*\"]";
        assert_eq!(report(&format!(r#"{{"report":[{one},{one}]}}"#), own).len(), 2);
        for unfit in ["null", "\"x\"", "1e30", "18446744073709551616", "{\"n\":[1]}"] {
            let body = format!(r#"[{{"name":"a","month":"2018-11","consumption":{unfit}}}]"#);
            assert_eq!(report(&body, ""), [None], "{unfit}");
        }
        assert!(matches!(post(format!("[{one},{{}}]").as_bytes()).kind, MessageKind::Unrecognised { .. }));
    }

    #[test]
    fn a_compressed_body_is_read_and_one_that_is_not_told_apart_is_unreadable() {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        encoder.write_all(include_bytes!("../../tests/samples/sync-request.json")).unwrap();
        let body = encoder.finish().unwrap();
        let gzip = [("content-encoding", "gzip")];
        assert_eq!(post_as(&body, &gzip, "").kind.name(), "sync");
        let short = post_as(&body[..body.len() - 1], &gzip, "");
        assert!(
            matches!(&short.kind, MessageKind::Unreadable { why } if why.contains("cut short")),
            "{short:?}"
        );
        assert_eq!(post_as(&body, &[("content-encoding", "zstd")], "").kind.name(), "unreadable");
    }

    #[test]
    fn a_delete_is_only_told_by_a_known_marker() {
        let patch = |extra: &str| {
            let body =
                format!(r#"{{"bases":[],"patches":[{{"subject":"a\\b","allotment":"analyzer"{extra}}}]}}"#);
            let MessageKind::Sync(sync) = post(body.as_bytes()).kind else { panic!("{body}") };
            sync.patches[0].change
        };
        assert_eq!(patch(""), Change::Add);
        assert_eq!(patch(r#","deleted":true"#), Change::Delete);
        assert_eq!(patch(r#","deleted":false"#), Change::Add);
        assert_eq!(patch(r#","operation":"Remove""#), Change::Delete);
        assert_eq!(patch(r#","operation":"swap""#), Change::Unknown);
        assert_eq!(patch(r#","operation":null,"deleted":"""#), Change::Add);
        assert_eq!(patch(r#","operation":[],"deleted":{}"#), Change::Unknown);
        assert_eq!(patch(r#","operation":["delete"]"#), Change::Unknown);
        assert_eq!(patch(r#","operation":"delete","deleted":false"#), Change::Unknown);
    }

    #[test]
    fn the_connectivity_test_is_exactly_the_bare_root() {
        let words = Words::load(None).unwrap();
        let get = |target: &'static str, headers: &HeaderMap| {
            Message::read(&Method::GET, &Uri::from_static(target), headers, b"", &words).kind.name()
        };
        let mut with_cookie = HeaderMap::new();
        with_cookie.insert(header::COOKIE, "a=b".parse().unwrap());
        assert_eq!(get("/", &HeaderMap::new()), "test");
        assert_eq!(get("/?x", &HeaderMap::new()), "bare");
        assert_eq!(get("/", &with_cookie), "bare");
        assert_eq!(get("/x", &HeaderMap::new()), "bare");
    }

    #[test]
    fn what_is_not_safe_may_change_something_though_it_has_no_body() {
        let words = Words::load(None).unwrap();
        let target = Uri::from_static("/v1/assignments/7");
        let read = |method| Message::read(&method, &target, &HeaderMap::new(), b"", &words);
        for method in [Method::DELETE, Method::POST, Method::PUT] {
            assert!(read(method).changes_something());
        }
        assert!(!read(Method::GET).changes_something());
    }

    #[test]
    fn subjects_do_not_show_in_debug_output() {
        let shown = format!("{:?}", post(include_bytes!("../../tests/samples/sync-request.json")));
        assert!(!shown.to_lowercase().contains("bob"), "{shown}");
    }

    #[test]
    fn an_idle_sync_that_may_be_more_is_recorded_before_it_is_forwarded() {
        let idle = r#""source":"a","bases":[],"patches":[]"#;
        let body = format!("{{{idle}}}");
        assert!(!post(body.as_bytes()).changes_something());
        let key = include_str!("../../tests/samples/signed-license-key.jwt").trim();
        let both = format!(r#"{{{idle},"cause":"Initial","signedLicenseKey":"{key}"}}"#);
        assert!(post(both.as_bytes()).changes_something(), "an activation as well");
        let words = Words::load(None).unwrap();
        for method in [Method::PUT, Method::DELETE, Method::PATCH] {
            let target = Uri::from_static("/v1/assignments/7");
            let read = Message::read(&method, &target, &HeaderMap::new(), body.as_bytes(), &words);
            assert!(read.changes_something(), "{method}");
        }
        for hidden in
            [r#""Patches":[{"subject":"a\\b"}]"#, r#""patches":[{"subject":"a\\b"}]"#, r#""changes":[1]"#]
        {
            let body = format!("{{{idle},{hidden}}}");
            assert!(post(body.as_bytes()).changes_something(), "{hidden}");
        }
    }

    #[test]
    fn a_message_with_more_changes_than_one_may_have_is_one_unread_body() {
        let body = format!(
            r#"{{"source":"a","bases":[],"patches":[{}0]}}"#,
            "0,".repeat(relay_log::bounds::CHANGES)
        );
        let message = post(body.as_bytes());
        assert!(
            matches!(&message.kind, MessageKind::Unreadable { why } if why.contains("50000")),
            "{}",
            message.kind.name()
        );
        assert_eq!(message.source, ClaimedSource::Source("a".parse().unwrap()));
    }

    proptest::proptest! {
        #[test]
        fn no_json_makes_the_reader_panic(body in r#"[\[\]{}",:a-z0-9.\\ ]{0,80}"#) {
            let _ = post(body.as_bytes());
        }
    }
}
