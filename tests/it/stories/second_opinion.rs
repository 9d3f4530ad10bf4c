//! `--review-by`: another agent looks at the work before its pull request leaves draft.

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

const LOOKS: &str = "cat > ../scratch/told; git diff --stat HEAD; git status --short; echo 'fixed.txt:1 has a typo.'";

async fn answer_of(world: &World, comment: i64) -> String {
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    world.only_answer().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_reviews_the_first_ones_pull_request() {
    for engine in Engine::both() {
        let Some(world) = Builder::new(engine).agent("theirs", LOOKS).start().await else { continue };
        let comment = world.comment(PERSON, "/agent ours --review-by theirs fix it").await;
        let answer = answer_of(&world, comment).await;
        let pull = world.only_pull().await;
        assert!(!pull.draft, "it left draft");
        let reviews = world.github.reviews().await;
        assert_eq!(reviews.len(), 1);
        assert!(
            reviews[0].body.contains("**Second opinion** of `theirs` on the work of `ours`"),
            "{}",
            reviews[0].body
        );
        assert!(reviews[0].body.contains("> fixed.txt:1 has a typo."), "{}", reviews[0].body);
        let head = world.github.branches(REPO).await.unwrap().into_iter().find(|(name, _)| *name == pull.head);
        assert_eq!((reviews[0].pull, &reviews[0].commit), (pull.number, &head.unwrap().1));
        assert!(answer.contains("reviewed by `theirs`"), "{answer}");
        let log = world.log_of(&world.last_task().await.id).await;
        assert!(log.contains("theirs reviews the changes.") && log.contains("fixed.txt:1 has a typo."), "{log}");
        // It opened as a draft, and became ready after the review.
        let calls = world.github.calls().await;
        let at =
            |path: &str| calls.iter().rposition(|call| call.method == "POST" && call.path.ends_with(path)).unwrap();
        assert!(at("/pulls") < at("/reviews") && at("/reviews") < at("/graphql"));
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reviewer_that_fails_leaves_a_draft_and_says_so() {
    let world = Builder::new(Engine::Sqlite).agent("theirs", "echo oh no >&2; exit 3").start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours --review-by theirs fix it").await;
    let answer = answer_of(&world, comment).await;
    assert!(answer.contains("There is no second opinion of theirs, so the pull request stays a draft."), "{answer}");
    assert!(world.only_pull().await.draft);
    assert!(world.github.reviews().await.is_empty());
    let unknown = world.comment(PERSON, "/agent ours --review-by cursor fix it").await;
    assert!(world.answer(1).await.contains("There is no key for cursor yet."));
    assert_eq!(world.reactions(unknown).await, ["confused"]);
    world.finish().await;
}

/// The service dies while the reviewer looks: the next process reads on, and there is one review.
#[tokio::test(flavor = "multi_thread")]
async fn a_review_outlives_the_service() {
    for engine in Engine::both() {
        let script = "echo up > ../scratch/up; while [ ! -s ../scratch/go ]; do sleep 0.05; done; echo 'All good.'";
        let Some(mut world) = Builder::new(engine).agent("theirs", script).start().await else { continue };
        let comment = world.comment(PERSON, "/agent ours --review-by theirs fix it").await;
        let (scratch, _) = world.scratch_file("up").await;
        world.crash().await;
        std::fs::write(scratch.join("go"), "on").unwrap();
        world.restart().await;
        answer_of(&world, comment).await;
        assert!(!world.only_pull().await.draft);
        let reviews = world.github.reviews().await;
        assert!(reviews.len() == 1 && reviews[0].body.contains("> All good."), "{reviews:?}");
        world.finish().await;
    }
}
