//! The small names that both the files and the wire carry: hosts and ports. Source ids and license numbers, which the log has as
//! well, are in [`relay_log::names`].
//!
//! Each is parsed once, at the edge, and is right from then on.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use relay_log::names::NameError;

/// A DNS host name in lower case, without a trailing dot: letters, digits, hyphens and dots, at most 253 bytes,
/// labels of at most 63 (RFC 1123 §2.1). A name whose last label is all digits is refused: it would be taken for
/// an IPv4 address (WHATWG URL, "ends in a number").
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostName(String);

impl HostName {
    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(NameError::new("is empty"));
        }
        if name.len() > 253 {
            return Err(NameError::new("is longer than 253 characters"));
        }
        for label in name.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(NameError::new(
                    "has a part between dots that is empty or longer than 63 characters",
                ));
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Err(NameError::new("has a character other than letters, digits, hyphens and dots"));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(NameError::new("has a part that starts or ends with a hyphen"));
            }
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X") {
            return Err(NameError::new("ends in a number, as only addresses do"));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host as clients may write it: a name, or an address (IPv6 without brackets).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Host {
    /// A DNS name.
    Name(HostName),
    /// An address.
    Address(IpAddr),
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What is counted as one client: an IPv4 address, or the /64 of an IPv6 address, which one machine may use whole.
pub fn client(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
    }
}

/// `host:port`, with brackets around an IPv6 address (RFC 3986 §3.2.2). The port is required and never 0.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
}

impl Endpoint {
    /// Reads `host` or `host:port`; without a port, it is this one.
    ///
    /// # Errors
    /// It is neither.
    pub fn with_default_port(text: &str, port: u16) -> Result<Self, NameError> {
        match text.parse::<HostName>() {
            Ok(name) => Ok(Self { host: Host::Name(name), port }),
            Err(_) => text.parse(),
        }
    }
}

impl FromStr for Endpoint {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (host, port) = text.rsplit_once(':').ok_or(NameError::new("has no port"))?;
        if port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NameError::new("has a port that is not a number from 1 to 65535"));
        }
        let port = match port.parse() {
            Ok(0) | Err(_) => return Err(NameError::new("has a port that is not a number from 1 to 65535")),
            Ok(port) => port,
        };
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner =
                    rest.strip_suffix(']').ok_or(NameError::new("opens a bracket and does not close it"))?;
                let address =
                    inner.parse().map_err(|_| NameError::new("has brackets around no IPv6 address"))?;
                Host::Address(IpAddr::V6(address))
            }
            None => match host.parse()? {
                Host::Address(IpAddr::V6(_)) => {
                    return Err(NameError::new("has an IPv6 address without brackets"));
                }
                host => host,
            },
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_fold_case_and_one_trailing_dot() {
        assert_eq!("License.QlikCloud.com.".parse::<HostName>().unwrap().as_str(), "license.qlikcloud.com");
        for bad in ["", ".", "a..b", "-a.b", "a_b", "ä.b", "a b", "a/b", "1.2.3.4", "a.0x7f", "a..", "%61.b"]
        {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn endpoints_need_a_port_and_bracket_ipv6() {
        assert_eq!("[::1]:443".parse::<Endpoint>().unwrap().to_string(), "[::1]:443");
        assert_eq!("10.0.0.1:80".parse::<Endpoint>().unwrap().port, 80);
        for bad in [
            "a.b",
            "a.b:",
            "a.b:0",
            "a.b:65536",
            "a.b:0x1bb",
            "a.b:443:443",
            "::1:443",
            "[::1:443",
            "[a.b]:443",
            ":443",
            "u@a.b:443",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?} was accepted");
        }
    }
}
