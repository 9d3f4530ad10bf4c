//! Logs and figures. Names of fields: `delivery.id`, `task.id`, `run.id`, `repo`, `issue`, `step`,
//! `outcome`. A message reads alone; a failure is logged once, where it is handled.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{ConfigError, LogConfig};

/// Starts logging to standard error, as text for people or as one JSON object per line.
pub fn start_logs(config: &LogConfig) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|_| ConfigError(format!("RUST_LOG is “{}”, which is no filter", config.filter)))?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = if config.json {
        registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).try_init()
    } else {
        let layer = tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr);
        registry.with(layer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).try_init()
    };
    started.map_err(|error| ConfigError(format!("logging cannot be started: {error}")))
}

/// Collects figures from here on; without it they cost nothing.
pub fn start_metrics() -> Result<PrometheusHandle, ConfigError> {
    let handle = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| ConfigError(format!("figures cannot be collected: {error}")))?;
    metrics::describe_counter!("hireling_webhooks_total", "answers to webhook calls by status");
    metrics::describe_counter!("hireling_deliveries_total", "deliveries by decision");
    metrics::describe_counter!("hireling_tasks_accepted_total", "tasks made from commands");
    metrics::describe_counter!("hireling_tasks_ended_total", "tasks by outcome and agent");
    metrics::describe_counter!("hireling_log_lines_total", "log lines stored");
    metrics::describe_gauge!("hireling_tasks_running", "tasks that run in this process");
    metrics::describe_gauge!("hireling_tasks_queued", "tasks that wait for a worker");
    Ok(handle)
}
