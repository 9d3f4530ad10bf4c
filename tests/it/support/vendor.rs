//! A vendor of models on loopback that answers as a story says and remembers what it was asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use futures::StreamExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What it was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// What it answers.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
    pub chunks: Vec<Vec<u8>>,
    /// Before the last chunk it waits for this.
    pub hold: Option<Arc<Notify>>,
}

impl Reply {
    pub fn sse(text: &str) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "text/event-stream")],
            chunks: vec![text.into()],
            hold: None,
        }
    }

    pub fn json(status: u16, text: &str) -> Self {
        Self { status, headers: vec![("content-type", "application/json")], chunks: vec![text.into()], hold: None }
    }
}

type Script = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

#[derive(Clone)]
struct Shared {
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Script,
}

/// Takes no more connections when dropped.
pub struct Vendor {
    pub url: String,
    shared: Shared,
    gone: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

impl Vendor {
    pub async fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let shared = Shared { asked: Arc::default(), script: Arc::new(script) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let gone = CancellationToken::new();
        let serving = axum::serve(listener, router).with_graceful_shutdown(gone.clone().cancelled_owned());
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { url, shared, gone, server }
    }

    /// Goes away, with the connections that were kept for further calls.
    pub async fn end(mut self) {
        self.gone.cancel();
        (&mut self.server).await.unwrap();
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(shared): State<Shared>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path_and_query().unwrap().to_string();
    let body = String::from_utf8_lossy(&body).into_owned();
    let asked = Asked { method: method.to_string(), path, headers, body };
    let reply = (shared.script)(&asked);
    shared.asked.lock().unwrap().push(asked);
    let last = reply.chunks.len().saturating_sub(1);
    let hold = reply.hold.clone();
    let chunks = futures::stream::iter(reply.chunks.into_iter().enumerate()).then(move |(number, chunk)| {
        let hold = hold.clone();
        async move {
            if let (true, Some(hold)) = (number == last, hold) {
                hold.notified().await;
            }
            Ok::<_, std::io::Error>(Bytes::from(chunk))
        }
    });
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from_stream(chunks)).unwrap()
}
