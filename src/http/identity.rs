//! Whose requests a connection carries, kept true for as long as it is open. The peer is identified before a byte is
//! read, and asked for again whenever what is known of it is as old as the node allows. A peer that lost something, or
//! cannot be identified any more, loses the connection; every request sees the peer as it is now.

use std::{
    future::pending,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use hyper::{StatusCode, header};
use tokio::{
    sync::Notify,
    time::{sleep, sleep_until, timeout, timeout_at},
};

use super::{
    Front,
    count::Held,
    refuse::Refused,
    relay::{self, Foreign},
};
use crate::tailnet::{Connection, Node, Peer, Unidentified};

/// The longest a connection waits to be identified, with those before it.
const FIRST: Duration = Duration::from_secs(3);
/// The longest an identity is believed beyond its time while the node is asked again.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The pause before a node that could not say is asked once more.
const AGAIN: Duration = Duration::from_millis(100);

/// Who is behind one connection.
pub(super) struct Identity {
    origin: Origin,
    /// How long a belief holds; none where it cannot become wrong.
    life: Option<Duration>,
    /// None for a relay that carried no request yet.
    belief: ArcSwapOption<Belief>,
    /// Another belief, which [`Identity::until_lost`] keeps from now on.
    changed: Notify,
    /// The belief is younger than it was.
    renewed: Notify,
}

/// Where the connection comes from.
enum Origin {
    /// From the peer itself, between these two addresses.
    Direct { peer: SocketAddr, local: SocketAddr },
    /// From a process that may relay requests of others.
    Relay,
    /// From nobody that may come in.
    Stranger(Unidentified),
}

struct Belief {
    peer: Arc<Peer>,
    /// When the node was asked.
    since: Instant,
    /// What the relay said, where there is one.
    behind: Option<IpAddr>,
    _held: Option<Arc<Held>>,
}

/// What a peer lost while its connection was open.
pub(super) struct Loss {
    /// As it was before.
    pub(super) peer: Arc<Peer>,
    /// For programs and the audit log.
    pub(super) code: &'static str,
    pub(super) reason: String,
}

/// Why a request has no peer, and who it is where that is known all the same.
pub(super) struct Nobody {
    pub(super) refused: Refused,
    pub(super) peer: Option<Peer>,
}

impl Identity {
    /// Who is at the other end of `connection`, of which nothing has been read.
    pub(super) async fn of(connection: &Connection, front: &Front) -> Self {
        let life = front.node.believed_for();
        let new = |origin, belief: Option<Belief>| Self {
            origin,
            life,
            belief: ArcSwapOption::from_pointee(belief),
            changed: Notify::new(),
            renewed: Notify::new(),
        };
        let since = Instant::now();
        let asked = timeout(FIRST, async {
            let relays = &front.lines.relays;
            if !relays.is_empty() && relays.made(connection, &front.node.status()).await {
                return None;
            }
            // In turn, so that a flood of connections does not become a flood of questions.
            let _turn = front.lines.identifying.acquire().await;
            Some(connection.identify(&*front.node).await)
        });
        match asked.await {
            Ok(None) => new(Origin::Relay, None),
            Ok(Some(Ok(peer))) => {
                let origin = Origin::Direct { peer: connection.peer, local: connection.local };
                new(origin, Some(Belief { peer: Arc::new(peer), since, behind: None, _held: None }))
            }
            Ok(Some(Err(why))) => new(Origin::Stranger(why), None),
            Err(_) => new(Origin::Stranger(silent()), None),
        }
    }

    /// What its connections are counted by; `address` where there is nobody.
    pub(super) fn key(&self, address: SocketAddr) -> Option<String> {
        match &self.origin {
            Origin::Direct { .. } => self.belief.load().as_ref().map(|belief| belief.peer.id.clone()),
            Origin::Stranger(_) => Some(address.ip().to_string()),
            // Each of its requests is counted by its own peer.
            Origin::Relay => None,
        }
    }

    pub(super) fn is_relay(&self) -> bool {
        matches!(self.origin, Origin::Relay)
    }

    /// Whose request this is, as of now.
    pub(super) async fn at_request(&self, front: &Front, foreign: &Foreign) -> Result<Arc<Peer>, Nobody> {
        match &self.origin {
            Origin::Direct { .. } => self.fresh().await,
            Origin::Relay => self.behind_relay(front, foreign).await,
            Origin::Stranger(why) => Err(nobody(why)),
        }
    }

    async fn fresh(&self) -> Result<Arc<Peer>, Nobody> {
        let young = || {
            let belief = self.belief.load();
            let belief = belief.as_ref()?;
            let young = self.life.is_none_or(|life| belief.since.elapsed() < life);
            young.then(|| belief.peer.clone())
        };
        if let Some(peer) = young() {
            return Ok(peer);
        }
        // The node is being asked: `until_lost` runs as long as this does.
        let renewed = async {
            loop {
                let renewed = self.renewed.notified();
                if let Some(peer) = young() {
                    return peer;
                }
                renewed.await;
            }
        };
        timeout(PATIENCE, renewed).await.map_err(|_| nobody(&silent()))
    }

    async fn behind_relay(&self, front: &Front, foreign: &Foreign) -> Result<Arc<Peer>, Nobody> {
        let address = foreign
            .address
            .map_err(|why| Nobody { refused: Refused::new(StatusCode::FORBIDDEN, "proxy_header", why), peer: None })?;
        let life = self.life.unwrap_or_default();
        if let Some(belief) = &*self.belief.load()
            && belief.behind == Some(address)
            && belief.since.elapsed() < life
        {
            return Ok(belief.peer.clone());
        }
        let asked = front.lines.relayed.identify(&*front.node, address, life, FIRST).await;
        let (peer, since) = asked.map_err(|why| nobody(&why))?;
        // Its place among the connections of the last peer is free from here on.
        self.belief.store(None);
        let held = front.lines.peers.take(peer.id.clone(), front.settings.max_connections_per_peer);
        if held.is_none() {
            let message = "too many requests of this peer are open: wait for one to end";
            let refused =
                Refused::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message).header(header::RETRY_AFTER, "1");
            return Err(Nobody { refused, peer: Some((*peer).clone()) });
        }
        self.believe(Belief { peer: peer.clone(), since, behind: Some(address), _held: held.map(Arc::new) });
        Ok(peer)
    }

    fn believe(&self, belief: Belief) {
        self.belief.store(Some(Arc::new(belief)));
        self.changed.notify_one();
    }

    /// Asks for the peer again and again, and ends when it lost something. Runs as long as the connection is open.
    pub(super) async fn until_lost(&self, front: &Front) -> Loss {
        let Some(life) = self.life.filter(|_| !matches!(self.origin, Origin::Stranger(_))) else {
            return pending().await;
        };
        loop {
            let Some(belief) = self.belief.load_full() else {
                self.changed.notified().await;
                continue;
            };
            tokio::select! {
                () = sleep_until((belief.since + life).into()) => {}
                () = self.changed.notified() => continue,
            }
            front.lines.names.follow(&front.node.status());
            let asked = self.ask_again(&*front.node, &belief, belief.since + life + PATIENCE).await;
            let still = self.belief.load().as_ref().is_some_and(|now| Arc::ptr_eq(now, &belief));
            if !still {
                // A relay's next request is somebody else's: what the one before lost concerns nothing that runs here.
                continue;
            }
            match asked {
                Ok((fresh, since)) => {
                    if let Some(what) = belief.peer.lost(&fresh) {
                        return Loss { peer: belief.peer.clone(), code: "peer_rights_lost", reason: what };
                    }
                    let peer = if *belief.peer == fresh { belief.peer.clone() } else { Arc::new(fresh) };
                    self.renew(&belief, peer, since);
                }
                Err(why) => return Loss { peer: belief.peer.clone(), code: why.code(), reason: why.to_string() },
            }
        }
    }

    /// Puts a younger belief in the place of `before`, with its place among the peer's connections.
    fn renew(&self, before: &Arc<Belief>, peer: Arc<Peer>, since: Instant) {
        let renewed = Belief { peer, since, behind: before.behind, _held: before._held.clone() };
        self.belief.store(Some(Arc::new(renewed)));
        self.renewed.notify_waiters();
    }

    /// Asks the node until it says something, at the latest `until` then.
    async fn ask_again(
        &self,
        node: &dyn Node,
        belief: &Belief,
        until: Instant,
    ) -> Result<(Peer, Instant), Unidentified> {
        loop {
            let since = Instant::now();
            let answer = async {
                match (&self.origin, belief.behind) {
                    (Origin::Direct { peer, local }, _) => node.identify(*peer, *local).await,
                    (_, Some(address)) => relay::ask(node, address).await,
                    (_, None) => Err(Unidentified::NotFound),
                }
            };
            let answer = timeout_at(until.into(), answer).await.unwrap_or_else(|_| Err(silent()));
            match answer {
                Ok(peer) => return Ok((peer, since)),
                // What passes by itself, such as a daemon that is restarted.
                Err(Unidentified::Daemon(_) | Unidentified::Lookup(_)) if Instant::now() + AGAIN < until => {
                    sleep(AGAIN).await;
                }
                Err(why) => return Err(why),
            }
        }
    }
}

fn silent() -> Unidentified {
    Unidentified::Daemon("it does not answer in time".to_owned())
}

/// The connection is closed with the answer: the next one is identified anew.
fn nobody(why: &Unidentified) -> Nobody {
    let mut refused = Refused::new(StatusCode::FORBIDDEN, why.code(), "this connection may not come in")
        .header(header::CONNECTION, "close");
    refused.detail = Some(why.to_string());
    Nobody { refused, peer: why.peer().cloned() }
}
