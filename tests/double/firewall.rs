//! What stands between a sandbox and the internet: it ends TLS for one host and puts the headers of
//! the sandboxes' policies on requests, as Vercel's firewall does.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_util::sync::CancellationToken;

use super::{Inner, accept};

pub struct Firewall {
    /// Where the host is, with TLS.
    pub url: String,
    /// PEM of the authority that sandboxes trust.
    pub authority: String,
}

/// Stands before `upstream`, as the host `localhost`.
pub async fn start(inner: Arc<Inner>, upstream: String, stop: CancellationToken) -> Firewall {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        accept(listener, stop, |stream| {
            let (inner, upstream, acceptor) = (Arc::clone(&inner), upstream.clone(), acceptor.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|request| pass(Arc::clone(&inner), upstream.clone(), request));
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        })
        .await;
    });
    Firewall { url, authority: made.cert.pem() }
}

async fn pass(
    inner: Arc<Inner>,
    upstream: String,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let mut sent = reqwest::Client::new().request(parts.method, format!("{upstream}{path}")).body(body);
    for (name, value) in parts.headers.iter().filter(|(name, _)| *name != "host" && *name != "authorization") {
        sent = sent.header(name, value);
    }
    // A sandbox's own header goes through unless a policy sets the same.
    let injected = inner.state.lock().await.headers_for("localhost", &path);
    match injected.iter().find(|(name, _)| name == "authorization") {
        Some((name, value)) => sent = sent.header(name, value),
        None => {
            if let Some(own) = parts.headers.get("authorization") {
                sent = sent.header("authorization", own);
            }
        }
    }
    let answer = sent.send().await.map_err(std::io::Error::other)?;
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| *name != "transfer-encoding") {
        response = response.header(name, value);
    }
    let body = answer.bytes().await.map_err(std::io::Error::other)?;
    response.body(Full::new(body)).map_err(std::io::Error::other)
}

/// Headers that one policy puts on requests of this path to a host.
pub fn headers_of(policy: &Value, host: &str, path: &str) -> Vec<(String, String)> {
    let rules = policy.get("allow").and_then(|allow| allow.get(host)).and_then(Value::as_array);
    let rule = rules.into_iter().flatten().find(|rule| {
        rule.pointer("/match/path/startsWith").and_then(Value::as_str).is_none_or(|start| path.starts_with(start))
    });
    let headers = rule.and_then(|rule| rule.pointer("/transform/0/headers")).and_then(Value::as_object);
    headers
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}
