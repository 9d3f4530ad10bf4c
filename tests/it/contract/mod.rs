//! What every kind of a thing has to do.

mod agent_streams;
mod official_sdk;
mod sandbox;
mod store;
mod vercel;
