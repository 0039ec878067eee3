//! `[ssh]`: how targets are reached over SSH, whose word counts for a host's key, and what the gateway logs in with.
//! Reads no private key and no file: it names the files that hold them.

use std::{collections::BTreeMap, ops::RangeInclusive, path::PathBuf, time::Duration};

use ssh_key::{Algorithm, EcdsaCurve, PublicKey};

use super::{
    Profile,
    registry::username,
    section::{Section, Value},
    settings::{add_new, plain_file},
};
use crate::model::{Network, format_duration};

/// The most authorities for host certificates.
const MOST_CAS: usize = 32;
/// The most patterns of one authority, and the most networks of a certificate.
const MOST_ITEMS: usize = 64;
/// The shortest RSA key of an authority, in bits.
const SHORTEST_RSA: usize = 2048;
/// How long a login certificate may hold. It has to be made and used; it need not outlive the connection.
const TTL: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24);
/// The longest in profile maximum: of a certificate's life, and of a connection that nobody uses.
const TIGHT_TTL: Duration = Duration::from_hours(1);
const TIGHT_IDLE: Duration = Duration::from_mins(5);

/// How targets are reached over SSH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// The login user of targets that name none.
    pub user: String,
    /// The longest a login may take, once connected.
    pub auth_timeout: Duration,
    /// How long a connection that nobody uses is kept.
    pub idle: Duration,
    /// After how much silence the other end is asked whether it is still there; three unanswered questions end the
    /// connection.
    pub keepalive: Duration,
    /// The most connections at the same time.
    pub max_connections: usize,
    /// The most sessions at the same time on one connection: below the `MaxSessions` of sshd, 10 unless configured.
    pub channels_per_connection: usize,
    /// The most connections to one host that are being made at the same time: below `MaxStartups` of sshd.
    pub connecting_per_host: usize,
    /// After how many failures in a row a host is left alone.
    pub breaker_failures: u32,
    /// For how long it is left alone.
    pub breaker_open: Duration,
    /// The authorities whose host certificates count.
    pub host_cas: Vec<HostCa>,
    /// Host keys and certificates that do not count any more.
    pub revoked_keys: Option<PathBuf>,
    /// The authority that makes certificates for logins; none where targets name keys.
    pub ca: Option<UserCa>,
    /// The files that environment variables name, for keys that targets refer to as `${NAME}`. None until whoever
    /// starts the service has looked.
    pub key_variables: BTreeMap<String, PathBuf>,
}

/// An authority for host certificates, as `@cert-authority` in OpenSSH's known_hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCa {
    /// The hosts it speaks for: patterns with `*` and `?`, as OpenSSH has them.
    pub hosts: Vec<String>,
    /// Its public key, a line of OpenSSH.
    pub public_key: String,
}

/// The gateway's own authority for short-lived login certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCa {
    /// Holds its private key in OpenSSH's form; readable by the service alone.
    pub key_file: PathBuf,
    /// How long a certificate holds.
    pub ttl: Duration,
    /// Where its logins may come from, as CIDR networks; empty means anywhere.
    pub source_addresses: Vec<String>,
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            user: "tailops".to_owned(),
            auth_timeout: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            keepalive: Duration::from_secs(15),
            max_connections: 1024,
            channels_per_connection: 8,
            connecting_per_host: 3,
            breaker_failures: 3,
            breaker_open: Duration::from_secs(30),
            host_cas: Vec::new(),
            revoked_keys: None,
            ca: None,
            key_variables: BTreeMap::new(),
        }
    }
}

/// The section.
pub(super) fn ssh(root: &mut Section<'_>, profile: Profile) -> Ssh {
    const SECOND: Duration = Duration::from_secs(1);
    let mut section = root.section("ssh");
    let default = Ssh::default();
    let user = section.value("user").and_then(|value| username(&value)).unwrap_or(default.user);
    let ssh = Ssh {
        user,
        auth_timeout: section.duration("auth_timeout", default.auth_timeout, SECOND..=Duration::from_mins(1)),
        idle: section.duration("idle", default.idle, SECOND..=Duration::from_hours(1)),
        keepalive: section.duration("keepalive", default.keepalive, 5 * SECOND..=Duration::from_mins(5)),
        max_connections: section.number("max_connections", default.max_connections, 1..=10_000),
        channels_per_connection: section.number("channels_per_connection", default.channels_per_connection, 1..=64),
        connecting_per_host: section.number("connecting_per_host", default.connecting_per_host, 1..=10),
        breaker_failures: section.number("breaker_failures", default.breaker_failures, 1..=100),
        breaker_open: section.duration("breaker_open", default.breaker_open, SECOND..=Duration::from_mins(10)),
        host_cas: host_cas(&mut section),
        revoked_keys: section.value("revoked_keys").and_then(|value| file(&value, "\"/etc/tailops/revoked_keys\"")),
        ca: user_ca(&mut section, profile),
        key_variables: BTreeMap::new(),
    };
    if profile == Profile::Maximum && ssh.idle > TIGHT_IDLE {
        let (most, given) = (format_duration(TIGHT_IDLE), format_duration(ssh.idle));
        section.refuse("idle", format_args!("profile maximum allows at most {most}, not {given}"));
    }
    section.finish();
    ssh
}

