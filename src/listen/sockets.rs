//! Listening sockets over reloads: only those whose address changed are bound anew, the others keep their back-log.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::accept::bind;

/// The listening sockets of one kind, each with the task that accepts from it.
pub struct Bound {
    serve: Box<dyn Fn(TcpListener) -> JoinHandle<()> + Send + Sync>,
    open: Vec<OpenSocket>,
}

#[derive(Debug)]
struct OpenSocket {
    /// As it is configured.
    wanted: SocketAddr,
    /// As it is bound: port 0 lets the system choose.
    bound: SocketAddr,
    task: JoinHandle<()>,
}

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{address} can't be listened on ({cause})")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub cause: io::Error,
}

impl Bound {
    /// Creates an empty set; `serve` runs for each listener that it binds.
    pub fn new(serve: impl Fn(TcpListener) -> JoinHandle<()> + Send + Sync + 'static) -> Self {
        Self { serve: Box::new(serve), open: Vec::new() }
    }

    /// Where these listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.open.iter().map(|open| open.bound).collect()
    }

    /// Binds what is wanted and isn't bound, and closes what isn't wanted any more.
    ///
    /// # Errors
    /// An address can't be bound; everything listens as before.
    pub async fn change(&mut self, wanted: &[SocketAddr]) -> Result<(), BindError> {
        let mut going = std::mem::take(&mut self.open);
        let mut staying = Vec::new();
        let mut missing = Vec::new();
        for address in wanted {
            match going.iter().position(|open| open.wanted == *address) {
                Some(at) => staying.push(going.swap_remove(at)),
                None => missing.push(*address),
            }
        }
        let mut new = Vec::new();
        let mut closed = Vec::new();
        let mut failed = None;
        for address in missing {
            // 0.0.0.0:8888 keeps 127.0.0.1:8888 from being bound, and the other way round: then it has to go first.
            while let Some(at) = going.iter().position(|open| open.bound.port() == address.port()) {
                let open = going.swap_remove(at);
                closed.push(open.wanted);
                open.close().await;
            }
            match bind(address) {
                Ok(listener) => new.push((address, listener)),
                Err(cause) => {
                    failed = Some(BindError { address, cause });
                    break;
                }
            }
        }
        let Some(failed) = failed else {
            for open in going {
                open.close().await;
            }
            self.open = staying;
            new.into_iter().for_each(|(wanted, listener)| self.open(wanted, listener));
            return Ok(());
        };
        drop(new);
        self.open = staying;
        self.open.append(&mut going);
        for wanted in closed {
            match bind(wanted) {
                Ok(listener) => self.open(wanted, listener),
                Err(e) => tracing::error!("{wanted} can't be listened on any more: {e}; restart the relay"),
            }
        }
        Err(failed)
    }

    fn open(&mut self, wanted: SocketAddr, listener: TcpListener) {
        let bound = listener.local_addr().unwrap_or(wanted);
        self.open.push(OpenSocket { wanted, bound, task: (self.serve)(listener) });
    }
}

impl OpenSocket {
    /// The socket is closed once the task has ended that owns it.
    async fn close(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.open.iter().for_each(|open| open.task.abort());
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("open", &self.open).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> Bound {
        let serve =
            |listener: TcpListener| tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        Bound::new(serve)
    }

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[tokio::test]
    async fn what_stays_keeps_its_socket_and_what_goes_is_closed() {
        let mut bound = bound();
        bound.change(&[loopback(0)]).await.unwrap();
        let first = bound.addresses()[0];
        let other = SocketAddr::from(([127, 0, 0, 2], 0));
        bound.change(&[loopback(0), other]).await.unwrap();
        assert_eq!((bound.addresses()[0], bound.addresses().len()), (first, 2));
        bound.change(&[other]).await.unwrap();
        assert!(tokio::net::TcpStream::connect(first).await.is_err());
    }

    #[tokio::test]
    async fn a_wider_address_on_the_same_port_takes_the_place_of_a_narrower_one() {
        let mut bound = bound();
        bound.change(&[loopback(0)]).await.unwrap();
        let port = bound.addresses()[0].port();
        bound.open[0].wanted = loopback(port);
        bound.change(&[SocketAddr::from(([0, 0, 0, 0], port))]).await.unwrap();
        tokio::net::TcpStream::connect(loopback(port)).await.unwrap();
    }

    #[tokio::test]
    async fn where_one_address_is_taken_all_stays_as_it_was() {
        let mut bound = bound();
        bound.change(&[loopback(0)]).await.unwrap();
        let before = bound.addresses();
        let taken = TcpListener::bind(loopback(0)).await.unwrap();
        let failed = bound.change(&[loopback(1), taken.local_addr().unwrap()]).await.unwrap_err();
        assert!(failed.to_string().contains("can't be listened on"), "{failed}");
        assert_eq!(bound.addresses(), before);
        tokio::net::TcpStream::connect(before[0]).await.unwrap();
    }
}
