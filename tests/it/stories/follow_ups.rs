//! A conversation goes on: on the same branch and pull request, with what was said, after a time-out
//! and in a sandbox that was kept.

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

/// Adds a line to a file, and keeps what it was told beside it.
const ADDS: &str =
    "cat > \"prompt-$(ls | wc -l).txt\"; echo line >> work.txt; echo \"There are $(wc -l < work.txt) now.\"";

async fn world_that_adds(engine: Engine) -> Option<World> {
    Builder::new(engine).agent("ours", ADDS).start().await
}

async fn told(world: &World, branch: &str) -> String {
    world.github.diff(REPO, "main", branch).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_command_goes_on_with_the_first_ones_branch() {
    for engine in Engine::both() {
        let Some(world) = world_that_adds(engine).await else { continue };
        let first = world.comment(PERSON, "/agent ours add a line").await;
        assert_eq!(world.ended(first).await, "rocket");
        let pull = world.only_pull().await;
        let second = world.comment(PERSON, "/agent ours Now another one").await;
        assert_eq!(world.ended(second).await, "rocket", "{}", world.account().await);
        assert_eq!(world.only_pull().await, pull, "the same pull request");
        let answer = world.answer(1).await;
        assert!(answer.contains(&format!("went on with #{}", pull.number)), "{answer}");
        let diff = told(&world, &pull.head).await;
        assert!(diff.contains("+line\n+line\n"), "{diff}");
        // A custom agent remembers nothing: it is told.
        assert!(diff.contains("What was asked then, by maria:\n+```\n+add a line\n+```"), "{diff}");
        assert!(diff.contains("What the agent said then, by ours:\n+```\n+There are 1 now."), "{diff}");
        let message = world.github.message(REPO, &pull.head).await.unwrap();
        assert!(message.starts_with("Now another one"), "{message}");

        let third = world.comment(PERSON, "/agent ours --new start over").await;
        assert_eq!(world.ended(third).await, "rocket");
        let pulls = world.pulls().await;
        assert_eq!(pulls.len(), 2);
        let diff = told(&world, &pulls[1].head).await;
        assert_eq!(diff.matches("+line\n").count(), 1, "{diff}");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_was_merged_or_closed_is_not_gone_on_with() {
    let world = world_that_adds(Engine::Sqlite).await.unwrap();
    let first = world.comment(PERSON, "/agent ours add a line").await;
    assert_eq!(world.ended(first).await, "rocket");
    world.github.close_pull(REPO, world.only_pull().await.number).await;
    let second = world.comment(PERSON, "/agent ours once more").await;
    assert_eq!(world.ended(second).await, "rocket");
    let pulls = world.pulls().await;
    assert_eq!(pulls.len(), 2);
    let diff = told(&world, &pulls[1].head).await;
    assert!(diff.matches("+line\n").count() == 1 && diff.contains("What was asked then, by maria"), "{diff}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_time_out_continue_picks_up_the_saved_work() {
    let script =
        "if [ -e half.txt ]; then echo whole > whole.txt; echo Finished.; else echo half > half.txt; sleep 60; fi";
    let world = Builder::new(Engine::Sqlite).agent("ours", script).start().await.unwrap();
    world.comment(PERSON, "/agent continue").await;
    assert!(world.answer(0).await.contains("nothing to go on with"));
    let first = world.comment(PERSON, "/agent ours --timeout 5s fix it").await;
    assert_eq!(world.ended(first).await, "confused");
    let answer = world.answer(1).await;
    assert!(answer.contains("The work so far is on the branch") && answer.contains("`/agent continue`"), "{answer}");
    assert!(world.pulls().await.is_empty());
    let second = world.comment(PERSON, "/agent continue").await;
    assert_eq!(world.ended(second).await, "rocket", "{}", world.account().await);
    let pull = world.only_pull().await;
    let diff = told(&world, &pull.head).await;
    assert!(diff.contains("+half") && diff.contains("+whole"), "{diff}");
    assert_eq!(world.branches().await, [pull.head]);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_same_prompt() {
    let world =
        Builder::new(Engine::Sqlite).agent("ours", "cat > prompt.txt; echo $$ > pid.txt").start().await.unwrap();
    let first = world.comment(PERSON, "/agent ours --branch my-fix fix it").await;
    assert_eq!(world.ended(first).await, "rocket");
    world.github.comment(REPO, world.issue, "eve", "A later thought").await;
    world.github.push_file(REPO, "main", "later.txt", "later\n").await.unwrap();
    let again = world.comment(PERSON, "/agent retry").await;
    assert_eq!(world.ended(again).await, "rocket", "{}", world.account().await);
    let pulls = world.pulls().await;
    assert_eq!(pulls.len(), 2);
    let prompt = |diff: String| {
        let start = diff.find("+++ b/prompt.txt").unwrap();
        diff[start..].to_owned()
    };
    let (one, two) = (told(&world, &pulls[0].head).await, told(&world, &pulls[1].head).await);
    assert!(prompt(one.clone()).contains("fix it"));
    assert_eq!(prompt(one), prompt(two));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_by_somebody_else_is_not_run_over() {
    let script = "echo line >> work.txt; echo up > ../scratch/up; while [ ! -s ../scratch/go ]; do sleep 0.05; done";
    let world = Builder::new(Engine::Sqlite).agent("ours", script).start().await.unwrap();
    let first = world.comment(PERSON, "/agent ours add a line").await;
    let (scratch, _) = world.scratch_file("up").await;
    std::fs::write(scratch.join("go"), "on").unwrap();
    assert_eq!(world.ended(first).await, "rocket");
    let pull = world.only_pull().await;
    world.until("the first sandbox is gone", async |_| (!scratch.exists()).then_some(())).await;
    let second = world.comment(PERSON, "/agent ours and another").await;
    let (scratch, _) = world.scratch_file("up").await;
    let theirs = world.github.push_file(REPO, &pull.head, "theirs.txt", "mine\n").await.unwrap();
    std::fs::write(scratch.join("go"), "on").unwrap();
    assert_eq!(world.ended(second).await, "rocket");
    let answer = world.answer(1).await;
    assert!(answer.contains("Somebody pushed to the branch") && answer.contains("opened #"), "{answer}");
    let branches = world.github.branches(REPO).await.unwrap();
    assert!(branches.contains(&(pull.head.clone(), theirs)), "their push stands: {branches:?}");
    assert_eq!(world.pulls().await.len(), 2);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_sandbox_is_worked_in_again() {
    let script = "echo more >> ../home/memory; cp ../home/memory memory.txt; echo line >> work.txt";
    let world = Builder::new(Engine::Sqlite).agent("ours", script).on_vercel().await.start().await.unwrap();
    let first = world.comment(PERSON, "/agent ours --keep-alive add a line").await;
    assert_eq!(world.ended(first).await, "rocket", "{}", world.account().await);
    let sandbox = world.vercel().alive().await;
    assert_eq!(sandbox.len(), 1);
    let second = world.comment(PERSON, "/agent ours and another").await;
    assert_eq!(world.ended(second).await, "rocket", "{}", world.account().await);
    let diff = told(&world, &world.only_pull().await.head).await;
    assert!(diff.contains("+more\n+more\n") && diff.contains("+line\n+line\n"), "{diff}");
    assert_eq!(world.vercel().alive().await, sandbox, "it stays for the rest of its time");
    assert!(world.answer(1).await.contains("The sandbox keeps running"));
    world.comment(PERSON, "/agent cancel").await;
    world.sandboxes_deleted().await;
    // Gone as it is, the next one is a new one.
    let third = world.comment(PERSON, "/agent ours a third").await;
    assert_eq!(world.ended(third).await, "rocket");
    let diff = told(&world, &world.only_pull().await.head).await;
    assert!(diff.contains("+line\n+line\n+line\n"), "{diff}");
    world.finish().await;
}

/// A question in between changes nothing, and the next command still finds the pull request.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_in_between_does_not_lose_the_branch() {
    let script = "sed -n '/^The task, from/,/^What/p;/goes on with/q' > ../scratch/p; \
        grep -q '^only a question' ../scratch/p || echo line >> work.txt; echo Yes.";
    let world = Builder::new(Engine::Sqlite).agent("ours", script).start().await.unwrap();
    for (request, reaction) in [("add a line", "rocket"), ("only a question", "+1"), ("add another", "rocket")] {
        let comment = world.comment(PERSON, &format!("/agent ours {request}")).await;
        assert_eq!(world.ended(comment).await, reaction, "{request}\n{}", world.account().await);
    }
    let diff = told(&world, &world.only_pull().await.head).await;
    assert!(diff.contains("+line\n+line\n"), "{diff}");
    world.finish().await;
}

/// What another person's agent may have left running sees nothing of this one's.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_sandbox_is_its_persons_own_and_is_cleaned() {
    let script =
        "echo more >> ../home/memory; cp ../home/memory memory.txt; date +%s%N > \"new-$(wc -l < ../home/memory).txt\"";
    let world = Builder::new(Engine::Sqlite).agent("ours", script).on_vercel().await.start().await.unwrap();
    world.github.set_permission(REPO, "otto", "write").await;
    let first = world.comment(PERSON, "/agent ours --keep-alive add a line").await;
    assert_eq!(world.ended(first).await, "rocket", "{}", world.account().await);
    world.github.close_pull(REPO, world.only_pull().await.number).await;
    let again = world.comment(PERSON, "/agent ours once more").await;
    assert_eq!(world.ended(again).await, "rocket", "{}", world.account().await);
    let diff = told(&world, &world.pulls().await[1].head).await;
    assert!(diff.contains("+more\n+more\n") && diff.contains("new-2.txt"), "{diff}");
    assert!(!diff.contains("new-1.txt"), "what was rejected is not published again: {diff}");
    world.comment(PERSON, "/agent cancel").await;
    world.sandboxes_deleted().await;
    let kept = world.comment(PERSON, "/agent ours --keep-alive --new a third").await;
    assert_eq!(world.ended(kept).await, "rocket");
    world.comment(PERSON, "/agent cancel").await;
    world.sandboxes_deleted().await;
    let made = |world: &World| world.vercel().calls().iter().filter(|call| call.route.contains("/api/v3/")).count();
    let before = made(&world);
    let theirs = world.comment("otto", "/agent ours and mine").await;
    assert_eq!(world.ended(theirs).await, "rocket");
    assert_eq!(made(&world), before + 1);
    world.finish().await;
}

/// Bytes that no database takes must not keep a task from its end.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_a_nul_ends_all_the_same() {
    for engine in Engine::both() {
        let script = "echo x > fixed.txt; printf 'Done\\000 and out.\\n'";
        let Some(world) = Builder::new(engine).agent("ours", script).start().await else { continue };
        let first = world.comment(PERSON, "/agent ours fix it").await;
        assert_eq!(world.ended(first).await, "rocket");
        let second = world.comment(PERSON, "/agent ours again").await;
        world.ended(second).await;
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_two_agents_is_two_tasks() {
    let world = Builder::new(Engine::Sqlite).agent("ours", ADDS).agent("theirs", ADDS).start().await.unwrap();
    let first = world.comment(PERSON, "/agent ours,theirs add a line").await;
    assert_eq!(world.ended(first).await, "rocket");
    world.settled().await;
    let again = world.comment(PERSON, "/agent ours,theirs retry").await;
    assert_eq!(world.ended(again).await, "rocket", "{}", world.account().await);
    world.settled().await;
    let mut agents: Vec<String> = world.tasks().await.into_iter().map(|task| task.agent).collect();
    agents.sort();
    assert_eq!(agents, ["ours", "ours", "theirs", "theirs"]);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_takes_no_options_that_it_would_not_heed() {
    let world = world_that_adds(Engine::Sqlite).await.unwrap();
    let first = world.comment(PERSON, "/agent ours add a line").await;
    assert_eq!(world.ended(first).await, "rocket");
    for text in ["/agent retry --timeout 5m", "/agent retry but make it blue"] {
        let comment = world.comment(PERSON, text).await;
        world
            .until("it is refused", async |world| (world.reactions(comment).await == ["confused"]).then_some(()))
            .await;
    }
    assert!(world.answer(1).await.contains("repeats the last task as it was"));
    assert_eq!(world.tasks().await.len(), 1);
    world.finish().await;
}
