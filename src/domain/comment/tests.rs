use super::*;
use crate::domain::agent_stream::Usage;
use crate::domain::change::HeldBack;
use crate::domain::command::Options;
use crate::domain::ids::*;
use crate::domain::prompt::Inputs;
use crate::domain::run::{PullLink, Spent};
use crate::domain::task::{Requester, Subject, TaskState, Thread};

fn task() -> Task {
    Task {
        id: TaskId("0190aaaabbbbcccc1111222233334444".into()),
        delivery: DeliveryId("d".into()),
        thread: Thread {
            installation: InstallationId(5),
            repository: RepositoryId(11),
            name: RepoName { owner: "acme".into(), name: "shop".into() },
            issue: IssueNumber(7),
            is_pull: false,
        },
        subject: Subject::IssueComment(CommentId(99)),
        triggered_at: Millis(0),
        requester: Requester { id: UserId(1), login: "maria".into() },
        agent: "claude".into(),
        options: Options::default(),
        request: "fix the button".into(),
        state: TaskState::Running,
        reason: String::new(),
        created_at: Millis(0),
        started_at: None,
        finished_at: None,
        cancelled_by: None,
        deaths: 0,
    }
}

fn show(facts: &RunFacts, step: Step) -> String {
    let task = task();
    StatusComment {
        task: &task,
        facts,
        step,
        elapsed: Duration::from_secs(125),
        log_url: "https://h.test/tasks/t1",
        hidden_removed: 0,
    }
    .markdown()
}

fn ended(outcome: Outcome, reason: &str) -> RunFacts {
    let ending = Ending { outcome, reason: reason.into(), detail: String::new() };
    RunFacts { ending: Some(ending), ..RunFacts::default() }
}

#[test]
fn while_it_runs_the_comment_is_a_checklist() {
    insta::assert_snapshot!(show(&RunFacts::default(), Step::Agent), @r"
    <!-- hireling:task=0190aaaabbbbcccc1111222233334444 -->
    **`claude` is working** on a request of maria: fix the button

    - [x] Read the issue
    - [x] Start a sandbox
    - [x] Fetch the code and the agent
    - [ ] Work …
    - [ ] Collect the changes
    - [ ] Publish

    2 min 5 s so far · [live log](https://h.test/tasks/t1) · to stop it, comment `/agent cancel`
    ");
}

#[test]
fn what_the_agent_is_at_is_part_of_the_checklist() {
    let facts = RunFacts {
        plan: vec!["[x] Find the button".into(), "[ ] Align it".into()],
        calls: 3,
        last_call: Some("Bash: cargo test".into()),
        spent: Some(Spent { tokens: 4_200, sum: Some(Usd::from_cents(7)), is_estimate: false }),
        ..RunFacts::default()
    };
    let text = show(&facts, Step::Agent);
    let work = text.split("- [ ] Work").nth(1).unwrap();
    assert!(
        work.starts_with(
            " … 3 calls of tools, now `Bash: cargo test`\n  - [x] Find the button\n  - [ ] Align it\n- [ ]"
        ),
        "{work}"
    );
    assert!(work.contains("2 min 5 s so far · cost $0.07 by list price (4200 tokens) · [live log]"), "{work}");
}

#[test]
fn agents_that_were_asked_the_same_are_named() {
    let beside = [
        Beside { agent: "codex".into(), pull: Some(12), url: "https://h.test/tasks/t2".into() },
        Beside { agent: "gemini".into(), pull: None, url: "https://h.test/tasks/t3".into() },
    ];
    let text = pull_text(&task(), &Inputs::default(), &RunFacts::default(), "https://h.test/tasks/t1", &beside);
    let line = "The same was asked of `codex` (#12), `gemini` ([its task](https://h.test/tasks/t3)).";
    assert!(text.body.contains(line), "{}", text.body);
}

#[test]
fn a_success_names_the_pull_request_and_the_cost() {
    let facts = RunFacts {
        pull: Some(PullLink { number: 8, url: String::new() }),
        files_changed: 1,
        agent_text: Some("Aligned it. @octocat".into()),
        model: Some("claude-sonnet-4-5".into()),
        usage: Some(Usage { input_tokens: 100, output_tokens: 20, cost_usd: Some(0.034) }),
        key_owner: Some("key of this instance".into()),
        held_back: vec![HeldBack {
            path: ".github/workflows/x.yml".into(),
            reason: "workflow files are changed by people only".into(),
        }],
        ..ended(Outcome::Succeeded, "")
    };
    insta::assert_snapshot!(show(&facts, Step::Settle).replace('\u{200B}', "(break)"), @r"
    <!-- hireling:task=0190aaaabbbbcccc1111222233334444 -->
    🚀 **Done.** `claude` opened #8 with 1 changed file.

    > Aligned it. @(break)octocat

    > [!WARNING]
    > 1 file held back:
    > - `.github/workflows/x.yml`: workflow files are changed by people only

    `claude` · `claude-sonnet-4-5` · for maria · 2 min 5 s · cost $0.03 as the agent says (120 tokens) · key of this instance · [log](https://h.test/tasks/t1)

    To go on, comment `/agent claude` and what should be different.
    ");
}

#[test]
fn each_outcome_has_its_own_sentence() {
    let mut sentences: Vec<String> = Outcome::ALL
        .map(|outcome| show(&ended(outcome, "because"), Step::Settle))
        .map(|text| text.lines().nth(1).unwrap_or_default().to_owned())
        .to_vec();
    sentences.sort();
    sentences.dedup();
    assert_eq!(sentences.len(), Outcome::ALL.len());
}

#[test]
fn only_our_own_words_close_an_issue() {
    let inputs = Inputs { title: "Fixes #1: broken @octocat".into(), ..Inputs::default() };
    let facts = RunFacts { agent_text: Some("closes #2".into()), ..RunFacts::default() };
    let text = pull_text(&task(), &inputs, &facts, "https://h.test/tasks/t1", &[]);
    assert_eq!(text.title.replace('\u{200B}', "|"), "Fixes #|1: broken @|octocat");
    assert_eq!(text.body.matches("#7").count(), 1);
    assert!(!text.body.contains("#2"));
    let message = commit_message(&task(), &inputs, "https://github.com");
    assert!(message.body.ends_with(
        "Co-authored-by: maria <1+maria@users.noreply.github.com>\nHireling-Task: 0190aaaabbbbcccc1111222233334444"
    ));
    assert!(!message.headline.contains("#1"));
}

#[test]
fn the_branch_is_named_after_issue_and_task() {
    assert_eq!(task().branch("Checkout Button!"), "agent/7-checkout-button-3334444");
}
