//! Hireling: a comment on GitHub becomes a pull request.
//!
//! - `domain`: what the service knows; pure values and decisions
//! - `ports`: the two things that come in several kinds: clocks and sandboxes
//! - `adapters`: the only places that know GitHub, the databases, the sandboxes' makers
//! - `app`: what the service does, in order: intake, worker, the recipe of one run
//! - `web`: the thin edge: webhook, pages, health
//! - `config`: the only reader of the environment; `telemetry`: logs and metrics
//! - `demo`: the main job on this machine with no account, and its stand-in for GitHub
//!
//! Imports point downwards: `web` → `app` → `adapters` → `ports` → `domain`.

pub mod adapters;
pub mod app;
pub mod config;
pub mod demo;
pub mod domain;
pub mod ports;
pub mod service;
pub mod telemetry;
pub mod web;
