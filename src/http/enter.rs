//! The way in. Every request but `/healthz` passes [`enter`]: headers of others out, peer, Host. Those to the people's API
//! then go by [`people`]; of all others Origin, token and limit are looked at. Only then is a body read, and only then
//! does anything behind see it.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::Full;
use hyper::{HeaderMap, Method, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::{
    CORRELATION_ID, Front, Line, api, body, correlation_header,
    identity::Nobody,
    people,
    refuse::{Refused, alert, refuse},
    relay::{self, Foreign},
    upload::Upload,
};
use crate::{
    auth::{AuthFault, Caller},
    config::Http,
    mcp::Opening,
    model::CorrelationId,
    tailnet::Peer,
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
    let foreign = relay::take(request.headers_mut());
    if api::covers(request.uri().path()) {
        return people::enter(&front, &line, (correlation, foreign), request, next).await;
    }
    let admitted = admit(&front, &line, &foreign, request.uri(), request.headers()).await;
    let caller = match admitted {
        Ok(Admitted::Caller(caller)) => caller,
        // Clients that probe for OAuth must find that there is none.
        Ok(Admitted::WellKnown) => return StatusCode::NOT_FOUND.into_response(),
        Err(refusal) => {
            let Refusal { refused, peer, caller } = *refusal;
            let asked = (request.method().as_str(), request.uri().path());
            return refuse(&front, &line, (peer.as_deref(), caller.as_ref()), correlation, asked, refused).await;
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

/// Why a request did not get in, and as much as is known of whose it is.
pub(super) struct Refusal {
    pub(super) refused: Refused,
    pub(super) peer: Option<Arc<Peer>>,
    pub(super) caller: Option<Caller>,
}

/// The peer that a request comes from, if it is meant for this gateway.
pub(super) async fn known(
    front: &Front,
    line: &Line,
    foreign: &Foreign,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Arc<Peer>, Box<Refusal>> {
    let identified = line.identity.at_request(front, foreign).await;
    let peer = identified
        .map_err(|Nobody { refused, peer }| Box::new(Refusal { refused, peer: peer.map(Arc::new), caller: None }))?;
    let none = |refused| Box::new(Refusal { refused, peer: Some(peer.clone()), caller: None });
    if foreign.funnel {
        let message = "requests that Tailscale Funnel lets in from the internet are not answered";
        return Err(none(Refused::new(StatusCode::FORBIDDEN, "funnel_refused", message)));
    }
    if !front.lines.names.accept(uri, headers, line.identity.is_relay()) {
        let message = "the Host header is not a name of this gateway; http.hosts lists further names";
        return Err(none(Refused::new(StatusCode::FORBIDDEN, "host_not_allowed", message)));
    }
    Ok(peer)
}

async fn admit(
    front: &Front,
    line: &Line,
    foreign: &Foreign,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Admitted, Box<Refusal>> {
    let peer = known(front, line, foreign, uri, headers).await?;
    let none = |refused| Box::new(Refusal { refused, peer: Some(peer.clone()), caller: None });
    check_origin(&front.settings, headers).map_err(|refused| none(*refused))?;
    if uri.path().starts_with("/.well-known/") {
        return Ok(Admitted::WellKnown);
    }
    let caller = match front.authenticator.authenticate(&peer, bearer(headers)).await {
        Ok(caller) => caller,
        Err(fault) => {
            let counted = fault == AuthFault::Unavailable;
            if !counted && let Err(limited) = front.limits.auth_failure(&peer.id) {
                return Err(none(too_many(&limited).about(&fault)));
            }
            if let Some(token) = fault.token() {
                alert(token, &peer);
            }
            return Err(none(Refused::of_auth(&fault)));
        }
    };
    match front.limits.call(&caller.token().jti) {
        Ok(()) => Ok(Admitted::Caller(caller)),
        Err(limited) => Err(Box::new(Refusal { refused: too_many(&limited), peer: Some(peer), caller: Some(caller) })),
    }
}

/// A bucket is empty.
pub(super) fn too_many(limited: &crate::limits::Limited) -> Refused {
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

/// Against pages of other sites: an Origin must be one that is allowed.
fn check_origin(settings: &Http, headers: &HeaderMap) -> Result<(), Box<Refused>> {
    let allowed =
        |origin: &header::HeaderValue| settings.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    if !headers.get_all(header::ORIGIN).iter().all(allowed) {
        let message = "pages of this origin may not call the gateway; http.origins lists those that may";
        return Err(Box::new(Refused::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)));
    }
    Ok(())
}

/// Says that the process serves. Nothing else, to anyone.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Says whether calls can be made now, and which check says no.
pub(super) async fn readyz(State(front): State<Arc<Front>>) -> Response {
    let mut checks = vec![
        ("audit", front.audit.is_recording()),
        ("tailnet", front.node.status().is_up()),
        ("tokens", front.authenticator.is_fresh()),
        ("notifications", front.desk.couriers.are_fine()),
    ];
    if let Some(certificates) = &front.tls {
        checks.push(("tls", certificates.hold(front.clock.now())));
    }
    let ready = checks.iter().all(|(_, fine)| *fine);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks: serde_json::Map<String, Value> =
        checks.into_iter().map(|(name, fine)| (name.to_owned(), Value::Bool(fine))).collect();
    (status, Json(json!({"ready": ready, "checks": checks}))).into_response()
}

/// No such route, for those who may know.
pub(super) async fn not_found(uri: Uri) -> Response {
    if api::covers(uri.path()) { api::not_found().into_response() } else { StatusCode::NOT_FOUND.into_response() }
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
            let who = (Some(caller.peer()), Some(&caller));
            return refuse(&front, &line, who, correlation, (method.as_str(), "/mcp"), fault.refused()).await;
        }
    };
    let request = Request::from_parts(parts, Full::new(body));
    let response = front.endpoint.answer(&caller, request, opening).await;
    if response.status().is_client_error() {
        // The protocol layer refused; its own answer goes out, once the refusal is on record.
        let refused = Refused::new(response.status(), "protocol", "the request does not follow the protocol");
        let who = (Some(caller.peer()), Some(&caller));
        let recorded = refuse(&front, &line, who, correlation, (method.as_str(), "/mcp"), refused).await;
        if recorded.status() == StatusCode::SERVICE_UNAVAILABLE {
            return recorded;
        }
    }
    response
}
