//! What a run works with: its task, its stored state, its log, its secrets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::patience::{CallError, Stop};
use super::retry_wait;
use crate::adapters::github::Place;
use crate::adapters::store::{Append, Lease, Purpose, StoreError};
use crate::app::App;
use crate::app::gate::Gate;
use crate::app::keys::Payer;
use crate::app::log_writer::Appended;
use crate::app::signals::LogNews;
use crate::domain::agent::Agent;
use crate::domain::failure::Failure;
use crate::domain::ids::{Millis, RunId};
use crate::domain::key::ChosenKey;
use crate::domain::log_entry::{Kind, Line, LogEntry};
use crate::domain::prompt::Inputs;
use crate::domain::redact::Redactor;
use crate::domain::run::{Ending, LogPosition, Run, SandboxId, Step};
use crate::domain::secret::Secret;
use crate::domain::task::Task;

/// What a worker holds of a task, and how it reaches the run.
#[derive(Debug)]
pub struct Held {
    pub lease: Lease,
    /// Before each write to GitHub and into the sandbox.
    pub gate: Gate,
    /// Who wants the agent stopped, once somebody does.
    pub cancelled: watch::Receiver<Option<String>>,
}

/// A run in the hands of one worker.
#[derive(Debug)]
pub struct RunContext {
    pub app: Arc<App>,
    pub task: Task,
    pub lease: Lease,
    pub run: Run,
    /// Frozen by the freeze step.
    pub inputs: Option<Inputs>,
    pub(super) redactor: Redactor,
    /// Of this run: what the instance's redactor does not know.
    secrets: Vec<Secret>,
    /// The step, for the worker: a result that is being published is not cancelled any more.
    progress: Arc<AtomicU8>,
    pub(super) gate: Gate,
    /// Who wants the agent stopped, once somebody does.
    pub(super) cancelled: watch::Receiver<Option<String>>,
    /// When the step began, or was taken up here.
    step_since: Millis,
}

impl RunContext {
    /// Takes up the stored run of a claimed task, or begins its first.
    pub async fn open(app: Arc<App>, task: Task, held: Held) -> Result<Self, StoreError> {
        let Held { lease, gate, cancelled } = held;
        let run = match app.store.latest_run(&task.id).await? {
            Some(run) => {
                metrics::counter!("hireling_runs_taken_over_total").increment(1);
                run
            }
            None => app.store.begin_run(&lease, RunId(app.clock.new_id()), 1, app.clock.now()).await?,
        };
        if let Some(sandbox) = &run.facts.sandbox {
            app.sandbox.forget(sandbox).await;
        }
        let inputs = app.store.inputs(&task.id).await?;
        let redactor = app.redactor.clone();
        let progress = Arc::new(AtomicU8::new(run.step as u8));
        let step_since = app.clock.now();
        Ok(Self { app, task, lease, run, inputs, redactor, secrets: Vec::new(), progress, gate, cancelled, step_since })
    }

    /// A view of the step that stays valid while the run goes on.
    pub fn progress(&self) -> Arc<AtomicU8> {
        Arc::clone(&self.progress)
    }

    /// Takes a write out of the budget; then nothing stands between this and the call.
    pub(super) async fn take_write(&self, purpose: Purpose) -> Result<(), CallError> {
        self.app.take_write(&self.task.thread, purpose).await?;
        Ok(self.gate.check()?)
    }

