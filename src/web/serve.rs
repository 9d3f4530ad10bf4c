//! The accept loop. axum's own has no limit on the time a request's head may take; this one has,
//! and on the number of connections, so that idle or slow senders cannot hold it up (threat T27).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::add_extension::AddExtension;

use super::limits::Peer;

const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: usize = 2_000;

/// How long open requests may take after the stop.
#[derive(Debug, Clone, Copy)]
pub struct Grace(pub Duration);

/// Answers requests until told to stop, then lets open ones end.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, grace: Grace) {
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(true);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => match place {
                Ok(place) => tokio::select! {
                    accepted = listener.accept() => accepted.map(|(stream, peer)| (stream, Peer(peer.ip()), place)),
                    () = stop.cancelled() => break,
                },
                Err(_) => break,
            },
            () = stop.cancelled() => break,
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
        // Answers are small: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(AddExtension::new(router.clone(), peer));
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection ended badly");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(grace.0, graceful.shutdown()).await.is_err() {
        tracing::info!("open connections were cut off");
    }
}
