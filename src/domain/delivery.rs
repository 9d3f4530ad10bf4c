//! A delivery, as far as it matters to us, and the first sorting of it: what may start or change
//! something is stored before it is answered, the rest costs no write.

use super::ask::{Ask, PullNow};
use super::command::could_hold_a_command;
use super::decision::DecisionCode;
use super::ids::{DeliveryId, InstallationId, Millis};
use super::prompt::Quoted;
use super::task::{Requester, Subject, Thread};

/// A webhook call whose signature was checked.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub id: DeliveryId,
    pub event: String,
    pub body: bytes::Bytes,
}

/// Text in which a person may have written commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writing {
    pub subject: Subject,
    pub text: String,
    pub written_at: Millis,
    /// Author of the text; the sender of the event has to be the same person (threat T11).
    pub author: i64,
    /// The App that posted it on the person's behalf, if one did.
    pub via_app: Option<i64>,
}

/// The issue or pull request a delivery is about, as it read at that moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    pub title: String,
    pub body: Quoted,
}

/// The App's place in an account, as an event tells it or as GitHub says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallationState {
    Present,
    Suspended,
    Deleted,
}

impl InstallationState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }
}

/// The fields of a payload that decide anything. Everything may be missing: GitHub adds kinds of
/// events without notice.
#[derive(Debug, Clone, Default)]
pub struct Notice {
    pub event: String,
    pub action: String,
    pub installation: Option<InstallationId>,
    /// Login of the account that owns the repository or the installation.
    pub account: String,
    pub thread: Option<Thread>,
    pub sender: Option<Requester>,
    pub sender_is_bot: bool,
    pub writing: Option<Writing>,
    pub opening: Option<Opening>,
    /// What is asked for without a comment, and when that was, by GitHub's clock.
    pub ask: Option<Ask>,
    pub asked_at: Millis,
    pub pull: Option<PullNow>,
    pub installation_state: Option<InstallationState>,
}

/// Who we are on GitHub, as far as known.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    pub app_id: i64,
    /// Login without `[bot]`.
    pub handle: String,
}

/// The first sorting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sorted {
    /// Nothing can come of it.
    Ignored(DecisionCode),
    /// It has to be stored before the answer. `meaning` is the same for every copy of the event,
    /// whatever delivery id it comes under: the id is not covered by the signature.
    Kept { meaning: Option<String> },
}

/// Where GitHub posts them, below the public address.
pub const WEBHOOK_PATH: &str = "/webhooks/github";

/// Events the App asks for: exactly those that `sort` does not ignore by name.
pub const USED_EVENTS: [&str; 5] =
    ["issue_comment", "issues", "pull_request", "pull_request_review", "pull_request_review_comment"];
/// Sent to every App without being asked for.
pub const UNASKED_EVENTS: [&str; 1] = ["installation"];

pub fn sort(notice: &Notice, identity: &Identity) -> Sorted {
    use DecisionCode::{BotSender, Edited, EventNotUsed, NoCommand, OwnComment};
    if notice.installation_state.is_some() {
        return Sorted::Kept { meaning: None };
    }
    if let Some(ask) = &notice.ask {
        return sort_ask(notice, ask, identity);
    }
    let begins = matches!(
        (notice.event.as_str(), notice.action.as_str()),
        ("issues", "opened")
            | ("issue_comment" | "pull_request_review_comment", "created")
            | ("pull_request_review", "submitted")
    );
    let edited = notice.action == "edited" && USED_EVENTS.contains(&notice.event.as_str());
    if !begins && !edited {
        return Sorted::Ignored(EventNotUsed);
    }
    let (Some(writing), Some(thread), Some(sender)) = (&notice.writing, &notice.thread, &notice.sender) else {
        return Sorted::Ignored(NoCommand);
    };
    if writing.via_app == Some(identity.app_id) || is_us(&sender.login, identity) {
        return Sorted::Ignored(OwnComment);
    }
    if notice.sender_is_bot || sender.login.ends_with("[bot]") {
        return Sorted::Ignored(BotSender);
    }
    if !could_hold_a_command(&writing.text, &identity.handle) {
        return Sorted::Ignored(NoCommand);
    }
    if edited || writing.author != sender.id.0 {
        return Sorted::Ignored(Edited);
    }
    let object = writing.subject.number(thread);
    Sorted::Kept { meaning: Some(format!("{}:{}:{object}", thread.repository, notice.event)) }
}

