//! A real browser, by the WebDriver protocol.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Longer than any page of ours takes.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
/// How WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// With its port. `None`: it is not installed.
async fn start_driver() -> Option<(Child, String)> {
    let mut told = Vec::new();
    // It takes a free port of IPv6, and ends where somebody has the same of IPv4.
    for _ in 0..10 {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut driver = driver.ok()?;
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                // What it says further is read, so that it can go on saying it.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Some((driver, port.trim_end_matches('.').to_owned()));
            }
            told.push(line);
        }
    }
    panic!("chromedriver does not start: {told:?}");
}

pub struct Chromium {
    http: reqwest::Client,
    session: String,
    /// Ended with this.
    _driver: Child,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// `None`: there is no browser here, and that was said.
    pub async fn start() -> Option<Self> {
        let Some((driver, port)) = start_driver().await else {
            super::skipped("pages in a browser, because chromedriver is not installed (./tests/run sees to it)");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let args = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-background-networking".to_owned(),
            "--no-first-run".to_owned(),
            "--no-proxy-server".to_owned(),
            "--window-size=1200,900".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "timeouts": { "script": 170_000 }, "goog:chromeOptions": { "args": args }, "goog:loggingPrefs": { "browser": "ALL" } } } });
        let http = reqwest::Client::new();
        let base = format!("http://127.0.0.1:{port}/session");
        let begun: Value = http.post(&base).json(&wanted).send().await.unwrap().json().await.unwrap();
        let id = begun["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {begun}"));
        Some(Self { http, session: format!("{base}/{id}"), _driver: driver, _profile: profile })
    }

    async fn ask(&self, path: &str, body: Value) -> Result<Value, String> {
        let answer = self.http.post(format!("{}/{path}", self.session)).json(&body).send().await.unwrap();
        let is_good = answer.status().is_success();
        let mut value: Value = answer.json().await.unwrap();
        let value = value["value"].take();
        if is_good { Ok(value) } else { Err(value["message"].as_str().unwrap_or("").to_owned()) }
    }

    pub async fn go(&self, url: &str) {
        self.ask("url", json!({ "url": url })).await.unwrap();
    }

    /// The result of a piece of script in the page.
    pub async fn run(&self, script: &str) -> Value {
        self.ask("execute/sync", json!({ "script": script, "args": [] })).await.unwrap()
    }

    /// What a piece of script gives to `done`, once it does.
    pub async fn run_until_done(&self, script: &str) -> Value {
        let script = format!("const done = arguments[0]; {script}");
        self.ask("execute/async", json!({ "script": script, "args": [] })).await.unwrap()
    }

    pub async fn url(&self) -> String {
        self.run("return location.href").await.as_str().unwrap().to_owned()
    }

    /// What a reader sees.
    pub async fn text(&self) -> String {
        self.run("return document.body.innerText").await.as_str().unwrap().to_owned()
    }

    async fn element(&self, css: &str) -> Option<String> {
        let found = self.ask("element", json!({ "using": "css selector", "value": css })).await.ok()?;
        Some(found[ELEMENT].as_str()?.to_owned())
    }

    /// Waits for an element, and clicks it as a person does.
    pub async fn click(&self, css: &str) {
        self.with(css, "click", json!({})).await;
    }

    pub async fn write(&self, css: &str, text: &str) {
        self.with(css, "clear", json!({})).await;
        self.with(css, "value", json!({ "text": text })).await;
    }

    async fn with(&self, css: &str, action: &str, body: Value) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let done = match self.element(css).await {
                Some(id) => self.ask(&format!("element/{id}/{action}"), body.clone()).await.map(|_| ()),
                None => Err("it is not there".to_owned()),
            };
            match done {
                Ok(()) => return,
                Err(why) if tokio::time::Instant::now() > deadline => {
                    panic!("{action} {css}: {why}\n{} {}", self.url().await, self.text().await);
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Waits until the page says this.
    pub async fn until_text(&self, text: &str) {
        let quoted = json!(text);
        self.until(&format!("return document.body !== null && document.body.innerText.includes({quoted})")).await;
    }

    /// Waits until a piece of script says true.
    pub async fn until(&self, script: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        // While a page is left there is none to ask.
        while self.ask("execute/sync", json!({ "script": script, "args": [] })).await != Ok(Value::Bool(true)) {
            if tokio::time::Instant::now() > deadline {
                panic!("waited in vain for {script}\n{} {}", self.url().await, self.text().await);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn devtools(&self, command: &str, params: Value) {
        self.ask("goog/cdp/execute", json!({ "cmd": command, "params": params })).await.unwrap();
    }

    pub async fn set_dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    pub async fn set_width(&self, width: u32) {
        let metrics = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub async fn set_script(&self, on: bool) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": !on })).await;
    }

    /// What the browser complained about since it was asked last.
    pub async fn complaints(&self) -> Vec<String> {
        let lines = self.ask("se/log", json!({ "type": "browser" })).await.unwrap();
        let lines = lines.as_array().unwrap().iter();
        let bad = lines.filter(|line| line["level"] == "SEVERE" || line["message"].to_string().contains("Security"));
        bad.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    /// What axe-core finds wrong with the page. `None`: it is not here, and that was said.
    pub async fn axe(&self) -> Option<Vec<String>> {
        let cache = std::env::var("TEST_CACHE").unwrap_or_default();
        let Ok(axe) = std::fs::read_to_string(format!("{cache}/node_modules/axe-core/axe.min.js")) else {
            super::skipped(
                "accessibility of the pages, because axe-core is not in TEST_CACHE (./tests/run fetches it)",
            );
            return None;
        };
        self.run(&axe).await;
        let script = "axe.run(document).then((found) => done(found.violations.flatMap((one) => \
            one.nodes.map((node) => `${one.id}: ${node.html} ${node.failureSummary}`))));";
        let found = self.run_until_done(script).await;
        Some(serde_json::from_value(found).unwrap())
    }

    /// Kept in the cache for people to look at, where there is one.
    pub async fn screenshot(&self, name: &str) {
        use base64::Engine as _;
        let Ok(cache) = std::env::var("TEST_CACHE") else { return };
        let answer = self.http.get(format!("{}/screenshot", self.session)).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let png = base64::engine::general_purpose::STANDARD.decode(answer["value"].as_str().unwrap()).unwrap();
        let dir = std::path::Path::new(&cache).join("screenshots");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{name}.png")), png).unwrap();
    }

    pub async fn close(self) {
        let _ = self.http.delete(&self.session).send().await;
    }
}
