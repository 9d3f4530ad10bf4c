//! What is said on the lines of a pull request.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::json;

use super::issues::{User, is_insider, quoted, was_there};
use super::{GitHub, Place, Result, Scope};
use crate::domain::ids::{IssueNumber, Millis};
use crate::domain::permission::Permission;
use crate::domain::pull::ReviewTalk;
use crate::domain::review::ledger::{RemarkTalk, declines, marked};
use crate::domain::task::Subject;

/// Review comments read of one pull request.
const MAX_COMMENTS: usize = 1_000;
/// People whose 👎 is weighed.
const MAX_VOTERS: usize = 20;
/// Lines of a hunk that are shown, from its end.
const MAX_HUNK_LINES: usize = 12;

const THREADS: &str = "query($owner: String!, $name: String!, $number: Int!, $after: String) { \
    repository(owner: $owner, name: $name) { pullRequest(number: $number) { \
    reviewThreads(first: 15, after: $after) { pageInfo { hasNextPage endCursor } \
    nodes { id isResolved comments(first: 8) { nodes { databaseId body authorAssociation author { __typename login } \
    reactions(content: THUMBS_DOWN, first: 5) { nodes { user { login } } } } } } } } } }";
/// Pages of threads: sized so that the longest texts fit into an answer.
const MAX_PAGES: usize = 60;

const SETTLE: &str = "mutation($id: ID!) { resolveReviewThread(input: { threadId: $id }) { thread { isResolved } } }";

#[derive(Deserialize)]
struct CommentAnswer {
    id: i64,
    in_reply_to_id: Option<i64>,
    #[serde(default)]
    path: String,
    line: Option<i64>,
    #[serde(default)]
    diff_hunk: String,
    body: Option<String>,
    user: Option<User>,
    #[serde(default)]
    author_association: String,
    #[serde(default)]
    created_at: String,
    #[serde(default)]
    updated_at: String,
    pull_request_review_id: Option<i64>,
}

