//! The log of a task: live as events, in pieces for a window that scrolls, whole as plain text.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Web;
use super::page::refuse;
use super::visitor::Visitor;
use crate::app::live::{News, wire};
use crate::domain::ids::TaskId;

const LINES: usize = 500;
/// A line without news, so that proxies keep the connection.
const QUIET: Duration = Duration::from_secs(15);
const END: &str = "event: end\ndata: the task is over\n\n";

#[derive(Deserialize)]
pub struct From {
    after: Option<i64>,
}

#[derive(Deserialize)]
pub struct Around {
    after: Option<i64>,
    before: Option<i64>,
}

/// The log as plain text, from its first line to its last one now.
pub async fn plain(State(web): State<Arc<Web>>, visitor: Visitor, Path(id): Path<String>) -> Response {
    let Some(task) = web.app.visible_task(&TaskId(id), visitor.person()).await else {
        return refuse(&web, StatusCode::NOT_FOUND);
    };
    let Ok(place) = Arc::clone(&web.viewers).try_acquire_owned() else {
        return refuse(&web, StatusCode::SERVICE_UNAVAILABLE);
    };
    let stream = futures::stream::unfold((web, task.id, Some(0), place), |(web, id, after, place)| async move {
        let after = after?;
        let entries = web.app.store.log_after(&id, after, LINES).await.ok().filter(|found| !found.is_empty())?;
        let next = entries.last().map(|entry| entry.seq);
        let text: String = entries.iter().map(|entry| format!("{}\n", entry.text)).collect();
        Some((Ok::<_, Infallible>(text), (web, id, next, place)))
    });
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(stream)).into_response()
}

/// Some lines before or after a place.
pub async fn lines(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(around): Query<Around>,
) -> Response {
    let Some(task) = web.app.visible_task(&TaskId(id), visitor.person()).await else {
        return refuse(&web, StatusCode::NOT_FOUND);
    };
    let found = match around.before {
        Some(before) => web.app.store.log_before(&task.id, before, LINES).await,
        None => web.app.store.log_after(&task.id, around.after.unwrap_or(0), LINES).await,
    };
    match found {
        Ok(mut entries) => {
            if around.before.is_none() {
                entries.truncate(LINES);
            }
            let lines: Vec<(i64, &str, &str)> =
                entries.iter().map(|entry| (entry.seq, entry.kind.name(), entry.text.as_str())).collect();
            axum::Json(lines).into_response()
        }
        Err(_) => refuse(&web, StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// New lines as they come: one event per line, its id is the line's place in the log.
pub async fn events(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Response {
    let Some(task) = web.app.visible_task(&TaskId(id), visitor.person()).await else {
        return refuse(&web, StatusCode::NOT_FOUND);
    };
    let resumed = headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let after = resumed.or(from.after).unwrap_or(0);
    let Ok(place) = Arc::clone(&web.viewers).try_acquire_owned() else {
        return refuse(&web, StatusCode::SERVICE_UNAVAILABLE);
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let reader = Reader { web, id: task.id, after, news: None, _place: place };
    (headers, Body::from_stream(reader.stream())).into_response()
}

/// One page that follows a log.
struct Reader {
    web: Arc<Web>,
    id: TaskId,
    after: i64,
    /// What comes from now on; `None`: read from the database first.
    news: Option<Receiver<News>>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    fn stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures::stream::unfold(Some(self), |reader| async move {
            let mut reader = reader?;
            let stop = reader.web.stop.clone();
            let (piece, goes_on) = tokio::select! {
                next = reader.next() => next,
                () = tokio::time::sleep(QUIET) => (Bytes::from_static(b":\n\n"), true),
                () = stop.cancelled() => return None,
            };
            Some((Ok(piece), goes_on.then_some(reader)))
        })
    }

    /// The next piece, and whether there may be more.
    async fn next(&mut self) -> (Bytes, bool) {
        loop {
            // Joined before the database is read: nothing falls in between.
            let Some(news) = &mut self.news else {
                let news = self.web.app.follow(&self.id, self.after, &self.web.stop);
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
