//! One suite for every sandbox, with each kind of isolation that works here.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt as _;
use hireling::adapters::sandbox::local::{Isolation, LocalSandbox};
use hireling::domain::agent_stream::Exit;
use hireling::domain::secret::Secret;
use hireling::ports::sandbox::{CommandSpec, CommandStatus, OutputKind, Sandbox, SandboxError, SandboxId, SandboxSpec};

struct Bench {
    sandbox: Box<dyn Sandbox>,
    id: SandboxId,
    root: tempfile::TempDir,
    isolation: Isolation,
}

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_hireling").into()
}

async fn all() -> Vec<Bench> {
    let mut benches = Vec::new();
    for isolation in [Isolation::None, Isolation::Bubblewrap] {
        if isolation == Isolation::Bubblewrap && Isolation::probe() == Isolation::None {
            crate::support::skipped("sandboxes under bubblewrap, because it does not work here");
            continue;
        }
        let root = tempfile::tempdir().unwrap();
        let sandbox = LocalSandbox::with_isolation(root.path(), program(), isolation).unwrap();
        let spec = SandboxSpec { name: "run-1".into(), lifetime: Duration::from_secs(60) };
        let id = sandbox.create(&spec).await.unwrap();
        assert_eq!(sandbox.create(&spec).await.unwrap(), id, "the same name is the same sandbox");
        benches.push(Bench { sandbox: Box::new(sandbox), id, root, isolation });
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
        self.sandbox.start(&self.id, spec).await.unwrap();
        self.read(&spec.name).await
    }

    async fn read(&self, name: &str) -> (CommandStatus, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = self.sandbox.output(&self.id, name);
        while let Some(piece) = output.next().await {
            let piece = piece.unwrap();
            match piece.kind {
                OutputKind::Stdout => out.extend(piece.bytes),
                OutputKind::Stderr => err.extend(piece.bytes),
            }
        }
        drop(output);
        let status = self.sandbox.status(&self.id, name).await.unwrap();
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
        names.retain(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name));
        assert_eq!(names, ["HOME", "LANG", "MINE", "PATH", "TMPDIR"], "{:?}", bench.isolation);
        let (_, out, _) = bench.run(&command("pwd", &["pwd"])).await;
        assert_eq!(out.trim(), bench.sandbox.paths(&bench.id).project);
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
        bench.sandbox.start(&bench.id, &command("slow", &["sh", "-c", "echo one; sleep 0.3; echo two"])).await.unwrap();
        let other = LocalSandbox::with_isolation(bench.root.path(), program(), bench.isolation).unwrap();
        let again = Bench {
            sandbox: Box::new(other),
            id: bench.id.clone(),
            root: tempfile::tempdir().unwrap(),
            isolation: bench.isolation,
        };
        let (status, out, _) = again.read("slow").await;
        assert_eq!((status, out.as_str()), (CommandStatus::Ended(Exit::Code(0)), "one\ntwo\n"));
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
        let scratch = bench.sandbox.paths(&bench.id).scratch;
        let link = format!(
            "ln -s /etc/hostname {scratch}/read; ln -s {scratch}/victim {scratch}/write; echo safe > {scratch}/victim"
        );
        bench.run(&command("link", &["sh", "-c", &link])).await;
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
        assert_eq!(bench.sandbox.status(&bench.id, "never").await.unwrap(), CommandStatus::Lost);
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
        let script = format!("echo up; sleep {nap} & sleep {nap} & wait");
        bench.sandbox.start(&bench.id, &command("family", &["sh", "-c", &script])).await.unwrap();
        let mut output = bench.sandbox.output(&bench.id, "family");
        output.next().await.unwrap().unwrap();
        assert!(processes_with(&nap) >= 2);
        bench.sandbox.kill(&bench.id, "family").await.unwrap();
        while output.next().await.is_some() {}
        drop(output);
        let status = bench.sandbox.status(&bench.id, "family").await.unwrap();
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
        bench.sandbox.start(&bench.id, &command("long", &["sleep", "71236"])).await.unwrap();
        assert_eq!(bench.sandbox.list().await.unwrap(), std::slice::from_ref(&bench.id));
        bench.sandbox.stop(&bench.id).await.unwrap();
        bench.sandbox.stop(&bench.id).await.unwrap();
        assert_eq!(bench.sandbox.list().await.unwrap(), []);
        assert!(matches!(bench.sandbox.status(&bench.id, "long").await, Err(SandboxError::Gone)));
        assert!(matches!(bench.sandbox.start(&bench.id, &command("x", &["true"])).await, Err(SandboxError::Gone)));
        assert_eq!(std::fs::read_dir(bench.root.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn under_bubblewrap_the_host_is_not_there() {
    for bench in all().await.into_iter().filter(|bench| bench.isolation == Isolation::Bubblewrap) {
        let host = bench.root.path().display().to_string();
        let script = format!(
            "ls {host} /root /home 2>&1; id -u; touch /usr/x 2>&1; ls /proc | grep -c '^[0-9]'; cat /proc/self/status | grep CapEff"
        );
        let (_, out, _) = bench.run(&command("look", &["sh", "-c", &script])).await;
        assert_eq!(out.matches("No such file or directory").count(), 3, "{out}");
        assert!(out.contains("\n1000\n") && out.contains("Read-only file system"), "{out}");
        assert!(out.contains("CapEff:\t0000000000000000"), "{out}");
    }
}
