//! What stands around a pull request: issues that it closes, and checks that failed.

use serde::Deserialize;
use serde_json::json;

use super::issues::{is_insider, was_there};
use super::{GitHub, GitHubError, Place, Result, Scope, segment};
use crate::domain::ids::{IssueNumber, Millis};
use crate::domain::prompt::Quoted;
use crate::domain::surroundings::{FailedCheck, LinkedIssue, MAX_CHECKS, MAX_ISSUES, end_of_log};

const MAX_CHECK_PAGES: u32 = 10;

const CLOSING: &str = "query($owner: String!, $name: String!, $number: Int!) { \
    repository(owner: $owner, name: $name) { pullRequest(number: $number) { \
    closingIssuesReferences(first: 50) { nodes { number title body createdAt lastEditedAt authorAssociation \
    author { login } repository { databaseId } } } } } }";

#[derive(Deserialize)]
struct ClosingData {
    repository: ClosingRepository,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClosingRepository {
    pull_request: ClosingPull,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClosingPull {
    closing_issues_references: Nodes,
}

#[derive(Deserialize)]
struct Nodes {
    nodes: Vec<IssueNode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IssueNode {
    number: i64,
    title: String,
    body: String,
    created_at: String,
    last_edited_at: Option<String>,
    author_association: String,
    author: Option<super::issues::User>,
    repository: IssueRepository,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IssueRepository {
    database_id: Option<i64>,
}

#[derive(Deserialize)]
struct RunsAnswer {
    #[serde(default)]
    total_count: u32,
    #[serde(default)]
    check_runs: Vec<RunAnswer>,
}

#[derive(Deserialize)]
struct RunAnswer {
    name: String,
    conclusion: Option<String>,
    details_url: Option<String>,
    app: Option<RunApp>,
    #[serde(default)]
    output: Output,
}

#[derive(Deserialize)]
struct RunApp {
    id: i64,
}

#[derive(Deserialize, Default)]
struct Output {
    title: Option<String>,
    summary: Option<String>,
    text: Option<String>,
}

impl RunAnswer {
    fn has_failed(&self) -> bool {
        matches!(self.conclusion.as_deref(), Some("failure" | "timed_out" | "startup_failure"))
    }

    /// The job of GitHub Actions that it shows: `…/actions/runs/1/job/2`.
    fn job(&self) -> Option<i64> {
        let url = self.details_url.as_deref()?;
        let (_, job) = url.split_once("/actions/runs/")?.1.split_once("/job/")?;
        job.split(['?', '#', '/']).next()?.parse().ok()
    }

    fn told(&self) -> String {
        let parts = [&self.output.title, &self.output.summary, &self.output.text];
        let parts: Vec<&str> =
            parts.into_iter().flatten().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
        parts.join("\n\n")
    }
}

impl GitHub {
    /// Issues of the same repository that merging closes, as they were at `trigger`: one that was written or
    /// edited later is left out (threat T05).
    pub async fn linked_issues(
        &self,
        place: &Place<'_>,
        pull: IssueNumber,
        trigger: Millis,
    ) -> Result<Vec<LinkedIssue>> {
        let variables = json!({ "owner": place.name.owner, "name": place.name.name, "number": pull.0 });
        let data: ClosingData = self.graphql(place, Scope::Talk, CLOSING, &variables).await?;
        let is_of_then = |node: &IssueNode| {
            was_there(&node.created_at, node.last_edited_at.as_deref().unwrap_or(&node.created_at), trigger)
        };
        let nodes = data.repository.pull_request.closing_issues_references.nodes.into_iter();
        let ours = nodes.filter(|node| node.repository.database_id == Some(place.repository.0) && is_of_then(node));
        Ok(ours
            .take(MAX_ISSUES)
            .map(|node| LinkedIssue {
                number: node.number,
                title: node.title,
                body: Quoted {
                    author: node.author.map(|author| author.login).unwrap_or_default(),
                    is_insider: is_insider(&node.author_association),
                    text: node.body,
                },
            })
            .collect())
    }

    /// Checks of others that failed at a commit, with what they say or the end of their logs.
    pub async fn failed_checks(&self, place: &Place<'_>, commit: &str) -> Result<Vec<FailedCheck>> {
        let mut failed = Vec::new();
        let (mut seen, mut page) = (0, 1);
        while failed.len() < MAX_CHECKS && page <= MAX_CHECK_PAGES {
            let path = format!("/repos/{}/commits/{}/check-runs?per_page=100&page={page}", place.name, segment(commit));
            let answer: RunsAnswer = self.get(place, Scope::Checks, &path).await?;
            seen += u32::try_from(answer.check_runs.len()).unwrap_or(u32::MAX);
            let is_last = answer.check_runs.is_empty() || seen >= answer.total_count;
            let is_ours = |run: &RunAnswer| run.app.as_ref().is_some_and(|app| app.id == self.app_id());
            failed.extend(answer.check_runs.into_iter().filter(|run| run.has_failed() && !is_ours(run)));
            if is_last {
                break;
            }
            page += 1;
        }
        let mut told = Vec::new();
        for run in failed.into_iter().take(MAX_CHECKS) {
            let log = match run.job() {
                Some(job) => self.job_log(place, job).await?.map(|log| end_of_log(&log)),
                None => None,
            };
            let text = log.filter(|log| !log.is_empty()).unwrap_or_else(|| run.told());
            told.push(FailedCheck { name: run.name, text });
        }
        Ok(told)
    }

    /// The end of what a job of GitHub Actions printed; `None`: it is gone, or not for us to read.
    async fn job_log(&self, place: &Place<'_>, job: i64) -> Result<Option<String>> {
        let token = match self.token(place, Scope::Logs).await {
            Ok(token) => token,
            // An App that was made before this permission was asked for.
            Err(GitHubError::Refused { .. } | GitHubError::Forbidden { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = self.end_of_download(&format!("/repos/{}/actions/jobs/{job}/logs", place.name), &token).await;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}
