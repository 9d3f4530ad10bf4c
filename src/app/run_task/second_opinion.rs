//! `--review-by`: another agent looks at the work, in the same sandbox, before the pull request leaves
//! draft. The work is published already: what goes wrong here is told, and the draft stays.

use std::collections::BTreeMap;
use std::time::Duration;

use super::RunContext;
use super::agent::{MAX_ANSWER_BYTES, Reader, close_account, follow};
use super::commands::named_for;
use super::launch::{git_identity, granted, openers, start_once};
use super::patience::{FOR_RESULTS, Stop};
use super::prepare::{install_agent, place_files};
use super::publish::{done, to_approve};
use crate::adapters::store::Purpose;
use crate::domain::agent::{Agent, Granted, LaunchFor};
use crate::domain::agent_stream::AgentEnd;
use crate::domain::comment::{review_body, review_marker};
use crate::domain::failure::Failure;
use crate::domain::log_entry::{Kind, Line, visible};
use crate::domain::prompt::review_prompt;
use crate::domain::run::{LogPosition, SecondOpinion};
use crate::domain::text::cut_marked;
use crate::ports::sandbox::{CommandId, CommandSpec};

/// A review takes no longer, and the result waits for it.
const LIMIT: Duration = Duration::from_secs(15 * 60);
const COMMAND: &str = "second-agent";
const PROMPT_FILE: &str = "review-prompt.txt";

pub(super) async fn review(ctx: &mut RunContext) -> Result<(), Stop> {
    let reviewer = ctx.task.options.review_by.clone().unwrap_or_default();
    match Box::pin(opinion(ctx, &reviewer)).await {
        Ok(()) => {}
        Err(Stop::Lost) => return Err(Stop::Lost),
        Err(stop) => {
            let why = match stop {
                Stop::Failed(failure) => failure.ending().reason,
                Stop::Ended(ending) => ending.reason,
                Stop::SandboxLost | Stop::Lost => "The sandbox was lost.".to_owned(),
            };
            let note = match ctx.second().review {
                Some(_) => format!("The pull request stays a draft: it could not be made ready. {why}"),
                None => format!("There is no second opinion of {reviewer}, so the pull request stays a draft. {why}"),
            };
            ctx.run.facts.note(ctx.redacted(&note));
        }
    }
    Err(Stop::Ended(Box::new(done())))
}

async fn opinion(ctx: &mut RunContext, reviewer: &str) -> Result<(), Stop> {
    let unknown = || Stop::Failed(Failure::UnknownAgent { agent: reviewer.to_owned() });
    let agent = ctx.app.settings.agent(reviewer).cloned().ok_or_else(unknown)?;
    if ctx.second().text.is_none() {
        let text = ask(ctx, &agent).await?;
        ctx.second().text = Some(text);
        ctx.record(&[]).await?;
    }
    publish(ctx, &agent).await
}

/// Has the reviewer look, and gives its last word.
async fn ask(ctx: &mut RunContext, agent: &Agent) -> Result<String, Stop> {
    let sandbox = ctx.sandbox()?;
    let command = match ctx.second().command.clone() {
        Some(command) => CommandId(command),
        None => start(ctx, agent).await?,
    };
    let mut reader = Reader::new(ctx, agent.output);
    let exit = follow(ctx, &sandbox, &command, &mut reader).await?;
    let end = reader.transcript.end(exit);
    let (stopped_by, spent) = close_account(ctx).await?;
    ctx.run.facts.spent = spent;
    match (end, stopped_by) {
        (AgentEnd::Done, _) => {
            let text = reader.transcript.text.unwrap_or_default();
            Ok(cut_marked(&ctx.redacted(&visible(&text)), MAX_ANSWER_BYTES))
        }
        (_, Some(reached)) => {
            Err(Stop::Failed(Failure::OverLimit { agent: agent.name.clone(), reached, has_begun: true }))
        }
        (AgentEnd::TimedOut, _) => Err(Stop::Ended(Box::new(crate::domain::failure::timed_out(&agent.name, LIMIT)))),
        (AgentEnd::Failed { fault, message }, _) => {
            Err(Stop::Failed(Failure::AgentFailed { agent: agent.name.clone(), fault, message }))
        }
    }
}

