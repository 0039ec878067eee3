//! What calls over SSH take beside OpenSSH's client, and facts of a fleet beside Ansible: against the same servers, in one
//! run, in turn. `docs/benchmarks.md` says what the lines mean. What this machine does not have is named, and no ratio is
//! printed for it. Every connection is to loopback.

#![expect(clippy::print_stdout, reason = "the report goes to standard output")]

mod ansible;
mod fleet;
mod machine;
mod openssh;
mod ours;

use std::time::Duration;

use ansible::Ansible;
use anyhow::{Result, bail};
use fleet::Gateway;
use machine::Machine;
use openssh::OpenSsh;
use ours::Ours;

/// How many at once, as Ansible is told.
const FORKS: usize = 50;

/// How often, and on how many targets.
struct Plan {
    kept: usize,
    cold: usize,
    targets: usize,
    refreshes: usize,
}

const FULL: Plan = Plan { kept: 300, cold: 60, targets: 200, refreshes: 3 };
const QUICK: Plan = Plan { kept: 40, cold: 10, targets: 20, refreshes: 1 };

fn main() -> Result<()> {
    let (mut plan, mut fleet) = (FULL, true);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => plan = QUICK,
            "--no-fleet" => fleet = false,
            // Cargo's own, to every bench target.
            "--bench" => {}
            other => bail!("unknown argument {other:?}; there are only --quick and --no-fleet"),
        }
    }
    if let Some(missing) = machine::missing() {
        println!("nothing was measured: {missing}");
        return Ok(());
    }
    // OpenSSH's and Ansible's processes are waited for on this thread; the other serves nothing then.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        // Children are killed when they go out of scope, so an interrupt has to end the future, not the process.
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            done = measure(&plan, fleet) => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

async fn measure(plan: &Plan, fleet: bool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let more = if fleet { plan.targets - 1 } else { 0 };
    let machine = Machine::start(folder.path(), more)?;
    calls(plan, &machine, &folder.path().join("ours")).await?;
    if fleet {
        facts(plan, &machine, folder.path()).await?;
    }
    Ok(())
}

/// One command at a time, ours and OpenSSH's in turn.
async fn calls(plan: &Plan, machine: &Machine, data: &std::path::Path) -> Result<()> {
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(data)?;
    let ours = Ours::open(machine, data).await?;
    let openssh = OpenSsh::open(machine)?;
    let (line, input) = ours::sent()?;
    for _ in 0..5 {
        ours.kept().await?;
        openssh.kept(&line, &input)?;
    }
    let (mut kept, mut theirs, mut here) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.kept {
        kept.push(ours.kept().await?);
        theirs.push(openssh.kept(&line, &input)?);
        here.push(openssh::here(&line, &input)?);
    }
    let here = median(here);
    let [over, theirs_over] = [&kept, &theirs].map(|times| median(times.clone()).saturating_sub(here).as_secs_f64());
    let ratio = both("kept connection", kept, theirs, "ssh, ControlMaster");
    println!("vs_controlmaster {ratio:.3}");
    println!("command_itself_ms {:.2}", here.as_secs_f64() * 1e3);
    println!("vs_controlmaster_besides_command {:.3}", over / theirs_over);
    let (mut cold, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..plan.cold {
        cold.push(ours.cold().await?);
        theirs.push(openssh.cold(&line, &input)?);
    }
    let ratio = both("new connection", cold, theirs, "ssh");
    println!("vs_ssh_cold {ratio:.3}");
    Ok(())
}

/// Facts of the same targets: by a gateway that never read them, by one that did and starts anew, and once more over the
/// connections that it kept. Ansible's `setup` does not ask apt, so the first is no pair of its.
async fn facts(plan: &Plan, machine: &Machine, folder: &std::path::Path) -> Result<()> {
    let ansible = Ansible::prepare(machine, folder);
    let gateway = Gateway::start(machine, folder, FORKS).await?;
    let never = gateway.refresh_by_group().await?;
    drop(gateway);
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..plan.refreshes {
        let gateway = Gateway::start(machine, folder, FORKS).await?;
        cold.push(gateway.refresh().await?);
        warm.push(gateway.refresh().await?);
    }
    let (cold, warm) = (median(cold), median(warm));
    println!("facts of {} targets by fleet_summarize, {FORKS} at once", machine.addresses.len());
    println!("{:<28} {:>10.2} s the first time ever, in groups of four", "tailops", never.as_secs_f64());
    let [again, kept] = [cold, warm].map(|time| time.as_secs_f64());
    println!("{:<28} {again:>10.2} s new connections, {kept:>8.2} s kept ones", "tailops");
    match ansible.and_then(|ansible| Ok((ansible.refresh(FORKS)?, ansible.refresh(FORKS)?, ansible.version))) {
        Ok((first, again, version)) => {
            let (first, again) = (first.as_secs_f64(), again.as_secs_f64());
            println!("{version:<28} {first:>10.2} s new connections, {again:>8.2} s kept ones");
            println!("vs_ansible {:.1}", first / cold.as_secs_f64());
            println!("vs_ansible_kept {:.1}", again / warm.as_secs_f64());
        }
        Err(error) => println!("no ratio to Ansible: {error}"),
    }
    Ok(())
}

/// Prints both medians; the answer is ours in theirs.
fn both(what: &str, ours: Vec<Duration>, theirs: Vec<Duration>, name: &str) -> f64 {
    let (ours, theirs) = (median(ours).as_secs_f64() * 1e3, median(theirs).as_secs_f64() * 1e3);
    println!("{what}: tailops {ours:.2} ms, {name} {theirs:.2} ms (medians)");
    ours / theirs
}

/// The median; of none, zero.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}
