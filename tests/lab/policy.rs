//! The tailnet policies that tests put in force. Each is the baseline with some grants more or less.

use serde_json::{Value, json};

/// The gateway's capability.
pub const CAPABILITY: &str = "tailops.dev/cap/gateway";
/// The port the gateway has on the tailnet.
pub const PORT: u16 = 8080;

/// alice and the agent may use the gateway; the gateway may reach port 22 of the targets; nothing else is allowed.
pub fn baseline() -> String {
    with(&[alice(), agent(), targets()])
}

/// Nothing is allowed. For as long as headscale has no users: it refuses a policy that names one it does not know.
pub fn baseline_without_users() -> String {
    r#"{"tagOwners": {"tag:web": []}, "grants": []}"#.to_owned()
}

/// A policy with these grants and no others.
pub fn with(grants: &[Value]) -> String {
    let policy = json!({
        "groups": {"group:ops": ["alice@example.com"]},
        "tagOwners": {
            "tag:tailops": ["group:ops"],
            "tag:mcp-client": ["group:ops"],
            "tag:web": ["group:ops"],
        },
        "grants": grants,
    });
    serde_json::to_string_pretty(&policy).unwrap()
}

/// alice may do anything there, as far as her tokens go.
pub fn alice() -> Value {
    gateway(&["group:ops"], json!({"scopes": ["admin"], "approve": true}))
}

/// Agents may look.
pub fn agent() -> Value {
    gateway(&["tag:mcp-client"], json!({"scopes": ["readonly"]}))
}

/// Peers that reach the gateway's port and have this rule of its capability.
pub fn gateway(src: &[&str], rule: Value) -> Value {
    json!({"src": src, "dst": ["tag:tailops"], "ip": [format!("tcp:{PORT}")], "app": {CAPABILITY: [rule]}})
}

/// Peers that reach the port of these nodes, and have no capability there.
pub fn network(src: &[&str], dst: &str, port: u16) -> Value {
    json!({"src": src, "dst": [dst], "ip": [format!("tcp:{port}")]})
}

/// The gateway reaches what it operates.
pub fn targets() -> Value {
    network(&["tag:tailops"], "tag:web", 22)
}
