//! Changes of the registry that an agent asks for, under a permit. Answers for the tenant and for what the caller may
//! hand out: nobody registers a target that can do more than they may. Enrols no key that the host does not show, and no
//! host for which nothing speaks.

use std::net::IpAddr;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{
    CallError, GatewayFacts, Rules,
    trial::{Unseen, look},
};
use crate::{
    auth::Caller,
    config::registry_entry,
    exec::{ScannedKey, certified, greeting_at_enrolment, host_matches},
    model::{Connection, HostKeyPin, Operation, Registration, Scope, Target, TargetId, hex},
    store::TargetRow,
    tools::ToolError,
};

/// What stands for a reference to a key that is not the caller's own words.
const REFERENCE: &str = "(a reference that is not shown)";
const OWN: &str = "nobody registers a target that can do more than they may; token_inspect shows what that is";

/// Changes the registry, or on a dry run shows what would change and which keys the host has.
pub(super) async fn register(
    gateway: &GatewayFacts,
    caller: &Caller,
    rules: &Rules,
    operation: &Operation,
    registration: &Registration,
    now: Timestamp,
) -> Result<Value, CallError> {
    let Registration { id, wanted, replaces, expected } = registration;
    check_rights(caller, operation, id, wanted.as_deref())?;
    let rows = gateway.store.targets().await?;
    let before = standing(&rows, rules, operation, id, *replaces)?;
    let digest = digest_of(before);
    check_expected(expected.as_deref(), &digest)?;
    let connection = wanted.as_deref().and_then(Target::connection);
    let host = match connection {
        Some(connection) if operation.dry_run || !is_named(connection) => {
            check_covered(gateway, connection)?;
            Some(look_at(gateway, rules, connection, now).await?)
        }
        _ => None,
    };
    if let (Some(connection), Some(host)) = (connection, &host) {
        check_proof(connection, host)?;
    }
    if !operation.dry_run {
        let mut change = gateway.store.change_targets().await?;
        let rows = change.rows().await?;
        // Between the look and the change another may have come first.
        let before = standing(&rows, rules, operation, id, *replaces)?;
        check_expected(expected.as_deref(), &digest_of(before))?;
        match wanted.as_deref() {
            Some(target) => {
                let row = TargetRow {
                    id: id.as_str().to_owned(),
                    engagement: operation.engagement.as_str().to_owned(),
                    entry: registry_entry(target).to_string(),
                    changed_at: now.to_string(),
                    changed_by: format!("{} ({})", caller.token().subject, caller.token().jti),
                };
                change.put(&row).await?;
                let said = host.as_ref().and_then(|host| host.identification.as_deref());
                if let Some(greeting) = said.and_then(|said| greeting_at_enrolment(target, said, now)) {
                    change.put_greeting(&greeting).await?;
                }
            }
            None => change.remove(id.as_str()).await?,
        }
        change.commit().await?;
    }
    let before: Option<Value> = before.and_then(|row| serde_json::from_str(&row.entry).ok());
    let after = wanted.as_deref().map(registry_entry);
    Ok(json!({
        "id": id,
        "before": before.as_ref().map(|entry| shown(entry, None)),
        "after": after.as_ref().map(|entry| shown(entry, before.as_ref())),
        "before_sha256": digest,
        "host": host.as_ref().map(Shown::described),
    }))
}

/// The row that is replaced or removed; none where one is added. What is no target of this engagement looks like none.
fn standing<'r>(
    rows: &'r [TargetRow],
    rules: &Rules,
    operation: &Operation,
    id: &TargetId,
    replaces: bool,
) -> Result<Option<&'r TargetRow>, CallError> {
    let row = rows.iter().find(|row| row.id == id.as_str());
    let configured = row.is_none() && rules.registry.all().any(|target| target.id == *id);
    let own = |row: &&TargetRow| row.engagement == operation.engagement.as_str();
    match (replaces, row.filter(own)) {
        (true, Some(row)) => Ok(Some(row)),
        (true, None) if configured && rules.registry.target(&operation.engagement, id.as_str()).is_some() => {
            let text = format!("target {id} stands in the configuration");
            Err(refused(ToolError::new("target_configured", text).hint("whoever runs the gateway changes it there")))
        }
        (true, None) => Err(refused(ToolError::new("unknown_target", format!("there is no target {id:?}")))),
        (false, _) if row.is_some() || configured => {
            let text = format!("the id {id} is taken");
            Err(refused(
                ToolError::new("id_taken", text).hint("update changes a target of yours; fleet_list shows them"),
            ))
        }
        (false, _) => Ok(None),
    }
}

