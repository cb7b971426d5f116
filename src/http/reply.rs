//! Every reply the relay makes itself, from one table.
//!
//! A Go client shows the reason phrase of a refused `CONNECT` and nothing else, so the sentence stands there, in
//! `Proxy-Status` (RFC 9209) and in a problem body (RFC 9457). Inside a conversation the status is one that no
//! product takes for the back end's word: 429, 502, 503, 504, and 400 for what is no valid HTTP.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;
use uuid::Uuid;

use super::body::{BodyError, Outgoing};
use super::head::HeadError;
use super::target::Misdirected;
use crate::config::model::Destination;
use crate::exchange::fault::Fault;
use crate::observe::facts::Access;
use crate::observe::labels::ErrorClass;
use crate::observe::shown::shown_host;
use crate::policy::denial::Denial;
use crate::policy::identity::{CredentialFault, Unproven};
use crate::policy::pending::Code;
use crate::upstream::error::UpstreamError;
use crate::upstream::parent::ParentError;
use relay_log::text::redact::HIDDEN;

/// The longest reason phrase, in bytes.
pub const REASON: usize = 120;

const PREFIX: &str = "license-relay: ";

/// A refusal: what the client sees of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// What happened.
    pub cause: Cause,
    /// The sentence: ASCII, at most [`REASON`] bytes, starting with `license-relay: `.
    pub sentence: String,
    /// When it is worth trying again.
    pub retry_after: Option<u64>,
}

/// What happened: a row of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The destination is not listed.
    DestinationNotListed,
    /// The destination's address must not be dialled.
    AddressForbidden,
    /// Who asks, or what is said, is refused by policy.
    Refused,
    /// Credentials are missing or wrong.
    Credentials,
    /// Too many requests.
    RateLimited,
    /// Too many connections.
    Connections,
    /// The body is over the limit.
    BodyTooLarge,
    /// The body, or the head, did not come in time.
    TooSlow,
    /// Not valid HTTP.
    Malformed,
    /// Host, SNI and authority disagree, or the target is not for this face.
    Misdirected,
    /// A request in absolute form for a host that is not listed for plain http.
    PlainHttp,
    /// The name can't be resolved.
    Dns,
    /// No connection.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// A connection, and then not a word in time.
    Silent,
    /// A connection that was closed before a word was said.
    Closed,
    /// The back end's certificate is not believed.
    Certificate,
    /// TLS with the back end failed.
    Tls,
    /// The parent proxy refused, or is not a proxy.
    Parent,
    /// The head of the answer is too large.
    HeadTooLarge,
    /// The reply was cut short.
    ReplyCut,
    /// The back end switched to another protocol.
    Switched,
    /// The reply came too late.
    ReplyLate,
    /// The log can't be written.
    Log,
    /// The relay is stopping.
    Draining,
    /// Too much at once.
    Overloaded,
    /// Asked to reach itself.
    Loop,
    /// A mistake of ours.
    Internal,
}

struct ReplyRow {
    on_connect: u16,
    inside: u16,
    token: ErrorClass,
    /// Seconds, where the refusal itself doesn't know better.
    retry_after: Option<u64>,
    /// Whether a conversation ends with it.
    close: bool,
}

