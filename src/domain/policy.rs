//! `.github/hireling.yml` on the default branch: what a repository wants of its tasks. It can narrow what the
//! instance allows, never widen it. A file that cannot be read changes nothing: the last good one holds.

use std::collections::BTreeMap;
use std::time::Duration;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agent::KNOWN_NAMES;
use super::ask::{Moment, Reviewer};
use super::command::{Options, parse_cents, parse_duration};
use super::ids::Millis;
use super::network::is_host;
use super::permission::Permission;

/// Where it is, in a repository.
pub const POLICY_FILE: &str = ".github/hireling.yml";
/// A longer file is not read.
pub const MAX_POLICY_BYTES: usize = 64 * 1024;

/// How a repository wants tasks done. Everything may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = ".github/hireling.yml")]
pub struct Policy {
    /// The agent of a command that names none; goes before what a person prefers.
    pub agent: Option<String>,
    /// The only agents that may work here.
    pub agents: Option<Vec<String>>,
    /// Models by agent, for commands that name none.
    pub models: BTreeMap<String, String>,
    /// The least permission of who may command: `triage`, `write`, `maintain` or `admin`.
    pub who: Option<Permission>,
    /// Commands that are run before the agent starts, each as a list of words.
    pub setup: Vec<Vec<String>>,
    pub limits: PolicyLimits,
    /// Hosts that sandboxes may reach besides the usual ones, where the operator has not named all of them.
    pub network: Vec<String>,
    pub review: ReviewPolicy,
    /// Whether pull requests are opened as drafts.
    pub draft: Option<bool>,
    /// The branch that work on issues starts from and is merged into.
    pub base: Option<String>,
    /// Labels for pull requests of the bot. They have to exist.
    pub labels: Vec<String>,
    /// Paths such as `infra/**`: work that changes them goes to a branch of its own and a draft, for people to approve.
    pub approval: Vec<String>,
}

/// Ceilings below those of the instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyLimits {
    /// How long a task may take: `90s`, `30m` or `2h`.
    pub duration: Option<String>,
    /// What a task may cost: `$3`.
    pub cost: Option<String>,
    /// Commands of a person in a day.
    pub per_day: Option<u32>,
}

/// Reviews by request and by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReviewPolicy {
    /// Team slugs and logins whose review request asks the bot.
    pub aliases: Vec<String>,
    /// When pull requests are reviewed without being asked for.
    pub on: Vec<Moment>,
    /// How long after a push nothing more may come before it is reviewed; two minutes, if nothing is said.
    pub debounce: Option<String>,
    /// Whether drafts are reviewed, too.
    pub drafts: bool,
    /// The agent that reviews.
    pub agent: Option<String>,
}

/// What of a policy holds for a task, as it was when the task began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    pub setup: Vec<Vec<String>>,
    pub hosts: Vec<String>,
    pub approval: Vec<String>,
    pub labels: Vec<String>,
    /// Of the requester, when the work is published.
    pub who: Option<Permission>,
}

const DEBOUNCE: Duration = Duration::from_secs(120);
const MAX_LIST: usize = 50;

impl Policy {
    /// Reads what was found good before: agents may have gone since.
    pub fn read(text: &str) -> Self {
        serde_saphyr::from_str::<Option<Self>>(text).ok().flatten().unwrap_or_default()
    }

