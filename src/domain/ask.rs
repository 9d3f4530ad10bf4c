//! What is asked for without a comment: by a label, by a request for a review, by opening, closing and pushing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Somebody whose review can be asked for: a team's slug or a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reviewer {
    pub name: String,
    pub is_team: bool,
}

/// A review that was asked for by a request, of the head that was there then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewRequest {
    pub reviewer: Reviewer,
    pub head: String,
}

/// When a repository wants reviews by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Moment {
    Open,
    Ready,
    Push,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// `agent`, `agent:review` or `agent:<name>`: what stands after the colon.
    Label(Option<String>),
    Review(Reviewer),
    NoReview(Reviewer),
    Closed,
    /// The pull request is new, is ready, or has new commits.
    Moment(Moment),
}

/// A pull request, as its event shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullNow {
    pub head: String,
    pub is_draft: bool,
    /// Whose review is asked for and not given.
    pub reviewers: Vec<Reviewer>,
}

impl Ask {
    /// Of the events `issues` and `pull_request`.
    pub fn of(event: &str, action: &str, label: Option<&str>, reviewer: Option<Reviewer>) -> Option<Self> {
        match (event, action) {
            ("issues" | "pull_request", "labeled") => Self::of_label(label?),
            ("issues" | "pull_request", "closed") => Some(Self::Closed),
            ("pull_request", "review_requested") => Some(Self::Review(reviewer?)),
            ("pull_request", "review_request_removed") => Some(Self::NoReview(reviewer?)),
            ("pull_request", "opened" | "reopened") => Some(Self::Moment(Moment::Open)),
            ("pull_request", "ready_for_review") => Some(Self::Moment(Moment::Ready)),
            ("pull_request", "synchronize") => Some(Self::Moment(Moment::Push)),
            _ => None,
        }
    }

    fn of_label(label: &str) -> Option<Self> {
        let label = label.trim().to_ascii_lowercase();
        match label.split_once(':') {
            None => (label == "agent").then_some(Self::Label(None)),
            Some((head, rest)) => {
                let rest = rest.trim();
                (head.trim() == "agent" && !rest.is_empty()).then(|| Self::Label(Some(rest.to_owned())))
            }
        }
    }

    /// What sets it apart from others on the same thread. A copy of an event says the same.
    pub fn meaning(&self, pull: Option<&PullNow>) -> String {
        let head = pull.map_or("", |pull| pull.head.as_str());
        let of = |what: &str, reviewer: &Reviewer| {
            let kind = if reviewer.is_team { "team" } else { "login" };
            format!("{what}:{head}:{kind}:{}", reviewer.name.to_ascii_lowercase())
        };
        match self {
            Self::Label(name) => format!("label:{}", name.as_deref().unwrap_or_default()),
            Self::Review(reviewer) => of("review", reviewer),
            Self::NoReview(reviewer) => of("no-review", reviewer),
            Self::Closed => "closed".to_owned(),
            Self::Moment(moment) => format!("{moment:?}:{head}").to_lowercase(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_labels_ask_for_anything() {
        let label = |text| Ask::of("issues", "labeled", Some(text), None);
        assert_eq!(label("agent"), Some(Ask::Label(None)));
        assert_eq!(label(" Agent: Codex "), Some(Ask::Label(Some("codex".into()))));
        for other in ["agents", "agent:", "bug", "user-agent", "no agent:codex"] {
            assert_eq!(label(other), None, "{other}");
        }
        assert_eq!(Ask::of("issues", "unlabeled", Some("agent"), None), None);
    }
}
