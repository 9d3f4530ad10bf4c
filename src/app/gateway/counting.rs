//! An answer on its way through, and the call it belongs to: counted whatever its end, in tasks of their
//! own, so that nobody who goes away takes the count along.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzDecoder;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::task::JoinHandle;

use super::places::Place;
use crate::adapters::models::Unreachable;
use crate::adapters::store::Granted;
use crate::app::App;
use crate::domain::gateway::metering::{Measured, Meter, Tokens};
use crate::domain::gateway::price::cost;

/// How long the rest of an answer is read for its usage when nobody wants it any more.
const DRAIN: Duration = Duration::from_secs(300);
/// Tries to store what a call cost.
const TRIES: u32 = 5;

type Pieces = BoxStream<'static, Result<Bytes, Unreachable>>;

/// Reads what passes, packed or not.
pub(super) enum Counter {
    Plain(Meter),
    Packed(Box<GzDecoder<Meter>>),
}

impl Counter {
    fn take(&mut self, bytes: &[u8]) {
        match self {
            Self::Plain(meter) => meter.take(bytes),
            // What cannot be unpacked is counted by its size.
            Self::Packed(decoder) => _ = decoder.write_all(bytes).and_then(|()| decoder.flush()),
        }
    }

    fn meter(&self) -> &Meter {
        match self {
            Self::Plain(meter) => meter,
            Self::Packed(decoder) => decoder.get_ref(),
        }
    }
}

/// A call under way, from before it was sent. Dropped before its end, it is counted by what came; where
/// that tells nothing, the rest is read for its usage.
pub(super) struct Counted {
    app: Arc<App>,
    open: Option<Open>,
}

struct Open {
    grant: Granted,
    counter: Counter,
    /// What was counted when the answer first told.
    counted: Option<Tokens>,
    body: Option<Pieces>,
    /// Held until the call is counted.
    place: Place,
}

impl Counted {
    pub(super) fn new(app: Arc<App>, grant: Granted, meter: Meter, place: Place) -> Self {
        let counter = Counter::Plain(meter);
        Self { app, open: Some(Open { grant, counter, counted: None, body: None, place }) }
    }

    /// It cost nothing: it was never sent, or refused.
    pub(super) fn forget(mut self) {
        self.open = None;
    }

    /// The answer begins. `unpack`: it is packed with gzip.
    pub(super) fn begin(&mut self, content_type: &str, unpack: bool, body: Pieces) {
        let Some(open) = &mut self.open else { return };
        let mut meter = open.counter.meter().clone();
        meter.begin(content_type);
        open.counter = if unpack { Counter::Packed(Box::new(GzDecoder::new(meter))) } else { Counter::Plain(meter) };
        open.body = Some(body);
    }

    async fn next(&mut self) -> Option<Result<Bytes, Unreachable>> {
        let open = self.open.as_mut()?;
        let piece = open.body.as_mut()?.next().await;
        if let Some(Ok(bytes)) = &piece {
            open.counter.take(bytes);
        }
        piece
    }

    /// Counts what the answer has told, as soon as it tells: whoever calls again meets the limit.
    async fn count_if_told(&mut self) {
        let Some(open) = &mut self.open else { return };
        if open.counted.is_some() || !open.counter.meter().is_told() {
            return;
        }
        let call = open.counter.meter().so_far();
        open.counted = Some(call.tokens);
        let counting = spawn(&self.app, count(Arc::clone(&self.app), open.grant.clone(), call, 1));
        waited_for(counting).await;
        open.place.release();
    }

    async fn settle(&mut self) {
        if let Some(open) = self.open.take() {
            waited_for(spawn(&self.app, settle(Arc::clone(&self.app), open))).await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let app = Arc::clone(&self.app);
        spawn(&self.app, async move {
            // Where the input is known, the vendor may stop: what was written is known by its size.
            if open.counted.is_none() && !open.counter.meter().knows_input() {
                tokio::select! {
                    () = drain(&mut open) => {}
                    () = tokio::time::sleep(DRAIN) => {}
                    // What the vendor would still tell is not waited for at a stop.
                    () = app.requests_over.cancelled() => {}
                }
            }
            settle(app, open).await;
        });
    }
}

/// Where the runtime is gone nothing can be counted any more.
fn spawn(app: &App, work: impl Future<Output = ()> + Send + 'static) -> Option<JoinHandle<()>> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    Some(app.unawaited.spawn_on(work, &runtime))
}

async fn waited_for(counting: Option<JoinHandle<()>>) {
    if let Some(counting) = counting
        && let Err(error) = counting.await
    {
        tracing::error!(error = &error as &dyn std::error::Error, "a call was not counted");
    }
}

async fn drain(open: &mut Open) {
    let Some(body) = &mut open.body else { return };
    while let Some(Ok(bytes)) = body.next().await {
        open.counter.take(&bytes);
    }
}

/// What was not counted yet.
async fn settle(app: Arc<App>, open: Open) {
    let Open { grant, counter, counted, .. } = open;
    let mut call = counter.meter().clone().finish();
    let mut calls = 1;
    if let Some(counted) = counted {
        call.tokens = call.tokens.beyond(&counted);
        calls = 0;
        if call.tokens == Tokens::default() {
            return;
        }
    }
    count(app, grant, call, calls).await;
}

async fn count(app: Arc<App>, grant: Granted, call: Measured, calls: i64) {
    let cost = cost(grant.provider, &call.model, &call.tokens);
    let provider = grant.provider.name();
    metrics::counter!("hireling_gateway_tokens_total", "provider" => provider, "kind" => "input")
        .increment(call.tokens.all_input());
    metrics::counter!("hireling_gateway_tokens_total", "provider" => provider, "kind" => "output")
        .increment(call.tokens.output);
    metrics::counter!("hireling_gateway_micro_usd_total", "provider" => provider)
        .increment(u64::try_from(cost.sum.0).unwrap_or(0));
    for tries in 0..TRIES {
        match app.store.spend(&grant, &call, cost, calls, app.clock.now()).await {
            Ok(()) => return,
            Err(error) if tries + 1 == TRIES => {
                tracing::error!(task = %grant.task, model = %call.model, cost = %cost.sum,
                    error = &error as &dyn std::error::Error, "a call was not counted");
            }
            Err(_) => tokio::time::sleep(crate::app::run_task::retry_wait(tries, &*app.clock)).await,
        }
    }
}

/// Passes the pieces on.
pub(super) fn counted(call: Counted) -> BoxStream<'static, Result<Bytes, std::io::Error>> {
    futures::stream::unfold(call, |mut call| async move {
        match call.next().await {
            Some(Ok(piece)) => {
                call.count_if_told().await;
                Some((Ok(piece), call))
            }
            Some(Err(error)) => {
                call.settle().await;
                Some((Err(std::io::Error::other(error)), call))
            }
            None => {
                call.settle().await;
                None
            }
        }
    })
    .boxed()
}
