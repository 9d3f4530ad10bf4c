//! A review: what the agent found, read from its answer, checked against the diff, and written for GitHub.

pub mod ledger;

use serde::{Deserialize, Serialize};

use super::diff::Diff;
use super::markdown::{self, code, inline, quoted};
use super::text::{count, cut_marked};
use ledger::{Ledger, Remark, Standing, remark_marker};

/// Comments on lines that one review makes; more would bury what matters.
const MAX_INLINE: usize = 30;
/// Findings that are told in the review's body.
const MAX_IN_BODY: usize = 20;
const MAX_TEXT: usize = 4_000;
/// Lines that one suggestion replaces.
const MAX_SPAN: i64 = 60;
/// Files that are named of those that were cut.
const MAX_NAMES: usize = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    High,
    Medium,
    Low,
}

impl Severity {
    fn mark(self) -> &'static str {
        match self {
            Self::High => "🔴 **High**",
            Self::Medium => "🟠 **Medium**",
            Self::Low => "🟡 **Low**",
        }
    }
}

/// One thing that is wrong or missing, on lines of the new side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub path: String,
    pub line: i64,
    /// The last line, where it is about several.
    #[serde(default)]
    pub end_line: Option<i64>,
    pub severity: Severity,
    /// The kind of matter, as one word: what keeps it apart from others on the same lines.
    #[serde(default)]
    pub rule: String,
    pub title: String,
    #[serde(default)]
    pub reason: String,
    /// What should stand in the place of these lines.
    #[serde(default)]
    pub suggestion: Option<String>,
}

/// The agent's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    #[serde(default)]
    pub summary: String,
    pub findings: Vec<Finding>,
    /// Ids of earlier remarks that are settled.
    #[serde(default)]
    pub fixed: Vec<String>,
}

/// The form that the agent is asked for.
pub const FORM: &str = r#"{"summary": "one or two sentences", "findings": [{"path": "src/a.rs", "line": 12, "end_line": 14,
  "severity": "high | medium | low", "rule": "kind-of-matter", "title": "one sentence",
  "reason": "why it is wrong, and what it leads to", "suggestion": "the lines 12 to 14 as they should be, or null"}],
  "fixed": []}"#;

/// Reads the answer: the last JSON object of this form in what the agent said. `None`: there is none.
pub fn read(text: &str) -> Option<Findings> {
    let starts: Vec<usize> = text.match_indices('{').map(|(at, _)| at).collect();
    // The outermost of the last one comes first among those that fit.
    let mut found = None;
    let mut end_of_found = 0;
    for start in starts {
        if start < end_of_found {
            continue;
        }
        let mut stream = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Findings>();
        if let Some(Ok(findings)) = stream.next() {
            end_of_found = start + stream.byte_offset();
            found = Some(findings);
        }
    }
    found
}

/// A comment on lines, as GitHub takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineComment {
    pub path: String,
    /// The last line, and the first where there are several.
    pub line: i64,
    pub start_line: Option<i64>,
    pub body: String,
}

/// A review before it is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    pub body: String,
    pub comments: Vec<LineComment>,
    /// All that is said in it.
    pub remarks: Vec<Remark>,
    /// Earlier ones that it settles.
    pub fixed: Vec<Standing>,
}

/// Puts each finding that is new where it belongs: on its lines, or, where the diff does not show those, into
/// the body. `cut`: files that the agent was not handed whole.
pub fn write(agent: &str, found: Findings, diff: &Diff, ledger: &Ledger, cut: &[String]) -> Written {
    let fixed: Vec<Standing> = ledger.fixed(&found.fixed).into_iter().cloned().collect();
    let mut findings = ledger.fresh(found.findings, diff);
    findings.sort_by_key(|(_, finding)| finding.severity);
    let remarks: Vec<Remark> = findings.iter().map(|(remark, _)| remark.clone()).collect();
    let (mut comments, mut others) = (Vec::new(), Vec::new());
    for (remark, finding) in findings {
        let (from, to) = (finding.line, finding.last_line());
        let is_on_diff = to - from < MAX_SPAN && diff.holds(&finding.path, from, to);
        if is_on_diff && comments.len() < MAX_INLINE {
            comments.push(LineComment {
                body: format!("{}\n\n{}", finding.comment(), remark_marker(&remark.id)),
                path: finding.path,
                line: to,
                start_line: (to > from).then_some(from),
            });
        } else {
            others.push(finding);
        }
    }
    let mut parts = vec![headline(agent, remarks.len(), ledger)];
    parts.extend(settled_line(fixed.len()));
    let summary = found.summary.trim();
    if !summary.is_empty() && !remarks.is_empty() {
        parts.push(quoted(summary, MAX_TEXT));
    }
    parts.extend(beside_the_lines(&others));
    parts.extend(not_whole(cut));
    Written { body: parts.join("\n\n"), comments, remarks, fixed }
}

fn headline(agent: &str, remarks: usize, ledger: &Ledger) -> String {
    let since = ledger.since.as_ref().map(|commit| format!(" on what came since {}", cut_to(commit, 7)));
    let since = since.unwrap_or_default();
    match remarks {
        0 => format!("{} found nothing to say{since}.", code(agent)),
        remarks => format!("{} has {}{since}.", code(agent), count(remarks, "remark")),
    }
}

