//! Questions to people, as tools list and answer them, under a permit. Answers for the tenant: a question of another
//! engagement looks like none. Whose word a decision is, the connection alone tells.

use serde_json::{Value, json};

use super::{CallError, Rules};
use crate::{
    approval::{Approvals, NotAPerson, Person, Undecided},
    auth::Caller,
    model::{ApprovalFilter, ApprovalId, Ballot},
    tools::ToolError,
};

/// The questions that `filter` selects.
pub(super) async fn listed(
    approvals: &Approvals,
    rules: &Rules,
    caller: &Caller,
    filter: &ApprovalFilter,
) -> Result<Value, CallError> {
    let page = approvals.listed(&rules.approvals, caller, filter).await?;
    Ok(json!({"approvals": page.approvals, "next_cursor": page.next}))
}

/// Takes the caller's word, and says how the question stands then.
pub(super) async fn decided(
    approvals: &Approvals,
    rules: &Rules,
    caller: &Caller,
    ballot: &Ballot,
) -> Result<Value, CallError> {
    let person = Person::of(caller.peer()).map_err(|why: NotAPerson| refused("not_a_person", &why))?;
    let one = ApprovalFilter { id: Some(ballot.id.clone()), limit: 1, ..ApprovalFilter::default() };
    if approvals.listed(&rules.approvals, caller, &one).await?.approvals.is_empty() {
        return Err(unknown(&ballot.id));
    }
    approvals.decide(&rules.approvals, &person, ballot).await.map_err(|why| match why {
        Undecided::Store(error) => CallError::Unavailable(error),
        Undecided::Unknown(id) => unknown(&id),
        why => refused(why.code(), &why),
    })?;
    let mut page = approvals.listed(&rules.approvals, caller, &one).await?;
    Ok(json!({"approval": page.approvals.pop()}))
}

fn unknown(id: &ApprovalId) -> CallError {
    refused("approval_unknown", &Undecided::Unknown(id.clone()))
}

fn refused(code: &'static str, why: &impl ToString) -> CallError {
    CallError::Failed { error: ToolError::new(code, why.to_string()), exec: Vec::new() }
}