/// `[ssh.ca]`. One that is not whole is reported.
fn user_ca(section: &mut Section<'_>, profile: Profile) -> Option<UserCa> {
    if !section.has("ca") {
        section.value("ca");
        return None;
    }
    let mut section = section.section("ca");
    let key_file = section.required("key_file", "\"/etc/tailops/ssh_ca\"");
    let key_file = key_file.and_then(|value| file(&value, "\"/etc/tailops/ssh_ca\""));
    let ttl = section.duration("ttl", Duration::from_mins(5), TTL);
    if profile == Profile::Maximum && ttl > TIGHT_TTL {
        let (most, given) = (format_duration(TIGHT_TTL), format_duration(ttl));
        section.refuse("ttl", format_args!("profile maximum allows at most {most}, not {given}"));
    }
    let source_addresses = section.value("source_addresses").map(|value| networks(&value)).unwrap_or_default();
    section.finish();
    Some(UserCa { key_file: key_file?, ttl, source_addresses })
}

/// `[[ssh.host_cas]]`. One that is not whole is reported and left out.
fn host_cas(section: &mut Section<'_>) -> Vec<HostCa> {
    let Some(value) = section.value("host_cas") else { return Vec::new() };
    let items = value.items("tables").unwrap_or_default();
    if items.len() > MOST_CAS {
        value.refuse(format_args!("must be at most {MOST_CAS}, not {}", items.len()));
    }
    let mut authorities = Vec::new();
    for item in items {
        let whole = item.clone();
        let mut section = item.section();
        let hosts = section.required("hosts", "[\"*.example.org\"]").map(|value| patterns(&value));
        let public_key = section.required("public_key", "\"ssh-ed25519 AAAA…\"").and_then(|value| public_key(&value));
        section.finish();
        if let (Some(hosts), Some(public_key)) = (hosts, public_key) {
            add_new(&mut authorities, HostCa { hosts, public_key }, &whole);
        }
    }
    authorities
}

fn file(value: &Value<'_>, example: &str) -> Option<PathBuf> {
    let text = value.text("an absolute path")?;
    let path = plain_file(text);
    if path.is_none() {
        value.refuse(format_args!("{text:?} must be an absolute path in plain form, such as {example}"));
    }
    path
}

/// The strings of an array, each of which `is` what is `wanted`.
fn texts(value: &Value<'_>, wanted: &str, is: fn(&str) -> bool) -> Vec<String> {
    let items = value.items(wanted).unwrap_or_default();
    if items.len() > MOST_ITEMS {
        value.refuse(format_args!("must be at most {MOST_ITEMS}, not {}", items.len()));
    }
    let mut texts = Vec::new();
    for item in items {
        match item.text(wanted) {
            Some(text) if is(text) => add_new(&mut texts, text.to_owned(), &item),
            Some(text) => item.refuse(format_args!("{text:?} is none of {wanted}")),
            None => {}
        }
    }
    texts
}

fn patterns(value: &Value<'_>) -> Vec<String> {
    const WANTED: &str =
        "patterns of host names and addresses in lower case, such as \"*.example.org\" or \"10.0.0.?\"";
    if value.items(WANTED).is_some_and(|items| items.is_empty()) {
        value.refuse("must have at least one pattern: an authority for no host is none");
    }
    texts(value, WANTED, |text| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.:*?[]".contains(&byte);
        (1..=255).contains(&text.len()) && text.bytes().all(fits)
    })
}

fn networks(value: &Value<'_>) -> Vec<String> {
    const WANTED: &str =
        "networks such as \"100.64.0.7/32\" or \"fd7a:115c:a1e0::7/128\", with zeros behind the prefix";
    texts(value, WANTED, |text| text.parse::<Network>().is_ok())
}

/// One public key of OpenSSH: type and base64. A comment is dropped.
fn public_key(value: &Value<'_>) -> Option<String> {
    const WANTED: &str = "must be a public key in one line, as the .pub file of the authority has it: ssh-ed25519, \
                          ecdsa-sha2-nistp256, -384, -521, or ssh-rsa of at least 2048 bits";
    let text = value.text("a public key")?;
    // A private key that stands here by mistake is not shown again.
    let key = PublicKey::from_openssh(text.trim()).ok().filter(|_| !text.trim().contains(['\n', '\r']));
    let fits = |key: &PublicKey| match key.algorithm() {
        Algorithm::Ed25519 => true,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 | EcdsaCurve::NistP384 | EcdsaCurve::NistP521 } => true,
        Algorithm::Rsa { .. } => {
            let modulus = key.key_data().rsa().and_then(|key| key.n.as_positive_bytes());
            modulus.is_some_and(|bytes| bytes.len() * 8 >= SHORTEST_RSA)
        }
        _ => false,
    };
    let Some(mut key) = key.filter(fits) else {
        value.refuse(WANTED);
        return None;
    };
    key.set_comment("");
    key.to_openssh().ok()
}

#[cfg(test)]
mod tests;
