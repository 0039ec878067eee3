//! Probes: typed questions to the network, the rules they were planned under, and what came back. Pure values.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{AddressRefused, AddressRules, Certificate, EngagementId, Host, HttpUrl, Script, Stopped, UrlRule};

/// What the configuration lets probes reach. The default lets `http_probe` reach nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeRules {
    /// Which addresses.
    pub addresses: Arc<AddressRules>,
    /// Which URLs.
    pub urls: Vec<UrlRule>,
}

impl ProbeRules {
    /// The entry that lets `engagement` call `url`: of those that cover it, the one that says most.
    pub fn rule_for(&self, engagement: &EngagementId, url: &HttpUrl) -> Option<&UrlRule> {
        let covering = self.urls.iter().filter(|rule| rule.is_for(engagement) && rule.covers(url));
        covering.max_by_key(|rule| rule.url.path.len())
    }
}

/// One probe. Its host is resolved once, every address is checked, and the first is the one that is used.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What is asked.
    pub kind: ProbeKind,
    /// Of whom.
    pub host: Host,
    /// Who asks.
    pub via: Via,
    /// Which addresses may be used.
    pub rules: Arc<AddressRules>,
}

/// What a probe asks.
#[derive(Clone, Debug)]
pub enum ProbeKind {
    /// Does it answer echo requests?
    Ping,
    /// Does this port take connections? So many are tried.
    Tcp {
        /// The port.
        port: u16,
        /// How many.
        count: u32,
    },
    /// Which addresses has the name?
    Dns,
    /// Which way leads there?
    Trace,
    /// Which certificate does this port show?
    Tls {
        /// The port.
        port: u16,
    },
    /// Which status does this URL give?
    Http {
        /// The URL; its host is the probe's.
        url: HttpUrl,
        /// HEAD or GET.
        method: HttpMethod,
    },
}

/// The methods that a probe has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMethod {
    /// Head alone.
    Head,
    /// What a reader would ask.
    Get,
}

/// Who asks.
#[derive(Clone, Debug)]
pub enum Via {
    /// The gateway itself.
    Native,
    /// This script on the gateway's own machine, with the checked address before its arguments.
    Here(Script),
    /// This script on the target, with the checked address before its arguments. For DNS there is none: the target's
    /// resolver is asked, and nothing connects to what it says.
    Target(Script),
}

impl Probe {
    /// Names what is asked, in the record.
    pub fn template_id(&self) -> &'static str {
        match self.kind {
            ProbeKind::Ping => "probe.ping.v1",
            ProbeKind::Tcp { .. } => "probe.tcp.v1",
            ProbeKind::Dns => "probe.dns.v1",
            ProbeKind::Trace => "probe.trace.v1",
            ProbeKind::Tls { .. } => "probe.tls.v1",
            ProbeKind::Http { .. } => "probe.http.v1",
        }
    }

    /// What is asked, in the form that its digest is made of.
    pub fn canonical(&self) -> Value {
        let via = match &self.via {
            Via::Native => "native",
            Via::Here(_) => "here",
            Via::Target(_) => "target",
        };
        let mut form = json!({"probe": self.template_id(), "host": self.host.to_string(), "via": via});
        let more = match &self.kind {
            ProbeKind::Ping | ProbeKind::Dns | ProbeKind::Trace => Value::Null,
            ProbeKind::Tcp { port, count } => json!({"port": port, "count": count}),
            ProbeKind::Tls { port } => json!({"port": port}),
            ProbeKind::Http { url, method } => json!({"url": url.to_string(), "method": method.as_str()}),
        };
        if let Some(form) = form.as_object_mut() {
            form.insert("of".to_owned(), more);
        }
        form
    }
}

impl HttpMethod {
    /// As it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "HEAD",
            Self::Get => "GET",
        }
    }
}

/// What the gateway's part of a probe gave. Where a script does the rest, its output is the next one.
#[derive(Debug)]
pub struct ProbeOutput {
    /// What was asked: [`Probe::template_id`].
    pub template_id: &'static str,
    /// Hex SHA-256 of [`Probe::canonical`] in canonical JSON.
    pub argv_sha256: String,
    /// How it ended.
    pub end: ProbeEnd,
    /// What was found until then.
    pub findings: Findings,
    /// From start to end.
    pub duration: Duration,
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeEnd {
    /// With an answer.
    Answered,
    /// With the address that a script goes on with; without one where the script only asks the target's resolver.
    Aimed,
    /// Before anything was sent: the name has an address that must not be reached.
    Refused(AddressRefused),
    /// Without an answer.
    Failed(Failure),
    /// The caller went away.
    Stopped(Stopped),
}

/// Where a probe failed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `resolve`, `connect`, `tls` or `http`.
    pub stage: &'static str,
    /// In a word or a few: `connection_refused`, `timed_out`, …
    pub reason: String,
}

/// What a probe found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The host's addresses, all of them checked; the first is the one that was used.
    pub addresses: Vec<IpAddr>,
    /// How long resolving took; none for a literal address.
    pub resolve: Option<Duration>,
    /// How long each connection took that was made.
    pub connects: Vec<Duration>,
    /// How many were tried.
    pub tried: u32,
    /// The TLS handshake.
    pub tls: Option<TlsFindings>,
    /// The head of the answer.
    pub head: Option<HttpHead>,
}

/// What a TLS handshake showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFindings {
    /// How long it took; none where it failed.
    pub took: Option<Duration>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: Option<&'static str>,
    /// The server's certificate.
    pub certificate: Option<Certificate>,
    /// Why the certificate is not trusted; none where it is.
    pub untrusted: Option<String>,
}

/// The head of an HTTP answer. Its body is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpHead {
    /// From the request to the head.
    pub first_byte: Duration,
    /// The status.
    pub status: u16,
    /// The header `Location`.
    pub location: Option<String>,
    /// The other headers that a probe shows, by name.
    pub headers: Vec<(&'static str, String)>,
}

/// The headers that a probe shows: none of them carries a secret by its purpose.
pub const SHOWN_HEADERS: [&str; 5] = ["content-length", "content-type", "date", "retry-after", "server"];
