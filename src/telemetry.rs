//! Logs and figures. Names of fields: `delivery.id`, `task.id`, `run.id`, `repo`, `issue`, `step`,
//! `outcome`. A message reads alone; a failure is logged once, where it is handled.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{ConfigError, LogConfig};

/// Figures that only grow.
const COUNTERS: [(&str, &str); 17] = [
    ("hireling_webhooks_total", "answers to webhook calls by status"),
    ("hireling_deliveries_total", "deliveries by decision"),
    ("hireling_deliveries_missed_total", "deliveries that GitHub could not bring"),
    ("hireling_deliveries_recovered_total", "missed deliveries that came when asked for"),
    ("hireling_tasks_accepted_total", "tasks made from commands"),
    ("hireling_tasks_ended_total", "tasks by outcome and agent"),
    ("hireling_log_lines_total", "log lines stored"),
    ("hireling_github_calls_total", "calls of GitHub's API by method and status"),
    ("hireling_sandbox_calls_total", "calls of the sandboxes' API by method and status"),
    ("hireling_gateway_calls_total", "calls of models by vendor and status"),
    ("hireling_gateway_tokens_total", "tokens by vendor and kind"),
    ("hireling_gateway_micro_usd_total", "list price of model calls in millionths of a dollar"),
    ("hireling_connections_refused_total", "connections of an address that has its share"),
    ("hireling_page_views_total", "answers to visitors by route and status"),
    ("hireling_rows_forgotten_total", "rows that were kept long enough"),
    ("hireling_writes_postponed_total", "writes to GitHub that had to wait for the budget"),
    ("hireling_runs_taken_over_total", "runs that another process began"),
];
/// Figures of now.
const GAUGES: [(&str, &str); 7] = [
    ("hireling_tasks_running", "tasks that run in this process"),
    ("hireling_tasks_queued", "tasks that wait for a worker"),
    ("hireling_queue_age_seconds", "how long the first of them has waited"),
    ("hireling_github_remaining", "calls that GitHub still allows, as last told, by resource"),
    ("hireling_github_writes_hour", "writes of the last hour by the account that wrote most; GitHub allows 500"),
    ("hireling_database_connections", "connections of this process by state"),
    ("hireling_database_up", "whether the database answered when this was asked"),
];
const TIMES: [(&str, &str); 3] = [
    ("hireling_log_lag_seconds", "from a line being read to its commit"),
    ("hireling_page_seconds", "answers to visitors by route"),
    ("hireling_sandbox_call_seconds", "calls of the sandboxes' API"),
];

/// Starts logging to standard error, as text for people or as one JSON object per line.
pub fn start_logs(config: &LogConfig) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|_| ConfigError::new(format!("RUST_LOG is “{}”, which is no filter", config.filter)))?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = if config.json {
        registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).try_init()
    } else {
        let layer = tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr);
        registry.with(layer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).try_init()
    };
    started.map_err(|error| ConfigError::new(format!("logging cannot be started: {error}")))?;
    // In the form of all other lines, with the ids of what was being done.
    std::panic::set_hook(Box::new(|panic| tracing::error!(panic = %panic, "a bug")));
    Ok(())
}

/// Collects figures from here on; without it they cost nothing.
pub fn start_metrics() -> Result<PrometheusHandle, ConfigError> {
    let handle = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| ConfigError::new(format!("figures cannot be collected: {error}")))?;
    for (name, what) in COUNTERS {
        metrics::describe_counter!(name, what);
    }
    for (name, what) in GAUGES {
        metrics::describe_gauge!(name, what);
    }
    for (name, what) in TIMES {
        metrics::describe_histogram!(name, metrics::Unit::Seconds, what);
    }
    Ok(handle)
}
