//! Failing on demand: chosen calls, before or after their effect.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::Notify;

use super::Body;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The call has no effect.
    Before,
    /// The effect is there, the answer is not.
    After,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A JSON error of this status and code; seconds of `Retry-After`.
    Status(u16, &'static str, Option<u64>),
    /// A page instead of JSON.
    Html(u16),
    /// A status and nothing else.
    Empty(u16),
    /// The connection ends without an answer.
    Reset,
    /// No answer for a while, then the connection ends.
    Stall(Duration),
    /// No answer ever comes; `Double::held` tells when the call is there.
    Hold,
    /// The call waits until `Double::release`, then goes on as if nothing was.
    Wait,
    /// The call is carried out after a while, whether or not its caller is still there; `Double::held` tells when it came.
    Late(Duration),
    /// The answer, under the name of another type.
    WrongType,
    /// Half of the answer.
    Truncated,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Part of `METHOD /path`; empty: any call but the sweeper's list.
    pub route: &'static str,
    /// Which of those calls is the first to fail, from 0.
    pub nth: usize,
    /// How many calls in a row.
    pub times: usize,
    pub when: When,
    pub kind: Kind,
}

impl Fault {
    /// The first calls of a route.
    pub fn first(route: &'static str, times: usize, when: When, kind: Kind) -> Self {
        Self { route, nth: 0, times, when, kind }
    }
}

#[derive(Default)]
pub struct Faults {
    planned: Mutex<Vec<(Fault, usize)>>,
    is_held: Mutex<bool>,
    arrived: Notify,
    released: Notify,
    struck: Mutex<Vec<String>>,
}

impl Faults {
    pub fn set(&self, faults: Vec<Fault>) {
        self.struck.lock().unwrap().clear();
        *self.planned.lock().unwrap() = faults.into_iter().map(|fault| (fault, 0)).collect();
        *self.is_held.lock().unwrap() = false;
    }

    /// Gives the fault that is planned for it.
    pub fn next(&self, route: &str) -> Option<Fault> {
        if route == "GET /api/v2/sandboxes" {
            // The sweeper's, which comes when it will.
            return None;
        }
        let mut found = None;
        for (fault, seen) in self.planned.lock().unwrap().iter_mut() {
            if matches(fault.route, route) {
                let call = *seen;
                *seen += 1;
                if (fault.nth..fault.nth + fault.times).contains(&call) {
                    found.get_or_insert_with(|| fault.clone());
                }
            }
        }
        if found.is_some() {
            self.struck.lock().unwrap().push(kind_of(route));
        }
        found
    }

    pub fn struck(&self) -> Vec<String> {
        self.struck.lock().unwrap().clone()
    }

    pub async fn wait(&self) {
        let released = self.released.notified();
        self.arrive();
        released.await;
    }

    /// Tells whoever waits for it that a call is held up.
    pub fn arrive(&self) {
        *self.is_held.lock().unwrap() = true;
        self.arrived.notify_waiters();
    }

    pub fn release(&self) {
        self.released.notify_waiters();
    }

    pub async fn strike(&self, fault: &Fault) -> Result<Response<Body>, std::io::Error> {
        let answer = |status: u16, kind: &str, body: String, after: Option<u64>| {
            let mut response = Response::builder().status(status).header("content-type", kind);
            if let Some(seconds) = after {
                response = response.header("retry-after", seconds);
            }
            Ok(response.body(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed()).unwrap())
        };
        match fault.kind {
            Kind::Status(status, code, after) => {
                let body = serde_json::json!({ "error": { "code": code, "message": format!("planned {code}") } });
                answer(status, "application/json; charset=utf-8", body.to_string(), after)
            }
            Kind::Html(status) => answer(status, "text/html", "<html><h1>Bad gateway</h1></html>".into(), None),
            Kind::Empty(status) => answer(status, "text/plain", String::new(), None),
            Kind::Stall(time) => {
                tokio::time::sleep(time).await;
                Err(std::io::Error::other("stalled"))
            }
            Kind::Hold => {
                self.arrive();
                std::future::pending().await
            }
            Kind::Wait | Kind::Late(_) | Kind::Reset | Kind::WrongType | Kind::Truncated => {
                Err(std::io::Error::other("reset"))
            }
        }
    }

    pub async fn held(&self) {
        loop {
            let arrived = self.arrived.notified();
            if *self.is_held.lock().unwrap() {
                return;
            }
            arrived.await;
        }
    }
}

/// A route without its ids: `POST cmd`, `GET logs`, `GET cmd/{id}`, `DELETE {name}`.
fn kind_of(route: &str) -> String {
    let (method, path) = route.split_once(' ').unwrap_or(("", route));
    let parts: Vec<&str> = path.split('/').skip(3).collect();
    let kind = match parts.as_slice() {
        ["sandboxes"] => "sandboxes",
        ["sandboxes", "sessions", _] => "sessions/{id}",
        ["sandboxes", "sessions", _, "cmd", _] => "cmd/{id}",
        ["sandboxes", "sessions", _, "cmd", _, last] | ["sandboxes", "sessions", _, last] => last,
        ["sandboxes", "sessions", _, "fs", last] => return format!("{method} fs/{last}"),
        ["sandboxes", _] => "{name}",
        _ => path,
    };
    format!("{method} {kind}")
}

/// `POST */cmd`: the method, then how the path ends; otherwise any part of the two.
fn matches(pattern: &str, route: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => route.starts_with(start) && route.ends_with(end),
        None => route.contains(pattern),
    }
}
