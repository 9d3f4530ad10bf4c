//! The accept loop. axum's own has no limit on the time a request's head may take; this one has,
//! and on the number of connections, so that idle or slow senders cannot hold it up (threat T27).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1::Builder;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::add_extension::AddExtension;

use super::limits::{Connections, Peer};

/// From the connection to the end of its first request's head.
const FIRST_HEAD: Duration = Duration::from_secs(5);
/// From one answer to the end of the next head: longer than proxies keep a connection that they do not use, for one that
/// is closed in the moment of its use costs a delivery.
const NEXT_HEAD: Duration = Duration::from_secs(75);
const MAX_CONNECTIONS: usize = 2_000;

/// How long open requests may take after the stop.
#[derive(Debug, Clone, Copy)]
pub struct Grace(pub Duration);

/// Tells that a request has come.
struct Hears<S> {
    service: S,
    heard: CancellationToken,
}

impl<R, S: Service<R>> Service<R> for Hears<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: R) -> Self::Future {
        self.heard.cancel();
        self.service.call(request)
    }
}

/// Ends when no first request has come in time.
async fn hears_nothing(heard: CancellationToken) {
    if tokio::time::timeout(FIRST_HEAD, heard.cancelled()).await.is_ok() {
        std::future::pending().await
    }
}

/// The next connection, when there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, Peer(peer.ip()), place))
}

/// Answers requests until told to stop, then lets open ones end.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, grace: Grace) {
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(NEXT_HEAD).keep_alive(true);
    let graceful = GracefulShutdown::new();
    let (connections, over) = (TaskTracker::new(), CancellationToken::new());
    let (places, open_connections) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Connections::default());
    loop {
        // After the stop none is taken that would be cut off: whoever listens next takes it.
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Too many open files, most likely: it passes when connections end.
                tracing::warn!(error = %error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(open) = open_connections.open(peer) else {
            metrics::counter!("hireling_connections_refused_total").increment(1);
            tracing::debug!(peer = %peer.0, "a connection was refused: its address has its share");
            continue;
        };
        // Answers are small: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let heard = CancellationToken::new();
        let service =
            Hears { service: TowerToHyperService::new(AddExtension::new(router.clone(), peer)), heard: heard.clone() };
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        let over = over.clone();
        connections.spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(error = %error, "a connection ended badly");
                },
                () = hears_nothing(heard) => tracing::debug!("a connection brought no request in time"),
                () = over.cancelled() => {}
            }
            drop((open, place));
        });
    }
    drop(listener);
    if tokio::time::timeout(grace.0, graceful.shutdown()).await.is_err() {
        tracing::info!("open connections were cut off");
    }
    // What they hold is let go of while there is a runtime to store what it cost.
    over.cancel();
    connections.close();
    connections.wait().await;
}
