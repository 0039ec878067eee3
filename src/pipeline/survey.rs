//! Reading many targets in one call: each under a permit of its own, a bounded number at a time, within one deadline.
//! What did not come in time is said to be missing; a slow or dead target holds up nobody but itself.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{CallError, Pipeline, Rules, ToolCall};
use crate::{
    audit::Surveyed,
    auth::Caller,
    exec::ExecError,
    fleet::{
        Facts, Kept, Known, MOST_SNAPSHOTS, Reading, Registry, compare, facts_script, inventories, inventory_script,
        known_of, summary,
    },
    model::{
        Effect, EngagementId, FleetFilter, Inventory, Missing, Operation, Question, RawOutput, Risk, Scope, Script,
        ScriptOutput, SnapshotFilter, SnapshotId, Step, StepOutcome, StepOutput, Survey, Tally, Target, TargetId,
    },
    policy::{Decision, Permit, Verdict},
    store::{SnapshotRow, Store},
    tools::ToolError,
};

/// The most targets that one call reads at the same time.
const AT_ONCE: usize = 64;
/// The longest a call reads. Clients give up after a minute.
const DEADLINE: Duration = Duration::from_secs(50);
/// The longest one target is waited for: its turn, connecting, the script's own limit, and its end.
const PATIENCE: Duration = Duration::from_secs(40);
/// The most parts that an answer names as missing.
const NAMED: usize = 200;

/// What seeing facts of a target needs.
const SEES: &[Scope] = &[Scope::FleetRead, Scope::SystemRead];
/// What seeing where it listens needs.
const SEES_SOCKETS: &[Scope] = &[Scope::FleetRead, Scope::SystemRead, Scope::NetworkRead];

/// How one target was read.
enum Read {
    /// Its script ended by itself.
    Ended(ScriptOutput),
    /// It was tried, and gave nothing.
    Failed(String),
    /// It was not tried.
    Refused(String),
}

/// What one target is asked, with what that needs.
struct Wish {
    target: Arc<Target>,
    script: Script,
    scopes: &'static [Scope],
}

/// For whom many targets are read, and in which operation.
#[derive(Clone, Copy)]
struct Party<'a> {
    caller: &'a Caller,
    rules: &'a Rules,
    call: &'a ToolCall,
    operation: &'a Operation,
    gone: &'a CancellationToken,
}

impl Party<'_> {
    /// The read of `target` that is part of this operation: judged and permitted by itself.
    fn part(&self, target: Arc<Target>, scopes: &'static [Scope], steps: Vec<Step>) -> Operation {
        Operation {
            tool: self.operation.tool,
            target: Some(target),
            engagement: self.operation.engagement.clone(),
            scopes,
            effect: Effect::Read,
            risk: Risk::Low,
            raised: None,
            asks: None,
            dry_run: false,
            reason: None,
            moment: None,
            arguments: self.operation.arguments.clone(),
            places: Vec::new(),
            steps,
        }
    }

    /// Why the caller may not see what needs `scopes` of `target`; none where it may.
    fn refusal(&self, target: &Arc<Target>, scopes: &'static [Scope], now: Timestamp) -> Option<&'static str> {
        let operation = self.part(target.clone(), scopes, Vec::new());
        let judgement = self.rules.policy.judge(self.caller.peer(), self.caller.token(), &operation, now);
        (judgement.verdict() != Verdict::Pass).then(|| judgement.code())
    }

    fn engagement(&self) -> &EngagementId {
        &self.operation.engagement
    }

    fn selected(&self, filter: &FleetFilter) -> Vec<Arc<Target>> {
        selected(&self.rules.registry, self.engagement(), filter)
    }
}

