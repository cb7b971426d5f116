//! A back end of a test's own words, for replies that the stub would never give.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::HOST;

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// It lives as long as the test.
pub struct Backend {
    pub address: SocketAddr,
    pub ca: PathBuf,
}

impl Backend {
    /// Answers every request with what this function makes of its bytes, one a connection.
    pub fn start(folder: &Path, answer: fn(&str) -> Vec<u8>) -> Self {
        // How a connection ends is the relay's affair.
        Self::serving(folder, move |mut stream| {
            let Ok((head, body)) = request(&mut stream) else { return };
            let request = [head, body].concat();
            // The end leaves together with the reply: otherwise the relay may send its next request in between, which then has
            // no answer.
            stream.conn.set_buffer_limit(None);
            let _ = stream.conn.writer().write_all(&answer(&String::from_utf8_lossy(&request)));
            stream.conn.send_close_notify();
            let _ = stream.flush();
        })
    }

    /// Answers every request with what this function makes of its head, and keeps its connections.
    pub fn keeping(folder: &Path, answer: impl Fn(&str) -> Arc<[u8]> + Send + Sync + 'static) -> Self {
        Self::serving(folder, move |mut stream| {
            while let Ok((head, _)) = request(&mut stream) {
                let answer = answer(&String::from_utf8_lossy(&head));
                if stream.write_all(&answer).and_then(|()| stream.flush()).is_err() {
                    return;
                }
            }
        })
    }

    /// Gives each of its connections to this function, on a thread of its own.
    fn serving(folder: &Path, serve: impl Fn(Stream) + Send + Sync + 'static) -> Self {
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
        let (config, serve) = (Arc::new(config), Arc::new(serve));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for tcp in listener.incoming() {
                let (config, serve, tcp) = (config.clone(), serve.clone(), tcp.unwrap());
                let _ = tcp.set_nodelay(true);
                std::thread::spawn(move || {
                    serve(StreamOwned::new(ServerConnection::new(config).unwrap(), tcp));
                });
            }
        });
        Self { address, ca }
    }
}

/// The next request: its head, and its body of a told length.
fn request(stream: &mut Stream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut head, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    let end = loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buffer[..read]);
        if let Some(end) = head.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let arrived = head.split_off(end);
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    body[..arrived.len()].copy_from_slice(&arrived);
    stream.read_exact(&mut body[arrived.len()..])?;
    Ok((head, body))
}
