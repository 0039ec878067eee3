//! A configuration in words: all settings with their defaults filled in, as a file that reads back the same, and what
//! the profile would rather have otherwise. Holds no secret, as configuration holds none.

use std::time::Duration;

use super::{
    Approvals, Config, EmbeddedNode, GrantsMode, HostCa, HostNode, LogFormat, Node, NodeCredential, Notify, NotifyForm,
    PolicyException, Profile, Ssh, Tailnet, Tls, UserCa, Webhook, section::join,
};
use crate::model::{EngagementId, Scope, SudoPolicy, TargetId, format_duration, format_size};

fn quoted(text: impl AsRef<str>) -> String {
    // JSON strings are TOML basic strings, but for the escaped solidus, which is never written.
    serde_json::Value::from(text.as_ref()).to_string()
}

fn array<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    format!("[{}]", items.into_iter().map(quoted).collect::<Vec<_>>().join(", "))
}

fn time(duration: Duration) -> String {
    quoted(format_duration(duration))
}

fn size(bytes: impl TryInto<u64>) -> String {
    quoted(format_size(bytes.try_into().unwrap_or(u64::MAX)))
}

fn exception(exception: &PolicyException) -> String {
    let PolicyException { policy, owner, reason, expires, subject, targets, tools } = exception;
    let mut keys = vec![
        format!("policy = {}", quoted(policy)),
        format!("owner = {}", quoted(owner)),
        format!("reason = {}", quoted(reason)),
        format!("expires = {}", quoted(expires.to_string())),
    ];
    keys.extend(subject.as_ref().map(|subject| format!("subject = {}", quoted(subject))));
    keys.extend(targets.as_ref().map(|ids| format!("targets = {}", array(ids.iter().map(TargetId::as_str)))));
    keys.extend(tools.as_ref().map(|tools| format!("tools = {}", array(tools))));
    format!("{{{}}}", keys.join(", "))
}

fn webhook(webhook: &Webhook) -> String {
    let Webhook { name, url, secret_file, identity } = webhook;
    let keys = [
        format!("name = {}", quoted(name)),
        format!("url = {}", quoted(url)),
        format!("secret_file = {}", quoted(secret_file.to_string_lossy())),
        format!("identity = {}", quoted(identity)),
    ];
    format!("{{{}}}", keys.join(", "))
}

fn told(notify: &Notify) -> String {
    let Notify { name, url, form, token_file } = notify;
    let form = match form {
        NotifyForm::Json => "json",
        NotifyForm::Ntfy => "ntfy",
    };
    let mut keys =
        vec![format!("name = {}", quoted(name)), format!("url = {}", quoted(url)), format!("form = {}", quoted(form))];
    keys.extend(token_file.as_ref().map(|file| format!("token_file = {}", quoted(file.to_string_lossy()))));
    format!("{{{}}}", keys.join(", "))
}