/// Closing counts whoever does it; all else has to be a person's wish.
fn sort_ask(notice: &Notice, ask: &Ask, identity: &Identity) -> Sorted {
    use DecisionCode::{BotSender, EventNotUsed, OwnComment};
    let (Some(thread), Some(sender)) = (&notice.thread, &notice.sender) else { return Sorted::Ignored(EventNotUsed) };
    if is_us(&sender.login, identity) {
        return Sorted::Ignored(OwnComment);
    }
    if *ask != Ask::Closed && (notice.sender_is_bot || sender.login.ends_with("[bot]")) {
        return Sorted::Ignored(BotSender);
    }
    let what = ask.meaning(notice.pull.as_ref());
    // The same can be asked for again later: the event's own time tells that from its copies.
    Sorted::Kept { meaning: Some(format!("{}#{}:{what}:{}", thread.repository, thread.issue, notice.asked_at.0)) }
}

fn is_us(login: &str, identity: &Identity) -> bool {
    let ours = format!("{}[bot]", identity.handle);
    !identity.handle.is_empty() && login.eq_ignore_ascii_case(&ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{CommentId, IssueNumber, RepoName, RepositoryId, UserId};

    fn comment(text: &str) -> Notice {
        Notice {
            event: "issue_comment".into(),
            action: "created".into(),
            installation: Some(InstallationId(5)),
            account: "acme".into(),
            thread: Some(Thread {
                installation: InstallationId(5),
                repository: RepositoryId(11),
                name: RepoName { owner: "acme".into(), name: "shop".into() },
                issue: IssueNumber(7),
                is_pull: false,
            }),
            sender: Some(Requester { id: UserId(1), login: "maria".into() }),
            writing: Some(Writing {
                subject: Subject::IssueComment(CommentId(99)),
                text: text.into(),
                written_at: Millis(0),
                author: 1,
                via_app: None,
            }),
            ..Notice::default()
        }
    }

    fn identity() -> Identity {
        Identity { app_id: 42, handle: "hireling".into() }
    }

    #[test]
    fn a_command_is_kept_under_its_meaning() {
        let kept = Sorted::Kept { meaning: Some("11:issue_comment:99".into()) };
        assert_eq!(sort(&comment("/agent fix"), &identity()), kept);
        assert_eq!(sort(&comment("@hireling fix"), &identity()), kept);
    }

    #[test]
    fn most_events_come_to_nothing() {
        use DecisionCode::{BotSender, Edited, EventNotUsed, NoCommand, OwnComment};
        let with = |change: fn(&mut Notice)| {
            let mut notice = comment("/agent fix");
            change(&mut notice);
            sort(&notice, &identity())
        };
        for (sorted, code) in [
            (sort(&comment("thanks!"), &identity()), NoCommand),
            (with(|n| n.action = "edited".into()), Edited),
            (with(|n| n.action = "deleted".into()), EventNotUsed),
            (with(|n| n.event = "push".into()), EventNotUsed),
            (with(|n| n.sender_is_bot = true), BotSender),
            (with(|n| n.sender = Some(Requester { id: UserId(1), login: "renovate[bot]".into() })), BotSender),
            (with(|n| n.sender = Some(Requester { id: UserId(1), login: "Hireling[bot]".into() })), OwnComment),
            (with(|n| n.writing.as_mut().unwrap().via_app = Some(42)), OwnComment),
            (with(|n| n.writing.as_mut().unwrap().author = 2), Edited),
            (with(|n| n.writing = None), NoCommand),
        ] {
            assert_eq!(sorted, Sorted::Ignored(code));
        }
    }
}
