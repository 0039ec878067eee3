//! E-mail addresses. Answers for telling them from user names in URLs, unit names, packages and files.

use std::ops::Range;

/// Longest part before the `@`, in bytes.
const LONGEST_LOCAL: usize = 64;
/// Longest domain, in bytes.
const LONGEST_DOMAIN: usize = 253;
/// How far back `://` is looked for.
const FAR: usize = 256;

/// Last parts of what only looks like a domain: systemd units and files.
const NO_DOMAINS: &[&str] = &[
    "service",
    "socket",
    "timer",
    "mount",
    "automount",
    "target",
    "slice",
    "scope",
    "device",
    "path",
    "swap",
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "webp",
    "css",
    "js",
    "mjs",
    "ts",
    "json",
    "gz",
    "tgz",
    "xz",
    "bz",
    "zst",
    "zip",
    "tar",
    "deb",
    "rpm",
    "apk",
    "so",
    "conf",
    "cfg",
    "log",
    "txt",
    "yml",
    "yaml",
    "toml",
    "lock",
    "map",
    "html",
    "md",
    "pem",
    "crt",
    "key",
    "sock",
    "pid",
    "img",
    "iso",
    "beta",
    "alpha",
    "rc",
    "next",
    "canary",
    "git",
];

/// Users that name a protocol, not a person, where a path follows behind a colon.
const ROBOTS: &[&str] = &["git", "hg", "svn", "gitlab", "gitea", "forgejo", "bitbucket"];

/// The address around the `@`, or its encoded form, at `at`.
pub(super) fn at(text: &str, at: usize) -> Option<Range<usize>> {
    let behind = text.get(at..)?;
    let sign = ["@", "%40"].iter().find(|sign| behind.starts_with(**sign))?.len();
    let head = text.get(text.floor_char_boundary(at.saturating_sub(LONGEST_LOCAL))..at)?;
    let local = head.char_indices().rev().take_while(|(_, c)| c.is_alphanumeric() || "._%+-'".contains(*c)).last()?.0;
    let local = head.get(local..)?;
    // What stands encoded before it does not belong to it.
    let local = ["%3D", "%3d", "%3A", "%3a", "%20", "%22", "%3C", "%3c"]
        .iter()
        .filter_map(|code| local.rfind(code).map(|at| at + code.len()))
        .max()
        .map_or(local, |from| local.get(from..).unwrap_or_default());
    let local = local.trim_start_matches(['.', '\'', '-', '%', '+']);
    let tail = behind.get(sign..)?;
    let tail = tail.get(..tail.floor_char_boundary(LONGEST_DOMAIN))?;
    let length = tail.find(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '-'))).unwrap_or(tail.len());
    let domain = tail.get(..length)?.trim_end_matches(['.', '-']);
    let (rest, last) = domain.rsplit_once('.')?;
    let named = last.chars().all(char::is_alphabetic) && (2..=24).contains(&last.chars().count());
    let numbered = rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let shaped = !domain.starts_with('.') && !domain.contains("..") && !local.is_empty();
    if !named || numbered || !shaped || NO_DOMAINS.contains(&last.to_ascii_lowercase().as_str()) {
        return None;
    }
    let end = at + sign + domain.len();
    let after = text.get(end..).unwrap_or_default();
    // `git@host:owner/repository`, and user names before the host of a URL.
    let robot = ROBOTS.contains(&local) && after.starts_with(':');
    (!robot && !in_authority(text, at - local.len())).then(|| at - local.len()..end)
}

/// Whether `at` stands between `://` and the first slash.
fn in_authority(text: &str, at: usize) -> bool {
    let head = text.get(text.floor_char_boundary(at.saturating_sub(FAR))..at).unwrap_or_default();
    let word = head.rfind([' ', '\t', '\n', '"', '\'', '<', '/', '?', '#']).and_then(|end| head.get(..=end));
    let encoded = ["%2F", "%2f"].iter().filter_map(|slash| head.rfind(slash)).max();
    word.is_some_and(|head| head.ends_with("://"))
        || encoded
            .and_then(|slash| head.get(..slash))
            .is_some_and(|head| head.ends_with("%2F") || head.ends_with("%2f"))
}
