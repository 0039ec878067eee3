//! What policy asks people about: shown to them as a dry run sees it, settled on what the dry run found, asked, and run
//! once they agreed to exactly that.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{CallError, Pipeline, Reference, Rules, ToolCall, reference, reply};
use crate::{
    approval::{Asking, Paper, Unapproved},
    audit::{Entry, Execution},
    auth::Caller,
    model::{ApprovalId, Content, Effect, Operation, Progress, Question, Step, StepOutput, failpoint},
    policy::{Decision, Pending, Permit},
    tools::{Settled, Tool, ToolError},
};

/// An operation that needs a yes, as it would run on the world as it is.
pub(super) struct Ready {
    pub(super) pending: Pending,
    pub(super) paper: Paper,
    pub(super) shown: Map<String, Value>,
    preview: Option<Value>,
    pub(super) exec: Vec<Execution>,
}

impl Ready {
    /// The question about it; takes what is shown along.
    fn asking<'a>(&'a mut self, caller: &'a Caller, call: &ToolCall) -> Asking<'a> {
        Asking {
            caller,
            shown: std::mem::take(&mut self.shown),
            preview: self.preview.take(),
            pending: &self.pending,
            paper: &self.paper,
            correlation: call.correlation,
        }
    }
}

impl Pipeline {
    /// A permit for what policy asks about in `pending`, if people agreed to it; otherwise they are asked. What ran for
    /// the preview comes along.
    pub(super) async fn approved(
        &self,
        who: (&Caller, &Rules),
        tool: &'static dyn Tool,
        call: &ToolCall,
        pending: Pending,
        entry: &mut Entry,
    ) -> Result<(Permit, Vec<Execution>), CallError> {
        match &call.approval {
            None => self.asked(who, tool, call, pending, entry).await,
            Some(Reference::Approval(id)) => self.agreed(who, tool, call, (id, pending), entry).await,
            Some(Reference::Pass(credential)) => self.opened(who, tool, call, credential, pending, entry).await,
            Some(Reference::NotNow(_) | Reference::Malformed) => Err(reference::malformed()),
        }
    }

    /// Asks people: never a permit, but what they were asked, or why they could not be.
    async fn asked(
        &self,
        who: (&Caller, &Rules),
        tool: &'static dyn Tool,
        call: &ToolCall,
        pending: Pending,
        entry: &mut Entry,
    ) -> Result<(Permit, Vec<Execution>), CallError> {
        let (caller, rules) = who;
        let decision = Decision::Ask(pending);
        entry.decided(&decision).await?;
        let Decision::Ask(pending) = decision else { return Err(CallError::Internal) };
        self.approvals.answerable(&rules.approvals, caller, &pending).await?;
        let mut ready = self.ready(who, tool, call, None).await?;
        let why = match self.approvals.ask(&rules.approvals, ready.asking(caller, call)).await {
            Ok(asked) => {
                entry.asked(&asked);
                Unapproved::Required { why: ready.pending.why().into_owned(), asked: Box::new(asked) }
            }
            Err(why) => why,
        };
        Err(CallError::Unapproved { why, exec: ready.exec })
    }

    /// The permit of the approval `id`, once, if it is for exactly this on the world as it is now.
    async fn agreed(
        &self,
        who: (&Caller, &Rules),
        tool: &'static dyn Tool,
        call: &ToolCall,
        (id, pending): (&ApprovalId, Pending),
        entry: &mut Entry,
    ) -> Result<(Permit, Vec<Execution>), CallError> {
        let (caller, rules) = who;
        entry.refers_to(id);
        entry.asks(&pending);
        self.approvals.settled(&rules.approvals, id, caller, &pending).await?;
        let moment = self.approvals.moment_of(caller, id).await?;
        let mut ready = self.ready(who, tool, call, moment).await?;
        let agreement = self.approvals.agreed(&rules.approvals, id, &ready.asking(caller, call)).await;
        let exec = ready.exec;
        let unapproved = |why| CallError::Unapproved { why, exec: exec.clone() };
        let agreement = agreement.map_err(unapproved)?;
        entry.planned(ready.pending.operation());
        entry.agreed(&agreement);
        let decision = Decision::Ask(ready.pending);
        entry.decided(&decision).await?; // with whose yes it is, durable before anything is changed
        let Decision::Ask(pending) = decision else { return Err(CallError::Internal) };
        // Who may agree is read anew: the preview can have taken its time.
        match self.approvals.take(&self.rules.now().approvals, &agreement, caller, pending).await {
            Ok(permit) => {
                failpoint("approval-taken");
                Ok((permit, exec))
            }
            Err(why) => {
                entry.not_agreed();
                Err(unapproved(why))
            }
        }
    }

