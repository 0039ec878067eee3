//! What is taken away while a connection lives: a capability, a grant, a node, the daemon. Rights are gone within five
//! seconds, and so are reads that run.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    client::{self, Answer, Silence, http},
    control::Owner,
    lab::Lab,
    node::{Mode, Node},
    policy::{self, PORT},
    site::{Site, slow},
    wait::{until, until_some},
};

/// How soon what was taken away must be gone.
const SOON: Duration = Duration::from_secs(5);
/// The same where nobody is left to say so: the question that goes unanswered takes its time too.
const SILENT: Duration = Duration::from_secs(8);
/// How often a live connection is used.
const PACE: Duration = Duration::from_millis(100);

over_every_way![
    a_capability_that_is_taken_away_is_gone_on_live_connections,
    a_grant_that_is_taken_away_stops_a_running_read,
    a_tag_that_is_taken_away_is_gone_on_live_connections,
    a_node_that_is_deleted_has_no_rights_left,
    a_daemon_that_is_killed_in_a_call_and_comes_back_is_used_again,
    a_daemon_that_hangs_lets_nobody_in_until_it_goes_on,
];

/// What became of a peer's calls once something was taken away.
struct Ended {
    /// How long the read that ran went on.
    read_for: Duration,
    /// How long calls over a live connection were still answered.
    served_for: Duration,
    /// How the first call ended that was not.
    how: Result<Answer, Silence>,
}

/// Calls over one connection until a call is not served: when the last one was, and how the first one was not.
async fn call_until_refused(url: &str, token: &str, served: &AtomicBool) -> (Instant, Result<Answer, Silence>) {
    let http = http().pool_max_idle_per_host(1).timeout(SOON + PACE).build().unwrap();
    let mut last = Instant::now();
    loop {
        let how = client::call(&http, url, Some(token), "token_inspect", json!({})).await;
        if !how.as_ref().is_ok_and(|answer| answer.status == 200) {
            return (last, how);
        }
        last = Instant::now();
        served.store(true, Ordering::SeqCst);
        tokio::time::sleep(PACE).await;
    }
}

/// Lets `node` read something that does not end by itself, and use a live connection; then `take` takes something away.
fn while_at_it(site: &Site, node: &Node, token: &str, take: impl FnOnce()) -> Ended {
    let listener = site.lab.web.machine.listen(slow(site.lab));
    listener.set_nonblocking(true).unwrap();
    let (url, served) = (site.url(), AtomicBool::new(false));
    let read =
        json!({"target": "local", "from": "gateway", "method": "GET", "url": format!("http://{}/", slow(site.lab))});
    let (gone, is_gone) = tokio::sync::oneshot::channel::<()>();
    let reading = async || {
        let http = http().timeout(SILENT * 2).build().unwrap();
        let mut answer = std::pin::pin!(client::call(&http, &url, Some(token), "http_probe", read));
        tokio::select! {
            answer = &mut answer => answer,
            // Where packets no longer come through, there is no answer to wait for.
            _ = is_gone => tokio::time::timeout(PACE, answer).await.unwrap_or(Err(Silence::Broken)),
        }
    };
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| node.machine.visit(reading));
        let living = scope.spawn(|| node.machine.visit(|| call_until_refused(&url, token, &served)));
        let (far, _) = until_some("the read runs", || listener.accept().ok());
        until("the live connection is in use", || served.load(Ordering::SeqCst));
        let began = Instant::now();
        take();
        await_end(far);
        let read_for = began.elapsed();
        gone.send(()).unwrap_or(());
        let (last, how) = living.join().unwrap();
        let answer = reading.join().unwrap();
        assert!(!answer.is_ok_and(|answer| answer.status == 200 && answer.body["result"]["isError"] != true));
        Ended { read_for, served_for: last.saturating_duration_since(began), how }
    })
}

impl Ended {
    /// Fails the test if anything went on for too long; says how long it did.
    #[track_caller]
    fn soon(&self, within: Duration, what: &str) {
        let (read_for, served_for) = (self.read_for, self.served_for);
        let _ = writeln!(
            std::io::stderr(),
            "lab: {what}: calls were answered for {served_for:.1?} more, the read ran for {read_for:.1?} more"
        );
        assert!(read_for < within && served_for < within, "{read_for:?}, {served_for:?}");
    }
}

/// Waits until the other end has gone.
fn await_end(mut stream: TcpStream) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(crate::wait::PATIENCE)).unwrap();
    let mut sink = [0; 1024];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the read goes on: {error}"),
        }
    }
}

