//! The lab: a real tailnet on one machine. A control server (headscale), real nodes (tailscaled) in network namespaces
//! that this test makes itself, and the real gateway among them. docs/lab.md says what it needs and how it cleans up.
//! Sends nothing anywhere but over its own bridge, and kills only what it started.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

#[macro_use]
mod over;

mod again;
mod approvals;
mod basics;
mod calls;
mod client;
mod control;
mod cost;
mod daemon;
mod fleet;
mod gateway;
mod host;
mod killed;
mod lab;
mod live;
mod local_api;
mod machine;
mod node;
mod parts;
mod pasted;
mod policy;
#[path = "../it/request.rs"]
mod request;
mod run;
mod shell;
mod site;
mod skipped;
mod swept;
mod userspace;
mod wait;
