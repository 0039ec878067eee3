//! What a decision of policy costs: from memory, and judged anew. The rules are the default set and the files of
//! `examples/policy`; the caller comes in as callers do, by a token that is checked. Prints
//! `policy_cached_p99_us <n>` and `policy_uncached_p99_us <n>`.

#![expect(clippy::print_stdout, reason = "the report goes to standard output")]

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use secrecy::ExposeSecret;
use serde_json::json;
use tailops::{
    app::rules,
    auth::{Authenticator, Binding, Caller, MintRequest, mint},
    config,
    model::{Clock, EngagementId, Operation, Scope, ScopeSet, SystemClock},
    policy::Decision,
    store::Store,
    tailnet::{Grants, Peer},
    tools::{self, PlanContext},
};

/// The user the token is bound to.
const UID: u32 = 1000;

fn main() -> Result<()> {
    let mut decisions = 200_000;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => decisions = 10_000,
            // Cargo's own, to every bench target.
            "--bench" => {}
            other => bail!("unknown argument {other:?}; there is only --quick"),
        }
    }
    let folder = std::env::temp_dir().join(format!("tailops-bench-policy-{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&folder)?;
    let measured = measure(&folder, decisions);
    std::fs::remove_dir_all(&folder)?;
    measured
}

fn measure(folder: &Path, decisions: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let caller = runtime.block_on(caller(folder))?;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policy");
    let names: Vec<_> = tools::ALL.iter().map(|tool| tool.spec().name).collect();
    let file = example.join("tailops.toml");
    let mut config = config::load(&file, &std::fs::read_to_string(&file)?, &names)?;
    config.policy.directory = Some(example);
    let clock = SystemClock;
    let rules = rules(&config, Vec::new(), clock.now())?;
    let engagement = EngagementId::from("operations");
    let plan = |pid: usize| -> Result<Operation> {
        let arguments = json!({"target": "stage-web-1", "pid": pid, "start_ticks": 1, "signal": "TERM", "dry_run": true,
            "reason": "measuring"});
        let context = PlanContext {
            engagement: &engagement,
            token: &"bench".into(),
            registry: &rules.registry,
            probe: &rules.probe,
            paths: None,
            files: &rules.files,
            now: clock.now(),
        };
        let tool = tools::find("process_signal").context("no process_signal")?;
        Ok(tool.plan(arguments.as_object().context("no object")?, &context)?)
    };
    // One minute for all of them, so that none is judged anew for want of time.
    let now = clock.now();
    let known = plan(1000)?;
    ensure!(matches!(rules.policy.decide(&caller, known.clone(), now), Decision::Allow(..)), "it is not allowed");
    let mut cached = Vec::with_capacity(decisions);
    for _ in 0..decisions {
        let operation = known.clone();
        let began = Instant::now();
        let decision = rules.policy.decide(&caller, operation, now);
        cached.push(began.elapsed());
        std::hint::black_box(decision);
    }
    // Each operation is another, so that none is remembered.
    let mut uncached = Vec::new();
    for number in 0..decisions / 20 {
        let operation = plan(number + 1001)?;
        let began = Instant::now();
        let decision = rules.policy.decide(&caller, operation, now);
        uncached.push(began.elapsed());
        std::hint::black_box(decision);
    }
    report("cached", &mut cached)?;
    report("uncached", &mut uncached)
}

fn report(name: &str, times: &mut [Duration]) -> Result<()> {
    times.sort_unstable();
    for percent in [50, 99] {
        let last = times.len().checked_sub(1).context("nothing was measured")?;
        let time = times.get(last * percent / 100).context("nothing was measured")?;
        println!("policy_{name}_p{percent}_us {:.1}", time.as_secs_f64() * 1e6);
    }
    Ok(())
}

/// A caller by the only way there is: a token minted, bound to its peer and checked.
async fn caller(folder: &Path) -> Result<Caller> {
    let store = Store::open(folder).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let request = MintRequest {
        subject: "bench".to_owned(),
        owner: "bench".to_owned(),
        scopes: ScopeSet::new([Scope::Admin]),
        engagement: "operations".into(),
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
        tags: vec!["tag:ops".to_owned()],
        tailnet: None,
        address: ([127, 0, 0, 1], 1).into(),
        uid: Some(UID),
        grants: Grants::Unrestricted,
    };
    let checker = Authenticator::open(store, folder.to_owned(), clock).await?;
    let bearer: &str = minted.token.expose_secret();
    Ok(checker.authenticate(&Arc::new(peer), Some(bearer)).await?)
}