#[derive(Deserialize)]
struct ThreadsData {
    repository: ThreadsRepository,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThreadsRepository {
    pull_request: ThreadsPull,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThreadsPull {
    review_threads: Threads,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Threads {
    page_info: PageInfo,
    nodes: Vec<ThreadNode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThreadNode {
    id: String,
    is_resolved: bool,
    comments: ThreadComments,
}

#[derive(Deserialize)]
struct ThreadComments {
    nodes: Vec<ThreadComment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThreadComment {
    database_id: Option<i64>,
    #[serde(default)]
    body: String,
    /// `null`: the account was deleted.
    author: Option<Author>,
    #[serde(default)]
    author_association: String,
    reactions: Reactions,
}

#[derive(Deserialize)]
struct Author {
    __typename: String,
    login: String,
}

#[derive(Deserialize)]
struct Reactions {
    nodes: Vec<ReactionNode>,
}

#[derive(Deserialize)]
struct ReactionNode {
    user: Option<User>,
}

impl ThreadComment {
    /// Here an App's login stands without `[bot]`.
    fn is_of(&self, bot: &str) -> bool {
        let bot = bot.trim_end_matches("[bot]");
        self.author.as_ref().is_some_and(|author| {
            author.__typename == "Bot" && author.login.trim_end_matches("[bot]").eq_ignore_ascii_case(bot)
        })
    }
}

impl ThreadNode {
    /// The remark of ours that began it, and who put 👎 on it. Only people of the project decide by words.
    fn remark_talk(self, bot: &str) -> Option<(RemarkTalk, Vec<String>)> {
        let (first, others) = self.comments.nodes.split_first()?;
        let remark = marked(&first.body).filter(|_| first.is_of(bot))?.to_owned();
        let is_declined = others.iter().any(|one| is_insider(&one.author_association) && declines(&one.body));
        let down = first.reactions.nodes.iter().filter_map(|one| Some(one.user.as_ref()?.login.clone())).collect();
        Some((RemarkTalk { talk: self.id, remark, is_resolved: self.is_resolved, is_declined }, down))
    }
}

impl GitHub {
    /// The open conversations on the lines of a pull request, as of `trigger`: what was said or edited
    /// later is left out (threat T05), and conversations that were settled are.
    pub async fn review_talks(
        &self,
        place: &Place<'_>,
        pull: IssueNumber,
        trigger: Millis,
        subject: Subject,
    ) -> Result<Vec<ReviewTalk>> {
        let path = format!("/repos/{}/pulls/{pull}/comments?per_page=100", place.name);
        let comments: Vec<CommentAnswer> = self.list(place, Scope::Talk, &path, MAX_COMMENTS).await?;
        if comments.is_empty() {
            return Ok(Vec::new());
        }
        let threads = self.threads(place, pull).await?.into_iter().filter(|thread| thread.is_resolved);
        let settled: HashSet<i64> =
            threads.filter_map(|thread| thread.comments.nodes.first().and_then(|first| first.database_id)).collect();
        let by = |text: &str| Millis::parse_rfc3339(text).is_some_and(|at| at <= trigger);
        let mut talks: BTreeMap<i64, ReviewTalk> = BTreeMap::new();
        for comment in comments {
            let first = comment.in_reply_to_id.unwrap_or(comment.id);
            let is_asked = match subject {
                Subject::ReviewComment(id) => id.0 == comment.id,
                Subject::Review(id) => comment.pull_request_review_id == Some(id.0),
                Subject::Issue | Subject::IssueComment(_) => false,
            };
            // Submitting a review counts as an edit of its comments.
            let was_there = match is_asked {
                true => by(&comment.created_at) && by(&comment.updated_at),
                false => was_there(&comment.created_at, &comment.updated_at, trigger),
            };
            if !was_there || (settled.contains(&first) && !is_asked) {
                continue;
            }
            let talk = talks.entry(first).or_default();
            if talk.path.is_empty() {
                talk.first = first;
                talk.hunk = end_of(&comment.diff_hunk);
                (talk.path, talk.line) = (comment.path, comment.line);
            }
            talk.is_asked_in |= is_asked;
            talk.said.push(quoted(comment.user, &comment.author_association, comment.body));
        }
        Ok(talks.into_values().collect())
    }

    /// Answers in a conversation on a line, whose first comment this is.
    pub async fn reply_in_talk(&self, place: &Place<'_>, pull: IssueNumber, first: i64, body: &str) -> Result<()> {
        let path = format!("/repos/{}/pulls/{pull}/comments/{first}/replies", place.name);
        self.create(place, Scope::Talk, &path, &json!({ "body": body })).await.map(|_| ())
    }

    /// Whether one of our replies holds `marker`.
    pub async fn has_reply(&self, place: &Place<'_>, pull: IssueNumber, marker: &str, bot: &str) -> Result<bool> {
        let path = format!("/repos/{}/pulls/{pull}/comments?per_page=100", place.name);
        let comments: Vec<CommentAnswer> = self.list(place, Scope::Talk, &path, MAX_COMMENTS).await?;
        Ok(comments.into_iter().any(|comment| {
            comment.user.is_some_and(|user| user.login == bot) && comment.body.is_some_and(|body| body.contains(marker))
        }))
    }

    /// The conversations that our remarks began.
    pub async fn remark_talks(&self, place: &Place<'_>, pull: IssueNumber, bot: &str) -> Result<Vec<RemarkTalk>> {
        let threads = self.threads(place, pull).await?;
        let mut may = BTreeMap::new();
        let mut talks = Vec::new();
        for (mut talk, down) in threads.into_iter().filter_map(|thread| thread.remark_talk(bot)) {
            for login in down.into_iter().filter(|_| !talk.is_declined && may.len() < MAX_VOTERS).collect::<Vec<_>>() {
                let permission = match may.get(&login) {
                    Some(known) => *known,
                    None => self.permission(place, &login).await?,
                };
                talk.is_declined |= permission >= Permission::Triage;
                may.insert(login, permission);
            }
            talks.push(talk);
        }
        Ok(talks)
    }

    /// Marks a conversation as settled; twice is the same as once.
    pub async fn settle_talk(&self, place: &Place<'_>, talk: &str) -> Result<()> {
        let _: serde_json::Value = self.graphql(place, Scope::Publish, SETTLE, &json!({ "id": talk })).await?;
        Ok(())
    }

    async fn threads(&self, place: &Place<'_>, pull: IssueNumber) -> Result<Vec<ThreadNode>> {
        let (mut found, mut after, mut pages) = (Vec::new(), None::<String>, 0);
        loop {
            let variables =
                json!({ "owner": place.name.owner, "name": place.name.name, "number": pull.0, "after": after });
            let data: ThreadsData = self.graphql(place, Scope::Talk, THREADS, &variables).await?;
            let threads = data.repository.pull_request.review_threads;
            found.extend(threads.nodes);
            pages += 1;
            match threads.page_info.end_cursor.filter(|_| threads.page_info.has_next_page && pages < MAX_PAGES) {
                Some(cursor) if after.as_ref() != Some(&cursor) => after = Some(cursor),
                _ => return Ok(found),
            }
        }
    }
}

fn end_of(hunk: &str) -> String {
    let lines: Vec<&str> = hunk.lines().collect();
    let from = lines.len().saturating_sub(MAX_HUNK_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}
