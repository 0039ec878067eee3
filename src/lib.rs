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

pub mod config;
pub mod fleet;
pub mod model;
pub mod tailnet;
pub mod tools;
