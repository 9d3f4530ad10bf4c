//! A disk image with the agents in it, from which sandboxes start warm. Made by `hireling snapshot`;
//! when its provider has lost it, or this version wants other agents, the service makes it anew.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::App;
use crate::adapters::store::StoreError;
use crate::domain::agent::{Agent, Install};
use crate::domain::agent_stream::Exit;
use crate::domain::ids::TaskId;
use crate::domain::run::SandboxId;
use crate::ports::sandbox::{CommandSpec, Finished, NPM_PREFIX, SCRATCH, SandboxError, SandboxSpec};

const LIFETIME: Duration = Duration::from_secs(30 * 60);
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
const AGAIN: Duration = Duration::from_secs(3600);
/// Part of the contents' name: images with another layout are not used.
const LAYOUT: &str = "layout 1";

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no agent could be installed: {tail}")]
    Install { tail: String },
}

/// A snapshot that was made.
#[derive(Debug)]
pub struct Made {
    pub id: String,
    /// Agents that could not be installed, with what their installer said last: they are installed
    /// when they are needed.
    pub left_out: Vec<(String, String)>,
}

/// Makes a lost snapshot anew, now and then and when one is found lost.
pub(super) async fn keep(app: Arc<App>, stop: CancellationToken) {
    loop {
        tokio::select! {
            renewed = app.renew_snapshot() => match renewed {
                Ok(Some(id)) => tracing::info!(snapshot = %id, "the snapshot was made anew"),
                Ok(None) => {}
                Err(error) => tracing::warn!(error = %error, "the snapshot was not made anew"),
            },
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = app.signals.snapshot.notified() => {}
            () = stop.cancelled() => return,
        }
    }
}

impl App {
    /// What a snapshot of this instance holds, in words.
    fn snapshot_contents(&self) -> String {
        let agents = self.settings.agents.iter().filter_map(|agent| match agent.install.as_ref()? {
            Install::Npm { package, version } => Some(format!("{package}@{version}")),
            Install::Archive { url, .. } => Some((*url).to_owned()),
            Install::Argv(argv) => Some(format!("{}: {}", agent.name, argv.join(" "))),
        });
        [LAYOUT.to_owned()].into_iter().chain(agents).collect::<Vec<_>>().join("; ")
    }

    /// The snapshot to start from, if there is one with what this version needs.
    pub(crate) async fn usable_snapshot(&self) -> Option<String> {
        let found = self.store.snapshot(self.sandbox.provider()).await.ok().flatten()?;
        (!found.is_gone && found.contents == self.snapshot_contents()).then_some(found.id)
    }

    pub(crate) async fn lose_snapshot(&self, id: Option<String>) {
        let Some(id) = id else { return };
        tracing::warn!(snapshot = %id, "the snapshot is gone; sandboxes start cold until it is made anew");
        if let Err(error) = self.store.lose_snapshot(self.sandbox.provider(), &id, self.clock.now()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the loss was not noted");
        }
        self.signals.snapshot.notify_one();
    }

    async fn renew_snapshot(&self) -> Result<Option<String>, SnapshotError> {
        let provider = self.sandbox.provider();
        let Some(found) = self.store.snapshot(provider).await? else { return Ok(None) };
        if !found.is_gone && found.contents == self.snapshot_contents() {
            return Ok(None);
        }
        let now = self.clock.now();
        match self.store.take_renewal(provider, &found.id, now, now.after(LIFETIME)).await? {
            true => Ok(Some(self.make_snapshot().await?.id)),
            false => Ok(None),
        }
    }

    /// Installs every agent in a fresh sandbox and keeps its disk.
    pub async fn make_snapshot(&self) -> Result<Made, SnapshotError> {
        if !self.sandbox.can_snapshot() {
            return Err(
                SandboxError::Refused(format!("{} sandboxes have no snapshots", self.sandbox.provider())).into()
            );
        }
        let name = format!("snapshot-{}", self.clock.new_id());
        let before = self.store.snapshot(self.sandbox.provider()).await?;
        let spec = SandboxSpec {
            task: TaskId(name.clone()),
            name,
            lifetime: LIFETIME,
            network: self.settings.network.network(
                [self.github.web_url()]
                    .into_iter()
                    .chain(self.settings.agents.iter().filter_map(|agent| agent.install_hosts())),
                [],
            ),
            ports: Vec::new(),
            snapshot: None,
        };
        let made = self.fill_and_keep(&spec).await;
        self.end_sandbox(&SandboxId::named(&spec.name)).await;
        let made = made?;
        let id = &made.id;
        let contents = self.snapshot_contents();
        self.store.store_snapshot(self.sandbox.provider(), id, &contents, self.clock.now()).await?;
        if let Some(old) = before.filter(|old| old.id != *id)
            && let Err(error) = self.sandbox.forget_snapshot(&old.id).await
        {
            tracing::warn!(snapshot = %old.id, error = %error, "the old snapshot stays until it expires");
        }
        Ok(made)
    }

    async fn fill_and_keep(&self, spec: &SandboxSpec) -> Result<Made, SnapshotError> {
        let id = self.sandbox.create(spec).await?.id;
        let installable = self.settings.agents.iter().filter(|agent| agent.install.is_some());
        let (mut put_in, mut left_out) = (0, Vec::new());
        for agent in installable {
            match self.put_in(&id, agent).await? {
                Ok(()) => put_in += 1,
                Err(tail) => {
                    tracing::warn!(agent = %agent.name, tail = %tail, "an agent is left out of the snapshot");
                    left_out.push((agent.name.clone(), tail));
                }
            }
        }
        match left_out.pop() {
            Some((_, tail)) if put_in == 0 => return Err(SnapshotError::Install { tail }),
            last => left_out.extend(last),
        }
        Ok(Made { id: self.sandbox.snapshot(&id).await?, left_out })
    }

    /// Installs one agent. `Err` holds what its installer said last.
    async fn put_in(&self, id: &SandboxId, agent: &Agent) -> Result<Result<(), String>, SandboxError> {
        let Some(check) = &agent.check else { return Ok(Ok(())) };
        let is_there =
            |said: &Finished| agent.is_there(said.exit == Exit::Code(0), &String::from_utf8_lossy(&said.stdout));
        let tail = |said: &Finished| Ok(Err(self.redactor.redact(&String::from_utf8_lossy(&said.tail))));
        let run = async |step: &str, argv: &[String], timeout| {
            self.sandbox.run(id, &plain(&format!("{}-{step}", agent.name), argv, timeout)).await
        };
        if is_there(&run("check", check, CHECK_TIMEOUT).await?) {
            return Ok(Ok(()));
        }
        for (number, argv) in (1..).zip(agent.installation(NPM_PREFIX, SCRATCH)) {
            let installed = run(&format!("install-{number}"), &argv, INSTALL_TIMEOUT).await?;
            if installed.exit != Exit::Code(0) {
                return tail(&installed);
            }
        }
        let checked = run("check-again", check, CHECK_TIMEOUT).await?;
        if is_there(&checked) { Ok(Ok(())) } else { tail(&checked) }
    }
}

fn plain(name: &str, argv: &[String], timeout: Duration) -> CommandSpec {
    CommandSpec { name: name.to_owned(), argv: argv.to_vec(), env: Vec::new(), stdin: None, stdout: None, timeout }
}
