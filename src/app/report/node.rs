//! Findings about the node: its state, tags, key, name, listeners and certificate. Pure, but for the certificate's
//! file, of which only the first certificate is read.

use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{
    config::{Tls, is_loopback},
    model::{Certificate, Line, Subject},
    tailnet::{NodeState, NodeStatus, OwnNode},
};

/// A key or certificate that ends within this time is told.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What the configuration wants of the node.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The tags it should have.
    pub tags: Vec<String>,
    /// The name it asked for.
    pub hostname: Option<String>,
}

/// How far the node of this mode has come, and what is known of it.
pub fn node_lines(mode: &str, status: &NodeStatus, wanted: &Wanted, now: Timestamp) -> Vec<Line> {
    let mut lines = vec![state(mode, status)];
    if let Some(own) = &status.own {
        lines.extend(tags(own, wanted));
        lines.push(key(own, now));
        lines.push(name(own, wanted));
    }
    // The link stands in the line of the node already.
    let said = login_link(status).filter(|_| status.state == NodeState::NeedsLogin);
    let warnings = status.warnings.iter().filter(|warning| said.is_none_or(|link| !warning.contains(link)));
    lines.extend(warnings.map(|warning| {
        let mend = if mode == "host" {
            "`tailscale status` and the daemon's log say more"
        } else {
            "the service's log says more"
        };
        Line::warn(Subject::Daemon, warning.clone(), mend)
    }));
    if let Some(version) = status.version.as_ref().filter(|_| status.warnings.is_empty()) {
        lines.push(Line::ok(Subject::Daemon, format!("version {version}, finds nothing wrong")));
    }
    lines
}

fn state(mode: &str, status: &NodeStatus) -> Line {
    let fail = |finding: String, host: &str, embedded: &str| {
        Line::fail(Subject::Node, format!("{mode}: {finding}"), if mode == "host" { host } else { embedded })
    };
    let tailnet = status.tailnet.as_deref().unwrap_or("a tailnet without a name");
    match (&status.state, &status.own) {
        (NodeState::Loopback, _) => Line::ok(Subject::Node, format!("{mode}: this machine only, on no tailnet")),
        (NodeState::Running, Some(own)) => {
            let addresses: Vec<String> = own.addresses.iter().map(ToString::to_string).collect();
            let finding = format!("{mode}: on {tailnet} as {} ({}), {}", own.name, own.id, addresses.join(" "));
            Line::ok(Subject::Node, finding)
        }
        (NodeState::Running, None) => fail(
            "has no network map, so no peer can be identified".to_owned(),
            "check that this host reaches the control server: `tailscale netcheck`, `tailscale debug restun`",
            "check that this host reaches the control server",
        ),
        (NodeState::Starting, _) => fail(
            "is starting and not yet on the tailnet".to_owned(),
            "wait a moment; if it stays so: `tailscale netcheck`, and the daemon's log",
            "wait a moment; if it stays so, check that this host reaches the control server",
        ),
        (NodeState::NeedsLogin, _) if login_link(status).is_some() => Line::fail(
            Subject::Node,
            format!("{mode}: is not logged in: its key is missing, expired or was removed"),
            format!(
                "{}, or open {}",
                if mode == "host" {
                    "`tailscale up` with an auth key"
                } else {
                    "give node.auth_key_file a fresh auth key"
                },
                login_link(status).unwrap_or_default()
            ),
        ),
        (NodeState::NeedsLogin, _) => fail(
            "is not logged in: its key is missing, expired or was removed".to_owned(),
            "`tailscale up` with an auth key, or without one and follow the link it prints",
            "give node.auth_key_file a fresh auth key and restart, or follow the login link in the service's log",
        ),
        (NodeState::NeedsApproval, _) => fail(
            "waits for an admin of the tailnet to approve the device".to_owned(),
            "approve it in the admin console, or use an auth key that is pre-approved",
            "approve it in the admin console, or use an auth key that is pre-approved",
        ),
        (NodeState::Stopped, _) => {
            fail("is switched off".to_owned(), "`tailscale up`", "restart the service; its log says why it stopped")
        }
        (NodeState::Unreachable(why), _) => fail(
            format!("the daemon cannot be asked: {why}"),
            "`systemctl status tailscaled`; node.socket must name its socket",
            "the service starts it anew by itself; its log says why it ended",
        ),
    }
}

/// Where a person logs the node in, if the daemon says so.
fn login_link(status: &NodeStatus) -> Option<&str> {
    let mut words = status.warnings.iter().flat_map(|warning| warning.split_whitespace());
    words.find(|word| word.starts_with("https://") || word.starts_with("http://"))
}

fn tags(own: &OwnNode, wanted: &Wanted) -> Vec<Line> {
    let missing: Vec<&str> = wanted.tags.iter().filter(|tag| !own.tags.contains(tag)).map(String::as_str).collect();
    if own.tags.is_empty() {
        let user = own.user.as_deref().unwrap_or("a user");
        return vec![Line::warn(
            Subject::Tags,
            format!("the node belongs to {user}: it goes when they go, and its key will end"),
            "log it in anew with an auth key that has a tag, such as tag:tailops",
        )];
    }
    if !missing.is_empty() {
        return vec![Line::warn(
            Subject::Tags,
            format!("has {}, and lacks {}", own.tags.join(" "), missing.join(" ")),
            "log it in anew with an auth key that has these tags; a login by a person takes tags away",
        )];
    }
    vec![Line::ok(Subject::Tags, own.tags.join(" "))]
}

