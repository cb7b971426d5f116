//! Words from a fixed set, as the access line, the metrics and the records have them: each is spelled in one place.

/// How a client came in (`mode`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WayIn {
    /// `CONNECT` in the clear.
    Connect,
    /// `CONNECT` inside TLS with the relay itself.
    TlsConnect,
    /// TLS with the destination's name: no proxy is spoken, so no credentials can be sent.
    Direct,
    /// Requests in absolute form, for the legacy hosts.
    Absolute,
}

impl WayIn {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::TlsConnect => "tls",
            Self::Direct => "direct",
            Self::Absolute => "absolute",
        }
    }
}

/// What became of a request or a connection (`verdict`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The allow-list lets it in.
    Allow,
    /// The site lets in strangers.
    Observe,
    /// It is refused.
    Refuse,
    /// The connection was idle and gave way to another one.
    Close,
}

impl Verdict {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Observe => "observe",
            Self::Refuse => "refuse",
            Self::Close => "close",
        }
    }
}

/// Who made the reply (`made_by`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MadeBy {
    /// The relay itself.
    Relay,
    /// The back end.
    BackEnd,
}

impl MadeBy {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::BackEnd => "back end",
        }
    }
}

/// What went wrong (`error`): the class of an error of the back end or the parent proxy, or else the token of a refusal, which
/// is one of RFC 9209 §2.3.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs)] // Those of the RFC are described there.
pub enum ErrorClass {
    /// A name of the back end can't be resolved.
    Dns,
    /// The address must not be dialled.
    Policy,
    /// No connection.
    Connect,
    /// Something of the back end did not come in time.
    Timeout,
    /// TLS with the back end failed.
    Tls,
    /// The reply was cut short, or of another protocol.
    Reply,
    /// The parent proxy wants other credentials.
    ParentCredentials,
    /// The parent proxy refused.
    ParentRefused,
    /// The parent proxy sent nothing.
    ParentSilent,
    /// The parent proxy stopped within its answer.
    ParentStalled,
    /// The parent proxy closed before it answered.
    ParentClosed,
    /// The parent proxy closed within its answer.
    ParentCut,
    /// The answer of the parent proxy has no end.
    ParentHeadSize,
    /// The parent proxy answered in TLS.
    ParentTls,
    /// The parent proxy answered in HTTP/2.
    ParentHttp2,
    /// The parent proxy answered something else.
    ParentNoHttp,
    /// The stream to the parent proxy broke.
    ParentIo,
    DestinationIpProhibited,
    DnsError,
    ConnectionRefused,
    ConnectionTimeout,
    ConnectionReadTimeout,
    ConnectionTerminated,
    ConnectionLimitReached,
    TlsCertificateError,
    TlsProtocolError,
    HttpRequestDenied,
    HttpRequestError,
    HttpResponseHeaderSectionSize,
    HttpResponseIncomplete,
    HttpResponseTimeout,
    HttpProtocolError,
    ProxyConfigurationError,
    ProxyInternalError,
    ProxyLoopDetected,
}

impl ErrorClass {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Policy => "policy",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Reply => "reply",
            Self::ParentCredentials => "parent_credentials",
            Self::ParentRefused => "parent_refused",
            Self::ParentSilent => "parent_silent",
            Self::ParentStalled => "parent_stalled",
            Self::ParentClosed => "parent_closed",
            Self::ParentCut => "parent_cut",
            Self::ParentHeadSize => "parent_head_size",
            Self::ParentTls => "parent_tls",
            Self::ParentHttp2 => "parent_http2",
            Self::ParentNoHttp => "parent_no_http",
            Self::ParentIo => "parent_io",
            Self::DestinationIpProhibited => "destination_ip_prohibited",
            Self::DnsError => "dns_error",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTimeout => "connection_timeout",
            Self::ConnectionReadTimeout => "connection_read_timeout",
            Self::ConnectionTerminated => "connection_terminated",
            Self::ConnectionLimitReached => "connection_limit_reached",
            Self::TlsCertificateError => "tls_certificate_error",
            Self::TlsProtocolError => "tls_protocol_error",
            Self::HttpRequestDenied => "http_request_denied",
            Self::HttpRequestError => "http_request_error",
            Self::HttpResponseHeaderSectionSize => "http_response_header_section_size",
            Self::HttpResponseIncomplete => "http_response_incomplete",
            Self::HttpResponseTimeout => "http_response_timeout",
            Self::HttpProtocolError => "http_protocol_error",
            Self::ProxyConfigurationError => "proxy_configuration_error",
            Self::ProxyInternalError => "proxy_internal_error",
            Self::ProxyLoopDetected => "proxy_loop_detected",
        }
    }
}

impl std::fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