/// Errors unless the caller may do to the target whatever it would let be done.
fn check_rights(
    caller: &Caller,
    operation: &Operation,
    id: &TargetId,
    wanted: Option<&Target>,
) -> Result<(), CallError> {
    let (token, grants, engagement) = (caller.token(), &caller.peer().grants, &operation.engagement);
    if token.targets.as_ref().is_some_and(|targets| !targets.contains(id)) {
        return Err(refused(ToolError::new("token_target_denied", format!("the token does not name target {id}"))));
    }
    let lets = |scope: Scope| wanted.is_some_and(|target| target.capabilities.granted().any(|one| one == scope));
    for scope in Scope::ALL.iter().copied().filter(|scope| lets(*scope)) {
        if !token.scopes.allows(scope) {
            let text = format!("`spec.capabilities`: {scope} is not among what the token may do");
            return Err(refused(ToolError::new("insufficient_scope", text).hint(OWN)));
        }
        if !grants.allow(scope, engagement, Some(id)) {
            let text = format!("`spec.capabilities`: the tailnet policy does not grant you {scope} on {id}");
            return Err(refused(ToolError::new("insufficient_grant", text).hint(OWN)));
        }
    }
    if !grants.allow(Scope::FleetAdmin, engagement, Some(id)) {
        let text = format!("the tailnet policy does not grant you {} on {id}", Scope::FleetAdmin);
        return Err(refused(ToolError::new("insufficient_grant", text).hint(OWN)));
    }
    Ok(())
}

fn check_expected(expected: Option<&str>, found: &str) -> Result<(), CallError> {
    if expected.is_none_or(|expected| expected == found) {
        return Ok(());
    }
    let text = "`expect_sha256`: the target's entry is another one now; nothing was changed";
    Err(refused(ToolError::new("precondition_failed", text).hint("a dry run shows the entry as it stands")))
}

/// Names an entry as it stands; `absent` where there is none.
fn digest_of(row: Option<&TargetRow>) -> String {
    row.map_or_else(|| "absent".to_owned(), |row| hex(digest(&SHA256, row.entry.as_bytes()).as_ref()))
}

/// `entry` for the caller: a reference to a key is shown only where it is the caller's own and new.
fn shown(entry: &Value, before: Option<&Value>) -> Value {
    let mut entry = entry.clone();
    for pointer in ["/connection/key_path", "/connection/certificate_path"] {
        let known = before.is_none_or(|before| before.pointer(pointer) == entry.pointer(pointer));
        if let Some(value) = entry.pointer_mut(pointer).filter(|_| known) {
            *value = REFERENCE.into();
        }
    }
    entry
}

/// What a look at the host gave.
#[derive(Default)]
struct Shown {
    /// Why nothing was seen.
    code: Option<&'static str>,
    /// Its keys.
    keys: Vec<String>,
    /// Those that are named for it.
    enrolled: Vec<String>,
    /// Those with a certificate that counts, and by which authority.
    certified: Vec<String>,
    /// Why a certificate does not count.
    uncertified: Option<&'static str>,
    identification: Option<String>,
}

impl Shown {
    fn nothing(code: &'static str) -> Self {
        Self { code: Some(code), ..Self::default() }
    }

    fn described(&self) -> Value {
        let Self { code, keys, enrolled, certified, .. } = self;
        json!({
            "seen": code.is_none(), "code": code, "keys": keys, "enrolled": enrolled, "certified": certified,
        })
    }
}

/// Whether the entry itself says what the host has to prove.
fn is_named(connection: &Connection) -> bool {
    !connection.host_keys.is_empty() || connection.node.is_some()
}

/// Errors where nothing could ever speak for the host.
fn check_covered(gateway: &GatewayFacts, connection: &Connection) -> Result<(), CallError> {
    let (host, port) = (&connection.host, connection.port.unwrap_or(22));
    if is_named(connection) || gateway.ssh.host_cas.iter().any(|ca| host_matches(&ca.hosts, host, port)) {
        return Ok(());
    }
    Err(unproven("as the machine itself shows it (ssh-keygen -lf), or spec.connection.node_id its node"))
}