async fn start(ctx: &mut RunContext, agent: &Agent) -> Result<CommandId, Stop> {
    let model = ctx.app.settings.default_model(agent, None);
    let keys = ctx.keys_for(agent, model.as_deref()).await?;
    ctx.second().keys.clone_from(&keys);
    // Its output is another one, read from its first byte.
    ctx.run.log_at = LogPosition::default();
    ctx.record(&[Line::new(Kind::Info, format!("{} reviews the changes.", agent.name))]).await?;
    install_agent(ctx, agent, "second").await?;
    let files: BTreeMap<&str, &str> = agent.home_files.iter().copied().collect();
    place_files(ctx, agent, files, "second-file").await?;
    let way = keys.first().map(|key| key.access);
    let openers = openers(ctx, &agent.name, keys).await?;
    let access: Vec<Granted<'_>> = openers.iter().filter_map(|opener| granted(agent, opener)).collect();
    let model = ctx.app.settings.default_model(agent, way);
    let launch = agent.launch(LaunchFor { model: model.as_deref(), access: &access, ..LaunchFor::default() });
    let mut env = launch.env;
    env.extend(git_identity(agent));
    let spec = CommandSpec {
        name: COMMAND.to_owned(),
        argv: launch.argv,
        env,
        stdin: Some(PROMPT_FILE.to_owned()),
        stdout: None,
        timeout: LIMIT,
    };
    let spec = named_for(ctx, spec);
    let prompt = review_prompt(ctx.inputs()?, &ctx.task.request);
    let started = start_once(ctx, &ctx.sandbox()?, &spec, PROMPT_FILE, &prompt).await?;
    ctx.second().command = Some(started.0.clone());
    ctx.record(&[]).await?;
    Ok(started)
}

/// One review on the pull request, looked for before it is made; then the draft is one no more, unless
/// a draft was asked for.
async fn publish(ctx: &mut RunContext, agent: &Agent) -> Result<(), Stop> {
    let pull = ctx.run.facts.pull.as_ref().map(|pull| pull.number).ok_or(Stop::Failed(Failure::Internal))?;
    let commit = ctx.run.facts.commit.clone().unwrap_or_default();
    let second = ctx.second().clone();
    let text = second.text.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| "It said nothing.".to_owned());
    let raw = review_body(&ctx.task, &agent.name, &text, &ctx.app.task_url(&ctx.task.id));
    let body = ctx.redacted(&raw);
    let review = {
        let (ctx, commit, body) = (&*ctx, commit.as_str(), body.as_str());
        ctx.patiently(FOR_RESULTS, |_| async move {
            let (place, github) = (ctx.place(), &ctx.app.github);
            let bot = ctx.app.bot_login().await?;
            if let Some(found) = github.find_review(&place, pull, &review_marker(&ctx.task), &bot).await? {
                return Ok(found);
            }
            ctx.take_write(Purpose::Result).await?;
            Ok(github.create_review(&place, pull, commit, body, &[]).await?)
        })
        .await?
    };
    ctx.second().review = Some(review);
    ctx.record(&[]).await?;
    // A draft of somebody else's stays one.
    let is_done = ctx.task.options.draft != Some(true) && to_approve(ctx)?.is_empty();
    if is_done && ctx.inputs()?.pull.is_none() {
        let ctx = &*ctx;
        ctx.patiently(FOR_RESULTS, |_| async move {
            ctx.take_write(Purpose::Result).await?;
            Ok(ctx.app.github.mark_ready(&ctx.place(), pull).await?)
        })
        .await?;
    }
    Ok(())
}

impl RunContext {
    fn second(&mut self) -> &mut SecondOpinion {
        self.run.facts.second.get_or_insert_default()
    }
}
