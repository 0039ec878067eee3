//! `[ssh]`: how targets are reached over SSH, and whose word counts for a host's key. Reads no key: it names the files
//! that hold them.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

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
