//! One promise per file, in the words of the people who rely on it.

mod comment_to_pull_request;
mod connectors;
mod control;
mod crash_and_resume;
mod duplicate_delivery;
mod follow_ups;
mod github_fails;
mod keys;
mod model_gateway;
mod not_allowed;
mod outcomes;
mod real_agents;
mod second_opinion;
mod secrets_stay_secret;
mod settings;
mod stubbed_agents;
mod vercel_extras;
mod vercel_sandbox;
mod webhook_edge;