    pub(super) fn place(&self) -> Place<'_> {
        crate::app::intake::place(&self.task.thread)
    }

    /// Whose keys and connectors this run may use.
    pub(super) fn payer(&self) -> Payer<'_> {
        Payer {
            requester: self.task.requester.id,
            installation: self.task.thread.installation,
            account: &self.task.thread.name.owner,
        }
    }

    /// The keys this agent uses here.
    pub(super) async fn keys_for(&self, agent: &Agent, model: Option<&str>) -> Result<Vec<ChosenKey>, Stop> {
        let (app, payer) = (&self.app, self.payer());
        let chosen =
            self.patiently_in_store(|_| async move { Ok(app.choose_keys(agent, model, payer).await?) }).await?;
        chosen.map_err(|missing| {
            Stop::Failed(Failure::NoKey { agent: agent.name.clone(), missing, page: app.keys_url() })
        })
    }

    pub(super) fn agent(&self) -> Result<&Agent, Stop> {
        let name = &self.task.agent;
        self.app.settings.agent(name).ok_or_else(|| Stop::Failed(Failure::UnknownAgent { agent: name.clone() }))
    }

    pub(super) fn sandbox(&self) -> Result<SandboxId, Stop> {
        self.run.facts.sandbox.clone().ok_or(Stop::SandboxLost)
    }

    pub(super) fn inputs(&self) -> Result<&Inputs, Stop> {
        // Every step after freeze has them; without, the row was tampered with.
        self.inputs.as_ref().ok_or(Stop::Failed(Failure::Internal))
    }

    /// How long the agent may work, by its requester and the operator.
    pub fn time_limit(&self) -> Duration {
        let asked = self.task.options.timeout_s.map_or(self.app.settings.max_duration, Duration::from_secs);
        asked.min(self.app.settings.max_duration)
    }

    /// How long it was allowed to, once it was started: the sandbox may have had less left.
    pub fn agent_limit(&self) -> Duration {
        self.run.facts.agent_limit_ms.map_or(self.time_limit(), Duration::from_millis)
    }

    /// A secret of this run that the instance's redactor does not know.
    pub(super) fn guard(&mut self, secret: &Secret) {
        let settings = &self.app.settings;
        self.secrets.push(secret.clone());
        self.redactor = Redactor::new(settings.secrets.iter().chain(settings.keys.values()).chain(&self.secrets));
    }

    pub(super) fn redacted(&self, text: &str) -> String {
        self.redactor.redact(text)
    }

    /// Stores where the run stands, together with lines of its log. A database that does not answer
    /// is waited for: the worker ends this run when the lease is over.
    pub(super) async fn record(&self, lines: &[Line]) -> Result<(), Stop> {
        let lines: Vec<Line> =
            lines.iter().map(|line| Line { kind: line.kind, text: self.redacted(&line.text) }).collect();
        let mut tries = 0;
        loop {
            match self.app.store.record(&self.lease, &self.run, &lines, self.app.clock.now()).await {
                Ok(entries) => {
                    self.tell(entries);
                    return Ok(());
                }
                Err(StoreError::LeaseLost) => return Err(Stop::Lost),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a run could not be stored; trying again");
                    tokio::time::sleep(retry_wait(tries, &*self.app.clock)).await;
                    tries += 1;
                }
            }
        }
    }

    /// Appends lines to the log, with how far the output was read. Lines of other runs share
    /// the commit.
    pub(super) async fn append(&mut self, lines: Vec<Line>, read_to: LogPosition) -> Result<(), Stop> {
        let lines: Vec<Line> =
            lines.into_iter().map(|line| Line { kind: line.kind, text: self.redacted(&line.text) }).collect();
        let (since, mut tries) = (Instant::now(), 0);
        loop {
            let at = self.app.clock.now();
            let append = Append::new((&self.lease, &self.run.id), (self.run.log_at, read_to), &lines, at);
            match self.app.log_writer.append(append, since).await {
                Appended::At(first) => {
                    self.run.log_at = read_to;
                    let entries =
                        (first..).zip(lines).map(|(seq, Line { kind, text })| LogEntry { seq, at, kind, text });
                    self.tell(entries.collect());
                    return Ok(());
                }
                Appended::LeaseLost => return Err(Stop::Lost),
                Appended::Failed => {
                    tokio::time::sleep(retry_wait(tries, &*self.app.clock)).await;
                    tries += 1;
                }
            }
        }
    }

    /// Those who watch the log live.
    fn tell(&self, entries: Vec<LogEntry>) {
        if !entries.is_empty() {
            metrics::counter!("hireling_log_lines_total").increment(entries.len() as u64);
            // Nobody listening is fine.
            self.app.signals.announce_lines(LogNews { task: self.task.id.clone(), entries: entries.into() });
        }
    }

    pub(super) async fn advance(&mut self) -> Result<(), Stop> {
        self.go_to(self.run.step.next()).await
    }

    /// Decides the end; the settle step tells it.
    pub(super) async fn end(&mut self, ending: Ending) -> Result<(), Stop> {
        let reason = self.redacted(&ending.reason);
        let detail = self.redacted(&ending.detail);
        self.run.facts.ending = Some(Ending { reason, detail, ..ending });
        self.go_to(Step::Settle).await
    }

    /// The sandbox is lost: a fresh attempt from the sandbox on, with the same frozen inputs.
    pub(super) async fn begin_again(&mut self) -> Result<(), Stop> {
        let old_sandbox = self.run.sandbox();
        let id = RunId(self.app.clock.new_id());
        let begun = self.app.store.begin_run(&self.lease, id, self.run.attempt + 1, self.app.clock.now()).await;
        match begun {
            Ok(run) => {
                // What stands on GitHub already outlives the sandbox.
                let old = std::mem::replace(&mut self.run, run).facts;
                let facts = &mut self.run.facts;
                (facts.announcing, facts.branch) = (old.announcing, old.branch);
            }
            Err(StoreError::LeaseLost) => return Err(Stop::Lost),
            Err(_) => return Err(Stop::Failed(Failure::Internal)),
        }
        // Whatever is left of the old one must not work beside the new one. Only who holds the lease
        // gets here.
        if let Some(old) = old_sandbox {
            self.app.end_sandbox(&old).await;
        }
        self.record(&[Line::new(Kind::Error, "The sandbox was lost; starting again in a new one.")]).await
    }

    async fn go_to(&mut self, step: Step) -> Result<(), Stop> {
        let now = self.app.clock.now();
        let took = u64::try_from(now.since(self.step_since).as_millis()).unwrap_or(u64::MAX);
        self.run.facts.took.push((self.run.step, took));
        self.run.facts.ended.push((self.run.step, now));
        self.step_since = now;
        self.run.step = step;
        self.progress.store(step as u8, Ordering::Relaxed);
        let line = match (step, &self.run.facts.ending) {
            (Step::Settle, Some(ending)) if !ending.reason.is_empty() => vec![Line::new(Kind::Info, &ending.reason)],
            _ => step.label(&self.task).map(|label| Line::new(Kind::Info, format!("— {label}"))).into_iter().collect(),
        };
        self.record(&line).await?;
        if matches!(step, Step::Prepare | Step::Agent | Step::Publish) {
            self.app.show_progress((&self.task, &self.run), self.inputs.as_ref(), &self.gate).await;
        }
        Ok(())
    }
}
