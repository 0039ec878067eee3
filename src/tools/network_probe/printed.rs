//! Reads what the probe script's programs print. Text in, values out; a line that is not understood is skipped.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Hop, Rtt};
use crate::{
    model::Certificate,
    tools::probes::{Cert, Tls},
};

/// From `ping`: packets sent, packets received and the times. None where it printed no summary.
pub(super) fn ping(text: &str) -> Option<(u32, u32, Option<Rtt>)> {
    let counts = text.lines().find(|line| line.contains("packets transmitted"))?;
    let mut counts = counts.split(',').filter_map(|part| part.split_whitespace().next()?.parse::<u32>().ok());
    let (sent, received) = (counts.next()?, counts.next()?);
    let rtt = text.lines().find(|line| line.contains("min/avg/max")).and_then(|line| {
        let (_, values) = line.split_once('=')?;
        let mut values = values.trim().split([' ', '/']).map_while(|value| value.parse::<f64>().ok());
        Some(Rtt { min: values.next()?, avg: values.next()?, max: values.next()? })
    });
    Some((sent, received.min(sent), rtt))
}

/// Why `ping` printed no summary.
pub(super) fn ping_failure(text: &str) -> &'static str {
    if text.contains("not permitted") || text.contains("Permission denied") {
        "not_permitted"
    } else if text.contains("unreachable") {
        "network_unreachable"
    } else {
        "ping_failed"
    }
}

/// From the script's own lines: the times of the connections that were made, how many were tried, and the last failure.
/// A time that the script's shell could not take is left out of the times' statistics but never counts as lost.
pub(super) fn tries(text: &str) -> (Vec<f64>, u32, Option<&str>) {
    let (mut times, mut tried, mut failure) = (Vec::new(), 0, None);
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "made" => {
                tried += 1;
                times.push(rest.trim().parse::<u32>().map_or(0.0, |micros| f64::from(micros) / 1e3));
            }
            "failed" => {
                tried += 1;
                failure = Some(rest);
            }
            _ => {}
        }
    }
    (times, tried, failure)
}

/// From `tracepath -n`: one hop a number, the last line of each.
pub(super) fn hops(text: &str) -> Vec<Hop> {
    let mut hops: Vec<Hop> = Vec::new();
    for line in text.lines() {
        let Some((number, rest)) = line.split_once(':') else { continue };
        // `1?:` is the sending machine itself.
        let Ok(hop) = number.trim().parse::<u32>() else { continue };
        let mut words = rest.split_whitespace();
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok()).map(|ip| ip.to_string());
        let rtt_ms = rest.split_whitespace().find_map(|word| word.strip_suffix("ms")?.parse::<f64>().ok());
        if hops.last().is_some_and(|last| last.hop == hop) {
            hops.pop();
        }
        hops.push(Hop { hop, address, rtt_ms });
    }
    hops
}

/// From `openssl s_client`: the first certificate is the server's own. None where there is none.
pub(super) fn handshake(text: &str) -> Option<Tls> {
    let (_, pem) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (pem, _) = pem.split_once("-----END CERTIFICATE-----")?;
    let der = STANDARD.decode(pem.split_whitespace().collect::<String>()).ok()?;
    let cert = Cert::from(Certificate::read(&der)?);
    let verdict = text.lines().find_map(|line| line.trim().strip_prefix("Verify return code: "));
    let trusted = verdict.map(|verdict| verdict.starts_with("0 "));
    let version = ["TLSv1.3", "TLSv1.2"].into_iter().find(|version| text.contains(&format!("New, {version}, ")));
    Some(Tls {
        version: version.map(str::to_owned),
        trusted,
        untrusted: verdict.filter(|_| trusted == Some(false)).map(str::to_owned),
        cert: Some(cert),
    })
}

/// From `getent ahosts`: the addresses, each once.
pub(super) fn addresses(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for ip in text.lines().filter_map(|line| line.split_whitespace().next()?.parse::<IpAddr>().ok()) {
        if !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}
