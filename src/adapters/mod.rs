//! The only places that know a vendor: GitHub, the databases, the makers of sandboxes, the system.

pub mod github;
pub mod sandbox;
pub mod store;
pub mod system;
