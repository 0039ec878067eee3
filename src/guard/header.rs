//! Credentials in HTTP headers and in the authority of URLs. Answers for where the credential begins and ends; never
//! judges it by its look, but for `bearer` in prose.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    name,
    secret::{Rank, Span},
};

/// What the detectors of this file look for.
pub(super) const ANCHORS: &[&str] = &["authorization", "bearer", "cookie", "://", "%3A%2F%2F"];

/// `Authorization` and `Proxy-Authorization` headers with a scheme: the rest of the value.
const AUTHORIZATION: &str = r#"\A(?i-u:authorization)(?:\\*["']|&quot;)?\]?[ \t]{0,8}(?:[:=]|=>)[ \t]{0,8}\[?\\*["']?(?:(?i-u:bearer|basic|digest|negotiate|ntlm|token|apikey|aws4-hmac-sha256)[ \t]{1,8}([^\n"'\\]+)|([A-Za-z0-9+/=._~-]{16,}))"#;
/// A bearer token elsewhere; it needs a digit to be told from prose.
const BEARER: &str = r"\A(?i-u:bearer)(?:[ \t]{1,8}|%20|\+)([A-Za-z0-9._~+/=-]{16,})";
/// `Cookie` and `Set-Cookie` headers: all their pairs.
const COOKIE: &str =
    r#"\A(?i-u:cookie2?)\\*["']?[ \t]{0,8}:[ \t]{0,8}\[?\\*["']?([A-Za-z0-9!#$%&*+.^_|~-]{1,256}=[^\n"'\\]+)"#;
/// `scheme://user:password@`: the password.
const URL: &str = r#"\A://[^ \t\n"'<>/@:]*:([^ \t\n"'<>/?]+)@"#;
/// A password that breaks the rules of URLs, up to the `@` before the host.
const LOOSE_URL: &str = r#"\A://[^ \t\n"'<>/@:\[]{0,64}:([^ \t\n"'<>@]{1,128})@[A-Za-z0-9\[]"#;
/// The same, encoded as a part of another URL.
const ENCODED_URL: &str = r#"\A(?i-u:%3A%2F%2F)[A-Za-z0-9._~-]{0,64}(?i-u:%3A)([A-Za-z0-9._~!*+-]{1,128}(?:%[0-9A-Fa-f]{2}[A-Za-z0-9._~!*+-]{0,64}){0,8}?)%40"#;

/// Schemes of databases, queues and caches.
const DATABASES: &[&str] = &[
    "postgres",
    "postgresql",
    "mysql",
    "mysqlx",
    "mariadb",
    "mongodb",
    "redis",
    "rediss",
    "amqp",
    "amqps",
    "mssql",
    "sqlserver",
    "oracle",
    "cockroachdb",
    "clickhouse",
    "cassandra",
    "couchbase",
    "couchbases",
    "neo4j",
    "bolt",
    "nats",
    "memcached",
    "kafka",
    "ldap",
    "ldaps",
    "influxdb",
    "elasticsearch",
    "db2",
    "snowflake",
    "vertica",
];

#[expect(clippy::expect_used, reason = "the patterns are constants; every test compiles them")]
static PATTERNS: LazyLock<[Regex; 6]> = LazyLock::new(|| {
    [AUTHORIZATION, BEARER, COOKIE, URL, LOOSE_URL, ENCODED_URL]
        .map(|pattern| Regex::new(pattern).expect("a valid pattern"))
});

/// The credential of the header or URL whose anchor, of this index, starts at `start`.
pub(super) fn at(text: &str, index: usize, start: usize) -> Option<Span> {
    let rest = text.get(start..)?;
    let before = text.as_bytes().get(start.wrapping_sub(1)).copied().unwrap_or(b' ');
    let [authorization, bearer, cookie, url, loose, encoded] = &*PATTERNS;
    let value = |regex: &Regex| {
        let found = regex.captures(rest)?;
        let value = found.get(1).or(found.get(2))?;
        (!name::placeholder(value.as_str())).then(|| (start + value.start()..start + value.end(), value.as_str()))
    };
    let (kind, range) = match index {
        0 => ("authorization", value(authorization)?.0),
        1 if before.is_ascii_alphanumeric() || before == b'_' => return None,
        1 => {
            // Prose has no digits.
            let (range, token) = value(bearer)?;
            ("authorization", Some(range).filter(|_| token.bytes().any(|byte| byte.is_ascii_digit()))?)
        }
        2 if before.is_ascii_alphanumeric() || before == b'_' => return None,
        2 => ("cookie", value(cookie)?.0),
        // Most URLs name a host and nothing before it.
        3 if !authority(rest).contains(':') => return None,
        3 => {
            let kind = if database(text, start) { "database-password" } else { "url-password" };
            let range = match value(url) {
                Some((range, _)) => range,
                // `host:8443/path@x` names a port.
                None => {
                    let (range, password) = value(loose)?;
                    let port = password.bytes().take_while(u8::is_ascii_digit).count();
                    let at_path = password.as_bytes().get(port).is_some_and(|byte| matches!(byte, b'/' | b'?' | b'#'));
                    Some(range).filter(|_| !(port > 0 && at_path))?
                }
            };
            (kind, range)
        }
        _ => ("url-password", value(encoded)?.0),
    };
    Some(Span { range, kind, rank: Rank::Header })
}

/// What stands between `://` and the path.
fn authority(rest: &str) -> &str {
    let rest = rest.get("://".len()..).unwrap_or_default();
    let end =
        rest.bytes().position(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'"' | b'\'' | b'<' | b'>' | b'/' | b'?'));
    rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
}

/// Whether the scheme before `://` is that of a database.
fn database(text: &str, at: usize) -> bool {
    let head = text.get(..at).unwrap_or_default();
    let scheme = head.bytes().rev().take(24).take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'+').count();
    let scheme = head.get(at - scheme..).unwrap_or_default();
    let scheme = scheme.split('+').next().unwrap_or_default();
    DATABASES.iter().any(|known| known.eq_ignore_ascii_case(scheme))
}
