//! `[tailnet]`: which peers may come in, and how the tailnet policy's rules are read. Never a right of its own: what
//! stands here only narrows.

use std::collections::BTreeSet;

use super::section::Section;

/// The application capability that carries the rules, unless the admin chose a domain of their own.
pub const CAPABILITY: &str = "tailops.dev/cap/gateway";

/// Which peers may come in, and with which rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tailnet {
    /// The application capability in the tailnet policy that carries the rules for this gateway: `DOMAIN/PATH`.
    pub capability: String,
    /// Whether a peer without rules comes in.
    pub grants: GrantsMode,
    /// The only tags that may connect; with `require_users` empty too, every tag may.
    pub require_tags: BTreeSet<String>,
    /// The only login names that may connect; with `require_tags` empty too, every user may.
    pub require_users: BTreeSet<String>,
    /// Whether nodes shared in from other tailnets may connect.
    pub allow_shared: bool,
    /// Stable ids of the nodes that route for others and may connect all the same.
    pub allow_routers: BTreeSet<String>,
}

/// What a peer without rules in the tailnet policy gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantsMode {
    /// It is refused.
    Required,
    /// Its token alone decides. A peer that has rules is held to them all the same.
    Optional,
}

impl Default for Tailnet {
    fn default() -> Self {
        Self {
            capability: CAPABILITY.to_owned(),
            grants: GrantsMode::Required,
            require_tags: BTreeSet::new(),
            require_users: BTreeSet::new(),
            allow_shared: false,
            allow_routers: BTreeSet::new(),
        }
    }
}

/// The section.
pub(super) fn tailnet(_root: &mut Section<'_>) -> Tailnet {
    Tailnet::default()
}