    /// Reads the file. `agents`: those of the instance. `Err` is for people: what is wrong, and where.
    pub fn parse(text: &str, agents: &[String]) -> Result<Self, String> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(format!("The file is longer than {} KiB.", MAX_POLICY_BYTES / 1024));
        }
        // A file of comments says nothing, which is fine.
        let read: Option<Self> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let policy = read.unwrap_or_default();
        policy.check(agents)?;
        Ok(policy)
    }

    fn check(&self, agents: &[String]) -> Result<(), String> {
        let named = self.agent.iter().chain(self.agents.iter().flatten()).chain(self.models.keys());
        for name in named.chain(&self.review.agent) {
            if !agents.contains(name) && !KNOWN_NAMES.contains(&name.as_str()) {
                return Err(format!("There is no agent {name:?} on this instance."));
            }
        }
        let chosen = [("agent", &self.agent), ("review.agent", &self.review.agent)];
        for (key, name) in chosen.into_iter().filter_map(|(key, name)| Some((key, name.as_ref()?))) {
            if !self.allows(name) {
                return Err(format!("{key} is {name:?}, which is not among the agents."));
            }
        }
        if self.who.is_some_and(|who| who < Permission::Triage) {
            return Err("who can be triage, write, maintain or admin.".to_owned());
        }
        let durations = [("limits.duration", &self.limits.duration), ("review.debounce", &self.review.debounce)];
        for (key, value) in durations.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
            parse_duration(value).ok_or_else(|| format!("{key} is {value:?}, not a time such as `30m`."))?;
        }
        if let Some(cost) = self.limits.cost.as_ref().filter(|cost| parse_cents(cost).is_none()) {
            return Err(format!("limits.cost is {cost:?}, not a sum such as `$3`."));
        }
        // All of a top-level domain would be all of the net.
        let is_wide = |host: &&String| host.strip_prefix("*.").is_some_and(|rest| !rest.contains('.'));
        if let Some(bad) = self.network.iter().find(|host| !is_host(host) || is_wide(host)) {
            return Err(format!("network holds {bad:?}, which is no name of a host."));
        }
        if self.setup.iter().any(|command| command.first().is_none_or(String::is_empty)) {
            return Err("setup holds a command without words.".to_owned());
        }
        if self.base.as_ref().is_some_and(|base| !super::command::is_branch(base)) {
            return Err("base is no name of a branch.".to_owned());
        }
        let lists =
            [self.setup.len(), self.network.len(), self.labels.len(), self.approval.len(), self.review.aliases.len()];
        if lists.into_iter().any(|length| length > MAX_LIST) {
            return Err(format!("A list has more than {MAX_LIST} entries."));
        }
        globs(&self.approval).map(|_| ())
    }

    pub fn allows(&self, agent: &str) -> bool {
        self.agents.as_ref().is_none_or(|agents| agents.iter().any(|one| one == agent))
    }

    /// Who may command.
    pub fn who(&self) -> Permission {
        self.who.unwrap_or(Permission::Write)
    }

    /// Whether a request to this reviewer is meant for the bot, by the file or by `aliases` of the instance.
    pub fn is_asked_as(&self, reviewer: &Reviewer, aliases: &[String]) -> bool {
        self.review.aliases.iter().chain(aliases).any(|alias| alias.eq_ignore_ascii_case(&reviewer.name))
    }

    pub fn debounce(&self) -> Duration {
        self.review.debounce.as_deref().and_then(parse_duration).unwrap_or(DEBOUNCE)
    }

    /// What a command leaves open, but for the base, and what it may not go beyond.
    pub fn complete(&self, options: Options, agent: &str) -> Options {
        self.limit(Options {
            model: options.model.or_else(|| self.models.get(agent).cloned()),
            draft: options.draft.or(self.draft.filter(|_| !options.is_review)),
            ..options
        })
    }

    /// What may not be gone beyond.
    pub fn limit(&self, options: Options) -> Options {
        let least = |asked: Option<u64>, most: Option<u64>| match (asked, most) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        };
        let most = self.limits.duration.as_deref().and_then(parse_duration).map(|limit| limit.as_secs());
        Options {
            timeout_s: least(options.timeout_s, most),
            max_cents: least(options.max_cents, self.limits.cost.as_deref().and_then(parse_cents)),
            ..options
        }
    }

    pub fn terms(&self) -> Terms {
        Terms {
            setup: self.setup.clone(),
            hosts: self.network.clone(),
            approval: self.approval.clone(),
            labels: self.labels.clone(),
            who: self.who,
        }
    }
}

impl Terms {
    /// Of these paths, those that people have to approve.
    pub fn to_approve<'a>(&self, paths: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let globs = globs(&self.approval).unwrap_or_else(|_| GlobSet::empty());
        paths.filter(|path| globs.is_match(path)).collect()
    }
}

fn globs(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(glob.map_err(|error| format!("approval holds {pattern:?}: {}.", error.kind()))?);
    }
    set.build().map_err(|error| error.to_string())
}

/// What is known of a repository's policy file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenPolicy {
    /// Git's name of the file's content; empty: there was no file.
    pub sha: String,
    /// The last text that could be read; empty: there was none.
    pub holds: String,
    /// What is wrong with a newer one, in a sentence.
    pub fault: String,
    pub looked_at: Millis,
}

/// The form of the file, for editors: served at `/policy.schema.json`.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Policy).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, String> {
        Policy::parse(text, &["ours".to_owned()])
    }

    #[test]
    fn a_file_says_what_it_wants_and_no_more() {
        let policy = parse(
            "agent: ours\nagents: [ours, codex]\nmodels: {ours: big}\nwho: maintain\nsetup: [[npm, ci]]\nlimits: {duration: 10m, cost: $2}\n\
             review: {aliases: [Robots], on: [open, push], agent: codex}\napproval: ['infra/**', '*.sql']\nbase: develop\n",
        )
        .unwrap();
        assert_eq!((policy.who(), policy.allows("claude")), (Permission::Maintain, false));
        assert!(policy.is_asked_as(&Reviewer { name: "robots".into(), is_team: true }, &[]));
        let asked = Options { timeout_s: Some(3600), max_cents: Some(100), ..Options::default() };
        let done = policy.complete(asked, "ours");
        assert_eq!((done.timeout_s, done.max_cents), (Some(600), Some(100)), "the narrower holds");
        assert_eq!((done.model.as_deref(), policy.base.as_deref()), (Some("big"), Some("develop")));
        let paths = ["infra/a/b.tf", "x.sql", "db/x.sql", "src/infra/a"];
        assert_eq!(policy.terms().to_approve(paths.into_iter()), ["infra/a/b.tf", "x.sql"]);
        assert_eq!(parse("# nothing\n"), Ok(Policy::default()));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, told) in [
            ("agnet: ours", "agnet"),
            ("agent: nobody", "There is no agent \"nobody\""),
            ("agent: ours\nagents: [codex]", "not among the agents"),
            ("who: read", "who can be triage"),
            ("limits: {duration: soon}", "limits.duration is \"soon\""),
            ("limits: {cost: much}", "limits.cost is \"much\""),
            ("network: ['http://x']", "no name of a host"),
            ("setup: [[]]", "without words"),
            ("approval: ['{a']", "approval holds"),
            ("agent: [", "line"),
            ("base: '../x'", "base is no name"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn the_schema_names_every_key() {
        let schema = schema();
        let written = serde_json::to_value(Policy::default()).unwrap();
        for key in written.as_object().unwrap().keys() {
            assert!(schema["properties"][key].is_object(), "{key}: {schema}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }
}
