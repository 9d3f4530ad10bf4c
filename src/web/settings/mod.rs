//! The pages of the person who is signed in: how they sign in, what they want of every task, what they
//! have used, and what is kept of them.

pub mod connectors;
pub mod keys;

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::Web;
use super::page::{Frame, fail, render, then};
use super::visitor::{Me, Posted, Visitor};
use crate::app::StoreError;
use crate::domain::command::parse_duration;
use crate::domain::ids::{InstallationId, Millis};
use crate::domain::key::KeyOwner;
use crate::domain::listing::{AuditLine, Deeds, Usage};
use crate::domain::person::{Account, SignInWith};
use crate::domain::preferences::Preferences;
use crate::domain::text::{cut_marked, duration};

const AUDIT_LINES: i64 = 20;
/// A model's name is short.
const MAX_MODEL: usize = 100;

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    frame: Frame,
    login: String,
    accounts: Vec<Account>,
    /// What can be linked besides.
    linkable: Vec<(&'static str, &'static str)>,
    can_unlink: bool,
    /// Whether the person can let us push to forks, and does.
    can_allow_push: bool,
    is_push_allowed: bool,
    agents: Vec<(String, String)>,
    preferences: Preferences,
    longest: String,
    most_per_day: i64,
    default_agent: String,
    today: Usage,
    month: Usage,
    commands: i64,
    sessions: Vec<SessionLine>,
    audit: Vec<AuditLine>,
    uses: Vec<AuditLine>,
    /// What was done with keys and connectors of the accounts that the person administers.
    accounts_audit: Vec<(String, Vec<AuditLine>)>,
    fault: Option<String>,
    tokens: Tokens,
}

/// Of the forms on the page.
struct Tokens {
    preferences: String,
    link: String,
    unlink: String,
    allow_push: String,
    withdraw_push: String,
    revoke: String,
    delete: String,
}

struct SessionLine {
    id: String,
    client: String,
    since: String,
    used: String,
    is_this: bool,
}

/// Whose keys and connectors a page is about.
pub struct Owner {
    pub owner: KeyOwner,
    /// In forms: `me`, or the number of an installation.
    pub field: String,
    pub title: String,
}

/// The person, and the accounts the person administers.
pub async fn owners(web: &Web, me: &Me) -> Vec<Owner> {
    let own = Owner { owner: KeyOwner::Person(me.person.id), field: "me".to_owned(), title: "Yours".to_owned() };
    let administered = web.app.administered(&me.person).await.into_iter().map(|one| Owner {
        owner: KeyOwner::Installation(one.id),
        field: one.id.to_string(),
        title: one.account,
    });
    std::iter::once(own).chain(administered).collect()
}

/// The owner that a form names, if the person sees to it, asked now.
pub async fn owner_of(web: &Web, posted: &Posted) -> Option<KeyOwner> {
    let person = &posted.me.person;
    match posted.field("owner") {
        "me" => Some(KeyOwner::Person(person.id)),
        number => {
            let id = InstallationId(number.parse().ok()?);
            web.app.administers_now(person, id).await.then_some(KeyOwner::Installation(id))
        }
    }
}

pub async fn settings(State(web): State<Arc<Web>>, me: Me, visitor: Visitor) -> Response {
    let frame = Frame::of(&web, &visitor).await;
    shown(&web, &me, frame, me.person.preferences.clone(), None).await
}

async fn shown(web: &Arc<Web>, me: &Me, frame: Frame, preferences: Preferences, fault: Option<String>) -> Response {
    let status = if fault.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    match page(web, me, frame, preferences, fault).await {
        Ok(page) => (status, render(&page)).into_response(),
        Err(error) => fail(web, &error),
    }
}

