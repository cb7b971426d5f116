//! A TOML document, taken apart key by key.
//!
//! The code that takes a key is the only description of it: what is left in a table when its reader is done
//! is unknown, and the nearest known key is one that was asked for. Nothing stops at the first problem.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Display;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{self, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::model::{Rate, SourceRate};
use super::{MAX_LIST, Problem, Problems, Severity};
use crate::bounds;
use relay_log::files::regular;
use relay_log::files::waits;

/// The text of `file`; `missing` says what to do when it can't be read.
pub(crate) fn load(file: &Path, missing: &str) -> Result<String, Problems> {
    decode(regular::read(file), file, missing)
}

/// What was read of `file` as text; `missing` as for [`load`].
pub(crate) fn decode(
    read: io::Result<Zeroizing<Vec<u8>>>,
    file: &Path,
    missing: &str,
) -> Result<String, Problems> {
    let problem = |line, what: String, instead: &str| {
        let (file, instead) = (file.to_owned(), instead.to_owned());
        Problems(vec![Problem { file, line, what, instead, severity: Severity::Error }])
    };
    let bytes = read.map_err(|e| {
        let instead = match e.kind() {
            io::ErrorKind::InvalidData => "put a regular file of at most 8 MiB there",
            io::ErrorKind::PermissionDenied => DENIED,
            _ => missing,
        };
        problem(0, format!("the file can't be read: {e}"), instead)
    })?;
    String::from_utf8(bytes.to_vec()).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        problem(line, "the text is not UTF-8".to_owned(), "save the file as UTF-8")
    })
}

/// Takes `text`, the contents of `file`, apart with `walk`: what that made of it and the warnings, or every
/// problem there is.
pub(crate) fn read<T>(
    text: &str,
    file: &Path,
    walk: impl FnOnce(&mut Table<'_, '_>) -> T,
) -> Result<(T, Problems), Problems> {
    read_with(NamedFiles::Examined, text, file, walk)
}

/// What becomes of the files that a file names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NamedFiles {
    /// They are looked at, and what is wrong with them is wrong with the file.
    Examined,
    /// They are whoever's business opens them.
    Ignored,
}

impl NamedFiles {
    fn check(self, kind: PathKind, path: PathBuf, must_exist: bool) -> Result<PathBuf, Wrong> {
        match self {
            Self::Examined => kind.check(path, must_exist),
            Self::Ignored => Ok(path),
        }
    }
}

/// As [`read`], with a choice about the files that are named.
pub(crate) fn read_with<T>(
    named: NamedFiles,
    text: &str,
    file: &Path,
    walk: impl FnOnce(&mut Table<'_, '_>) -> T,
) -> Result<(T, Problems), Problems> {
    let mut document = TomlDocument {
        named,
        file: file.to_owned(),
        folder: absolute(file).parent().map_or_else(PathBuf::new, Path::to_owned),
        newlines: text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect(),
        broken: HashSet::new(),
        known: BTreeSet::new(),
        unknown: Vec::new(),
        problems: Vec::new(),
    };
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let line = error.span().map_or(0, |span| document.line(span.start));
        let instead = match error.message() {
            "duplicate key" => "remove one of the two",
            _ => "write key = value, with text, times and addresses in quotes",
        };
        document.report(line, format!("not TOML: {}", error.message()), instead, Severity::Error);
    }
    document.broken = document.problems.iter().map(|problem| problem.line).collect();

    let value = document.enter(String::new(), 0, root.into_inner(), walk);

    // So many are no slip of the pen, and to compare each with all that are known takes its time.
    for (name, line) in std::mem::take(&mut document.unknown).into_iter().take(MAX_LIST) {
        let instead = match document.nearest(&name) {
            Some(known) => format!("write {known}, the nearest known key, or remove it"),
            None => "remove it".to_owned(),
        };
        document.report(
            line,
            format!("{} is not a known key", name.escape_debug()),
            instead,
            Severity::Error,
        );
    }
    let mut problems = Problems(document.problems);
    problems.0.sort_by_key(|problem| problem.line);
    if problems.has_errors() { Err(problems) } else { Ok((value, problems)) }
}

