//! One body, read with a vocabulary: what stands at its places, and what nothing was read of.
//!
//! Every look-up walks the body once, so reading takes time in proportion to its size, whatever it holds. Lists of
//! several names are all read. A member that came twice with different values on the way to something that is read is
//! noted, and so is a number that stands for a text and has more than one spelling: of such a body there is more than one
//! reading.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use super::json::{Json, same_name};
use super::vocabulary::{OF_A_CHANGE, PERSON, Place, Step};
use relay_log::names::LicenseNumber;

/// A body and what was read of it so far.
pub(super) struct Body<'j, 'a> {
    /// The whole.
    pub(super) json: &'j Json<'a>,
    /// The arrays and objects on the way to what was read, in order, some more than once.
    read: RefCell<Vec<*const Json<'a>>>,
    /// The lists whose elements were taken: two ways that lead to one list are one.
    taken: RefCell<HashSet<*const Json<'a>>>,
    /// The same, in order.
    taken_in_order: RefCell<Vec<*const Json<'a>>>,
    /// Why there is more than one reading of it.
    contradiction: Cell<Option<&'static str>>,
    /// Members are read whose names are written in another case than the place has them.
    folds: bool,
    /// A member was read whose name is written in another case than the place has it.
    folded: Cell<bool>,
    /// What stands where a license number should can't be one.
    unfit_license: Cell<bool>,
}

/// What stands at the places of one value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ValueAtPlace<'j, 'a> {
    /// The value at the best place, `null` passed over.
    pub(super) value: Option<&'j Json<'a>>,
    /// Something stands there, if only `null`.
    pub(super) present: bool,
}

/// How a program tells the names of members apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Names {
    /// One that reads into a structure: whatever their case.
    Folded,
    /// One that reads into a map, and looks names up in it: exactly.
    Exact,
}

/// Why a body with a doubled member has more than one reading.
const TWICE: &str = "the message has a member twice, with different values";
/// Why one with such a number has: a program that keeps its digits takes `1e5` for a text, another one for `100000`.
const SPELLING: &str =
    "the message has a number with a fraction, an exponent or too many digits where a name should be";

/// What a value that was come by is to the reader.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Use {
    /// Of no use: neither it nor the way to it counts as read.
    None,
    /// A value: the way to it counts as read.
    Value,
    /// A thing with parts: it counts as well.
    Thing,
}

impl<'j, 'a> Body<'j, 'a> {
    /// A body that nothing was read of yet.
    pub(super) fn new(json: &'j Json<'a>) -> Self {
        Self::with(json, Names::Folded)
    }

    /// The same, with names told apart as a program does that reads into this.
    pub(super) fn with(json: &'j Json<'a>, names: Names) -> Self {
        Self {
            json,
            read: RefCell::default(),
            taken: RefCell::default(),
            taken_in_order: RefCell::default(),
            contradiction: Cell::new(None),
            folds: names == Names::Folded,
            folded: Cell::new(false),
            unfit_license: Cell::new(false),
        }
    }

    /// What stands at the places of one value of `at`.
    pub(super) fn value(&self, places: &[Place], at: &'j Json<'a>) -> ValueAtPlace<'j, 'a> {
        let mut found = ValueAtPlace::default();
        for steps in places.iter().filter_map(Place::steps) {
            self.visit(steps, at, Passing::No, &mut |value| {
                // A thing that holds values is none itself.
                if steps.is_empty() && value.is_filled() {
                    return Use::None;
                }
                found.present = true;
                if !matches!(value, Json::Null) {
                    found.value = found.value.or(Some(value));
                }
                as_value(value)
            });
        }
        found
    }

