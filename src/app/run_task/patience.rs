//! Errors of a run, and waiting them out. Retry or give up is decided here, by the kind of error,
//! and nowhere else.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::RunContext;
use crate::adapters::github::GitHubError;
use crate::adapters::store::StoreError;
use crate::app::outbox::SETTLING;
use crate::app::policy::PolicyError;
use crate::domain::failure::Failure;
use crate::domain::ids::Millis;
use crate::domain::run::Ending;
use crate::ports::clock::Clock;
use crate::ports::sandbox::SandboxError;

/// Why a step does not go on.
#[derive(Debug)]
pub enum Stop {
    /// The run has an end.
    Ended(Box<Ending>),
    Failed(Failure),
    SandboxLost,
    /// The lease is gone: nothing may be written any more.
    Lost,
}

/// An error of a single call.
#[derive(Debug)]
pub(super) enum CallError {
    GitHub(GitHubError),
    Sandbox(SandboxError),
    Store(StoreError),
    /// Our own budget of writes is spent until then.
    BudgetSpent {
        until: Millis,
    },
    /// A step's own end.
    Stop(Stop),
}

/// What kind of trouble an error is.
enum Cause {
    Missing,
    Unauthorized,
    Sandbox,
    Other,
}

impl CallError {
    fn cause(&self) -> Cause {
        match self {
            Self::GitHub(GitHubError::Missing) => Cause::Missing,
            Self::GitHub(GitHubError::Unauthorized) => Cause::Unauthorized,
            Self::Sandbox(_) => Cause::Sandbox,
            _ => Cause::Other,
        }
    }
}

impl From<GitHubError> for CallError {
    fn from(error: GitHubError) -> Self {
        Self::GitHub(error)
    }
}

impl From<SandboxError> for CallError {
    fn from(error: SandboxError) -> Self {
        Self::Sandbox(error)
    }
}

impl From<StoreError> for CallError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<PolicyError> for CallError {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::GitHub(error) => Self::GitHub(error),
            PolicyError::Store(error) => Self::Store(error),
        }
    }
}

impl From<Stop> for CallError {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self::Stop(Stop::Failed(failure))
    }
}

/// Before an agent works, an hour of trouble ends the task; a result waits for a day (fault F31).
pub(super) const BEFORE_WORK: Duration = Duration::from_secs(3600);
pub(super) const FOR_RESULTS: Duration = Duration::from_secs(24 * 3600);
/// A thing not found may only not be replicated yet (fault F25).
const TRIES_IF_MISSING: u32 = 3;
/// A token that is refused again and again stays refused.
const TRIES_IF_UNAUTHORIZED: u32 = 4;
/// No provider's word makes a run wait longer than this at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A machine that fails this often has no passing trouble.
const TRIES_OF_SANDBOX: u32 = 5;

/// Waits grow from a quarter of a second to a minute, with jitter.
pub(crate) fn retry_wait(tries: u32, clock: &dyn Clock) -> Duration {
    let base = Duration::from_millis(250).saturating_mul(1 << tries.min(8)).min(Duration::from_secs(60));
    base.mul_f64(0.5 + clock.jitter() / 2.0)
}

/// Who is called, and so what is minded before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Callee {
    /// Its request to wait is heeded, and the gate passed.
    GitHub,
    /// The lease has to be ours still. GitHub's waits are not kept: a sandbox's life goes on meanwhile.
    Sandbox,
    /// It knows by itself who holds the lease.
    Store,
}

/// What to do after an error.
enum Next {
    WaitFor(Duration),
    WaitUntil(Millis),
    GiveUp(Stop),
}

