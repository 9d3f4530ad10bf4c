//! What there is to see in a world, and waiting for it.

use std::path::PathBuf;

use hireling::adapters::store::{Access, Location, Store, TaskPage};
use hireling::demo::standin::{CommentView, PullView};
use hireling::domain::ids::TaskId;
use hireling::domain::secret::Secret;
use hireling::domain::task::Task;

use super::{REPO, World};
use crate::support::http;

impl World {
    /// Waits until every sandbox that was made is deleted.
    pub async fn sandboxes_deleted(&self) {
        self.until("every sandbox is deleted", async |world| {
            world.vercel().lives().await.iter().all(|life| life.is_deleted).then_some(())
        })
        .await;
    }

    /// The bot's reactions on a comment.
    pub async fn reactions(&self, comment: i64) -> Vec<String> {
        let found = self.github.reactions(&format!("comment:{comment}")).await;
        found.into_iter().map(|reaction| reaction.content).collect()
    }

    /// Waits until the command of this comment is over: 👀 is gone, the final reaction is there.
    pub async fn ended(&self, comment: i64) -> String {
        self.until("the command is over", async |world| {
            let reactions = world.reactions(comment).await;
            match reactions.as_slice() {
                [only] if only != "eyes" => Some(only.clone()),
                _ => None,
            }
        })
        .await
    }

    /// Waits until nothing is left to decide, to run or to tell.
    pub async fn settled(&self) {
        let store = self.store().await;
        let mut quiet = 0;
        self.until("everything is settled", async |_| {
            let busy = store.has_open_tasks().await.unwrap() || store.has_open_promises().await.unwrap();
            quiet = if busy { 0 } else { quiet + 1 };
            (quiet >= 3).then_some(())
        })
        .await;
        store.close().await;
    }

    /// Pull requests that close the current issue.
    pub async fn pulls(&self) -> Vec<PullView> {
        let closes = format!("Closes #{}\n", self.issue);
        self.github.pulls(REPO).await.into_iter().filter(|pull| pull.body.contains(&closes)).collect()
    }

    /// Branches the bot made for the current issue.
    pub async fn branches(&self) -> Vec<String> {
        let head = format!("agent/{}-", self.issue);
        let all = self.github.branches(REPO).await.unwrap();
        all.into_iter().map(|(name, _)| name).filter(|name| name.starts_with(&head)).collect()
    }

    /// The newest task.
    pub async fn last_task(&self) -> Task {
        self.tasks().await.into_iter().next().expect("a task")
    }

    /// Comments of the bot.
    pub async fn answers(&self) -> Vec<CommentView> {
        let thread = self.github.thread(REPO, self.issue).await;
        thread.into_iter().filter(|comment| comment.author.ends_with("[bot]")).collect()
    }

    /// The only comment of the bot.
    pub async fn only_answer(&self) -> String {
        let answers = self.answers().await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers[0].body.clone()
    }

    /// Waits for the n-th comment of the bot.
    pub async fn answer(&self, number: usize) -> String {
        self.until("there is an answer", async |world| Some(world.answers().await.get(number)?.body.clone())).await
    }

    pub async fn only_pull(&self) -> PullView {
        let mut pulls = self.github.pulls(REPO).await;
        assert_eq!(pulls.len(), 1, "{pulls:?}\n{}", self.account().await);
        pulls.remove(0)
    }

    /// What a question to the database comes to.
    pub async fn number(&self, sql: &str) -> i64 {
        use sqlx::{AssertSqlSafe, Connection as _};
        let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
        match self.database.strip_prefix("sqlite://") {
            Some(path) => {
                let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite://{path}")).await.unwrap();
                query.fetch_one(&mut connection).await.unwrap()
            }
            None => {
                let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
                query.fetch_one(&mut crate::support::postgres::connect(&self.database).await).await.unwrap()
            }
        }
    }

    pub async fn store(&self) -> Store {
        let location = match self.database.strip_prefix("sqlite://") {
            Some(path) => Location::Sqlite(path.into()),
            None => Location::Postgres { url: Secret::new(&*self.database), direct_url: Secret::new(&*self.database) },
        };
        Store::open(&location, Access::Visitor).await.unwrap()
    }

    pub async fn tasks(&self) -> Vec<Task> {
        let store = self.store().await;
        let page = TaskPage { limit: 100, ..TaskPage::default() };
        let tasks = store.tasks(page).await.unwrap().into_iter().map(|(_, task)| task).collect();
        store.close().await;
        tasks
    }

    /// The log of a task, as its page gives it out.
    pub async fn log_of(&self, task: &TaskId) -> String {
        let url = format!("{}/tasks/{task}/log", self.url);
        http().get(url).send().await.unwrap().error_for_status().unwrap().text().await.unwrap()
    }

    /// The most memory that the running service ever held.
    pub fn peak_memory_mib(&self) -> u64 {
        let pid = self.service.as_ref().expect("a running service").pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// What Prometheus would read now.
    pub async fn figures(&self) -> String {
        let address = self
            .until("the figures' address is logged", async |world| world.service.as_ref()?.field("figures", "address"))
            .await;
        http().get(format!("http://{address}/metrics")).send().await.unwrap().text().await.unwrap()
    }

    /// Waits for a file that an agent in a local sandbox writes into its scratch folder. Gives the
    /// folder and the file's text.
    pub async fn scratch_file(&self, name: &str) -> (PathBuf, String) {
        self.until(&format!("an agent wrote {name}"), async |world| {
            let sandboxes = std::fs::read_dir(world.file("data/sandboxes")).ok()?.flatten();
            sandboxes.map(|entry| entry.path().join("scratch")).find_map(|scratch| {
                let text = std::fs::read_to_string(scratch.join(name)).ok().filter(|text| !text.is_empty())?;
                Some((scratch, text))
            })
        })
        .await
    }
}