async fn page(
    web: &Web,
    me: &Me,
    frame: Frame,
    preferences: Preferences,
    fault: Option<String>,
) -> Result<SettingsPage, StoreError> {
    let (store, id) = (&web.app.store, me.person.id);
    let now = web.app.clock.now();
    let accounts = store.accounts_of(id).await?;
    let has = |with: SignInWith| accounts.iter().any(|account| account.with == with);
    let linkable = [SignInWith::GitHub, SignInWith::Vercel].into_iter();
    let linkable = linkable.filter(|with| !has(*with) && web.app.signins.offers(*with));
    let sessions = store.sessions_of(id).await?.into_iter().filter(|session| !session.is_over(now));
    let settings = &web.app.settings;
    let model = |agent: &str| preferences.models.get(agent).cloned().unwrap_or_default();
    Ok(SettingsPage {
        frame,
        login: me.person.login.clone(),
        linkable: linkable.map(|with| (with.name(), with.title())).collect(),
        can_unlink: has(SignInWith::GitHub) && has(SignInWith::Vercel),
        can_allow_push: has(SignInWith::GitHub) && web.app.signins.offers(SignInWith::GitHub),
        is_push_allowed: web.app.has_push_permit(id).await?,
        agents: settings.agents.iter().map(|agent| (agent.name.clone(), model(&agent.name))).collect(),
        longest: duration(settings.max_duration),
        most_per_day: settings.max_per_day,
        default_agent: settings.default_agent.clone(),
        today: store.usage_of(id, Millis(now.day() * 86_400_000)).await?,
        month: store.usage_of(id, now.start_of_month()).await?,
        commands: store.commands_on(id, now.day()).await?,
        sessions: sessions
            .map(|session| SessionLine {
                is_this: session.id == me.session.id,
                client: session.client,
                since: session.created_at.for_people(),
                used: session.used_at.for_people(),
                id: session.id,
            })
            .collect(),
        audit: store.audit_of(KeyOwner::Person(id), Deeds::Changes, AUDIT_LINES).await?,
        uses: store.audit_of(KeyOwner::Person(id), Deeds::Uses, AUDIT_LINES).await?,
        accounts_audit: audit_of_accounts(web, me).await?,
        tokens: Tokens {
            preferences: me.token("/settings/preferences"),
            link: me.token("/settings/accounts/link"),
            unlink: me.token("/settings/accounts/unlink"),
            allow_push: me.token("/settings/forks/allow"),
            withdraw_push: me.token("/settings/forks/withdraw"),
            revoke: me.token("/settings/sessions/revoke"),
            delete: me.token("/settings/delete"),
        },
        accounts,
        preferences,
        fault,
    })
}

async fn audit_of_accounts(web: &Web, me: &Me) -> Result<Vec<(String, Vec<AuditLine>)>, StoreError> {
    let mut all = Vec::new();
    for account in web.app.administered(&me.person).await {
        let owner = KeyOwner::Installation(account.id);
        let mut lines = web.app.store.audit_of(owner, Deeds::Changes, AUDIT_LINES).await?;
        lines.extend(web.app.store.audit_of(owner, Deeds::Uses, AUDIT_LINES).await?);
        if !lines.is_empty() {
            all.push((account.account, lines));
        }
    }
    Ok(all)
}

/// The preferences that a form asks for. `Err`: what is wrong with them.
fn read(web: &Web, posted: &Posted) -> Result<Preferences, (Preferences, String)> {
    let settings = &web.app.settings;
    let mut preferences = Preferences {
        draft: posted.is_checked("draft"),
        keep_alive: posted.is_checked("keep_alive"),
        ..Preferences::default()
    };
    let mut fault = None;
    match posted.field("agent") {
        "" => {}
        name if settings.agent(name).is_some() => preferences.agent = Some(name.to_owned()),
        _ => fault = Some("There is no agent of this name here.".to_owned()),
    }
    for agent in &settings.agents {
        let model = cut_marked(posted.field(&format!("model-{}", agent.name)), MAX_MODEL);
        if model.is_empty() {
            continue;
        }
        if let Err(why) = agent.check_model(&model) {
            fault = Some(format!("{}: {why}", agent.name));
        }
        preferences.models.insert(agent.name.clone(), model);
    }
    match posted.field("max_messages_per_day") {
        "" => {}
        text => match text.parse::<i64>().ok().filter(|number| (0..=settings.max_per_day).contains(number)) {
            Some(number) => preferences.max_messages_per_day = Some(number),
            None => fault = Some(format!("Commands per day: a number up to {}.", settings.max_per_day)),
        },
    }
    match posted.field("max_sandbox_duration") {
        "" => {}
        text => match parse_duration(text).filter(|time| *time <= settings.max_duration) {
            Some(time) => preferences.max_sandbox_duration = Some(time.as_secs()),
            None => fault = Some(format!("Time for a task: like 30m, up to {}.", duration(settings.max_duration))),
        },
    }
    match fault {
        None => Ok(preferences),
        Some(fault) => Err((preferences, fault)),
    }
}

