//! tailops' own way to a host: a call that policy allowed, through the queue and the kept connections. The caller comes in
//! as callers do, by a token that is checked; every run has a permit of its own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use secrecy::ExposeSecret;
use serde_json::json;
use tailops::{
    app::rules,
    auth::{Authenticator, Binding, Caller, MintRequest, mint},
    config::{Config, read_registry},
    exec::{Credentials, Executors, Ssh},
    model::{
        Attribution, Clock, CorrelationId, Operation, Progress, Scope, ScopeSet, Script, Step, StepOutcome, StepOutput,
        SystemClock, Template,
    },
    pipeline::Rules,
    policy::Decision,
    store::Store,
    tailnet::{Grants, Loopback, Node, Peer},
    tools::{self, PlanContext},
};
use tokio_util::sync::CancellationToken;

use crate::machine::Machine;

/// The smallest script there is, in the frame that every script has.
static NOTHING: Template = Template { id: "bench.nothing.v1", body: ":", stdin: false };

const UID: u32 = 1000;

pub(crate) struct Ours {
    config: Config,
    rules: Rules,
    caller: Caller,
    clock: Arc<dyn Clock>,
    node: Arc<dyn Node>,
    executors: Executors,
    operation: Operation,
}

impl Ours {
    /// Whose targets are those of `machine`, with its data in `folder`.
    pub(crate) async fn open(machine: &Machine, folder: &Path) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut config = Config::development(folder.to_owned(), ([127, 0, 0, 1], 0).into());
        let home = config.engagements.first().context("no engagement")?.id.clone();
        let file = PathBuf::from("targets.yaml");
        config.targets = read_registry(&file, &machine.registry(), &home, &config.engagement_ids())?;
        let rules = rules(&config, Vec::new(), clock.now())?;
        let caller = caller(folder, clock.clone()).await?;
        let node: Arc<dyn Node> = Arc::new(Loopback::bind(&[([127, 0, 0, 1], 0).into()]).await?);
        let context = PlanContext {
            engagement: &home,
            token: &"bench".into(),
            registry: &rules.registry,
            probe: &rules.probe,
            paths: None,
            files: &rules.files,
            now: clock.now(),
        };
        let arguments = json!({"target": "host-0"});
        let tool = tools::find("host_inspect").context("no host_inspect")?;
        let planned = tool.plan(arguments.as_object().context("no object")?, &context)?;
        let operation = Operation { steps: vec![Step::Script(script())], ..planned };
        let executors = executors(&config, &node, &clock)?;
        Ok(Self { config, rules, caller, clock, node, executors, operation })
    }

    /// Runs it over the connection that is kept.
    pub(crate) async fn kept(&self) -> Result<Duration> {
        self.run(&self.executors).await
    }

    /// Runs it over a connection of its own.
    pub(crate) async fn cold(&self) -> Result<Duration> {
        let executors = executors(&self.config, &self.node, &self.clock)?;
        self.run(&executors).await
    }

    async fn run(&self, executors: &Executors) -> Result<Duration> {
        let operation = self.operation.clone();
        let attribution = Attribution { subject: "bench".to_owned(), correlation: CorrelationId::random() };
        let start = Instant::now();
        let Decision::Allow(permit, _) = self.rules.policy.decide(&self.caller, operation, self.clock.now()) else {
            bail!("policy does not allow it");
        };
        let raw = executors.run(permit, &attribution, &CancellationToken::new(), &Progress::default()).await?;
        let took = start.elapsed();
        let Some(StepOutput::Script(output)) = raw.outputs.first() else { bail!("nothing ran") };
        ensure!(output.outcome == StepOutcome::Exited(0), "{:?}: {}", output.outcome, output.stderr.text());
        Ok(took)
    }
}

fn script() -> Script {
    Script::new(&NOTHING, [""; 0])
}

/// What goes to the host: the command line and its input.
pub(crate) fn sent() -> Result<(String, Vec<u8>)> {
    let line = script().command_line("0123456789abcdef0123456789abcdef", Duration::from_secs(60))?;
    Ok((line, script().input()))
}

fn executors(config: &Config, node: &Arc<dyn Node>, clock: &Arc<dyn Clock>) -> Result<Executors> {
    let credentials = Credentials::open(&config.ssh)?;
    let ssh = Ssh::open(config.ssh.clone(), config.exec, node.clone(), clock.clone()).logging_in_with(credentials);
    Ok(Executors::new(config.exec, clock.clone()).reaching_by(ssh))
}

async fn caller(folder: &Path, clock: Arc<dyn Clock>) -> Result<Caller> {
    let store = Store::open(folder).await?;
    let request = MintRequest {
        subject: "bench".to_owned(),
        owner: "bench".to_owned(),
        scopes: ScopeSet::new([Scope::Admin]),
        engagement: "default".into(),
        targets: None,
        tools: None,
        paths: None,
        ttl: Duration::from_secs(3600),
        binding: Binding::LocalUser(UID),
    };
    let life = ("development", Duration::from_secs(86_400));
    let minted = mint(&store, folder, request, life, clock.now()).await?;
    let peer = Peer {
        id: format!("uid:{UID}"),
        node: "bench".to_owned(),
        user: Some("bench".to_owned()),
        tags: Vec::new(),
        tailnet: None,
        address: ([127, 0, 0, 1], 1).into(),
        uid: Some(UID),
        grants: Grants::Unrestricted,
    };
    let checker = Authenticator::open(store, folder.to_owned(), clock).await?;
    Ok(checker.authenticate(&Arc::new(peer), Some(minted.token.expose_secret())).await?)
}
