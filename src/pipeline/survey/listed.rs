//! Targets with what is known of them: the list of the fleet, and what a probe of one target is shown beside. Reads no
//! target, and tells nobody how a target does that it may not read.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    SEES, missing, named,
    reading::{refusal, selected},
};
use crate::{
    auth::Caller,
    fleet::{Condition, known_of, known_target},
    model::{FleetFilter, Health, Operation, Target, TargetId},
    pipeline::{CallError, Rules},
    store::Store,
};

/// The targets that `filter` selects, by id, a page of them. One whose health the caller may not see has none, and is
/// of no health that is asked for; `partial` says so.
pub(in crate::pipeline) async fn listed(
    store: &Store,
    (caller, rules): (&Caller, &Rules),
    operation: &Operation,
    filter: &FleetFilter,
    now: Timestamp,
) -> Result<Value, CallError> {
    let known = known_of(store, &operation.engagement).await?;
    let condition = |target: &Arc<Target>| match refusal((caller, rules), operation, target, SEES, now) {
        None => Ok(Condition::of(known.get(&target.id), now)),
        Some(code) => Err(code),
    };
    let mut targets = selected(&rules.registry, &operation.engagement, filter);
    let (mut partial, mut unknown) = (Vec::new(), None);
    if let Some(wanted) = filter.health {
        let mut count = 0_u32;
        targets.retain(|target| match condition(target) {
            Ok(condition) => {
                count += u32::from(condition.health == Health::Unknown);
                condition.health == wanted
            }
            Err(code) => {
                partial.push(missing(&target.id, code));
                false
            }
        });
        unknown = Some(count);
    }
    let total = targets.len();
    let is_after = |id: &TargetId| filter.after.as_ref().is_none_or(|after| id > after);
    let mut rest = targets.iter().filter(|target| is_after(&target.id));
    let page: Vec<_> = rest.by_ref().take(filter.limit as usize).collect();
    let next = rest.next().and(page.last()).map(|last| last.id.clone());
    let entry = |target: &Arc<Target>| {
        let condition = condition(target).ok();
        json!({
            "id": target.id,
            "kind": target.kind,
            "segment": target.segment,
            "tags": target.tags,
            "capabilities": target.capabilities,
            "health": condition.as_ref().map(|condition| condition.health),
            "facts_age_s": condition.and_then(|condition| condition.age_s(now)),
        })
    };
    let entries: Vec<Value> = page.into_iter().map(entry).collect();
    Ok(json!({
        "targets": entries, "total": total, "unknown": unknown, "next_cursor": next, "partial": named(partial),
    }))
}

/// What is known of the target of `operation`, or why the caller may not see it: `known` or `refused`.
pub(in crate::pipeline) async fn recalled(
    store: &Store,
    parties: (&Caller, &Rules),
    operation: &Operation,
    now: Timestamp,
) -> Result<Value, CallError> {
    let target = operation.target.as_ref().ok_or(CallError::Internal)?;
    if let Some(code) = refusal(parties, operation, target, SEES, now) {
        return Ok(json!({"refused": code}));
    }
    let known = known_target(store, &operation.engagement, &target.id).await?;
    Ok(json!({"known": Condition::of(known.as_ref(), now).shown(now)}))
}
