//! What was remarked on a pull request before: nothing is said twice, what is fixed is settled, and what
//! people decline stays declined.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Finding;
use crate::domain::diff::Diff;

/// A remark that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Of its file, the code that it is about and the kind of matter.
    pub id: String,
    pub path: String,
    pub title: String,
}

/// One of an earlier review, as it stands now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub remark: Remark,
    pub is_declined: bool,
    /// Its file has changed since.
    pub is_touched: bool,
    /// GitHub's id of the conversation on it, while that is open.
    pub talk: Option<String>,
}

/// What a review begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The commit that this agent has reviewed, if what came since is all that it looks at.
    pub since: Option<String>,
    pub standing: Vec<Standing>,
    /// Settled otherwise.
    pub settled: BTreeSet<String>,
}

/// The conversation that one of our remarks began, as GitHub shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemarkTalk {
    pub talk: String,
    pub remark: String,
    pub is_resolved: bool,
    pub is_declined: bool,
}

/// The line by which a remark is recognised.
pub fn remark_marker(id: &str) -> String {
    format!("{MARKER}{id} -->")
}

const MARKER: &str = "<!-- hireling:remark=";
const ID_LENGTH: usize = 16;

/// The remark whose marker a text holds.
pub fn marked(text: &str) -> Option<&str> {
    let id = text.split(MARKER).nth(1)?.get(..ID_LENGTH)?;
    id.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(id)
}

/// Whether somebody says that it stays as it is.
pub fn declines(text: &str) -> bool {
    let words = text.to_lowercase().replace('’', "'");
    ["won't fix", "wont fix", "wontfix", "by design", "not a bug"].iter().any(|phrase| words.contains(phrase))
}

fn short_hash(parts: &[&str]) -> String {
    hex::encode(Sha256::digest(parts.join("\0"))).chars().take(ID_LENGTH).collect()
}

impl Finding {
    /// Stays the same when code is reformatted or moves, and when the words of the remark change.
    pub fn remark(&self, diff: &Diff) -> Remark {
        let (path, rule) = (self.path.as_str(), self.rule.trim().to_lowercase());
        let code = diff.code(path, self.line, self.last_line());
        // Off the diff there is no code to tell two of a kind apart.
        let title = self.title.trim().to_lowercase();
        let words = if rule.is_empty() || code.is_empty() { format!("{rule}{title}") } else { rule };
        let id = short_hash(&[path, &code, &words]);
        Remark { id, path: path.to_owned(), title: self.title.trim().to_owned() }
    }
}

impl Ledger {
    fn knows(&self, id: &str) -> bool {
        self.settled.contains(id) || self.standing.iter().any(|one| one.remark.id == id)
    }

    /// Leaves out what was said before, then or in this same answer.
    pub fn fresh(&self, findings: Vec<Finding>, diff: &Diff) -> Vec<(Remark, Finding)> {
        let (mut said, mut places) = (BTreeSet::new(), BTreeSet::new());
        let mut fresh = Vec::new();
        for finding in findings {
            let mut remark = finding.remark(diff);
            let is_new_place = places.insert((remark.id.clone(), finding.line));
            // The same code may stand in several places of a file.
            while is_new_place && said.contains(&remark.id) {
                remark.id = short_hash(&[&remark.id, "again"]);
            }
            if said.insert(remark.id.clone()) && !self.knows(&remark.id) {
                fresh.push((remark, finding));
            }
        }
        fresh
    }

