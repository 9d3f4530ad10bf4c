//! A stand-in for Vercel's sandbox API on loopback: strict about what it is asked, exact about what
//! it answers, and it runs real processes in temporary folders. It remembers every call, and fails
//! on demand. `official.mjs` proves it with the official SDK.

mod commands;
mod faults;
mod files;
mod firewall;
mod sandboxes;
mod sessions;
mod snapshots;
mod state;
mod validate;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

pub use faults::{Fault, Kind, When};
pub use state::{Life, Recorded};

use faults::Faults;
use state::State;
use wire::{Answer, Asked, Outcome};

pub const TOKEN: &str = "vercel-token-canary-7f3a9c";
pub const TEAM: &str = "team_T";
pub const PROJECT: &str = "prj_P";

/// How the double behaves, beside its faults.
#[derive(Debug, Clone)]
pub struct Knobs {
    /// Polls for which a new session is `pending`.
    pub pending_polls: usize,
    /// More sandboxes at once are refused with 429.
    pub max_running: usize,
    /// Milliseconds; a longer life is refused.
    pub max_timeout: i64,
    /// More vCPUs are refused.
    pub max_vcpus: u64,
    /// A folder with programs, before those of this machine.
    pub programs: Option<String>,
    /// A file with the authority that programs in sandboxes trust.
    pub authority: Option<String>,
    /// Header injection is refused.
    pub no_injection: bool,
    /// Output is handed out in pieces of so many bytes.
    pub chunk_bytes: Option<usize>,
    /// Blank lines and lines of unknown kinds between the others, and an unknown word for a session
    /// that runs.
    pub noise: bool,
    /// A log stream ends without a word after so many bytes, once per connection.
    pub cut_after: Option<usize>,
    /// Streams of a stopped session end without an error line.
    pub silent_stop: bool,
    /// Milliseconds for which a session is `stopping`: its calls get 422, the stop is not answered.
    pub stopping_ms: u64,
    /// A new session fails instead of running.
    pub born_failed: bool,
    /// A second stop is answered with 410.
    pub strict_stop: bool,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            pending_polls: 0,
            max_running: usize::MAX,
            max_timeout: 24 * 3600 * 1000,
            max_vcpus: 32,
            programs: None,
            authority: None,
            no_injection: false,
            chunk_bytes: None,
            noise: false,
            cut_after: None,
            silent_stop: false,
            stopping_ms: 0,
            born_failed: false,
            strict_stop: false,
        }
    }
}

pub(crate) struct Inner {
    state: Mutex<State>,
    faults: Faults,
    knobs: std::sync::Mutex<Knobs>,
    calls: std::sync::Mutex<Vec<Recorded>>,
    violations: std::sync::Mutex<Vec<String>>,
    /// Milliseconds that the double's clock is ahead.
    ahead: AtomicI64,
    most_alive: AtomicUsize,
    resumes: AtomicUsize,
}

impl Inner {
    fn now(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(since.as_millis()).unwrap() + self.ahead.load(Ordering::SeqCst)
    }

    fn knobs(&self) -> Knobs {
        self.knobs.lock().unwrap().clone()
    }
}

/// A running double. Everything in it ends when it is dropped.
pub struct Double {
    /// The base for clients: `http://127.0.0.1:PORT/api`.
    pub url: String,
    inner: Arc<Inner>,
    stop: CancellationToken,
}

impl Drop for Double {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(file) = &self.inner.knobs().authority {
            let _ = std::fs::remove_file(file);
        }
        if let Ok(mut state) = self.inner.state.try_lock() {
            state.kill_all();
        }
    }
}

impl Double {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            state: Mutex::default(),
            faults: Faults::default(),
            knobs: std::sync::Mutex::default(),
            calls: std::sync::Mutex::default(),
            violations: std::sync::Mutex::default(),
            ahead: AtomicI64::new(0),
            most_alive: AtomicUsize::new(0),
            resumes: AtomicUsize::new(0),
        });
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, Arc::clone(&inner), stop.clone()));
        tokio::spawn(end_what_is_due(Arc::clone(&inner), stop.clone()));
        Self { url, inner, stop }
    }

    /// A host with TLS before `upstream`, on whose requests the sandboxes' policies put headers. Gives
    /// its address; sandboxes trust it.
    pub async fn stand_before(&self, upstream: &str) -> String {
        let made = firewall::start(Arc::clone(&self.inner), upstream.to_owned(), self.stop.clone()).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), made.authority).unwrap();
        let (_, path) = file.keep().unwrap();
        self.set(|knobs| knobs.authority = Some(path.display().to_string()));
        made.url
    }

    pub fn set(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.inner.knobs.lock().unwrap());
    }

    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.inner.faults.set(faults);
    }

    /// Waits until a call is held, or gives at once that one is.
    pub async fn held(&self) {
        self.inner.faults.held().await;
    }

    /// Sets the double's clock forward.
    pub fn advance(&self, millis: i64) {
        self.inner.ahead.fetch_add(millis, Ordering::SeqCst);
    }

    pub fn calls(&self) -> Vec<Recorded> {
        self.inner.calls.lock().unwrap().clone()
    }

    /// Calls that no honest client makes.
    pub fn violations(&self) -> Vec<String> {
        self.inner.violations.lock().unwrap().clone()
    }

    /// Names of sandboxes whose machine runs now.
    pub async fn alive(&self) -> Vec<String> {
        self.inner.state.lock().await.alive()
    }

    /// The most machines that ran at one moment for one task (by its tag).
    pub fn most_alive(&self) -> usize {
        self.inner.most_alive.load(Ordering::SeqCst)
    }

    /// How often a stopped sandbox was woken: a service never should.
    pub fn resumes(&self) -> usize {
        self.inner.resumes.load(Ordering::SeqCst)
    }

    /// Calls that a fault has struck, as `METHOD kind of route`.
    pub fn struck(&self) -> Vec<String> {
        self.inner.faults.struck()
    }

    /// Lets calls go on that a `Kind::Wait` holds up.
    pub fn release(&self) {
        self.inner.faults.release();
    }

    /// Sandboxes that were ever made.
    pub async fn lives(&self) -> Vec<Life> {
        self.inner.state.lock().await.lives()
    }

    /// The folder that a running sandbox sees as its root.
    pub async fn root(&self, name: &str) -> std::path::PathBuf {
        self.inner.state.lock().await.root(name)
    }

    /// As if somebody stopped the sandbox on Vercel's dashboard.
    pub async fn stop_from_outside(&self, name: &str) {
        let (inner, now) = (&self.inner, self.inner.now());
        inner.state.lock().await.end(name, now, "stopped", true);
    }

    /// As if the machine under a sandbox failed.
    pub async fn fail(&self, name: &str) {
        let (inner, now) = (&self.inner, self.inner.now());
        inner.state.lock().await.end(name, now, "failed", false);
    }

    /// As if a snapshot had expired.
    pub async fn lose_snapshots(&self) {
        self.inner.state.lock().await.lose_snapshots();
    }

    /// Ids of the snapshots that there are.
    pub async fn snapshots(&self) -> Vec<String> {
        let state = self.inner.state.lock().await;
        state.snapshots.iter().filter(|(_, one)| one.status == "created").map(|(id, _)| id.clone()).collect()
    }
}

