//! For operators: the ledger with the reason for each decision, and what a comment came to.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::Web;
use super::page::{Frame, fail, refuse, render, then};
use super::visitor::{Me, Posted, Visitor};
use crate::app::signals::Topic;
use crate::domain::decision::DecisionCode;
use crate::domain::delivery::WEBHOOK_PATH;
use crate::domain::ids::{DeliveryId, IssueNumber, RepoName};
use crate::domain::listing::{DeliveryFilter, DeliveryLine, InstallationLine, MissedLine};
use crate::domain::person::SignInWith;
use crate::domain::policy::SeenPolicy;
use crate::domain::text::cut_marked;

const PER_PAGE: i64 = 50;
const INSTALLATIONS: i64 = 200;
/// Of missed deliveries, on the page.
const MISSED: i64 = 20;
/// Accounts whose repositories are asked for, those heard of last.
const ASKED: usize = 20;
/// Of a payload, on its page.
const MAX_SHOWN: usize = 256 * 1024;

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    frame: Frame,
    lines: Vec<DeliveryLine>,
    codes: Vec<&'static str>,
    code: String,
    repository: String,
    older: Option<String>,
    missed: Vec<MissedLine>,
    checks: Vec<Check>,
}

#[derive(Template)]
#[template(path = "installations.html")]
struct InstallationsPage {
    frame: Frame,
    lines: Vec<(InstallationLine, Result<Repositories, String>)>,
}

/// What an account has the App on.
#[derive(Default)]
struct Repositories {
    found: Vec<RepositoryShown>,
    more: i64,
}

struct RepositoryShown {
    name: String,
    /// As last seen; nothing: nobody commanded there yet.
    policy: Option<SeenPolicy>,
}

/// One line about the instance: whether it is as it should be, and what to do.
struct Check {
    is_good: bool,
    text: String,
}

#[derive(Template)]
#[template(path = "delivery.html")]
struct DeliveryPage {
    frame: Frame,
    line: DeliveryLine,
    facts: String,
    body: Option<String>,
    task: Option<String>,
    replay: String,
}

#[derive(Template)]
#[template(path = "why.html")]
struct WhyPage {
    frame: Frame,
    url: String,
    lines: Vec<(DeliveryLine, Option<String>)>,
    answer: Option<&'static str>,
}

/// An operator, or the answer that everybody else gets.
async fn only_operators(web: &Arc<Web>, me: &Me) -> Result<(), Response> {
    match web.app.is_operator(&me.person).await {
        true => Ok(()),
        false => Err(refuse(web, StatusCode::NOT_FOUND)),
    }
}

async fn checks(web: &Web) -> Vec<Check> {
    let app = &web.app;
    let check = |is_good, text: String| Check { is_good, text };
    let mut checks = vec![match app.github.app_slug().await {
        Ok(slug) => check(true, format!("GitHub knows us as {slug}[bot].")),
        Err(error) => {
            let why = app.redactor.redact(&error.to_string());
            check(false, format!("GitHub does not know us ({why}): check GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY."))
        }
    }];
    checks.push(match app.store.last_delivery_at().await {
        Ok(Some(at)) => check(true, format!("GitHub reached us last at {}.", at.for_people())),
        Ok(None) => check(
            false,
            format!(
                "GitHub has not reached us yet: the App's webhook has to be {}{WEBHOOK_PATH}.",
                app.settings.public_url
            ),
        ),
        Err(_) => check(false, "The database does not answer.".to_owned()),
    });
    checks.push(match app.sandbox.check().await {
        Ok(said) => check(true, format!("Sandboxes: {said}.")),
        Err(error) => {
            let why = app.redactor.redact(&error.to_string());
            check(false, format!("Sandboxes cannot be made ({why}): check the SANDBOX_… settings."))
        }
    });
    checks.push(match app.store.installations(INSTALLATIONS).await {
        Ok(known) if known.iter().any(InstallationLine::is_active) => check(true, "The App is installed.".to_owned()),
        Ok(_) => check(false, "No account has installed the App yet: install it on a repository.".to_owned()),
        Err(_) => check(false, "The database does not answer.".to_owned()),
    });
    let is_public = crate::domain::connector::address::check(&app.settings.public_url).is_ok();
    checks.push(match is_public {
        true => check(true, format!("GitHub and sandboxes call {}.", app.settings.public_url)),
        false => check(
            false,
            format!(
                "{} is no public https address: set PUBLIC_URL, unless GitHub and sandboxes are on this network.",
                app.settings.public_url
            ),
        ),
    });
    if !app.signins.offers(SignInWith::Vercel) {
        checks.push(check(true, "Signing in with Vercel is not set up; it does not have to be.".to_owned()));
    }
    if app.settings.keys.is_empty() {
        checks
            .push(check(true, "This instance has no keys of its own: people bring theirs under API keys.".to_owned()));
    }
    checks
}

