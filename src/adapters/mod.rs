//! The only places that know a vendor: GitHub, the databases, the makers of models and
//! sandboxes, the system.

pub mod github;
pub mod models;
pub mod sandbox;
pub mod signin;
pub mod store;
pub mod system;
pub mod traces;
pub mod vault;
