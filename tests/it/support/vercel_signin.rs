//! Signing in with Vercel, as its authorization server does it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest as _, Sha256};

pub const CLIENT_ID: &str = "cl_vercel";
pub const CLIENT_SECRET: &str = "vercel-client-secret";

#[derive(Default)]
struct Shared {
    /// Challenge by code.
    codes: BTreeMap<String, String>,
    tokens: Vec<String>,
    /// `sub`, name, address.
    who: (String, String, String),
}

type Held = Arc<Mutex<Shared>>;

pub struct VercelSignIn {
    pub url: String,
    shared: Held,
    server: tokio::task::JoinHandle<()>,
}

impl VercelSignIn {
    pub async fn start() -> Self {
        let shared = Held::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/oauth/authorize", get(authorize))
            .route("/api/login/oauth/token", post(token))
            .route("/api/login/oauth/userinfo", get(userinfo))
            .route("/api/login/oauth/token/revoke", post(revoke))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let vercel = Self { url, shared, server };
        vercel.is("user_1", "maria-v");
        vercel
    }

    /// Who says yes from now on.
    pub fn is(&self, sub: &str, name: &str) {
        self.shared.lock().unwrap().who = (sub.to_owned(), name.to_owned(), format!("{name}@example.com"));
    }

    pub fn tokens(&self) -> usize {
        self.shared.lock().unwrap().tokens.len()
    }
}

impl Drop for VercelSignIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn authorize(State(held): State<Held>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    if query["client_id"] != CLIENT_ID || query["code_challenge_method"] != "S256" || query["response_type"] != "code" {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let mut shared = held.lock().unwrap();
    let code = format!("code{}", shared.codes.len());
    shared.codes.insert(code.clone(), query["code_challenge"].clone());
    Redirect::to(&format!("{}?code={code}&state={}", query["redirect_uri"], query["state"])).into_response()
}

fn fields(body: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(body.as_bytes()).into_owned().collect()
}

async fn token(State(held): State<Held>, body: String) -> Response {
    let form = fields(&body);
    let mut shared = held.lock().unwrap();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]));
    let is_good = form["client_id"] == CLIENT_ID && form["client_secret"] == CLIENT_SECRET;
    if !is_good || shared.codes.remove(&form["code"]).as_deref() != Some(&challenge) {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response();
    }
    let token = format!("vca_{:032x}", rand::random::<u128>());
    shared.tokens.push(token.clone());
    Json(json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 })).into_response()
}

async fn userinfo(State(held): State<Held>, headers: HeaderMap) -> Response {
    let shared = held.lock().unwrap();
    let bearer = headers["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
    if !shared.tokens.contains(&bearer) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let (sub, name, email) = &shared.who;
    Json(json!({ "sub": sub, "preferred_username": name, "email": email, "email_verified": true })).into_response()
}

async fn revoke(State(held): State<Held>, body: String) {
    let form = fields(&body);
    held.lock().unwrap().tokens.retain(|token| *token != form["token"]);
}
