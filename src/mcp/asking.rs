//! What the protocol's other methods ask of the fleet: always as a call of a tool, through the pipeline, so that it is
//! limited, decided, guarded and recorded like one. There is no other way to the fleet from here.

use std::{pin::pin, sync::Arc};

use rmcp::{
    ErrorData, RoleServer,
    model::{ErrorCode, Extensions},
    service::RequestContext,
};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::sessions::Ended;
use crate::{
    auth::Caller,
    model::{CorrelationId, Progress},
    pipeline::{Pipeline, ToolCall},
};

/// One request, and who asks.
pub(super) struct Asking {
    pipeline: Arc<Pipeline>,
    caller: Caller,
    correlation: CorrelationId,
    gone: CancellationToken,
    ended: Option<Ended>,
}

impl Asking {
    /// The request in `context`.
    pub(super) fn of(pipeline: &Arc<Pipeline>, context: &RequestContext<RoleServer>) -> Result<Self, ErrorData> {
        let (caller, correlation) = entered(&context.extensions)?;
        let (gone, ended) = (context.ct.clone(), ended(&context.extensions));
        Ok(Self { pipeline: pipeline.clone(), caller, correlation, gone, ended })
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether `tool` is on the caller's list. A no reveals nothing, so nothing is recorded.
    pub(super) fn sees(&self, tool: &str) -> bool {
        self.pipeline.visible(&self.caller).any(|visible| visible.spec().name == tool)
    }

    /// Calls `tool`: the envelope, or the refusal.
    pub(super) async fn call(&self, tool: &str, arguments: Map<String, Value>) -> Result<Value, Value> {
        let call = ToolCall::new(tool.into(), arguments, self.correlation, Progress::default());
        let running = self.pipeline.clone().call(self.caller.clone(), call, self.gone.clone());
        let reply = while_session(self.ended.as_ref(), &self.gone, running).await;
        if reply.is_error { Err(reply.body) } else { Ok(reply.body) }
    }
}

/// The caller and correlation id of the very HTTP request that carried this message.
pub(super) fn entered(extensions: &Extensions) -> Result<(Caller, CorrelationId), ErrorData> {
    let parts = extensions.get::<hyper::http::request::Parts>().map(|parts| &parts.extensions);
    let caller = parts.and_then(|parts| parts.get::<Caller>()).cloned();
    let correlation = parts.and_then(|parts| parts.get::<CorrelationId>()).copied();
    caller.zip(correlation).ok_or_else(|| ErrorData::internal_error("no caller", None))
}

/// The end of the session that carried this message, where one did.
pub(super) fn ended(extensions: &Extensions) -> Option<Ended> {
    extensions.get::<hyper::http::request::Parts>()?.extensions.get::<Ended>().cloned()
}

/// Waits for `running`; cancels `gone` when the session was ended, because the client's connection says nothing of a
/// session's requests, which go on without it.
pub(super) async fn while_session<T>(
    ended: Option<&Ended>,
    gone: &CancellationToken,
    running: impl Future<Output = T>,
) -> T {
    let Some(Ended(ended)) = ended else { return running.await };
    let mut running = pin!(running);
    tokio::select! {
        biased;
        result = running.as_mut() => return result,
        () = ended.cancelled() => gone.cancel(),
    }
    running.await
}

/// The HTTP status that says the same as a refusal's `code`.
pub(super) fn status_of(refusal: &Value) -> i32 {
    match refusal.get("code").and_then(Value::as_str) {
        Some("rate_limited") => 429,
        Some("busy" | "audit_unavailable" | "unavailable") => 503,
        Some("internal") | None => 500,
        _ => 403,
    }
}

/// A refusal as an error of the protocol. Its code is a status of HTTP: the protocol keeps the negative ones.
pub(super) fn refused(refusal: Value) -> ErrorData {
    let message = refusal.get("message").and_then(Value::as_str).unwrap_or("refused").to_owned();
    ErrorData::new(ErrorCode(status_of(&refusal)), message, Some(refusal))
}

/// A request that names what it has wrong.
pub(super) fn invalid(argument: &str, wanted: impl std::fmt::Display) -> ErrorData {
    ErrorData::invalid_params(format!("`{argument}`: {wanted}"), None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_keeps_its_words_and_gets_a_code_of_our_own() {
        for (code, status) in
            [("rate_limited", 429), ("audit_unavailable", 503), ("internal", 500), ("insufficient_scope", 403)]
        {
            let error = refused(json!({"code": code, "message": "why", "correlation_id": "x"}));
            assert_eq!((error.code.0, error.message.as_ref()), (status, "why"));
            assert_eq!(error.data.unwrap()["correlation_id"], "x");
        }
        assert_eq!(status_of(&json!({})), 500, "what cannot be understood is a fault of ours");
    }
}
