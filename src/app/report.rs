//! The gateway's report about itself, put together from what its parts say. Looks and changes nothing. The findings of
//! [`state`] and [`node`] do not need a running gateway: the command line makes them where there is none.

mod approvals;
mod credentials;
mod node;
mod notifications;
mod peers;
mod state;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

pub use self::{
    approvals::approval_line,
    node::{Wanted, node_lines, tls_lines},
    peers::peer_lines,
    state::{database_lines, directory_lines, disk_line},
};
use crate::{
    approval::Couriers,
    audit::{Audit, strays},
    config::{Config, Node as NodeConfig, Tls},
    fleet::Secrets,
    http::Certificates,
    model::{Clock, Line, Report, Subject, TargetKind},
    pipeline::RulesInForce,
    store::Store,
    tailnet::Node,
};

/// The most nodes that are told of one by one for tokens that are not theirs.
const STRAYS: usize = 10;
/// How far back refusals are counted.
const DAY: Duration = Duration::from_secs(86_400);
/// How far the clocks may differ before it is told.
const DRIFT: Duration = Duration::from_secs(5);

/// What the report is made of.
pub(super) struct Facts {
    pub(super) directory: PathBuf,
    pub(super) tls: Tls,
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) wanted: Wanted,
    pub(super) node: Arc<dyn Node>,
    pub(super) audit: Arc<Audit>,
    pub(super) store: Store,
    pub(super) couriers: Arc<Couriers>,
    pub(super) rules: Arc<RulesInForce>,
    pub(super) secrets: Arc<Secrets>,
    pub(super) clock: Arc<dyn Clock>,
    /// The kinds of targets that can be operated.
    pub(super) reached: Vec<TargetKind>,
    /// Both clocks at the start.
    pub(super) started: (Timestamp, Instant),
}

impl Facts {
    /// Looks at everything.
    pub(super) async fn report(&self) -> Report {
        let now = self.clock.now();
        let status = self.node.status();
        let mut lines = vec![self.service()];
        lines.extend(directory_lines(&self.directory));
        lines.extend(database_lines(&self.directory, now).await);
        lines.extend(disk_line(&self.directory));
        lines.push(self.recording());
        lines.push(self.steady(now));
        lines.extend(node_lines(self.node.mode(), &status, &self.wanted, now));
        lines.push(node::listeners(&self.node.addresses(), &status, &self.tls));
        let served = self.certificates.as_ref().and_then(|certificates| certificates.until());
        lines.extend(tls_lines(&self.tls, served, Some(&status), now));
        lines.push(self.targets());
        let peers = peers::found(&*self.node, &status).await;
        let signers = self.store.approver_keys().await.ok().map(|keys| {
            let counting = keys.into_iter().filter(|key| key.removed_at.is_none());
            counting.map(|key| key.login).collect::<Vec<String>>()
        });
        let settings = &self.rules.now().approvals;
        lines.push(approval_line(settings, peers.as_deref().ok(), signers.as_deref()));
        lines.extend(notifications::lines(&self.couriers.health()));
        lines.push(self.reviews().await);
        lines.push(self.credentials(now).await);
        lines.push(self.sources(now).await);
        lines.extend(peers.map_or_else(|instead| vec![instead], |peers| peer_lines(&peers)));
        Report::new(true, lines)
    }

    fn service(&self) -> Line {
        let rules = self.rules.now();
        let since = self.started.0.strftime("%Y-%m-%dT%H:%M:%SZ");
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        let (profile, digest) = (rules.profile, &rules.config_sha256);
        Line::ok(
            Subject::Service,
            format!("tailops {version} runs since {since} (pid {pid}), profile {profile}, configuration {digest}"),
        )
    }

    fn recording(&self) -> Line {
        if self.audit.is_recording() {
            return Line::ok(Subject::Audit, "takes records");
        }
        Line::fail(
            Subject::Audit,
            "takes no records, so every call is refused",
            "make room on the disk of the data directory, or mend its database: it goes on by itself",
        )
    }