fn key(own: &OwnNode, now: Timestamp) -> Line {
    let mend = "tag the node, or disable its key expiry in the admin console; then log it in anew";
    match own.key_expiry {
        None => Line::ok(Subject::KeyExpiry, "never"),
        Some(end) if end <= now => Line::fail(Subject::KeyExpiry, format!("ended at {}", shown(end)), mend),
        Some(end) if end.duration_since(now) < SOON => {
            Line::warn(Subject::KeyExpiry, format!("ends at {}, in {}", shown(end), left(end, now)), mend)
        }
        Some(end) => Line::ok(Subject::KeyExpiry, format!("ends at {}, in {}", shown(end), left(end, now))),
    }
}

fn name(own: &OwnNode, wanted: &Wanted) -> Line {
    let short = own.name.split('.').next().unwrap_or_default();
    if short.is_empty() {
        let mend = "enable MagicDNS in the tailnet's DNS settings, or let clients use the addresses";
        return Line::warn(Subject::Name, "the node has no MagicDNS name", mend);
    }
    match &wanted.hostname {
        Some(hostname) if !hostname.eq_ignore_ascii_case(short) => Line::warn(
            Subject::Name,
            format!("{}, although it asked for {hostname}: another device has that name", own.name),
            "remove the other device, or rename this one in the admin console; clients use the name shown here",
        ),
        _ => Line::ok(Subject::Name, own.name.clone()),
    }
}

/// Whether it listens, and nowhere that others than peers can reach without TLS.
pub(super) fn listeners(addresses: &[SocketAddr], status: &NodeStatus, tls: &Tls) -> Line {
    if addresses.is_empty() {
        let mend = "look at the line `node`: without an address on the tailnet there is nothing to listen on";
        return Line::fail(Subject::Listeners, "listens nowhere", mend);
    }
    let own = status.own.as_ref().map(|own| own.addresses.as_slice()).unwrap_or_default();
    let covered = |address: &&SocketAddr| is_loopback(address.ip()) || own.contains(&address.ip());
    let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    match addresses.iter().find(|address| *tls == Tls::Off && !covered(address)) {
        Some(open) => Line::fail(
            Subject::Listeners,
            format!("{open} is neither on the tailnet nor on loopback, and HTTP is plain there"),
            "listen on the node's own addresses, or set tls.certificate_from",
        ),
        None => Line::ok(Subject::Listeners, all.join(" ")),
    }
}

/// Whether HTTP is wrapped, and until when the certificate holds: the one that is `served`, where that is known, or
/// else the one in the configured file.
pub fn tls_lines(tls: &Tls, served: Option<Timestamp>, status: Option<&NodeStatus>, now: Timestamp) -> Vec<Line> {
    if let (Tls::Node | Tls::Files { .. }, Some(end)) = (tls, served) {
        return vec![certificate_line("the certificate that is served", end, now)];
    }
    match tls {
        Tls::Off => vec![Line::ok(Subject::Tls, "off: plain HTTP, on the tailnet and loopback only")],
        Tls::Node => match status.and_then(|status| status.own.as_ref()) {
            Some(own) if own.certificate_names.is_empty() => vec![Line::fail(
                Subject::Tls,
                "the tailnet gives this node no certificate",
                "enable HTTPS certificates in the tailnet's DNS settings, or set tls.certificate_from to \"files\"",
            )],
            Some(own) => {
                vec![Line::ok(
                    Subject::Tls,
                    format!("the node's own certificate for {}", own.certificate_names.join(" ")),
                )]
            }
            None => Vec::new(),
        },
        Tls::Files { certificate, .. } => {
            let read = CertificateDer::pem_file_iter(certificate).map_err(|error| error.to_string());
            let leaf = read.and_then(|mut chain| {
                let leaf = chain.next().ok_or_else(|| "holds no certificate".to_owned())?;
                leaf.map_err(|error| error.to_string())
            });
            let end = leaf.and_then(|leaf| {
                let end = Certificate::read(&leaf).and_then(|certificate| certificate.not_after);
                end.ok_or_else(|| "holds no certificate with an end".to_owned())
            });
            let path = certificate.display();
            vec![match end {
                Ok(end) => certificate_line(&path.to_string(), end, now),
                Err(why) => {
                    let mend = "tls.certificate_file must name a file in PEM form that the service can read";
                    Line::fail(Subject::Tls, format!("{path}: {why}"), mend)
                }
            }]
        }
    }
}

fn certificate_line(path: &str, end: Timestamp, now: Timestamp) -> Line {
    let mend = "renew the certificate and put it in place of the old one";
    if end <= now {
        return Line::fail(Subject::Tls, format!("{path} ended at {}", shown(end)), mend);
    }
    let finding = format!("{path} ends at {}, in {}", shown(end), left(end, now));
    if end.duration_since(now) < SOON {
        Line::warn(Subject::Tls, finding, mend)
    } else {
        Line::ok(Subject::Tls, finding)
    }
}

fn shown(at: Timestamp) -> impl std::fmt::Display {
    at.strftime("%Y-%m-%dT%H:%M:%SZ")
}

fn left(end: Timestamp, now: Timestamp) -> String {
    let hours = end.duration_since(now).as_hours();
    if hours < 48 { format!("{hours} h") } else { format!("{} d", hours / 24) }
}

#[cfg(test)]
mod tests;
