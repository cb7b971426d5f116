//! Names to addresses: by the system, or by the resolvers of `upstream.dns`, for machines whose own DNS leads inside.
//!
//! A stub resolver in the sense of RFC 1034 §5.3.1: it asks a recursive one, believes the answer as far as it follows
//! from the question, and keeps nothing. A truncated answer is asked for again over TCP (RFC 7766).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::bounds;
use crate::config::names::HostName;

/// The addresses of a name; both families are asked for at once.
///
/// # Errors
/// No resolver gave an answer, or the name has no address; all that went wrong is told.
pub async fn resolve(name: &HostName, resolvers: &[SocketAddr]) -> io::Result<Vec<IpAddr>> {
    if resolvers.is_empty() {
        let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
        return Ok(found.map(|address| address.ip()).collect());
    }
    let mut failures = Vec::new();
    for resolver in resolvers {
        let (v4, v6) = tokio::join!(ask(name, TYPE::A, *resolver), ask(name, TYPE::AAAA, *resolver));
        match (v4, v6) {
            (Err(a), Err(b)) => failures.push(if a.to_string() == b.to_string() {
                format!("{resolver}: {a}")
            } else {
                format!("{resolver}: {a}, {b}")
            }),
            // One family is enough; the other may not be routed at all where the resolver is.
            (v4, v6) => {
                let found: Vec<IpAddr> = v6.into_iter().flatten().chain(v4.into_iter().flatten()).collect();
                if !found.is_empty() {
                    return Ok(found);
                }
                failures.push(format!("{resolver}: the name has no address"));
            }
        }
    }
    Err(io::Error::other(failures.join("; ")))
}

async fn ask(name: &HostName, kind: TYPE, resolver: SocketAddr) -> io::Result<Vec<IpAddr>> {
    let mut id = [0; 2];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let query = query(name, kind, u16::from_be_bytes(id))?;
    let answered = timeout(bounds::DNS, async {
        match read(&by_udp(&query, resolver).await?, &query)? {
            Some(addresses) => Ok(addresses),
            None => read(&by_tcp(&query, resolver).await?, &query)?
                .ok_or_else(|| io::Error::other("an answer over TCP was truncated")),
        }
    });
    answered.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn query(name: &HostName, kind: TYPE, id: u16) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name.as_str()).map_err(io::Error::other)?;
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(io::Error::other)
}

async fn by_udp(query: &[u8], resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A fresh port for each question, and a connected socket, leave a guesser the id and the port to guess.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(query).await?;
    let mut answer = vec![0; bounds::DNS_ANSWER];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answer[..length].starts_with(&query[..2]) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn by_tcp(query: &[u8], resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The addresses that answer the question, through aliases; `None` where the answer was truncated.
fn read(answer: &[u8], query: &[u8]) -> io::Result<Option<Vec<IpAddr>>> {
    let wrong = |_| io::Error::other("the answer can't be read");
    let query = Packet::parse(query).map_err(wrong)?;
    let answer = Packet::parse(answer).map_err(wrong)?;
    let same = |a: &Name<'_>, b: &Name<'_>| a.to_string().eq_ignore_ascii_case(&b.to_string());
    let (Some(asked), Some(echoed)) = (query.questions.first(), answer.questions.first()) else {
        return Err(io::Error::other("the answer has no question"));
    };
    if answer.id() != query.id() || !same(&asked.qname, &echoed.qname) || asked.qtype != echoed.qtype {
        return Err(io::Error::other("the answer is to another question"));
    }
    match answer.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Err(io::Error::other("the name does not exist")),
        other => return Err(io::Error::other(format!("the resolver answers {other:?}"))),
    }
    if answer.has_flags(PacketFlag::TRUNCATION) {
        return Ok(None);
    }
    let mut names = vec![asked.qname.clone()];
    let mut addresses = Vec::new();
    // Aliases stand before what they lead to (RFC 1034 §3.6.2).
    for record in &answer.answers {
        if !names.iter().any(|name| same(name, &record.name)) {
            continue;
        }
        match &record.rdata {
            RData::CNAME(alias) => names.push(alias.0.clone()),
            RData::A(a) => addresses.push(Ipv4Addr::from(a.address).into()),
            RData::AAAA(aaaa) => addresses.push(Ipv6Addr::from(aaaa.address).into()),
            _ => {}
        }
    }
    Ok(Some(addresses))
}

#[cfg(test)]
mod tests {
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME};
    use tokio::net::TcpListener;

    use super::*;

    const HOST: &str = "license.qlikcloud.com";

    fn answer(query: &[u8], truncated: bool) -> Vec<u8> {
        let query = Packet::parse(query).unwrap();
        let mut reply = Packet::new_reply(query.id());
        reply.questions.clone_from(&query.questions);
        let record = |name, data| ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 60, data);
        let alias = RData::CNAME(CNAME(Name::new_unchecked("edge.example")));
        reply.answers.push(record("License.QlikCloud.com", alias));
        reply.answers.push(match query.questions[0].qtype {
            QTYPE::TYPE(TYPE::A) => record("edge.example", RData::A(A { address: 0x0102_0304 })),
            _ => record("edge.example", RData::AAAA(AAAA { address: 1 << 125 })),
        });
        reply.answers.push(record("stranger.example", RData::A(A { address: 0x0909_0909 })));
        if truncated {
            reply.set_flags(PacketFlag::TRUNCATION);
        }
        reply.build_bytes_vec().unwrap()
    }

    /// A resolver on loopback that answers over UDP, truncated or not, and over TCP.
    async fn resolver(truncate: bool) -> SocketAddr {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
                udp.send_to(b"xx not the answer", peer).await.unwrap();
                udp.send_to(&answer(&buffer[..length], truncate), peer).await.unwrap();
            }
        });
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut query).await.unwrap();
                let answer = answer(&query, false);
                stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_name_is_resolved_through_its_alias_over_udp_and_tcp() {
        let expected: Vec<IpAddr> = vec!["2000::".parse().unwrap(), "1.2.3.4".parse().unwrap()];
        for truncate in [false, true] {
            let resolvers = [resolver(truncate).await];
            assert_eq!(resolve(&HOST.parse().unwrap(), &resolvers).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn the_next_resolver_is_asked_and_all_failures_are_told() {
        let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let name = HOST.parse().unwrap();
        assert!(resolve(&name, &[gone, resolver(false).await]).await.is_ok());
        let fault = resolve(&name, &[gone]).await.unwrap_err().to_string();
        assert!(fault.contains(&gone.to_string()), "{fault}");
    }

    #[test]
    fn an_answer_to_another_question_is_not_believed() {
        let query = query(&HOST.parse().unwrap(), TYPE::A, 7).unwrap();
        let other = super::query(&"other.example".parse().unwrap(), TYPE::A, 7).unwrap();
        assert!(read(&answer(&query, false), &other).is_err());
        assert!(read(b"\0\x07", &query).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(bytes: Vec<u8>) {
            let query = query(&HOST.parse().unwrap(), TYPE::A, 7).unwrap();
            let _ = read(&bytes, &query);
            let _ = read(&[&query[..12], &bytes[..]].concat(), &query);
        }
    }
}
