//! Imported targets as they are kept: rows into targets. An entry that cannot be read is an error, never left out.

use std::path::Path;

use serde_json::Value;

use crate::{
    config::{read_registry, registry_file},
    model::{EngagementId, Target},
    store::{Store, StoreError, TargetRow},
};

const DAMAGED: StoreError = StoreError::Damaged { table: "target", column: "entry" };

/// The targets that were imported into `store`, by id.
pub async fn stored_targets(store: &Store) -> Result<Vec<Target>, StoreError> {
    read_rows(&store.targets().await?)
}

/// The targets of these rows.
pub fn read_rows(rows: &[TargetRow]) -> Result<Vec<Target>, StoreError> {
    let entries: Vec<(&str, Value)> = rows
        .iter()
        .map(|row| serde_json::from_str(&row.entry).map(|entry| (row.id.as_str(), entry)).map_err(|_| DAMAGED))
        .collect::<Result<_, _>>()?;
    let text = registry_file(entries.iter().map(|(id, entry)| (*id, entry)));
    // Which engagements are configured is another matter: one that is not has no callers.
    let engagements: Vec<EngagementId> = rows.iter().map(|row| row.engagement.as_str().into()).collect();
    let home = EngagementId::from("");
    let targets = read_registry(Path::new("target"), &text, &home, &engagements).map_err(|problems| {
        tracing::error!(%problems, "an imported target cannot be read");
        DAMAGED
    })?;
    let agree = |target: &Target| {
        rows.iter().any(|row| row.id == target.id.as_str() && row.engagement == target.engagement.as_str())
    };
    if targets.len() != rows.len() || !targets.iter().all(agree) {
        return Err(DAMAGED);
    }
    Ok(targets)
}
