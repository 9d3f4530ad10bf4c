//! The connectors of a run: chosen before its sandbox is made, written for its agent, their secrets
//! put on requests by the sandbox's network where that can be done.

use super::RunContext;
use super::patience::{BEFORE_WORK, Stop};
use super::prepare::set_headers;
use super::provision::network;
use crate::domain::connector::config::{Server, Text, Way, Written};
use crate::domain::connector::{Connector, Selected, Transport};
use crate::domain::network::{Injection, Network};
use crate::domain::secret::Secret;

/// Which connectors this run has, and the hosts they need.
pub(super) async fn choose(ctx: &mut RunContext) -> Result<(), Stop> {
    let Selected { connectors, missing } = found(ctx).await?;
    let is_offered = ctx.agent()?.mcp.is_some();
    let hosts = |connector: &Connector| match &connector.transport {
        Transport::Local { hosts, .. } => hosts.iter().map(|host| format!("https://{host}")).collect(),
        Transport::Remote { url, .. } => vec![url.clone()],
    };
    let facts = &mut ctx.run.facts;
    if !is_offered && !connectors.is_empty() {
        facts.note("Custom agents are not given connectors.".to_owned());
        return Ok(());
    }
    let is_missing = |name: &String| format!("The connector {name} is there no more; the agent works without it.");
    missing.iter().map(is_missing).for_each(|note| facts.note(note));
    facts.connector_urls = connectors.iter().flat_map(hosts).collect();
    facts.connectors = connectors.into_iter().map(|connector| connector.name).collect();
    Ok(())
}

async fn found(ctx: &RunContext) -> Result<Selected, Stop> {
    let payer = ctx.payer();
    let options = &ctx.task.options;
    ctx.patiently(BEFORE_WORK, |_| async move { Ok(ctx.app.connectors_for(options, payer).await?) }).await
}

/// The servers of this run with their secrets, which the redactor knows from here on.
pub(super) async fn servers(ctx: &mut RunContext) -> Result<Vec<Server>, Stop> {
    if ctx.run.facts.connectors.is_empty() {
        return Ok(Vec::new());
    }
    let mut connectors = found(ctx).await?.connectors;
    connectors.retain(|connector| ctx.run.facts.connectors.contains(&connector.name));
    let (mut servers, closed) = ctx.app.servers(&connectors);
    let mut notes: Vec<String> =
        closed.iter().map(|name| format!("The connector {name} cannot be opened; save it anew.")).collect();
    let agent = ctx.agent()?.clone();
    servers.retain(|server| {
        let can = agent.mcp.is_none_or(|style| style.can_carry(server));
        if !can {
            notes.push(format!(
                "The connector {} is left out: {} would change the $ in its secrets.",
                server.name, agent.name
            ));
        }
        can
    });
    for note in notes {
        ctx.run.facts.note(note);
    }
    guard_all(ctx, &servers);
    if ctx.run.facts.connectors_injected {
        for server in &mut servers {
            take_injectable(server);
        }
    }
    Ok(servers)
}

async fn all_of(ctx: &RunContext) -> Result<Vec<Connector>, Stop> {
    let payer = ctx.payer();
    ctx.patiently_in_store(
        |_| async move { Ok(ctx.app.store.connectors_of(payer.requester, payer.installation).await?) },
    )
    .await
}

/// Has the redactor know their secrets, however they are delivered, switched off since or not.
pub(super) async fn guard(ctx: &mut RunContext) -> Result<(), Stop> {
    if !ctx.run.facts.connectors.is_empty() {
        let all = all_of(ctx).await?;
        let (servers, _) = ctx.app.servers(&all);
        guard_all(ctx, &servers);
    }
    Ok(())
}

fn guard_all(ctx: &mut RunContext, servers: &[Server]) {
    for secret in servers.iter().flat_map(secrets_of) {
        ctx.guard(&secret);
    }
}

fn secrets_of(server: &Server) -> Vec<Secret> {
    crate::domain::connector::config::environment(std::slice::from_ref(server))
        .into_iter()
        // `Bearer x` is printed without its first word, too.
        .flat_map(|(_, value)| {
            let words: Vec<Secret> = value.expose().split(' ').map(Secret::new).collect();
            words.into_iter().chain([value])
        })
        .collect()
}

/// Takes the secret headers out of a remote server that is called by TLS under its name.
fn take_injectable(server: &mut Server) -> Option<Injection> {
    let Way::Remote { url: Text::Plain(url), headers, .. } = &mut server.way else { return None };
    let parsed = url::Url::parse(url).ok().filter(|url| url.scheme() == "https")?;
    let host = parsed.domain()?.to_owned();
    let (secret, plain): (Vec<_>, Vec<_>) =
        std::mem::take(headers).into_iter().partition(|(_, text)| matches!(text, Text::Secret { .. }));
    *headers = plain;
    let value = |(name, text)| match text {
        Text::Secret { value, .. } => (name, value),
        Text::Plain(text) => (name, Secret::new(text)),
    };
    let headers: Vec<(String, Secret)> = secret.into_iter().map(value).collect();
    (!headers.is_empty()).then(|| Injection { host, path: parsed.path().to_owned(), headers })
}

/// Has the network put the secrets on requests, where it can: then they never enter the sandbox.
pub(super) async fn inject(ctx: &mut RunContext) -> Result<(), Stop> {
    // A step that runs again must not take them for delivered.
    ctx.run.facts.connectors_injected = false;
    let mut servers = servers(ctx).await?;
    let injections: Vec<Injection> = servers.iter_mut().filter_map(take_injectable).collect();
    // An address that the network leaves out is not let in by a header.
    let allowed = network(ctx)?;
    let is_allowed = |injection: &Injection| match &allowed {
        Network::Open => true,
        Network::Only { hosts, .. } => hosts.contains(&injection.host),
    };
    let can = ctx.app.sandbox.can_inject() && injections.iter().all(is_allowed);
    if injections.is_empty() || !can {
        return Ok(());
    }
    ctx.run.facts.connectors_injected = set_headers(ctx, &injections).await?;
    ctx.record(&[]).await
}

/// The file that tells the agent of its servers, if there are any.
pub(super) async fn written(ctx: &mut RunContext) -> Result<Option<Written>, Stop> {
    let servers = servers(ctx).await?;
    let agent = ctx.agent()?;
    let Some(style) = agent.mcp.filter(|_| !servers.is_empty()) else { return Ok(None) };
    let bare = style.write(&[], None);
    let base = agent.home_files.iter().find(|(path, _)| *path == bare.path).map(|(_, text)| *text);
    Ok(Some(style.write(&servers, base)))
}
