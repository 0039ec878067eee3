//! Reads what curl writes of a transfer (`-w '%{json}'`). Text in, values out.

use std::net::IpAddr;

use serde_json::Value;

use super::{Timings, Trouble};
use crate::tools::probes::rounded;

/// One transfer.
pub(super) struct Answer {
    pub(super) status: Option<u16>,
    pub(super) trouble: Option<Trouble>,
    pub(super) timings: Timings,
    /// The address that was connected to.
    pub(super) address: Option<String>,
    pub(super) redirect: Option<String>,
    /// Whether the certificate is trusted, where there was a TLS handshake.
    pub(super) trusted: Option<bool>,
}

/// From the JSON line and the line with curl's exit status. None where there is no JSON: curl before 7.70 has none.
pub(super) fn read(text: &str) -> Option<Answer> {
    let json: Value = text.lines().find_map(|line| serde_json::from_str(line).ok().filter(Value::is_object))?;
    let exit = text.lines().find_map(|line| line.strip_prefix("exit ")?.trim().parse::<u32>().ok())?;
    let number = |key: &str| json.get(key).and_then(Value::as_f64).filter(|number| *number > 0.0);
    let between = |from: Option<f64>, to: Option<f64>| Some(rounded((to? - from.unwrap_or(0.0)).max(0.0) * 1e3));
    let said = |key: &str| json.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let status = json.get("http_code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let status = status.filter(|status| *status > 0);
    let (connected, shaken) = (number("time_connect"), number("time_appconnect"));
    let trusted = match (exit, shaken) {
        (51 | 60, _) => Some(false),
        (_, Some(_)) => Some(json.get("ssl_verify_result").and_then(Value::as_i64) == Some(0)),
        _ => None,
    };
    Some(Answer {
        status,
        trouble: status.is_none().then(|| trouble(exit, connected.is_some())),
        timings: Timings {
            resolve_ms: None,
            connect_ms: between(number("time_namelookup"), connected),
            tls_ms: between(connected, shaken),
            first_byte_ms: between(number("time_pretransfer"), number("time_starttransfer")),
        },
        address: said("remote_ip").and_then(|text| text.parse::<IpAddr>().ok()).map(|ip| ip.to_string()),
        redirect: said("redirect_url"),
        trusted,
    })
}

/// Why there is no status, by curl's exit status.
fn trouble(exit: u32, connected: bool) -> Trouble {
    match exit {
        7 => Trouble::new("connect", "connection_failed"),
        28 if connected => Trouble::new("http", "timed_out"),
        28 => Trouble::new("connect", "timed_out"),
        51 | 60 => Trouble::new("tls", "certificate_not_trusted"),
        35 => Trouble::new("tls", "handshake_failed"),
        52 => Trouble::new("http", "connection_closed"),
        1 | 8 => Trouble::new("http", "not_http"),
        56 => Trouble::new("http", "connection_lost"),
        _ => Trouble::new("http", "no_answer"),
    }
}
