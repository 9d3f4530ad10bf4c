//! Claims tasks and holds their leases while they run. One dispatcher per process claims for all:
//! on SQLite more claimers only hurt, on PostgreSQL every process has one.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::App;
use super::gate::Gate;
use super::outbox::SETTLING;
use super::run_task::{Held, RunContext, effects_of_end, run};
use super::signals::Topic;
use crate::adapters::store::{Claimed, Lease, StoreError};
use crate::domain::failure::{Failure, cancelled};
use crate::domain::ids::TaskId;
use crate::domain::run::{Ending, Run, Step};
use crate::domain::task::Task;

const LEASE: Duration = Duration::from_secs(60);
/// What an agent that is cancelled gets to stop.
const TO_STOP: Duration = Duration::from_secs(8);
const RENEW_EVERY: Duration = Duration::from_secs(15);
/// … after a try that failed: a database that is away for half a minute breaks nothing off.
const RENEW_AGAIN: Duration = Duration::from_secs(2);
/// A worker stops this long before its lease is over: GitHub ends each call after ten seconds, so whoever takes over sees
/// what came of the last one.
const MARGIN: Duration = Duration::from_secs(15);

/// What this worker has in hands. A lease can run out without its holder noticing, when a clock is set or the process was
/// frozen: then the same worker may claim the task again beside its own run.
#[derive(Default)]
struct Hands(HashMap<TaskId, Weak<Mutex<()>>>);

impl Hands {
    /// Locked by who runs the task.
    fn of(&mut self, task: &TaskId) -> Arc<Mutex<()>> {
        self.0.retain(|_, hand| hand.strong_count() > 0);
        let hand = self.0.get(task).and_then(Weak::upgrade).unwrap_or_default();
        self.0.insert(task.clone(), Arc::downgrade(&hand));
        hand
    }
}

/// Claims and runs tasks until told to stop; then hands running ones back and returns.
pub(super) async fn work(app: Arc<App>, stop: CancellationToken) {
    let owner = app.clock.new_id();
    let running = TaskTracker::new();
    let mut hands = Hands::default();
    while !stop.is_cancelled() {
        // A stop in the middle of a row of claims ends it: what is handed back is for the next process.
        while running.len() < app.settings.max_concurrent && !stop.is_cancelled() {
            match claim(&app, &owner).await {
                Ok(Some((claimed, until))) => {
                    let span = tracing::info_span!("task", task.id = %claimed.task.id, repo = %claimed.task.thread.name,
                        issue = %claimed.task.thread.issue, delivery.id = %claimed.task.delivery);
                    let hand = hands.of(&claimed.task.id);
                    running.spawn(hold(Arc::clone(&app), (claimed, until), hand, stop.clone()).instrument(span));
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "tasks cannot be claimed");
                    break;
                }
            }
        }
        metrics::gauge!("hireling_tasks_running").set(running.len() as f64);
        tokio::select! {
            () = app.signals.tasks.notified() => {}
            () = tokio::time::sleep(app.look_every()) => {}
            () = stop.cancelled() => {}
        }
    }
    running.close();
    running.wait().await;
    // What was handed back can be taken at once.
    app.tell_others([Topic::Tasks]).await;
}

/// And until when it is held, counted from before the asking: the database's own time is never earlier than ours.
async fn claim(app: &App, owner: &str) -> Result<Option<(Claimed, Instant)>, StoreError> {
    // Idle costs one read.
    if !app.in_time(app.store.has_open_tasks()).await? {
        return Ok(None);
    }
    let until = Instant::now() + LEASE - MARGIN;
    let claimed = app.in_time(app.store.claim(owner, LEASE, app.clock.now())).await?;
    Ok(claimed.map(|claimed| (claimed, until)))
}

/// Why a run does not go on to its own end.
enum Interruption {
    /// The process stops: another one goes on.
    Stopping,
    CancelledBy(String),
    LeaseLost,
}

