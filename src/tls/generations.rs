//! The authority as it lies on disk: whole generations, and one link that says which of them is in force.
//!
//! Beside the configured root lies `generations/`, with a folder for each generation (root, issuer, key, and what they
//! were made for) and the link `current`. The configured paths are links through `current`, so that one rename of it
//! changes all three at once, and whoever reads the configured paths finds what is in force. Files that lie there instead
//! of links are used as they are: those of the company's own PKI, and those from before there were generations. They
//! become a generation when a rotation begins.
//!
//! `rotation.json` names the generation that is tried. Everything with a higher number than the one in force that is
//! not tried and never was in force is left over from a crash; lower numbers were in force once, and lose their keys. All changes are made
//! under the lock of `generations/`, and each leaves at any moment what a start can use.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Serialize;

use super::authority::{Authority, AuthorityError, FilePaths, Files, Pem, SecretPem, io_error};
use super::constraints::Reach;
use super::former;
use super::rotation::{self, Rotation, RotationFile};
use crate::config::names::Host;
use relay_log::files::edit::{Fault, folder_of};
use relay_log::files::folder::{self, Folder};
use relay_log::files::private::write_private;

/// The link in `generations/` that says what is in force.
const CURRENT: &str = "current";
const ROOT: &str = "root.pem";
const ISSUER: &str = "issuer.pem";
const ISSUER_KEY: &str = "issuer.key";
const MADE: &str = "made.json";
/// The mark of a generation that is or was in force: clients may trust its root.
const IN_FORCE: &str = "in-force";

/// Where the generations of an authority lie.
#[derive(Clone, Debug)]
struct Generations<'a> {
    files: Files<'a>,
    path: PathBuf,
}

/// What is in force and what is tried beside it, read without changing anything.
#[derive(Debug)]
pub(crate) struct AuthorityState {
    /// Where the files in force lie; `None` before the first start.
    pub(crate) in_force: Option<FilePaths>,
    /// The new root that is tried, or why it can't be.
    pub(crate) trial: Result<Option<Trial>, AuthorityError>,
    /// Nothing is to be completed, restored or taken away.
    pub(crate) is_settled: bool,
}

/// A new authority that some clients are served the leaves of.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    /// Where it lies.
    pub(crate) files: FilePaths,
    /// Those clients.
    pub(crate) networks: Vec<IpNet>,
}

/// The right to change the authority, which nobody else has as long as this lives.
#[derive(Debug)]
pub(crate) struct AuthorityChange<'a> {
    generations: Generations<'a>,
    folder: Folder,
    trial: Option<(u64, Rotation)>,
    /// A finish had been cut off after the switch, and is complete now.
    pub(crate) has_completed_finish: bool,
}

/// What lies at the configured paths.
enum ConfiguredFiles {
    /// Nothing, and there is no generation: a first start makes all.
    Nothing,
    /// Files, or as much as there is of them.
    Configured,
    /// Some are missing, and this generation has them.
    Restorable(u64),
}

/// What a generation is, for people; it is never read.
#[derive(Serialize)]
struct Made {
    names: Vec<String>,
    time: jiff::Timestamp,
    version: &'static str,
    /// It was not made here: the files were those of the own PKI, or from before there were generations.
    adopted: bool,
}

/// How things stand.
///
/// # Errors
/// The folder can't be read, or nothing says what is in force.
pub(crate) fn standing(files: Files<'_>) -> Result<AuthorityState, AuthorityError> {
    Generations::of(files).standing()
}

/// Makes the authority where there is none, and completes or undoes what was cut off. The flag says that it was made.
///
/// # Errors
/// It can't be made, or what is missing can't be restored. What is whole and can't be put in order is only told.
pub(crate) fn prepare(files: Files<'_>, names: &BTreeSet<Host>) -> Result<bool, AuthorityError> {
    let standing = standing(files)?;
    Generations::of(files).warn_of_newer();
    if standing.is_settled {
        return Ok(false);
    }
    match AuthorityChange::begin(files).and_then(|change| change.first(names, None)) {
        Err(e) if standing.in_force.is_some_and(|paths| Authority::open(paths.files()).is_ok()) => {
            tracing::warn!(
                "what a change of the root left can't be put in order, and the relay starts all the same: {e}"
            );
            Ok(false)
        }
        made => made,
    }
}

