//! Reading many targets in one call: each under a permit of its own, a bounded number at a time, within one deadline.
//! What did not come in time is said to be missing; a slow or dead target holds up nobody but itself.

mod compared;
mod listed;
mod reading;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(super) use self::listed::{listed, recalled};
use self::reading::{Party, Read, Wish};
use super::{CallError, Pipeline, Rules, ToolCall};
use crate::{
    audit::Surveyed,
    auth::Caller,
    exec::ExecError,
    fleet::{
        Facts, Kept, Known, MOST_SNAPSHOTS, Reading, facts_script, inventories, inventory_script, known_of, summary,
    },
    model::{
        EngagementId, FleetFilter, Inventory, Missing, Question, RawOutput, Scope, SnapshotFilter, SnapshotId, Step,
        StepOutput, Survey, Target, TargetId,
    },
    policy::Permit,
    store::{SnapshotRow, Store},
    tools::ToolError,
};

/// The most parts that an answer names as missing.
const NAMED: usize = 200;

/// What seeing facts of a target needs.
const SEES: &[Scope] = &[Scope::FleetRead, Scope::SystemRead];
/// What seeing where it listens needs.
const SEES_SOCKETS: &[Scope] = &[Scope::FleetRead, Scope::SystemRead, Scope::NetworkRead];

impl Pipeline {
    /// Answers the survey that `permit` allows. How reading went, also where there is no answer in the end, goes into
    /// `record`.
    pub(super) async fn surveyed(
        &self,
        (caller, rules): (&Caller, &Rules),
        call: &ToolCall,
        permit: Permit,
        gone: &CancellationToken,
        record: &mut Option<Surveyed>,
    ) -> Result<RawOutput, CallError> {
        let operation = permit.redeem(self.clock.now()).map_err(|_| CallError::NotRun(ExecError::Expired))?;
        let Some(Step::Gateway(Question::Survey(survey))) = operation.steps.first() else {
            return Err(CallError::NotRun(ExecError::NoExecutor));
        };
        let party = Party { caller, rules, call, operation: &operation, gone };
        let answer = match survey {
            Survey::Summary { filter, refresh, skip } => {
                self.summarized(party, filter, *refresh, *skip, record).await?
            }
            Survey::Snapshot { filter, sections, label } => {
                self.kept(party, filter, sections, label.as_deref(), record).await?
            }
            Survey::Difference { from, to, target, sections, limit } => {
                let wanted = |id: &TargetId, section: Inventory| {
                    target.as_ref().is_none_or(|target| target == id)
                        && (sections.is_empty() || sections.contains(&section))
                };
                self.compared(party, (from, to.as_ref()), &wanted, *limit, record).await?
            }
        };
        Ok(RawOutput { outputs: vec![StepOutput::Answer(answer)], operation })
    }