    /// Compares the wall clock with the steady one, which nobody can set.
    fn steady(&self, now: Timestamp) -> Line {
        let (wall, steady) = self.started;
        let went = now.duration_since(wall);
        let Ok(ran) = jiff::SignedDuration::try_from(steady.elapsed()) else {
            return Line::warn(Subject::Clock, "cannot be compared", "restart the service");
        };
        let (ahead, drift) = (went - ran, jiff::SignedDuration::try_from(DRIFT).unwrap_or_default());
        let seconds = ahead.as_secs().unsigned_abs();
        if ahead < -drift {
            let finding = format!("was set back by {seconds} s since the start: records and tokens have wrong times");
            return Line::warn(Subject::Clock, finding, "let a time service (timesyncd, chrony) keep the clock");
        }
        if ahead > drift {
            let finding = format!("went ahead by {seconds} s since the start: it was set, or the machine slept");
            return Line::warn(Subject::Clock, finding, "let a time service (timesyncd, chrony) keep the clock");
        }
        Line::ok(Subject::Clock, format!("{}, steady since the start", now.strftime("%Y-%m-%dT%H:%M:%SZ")))
    }

    fn targets(&self) -> Line {
        let rules = self.rules.now();
        let mut kinds: BTreeMap<&str, (TargetKind, usize)> = BTreeMap::new();
        for target in rules.registry.all() {
            kinds.entry(target.kind.as_str()).or_insert((target.kind, 0)).1 += 1;
        }
        let counted = |of: &[(&&str, &(TargetKind, usize))]| {
            of.iter().map(|(name, (_, count))| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
        };
        let (reached, out): (Vec<_>, Vec<_>) = kinds.iter().partition(|(_, (kind, _))| self.reached.contains(kind));
        if !out.is_empty() {
            let finding = format!("{} cannot be operated by this version", counted(&out));
            return Line::warn(
                Subject::Targets,
                finding,
                "operate them otherwise until a version reaches them; they stay listed",
            );
        }
        if reached.is_empty() {
            let mend = "add [targets.NAME] to the configuration, or `tailops target import FILE`";
            return Line::warn(Subject::Targets, "there are none", mend);
        }
        Line::ok(Subject::Targets, counted(&reached))
    }

    async fn reviews(&self) -> Line {
        match self.store.open_reviews().await {
            Ok(0) => Line::ok(Subject::Reviews, "none is open"),
            Ok(open) => Line::warn(
                Subject::Reviews,
                format!("{open} of broken glass open: somebody made a pass for an emergency"),
                "let another person look and close each: `tailops reviews`, `tailops reviews close ID --comment TEXT`",
            ),
            Err(error) => {
                Line::fail(Subject::Reviews, format!("cannot be read: {error}"), "look at the line `database`")
            }
        }
    }

    async fn sources(&self, now: Timestamp) -> Line {
        let since = now.checked_sub(DAY).unwrap_or(Timestamp::MIN);
        let strays = match strays(self.audit.reader(), Some(since)).await {
            Ok(strays) => strays,
            Err(error) => {
                let mend = "look at the lines `database` and `disk`";
                return Line::fail(Subject::Sources, format!("the audit log cannot be read: {error}"), mend);
            }
        };
        if strays.is_empty() {
            return Line::ok(Subject::Sources, "no bound token came from elsewhere in the last 24 h");
        }
        let shown = strays.iter().take(STRAYS).map(|(id, stray)| {
            let name = stray.node.as_deref().unwrap_or("a node without a name");
            format!("{} from {name} ({id})", stray.count)
        });
        let more = strays.len().saturating_sub(STRAYS);
        let more = (more > 0).then(|| format!("and from {more} more nodes"));
        let shown: Vec<String> = shown.chain(more).collect();
        Line::warn(
            Subject::Sources,
            format!("bound tokens came from elsewhere in the last 24 h: {}", shown.join(", ")),
            "`tailops audit export` has them by the code token_unexpected_source; revoke a token that was stolen",
        )
    }
}

/// What the configuration wants of the node.
pub fn wanted(config: &Config) -> Wanted {
    match &config.node {
        NodeConfig::Embedded(embedded) => {
            Wanted { tags: embedded.tags.clone(), hostname: Some(embedded.hostname.clone()) }
        }
        NodeConfig::Host(_) | NodeConfig::Loopback { .. } => Wanted::default(),
    }
}
