//! `tailops target list`, `show` and `export`: what the registry holds, configured and imported. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::{Value, json};

use super::{Desk, entry};
use crate::{
    cli::{say, table},
    config::registry_file,
};

/// What a list shows of one target.
struct Listed<'e> {
    id: &'e str,
    source: &'static str,
    entry: &'e Value,
}

impl Listed<'_> {
    fn text(&self, pointer: &str) -> String {
        self.entry.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned()
    }

    fn tags(&self) -> BTreeSet<&str> {
        let tags = self.entry.pointer("/metadata/tags").and_then(Value::as_array);
        tags.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Where it is: the host, the port where it is not the usual one, and the jump host.
    fn address(&self) -> String {
        let Some(host) = self.entry.pointer("/connection/host").and_then(Value::as_str) else { return "-".to_owned() };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let port = self.entry.pointer("/connection/port").and_then(Value::as_u64);
        let jump = self.entry.pointer("/connection/jump").and_then(Value::as_str);
        let port = port.filter(|port| *port != 22).map(|port| format!(":{port}")).unwrap_or_default();
        let jump = jump.map(|jump| format!(" via {jump}")).unwrap_or_default();
        format!("{host}{port}{jump}")
    }

    fn host_keys(&self) -> usize {
        self.entry.pointer("/connection/host_keys").and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// What speaks for its host key.
    fn enrolment(&self) -> String {
        let node = self.entry.pointer("/connection/node_id").is_some();
        match (self.text("/executor").as_str(), self.host_keys(), node) {
            ("ssh", 0, true) => "netmap".to_owned(),
            ("ssh", keys, _) => keys.to_string(),
            _ => "-".to_owned(),
        }
    }

    fn object(&self) -> Value {
        json!({
            "id": self.id,
            "kind": self.text("/executor"),
            "engagement": self.text("/engagement"),
            "segment": self.text("/metadata/segment"),
            "tags": self.entry.pointer("/metadata/tags").cloned().unwrap_or_else(|| json!([])),
            "source": self.source,
            "host": self.entry.pointer("/connection/host"),
            "port": self.entry.pointer("/connection/port"),
            "jump": self.entry.pointer("/connection/jump"),
            "host_keys": self.host_keys(),
            "node_id": self.entry.pointer("/connection/node_id"),
        })
    }

    fn row(&self) -> Vec<String> {
        let tags = self.tags().into_iter().collect::<Vec<_>>().join(",");
        let (kind, engagement) = (self.text("/executor"), self.text("/engagement"));
        let segment = self.text("/metadata/segment");
        vec![
            self.id.to_owned(),
            kind,
            engagement,
            segment,
            self.source.to_owned(),
            self.address(),
            self.enrolment(),
            tags,
        ]
    }
}

const HEAD: [&str; 8] = ["ID", "KIND", "ENGAGEMENT", "SEGMENT", "SOURCE", "HOST", "HOST KEYS", "TAGS"];

impl Desk<'_> {
    pub(super) async fn export(&self, engagement: Option<&str>, format: &str) -> anyhow::Result<()> {
        let rows = self.store.targets().await?;
        let rows = rows.iter().filter(|row| engagement.is_none_or(|wanted| row.engagement == wanted));
        let entries: BTreeMap<&str, Value> =
            rows.map(|row| Ok((row.id.as_str(), entry(row)?))).collect::<anyhow::Result<_>>()?;
        if format == "json" {
            return Ok(say(json!({"version": "1.0", "targets": entries}))?);
        }
        Ok(say(registry_file(entries.iter().map(|(id, entry)| (*id, entry))).trim_end())?)
    }

    pub(super) async fn list(&self, as_json: bool) -> anyhow::Result<()> {
        let all = self.all().await?;
        let listed = all.iter().map(|(id, (source, entry))| Listed { id, source, entry });
        if as_json {
            return Ok(say(Value::from_iter(listed.map(|target| target.object())))?);
        }
        Ok(table(&HEAD, listed.map(|target| target.row()))?)
    }

    pub(super) async fn show(&self, id: &str) -> anyhow::Result<()> {
        let all = self.all().await?;
        let (_, entry) = all.get(id).with_context(|| format!("there is no target {id:?}"))?;
        Ok(say(registry_file([(id, entry)]).trim_end())?)
    }
}
