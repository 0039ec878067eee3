//! `tailops target add` and `remove`: one target. Adding enrols its host keys: a fingerprint that somebody was told by
//! another way than the network, compared with what the host shows. Never enrols a key only because a host shows it.

use anyhow::{anyhow, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{Desk, import::enrolled, row, scan};
use crate::{
    cli::{Exit, say},
    config::{Problems, read_import, registry_file},
    exec::greeting_at_enrolment,
    fleet::read_rows,
    model::{Clock, Connection, EngagementId, HostKeyPin, SystemClock, Target, TargetId},
};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// Its id
    id: String,
    /// Where it is: a name or an address
    #[arg(long)]
    host: String,
    /// The port [default: 22]
    #[arg(long)]
    port: Option<u16>,
    /// The login user [default: ssh.user of the configuration]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The login key: a file, or ${NAME} of a variable that names one [default: a certificate of the gateway's own]
    #[arg(long, value_name = "FILE")]
    key: Option<String>,
    /// An OpenSSH certificate for that key
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<String>,
    /// The target that it is reached through
    #[arg(long, value_name = "ID")]
    jump: Option<String>,
    /// The stable id of its node on the tailnet, whose host keys in the network map count
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    /// The fingerprint of a host key it must show, as ssh-keygen -l prints it; for each key once
    #[arg(long, value_name = "SHA256:DIGEST")]
    host_key: Vec<String>,
    /// Do not ask the host for its keys: enrol what --host-key says unseen
    #[arg(long)]
    offline: bool,
    /// What may be done to it, whatever a token says: a scope, or several with commas
    #[arg(long, value_name = "SCOPE", required = true, value_delimiter = ',')]
    capability: Vec<String>,
    /// A label to find it by; for each label once
    #[arg(long, value_name = "LABEL", value_delimiter = ',')]
    tag: Vec<String>,
    /// The segment it lies in, for policy
    #[arg(long, value_name = "LABEL")]
    segment: Option<String>,
    /// The tenant it belongs to
    #[arg(long, value_name = "NAME", default_value = "default")]
    engagement: String,
    /// How far sudo may be used there
    #[arg(long, value_name = "POLICY", default_value = "none", value_parser = ["none", "limited", "full"])]
    sudo: String,
    /// A directory that file tools stay inside; for each directory once
    #[arg(long, value_name = "DIR")]
    root: Vec<String>,
    /// The longest one step may take, in seconds [default: 60]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// The most steps at the same time [default: 4]
    #[arg(long, value_name = "COUNT")]
    concurrency: Option<u64>,
}

/// What stands where in an entry, by the option that says it.
const OPTIONS: [(&str, &str); 15] = [
    ("connection.host_keys", "--host-key"),
    ("connection.host", "--host"),
    ("connection.port", "--port"),
    ("connection.username", "--user"),
    ("connection.key_path", "--key"),
    ("connection.certificate_path", "--certificate"),
    ("connection.jump", "--jump"),
    ("connection.node_id", "--node-id"),
    ("capabilities", "--capability"),
    ("metadata.tags", "--tag"),
    ("metadata.segment", "--segment"),
    ("engagement", "--engagement"),
    ("constraints.roots", "--root"),
    ("constraints.timeout", "--timeout"),
    ("constraints.concurrency", "--concurrency"),
];

impl Arguments {
    /// The entry that a registry file would have.
    fn entry(&self) -> Value {
        let mut entry = json!({
            "type": "remote",
            "executor": "ssh",
            "engagement": self.engagement,
            "connection": {
                "host": self.host, "port": self.port, "username": self.user, "key_path": self.key,
                "certificate_path": self.certificate, "jump": self.jump, "node_id": self.node_id,
                "host_keys": self.host_key,
            },
            "capabilities": self.capability,
            "constraints": {
                "sudo_policy": self.sudo, "roots": self.root, "timeout": self.timeout,
                "concurrency": self.concurrency,
            },
            "metadata": {"tags": self.tag, "segment": self.segment},
        });
        for part in entry.as_object_mut().into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
            part.retain(|_, value| !value.is_null());
        }
        entry
    }

    /// `problems` of that entry, by the options that caused them.
    fn wrong(&self, problems: &Problems) -> Exit {
        let prefix = format!("targets.{}.", self.id);
        let lines = problems.iter().map(|problem| {
            let place = problem.path.strip_prefix(&prefix).unwrap_or("");
            let option = OPTIONS.iter().find(|(path, _)| place.starts_with(path)).map_or("ID", |(_, option)| option);
            format!("{option}: {}", problem.message)
        });
        Exit::with(2, anyhow!("{}", lines.collect::<Vec<_>>().join("\n")))
    }
}