pub async fn deliveries(
    State(web): State<Arc<Web>>,
    me: Me,
    visitor: Visitor,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if let Err(refusal) = only_operators(&web, &me).await {
        return refusal;
    }
    let of = |name: &str| query.get(name).map_or(String::new(), |text| cut_marked(text.trim(), 200));
    let (code, repository) = (of("decision"), of("repository"));
    let filter = DeliveryFilter {
        code: DecisionCode::parse(&code).map(DecisionCode::name),
        repository: (!repository.is_empty()).then(|| repository.clone()),
        ..DeliveryFilter::default()
    };
    let before = query.get("before").and_then(|text| text.parse().ok());
    let page = match web.app.store.find_deliveries(&filter, before, PER_PAGE).await {
        Ok(found) => found,
        Err(error) => return fail(&web, &error),
    };
    let older = page.next.map(|next| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("decision", &code).append_pair("repository", &repository);
        format!("/deliveries?{}", query.append_pair("before", &next.to_string()).finish())
    });
    render(&DeliveriesPage {
        frame: Frame::of(&web, &visitor).await,
        lines: page.items,
        codes: DecisionCode::ALL.map(DecisionCode::name).to_vec(),
        code,
        repository,
        older,
        missed: web.app.store.missed_deliveries(MISSED).await.unwrap_or_default(),
        checks: checks(&web).await,
    })
}

/// Accounts that have the App, and on which repositories.
pub async fn installations(State(web): State<Arc<Web>>, me: Me, visitor: Visitor) -> Response {
    if let Err(refusal) = only_operators(&web, &me).await {
        return refusal;
    }
    let known = match web.app.store.installations(INSTALLATIONS).await {
        Ok(found) => found,
        Err(error) => return fail(&web, &error),
    };
    let asked = known.into_iter().enumerate().map(|(number, line)| {
        let web = &web;
        async move {
            let repositories = match line.is_active() && number < ASKED {
                true => repositories(web, &line).await,
                false => Ok(Repositories::default()),
            };
            (line, repositories)
        }
    });
    let lines = futures::future::join_all(asked).await;
    render(&InstallationsPage { frame: Frame::of(&web, &visitor).await, lines })
}

async fn repositories(web: &Web, line: &InstallationLine) -> Result<Repositories, String> {
    match web.app.github.repositories_of(line.id).await {
        Ok((named, all)) => {
            let more = all - i64::try_from(named.len()).unwrap_or(all);
            let mut found = Vec::with_capacity(named.len());
            for (id, name) in named {
                found.push(RepositoryShown { name, policy: web.app.store.policy(id).await.ok().flatten() });
            }
            Ok(Repositories { found, more })
        }
        Err(error) => Err(web.app.redactor.redact(&error.message())),
    }
}

pub async fn delivery(State(web): State<Arc<Web>>, me: Me, visitor: Visitor, Path(id): Path<String>) -> Response {
    if let Err(refusal) = only_operators(&web, &me).await {
        return refusal;
    }
    let id = DeliveryId(id);
    let (line, body) = match web.app.store.delivery_line(&id).await {
        Ok(Some(found)) => found,
        Ok(None) => return refuse(&web, StatusCode::NOT_FOUND),
        Err(error) => return fail(&web, &error),
    };
    let pretty = |bytes: &[u8]| {
        let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
        value.and_then(|value| serde_json::to_string_pretty(&value).ok())
    };
    let body = body.and_then(|body| pretty(&body)).map(|text| cut_marked(&web.app.redactor.redact(&text), MAX_SHOWN));
    let task = web.app.store.task_of_delivery(&id).await.ok().flatten();
    render(&DeliveryPage {
        frame: Frame::of(&web, &visitor).await,
        facts: pretty(line.facts.as_bytes()).unwrap_or_else(|| line.facts.clone()),
        replay: me.token(&format!("/deliveries/{id}/replay")),
        task: task.map(|task| task.to_string()),
        line,
        body,
    })
}

