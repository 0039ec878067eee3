//! A call that shows a credential for emergencies: made ready like any call that asks, but with the word of whoever
//! broke the glass instead of an approval. Comes only after policy asked; a denial has been answered before.

use super::{CallError, Pipeline, Rules, ToolCall};
use crate::{
    approval::{Credential, Unapproved},
    audit::{Entry, Execution},
    auth::Caller,
    model::failpoint,
    policy::{Decision, Pending, Permit},
    tools::Tool,
};

impl Pipeline {
    /// A permit for what policy asks about in `call`, by the pass that `credential` is. What ran for the preview comes
    /// along.
    pub(super) async fn opened(
        &self,
        who: (&Caller, &Rules),
        tool: &'static dyn Tool,
        call: &ToolCall,
        credential: &Credential,
        pending: Pending,
        entry: &mut Entry,
    ) -> Result<(Permit, Vec<Execution>), CallError> {
        let (caller, _) = who;
        entry.asks(&pending);
        let pass = match self.approvals.pass(caller, credential).await {
            Ok(pass) => pass,
            Err(why) => return Err(self.refused(caller, why, entry)),
        };
        entry.refers_to_pass(&pass.id());
        // What policy asks about is made ready anew, on the world as it is.
        let ready = self.ready(who, tool, call, None).await?;
        let exec = ready.exec;
        let agreement = pass.agreement(&ready.paper);
        entry.planned(ready.pending.operation());
        entry.agreed(&agreement);
        let decision = Decision::Ask(ready.pending);
        entry.decided(&decision).await?; // with whose word it is, durable before anything is changed
        let Decision::Ask(pending) = decision else { return Err(CallError::Internal) };
        failpoint("before-pass");
        match self.approvals.break_glass(caller, &agreement, ready.shown, call.correlation, pending).await {
            Ok(permit) => {
                failpoint("after-pass");
                Ok((permit, exec))
            }
            // Another call was faster, or the time is over since.
            Err(why) => {
                entry.not_agreed();
                entry.refers_to_pass(&pass.id());
                Err(CallError::Unapproved { why, exec })
            }
        }
    }

    /// A credential that opens nothing: counted, so that whoever tries many is stopped.
    fn refused(&self, caller: &Caller, why: Unapproved, entry: &mut Entry) -> CallError {
        if let Unapproved::BreakGlass { pass, .. } = &why {
            if let Some(id) = pass {
                entry.refers_to_pass(id);
            }
            if let Err(limited) = self.limits.auth_failure(&caller.peer().id) {
                return limited.into();
            }
        }
        why.into()
    }
}
