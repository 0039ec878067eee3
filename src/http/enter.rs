//! The way in. Every request but `/healthz` passes [`enter`]: peer, Host and Origin, token, limit. Only then is its
//! body read, and only then does the protocol see it.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::Full;
use hyper::{HeaderMap, Method, StatusCode, header, http::uri::Authority};
use serde_json::json;

use super::{
    CORRELATION_ID, Front, Line,
    body::{self, BodyFault},
    correlation_header,
    refuse::{Refused, alert, refuse},
    upload::Upload,
};
use crate::{
    auth::{AuthFault, Caller},
    config::Http,
    mcp::Opening,
    model::{CorrelationId, KeyFault},
};

/// Lets a request in or refuses it.
pub(super) async fn enter(
    State(front): State<Arc<Front>>,
    Extension(line): Extension<Arc<Line>>,
    mut request: Request,
    next: Next,
) -> Response {
    let _serving = line.phase.serving();
    if request.uri().path() == "/healthz" {
        return next.run(request).await;
    }
    let correlation = CorrelationId::random();
    let admitted = admit(&front, &line, request.uri().path(), request.headers()).await;
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let caller = match admitted {
        Ok(Admitted::Caller(caller)) => caller,
        // Clients that probe for OAuth must find that there is none.
        Ok(Admitted::WellKnown) => return StatusCode::NOT_FOUND.into_response(),
        Err(refusal) => {
            let (caller, refused) = *refusal;
            return refuse(&front, &line, caller.as_ref(), correlation, (method.as_str(), &path), refused).await;
        }
    };
    request.extensions_mut().insert(correlation);
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    response.headers_mut().insert(CORRELATION_ID, correlation_header(correlation));
    response
}

enum Admitted {
    Caller(Caller),
    WellKnown,
}

async fn admit(
    front: &Front,
    line: &Line,
    path: &str,
    headers: &HeaderMap,
) -> Result<Admitted, Box<(Option<Caller>, Refused)>> {
    let none = |refused| Box::new((None, refused));
    let peer = line.peer.as_ref().map_err(|unidentified| {
        let mut refused = Refused::new(StatusCode::FORBIDDEN, unidentified.code(), "this connection may not come in");
        refused.detail = Some(unidentified.to_string());
        none(refused)
    })?;
    check_names(&front.settings, headers).map_err(|refused| none(*refused))?;
    if path.starts_with("/.well-known/") {
        return Ok(Admitted::WellKnown);
    }
    let caller = match front.authenticator.authenticate(peer, bearer(headers)).await {
        Ok(caller) => caller,
        Err(fault) => {
            let counted = fault == AuthFault::Unavailable;
            if !counted && let Err(limited) = front.limits.auth_failure(&peer.id) {
                return Err(none(too_many(&limited).about(&fault)));
            }
            if let Some(token) = fault.token() {
                alert(token, peer);
            }
            return Err(none(Refused::of_auth(&fault)));
        }
    };
    match front.limits.call(&caller.token().jti) {
        Ok(()) => Ok(Admitted::Caller(caller)),
        Err(limited) => Err(Box::new((Some(caller), too_many(&limited)))),
    }
}

fn too_many(limited: &crate::limits::Limited) -> Refused {
    Refused::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", limited.to_string())
        .header(header::RETRY_AFTER, &limited.retry_after_s().to_string())
}

/// The text after `Bearer `, from exactly one header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Against DNS rebinding: the Host must be one of ours, an Origin one that is allowed.
fn check_names(settings: &Http, headers: &HeaderMap) -> Result<(), Box<Refused>> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok().and_then(|text| text.parse::<Authority>().ok()),
        _ => None,
    };
    if !host.is_some_and(|host| settings.hosts.iter().any(|allowed| is_host(&host, allowed))) {
        let message = "the Host header is not a name of this gateway; http.hosts lists the names";
        return Err(Box::new(Refused::new(StatusCode::FORBIDDEN, "host_not_allowed", message)));
    }
    let allowed =
        |origin: &header::HeaderValue| settings.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    if !headers.get_all(header::ORIGIN).iter().all(allowed) {
        let message = "pages of this origin may not call the gateway; http.origins lists those that may";
        return Err(Box::new(Refused::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)));
    }
    Ok(())
}

/// An entry without a port stands for every port.
fn is_host(host: &Authority, allowed: &str) -> bool {
    host.as_str().eq_ignore_ascii_case(allowed) || host.host().eq_ignore_ascii_case(allowed)
}

/// Says that the process serves. Nothing else, to anyone.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Says whether calls can be made now.
pub(super) async fn readyz(State(front): State<Arc<Front>>) -> Response {
    let (recording, tokens) = (front.audit.is_recording(), front.authenticator.is_fresh());
    let status = if recording && tokens { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": recording && tokens, "checks": {"audit": recording, "tokens": tokens}})))
        .into_response()
}

/// No such route, for those who may know.
pub(super) async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// Reads the body and hands the request to the protocol.
pub(super) async fn mcp(
    State(front): State<Arc<Front>>,
    Extension(line): Extension<Arc<Line>>,
    Extension(caller): Extension<Caller>,
    Extension(correlation): Extension<CorrelationId>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let method = parts.method.clone();
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let settings = &front.settings;
    // JSON takes at least one byte for each of a content, so a shorter body holds none that is too long.
    let upload = declared.is_none_or(|declared: u64| declared > front.max_file_bytes as u64);
    let upload = upload.then(|| Upload::new(front.max_file_bytes));
    let read = body::read(body, declared, settings.max_body_bytes, settings.body_timeout, upload).await;
    let checked = read.and_then(|body| {
        let opening = if method == Method::POST { body::check(&body)? } else { Opening::Other };
        Ok((body, opening))
    });
    let (body, opening) = match checked {
        Ok(checked) => checked,
        Err(fault) => {
            return refuse(&front, &line, Some(&caller), correlation, (method.as_str(), "/mcp"), of_body(&fault)).await;
        }
    };
    let request = Request::from_parts(parts, Full::new(body));
    let response = front.endpoint.answer(&caller, request, opening).await;
    if response.status().is_client_error() {
        // The protocol layer refused; its own answer goes out, once the refusal is on record.
        let refused = Refused::new(response.status(), "protocol", "the request does not follow the protocol");
        let recorded = refuse(&front, &line, Some(&caller), correlation, (method.as_str(), "/mcp"), refused).await;
        if recorded.status() == StatusCode::SERVICE_UNAVAILABLE {
            return recorded;
        }
    }
    response
}

fn of_body(fault: &BodyFault) -> Refused {
    let (status, code) = match fault {
        BodyFault::TooLong(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_long"),
        BodyFault::File(_) => (StatusCode::PAYLOAD_TOO_LARGE, "file_too_large"),
        BodyFault::TooSlow(_) => (StatusCode::REQUEST_TIMEOUT, "body_too_slow"),
        BodyFault::Broken => (StatusCode::BAD_REQUEST, "body_broken"),
        BodyFault::Keys(KeyFault::Repeated(_)) => (StatusCode::BAD_REQUEST, "repeated_key"),
        BodyFault::Keys(KeyFault::Syntax(_)) => (StatusCode::BAD_REQUEST, "not_json"),
    };
    // A body that was not read to its end leaves the connection in the middle of a request.
    Refused::new(status, code, fault.to_string()).header(header::CONNECTION, "close")
}