/// Errors where only a certificate could speak for the host, and it showed none that counts.
fn check_proof(connection: &Connection, host: &Shown) -> Result<(), CallError> {
    if is_named(connection) || !host.certified.is_empty() {
        return Ok(());
    }
    let why = host.code.or(host.uncertified).unwrap_or("host_key_unknown");
    Err(unproven(&format!("or the machine show a certificate that counts; it showed none ({why})")))
}

fn unproven(how: &str) -> CallError {
    let text = format!("`host_key_fp`: must name a host key, {how}");
    refused(ToolError::new("invalid_arguments", text))
}

/// What the host shows, which of it is named for it, and what is certified.
async fn look_at(
    gateway: &GatewayFacts,
    rules: &Rules,
    connection: &Connection,
    now: Timestamp,
) -> Result<Shown, CallError> {
    if connection.jump.is_some() {
        return Ok(Shown::nothing("behind_jump_host"));
    }
    let port = connection.port.unwrap_or(22);
    let address = reachable(gateway, rules, connection).await?;
    let address = address.map_or_else(|| connection.host.clone(), |address| address.to_string());
    let scan = match look(&*gateway.node, &address, port).await {
        Ok(scan) => scan,
        Err(Unseen { code, .. }) => return Ok(Shown::nothing(code)),
    };
    let pin = |key: &ScannedKey| format!("{} {}", key.fingerprint, key.algorithm);
    let enrolled = scan.keys.iter().filter(|key| connection.host_keys.iter().any(|pin| is(pin, key)));
    let mut shown = Shown {
        keys: scan.keys.iter().map(pin).collect(),
        enrolled: enrolled.map(pin).collect(),
        identification: scan.identification,
        ..Shown::default()
    };
    for key in scan.keys.iter().filter(|key| key.certificate.is_some()) {
        match certified(&gateway.ssh, connection, key, now) {
            Ok(authority) => shown.certified.push(format!("{} by {authority}", pin(key))),
            // The words could name files of the gateway.
            Err(fault) => shown.uncertified = Some(fault.code()),
        }
    }
    Ok(shown)
}

fn is(pin: &HostKeyPin, key: &ScannedKey) -> bool {
    pin.fingerprint == key.fingerprint && pin.algorithm.as_ref().is_none_or(|name| *name == key.algorithm)
}

/// Where the gateway may look: none for a peer of the tailnet, which its node leads to, and otherwise an address that an
/// agent may have the gateway connect to, as for its probes.
async fn reachable(
    gateway: &GatewayFacts,
    rules: &Rules,
    connection: &Connection,
) -> Result<Option<IpAddr>, CallError> {
    let host = connection.host.trim_end_matches('.');
    let address: Option<IpAddr> = host.parse().ok();
    let status = gateway.node.status();
    let is_peer = status.peers.iter().any(|peer| {
        let short = peer.name.split('.').next().unwrap_or_default();
        let named = host.eq_ignore_ascii_case(&peer.name) || (!short.is_empty() && host.eq_ignore_ascii_case(short));
        named || address.is_some_and(|address| peer.addresses.contains(&address))
    });
    if is_peer {
        return Ok(None);
    }
    let found = match address {
        Some(address) => vec![address],
        None => gateway.resolver.lookup(host).await.unwrap_or_default(),
    };
    let Some(first) = found.first() else {
        let text = format!("`spec.connection.host`: {host:?} has no address");
        return Err(refused(ToolError::new("unreachable", text)));
    };
    for address in &found {
        if let Err(fault) = rules.probe.addresses.check(*address) {
            let text = format!(
                "`spec.connection.host`: {host:?} is {}, which agents may not have the gateway connect to",
                fault.what
            );
            return Err(refused(
                ToolError::new("address_refused", text)
                    .hint("whoever runs the gateway can allow it under [probe], or add the target at the command line"),
            ));
        }
    }
    Ok(Some(*first))
}

fn refused(error: ToolError) -> CallError {
    CallError::Failed { error, exec: Vec::new() }
}
