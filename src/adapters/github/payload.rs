//! From webhook JSON to a `Notice`. Own structs in which nearly everything may be missing: GitHub
//! adds events, actions and values without notice, and a payload nobody expected must not be lost.

use serde::Deserialize;

use crate::domain::ask::{Ask, PullNow, Reviewer};
use crate::domain::delivery::{InstallationState, Notice, Opening, Writing};
use crate::domain::ids::{CommentId, InstallationId, IssueNumber, Millis, RepoName, RepositoryId, UserId};
use crate::domain::prompt::Quoted;
use crate::domain::task::{Requester, Subject, Thread};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Hook {
    action: Option<String>,
    installation: Option<Installation>,
    repository: Option<Repository>,
    sender: Option<User>,
    issue: Option<Issue>,
    pull_request: Option<Issue>,
    comment: Option<Comment>,
    review: Option<Comment>,
    label: Option<Label>,
    requested_reviewer: Option<User>,
    requested_team: Option<Team>,
}

#[derive(Deserialize)]
struct Label {
    name: String,
}

#[derive(Deserialize)]
struct Team {
    slug: String,
}

#[derive(Deserialize)]
struct Head {
    sha: String,
}

#[derive(Deserialize)]
struct Installation {
    id: i64,
    account: Option<User>,
}

