//! The whole gateway under test: started for real on a temporary directory, called by the real MCP client over real
//! HTTP. Only the network's identity of peers and the clock are scripted, where a test says so.
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

mod acl;
mod approving;
mod bindings;
mod bridged;
mod cases;
mod child;
mod cli;
mod clients;
mod credentials;
#[allow(dead_code, reason = "shared with the unit tests of the tailnet")]
mod daemon;
mod disk_full;
mod docs;
mod doctor;
mod emergency;
mod environment;
mod fleet;
mod harness;
mod host_alarm;
mod jobs;
mod joined;
mod killed;
mod killed_jobs;
mod manual;
mod matrix;
#[cfg(not(feature = "embedded"))]
mod node_absent;
#[cfg(feature = "embedded")]
mod node_child;
mod openapi;
mod packaging;
mod path;
#[allow(dead_code, reason = "for the tests of approvals, part by part")]
mod people;
mod policy_files;
mod power;
mod record;
mod refused;
mod registry;
mod reload;
#[allow(dead_code, reason = "for the tests of targets behind SSH, part by part")]
mod remote;
mod request;
mod scripted;
mod sealed;
mod served;
mod ssh_keygen;
#[allow(dead_code, reason = "shared with the unit tests of the backend")]
mod sshd;
mod systemd;
mod tidy;
mod usage;
