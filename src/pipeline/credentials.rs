//! How old the gateway's own secrets are: all of it for people on the gateway's own host, and for an agent what its
//! tenant may know. One look serves both.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{GatewayFacts, Pipeline, Rules};
use crate::{
    fleet::{Credential, CredentialKind},
    model::EngagementId,
    store::StoreError,
};

impl Pipeline {
    /// Every secret there is, the worst first, with its file: for people on the gateway's own host.
    pub async fn credentials(&self) -> Result<Vec<Credential>, StoreError> {
        let (gateway, rules) = (self.answers.gateway(), self.rules.now());
        gateway.secrets.look(&rules.registry, rules.credentials, &gateway.store, self.clock.now()).await
    }
}

/// What a caller of `engagement` may know: no file, no target of another tenant, and no login key that is used for those
/// alone.
pub(super) async fn ages(
    gateway: &GatewayFacts,
    rules: &Rules,
    engagement: &EngagementId,
    now: Timestamp,
) -> Result<Vec<Value>, StoreError> {
    let all = gateway.secrets.look(&rules.registry, rules.credentials, &gateway.store, now).await?;
    let told = all.into_iter().filter_map(|mut row| {
        row.used_by.retain(|id| rules.registry.target(engagement, id).is_some());
        (row.kind != CredentialKind::LoginKey || !row.used_by.is_empty()).then(|| told(&row))
    });
    Ok(told.collect())
}

fn told(row: &Credential) -> Value {
    json!({
        "kind": row.kind,
        "id": row.fingerprint.as_ref().unwrap_or(&row.name),
        "targets": row.used_by,
        "age_s": row.age_s,
        "max_age_s": row.max_age_s,
        "known_by": row.known_by,
        "state": row.state,
        "why": row.why,
        "retires": row.retires_at,
    })
}
