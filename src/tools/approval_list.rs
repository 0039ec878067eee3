//! `approval_list`: how the questions to people stand that calls of the engagement led to. Shows what others asked for
//! only by name and hash: no preview, and arguments and comments only of the caller's own calls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{approval_id, arguments, schema_of, within},
};
use crate::model::{ApprovalFilter, Content, Effect, Operation, Question, RawOutput, Risk, Scope, Step};

/// The tool.
pub(super) struct ApprovalList;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Standing")]
    state: Option<Standing>,
    /// Only what this token asked for
    #[serde(default = "mine")]
    mine: bool,
    /// 1 to 100
    #[serde(default = "limit")]
    limit: u32,
    /// next_cursor of the page before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    cursor: Option<String>,
}

// Without a description each: they would be longer than the rest of the schema.
#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Standing {
    Pending,
    Approved,
    Denied,
    Expired,
    Used,
}

impl Standing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Used => "used",
        }
    }
}

fn mine() -> bool {
    true
}

fn limit() -> u32 {
    20
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    /// The newest first
    approvals: Vec<Entry>,
}

/// One question.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
pub(super) struct Entry {
    id: String,
    /// approved: enough people agreed, and it waits for its one run
    state: Standing,
    tool: String,
    target: Option<String>,
    operation_hash: String,
    /// Why a yes is needed
    why: String,
    /// How many people must agree
    quorum: u32,
    /// The least strength of each yes: identity or signature
    strength: String,
    /// Who asks
    subject: String,
    /// Whether this token asked
    mine: bool,
    asked_at: String,
    expires_at: String,
    votes: Vec<Vote>,
    /// Of the call; null where another token asked
    arguments: Option<Map<String, Value>>,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Vote {
    login: String,
    /// approve or deny
    vote: String,
    /// identity or signature
    strength: String,
    /// Null where another token asked
    comment: Option<String>,
    at: String,
}

const SPEC: Spec = Spec {
    name: "approval_list",
    title: "List approvals",
    help: "Shows how approvals stand that calls asked for: who decided what, and until when they are good.",
    scopes: &[Scope::ApprovalRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for ApprovalList {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        within("limit", args.limit, 1..=100)?;
        let filter = ApprovalFilter {
            id: args.id.as_deref().map(|id| approval_id("id", id)).transpose()?,
            state: args.state.map(Standing::as_str),
            mine: args.mine,
            after: SPEC.place(args.cursor.as_ref(), |id| approval_id("cursor", id).ok())?,
            limit: args.limit,
        };
        SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Approvals(filter))])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        SPEC.page(raw)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tools::rig;

    #[test]
    fn only_the_callers_own_unless_it_says_otherwise() {
        let asked = |args: Value| match rig::plan_exactly(&ApprovalList, &args).unwrap().steps.remove(0) {
            Step::Gateway(Question::Approvals(filter)) => filter,
            other => panic!("{other:?}"),
        };
        assert_eq!(asked(json!({})), ApprovalFilter { mine: true, limit: 20, ..ApprovalFilter::default() });
        let all = asked(json!({"mine": false, "state": "approved", "cursor": "approval_list:ab12", "limit": 100}));
        assert_eq!((all.mine, all.state, all.limit), (false, Some("approved"), 100));
        assert_eq!(all.after, Some("ab12".into()));
        rig::fits_budget(&ApprovalList);
    }
}
