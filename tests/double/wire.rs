//! Requests as they came, answers as they go.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use super::{Body, TEAM, TOKEN};

pub type Lines = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send + Sync>>;

/// `Err` is an answer, too: a refusal.
pub type Outcome = Result<Answer, Answer>;

pub struct Asked {
    pub method: Method,
    /// Decoded parts, `api` first.
    pub path: Vec<String>,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Every call needs the token, a team, and an honest content type.
    pub fn check_caller(&self) -> Result<(), Answer> {
        let bearer = self.headers.get("authorization").and_then(|value| value.to_str().ok());
        if bearer != Some(format!("Bearer {TOKEN}").as_str()) {
            return Err(Answer::error(403, "forbidden", "the token is unknown"));
        }
        match self.query("teamId").or(self.query("slug")) {
            Some(TEAM) => Ok(()),
            Some(_) => Err(Answer::error(404, "not_found", "the team is unknown")),
            None => Err(Answer::violation("teamId is missing")),
        }?;
        let kind = self.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if matches!(kind, "application/json" | "application/gzip") {
            Ok(())
        } else {
            Err(Answer::violation("the content type is neither JSON nor gzip"))
        }
    }

    /// The project has another name in each kind of call.
    pub fn project(&self, name: &str) -> Result<String, Answer> {
        let project = self.query(name).filter(|project| !project.is_empty());
        project.map(ToOwned::to_owned).ok_or_else(|| Answer::violation(&format!("{name} is missing")))
    }

    pub fn json(&self) -> Result<Value, Answer> {
        let value: Value =
            serde_json::from_slice(&self.body).map_err(|error| Answer::violation(&format!("not JSON: {error}")))?;
        if holds_null(&value) { Err(Answer::violation("null is no value here")) } else { Ok(value) }
    }
}

fn holds_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.iter().any(holds_null),
        Value::Object(map) => map.values().any(holds_null),
        _ => false,
    }
}

pub enum AnswerBody {
    Full(Bytes),
    Stream(Lines),
}

pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: AnswerBody,
    /// No honest client asks like this.
    pub violation: Option<String>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({})", self.status)
    }
}

impl Answer {
    pub fn json(status: u16, value: &Value) -> Self {
        let content_type = "application/json; charset=utf-8";
        Self { status, content_type, body: AnswerBody::Full(value.to_string().into()), violation: None }
    }

    /// A refusal of something that no honest client asks.
    pub fn violation(message: &str) -> Self {
        Self { violation: Some(message.to_owned()), ..Self::error(400, "bad_request", message) }
    }

    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &json!({ "error": { "code": code, "message": message, "hint": "of the double" } }))
    }

    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self {
            status: 200,
            content_type: "application/octet-stream",
            body: AnswerBody::Full(bytes.into()),
            violation: None,
        }
    }

    /// Exactly this type: the official SDK refuses one with a charset.
    pub fn lines(lines: Lines) -> Self {
        Self { status: 200, content_type: "application/x-ndjson", body: AnswerBody::Stream(lines), violation: None }
    }

    /// Half of the answer, as if it were the whole; bytes of a file break off, as their length tells.
    pub fn truncated(self) -> Self {
        let body = match self.body {
            AnswerBody::Full(bytes) if self.content_type == "application/octet-stream" => {
                let half = bytes.slice(..bytes.len() / 2);
                let broken = std::io::Error::other("broken off");
                AnswerBody::Stream(Box::pin(futures::stream::iter([Ok(half), Err(broken)])))
            }
            AnswerBody::Full(bytes) => AnswerBody::Full(bytes.slice(..bytes.len() / 2)),
            AnswerBody::Stream(_) => AnswerBody::Full(Bytes::from_static(b"{\"stream\":\"stdout\",\"da\n")),
        };
        Self { body, ..self }
    }

    pub fn with_type(mut self, content_type: &'static str) -> Self {
        self.content_type = content_type;
        self
    }

    pub fn response(self) -> Response<Body> {
        let body = match self.body {
            AnswerBody::Full(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed(),
            AnswerBody::Stream(lines) => {
                let frames = futures::TryStreamExt::map_ok(lines, Frame::data);
                StreamBody::new(frames).boxed()
            }
        };
        Response::builder().status(self.status).header("content-type", self.content_type).body(body).unwrap()
    }
}