pub async fn replay(State(web): State<Arc<Web>>, Path(id): Path<String>, posted: Posted) -> Response {
    if let Err(refusal) = only_operators(&web, &posted.me).await {
        return refusal;
    }
    match web.app.store.replay(&DeliveryId(id.clone()), web.app.clock.now()).await {
        Ok(true) => {
            web.app.signals.announce(Topic::Deliveries);
            web.app.audit(posted.me.person.id, "replayed a delivery", &id).await;
            then(&format!("/deliveries/{id}"), "replayed")
        }
        Ok(false) => refuse(&web, StatusCode::NOT_FOUND),
        Err(error) => fail(&web, &error),
    }
}

/// Repository, number, and the number of the comment or review, of a link to a thread of this GitHub.
fn read_link(link: &str, web_url: &str) -> Option<(RepoName, IssueNumber, Option<i64>)> {
    let (link, base) = (url::Url::parse(link).ok()?, url::Url::parse(web_url).ok()?);
    if link.origin() != base.origin() {
        return None;
    }
    let path = link.path().strip_prefix(base.path().trim_end_matches('/'))?.trim_matches('/').to_owned();
    let words: Vec<&str> = path.split('/').collect();
    let [owner, name, "issues" | "pull", number, ..] = words.as_slice() else { return None };
    // `#issue-N` names the issue itself, by a number that nothing else uses.
    let comment = link.fragment().filter(|text| !text.starts_with("issue-")).and_then(|text| {
        let start = text.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
        text.get(start..)?.parse().ok()
    });
    Some((RepoName::parse(&format!("{owner}/{name}"))?, IssueNumber(number.parse().ok()?), comment))
}

/// What became of the comment behind a link.
pub async fn why(
    State(web): State<Arc<Web>>,
    me: Me,
    visitor: Visitor,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if let Err(refusal) = only_operators(&web, &me).await {
        return refusal;
    }
    let url = query.get("url").map_or(String::new(), |text| cut_marked(text.trim(), 500));
    let frame = Frame::of(&web, &visitor).await;
    let mut page = WhyPage { frame, url: url.clone(), lines: Vec::new(), answer: None };
    if url.is_empty() {
        return render(&page);
    }
    let Some((repository, issue, object)) = read_link(&url, web.app.github.web_url()) else {
        page.answer = Some("This is no link to an issue, a pull request or a comment on this GitHub.");
        return render(&page);
    };
    let filter =
        DeliveryFilter { repository: Some(repository.to_string()), issue: Some(issue.0), object, ..Default::default() };
    let found = match web.app.store.find_deliveries(&filter, None, PER_PAGE).await {
        Ok(found) => found,
        Err(error) => return fail(&web, &error),
    };
    for line in found.items {
        let task = web.app.store.task_of_delivery(&line.id).await.ok().flatten();
        page.lines.push((line, task.map(|task| task.to_string())));
    }
    if page.lines.is_empty() {
        page.answer = Some(
            "Nothing of it has reached us: GitHub did not send it, or the App is not installed there, or it came before \
             this instance was there. The App's page at GitHub lists what was sent and what we answered.",
        );
    }
    render(&page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_people_copy_them() {
        let read = |link: &str| {
            let (name, issue, comment) = read_link(link, "https://github.com")?;
            Some((name.to_string(), issue.0, comment))
        };
        let shop = |comment: Option<i64>| Some(("acme/shop".to_owned(), 7, comment));
        assert_eq!(read("https://github.com/acme/shop/issues/7#issuecomment-99"), shop(Some(99)));
        assert_eq!(read("https://github.com/acme/shop/pull/7/files#discussion_r12"), shop(Some(12)));
        assert_eq!(read("https://github.com/acme/shop/issues/7"), shop(None));
        assert_eq!(read("https://github.com/acme/shop/issues/7#issue-123456"), shop(None));
        for bad in [
            "https://evil.test/acme/shop/issues/7",
            "acme/shop#7",
            "https://github.com/acme/shop",
            "https://github.com/acme/shop/issues/x",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