    /// The text at the places of one value of `at`, or the whole number.
    pub(super) fn text(&self, places: &[Place], at: &'j Json<'a>) -> Option<Cow<'j, str>> {
        let value = self.value(places, at).value?;
        self.note_spelling(value);
        value.to_text()
    }

    /// All texts at the best of these places of `at` that has any.
    pub(super) fn texts(&self, places: &[Place], at: &'j Json<'a>) -> Vec<Cow<'j, str>> {
        let mut all = Vec::new();
        for steps in places.iter().filter_map(Place::steps) {
            let mut texts = Vec::new();
            self.visit(steps, at, Passing::No, &mut |value| {
                texts.extend(value.to_text());
                as_value(value)
            });
            if all.is_empty() {
                all = texts;
            }
        }
        all
    }

    /// As [`value`](Self::value), for a place of which only what stands there counts, whatever is in it.
    pub(super) fn presence(&self, place: &Place, at: &'j Json<'a>) -> ValueAtPlace<'j, 'a> {
        let mut found = self.value(std::slice::from_ref(place), at);
        self.visit(place.steps().unwrap_or_default(), at, Passing::No, &mut |_| Use::Thing);
        if found.present && found.value.is_none() {
            found.value = Some(&Json::Null);
        }
        found
    }

    /// The members of the objects at these places of `at`, as license numbers and what stands under them; `None` where
    /// there is none.
    pub(super) fn by_license(
        &self,
        places: &[Place],
        at: &'j Json<'a>,
    ) -> Option<Vec<(Option<LicenseNumber>, &'j Json<'a>)>> {
        let mut all = None;
        for steps in places.iter().filter_map(Place::steps) {
            self.visit(steps, at, Passing::No, &mut |value| {
                if !matches!(value, Json::Object(_) | Json::Null) {
                    return Use::None;
                }
                let all = all.get_or_insert_with(Vec::new);
                if self.taken.borrow_mut().insert(value) {
                    self.taken_in_order.borrow_mut().push(value);
                    if value.has_conflict() {
                        self.contradiction.set(Some(TWICE));
                    }
                    all.extend(value.members().iter().map(|(name, value)| (name.parse().ok(), value)));
                }
                Use::Thing
            });
        }
        all
    }

    /// Everything at one place of the body, `null` passed over.
    pub(super) fn values(&self, place: &Place) -> Vec<&'j Json<'a>> {
        let mut values = Vec::new();
        self.visit(place.steps().unwrap_or_default(), self.json, Passing::No, &mut |value| {
            if !matches!(value, Json::Null) {
                values.push(value);
            }
            as_value(value)
        });
        values
    }

    /// The elements of all lists at these places of `at`; `None` where there is no list. What is no array but an
    /// object is a list of one, and `null` an empty one, as Go writes it.
    pub(super) fn list(&self, places: &[Place], at: &'j Json<'a>) -> Option<Vec<&'j Json<'a>>> {
        let mut all = None;
        for steps in places.iter().filter_map(Place::steps) {
            self.visit(steps, at, Passing::No, &mut |value| {
                let one = std::slice::from_ref(value);
                let elements = match value {
                    Json::Array(elements) => elements.as_slice(),
                    Json::Object(_) => one,
                    Json::Null => &[],
                    _ => return Use::None,
                };
                let all = all.get_or_insert_with(Vec::new);
                if steps.is_empty() || self.taken.borrow_mut().insert(value) {
                    self.taken_in_order.borrow_mut().push(value);
                    all.extend(elements.iter().filter(|element| !matches!(element, Json::Null)));
                }
                // An element is read once something of it is, and so is an object that is the only one.
                if matches!(value, Json::Object(_)) { Use::Value } else { Use::Thing }
            });
        }
        all
    }

    /// What `take` makes of each thing at these places of the body; where it makes nothing of one, nothing of it counts
    /// as read.
    pub(super) fn things<T>(
        &self,
        places: &[Place],
        mut take: impl FnMut(&'j Json<'a>) -> Option<T>,
    ) -> Vec<T> {
        let mut made = Vec::new();
        for steps in places.iter().filter_map(Place::steps) {
            self.visit(steps, self.json, Passing::No, &mut |thing| match self.attempt(|| take(thing)) {
                Some(thing) => {
                    made.push(thing);
                    Use::Thing
                }
                None => Use::None,
            });
        }
        made
    }

    /// What `reading` makes; where that is nothing, nothing counts as read by it.
    pub(super) fn attempt<T>(&self, reading: impl FnOnce() -> Option<T>) -> Option<T> {
        let (read, taken) = (self.read.borrow().len(), self.taken_in_order.borrow().len());
        let made = reading();
        if made.is_none() {
            self.read.borrow_mut().truncate(read);
            for list in self.taken_in_order.borrow_mut().drain(taken..) {
                self.taken.borrow_mut().remove(&list);
            }
        }
        made
    }

    /// The license numbers at these places of `at`.
    pub(super) fn licenses(&self, places: &[Place], at: &'j Json<'a>) -> Vec<LicenseNumber> {
        let mut numbers: Vec<LicenseNumber> = Vec::new();
        let passing = if std::ptr::eq(at, self.json) { Passing::Elements } else { Passing::No };
        for steps in places.iter().filter_map(Place::steps) {
            self.visit(steps, at, passing, &mut |value| {
                self.note_spelling(value);
                let number = license_number(value);
                if number.is_none() && is_said(value) {
                    self.unfit_license.set(true);
                }
                if let Some(number) = number
                    && numbers.len() <= relay_log::bounds::LICENSES
                    && !numbers.contains(&number)
                {
                    numbers.push(number);
                }
                as_value(value)
            });
        }
        numbers
    }

    /// Why there is more than one reading of it: a member on the way to something that was read came twice with different
    /// values, of which `encoding/json` takes the last, or merges them, and other decoders take the first; or a number
    /// stands for a text.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        self.contradiction.get()
    }

    /// Whether something stands where a license number was looked for that can't be one.
    pub(super) fn has_unfit_license(&self) -> bool {
        self.unfit_license.get()
    }

    /// Whether a member was read whose name is written in another case than the vocabulary has it.
    pub(super) fn is_folded(&self) -> bool {
        self.folded.get()
    }

    /// Whether it holds an array or an object, and not an empty one, that nothing was read of; or names more people than
    /// the `people` that were read. What stands at the places of `harmless` may, unless it holds what changes are made of.
    pub(super) fn has_unread(&self, harmless: &[Place], people: usize) -> bool {
        let mut passed = HashSet::new();
        for steps in harmless.iter().filter_map(Place::steps) {
            let named = steps.iter().any(|step| matches!(step, Step::Member(name) if is_of_a_change(name)));
            self.visit(steps, self.json, Passing::No, &mut |value| {
                if !named && !holds_a_change(value) {
                    passed.insert(std::ptr::from_ref(value));
                }
                Use::Value
            });
        }
        let mut left = people;
        let read: HashSet<_> = self.read.borrow().iter().copied().collect();
        let mut open = vec![self.json];
        while let Some(json) = open.pop() {
            if !json.is_filled() || passed.contains(&std::ptr::from_ref(json)) {
                continue;
            }
            if !read.contains(&std::ptr::from_ref(json)) {
                return true;
            }
            let people =
                json.members().iter().filter(|(name, value)| value.is_scalar() && same_name(name, PERSON));
            match left.checked_sub(people.count()) {
                Some(fewer) => left = fewer,
                None => return true,
            }
            open.extend(json.elements().iter().chain(json.members().iter().map(|(_, value)| value)));
        }
        false
    }

    /// Walks to everything that the steps lead to; whether anything of it was of use.
    fn visit(
        &self,
        steps: &[Step],
        at: &'j Json<'a>,
        passing: Passing,
        take: &mut dyn FnMut(&'j Json<'a>) -> Use,
    ) -> bool {
        let mut used = false;
        match steps.split_first() {
            None => match take(at) {
                Use::None => return false,
                Use::Value => return true,
                Use::Thing => used = true,
            },
            Some((Step::Each, rest)) => {
                for element in at.elements() {
                    let used_here = self.visit(rest, element, passing, take);
                    if passing == Passing::No {
                        used |= used_here;
                    } else if used_here && self.read.borrow().last() == Some(&std::ptr::from_ref(element)) {
                        self.read.borrow_mut().pop();
                    }
                }
            }
            Some((Step::Member(name), rest)) if matches!(at, Json::Array(_)) => {
                let element = name.parse().ok().and_then(|at_number: usize| at.elements().get(at_number));
                used = element.is_some_and(|element| self.visit(rest, element, passing, take));
            }
            Some((Step::Member(name), rest)) => {
                let found = at.member(name).filter(|(written, _)| self.folds || written == name);
                if let Some((written, value)) = found {
                    if at.conflict(name) {
                        self.contradiction.set(Some(TWICE));
                    }
                    used = self.visit(rest, value, passing, take);
                    if used && written != name {
                        self.folded.set(true);
                    }
                }
            }
        }
        if used {
            self.mark(at);
        }
        used
    }

    /// Notes a number that is no text, where a text is looked for.
    fn note_spelling(&self, value: &Json<'_>) {
        if value.is_number() && value.to_text().is_none() {
            self.contradiction.set(Some(SPELLING));
        }
    }

    /// Counts an array or an object as read.
    fn mark(&self, json: &'j Json<'a>) {
        let mut read = self.read.borrow_mut();
        if read.last() != Some(&std::ptr::from_ref(json)) {
            read.push(json);
        }
    }
}