/// What a running relay says of a configured file that is gone. Only a start restores it: whoever took it away may be about
/// to put another one there.
pub(crate) fn lost_while_running(path: &Path) -> AuthorityError {
    let fault = "is gone; put it back, or restart the relay, which restores it where it can";
    AuthorityError::Lost { path: path.to_owned(), fault: fault.to_owned() }
}

/// What is watched for a change, beside the configured paths.
pub(crate) fn watched(files: Files<'_>) -> Vec<PathBuf> {
    let generations = Generations::of(files);
    let mut watched = vec![rotation::path(files)];
    if generations.path.is_dir() {
        // The link itself can't be read, but the events of its folder tell at once that it was swapped.
        watched.push(generations.path.join(CURRENT));
    }
    if let Ok(AuthorityState { trial: Ok(Some(trial)), .. }) = generations.standing() {
        watched.extend(trial.files.files().all().map(Path::to_owned));
    } else if let Ok(RotationFile::Now(Rotation { next: Some(next), .. })) = rotation::read(files) {
        watched.extend(generations.at(next).files().all().map(Path::to_owned));
    }
    watched
}

/// Opens the authority in force. A switch while it is read is no fault.
///
/// # Errors
/// As [`Authority::open`].
pub(crate) fn open(files: Files<'_>, in_force: &FilePaths) -> Result<Authority, AuthorityError> {
    let generations = Generations::of(files);
    let before = generations.current();
    match Authority::open(in_force.files()) {
        Err(_) if generations.current() != before => Authority::open(in_force.files()),
        opened => opened,
    }
}

impl AuthorityState {
    /// Goes on without a new root that can't be tried; why it can't.
    pub(crate) fn leave_out_broken_trial(&mut self) -> Option<AuthorityError> {
        let opened = match std::mem::replace(&mut self.trial, Ok(None)) {
            Ok(None) => return None,
            Ok(Some(trial)) => Authority::open(trial.files.files()).map(|_| trial),
            Err(e) => Err(e),
        };
        match opened {
            Ok(trial) => {
                self.trial = Ok(Some(trial));
                None
            }
            Err(e) => Some(e),
        }
    }
}

impl<'a> Generations<'a> {
    fn of(files: Files<'a>) -> Self {
        Self { files, path: files.root.with_file_name("generations") }
    }

    /// The files of a generation.
    fn at(&self, number: u64) -> FilePaths {
        let folder = self.path.join(number.to_string());
        FilePaths {
            root: folder.join(ROOT),
            issuer: folder.join(ISSUER),
            issuer_key: folder.join(ISSUER_KEY),
        }
    }

    /// The generation that the link says is in force.
    fn current(&self) -> Option<u64> {
        fs::read_link(self.path.join(CURRENT)).ok()?.to_str()?.parse().ok()
    }

    fn is_whole(&self, number: u64) -> bool {
        self.at(number).files().all().iter().all(|path| path.is_file())
    }