impl Cause {
    /// The table: what a client sees for each cause.
    fn row(self) -> ReplyRow {
        let row = |on_connect, inside, token| ReplyRow {
            on_connect,
            inside,
            token,
            retry_after: None,
            close: false,
        };
        let again = |seconds, row: ReplyRow| ReplyRow { retry_after: Some(seconds), ..row };
        let close = |row: ReplyRow| ReplyRow { close: true, ..row };
        match self {
            Self::DestinationNotListed => row(403, 503, ErrorClass::HttpRequestDenied),
            Self::AddressForbidden => row(403, 503, ErrorClass::DestinationIpProhibited),
            Self::Refused => again(60, row(403, 503, ErrorClass::HttpRequestDenied)),
            Self::Credentials => row(407, 407, ErrorClass::HttpRequestDenied),
            Self::RateLimited => again(1, row(429, 429, ErrorClass::ConnectionLimitReached)),
            Self::Connections => again(5, row(429, 429, ErrorClass::ConnectionLimitReached)),
            Self::BodyTooLarge => close(row(503, 503, ErrorClass::HttpRequestError)),
            Self::TooSlow => close(row(408, 503, ErrorClass::HttpRequestError)),
            Self::Malformed => close(row(400, 400, ErrorClass::HttpRequestError)),
            Self::Misdirected => close(row(400, 400, ErrorClass::HttpRequestError)),
            Self::PlainHttp => close(row(403, 400, ErrorClass::HttpRequestError)),
            Self::Dns => row(502, 502, ErrorClass::DnsError),
            Self::Connect => row(502, 502, ErrorClass::ConnectionRefused),
            Self::ConnectTimeout => row(504, 504, ErrorClass::ConnectionTimeout),
            Self::Silent => row(504, 504, ErrorClass::ConnectionReadTimeout),
            Self::Closed => row(502, 502, ErrorClass::ConnectionTerminated),
            Self::Certificate => row(502, 502, ErrorClass::TlsCertificateError),
            Self::Tls => row(502, 502, ErrorClass::TlsProtocolError),
            Self::Parent => row(502, 502, ErrorClass::ProxyConfigurationError),
            Self::HeadTooLarge => row(502, 502, ErrorClass::HttpResponseHeaderSectionSize),
            Self::ReplyCut => row(502, 502, ErrorClass::HttpResponseIncomplete),
            Self::Switched => row(502, 502, ErrorClass::HttpProtocolError),
            Self::ReplyLate => row(504, 504, ErrorClass::HttpResponseTimeout),
            Self::Log => again(30, row(503, 503, ErrorClass::ProxyInternalError)),
            Self::Draining => again(10, close(row(503, 503, ErrorClass::ProxyInternalError))),
            Self::Overloaded => again(5, row(503, 503, ErrorClass::ProxyInternalError)),
            Self::Loop => row(508, 502, ErrorClass::ProxyLoopDetected),
            Self::Internal => close(row(503, 503, ErrorClass::ProxyInternalError)),
        }
    }
}

impl Refusal {
    /// A refusal in these words; what doesn't fit a reason phrase is made to.
    pub fn new(cause: Cause, words: &str) -> Self {
        let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        let mut sentence: String = PREFIX.chars().chain(words.chars().map(printable)).take(REASON).collect();
        if sentence.len() == REASON && PREFIX.len() + words.chars().count() > REASON {
            sentence.replace_range(REASON - 3.., "...");
        }
        Self { cause, sentence, retry_after: cause.row().retry_after }
    }

    /// For clients that come while the relay stops: a close without an answer makes some of them try for ever.
    pub fn draining() -> Self {
        Self::new(Cause::Draining, "the relay is stopping")
    }

    /// For a client whose address may not connect at all.
    pub(crate) fn address(address: IpAddr) -> Self {
        let words = format!("{address} may not connect (listen.allow_from)");
        Self::new(Cause::Refused, &words)
    }

    /// For a conversation whose destination was taken out of the configuration.
    pub fn destination_gone(to: &Destination) -> Self {
        let words = format!("{}:{} is not in the list of destinations any more", to.host, to.port);
        Self::new(Cause::DestinationNotListed, &words)
    }

    /// For a request in absolute form whose target is not of a listed host. Only what is surely a host is told: a target
    /// may hold a password.
    pub fn not_plain_http(target: &str) -> Self {
        let host = shown_host(target).filter(|host| host != HIDDEN);
        let words =
            format!("{} is not a listed host for plain http", host.as_deref().unwrap_or("the target"));
        Self::new(Cause::PlainHttp, &words)
    }

