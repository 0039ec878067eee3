//! The settings of the service itself: every key outside `engagements` and `targets`, with its range and what the
//! profiles forbid.

use std::{
    net::Ipv6Addr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    DATA_DIR, Exec, Http, Limits, Log, LogFormat, Profile, Sessions,
    fleet::absolute_directory,
    section::{Section, Value},
};
use crate::model::format_duration;

const SECOND: Duration = Duration::from_secs(1);

/// `profile`. One that is unknown is reported and read on as the most lenient, so as not to report what follows from it.
pub(super) fn profile(root: &mut Section<'_>) -> Profile {
    let choices = Profile::ALL.map(|profile| (profile.as_str(), profile));
    root.value("profile").map_or(Profile::Recommended, |value| value.choice(&choices).unwrap_or(Profile::Development))
}

/// `data_dir`.
pub(super) fn data_dir(root: &mut Section<'_>) -> PathBuf {
    let directory = root.value("data_dir").and_then(|value| absolute_directory(&value));
    directory.unwrap_or_else(|| Path::new(DATA_DIR).to_owned())
}

/// `targets_file`.
pub(super) fn targets_file(root: &mut Section<'_>) -> Option<PathBuf> {
    const WANTED: &str = "an absolute path in plain form, such as \"/etc/tailops/targets.yaml\"";
    let value = root.value("targets_file")?;
    let text = value.text(WANTED)?;
    let path = plain_file(text);
    if path.is_none() {
        value.refuse(format_args!("{text:?} must be {WANTED}"));
    }
    path
}

/// An absolute path to a file, written in its one plain way.
pub(super) fn plain_file(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain: PathBuf = path.components().collect();
    let up = path.components().any(|component| component == std::path::Component::ParentDir);
    let fits = path.is_absolute() && !up && path.file_name().is_some() && !text.chars().any(char::is_control);
    (fits && plain.as_os_str() == path.as_os_str()).then_some(plain)
}

/// Adds `item` unless it is there already, which is reported.
pub(super) fn add_new<T: PartialEq>(list: &mut Vec<T>, item: T, value: &Value<'_>) {
    if list.contains(&item) {
        value.refuse("is there already");
    } else {
        list.push(item);
    }
}

/// `[http]`; `mode` is `node.mode`.
pub(super) fn http(root: &mut Section<'_>, mode: &str) -> Http {
    let mut section = root.section("http");
    let default = Http::default();
    let hosts = section.value("hosts").map_or(default.hosts, |value| {
        let hosts = words(
            &value,
            "Host names",
            is_host,
            "a name or address without port, in lower case, such as \"localhost\"",
        );
        if value.items("Host names").is_some_and(|items| items.is_empty()) {
            value.refuse("must name at least one Host, such as \"localhost\"");
        }
        hosts
    });
    let origins = section.value("origins").map_or(default.origins, |value| {
        words(
            &value,
            "origins",
            is_origin,
            "scheme, host and optional port alone, such as \"https://console.example.org\"",
        )
    });
    let trusted_proxies = section.value("trusted_proxies").map_or(default.trusted_proxies, |value| {
        if mode != "host" {
            value.refuse(format_args!("has no meaning in node.mode {mode}; it belongs to mode host"));
        }
        let mut uids = Vec::new();
        for item in value.items("uids").unwrap_or_default() {
            if let Some(uid) = item.number(&(0..=u32::MAX)) {
                add_new(&mut uids, uid, &item);
            }
        }
        uids.into_iter().collect()
    });
    let max_connections = section.number("max_connections", default.max_connections, 1..=100_000);
    let http = Http {
        hosts,
        trusted_proxies,
        origins,
        max_body_bytes: bytes(&mut section, "max_body", default.max_body_bytes, 1 << 10, 1 << 30),
        max_header_bytes: bytes(&mut section, "max_header", default.max_header_bytes, 8 << 10, 1 << 20),
        max_connections,
        max_connections_per_peer: section.number(
            "max_connections_per_peer",
            default.max_connections_per_peer.min(max_connections),
            1..=max_connections,
        ),
        header_timeout: section.duration("header_timeout", default.header_timeout, SECOND..=Duration::from_mins(1)),
        body_timeout: section.duration("body_timeout", default.body_timeout, SECOND..=Duration::from_mins(10)),
        idle_timeout: section.duration("idle_timeout", default.idle_timeout, SECOND..=Duration::from_hours(1)),
    };
    section.finish();
    http
}

