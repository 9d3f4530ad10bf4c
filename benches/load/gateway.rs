//! The model gateway beside a direct connection, in one run and by turns: what a call costs more, how much
//! later a piece of a stream arrives, and what many streams need.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures::StreamExt as _;

use super::receiver::stat;
use super::{ms, percentile, running};

const CALLS: usize = 2_000;
/// Pieces of one stream, one every so often.
const PIECES: u64 = 2_000;
const EVERY: Duration = Duration::from_millis(2);
/// Eight of one task at once.
const STREAMS: usize = 200;
const TASKS: usize = STREAMS / 8;
const WATCHED: Duration = Duration::from_secs(20);

/// How many pieces, how far apart: `?pieces=…&ms=…` does not pass the gateway, so the body says it.
fn asked(body: &[u8]) -> (u64, Duration) {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let number = |name: &str| value[name].as_u64().unwrap_or(0);
    (number("pieces"), Duration::from_micros(number("every_us")))
}

/// A vendor that streams pieces of about 200 bytes, each with the time it was sent at.
async fn vendor(begin: Instant) -> String {
    let answer = move |_: Uri, body: Bytes| async move {
        let (pieces, every) = asked(&body);
        if pieces == 0 {
            let text = r#"{"model":"claude-sonnet-4-5","usage":{"input_tokens":10,"output_tokens":2}}"#;
            return ([("content-type", "application/json")], text).into_response();
        }
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stream = futures::stream::unfold((0, ticks), move |(number, mut ticks)| async move {
            ticks.tick().await;
            let end = if number + 1 == pieces {
                "data: {\"delta\":{\"stop_reason\":\"end\"},\"usage\":{\"output_tokens\":9}}\n\n"
            } else {
                ""
            };
            let piece = format!(
                "data: {{\"type\":\"content_block_delta\",\"at\":{:020},\"delta\":{{\"text\":\"{}\"}}}}\n\n{end}",
                begin.elapsed().as_nanos(),
                "x".repeat(130)
            );
            (number < pieces).then(|| (Ok::<_, Infallible>(Bytes::from(piece)), (number + 1, ticks)))
        });
        let mut response = Response::new(Body::from_stream(stream));
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        response
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/messages", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[derive(Clone)]
struct Way {
    name: &'static str,
    url: String,
    keys: Vec<String>,
    http: reqwest::Client,
    begin: Instant,
}

impl Way {
    fn post(&self, number: usize, body: String) -> reqwest::RequestBuilder {
        let key = &self.keys[number % self.keys.len()];
        let url = format!("{}/v1/messages", self.url);
        self.http.post(url).header("x-api-key", key).header("content-type", "application/json").body(body)
    }

    /// A call with a plain answer: from the request to the last byte.
    async fn call(&self) -> Duration {
        let begin = Instant::now();
        let answer = self.post(0, r#"{"model":"claude-sonnet-4-5","messages":[]}"#.to_owned()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{}", self.name);
        answer.bytes().await.unwrap();
        begin.elapsed()
    }

    /// How long each piece of a stream was under way.
    async fn stream(&self, number: usize, pieces: u64, every: Duration) -> Vec<Duration> {
        let body = format!(
            r#"{{"model":"claude-sonnet-4-5","stream":true,"pieces":{pieces},"every_us":{}}}"#,
            every.as_micros()
        );
        let mut stream = self.post(number, body).send().await.unwrap().bytes_stream();
        let (mut lags, mut rest) = (Vec::new(), Vec::new());
        while let Some(bytes) = stream.next().await {
            let now = self.begin.elapsed();
            rest.extend_from_slice(&bytes.unwrap());
            while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
                let line: Vec<u8> = rest.drain(..end + 2).collect();
                let text = String::from_utf8_lossy(&line);
                if let Some(at) = text.split("\"at\":").nth(1).and_then(|tail| tail.get(..20)?.parse().ok()) {
                    lags.push(now.saturating_sub(Duration::from_nanos(at)));
                }
            }
        }
        lags
    }
}

pub async fn measure() {
    let begin = Instant::now();
    let vendor = vendor(begin).await;
    let running = running::quiet(TASKS, &vendor).await;
    let http = reqwest::Client::new();
    let way = |name, url, keys: &[String]| Way { name, url, keys: keys.to_vec(), http: http.clone(), begin };
    let through = way("gateway", format!("http://{}/gateway/anthropic", running.address), &running.grants);
    let ways = [way("direct", vendor, &["sk-ant-of-the-bench".to_owned()]), through.clone()];
    while http.get(format!("http://{}/readyz", running.address)).send().await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("\n## The model gateway, SQLite, {CALLS} calls in turn, one stream of {PIECES} pieces of 200 bytes");
    println!("| | call p50 ms | p99 ms | piece under way p50 ms | p99 ms |\n|---|---|---|---|---|");
    let mut calls = [Vec::new(), Vec::new()];
    for _ in 0..CALLS {
        for (way, times) in ways.iter().zip(&mut calls) {
            times.push(way.call().await);
        }
    }
    for (way, mut times) in ways.iter().zip(calls) {
        let mut lags = way.stream(0, PIECES, EVERY).await;
        assert_eq!(lags.len() as u64, PIECES, "{}", way.name);
        times.sort_unstable();
        lags.sort_unstable();
        let [call, call99] = [0.5, 0.99].map(|share| ms(percentile(&times, share)));
        let [lag, lag99] = [0.5, 0.99].map(|share| ms(percentile(&lags, share)));
        println!("| {} | {call} | {call99} | {lag} | {lag99} |", way.name);
    }
    many(&running, &ways).await;
    running.end().await;
}

/// Many streams at once, each with 20 pieces a second.
async fn many(running: &running::Running, ways: &[Way]) {
    println!("\n## {STREAMS} streams at once, 20 pieces a second each");
    println!(
        "| | piece under way p50 ms | p99 ms | CPU of a core | RSS MB after 5 s | at the end |\n|---|---|---|---|---|---|"
    );
    let every = Duration::from_millis(50);
    let pieces = (WATCHED.as_millis() / every.as_millis()) as u64;
    for way in ways {
        let (cpu, begin) = (stat(&running.service).0, Instant::now());
        let streams: Vec<_> = (0..STREAMS)
            .map(|number| {
                let way = way.clone();
                tokio::spawn(async move { way.stream(number, pieces, every).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let early = stat(&running.service).1;
        tokio::time::sleep(WATCHED.saturating_sub(begin.elapsed() + Duration::from_millis(500))).await;
        let (late_cpu, late) = stat(&running.service);
        let share = (late_cpu - cpu).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
        let mut lags = Vec::new();
        for stream in streams {
            lags.extend(stream.await.unwrap());
        }
        assert_eq!(lags.len() as u64, pieces * STREAMS as u64);
        lags.sort_unstable();
        let [lag, lag99] = [0.5, 0.99].map(|share| ms(percentile(&lags, share)));
        println!("| {} | {lag} | {lag99} | {share:.0} % | {early} | {late} |", way.name);
    }
}