    /// With the true time until it is worth trying again: whole seconds, rounded up, at least one.
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1));
        self
    }

    /// The status inside a conversation.
    pub fn inside(&self) -> u16 {
        self.cause.row().inside
    }

    /// The status of a `CONNECT`.
    pub fn on_connect(&self) -> u16 {
        self.cause.row().on_connect
    }

    /// The token of RFC 9209.
    pub fn token(&self) -> ErrorClass {
        self.cause.row().token
    }

    /// Puts it into an access line.
    pub fn note(&self, access: &mut Access, status: u16) {
        access.refused(&self.sentence, self.token(), status);
    }

    /// As raw bytes, for where hyper isn't there yet; the connection is closed after it.
    pub fn to_bytes(&self, status: u16, id: Uuid) -> Vec<u8> {
        self.bytes(status, id, "Connection: close\r\n")
    }

    /// As raw bytes, after which the connection is kept: the challenge that a client may answer.
    pub fn to_kept_bytes(&self, status: u16, id: Uuid) -> Vec<u8> {
        self.bytes(status, id, "")
    }

    fn bytes(&self, status: u16, id: Uuid, more: &str) -> Vec<u8> {
        let body = self.problem(status, id);
        let mut text = format!("HTTP/1.1 {status} {}\r\n", self.sentence);
        for (name, value) in self.fields() {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n{more}\r\n{body}", body.len()));
        text.into_bytes()
    }

    /// As a reply inside a conversation.
    pub fn to_response(&self, id: Uuid) -> Response<Outgoing> {
        let row = self.cause.row();
        let body = Bytes::from(self.problem(row.inside, id));
        let mut response = Response::new(Outgoing::Sized(Some(body)));
        *response.status_mut() = StatusCode::from_u16(row.inside).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        if let Ok(reason) = ReasonPhrase::try_from(self.sentence.as_bytes()) {
            response.extensions_mut().insert(reason);
        }
        for (name, value) in self.fields() {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                response.headers_mut().append(name, value);
            }
        }
        if row.close {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let details = self.sentence.replace('\\', "\\\\").replace('"', "\\\"");
        let status = format!("license-relay; error={}; details=\"{details}\"", self.token());
        let mut fields = vec![("Proxy-Status", status)];
        if let Some(seconds) = self.retry_after {
            fields.push(("Retry-After", seconds.to_string()));
        }
        if self.cause == Cause::Credentials {
            fields.push(("Proxy-Authenticate", "Basic realm=\"license-relay\", charset=\"UTF-8\"".into()));
        }
        fields.push(("Content-Type", "application/problem+json".into()));
        fields
    }

    fn problem(&self, status: u16, id: Uuid) -> String {
        serde_json::json!({
            "type": "about:blank",
            "title": self.sentence,
            "status": status,
            "instance": format!("urn:uuid:{id}"),
        })
        .to_string()
    }
}

impl From<&Fault> for Refusal {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Denied { denial, pending } => denied(denial, *pending),
            // The path of the log is the administrator's business, not the product's.
            Fault::Log(_) => Self::new(
                Cause::Log,
                "the audit log can't be written, nothing is forwarded; see the relay's own log",
            ),
            Fault::NoMemory => Self::from(&BodyError::NoMemory),
            Fault::Upstream(error) => Self::from(error),
        }
    }
}

fn denied(denial: &Denial, pending: Option<Code>) -> Refusal {
    // No colon before the command: with one, a whole UUID would not fit beside its number.
    let command = match (denial, pending) {
        // It has an entry, and needs no second one: people decide from where it may come.
        (denial, _) if denial.is_elsewhere() => String::new(),
        // Why it can't be read is in the log.
        (Denial::Unreadable(_), number) => {
            let allow = number.map(|number| format!("run license-relay sources allow {number}, or "));
            let words = format!("the body can't be read; {}set mode = \"tunnel\"", allow.unwrap_or_default());
            return Refusal::new(Cause::Refused, &words);
        }
        (_, None) => String::new(),
        (_, Some(number)) => format!("; run license-relay sources allow {number}"),
    };
    let refusal = |cause, denial: &Denial| Refusal::new(cause, &format!("{denial}{command}"));
    let fits = |denial: &Denial| PREFIX.len() + denial.to_string().len() + command.len() <= REASON;
    // The command is what matters; the id is in the log and in `sources pending`.
    let short = |id: &str| id.chars().take(20).chain("...".chars()).collect();
    if let Some(wait) = denial.wait() {
        return refusal(Cause::RateLimited, denial).after(wait);
    }
    match denial {
        Denial::UnknownSource(id) if !fits(denial) => {
            refusal(Cause::Refused, &Denial::UnknownSource(short(id)))
        }
        Denial::WrongPlace(id) if !fits(denial) => refusal(Cause::Refused, &Denial::WrongPlace(short(id))),
        _ => refusal(Cause::Refused, denial),
    }
}

