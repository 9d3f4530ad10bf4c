//! Settings about agents, their models, and what they may cost.

use std::collections::HashMap;

use super::read::Vars;
use super::{ConfigError, Result, each};
use crate::domain::agent::{self, Agent, Provider};
use crate::domain::command::parse_cents;
use crate::domain::gateway::CostLimits;
use crate::domain::money::Usd;
use crate::domain::secret::Secret;

pub(super) fn keys(vars: &Vars<'_>) -> Result<HashMap<Provider, Secret>> {
    let mut keys = HashMap::new();
    for provider in Provider::ALL {
        if let Some(key) = vars.text(provider.setting())? {
            keys.insert(provider, Secret::new(key));
        }
    }
    Ok(keys)
}

pub(super) fn base_urls(vars: &Vars<'_>) -> Result<HashMap<Provider, String>> {
    let names = [
        (Provider::Anthropic, "ANTHROPIC_BASE_URL"),
        (Provider::Openai, "OPENAI_BASE_URL"),
        (Provider::Gemini, "GEMINI_BASE_URL"),
        (Provider::Aigateway, "AI_GATEWAY_BASE_URL"),
    ];
    let mut urls = HashMap::new();
    for (provider, name) in names {
        let default = provider.default_base_url().map(ToOwned::to_owned);
        urls.extend(vars.url(name)?.or(default).map(|url| (provider, url)));
    }
    Ok(urls)
}

pub(super) fn agents(vars: &Vars<'_>) -> Result<Vec<Agent>> {
    let mut agents = agent::built_in();
    if let Some(path) = vars.text("AGENTS_FILE")? {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| ConfigError::new(format!("AGENTS_FILE {path} cannot be read: {error}")))?;
        agents.extend(agent::custom(&text).map_err(|error| ConfigError::new(format!("AGENTS_FILE {path}: {error}")))?);
    }
    Ok(agents)
}

/// `claude=opus,gemini=gemini-2.5-flash`
pub(super) fn default_models(vars: &Vars<'_>, agents: &[Agent]) -> Result<HashMap<String, String>> {
    let text = vars.text("DEFAULT_MODELS")?.unwrap_or_default();
    let fault = |what: String| ConfigError::new(format!("DEFAULT_MODELS: {what}"));
    let mut models = HashMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, model) = pair
            .split_once('=')
            .map(|(name, model)| (name.trim().to_ascii_lowercase(), model.trim()))
            .ok_or_else(|| fault(format!("“{pair}” has to look like claude=opus")))?;
        let agent = agents.iter().find(|agent| agent.name == name);
        let agent = agent.ok_or_else(|| fault(format!("{name} is no agent of this instance")))?;
        agent.check_model(model).map_err(fault)?;
        models.insert(name, model.to_owned());
    }
    Ok(models)
}

pub(super) fn cost_limits(vars: &Vars<'_>) -> Result<CostLimits> {
    let sum = |name: &str| -> Result<Option<Usd>> {
        let Some(text) = vars.text(name)? else { return Ok(None) };
        let fault =
            || ConfigError::new(format!("{name} is “{text}”; it has to be a sum in US dollars such as $20 or 2.50"));
        parse_cents(&text).map(|cents| Some(Usd::from_cents(cents))).ok_or_else(fault)
    };
    each! {
        per_task = sum("MAX_COST_PER_TASK");
        per_person = sum("MAX_COST_PER_PERSON");
        per_repository = sum("MAX_COST_PER_REPOSITORY");
        per_instance = sum("MAX_COST_PER_MONTH");
        => CostLimits { per_task, per_person, per_repository, per_instance }
    }
}
