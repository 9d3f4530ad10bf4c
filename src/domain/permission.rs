//! What a person may do in a repository.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// As GitHub's permission endpoint tells, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    // A policy cannot let those in who may not even sort issues.
    #[schemars(skip)]
    None,
    #[schemars(skip)]
    Read,
    Triage,
    Write,
    Maintain,
    Admin,
}

impl Permission {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Triage => "triage",
            Self::Write => "write",
            Self::Maintain => "maintain",
            Self::Admin => "admin",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::None, Self::Read, Self::Triage, Self::Write, Self::Maintain, Self::Admin];
        all.into_iter().find(|one| one.name() == name)
    }
}
