//! Every call fails in turn, and the service dies before and after each.

use super::*;

/// The kinds of calls that a run makes.
const KINDS: [&str; 9] = [
    "POST sandboxes",
    "POST fs/write",
    "POST cmd",
    "GET cmd",
    "GET cmd/{id}",
    "GET logs",
    "POST fs/read",
    "POST stop",
    "DELETE {name}",
];

fn assert_each_kind_struck(struck: &[String], but: &[&str]) {
    for kind in KINDS.iter().filter(|kind| !but.contains(kind)) {
        assert!(struck.iter().any(|one| one == kind), "no {kind} among {struck:?}");
    }
}

/// Every call of a run fails in turn, in each way, before and after its effect.
async fn each_call_fails(kind: Kind, when: When, times: usize) {
    let mut world = world(Builder::new(Engine::Sqlite).agent("ours", COUNTING)).await;
    let mut struck = Vec::new();
    for nth in 0.. {
        let fault = Fault { route: "", nth, times, when, kind: kind.clone() };
        if !worked_in_spite_of(&mut world, fault, &mut struck).await {
            break;
        }
    }
    // A run that looks less often for its agent's end makes fewer calls: the last one may have been passed over.
    if !struck.iter().any(|one| one == "DELETE {name}") {
        let fault = Fault::first("DELETE *", times, when, kind);
        assert!(worked_in_spite_of(&mut world, fault, &mut struck).await);
    }
    // The list of commands is asked for only when an answer got lost.
    assert_each_kind_struck(&struck, &["GET cmd"]);
    world.finish().await;
}

/// One run with a fault. False: it did not come that far.
async fn worked_in_spite_of(world: &mut World, fault: Fault, struck: &mut Vec<String>) -> bool {
    let what = format!("{fault:?}");
    world.next_issue().await;
    world.vercel().set_faults(vec![fault]);
    let comment = world.comment(PERSON, "/agent ours count").await;
    assert_eq!(world.ended(comment).await, "rocket", "{what}\n{}", world.account().await);
    assert_worked_once(world, &what).await;
    world.sandboxes_deleted().await;
    struck.extend(world.vercel().struck());
    !world.vercel().struck().is_empty()
}

macro_rules! each_call_fails {
    ($($name:ident: $kind:expr, $when:expr, $times:expr;)*) => {
        mod each_call_fails {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                each_call_fails($kind, $when, $times).await;
            })*
        }
    };
}

each_call_fails! {
    by_a_limit: Kind::Status(429, "rate_limited", Some(0)), When::Before, 1;
    by_a_limit_of_a_second: Kind::Status(429, "rate_limited", Some(1)), When::Before, 1;
    by_a_limit_without_a_time: Kind::Status(429, "rate_limited", None), When::Before, 1;
    by_an_error: Kind::Status(500, "internal_server_error", None), When::Before, 1;
    by_errors_in_a_row: Kind::Status(503, "internal_server_error", None), When::Before, 4;
    by_an_error_after_the_effect: Kind::Status(502, "internal_server_error", None), When::After, 1;
    by_a_page: Kind::Html(503), When::Before, 1;
    by_an_empty_answer: Kind::Empty(502), When::Before, 1;
    by_a_reset: Kind::Reset, When::Before, 1;
    by_a_silence: Kind::Stall(std::time::Duration::from_millis(300)), When::Before, 1;
    by_a_reset_after_the_effect: Kind::Reset, When::After, 1;
    by_another_type: Kind::WrongType, When::After, 1;
    by_half_an_answer: Kind::Truncated, When::After, 1;
}

/// The service dies before and after each call to Vercel: the agent is started once, the log is
/// whole, one sandbox at most is alive.
async fn killed_at_each_call(engine: Engine, when: When) {
    let Some(mut world) = Builder::new(engine).agent("ours", COUNTING).on_vercel().await.start().await else { return };
    let mut struck = Vec::new();
    for nth in 0.. {
        world.next_issue().await;
        world.vercel().set_faults(vec![Fault { route: "", nth, times: 1, when, kind: Kind::Hold }]);
        let comment = world.comment(PERSON, "/agent ours count").await;
        let over = async {
            world.settled().await;
            world.sandboxes_deleted().await;
        };
        let held = tokio::select! {
            () = world.vercel().held() => true,
            () = over => false,
        };
        if !held {
            break;
        }
        struck.extend(world.vercel().struck());
        world.crash().await;
        world.vercel().set_faults(Vec::new());
        world.restart().await;
        world.settled().await;
        let what = format!("{engine:?}, killed {when:?} call {nth} ({:?})", struck.last());
        assert_eq!(world.reactions(comment).await, ["rocket"], "{what}\n{}", world.account().await);
        assert_eq!(world.answers().await.len(), 1, "{what}");
        assert_worked_once(&world, &what).await;
        world.sandboxes_deleted().await;
    }
    assert_each_kind_struck(&struck, &["GET cmd"]);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_each_call_on_sqlite() {
    killed_at_each_call(Engine::Sqlite, When::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_each_call_on_sqlite() {
    killed_at_each_call(Engine::Sqlite, When::After).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_each_call_on_postgres() {
    killed_at_each_call(Engine::Postgres, When::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_each_call_on_postgres() {
    killed_at_each_call(Engine::Postgres, When::After).await;
}