/// `file`, absolute; symlinks are not followed, since Kubernetes swaps what they point to.
pub(crate) fn absolute(file: &Path) -> PathBuf {
    path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

/// What is known of the whole file while its tables are read.
struct TomlDocument {
    named: NamedFiles,
    file: PathBuf,
    /// What relative paths are relative to.
    folder: PathBuf,
    /// Where each newline is, in bytes.
    newlines: Vec<usize>,
    /// Lines that are not TOML.
    broken: HashSet<usize>,
    /// Full names of all keys that were asked for.
    known: BTreeSet<String>,
    /// Full names and lines of those that were not.
    unknown: Vec<(String, usize)>,
    problems: Vec<Problem>,
}

impl TomlDocument {
    /// Reads one table, and notes what is left in it.
    fn enter<'t, T>(
        &mut self,
        name: String,
        line: usize,
        entries: DeTable<'t>,
        walk: impl FnOnce(&mut Table<'_, 't>) -> T,
    ) -> T {
        let mut table = Table { document: self, name, line, entries, written: Vec::new() };
        let value = walk(&mut table);
        let (name, entries) = (table.name, table.entries);
        self.leave(&name, &entries);
        value
    }

    /// Notes what is left of a table, down to its leaves.
    fn leave(&mut self, table: &str, entries: &DeTable<'_>) {
        for (key, value) in entries {
            let name = full(table, key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) if !inner.is_empty() => self.leave(&name, inner),
                _ => self.unknown.push((name, self.line(key.span().start))),
            }
        }
    }

    fn report(&mut self, line: usize, what: String, instead: impl Into<String>, severity: Severity) {
        // What a broken line was taken for is not what its author meant: one complaint about it is enough.
        if !self.broken.contains(&line) {
            let (file, instead) = (self.file.clone(), instead.into());
            self.problems.push(Problem { file, line, what, instead, severity });
        }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.newlines.partition_point(|newline| *newline < offset)
    }

    /// The known key that is most likely meant: of the same name in another section, else the most alike.
    fn nearest(&self, unknown: &str) -> Option<&str> {
        // The time it takes to compare grows with the length, and nobody mistypes that much.
        let unknown: String = unknown.chars().take(100).collect();
        let likeness = |known: &&String| {
            let other_name = known.rsplit('.').next() != unknown.rsplit('.').next();
            (other_name, strsim::damerau_levenshtein(known, &unknown))
        };
        self.known.iter().min_by_key(likeness).map(String::as_str)
    }
}

