//! PROXY protocol, version 2: a load balancer's word for who the client is.
//!
//! Believed from the networks in `listen.proxy_protocol_from`, where it is then required, and from nobody else
//! (HAProxy, "The PROXY protocol", §2.2). Version 1 is not spoken.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Addresses and TLVs together: more than any balancer sends.
const LONGEST: usize = 1024;

/// Reads the header and gives the client's address; `None` for the balancer's own health checks (`LOCAL`) and for
/// families that have no address.
///
/// # Errors
/// There is no header of version 2, or the stream ends in it.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).await?;
    let [version_and_command, family, high, low] = [fixed[12], fixed[13], fixed[14], fixed[15]];
    if fixed[..12] != SIGNATURE || version_and_command >> 4 != 2 {
        return Err(wrong("no PROXY protocol header of version 2"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Err(wrong("a PROXY protocol header of more than 1024 bytes"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (version_and_command & 0xf, family >> 4) {
        (0, _) | (1, 0 | 3) => Ok(None),
        (1, 1) => {
            let source: [u8; 4] = part(&rest, 12).ok_or_else(|| wrong("a PROXY header cut short"))?;
            Ok(Some(Ipv4Addr::from(source).into()))
        }
        (1, 2) => {
            let source: [u8; 16] = part(&rest, 36).ok_or_else(|| wrong("a PROXY header cut short"))?;
            Ok(Some(IpAddr::from(Ipv6Addr::from(source)).to_canonical()))
        }
        _ => Err(wrong("a PROXY protocol command or family that does not exist")),
    }
}

/// The source address at the start of an address block that must have so many bytes.
fn part<const N: usize>(block: &[u8], at_least: usize) -> Option<[u8; N]> {
    block.get(..at_least)?.get(..N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    async fn told(bytes: &[u8]) -> Result<Option<IpAddr>, io::ErrorKind> {
        read(&mut &bytes[..]).await.map_err(|e| e.kind())
    }

    #[tokio::test]
    async fn the_source_address_is_read_and_what_follows_is_left() {
        let mut v4 = header(1, 0x11, &[10, 1, 2, 3, 192, 0, 2, 1, 1, 2, 3, 4, 4, 0, 1, 0]);
        v4.extend(b"CONNECT");
        let mut stream = &v4[..];
        assert_eq!(read(&mut stream).await.unwrap(), Some("10.1.2.3".parse().unwrap()));
        assert_eq!(stream, b"CONNECT");

        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(told(&header(1, 0x21, &v6)).await, Ok(Some("2001:db8::7".parse().unwrap())));
        assert_eq!(told(&header(0, 0, &[])).await, Ok(None));
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        for bad in [
            b"CONNECT license.qlikcloud.com:443 HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n".to_vec(),
            header(1, 0x11, &[10, 1, 2]),
            header(2, 0x11, &[0; 12]),
            header(1, 0x41, &[0; 12]),
            [&SIGNATURE[..], &[0x11, 0x11, 0, 12]].concat(),
            [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat(),
        ] {
            assert!(told(&bad).await.is_err(), "{bad:?}");
        }
        assert_eq!(told(&header(1, 0x11, &[0; 12])[..20]).await, Err(io::ErrorKind::UnexpectedEof));
    }
}
