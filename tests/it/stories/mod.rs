//! One promise per file, in the words of the people who rely on it.

mod comment_to_pull_request;
mod crash_and_resume;
mod github_fails;
