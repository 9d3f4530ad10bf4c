//! What a checkout looks like from outside: how its dependencies are installed, how it is served.

use serde::Deserialize;

/// Untracked folders that never belong into a commit, whatever the repository forgets to ignore.
pub const NEVER_COMMITTED: [&str; 4] = ["node_modules/", ".venv/", "__pycache__/", ".pnpm-store/"];

/// Ports that a development server may get; opened when a sandbox is to be kept.
pub const PORTS: [u16; 2] = [3000, 5173];

/// The top level of a checkout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Project {
    pub files: Vec<String>,
    /// Text of `package.json`, where there is one.
    pub package_json: Option<String>,
}

/// How to serve a project for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevServer {
    pub port: u16,
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PackageJson {
    scripts: serde_json::Map<String, serde_json::Value>,
    dependencies: serde_json::Map<String, serde_json::Value>,
    #[serde(rename = "devDependencies")]
    dev_dependencies: serde_json::Map<String, serde_json::Value>,
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(ToOwned::to_owned).collect()
}

impl Project {
    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file == name)
    }

    fn manager(&self) -> &'static str {
        [("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "yarn"), ("bun.lock", "bun"), ("bun.lockb", "bun")]
            .into_iter()
            .find_map(|(lock, manager)| self.has(lock).then_some(manager))
            .unwrap_or("npm")
    }

    /// Commands that install what the project depends on.
    pub fn installs(&self) -> Vec<Vec<String>> {
        let mut commands = Vec::new();
        if self.package_json.is_some() {
            commands.push(match self.manager() {
                "npm" if self.has("package-lock.json") => words("npm ci --no-fund --no-audit"),
                "npm" => words("npm install --no-fund --no-audit --no-package-lock"),
                manager => words(&format!("{manager} install --frozen-lockfile")),
            });
        }
        if self.has("uv.lock") {
            commands.push(words("uv sync --frozen"));
        } else if self.has("requirements.txt") {
            commands.push(words("python3 -m pip install --user --break-system-packages -r requirements.txt"));
        }
        commands
    }

    /// Port 5173 with Vite, else 3000, as everybody's tools expect them.
    pub fn dev_server(&self) -> Option<DevServer> {
        let package: PackageJson = serde_json::from_str(self.package_json.as_deref()?).ok()?;
        let script = ["dev", "start"].into_iter().find(|name| package.scripts.contains_key(*name))?;
        let has_vite = package.dependencies.contains_key("vite") || package.dev_dependencies.contains_key("vite");
        let port = if has_vite { 5173 } else { 3000 };
        let mut argv = words(&format!("{} run {script}", self.manager()));
        if has_vite {
            // Only npm takes the two dashes for itself.
            argv.extend((self.manager() == "npm").then(|| "--".to_owned()));
            argv.extend(words("--host 0.0.0.0 --port 5173 --strictPort"));
        }
        let env = [
            ("PORT", port.to_string().as_str()),
            ("HOST", "0.0.0.0"),
            // Vite answers only to names it knows.
            ("__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS", ".vercel.run"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        Some(DevServer { port, argv, env })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[&str], package_json: Option<&str>) -> Project {
        Project {
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            package_json: package_json.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn the_lock_file_names_the_package_manager() {
        for (files, first) in [
            (vec!["package-lock.json"], "npm ci"),
            (vec![], "npm install"),
            (vec!["pnpm-lock.yaml"], "pnpm install"),
            (vec!["yarn.lock", "package-lock.json"], "yarn install"),
            (vec!["bun.lockb"], "bun install"),
        ] {
            let command = project(&files, Some("{}")).installs().remove(0).join(" ");
            assert!(command.starts_with(first), "{files:?}: {command}");
        }
        assert_eq!(project(&["requirements.txt"], None).installs().len(), 1);
        assert!(project(&["README.md"], None).installs().is_empty());
    }

    #[test]
    fn vite_listens_on_5173_and_everything_else_on_3000() {
        let vite = r#"{"scripts":{"dev":"vite"},"devDependencies":{"vite":"^8"}}"#;
        let server = project(&[], Some(vite)).dev_server().unwrap();
        assert_eq!(server.port, 5173);
        assert_eq!(server.argv[..3], ["npm", "run", "dev"]);
        let next = r#"{"scripts":{"start":"next start"},"dependencies":{"next":"16"}}"#;
        let server = project(&["pnpm-lock.yaml"], Some(next)).dev_server().unwrap();
        assert_eq!((server.port, server.argv.join(" ").as_str()), (3000, "pnpm run start"));
        for nothing in [None, Some("{}"), Some("not json"), Some("[]")] {
            assert_eq!(project(&[], nothing).dev_server(), None, "{nothing:?}");
        }
    }
}
