//! A back end of a test's own words, for replies that the stub would never give.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::HOST;

/// Answers every request with what this function makes of its bytes, one a connection. It lives as long as the test.
pub struct Backend {
    pub address: SocketAddr,
    pub ca: PathBuf,
}

impl Backend {
    pub fn start(folder: &Path, answer: fn(&str) -> Vec<u8>) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = folder.join("backend-ca.pem");
        std::fs::write(&ca, root.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap().signed_by(&key, &root).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(license_relay::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key.into())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for tcp in listener.incoming() {
                let (config, tcp) = (config.clone(), tcp.unwrap());
                std::thread::spawn(move || serve(config, tcp, answer));
            }
        });
        Self { address, ca }
    }
}

/// How a connection ends is the relay's affair.
fn serve(config: Arc<ServerConfig>, tcp: TcpStream, answer: fn(&str) -> Vec<u8>) {
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
    let (mut request, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    let mut whole = None;
    while whole.is_none_or(|whole| request.len() < whole) {
        let Ok(read @ 1..) = stream.read(&mut buffer) else { return };
        request.extend_from_slice(&buffer[..read]);
        whole = whole.or_else(|| {
            let head = request.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
            let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            Some(head + length.map_or(0, |length| length.trim().parse().unwrap()))
        });
    }
    let _ = stream.write_all(&answer(&String::from_utf8_lossy(&request)));
    stream.conn.send_close_notify();
    let _ = stream.flush();
}
