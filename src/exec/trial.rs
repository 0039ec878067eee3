//! The test of a target: connects, logs in and asks who that makes us; and a look at the host keys of what lies behind
//! one, for which nothing runs there. Neither needs a permit, as what follows a job in `unit.rs` needs none of its own and
//! what replaces login keys in `login_keys.rs` none; nothing else runs without one.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ExecError, Executors, Run, Scan, SshFault};
use crate::model::{Attribution, Progress, Script, ScriptOutput, Target, Template};

/// Section `who`: the login user. Sections `systemd` and `sudo`: 1 or 0. Argument: 1 where sudo may be asked what it
/// would allow.
static TEMPLATE: Template = Template { id: "target_test.v1", stdin: false, body: include_str!("trial.sh") };

/// The longest the script may take.
const LIMIT: Duration = Duration::from_secs(15);

impl Executors {
    /// Tests `target` for somebody on the gateway's own host, waiting for a free place as any operation does.
    ///
    /// Needs no permit: what runs is one constant, chosen here, that reads nothing but whom the login makes us and what
    /// it would be allowed. No agent can ask for it, and nothing of the caller's stands in it.
    pub async fn test(
        &self,
        target: &Target,
        attribution: &Attribution,
        cancel: &CancellationToken,
    ) -> Result<ScriptOutput, ExecError> {
        let backend = self.backend(target, target.kind)?;
        let _place = self.queue.enter(target, cancel).await?;
        let sudo = if target.sudo.is_used() { "1" } else { "0" };
        let script = Script { limit: Some(LIMIT), ..Script::new(&TEMPLATE, [sudo]) };
        let (limit, progress) = (super::limit(target, &script), Progress::default());
        let run = Run { target, script: &script, limit, attribution, cancel, progress: &progress };
        Ok(backend.run(run).await)
    }

    /// The keys of the SSH server on `port` of `host`, as [`super::scan`] gives them, through the target `jump`: it has to
    /// prove who it is and let the gateway log in, as for the targets behind it. For somebody on the gateway's own host.
    /// The outer error says that nothing was connected to.
    pub async fn scan_behind(
        &self,
        jump: &Target,
        place: (&str, u16),
        attribution: &Attribution,
        limit: Duration,
    ) -> Result<Result<Scan, SshFault>, ExecError> {
        let backend = self.backend(jump, jump.kind)?;
        let _place = self.queue.enter(jump, &CancellationToken::new()).await?;
        Ok(backend.scan_behind(jump, place, attribution, limit).await)
    }
}
