//! Names to addresses: by the system, or by the resolvers of `upstream.dns`, for machines whose own DNS leads inside.
//!
//! A stub resolver in the sense of RFC 1034 §5.3.1: it asks a recursive one, believes the answer as far as it follows
//! from the question, and keeps nothing. A truncated answer is asked for again over TCP (RFC 7766). A resolver is not
//! trusted with the relay's time or memory: what an answer may hold is bounded before it is parsed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::bounds;
use crate::config::names::HostName;

/// The head of a message, in bytes (RFC 1035 §4.1.1).
const HEAD: usize = 12;

/// The addresses of one family, or why there are none.
type Resolved = io::Result<Vec<IpAddr>>;

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
        let (v4, v6) = both(name, *resolver).await;
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

/// IPv4 and IPv6 addresses, asked for at the same time. Some resolvers drop questions for IPv6 addresses: once there are
/// IPv4 addresses, the others have [`bounds::DNS_DELAY`] to come.
async fn both(name: &HostName, resolver: SocketAddr) -> (Resolved, Resolved) {
    let (v4, v6) = (ask(name, TYPE::A, resolver), ask(name, TYPE::AAAA, resolver));
    let (mut v4, mut v6) = (pin!(v4), pin!(v6));
    tokio::select! {
        v6 = &mut v6 => (v4.await, v6),
        v4 = &mut v4 => {
            let v6 = match &v4 {
                Ok(found) if !found.is_empty() => {
                    timeout(bounds::DNS_DELAY, v6).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                }
                _ => v6.await,
            };
            (v4, v6)
        }
    }
}

