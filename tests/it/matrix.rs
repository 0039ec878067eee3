//! Roles × tools: what policy says, as a table that is reviewed like code.

use std::{fmt::Write, fs, path::Path};

use serde_json::json;

use crate::{
    cases,
    harness::{Gateway, Grant},
};

/// The roles: the scopes of their tokens, `policy:read` besides.
const ROLES: &[(&str, &str)] = &[
    ("nobody", ""),
    ("readonly", "readonly"),
    ("auditor", "audit:read,security:read"),
    ("operator", "system:control,log:read,network:read,fleet:read"),
    ("librarian", "file:write"),
    ("sysadmin", "system:admin"),
    ("admin", "admin"),
];

#[tokio::test]
async fn the_matrix_is_the_reviewed_one() {
    let gateway = Gateway::with(|config| {
        let many = std::num::NonZeroU32::new(100_000).unwrap();
        (config.limits.calls_per_minute, config.limits.calls_burst) = (many, many);
    })
    .await;
    let mut table = format!("{:18}", "tool");
    let mut tokens = Vec::new();
    for (role, scopes) in ROLES {
        write!(table, "{role:>11}").unwrap();
        tokens.push(gateway.mint(Grant::scopes(&format!("policy:read,{scopes}"))).await);
    }
    table.push('\n');
    for case in cases::all() {
        write!(table, "{:18}", case.tool).unwrap();
        for token in &tokens {
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
