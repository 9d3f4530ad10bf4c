//! Somebody with a browser that runs no script: keeps cookies, follows links, fills in forms.

use std::collections::BTreeMap;

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::world::World;

pub struct Visitor {
    http: reqwest::Client,
    /// Address of the service.
    pub base: String,
    pub cookies: BTreeMap<String, String>,
}

/// What came back, whichever way it went.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
    /// Where the last answer was.
    pub url: String,
}

impl Answer {
    pub fn location(&self) -> &str {
        self.headers.get("location").map_or("", |value| value.to_str().unwrap())
    }

    /// As a reader sees it: entities are characters.
    pub fn text(&self) -> String {
        decoded(&self.body)
    }

    /// The hidden fields of the first form that leads there, and holds `mark` if that is not empty.
    pub fn hidden_fields(&self, action: &str, mark: &str) -> Vec<(String, String)> {
        let head = format!("action=\"{action}\"");
        let forms = self.body.match_indices(&head).map(|(at, _)| &self.body[at..]);
        let form = forms.map(|rest| &rest[..rest.find("</form>").unwrap()]).find(|form| form.contains(mark));
        let form = form.unwrap_or_else(|| panic!("no form for {action} with {mark} in {}", self.body));
        let inputs = form.split("<input ").skip(1).filter(|input| input.contains("type=\"hidden\""));
        inputs.map(|input| (attribute(input, "name"), attribute(input, "value"))).collect()
    }
}

fn decoded(html: &str) -> String {
    let entities = [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
    entities.into_iter().fold(html.to_owned(), |text, (entity, character)| text.replace(entity, character))
}

fn attribute(input: &str, name: &str) -> String {
    let head = format!("{name}=\"");
    let start = input.find(&head).map_or(input.len(), |at| at + head.len());
    decoded(input[start..].split('"').next().unwrap_or(""))
}

impl Visitor {
    pub fn new(world: &World) -> Self {
        Self::at(&world.url)
    }

    pub fn at(url: &str) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, base: url.to_owned(), cookies: BTreeMap::new() }
    }

    /// One request and its answer; nothing is followed.
    pub async fn send(&mut self, method: Method, url: &str, fields: &[(String, String)], origin: &str) -> Answer {
        let url = if url.starts_with('/') { format!("{}{url}", self.base) } else { url.to_owned() };
        let mut request = self.http.request(method.clone(), &url).header("user-agent", "Visitor/1.0");
        // Cookies are kept from other hosts.
        if url.starts_with(&self.base) && !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", cookies.join("; "));
        }
        if method == Method::POST {
            request = request.form(fields).header("origin", origin);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        for line in headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            match line.contains("Max-Age=0") {
                true => _ = self.cookies.remove(name),
                false => _ = self.cookies.insert(name.to_owned(), value.to_owned()),
            }
        }
        Answer { status, headers, body: answer.text().await.unwrap(), url }
    }

    /// Follows where it leads, as browsers do.
    async fn follow(&mut self, mut answer: Answer) -> Answer {
        for _ in 0..10 {
            if !(300..400).contains(&answer.status) {
                return answer;
            }
            let next = url::Url::parse(&answer.url).unwrap().join(answer.location()).unwrap();
            answer = self.send(Method::GET, next.as_str(), &[], "").await;
        }
        panic!("in circles: {}", answer.url);
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let answer = self.send(Method::GET, path, &[], "").await;
        self.follow(answer).await
    }

    /// Fills in the form of a page that was looked at, and sends it.
    pub async fn submit(&mut self, page: &Answer, action: &str, mark: &str, fields: &[(&str, &str)]) -> Answer {
        let mut all = page.hidden_fields(action, mark);
        all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let origin = self.base.clone();
        let answer = self.send(Method::POST, action, &all, &origin).await;
        self.follow(answer).await
    }

    /// Signs in as a person of the stand-in.
    pub async fn sign_in(world: &World, login: &str) -> Self {
        world.github.user_id(login).await;
        let mut visitor = Self::new(world);
        let answer = visitor.arrive(login, "/tasks").await;
        assert_eq!((answer.status, answer.url.as_str()), (200, format!("{}/tasks", world.url).as_str()), "{answer:?}");
        visitor
    }

    /// Goes to GitHub and says who it is.
    pub async fn arrive(&mut self, login: &str, next: &str) -> Answer {
        let answer = self.send(Method::GET, &format!("/auth/github?next={next}"), &[], "").await;
        let there = format!("{}&login={login}", answer.location());
        let back = self.send(Method::GET, &there, &[], "").await;
        self.follow(back).await
    }
}