impl Config {
    /// Every setting in force, defaults too, as TOML that reads back as this configuration. The targets of
    /// `targets_file` are not in it, only that file's name.
    pub fn effective(&self) -> String {
        let (http, limits, sessions, exec) = (&self.http, &self.limits, &self.sessions, &self.exec);
        let mut lines = vec![
            ("profile".to_owned(), quoted(self.profile.as_str())),
            ("data_dir".to_owned(), quoted(self.data_dir.to_string_lossy())),
        ];
        let mut add = |key: String, value: String| lines.push((key, value));
        if let Some(file) = &self.targets_file {
            add("targets_file".into(), quoted(file.to_string_lossy()));
        }
        add("node.mode".into(), quoted(self.node.mode()));
        self.add_node(&mut add);
        add("http.hosts".into(), array(&http.hosts));
        add("http.origins".into(), array(&http.origins));
        if matches!(self.node, Node::Host(_)) {
            let uids: Vec<String> = http.trusted_proxies.iter().map(ToString::to_string).collect();
            add("http.trusted_proxies".into(), format!("[{}]", uids.join(", ")));
        }
        add("http.max_body".into(), size(http.max_body_bytes));
        add("http.max_header".into(), size(http.max_header_bytes));
        add("http.max_connections".into(), http.max_connections.to_string());
        add("http.max_connections_per_peer".into(), http.max_connections_per_peer.to_string());
        add("http.header_timeout".into(), time(http.header_timeout));
        add("http.body_timeout".into(), time(http.body_timeout));
        add("http.idle_timeout".into(), time(http.idle_timeout));
        add("limits.calls_per_minute".into(), limits.calls_per_minute.to_string());
        add("limits.calls_burst".into(), limits.calls_burst.to_string());
        add("limits.writes_per_minute".into(), limits.writes_per_minute.to_string());
        add("limits.critical_per_hour".into(), limits.critical_per_hour.to_string());
        add("limits.auth_failures_per_minute".into(), limits.auth_failures_per_minute.to_string());
        add("limits.refusals_recorded_per_minute".into(), limits.refusals_recorded_per_minute.to_string());
        add("sessions.max".into(), sessions.max.to_string());
        add("sessions.max_per_token".into(), sessions.max_per_token.to_string());
        add("sessions.max_age".into(), time(sessions.max_age));
        add("sessions.idle".into(), time(sessions.idle));
        add("exec.concurrency".into(), exec.concurrency.to_string());
        add("exec.queue_timeout".into(), time(exec.queue_timeout));
        add("exec.max_stdout".into(), size(exec.max_stdout_bytes));
        add("exec.max_stderr".into(), size(exec.max_stderr_bytes));
        add("exec.hard_output".into(), size(exec.hard_output_bytes));
        self.add_ssh(&mut add);
        for (key, age) in [("ssh_key_max_age", self.credentials.ssh_key), ("max_age", self.credentials.other)] {
            if let Some(age) = age {
                add(format!("credentials.{key}"), time(age));
            }
        }
        self.add_rules(&mut add);
        self.add_approvals(&mut add);
        add("log.level".into(), quoted(&self.log.level));
        let format = match self.log.format {
            LogFormat::Auto => "auto",
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        add("log.format".into(), quoted(format));
        let mut text: String = lines.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        for engagement in &self.engagements {
            text += &format!("\n[{}]\n", join("engagements", engagement.id.as_str()));
            if let Some(tools) = &engagement.tools {
                text += &format!("tools = {}\n", array(tools));
            }
            if let Some(root) = &engagement.data_root {
                text += &format!("data_root = {}\n", quoted(root.to_string_lossy()));
            }
        }
        for target in &self.targets {
            text += &format!("\n[{}]\n", join("targets", target.id.as_str()));
            text += &format!(
                "kind = {}\nengagement = {}\n",
                quoted(target.kind.as_str()),
                quoted(target.engagement.as_str())
            );
            text += &format!("capabilities = {}\n", array(target.capabilities.granted().map(Scope::as_str)));
            if let Some(segment) = &target.segment {
                text += &format!("segment = {}\n", quoted(segment));
            }
            text += &format!("tags = {}\n", array(&target.tags));
            text += &format!("roots = {}\n", array(target.roots.iter().map(|root| root.to_string_lossy())));
            text += &format!("timeout = {}\nconcurrency = {}\n", time(target.timeout), target.concurrency);
            text += &format!("sudo = {}\n", quoted(target.sudo.as_str()));
        }
        text
    }

    /// How it is on the network, who may come in, and with which certificate it is served.
    fn add_node(&self, add: &mut impl FnMut(String, String)) {
        let paths = |path: &std::path::Path| quoted(path.to_string_lossy());
        let addresses = |listen: &[std::net::SocketAddr]| array(listen.iter().map(ToString::to_string));
        match &self.node {
            Node::Loopback { listen } => add("node.listen".into(), addresses(listen)),
            Node::Host(HostNode { socket, port, listen }) => {
                add("node.socket".into(), paths(socket));
                add("node.port".into(), port.to_string());
                if let Some(listen) = listen {
                    add("node.listen".into(), addresses(listen));
                }
            }
            Node::Embedded(node) => {
                let EmbeddedNode {
                    hostname,
                    port,
                    control_url,
                    credential,
                    tags,
                    advertise_tags,
                    ephemeral,
                    log_upload,
                } = node;
                add("node.hostname".into(), quoted(hostname));
                add("node.port".into(), port.to_string());
                if let Some(url) = control_url {
                    add("node.control_url".into(), quoted(url));
                }
                match credential {
                    Some(NodeCredential::AuthKey(file)) => add("node.auth_key_file".into(), paths(file)),
                    Some(NodeCredential::OauthSecret(file)) => add("node.oauth_secret_file".into(), paths(file)),
                    None => {}
                }
                add("node.tags".into(), array(tags));
                add("node.advertise_tags".into(), advertise_tags.to_string());
                add("node.ephemeral".into(), ephemeral.to_string());
                add("node.log_upload".into(), log_upload.to_string());
            }
        }
        if !matches!(self.node, Node::Loopback { .. }) {
            let Tailnet { capability, grants, require_tags, require_users, allow_shared, allow_routers } =
                &self.tailnet;
            let grants = match grants {
                GrantsMode::Required => "required",
                GrantsMode::Optional => "optional",
            };
            add("tailnet.capability".into(), quoted(capability));
            add("tailnet.grants".into(), quoted(grants));
            add("tailnet.require.tags".into(), array(require_tags));
            add("tailnet.require.users".into(), array(require_users));
            add("tailnet.allow_shared".into(), allow_shared.to_string());
            add("tailnet.allow_routers".into(), array(allow_routers));
        }
        match &self.tls {
            Tls::Off => add("tls.certificate_from".into(), quoted("off")),
            Tls::Node => add("tls.certificate_from".into(), quoted("node")),
            Tls::Files { certificate, key } => {
                add("tls.certificate_from".into(), quoted("files"));
                add("tls.certificate_file".into(), paths(certificate));
                add("tls.key_file".into(), paths(key));
            }
        }
    }

    /// How targets are reached over SSH, and who speaks for their keys and ours.
    fn add_ssh(&self, add: &mut impl FnMut(String, String)) {
        let Ssh {
            user,
            auth_timeout,
            idle,
            keepalive,
            max_connections,
            channels_per_connection,
            connecting_per_host,
            breaker_failures,
            breaker_open,
            host_cas,
            revoked_keys,
            ca,
            key_variables: _,
        } = &self.ssh;
        add("ssh.user".into(), quoted(user));
        add("ssh.auth_timeout".into(), time(*auth_timeout));
        add("ssh.idle".into(), time(*idle));
        add("ssh.keepalive".into(), time(*keepalive));
        add("ssh.max_connections".into(), max_connections.to_string());
        add("ssh.channels_per_connection".into(), channels_per_connection.to_string());
        add("ssh.connecting_per_host".into(), connecting_per_host.to_string());
        add("ssh.breaker_failures".into(), breaker_failures.to_string());
        add("ssh.breaker_open".into(), time(*breaker_open));
        if !host_cas.is_empty() {
            let host_ca = |HostCa { hosts, public_key }: &HostCa| {
                format!("{{hosts = {}, public_key = {}}}", array(hosts), quoted(public_key))
            };
            let authorities: Vec<String> = host_cas.iter().map(host_ca).collect();
            add("ssh.host_cas".into(), format!("[{}]", authorities.join(", ")));
        }
        if let Some(file) = revoked_keys {
            add("ssh.revoked_keys".into(), quoted(file.to_string_lossy()));
        }
        if let Some(UserCa { key_file, ttl, source_addresses }) = ca {
            add("ssh.ca.key_file".into(), quoted(key_file.to_string_lossy()));
            add("ssh.ca.ttl".into(), time(*ttl));
            add("ssh.ca.source_addresses".into(), array(source_addresses));
        }
    }

    /// What may be written, what leaves, what may be reached, and the site's own rules.
    fn add_rules(&self, add: &mut impl FnMut(String, String)) {
        let Self { files, guard, probe, policy, .. } = self;
        add("files.max_bytes".into(), size(u64::try_from(files.max_bytes).unwrap_or(u64::MAX)));
        add("files.mime".into(), array(&files.mime));
        for (kind, action) in
            [("email", guard.email), ("phone", guard.phone), ("iban", guard.iban), ("card", guard.card)]
        {
            add(format!("guard.{kind}"), quoted(action.as_str()));
        }
        add("guard.names".into(), array(&guard.names));
        add("probe.networks".into(), array(probe.addresses.networks().iter().map(ToString::to_string)));
        for (number, rule) in (1..).zip(&probe.urls) {
            // The names of entries mean nothing but to whoever gave them.
            let key = |word: &str| format!("probe.urls.url-{number}.{word}");
            add(key("url"), quoted(rule.url.to_string()));
            add(key("approval"), quoted(if rule.waived { "waived" } else { "required" }));
            if let Some(engagements) = &rule.engagements {
                add(key("engagements"), array(engagements.iter().map(EngagementId::as_str)));
            }
        }
        if let Some(directory) = &policy.directory {
            add("policy.directory".into(), quoted(directory.to_string_lossy()));
        }
        add("policy.time_zone".into(), quoted(&policy.time_zone));
        if !policy.exceptions.is_empty() {
            let exceptions: Vec<String> = policy.exceptions.iter().map(exception).collect();
            add("policy.exceptions".into(), format!("[{}]", exceptions.join(", ")));
        }
    }

    /// Who may say yes, and how they are asked.
    fn add_approvals(&self, add: &mut impl FnMut(String, String)) {
        let Approvals {
            approvers,
            ttl,
            second_person,
            strength,
            max_pending_per_token,
            max_pending,
            url,
            webhooks,
            notify,
        } = &self.approvals;
        add("approvals.approvers".into(), array(approvers));
        add("approvals.ttl".into(), time(*ttl));
        add("approvals.second_person".into(), second_person.to_string());
        add("approvals.strength".into(), quoted(strength.as_str()));
        add("approvals.max_pending".into(), max_pending.to_string());
        add("approvals.max_pending_per_token".into(), max_pending_per_token.to_string());
        if let Some(url) = url {
            add("approvals.url".into(), quoted(url));
        }
        let tables = |items: Vec<String>| format!("[{}]", items.join(", "));
        add("approvals.webhooks".into(), tables(webhooks.iter().map(webhook).collect()));
        add("approvals.notify".into(), tables(notify.iter().map(told).collect()));
    }

    /// What is allowed and yet not what the profile stands for, one sentence each. Nothing here stops a start.
    pub fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if self.engagements.is_empty() {
            advice.push("engagements: there is none, so no token can be used".to_owned());
        }
        if self.profile == Profile::Development {
            return advice;
        }
        let profile = self.profile;
        for target in self.targets.iter().chain(&self.registered) {
            if target.capabilities.granted().any(|scope| scope == Scope::Admin) {
                advice.push(format!(
                    "targets.{}.capabilities: profile {profile} would rather have the scopes that are needed than admin",
                    target.id
                ));
            }
            if target.sudo == SudoPolicy::Full {
                advice
                    .push(format!("targets.{}: profile {profile} would rather have sudo limited than full", target.id));
            }
        }
        if self.profile == Profile::Maximum {
            for engagement in self.engagements.iter().filter(|engagement| engagement.tools.is_none()) {
                advice.push(format!(
                    "engagements.{}.tools: profile maximum would rather have the tools listed than every tool",
                    engagement.id
                ));
            }
            if self.ssh.ca.as_ref().is_some_and(|ca| ca.source_addresses.is_empty()) {
                advice.push(
                    "ssh.ca.source_addresses: profile maximum would rather have the addresses of this gateway than \
                     certificates that can be used from anywhere"
                        .to_owned(),
                );
            }
            for target in self.targets.iter().filter(|target| target.segment.is_none()) {
                advice.push(format!(
                    "targets.{}.segment: profile maximum would rather have every target in a segment",
                    target.id
                ));
            }
        }
        advice
    }
}
