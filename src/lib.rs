//! The gateway through which AI agents operate machines.
//!
//! One call takes one straight path, and the modules stand in its order; a module imports only those above it:
//!
//! ```text
//! listener -> peer (who is connected?) -> token (which agent, which scopes?) -> rate limit -> MCP
//!    -> tool.plan -> policy -> [approval] -> executor -> render -> guard (caps, redaction) -> audit -> reply
//! ```
//!
//! `docs/architecture.md` walks through it and lists the invariants.

pub mod app;
pub mod approval;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod config;
pub mod exec;
pub mod fleet;
pub mod guard;
pub mod http;
pub mod limits;
pub mod mcp;
pub mod model;
pub mod pipeline;
pub mod policy;
pub mod store;
pub mod tailnet;
pub mod tools;
