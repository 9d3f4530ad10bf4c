//! Starting commands, each once: by its name a command is known from the API's own list.

use std::collections::HashMap;

use super::api::{Answer, ApiError};
use super::stream::Event;
use super::{Vercel, millis, wire};
use crate::domain::agent_stream::Exit;
use crate::domain::ids::Millis;
use crate::domain::run::SandboxId;
use crate::ports::sandbox::{CommandId, CommandSpec, Finished, Kept, Result, SandboxError, checked_name};

const PROJECT: &str = "/vercel/sandbox/project";
/// As seen from the project folder.
const RUNNER: &str = "../.hireling/run";
/// The API's own bounds of a command's time.
const COMMAND_MS: std::ops::RangeInclusive<u64> = 100..=18_000_000;

impl Vercel {
    /// The command of this name, by what was started here or by the API's own list.
    pub(super) async fn find_command(&self, id: &SandboxId, name: &str) -> Answer<Option<CommandId>> {
        if let Some(commands) = self.known.lock().await.get(&id.name) {
            return Ok(commands.get(name).cloned());
        }
        let mut commands = HashMap::new();
        for command in self.commands(id).await? {
            if let [runner, name, ..] = command.args.as_slice()
                && runner == RUNNER
            {
                commands.insert(name.clone(), CommandId(command.id.clone()));
            }
        }
        let found = commands.get(name).cloned();
        self.known.lock().await.insert(id.name.clone(), commands);
        Ok(found)
    }

    /// Takes out what is known of a sandbox's commands while one more is started: if that is broken
    /// off, nobody trusts the old list.
    pub(super) async fn take_known(&self, id: &SandboxId) -> HashMap<String, CommandId> {
        self.known.lock().await.remove(&id.name).unwrap_or_default()
    }

    /// Puts it back, with the new one.
    pub(super) async fn put_known(
        &self,
        id: &SandboxId,
        mut known: HashMap<String, CommandId>,
        name: &str,
        command: &CommandId,
    ) {
        known.insert(name.to_owned(), command.clone());
        self.known.lock().await.insert(id.name.clone(), known);
    }

    fn arguments(spec: &CommandSpec) -> Result<Vec<String>> {
        let scratch = |name: &str| Ok::<_, SandboxError>(format!("../scratch/{}", checked_name(name)?));
        let mut args = vec![RUNNER.to_owned(), checked_name(&spec.name)?.to_owned(), command_ms(spec).to_string()];
        args.push(spec.stdin.as_deref().map_or(Ok("/dev/null".to_owned()), scratch)?);
        args.push(spec.stdout.as_deref().map_or(Ok("-".to_owned()), scratch)?);
        args.extend(spec.argv.iter().cloned());
        Ok(args)
    }

    /// Starts a new command.
    pub(super) async fn start_command(&self, id: &SandboxId, spec: &CommandSpec) -> Result<CommandId> {
        let args = Self::arguments(spec)?;
        let known = self.take_known(id).await;
        let command = CommandId(self.post_command(id, &order(spec, &args, false)).await?.id);
        self.put_known(id, known, &spec.name, &command).await;
        Ok(command)
    }

    /// Runs a new command and reads its life from one stream. `None`: the stream broke; the command,
    /// if it was started, is found by its name.
    pub(super) async fn run_waiting(&self, id: &SandboxId, spec: &CommandSpec) -> Result<Option<Finished>> {
        let args = Self::arguments(spec)?;
        let mut known = Some(self.take_known(id).await);
        let mut events = match self.post_command_and_wait(id, &order(spec, &args, true)).await {
            Ok(events) => events,
            Err(ApiError::Unclear(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut kept = Kept::default();
        loop {
            // A stream that is silent for long may be dead: the command is followed in the other way.
            let Ok(Ok(Some(event))) = events.next_within(self.waits.idle).await else { return Ok(None) };
            match event {
                Event::Command(command) => {
                    if let Some(known) = known.take() {
                        self.put_known(id, known, &spec.name, &CommandId(command.id.clone())).await;
                    }
                    if command.exit_code.is_some() {
                        return Ok(Some(kept.finish(exit_of(&command, self.clock.now()).unwrap_or(Exit::Code(-1)))));
                    }
                }
                Event::Output(kind, text) => kept.take(kind, text.as_bytes()),
                Event::Closed(_) => return Ok(None),
            }
        }
    }
}

fn order<'a>(spec: &'a CommandSpec, args: &'a [String], wait: bool) -> wire::Run<'a> {
    let env = spec.env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    wire::Run { command: "/bin/sh", args, cwd: PROJECT, env, timeout: command_ms(spec), wait, logs: wait }
}

fn command_ms(spec: &CommandSpec) -> u64 {
    millis(spec.timeout).clamp(*COMMAND_MS.start(), *COMMAND_MS.end())
}

/// How a command ended. The API says neither "signal" nor "time over": both are read from the exit
/// code, the time from the argument that our runner was given.
pub(super) fn exit_of(command: &wire::Command, now: Millis) -> Option<Exit> {
    let code = command.exit_code?;
    let limit: Option<u64> = command.args.get(2).and_then(|text| text.parse().ok());
    let took = command.duration_ms.or_else(|| {
        let started = Millis(command.started_at?);
        Some(millis(now.since(started)))
    });
    let was_late = limit.zip(took).is_some_and(|(limit, took)| took.saturating_add(limit / 50) >= limit);
    Some(match code {
        137 if was_late => Exit::TimedOut,
        129..=192 => Exit::Signal(code - 128),
        code => Exit::Code(code),
    })
}
