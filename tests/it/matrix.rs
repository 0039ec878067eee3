//! Roles × tools: what policy says, as a table that is reviewed like code.

use std::{fmt::Write, fs, path::Path};

use serde_json::json;

use crate::{
    cases,
    harness::{Behind, Gateway, Grant, alice, grants, http_client, modern, tailnet_peer},
};

/// The roles: the scopes of their tokens, `policy:read` besides, and the scopes that the tailnet policy grants their
/// peer, where it narrows.
const ROLES: &[(&str, &str, Option<&[&str]>)] = &[
    ("nobody", "", None),
    ("readonly", "readonly", None),
    ("auditor", "audit:read,security:read", None),
    ("operator", "system:control,log:read,network:read,fleet:read", None),
    ("librarian", "file:write", None),
    ("sysadmin", "system:admin", None),
    ("admin", "admin", None),
    ("approver", "approval:decide,approval:read", None),
    // Everything by their token, and little by the tailnet policy.
    ("guest", "admin", Some(&["readonly"])),
    ("restarter", "admin", Some(&["system:control"])),
];

#[tokio::test]
async fn the_matrix_is_the_reviewed_one() {
    let mut gateway = Gateway::with(|config| {
        let many = std::num::NonZeroU32::new(100_000).unwrap();
        (config.limits.calls_per_minute, config.limits.calls_burst) = (many, many);
    })
    .await;
    let mut table = format!("{:18}", "tool");
    let mut tokens = Vec::new();
    for (role, scopes, granted) in ROLES {
        write!(table, "{role:>11}").unwrap();
        let scopes = format!("policy:read,{scopes}");
        let (token, http) = match granted {
            None => (gateway.mint(Grant::scopes(&scopes)).await, gateway.http.clone()),
            Some(granted) => {
                let granted = [granted, &["policy:read"][..]].concat();
                let peer = grants(json!([{"scopes": granted}]));
                gateway.everybody_is(tailnet_peer("n1", "laptop", Behind::User("a@b.c"), peer, "100.64.0.7:1"));
                // A connection of its own, which stays that peer's.
                let http = http_client().pool_max_idle_per_host(1).build().unwrap();
                let token = gateway.mint(Grant::bound(&scopes, "user:a@b.c")).await;
                let first = modern(&http, &gateway.url("/mcp"), Some(&token), "token_inspect", json!({}));
                gateway.send(first).await.data();
                gateway.peers_are(|address| Ok(alice(address)));
                (token, http)
            }
        };
        tokens.push((token, http));
    }
    table.push('\n');
    for case in cases::all() {
        write!(table, "{:18}", case.tool).unwrap();
        for (token, http) in &tokens {
            gateway.http = http.clone();
            let decision = if case.tool == "policy_explain" {
                let answer = gateway.call(token, case.tool, case.call.clone()).await;
                if answer.is_error() { answer.code().to_owned() } else { "allow".to_owned() }
            } else {
                let question = json!({"tool": case.tool, "args": case.call});
                let answer = gateway.call(token, "policy_explain", question).await;
                answer.data()["decision"].as_str().unwrap().to_owned()
            };
            write!(table, "{decision:>11}").unwrap();
        }
        table.push('\n');
    }
    gateway.stop().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/policy-matrix.txt");
    let reviewed = fs::read_to_string(&path).unwrap_or_default();
    if reviewed != table {
        let proposed = path.with_extension("txt.new");
        fs::write(&proposed, &table).unwrap();
        panic!("the matrix changed; if that is right, rename {} over {}\n{table}", proposed.display(), path.display());
    }
}