/// What a walk makes of the elements of lists on its way.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Passing {
    /// They are read, and so is the list.
    No,
    /// Who a message is from may stand in the elements of any list. That makes neither the list nor its elements read,
    /// only what is on the way inside of an element.
    Elements,
}

/// A list or an object where a value was looked for is not read.
fn as_value(value: &Json<'_>) -> Use {
    if value.is_filled() { Use::None } else { Use::Value }
}

fn is_of_a_change(name: &str) -> bool {
    OF_A_CHANGE.iter().any(|known| same_name(known, name))
}

/// Whether a part of a body has a member that changes are made of, however deep.
pub(super) fn holds_a_change(json: &Json<'_>) -> bool {
    let mut open = vec![json];
    while let Some(json) = open.pop() {
        // Nobody has looked into what is too deep.
        if matches!(json, Json::Deep(_)) || json.members().iter().any(|(name, _)| is_of_a_change(name)) {
            return true;
        }
        open.extend(json.elements().iter().chain(json.members().iter().map(|(_, value)| value)));
    }
    false
}

/// Whether a value says something: `null` and what is empty do not.
pub(super) fn is_said(json: &Json<'_>) -> bool {
    json.is_filled() || (json.is_scalar() && json.as_str() != Some(""))
}

/// A license number, from text or a number that has no sign.
pub(super) fn license_number(json: &Json<'_>) -> Option<LicenseNumber> {
    match json {
        Json::Text(text) => text.parse().ok(),
        other => other.as_u64()?.to_string().parse().ok(),
    }
}
