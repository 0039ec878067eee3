//! `[tailnet]`: which peers may come in, and how the tailnet policy's rules are read. Never a right of its own: what
//! stands here only narrows.

use std::collections::BTreeSet;

use super::{
    node::tag,
    section::{Section, Value},
    settings::add_new,
};

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

/// The section; `mode` is `node.mode`, as loopback has no tailnet.
pub(super) fn tailnet(root: &mut Section<'_>, mode: &str) -> Tailnet {
    let given = root.value("tailnet");
    let mut section = root.section("tailnet");
    if let Some(value) = given.filter(|_| mode == "loopback") {
        value.refuse(
            "has no meaning in node.mode loopback, which has no tailnet; the modes that have one are host and embedded",
        );
    }
    let default = Tailnet::default();
    let capability = section.value("capability").and_then(|value| capability(&value));
    let grants = [("required", GrantsMode::Required), ("optional", GrantsMode::Optional)];
    let grants = section.value("grants").and_then(|value| value.choice(&grants)).unwrap_or(default.grants);
    let mut require = section.section("require");
    let require_tags = set(&mut require, "tags", "tags", |item| tag(item).map(str::to_owned));
    let require_users = set(&mut require, "users", "login names", login);
    require.finish();
    let allow_shared = section.flag("allow_shared", default.allow_shared);
    let allow_routers = set(&mut section, "allow_routers", "stable node ids", node_id);
    section.finish();
    Tailnet {
        capability: capability.unwrap_or(default.capability),
        grants,
        require_tags,
        require_users,
        allow_shared,
        allow_routers,
    }
}

fn set<'a>(
    section: &mut Section<'a>,
    key: &'static str,
    what: &str,
    read: impl Fn(&Value<'a>) -> Option<String>,
) -> BTreeSet<String> {
    let mut found = Vec::new();
    for item in section.value(key).and_then(|value| value.items(what)).unwrap_or_default() {
        if let Some(text) = read(&item) {
            add_new(&mut found, text, &item);
        }
    }
    found.into_iter().collect()
}

/// `DOMAIN/PATH`, as control servers take it: no scheme, and no domain that belongs to Tailscale.
fn capability(value: &Value<'_>) -> Option<String> {
    const WANTED: &str = "a domain of yours and a path, such as \"example.org/cap/tailops\"";
    let text = value.text(WANTED)?;
    let (domain, path) = text.split_once('/').unwrap_or((text, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte));
    let own = domain != "tailscale.com" && !domain.ends_with(".tailscale.com");
    let fits = text.len() <= 200 && domain.contains('.') && !domain.starts_with('.') && !path.is_empty();
    if fits && own && plain(text) && !text.contains("//") && !text.ends_with('/') {
        return Some(text.to_owned());
    }
    value.refuse(format_args!("{text:?} must be {WANTED}"));
    None
}

fn login(value: &Value<'_>) -> Option<String> {
    const WANTED: &str = "a login name such as \"maria@example.org\"";
    let text = value.text(WANTED)?;
    if text.len() <= 254 && text.contains('@') && !text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Some(text.to_owned());
    }
    value.refuse(format_args!("{text:?} must be {WANTED}"));
    None
}

fn node_id(value: &Value<'_>) -> Option<String> {
    const WANTED: &str = "a stable node id such as \"n7ETArqRfp11CNTRL\"";
    let text = value.text(WANTED)?;
    if (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Some(text.to_owned());
    }
    value.refuse(format_args!("{text:?} must be {WANTED}"));
    None
}