impl From<&UpstreamError> for Refusal {
    fn from(error: &UpstreamError) -> Self {
        let cause = match error {
            UpstreamError::Dns { .. } => Cause::Dns,
            UpstreamError::Prohibited { .. } => Cause::AddressForbidden,
            UpstreamError::Loop { .. } => Cause::Loop,
            UpstreamError::Connect { .. } => Cause::Connect,
            UpstreamError::Certificate { .. } | UpstreamError::WantsCertificate { .. } => Cause::Certificate,
            UpstreamError::ConnectTimeout { .. } | UpstreamError::HandshakeTimeout { .. } => {
                Cause::ConnectTimeout
            }
            UpstreamError::Parent { cause, .. } => of_parent(cause),
            UpstreamError::Tls { .. } => Cause::Tls,
            UpstreamError::Incomplete { .. } => Cause::ReplyCut,
            UpstreamError::Switched { .. } => Cause::Switched,
            UpstreamError::ResponseTimeout { .. } => Cause::ReplyLate,
        };
        Self::new(cause, &error.to_string())
    }
}

fn of_parent(error: &ParentError) -> Cause {
    match error {
        ParentError::Refused { .. } | ParentError::Tls | ParentError::Http2 | ParentError::NoHttp => {
            Cause::Parent
        }
        ParentError::Silent(_) | ParentError::Stalled(_) => Cause::Silent,
        ParentError::Closed | ParentError::Io(_) => Cause::Closed,
        ParentError::Cut => Cause::ReplyCut,
        ParentError::TooLarge => Cause::HeadTooLarge,
    }
}

impl From<&Unproven> for Refusal {
    fn from(unproven: &Unproven) -> Self {
        match &unproven.why {
            CredentialFault::NoneSent => {
                Self::new(Cause::Credentials, "this relay demands a user name and password")
            }
            // Which of the two it is stands in the log alone.
            CredentialFault::UnknownUser { .. } | CredentialFault::WrongPassword { .. } => {
                Self::new(Cause::Credentials, "user name or password is wrong")
            }
            why @ (CredentialFault::Scheme(_)
            | CredentialFault::NotBase64
            | CredentialFault::NotUtf8
            | CredentialFault::NoColon
            | CredentialFault::Unfit) => Self::new(Cause::Credentials, &why.to_string()),
            why @ CredentialFault::Several => Self::new(Cause::Malformed, &why.to_string()),
            why @ CredentialFault::TooMany(wait) => {
                Self::new(Cause::RateLimited, &why.to_string()).after(*wait)
            }
            why @ CredentialFault::Busy => Self::new(Cause::Overloaded, &why.to_string()),
        }
    }
}

impl From<&HeadError> for Refusal {
    fn from(error: &HeadError) -> Self {
        let cause = match error {
            HeadError::Silent | HeadError::Late => Cause::TooSlow,
            HeadError::Closed
            | HeadError::Cut
            | HeadError::TooLarge
            | HeadError::Malformed(_)
            | HeadError::Io(_) => Cause::Malformed,
        };
        Self::new(cause, &error.to_string())
    }
}

impl From<&BodyError> for Refusal {
    fn from(error: &BodyError) -> Self {
        let cause = match error {
            BodyError::TooLarge(_) => Cause::BodyTooLarge,
            BodyError::Late => Cause::TooSlow,
            BodyError::NoMemory => Cause::Overloaded,
            BodyError::Broken(_) => Cause::Malformed,
        };
        Self::new(cause, &error.to_string())
    }
}

