//! One test binary: stories of what people and GitHub do, contracts of what comes in several kinds,
//! and a look at the code's own rules.
#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::allow_attributes,
    reason = "tests may fail loudly, say aloud what they skip, and list many cases"
)]

mod architecture;
mod contract;
#[path = "../double/mod.rs"]
mod double;
mod stories;
mod support;
