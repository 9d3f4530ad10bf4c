//! The makers of sandboxes, each in a place of its own.

pub mod local;
pub mod vercel;