fn settled_line(fixed: usize) -> Option<String> {
    let are = if fixed == 1 { "is" } else { "are" };
    (fixed > 0).then(|| format!("{} of earlier reviews {are} settled.", count(fixed, "remark")))
}

fn cut_to(commit: &str, length: usize) -> &str {
    commit.get(..length).unwrap_or(commit)
}

fn beside_the_lines(others: &[Finding]) -> Option<String> {
    if others.is_empty() {
        return None;
    }
    let mut list: Vec<String> = others.iter().take(MAX_IN_BODY).map(Finding::line_of_body).collect();
    if others.len() > MAX_IN_BODY {
        list.push(format!("- … and {} more.", others.len() - MAX_IN_BODY));
    }
    Some(format!("Not on lines of this diff, or beyond {MAX_INLINE}:\n\n{}", list.join("\n")))
}

fn not_whole(cut: &[String]) -> Option<String> {
    if cut.is_empty() {
        return None;
    }
    let mut names: Vec<String> = cut.iter().take(MAX_NAMES).map(|path| code(path)).collect();
    if cut.len() > MAX_NAMES {
        names.push(format!("and {} more", cut.len() - MAX_NAMES));
    }
    Some(format!(
        "Too long to be handed over whole, so the agent has read of these what it looked up: {}.",
        names.join(", ")
    ))
}

impl Finding {
    fn last_line(&self) -> i64 {
        self.end_line.unwrap_or(self.line).max(self.line)
    }

    fn comment(&self) -> String {
        let mut parts = vec![format!("{}: {}", self.severity.mark(), inline(&cut_marked(self.title.trim(), 300)))];
        if !self.reason.trim().is_empty() {
            parts.push(quoted(&self.reason, MAX_TEXT));
        }
        if let Some(suggestion) = self.suggestion.as_ref().filter(|text| text.len() <= MAX_TEXT) {
            let text = suggestion.trim_end_matches('\n');
            parts.push(markdown::suggestion(&if text.is_empty() { String::new() } else { format!("{text}\n") }));
        }
        parts.join("\n\n")
    }

    fn line_of_body(&self) -> String {
        let place = format!("{}:{}", self.path, self.line);
        let reason = inline(&cut_marked(self.reason.trim(), 500));
        format!("- {} {}: {} {reason}", self.severity.mark(), code(&place), inline(&cut_marked(self.title.trim(), 300)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "diff --git a/src/a.rs b/src/a.rs\n--- a/src/a.rs\n+++ b/src/a.rs\n@@ -1,3 +1,4 @@\n one\n-two\n\
        +zwei\n+drei\n three\n@@ -10 +11,2 @@ fn x\n ten\n+eleven\n";

    fn finding(line: i64, end_line: Option<i64>, suggestion: Option<&str>) -> Finding {
        Finding {
            path: "src/a.rs".into(),
            line,
            end_line,
            severity: Severity::Low,
            rule: format!("rule-{line}"),
            title: "Wrong **word**".into(),
            reason: "It is *wrong*.".into(),
            suggestion: suggestion.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn what_is_not_on_the_diff_goes_into_the_body() {
        let findings = vec![
            finding(2, Some(3), Some("zwei\n```\n")),
            finding(4, Some(11), None),
            finding(99, None, None),
            Finding { severity: Severity::High, ..finding(12, None, None) },
        ];
        let (diff, ledger) = (Diff::read(DIFF), Ledger::default());
        let written = write("ours", Findings { findings, ..Findings::default() }, &diff, &ledger, &["big.sql".into()]);
        let places: Vec<(Option<i64>, i64)> = written.comments.iter().map(|one| (one.start_line, one.line)).collect();
        assert_eq!(places, [(None, 12), (Some(2), 3)], "the gravest first");
        let body = &written.comments[1].body;
        assert!(body.contains("````suggestion\nzwei\n```\n````\n\n<!-- hireling:remark="), "{body}");
        assert!(written.body.contains("what it looked up: `big.sql`."), "{}", written.body);
        assert!(
            written.body.contains("`ours` has 4 remarks.") && written.body.contains("`src/a.rs:99`"),
            "{}",
            written.body
        );
        let again = Ledger { since: Some("0123456789".into()), ..Ledger::default() };
        for (ledger, body) in [
            (ledger, "`ours` found nothing to say."),
            (again, "`ours` found nothing to say on what came since 0123456."),
        ] {
            assert_eq!(write("ours", Findings::default(), &diff, &ledger, &[]).body, body);
        }
    }

    #[test]
    fn the_answer_is_found_in_what_was_said() {
        let good =
            r#"{"summary":"Fine.","findings":[{"path":"a","line":1,"severity":"high","title":"x {\"findings\":[]}"}]}"#;
        for text in [
            good.to_owned(),
            format!("I looked.\n```json\n{good}\n```\nThat is all."),
            format!("{{}} {{\"findings\":[]}} {good}"),
        ] {
            assert_eq!(read(&text).unwrap().findings.len(), 1, "{text}");
        }
        for bad in ["", "All is well.", "{}", r#"{"findings":[{"path":"a"}]}"#, "{{{{"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
