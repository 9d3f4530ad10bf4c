//! The code's own rules: imports point downwards, vendors stay in their folders, time and the
//! environment are read in one place, migrations and settings agree with their counterparts.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Rust files below a folder.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with(".cache") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files
}

/// Source files with their path below `src`, tests cut off.
fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let name = |path: &Path| path.strip_prefix(&src).unwrap().display().to_string();
    rust_files(&src)
        .iter()
        .filter(|path| !path.ends_with("tests.rs"))
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
            (name(path), code)
        })
        .collect()
}

#[test]
fn imports_point_downwards() {
    // What each layer may name; `config`, `telemetry`, `service`, `demo` and `main` wire.
    let layers: [(&str, &[&str]); 7] = [
        ("domain", &["domain"]),
        ("ports", &["ports", "domain"]),
        ("adapters", &["adapters", "ports", "domain"]),
        ("app", &["app", "adapters", "ports", "domain"]),
        ("web", &["web", "app", "ports", "domain"]),
        ("config", &["config", "domain"]),
        ("telemetry.rs", &["config"]),
    ];
    for (file, text) in sources() {
        let Some((layer, allowed)) = layers.iter().find(|(layer, _)| file.starts_with(layer)) else { continue };
        for used in text.split("crate::").skip(1) {
            let target: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(allowed.contains(&target.as_str()), "{file} ({layer}) uses crate::{target}");
        }
    }
}

#[test]
fn vendors_and_effects_stay_where_they_belong() {
    let places: [(&str, &[&str]); 10] = [
        ("octocrab", &["adapters/github/"]),
        ("jsonwebtoken", &["adapters/github/"]),
        ("sqlx::", &["adapters/store/"]),
        ("std::env::var", &["config/"]),
        ("SystemTime::now", &["adapters/system.rs"]),
        ("Utc::now", &[]),
        ("rand::", &["adapters/system.rs", "demo/standin/git.rs"]),
        ("Uuid::", &["adapters/system.rs"]),
        ("println!", &["main.rs", "check.rs", "demo/show.rs"]),
        ("\"sh\"", &["demo/agent.rs"]),
    ];
    for (file, text) in sources() {
        for (word, allowed) in places {
            let used = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
            assert!(!used || allowed.iter().any(|place| file.starts_with(place)), "{file} uses {word}");
        }
    }
}

#[test]
fn files_stay_small_and_whole() {
    for file in ["src", "tests", "benches"].iter().flat_map(|folder| rust_files(&root().join(folder))) {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 400, "{} has {lines} lines", file.display());
    }
    for (file, text) in sources() {
        for banned in ["cfg(test)", ".unwrap()", "todo!", "unimplemented!", "dbg!", "FIXME"] {
            let used = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(banned));
            assert!(!used || (banned == "cfg(test)" && text.contains("mod tests;")), "{file} holds {banned}");
        }
    }
}

#[test]
fn both_engines_have_the_same_migrations() {
    let names = |engine: &str| {
        let mut names: Vec<_> = std::fs::read_dir(root().join("migrations").join(engine))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("sqlite"), names("postgres"));
    for name in names("sqlite") {
        let text = |engine: &str| std::fs::read_to_string(root().join("migrations").join(engine).join(&name)).unwrap();
        let sqlite = text("sqlite").replace("INTEGER PRIMARY KEY", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY");
        assert_eq!(sqlite, text("postgres"), "{name:?}");
    }
}

#[test]
fn the_readme_lists_exactly_the_settings_that_are_read() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let table = readme.split("## Settings").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut listed: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .collect();
    let mut read: Vec<&str> = hireling::config::SETTINGS.to_vec();
    listed.sort_unstable();
    read.sort_unstable();
    assert_eq!(listed, read);
    let code: String = sources()
        .into_iter()
        .filter(|(file, _)| file.starts_with("config") || file.starts_with("domain/agent"))
        .map(|(_, text)| text)
        .collect();
    for name in read {
        assert!(code.matches(&format!("\"{name}\"")).count() >= 2, "{name} is listed but not read");
    }
}

#[test]
fn the_manifest_asks_for_exactly_what_is_used() {
    #[derive(serde::Deserialize)]
    struct Manifest {
        default_events: Vec<String>,
        default_permissions: std::collections::BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(root().join("app-manifest.yml")).unwrap();
    let manifest: Manifest = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(manifest.default_events, hireling::domain::delivery::USED_EVENTS);
    let mut used = std::collections::BTreeMap::new();
    for scope in hireling::adapters::github::Scope::ALL {
        for (name, level) in scope.permissions() {
            let entry = used.entry((*name).to_owned()).or_insert_with(|| (*level).to_owned());
            if *level == "write" {
                *entry = "write".to_owned();
            }
        }
    }
    used.extend(hireling::adapters::github::ABOUT_PEOPLE.map(|(name, level)| (name.to_owned(), level.to_owned())));
    assert_eq!(manifest.default_permissions, used);
}

/// While versions are exchanged, the old one works on the tables of the new one.
#[test]
fn migrations_only_add() {
    for engine in ["sqlite", "postgres"] {
        for entry in std::fs::read_dir(root().join("migrations").join(engine)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap().to_uppercase();
            for word in ["DROP ", "RENAME ", "ALTER COLUMN", "DELETE FROM", "TRUNCATE"] {
                assert!(!text.contains(word), "{} has {word}", path.display());
            }
            for line in text.lines().filter(|line| line.contains("ADD COLUMN") && line.contains("NOT NULL")) {
                assert!(line.contains("DEFAULT"), "{}: {line}", path.display());
            }
        }
    }
}

/// A prepared `SELECT *` is refused by PostgreSQL once another version has added a column.
#[test]
fn columns_are_named() {
    for (file, text) in sources() {
        let has = |word: &str| text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
        assert!(!has("SELECT *") && !has("RETURNING *"), "{file} takes columns it does not name");
    }
}
