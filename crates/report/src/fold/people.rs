//! Who is who among pseudonyms: a person keeps one number though the key that hides the name was rolled over.

use std::collections::HashMap;

/// A person, as this reading numbers them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PersonId(u32);

/// All people that the log names. It grows with them, not with what happens.
#[derive(Debug, Default)]
pub struct People {
    numbers: HashMap<String, PersonId>,
    /// The pseudonyms of each, the newest last. Those of one who was joined to another are there.
    pseudonyms: Vec<Vec<String>>,
}

impl People {
    /// The person behind a pseudonym.
    pub fn number(&mut self, pseudonym: &str) -> PersonId {
        if let Some(person) = self.known(pseudonym) {
            return person;
        }
        let person = PersonId(u32::try_from(self.pseudonyms.len()).unwrap_or(u32::MAX));
        self.pseudonyms.push(vec![pseudonym.to_owned()]);
        self.numbers.insert(pseudonym.to_owned(), person);
        person
    }

    /// The person behind a pseudonym, where the log has named it so far.
    pub fn known(&self, pseudonym: &str) -> Option<PersonId> {
        self.numbers.get(pseudonym).copied()
    }

    /// An alias: two pseudonyms are of one person. Where both were known as two, gives who stays and who is no more.
    pub fn join(&mut self, newer: &str, older: &str) -> Option<(PersonId, PersonId)> {
        let (stays, gone) = match (self.known(newer), self.known(older)) {
            (Some(person), None) => {
                self.numbers.insert(older.to_owned(), person);
                self.of(person).insert(0, older.to_owned());
                (person, None)
            }
            (None, known) => {
                let person = known.unwrap_or_else(|| self.number(older));
                self.numbers.insert(newer.to_owned(), person);
                self.of(person).push(newer.to_owned());
                (person, None)
            }
            (Some(gone), Some(stays)) if gone != stays => {
                let moved = std::mem::take(self.of(gone));
                for pseudonym in &moved {
                    self.numbers.insert(pseudonym.clone(), stays);
                }
                self.of(stays).extend(moved);
                (stays, Some(gone))
            }
            (Some(person), Some(_)) => (person, None),
        };
        let all = self.of(stays);
        if let Some(at) = all.iter().position(|pseudonym| pseudonym == newer) {
            let newest = all.remove(at);
            all.push(newest);
        }
        gone.map(|gone| (stays, gone))
    }

    /// The newest pseudonym of a person.
    pub fn pseudonym(&self, person: PersonId) -> &str {
        self.pseudonyms.get(person.0 as usize).and_then(|all| all.last()).map_or("", String::as_str)
    }

    fn of(&mut self, person: PersonId) -> &mut Vec<String> {
        let at = person.0 as usize;
        if self.pseudonyms.len() <= at {
            self.pseudonyms.resize_with(at + 1, Vec::new);
        }
        &mut self.pseudonyms[at]
    }
}

/// Words that occur often, each kept once.
#[derive(Debug, Default)]
pub struct Words {
    numbers: HashMap<String, u32>,
    words: Vec<String>,
}

impl Words {
    /// The number of a word.
    pub fn number(&mut self, word: &str) -> u32 {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        let number = u32::try_from(self.words.len()).unwrap_or(u32::MAX);
        self.words.push(word.to_owned());
        self.numbers.insert(word.to_owned(), number);
        number
    }

    /// The number of a word that is known.
    pub fn known(&self, word: &str) -> Option<u32> {
        self.numbers.get(word).copied()
    }

    /// The word of a number.
    pub fn word(&self, number: u32) -> &str {
        self.words.get(number as usize).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_stays_one_over_aliases_in_any_order() {
        let mut people = People::default();
        let old = people.number("k2025:a");
        assert_eq!(people.join("k2026:x", "k2025:a"), None);
        assert_eq!(people.number("k2026:x"), old);
        assert_eq!(people.pseudonym(old), "k2026:x");
        let (other, third) = (people.number("k2025:b"), people.number("k2026:y"));
        assert_eq!(people.join("k2026:y", "k2025:b"), Some((other, third)));
        assert_eq!(people.known("k2026:y"), Some(other));
        assert_eq!(people.join("k2026:y", "k2025:b"), None, "told twice");
        assert_eq!(people.pseudonym(other), "k2026:y");
        // A key between the two, of which the person was never seen.
        assert_eq!(people.join("k2026:y", "k2024:b"), None);
        assert_eq!((people.known("k2024:b"), people.pseudonym(other)), (Some(other), "k2026:y"));
    }
}