fn alice_with_network_only() -> String {
    policy::with(&[policy::network(&["alice@"], "tag:tailops", PORT), policy::agent(), policy::targets()])
}

fn a_capability_that_is_taken_away_is_gone_on_live_connections(site: &Site) {
    let lab = site.lab;
    let token = site.token("admin", "user:alice@example.com");
    let ended = while_at_it(site, &lab.alice, &token, || lab.control.set_policy(&alice_with_network_only()));
    ended.soon(SOON, "a capability was taken away");
    // The connection is closed; on another one the answer says why.
    let answer = ended.how.or_else(|_| site.call(&lab.alice, &token)).unwrap();
    assert_eq!((answer.status, answer.code()), (403, "peer_no_grant"), "{}", answer.body);
    let record = site.last_record(|record| record["tool"] == "http_probe");
    assert_eq!(record["status"], "cancelled", "{record}");
    // It comes back as it went.
    lab.control.set_policy(&policy::baseline());
    site.until_alice_is_served();
}

fn a_grant_that_is_taken_away_stops_a_running_read(site: &Site) {
    let lab = site.lab;
    let token = site.token("admin", "user:alice@example.com");
    let without_alice = policy::with(&[policy::agent(), policy::targets()]);
    let ended = while_at_it(site, &lab.alice, &token, || lab.control.set_policy(&without_alice));
    ended.soon(SOON, "a grant was taken away");
    until("alice knows no way there", || site.call(&lab.alice, &token) == Err(Silence::Unreachable));
    assert_eq!(site.last_record(|record| record["tool"] == "http_probe")["status"], "cancelled");
}

fn a_tag_that_is_taken_away_is_gone_on_live_connections(site: &Site) {
    let lab = site.lab;
    let grants =
        [policy::alice(), policy::gateway(&["tag:mcp-client"], json!({"scopes": ["admin"]})), policy::targets()];
    lab.control.set_policy(&policy::with(&grants));
    let guest = lab.join("crawler", Owner::Tag("tag:mcp-client"), Mode::Tun);
    let token = site.token("admin", &format!("node:{}", guest.id()));
    until("it is served", || site.call(&guest, &token).is_ok_and(|answer| answer.status == 200));
    let ended = while_at_it(site, &guest, &token, || lab.control.tag(&guest.id(), "tag:web"));
    ended.soon(SOON, "a tag was taken away");
    assert!(!site.call(&guest, &token).is_ok_and(|answer| answer.status == 200));
}

fn a_node_that_is_deleted_has_no_rights_left(site: &Site) {
    let lab = site.lab;
    let guest = guest(lab, site);
    let token = site.token("admin", &format!("node:{}", guest.id()));
    let ended = while_at_it(site, &guest, &token, || lab.control.delete(&guest.id()));
    ended.soon(SOON, "a node was deleted");
    assert!(site.call(&guest, &token).is_err());
}

/// Another node of alice's, which reaches the gateway.
fn guest(lab: &Lab, site: &Site) -> Node {
    let guest = lab.join("laptop", Owner::User("alice"), Mode::Tun);
    until("the new node reaches the gateway", || site.is_reached_by(&guest));
    guest
}

fn a_daemon_that_is_killed_in_a_call_and_comes_back_is_used_again(site: &Site) {
    let lab = site.lab;
    let token = site.token("admin", "user:alice@example.com");
    while_at_it(site, &lab.alice, &token, || site.kill_node()).soon(SILENT, "the node's process was killed");
    // The call that was under way has its outcome on record.
    assert_ne!(site.last_record(|record| record["tool"] == "http_probe")["status"], "ok");
    site.restore_node();
    site.until_alice_is_served();
    let record: Value = site.last_record(|record| record["tool"] == "token_inspect");
    assert_eq!(record["tailscale"]["tailscale_node_id"], lab.alice.id());
}

fn a_daemon_that_hangs_lets_nobody_in_until_it_goes_on(site: &Site) {
    let lab = site.lab;
    let token = site.token("admin", "user:alice@example.com");
    site.call(&lab.alice, &token).unwrap().data();
    let before = site.records().len();
    site.signal_node(Signal::STOP);
    assert!(!site.call(&lab.alice, &token).is_ok_and(|answer| answer.status == 200));
    assert!(!site.records()[before..].iter().any(|record| record["status"] == "ok"));
    site.signal_node(Signal::CONT);
    site.until_alice_is_served();
}
