//! The one lab that the tests of this binary share, and whose turn it is in it. Started when the first test asks; taken
//! down by the run's reaper when this process ends.

use std::{
    io::Write,
    net::SocketAddr,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use crate::{
    control::{Control, Owner},
    host,
    node::{Mode, Node},
    parts::{self, Parts},
    policy,
    run::Run,
    wait::until,
};

/// A tailnet with its people.
pub struct Lab {
    pub run: Run,
    pub parts: Parts,
    pub control: Control,
    /// alice@example.com's.
    pub alice: Node,
    /// bob@example.com's, for whom the baseline policy has no grant.
    pub bob: Node,
    /// Tagged tag:mcp-client.
    pub agent: Node,
    /// Another tag:mcp-client.
    pub thief: Node,
    /// Where gateways run: tagged tag:tailops.
    pub gateway: Node,
    /// What gateways reach: tagged tag:web, in user space.
    pub web: Node,
    /// Without a node: gateways that are nodes themselves run here.
    #[cfg(feature = "embedded")]
    pub embedded: crate::machine::Machine,
}

/// The lab, for one test alone.
pub struct Turn {
    pub lab: &'static Lab,
    _guard: MutexGuard<'static, ()>,
}

static LAB: OnceLock<Option<Lab>> = OnceLock::new();
static TURN: Mutex<()> = Mutex::new(());
static MISSING: OnceLock<Option<String>> = OnceLock::new();

/// The lab, once it is this test's turn; none where it cannot be, which is then said once. The baseline policy is in
/// force.
pub fn turn() -> Option<Turn> {
    turn_under(&policy::baseline())
}

/// The same under another policy, which gives everybody what the baseline does, and some more: tests that share one wait
/// for it once.
pub fn turn_under(policy: &str) -> Option<Turn> {
    if is_skipped() {
        return None;
    }
    // A test that failed in its turn has left nothing that the next does not put right.
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // One attempt: what failed for the first test fails for all, and takes long.
    let lab = LAB.get_or_init(|| catch_unwind(AssertUnwindSafe(Lab::start)).ok());
    let lab = lab.as_ref().expect("the lab did not start: see the first test that failed");
    lab.control.set_policy(policy);
    lab.until_at_baseline();
    Some(Turn { lab, _guard: guard })
}

/// Whether the lab cannot be on this machine.
pub fn is_skipped() -> bool {
    skipped(&MISSING, "test of the tailnet lab", parts::missing)
}

/// Whether something is `missing` for every `test`, which is looked for once; says so on standard error, past the capture
/// of tests' output.
///
/// Fails where the environment says that this is CI: what did not run has not passed.
pub fn skipped(once: &OnceLock<Option<String>>, test: &str, missing: impl FnOnce() -> Option<String>) -> bool {
    let missing = once.get_or_init(|| {
        let missing = missing();
        if let Some(reason) = &missing {
            let _ = writeln!(std::io::stderr(), "lab: every {test} is skipped: {reason} (docs/lab.md)");
        }
        missing
    });
    let Some(reason) = missing else { return false };
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_ci, "the lab must run in CI: {reason}");
    true
}

impl Deref for Turn {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        self.lab
    }
}

impl Lab {
    fn start() -> Self {
        let began = Instant::now();
        let parts = std::thread::scope(|scope| {
            // What hosts start from takes a minute to make, once, which is mostly waiting. Whoever needs it fails without.
            scope.spawn(|| host::missing().is_none().then(|| catch_unwind(host::base)));
            Parts::build()
        });
        let built = began.elapsed();
        let run = Run::begin();
        let control = Control::start(&parts, run.machine("control"), &policy::baseline_without_users());
        control.add_user("alice");
        control.add_user("bob");
        control.set_policy(&policy::baseline());
        let people = [
            ("gateway", Owner::Tag("tag:tailops"), Mode::Tun),
            ("alice", Owner::User("alice"), Mode::Tun),
            ("bob", Owner::User("bob"), Mode::Tun),
            ("agent", Owner::Tag("tag:mcp-client"), Mode::Tun),
            ("thief", Owner::Tag("tag:mcp-client"), Mode::Tun),
            ("web", Owner::Tag("tag:web"), Mode::Userspace),
        ];
        let nodes = people.map(|(name, owner, mode)| (run.machine(name), owner, mode));
        let [gateway, alice, bob, agent, thief, web] = std::thread::scope(|scope| {
            let joining = nodes.map(|(machine, owner, mode)| {
                let (parts, control) = (&parts, &control);
                scope.spawn(move || Node::join(parts, control, machine, owner, mode))
            });
            joining.map(|joining| joining.join().unwrap())
        });
        let up = began.elapsed() - built;
        let _ = writeln!(std::io::stderr(), "lab: built in {built:.1?}, up in {up:.1?}");
        #[cfg(feature = "embedded")]
        let embedded = run.machine("embedded");
        Self {
            run,
            parts,
            control,
            alice,
            bob,
            agent,
            thief,
            gateway,
            web,
            #[cfg(feature = "embedded")]
            embedded,
        }
    }

    /// Waits until the nodes have learnt of the baseline policy.
    fn until_at_baseline(&self) {
        for node in [&self.gateway, &self.alice, &self.bob, &self.agent, &self.thief, &self.web] {
            node.restore();
        }
        let capable = |node: &Node| {
            let (_, whois) = self.gateway.whois(SocketAddr::new(node.ipv4(), 0));
            whois["CapMap"][policy::CAPABILITY].is_array()
        };
        until("alice and the agents have their rights", || {
            [&self.alice, &self.agent, &self.thief].into_iter().all(capable)
        });
        let bob = self.bob.id();
        until("bob has none", || !self.gateway.knows(&bob));
        for other in [&self.alice, &self.agent, &self.thief, &self.web] {
            self.gateway.until_acquainted(other);
        }
    }

    /// A node for one test, on a machine of its own: `name` and a number.
    pub fn join(&self, name: &str, owner: Owner, mode: Mode) -> Node {
        static GUESTS: AtomicU32 = AtomicU32::new(1);
        let name = format!("{name}{}", GUESTS.fetch_add(1, Ordering::SeqCst));
        Node::join(&self.parts, &self.control, self.run.machine(&name), owner, mode)
    }
}