/// A table that is being read. What is not written is none; so is what is wrong, once it has been reported.
pub(crate) struct Table<'d, 't> {
    document: &'d mut TomlDocument,
    name: String,
    line: usize,
    entries: DeTable<'t>,
    /// The keys that were asked for and found, with their lines.
    written: Vec<(&'static str, usize)>,
}

impl<'t> Table<'_, 't> {
    /// The value of `key`, made by `form`.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        form: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let (line, value) = self.take(key)?;
        self.judge(key, line, form(&value))
    }

    /// The value of `key`, or `default`.
    pub(crate) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        form: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> T {
        self.optional(key, form).unwrap_or(default)
    }

    /// The elements of a list of at least `least`; a single value is a list of one.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        least: usize,
        form: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let (line, value) = self.take(key)?;
        let DeValue::Array(elements) = value else {
            return self.judge(key, line, form(&value)).map(|only| vec![only]);
        };
        if !(least..=MAX_LIST).contains(&elements.len()) {
            let what = format!("has {} elements", elements.len());
            self.error(key, what, format!("write a list of {least} to {MAX_LIST}"));
            return None;
        }
        let judged: Vec<_> = elements
            .iter()
            .map(|element| self.judge(key, self.document.line(element.span().start), form(element.get_ref())))
            .collect();
        judged.into_iter().collect()
    }

    /// What `walk` makes of the table `key`. Where there is none it walks an empty one, so that its keys are
    /// known and its defaults stand in one place.
    pub(crate) fn table<T>(&mut self, key: &'static str, walk: impl FnOnce(&mut Table<'_, 't>) -> T) -> T {
        let (line, entries) = match self.take(key) {
            Some((line, DeValue::Table(entries))) => (line, entries),
            Some((_, other)) => {
                let section = full(&self.name, key);
                self.error(key, found(&other, "a table"), format!("write a section [{section}]"));
                (0, DeTable::new())
            }
            None => (0, DeTable::new()),
        };
        self.document.enter(full(&self.name, key), line, entries, walk)
    }

    /// What `walk` makes of each of the tables `[[key]]`, of which there may be `most`.
    pub(crate) fn tables<T>(
        &mut self,
        key: &'static str,
        most: usize,
        mut walk: impl FnMut(&mut Table<'_, 't>) -> T,
    ) -> Option<Vec<T>> {
        let instead = format!("write [[{key}]] above the keys of each");
        let elements = match self.take(key) {
            Some((_, DeValue::Array(elements))) if elements.len() <= most => elements,
            Some((_, DeValue::Array(elements))) => {
                self.error(key, format!("{} are written", elements.len()), format!("write at most {most}"));
                return None;
            }
            Some((_, other)) => {
                self.error(key, found(&other, "a list of tables"), instead);
                return None;
            }
            None => return None,
        };
        let mut made = Vec::new();
        for element in elements {
            let line = self.document.line(element.span().start);
            match element.into_inner() {
                DeValue::Table(entries) => {
                    made.push(self.document.enter(full(&self.name, key), line, entries, &mut walk));
                }
                other => {
                    self.judge::<T>(key, line, Err(Wrong::new(found(&other, "a table"), instead.as_str())));
                }
            }
        }
        Some(made)
    }

    /// A rate limit, `{ requests, per, burst }`. `per` is a minute and `burst` is `requests` unless written.
    pub(crate) fn rate(&mut self, key: &'static str) -> Option<Rate> {
        self.table(key, |t| t.rate_in())
    }

    /// The same of a source, with `records` and `log_per_day`, which follow from the requests unless written.
    pub(crate) fn source_rate(&mut self, key: &'static str) -> Option<SourceRate> {
        self.table(key, |t| {
            let records = t.optional("records", Self::count);
            let log_per_day = t.log_per_day("log_per_day", bounds::LEAST_LOG_PER_DAY);
            let rate = SourceRate::new(t.rate_in()?, records);
            Some(SourceRate { log_per_day: log_per_day.unwrap_or(rate.log_per_day), ..rate })
        })
    }

    /// Bytes of the log in a day, at least so many.
    pub(crate) fn log_per_day(&mut self, key: &'static str, least: u64) -> Option<u64> {
        let bytes = self.optional(key, size)?;
        if bytes < least {
            let least = least >> 10;
            self.error(
                key,
                format!("{bytes} bytes are less than the log may take of one message in half a day"),
                format!("write at least \"{least}KiB\""),
            );
        }
        Some(bytes)
    }

    fn rate_in(&mut self) -> Option<Rate> {
        const WRITE: &str = "write { requests = 60, per = \"1m\", burst = 30 }";
        let requests = self.optional("requests", Self::count);
        let per = self.or("per", Duration::from_secs(60), duration);
        let burst = self.optional("burst", Self::count);
        let Some(requests) = requests else {
            if self.is_written() && !self.has("requests") {
                self.error("requests", "is missing", WRITE);
            }
            return None;
        };
        if per.as_nanos() < u128::from(requests.get()) {
            self.error("requests", "allows more than one request a nanosecond", WRITE);
        }
        Some(Rate { requests, per, burst: burst.unwrap_or(requests) })
    }

    fn count(value: &DeValue<'_>) -> Result<NonZeroU32, Wrong> {
        let count = integer(0..=u64::from(u32::MAX), value)?;
        u32::try_from(count).ok().and_then(NonZeroU32::new).ok_or_else(|| {
            Wrong::new("a limit of 0 lets nobody through", "write 1 or more, or take the source off the list")
        })
    }

    /// A path that may be missing still.
    pub(crate) fn path(&mut self, key: &'static str, default: &str, kind: PathKind) -> PathBuf {
        let (line, value) = self.take(key).unwrap_or_else(|| (self.line, DeValue::String(default.into())));
        let named = self.document.named;
        let path = self.resolve(&value).and_then(|path| named.check(kind, path, false));
        self.judge(key, line, path).unwrap_or_default()
    }

    /// The path of something that must be there.
    pub(crate) fn existing(&mut self, key: &'static str, kind: PathKind) -> Option<PathBuf> {
        let (line, value) = self.take(key)?;
        let named = self.document.named;
        let path = self.resolve(&value).and_then(|path| named.check(kind, path, true));
        self.judge(key, line, path)
    }

    /// The path of what is neither a file nor a directory, which may be missing still; none if empty.
    pub(crate) fn place(&mut self, key: &'static str) -> Option<PathBuf> {
        let folder = self.document.folder.clone();
        let place = |value: &DeValue<'_>| {
            let path = text(value, WRITE_PATH)?;
            Ok((!path.trim().is_empty()).then(|| folder.join(path)))
        };
        self.optional(key, place).flatten()
    }

    /// At least `least` paths, of things that must be there or may be missing still.
    pub(crate) fn paths(
        &mut self,
        key: &'static str,
        least: usize,
        kind: PathKind,
        must_exist: bool,
    ) -> Option<Vec<PathBuf>> {
        let (folder, named) = (self.document.folder.clone(), self.document.named);
        self.list(key, least, |value| named.check(kind, folder.join(filled(value, WRITE_PATH)?), must_exist))
    }

    /// Whether `key` is written, right or wrong; it must have been asked for before.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.written.iter().any(|(written, _)| *written == key)
    }

    /// Whether the list of `key` is not written, or empty; not if it is wrong.
    pub(crate) fn lacks<T>(&self, key: &str, list: &Option<Vec<T>>) -> bool {
        list.as_ref().map_or_else(|| !self.has(key), Vec::is_empty)
    }

    /// Whether the table itself is written.
    pub(crate) fn is_written(&self) -> bool {
        self.line > 0
    }

    /// The line of `key`, where it is written, else that of the table.
    pub(crate) fn line(&self, key: &str) -> usize {
        self.written.iter().find(|(written, _)| *written == key).map_or(self.line, |(_, line)| *line)
    }

    /// Reports that `key` can't be as it is.
    pub(crate) fn error(&mut self, key: &str, what: impl AsRef<str>, instead: impl Into<String>) {
        self.say(key, what.as_ref(), instead, Severity::Error);
    }

    /// Reports what `key` means.
    pub(crate) fn warn(&mut self, key: &str, what: impl AsRef<str>, instead: impl Into<String>) {
        self.say(key, what.as_ref(), instead, Severity::Warning);
    }

    fn say(&mut self, key: &str, what: &str, instead: impl Into<String>, severity: Severity) {
        let (line, name) = (self.line(key), full(&self.name, key));
        self.document.report(line, format!("{name}: {what}"), instead, severity);
    }

    fn judge<T>(&mut self, key: &str, line: usize, value: Result<T, Wrong>) -> Option<T> {
        let wrong = match value {
            Ok(value) => return Some(value),
            Err(wrong) => wrong,
        };
        let what = format!("{}: {}", full(&self.name, key), wrong.what);
        self.document.report(line, what, wrong.instead, Severity::Error);
        None
    }

    fn resolve(&self, value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
        filled(value, WRITE_PATH).map(|path| self.document.folder.join(path))
    }

    fn take(&mut self, key: &'static str) -> Option<(usize, DeValue<'t>)> {
        self.document.known.insert(full(&self.name, key));
        let (name, value) = self.entries.remove_entry(key)?;
        let line = self.document.line(name.span().start);
        self.written.push((key, line));
        Some((line, value.into_inner()))
    }
}

