//! An answer on its way through, and the call it belongs to: counted once, whatever its end.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::GzDecoder;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::adapters::models::Unreachable;
use crate::adapters::store::Granted;
use crate::app::App;
use crate::domain::gateway::metering::Meter;
use crate::domain::gateway::price::cost;

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

    fn is_told(&self) -> bool {
        match self {
            Self::Plain(meter) => meter.is_told(),
            Self::Packed(decoder) => decoder.get_ref().is_told(),
        }
    }

    fn meter(self) -> Meter {
        match self {
            Self::Plain(meter) => meter,
            Self::Packed(decoder) => decoder.get_ref().clone(),
        }
    }
}

/// A call whose answer is under way. Dropped before its end, it is counted by what came.
pub(super) struct Counted {
    app: Arc<App>,
    open: Option<(Granted, Counter)>,
}

impl Counted {
    pub(super) fn new(app: Arc<App>, grant: Granted, counter: Counter) -> Self {
        Self { app, open: Some((grant, counter)) }
    }

    fn take(&mut self, bytes: &[u8]) {
        if let Some((_, counter)) = &mut self.open {
            counter.take(bytes);
        }
    }

    fn is_told(&self) -> bool {
        self.open.as_ref().is_some_and(|(_, counter)| counter.is_told())
    }

    /// Counts, if that was not done yet. In a task of its own: whoever asked may go away meanwhile.
    fn begin_to_settle(&mut self) -> Option<JoinHandle<()>> {
        let (grant, counter) = self.open.take()?;
        let app = Arc::clone(&self.app);
        let runtime = Handle::try_current().ok()?;
        Some(runtime.spawn(async move { count(&app, &grant, counter).await }))
    }

    async fn settle(&mut self) {
        if let Some(counting) = self.begin_to_settle()
            && let Err(error) = counting.await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "a call was not counted");
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.begin_to_settle();
    }
}

async fn count(app: &App, grant: &Granted, counter: Counter) {
    let call = counter.meter().finish();
    let cost = cost(grant.provider, &call.model, &call.tokens);
    let provider = grant.provider.name();
    metrics::counter!("hireling_gateway_tokens_total", "provider" => provider, "kind" => "input")
        .increment(call.tokens.all_input());
    metrics::counter!("hireling_gateway_tokens_total", "provider" => provider, "kind" => "output")
        .increment(call.tokens.output);
    metrics::counter!("hireling_gateway_micro_usd_total", "provider" => provider)
        .increment(u64::try_from(cost.sum.0).unwrap_or(0));
    if let Err(error) = app.store.spend(grant, &call, cost, app.clock.now()).await {
        tracing::error!(task = %grant.task, model = %call.model, cost = %cost.sum,
            error = &error as &dyn std::error::Error, "a call was not counted");
    }
}

/// Passes the pieces on. The one that tells the usage goes on when the call is counted: whoever calls
/// again after it meets the limit.
pub(super) fn counted(
    body: BoxStream<'static, Result<Bytes, Unreachable>>,
    call: Counted,
) -> BoxStream<'static, Result<Bytes, std::io::Error>> {
    futures::stream::unfold((body, call), |(mut body, mut call)| async move {
        match body.next().await {
            Some(Ok(piece)) => {
                call.take(&piece);
                if call.is_told() {
                    call.settle().await;
                }
                Some((Ok(piece), (body, call)))
            }
            Some(Err(error)) => {
                call.settle().await;
                Some((Err(std::io::Error::other(error)), (body, call)))
            }
            None => {
                call.settle().await;
                None
            }
        }
    })
    .boxed()
}
