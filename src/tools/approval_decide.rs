//! `approval_decide`: what a person says to one question. Decides nothing here: whether the word counts is looked up where
//! decisions are kept, and only the connection tells whose word it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    approval_list::Entry,
    kit::{answer, approval_id, arguments, plain, schema_of},
};
use crate::model::{Ballot, Content, Effect, Operation, Question, RawOutput, Risk, Scope, Step, Vote};

/// The tool.
pub(super) struct ApprovalDecide;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// From approval_list
    id: String,
    decision: Decision,
    /// Of what the person saw
    operation_hash: String,
    /// Why, for the record
    comment: String,
    /// SSHSIG, armored
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    signature: Option<String>,
}

#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Approve,
    Deny,
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    approval: Entry,
}

const SPEC: Spec = Spec {
    name: "approval_decide",
    title: "Decide on an approval",
    help: "For people only: agrees to one operation that waits for a person, or denies it. Nobody decides on what they asked for.",
    scopes: &[Scope::ApprovalDecide],
    risk: Risk::Critical,
    effect: Effect::Destructive,
    kind: Kind::Gateway,
    idempotent: false,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// The longest signature, in bytes: those of every kind of key are far shorter.
const LONGEST_SIGNATURE: usize = 8192;

impl Tool for ApprovalDecide {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hash(&args.operation_hash) {
            return Err(ToolError::invalid("operation_hash", "must be that of the approval: 64 hex digits"));
        }
        plain("comment", &args.comment, 500)?;
        if args.signature.as_ref().is_some_and(|text| text.is_empty() || text.len() > LONGEST_SIGNATURE) {
            return Err(ToolError::invalid("signature", "must be an armored SSH signature; leave it out without one"));
        }
        let ballot = Ballot {
            id: approval_id("id", &args.id)?,
            vote: match args.decision {
                Decision::Approve => Vote::Approve,
                Decision::Deny => Vote::Deny,
            },
            operation_hash: args.operation_hash.clone(),
            comment: args.comment.clone(),
            signature: args.signature.clone(),
        };
        let operation = SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Decision(ballot))])?;
        Ok(Operation { reason: Some(args.comment), ..operation })
    }

    fn rechecks(&self) -> &'static [&'static str] {
        &["operation_hash"]
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        Ok(Content { changed: Some(true), ..Content::new(answer(raw)?.clone()) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tools::rig;

    #[test]
    fn what_was_said_is_taken_as_it_is() {
        let wish =
            json!({"id": "ab12", "decision": "deny", "operation_hash": "0".repeat(64), "comment": "not tonight"});
        let mut operation = rig::plan_exactly(&ApprovalDecide, &wish).unwrap();
        assert_eq!((operation.risk, operation.effect, operation.dry_run), (Risk::Critical, Effect::Destructive, false));
        assert_eq!(operation.reason.as_deref(), Some("not tonight"));
        let Step::Gateway(Question::Decision(ballot)) = operation.steps.remove(0) else { panic!("{operation:?}") };
        assert_eq!((ballot.vote, ballot.signature), (Vote::Deny, None));
        rig::fits_budget(&ApprovalDecide);
    }
}
