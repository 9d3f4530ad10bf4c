//! Signing in with the stand-in, as strict as GitHub: a code is for one client, one address, one
//! challenge, and counts once.

use std::collections::BTreeMap;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::payloads;
use super::server::{Answer, Asked};
use super::state::World;
use crate::domain::secret::Secret;

pub(super) const CLIENT_ID: &str = "Iv1.standin";

#[derive(Debug)]
pub(super) struct SignIns {
    pub client_secret: Secret,
    codes: BTreeMap<String, Code>,
    /// User tokens, and whose they are.
    pub tokens: BTreeMap<String, String>,
    /// What new ones are had for, once.
    refresh: BTreeMap<String, String>,
    /// Seconds that a new token is good for.
    pub lives: i64,
    /// Roles by organization and login.
    pub organizations: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug)]
struct Code {
    login: String,
    redirect_uri: String,
    challenge: String,
}

#[derive(Template)]
#[template(path = "authorize.html")]
struct AuthorizePage {
    people: Vec<(String, String)>,
}

impl SignIns {
    pub(super) fn new(client_secret: Secret) -> Self {
        Self {
            client_secret,
            codes: BTreeMap::new(),
            tokens: BTreeMap::new(),
            refresh: BTreeMap::new(),
            lives: 28_800,
            organizations: BTreeMap::new(),
        }
    }
}

/// Who do you want to be? With `login` it is clear.
pub(super) fn authorize(world: &mut World, asked: &Asked) -> Answer {
    let of = |name: &str| asked.query(name).unwrap_or("").to_owned();
    let (redirect_uri, challenge) = (of("redirect_uri"), of("code_challenge"));
    let is_good = of("client_id") == CLIENT_ID
        && of("code_challenge_method") == "S256"
        && !challenge.is_empty()
        && redirect_uri.ends_with("/api/auth/github/callback");
    let Some(mut target) = url::Url::parse(&redirect_uri).ok().filter(|_| is_good) else {
        return Answer::html(400, "<h1>This App asks wrongly</h1>".to_owned());
    };
    let login = of("login");
    if !world.users.contains_key(&login) {
        let query: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&asked.query).finish();
        let link = |login: &String| format!("/login/oauth/authorize?{query}&login={login}");
        let people = world.users.keys().filter(|login| !login.ends_with("[bot]"));
        let people = people.map(|login| (login.clone(), link(login))).collect();
        return match (AuthorizePage { people }).render() {
            Ok(page) => Answer::html(200, page),
            Err(error) => Answer::html(500, error.to_string()),
        };
    }
    let code = world.clock.new_id();
    world.signins.codes.insert(code.clone(), Code { login, redirect_uri, challenge });
    target.query_pairs_mut().append_pair("code", &code).append_pair("state", &of("state"));
    Answer::redirect(target.as_str())
}

/// GitHub refuses with 200 and an `error`.
pub(super) fn access_token(world: &mut World, asked: &Asked) -> Answer {
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(&asked.body).into_owned().collect();
    let of = |name: &str| form.get(name).map_or("", String::as_str);
    let refused = |error: &str| Answer::json(200, &json!({ "error": error }));
    if of("client_id") != CLIENT_ID || of("client_secret") != world.signins.client_secret.expose() {
        return refused("incorrect_client_credentials");
    }
    if of("grant_type") == "refresh_token" {
        return match world.signins.refresh.remove(of("refresh_token")) {
            Some(login) => give(world, login),
            None => refused("bad_refresh_token"),
        };
    }
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(of("code_verifier")));
    match world.signins.codes.remove(of("code")) {
        Some(code) if code.redirect_uri != of("redirect_uri") => refused("redirect_uri_mismatch"),
        Some(code) if code.challenge == challenge => give(world, code.login),
        _ => refused("bad_verification_code"),
    }
}

fn give(world: &mut World, login: String) -> Answer {
    let [token, refresh] = ["ghu_", "ghr_"].map(|start| format!("{start}{}", world.clock.new_id()));
    world.signins.tokens.insert(token.clone(), login.clone());
    world.signins.refresh.insert(refresh.clone(), login);
    let lives = world.signins.lives;
    Answer::json(
        200,
        &json!({ "access_token": token, "expires_in": lives, "refresh_token": refresh, "token_type": "bearer", "scope": "" }),
    )
}

/// Whose token a call brings.
pub(super) fn login_of(world: &World, asked: &Asked) -> Option<String> {
    world.signins.tokens.get(&super::api::bearer(asked)?).cloned()
}

/// What a user's token tells. `None`: it is not about a user.
pub(super) fn about_user(world: &mut World, asked: &Asked, words: &[&str]) -> Option<Answer> {
    let login = login_of(world, asked);
    let answer = match (&asked.method, words) {
        (&Method::GET, ["user"]) => payloads::user(world, login.as_deref()?),
        (&Method::GET, ["user", "emails"]) => {
            json!([{ "email": format!("{}@example.com", login?), "primary": true, "verified": true, "visibility": null }])
        }
        (&Method::GET, ["user", "installations"]) => installations(world, &login?),
        (&Method::DELETE, ["applications", CLIENT_ID, "token"]) => {
            let client = format!("{CLIENT_ID}:{}", world.signins.client_secret.expose());
            let basic = format!("Basic {}", STANDARD.encode(client));
            if asked.headers.get("authorization").and_then(|value| value.to_str().ok()) != Some(&basic) {
                return Some(Answer::refused(401, "Bad credentials"));
            }
            let token = asked.json()["access_token"].as_str().unwrap_or("").to_owned();
            let status = if world.signins.tokens.remove(&token).is_some() { 204 } else { 404 };
            return Some(Answer::empty(status));
        }
        _ => return None,
    };
    Some(Answer::json(200, &answer))
}

/// The accounts that own repositories here, for who belongs to them.
fn installations(world: &World, login: &str) -> serde_json::Value {
    let owners: std::collections::BTreeSet<&str> =
        world.repositories.values().filter_map(|repository| repository.name.split('/').next()).collect();
    let seen = owners.into_iter().filter_map(|owner| {
        let kind = match world.signins.organizations.get(owner) {
            Some(members) if members.contains_key(login) => "Organization",
            _ if owner == login => "User",
            _ => return None,
        };
        Some(json!({ "id": world.installation, "account": { "login": owner, "id": 9000, "type": kind } }))
    });
    let installations: Vec<_> = seen.collect();
    json!({ "total_count": installations.len(), "installations": installations })
}

/// Whether somebody administers an organization.
pub(super) fn membership(world: &World, organization: &str, login: &str) -> Answer {
    let role = world.signins.organizations.get(organization).and_then(|members| members.get(login));
    match role {
        Some(role) => {
            let user = payloads::user(world, login);
            Answer::json(200, &json!({ "state": "active", "role": role, "user": user }))
        }
        None => Answer::refused(404, "Not Found"),
    }
}