impl Desk<'_> {
    pub(super) async fn add(&self, arguments: Arguments) -> Result<(), Exit> {
        let configured = self.configured(None).await?;
        let home = EngagementId::from(arguments.engagement.as_str());
        configured.check_engagement(&home).map_err(|error| Exit::with(2, error))?;
        let mut others = configured.targets()?;
        others.extend(read_rows(&self.store.targets().await?)?);
        let text = registry_file([(arguments.id.as_str(), &arguments.entry())]);
        let read = read_import("target".as_ref(), &text, &home, &configured.engagements, &others);
        let mut targets = read.map_err(|problems| arguments.wrong(&problems))?;
        let faults = configured.faults(&targets);
        if let Some(fault) = faults.first() {
            return Err(Exit::with(2, anyhow!("{fault}")));
        }
        let target = targets.pop().ok_or_else(|| anyhow!("that makes no target"))?;
        let known = others.iter().any(|known| known.id == target.id);
        if known {
            return Err(anyhow!("there is a target {} already: remove it first", target.id).into());
        }
        let certified = target.connection().is_some_and(|connection| configured.certifies(connection));
        let (target, seen) = self.enrol(target, &arguments, certified).await?;
        let said = seen.as_ref().and_then(|seen| seen.identification.as_deref());
        let mut change = self.store.change_targets().await?;
        let before = change.rows().await?;
        if before.iter().any(|row| row.id == target.id.as_str()) {
            return Err(anyhow!("somebody added a target {} just now; nothing was changed", target.id).into());
        }
        change.put(&row(&target)).await?;
        if let Some(greeting) = said.and_then(|said| greeting_at_enrolment(&target, said, SystemClock.now())) {
            change.put_greeting(&greeting).await?;
        }
        change.commit().await?;
        let pins: Vec<String> = pins(&target).iter().map(ToString::to_string).collect();
        let details = json!({"id": target.id, "engagement": target.engagement, "host": arguments.host,
            "host_keys": pins, "node_id": arguments.node_id, "seen": seen.is_some()});
        let details = details.as_object().cloned().unwrap_or_default();
        self.recorded("target.add", details, &before).await?;
        for pin in &pins {
            let how = if seen.is_some() { "shown by the host" } else { "not seen" };
            say(format_args!("enrolled   {pin} ({how})"))?;
        }
        Ok(say(format_args!("added      {}", target.id))?)
    }

    /// `target` with the host keys that are enrolled, and what the host showed where it was seen to have one of them. None
    /// are where something else speaks for them: a certificate, or the network map.
    async fn enrol(
        &self,
        target: Target,
        arguments: &Arguments,
        certified: bool,
    ) -> Result<(Target, Option<scan::Answer>), Exit> {
        let Some(connection) = target.connection() else { return Ok((target, None)) };
        if connection.host_keys.is_empty() {
            if connection.node.is_none() && !certified {
                return Err(Exit::with(2, unenrolled(connection)));
            }
            return Ok((target, None));
        }
        if arguments.offline {
            return Ok((target, None));
        }
        let jump = connection.jump.as_ref().map(TargetId::as_str);
        let seen = scan::shown(self.directory, &connection.host, connection.port, jump).await.map_err(|error| {
            error.context(format!("{} was not added: --offline enrols --host-key unseen", target.id))
        })?;
        let shown = &seen.keys;
        let host_keys: Vec<HostKeyPin> = connection.host_keys.iter().map(|pin| scan::completed(pin, shown)).collect();
        if !host_keys.iter().any(|pin| scan::shows(shown, pin)) {
            let shown = shown.iter().map(|key| format!("  {} {}", key.fingerprint, key.algorithm));
            let shown = shown.collect::<Vec<_>>().join("\n");
            return Err(anyhow!(
                "{} shows no key that --host-key names: it is another machine, or somebody stands between; nothing was \
                 added. It shows\n{shown}",
                connection.host
            )
            .into());
        }
        Ok((enrolled(target, host_keys), Some(seen)))
    }

    pub(super) async fn remove(&self, id: &str) -> anyhow::Result<()> {
        let mut change = self.store.change_targets().await?;
        let before = change.rows().await?;
        ensure!(
            before.iter().any(|row| row.id == id),
            "there is no imported target {id:?}; a configured one is taken out of the configuration"
        );
        let known = read_rows(&before)?;
        let jump = |target: &Target| target.connection().and_then(|connection| connection.jump.clone());
        let leads = |target: &&Target| jump(target).is_some_and(|jump| jump.as_str() == id);
        let behind: Vec<&str> = known.iter().filter(leads).map(|target| target.id.as_str()).collect();
        ensure!(behind.is_empty(), "{id} is the jump host of {}: remove or change these first", behind.join(", "));
        change.remove(id).await?;
        change.commit().await?;
        self.recorded("target.remove", Map::from_iter([("id".to_owned(), json!(id))]), &before).await?;
        Ok(say(format_args!("removed {id}"))?)
    }
}

fn pins(target: &Target) -> &[HostKeyPin] {
    target.connection().map_or(&[], |connection| &connection.host_keys)
}

fn unenrolled(connection: &Connection) -> anyhow::Error {
    let port = connection.port.map(|port| format!(":{port}")).unwrap_or_default();
    anyhow!(
        "--host-key: a host is only talked to once its key is enrolled. `tailops target scan {}{port}` shows the keys it \
         has; compare one with what the machine itself says (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), and give \
         it as --host-key. A node of the tailnet that runs Tailscale SSH can be named with --node-id instead",
        connection.host
    )
}