    /// Those of the agent's list that can be settled: open ones whose file has changed.
    pub fn fixed<'a>(&'a self, claimed: &[String]) -> Vec<&'a Standing> {
        let is_fixed = |one: &&Standing| one.is_touched && !one.is_declined && claimed.contains(&one.remark.id);
        self.standing.iter().filter(is_fixed).collect()
    }

    /// What the agent is told of it. Titles are its own words of then: data.
    pub fn prompt(&self) -> Option<String> {
        let list = |is_declined: bool| {
            let lines = self.standing.iter().filter(|one| one.is_declined == is_declined);
            let lines: Vec<String> = lines
                .map(|one| format!("- {} {}: {}", one.remark.id, one.remark.path, one.remark.title.replace('\n', " ")))
                .collect();
            (!lines.is_empty()).then(|| lines.join("\n"))
        };
        let (open, declined) = (list(false), list(true));
        let mut parts = Vec::new();
        if let Some(open) = open {
            parts.push(format!(
                "These remarks of earlier reviews are open. Do not make them again; put the ids of those that the code at HEAD \
                 settles into \"fixed\":\n{open}"
            ));
        }
        if let Some(declined) = declined {
            parts.push(format!("People decided against these; make neither them nor the like again:\n{declined}"));
        }
        (!parts.is_empty()).then(|| parts.join("\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    fn finding(line: i64, rule: &str, title: &str) -> Finding {
        Finding {
            path: "a".into(),
            line,
            end_line: None,
            severity: Severity::Low,
            rule: rule.into(),
            title: title.into(),
            reason: String::new(),
            suggestion: None,
        }
    }

    fn diff(at: i64, code: &str) -> Diff {
        Diff::read(&format!("diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -{at},0 +{at},1 @@\n+{code}\n"))
    }

    /// The same code twice in a file, and two of a kind where no code is shown: each is a matter of its own.
    #[test]
    fn two_of_a_kind_are_two() {
        let diff = Diff::read("diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -0,0 +1,2 @@\n+same\n+same\n");
        let finding = |line: i64, title: &str| Finding {
            path: "a".into(),
            line,
            end_line: None,
            severity: crate::domain::review::Severity::Low,
            rule: "sort".into(),
            title: title.into(),
            reason: String::new(),
            suggestion: None,
        };
        let found = vec![finding(1, "A"), finding(2, "A"), finding(2, "A"), finding(80, "B"), finding(90, "C")];
        let fresh = Ledger::default().fresh(found.clone(), &diff);
        assert_eq!(fresh.len(), 4);
        let said = fresh.into_iter().map(|(remark, _)| remark.id).collect();
        let later = Ledger { settled: said, ..Ledger::default() };
        assert!(later.fresh(found, &diff).is_empty(), "and none of them is said again");
    }

    #[test]
    fn a_remark_is_known_again_wherever_its_code_went() {
        let (one, moved) = (diff(1, "let x = y;"), diff(9, "    let x  = y;"));
        let first = finding(1, "unused", "x is never read").remark(&one);
        assert_eq!(first.id, finding(9, " Unused ", "nobody reads x").remark(&moved).id);
        assert_ne!(first.id, finding(1, "naming", "x is never read").remark(&one).id);
        assert_ne!(first.id, finding(9, "unused", "x is never read").remark(&diff(9, "let x = z;")).id);
        let body = format!("text\n{}", remark_marker(&first.id));
        assert_eq!(marked(&body), Some(first.id.as_str()));
        for foreign in ["", "<!-- hireling:remark=", "<!-- hireling:remark=../../../../../etc -->"] {
            assert_eq!(marked(foreign), None);
        }
    }

    #[test]
    fn nothing_is_said_twice_and_only_what_was_touched_is_settled() {
        let code = diff(1, "let x = y;");
        let known = finding(1, "unused", "x").remark(&code);
        let standing = |is_declined, is_touched| Ledger {
            standing: vec![Standing { remark: known.clone(), is_declined, is_touched, talk: None }],
            ..Ledger::default()
        };
        let findings = vec![finding(1, "unused", "x"), finding(1, "other", "y"), finding(1, "other", "z")];
        let fresh = standing(false, false).fresh(findings, &code);
        assert_eq!(fresh.iter().map(|(_, finding)| finding.title.as_str()).collect::<Vec<_>>(), ["y"]);
        let claimed = [known.id.clone(), "0000000000000000".to_owned()];
        assert_eq!(standing(false, true).fixed(&claimed).len(), 1);
        assert!(standing(false, false).fixed(&claimed).is_empty() && standing(true, true).fixed(&claimed).is_empty());
        assert!(standing(true, true).prompt().unwrap().starts_with("People decided"));
        assert!(declines("Won’t fix, sorry") && !declines("I will fix it"));
    }
}
