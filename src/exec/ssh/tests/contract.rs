//! The contract of every backend, over a real connection.

use super::*;
use crate::exec::contract::{self, holds_the_contract};

impl contract::Bench for Rig {
    async fn run(
        &self,
        exec: config::Exec,
        script: &Script,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> ScriptOutput {
        let ssh = gateway(config::Ssh::default(), exec).await;
        let (attribution, progress) = (attribution(), Progress::default());
        let run = Run { target: &self.target, script, limit, attribution: &attribution, cancel, progress: &progress };
        Executor::run(&ssh, run).await
    }
}

holds_the_contract!(rig(|_, _| {}));
