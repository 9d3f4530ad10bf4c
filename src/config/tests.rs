use super::*;
use crate::domain::money::Usd;

const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\\nabc\\n-----END RSA PRIVATE KEY-----";

fn good() -> Vec<(&'static str, &'static str)> {
    vec![
        ("GITHUB_APP_ID", "42"),
        ("GITHUB_APP_PRIVATE_KEY", PEM),
        ("GITHUB_WEBHOOK_SECRET", "new-secret, old-secret"),
        ("SANDBOX_PROVIDER", "local"),
    ]
}

fn with(name: &'static str, value: &'static str) -> Result<Config> {
    let mut pairs = good();
    pairs.retain(|(known, _)| *known != name);
    pairs.push((name, value));
    Config::from_source(&Source::from_pairs(pairs))
}

#[test]
fn four_settings_are_enough() {
    let config = Config::from_source(&Source::from_pairs(good())).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.database, Database::Sqlite("data/hireling.db".into()));
    let app = config.github.registration.unwrap();
    assert_eq!(app.webhook_secrets, [Secret::new("new-secret"), Secret::new("old-secret")]);
    assert!(app.private_keys[0].expose().contains("\nabc\n"));
    assert_eq!(config.max_sandbox_duration, Duration::from_secs(2700));
    assert_eq!(config.base_urls[&Provider::Anthropic], "https://api.anthropic.com");
}

#[test]
fn a_fault_names_its_setting_and_shows_no_secret() {
    for (name, value) in [
        ("GITHUB_APP_ID", ""),
        ("GITHUB_APP_ID", "my-app"),
        ("GITHUB_APP_PRIVATE_KEY", "s3cr3t-not-a-key"),
        ("GITHUB_WEBHOOK_SECRET", " , "),
        ("LISTEN_ADDR", "localhost"),
        ("PUBLIC_URL", "hireling.test"),
        ("PUBLIC_URL", "https://user:s3cr3t@h.test"),
        ("DATABASE_URL", "mysql://u:s3cr3t@h/db"),
        ("DATABASE_URL", "sqlite::memory:"),
        ("DATABASE_URL", "postgres://u:s3cr3t@db.test/x"),
        ("SANDBOX_PROVIDER", ""),
        ("SANDBOX_PROVIDER", "vercel"),
        ("DEFAULT_AGENT", "nobody"),
        ("DEFAULT_MODELS", "nobody=x"),
        ("DEFAULT_MODELS", "opencode=gpt-5.5"),
        ("ENCRYPTION_KEY", "s3cr3t"),
        ("MAX_COST_PER_TASK", "much"),
        ("AGENTS_FILE", "/does/not/exist.toml"),
        ("MAX_SANDBOX_DURATION", "soon"),
        ("MAX_MESSAGES_PER_DAY", "-1"),
        ("MAX_CONCURRENT_TASKS", "0"),
        ("METRICS_ADDR", "yes"),
        ("CLIENT_IP_HEADER", "two words"),
        ("LOG_FORMAT", "xml"),
        ("GITHUB_API_URL", "ftp://x"),
        ("GITHUB_CLIENT_ID", "Iv1.abc"),
        ("VERCEL_CLIENT_SECRET", "s3cr3t"),
        ("JWE_SECRET", "s3cr3t"),
        ("WEB_ANALYTICS_SCRIPT", "http://x/script.js"),
    ] {
        let error = with(name, value).expect_err(name).to_string();
        assert!(error.contains(name), "{name}: {error}");
        assert!(!error.contains("s3cr3t"), "{name}: {error}");
    }
}