    /// Whether a generation has the mark; also where that can't be found out.
    fn was_in_force(&self, number: u64) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound};
        let mark = fs::symlink_metadata(self.path.join(number.to_string()).join(IN_FORCE));
        !mark.is_err_and(|e| matches!(e.kind(), NotFound | NotADirectory))
    }

    /// Says that a newer generation than the one in force was in force once.
    fn warn_of_newer(&self) {
        let Some(current) = self.current() else { return };
        let all = self.all().unwrap_or_default();
        if let Some(newer) = all.into_iter().rfind(|number| *number > current && self.was_in_force(*number)) {
            tracing::warn!(
                "generation {current} of the root and issuer is in force, and {newer} was after it, as a backup may have \
                 turned {link} back; if clients trust the root in {folder}, run: ln -sfn {newer} {link}",
                link = self.path.join(CURRENT).display(),
                folder = self.path.join(newer.to_string()).display(),
            );
        }
    }

    /// The numbers of all generations, the lowest first.
    fn all(&self) -> Result<BTreeSet<u64>, AuthorityError> {
        let read = |entry: io::Result<fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
        };
        match fs::read_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            entries => entries
                .and_then(|entries| entries.map(read).filter_map(Result::transpose).collect())
                .map_err(|e| io_error(&self.path, e)),
        }
    }

    fn standing(&self) -> Result<AuthorityState, AuthorityError> {
        let written = rotation::read(self.files);
        if let Ok(RotationFile::Former(former::FormerRotation { under_way: true, networks, .. })) = &written {
            let is_finishing = former::FormerRotation::is_finishing(self.files);
            let trial = Trial { files: former::next_to(self.files), networks: networks.clone() };
            return Ok(AuthorityState {
                in_force: Some(former::FormerRotation::in_force(self.files)),
                trial: Ok((!is_finishing).then_some(trial)),
                is_settled: false,
            });
        }
        let (in_force, is_found) = match self.found()? {
            ConfiguredFiles::Nothing => (None, false),
            ConfiguredFiles::Configured => (Some(self.files.to_paths()), true),
            ConfiguredFiles::Restorable(number) => (Some(self.with_missing_from(number)), false),
        };
        let current = self.current();
        let (trial, is_over) = match written {
            Ok(RotationFile::Now(Rotation { next: Some(next), networks })) if Some(next) != current => {
                (self.trial(next, networks).map(Some), false)
            }
            Ok(RotationFile::Now(Rotation { next, .. })) => (Ok(None), next.is_some()),
            Ok(RotationFile::Former(_)) => (Ok(None), false),
            Err(cause) => (Err(io_error(&rotation::path(self.files), cause)), false),
        };
        let is_settled =
            is_found && !is_over && self.left_over()?.is_empty() && !folder::has_left_overs(&self.path);
        Ok(AuthorityState { in_force, trial, is_settled })
    }

    fn trial(&self, next: u64, networks: Vec<IpNet>) -> Result<Trial, AuthorityError> {
        let files = self.at(next);
        if let Some(path) = files.files().all().into_iter().find(|path| !path.exists()) {
            let fault = "is gone, and belongs to the new root of a rotation; restore it, or end the rotation: \
                         license-relay ca rotate --abort";
            return Err(AuthorityError::Lost { path: path.to_owned(), fault: fault.to_owned() });
        }
        Ok(Trial { files, networks })
    }

    fn found(&self) -> Result<ConfiguredFiles, AuthorityError> {
        let configured = self.files.all();
        if configured.iter().all(|path| path.exists()) {
            return Ok(ConfiguredFiles::Configured);
        }
        self.check_current()?;
        let generations = self.all()?;
        let whole: Vec<u64> = generations.iter().copied().filter(|number| self.is_whole(*number)).collect();
        let candidate = match (self.current(), whole.as_slice()) {
            (Some(current), _) if whole.contains(&current) => Some(current),
            (_, []) => None,
            (None, [only]) => Some(*only),
            (Some(current), others) => {
                return Err(self.lost_current(format!(
                    "leads to generation {current}, of which files are gone; restore them from a copy, or put one that is \
                     whole ({}) into force, if the clients trust its root: ln -sfn NUMBER {}",
                    listed(others),
                    self.path.join(CURRENT).display()
                )));
            }
            (None, several) => {
                return Err(self.lost_current(format!(
                    "the link that says which generation is in force is gone, and there are several ({}); put it back: \
                     ln -s NUMBER {}",
                    listed(several),
                    self.path.join(CURRENT).display()
                )));
            }
        };
        if let Some(number) = candidate
            && self.agrees_with_what_is_there(number)
        {
            return Ok(ConfiguredFiles::Restorable(number));
        }
        let is_absent =
            |path: &&Path| fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        if generations.is_empty() && configured.iter().all(is_absent) {
            return Ok(ConfiguredFiles::Nothing);
        }
        if configured.iter().any(|path| path.exists()) {
            return Ok(ConfiguredFiles::Configured);
        }
        let fault = format!(
            "is gone, and {} has no whole generation to restore it from; restore both from a copy, or move what is left \
             away to have a new root and issuer made (clients must then trust the new root)",
            self.path.display()
        );
        Err(AuthorityError::Lost { path: self.files.root.to_owned(), fault })
    }

    /// Refuses what lies in the place of the link `current` and is none: no link can be put there.
    fn check_current(&self) -> Result<(), AuthorityError> {
        match fs::symlink_metadata(self.path.join(CURRENT)) {
            Ok(found) if !found.is_symlink() => Err(self.lost_current(
                "is no link, as after a copy that has followed links; move it away, and run this again"
                    .into(),
            )),
            _ => Ok(()),
        }
    }

    fn lost_current(&self, fault: String) -> AuthorityError {
        AuthorityError::Lost { path: self.path.join(CURRENT), fault }
    }

    /// Whether what is left at the configured paths is what a generation holds.
    fn agrees_with_what_is_there(&self, number: u64) -> bool {
        let same = |own: &Path, its: &Path| !own.exists() || is_same(own, its);
        self.files.all().into_iter().zip(self.at(number).files().all()).all(|(own, its)| same(own, its))
    }

    fn with_missing_from(&self, number: u64) -> FilePaths {
        let its = self.at(number);
        let of = |own: &Path, its: PathBuf| if own.exists() { own.to_owned() } else { its };
        FilePaths {
            root: of(self.files.root, its.root),
            issuer: of(self.files.issuer, its.issuer),
            issuer_key: of(self.files.issuer_key, its.issuer_key),
        }
    }

    /// The generations that a crash left over, and those that were in force once and have their keys still. While it is
    /// not sure what is in force and what is tried, nothing is.
    fn left_over(&self) -> Result<Vec<LeftOver>, AuthorityError> {
        let Some(current) = self.current().filter(|current| self.is_whole(*current)) else {
            return Ok(Vec::new());
        };
        let tried = match rotation::read(self.files) {
            Ok(RotationFile::Now(rotation)) => rotation.next,
            Ok(RotationFile::Former(former)) if !former.under_way => None,
            _ => return Ok(Vec::new()),
        };
        let others = self.all()?.into_iter().filter(|number| *number != current && Some(*number) != tried);
        let of = |number: u64| match number {
            _ if number > current && self.was_in_force(number) => None,
            _ if number > current => Some(LeftOver::Generation(number)),
            _ if self.at(number).issuer_key.exists() => Some(LeftOver::Key(number)),
            _ => None,
        };
        let former = former::next_to(self.files);
        let moved = former.files().all().into_iter().filter(|path| path.is_file()).map(Path::to_owned);
        Ok(others.filter_map(of).chain(moved.map(LeftOver::Moved)).collect())
    }

    /// Whether a configured path is a link through `current`.
    fn leads_through_current(&self, path: &Path, name: &str) -> bool {
        let leads = || {
            let target = fs::canonicalize(folder_of(path)).ok()?.join(fs::read_link(path).ok()?);
            let current = target.parent()?;
            let is_named = target.file_name()? == name && current.file_name()? == CURRENT;
            let is_here = fs::canonicalize(current.parent()?).ok()? == fs::canonicalize(&self.path).ok()?;
            Some(is_named && is_here)
        };
        leads().unwrap_or(false)
    }
}

