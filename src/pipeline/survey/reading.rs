//! The reads of many targets: each judged and permitted by itself, a bounded number at a time, all within one deadline.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Caller,
    exec::ExecError,
    fleet::Registry,
    model::{
        Effect, EngagementId, FleetFilter, Operation, Risk, Scope, Script, ScriptOutput, Step, StepOutcome, StepOutput,
        Tally, Target,
    },
    pipeline::{CallError, Pipeline, Rules, ToolCall},
    policy::{Decision, Verdict},
};

/// The most targets that one call reads at the same time.
const AT_ONCE: usize = 64;
/// The longest a call reads. Clients give up after a minute.
const DEADLINE: Duration = Duration::from_secs(50);
/// The longest one target is waited for: its turn, connecting, the script's own limit, and its end.
const PATIENCE: Duration = Duration::from_secs(40);

/// How one target was read.
pub(super) enum Read {
    /// Its script ended by itself.
    Ended(Box<ScriptOutput>),
    /// It was tried, and gave nothing.
    Failed(String),
    /// It was not tried.
    Refused(String),
}

/// What one target is asked, with what that needs.
pub(super) struct Wish {
    pub(super) target: Arc<Target>,
    pub(super) script: Script,
    pub(super) scopes: &'static [Scope],
}

/// For whom many targets are read, and in which operation.
#[derive(Clone, Copy)]
pub(super) struct Party<'a> {
    pub(super) caller: &'a Caller,
    pub(super) rules: &'a Rules,
    pub(super) call: &'a ToolCall,
    pub(super) operation: &'a Operation,
    pub(super) gone: &'a CancellationToken,
}

impl Party<'_> {
    /// Why the caller may not see what needs `scopes` of `target`; none where it may.
    pub(super) fn refusal(
        &self,
        target: &Arc<Target>,
        scopes: &'static [Scope],
        now: Timestamp,
    ) -> Option<&'static str> {
        refusal((self.caller, self.rules), self.operation, target, scopes, now)
    }

    pub(super) fn engagement(&self) -> &EngagementId {
        &self.operation.engagement
    }

    pub(super) fn selected(&self, filter: &FleetFilter) -> Vec<Arc<Target>> {
        selected(&self.rules.registry, self.engagement(), filter)
    }
}

/// The read of `target` that is part of `whole`: judged and permitted by itself.
fn part(whole: &Operation, target: Arc<Target>, scopes: &'static [Scope], steps: Vec<Step>) -> Operation {
    Operation {
        tool: whole.tool,
        target: Some(target),
        engagement: whole.engagement.clone(),
        scopes,
        effect: Effect::Read,
        risk: Risk::Low,
        raised: None,
        asks: None,
        dry_run: false,
        reason: None,
        moment: None,
        arguments: whole.arguments.clone(),
        places: Vec::new(),
        steps,
    }
}

/// Why `caller` may not see what needs `scopes` of `target`, as part of `whole`; none where it may.
pub(super) fn refusal(
    (caller, rules): (&Caller, &Rules),
    whole: &Operation,
    target: &Arc<Target>,
    scopes: &'static [Scope],
    now: Timestamp,
) -> Option<&'static str> {
    let operation = part(whole, target.clone(), scopes, Vec::new());
    let judgement = rules.policy.judge(caller.peer(), caller.token(), &operation, now);
    (judgement.verdict() != Verdict::Pass).then(|| judgement.code())
}

/// The targets of `engagement` that `filter` selects by what the registry says of them, by id.
pub(super) fn selected(registry: &Registry, engagement: &EngagementId, filter: &FleetFilter) -> Vec<Arc<Target>> {
    let wanted = |is: Option<&str>, wanted: &Option<String>| wanted.is_none() || is == wanted.as_deref();
    let targets = registry.targets_of(engagement).filter(|target| {
        filter.tag.as_ref().is_none_or(|tag| target.tags.contains(tag))
            && wanted(target.segment.as_deref(), &filter.segment)
            && wanted(Some(target.kind.as_str()), &filter.kind)
    });
    targets.cloned().collect()
}

impl Pipeline {
    /// Reads every target of `wishes` and hands what came to `take`, with the time, in the order in which it comes;
    /// `take` says whether it was something. Errors where the caller goes away.
    pub(super) async fn read(
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
        let operation = part(party.operation, wish.target, wish.scopes, vec![Step::Script(wish.script)]);
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
                    StepOutcome::Exited(_) => Read::Ended(output),
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
