//! All faces of the relay: one for each terminated host, and the outer one for its own names and for no name.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;

use super::authority::{Authority, Files};
use super::leaf::{Face, LeafError};
use crate::config::model::{Config, Identity, Mode};
use crate::config::names::{Host, HostName};

/// What is shown for each name.
#[derive(Debug)]
pub struct Faces {
    authority: Option<Authority>,
    outer: Shown,
    own_names: Vec<HostName>,
    hosts: HashMap<HostName, Shown>,
    /// The root, issuer and key were made just now.
    pub made: bool,
}

#[derive(Debug)]
struct Shown {
    face: Arc<Face>,
    config: Arc<ServerConfig>,
}

impl Faces {
    /// Opens or makes the authority and mints all leaves; or takes the company's own.
    ///
    /// # Errors
    /// The authority can't be opened or made, or doesn't permit a name.
    pub fn new(config: &Config) -> Result<Self, LeafError> {
        let terminated: Vec<&HostName> =
            config.destinations.iter().filter(|to| to.mode == Mode::Terminate).map(|to| &to.host).collect();
        let show = |face: Arc<Face>| -> Result<Shown, LeafError> {
            let config = face.clone().server_config(config.tls.min_version)?;
            Ok(Shown { face, config })
        };
        let own_names = config.listen.hostnames.iter().filter_map(|host| match host {
            Host::Name(name) => Some(name.clone()),
            Host::Address(_) => None,
        });
        let own_names = own_names.collect();
        match &config.tls.identity {
            Identity::Issuer { root, issuer, issuer_key } => {
                let files = Files { root, issuer, issuer_key };
                let (authority, made) = Authority::open_or_make(files, &names(config))?;
                let outer = show(Face::mint(&authority, config.listen.hostnames.clone())?)?;
                let mut hosts = HashMap::new();
                for host in terminated {
                    let face = Face::mint(&authority, vec![Host::Name(host.clone())])?;
                    hosts.insert(host.clone(), show(face)?);
                }
                Ok(Self { authority: Some(authority), outer, own_names, hosts, made })
            }
            Identity::Leaves(pairs) => {
                let face = Face::load(pairs)?;
                let hosts = terminated.into_iter().map(|host| Ok((host.clone(), show(face.clone())?)));
                let hosts = hosts.collect::<Result<_, LeafError>>()?;
                Ok(Self { authority: None, outer: show(face)?, own_names, hosts, made: false })
            }
        }
    }

    /// What is shown on the port itself: a terminated host's face (direct mode), or the outer one for the relay's own
    /// names and for clients that send none (an address in the URI).
    pub fn choose(&self, sni: Option<&str>) -> Option<Arc<ServerConfig>> {
        let Some(sni) = sni else { return Some(self.outer.config.clone()) };
        let name: HostName = sni.parse().ok()?;
        match self.hosts.get(&name) {
            Some(shown) => Some(shown.config.clone()),
            None => self.own_names.contains(&name).then(|| self.outer.config.clone()),
        }
    }

    /// What is shown inside a tunnel to a terminated host.
    pub fn of_host(&self, host: &HostName) -> Option<Arc<ServerConfig>> {
        self.hosts.get(host).map(|shown| shown.config.clone())
    }

    /// Renews the leaves whose half-life is over. What can't be renewed stays, and is told.
    pub fn renew(&self) {
        let Some(authority) = &self.authority else { return };
        for shown in self.hosts.values().chain([&self.outer]) {
            match shown.face.renew(authority, SystemTime::now()) {
                Ok(true) => tracing::info!("renewed the leaves of {:?}", shown.face),
                Ok(false) => {}
                Err(e) => tracing::error!("the leaves of {:?} can't be renewed: {e}", shown.face),
            }
        }
    }
}

/// The names an authority is made for: the terminated hosts and the relay's own.
pub fn names(config: &Config) -> BTreeSet<Host> {
    let terminated = config.destinations.iter().filter(|to| to.mode == Mode::Terminate);
    terminated.map(|to| Host::Name(to.host.clone())).chain(config.listen.hostnames.iter().cloned()).collect()
}
