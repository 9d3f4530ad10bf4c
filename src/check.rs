//! `hireling check`: what is there, what is missing, and the mend, one line each.
#![expect(clippy::print_stdout, reason = "a command that talks to a person")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use hireling::adapters::github::{GitHub, Webhook};
use hireling::adapters::store::{Access, Store};
use hireling::adapters::system::SystemClock;
use hireling::adapters::vault::is_open_to_others;
use hireling::app::setup;
use hireling::config::{Config, ConfigError, SandboxProvider, Source};
use hireling::domain::connector::address;
use hireling::domain::delivery::WEBHOOK_PATH;
use hireling::domain::key::sealed_for;
use hireling::domain::manifest;
use hireling::domain::registration::Registration;
use hireling::ports::clock::Clock as _;
use hireling::service;

/// Deliveries that are looked at.
const LAST: usize = 10;

/// What is good, or what is wrong and what to do.
type Said = Result<String, String>;

/// Prints a line about each thing. False: something has to be mended.
pub async fn check(source: &Source, program: PathBuf) -> bool {
    let config = match Config::from_source(source) {
        Ok(config) => config,
        Err(ConfigError(faults)) => {
            for fault in faults {
                report("settings", Err(fault));
            }
            return false;
        }
    };
    let agents = format!("{} agents, default {}", config.agents.len(), config.default_agent);
    let mut good = report("settings", Ok(agents));
    good &= report("database", database(&config).await);
    good &= report("encryption key", encryption_key(&config).await.map_err(|error| format!("{error:#}")));
    good &= github(&config).await;
    good &= report("sandbox", sandbox(&config, program).await);
    good &= report("model gateway", gateway(&config));
    good & report("keys", Ok(keys(&config)))
}

fn report(what: &str, said: Said) -> bool {
    match said {
        Ok(said) => {
            println!("ok    {what}: {said}");
            true
        }
        Err(why) => {
            println!("FAIL  {what}: {why}");
            false
        }
    }
}

async fn database(config: &Config) -> Said {
    let store =
        Store::open(&service::location(&config.database), Access::Visitor).await.map_err(|error| error.to_string())?;
    store.try_to_write(SystemClock.now()).await.map_err(|error| format!("nothing can be stored: {error}"))?;
    let hears = match store.listen().await {
        Ok(Some(_)) => ", processes call each other",
        Ok(None) if store.is_shared() => {
            ", but processes cannot call each other through this pooler: set DATABASE_DIRECT_URL, or they ask every second"
        }
        Ok(None) | Err(_) => "",
    };
    Ok(format!("{} answers and is up to date{hears}", store.engine()))
}

/// Whether it is there, for this program alone, and opens what is stored.
async fn encryption_key(config: &Config) -> anyhow::Result<String> {
    let found = service::vault_found(config)?;
    let store = Store::open(&service::location(&config.database), Access::Visitor).await?;
    let sealed = some_sealed(&store).await;
    store.close().await;
    let mut sealed = sealed?;
    // Nothing is read from a stored App where the settings name one.
    sealed.retain(|(_, bound_to, _)| bound_to != setup::BOUND_TO || config.github.registration.is_none());
    let Some(vault) = found else {
        anyhow::ensure!(sealed.is_empty(), "it is gone, and what is stored cannot be opened without it");
        return Ok("it is made at the first start".to_owned());
    };
    for (what, bound_to, sealed) in &sealed {
        vault.open(bound_to, sealed).with_context(|| {
            format!("{what} was sealed with another one: put that behind this one in ENCRYPTION_KEY")
        })?;
    }
    Ok(match config.encryption_key_file.as_deref().map(is_open_to_others) {
        Some(Ok(true)) => "others on this machine can read ENCRYPTION_KEY_FILE: `chmod 600` it".to_owned(),
        _ => "it opens a sample of each kind that is stored".to_owned(),
    })
}

/// One of each kind that people gave, if there is one: what it is, what it is bound to, and how it is stored.
async fn some_sealed(store: &Store) -> anyhow::Result<Vec<(&'static str, String, String)>> {
    let key = store.keys_after("", 1).await?.pop();
    let key = key.map(|key| ("a stored key", sealed_for(&key.id, key.owner, key.provider), key.sealed));
    let connector = store.connectors_after("", 1).await?.pop();
    let connector = connector.map(|one| ("a connector", one.bound_to(), one.sealed));
    let app = store.instance_value(setup::NAME).await?;
    let app = app.map(|sealed| ("the stored GitHub App", setup::BOUND_TO.to_owned(), sealed));
    Ok([app, key, connector].into_iter().flatten().collect())
}