/// Runs a claimed task and keeps its lease. What is needed at its ends only is boxed: a thousand of
/// these wait at once.
async fn hold(app: Arc<App>, (claimed, until): (Claimed, Instant), hand: Arc<Mutex<()>>, stop: CancellationToken) {
    let Claimed { task, lease } = claimed;
    tracing::info!(agent = %task.agent, requester = %task.requester.login, "claimed");
    let Some(_in_hand) = Box::pin(take_in_hand(&app, &lease, (hand, until), &stop)).await else { return };
    let (cancel, cancelled_by) = tokio::sync::watch::channel(None);
    let gate = Gate::until(until);
    let held = Held { lease: lease.clone(), gate: gate.clone(), cancelled: cancelled_by };
    let opened = Box::pin(RunContext::open(Arc::clone(&app), task.clone(), held));
    let mut ctx = match tokio::time::timeout_at(until, opened).await.unwrap_or(Err(StoreError::Silent)) {
        Ok(ctx) => ctx,
        Err(error) => return Box::pin(unreadable(&app, &lease, &task, &error)).await,
    };
    let span = tracing::info_span!("run", run.id = %ctx.run.id, attempt = ctx.run.attempt);
    let progress = ctx.progress();
    let step = move || progress.load(Ordering::Relaxed);
    // A panic ends this run, not the worker.
    let mut work = tokio::spawn(
        async move {
            let result = run(&mut ctx).await;
            (ctx, result)
        }
        .instrument(span),
    );
    let interruption = tokio::select! {
        done = &mut work => {
            match done {
                Ok((_, Ok(()))) => {}
                Ok((_, Err(why))) => tracing::warn!(why = ?why, "the run was left to another worker"),
                Err(panic) => {
                    tracing::error!(panic = %panic, "a run broke off");
                    let _ = Box::pin(end_without_run(&app, &lease, Failure::Internal.ending())).await;
                }
            }
            app.signals.announce(Topic::Tasks);
            return;
        }
        interruption = watch(&app, (&task, &lease, &gate, until), &stop, step, &cancel) => interruption,
    };
    if matches!(interruption, Interruption::LeaseLost) {
        gate.hold_until(Instant::now());
    }
    // Whoever goes on, and the end itself, look for what this run made. What GitHub is still at shows after a while.
    let settling = if gate.close().await { Duration::ZERO } else { SETTLING };
    work.abort();
    let _ = work.await;
    Box::pin(let_go(&app, &lease, interruption, (settling, &stop))).await;
    app.signals.announce(Topic::Tasks);
}

/// Waits until a former run of the task in this worker is over. `None`: it is not now, and who takes the task next will wait.
async fn take_in_hand(
    app: &App,
    lease: &Lease,
    (hand, until): (Arc<Mutex<()>>, Instant),
    stop: &CancellationToken,
) -> Option<OwnedMutexGuard<()>> {
    if let Ok(free) = Arc::clone(&hand).try_lock_owned() {
        return Some(free);
    }
    tokio::select! {
        biased;
        // The former run is broken off by this, too, and what it was at GitHub with shows after a while.
        () = stop.cancelled() => {
            hand_back(app, lease, SETTLING).await;
            None
        }
        taken = tokio::time::timeout_at(until, hand.lock_owned()) => {
            taken.inspect_err(|_| tracing::warn!("a former run of this task does not end")).ok()
        }
    }
}

/// What becomes of a task whose run was broken off. `settling`: how long nobody must look at GitHub.
async fn let_go(
    app: &Arc<App>,
    lease: &Lease,
    interruption: Interruption,
    (settling, stop): (Duration, &CancellationToken),
) {
    let settled =
        async { settling.is_zero() || stop.run_until_cancelled(tokio::time::sleep(settling)).await.is_some() };
    match interruption {
        Interruption::Stopping => hand_back(app, lease, settling).await,
        Interruption::CancelledBy(login) => {
            if !settled.await {
                return hand_back(app, lease, settling).await;
            }
            if let Err(error) = end_without_run(app, lease, cancelled(&login)).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the end could not be stored; another worker does it"
                );
            }
        }
        Interruption::LeaseLost => {
            tracing::warn!("the lease was lost; whoever claims the task has it");
            // It may be this worker.
            settled.await;
        }
    }
}

async fn hand_back(app: &App, lease: &Lease, settling: Duration) {
    match app.store.hand_back(lease, settling).await {
        // The run has ended in this very moment: there is nothing to hand back.
        Ok(()) | Err(StoreError::LeaseLost) => {}
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the lease was not handed back; it ends by itself"
            );
        }
    }
}

