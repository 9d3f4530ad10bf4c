//! How every story ends, and what one that failed has seen.

use std::fmt::Write as _;

use super::{REPO, World};
use crate::double::{self, Double};
use crate::support::{http, postgres};

impl World {
    /// The end of every story: a clean stop, nothing GitHub would have refused, no line at error
    /// level, and the operator's secrets nowhere.
    pub async fn finish(self) {
        let logs = self.end().await;
        assert!(!logs.contains("\"level\":\"ERROR\""), "{logs}");
    }

    /// The same where something went wrong that was logged as an error, and that is right.
    pub async fn finish_after_trouble(self) {
        let logs = self.end().await;
        assert!(!logs.contains("panicked"), "{logs}");
    }

    /// Gives what was logged.
    async fn end(mut self) -> String {
        self.github.set_faults(Vec::new());
        let shown = self.shown().await;
        if self.double.is_some() {
            self.until("no sandbox is alive", async |world| world.vercel().alive().await.is_empty().then_some(()))
                .await;
        }
        if self.service.is_some() {
            self.stop().await;
        }
        self.stop_replicas().await;
        assert_eq!(self.github.violations().await, Vec::<String>::new());
        self.vercel_was_asked_well();
        let (logs, database) = (self.logs(), self.database_text().await);
        assert!(!database.contains("ghu_") && !database.contains("ghr_"), "a person's token lies open");
        self.nothing_got_out(&[&shown, &logs, &database]);
        logs
    }

    /// What people and GitHub were shown.
    async fn shown(&self) -> String {
        let mut shown = self.github.received().await.join("\n");
        for task in self.tasks().await {
            shown.push_str(&self.log_of(&task.id).await);
            let page = format!("{}/tasks/{}", self.url, task.id);
            shown.push_str(&http().get(page).send().await.unwrap().text().await.unwrap());
        }
        shown
    }

    fn vercel_was_asked_well(&self) {
        let Some(double) = &self.double else { return };
        assert_eq!(double.violations(), Vec::<String>::new());
        assert!(double.most_alive() <= 1, "two sandboxes of one task were alive at once");
        assert_eq!(double.resumes(), 0, "a stopped sandbox was woken");
        for call in double.calls() {
            assert!(!call.route.contains(&self.canary), "the model key is in an address");
            assert!(!call.body.contains("PRIVATE KEY") && !call.body.contains(double::TOKEN), "{}", call.body);
        }
    }

    fn nothing_got_out(&self, seen: &[&str]) {
        let key = self.github.private_key.expose().lines().nth(1).unwrap().to_owned();
        // The password of PostgreSQL, where there is one.
        let password = url::Url::parse(&self.database).ok().and_then(|url| url.password().map(ToOwned::to_owned));
        for (what, secret) in [
            ("model key", self.canary.as_str()),
            ("token for sandboxes", double::TOKEN),
            ("webhook secret", self.github.webhook_secret.expose()),
            ("private key", &key),
            ("token", "\"ghs_"),
            ("database's password", password.as_deref().unwrap_or("no password")),
        ] {
            assert!(seen.iter().all(|text| !text.contains(secret)), "the {what} got out");
        }
    }

    async fn database_text(&self) -> String {
        let Some(path) = self.database.strip_prefix("sqlite://") else {
            let mut connection = postgres::connect(&self.database).await;
            let mut text = String::new();
            for sql in [
                "SELECT t::text FROM tasks t",
                "SELECT t::text FROM runs t",
                "SELECT t::text FROM outbox t",
                "SELECT t::text FROM deliveries t",
                "SELECT t::text FROM installations t",
                "SELECT t::text FROM keys t",
                "SELECT t::text FROM push_permits t",
                "SELECT t::text FROM grants t",
                "SELECT t::text FROM spending t",
            ] {
                let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
                text.push_str(&rows.join("\n"));
            }
            return text;
        };
        let mut text = String::new();
        for end in ["", "-wal"] {
            let bytes = std::fs::read(format!("{path}{end}")).unwrap_or_default();
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        text
    }

    /// What everybody saw, for a story that failed.
    pub async fn account(&self) -> String {
        let mut text = String::new();
        for call in self.github.calls().await {
            writeln!(text, "{} {} {}", call.status, call.method, call.path).unwrap();
        }
        for call in self.double.iter().flat_map(Double::calls) {
            writeln!(text, "{} {}", call.route, call.body.chars().take(200).collect::<String>()).unwrap();
        }
        for comment in self.github.thread(REPO, self.issue).await {
            writeln!(text, "{}: {}", comment.author, comment.body).unwrap();
        }
        let log = self.log();
        let start = log.len().saturating_sub(6000);
        writeln!(text, "{}", &log[log.ceil_char_boundary(start)..]).unwrap();
        text
    }
}
