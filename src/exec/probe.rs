//! Probes: the gateway's questions to the network. Resolves a name once, checks every address it has, and connects to
//! the first of them and nothing else.
//!
//! Never follows a redirect, never uses a proxy, never sends a cookie or a credential, never reads a body, and never
//! hands a name to whoever connects: a script gets the checked address.

mod http;
mod resolve;
mod tcp;
mod tls;

use std::{net::IpAddr, sync::Arc, time::Duration};

use ring::digest::{SHA256, digest};
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::resolve::{Resolver, SystemResolver};
use self::tls::Trust;
use crate::model::{
    AddressRefused, Failure, Findings, Host, Probe, ProbeEnd, ProbeKind, ProbeOutput, Stopped, Via, canonical_json, hex,
};

/// The longest a probe takes, resolving and every connection included. The target's own limit may be shorter.
const LIMIT: Duration = Duration::from_secs(20);

/// The longest one name may take.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);

/// More addresses than this are not checked one by one but refused together: no honest name has them.
const MOST_ADDRESSES: usize = 32;

/// Makes probes.
pub(super) struct Prober {
    resolver: Arc<dyn Resolver>,
    trust: OnceCell<Trust>,
}

/// Why a probe ended early.
enum Fault {
    Refused(AddressRefused),
    Failed(&'static str, String),
}

/// How far a probe is: what is known of it when its time runs out.
struct Progress {
    stage: &'static str,
    findings: Findings,
}

impl Prober {
    /// Resolves by `resolver` and trusts whom the machine trusts.
    pub(super) fn new(resolver: Arc<dyn Resolver>) -> Self {
        Self { resolver, trust: OnceCell::new() }
    }

    /// The same, trusting `roots` alone.
    #[cfg(test)]
    fn trusting(resolver: Arc<dyn Resolver>, roots: rustls::RootCertStore) -> Self {
        Self { resolver, trust: OnceCell::new_with(Some(Trust::new(roots))) }
    }

    /// Makes the gateway's part of `probe`: all of it, or for one that a script makes, the address for the script.
    pub(super) async fn run(&self, probe: &Probe, limit: Duration, cancel: &CancellationToken) -> ProbeOutput {
        let started = Instant::now();
        let mut progress = Progress { stage: "resolve", findings: Findings::default() };
        let end = tokio::select! {
            biased;
            () = cancel.cancelled() => ProbeEnd::Stopped(Stopped::Confirmed),
            ended = timeout(limit.min(LIMIT), self.perform(probe, &mut progress)) => match ended {
                Ok(Ok(end)) => end,
                Ok(Err(Fault::Refused(refused))) => ProbeEnd::Refused(refused),
                Ok(Err(Fault::Failed(stage, reason))) => ProbeEnd::Failed(Failure { stage, reason }),
                Err(_) => ProbeEnd::Failed(Failure { stage: progress.stage, reason: "timed_out".to_owned() }),
            },
        };
        ProbeOutput {
            template_id: probe.template_id(),
            // A probe has no numbers that JSON cannot carry.
            argv_sha256: canonical_json(&probe.canonical())
                .map(|form| hex(digest(&SHA256, &form).as_ref()))
                .unwrap_or_default(),
            end,
            findings: progress.findings,
            duration: started.elapsed(),
        }
    }

    async fn perform(&self, probe: &Probe, progress: &mut Progress) -> Result<ProbeEnd, Fault> {
        if matches!((&probe.kind, &probe.via), (ProbeKind::Dns, Via::Target(_))) {
            // The question is what the target's own resolver says. Nothing connects to the answer.
            return Ok(ProbeEnd::Aimed);
        }
        let address = self.aim(probe, &mut progress.findings).await?;
        if !matches!(probe.via, Via::Native) {
            return Ok(ProbeEnd::Aimed);
        }
        match &probe.kind {
            ProbeKind::Dns => {}
            ProbeKind::Tcp { port, count } => tcp::tries(address, *port, *count, progress).await?,
            ProbeKind::Tls { port } => {
                let stream = tcp::connect(address, *port, progress).await?;
                tls::look(stream, &probe.host, self.trust().await, progress).await?;
            }
            ProbeKind::Http { url, method } => {
                let stream = tcp::connect(address, url.port, progress).await?;
                if url.https {
                    let stream = tls::enter(stream, &probe.host, self.trust().await, progress).await?;
                    http::head(stream, url, *method, progress).await?;
                } else {
                    http::head(stream, url, *method, progress).await?;
                }
            }
            // They need a program: a probe of this kind always comes with a script.
            ProbeKind::Ping | ProbeKind::Trace => {
                return Err(Fault::Failed("connect", "no_native_way".to_owned()));
            }
        }
        Ok(ProbeEnd::Answered)
    }

    /// The one address to use. One lookup, and every address it gave must be acceptable: a name with one good and one
    /// private address is refused, whichever comes first.
    async fn aim(&self, probe: &Probe, findings: &mut Findings) -> Result<IpAddr, Fault> {
        let addresses = match &probe.host {
            Host::Address(ip) => vec![*ip],
            Host::Name(name) => {
                let started = Instant::now();
                let found = timeout(RESOLVE_LIMIT, self.resolver.lookup(name)).await;
                findings.resolve = Some(started.elapsed());
                let failed = |reason: &str| Err(Fault::Failed("resolve", reason.to_owned()));
                match found {
                    Err(_) => return failed("timed_out"),
                    Ok(Err(_)) => return failed("not_found"),
                    Ok(Ok(found)) if found.len() > MOST_ADDRESSES => return failed("too_many_addresses"),
                    Ok(Ok(found)) => found,
                }
            }
        };
        for ip in &addresses {
            probe.rules.check(*ip).map_err(Fault::Refused)?;
        }
        for ip in addresses {
            if !findings.addresses.contains(&ip) {
                findings.addresses.push(ip);
            }
        }
        findings.addresses.first().copied().ok_or_else(|| Fault::Failed("resolve", "not_found".to_owned()))
    }

    async fn trust(&self) -> &Trust {
        self.trust.get_or_init(Trust::of_this_machine).await
    }
}

#[cfg(test)]
mod tests;