/// At its deadline a session ends as if it was stopped.
async fn end_what_is_due(inner: Arc<Inner>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
            () = stop.cancelled() => return,
        }
        let now = inner.now();
        inner.state.lock().await.end_due(now);
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

/// Hands on each connection until told to stop.
async fn accept(listener: TcpListener, stop: CancellationToken, take: impl Fn(TcpStream)) {
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                take(stream);
            },
            () = stop.cancelled() => return,
        }
    }
}

async fn serve(listener: TcpListener, inner: Arc<Inner>, stop: CancellationToken) {
    accept(listener, stop.clone(), |stream| {
        let (inner, stop) = (Arc::clone(&inner), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| handle(Arc::clone(&inner), request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                () = stop.cancelled() => {}
            }
        });
    })
    .await;
}

/// An `Err` ends the connection without an answer.
async fn handle(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let query = parts.uri.query().unwrap_or_default();
    let asked = Asked {
        method: parts.method,
        path: parts.uri.path().split('/').skip(1).map(decoded).collect(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers: parts.headers,
        body,
    };
    inner.calls.lock().unwrap().push(Recorded::of(&asked, query));
    let route = format!("{} {}", asked.method, parts.uri.path());
    match inner.faults.next(&route) {
        Some(Fault { kind: Kind::Wait, .. }) => {
            inner.faults.wait().await;
            carry_out(inner, asked, route, None).await
        }
        Some(Fault { kind: Kind::Late(by), .. }) => {
            inner.faults.arrive();
            let late = async move {
                tokio::time::sleep(by).await;
                carry_out(inner, asked, route, None).await
            };
            tokio::spawn(late).await.map_err(std::io::Error::other)?
        }
        fault => carry_out(inner, asked, route, fault).await,
    }
}

async fn carry_out(
    inner: Arc<Inner>,
    asked: Asked,
    route: String,
    fault: Option<Fault>,
) -> Result<Response<Body>, std::io::Error> {
    if let Some(fault) = fault.as_ref().filter(|fault| fault.when == When::Before) {
        return inner.faults.strike(fault).await;
    }
    let answer = match answer(&inner, &asked).await {
        Ok(answer) | Err(answer) => answer,
    };
    if let Some(what) = &answer.violation {
        inner.violations.lock().unwrap().push(format!("{route}: {what}"));
    }
    if let Some(fault) = fault {
        return match fault.kind {
            // These spoil the answer, they do not replace it.
            Kind::WrongType => Ok(answer.with_type("text/html").response()),
            Kind::Truncated => Ok(answer.truncated().response()),
            _ => inner.faults.strike(&fault).await,
        };
    }
    Ok(answer.response())
}

fn decoded(part: &str) -> String {
    url::form_urlencoded::parse(format!("x={}", part.replace('+', "%2B")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

async fn answer(inner: &Arc<Inner>, asked: &Asked) -> Outcome {
    asked.check_caller()?;
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    let rest = match path.as_slice() {
        ["api", rest @ ..] => rest,
        _ => return Err(Answer::error(404, "not_found", "not below /api")),
    };
    match (&asked.method, rest) {
        (&Method::POST, ["v3", "sandboxes"]) => sandboxes::create(inner, asked).await,
        (&Method::GET, ["v2", "sandboxes"]) => sandboxes::list(inner, asked).await,
        (&Method::GET, ["v2", "sandboxes", "snapshots"]) => snapshots::list(inner, asked).await,
        (&Method::GET, ["v2", "sandboxes", "snapshots", id]) => snapshots::get(inner, asked, id).await,
        (&Method::DELETE, ["v2", "sandboxes", "snapshots", id]) => snapshots::delete(inner, asked, id).await,
        (_, ["v2", "sandboxes", "sessions", id, rest @ ..]) => sessions::answer(inner, asked, id, rest).await,
        (&Method::GET, ["v2", "sandboxes", name]) => sandboxes::get(inner, asked, name).await,
        (&Method::DELETE, ["v2", "sandboxes", name]) => sandboxes::delete(inner, asked, name).await,
        _ => {
            Err(Answer { violation: Some("no such route".into()), ..Answer::error(404, "not_found", "no such route") })
        }
    }
}