/// What nobody needs any more.
enum LeftOver {
    /// One that never was in force, and is not tried.
    Generation(u64),
    /// The key of one that was in force once.
    Key(u64),
    /// A file of a former rotation, which is a generation now.
    Moved(PathBuf),
}

impl<'a> AuthorityChange<'a> {
    /// Takes the lock, and completes or undoes what was cut off.
    ///
    /// # Errors
    /// The lock can't be had, or the system refuses.
    pub(crate) fn begin(files: Files<'a>) -> Result<Self, AuthorityError> {
        let generations = Generations::of(files);
        let folder = Folder::lock(&generations.path).map_err(|e| io_error(&generations.path, e))?;
        generations.check_current()?;
        let mut change = Self { generations, folder, trial: None, has_completed_finish: false };
        change.settle()?;
        Ok(change)
    }

    /// Whether a new root is tried.
    pub(crate) fn is_under_way(&self) -> bool {
        self.trial.is_some()
    }

    /// The networks that are served the new leaves.
    pub(crate) fn networks(&self) -> &[IpNet] {
        self.trial.as_ref().map_or(&[], |(_, rotation)| &rotation.networks)
    }

    /// Makes the first generation where there is nothing. The flag says that it was made.
    ///
    /// # Errors
    /// It can't be made, or the root's key can't be kept where that is wanted.
    pub(crate) fn first(
        self,
        names: &BTreeSet<Host>,
        root_key: Option<&Path>,
    ) -> Result<bool, AuthorityError> {
        if !matches!(self.generations.found()?, ConfiguredFiles::Nothing) {
            return Ok(false);
        }
        let mut kept = None;
        let keep = |key: &SecretPem| {
            let Some(path) = root_key else { return Ok(()) };
            let written = self.keep_root_key(path, key);
            kept = match &written {
                Err(AuthorityError::Io { cause, .. }) if !Fault::is_written(cause) => None,
                Err(AuthorityError::Unfit { .. }) => None,
                _ => Some(path),
            };
            written
        };
        let added = Authority::make(names, keep)
            .and_then(|pem| self.add(&pem, names.iter().map(Host::to_string), false));
        if let (Err(_), Some(path)) = (&added, kept)
            && self.generations.all().is_ok_and(|generations| generations.is_empty())
        {
            // The key of a root that nobody has would be in the way of the next try.
            let name = Path::new(path.file_name().unwrap_or_default());
            let _ = self.folder_of(path).map(|folder| folder.remove_file(name));
        }
        self.switch(added?)?;
        self.link_configured()?;
        Ok(true)
    }

