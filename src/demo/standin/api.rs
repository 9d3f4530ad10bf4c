//! The routes of the API that the service uses, and who may call them. Anything else is a
//! violation: GitHub would refuse it, and a test should know.

use http::Method;
use serde_json::json;

use super::server::{Answer, Asked};
use super::state::World;
use super::tokens::Token;
use super::{FIRST_INSTALLATION, checks, forks, graphql, hooks, issues, manifest, oauth, pulls, refs};
use crate::domain::delivery::InstallationState;
use crate::domain::ids::Millis;

/// A call that was let in: for which repository, and with which token.
pub(super) struct Inside<'a> {
    pub asked: &'a Asked,
    /// `owner/name` as in the route.
    pub repo: String,
    /// The route below `/repos/owner/name`.
    pub rest: Vec<String>,
    pub token: Token,
}

pub(super) async fn answer(world: &mut World, asked: &Asked) -> Answer {
    let parts: Vec<String> = asked.path.trim_matches('/').split('/').map(decoded).collect();
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    if asked.headers.get("user-agent").is_none() {
        return violation(world, asked, 403, "a request without User-Agent");
    }
    match words.as_slice() {
        ["app"] if asked.method == Method::GET => as_app(world, asked, |world| manifest::about(world)),
        ["app", "installations", id] if asked.method == Method::GET => {
            as_app(world, asked, |world| manifest::installation(world, id))
        }
        ["app", "installations", id, "access_tokens"] if asked.method == Method::POST => {
            as_app(world, asked, |world| token_for(world, asked, id))
        }
        ["app", "hook", "config"] if asked.method == Method::GET => as_app(world, asked, |world| world.hooks.config()),
        ["app", "hook", "deliveries", rest @ ..] => as_app(world, asked, |world| hooks::deliveries(world, asked, rest)),
        ["app-manifests", code, "conversions"] if asked.method == Method::POST => manifest::convert(world, code),
        ["orgs", organization, "memberships", login] => match token(world, asked) {
            Ok(token) if token.allows("members", "read") => oauth::membership(world, organization, login),
            Ok(_) => violation(world, asked, 403, "a token without members:read"),
            Err(answer) => answer,
        },
        ["user", ..] | ["applications", ..] => match oauth::about_user(world, asked, &words) {
            Some(answer) => answer,
            None => Answer::refused(401, "Bad credentials"),
        },
        ["installation", "repositories"] => match token(world, asked) {
            Ok(token) if token.allows("metadata", "read") => {
                let list: Vec<_> =
                    world.repositories.values().map(|one| json!({ "id": one.id, "full_name": one.name })).collect();
                Answer::json(200, &json!({ "total_count": list.len(), "repositories": list }))
            }
            Ok(_) => violation(world, asked, 403, "a token without metadata:read"),
            Err(answer) => answer,
        },
        ["installation", "token"] if asked.method == Method::DELETE => match bearer(asked) {
            Some(token) if world.tokens.remove(&token).is_some() => Answer::empty(204),
            _ => Answer::refused(401, "Bad credentials"),
        },
        ["graphql"] if asked.method == Method::POST => match token(world, asked) {
            Err(answer) => match oauth::login_of(world, asked) {
                Some(login) => forks::commit_as(world, &login, &asked.json()["variables"]["input"]).await,
                None => answer,
            },
            Ok(token) => graphql::answer(world, asked, &token).await,
        },
        ["repos", owner, name, rest @ ..] => {
            let repo = format!("{owner}/{name}");
            let rest = rest.iter().map(|part| (*part).to_owned()).collect();
            in_repository(world, asked, repo, rest).await
        }
        _ => violation(world, asked, 404, "an unknown route"),
    }
}

async fn in_repository(world: &mut World, asked: &Asked, repo: String, rest: Vec<String>) -> Answer {
    let token = match token(world, asked) {
        Ok(token) => token,
        Err(answer) => return answer,
    };
    let Some(repository) = world.repository(&repo) else { return Answer::refused(404, "Not Found") };
    // Others that are public may be read.
    let is_public_read = asked.method == Method::GET && !repository.private;
    if !token.repositories.contains(&repository.id) && !is_public_read {
        return violation(world, asked, 403, "a token for another repository");
    }
    let inside = Inside { asked, repo, rest, token };
    let words: Vec<&str> = inside.rest.iter().map(String::as_str).collect();
    match words.first().copied() {
        None | Some("collaborators" | "git" | "compare") => refs::answer(world, &inside).await,
        Some("issues") => issues::answer(world, &inside),
        Some("pulls") => pulls::answer(world, &inside).await,
        Some("actions") => checks::job_log(world, &inside),
        Some("check-runs" | "commits") => checks::checks(world, &inside),
        Some("contents") => checks::contents(world, &inside).await,
        Some(_) => violation(world, asked, 404, "an unknown route"),
    }
}

