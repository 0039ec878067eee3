//! Taking a token back, under a permit. Answers for the tenant: a token of another engagement looks like none.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{CallError, GatewayFacts};
use crate::{
    auth::Caller,
    model::{Jti, Operation},
    tools::ToolError,
};

/// Revokes `jti`, or on a dry run says whose it is. The caller's own token is refused from its next call on.
pub(super) async fn revoke(
    gateway: &GatewayFacts,
    caller: &Caller,
    operation: &Operation,
    jti: &Jti,
    now: Timestamp,
) -> Result<Value, CallError> {
    let row = gateway.store.token(jti.as_str()).await?;
    let Some(row) = row.filter(|row| row.engagement == operation.engagement.as_str()) else {
        let error = ToolError::new("not_found", format!("there is no token {jti}"))
            .hint("audit_query shows the tokens that were used, token_inspect your own");
        return Err(CallError::Failed { error, exec: Vec::new() });
    };
    let mut revoked_at = row.revoked_at;
    let mut already = revoked_at.is_some();
    if !operation.dry_run && !already {
        let by = format!("{} ({})", caller.token().subject, caller.token().jti);
        // None where another call came first.
        already = gateway.store.revoke_tokens(Some(jti.as_str()), now, &by).await?.is_empty();
        revoked_at = match already {
            true => gateway.store.token(jti.as_str()).await?.and_then(|row| row.revoked_at),
            false => Some(now),
        };
        if let Err(error) = gateway.authenticator.refresh().await {
            tracing::warn!(%error, "a revoked token is refused only at the next look at the token table");
        }
    }
    Ok(json!({
        "jti": row.jti,
        "subject": row.subject,
        "own": *jti == caller.token().jti,
        "revoked_at": revoked_at,
        "already": already,
    }))
}