    fn keep_root_key(&self, path: &Path, key: &SecretPem) -> Result<(), AuthorityError> {
        let unfit = |fault: &str| AuthorityError::Unfit { path: path.to_owned(), fault: fault.to_owned() };
        write_private(path, key.0.as_bytes()).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => {
                unfit("is there already; name another file for the root's key, or move this one away")
            }
            _ => io_error(path, e),
        })?;
        match self.generations.found() {
            Ok(ConfiguredFiles::Nothing) => Ok(()),
            // A link would take its place.
            _ => {
                fs::remove_file(path).map_err(|e| io_error(path, e))?;
                Err(unfit(
                    "is the place of a file of tls.root, tls.issuer or tls.issuer_key; name another for the root's key",
                ))
            }
        }
    }

    /// Makes a new root and issuer beside those in force.
    ///
    /// # Errors
    /// What is in force can't be used, or the system refuses.
    pub(crate) fn rotate(&self, names: &BTreeSet<Host>) -> Result<FilePaths, AuthorityError> {
        self.adopt(&self.generations.files.to_paths())?;
        let next =
            self.add(&Authority::make(names, |_| Ok(()))?, names.iter().map(Host::to_string), false)?;
        self.write(&Rotation { next: Some(next), networks: Vec::new() })?;
        Ok(self.generations.at(next))
    }

    /// Serves the new leaves to these networks too.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn add_networks(&mut self, networks: Vec<IpNet>) -> Result<(), AuthorityError> {
        let Some((_, rotation)) = &mut self.trial else { return Ok(()) };
        for network in networks {
            if !rotation.networks.contains(&network) {
                rotation.networks.push(network);
            }
        }
        let rotation = rotation.clone();
        self.write(&rotation)
    }

    /// Puts the new generation into force. The former one keeps root and issuer, for the record; its key goes once the
    /// switch is durable.
    ///
    /// # Errors
    /// The new generation can't be used, or the system refuses.
    pub(crate) fn finish(&self) -> Result<(), AuthorityError> {
        let Some((next, _)) = &self.trial else { return Ok(()) };
        Authority::open(self.generations.at(*next).files())?;
        // All three must lead through the link, or the switch would not be one.
        self.adopt(&self.generations.files.to_paths())?;
        self.switch(*next)?;
        self.write(&Rotation::default())?;
        self.clear()
    }

    /// Takes the new generation away.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn abort(&self) -> Result<(), AuthorityError> {
        // First the relay lets go of the new files, then they go.
        self.write(&Rotation::default())?;
        self.clear()
    }

    fn settle(&mut self) -> Result<(), AuthorityError> {
        let files = self.generations.files;
        let path = rotation::path(files);
        let mut rotation = match rotation::read(files).map_err(|e| io_error(&path, e))? {
            RotationFile::Now(rotation) => rotation,
            RotationFile::Former(former) if former.under_way => {
                self.has_completed_finish = former::FormerRotation::is_finishing(files);
                self.convert(former)?
            }
            RotationFile::Former(_) => Rotation::default(),
        };
        if let ConfiguredFiles::Restorable(number) = self.generations.found()? {
            if self.generations.current() != Some(number) {
                self.switch(number)?;
            }
            self.link_configured()?;
        }
        if rotation.next.is_some() && rotation.next == self.generations.current() {
            rotation = Rotation::default();
            self.has_completed_finish = true;
            self.write(&rotation)?;
        }
        self.clear()?;
        self.trial = rotation.next.map(|next| (next, rotation));
        Ok(())
    }

    /// Moves a rotation of the former layout.
    fn convert(&self, former: former::FormerRotation) -> Result<Rotation, AuthorityError> {
        let files = self.generations.files;
        let next = former::next_to(files);
        let is_finishing = former::FormerRotation::is_finishing(files);
        self.adopt(&former::FormerRotation::in_force(files))?;
        let mut rotation = Rotation { next: None, networks: former.networks };
        if is_finishing {
            rotation.networks.clear();
        } else {
            rotation.next = Some(self.take_over(next.files())?);
        }
        self.write(&rotation)?;
        Ok(rotation)
    }

    /// Makes what is in force the generation in force, where it is not: at every moment the same is found at the configured
    /// paths.
    fn adopt(&self, in_force: &FilePaths) -> Result<(), AuthorityError> {
        let files = in_force.files();
        let is_current = |current: u64| {
            self.generations
                .at(current)
                .files()
                .all()
                .into_iter()
                .zip(files.all())
                .all(|(its, own)| is_same(its, own))
        };
        if !self.generations.current().is_some_and(is_current) {
            let number = self.take_over(files)?;
            self.switch(number)?;
        }
        self.link_configured()
    }

    /// Makes a generation of files that lie elsewhere.
    fn take_over(&self, files: Files<'_>) -> Result<u64, AuthorityError> {
        Authority::open(files)?;
        let names = Reach::of_pem(files.issuer)?.permitted();
        let user = self.folder.user().map_err(|e| io_error(&self.generations.path, e))?;
        self.add(&Pem::read_for(files, user)?, names.into_iter(), true)
    }

    fn add(
        &self,
        pem: &Pem,
        names: impl Iterator<Item = String>,
        adopted: bool,
    ) -> Result<u64, AuthorityError> {
        let last = self.generations.all()?.last().copied().unwrap_or_default();
        let number = last.saturating_add(1);
        let (time, version) = (jiff::Timestamp::now(), env!("CARGO_PKG_VERSION"));
        let made = Made { names: names.collect(), time, version, adopted };
        let made =
            serde_json::to_vec_pretty(&made).map_err(|e| io_error(&self.generations.path, e.into()))?;
        let files = [
            (ISSUER_KEY, pem.issuer_key.0.as_bytes(), 0o600),
            (ISSUER, pem.issuer.as_slice(), 0o644),
            (ROOT, pem.root.as_slice(), 0o644),
            (MADE, made.as_slice(), 0o600),
        ];
        let added = self.folder.add(&number.to_string(), &files);
        added.map_err(|e| io_error(&self.generations.path.join(number.to_string()), e))?;
        Ok(number)
    }

    /// Puts a generation into force: the one step that does. It is marked before, so that nothing takes it for one that a
    /// crash left over, also where a backup turns the link back.
    fn switch(&self, number: u64) -> Result<(), AuthorityError> {
        let folder = self.generations.path.join(number.to_string());
        self.folder.mark(Path::new(&number.to_string()), IN_FORCE).map_err(|e| io_error(&folder, e))?;
        let linked = self.folder.link(OsStr::new(CURRENT), Path::new(&number.to_string()));
        linked.map_err(|e| io_error(&self.generations.path.join(CURRENT), e))
    }

    /// Makes the configured paths lead through the link; the root last, as nobody can have it before it is there.
    fn link_configured(&self) -> Result<(), AuthorityError> {
        for (path, name) in self.generations.files.all().into_iter().zip([ISSUER_KEY, ISSUER, ROOT]) {
            if self.generations.leads_through_current(path, name) {
                continue;
            }
            let folder = self.folder_of(path)?;
            let through = Path::new(CURRENT).join(name);
            // Relative where they lie side by side, so that the whole folder can be moved.
            let target = match self.folder.path().strip_prefix(folder.path()) {
                Ok(beside) => beside.join(through),
                Err(_) => self.folder.path().join(through),
            };
            let name = path.file_name().unwrap_or_default();
            folder.link(name, &target).map_err(|e| io_error(path, e))?;
        }
        Ok(())
    }

    fn folder_of(&self, path: &Path) -> Result<Folder, AuthorityError> {
        Folder::lock(folder_of(path)).map_err(|e| io_error(folder_of(path), e))
    }

    fn write(&self, rotation: &Rotation) -> Result<(), AuthorityError> {
        let files = self.generations.files;
        rotation.write(files).map_err(|e| io_error(&rotation::path(files), e))
    }

    /// Takes away what is left over, once what is in force is durable.
    fn clear(&self) -> Result<(), AuthorityError> {
        let left_over = self.generations.left_over()?;
        if left_over.is_empty() {
            return Ok(());
        }
        self.folder.sync().map_err(|e| io_error(&self.generations.path, e))?;
        for left_over in left_over {
            let (path, removed) = match left_over {
                LeftOver::Generation(number) => {
                    let name = number.to_string();
                    (self.generations.path.join(&name), self.folder.remove_folder(Path::new(&name)))
                }
                LeftOver::Key(number) => {
                    let removed = self.folder.remove_file_of(Path::new(&number.to_string()), ISSUER_KEY);
                    (self.generations.at(number).issuer_key, removed)
                }
                LeftOver::Moved(path) => {
                    let name = path.file_name().unwrap_or_default();
                    let removed = self.folder_of(&path)?.remove_file(Path::new(name));
                    (path, removed)
                }
            };
            removed.map_err(|e| io_error(&path, e))?;
        }
        Ok(())
    }
}

fn listed(numbers: &[u64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether two files hold the same; not where one can't be read.
fn is_same(one: &Path, other: &Path) -> bool {
    let read = |path| relay_log::files::regular::read(path);
    matches!((read(one), read(other)), (Ok(one), Ok(other)) if one == other)
}
