//! What a reload may change: profile, engagements, targets, site policy, probes, the types of files, who may approve and
//! how old secrets may grow. Every other setting is built into running parts, and a change of it needs a restart. A new setting does not compile here until somebody decided which it is.

use super::{Config, Exec, Http, Limits, Log, Node, Sessions};

/// Adds the key of each field that differs.
macro_rules! differing {
    ($keys:ident, $type:ident, $old:expr, $new:expr, $($field:ident => $key:literal),+ $(,)?) => {{
        let ($type { $($field),+ }, new) = ($old, $new);
        $(if *$field != new.$field { $keys.push($key); })+
    }};
}

impl Config {
    /// The keys whose change from `self` to `new` needs a restart, in the order of the documentation.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let Self {
            profile: _,
            data_dir,
            node,
            tailnet,
            http,
            tls,
            limits,
            sessions,
            exec,
            ssh,
            credentials: _,
            files,
            guard,
            probe: _,
            approvals,
            log,
            policy: _,
            engagements: _,
            targets: _,
            targets_file: _,
            registered: _,
        } = self;
        let mut keys = Vec::new();
        if *data_dir != new.data_dir {
            keys.push("data_dir");
        }
        match (node, &new.node) {
            (Node::Loopback { listen }, Node::Loopback { listen: new_listen }) if listen != new_listen => {
                keys.push("node.listen");
            }
            (node, new_node) if node != new_node => keys.push("node"),
            _ => {}
        }
        if *tailnet != new.tailnet {
            keys.push("tailnet");
        }
        differing!(keys, Http, http, &new.http,
            hosts => "http.hosts",
            trusted_proxies => "http.trusted_proxies",
            origins => "http.origins",
            max_body_bytes => "http.max_body",
            max_header_bytes => "http.max_header",
            max_connections => "http.max_connections",
            max_connections_per_peer => "http.max_connections_per_peer",
            header_timeout => "http.header_timeout",
            body_timeout => "http.body_timeout",
            idle_timeout => "http.idle_timeout",
        );
        if *tls != new.tls {
            keys.push("tls");
        }
        differing!(keys, Limits, limits, &new.limits,
            calls_per_minute => "limits.calls_per_minute",
            calls_burst => "limits.calls_burst",
            writes_per_minute => "limits.writes_per_minute",
            critical_per_hour => "limits.critical_per_hour",
            auth_failures_per_minute => "limits.auth_failures_per_minute",
            refusals_recorded_per_minute => "limits.refusals_recorded_per_minute",
        );
        differing!(keys, Sessions, sessions, &new.sessions,
            max => "sessions.max",
            max_per_token => "sessions.max_per_token",
            max_age => "sessions.max_age",
            idle => "sessions.idle",
        );
        differing!(keys, Exec, exec, &new.exec,
            concurrency => "exec.concurrency",
            queue_timeout => "exec.queue_timeout",
            max_stdout_bytes => "exec.max_stdout",
            max_stderr_bytes => "exec.max_stderr",
            hard_output_bytes => "exec.hard_output",
        );
        if *ssh != new.ssh {
            keys.push("ssh");
        }
        if files.max_bytes != new.files.max_bytes {
            keys.push("files.max_bytes");
        }
        if *guard != new.guard {
            keys.push("guard");
        }
        // Who may say yes changes at once; where messages go is built into running parts.
        if approvals.webhooks != new.approvals.webhooks {
            keys.push("approvals.webhooks");
        }
        if approvals.notify != new.approvals.notify {
            keys.push("approvals.notify");
        }
        differing!(keys, Log, log, &new.log, level => "log.level", format => "log.format");
        keys
    }
}
