//! What a person looks at: threads and pull requests as pages, and repositories for `git fetch`.

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pulldown_cmark::{Event, Options, Parser, html};
use std::io::Read as _;
use tokio::sync::Mutex;

use super::server::{Answer, Asked};
use super::state::World;
use super::{checks, git, manifest, oauth};

#[derive(Template)]
#[template(path = "thread.html")]
struct ThreadPage {
    title: String,
    repo: String,
    number: i64,
    /// Head and base of a pull request.
    branches: Option<(String, String)>,
    posts: Vec<Post>,
    diff: Vec<(&'static str, String)>,
}

struct Post {
    author: String,
    /// Rendered here from Markdown, with raw HTML as text.
    html: String,
    reactions: String,
}

#[derive(Template)]
#[template(path = "threads.html")]
struct ThreadsPage {
    threads: Vec<(String, String)>,
}

pub(super) async fn page(world: &Mutex<World>, asked: &Asked) -> Answer {
    let path = asked.path.trim_matches('/').to_owned();
    let words: Vec<&str> = path.split('/').collect();
    match words.as_slice() {
        [""] => threads(&*world.lock().await),
        ["style.css"] => Answer {
            status: 200,
            headers: vec![("content-type", "text/css; charset=utf-8".to_owned())],
            body: include_bytes!("../templates/style.css").to_vec(),
        },
        ["favicon.ico"] => Answer::empty(204),
        ["storage", "logs", id] => checks::storage(&*world.lock().await, asked, id),
        ["user-attachments", "assets", name] => checks::attached(&*world.lock().await, asked, name),
        ["login", "oauth", "authorize"] => oauth::authorize(&mut *world.lock().await, asked),
        ["login", "oauth", "access_token"] => oauth::access_token(&mut *world.lock().await, asked),
        ["settings", "apps", "new"] | ["organizations", _, "settings", "apps", "new"] => {
            manifest::make(&mut *world.lock().await, asked)
        }
        [owner, name, "info", "refs"] => git_service(world, asked, owner, name, true).await,
        [owner, name, "git-upload-pack"] => git_service(world, asked, owner, name, false).await,
        [owner, name, "issues" | "pull", number] => {
            let number = number.parse().unwrap_or(0);
            thread(world, &format!("{owner}/{name}"), number).await
        }
        _ => Answer::html(404, "<h1>There is nothing here</h1>".to_owned()),
    }
}

fn threads(world: &World) -> Answer {
    let threads = world.repositories.values().flat_map(|repository| {
        repository.issues.values().map(|issue| {
            let kind = if issue.pull.is_some() { "pull" } else { "issues" };
            (
                format!("/{}/{kind}/{}", repository.name, issue.number),
                format!("{} #{}: {}", repository.name, issue.number, issue.title),
            )
        })
    });
    rendered(&ThreadsPage { threads: threads.collect() })
}

fn rendered(page: &impl Template) -> Answer {
    match page.render() {
        Ok(text) => Answer::html(200, text),
        Err(error) => Answer::html(500, error.to_string()),
    }
}

async fn thread(world: &Mutex<World>, repo: &str, number: i64) -> Answer {
    let world = world.lock().await;
    let found = world.repository(repo).and_then(|repository| Some((repository, repository.issues.get(&number)?)));
    let Some((repository, issue)) = found else {
        return Answer::html(404, "<h1>There is nothing here</h1>".to_owned());
    };
    let post = |author: &str, text: &str, subject: &str| Post {
        author: author.to_owned(),
        html: markdown(text),
        reactions: world.reactions_on(subject).iter().map(|one| emoji(&one.content)).collect::<Vec<_>>().join(" "),
    };
    let subject = format!("issue:{}#{number}", repo.to_ascii_lowercase());
    let mut posts = vec![post(&issue.author, &issue.body, &subject)];
    let comments = world.thread(repo, number);
    posts.extend(comments.iter().map(|one| post(&one.author, &one.body, &format!("comment:{}", one.id))));
    let diff = match &issue.pull {
        Some(pull) => git::diff(&repository.dir, &pull.base, &pull.head).await.unwrap_or_default(),
        None => String::new(),
    };
    rendered(&ThreadPage {
        title: issue.title.clone(),
        repo: repository.name.clone(),
        number,
        branches: issue.pull.as_ref().map(|pull| (pull.head.clone(), pull.base.clone())),
        posts,
        diff: diff.lines().map(|line| (diff_class(line), line.to_owned())).collect(),
    })
}

fn diff_class(line: &str) -> &'static str {
    match line.chars().next() {
        Some('+') => "added",
        Some('-') => "removed",
        Some('@') => "place",
        _ => "",
    }
}

