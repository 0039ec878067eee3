//! The URLs that `http_probe` may call: how one is written, and which the configuration covers. Pure.
//!
//! Strict rather than forgiving: what two parsers could read in two ways is refused and never repaired.

use std::{fmt, str::FromStr};

use super::{EngagementId, Host, HostFault};

/// The longest URL, in bytes.
const LONGEST: usize = 2048;

/// An absolute http or https URL: visible ASCII, no user, no fragment, a path that only one reading exists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// Whether the scheme is https.
    pub https: bool,
    /// The host.
    pub host: Host,
    /// The port, the scheme's own where the URL names none.
    pub port: u16,
    /// The path, `/` at least.
    pub path: String,
    /// What stands behind the `?`, if there is one.
    pub query: Option<String>,
}

/// A text that is no acceptable URL: says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// Not the host.
    #[error("{0}")]
    Form(&'static str),
    /// The host.
    #[error("the host {0}")]
    Host(#[from] HostFault),
}

impl FromStr for HttpUrl {
    type Err = UrlFault;

    fn from_str(text: &str) -> Result<Self, UrlFault> {
        let fault = |what| Err(UrlFault::Form(what));
        if text.len() > LONGEST {
            return fault("must be at most 2048 bytes long");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte)) {
            return fault("must be visible ASCII without spaces, backslashes, quotes or braces");
        }
        let https = scheme(text, "https://");
        let Some((https, rest)) = https.map(|rest| (true, rest)).or(scheme(text, "http://").map(|rest| (false, rest)))
        else {
            return fault("must begin with http:// or https://");
        };
        if rest.contains('#') {
            return fault("must be without a fragment");
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return fault("must not carry a user or password");
        }
        let (host, port) = match authority.rfind(':').filter(|colon| !authority.ends_with(']') && *colon > 0) {
            Some(colon) => {
                let (host, port) = authority.split_at(colon);
                (host, Some(port.trim_start_matches(':')))
            }
            None => (authority, None),
        };
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return fault("must have an IPv6 address in brackets and at most one port");
        }
        let port = match port {
            None if https => 443,
            None => 80,
            Some(port) => match port.parse::<u16>().ok().filter(|number| *number > 0 && number.to_string() == port) {
                Some(port) => port,
                None => return fault("must have a port from 1 to 65535, or none"),
            },
        };
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let path = if path.is_empty() { "/" } else { path };
        if !is_plain(path) {
            return fault("must have a path without empty or dot segments, `;`, and encoded slashes, dots or percents");
        }
        Ok(Self { https, host: host.parse()?, port, path: path.to_owned(), query: query.map(str::to_owned) })
    }
}

/// What follows `scheme`, which may be in any case.
fn scheme<'t>(text: &'t str, scheme: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Whether every server reads `path` alike: no segment that goes elsewhere, none that hides one.
fn is_plain(path: &str) -> bool {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if (segment.is_empty() && !last) || segment == "." || segment == ".." || segment.contains(';') {
            return false;
        }
        let mut encoded = segment.split('%');
        encoded.next();
        for behind in encoded {
            let Some(byte) = behind.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                return false;
            };
            if byte < b' ' || byte == 0x7f || b"/\\.%;".contains(&byte) {
                return false;
            }
        }
    }
    true
}

impl HttpUrl {
    /// Host and port as the `Host` header has them: without the scheme's own port.
    pub fn authority(&self) -> String {
        let usual = if self.https { 443 } else { 80 };
        if self.port == usual { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Path and query, as they stand in a request's first line.
    pub fn path_and_query(&self) -> String {
        self.query.as_ref().map_or_else(|| self.path.clone(), |query| format!("{}?{query}", self.path))
    }
}

impl fmt::Display for HttpUrl {
    /// In its one canonical form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path_and_query())
    }
}

/// One entry of the list of URLs that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlRule {
    /// Scheme, host and port are exact. Without a query, the path covers itself and what is below it, none of it with a
    /// query; with one, path and query are exact.
    pub url: HttpUrl,
    /// Whether a call needs no person's yes.
    pub waived: bool,
    /// The only tenants it is for; none means every tenant.
    pub engagements: Option<Vec<EngagementId>>,
}

impl UrlRule {
    /// Whether this entry is for `engagement`.
    pub fn is_for(&self, engagement: &EngagementId) -> bool {
        self.engagements.as_ref().is_none_or(|own| own.contains(engagement))
    }

    /// Whether this entry lets `url` be called.
    pub fn covers(&self, url: &HttpUrl) -> bool {
        let own = &self.url;
        if (own.https, &own.host, own.port) != (url.https, &url.host, url.port) || own.query != url.query {
            return false;
        }
        let below =
            || url.path.strip_prefix(&own.path).is_some_and(|rest| own.path.ends_with('/') || rest.starts_with('/'));
        own.path == url.path || (own.query.is_none() && below())
    }
}

#[cfg(test)]
mod tests;