    /// The operation of `call` on the world as a dry run finds it now, counting from `moment` where it was asked before.
    pub(super) async fn ready(
        &self,
        who: (&Caller, &Rules),
        tool: &'static dyn Tool,
        call: &ToolCall,
        moment: Option<Timestamp>,
    ) -> Result<Ready, CallError> {
        let (caller, rules) = who;
        let mut context = self.plan_context(caller, rules);
        context.now = moment.unwrap_or(context.now);
        let previewed = match tool.preview(&call.arguments) {
            None => None,
            Some(arguments) => {
                let operation = tool.plan(&arguments, &context)?;
                Some(self.previewed(who, tool, call, operation).await?)
            }
        };
        let (Settled { arguments, world }, preview, exec) = match previewed {
            None => (Settled::unchanged(&call.arguments), None, Vec::new()),
            Some((content, exec)) => {
                let settled = match tool.settle(&call.arguments, &content) {
                    Ok(settled) => settled,
                    Err(error) => return Err(CallError::Failed { error, exec }),
                };
                let (shown, _, _) = self.guard.release(content).into_parts();
                let shown = json!({
                    "data": shown.data, "before": shown.before, "after": shown.after, "warnings": shown.warnings,
                    "partial": shown.partial, "truncated": shown.truncated,
                });
                (settled, Some(shown), exec)
            }
        };
        let operation = tool.plan(&arguments, &context)?;
        let pending = match rules.policy.decide(caller, operation, self.clock.now()) {
            Decision::Ask(pending) => pending,
            Decision::Deny(denial) => return Err(denial.into()),
            Decision::Allow(..) => {
                return Err(CallError::Failed { error: needless(&call.arguments, &arguments), exec });
            }
        };
        let paper = Paper::of(caller, pending.operation(), &world).ok_or(CallError::Internal)?;
        let document = paper.document();
        let mut shown = self.guard.arguments(&document).arguments;
        // Who asks is no secret to whoever decides, and an address is no less a login: it is shown as it is hashed.
        shown.extend(document.into_iter().filter(|(key, _)| key == "caller"));
        Ok(Ready { pending, paper, shown, preview, exec })
    }

    /// What the dry run `operation` finds, for the people who are asked.
    async fn previewed(
        &self,
        (caller, rules): (&Caller, &Rules),
        tool: &'static dyn Tool,
        call: &ToolCall,
        operation: Operation,
    ) -> Result<(Content, Vec<Execution>), CallError> {
        if !operation.dry_run || operation.effect != Effect::Read {
            return Err(CallError::Internal);
        }
        let permit = rules.policy.preview(caller, operation, self.clock.now()).map_err(|denial| *denial)?;
        let raw = match permit.operation().steps.first() {
            Some(Step::Gateway(Question::Survey(_))) => {
                self.surveyed((caller, rules), call, permit, &CancellationToken::new(), &mut None).await?
            }
            Some(Step::Gateway(_)) => self.answers.run(caller, rules, permit, &Progress::default()).await?,
            _ => {
                let (cancel, progress) = Default::default();
                self.executors.run(permit, &call.attribution(caller), &cancel, &progress).await?
            }
        };
        let exec = reply::executions(&raw);
        if let Some(outcome) = raw.outputs.last().and_then(StepOutput::unfinished) {
            return Err(CallError::Unfinished { outcome, changes: false, exec });
        }
        match tool.render(&raw) {
            Ok(content) => Ok((content, exec)),
            Err(error) => Err(CallError::Failed { error, exec }),
        }
    }
}

/// Policy asked a moment ago, and does not about the call as it was settled: nobody is asked, and the caller makes the
/// call that needs no yes.
fn needless(given: &Map<String, Value>, settled: &Map<String, Value>) -> ToolError {
    let pinned = settled.iter().filter(|(name, value)| given.get(*name) != Some(value));
    let names: Vec<&str> = pinned.map(|(name, _)| name.as_str()).collect();
    let (what, hint) = match names.is_empty() {
        true => ("policy no longer asks about this call".to_owned(), "make the call again"),
        false => {
            let names = names.join(", ");
            (format!("policy does not ask about this call where it names {names}"), "take them from a dry run")
        }
    };
    ToolError::new("precondition_failed", format!("{what}; nothing was run and nobody was asked")).hint(hint)
}
