//! What every kind of a thing has to do.

mod agent_streams;
mod sandbox;
mod store;
