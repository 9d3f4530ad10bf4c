//! Connectors: MCP servers that the agents of a person or an account may use.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::super::Web;
use super::super::page::{Frame, fail, refuse, render, then};
use super::super::visitor::{Me, Posted, Visitor};
use super::{Owner, owner_of, owners};
use crate::app::StoreError;
use crate::app::connectors::{Checked, ConnectorError};
use crate::domain::connector::presets::{PRESETS, Preset};
use crate::domain::connector::{Connector, Protocol, Secrets, Transport};
use crate::domain::secret::Secret;

const PATH: &str = "/settings/connectors";

#[derive(Template)]
#[template(path = "connectors.html")]
struct ConnectorsPage {
    frame: Frame,
    sections: Vec<Section>,
    presets: Vec<(&'static str, &'static str)>,
    form: Form,
    fault: Option<String>,
    save: String,
    switch: String,
    test: String,
    delete: String,
}

struct Section {
    owner: Owner,
    connectors: Vec<Line>,
}

struct Line {
    name: String,
    /// The command or the address.
    target: String,
    is_enabled: bool,
    saved: String,
}

/// The fields as they are shown: empty, of a preset, of a stored one, or as they were sent. Secrets are
/// never shown again.
#[derive(Default)]
struct Form {
    is_edit: bool,
    owner: String,
    name: String,
    is_remote: bool,
    command: String,
    hosts: String,
    url: String,
    is_sse: bool,
    headers: String,
    /// Names, one per line with `=`.
    secrets: String,
}

impl Form {
    fn of(name: &str, transport: &Transport) -> Self {
        let name = name.to_owned();
        match transport {
            Transport::Local { argv, hosts } => {
                Self { name, command: argv.join("\n"), hosts: hosts.join("\n"), ..Self::default() }
            }
            Transport::Remote { url, protocol, headers } => Self {
                name,
                is_remote: true,
                url: url.clone(),
                is_sse: *protocol == Protocol::Sse,
                headers: headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n"),
                ..Self::default()
            },
        }
    }

    fn of_preset(preset: &Preset) -> Self {
        let names = preset.bearer.iter().chain(preset.secrets);
        let secrets = names.map(|name| format!("{name}=")).collect::<Vec<_>>().join("\n");
        Self { secrets, ..Self::of(preset.name, &preset.transport(preset.bearer.is_some())) }
    }

