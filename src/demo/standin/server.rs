//! Takes connections, counts calls, applies faults, and hands each request to its part.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::faults::{Faults, Kind, Plans, When};
use super::state::{Call, World};
use super::{api, pages};

/// A request that was read.
pub(super) struct Asked {
    pub method: Method,
    /// Below the API's base, without the query.
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }
}

pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(status: u16, value: &serde_json::Value) -> Self {
        let headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        Self { status, headers, body: value.to_string().into_bytes() }
    }

    pub(super) fn refused(status: u16, message: &str) -> Self {
        Self::json(status, &serde_json::json!({ "message": message }))
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(super) fn redirect(to: &str) -> Self {
        Self { status: 302, headers: vec![("location", to.to_owned())], body: Vec::new() }
    }

    pub(super) fn html(status: u16, text: String) -> Self {
        Self { status, headers: vec![("content-type", "text/html; charset=utf-8".to_owned())], body: text.into_bytes() }
    }
}

pub(super) async fn serve(listener: TcpListener, world: Arc<Mutex<World>>, plans: Arc<Plans>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
            () = stop.cancelled() => return,
        };
        let (world, plans, stop) = (Arc::clone(&world), Arc::clone(&plans), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| handle(Arc::clone(&world), Arc::clone(&plans), request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // An error is a reset that was asked for, or a client that went away.
                _ = connection => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// An `Err` ends the connection without an answer.
async fn handle(
    world: Arc<Mutex<World>>,
    plans: Arc<Plans>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let path = parts.uri.path().to_owned();
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes()).into_owned().collect();
    let mut asked = Asked { method: parts.method, path, query, headers: parts.headers, body };
    let answer = match api_path(&asked.path) {
        Some(path) => {
            world.lock().await.targets.push(std::mem::replace(&mut asked.path, path));
            call(&world, &plans, asked).await?
        }
        None => pages::page(&world, &asked).await,
    };
    let mut response = Response::builder()
        .header("x-ratelimit-remaining", "4999")
        .header("x-ratelimit-resource", "core")
        .status(StatusCode::from_u16(answer.status).map_err(std::io::Error::other)?);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(answer.body))).map_err(std::io::Error::other)
}

/// The API stands below `/api` as on an Enterprise Server, and at the root as on api.github.com.
fn api_path(path: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix("/api/v3") {
        return Some(rest.to_owned());
    }
    if path == "/api/graphql" {
        return Some("/graphql".to_owned());
    }
    let roots = [
        "/repos/",
        "/repositories/",
        "/app/",
        "/installation/",
        "/user/",
        "/orgs/",
        "/applications/",
        "/app-manifests/",
    ];
    let is_api = roots.iter().any(|root| path.starts_with(root)) || ["/app", "/graphql", "/user"].contains(&path);
    is_api.then(|| path.to_owned())
}

async fn call(world: &Arc<Mutex<World>>, plans: &Plans, asked: Asked) -> Result<Answer, std::io::Error> {
    let faults = if asked.path.starts_with("/app/hook/") { &plans.of_deliveries } else { &plans.of_calls };
    let (number, fault) = faults.next(asked.method.as_str(), &asked.path);
    let strikes = |when: When| fault.as_ref().filter(|fault| fault.when == when).map(|fault| &fault.kind);
    let late = match strikes(When::Before) {
        Some(Kind::Late(by) | Kind::Behind(by)) => Some((faults.delay(number), *by)),
        Some(kind) => return strike(faults, number, kind).await,
        None => None,
    };
    let world = Arc::clone(world);
    // As on GitHub, a caller who goes away takes nothing back.
    let answered = tokio::spawn(async move {
        if let Some((_, by)) = &late {
            tokio::time::sleep(*by).await;
        }
        let mut world = world.lock().await;
        let text = format!("{} {} {}", asked.method, asked.path, String::from_utf8_lossy(&asked.body));
        world.received.push(text);
        let answer = api::answer(&mut world, &asked).await;
        let call = Call { method: asked.method.to_string(), path: asked.path.clone(), status: answer.status };
        world.calls.push(call);
        drop(late);
        answer
    });
    if let Some(Kind::Behind(_)) = strikes(When::Before) {
        return Ok(Answer::empty(502));
    }
    let answer = answered.await.map_err(std::io::Error::other)?;
    match strikes(When::After) {
        Some(kind) => strike(faults, number, kind).await,
        None => Ok(answer),
    }
}

async fn strike(faults: &Faults, number: usize, kind: &Kind) -> Result<Answer, std::io::Error> {
    match kind {
        Kind::Answer { status, headers, body } => {
            Ok(Answer { status: *status, headers: headers.clone(), body: body.clone().into_bytes() })
        }
        Kind::Reset => Err(std::io::Error::other("reset on demand")),
        Kind::Hold | Kind::Late(_) | Kind::Behind(_) => {
            faults.hold(number);
            std::future::pending().await
        }
    }
}