/// Keeps the lease until something ends the holding.
///
/// An agent that is cancelled gets a moment to stop, and what it did is saved; whatever else a run does is
/// broken off, but for a result that is being published. Where the account has left, nothing can be published.
async fn watch(
    app: &App,
    (task, lease, gate, mut valid_until): (&Task, &Lease, &Gate, Instant),
    stop: &CancellationToken,
    step: impl Fn() -> u8,
    cancel: &tokio::sync::watch::Sender<Option<String>>,
) -> Interruption {
    let mut break_off_at = None;
    let mut cancels = app.signals.cancels.subscribe();
    loop {
        // From before the asking, as at the claim.
        let asked_at = Instant::now();
        let renewed = tokio::select! {
            renewed = tokio::time::timeout_at(valid_until, app.in_time(app.store.renew(lease, LEASE))) => renewed,
            () = stop.cancelled() => return Interruption::Stopping,
        };
        let Ok(renewed) = renewed else { return Interruption::LeaseLost };
        let mut pause = RENEW_EVERY;
        match renewed {
            Ok(by) => {
                valid_until = asked_at + LEASE - MARGIN;
                gate.hold_until(valid_until);
                if let Some(by) = &by
                    && step() < Step::Settle as u8
                    && app.is_noted_as_left(task.thread.installation).await
                {
                    return Interruption::CancelledBy(by.clone());
                }
                if let Some(login) = by.filter(|_| step() < Step::Publish as u8) {
                    let is_working = step() == Step::Agent as u8;
                    match break_off_at {
                        None if is_working => {
                            break_off_at = Some(asked_at + TO_STOP);
                            let _ = cancel.send(Some(login));
                        }
                        Some(at) if !is_working || asked_at < at => {}
                        _ => return Interruption::CancelledBy(login),
                    }
                }
            }
            Err(StoreError::LeaseLost) => return Interruption::LeaseLost,
            Err(error) => {
                pause = RENEW_AGAIN;
                tracing::warn!(error = &error as &dyn std::error::Error, "a lease could not be renewed");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = tokio::time::sleep_until(break_off_at.unwrap_or(valid_until)),
                if break_off_at.is_some_and(|at| at > Instant::now()) => {}
            () = tokio::time::sleep_until(valid_until) => return Interruption::LeaseLost,
            () = stop.cancelled() => return Interruption::Stopping,
            asked = cancels.recv() => if matches!(asked, Err(RecvError::Closed)) {
                return Interruption::Stopping;
            },
        }
    }
}

/// Ends a task from outside its run: the outcome is stored and told, what it was doing is stopped.
async fn end_without_run(app: &Arc<App>, lease: &Lease, ending: Ending) -> Result<(), StoreError> {
    let id = lease.task();
    let Some(task) = app.store.task(id).await? else { return Ok(()) };
    let run = app.store.latest_run(id).await?;
    let sandbox = run.as_ref().and_then(Run::sandbox);
    let over = run.clone().map(|run| run.ended_as(&ending));
    if let Some(run) = &over {
        app.store.record(lease, run, &[], app.clock.now()).await?;
    }
    let effects = effects_of_end(&task, &ending);
    app.store.settle(lease, &ending, &effects, app.clock.now()).await?;
    app.tell_end(&task, run.as_ref(), &ending);
    // Last: it can take longer than the lease.
    if let Some(sandbox) = sandbox {
        app.end_sandbox(&sandbox).await;
    }
    Ok(())
}

/// A task whose rows cannot be read may have been written by a newer version: its process takes it after the time of this
/// lease. It is not claimed for ever.
async fn unreadable(app: &Arc<App>, lease: &Lease, task: &Task, error: &StoreError) {
    match error {
        StoreError::Corrupt { .. } if app.store.is_unreadable_for_good(&task.id, app.clock.now()) => {
            tracing::error!(task.id = %task.id, error = error as &dyn std::error::Error, "a task cannot be read, and is given up");
            let ending = Failure::Internal.ending();
            let effects = effects_of_end(task, &ending);
            match app.store.settle(lease, &ending, &effects, app.clock.now()).await {
                Ok(()) => app.tell_end(task, None, &ending),
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "its end was not stored"),
            }
        }
        StoreError::Corrupt { .. } => {
            tracing::warn!(task.id = %task.id, error = error as &dyn std::error::Error,
                "a task cannot be read here, and is left to another process");
            let _ = app.store.hand_back(lease, LEASE).await;
        }
        _ => {
            tracing::warn!(task.id = %task.id, error = error as &dyn std::error::Error, "a task cannot be taken up now");
            let _ = app.store.hand_back(lease, Duration::ZERO).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_claimed_again_waits_for_its_run_and_no_other_does() {
        let mut hands = Hands::default();
        let (one, other) = (TaskId("one".to_owned()), TaskId("other".to_owned()));
        let first = hands.of(&one).lock_owned().await;
        assert!(hands.of(&one).try_lock().is_err());
        assert!(hands.of(&other).try_lock().is_ok());
        drop(first);
        assert!(hands.of(&one).try_lock().is_ok());
        assert_eq!(hands.0.len(), 1, "what is over is forgotten");
    }
}
