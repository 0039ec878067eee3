//! Targets as resources: `tailops://targets`, and one for each. Listing is a call of `fleet_list`, reading one of
//! `target_inspect`, by the same caller, on the same path.

use rmcp::{
    ErrorData,
    model::{
        CacheScope, ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult, Resource, ResourceContents,
        ResourceTemplate,
    },
};
use serde_json::{Map, Value, json};

use super::asking::{Asking, refused, status_of};

/// All targets.
pub(super) const FLEET: &str = "tailops://targets";
/// One target.
pub(super) const TARGET: &str = "tailops://targets/{id}";
const JSON: &str = "application/json";
/// How long a client may keep a list.
const LIST_TTL_MS: u64 = 30_000;
/// The most that `fleet_list` gives at once.
const PAGE: u32 = 200;

/// The targets that the caller sees: none, where it may see none.
pub(super) async fn list(asking: &Asking, cursor: Option<String>) -> Result<ListResourcesResult, ErrorData> {
    let mut resources = Vec::new();
    let mut next = None;
    if asking.sees("fleet_list") {
        let first = cursor.is_none();
        match asking.call("fleet_list", page(cursor)).await {
            Ok(envelope) => {
                if first {
                    resources.push(fleet());
                }
                let targets = envelope.pointer("/data/targets").and_then(Value::as_array);
                resources.extend(targets.into_iter().flatten().filter_map(resource));
                next = envelope.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            }
            // Not allowed: there is nothing for this caller. Anything else it should know of.
            Err(refusal) if status_of(&refusal) == 403 => {}
            Err(refusal) => return Err(refused(refusal)),
        }
    }
    let mut result = ListResourcesResult::with_all_items(resources);
    result.next_cursor = next;
    Ok(result.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Private))
}

/// The form of a target's URI, for those who may see targets.
pub(super) fn templates(asking: &Asking) -> ListResourceTemplatesResult {
    let template = ResourceTemplate::new(TARGET, "target")
        .with_title("Target")
        .with_description("One target: its registration and a live probe, as target_inspect shows it")
        .with_mime_type(JSON);
    let templates = if asking.sees("target_inspect") { vec![template] } else { Vec::new() };
    ListResourceTemplatesResult::with_all_items(templates)
        .with_ttl_ms(LIST_TTL_MS)
        .with_cache_scope(CacheScope::Private)
}

/// Reads one resource. What is not there and what is another's look the same.
pub(super) async fn read(asking: &Asking, uri: String) -> Result<ReadResourceResult, ErrorData> {
    let not_found = || ErrorData::resource_not_found("there is no such resource", Some(json!({"uri": uri})));
    let (tool, arguments) = match uri.strip_prefix(FLEET).map(|rest| (rest, rest.strip_prefix('/'))) {
        Some(("", _)) => ("fleet_list", page(None)),
        Some((_, Some(id))) if !id.is_empty() => ("target_inspect", Map::from_iter([("target".into(), id.into())])),
        _ => return Err(not_found()),
    };
    match asking.call(tool, arguments).await {
        Ok(envelope) => {
            let content = ResourceContents::text(envelope.to_string(), uri).with_mime_type(JSON);
            Ok(ReadResourceResult::new(vec![content]).with_ttl_ms(0).with_cache_scope(CacheScope::Private))
        }
        Err(refusal) => match refusal.get("code").and_then(Value::as_str) {
            Some("unknown_target" | "invalid_arguments") => Err(not_found()),
            _ => Err(refused(refusal)),
        },
    }
}

/// The arguments of `fleet_list` for the page at `cursor`.
pub(super) fn page(cursor: Option<String>) -> Map<String, Value> {
    let mut arguments = Map::from_iter([("limit".to_owned(), PAGE.into())]);
    arguments.extend(cursor.map(|cursor| ("cursor".to_owned(), cursor.into())));
    arguments
}

fn fleet() -> Resource {
    Resource::new(FLEET, "targets")
        .with_title("All targets")
        .with_description("The targets you can operate, as fleet_list shows them")
        .with_mime_type(JSON)
}

fn resource(target: &Value) -> Option<Resource> {
    let id = target.get("id")?.as_str()?;
    let kind = target.get("kind").and_then(Value::as_str).unwrap_or("unknown");
    let mut description = format!("A target of kind {kind}");
    if let Some(segment) = target.get("segment").and_then(Value::as_str) {
        description.push_str(" in segment ");
        description.push_str(segment);
    }
    Some(Resource::new(TARGET.replace("{id}", id), id).with_description(description).with_mime_type(JSON))
}
