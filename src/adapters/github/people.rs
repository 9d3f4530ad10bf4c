//! What people may do, by GitHub's numbers: a login can have passed to somebody else.

use http::Method;
use serde::Deserialize;

use super::auth::NarrowTo;
use super::{GitHub, GitHubError, Place, Result, Scope, segment};
use crate::domain::ids::{InstallationId, RepositoryId, UserId};
use crate::domain::permission::Permission;

/// What the App is asked about people, besides what `Scope` names: of an organization, and of who
/// signs in.
pub const ABOUT_PEOPLE: [(&str, &str); 2] = [("members", "read"), ("emails", "read")];

/// Who owns the App.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Owner {
    pub id: UserId,
    pub login: String,
}

#[derive(Deserialize)]
struct PermissionAnswer {
    permission: String,
    role_name: Option<String>,
    user: Option<UserAnswer>,
}

#[derive(Deserialize)]
struct UserAnswer {
    id: i64,
}

#[derive(Deserialize)]
struct MembershipAnswer {
    state: String,
    role: String,
    user: Option<UserAnswer>,
}

#[derive(Deserialize)]
struct RepositoriesAnswer {
    total_count: i64,
    repositories: Vec<RepositoryName>,
}

#[derive(Deserialize)]
struct RepositoryName {
    id: i64,
    full_name: String,
}

impl PermissionAnswer {
    fn permission(&self) -> Permission {
        // Organizations name roles of their own; the other field then tells what they come to.
        let role = self.role_name.as_deref().and_then(Permission::parse);
        role.or_else(|| Permission::parse(&self.permission)).unwrap_or(Permission::None)
    }
}

impl GitHub {
    /// Asked anew each time: `author_association` in a payload may be stale, and says MEMBER for
    /// people who cannot write.
    pub async fn permission(&self, place: &Place<'_>, login: &str) -> Result<Permission> {
        Ok(self.permission_answer(place, login).await?.permission())
    }

    /// The same for a person we know: none for another who has the login now.
    pub async fn permission_of(&self, place: &Place<'_>, login: &str, id: UserId) -> Result<Permission> {
        let answer = self.permission_answer(place, login).await?;
        let is_same = answer.user.as_ref().is_some_and(|user| user.id == id.0);
        Ok(if is_same { answer.permission() } else { Permission::None })
    }

    async fn permission_answer(&self, place: &Place<'_>, login: &str) -> Result<PermissionAnswer> {
        let path = format!("/repos/{}/collaborators/{}/permission", place.name, segment(login));
        self.get(place, Scope::Talk, &path).await
    }

    /// Whether a person administers an organization that has the App.
    pub async fn is_administrator(
        &self,
        installation: InstallationId,
        organization: &str,
        login: &str,
        id: UserId,
    ) -> Result<bool> {
        let narrow = NarrowTo { repository_ids: None, permissions: [ABOUT_PEOPLE[0]].into() };
        let token = self.mint_narrowed(installation, &narrow).await?;
        let path = format!("/orgs/{}/memberships/{}", segment(organization), segment(login));
        match self.send::<()>(&token.value, Method::GET, &path, None).await {
            Ok(answer) => {
                let answer: MembershipAnswer = answer.json()?;
                let is_same = answer.user.is_some_and(|user| user.id == id.0);
                Ok(is_same && answer.state == "active" && answer.role == "admin")
            }
            Err(GitHubError::Missing) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Repositories of an installation, a hundred at most, and how many there are.
    pub async fn repositories_of(&self, installation: InstallationId) -> Result<(Vec<(RepositoryId, String)>, i64)> {
        let narrow = NarrowTo { repository_ids: None, permissions: [("metadata", "read")].into() };
        let token = self.mint_narrowed(installation, &narrow).await?;
        let path = "/installation/repositories?per_page=100";
        let answer: RepositoriesAnswer = self.send::<()>(&token.value, Method::GET, path, None).await?.json()?;
        let found = answer.repositories.into_iter().map(|one| (RepositoryId(one.id), one.full_name));
        Ok((found.collect(), answer.total_count))
    }
}
