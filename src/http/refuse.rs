//! Refusals: recorded with their reason, then answered with a code, a message and the correlation id.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use hyper::{
    StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{CORRELATION_ID, Front, Line, correlation_header};
use crate::{
    audit::Refusal,
    auth::{AuthFault, Caller, Claims},
    model::CorrelationId,
    tailnet::Peer,
};

/// One refusal.
#[derive(Clone)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    /// For the caller.
    pub(super) message: String,
    /// For the auditor, where it says more.
    pub(super) detail: Option<String>,
    /// One more header.
    pub(super) header: Option<(HeaderName, HeaderValue)>,
    /// The token that came from elsewhere.
    pub(super) token: Option<Arc<Claims>>,
    /// Whether it is on record already.
    pub(super) recorded: bool,
}

impl Refused {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), detail: None, header: None, token: None, recorded: false }
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.header = HeaderValue::from_str(value).ok().map(|value| (name, value));
        self
    }

    /// With the token that the fault is about, for the record.
    pub(super) fn about(mut self, fault: &AuthFault) -> Self {
        self.token = fault.token().cloned();
        self
    }

    /// RFC 6750, section 3. No `resource_metadata`: clients that find it drop their token and start OAuth.
    pub(super) fn of_auth(fault: &AuthFault) -> Self {
        let status = match fault {
            AuthFault::UnexpectedSource(_) => StatusCode::FORBIDDEN,
            AuthFault::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        };
        let mut refused = Self::new(status, fault.code(), fault.to_string()).about(fault);
        refused.detail = fault.detail().map(|detail| format!("{fault}: {detail}"));
        if status != StatusCode::UNAUTHORIZED {
            return refused;
        }
        let error = if *fault == AuthFault::Missing { "invalid_request" } else { "invalid_token" };
        let challenge = format!(r#"Bearer error="{error}", error_description="{}: {fault}""#, fault.code());
        refused.header(header::WWW_AUTHENTICATE, &challenge)
    }
}

/// How a refusal is written out.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Refusal")]
pub(super) struct Written<'a> {
    /// For programs; docs/troubleshooting.md explains each.
    code: &'a str,
    /// For people.
    message: &'a str,
    /// Finds it in the audit log.
    correlation_id: String,
}

/// Tells the operator at once that a token was shown by another peer than its own: it may be stolen.
pub(super) fn alert(token: &Claims, peer: &Peer) {
    tracing::warn!(
        alert = "token_unexpected_source",
        jti = %token.jti,
        subject = token.subject,
        owner = token.owner,
        engagement = %token.engagement,
        bound_to = %token.binding,
        node_id = peer.id,
        node = peer.node,
        user = peer.user.as_deref().unwrap_or_default(),
        tags = peer.tags.join(","),
        address = %peer.address,
        "a token was shown by another peer than the one it is bound to"
    );
}

/// Records `refused` unless it is on record, for whoever is known to have asked, and answers it. What cannot be recorded is answered with
/// `audit_unavailable` instead.
pub(super) async fn refuse(
    front: &Front,
    line: &Line,
    who: (Option<&Peer>, Option<&Caller>),
    correlation: CorrelationId,
    request: (&str, &str),
    refused: Refused,
) -> Response {
    let (peer, caller) = who;
    let refusal = Refusal {
        correlation,
        peer,
        // A relay's own address says nothing of whose request it was.
        address: peer.map_or(line.address, |peer| peer.address),
        token: caller.map(Caller::token).or(refused.token.as_deref()),
        code: refused.code,
        reason: refused.detail.clone().unwrap_or_else(|| refused.message.clone()),
        request,
        status: refused.status.as_u16(),
    };
    tracing::debug!(correlation_id = %correlation, code = refused.code, "refused");
    if refused.recorded {
        return answer(correlation, &refused);
    }
    match front.audit.refuse(&refusal).await {
        Ok(()) => answer(correlation, &refused),
        Err(error) => {
            let unrecorded = Refused::new(StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable", error.to_string());
            answer(correlation, &unrecorded)
        }
    }
}

/// Writes `refused` out.
pub(super) fn answer(correlation: CorrelationId, refused: &Refused) -> Response {
    let correlation_id = correlation.to_string();
    let written = Written { code: refused.code, message: &refused.message, correlation_id };
    let mut response = Response::new(Body::from(serde_json::to_vec(&written).unwrap_or_default()));
    *response.status_mut() = refused.status;
    let headers = response.headers_mut();
    headers.extend(refused.header.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CORRELATION_ID, correlation_header(correlation));
    response
}
