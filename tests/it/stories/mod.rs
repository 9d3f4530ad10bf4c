//! One promise per file, in the words of the people who rely on it.

mod comment_to_pull_request;
mod connectors;
mod control;
mod crash_and_resume;
mod duplicate_delivery;
mod follow_ups;
mod github_fails;
mod in_a_browser;
mod keys;
mod model_gateway;
mod not_allowed;
mod operator_pages;
mod outcomes;
mod pages_are_safe;
mod real_agents;
mod second_opinion;
mod secrets_stay_secret;
mod set_up;
mod settings;
mod settings_pages;
mod signing_in;
mod stubbed_agents;
mod task_pages;
mod vercel_extras;
mod vercel_sandbox;
mod webhook_edge;