pub async fn save_preferences(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    match read(&web, &posted) {
        Ok(preferences) => match web.app.store.store_preferences(posted.me.person.id, &preferences).await {
            Ok(()) => then("/settings", "saved"),
            Err(error) => fail(&web, &error),
        },
        Err((preferences, fault)) => {
            let frame = Frame::new(&web, Some(&posted.me)).await;
            shown(&web, &posted.me, frame, preferences, Some(fault)).await
        }
    }
}

/// Ends another session of the same person.
pub async fn revoke(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let session = posted.field("session");
    let which = (session != "all").then_some(session);
    match web.app.store.end_sessions(posted.me.person.id, which).await {
        Ok(_) if which.is_none() => then("/", "ended"),
        Ok(_) => then("/settings", "revoked"),
        Err(error) => fail(&web, &error),
    }
}

/// What is kept of the person, as a file. Keys are told by their fingerprints.
pub async fn export(State(web): State<Arc<Web>>, me: Me) -> Response {
    match exported(&web, &me).await {
        Ok(value) => {
            let text = serde_json::to_string_pretty(&value).unwrap_or_default();
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"hireling.json\"")),
            ];
            (headers, text).into_response()
        }
        Err(error) => fail(&web, &error),
    }
}

async fn exported(web: &Web, me: &Me) -> Result<serde_json::Value, StoreError> {
    let (store, owner) = (&web.app.store, KeyOwner::Person(me.person.id));
    let accounts = store.accounts_of(me.person.id).await?;
    let keys: Vec<_> = store
        .keys_owned_by(owner)
        .await?
        .into_iter()
        .map(|key| {
            serde_json::json!({ "provider": key.provider.name(), "fingerprint": key.fingerprint,
                "saved_at": key.saved_at.rfc3339(), "used_at": key.used_at.map(Millis::rfc3339) })
        })
        .collect();
    let connectors: Vec<_> = store
        .connectors_owned_by(owner)
        .await?
        .into_iter()
        .map(|one| serde_json::json!({ "name": one.name, "transport": one.transport, "is_enabled": one.is_enabled }))
        .collect();
    let sessions: Vec<_> = store
        .sessions_of(me.person.id)
        .await?
        .into_iter()
        .map(|one| serde_json::json!({ "client": one.client, "since": one.created_at.rfc3339() }))
        .collect();
    let (changes, uses) =
        (store.audit_of(owner, Deeds::Changes, 1_000).await?, store.audit_of(owner, Deeds::Uses, 1_000).await?);
    let audit: Vec<_> = changes
        .into_iter()
        .chain(uses)
        .map(|line| serde_json::json!({ "at": line.at.rfc3339(), "did": line.action, "about": line.about }))
        .collect();
    let tasks = store.task_ids_of(me.person.id, 10_000).await?;
    let installations: Vec<_> = me.person.installations.iter().map(|seen| &seen.account).collect();
    let month = store.usage_of(me.person.id, web.app.clock.now().start_of_month()).await?;
    let usage = serde_json::json!({ "tasks": month.tasks, "tokens_in": month.tokens_in, "tokens_out": month.tokens_out,
        "sum": month.sum.to_string() });
    Ok(serde_json::json!({ "id": me.person.id.0, "login": me.person.login, "accounts": accounts,
        "preferences": me.person.preferences, "pushes_to_forks": store.push_permit(me.person.id).await?.is_some(), "keys": keys, "connectors": connectors, "sessions": sessions,
        "audit": audit, "tasks": tasks, "installations": installations, "usage_this_month": usage }))
}

/// Deletes the person: accounts, keys, connectors, sessions, preferences.
pub async fn delete(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    if posted.field("login") != posted.me.person.login {
        let frame = Frame::new(&web, Some(&posted.me)).await;
        let fault = "To delete what is kept of you, write your login into the field.".to_owned();
        let preferences = posted.me.person.preferences.clone();
        return shown(&web, &posted.me, frame, preferences, Some(fault)).await;
    }
    if let Err(error) = web.app.withdraw_push_permit(posted.me.person.id).await {
        return fail(&web, &error);
    }
    if let Err(error) = web.app.store.delete_person(posted.me.person.id).await {
        return fail(&web, &error);
    }
    let mut response = Redirect::to("/").into_response();
    web.set_cookie(&mut response, &web.session_cookie(), "", 0);
    response
}