const DENIED: &str = "run this as the user of the relay or as root, or let this user read it";
const WRITE_PATH: &str = "write a path in quotes, relative to this file or absolute";

/// What a path leads to.
#[derive(Clone, Copy)]
pub(crate) enum PathKind {
    /// A file that others may read.
    File,
    /// A file that nobody but its owner may read.
    Secret,
    /// A directory.
    Directory,
}

impl PathKind {
    fn check(self, path: PathBuf, must_exist: bool) -> Result<PathBuf, Wrong> {
        let shown = path.to_string_lossy().escape_debug().to_string();
        // A secret that somebody has written in place of its file is not told.
        let wait = (!matches!(self, Self::Secret)).then(|| waits::for_file(&path));
        let found = fs::metadata(&path);
        drop(wait);
        match found {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !must_exist => Ok(path),
            // Somebody may have written the secret in place of its file: it must not be printed.
            Err(_) if matches!(self, Self::Secret) && shown.contains(':') => Err(Wrong::new(
                "no such file can be read",
                "write the path of a file with the secret in it, not the secret",
            )),
            Err(e) => {
                let instead = match e.kind() {
                    io::ErrorKind::PermissionDenied => DENIED,
                    _ => "write the path of a file that is there, or make that one",
                };
                Err(Wrong::new(format!("{shown} can't be read: {e}"), instead))
            }
            Ok(found) => match self {
                Self::Directory if !found.is_dir() => {
                    Err(Wrong::new(format!("{shown} is not a directory"), "write the path of a directory"))
                }
                Self::File | Self::Secret if !found.is_file() => {
                    let what = regular::other_than_file(&found).unwrap_or("nothing that is known");
                    Err(Wrong::new(
                        format!("{shown} is no regular file, but {what}"),
                        "write the path of a file",
                    ))
                }
                Self::Secret if found.permissions().mode() & 0o077 != 0 => Err(Wrong::new(
                    format!("{shown} is open to others than its owner"),
                    format!("run chmod 600 {shown}"),
                )),
                _ => Ok(path),
            },
        }
    }
}

