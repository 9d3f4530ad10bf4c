//! What stands before several processes of the service: a balancer with one address. Connections go
//! to those that listen, in turn; where none does, they are dropped.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

#[derive(Debug)]
pub struct Front {
    pub url: String,
    behind: Arc<Mutex<Vec<SocketAddr>>>,
    /// Cancelled: the connections that are open now end.
    open: Arc<Mutex<CancellationToken>>,
    _stop: DropGuard,
}

impl Front {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let behind: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let stop = CancellationToken::new();
        let open = Arc::new(Mutex::new(stop.child_token()));
        let (addresses, stopped, current) = (Arc::clone(&behind), stop.clone(), Arc::clone(&open));
        tokio::spawn(async move {
            let mut turn = 0usize;
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = stopped.cancelled() => return,
                };
                turn += 1;
                let mut order = addresses.lock().unwrap().clone();
                let first = turn % order.len().max(1);
                order.rotate_left(first);
                let cut = current.lock().unwrap().clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = carry(stream, order) => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
        });
        Self { url, behind, open, _stop: stop.drop_guard() }
    }

    /// Before the server of a URL.
    pub async fn before(url: &str) -> Self {
        let front = Self::start().await;
        front.add(server_of(url));
        front
    }

    /// The URL with this front as its server.
    pub fn in_place_of(&self, url: &str) -> String {
        let (mut through, own) = (url::Url::parse(url).unwrap(), url::Url::parse(&self.url).unwrap());
        through.set_port(own.port()).unwrap();
        through.to_string()
    }

    /// Nothing gets through, and what is open breaks off.
    pub fn cut(&self) {
        self.behind.lock().unwrap().clear();
        let mut open = self.open.lock().unwrap();
        open.cancel();
        *open = CancellationToken::new();
    }

    /// The way is there again.
    pub fn mend(&self, url: &str) {
        self.add(server_of(url));
    }

    pub fn add(&self, address: SocketAddr) {
        self.behind.lock().unwrap().push(address);
    }

    pub fn remove(&self, address: SocketAddr) {
        self.behind.lock().unwrap().retain(|known| *known != address);
    }
}

fn server_of(url: &str) -> SocketAddr {
    let url = url::Url::parse(url).unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap()
}

async fn carry(mut from: TcpStream, order: Vec<SocketAddr>) {
    for address in order {
        if let Ok(mut to) = TcpStream::connect(address).await {
            let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            return;
        }
    }
}
