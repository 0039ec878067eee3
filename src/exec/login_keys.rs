//! Login keys on their hosts: looks for one in the login user's `authorized_keys`, puts another beside it, takes one out,
//! or only logs in.
//!
//! Needs no permit, as the trial of a target needs none: it is the act of somebody on the gateway's own host, who could
//! do the same with the key itself; no agent can ask for it. What runs is one constant that touches one file of the login
//! user, and nothing of a caller's stands in it but two public keys. `fleet::rotation` alone calls it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ExecError, Executors, Run};
use crate::model::{Attribution, Progress, Script, ScriptOutput, Target, TargetKind, Template};

/// Section `result`: one word, or why there is none. Arguments: what to do, and two public keys.
static TEMPLATE: Template = Template { id: "login_key.v1", stdin: false, body: include_str!("login_keys/change.sh") };

/// The longest the script may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What is done about login keys. Each key is a type and its base64, with one blank between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginKeyAct<'a> {
    /// Logs in, and that is all.
    Login,
    /// Looks for the key, and whether the file could be changed.
    Look(&'a str),
    /// Puts `new` beside every line of `old`, with the options of that line.
    Add {
        /// The one that is there.
        old: &'a str,
        /// The one that is not.
        new: &'a str,
    },
    /// Takes out every line of `gone`, if there is one of `kept`.
    Drop {
        /// The one that goes.
        gone: &'a str,
        /// The one that has to be there.
        kept: &'a str,
    },
}

impl Executors {
    /// Does `act` on `target`, on a connection that is made for it and that nobody else has: which key logs in is always
    /// the one that `target` names now.
    pub async fn act_on_login_key(
        &self,
        target: &Target,
        act: LoginKeyAct<'_>,
        attribution: &Attribution,
    ) -> Result<ScriptOutput, ExecError> {
        if target.kind != TargetKind::Ssh {
            return Err(ExecError::Unreachable(target.kind));
        }
        let backend = self.backend(target, target.kind)?;
        let (cancel, progress) = (CancellationToken::new(), Progress::default());
        let _place = self.queue.enter(target, &cancel).await?;
        let arguments = match act {
            LoginKeyAct::Login => ["login", "", ""],
            LoginKeyAct::Look(key) => ["look", key, ""],
            LoginKeyAct::Add { old, new } => ["add", old, new],
            LoginKeyAct::Drop { gone, kept } => ["drop", gone, kept],
        };
        let script = Script { limit: Some(LIMIT), ..Script::new(&TEMPLATE, arguments) };
        let limit = super::limit(target, &script);
        let run = Run { target, script: &script, limit, attribution, cancel: &cancel, progress: &progress };
        Ok(backend.run_apart(run).await)
    }
}
