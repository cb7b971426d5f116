//! All faces of the relay: one for each terminated host, one for its own names, and one for clients that send no name;
//! all of them twice while a rotation is under way.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use ipnet::IpNet;
use rustls::ServerConfig;

use super::authority::{Authority, AuthorityError, Files};
use super::leaf::{Face, LeafError};
use super::rotation::{FilePaths, Rotation};
use super::trust::Trust;
use crate::config::model::{Config, Identity, Mode, TlsVersion};
use crate::config::names::{Host, HostName};
use crate::ledger::record::hex;

/// What is shown, to whom.
#[derive(Debug)]
pub struct Faces {
    current: Album,
    /// The new leaves of a rotation, and the networks that are served them.
    next: Option<(Vec<IpNet>, Album)>,
    own_names: Vec<HostName>,
    trust: Arc<Trust>,
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
    /// The root above it, as in [`Trust`]; empty where the company's own PKI made the leaves.
    pub root: Arc<str>,
}

/// The faces below one root.
#[derive(Debug)]
struct Album {
    root: Arc<str>,
    /// For the relay's own names. It has DNS names alone: BoringSSL can't judge an address below name constraints, and
    /// refuses a leaf that has one, whichever name it asked for.
    named: Shown,
    /// For clients that send no name: the relay's own names and addresses.
    nameless: Shown,
    hosts: HashMap<HostName, Shown>,
}

#[derive(Clone, Debug)]
struct Shown {
    face: Arc<Face>,
    config: Arc<ServerConfig>,
    config_without_alpn: Arc<ServerConfig>,
}

impl Faces {
    /// Opens the authority, or makes it where that is wanted and nothing of it is there, and mints all leaves, those of a
    /// rotation too; or takes the company's own.
    ///
    /// # Errors
    /// The authority can't be opened or made, or doesn't permit a name.
    pub fn new(config: &Config, trust: Arc<Trust>, make: bool) -> Result<Self, LeafError> {
        let own_names = config.listen.hostnames.iter().filter_map(|host| match host {
            Host::Name(name) => Some(name.clone()),
            Host::Address(_) => None,
        });
        let own_names = own_names.collect();
        match &config.tls.identity {
            Identity::Issuer { root, issuer, issuer_key } => {
                let files = Files { root, issuer, issuer_key };
                let rotation = Rotation::read(files)
                    .map_err(|cause| AuthorityError::Io { path: Rotation::path(files), cause })?;
                let in_force = rotation.in_force(files);
                let finishing = rotation.is_finishing(files);
                if finishing {
                    tracing::warn!(
                        "a rotation of the root was cut off while it was finished; the new root is in force, as {}; run: \
                         license-relay ca rotate --finish",
                        in_force.root.display()
                    );
                }
                let (authority, made) = match make {
                    true => Authority::open_or_make(in_force.files(), &names(config))?,
                    false => (Authority::open(in_force.files())?, false),
                };
                let current = Album::mint(authority, config)?;
                let next = if rotation.under_way && !finishing {
                    let authority = Authority::open(FilePaths::next_to(files).files())?;
                    Some((rotation.networks, Album::mint(authority, config)?))
                } else {
                    None
                };
                Ok(Self { current, next, own_names, trust, made })
            }
            Identity::Leaves(pairs) => {
                let current = Album::load(pairs, config)?;
                Ok(Self { current, next: None, own_names, trust, made: false })
            }
        }
    }

    /// What is shown on the port itself: a terminated host's face (direct mode), the one of the relay's own names, or
    /// for clients that send no name (an address in the URI) the one that has its addresses too.
    pub fn choose(&self, sni: Option<&str>, client: IpAddr) -> Option<Chosen> {
        let album = self.album(client);
        let Some(sni) = sni else { return Some(album.chosen(&album.nameless)) };
        let name: HostName = sni.parse().ok()?;
        match album.hosts.get(&name) {
            Some(shown) => Some(album.chosen(shown)),
            None => self.own_names.contains(&name).then(|| album.chosen(&album.named)),
        }
    }

    /// What is shown inside a tunnel to a terminated host.
    pub fn of_host(&self, host: &HostName, client: IpAddr) -> Option<Chosen> {
        let album = self.album(client);
        album.hosts.get(host).map(|shown| album.chosen(shown))
    }

    /// Which clients trust which root.
    pub(super) fn trust(&self) -> &Arc<Trust> {
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
        let albums = [&self.current].into_iter().chain(self.next.as_ref().map(|(_, album)| album));
        albums.flat_map(|album| {
            album.hosts.values().chain([&album.named, &album.nameless]).map(|shown| &shown.face)
        })
    }

    fn album(&self, client: IpAddr) -> &Album {
        match &self.next {
            Some((networks, album)) if networks.iter().any(|network| network.contains(&client)) => album,
            _ => &self.current,
        }
    }
}

impl Album {
    fn mint(authority: Authority, config: &Config) -> Result<Self, LeafError> {
        let authority = Arc::new(authority);
        let shown = |names| Shown::new(Face::mint(&authority, names)?, config.tls.min_version);
        let own = &config.listen.hostnames;
        let nameless = shown(own.clone())?;
        let dns: Vec<Host> = own.iter().filter(|name| matches!(name, Host::Name(_))).cloned().collect();
        let named = if dns.is_empty() || dns == *own { nameless.clone() } else { shown(dns)? };
        let mut hosts = HashMap::new();
        for host in terminated(config) {
            hosts.insert(host.clone(), shown(vec![Host::Name(host.clone())])?);
        }
        let root = fingerprint(authority.root_der()).into();
        Ok(Self { root, named, nameless, hosts })
    }

    fn load(pairs: &[(std::path::PathBuf, std::path::PathBuf)], config: &Config) -> Result<Self, LeafError> {
        let face = Face::load(pairs, &names(config))?;
        let mut hosts = HashMap::new();
        for host in terminated(config) {
            hosts.insert(host.clone(), Shown::new(face.clone(), config.tls.min_version)?);
        }
        let named = Shown::new(face, config.tls.min_version)?;
        Ok(Self { root: "".into(), nameless: named.clone(), named, hosts })
    }

    fn chosen(&self, shown: &Shown) -> Chosen {
        Chosen {
            face: shown.face.clone(),
            config: shown.config.clone(),
            config_without_alpn: shown.config_without_alpn.clone(),
            root: self.root.clone(),
        }
    }
}

impl Shown {
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

/// A root by the first 16 hex digits of its SHA-256.
pub fn fingerprint(root: &[u8]) -> String {
    hex(&digest(&SHA256, root).as_ref()[..8])
}

fn terminated(config: &Config) -> impl Iterator<Item = &HostName> {
    config.destinations.iter().filter(|to| to.mode == Mode::Terminate).map(|to| &to.host)
}