/// Why a value is refused, and what to write instead.
pub(crate) struct Wrong {
    what: String,
    instead: String,
}

impl Wrong {
    /// Plain words for both; `what` follows the name of the key and a colon.
    pub(crate) fn new(what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { what: what.into(), instead: instead.into() }
    }
}

/// Any text.
pub(crate) fn text<'v>(value: &'v DeValue<'_>, write: &str) -> Result<&'v str, Wrong> {
    value.as_str().ok_or_else(|| Wrong::new(found(value, "text in quotes"), write))
}

/// Text that is not empty.
pub(crate) fn filled<'v>(value: &'v DeValue<'_>, write: &str) -> Result<&'v str, Wrong> {
    let text = text(value, write)?;
    if text.trim().is_empty() { Err(Wrong::new("is empty", write)) } else { Ok(text) }
}

/// `true` or `false`.
pub(crate) fn boolean(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value
        .as_bool()
        .ok_or_else(|| Wrong::new(found(value, "true or false"), "write true or false, without quotes"))
}

/// A whole number in `range`.
pub(crate) fn integer(range: RangeInclusive<u64>, value: &DeValue<'_>) -> Result<u64, Wrong> {
    let write = || format!("write a whole number from {} to {}", range.start(), range.end());
    let integer = value.as_integer().ok_or_else(|| Wrong::new(found(value, "a whole number"), write()))?;
    match u64::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(Wrong::new(format!("{} is out of range", short(&integer.to_string())), write())),
    }
}

/// One of a few words.
pub(crate) fn one_of<T: Copy, const N: usize>(
    words: [(&str, T); N],
) -> impl FnOnce(&DeValue<'_>) -> Result<T, Wrong> {
    move |value| {
        let write = format!("write {}", words.map(|(word, _)| format!("{word:?}")).join(" or "));
        let text = text(value, &write)?;
        let meant = words.into_iter().find(|(word, _)| *word == text);
        meant
            .map(|(_, meaning)| meaning)
            .ok_or_else(|| Wrong::new(format!("{} is not known", quoted(text)), write))
    }
}

/// One of the small names; their errors complete "…, because it …".
pub(crate) fn name<T: FromStr<Err: Display>>(
    noun: &str,
    example: &str,
    value: &DeValue<'_>,
) -> Result<T, Wrong> {
    let write = format!("write {noun} in quotes, as in {example:?}");
    let text = text(value, &write)?;
    text.parse().map_err(|e| Wrong::new(format!("{} is not {noun}, because it {e}", quoted(text)), write))
}