#[test]
fn all_faults_are_told_at_once_and_none_that_only_follows_from_another() {
    let pairs = [
        ("GITHUB_URL", "ghes.test"),
        ("GITHUB_APP_ID", "my-app"),
        ("GEMINI_BASE_URL", "ftp://x"),
        ("AI_GATEWAY_BASE_URL", "ftp://x"),
        ("DATABASE_URL", "mysql://h/db"),
        ("AGENTS_FILE", "/does/not/exist.toml"),
        ("DEFAULT_AGENT", "ours"),
        ("SANDBOX_VERCEL_TOKEN", "a-token-of-vercel"),
        ("KEEP_LOGS", "long"),
        ("KEEP_PAYLOADS", "longer"),
    ];
    let ConfigError(faults) = Config::from_source(&Source::from_pairs(pairs)).unwrap_err();
    let named: Vec<&str> = faults.iter().filter_map(|fault| fault.split([' ', ':']).next()).collect();
    let expected = [
        "DATABASE_URL",
        "GITHUB_URL",
        "GITHUB_APP_ID",
        "GITHUB_APP_PRIVATE_KEY",
        "GITHUB_WEBHOOK_SECRET",
        "SANDBOX_VERCEL_TEAM_ID",
        "SANDBOX_VERCEL_PROJECT_ID",
        "GEMINI_BASE_URL",
        "AI_GATEWAY_BASE_URL",
        "AGENTS_FILE",
        "KEEP_LOGS",
        "KEEP_PAYLOADS",
    ];
    assert_eq!(named, expected, "{faults:?}");
}

#[test]
fn values_take_the_forms_the_contract_names() {
    assert_eq!(with("MAX_SANDBOX_DURATION", "5h").unwrap().max_sandbox_duration, Duration::from_secs(18_000));
    assert_eq!(with("MAX_SANDBOX_DURATION", "90").unwrap().max_sandbox_duration, Duration::from_secs(90));
    assert_eq!(with("PORT", "3000").unwrap().listen.to_string(), "0.0.0.0:3000");
    assert_eq!(with("CLIENT_IP_HEADER", "Fly-Client-IP").unwrap().client_ip_header, "fly-client-ip");
    assert_eq!(with("METRICS_ADDR", "off").unwrap().metrics, None);
    assert_eq!(with("ALLOWED_ACCOUNTS", "Acme, maria").unwrap().operator_key_accounts.unwrap(), ["acme", "maria"]);
    assert_eq!(with("MAX_COST_PER_TASK", "$2.50").unwrap().cost_limits.per_task, Some(Usd::from_cents(250)));
    assert_eq!(with("DEFAULT_MODELS", "Claude=opus").unwrap().default_models["claude"], "opus");
    assert_eq!(with("PUBLIC_URL", "https://h.test/").unwrap().public_url.as_deref(), Some("https://h.test"));
}

#[test]
fn on_postgresql_the_encryption_key_is_given() {
    let keys = "5e".repeat(32);
    for url in ["postgres://u:p@localhost/x", "postgres://u:p@db.test/x?sslmode=verify-full"] {
        let mut pairs = good();
        pairs.push(("DATABASE_URL", url));
        let error = Config::from_source(&Source::from_pairs(pairs.clone())).unwrap_err().to_string();
        assert!(error.contains("ENCRYPTION_KEY"), "{error}");
        pairs.push(("ENCRYPTION_KEY", &keys));
        assert_eq!(Config::from_source(&Source::from_pairs(pairs)).unwrap().encryption_keys.unwrap().len(), 1);
    }
}

#[test]
fn a_key_may_be_base64_or_in_a_file() {
    use base64::Engine as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pem");
    std::fs::write(&file, PEM.replace("\\n", "\n")).unwrap();
    let packed = base64::engine::general_purpose::STANDARD.encode(PEM.replace("\\n", "\n"));
    for (name, value) in
        [("GITHUB_APP_PRIVATE_KEY", packed.as_str()), ("GITHUB_APP_PRIVATE_KEY_FILE", file.to_str().unwrap())]
    {
        let mut pairs = good();
        pairs.retain(|(known, _)| *known != "GITHUB_APP_PRIVATE_KEY");
        pairs.push((name, value));
        let config = Config::from_source(&Source::from_pairs(pairs)).unwrap();
        assert!(config.github.registration.unwrap().private_keys[0].expose().contains("\nabc\n"));
    }
}
