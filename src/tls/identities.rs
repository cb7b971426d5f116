//! All faces of the relay: one for each terminated host, one for its own names, and one for clients that send no name;
//! all of them twice while a rotation is under way. Then a name that only one of the two issuers may sign for is served
//! below that one's root to everybody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use ipnet::IpNet;
use rustls::ServerConfig;

use super::authority::{Authority, Files};
use super::generations::{self, AuthorityState};
use super::leaf::{self, Face, LeafError};
use super::trust::TrustTable;
use crate::config::model::{Config, Identity, Mode, TlsVersion};
use crate::config::names::{Host, HostName};
use relay_log::text::hex::hex;

/// What is shown, to whom.
#[derive(Debug)]
pub struct Faces {
    current: Arc<Album>,
    /// The new leaves of a rotation, and the networks that are served them.
    next: Option<(Vec<IpNet>, Arc<Album>)>,
    trust: Arc<TrustTable>,
    /// The root, issuer and key were made just now.
    pub made: bool,
}

/// What is shown to one client for one name.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Whose leaves it shows.
    pub(super) face: Arc<Face>,
    /// The configuration of the handshake.
    pub config: Arc<ServerConfig>,
    /// The same without ALPN, for clients that offer only what is never selected: they are told in HTTP, not in an
    /// alert that they can't explain.
    pub config_without_alpn: Arc<ServerConfig>,
    /// The root above it, as in [`TrustTable`]; empty where the company's own PKI made the leaves.
    pub root: Arc<str>,
}

/// The faces below one root: those of the names that its issuer may sign for.
#[derive(Debug)]
struct Album {
    root: Arc<str>,
    /// The issuer; nobody where the company's own PKI made the leaves.
    issuer: Option<Arc<Authority>>,
    own_names: Vec<HostName>,
    /// For the relay's own names. It has DNS names alone: BoringSSL can't judge an address below name constraints, and
    /// refuses a leaf that has one, whichever name it asked for.
    named: Option<ServedFace>,
    /// For clients that send no name: the relay's own names and addresses.
    nameless: Option<ServedFace>,
    hosts: HashMap<HostName, ServedFace>,
}

/// Who signs leaves, and for which of the configured names.
#[derive(Debug)]
pub(crate) struct Signers {
    /// What is in force.
    pub(crate) current: Signer,
    /// What is tried, and the networks that are served its leaves.
    pub(crate) trial: Option<(Vec<IpNet>, Signer)>,
}

/// One authority, and the configured names that it may not sign for, each with what clients say of it.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) authority: Authority,
    pub(crate) refused: BTreeMap<Host, rustls::Error>,
}

#[derive(Clone, Debug)]
struct ServedFace {
    face: Arc<Face>,
    config: Arc<ServerConfig>,
    config_without_alpn: Arc<ServerConfig>,
}

impl Signers {
    /// Opens what is in force, and what is tried beside it.
    ///
    /// # Errors
    /// An authority can't be opened, or a name is one that none of them may sign for.
    pub(crate) fn open(
        files: Files<'_>,
        standing: AuthorityState,
        config: &Config,
    ) -> Result<Self, LeafError> {
        let names = names(config);
        let in_force = standing.in_force.unwrap_or_else(|| files.to_paths());
        let current = Signer::new(generations::open(files, &in_force)?, &names)?;
        let trial = match standing.trial? {
            Some(trial) => {
                let authority = Authority::open(trial.files.files())?;
                Some((trial.networks, Signer::new(authority, &names)?))
            }
            None => None,
        };
        let signers = Self { current, trial };
        match signers.refused() {
            Some((name, cause)) => {
                let is_tried = signers.trial.is_some();
                Err(LeafError::NotPermitted { name, cause, is_tried })
            }
            None => Ok(signers),
        }
    }

    /// A name that none of them may sign for.
    fn refused(&self) -> Option<(Host, rustls::Error)> {
        let tried = self.trial.as_ref().map(|(_, signer)| &signer.refused);
        let is_refused = |name: &Host| tried.is_none_or(|tried| tried.contains_key(name));
        let refused = self.current.refused.iter().find(|(name, _)| is_refused(name));
        refused.map(|(name, cause)| (name.clone(), cause.clone()))
    }
}

impl Signer {
    /// Finds out what an authority may sign for.
    ///
    /// # Errors
    /// A library refuses.
    pub(crate) fn new(authority: Authority, names: &BTreeSet<Host>) -> Result<Self, LeafError> {
        Ok(Self { refused: leaf::refused(&authority, names)?, authority })
    }
}