/// A size that is held in memory.
fn bytes(section: &mut Section<'_>, key: &'static str, default: usize, least: u64, most: u64) -> usize {
    let size = section.size(key, u64::try_from(default).unwrap_or(most), least..=most);
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// The strings of an array, each of which `is` what is `wanted`.
fn words(value: &Value<'_>, what: &str, is: fn(&str) -> bool, wanted: &str) -> Vec<String> {
    let mut words = Vec::new();
    for item in value.items(what).unwrap_or_default() {
        match item.text(wanted) {
            Some(text) if is(text) => add_new(&mut words, text.to_owned(), &item),
            Some(text) => item.refuse(format_args!("{text:?} must be {wanted}")),
            None => {}
        }
    }
    words
}

/// A host name, an IPv4 address, or an IPv6 address in brackets. No wildcard, no port.
fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        // In its one canonical spelling, so that it can be compared as text.
        return address.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_string() == address);
    }
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// What a browser sends as Origin: no path, no wildcard, and never `null`, which any sandboxed page can send.
pub(super) fn is_origin(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else { return false };
    let port = rest.rfind(':').filter(|colon| !rest.get(*colon..).unwrap_or_default().contains(']'));
    let (host, port) = port.and_then(|colon| rest.split_at_checked(colon)).unwrap_or((rest, ""));
    let port_fits = port
        .strip_prefix(':')
        .is_none_or(|port| !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port > 0));
    is_host(host) && port_fits
}

/// `[limits]`.
pub(super) fn limits(root: &mut Section<'_>, profile: Profile) -> Limits {
    let mut section = root.section("limits");
    let default = Limits::default();
    let mut rate = |key, default: NonZeroU32, most| {
        NonZeroU32::new(section.number(key, default.get(), 1..=most)).unwrap_or(default)
    };
    let limits = Limits {
        calls_per_minute: rate("calls_per_minute", default.calls_per_minute, 1_000_000),
        calls_burst: rate("calls_burst", default.calls_burst, 100_000),
        writes_per_minute: rate("writes_per_minute", default.writes_per_minute, 100_000),
        critical_per_hour: rate("critical_per_hour", default.critical_per_hour, 10_000),
        auth_failures_per_minute: rate("auth_failures_per_minute", default.auth_failures_per_minute, 10_000),
        refusals_recorded_per_minute: rate(
            "refusals_recorded_per_minute",
            default.refusals_recorded_per_minute,
            10_000,
        ),
    };
    if profile == Profile::Maximum {
        let tight = Limits::default();
        for (key, given, most) in [
            ("critical_per_hour", limits.critical_per_hour, tight.critical_per_hour),
            ("auth_failures_per_minute", limits.auth_failures_per_minute, tight.auth_failures_per_minute),
        ] {
            if given > most {
                section.refuse(key, format_args!("profile maximum allows at most {most}, not {given}"));
            }
        }
    }
    section.finish();
    limits
}

/// `[sessions]`.
pub(super) fn sessions(root: &mut Section<'_>, profile: Profile) -> Sessions {
    let mut section = root.section("sessions");
    let default = Sessions::default();
    let max = section.number("max", default.max, 1..=100_000);
    let sessions = Sessions {
        max,
        max_per_token: section.number("max_per_token", default.max_per_token.min(max), 1..=max),
        max_age: section.duration("max_age", default.max_age, Duration::from_mins(1)..=Duration::from_hours(7 * 24)),
        idle: section.duration("idle", default.idle, Duration::from_secs(10)..=Duration::from_hours(24)),
    };
    if profile == Profile::Maximum {
        let tight = Sessions::default();
        for (key, given, most) in [("max_age", sessions.max_age, tight.max_age), ("idle", sessions.idle, tight.idle)] {
            if given > most {
                let (most, given) = (format_duration(most), format_duration(given));
                section.refuse(key, format_args!("profile maximum allows at most {most}, not {given}"));
            }
        }
    }
    section.finish();
    sessions
}

/// `[exec]`.
pub(super) fn exec(root: &mut Section<'_>) -> Exec {
    let mut section = root.section("exec");
    let default = Exec::default();
    let hard = section.size("hard_output", default.hard_output_bytes, 64 << 10..=16 << 30);
    // What is kept lies in memory and is never more than may be written at all.
    let kept = hard.min(64 << 20);
    let exec = Exec {
        concurrency: section.number("concurrency", default.concurrency, 1..=1024),
        queue_timeout: section.duration(
            "queue_timeout",
            default.queue_timeout,
            Duration::from_millis(100)..=Duration::from_mins(10),
        ),
        max_stdout_bytes: bytes(&mut section, "max_stdout", at_most(default.max_stdout_bytes, kept), 4 << 10, kept),
        max_stderr_bytes: bytes(&mut section, "max_stderr", at_most(default.max_stderr_bytes, kept), 4 << 10, kept),
        hard_output_bytes: hard,
    };
    section.finish();
    exec
}

fn at_most(size: usize, most: u64) -> usize {
    usize::try_from(most).map_or(size, |most| size.min(most))
}

/// `[log]`. Levels below `info` may show what callers sent, so only development has them.
pub(super) fn log(root: &mut Section<'_>, profile: Profile) -> Log {
    let mut section = root.section("log");
    let default = Log::default();
    let levels = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
    let level = section.value("level").and_then(|value| value.choice(&levels)).map_or(default.level, str::to_owned);
    if profile != Profile::Development && ["debug", "trace"].contains(&level.as_str()) {
        section.refuse(
            "level",
            format_args!(
                "profile {profile} refuses {level:?}: use \"info\", \"warn\" or \"error\", or profile development"
            ),
        );
    }
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = section.value("format").and_then(|value| value.choice(&formats)).unwrap_or(default.format);
    section.finish();
    Log { level, format }
}