    async fn summarized(
        &self,
        party: Party<'_>,
        filter: &FleetFilter,
        refresh: bool,
        skip: u32,
        record: &mut Option<Surveyed>,
    ) -> Result<Value, CallError> {
        let store = self.answers.store();
        let mut targets = party.selected(filter);
        let mut known = known_of(store, party.engagement()).await?;
        let mut partial = Vec::new();
        let now = self.clock.now();
        targets.retain(|target| match party.refusal(target, SEES, now) {
            None => true,
            Some(code) => {
                partial.push(missing(&target.id, code));
                false
            }
        });
        if refresh {
            let wish = |target: &Arc<Target>| {
                let script = facts_script(known.get(&target.id).and_then(Known::newest));
                Wish { target: target.clone(), script, scopes: SEES }
            };
            let wishes = targets.iter().map(wish).collect();
            let mut rows = Vec::new();
            let mut surveyed = Surveyed::of("facts.v1", targets.len());
            self.read(party, wishes, |target, read, now| {
                let attempt = match read {
                    Read::Ended(output) => {
                        let before = known.get(&target.id).and_then(Known::newest);
                        Facts::read(&output, now, before).map_err(|unreadable| unreadable.0.to_owned())
                    }
                    Read::Failed(code) => Err(code),
                    Read::Refused(code) => {
                        surveyed.failed(&target.id, &code);
                        partial.push(missing(&target.id, &code));
                        return false;
                    }
                };
                if let Err(code) = &attempt {
                    surveyed.failed(&target.id, code);
                }
                let came = attempt.is_ok();
                let after = Known::after(attempt, now, known.get(&target.id));
                rows.extend(after.row(party.engagement(), &target.id).ok());
                known.insert(target.id.clone(), after);
                came
            })
            .await?;
            *record = Some(surveyed);
            let there: Vec<&str> =
                party.rules.registry.targets_of(party.engagement()).map(|target| target.id.as_str()).collect();
            store.keep_facts(party.engagement().as_str(), &rows, &there).await?;
        }
        let mut answer = summary(&targets, &known, self.clock.now(), (skip, filter.limit));
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("refreshed".into(), refresh.into());
            answer.insert("partial".into(), json!(named(partial)));
        }
        Ok(answer)
    }

    async fn kept(
        &self,
        party: Party<'_>,
        filter: &FleetFilter,
        sections: &[Inventory],
        label: Option<&str>,
        record: &mut Option<Surveyed>,
    ) -> Result<Value, CallError> {
        let targets = party.selected(filter);
        if targets.is_empty() {
            return Err(failed(
                ToolError::new("not_found", "no target is selected, so there is nothing to keep")
                    .hint("fleet_list shows the targets there are"),
            ));
        }
        let ids: Vec<&TargetId> = targets.iter().map(|target| &target.id).take(NAMED).collect();
        if party.operation.dry_run {
            return Ok(json!({
                "id": null, "label": label, "created_at": null, "sections": sections, "asked": targets.len(),
                "targets": ids, "dropped": [], "partial": [],
            }));
        }
        let created_at = self.clock.now();
        let (reading, partial, surveyed) = self.inventory(party, &targets, sections).await?;
        let (asked, failures) = (targets.len(), surveyed.failures);
        *record = Some(surveyed);
        if failures >= asked {
            let why = partial.first().map(|missing| missing.reason.clone()).unwrap_or_default();
            return Err(failed(
                ToolError::new(
                    "no_facts",
                    format!("none of {asked} targets gave anything ({why}, …); nothing was kept"),
                )
                .hint("fleet_summarize with refresh shows how each of them does"),
            ));
        }
        let snapshot = SnapshotRow {
            id: SnapshotId::random().to_string(),
            engagement: party.engagement().to_string(),
            label: label.map(str::to_owned),
            created_at: created_at.to_string(),
            created_by: party.caller.token().subject.clone(),
            sections: serde_json::to_string(sections).map_err(|_| CallError::Internal)?,
            asked: i64::try_from(asked).unwrap_or(i64::MAX),
            failed: i64::try_from(failures).unwrap_or(i64::MAX),
        };
        let (rows, texts) = reading.rows();
        let dropped = self.answers.store().keep_snapshot(&snapshot, &rows, &texts, MOST_SNAPSHOTS).await?;
        Ok(json!({
            "id": snapshot.id, "label": label, "created_at": snapshot.created_at, "sections": sections, "asked": asked,
            "targets": ids, "dropped": dropped, "partial": named(partial),
        }))
    }

    /// What `targets` are made of now, what of it is missing, and how the reading went.
    async fn inventory(
        &self,
        party: Party<'_>,
        targets: &[Arc<Target>],
        sections: &[Inventory],
    ) -> Result<(Reading, Vec<Missing>, Surveyed), CallError> {
        let (now, mut reading, mut partial) = (self.clock.now(), Reading::default(), Vec::new());
        let without: Vec<Inventory> =
            sections.iter().copied().filter(|section| *section != Inventory::Sockets).collect();
        let mut wishes = Vec::new();
        for target in targets {
            let target = target.clone();
            // Where a target listens is a right of its own: without it the rest is read.
            let sockets = without.len() < sections.len();
            match party.refusal(&target, SEES_SOCKETS, now).filter(|_| sockets) {
                None => {
                    let scopes = if sockets { SEES_SOCKETS } else { SEES };
                    wishes.push(Wish { target, script: inventory_script(sections), scopes });
                }
                Some(code) => {
                    reading.add(&target.id, vec![(Inventory::Sockets, Err(code.to_owned()))]);
                    partial.push(Missing { section: format!("{}.sockets", target.id), reason: code.to_owned() });
                    if without.is_empty() {
                        continue;
                    }
                    wishes.push(Wish { target, script: inventory_script(&without), scopes: SEES });
                }
            }
        }
        let mut surveyed = Surveyed::of("facts.v1", targets.len());
        if without.is_empty() {
            partial.iter().for_each(|missing| {
                surveyed.failed(&missing.section.trim_end_matches(".sockets").into(), &missing.reason);
            });
        }
        self.read(party, wishes, |target, read, _| {
            let asked = if reading.has(&target.id, Inventory::Sockets) { &without } else { sections };
            let read: Result<Vec<(Inventory, Kept)>, String> = match read {
                Read::Ended(output) => inventories(&output, asked).map_err(|unreadable| unreadable.0.to_owned()),
                Read::Failed(code) | Read::Refused(code) => Err(code),
            };
            match read {
                Ok(kept) => {
                    let lacking = kept.iter().filter_map(|(section, kept)| Some((section, kept.as_ref().err()?)));
                    partial.extend(lacking.map(|(section, reason)| Missing {
                        section: format!("{}.{}", target.id, section.as_str()),
                        reason: reason.clone(),
                    }));
                    reading.add(&target.id, kept);
                    true
                }
                Err(code) => {
                    surveyed.failed(&target.id, &code);
                    partial.push(missing(&target.id, &code));
                    reading.add_failed(&target.id, asked, &code);
                    false
                }
            }
        })
        .await?;
        Ok((reading, partial, surveyed))
    }
}

