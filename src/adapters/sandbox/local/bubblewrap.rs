//! Shutting a command in with bubblewrap: it sees the system's programs and its own sandbox, not
//! the host's files, not other processes, and holds no capability. The network stays: agents need
//! their model's vendor.

use std::path::Path;
use std::process::{Command, Stdio};

/// Where the sandbox's folders lie, as seen from inside.
pub(super) const INSIDE: &str = "/sandbox";

pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How well commands are shut in; said at the start, never lowered silently later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    Bubblewrap,
    /// Own folders and environment, but the host's files can be read.
    None,
}

/// What a command needs of the system, where it exists. Nothing below /root, /home, /var or /work.
const READ_ONLY: [&str; 18] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/etc/ssl",
];

impl Isolation {
    /// Tries bubblewrap once: in many containers it is installed and still refused.
    pub fn probe() -> Self {
        let mut command = Command::new("bwrap");
        command.args(base_args()).args(["--", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status() {
            Ok(status) if status.success() => Self::Bubblewrap,
            _ => Self::None,
        }
    }

    /// One word for logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bubblewrap => "bubblewrap",
            Self::None => "none",
        }
    }

    /// The options under which bubblewrap shuts a command in. They hold paths of the host, which the
    /// command could read in the list of processes: they are handed over in a file, not as arguments.
    pub(super) fn options(self, dir: &Path) -> Option<Vec<String>> {
        if self == Self::None {
            return None;
        }
        let mut args = base_args();
        for part in ["home", "project", "scratch", "tmp"] {
            let inner = if part == "tmp" { "/tmp".to_owned() } else { format!("{INSIDE}/{part}") };
            args.extend(["--bind".to_owned(), dir.join(part).display().to_string(), inner]);
        }
        args.extend(["--chdir".to_owned(), format!("{INSIDE}/project")]);
        Some(args)
    }
}

fn base_args() -> Vec<String> {
    let mut args: Vec<String> = [
        "--unshare-all",
        "--share-net",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        "--uid",
        "1000",
        "--gid",
        "1000",
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    for path in READ_ONLY {
        args.extend(["--ro-bind-try", path, path].map(ToOwned::to_owned));
    }
    args.extend(["--proc", "/proc", "--dev", "/dev"].map(ToOwned::to_owned));
    args
}