/// An IP address and a port.
pub(crate) fn socket(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    const WRITE: &str = "write an IP address and a port in quotes, as in \"127.0.0.1:8888\" or \"[::]:8888\"";
    let text = text(value, WRITE)?;
    text.parse().map_err(|_| Wrong::new(format!("{} is not an IP address and a port", quoted(text)), WRITE))
}

/// A network, or an address as a network of one.
pub(crate) fn network(value: &DeValue<'_>) -> Result<IpNet, Wrong> {
    const WRITE: &str = "write an address and a prefix length in quotes, as in \"10.20.0.0/24\"";
    let text = text(value, WRITE)?;
    let network: IpNet = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| Wrong::new(format!("{} is not a network", quoted(text)), WRITE))?;
    if network.addr() != network.network() {
        return Err(Wrong::new(
            format!("{} has bits beyond its prefix", quoted(text)),
            format!(
                "write \"{}\" for the network, or \"{}\" for the address",
                network.trunc(),
                network.addr()
            ),
        ));
    }
    Ok(plain(network))
}

/// An IPv4 network that is written as IPv6 (RFC 4291 §2.5.5.2) as itself: the addresses of clients are compared as IPv4.
pub(crate) fn plain(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let IpNet::V6(mapped) = network else { return network };
    let (Some(address), Some(length)) =
        (mapped.addr().to_ipv4_mapped(), mapped.prefix_len().checked_sub(MAPPED))
    else {
        return network;
    };
    ipnet::Ipv4Net::new(address, length).map_or(network, IpNet::V4)
}

/// A time, from a millisecond to a day.
pub(crate) fn duration(value: &DeValue<'_>) -> Result<Duration, Wrong> {
    const WRITE: &str = "write a whole number and ms, s, m or h in quotes, from \"1ms\" to \"24h\"";
    let text = text(value, WRITE)?;
    let (number, unit) = measure(text);
    let milliseconds = match (number, unit) {
        (Some(number), "ms") => number,
        (Some(number), "s") => number.saturating_mul(1_000),
        (Some(number), "m") => number.saturating_mul(60_000),
        (Some(number), "h") => number.saturating_mul(3_600_000),
        _ => return Err(Wrong::new(format!("{} is not a time", quoted(text)), WRITE)),
    };
    match milliseconds {
        0 => Err(Wrong::new("is no time at all", WRITE)),
        1..=86_400_000 => Ok(Duration::from_millis(milliseconds)),
        _ => Err(Wrong::new(format!("{} is longer than a day", quoted(text)), WRITE)),
    }
}

/// A number of bytes, from 1 to 1 TiB.
pub(crate) fn size(value: &DeValue<'_>) -> Result<u64, Wrong> {
    const WRITE: &str =
        "write a number of bytes, or a whole number and KiB, MiB or GiB in quotes, as in \"64MiB\"";
    const MAX: u64 = 1 << 40;
    if value.is_integer() {
        return integer(1..=MAX, value);
    }
    let text = text(value, WRITE)?;
    let bytes = match measure(text) {
        (Some(number), "") => number,
        (Some(number), "KiB") => number.saturating_mul(1 << 10),
        (Some(number), "MiB") => number.saturating_mul(1 << 20),
        (Some(number), "GiB") => number.saturating_mul(1 << 30),
        _ => return Err(Wrong::new(format!("{} is not a size", quoted(text)), WRITE)),
    };
    match bytes {
        0 => Err(Wrong::new("is no size at all", WRITE)),
        1..=MAX => Ok(bytes),
        _ => Err(Wrong::new(format!("{} is more than 1024 GiB", quoted(text)), WRITE)),
    }
}

/// `text` from the file, fit for a message: in quotes, on one line, not too long.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", short(text))
}

/// A number of digits alone, and what follows it.
fn measure(text: &str) -> (Option<u64>, &str) {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    (number.parse().ok(), unit.trim())
}

fn short(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn found(value: &DeValue<'_>, needed: &str) -> String {
    let found = match value {
        DeValue::String(_) => "text in quotes",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("found {found} instead of {needed}")
}

fn full(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}
