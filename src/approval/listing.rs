//! The questions of one engagement, as those who ask see them. Shows of others' calls no argument, no preview and no
//! comment, which may speak of them.

use serde_json::{Value, json};

use super::{ApprovalView, Approvals, Unapproved, view::State};
use crate::{
    auth::Caller,
    config,
    model::{ApprovalFilter, ApprovalId},
    store::ApprovalRow,
};

/// How many rows are looked at for one page, at most: a state is told by looking at each.
const MOST_LOOKED_AT: usize = 1000;
/// Rows read at once.
const BATCH: u32 = 100;

/// One page of questions.
#[derive(Debug)]
pub struct Listed {
    /// The newest first.
    pub approvals: Vec<Value>,
    /// Where the next page starts.
    pub next: Option<ApprovalId>,
}

impl Approvals {
    /// The questions about calls of the caller's engagement that `filter` selects.
    pub async fn listed(
        &self,
        settings: &config::Approvals,
        caller: &Caller,
        filter: &ApprovalFilter,
    ) -> Result<Listed, Unapproved> {
        let token = caller.token();
        let engagement = token.engagement.as_str();
        let mut listed = Listed { approvals: Vec::new(), next: None };
        if let Some(id) = &filter.id {
            let row = self.store.approval(id.as_str()).await?;
            let own = |row: &ApprovalRow| row.jti.as_deref() == Some(token.jti.as_str());
            let fits =
                |row: &ApprovalRow| row.kind == "call" && row.engagement == engagement && (!filter.mine || own(row));
            if let Some(row) = row.filter(fits) {
                let mine = own(&row);
                let view = self.view(settings, row, false).await?;
                listed.approvals.extend(is_wanted(filter, view.state).then(|| entry(view, mine)));
            }
            return Ok(listed);
        }
        let jti = filter.mine.then_some(token.jti.as_str());
        let mut after = filter.after.as_ref().map(|id| id.as_str().to_owned());
        let mut looked_at = 0;
        loop {
            let rows = self.store.asked_calls(engagement, jti, after.as_deref(), BATCH).await?;
            let last = rows.len() < BATCH as usize;
            for row in rows {
                if listed.approvals.len() == filter.limit as usize || looked_at == MOST_LOOKED_AT {
                    listed.next = after.map(ApprovalId::from);
                    return Ok(listed);
                }
                looked_at += 1;
                after = Some(row.id.clone());
                let mine = row.jti.as_deref() == Some(token.jti.as_str());
                let view = self.view(settings, row, false).await?;
                listed.approvals.extend(is_wanted(filter, view.state).then(|| entry(view, mine)));
            }
            if last {
                return Ok(listed);
            }
        }
    }
}

fn is_wanted(filter: &ApprovalFilter, state: State) -> bool {
    filter.state.is_none_or(|wanted| wanted == state.as_str())
}

fn entry(view: ApprovalView, mine: bool) -> Value {
    let votes: Vec<Value> = view
        .votes
        .into_iter()
        .map(|vote| {
            json!({
                "login": vote.login,
                "vote": vote.vote,
                "strength": vote.strength,
                "comment": mine.then_some(vote.comment),
                "at": vote.at,
            })
        })
        .collect();
    json!({
        "id": view.id,
        "state": view.state,
        "tool": view.tool,
        "target": view.target,
        "operation_hash": view.operation_hash,
        "why": view.why,
        "quorum": view.quorum,
        "strength": view.strength,
        "subject": view.subject,
        "mine": mine,
        "asked_at": view.created_at,
        "expires_at": view.expires_at,
        "votes": votes,
        "arguments": view.operation.get("arguments").filter(|_| mine),
    })
}