/// Refuses a call, and remembers that it should never have been made.
pub(super) fn violation(world: &mut World, asked: &Asked, status: u16, what: &str) -> Answer {
    world.violations.push(format!("{what}: {} {}", asked.method, asked.path));
    Answer::refused(status, what)
}

/// Whether the token of a call may do this; else the answer that GitHub gives.
pub(super) fn need(world: &mut World, inside: &Inside<'_>, permission: &str, level: &str) -> Result<(), Answer> {
    if inside.token.allows(permission, level) {
        return Ok(());
    }
    let what = format!("a token without {permission}:{level}");
    world.violations.push(format!("{what}: {} {}", inside.asked.method, inside.asked.path));
    Err(Answer::refused(403, "Resource not accessible by integration"))
}

/// The body of a call, which may hold these fields and no other.
pub(super) fn fields(world: &mut World, asked: &Asked, allowed: &[&str]) -> serde_json::Value {
    let body = asked.json();
    for name in body.as_object().into_iter().flat_map(serde_json::Map::keys) {
        if !allowed.contains(&name.as_str()) {
            world.violations.push(format!("an unknown field {name}: {} {}", asked.method, asked.path));
        }
    }
    body
}

pub(super) fn bearer(asked: &Asked) -> Option<String> {
    let value = asked.headers.get("authorization")?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(ToOwned::to_owned)
}

fn as_app(world: &mut World, asked: &Asked, then: impl FnOnce(&mut World) -> Answer) -> Answer {
    let token = bearer(asked).unwrap_or_default();
    match world.keys.check_app_token(&token, world.app_id, world.clock.now()) {
        Ok(()) => then(world),
        Err(why) => Answer::refused(401, why),
    }
}

fn token(world: &World, asked: &Asked) -> Result<Token, Answer> {
    let found = bearer(asked).and_then(|bearer| world.tokens.get(&bearer));
    match found {
        Some(token) if world.left.get(&token.installation) == Some(&InstallationState::Suspended) => Err(suspended()),
        Some(token) if token.expires > world.clock.now() => Ok(token.clone()),
        _ => Err(Answer::refused(401, "Bad credentials")),
    }
}

fn suspended() -> Answer {
    Answer::refused(403, "This installation has been suspended")
}

fn token_for(world: &mut World, asked: &Asked, installation: &str) -> Answer {
    let Ok(id) = installation.parse() else { return Answer::refused(404, "Not Found") };
    match world.left.get(&id) {
        Some(InstallationState::Suspended) => suspended(),
        Some(InstallationState::Deleted) => Answer::refused(404, "Not Found"),
        _ if (FIRST_INSTALLATION..=world.installation).contains(&id) => mint(world, asked, id),
        _ => Answer::refused(404, "Not Found"),
    }
}

/// Every token has to be narrowed to one repository and to named permissions (threat T30).
fn mint(world: &mut World, asked: &Asked, installation: i64) -> Answer {
    let body = fields(world, asked, &["repository_ids", "permissions"]);
    let repositories: Vec<i64> =
        body["repository_ids"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_i64).collect();
    let permissions: std::collections::BTreeMap<String, String> =
        serde_json::from_value(body["permissions"].clone()).unwrap_or_default();
    // Who administers an organization is about no repository, their names about all.
    let is_about_all =
        repositories.is_empty() && (permissions.keys().eq(["members"]) || permissions.keys().eq(["metadata"]));
    if (repositories.len() != 1 && !is_about_all) || permissions.is_empty() {
        return violation(world, asked, 422, "a token that is not narrowed");
    }
    for (name, level) in &permissions {
        if !manifest::GRANTED.iter().any(|(known, most)| known == name && (*most == "write" || level == "read")) {
            return violation(world, asked, 422, "a permission that the App was not given");
        }
    }
    let value = format!("ghs_{}{}", world.clock.new_id(), world.clock.new_id());
    let expires = Millis(world.clock.now().0 + 3_600_000);
    world.tokens.insert(value.clone(), Token { installation, repositories, permissions, expires });
    Answer::json(201, &json!({ "token": value, "expires_at": expires.rfc3339() }))
}

fn decoded(part: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%'
            && let (Some(high), Some(low)) = (rest.next(), rest.next())
            && let Ok(text) = std::str::from_utf8(&[high, low])
            && let Ok(value) = u8::from_str_radix(text, 16)
        {
            bytes.push(value);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
