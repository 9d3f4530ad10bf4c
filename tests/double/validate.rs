//! The forms of requests: unknown fields, wrong types and values out of range are refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Knobs;
use super::wire::{Answer, Asked};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Create {
    pub project_id: String,
    pub name: Option<String>,
    pub source: Option<Source>,
    #[serde(default)]
    pub ports: Vec<u16>,
    pub timeout: Option<i64>,
    pub resources: Option<Resources>,
    pub image: Option<String>,
    pub env: Option<BTreeMap<String, String>>,
    pub tags: Option<BTreeMap<String, String>>,
    pub persistent: Option<bool>,
    pub network_policy: Option<Value>,
    pub snapshot_expiration: Option<i64>,
    pub keep_last_snapshots: Option<Value>,
    pub region: Option<String>,
    pub failover_regions: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", tag = "type")]
pub enum Source {
    #[serde(rename = "snapshot", rename_all = "camelCase")]
    Snapshot { snapshot_id: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    pub vcpus: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub command: String,
    #[serde(default)]
    pub args: Vec<String>,
    pub cwd: Option<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub sudo: bool,
    pub timeout: Option<u64>,
    #[serde(default)]
    pub wait: bool,
    #[serde(default)]
    pub logs: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    pub signal: i32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    pub path: String,
    pub cwd: Option<String>,
    #[serde(default)]
    pub recursive: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duration {
    pub duration: i64,
}

pub fn bad(message: &str) -> Answer {
    Answer::violation(message)
}

pub fn body<T: DeserializeOwned>(asked: &Asked) -> Result<T, Answer> {
    serde_json::from_value(asked.json()?).map_err(|error| bad(&error.to_string()))
}

impl Create {
    pub fn check(&self, knobs: &Knobs) -> Result<(), Answer> {
        if let Some(name) = &self.name {
            let legal = (1..=128).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            if !legal {
                return Err(bad("name has another form"));
            }
        }
        let distinct: std::collections::BTreeSet<_> = self.ports.iter().collect();
        let ports_fit = distinct.len() == self.ports.len()
            && self.ports.len() <= 15
            && self.ports.iter().all(|port| *port >= 1024 && *port != 23456);
        if !ports_fit {
            return Err(bad("ports are out of range"));
        }
        let timeout = self.timeout.unwrap_or(300_000);
        if timeout < 1000 {
            return Err(bad("timeout is too small"));
        }
        if timeout > knobs.max_timeout {
            let message = format!("Invalid timeout: your plan allows at most {} milliseconds", knobs.max_timeout);
            return Err(Answer::error(400, "bad_request", &message));
        }
        let vcpus = self.resources.as_ref().map_or(2, |resources| resources.vcpus);
        if vcpus == 0 || (vcpus > 1 && vcpus % 2 == 1) {
            return Err(bad("vcpus must be 1 or even"));
        }
        if vcpus > knobs.max_vcpus {
            let message = format!("your plan allows at most {} vcpus", knobs.max_vcpus);
            return Err(Answer::error(400, "bad_request", &message));
        }
        if self.image.as_ref().is_some_and(|image| image.len() > 255) {
            return Err(bad("image is too long"));
        }
        if self.snapshot_expiration.is_some_and(|time| time != 0 && time < 86_400_000) {
            return Err(bad("snapshotExpiration is less than a day"));
        }
        let kept = self.keep_last_snapshots.as_ref().map(|keep| keep["count"].as_u64().unwrap_or(0));
        if kept.is_some_and(|count| !(1..=10).contains(&count)) {
            return Err(bad("keepLastSnapshots.count is out of range"));
        }
        let failover = self.failover_regions.clone().unwrap_or_default();
        if failover.iter().any(|region| region == self.region.as_deref().unwrap_or("iad1")) {
            return Err(bad("failoverRegions holds the region itself"));
        }
        let tags = self.tags.clone().unwrap_or_default();
        if tags.len() > 5 || tags.values().any(|value| value.len() > 256) {
            return Err(bad("too many tags, or too long ones"));
        }
        self.network_policy.as_ref().map_or(Ok(()), |policy| check_policy(policy, knobs))
    }
}

/// The request form of a policy, section 6 of the reference.
pub fn check_policy(policy: &Value, knobs: &Knobs) -> Result<(), Answer> {
    let map = policy.as_object().ok_or_else(|| bad("a policy is an object"))?;
    if let Some(mode) = map.get("mode") {
        let known = matches!(mode.as_str(), Some("allow-all" | "deny-all")) && map.len() == 1;
        return if known { Ok(()) } else { Err(bad("mode is unknown, or not alone")) };
    }
    if map.keys().any(|key| key != "allow" && key != "subnets") {
        return Err(bad("a policy has allow and subnets"));
    }
    match map.get("allow") {
        Some(Value::Array(hosts)) if hosts.iter().all(Value::is_string) => Ok(()),
        Some(Value::Object(rules)) => {
            let has_rules = rules.values().any(|rules| rules.as_array().is_some_and(|rules| !rules.is_empty()));
            if has_rules && knobs.no_injection {
                return Err(Answer::error(403, "forbidden", "your plan has no header injection"));
            }
            let well_formed = rules.values().all(|rules| {
                rules.as_array().is_some_and(|rules| {
                    rules.iter().all(|rule| rule.pointer("/transform/0/headers").is_some_and(Value::is_object))
                })
            });
            if well_formed { Ok(()) } else { Err(bad("a rule has another form")) }
        }
        _ => Err(bad("allow is a list or a map")),
    }
}
