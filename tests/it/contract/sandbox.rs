//! One suite for every sandbox, with each kind of isolation that works here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use hireling::adapters::sandbox::local::{Isolation, LocalSandbox};
use hireling::adapters::sandbox::vercel::{Account, Vercel};
use hireling::adapters::system::SystemClock;
use hireling::domain::agent_stream::Exit;
use hireling::domain::ids::TaskId;
use hireling::domain::network::Network;
use hireling::domain::run::SandboxId;
use hireling::domain::secret::Secret;
use hireling::ports::sandbox::{
    CommandId, CommandSpec, CommandStatus, Fate, KEPT_BYTES, OutputKind, Sandbox, SandboxError, SandboxSpec,
};

use crate::double::{self, Double};

/// One sandbox to try things in.
struct Bench {
    sandbox: Box<dyn Sandbox>,
    id: SandboxId,
    kind: Kind,
}

enum Kind {
    Local { root: tempfile::TempDir, isolation: Isolation },
    Vercel(Double),
}

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_hireling").into()
}

/// A client as another process of the service would have it.
fn client(kind: &Kind) -> Box<dyn Sandbox> {
    match kind {
        Kind::Local { root, isolation } => {
            Box::new(LocalSandbox::with_isolation(root.path(), program(), *isolation).unwrap())
        }
        Kind::Vercel(double) => Box::new(Vercel::new(account(double), Arc::new(SystemClock)).unwrap()),
    }
}

fn account(double: &Double) -> Account {
    Account {
        base_url: double.url.clone(),
        token: Secret::new(double::TOKEN),
        team: double::TEAM.to_owned(),
        project: double::PROJECT.to_owned(),
    }
}

fn spec(name: &str) -> SandboxSpec {
    SandboxSpec {
        name: name.into(),
        task: TaskId("task-1".into()),
        lifetime: Duration::from_secs(600),
        network: Network::Open,
        ports: vec![3000],
        snapshot: None,
    }
}

async fn all() -> Vec<Bench> {
    let mut kinds = vec![Kind::Vercel(Double::start().await)];
    for isolation in [Isolation::None, Isolation::Bubblewrap] {
        if isolation == Isolation::Bubblewrap && Isolation::probe() == Isolation::None {
            crate::support::skipped("sandboxes under bubblewrap, because it does not work here");
            continue;
        }
        kinds.push(Kind::Local { root: tempfile::tempdir().unwrap(), isolation });
    }
    let mut benches = Vec::new();
    for kind in kinds {
        let sandbox = client(&kind);
        let made = sandbox.create(&spec("run-1")).await.unwrap();
        let again = sandbox.create(&spec("run-1")).await.unwrap();
        assert_eq!(again.id, made.id, "the same name is the same sandbox");
        benches.push(Bench { sandbox, id: made.id, kind });
    }
    benches
}

