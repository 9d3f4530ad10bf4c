//! The log of a task: live as events, in pieces for a window that scrolls, whole as plain text.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Web;
use super::page::fail;
use super::task::task_for;
use super::visitor::{Me, Visitor};
use crate::app::live::{News, wire};
use crate::domain::ids::{Millis, TaskId};
use crate::domain::task::Thread;

const LINES: usize = 500;
/// A line without news, so that proxies keep the connection.
const QUIET: Duration = Duration::from_secs(15);
/// No log is as long.
pub(super) const MAX_PLACE: i64 = 1 << 52;
const CHECK_EVERY: Duration = Duration::from_secs(60);
const END: &str = "event: end\ndata: the task is over\n\n";

/// A place in the log, in the address. What is no number is none.
fn place_of(query: &HashMap<String, String>, name: &str) -> Option<i64> {
    query.get(name)?.parse().ok().map(|place: i64| place.clamp(0, MAX_PLACE))
}

/// The log as plain text, from its first line to its last one now.
pub async fn plain(State(web): State<Arc<Web>>, visitor: Visitor, Path(id): Path<String>) -> Response {
    let task = match task_for(&web, &visitor, id).await {
        Ok(task) => task,
        Err(refusal) => return refusal,
    };
    let place = match Arc::clone(&web.viewers).try_acquire_owned() {
        Ok(found) => found,
        Err(error) => return fail(&web, &error),
    };
    let stream = futures::stream::unfold((web, task.id, Some(0), place), |(web, id, after, place)| async move {
        let after = after?;
        let entries = match web.app.store.log_after(&id, after, LINES).await {
            Ok(entries) => entries,
            // Broken off, not ended: the reader has to see that.
            Err(error) => return Some((Err(std::io::Error::other(error)), (web, id, None, place))),
        };
        let next = Some(entries.last()?.seq);
        let text: String = entries.iter().map(|entry| format!("{}\n", entry.text)).collect();
        Some((Ok(text), (web, id, next, place)))
    });
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(stream)).into_response()
}

/// Some lines before or after a place.
pub async fn lines(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let task = match task_for(&web, &visitor, id).await {
        Ok(task) => task,
        Err(refusal) => return refusal,
    };
    let found = match place_of(&query, "before") {
        Some(before) => web.app.store.log_before(&task.id, before, LINES).await,
        None => web.app.store.some_log_after(&task.id, place_of(&query, "after").unwrap_or(0), LINES).await,
    };
    match found {
        Ok(entries) => {
            let lines: Vec<(i64, &str, &str)> =
                entries.iter().map(|entry| (entry.seq, entry.kind.name(), entry.text.as_str())).collect();
            axum::Json(lines).into_response()
        }
        Err(error) => fail(&web, &error),
    }
}

/// New lines as they come: one event per line, its id is the line's place in the log.
pub async fn events(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let task = match task_for(&web, &visitor, id).await {
        Ok(task) => task,
        Err(refusal) => return refusal,
    };
    let resumed =
        headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<i64>().ok());
    let length = match web.app.store.log_length(&task.id).await {
        Ok(found) => found,
        Err(error) => return fail(&web, &error),
    };
    let after = resumed.or(place_of(&query, "after")).unwrap_or(0).clamp(0, length);
    let place = match Arc::clone(&web.viewers).try_acquire_owned() {
        Ok(found) => found,
        Err(error) => return fail(&web, &error),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let (thread, me) = (task.thread, visitor.me);
    let checked_at = web.app.clock.now();
    let reader = Reader { web, id: task.id, thread, me, checked_at, after, news: None, _place: place };
    (headers, Body::from_stream(reader.stream())).into_response()
}

/// One page that follows a log.
struct Reader {
    web: Arc<Web>,
    id: TaskId,
    thread: Thread,
    me: Option<Me>,
    /// When the visitor was last found to be allowed to read.
    checked_at: Millis,
    after: i64,
    /// What comes from now on; `None`: read from the database first.
    news: Option<Receiver<News>>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    fn stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures::stream::unfold(Some(self), |reader| async move {
            let mut reader = reader?;
            if !reader.may_go_on().await {
                return None;
            }
            let stop = reader.web.stop.clone();
            let (piece, goes_on) = tokio::select! {
                next = reader.next() => next,
                () = tokio::time::sleep(QUIET) => (Bytes::from_static(b":\n\n"), true),
                () = stop.cancelled() => return None,
            };
            Some((Ok(piece), goes_on.then_some(reader)))
        })
    }

    /// A stream outlives neither its session nor the right to read by more than a minute.
    async fn may_go_on(&mut self) -> bool {
        let now = self.web.app.clock.now();
        if now.since(self.checked_at) < CHECK_EVERY {
            return true;
        }
        self.checked_at = now;
        let is_signed_in = match &self.me {
            Some(me) => self.web.app.is_session(&me.session.id).await,
            None => true,
        };
        let person = self.me.as_ref().map(|me| &me.person);
        is_signed_in && self.web.app.may_read(&self.thread, person).await == Ok(true)
    }

    /// The next piece, and whether there may be more.
    async fn next(&mut self) -> (Bytes, bool) {
        loop {
            // Joined before the database is read: nothing falls in between.
            let Some(news) = &mut self.news else {
                let length = self.web.app.store.log_length(&self.id).await.unwrap_or(self.after);
                let news = self.web.app.follow(&self.id, length, &self.web.stop);
                self.news = Some(news);
                if let Some(bytes) = self.stored().await {
                    // There may be more, which the others have been told already.
                    self.news = None;
                    return (bytes, true);
                }
                let found = self.web.app.store.task(&self.id).await;
                if found.is_ok_and(|task| task.is_none_or(|task| task.state.is_finished())) && self.is_at_end().await {
                    return (Bytes::from_static(END.as_bytes()), false);
                }
                continue;
            };
            match news.recv().await {
                Ok(News::Lines(piece)) if piece.last <= self.after => {}
                Ok(News::Lines(piece)) if piece.first == self.after + 1 => {
                    self.after = piece.last;
                    return (piece.wire, true);
                }
                Ok(News::End) if self.is_at_end().await => return (Bytes::from_static(END.as_bytes()), false),
                Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => self.news = None,
            }
        }
    }

    async fn is_at_end(&self) -> bool {
        self.web.app.store.log_length(&self.id).await.is_ok_and(|length| length <= self.after)
    }

    async fn stored(&mut self) -> Option<Bytes> {
        let entries = self.web.app.store.log_after(&self.id, self.after, LINES).await.unwrap_or_default();
        self.after = entries.last()?.seq;
        Some(wire(&entries))
    }
}
