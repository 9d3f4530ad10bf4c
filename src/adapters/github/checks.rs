//! Check runs: what a pull request shows beside its commits.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{GitHub, Place, Result, Scope, segment};
use crate::domain::check::Check;

#[derive(Deserialize)]
struct CheckAnswer {
    id: i64,
    #[serde(default)]
    external_id: Option<String>,
}

#[derive(Deserialize)]
struct ChecksAnswer {
    #[serde(default)]
    check_runs: Vec<CheckAnswer>,
}

fn body(check: &Check) -> serde_json::Value {
    let mut body = json!({
        "name": check.name, "external_id": check.external_id,
        "output": { "title": check.title, "summary": check.summary },
    });
    match check.conclusion {
        Some(conclusion) => (body["status"], body["conclusion"]) = (json!("completed"), json!(conclusion)),
        None => body["status"] = json!("in_progress"),
    }
    if let Some(url) = &check.url {
        body["details_url"] = json!(url);
    }
    body
}

impl GitHub {
    /// Makes a check run at a commit, unless there is one of this id. Gives its number.
    pub async fn ensure_check(&self, place: &Place<'_>, commit: &str, check: &Check) -> Result<i64> {
        let name = segment(&check.name);
        let path = format!(
            "/repos/{}/commits/{}/check-runs?check_name={name}&filter=all&per_page=100",
            place.name,
            segment(commit)
        );
        let found: ChecksAnswer = self.get(place, Scope::Checks, &path).await?;
        if let Some(found) =
            found.check_runs.iter().find(|one| one.external_id.as_deref() == Some(check.external_id.as_str()))
        {
            return Ok(found.id);
        }
        let mut body = body(check);
        body["head_sha"] = json!(commit);
        let path = format!("/repos/{}/check-runs", place.name);
        let made: CheckAnswer = self.create(place, Scope::Checks, &path, &body).await?.json()?;
        Ok(made.id)
    }

    pub async fn update_check(&self, place: &Place<'_>, id: i64, check: &Check) -> Result<()> {
        let path = format!("/repos/{}/check-runs/{id}", place.name);
        self.call(place, Scope::Checks, Method::PATCH, &path, Some(&body(check))).await.map(|_| ())
    }
}
