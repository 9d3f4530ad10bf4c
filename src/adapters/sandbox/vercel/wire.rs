//! What goes over the wire: strict where we ask (no `null`, no field the API does not know), lenient
//! where it answers. Checked against `@vercel/sandbox` 3.5.0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::domain::network::{Injection, Network};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Create<'a> {
    pub project_id: &'a str,
    pub name: &'a str,
    pub persistent: bool,
    pub ports: &'a [u16],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source<'a>>,
    /// Milliseconds.
    pub timeout: u64,
    pub resources: Resources,
    pub tags: BTreeMap<&'static str, &'a str>,
    pub network_policy: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "type", rename = "snapshot")]
pub(super) struct Source<'a> {
    pub snapshot_id: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct Resources {
    pub vcpus: u32,
}

/// Secrets in `env` are exposed here and nowhere before: this value is not printed.
#[derive(Serialize)]
pub(super) struct Run<'a> {
    pub command: &'a str,
    pub args: &'a [String],
    pub cwd: &'a str,
    pub env: BTreeMap<&'a str, &'a str>,
    /// Milliseconds, 100 to 18,000,000.
    pub timeout: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub logs: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Made {
    pub session: Session,
}

#[derive(Debug, Deserialize)]
pub(super) struct SessionAnswer {
    pub session: Session,
    #[serde(default)]
    pub routes: Vec<Route>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    pub id: String,
    /// One of seven words, maybe more one day.
    #[serde(default)]
    pub status: String,
    /// Milliseconds.
    #[serde(default)]
    pub timeout: Option<i64>,
    #[serde(default)]
    pub created_at: Option<i64>,
    #[serde(default)]
    pub started_at: Option<i64>,
    #[serde(default)]
    pub stopped_at: Option<i64>,
    #[serde(default)]
    pub requested_stop_at: Option<i64>,
}

impl Session {
    pub(super) fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "stopping" | "stopped" | "failed" | "aborted" | "snapshotting")
    }

    /// When it ends by itself, by the API's clock.
    pub(super) fn deadline(&self) -> Option<i64> {
        Some(self.started_at.or(self.created_at)?.saturating_add(self.timeout?))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Route {
    pub port: u16,
    #[serde(default)]
    pub subdomain: String,
    #[serde(default)]
    pub url: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct CommandAnswer {
    pub command: Command,
}

#[derive(Debug, Deserialize)]
pub(super) struct Commands {
    pub commands: Vec<Command>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Command {
    pub id: String,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub started_at: Option<i64>,
    #[serde(default)]
    pub duration_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Sandboxes {
    pub sandboxes: Vec<Listed>,
    #[serde(default)]
    pub pagination: Pagination,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    pub name: String,
    #[serde(default)]
    pub current_session_id: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Pagination {
    #[serde(default)]
    pub next: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SnapshotAnswer {
    pub snapshot: Snapshot,
}

#[derive(Debug, Deserialize)]
pub(super) struct Snapshots {
    pub snapshots: Vec<Snapshot>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Snapshot {
    pub id: String,
    #[serde(default)]
    pub source_session_id: String,
    #[serde(default)]
    pub status: String,
}

/// The request form of a network policy. Header values are exposed here.
pub(super) fn policy(network: &Network, headers: &[Injection]) -> Value {
    let (hosts, subnets): (&[String], &[String]) = match network {
        Network::Open if headers.is_empty() => return json!({ "mode": "allow-all" }),
        Network::Open => (&["*".to_owned()], &[]),
        Network::Only { hosts, subnets } => (hosts, subnets),
    };
    let mut policy = Map::new();
    if headers.is_empty() {
        policy.insert("allow".into(), json!(hosts));
    } else {
        let mut allow: Map<String, Value> = hosts.iter().map(|host| (host.clone(), json!([]))).collect();
        for injection in headers {
            let values: Map<String, Value> =
                injection.headers.iter().map(|(name, value)| (name.clone(), json!(value.expose()))).collect();
            let rule = json!({
                "match": { "path": { "startsWith": injection.path } },
                "transform": [{ "headers": values }],
            });
            if let Value::Array(rules) = allow.entry(injection.host.clone()).or_insert_with(|| json!([])) {
                rules.push(rule);
            }
        }
        policy.insert("allow".into(), Value::Object(allow));
    }
    if !subnets.is_empty() {
        policy.insert("subnets".into(), json!({ "allow": subnets }));
    }
    Value::Object(policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;

    #[test]
    fn a_policy_lists_hosts_or_maps_them_to_rules() {
        let network = Network::Only { hosts: vec!["github.com".into(), "x.test".into()], subnets: vec![] };
        assert_eq!(policy(&Network::Open, &[]), json!({ "mode": "allow-all" }));
        assert_eq!(policy(&network, &[]), json!({ "allow": ["github.com", "x.test"] }));
        let injection = Injection {
            host: "github.com".into(),
            path: "/acme/shop".into(),
            headers: vec![("authorization".into(), Secret::new("Basic x"))],
        };
        let rule = json!([{
            "match": { "path": { "startsWith": "/acme/shop" } },
            "transform": [{ "headers": { "authorization": "Basic x" } }],
        }]);
        assert_eq!(
            policy(&network, std::slice::from_ref(&injection)),
            json!({ "allow": { "github.com": rule, "x.test": [] } })
        );
        assert_eq!(policy(&Network::Open, &[injection]), json!({ "allow": { "github.com": rule, "*": [] } }));
    }

    #[test]
    fn what_is_not_given_is_left_out() {
        let text = serde_json::to_string(&Create {
            project_id: "prj_1",
            name: "a",
            persistent: false,
            ports: &[],
            source: None,
            timeout: 1000,
            resources: Resources { vcpus: 4 },
            tags: BTreeMap::new(),
            network_policy: json!({ "mode": "allow-all" }),
        })
        .unwrap();
        assert!(!text.contains("null") && !text.contains("\"source\""), "{text}");
    }

    #[test]
    fn answers_may_gain_fields_and_lack_optional_ones() {
        let session: Session = serde_json::from_str(r#"{"id":"sbx_1","status":"new word","extra":{}}"#).unwrap();
        assert!(!session.is_over());
        assert_eq!(session.deadline(), None);
    }
}
