//! API keys: saved, tested and deleted, never shown again.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::super::Web;
use super::super::page::{Frame, fail, refuse, render, then};
use super::super::visitor::{Me, Posted, Visitor};
use super::{Owner, owner_of, owners};
use crate::app::StoreError;
use crate::app::keys::{KeyError, KeyTest};
use crate::domain::agent::Provider;
use crate::domain::key::StoredKey;
use crate::domain::secret::Secret;

const PATH: &str = "/settings/keys";
/// Keys of vendors are some hundred characters at most.
const MAX_KEY: usize = 4_096;
const MIN_KEY: usize = crate::domain::redact::SHORTEST_SECRET;

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    frame: Frame,
    is_on_github: bool,
    sections: Vec<Section>,
    providers: Vec<(&'static str, &'static str)>,
    save: String,
    test: String,
    delete: String,
    fault: Option<String>,
}

struct Section {
    owner: Owner,
    keys: Vec<KeyLine>,
}

struct KeyLine {
    provider: &'static str,
    title: &'static str,
    fingerprint: String,
    saved: String,
    used: String,
}

fn line(key: StoredKey) -> KeyLine {
    KeyLine {
        provider: key.provider.name(),
        title: key.provider.title(),
        fingerprint: key.fingerprint,
        saved: key.saved_at.for_people(),
        used: key.used_at.map_or("never".to_owned(), |at| at.for_people()),
    }
}

async fn sections(web: &Web, me: &Me) -> Result<Vec<Section>, StoreError> {
    let mut sections = Vec::new();
    for owner in owners(web, me).await {
        let keys = web.app.store.keys_owned_by(owner.owner).await?.into_iter().map(line).collect();
        sections.push(Section { owner, keys });
    }
    Ok(sections)
}

async fn shown(web: &Arc<Web>, me: &Me, frame: Frame, fault: Option<String>) -> Response {
    let sections = match sections(web, me).await {
        Ok(found) => found,
        Err(error) => return fail(web, &error),
    };
    let status = if fault.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = KeysPage {
        frame,
        is_on_github: me.person.is_on_github(),
        sections,
        providers: Provider::ALL.into_iter().map(|provider| (provider.name(), provider.title())).collect(),
        save: me.token(PATH),
        test: me.token("/settings/keys/test"),
        delete: me.token("/settings/keys/delete"),
        fault,
    };
    (status, render(&page)).into_response()
}

pub async fn page(State(web): State<Arc<Web>>, me: Me, visitor: Visitor) -> Response {
    let frame = Frame::of(&web, &visitor).await;
    shown(&web, &me, frame, None).await
}

pub async fn save(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let Some(owner) = owner_of(&web, &posted).await else { return refuse(&web, StatusCode::NOT_FOUND) };
    let Some(provider) = Provider::parse(posted.field("provider")) else {
        return refuse(&web, StatusCode::BAD_REQUEST);
    };
    let key = posted.field("key");
    let is_one_word = key.bytes().all(|byte| byte.is_ascii_graphic());
    let fault = if !(MIN_KEY..=MAX_KEY).contains(&key.len()) || !is_one_word {
        Some(format!("A key is one word, of {MIN_KEY} to {MAX_KEY} characters."))
    } else {
        match web.app.save_key(owner, provider, &Secret::new(key), posted.me.person.id).await {
            Ok(saved) => {
                let about = format!("{} {} {}", provider.name(), saved.fingerprint, owner.for_the_record());
                web.app.audit_owned(posted.me.person.id, owner, "saved a key", &about).await;
                return then(PATH, "saved");
            }
            Err(KeyError::Refused(title)) => Some(format!("{title} refuses this key. Nothing was saved.")),
            Err(error) => return fail(&web, &error),
        }
    };
    let frame = Frame::new(&web, Some(&posted.me)).await;
    shown(&web, &posted.me, frame, fault).await
}

pub async fn test(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let Some(owner) = owner_of(&web, &posted).await else { return refuse(&web, StatusCode::NOT_FOUND) };
    let Some(provider) = Provider::parse(posted.field("provider")) else {
        return refuse(&web, StatusCode::BAD_REQUEST);
    };
    match web.app.test_stored_key(owner, provider).await {
        Ok(Some(KeyTest::Accepted)) => then(PATH, "accepted"),
        Ok(Some(KeyTest::Refused)) => then(PATH, "no-refused"),
        Ok(Some(KeyTest::Unknown)) => then(PATH, "unknown"),
        Ok(None) => refuse(&web, StatusCode::NOT_FOUND),
        Err(KeyError::Vault(_)) => then(PATH, "no-open"),
        Err(error) => fail(&web, &error),
    }
}

pub async fn delete(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let Some(owner) = owner_of(&web, &posted).await else { return refuse(&web, StatusCode::NOT_FOUND) };
    let Some(provider) = Provider::parse(posted.field("provider")) else {
        return refuse(&web, StatusCode::BAD_REQUEST);
    };
    match web.app.store.delete_key(owner, provider).await {
        Ok(was_there) => {
            if was_there {
                let about = format!("{} {}", provider.name(), owner.for_the_record());
                web.app.audit_owned(posted.me.person.id, owner, "deleted a key", &about).await;
            }
            then(PATH, "deleted")
        }
        Err(error) => fail(&web, &error),
    }
}