/// The targets of `engagement` that `filter` selects, by id.
fn selected(registry: &Registry, engagement: &EngagementId, filter: &FleetFilter) -> Vec<Arc<Target>> {
    let wanted = |is: Option<&str>, wanted: &Option<String>| wanted.is_none() || is == wanted.as_deref();
    let targets = registry.targets_of(engagement).filter(|target| {
        filter.tag.as_ref().is_none_or(|tag| target.tags.contains(tag))
            && wanted(target.segment.as_deref(), &filter.segment)
            && wanted(Some(target.kind.as_str()), &filter.kind)
    });
    targets.cloned().collect()
}

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
            let wish = |target: &Arc<Target>| Wish { target: target.clone(), script: facts_script(), scopes: SEES };
            let mut rows = Vec::new();
            let mut surveyed = Surveyed::of("facts.v1", targets.len());
            self.read(party, targets.iter().map(wish).collect(), |target, read, now| {
                let attempt = match read {
                    Read::Ended(output) => Facts::read(&output, now).map_err(|unreadable| unreadable.0.to_owned()),
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

    async fn compared(
        &self,
        party: Party<'_>,
        (from, to): (&SnapshotId, Option<&SnapshotId>),
        wanted: &(dyn Fn(&TargetId, Inventory) -> bool + Send + Sync),
        limit: u32,
        record: &mut Option<Surveyed>,
    ) -> Result<Value, CallError> {
        let (store, engagement) = (self.answers.store(), party.engagement());
        let before = stored(store, engagement, "a", from).await?;
        let old = Reading::stored(store, engagement, from.as_str()).await?;
        let registry = &party.rules.registry;
        // What policy does not let the caller see is neither read nor compared.
        let now = self.clock.now();
        let mut partial = Vec::new();
        let mut seen: std::collections::BTreeMap<TargetId, bool> = Default::default();
        let after = match to {
            Some(to) => Some((
                stored(store, engagement, "b", to).await?,
                Reading::stored(store, engagement, to.as_str()).await?,
            )),
            None => None,
        };
        let newer = after.as_ref().map(|(_, reading)| reading.targets()).unwrap_or_default();
        for id in old.targets().union(&newer).filter(|id| Inventory::ALL.into_iter().any(|section| wanted(id, section)))
        {
            let refusal = match registry.target(engagement, id.as_str()) {
                None => Some("unknown_target"),
                Some(target) => party.refusal(target, SEES, now),
            };
            match (refusal, registry.target(engagement, id.as_str())) {
                (None, Some(target)) => {
                    let sockets = party.refusal(target, SEES_SOCKETS, now);
                    if let Some(code) = sockets.filter(|_| wanted(id, Inventory::Sockets)) {
                        partial.push(Missing { section: format!("{id}.sockets"), reason: code.to_owned() });
                    }
                    seen.insert(id.clone(), sockets.is_none());
                }
                (refusal, _) => partial.push(missing(id, refusal.unwrap_or("unknown_target"))),
            }
        }
        let wanted = |id: &TargetId, section: Inventory| {
            let may = seen.get(id).is_some_and(|sockets| section != Inventory::Sockets || *sockets);
            may && wanted(id, section)
        };
        let (shown, new) = match after {
            Some((row, reading)) => (shown(&row), reading),
            None => {
                let targets: Vec<_> =
                    seen.keys().filter_map(|id| registry.target(engagement, id.as_str()).cloned()).collect();
                let sections: Vec<Inventory> = serde_json::from_str(&before.sections).unwrap_or_default();
                let sections: Vec<_> = sections
                    .into_iter()
                    .filter(|section| targets.iter().any(|target| wanted(&target.id, *section)))
                    .collect();
                let (reading, _, surveyed) = self.inventory(party, &targets, &sections).await?;
                *record = Some(surveyed);
                (json!({"id": null, "label": null, "created_at": now}), reading)
            }
        };
        let found = compare(store, engagement, (&old, &new), wanted).await?;
        partial.extend(found.partial);
        let counts = found.changes.values().flat_map(|sections| sections.values()).map(|changes| changes.count());
        let total: usize = counts.sum();
        let mut left = limit as usize;
        let mut targets = Vec::new();
        for (id, sections) in &found.changes {
            let mut parts = serde_json::Map::new();
            for (name, changes) in sections {
                if left == 0 {
                    break;
                }
                let added: Vec<_> = changes.added.iter().take(left).collect();
                left -= added.len();
                let removed: Vec<_> = changes.removed.iter().take(left).collect();
                left -= removed.len();
                let changed: Vec<_> = changes.changed.iter().take(left).collect();
                left -= changed.len();
                let part = json!({
                    "added": added.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
                    "removed": removed.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
                    "changed": changed.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
                });
                parts.insert((*name).to_owned(), part);
            }
            if !parts.is_empty() {
                targets.push(json!({"id": id, "sections": parts}));
            }
        }
        Ok(json!({
            "a": self::shown(&before), "b": shown, "targets": targets, "total": total, "unchanged": found.unchanged,
            "only_in_a": found.only_before, "only_in_b": found.only_after,
            "truncated": total > limit as usize, "partial": named(partial),
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

    /// Reads every target of `wishes` and hands what came to `take`, with the time, in the order in which it comes;
    /// `take` says whether it was something. Errors where the caller goes away.
    async fn read(
        &self,
        party: Party<'_>,
        wishes: Vec<Wish>,
        mut take: impl FnMut(&Target, Read, Timestamp) -> bool,
    ) -> Result<(), CallError> {
        let Party { call, gone, .. } = party;
        let mut tally = Tally { of: wishes.len(), ..Tally::default() };
        call.progress.count(tally);
        let deadline = Instant::now() + DEADLINE;
        let mut reads = stream::iter(wishes)
            .map(|wish| async move {
                let target = wish.target.clone();
                (target, self.read_one(party, wish, deadline).await)
            })
            .buffer_unordered(AT_ONCE);
        loop {
            let (target, read) = tokio::select! {
                biased;
                () = gone.cancelled() => return Err(CallError::NotRun(ExecError::Cancelled)),
                next = reads.next() => match next {
                    Some(next) => next,
                    None => return Ok(()),
                },
            };
            tally.done += 1;
            if !take(&target, read, self.clock.now()) {
                tally.failed += 1;
            }
            call.progress.count(tally);
        }
    }

    async fn read_one(&self, party: Party<'_>, wish: Wish, deadline: Instant) -> Read {
        let Party { caller, rules, call, .. } = party;
        if Instant::now() >= deadline {
            return Read::Refused("time_limit".to_owned());
        }
        let operation = party.part(wish.target, wish.scopes, vec![Step::Script(wish.script)]);
        let permit = match rules.policy.decide(caller, operation, self.clock.now()) {
            Decision::Allow(permit, _) => permit,
            Decision::Ask(_) => return Read::Refused("approval_required".to_owned()),
            Decision::Deny(denial) => return Read::Refused(denial.code().to_owned()),
        };
        let attribution = call.attribution(caller);
        let until = deadline.min(Instant::now() + PATIENCE);
        // Dropping it at the end ends what runs on the target.
        let Ok(raw) = timeout_at(until, self.executors.survey(permit, &attribution)).await else {
            return Read::Failed("time_limit".to_owned());
        };
        match raw {
            Err(error) => Read::Refused(error.code().to_owned()),
            Ok(raw) => match raw.outputs.into_iter().next() {
                Some(StepOutput::Script(output)) => match &output.outcome {
                    StepOutcome::Exited(_) => Read::Ended(*output),
                    StepOutcome::Signalled(_) => Read::Failed("signalled".to_owned()),
                    StepOutcome::Stopped { limit, .. } => Read::Failed(format!("{limit}_limit")),
                    StepOutcome::Lost(_) => Read::Failed("connection_lost".to_owned()),
                    StepOutcome::NotStarted { code, .. } => Read::Failed((*code).to_owned()),
                },
                _ => Read::Failed("not_started".to_owned()),
            },
        }
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