fn emoji(content: &str) -> &'static str {
    match content {
        "eyes" => "👀",
        "rocket" => "🚀",
        "+1" => "👍",
        "confused" => "😕",
        _ => "•",
    }
}

fn markdown(text: &str) -> String {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_GFM;
    let events = Parser::new_ext(text, options).filter_map(|event| match event {
        // GitHub leaves comments out; other HTML is shown as text here.
        Event::Html(raw) | Event::InlineHtml(raw) if raw.trim_start().starts_with("<!--") => None,
        Event::Html(raw) | Event::InlineHtml(raw) => Some(Event::Text(raw)),
        // In comments GitHub keeps the lines as they were written.
        Event::SoftBreak => Some(Event::HardBreak),
        other => Some(other),
    });
    let mut out = String::new();
    html::push_html(&mut out, events);
    out
}

/// Git over HTTP, reading only. The token is the password, as GitHub has it.
async fn git_service(world: &Mutex<World>, asked: &Asked, owner: &str, name: &str, advertise: bool) -> Answer {
    let repo = format!("{owner}/{}", name.strip_suffix(".git").unwrap_or(name));
    let dir = {
        let mut world = world.lock().await;
        let token = basic_password(asked).and_then(|password| world.tokens.get(&password).cloned());
        let Some(repository) = world.repository(&repo) else { return Answer::refused(404, "Not Found") };
        let (id, dir) = (repository.id, repository.dir.clone());
        match token {
            Some(token) if token.repositories == [id] && token.allows("contents", "read") => {
                if token.allows("contents", "write") || token.permissions.len() > 2 {
                    world.violations.push("a token that can write was used to fetch".to_owned());
                }
                dir
            }
            _ => {
                let mut answer = Answer::refused(401, "Bad credentials");
                answer.headers.push(("www-authenticate", "Basic realm=\"GitHub\"".to_owned()));
                return answer;
            }
        }
    };
    if advertise && asked.query("service") != Some("git-upload-pack") {
        return Answer::refused(403, "reading only");
    }
    let protocol = asked.headers.get("git-protocol").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let env = [("GIT_PROTOCOL", protocol.as_str())];
    let (args, prefix, kind): (&[&str], &[u8], _) = if advertise {
        (
            &["upload-pack", "--stateless-rpc", "--advertise-refs", "."],
            b"001e# service=git-upload-pack\n0000",
            "advertisement",
        )
    } else {
        (&["upload-pack", "--stateless-rpc", "."], b"", "result")
    };
    match git::git(&dir, args, &env, &unpacked(asked)).await {
        Ok(output) => Answer {
            status: 200,
            headers: vec![("content-type", format!("application/x-git-upload-pack-{kind}"))],
            body: [prefix, &output].concat(),
        },
        Err(error) => Answer::refused(500, &error.to_string()),
    }
}

fn basic_password(asked: &Asked) -> Option<String> {
    let value = asked.headers.get("authorization")?.to_str().ok()?.strip_prefix("Basic ")?.to_owned();
    let text = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

fn unpacked(asked: &Asked) -> Vec<u8> {
    let is_packed = asked.headers.get("content-encoding").is_some_and(|value| value.as_bytes() == b"gzip");
    let mut bytes = Vec::new();
    if is_packed && flate2::read::GzDecoder::new(asked.body.as_ref()).read_to_end(&mut bytes).is_ok() {
        return bytes;
    }
    asked.body.to_vec()
}
