//! The people's API, `/api/v1/`: one router for the listener, where a person is who the network says, and for the control
//! socket, where they are who the kernel says. Answers for what is asked and what is answered; who may come in is
//! settled before, by [`super::people`] and [`super::control`]. Looks at no token.

mod approvals;
mod credentials;
mod fault;
mod keys;
mod openapi;
mod reviews;
mod route;
mod targets;
mod webhooks;
mod whoami;

use std::sync::Arc;

use axum::{Router, extract::Request, middleware::Next, response::Response};
use hyper::{
    HeaderMap, StatusCode,
    header::{self, HeaderName, HeaderValue},
};

pub(super) use self::fault::Fault;
use self::{
    openapi::openapi,
    route::{Route, Visit},
};
use super::{
    CORRELATION_ID, correlation_header,
    refuse::{Refused, Written, answer},
};
use crate::{
    approval::{Approvals, Couriers, Webhooks},
    audit::Audit,
    fleet::Rotations,
    model::{Clock, CorrelationId},
    pipeline::{Pipeline, RulesInForce},
    store::Store,
};

/// Every path of the API begins so.
const ROOT: &str = "/api/";
/// Programs call here without being people: what they say is signed.
const PROGRAMS: &str = "/api/v1/webhooks/";
/// The longest body, in bytes.
const LONGEST_BODY: usize = 64 << 10;

/// The header that every request of a person carries: a page of another site cannot send it unless the gateway agrees
/// beforehand, which it never does.
pub(super) const REQUEST: &str = "x-tailops-request";

/// What the API works with.
#[derive(Clone)]
pub struct Desk {
    /// The questions to people.
    pub approvals: Arc<Approvals>,
    /// The rules in force, with the settings of approvals.
    pub rules: Arc<RulesInForce>,
    /// The secrets of those who sign what they say.
    pub webhooks: Arc<Webhooks>,
    /// Those who are told.
    pub couriers: Arc<Couriers>,
    /// Tests targets.
    pub pipeline: Arc<Pipeline>,
    /// Replaces login keys.
    pub rotations: Arc<Rotations>,
    /// Records acts.
    pub audit: Arc<Audit>,
    /// The database.
    pub store: Store,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Every operation there is: the router and the document are both made of this list.
fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/whoami", "who you are to this gateway, and what you may decide", whoami::whoami),
        Route::get(
            "/api/v1/approvals",
            "the approvals that you may decide on or asked for, newest first",
            approvals::list,
        ),
        Route::get("/api/v1/approvals/{id}", "one approval", approvals::one),
        Route::post("/api/v1/approvals/{id}/decision", "says yes or no to exactly this operation", approvals::decide),
        Route::get("/api/v1/reviews", "what was let through by breaking the glass, newest first", reviews::list),
        Route::post("/api/v1/reviews/{id}/close", "closes a review with what was found", reviews::close),
        Route::post(
            "/api/v1/break-glass",
            "makes a pass for emergencies; on the gateway's own host only",
            reviews::break_glass,
        ),
        Route::get(
            "/api/v1/approver-keys",
            "the keys whose signatures count: an approver sees all, others their own",
            keys::list,
        ),
        Route::post("/api/v1/approver-keys", "asks for signatures of a key to count", keys::enrol),
        Route::delete("/api/v1/approver-keys/{key_id}", "asks for signatures of a key to count no more", keys::remove),
        Route::post(
            "/api/v1/targets/scan",
            "looks at the host keys that a machine shows, and trusts none; on the gateway's own host only",
            targets::scan,
        ),
        Route::post(
            "/api/v1/targets/{id}/test",
            "connects to a target, logs in and changes nothing; on the gateway's own host only",
            targets::test,
        ),
        Route::get(
            "/api/v1/credentials",
            "the gateway's own secrets and how old they are; on the gateway's own host only",
            credentials::list,
        ),
        Route::post(
            "/api/v1/credentials/rotate",
            "replaces a login key on every target that has it; on the gateway's own host only",
            credentials::rotate,
        ),
        Route::get(
            "/api/v1/credentials/rotations/{id}",
            "how far the replacement of a login key is; on the gateway's own host only",
            credentials::rotation,
        ),
        Route::callback::<webhooks::Said, _, _, _>(
            "/api/v1/webhooks/{name}",
            "what a webhook says as the person it is enrolled as",
            webhooks::answered,
        ),
        Route::get("/api/v1/openapi.json", "this document", openapi),
    ]
}

/// Serves every operation to whoever was let in: their [`crate::approval::Person`] and a [`CorrelationId`] stand in the
/// request's extensions. A refusal stands in the answer's extensions as [`Fault`], to be recorded and written out.
pub(super) fn router(desk: Desk) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.serve));
    router
        .method_not_allowed_fallback(async || {
            let message = "this path does not take that method; /api/v1/openapi.json says which";
            Fault::from(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message))
        })
        .with_state(desk)
}

/// No such path, for those who may know.
pub(super) fn not_found() -> Fault {
    Refused::new(StatusCode::NOT_FOUND, "unknown_path", "there is no such path; /api/v1/openapi.json lists them").into()
}

/// Whether `path` belongs to the API.
pub(super) fn covers(path: &str) -> bool {
    path.starts_with(ROOT)
}

/// Whether `path` is for programs that sign what they say.
pub(super) fn is_for_programs(path: &str) -> bool {
    path.starts_with(PROGRAMS)
}

/// Errors unless the request says itself that it is meant for this API.
pub(super) fn check_meant(headers: &HeaderMap) -> Result<(), Fault> {
    let mut values = headers.get_all(REQUEST).iter();
    if let (Some(value), None) = (values.next(), values.next())
        && value.as_bytes() == b"1"
    {
        return Ok(());
    }
    let message = "every request of this API carries the header `X-Tailops-Request: 1`";
    Err(Refused::new(StatusCode::FORBIDDEN, "request_header", message).into())
}

/// For people on the gateway's own host, whose [`crate::approval::Person`] stands in the request already. Records
/// nothing by itself: whoever comes this way could read and write the database as well.
pub(super) async fn on_host(mut request: Request, next: Next) -> Response {
    let correlation = CorrelationId::random();
    let mut response = match check_meant(request.headers()) {
        Ok(()) => {
            request.extensions_mut().insert(correlation);
            next.run(request).await
        }
        Err(fault) => answer(correlation, &fault),
    };
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        response = answer(correlation, &fault);
    }
    response.headers_mut().insert(CORRELATION_ID, correlation_header(correlation));
    guarded(response)
}

/// With the headers that keep an answer out of caches, frames and other sites' pages.
pub(super) fn guarded(mut response: Response) -> Response {
    const GUARDS: [(HeaderName, &str); 5] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in GUARDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