fn failed(error: ToolError) -> CallError {
    CallError::Failed { error, exec: Vec::new() }
}

fn missing(target: &TargetId, reason: &str) -> Missing {
    Missing { section: target.to_string(), reason: reason.to_owned() }
}

/// The first of them, and that there are more.
fn named(mut partial: Vec<Missing>) -> Vec<Missing> {
    let more = partial.len().saturating_sub(NAMED);
    partial.sort_by(|a, b| a.section.cmp(&b.section));
    partial.truncate(NAMED);
    if more > 0 {
        partial.push(Missing { section: format!("{more} more"), reason: "too_many".to_owned() });
    }
    partial
}

/// The snapshot that the argument `field` names.
async fn stored(
    store: &Store,
    engagement: &EngagementId,
    field: &str,
    id: &SnapshotId,
) -> Result<SnapshotRow, CallError> {
    store.snapshot(engagement.as_str(), id.as_str()).await?.ok_or_else(|| {
        let error = ToolError::new("not_found", format!("`{field}`: there is no snapshot {:?}", id.as_str()));
        failed(error.hint("snapshot_list shows those that are kept"))
    })
}

fn shown(row: &SnapshotRow) -> Value {
    json!({"id": row.id, "label": row.label, "created_at": row.created_at})
}

/// The kept snapshots, newest first.
pub(super) async fn snapshots(
    store: &Store,
    engagement: &EngagementId,
    filter: &SnapshotFilter,
) -> Result<Value, CallError> {
    let before = filter.before.as_ref().map(SnapshotId::as_str);
    // One more than is shown tells whether there are more.
    let (mut rows, total) =
        store.snapshots(engagement.as_str(), filter.label.as_deref(), before, filter.limit.saturating_add(1)).await?;
    let more = rows.len() > filter.limit as usize;
    rows.truncate(filter.limit as usize);
    let next = rows.last().filter(|_| more).map(|row| row.id.clone());
    let entries: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "id": row.id,
                "label": row.label,
                "created_at": row.created_at,
                "created_by": row.created_by,
                "sections": serde_json::from_str::<Value>(&row.sections).unwrap_or_default(),
                "asked": row.asked,
                "failed": row.failed,
            })
        })
        .collect();
    Ok(json!({"snapshots": entries, "total": total, "next_cursor": next}))
}
