//! Headers that speak of somebody else: removed from every request before anything sees them. From a trusted relay, the
//! one of them that holds an address says which peer to ask the node about; none of them is ever believed to be an
//! identity.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use moka::sync::Cache;
use tokio::time::timeout;

use crate::tailnet::{Node, NotAdmitted, Peer, Unidentified};

/// The most peers of relays that are remembered.
const REMEMBERED: u64 = 4096;

/// What a request's headers said of others.
pub(super) struct Foreign {
    /// Tailscale Funnel let somebody in from the internet.
    pub(super) funnel: bool,
    /// The address of the peer, if a relay sent this; or what is wrong with it.
    pub(super) address: Result<IpAddr, &'static str>,
}

/// Takes every such header out.
pub(super) fn take(headers: &mut HeaderMap) -> Foreign {
    let mut foreign = Foreign { funnel: false, address: Err("there is no X-Forwarded-For header") };
    // Nothing is allocated where there is none.
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_foreign(name.as_str())).cloned().collect();
    for name in names {
        match name.as_str() {
            "tailscale-funnel-request" => foreign.funnel = true,
            "x-forwarded-for" => foreign.address = address(headers.get_all(&name).iter()),
            _ => {}
        }
        headers.remove(name);
    }
    foreign
}

fn is_foreign(name: &str) -> bool {
    name.starts_with("tailscale-") || name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip")
}

/// The one address there is. A list would be of somebody who added to a header that was there already.
fn address<'a>(mut values: impl Iterator<Item = &'a HeaderValue>) -> Result<IpAddr, &'static str> {
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err("there is more than one X-Forwarded-For header");
    };
    let address = value.to_str().ok().and_then(|text| text.trim().parse::<IpAddr>().ok());
    address.map(|address| address.to_canonical()).ok_or("the X-Forwarded-For header is not one address alone")
}

/// The peers behind relays.
pub(super) struct Relayed {
    known: Cache<IpAddr, (Arc<Peer>, Instant)>,
}

impl Relayed {
    pub(super) fn new() -> Self {
        Self { known: Cache::new(REMEMBERED) }
    }

    /// The peer at `address`, and since when that is known: from memory for `life`, else from the node within `patience`.
    pub(super) async fn identify(
        &self,
        node: &dyn Node,
        address: IpAddr,
        life: Duration,
        patience: Duration,
    ) -> Result<(Arc<Peer>, Instant), Unidentified> {
        if let Some((peer, since)) = self.known.get(&address)
            && since.elapsed() < life
        {
            return Ok((peer, since));
        }
        let since = Instant::now();
        let peer = timeout(patience, ask(node, address)).await;
        let peer = peer.unwrap_or_else(|_| Err(Unidentified::Daemon("it does not answer in time".to_owned())))?;
        let peer = Arc::new(peer);
        self.known.insert(address, (peer.clone(), since));
        Ok((peer, since))
    }
}

/// The peer at `address`, asked for now.
pub(super) async fn ask(node: &dyn Node, address: IpAddr) -> Result<Peer, Unidentified> {
    let mut peer = node.identify_relayed(address).await?;
    // The port is the relay's secret.
    peer.address = SocketAddr::new(address, 0);
    if node.status().own.as_ref().is_some_and(|own| own.id == peer.id || own.addresses.contains(&address)) {
        return Err(Unidentified::NotAdmitted { peer: Box::new(peer), why: NotAdmitted::OwnNode });
    }
    Ok(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn p13_every_header_that_speaks_of_somebody_else_is_taken_out() {
        let mut headers = headers(&[
            ("host", "x"),
            ("tailscale-user-login", "mallory@example.com"),
            ("tailscale-user-name", "Mallory"),
            ("tailscale-user-profile-pic", "http://x/"),
            ("tailscale-app-capabilities", "{}"),
            ("tailscale-headers-info", "x"),
            ("tailscale-anything-new", "x"),
            ("x-forwarded-for", "100.64.0.7"),
            ("x-forwarded-host", "x"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-user", "mallory"),
            ("forwarded", "for=100.64.0.7"),
            ("x-real-ip", "100.64.0.7"),
            ("authorization", "Bearer x"),
        ]);
        let foreign = take(&mut headers);
        assert!(!foreign.funnel);
        assert_eq!(foreign.address, Ok("100.64.0.7".parse().unwrap()));
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["host", "authorization"]);
    }

    #[test]
    fn p13_only_one_plain_address_names_a_peer() {
        for bad in [
            &[][..],
            &["100.64.0.7", "100.64.0.7"],
            &["100.64.0.7, 100.64.0.8"],
            &["100.64.0.7,"],
            &["100.64.0.7:4000"],
            &["[fd7a::1]"],
            &["fe80::1%eth0"],
            &["alice"],
            &["unknown"],
            &[""],
            &["100.64.0"],
            &["0x64400007"],
        ] {
            let pairs: Vec<_> = bad.iter().map(|&value| ("x-forwarded-for", value)).collect();
            assert!(take(&mut headers(&pairs)).address.is_err(), "{bad:?}");
        }
        for (good, address) in
            [("100.64.0.7", "100.64.0.7"), ("fd7a::7", "fd7a::7"), ("::ffff:100.64.0.7", "100.64.0.7")]
        {
            let foreign = take(&mut headers(&[("x-forwarded-for", good)]));
            assert_eq!(foreign.address, Ok(address.parse().unwrap()), "{good}");
        }
        assert!(take(&mut headers(&[("tailscale-funnel-request", "?0")])).funnel, "whatever it says");
    }
}
