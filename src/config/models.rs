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
    let key = |provider: Provider| {
        let text = vars.text(provider.setting()).transpose()?;
        Some(text.map(|text| (provider, Secret::new(text))))
    };
    all(Provider::ALL.into_iter().filter_map(key))
}

pub(super) fn base_urls(vars: &Vars<'_>) -> Result<HashMap<Provider, String>> {
    let names = [
        (Provider::Anthropic, "ANTHROPIC_BASE_URL"),
        (Provider::Openai, "OPENAI_BASE_URL"),
        (Provider::Gemini, "GEMINI_BASE_URL"),
        (Provider::Aigateway, "AI_GATEWAY_BASE_URL"),
    ];
    let url = |(provider, name): (Provider, &str)| {
        let given = vars.url(name).transpose();
        let url = given.or_else(|| provider.default_base_url().map(|url| Ok(url.to_owned())))?;
        Some(url.map(|url| (provider, url)))
    };
    all(names.into_iter().filter_map(url))
}

/// All of them, or all faults.
fn all<T>(parts: impl Iterator<Item = Result<(Provider, T)>>) -> Result<HashMap<Provider, T>> {
    let (mut good, mut faults) = (HashMap::new(), Vec::new());
    for part in parts {
        match part {
            Ok((provider, value)) => drop(good.insert(provider, value)),
            Err(ConfigError(more)) => faults.extend(more),
        }
    }
    if faults.is_empty() { Ok(good) } else { Err(ConfigError(faults)) }
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
        CostLimits {
            per_task = sum("MAX_COST_PER_TASK");
            per_person = sum("MAX_COST_PER_PERSON");
            per_repository = sum("MAX_COST_PER_REPOSITORY");
            per_instance = sum("MAX_COST_PER_MONTH");
        }
    }
}