impl RunContext {
    /// Does `operation` until it succeeds or trouble has lasted for `limit`. The operation gets the
    /// number of tries before it and, when that is not 0, looks for its own result first. Where GitHub
    /// has asked this installation to wait, it waits.
    pub(super) async fn patiently<'a, T, F, Fut>(&'a self, limit: Duration, operation: F) -> Result<T, Stop>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, CallError>> + 'a,
    {
        self.again_and_again(limit, Callee::GitHub, operation).await
    }

    /// As `patiently`, for calls of the sandbox.
    pub(super) async fn patiently_in_sandbox<'a, T, F, Fut>(&'a self, mut operation: F) -> Result<T, Stop>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, CallError>> + 'a,
    {
        self.again_and_again(BEFORE_WORK, Callee::Sandbox, |_| operation()).await
    }

    /// As `patiently`, for calls of the database alone.
    pub(super) async fn patiently_in_store<'a, T, F, Fut>(&'a self, operation: F) -> Result<T, Stop>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, CallError>> + 'a,
    {
        self.again_and_again(FOR_RESULTS, Callee::Store, operation).await
    }

    /// Right before a call of the sandbox: the process may have been frozen since it was decided on.
    pub(super) fn still_held(&self) -> Result<(), Stop> {
        if self.gate.is_held() { Ok(()) } else { Err(Stop::Lost) }
    }

    async fn again_and_again<'a, T, F, Fut>(
        &'a self,
        limit: Duration,
        callee: Callee,
        mut operation: F,
    ) -> Result<T, Stop>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, CallError>> + 'a,
    {
        let started = Instant::now();
        let mut tries = 0;
        // Errors of the same kind in a row: trouble of another kind says nothing about this one.
        let mut same_kind = 0;
        let mut last_kind = None;
        loop {
            if callee == Callee::GitHub {
                self.wait_for_installation().await?;
            }
            // What is begun here may end: a stop waits for it.
            let inside = match callee {
                Callee::GitHub => Some(self.gate.enter().await.map_err(|_| Stop::Lost)?),
                Callee::Sandbox => self.still_held().map(|()| None)?,
                Callee::Store => None,
            };
            let error = match operation(tries).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            // Nor does who goes on after a stop look too soon.
            let is_unclear = matches!(error, CallError::GitHub(GitHubError::Unclear(_)));
            let _inside = inside.filter(|_| is_unclear);
            let waited = started.elapsed();
            let kind = std::mem::discriminant(&error.cause());
            same_kind = if last_kind == Some(kind) { same_kind + 1 } else { 1 };
            last_kind = Some(kind);
            match self.next(error, (tries, same_kind), waited, limit).await? {
                Next::WaitFor(time) => tokio::time::sleep(time).await,
                Next::WaitUntil(until) => tokio::time::sleep(until.since(self.app.clock.now())).await,
                Next::GiveUp(stop) => return Err(stop),
            }
            tries += 1;
        }
    }

    async fn next(
        &self,
        error: CallError,
        (tries, same_kind): (u32, u32),
        waited: Duration,
        limit: Duration,
    ) -> Result<Next, Stop> {
        let again = Next::WaitFor(retry_wait(tries, &*self.app.clock));
        let give_up = |failure| Ok(Next::GiveUp(Stop::Failed(failure)));
        match error {
            CallError::Stop(stop) => Ok(Next::GiveUp(stop)),
            CallError::Store(StoreError::LeaseLost) => Ok(Next::GiveUp(Stop::Lost)),
            CallError::Store(error @ (StoreError::Unavailable(_) | StoreError::Silent)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the database does not answer");
                Ok(again)
            }
            CallError::Store(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the run cannot go on");
                give_up(Failure::Internal)
            }
            CallError::Sandbox(error) => Ok(self.after_sandbox_error(error, (tries, same_kind), (waited, limit))),
            CallError::BudgetSpent { .. } | CallError::GitHub(GitHubError::Limited { .. }) if waited >= limit => {
                give_up(Failure::GitHubUnavailable { waited })
            }
            CallError::BudgetSpent { until } => Ok(Next::WaitUntil(until)),
            CallError::GitHub(GitHubError::Limited { until }) => {
                self.block_installation(until).await;
                Ok(Next::WaitUntil(until))
            }
            CallError::GitHub(GitHubError::Missing) if same_kind < TRIES_IF_MISSING => Ok(again),
            CallError::GitHub(GitHubError::Missing) => give_up(Failure::ThreadGone),
            CallError::GitHub(GitHubError::Unauthorized) if same_kind >= TRIES_IF_UNAUTHORIZED => {
                give_up(Failure::GitHubRefused { message: "GitHub refused the App's token.".to_owned() })
            }
            CallError::GitHub(error) if error.is_passing() && waited < limit => {
                tracing::warn!(error = %self.app.redactor.redact(&error.to_string()), "GitHub failed; trying again");
                let is_unclear = matches!(error, GitHubError::Unclear(_));
                Ok(if is_unclear { Next::WaitFor(SETTLING) } else { again })
            }
            CallError::GitHub(error) if error.is_passing() => give_up(Failure::GitHubUnavailable { waited }),
            CallError::GitHub(error) => give_up(Failure::GitHubRefused { message: error.message() }),
        }
    }

    fn after_sandbox_error(
        &self,
        error: SandboxError,
        (tries, same_kind): (u32, u32),
        (waited, limit): (Duration, Duration),
    ) -> Next {
        let again = retry_wait(tries, &*self.app.clock);
        let may_wait = waited < limit;
        // A token may be refused for a moment; one that made a sandbox was good.
        let has_sandbox = self.run.facts.sandbox.is_some();
        let message = self.app.redactor.redact(&error.to_string());
        let failure = match error {
            SandboxError::Gone => return Next::GiveUp(Stop::SandboxLost),
            SandboxError::Faulty(_) if same_kind < TRIES_OF_SANDBOX => return Next::WaitFor(again),
            SandboxError::Busy { wait, .. } if may_wait => {
                let longest = LONGEST_PAUSE.min(limit.saturating_sub(waited));
                return Next::WaitFor(wait.min(longest).max(again));
            }
            SandboxError::Unavailable(_) if may_wait => {
                tracing::warn!(error = %message, "the sandbox failed; trying again");
                return Next::WaitFor(again);
            }
            SandboxError::Denied(_) if has_sandbox && same_kind < TRIES_IF_UNAUTHORIZED => {
                return Next::WaitFor(again);
            }
            SandboxError::Busy { .. } => Failure::NoSandboxFree { waited },
            SandboxError::Unavailable(_) => Failure::SandboxUnavailable { waited },
            SandboxError::Denied(_) => Failure::SandboxDenied,
            SandboxError::SnapshotGone => Failure::SnapshotGone,
            SandboxError::Faulty(_) | SandboxError::TooLarge { .. } | SandboxError::Refused(_) => {
                Failure::SandboxFailed
            }
        };
        // What the provider says is the operator's affair: the thread is told our own sentence.
        tracing::warn!(error = %message, "the sandbox cannot be used");
        Next::GiveUp(Stop::Failed(failure))
    }

    /// GitHub's word about waiting holds for the whole installation, and for it alone.
    async fn block_installation(&self, until: Millis) {
        tracing::warn!(installation = %self.task.thread.installation, until = %until.rfc3339(), "GitHub asks to wait");
        let now = self.app.clock.now();
        if let Err(error) = self.app.store.block_installation(self.task.thread.installation, until, now).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the wait could not be stored");
        }
    }

    async fn wait_for_installation(&self) -> Result<(), Stop> {
        // A database that does not answer is met by the operation itself.
        let until = self.app.store.blocked_until(self.task.thread.installation).await.unwrap_or(Millis(0));
        tokio::time::sleep(until.since(self.app.clock.now())).await;
        Ok(())
    }
}