#[derive(Deserialize)]
struct Repository {
    id: i64,
    full_name: Option<String>,
    owner: Option<User>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct User {
    id: i64,
    login: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Issue {
    number: i64,
    title: Option<String>,
    author_association: Option<String>,
    body: Option<String>,
    user: Option<User>,
    created_at: Option<String>,
    updated_at: Option<String>,
    #[serde(default)]
    draft: bool,
    head: Option<Head>,
    #[serde(default)]
    requested_reviewers: Vec<User>,
    #[serde(default)]
    requested_teams: Vec<Team>,
    /// Present on an issue that is a pull request.
    pull_request: Option<serde::de::IgnoredAny>,
    performed_via_github_app: Option<App>,
}

#[derive(Deserialize)]
struct App {
    id: i64,
}

#[derive(Deserialize)]
struct Comment {
    id: i64,
    body: Option<String>,
    user: Option<User>,
    created_at: Option<String>,
    submitted_at: Option<String>,
    performed_via_github_app: Option<App>,
}

/// Reads the fields that decide anything. `None`: the body is not a JSON object.
pub fn decode(event: &str, body: &[u8]) -> Option<Notice> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if *first != b'{' {
        return None;
    }
    let hook: Hook = match serde_json::from_slice(body) {
        Ok(hook) => hook,
        // A known field of an unknown form is no reason to refuse what GitHub sent.
        Err(_) => serde_json::from_slice::<serde::de::IgnoredAny>(body).ok().map(|_| Hook::default())?,
    };
    let action = hook.action.clone().unwrap_or_default();
    let ask = ask(event, &action, &hook);
    let writing = writing(event, &hook).filter(|_| ask.is_none());
    let installation = hook.installation.as_ref().map(|found| InstallationId(found.id));
    let account = hook
        .repository
        .as_ref()
        .and_then(|repository| repository.owner.as_ref())
        .or(hook.installation.as_ref().and_then(|found| found.account.as_ref()))
        .and_then(|owner| owner.login.clone());
    let about = hook.issue.as_ref().or(hook.pull_request.as_ref());
    Some(Notice {
        ask,
        asked_at: time(about.and_then(|about| about.updated_at.as_ref())),
        pull: hook.pull_request.as_ref().map(pull_now),
        installation_state: installation_state(event, &action),
        thread: thread(&hook),
        opening: about.map(opening),
        sender_is_bot: hook
            .sender
            .as_ref()
            .is_some_and(|sender| sender.kind.as_deref().is_some_and(|kind| kind != "User")),
        sender: hook.sender.as_ref().and_then(|sender| {
            Some(Requester { id: UserId(sender.id), login: sender.login.clone().filter(|login| is_login(login))? })
        }),
        event: event.to_owned(),
        action,
        installation,
        account: account.unwrap_or_default(),
        writing,
    })
}

fn ask(event: &str, action: &str, hook: &Hook) -> Option<Ask> {
    let team = hook.requested_team.as_ref().map(of_team);
    let reviewer = team.or_else(|| hook.requested_reviewer.as_ref().and_then(of_user));
    Ask::of(event, action, hook.label.as_ref().map(|label| label.name.as_str()), reviewer)
}

fn of_team(team: &Team) -> Reviewer {
    Reviewer { name: team.slug.clone(), is_team: true }
}

fn of_user(user: &User) -> Option<Reviewer> {
    Some(Reviewer { name: user.login.clone()?, is_team: false })
}

fn pull_now(pull: &Issue) -> PullNow {
    let teams = pull.requested_teams.iter().map(of_team);
    PullNow {
        head: pull.head.as_ref().map(|head| head.sha.clone()).unwrap_or_default(),
        is_draft: pull.draft,
        reviewers: pull.requested_reviewers.iter().filter_map(of_user).chain(teams).collect(),
    }
}

/// A login is used in routes and in commit trailers.
fn is_login(login: &str) -> bool {
    let name = login.strip_suffix("[bot]").unwrap_or(login);
    !name.is_empty()
        && name.len() <= 100
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn opening(issue: &Issue) -> Opening {
    let association = issue.author_association.as_deref().unwrap_or_default();
    Opening {
        title: issue.title.clone().unwrap_or_default(),
        body: Quoted {
            author: issue.user.as_ref().and_then(|user| user.login.clone()).unwrap_or_default(),
            is_insider: super::issues::is_insider(association),
            text: issue.body.clone().unwrap_or_default(),
        },
    }
}

fn thread(hook: &Hook) -> Option<Thread> {
    let repository = hook.repository.as_ref()?;
    let (issue, is_pull) = match (&hook.issue, &hook.pull_request) {
        (Some(issue), _) => (issue, issue.pull_request.is_some()),
        (None, Some(pull)) => (pull, true),
        (None, None) => return None,
    };
    Some(Thread {
        installation: InstallationId(hook.installation.as_ref()?.id),
        repository: RepositoryId(repository.id),
        name: RepoName::parse(repository.full_name.as_deref()?)?,
        issue: IssueNumber(issue.number),
        is_pull,
    })
}

fn writing(event: &str, hook: &Hook) -> Option<Writing> {
    let of_comment = |subject: fn(CommentId) -> Subject, comment: Option<&Comment>| {
        let comment = comment?;
        Some(Writing {
            subject: subject(CommentId(comment.id)),
            text: comment.body.clone()?,
            written_at: time(comment.created_at.as_ref().or(comment.submitted_at.as_ref())),
            author: comment.user.as_ref()?.id,
            via_app: comment.performed_via_github_app.as_ref().map(|app| app.id),
        })
    };
    match event {
        "issues" => {
            let issue = hook.issue.as_ref()?;
            Some(Writing {
                subject: Subject::Issue,
                text: issue.body.clone()?,
                written_at: time(issue.created_at.as_ref()),
                author: issue.user.as_ref()?.id,
                via_app: issue.performed_via_github_app.as_ref().map(|app| app.id),
            })
        }
        "issue_comment" => of_comment(Subject::IssueComment, hook.comment.as_ref()),
        "pull_request_review_comment" => of_comment(Subject::ReviewComment, hook.comment.as_ref()),
        "pull_request_review" => of_comment(Subject::Review, hook.review.as_ref()),
        _ => None,
    }
}

fn time(text: Option<&String>) -> Millis {
    text.and_then(|text| Millis::parse_rfc3339(text)).unwrap_or(Millis(0))
}

fn installation_state(event: &str, action: &str) -> Option<InstallationState> {
    match (event, action) {
        ("installation", "created" | "unsuspend" | "new_permissions_accepted") => Some(InstallationState::Present),
        ("installation", "suspend") => Some(InstallationState::Suspended),
        ("installation", "deleted") => Some(InstallationState::Deleted),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_that_is_a_json_object_is_decoded() {
        for body in ["{}", r#"{"action":5,"issue":"odd"}"#, r#"{"sender":null,"repository":null}"#, " {\"x\":[1]} "] {
            assert!(decode("anything", body.as_bytes()).is_some(), "{body}");
        }
        for body in ["", "[]", "nonsense", "{", "{\"a\":}", "\"text\"", "payload=%7B%7D"] {
            assert!(decode("anything", body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn a_hostile_repository_name_makes_no_thread() {
        let body = r#"{"installation":{"id":1},"issue":{"number":1},"repository":{"id":1,"full_name":"a/../../x"}}"#;
        assert!(decode("issues", body.as_bytes()).unwrap().thread.is_none());
    }
}
