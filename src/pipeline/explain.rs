//! A judgement as `policy_explain` and `tailops policy explain` show it. Decides nothing.

use serde_json::{Value, json};

use crate::{
    model::Operation,
    policy::{Judgement, Verdict},
};

/// What policy says to `operation`, with every check.
pub fn explanation(tool: &str, operation: &Operation, judgement: &Judgement) -> Value {
    let decision = match judgement.verdict() {
        Verdict::Pass => "allow",
        Verdict::Ask => "ask",
        Verdict::Deny => "deny",
    };
    let mut answer = json!({
        "tool": tool,
        "decision": decision,
        "rule": judgement.rule(),
        "policies": judgement.policies(),
        "checks": judgement.trace(),
        "operation": {
            "target": operation.target.as_ref().map(|target| &target.id),
            "scopes": operation.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
            "effect": operation.effect,
            "risk": operation.risk,
            "raised": operation.raised,
            "dry_run": operation.dry_run,
            "arguments": operation.arguments,
        },
    });
    if let (Verdict::Ask, Some(answer)) = (judgement.verdict(), answer.as_object_mut()) {
        answer.insert("quorum".into(), judgement.quorum().into());
        answer.insert("strength".into(), judgement.strength().as_str().into());
    }
    answer
}

/// The same for a call that could not even be planned.
pub fn unplanned(tool: &str, code: &str, message: &str) -> Value {
    json!({"tool": tool, "decision": "invalid", "code": code, "message": message, "checks": []})
}