impl Faces {
    /// Makes the authority where there is none, and puts in order what a change of it that was cut off has left. The flag
    /// says that it was made.
    ///
    /// # Errors
    /// It can't be made, or what is missing can't be restored.
    pub fn prepare(config: &Config) -> Result<bool, LeafError> {
        match &config.tls.identity {
            Identity::Issuer { root, issuer, issuer_key } => {
                Ok(generations::prepare(Files { root, issuer, issuer_key }, &names(config))?)
            }
            Identity::Leaves(_) => Ok(false),
        }
    }

    /// Opens the authority and mints all leaves, those of a rotation too; or takes the company's own. A new root that can't
    /// be tried is told and left out. `made` says that the authority was made just now.
    ///
    /// # Errors
    /// The authority can't be opened, or doesn't permit a name.
    pub fn first(config: &Config, trust: Arc<TrustTable>, made: bool) -> Result<Self, LeafError> {
        let open = |files: Files<'_>| {
            let mut standing = generations::standing(files)?;
            if let Some(fault) = standing.leave_out_broken_trial() {
                tracing::warn!("the new root of the rotation is served to nobody: {fault}");
            }
            Signers::open(files, standing, config)
        };
        Self::of(config, trust, open, None).map(|faces| Self { made, ..faces })
    }

    /// The same in a running relay, where nothing is made, restored or left out. Leaves `known` to be for the same names are
    /// kept as long as their issuer is the same.
    ///
    /// # Errors
    /// As [`Self::first`].
    pub fn again(config: &Config, trust: Arc<TrustTable>, known: Option<&Self>) -> Result<Self, LeafError> {
        let open = |files: Files<'_>| match files.all().into_iter().find(|path| !path.exists()) {
            Some(lost) => Err(generations::lost_while_running(lost).into()),
            None => Signers::open(files, generations::standing(files)?, config),
        };
        Self::of(config, trust, open, known)
    }

    fn of(
        config: &Config,
        trust: Arc<TrustTable>,
        open: impl FnOnce(Files<'_>) -> Result<Signers, LeafError>,
        known: Option<&Self>,
    ) -> Result<Self, LeafError> {
        let (current, next) = match &config.tls.identity {
            Identity::Issuer { root, issuer, issuer_key } => {
                let Signers { current, trial } = open(Files { root, issuer, issuer_key })?;
                let album = |signer: Signer| match known.and_then(|known| known.album_of(&signer.authority)) {
                    Some(album) => Ok(album),
                    None => Album::mint(signer, config).map(Arc::new),
                };
                let next = trial.map(|(networks, signer)| Ok::<_, LeafError>((networks, album(signer)?)));
                (album(current)?, next.transpose()?)
            }
            Identity::Leaves(pairs) => (Arc::new(Album::load(pairs, config)?), None),
        };
        Ok(Self { current, next, trust, made: false })
    }

    fn album_of(&self, authority: &Authority) -> Option<Arc<Album>> {
        let is_its = |album: &&Arc<Album>| {
            album.issuer.as_ref().is_some_and(|issuer| issuer.chain() == authority.chain())
        };
        self.albums().find(is_its).cloned()
    }

    /// What is shown on the port itself: a terminated host's face (direct mode), the one of the relay's own names, or
    /// for clients that send no name (an address in the URI) the one that has its addresses too.
    pub fn choose(&self, sni: Option<&str>, client: IpAddr) -> Option<Chosen> {
        let Some(sni) = sni else { return self.shown(client, |album| album.nameless.as_ref()) };
        let name: HostName = sni.parse().ok()?;
        self.shown(client, |album| album.of_name(&name))
    }

    /// What is shown inside a tunnel to a terminated host.
    pub fn of_host(&self, host: &HostName, client: IpAddr) -> Option<Chosen> {
        self.shown(client, |album| album.hosts.get(host))
    }

    /// Which clients trust which root.
    pub(crate) fn trust(&self) -> &Arc<TrustTable> {
        &self.trust
    }

    /// Renews the leaves that are due. What can't be renewed stays, and is told.
    pub(crate) async fn freshen(&self) {
        for face in self.all() {
            face.freshen().await;
        }
    }

    /// Why clients with the same clock refuse a leaf that is shown, if they do.
    pub(crate) fn fault(&self, now: i64) -> Option<String> {
        self.all().find_map(|face| face.fault(now))
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Face>> {
        self.albums().flat_map(|album| {
            let own = album.named.iter().chain(&album.nameless);
            album.hosts.values().chain(own).map(|shown| &shown.face)
        })
    }

    fn albums(&self) -> impl Iterator<Item = &Arc<Album>> {
        [&self.current].into_iter().chain(self.next.as_ref().map(|(_, album)| album))
    }

    /// What a client is shown: from the album that is meant for it, or from the other one where only that has it.
    fn shown(&self, client: IpAddr, find: impl Fn(&Album) -> Option<&ServedFace>) -> Option<Chosen> {
        let chosen = |album: &Album| find(album).map(|shown| album.chosen(shown));
        match &self.next {
            Some((networks, next)) if networks.iter().any(|network| network.contains(&client)) => {
                chosen(next).or_else(|| chosen(&self.current))
            }
            Some((_, next)) => chosen(&self.current).or_else(|| chosen(next)),
            None => chosen(&self.current),
        }
    }
}

impl Album {
    fn mint(signer: Signer, config: &Config) -> Result<Self, LeafError> {
        let Signer { authority, refused } = signer;
        let authority = Arc::new(authority);
        let shown = |names: &[Host]| match names {
            [] => Ok(None),
            names => {
                ServedFace::new(Face::mint(&authority, names.to_vec())?, config.tls.min_version).map(Some)
            }
        };
        let permitted = |name: &&Host| !refused.contains_key(*name);
        let own: Vec<Host> = config.listen.hostnames.iter().filter(permitted).cloned().collect();
        let nameless = shown(&own)?;
        let dns: Vec<Host> = own.iter().filter(|name| matches!(name, Host::Name(_))).cloned().collect();
        let named = if dns == own { nameless.clone() } else { shown(&dns)? };
        let mut hosts = HashMap::new();
        for host in terminated(config) {
            let name = Host::Name(host.clone());
            if permitted(&&name) {
                hosts.extend(shown(&[name])?.map(|shown| (host.clone(), shown)));
            }
        }
        let root = fingerprint(authority.root_der()).into();
        Ok(Self { root, issuer: Some(authority), own_names: host_names(&dns), named, nameless, hosts })
    }

    fn load(pairs: &[(std::path::PathBuf, std::path::PathBuf)], config: &Config) -> Result<Self, LeafError> {
        let face = Face::load(pairs, &names(config))?;
        let mut hosts = HashMap::new();
        for host in terminated(config) {
            hosts.insert(host.clone(), ServedFace::new(face.clone(), config.tls.min_version)?);
        }
        let named = Some(ServedFace::new(face, config.tls.min_version)?);
        let own_names = host_names(&config.listen.hostnames);
        Ok(Self { root: "".into(), issuer: None, own_names, nameless: named.clone(), named, hosts })
    }

    /// The face for a name that a client sends.
    fn of_name(&self, name: &HostName) -> Option<&ServedFace> {
        let own = || self.named.as_ref().filter(|_| self.own_names.contains(name));
        self.hosts.get(name).or_else(own)
    }

    fn chosen(&self, shown: &ServedFace) -> Chosen {
        Chosen {
            face: shown.face.clone(),
            config: shown.config.clone(),
            config_without_alpn: shown.config_without_alpn.clone(),
            root: self.root.clone(),
        }
    }
}

impl ServedFace {
    fn new(face: Arc<Face>, oldest: TlsVersion) -> Result<Self, LeafError> {
        let config = face.clone().server_config(oldest)?;
        let mut without = ServerConfig::clone(&config);
        without.alpn_protocols.clear();
        Ok(Self { face, config, config_without_alpn: Arc::new(without) })
    }
}

/// The names an authority is made for: the terminated hosts and the relay's own.
pub fn names(config: &Config) -> BTreeSet<Host> {
    let hosts = terminated(config).map(|host| Host::Name(host.clone()));
    hosts.chain(config.listen.hostnames.iter().cloned()).collect()
}

fn host_names(hosts: &[Host]) -> Vec<HostName> {
    let names = hosts.iter().filter_map(|host| match host {
        Host::Name(name) => Some(name.clone()),
        Host::Address(_) => None,
    });
    names.collect()
}

/// A root by the first 16 hex digits of its SHA-256.
pub fn fingerprint(root: &[u8]) -> String {
    hex(&digest(&SHA256, root).as_ref()[..8])
}

fn terminated(config: &Config) -> impl Iterator<Item = &HostName> {
    config.destinations.iter().filter(|to| to.mode == Mode::Terminate).map(|to| &to.host)
}