async fn ask(name: &HostName, kind: TYPE, resolver: SocketAddr) -> Resolved {
    let mut id = [0; 2];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let query = query(name, kind, u16::from_be_bytes(id))?;
    let answered = timeout(bounds::DNS, async {
        match read(by_udp(&query, resolver).await?).await? {
            Some(addresses) => Ok(addresses),
            None => read(by_tcp(&query, resolver).await?)
                .await?
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
    // What answers another question is somebody's guess, or late: the right answer may still come.
    loop {
        let length = socket.recv(&mut answer).await?;
        if answers(&answer[..length], query) {
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
    match answers(&answer, query) {
        true => Ok(answer),
        false => Err(io::Error::other("the answer is to another question")),
    }
}

/// Whether this is an answer to the question: a response (RFC 1035 §4.1.1) with its id and its question, in whatever case
/// the name is. Some resolvers leave the question out of an error.
fn answers(answer: &[u8], query: &[u8]) -> bool {
    let (Some((head, rest)), Some((asked, question))) =
        (answer.split_first_chunk::<HEAD>(), query.split_first_chunk::<HEAD>())
    else {
        return false;
    };
    let (is_response, is_error) = (head[2] & 0x80 != 0, head[3] & 0x0f != 0);
    let echoes = match head[4..6] {
        [0, 0] => is_error,
        [0, 1] => rest.get(..question.len()).is_some_and(|echo| echo.eq_ignore_ascii_case(question)),
        _ => false,
    };
    is_response && head[..2] == asked[..2] && echoes
}

/// As [`addresses`], off the workers: whoever answers chooses how long an answer is.
async fn read(answer: Vec<u8>) -> io::Result<Option<Vec<IpAddr>>> {
    tokio::task::spawn_blocking(move || addresses(&answer)).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// The addresses in an answer to the question in it, through aliases; `None` where the answer was truncated.
fn addresses(answer: &[u8]) -> io::Result<Option<Vec<IpAddr>>> {
    // Names are compressed: a record of 14 bytes may stand for 8 KB once it is parsed.
    if records(answer) > bounds::DNS_RECORDS {
        return Err(io::Error::other(format!("the answer has more than {} records", bounds::DNS_RECORDS)));
    }
    let answer = Packet::parse(answer).map_err(|_| io::Error::other("the answer can't be read"))?;
    match answer.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Err(io::Error::other("the name does not exist")),
        other => return Err(io::Error::other(format!("the resolver answers {other:?}"))),
    }
    if answer.has_flags(PacketFlag::TRUNCATION) {
        return Ok(None);
    }
    let Some(question) = answer.questions.first() else {
        return Err(io::Error::other("the answer has no question"));
    };
    let mut names = vec![&question.qname];
    let mut addresses = Vec::new();
    // Aliases stand before what they lead to (RFC 1034 §3.6.2).
    for record in &answer.answers {
        if !names.iter().any(|name| **name == record.name) {
            continue;
        }
        match &record.rdata {
            RData::CNAME(_) if names.len() > bounds::DNS_ALIASES => {
                let words = format!("the name leads through more than {} aliases", bounds::DNS_ALIASES);
                return Err(io::Error::other(words));
            }
            RData::CNAME(alias) => names.push(&alias.0),
            RData::A(a) => addresses.push(Ipv4Addr::from(a.address).into()),
            RData::AAAA(aaaa) => addresses.push(Ipv6Addr::from(aaaa.address).into()),
            _ => {}
        }
    }
    Ok(Some(addresses))
}

/// How many records a message says that it has, in all sections but the question (RFC 1035 §4.1.1).
fn records(message: &[u8]) -> usize {
    let counts = message.get(6..HEAD).unwrap_or_default().chunks_exact(2);
    counts.map(|count| usize::from(u16::from_be_bytes([count[0], count[1]]))).sum()
}

#[cfg(test)]
mod tests {
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

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
                let query = &buffer[..length];
                let (id, other) =
                    (u16::from_be_bytes([query[0], query[1]]), "other.example".parse().unwrap());
                udp.send_to(b"xx not the answer", peer).await.unwrap();
                udp.send_to(query, peer).await.unwrap();
                let other = super::query(&other, TYPE::A, id).unwrap();
                udp.send_to(&answer(&other, false), peer).await.unwrap();
                udp.send_to(&answer(query, truncate), peer).await.unwrap();
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

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_is_silent_has_its_time_and_then_the_next_one_is_asked() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (begun, name) = (Instant::now(), HOST.parse().unwrap());
        let resolvers = [silent.local_addr().unwrap(), resolver(false).await];
        assert!(resolve(&name, &resolvers).await.is_ok());
        assert_eq!(begun.elapsed().as_secs(), bounds::DNS.as_secs());
        let fault = resolve(&name, &resolvers[..1]).await.unwrap_err().to_string();
        assert!(fault.contains("timed out"), "{fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_drops_questions_for_ipv6_costs_a_moment() {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
                let query = Packet::parse(&buffer[..length]).unwrap();
                if query.questions[0].qtype == QTYPE::TYPE(TYPE::A) {
                    udp.send_to(&answer(&buffer[..length], false), peer).await.unwrap();
                }
            }
        });
        let begun = Instant::now();
        let found = resolve(&HOST.parse().unwrap(), &[address]).await.unwrap();
        assert_eq!(found, ["1.2.3.4".parse::<IpAddr>().unwrap()]);
        // A step to the next timer rounds up to a millisecond.
        let rounded = bounds::DNS_DELAY + std::time::Duration::from_millis(5);
        assert!((bounds::DNS_DELAY..rounded).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[test]
    fn an_answer_to_another_question_is_not_believed() {
        let query = |name: &str, kind, id| query(&name.parse().unwrap(), kind, id).unwrap();
        let asked = query(HOST, TYPE::A, 7);
        let answer = answer(&asked, false);
        assert!(answers(&answer, &asked) && answers(&answer, &query("LICENSE.qlikcloud.com", TYPE::A, 7)));
        for other in [query("other.example", TYPE::A, 7), query(HOST, TYPE::AAAA, 7), query(HOST, TYPE::A, 8)]
        {
            assert!(!answers(&answer, &other));
        }
        assert!(!answers(&asked, &asked), "a question is no answer");
        assert!(!answers(&answer[..20], &asked) && !answers(b"\0\x07", &asked));
    }

    #[test]
    fn an_error_without_a_question_is_an_answer_and_nothing_else_is() {
        let query = query(&HOST.parse().unwrap(), TYPE::A, 7).unwrap();
        let head = |code: u8| [0, 7, 0x81, 0x80 | code, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(answers(&head(2), &query) && !answers(&head(0), &query));
        assert!(addresses(&head(5)).unwrap_err().to_string().contains("Refused"));
    }

    /// An answer that leads through so many aliases to one address.
    fn aliases(query: &[u8], count: usize) -> Vec<u8> {
        let names: Vec<String> = (0..count).map(|n| format!("alias-{n}.example")).collect();
        let query = Packet::parse(query).unwrap();
        let mut reply = Packet::new_reply(query.id());
        reply.questions.clone_from(&query.questions);
        let mut last = HOST;
        let mut push = |name, data| {
            reply.answers.push(ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 60, data));
        };
        for name in &names {
            push(last, RData::CNAME(CNAME(Name::new_unchecked(name))));
            last = name;
        }
        push(last, RData::A(A { address: 0x0102_0304 }));
        reply.build_bytes_vec_compressed().unwrap()
    }

    #[test]
    fn an_answer_of_ever_more_aliases_is_refused_before_it_costs_anything() {
        let query = query(&HOST.parse().unwrap(), TYPE::A, 7).unwrap();
        assert_eq!(addresses(&aliases(&query, bounds::DNS_ALIASES)).unwrap().unwrap().len(), 1);
        let fault = addresses(&aliases(&query, bounds::DNS_ALIASES + 1)).unwrap_err().to_string();
        assert!(fault.contains("more than 8 aliases"), "{fault}");
        let fault = addresses(&aliases(&query, 1_500)).unwrap_err().to_string();
        assert!(fault.contains("more than 128 records"), "{fault}");
    }

    #[tokio::test]
    async fn a_resolver_that_drops_questions_for_ipv6_addresses_costs_no_time_out() {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
                let is_v4 = buffer[..length].ends_with(&[0, 1, 0, 1]);
                if is_v4 {
                    udp.send_to(&answer(&buffer[..length], false), peer).await.unwrap();
                }
            }
        });
        let begun = Instant::now();
        let found = resolve(&HOST.parse().unwrap(), &[address]).await.unwrap();
        assert_eq!(found, ["1.2.3.4".parse::<IpAddr>().unwrap()]);
        assert!(begun.elapsed() < bounds::DNS / 2, "{:?}", begun.elapsed());
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(bytes: Vec<u8>) {
            let query = query(&HOST.parse().unwrap(), TYPE::A, 7).unwrap();
            for bytes in [bytes.clone(), [&query[..HEAD], &bytes[..]].concat()] {
                let _ = (answers(&bytes, &query), addresses(&bytes));
            }
        }
    }
}