impl From<&Misdirected> for Refusal {
    fn from(error: &Misdirected) -> Self {
        Self::new(Cause::Misdirected, &format!("the request is not one for this host: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_ascii_and_fits_a_reason_phrase() {
        let refusal = Refusal::new(Cause::Refused, &"ü\r\nX: y ".repeat(40));
        assert_eq!(refusal.sentence.len(), REASON);
        assert!(refusal.sentence.bytes().all(|b| (0x20..0x7f).contains(&b)), "{}", refusal.sentence);
    }

    const NUMBER: &str = "0123456789012";

    fn refused(denial: Denial) -> String {
        denied(&denial, Some(NUMBER.parse().unwrap())).sentence
    }

    #[test]
    fn the_command_survives_a_long_source_id() {
        let sentence = refused(Denial::UnknownSource("x".repeat(128)));
        assert!(sentence.ends_with(&format!("is not allowed; run license-relay sources allow {NUMBER}")));
        assert!(sentence.len() <= REASON, "{sentence}");
    }

    #[test]
    fn a_uuid_and_its_command_fit_whole() {
        let id = "fbe89d02-6d24-4595-915e-c52ce76f2195";
        let refusal = denied(&Denial::UnknownSource(id.into()), Some(NUMBER.parse().unwrap()));
        let sentence =
            format!("license-relay: source {id} is not allowed; run license-relay sources allow {NUMBER}");
        assert_eq!(refusal.sentence, sentence);
        assert_eq!(sentence.len(), REASON);
        assert_eq!((refusal.on_connect(), refusal.inside()), (403, 503));
    }

    #[test]
    fn a_license_and_the_command_fit_whole_however_long_they_are() {
        let license = "9".repeat(32);
        let sentence = format!(
            "license-relay: license {license} is not allowed; run license-relay sources allow {NUMBER}"
        );
        assert_eq!(refused(Denial::Unidentified(Some(license))), sentence);
        let nobody = refused(Denial::Unidentified(None));
        assert!(nobody.ends_with(&format!("; run license-relay sources allow {NUMBER}")), "{nobody}");
    }

    #[test]
    fn a_body_that_can_not_be_read_is_told_both_ways_out_however_long_the_reason_is() {
        let why = "why ".repeat(50);
        let sentence = refused(Denial::Unreadable(why.clone()));
        assert!(
            sentence.ends_with(&format!("sources allow {NUMBER}, or set mode = \"tunnel\"")),
            "{sentence}"
        );
        assert!(sentence.len() <= REASON);
        let denied = denied(&Denial::Unreadable(why), None).sentence;
        assert_eq!(denied, "license-relay: the body can't be read; set mode = \"tunnel\"");
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_that_are_never_too_few_and_never_none() {
        let told = |wait| Refusal::new(Cause::RateLimited, "").after(wait).retry_after.unwrap();
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_999, 60)] {
            assert_eq!(told(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
    }

    #[test]
    fn a_license_in_the_wrong_place_is_told_whole() {
        let sentence = refused(Denial::LicenseElsewhere("9".repeat(32)));
        assert!(sentence.ends_with(" is not allowed from this address or user"), "{sentence}");
    }

    #[test]
    fn a_source_in_the_wrong_place_is_told_so_whatever_its_length() {
        for id in ["fbe89d02-6d24-4595-915e-c52ce76f2195".to_owned(), "x".repeat(128)] {
            let sentence = refused(Denial::WrongPlace(id));
            assert!(sentence.ends_with(" is not allowed from this address or user"), "{sentence}");
        }
    }

    #[test]
    fn no_refusal_inside_a_conversation_looks_like_a_verdict_of_the_back_end() {
        use Cause::*;
        for cause in [
            DestinationNotListed,
            AddressForbidden,
            Refused,
            Credentials,
            RateLimited,
            Connections,
            BodyTooLarge,
            TooSlow,
            Malformed,
            Misdirected,
            PlainHttp,
            Dns,
            Connect,
            ConnectTimeout,
            Silent,
            Closed,
            Certificate,
            Tls,
            Parent,
            HeadTooLarge,
            ReplyCut,
            ReplyLate,
            Log,
            Draining,
            Overloaded,
            Loop,
            Internal,
        ] {
            let inside = cause.row().inside;
            let expected: &[u16] = match cause {
                Malformed | Misdirected | PlainHttp => &[400],
                // Only a proxy says this (RFC 9110 §15.5.8), to a request in absolute form.
                Credentials => &[407],
                _ => &[429, 502, 503, 504],
            };
            assert!(expected.contains(&inside), "{cause:?} is {inside}");
        }
    }
}