    fn of_posted(posted: &Posted) -> Self {
        let field = |name: &str| posted.field(name).to_owned();
        // What a line holds behind its `=` is not sent back.
        let names = posted.field("secrets").lines().filter_map(|line| line.split_once('='));
        Self {
            is_edit: posted.is_checked("edit"),
            owner: field("owner"),
            name: field("name"),
            is_remote: posted.field("kind") == "remote",
            command: field("command"),
            hosts: field("hosts"),
            url: field("url"),
            is_sse: posted.field("protocol") == "sse",
            headers: field("headers"),
            secrets: names.map(|(name, _)| format!("{}=", name.trim())).collect::<Vec<_>>().join("\n"),
        }
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
}

/// What a form describes. `Err`: one sentence for the visitor.
fn read(posted: &Posted) -> Result<(Transport, Secrets), String> {
    let mut secrets = BTreeMap::new();
    for line in lines(posted.field("secrets")) {
        let (name, value) = line.split_once('=').ok_or("A secret is a line like NAME=value.")?;
        if !value.trim().is_empty() {
            secrets.insert(name.trim().to_owned(), Secret::new(value.trim()));
        }
    }
    let transport = match posted.field("kind") {
        "local" => Transport::Local { argv: lines(posted.field("command")), hosts: lines(posted.field("hosts")) },
        "remote" => {
            let mut headers = BTreeMap::new();
            for line in lines(posted.field("headers")) {
                let (name, value) = line.split_once(':').ok_or("A header is a line like Name: value.")?;
                headers.insert(name.trim().to_owned(), value.trim().to_owned());
            }
            let protocol = if posted.field("protocol") == "sse" { Protocol::Sse } else { Protocol::Http };
            Transport::Remote { url: posted.field("url").to_owned(), protocol, headers }
        }
        _ => return Err("A connector is started in the sandbox, or called from it.".to_owned()),
    };
    Ok((transport, Secrets(secrets)))
}

fn line(connector: &Connector) -> Line {
    let target = match &connector.transport {
        Transport::Local { argv, .. } => argv.join(" "),
        Transport::Remote { url, .. } => url.clone(),
    };
    Line {
        name: connector.name.clone(),
        target,
        is_enabled: connector.is_enabled,
        saved: connector.saved_at.for_people(),
    }
}

async fn sections(web: &Web, me: &Me) -> Result<Vec<Section>, StoreError> {
    let mut sections = Vec::new();
    for owner in owners(web, me).await {
        let connectors = web.app.store.connectors_owned_by(owner.owner).await?.iter().map(line).collect();
        sections.push(Section { owner, connectors });
    }
    Ok(sections)
}

async fn shown(web: &Arc<Web>, me: &Me, frame: Frame, form: Form, fault: Option<String>) -> Response {
    let sections = match sections(web, me).await {
        Ok(found) => found,
        Err(error) => return fail(web, &error),
    };
    let status = if fault.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = ConnectorsPage {
        frame,
        sections,
        presets: PRESETS.iter().map(|preset| (preset.name, preset.title)).collect(),
        form,
        fault,
        save: me.token(PATH),
        switch: me.token("/settings/connectors/switch"),
        test: me.token("/settings/connectors/test"),
        delete: me.token("/settings/connectors/delete"),
    };
    (status, render(&page)).into_response()
}

/// `preset`: the form is filled in for it. `owner` and `edit`: for a stored one.
pub async fn page(
    State(web): State<Arc<Web>>,
    me: Me,
    visitor: Visitor,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let of = |name: &str| query.get(name).map_or("", String::as_str);
    let mut form = Preset::find(of("preset")).map(Form::of_preset).unwrap_or_default();
    if !of("edit").is_empty() {
        let owners = owners(&web, &me).await;
        let Some(owner) = owners.into_iter().find(|one| one.field == of("owner")) else {
            return refuse(&web, StatusCode::NOT_FOUND);
        };
        match web.app.store.connector(owner.owner, of("edit")).await {
            Ok(Some(found)) => {
                form = Form { is_edit: true, owner: owner.field, ..Form::of(&found.name, &found.transport) };
            }
            Ok(None) => return refuse(&web, StatusCode::NOT_FOUND),
            Err(error) => return fail(&web, &error),
        }
    }
    let frame = Frame::of(&web, &visitor).await;
    shown(&web, &me, frame, form, None).await
}

pub async fn save(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let Some(owner) = owner_of(&web, &posted).await else { return refuse(&web, StatusCode::NOT_FOUND) };
    let name = posted.field("name");
    let saved = match read(&posted) {
        Err(fault) => Err(ConnectorError::Refused(fault)),
        Ok((transport, secrets)) => web.app.save_connector(owner, name, transport, secrets, posted.me.person.id).await,
    };
    match saved {
        Ok(_) => {
            let about = format!("{name} {}", owner.for_the_record());
            web.app.audit_owned(posted.me.person.id, owner, "saved a connector", &about).await;
            then(PATH, "saved")
        }
        Err(ConnectorError::Refused(fault)) => {
            let frame = Frame::new(&web, Some(&posted.me)).await;
            let form = Form::of_posted(&posted);
            shown(&web, &posted.me, frame, form, Some(format!("{fault}. Nothing was saved."))).await
        }
        // The one that is there was sealed with another key, or for another row.
        Err(ConnectorError::Vault(_)) => then(PATH, "no-open"),
        Err(ConnectorError::Store(error)) => fail(&web, &error),
    }
}

pub async fn switch(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let Some(owner) = owner_of(&web, &posted).await else { return refuse(&web, StatusCode::NOT_FOUND) };
    match web.app.store.switch_connector(owner, posted.field("name"), posted.field("to") == "on").await {
        Ok(true) => {
            let about = format!("{} {} to {}", posted.field("name"), owner.for_the_record(), posted.field("to"));
            web.app.audit_owned(posted.me.person.id, owner, "switched a connector", &about).await;
            then(PATH, "saved")
        }
        Ok(false) => refuse(&web, StatusCode::NOT_FOUND),
        Err(error) => fail(&web, &error),
    }
}

/// Whether it would work, as far as the service can tell: it never calls connectors itself.
pub async fn test(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let Some(owner) = owner_of(&web, &posted).await else { return refuse(&web, StatusCode::NOT_FOUND) };
    match web.app.check_connector(owner, posted.field("name")).await {
        Ok(Some(Checked::Good)) => then(PATH, "opens"),
        Ok(Some(Checked::NotAllowed)) => then(PATH, "no-address"),
        Ok(Some(Checked::Closed)) => then(PATH, "no-open"),
        Ok(None) => refuse(&web, StatusCode::NOT_FOUND),
        Err(error) => fail(&web, &error),
    }
}

pub async fn delete(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let Some(owner) = owner_of(&web, &posted).await else { return refuse(&web, StatusCode::NOT_FOUND) };
    match web.app.store.delete_connector(owner, posted.field("name")).await {
        Ok(was_there) => {
            if was_there {
                let about = format!("{} {}", posted.field("name"), owner.for_the_record());
                web.app.audit_owned(posted.me.person.id, owner, "deleted a connector", &about).await;
            }
            then(PATH, "deleted")
        }
        Err(error) => fail(&web, &error),
    }
}