fn command(name: &str, argv: &[&str]) -> CommandSpec {
    CommandSpec {
        name: name.into(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: Vec::new(),
        stdin: None,
        stdout: None,
        timeout: Duration::from_secs(30),
    }
}

impl Bench {
    /// Runs a command to its end: exit, output, errors.
    async fn run(&self, spec: &CommandSpec) -> (CommandStatus, String, String) {
        let command = self.sandbox.start(&self.id, spec).await.unwrap();
        self.read(&command).await
    }

    async fn read(&self, command: &CommandId) -> (CommandStatus, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = self.sandbox.output(&self.id, command);
        while let Some(piece) = output.next().await {
            let piece = piece.unwrap();
            match piece.kind {
                OutputKind::Stdout => out.extend(piece.bytes),
                OutputKind::Stderr => err.extend(piece.bytes),
            }
        }
        drop(output);
        let status = self.sandbox.status(&self.id, command).await.unwrap();
        (status, String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
    }
}

#[tokio::test]
async fn a_command_runs_in_the_project_with_only_its_own_environment() {
    for bench in all().await {
        let mut spec = command("env", &["env"]);
        spec.env = vec![("MINE".into(), Secret::new("yes"))];
        let (status, out, _) = bench.run(&spec).await;
        assert_eq!(status, CommandStatus::Ended(Exit::Code(0)));
        let mut names: Vec<&str> = out.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        // USER is a word of Vercel's machine.
        names.retain(|name| !["PWD", "SHLVL", "_", "OLDPWD", "USER"].contains(name));
        assert_eq!(names, ["HOME", "LANG", "MINE", "PATH", "TMPDIR"]);
        let home = out.lines().find_map(|line| line.strip_prefix("HOME=")).unwrap();
        assert!(out.contains(&format!("PATH={home}/.local/bin:")), "{out}");
        let (_, out, _) = bench.run(&command("pwd", &["pwd"])).await;
        assert_eq!(out.trim(), home.replace("/home", "/project"));
        let (_, out, _) = bench.run(&command("ls", &["ls", "-A", ".", "../scratch"])).await;
        assert_eq!(out, ".:\n\n../scratch:\n", "both are empty");
    }
}

#[tokio::test]
async fn arguments_are_not_read_by_a_shell() {
    for bench in all().await {
        let (_, out, _) =
            bench.run(&command("echo", &["printf", "%s|", "$(id)", "`id`", "a b", ";", "--", "'\""])).await;
        assert_eq!(out, "$(id)|`id`|a b|;|--|'\"|");
    }
}

#[tokio::test]
async fn starting_a_command_again_finds_the_first() {
    for bench in all().await {
        let spec = command("once", &["sh", "-c", "echo x >> count; cat count"]);
        bench.run(&spec).await;
        let (_, out, _) = bench.run(&spec).await;
        assert_eq!(out, "x\n");
        let (_, out, _) = bench.run(&command("twice", &["cat", "count"])).await;
        assert_eq!(out, "x\n");
    }
}

#[tokio::test]
async fn another_service_reads_the_output_from_the_start() {
    for bench in all().await {
        let slow = command("slow", &["sh", "-c", "echo one; sleep 0.3; echo two"]);
        let started = bench.sandbox.start(&bench.id, &slow).await.unwrap();
        let again = Bench { sandbox: client(&bench.kind), id: bench.id.clone(), kind: bench.kind };
        assert_eq!(again.sandbox.find(&again.id, "slow").await.unwrap(), Some(started.clone()));
        assert_eq!(again.sandbox.find(&again.id, "never").await.unwrap(), None);
        assert_eq!(again.sandbox.start(&again.id, &slow).await.unwrap(), started);
        let (status, out, _) = again.read(&started).await;
        assert_eq!((status, out.as_str()), (CommandStatus::Ended(Exit::Code(0)), "one\ntwo\n"));
    }
}

#[tokio::test]
async fn a_short_command_is_run_in_one_go_and_only_once() {
    for bench in all().await {
        let spec = command("once", &["sh", "-c", "echo x >> count; cat count; echo bad >&2; exit 4"]);
        for _ in 0..2 {
            let finished = bench.sandbox.run(&bench.id, &spec).await.unwrap();
            assert_eq!((finished.exit, finished.stdout.as_slice()), (Exit::Code(4), &b"x\n"[..]));
            assert!(String::from_utf8_lossy(&finished.tail).contains("bad"));
        }
        let lines = command("lines", &["seq", "1", "40000"]);
        let finished = bench.sandbox.run(&bench.id, &lines).await.unwrap();
        assert_eq!((finished.stdout.len(), finished.tail.len()), (KEPT_BYTES, KEPT_BYTES));
        assert!(finished.stdout.starts_with(b"1\n2\n") && finished.tail.ends_with(b"39999\n40000\n"));
    }
}

#[tokio::test]
async fn input_and_output_go_by_files() {
    for bench in all().await {
        let hostile: Vec<u8> = (0..=255).collect();
        bench.sandbox.write_file(&bench.id, "in", &hostile).await.unwrap();
        let mut spec = command("copy", &["cat"]);
        spec.stdin = Some("in".into());
        spec.stdout = Some("out".into());
        let (status, out, _) = bench.run(&spec).await;
        assert_eq!((status, out.as_str()), (CommandStatus::Ended(Exit::Code(0)), ""));
        assert_eq!(bench.sandbox.read_file(&bench.id, "out", 256).await.unwrap(), hostile);
        let large = bench.sandbox.read_file(&bench.id, "out", 255).await;
        assert!(matches!(large, Err(SandboxError::TooLarge { limit: 255 })));
        let outside = bench.sandbox.read_file(&bench.id, "../../etc/passwd", 100).await;
        assert!(matches!(outside, Err(SandboxError::Refused(_))));
    }
}

#[tokio::test]
async fn a_link_that_the_agent_leaves_is_not_followed() {
    for bench in all().await {
        let link = "cd ../scratch; ln -s /etc/hostname read; ln -s victim write; echo safe > victim";
        bench.run(&command("link", &["sh", "-c", link])).await;
        assert!(bench.sandbox.read_file(&bench.id, "read", 1000).await.is_err());
        bench.sandbox.write_file(&bench.id, "write", b"new").await.unwrap();
        assert_eq!(bench.sandbox.read_file(&bench.id, "victim", 100).await.unwrap(), b"safe\n");
    }
}

#[tokio::test]
async fn how_a_command_ends_is_told() {
    for bench in all().await {
        let (status, ..) = bench.run(&command("three", &["sh", "-c", "exit 3"])).await;
        assert_eq!(status, CommandStatus::Ended(Exit::Code(3)));
        let (status, _, err) = bench.run(&command("absent", &["no-such-program"])).await;
        assert!(matches!(status, CommandStatus::Ended(Exit::Code(code)) if code != 0), "{status:?}");
        assert!(err.contains("no-such-program"), "{err}");
        let mut spec = command("late", &["sh", "-c", "trap '' TERM; sleep 60"]);
        spec.timeout = Duration::from_millis(300);
        assert_eq!(bench.run(&spec).await.0, CommandStatus::Ended(Exit::TimedOut));
    }
}

/// Processes whose arguments hold a word.
fn processes_with(word: &str) -> usize {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(word))
        .count()
}

#[tokio::test]
async fn killing_a_command_ends_everything_it_started() {
    for (number, bench) in all().await.into_iter().enumerate() {
        let nap = format!("6{:04}{number}", std::process::id() % 10_000);
        let script = format!("sleep {nap} & sleep {nap} & echo up; wait");
        let family = bench.sandbox.start(&bench.id, &command("family", &["sh", "-c", &script])).await.unwrap();
        let mut output = bench.sandbox.output(&bench.id, &family);
        output.next().await.unwrap().unwrap();
        assert!(processes_with(&nap) >= 2);
        bench.sandbox.kill(&bench.id, &family).await.unwrap();
        while output.next().await.is_some() {}
        drop(output);
        let status = bench.sandbox.status(&bench.id, &family).await.unwrap();
        assert_eq!(status, CommandStatus::Ended(Exit::Signal(15)));
        tokio::time::timeout(Duration::from_secs(10), async {
            while processes_with(&nap) > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("no process is left");
    }
}

#[tokio::test]
async fn a_stopped_sandbox_is_gone_with_all_it_ran() {
    for bench in all().await {
        let long = bench.sandbox.start(&bench.id, &command("long", &["sleep", "71236"])).await.unwrap();
        assert_eq!(bench.sandbox.list().await.unwrap(), std::slice::from_ref(&bench.id));
        assert_eq!(bench.sandbox.fate(&bench.id).await.unwrap(), Fate::Running);
        bench.sandbox.stop(&bench.id).await.unwrap();
        bench.sandbox.stop(&bench.id).await.unwrap();
        bench.sandbox.stop(&SandboxId::named("never-made")).await.unwrap();
        assert_eq!(bench.sandbox.list().await.unwrap(), []);
        assert_ne!(bench.sandbox.fate(&bench.id).await.unwrap(), Fate::Running);
        assert!(matches!(bench.sandbox.status(&bench.id, &long).await, Err(SandboxError::Gone)));
        assert!(matches!(bench.sandbox.start(&bench.id, &command("x", &["true"])).await, Err(SandboxError::Gone)));
        assert!(matches!(bench.sandbox.write_file(&bench.id, "x", b"").await, Err(SandboxError::Gone)));
        assert!(matches!(bench.sandbox.read_file(&bench.id, "x", 1).await, Err(SandboxError::Gone)));
        let output: Vec<_> = bench.sandbox.output(&bench.id, &long).collect().await;
        assert!(matches!(output.as_slice(), [Err(SandboxError::Gone)]), "{output:?}");
        if let Kind::Local { root, .. } = &bench.kind {
            assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
        }
    }
}

/// A sandbox that is stopped by its name alone, because its making was never answered.
#[tokio::test]
async fn a_sandbox_of_which_only_the_name_is_known_can_be_stopped() {
    for bench in all().await {
        bench.sandbox.stop(&SandboxId::named("run-1")).await.unwrap();
        assert_eq!(bench.sandbox.list().await.unwrap(), []);
    }
}

#[tokio::test]
async fn under_bubblewrap_the_host_is_not_there() {
    for bench in all().await {
        let Kind::Local { root, isolation: Isolation::Bubblewrap } = &bench.kind else { continue };
        let host = root.path().display().to_string();
        let script = format!(
            "ls {host} /root /home 2>&1; id -u; touch /usr/x 2>&1; ls /proc | grep -c '^[0-9]'; cat /proc/self/status | grep CapEff"
        );
        let (_, out, _) = bench.run(&command("look", &["sh", "-c", &script])).await;
        assert_eq!(out.matches("No such file or directory").count(), 3, "{out}");
        assert!(out.contains("\n1000\n") && out.contains("Read-only file system"), "{out}");
        assert!(out.contains("CapEff:\t0000000000000000"), "{out}");
    }
}
