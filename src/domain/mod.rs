//! What the service knows, with no way to act on it: no I/O, no clock, no async.
//! Everything here can be read and tested with plain values.

pub mod agent;
pub mod agent_stream;
pub mod change;
pub mod command;
pub mod comment;
pub mod connector;
pub mod decision;
pub mod delivery;
pub mod diff;
pub mod effect;
pub mod failure;
pub mod gateway;
pub mod ids;
pub mod key;
pub mod listing;
pub mod log_entry;
pub mod manifest;
pub mod markdown;
pub mod money;
pub mod network;
pub mod person;
pub mod preferences;
pub mod project;
pub mod prompt;
pub mod pull;
pub mod redact;
pub mod registration;
pub mod reply;
pub mod review;
pub mod run;
pub mod secret;
pub mod task;
pub mod text;