/// Who we are there, what we may do, and where GitHub calls.
async fn github(config: &Config) -> bool {
    let (github, has_client) = match client(config).await {
        Ok(client) => client,
        Err(error) => return report("GitHub", Err(format!("{error:#}"))),
    };
    let about = match github.about_app().await {
        Ok(about) => about,
        Err(error) => return report("GitHub", Err(error.to_string())),
    };
    let good = report("GitHub", Ok(format!("we are {}[bot]", about.slug)))
        & report("permissions", permissions(&about.permissions, &about.events));
    let webhook = github.webhook().await.map_err(|error| error.to_string());
    let good = good & report("webhook", webhook.and_then(|found| webhook_at(config, found)));
    let good = good & report("deliveries", deliveries(&github).await);
    let signing_in = match has_client {
        true => "people sign in with GitHub",
        false => {
            "nobody can sign in: set GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET for pages of keys and private tasks"
        }
    };
    good & report("sign-in", Ok(signing_in.to_owned()))
}

/// And whether people can sign in.
async fn client(config: &Config) -> anyhow::Result<(GitHub, bool)> {
    let registration = match &config.github.registration {
        Some(registration) => registration.clone(),
        None => stored_registration(config).await?,
    };
    let github = service::github(config, &registration, Arc::new(SystemClock))?;
    Ok((github, registration.client.is_some()))
}

async fn stored_registration(config: &Config) -> anyhow::Result<Registration> {
    let store = Store::open(&service::location(&config.database), Access::Visitor).await?;
    let vault = service::vault_found(config)?.context(service::NO_APP)?;
    let stored = service::registration(config, &store, &vault).await;
    store.close().await;
    stored?.context(service::NO_APP)
}

fn permissions(granted: &BTreeMap<String, String>, events: &[String]) -> Said {
    let wanted = manifest::wanted()?;
    let is_enough = |name: &String, level: &String| match granted.get(name) {
        Some(found) => found == level || found == "write",
        None => false,
    };
    let missing = wanted.permissions.iter().filter(|(name, level)| !is_enough(name, level));
    let mut missing: Vec<String> = missing.map(|(name, level)| format!("{name}: {level}")).collect();
    missing.extend(wanted.events.iter().filter(|event| !events.contains(event)).map(|event| format!("event {event}")));
    match missing.as_slice() {
        [] => Ok("all that are used".to_owned()),
        missing => Err(format!(
            "{} missing: add them on the App's page at GitHub; accounts have to accept them",
            missing.join(", ")
        )),
    }
}

fn webhook_at(config: &Config, found: Option<Webhook>) -> Said {
    let Some(Webhook { url: found, is_json }) = found else {
        return Err("the App has no webhook: set its URL on its page at GitHub".to_owned());
    };
    if !is_json {
        return Err("GitHub sends forms: set the webhook's content type to application/json".to_owned());
    }
    let Some(public) = &config.public_url else {
        return Ok(format!("GitHub calls {found} (without PUBLIC_URL nobody knows whether that is here)"));
    };
    let wanted = format!("{public}{WEBHOOK_PATH}");
    match found == wanted {
        true => Ok(format!("GitHub calls {found}")),
        false => Err(format!("GitHub calls {found}: set the App's webhook URL to {wanted}, or mend PUBLIC_URL")),
    }
}

/// What became of what GitHub sent last: of its secret it shows nothing else.
async fn deliveries(github: &GitHub) -> Said {
    let (mut last, _) = github.attempts(None).await.map_err(|error| error.to_string())?;
    last.truncate(LAST);
    let Some(newest) = last.first() else { return Ok("GitHub has sent none yet".to_owned()) };
    let taken = last.iter().filter(|attempt| (200..300).contains(&attempt.status)).count();
    // A single one may have come amid a restart; a wrong secret mends itself with none.
    if taken > 0 && newest.status != 401 {
        return Ok(format!("of the last {} {taken} were taken", last.len()));
    }
    let mend = match newest.status {
        401 => "GITHUB_WEBHOOK_SECRET is not the one on the App's page at GitHub",
        413 => "a proxy in front takes no large requests",
        415 => "set the webhook's content type to application/json",
        503 => "the service could not store them; its log says why",
        _ => "nobody answers at the webhook's URL, or not this service",
    };
    Err(format!("of the last {} {taken} were taken, the newest was answered {}: {mend}", last.len(), newest.status))
}

async fn sandbox(config: &Config, program: PathBuf) -> Said {
    let sandbox = service::sandbox(config, program, Arc::new(SystemClock)).map_err(|error| format!("{error:#}"))?;
    sandbox.check().await.map_err(|error| error.to_string())
}

/// Sandboxes elsewhere have to reach this service.
fn gateway(config: &Config) -> Said {
    let url = config.public_url_at(config.listen);
    let is_elsewhere = |api: &str| address::check(api).is_ok();
    match &config.sandbox {
        SandboxProvider::Vercel { api_url, .. } if is_elsewhere(api_url) && !is_elsewhere(&url) => Err(format!(
            "sandboxes on Vercel cannot reach {url}: set PUBLIC_URL to the public https address of this service"
        )),
        _ => Ok(format!("sandboxes call {url}/gateway")),
    }
}

fn keys(config: &Config) -> String {
    let mut names: Vec<&str> = config.keys.keys().map(|provider| provider.title()).collect();
    names.sort_unstable();
    match names.as_slice() {
        [] => "the instance has none of its own: people and accounts link theirs under /settings/keys".to_owned(),
        names => format!("the instance has its own for {}", names.join(", ")),
    }
}
