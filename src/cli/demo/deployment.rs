//! A simulated deployment: it knows its proxy setting and the root it trusts, and speaks as a license service does.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::provider;

/// A deployment.
pub(super) struct DemoDeployment {
    proxy: SocketAddr,
    host: String,
    tls: Arc<ClientConfig>,
}

/// What it was told.
pub(super) struct RelayReply {
    /// The status.
    pub(super) status: u16,
    /// The reason phrase: all that a Go client shows of a refused CONNECT.
    pub(super) reason: String,
    /// The body.
    pub(super) body: String,
}

impl RelayReply {
    /// For people.
    pub(super) fn line(&self) -> String {
        let body = if self.status == 200 && !self.body.is_empty() {
            let short: String =
                self.body.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(90).collect();
            format!(": {short}")
        } else {
            String::new()
        };
        format!("it is told {} {}{body}", self.status, self.reason)
    }
}

impl DemoDeployment {
    /// A deployment that trusts one root and nothing else.
    pub(super) fn new(proxy: SocketAddr, host: &str, root: &Path) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(root).map_err(|e| format!("{}: {e}", root.display()))?;
        roots.add(root).map_err(|e| format!("the root: {e}"))?;
        let tls = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { proxy, host: host.to_owned(), tls: Arc::new(tls) })
    }

    /// A `GET`, with the signed key where there is one.
    pub(super) async fn get(&self, path: &str, key: Option<&str>) -> Result<RelayReply, String> {
        self.send(with_key(Request::get(path), key), Bytes::new()).await
    }

    /// A `POST` of JSON, likewise.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &serde_json::Value,
        key: Option<&str>,
    ) -> Result<RelayReply, String> {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        self.send(with_key(request, key), Bytes::from(body.to_string())).await
    }

    /// What a `CONNECT` to this authority is told.
    pub(super) async fn connect_to(&self, authority: &str) -> Result<RelayReply, String> {
        Ok(self.connect(authority).await?.1)
    }

    async fn send(&self, request: http::request::Builder, body: Bytes) -> Result<RelayReply, String> {
        let (stream, said) = self.connect(&format!("{}:443", self.host)).await?;
        if said.status != 200 {
            return Ok(said);
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
        let stream = stream.map_err(|e| format!("the relay's certificate is not believed: {e}"))?;
        let request = request
            .header(header::HOST, &self.host)
            .header(header::USER_AGENT, "Licenses/1.6.4 (windows) QSEfW")
            .body(Full::new(body))
            .map_err(|e| e.to_string())?;
        ask(stream, request).await
    }

    async fn connect(&self, authority: &str) -> Result<(TcpStream, RelayReply), String> {
        let broken = |e: std::io::Error| format!("the proxy: {e}");
        let mut stream = TcpStream::connect(self.proxy).await.map_err(broken)?;
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(broken)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
            head.push(stream.read_u8().await.map_err(broken)?);
        }
        let head = String::from_utf8_lossy(&head);
        let line = head.lines().next().unwrap_or_default();
        let mut parts = line.splitn(3, ' ').skip(1);
        let status = parts.next().and_then(|status| status.parse().ok()).unwrap_or(0);
        let reason = parts.next().unwrap_or_default().to_owned();
        Ok((stream, RelayReply { status, reason, body: String::new() }))
    }
}

fn with_key(request: http::request::Builder, key: Option<&str>) -> http::request::Builder {
    match key {
        Some(key) => request.header(header::AUTHORIZATION, format!("Bearer {key}")),
        None => request,
    }
}

/// A `GET` without TLS, for the admin address.
pub(super) async fn plain_get(address: SocketAddr, path: &str) -> Result<RelayReply, String> {
    let stream = TcpStream::connect(address).await.map_err(|e| format!("{address}: {e}"))?;
    let request = Request::get(path).header(header::HOST, address.to_string()).body(Full::default());
    ask(stream, request.map_err(|e| e.to_string())?).await
}

async fn ask<S>(stream: S, request: Request<Full<Bytes>>) -> Result<RelayReply, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |e: hyper::Error| format!("the conversation broke: {e}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let own_words =
        response.extensions().get::<ReasonPhrase>().map(|r| String::from_utf8_lossy(r.as_bytes()).into());
    let reason = own_words.or_else(|| status.canonical_reason().map(Into::into)).unwrap_or_default();
    let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
    Ok(RelayReply { status: status.as_u16(), reason, body: String::from_utf8_lossy(&body).into_owned() })
}
