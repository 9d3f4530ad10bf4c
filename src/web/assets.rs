//! Style and scripts of the pages, within the program.

use axum::Json;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::domain::policy;

const ASSETS: [(&str, &str, &str); 3] = [
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    ("style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    ("log.js", "text/javascript; charset=utf-8", include_str!("assets/log.js")),
];

/// Browsers ask for it where a page names none.
pub async fn icon() -> Response {
    asset(Path("icon.svg".to_owned())).await
}

/// The form of `.github/hireling.yml`, for editors.
pub async fn policy_schema() -> Response {
    ([(header::CACHE_CONTROL, "public, max-age=600")], Json(policy::schema())).into_response()
}

pub async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(known, _, _)| *known == name) {
        Some((_, kind, text)) => {
            ([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "public, max-age=600")], *text).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
