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

<<<<<<< HEAD
pub mod approval;
pub mod auth;
pub mod exec;
=======
pub mod config;
>>>>>>> h-config
pub mod fleet;
pub mod guard;
pub mod model;
<<<<<<< HEAD
pub mod policy;
pub mod store;
=======
>>>>>>> h-config
pub mod tailnet;
pub mod tools;
