//! `token_revoke`: takes a token back, one's own or, with `token:admin`, another of the same engagement. Never makes one
//! and never gives one back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Settled, Spec, Tool, ToolError,
    kit::{answer, arguments, schema_of},
    rights::{marked, reason},
};
use crate::model::{Content, Effect, Operation, Question, RawOutput, Risk, Scope, Step};

/// The tool.
pub(super) struct TokenRevoke;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// From token_inspect or audit_query
    jti: String,
    /// Only preview
    #[serde(default)]
    dry_run: bool,
    /// Why, 3 to 500 characters
    reason: String,
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "some are read by the schema only")]
struct Data {
    jti: String,
    subject: String,
    /// Whether it is the token of this call
    own: bool,
    /// Null on a dry run of a token that is not revoked
    revoked_at: Option<String>,
    /// Whether it was revoked before this call
    already: bool,
}

const SPEC: Spec = Spec {
    name: "token_revoke",
    title: "Revoke a token",
    help: "Takes a token back for good: your own (the next call is then refused), or another of your engagement with token:admin.",
    scopes: &[],
    risk: Risk::High,
    effect: Effect::Destructive,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for TokenRevoke {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        if args.jti.len() != 32 || !args.jti.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ToolError::invalid("jti", "must be the id of a token: 32 digits and letters from a to f"));
        }
        reason(&args.reason)?;
        let question = Question::Revocation(args.jti.as_str().into());
        let mut operation = SPEC.operation(context, None, &args, vec![Step::Gateway(question)])?;
        if args.jti != context.token.as_str() {
            operation.scopes = &[Scope::TokenAdmin];
        }
        Ok(marked(operation, Some(args.reason), args.dry_run))
    }

    fn rechecks(&self) -> &'static [&'static str] {
        &["subject", "already"]
    }

    fn settle(&self, arguments: &Map<String, Value>, preview: &Content) -> Result<Settled, ToolError> {
        Ok(Settled::unchanged(arguments).stay(&preview.data, &["subject", "already"]))
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let answer = answer(raw)?;
        let data = Data::deserialize(answer).map_err(|error| ToolError::unreadable(&error.to_string()))?;
        let mut content = Content::new(answer.clone());
        content.changed = Some(!raw.operation.dry_run && !data.already);
        if raw.operation.dry_run && data.own {
            content
                .warnings
                .push("this is the token of this call: after a real run every call with it is refused".into());
        }
        if data.already {
            content.warnings.push("the token was revoked before".into());
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tools::rig;

    #[test]
    fn only_the_callers_own_token_needs_no_scope() {
        let own = json!({"jti": rig::TOKEN, "reason": "it leaked"});
        let operation = rig::plan_exactly(&TokenRevoke, &own).unwrap();
        assert_eq!((operation.scopes, operation.effect), (&[][..], Effect::Destructive));
        let other = json!({"jti": rig::TOKEN.replace('0', "1"), "reason": "it leaked"});
        let operation = rig::plan_exactly(&TokenRevoke, &other).unwrap();
        assert_eq!((operation.scopes, operation.risk), (&[Scope::TokenAdmin][..], Risk::High));
        rig::fits_budget(&TokenRevoke);
    }

    #[test]
    fn a_dry_run_of_anothers_needs_the_scope_too() {
        let other = json!({"jti": rig::TOKEN.replace('0', "1"), "reason": "it leaked", "dry_run": true});
        let operation = rig::plan_exactly(&TokenRevoke, &other).unwrap();
        assert_eq!((operation.scopes, operation.effect), (&[Scope::TokenAdmin][..], Effect::Read));
    }
}
