//! One operation of the API: its path, its types and what does it. The types of the function that does it are those that
//! are read from the request, written to the answer and described in the document, so that none can differ.

use std::{any::TypeId, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequestParts, Query, RawPathParams, Request, State},
    response::{IntoResponse, Response},
    routing::{self, MethodRouter},
};
use bytes::Bytes;
use hyper::{HeaderMap, Method, header, http::request::Parts};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Desk, Fault, LONGEST_BODY, openapi::Schemas};
use crate::{
    approval::Person,
    http::body,
    model::{CorrelationId, check_keys},
    tailnet::Peer,
};

/// How long a body may take.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// One operation.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// For the document.
    pub(super) summary: &'static str,
    pub(super) shape: fn(&mut Schemas) -> Shape,
    pub(super) serve: MethodRouter<Desk>,
}

/// The types of one operation.
pub(super) struct Shape {
    /// What stands in the query.
    pub(super) query: Option<Schema>,
    /// What stands in the body.
    pub(super) body: Option<Schema>,
    pub(super) answer: Schema,
}

/// A request of a person.
pub(super) struct Visit {
    pub(super) desk: Desk,
    pub(super) person: Person,
    /// Joins the answer to the audit log.
    pub(super) correlation: CorrelationId,
    parameter: String,
}

impl Visit {
    /// What stands in the path at its one `{…}`, decoded; nothing where the path has none.
    pub(super) fn parameter(&self) -> &str {
        &self.parameter
    }
}

/// A request of a program that signs what it says.
pub(super) struct Callback {
    pub(super) desk: Desk,
    /// Whose connection it came over; none on the control socket.
    pub(super) peer: Option<Arc<Peer>>,
    /// What stands in the path at its `{…}`, decoded.
    pub(super) parameter: String,
    pub(super) headers: HeaderMap,
    /// The bytes that are signed. No key stands in them twice.
    pub(super) body: Bytes,
}

/// No fields.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl Route {
    /// Shows people something; `Q` stands in the query.
    pub(super) fn get<Q, A, F, Fut>(path: &'static str, summary: &'static str, act: F) -> Self
    where
        Q: DeserializeOwned + JsonSchema + Send + 'static,
        A: Serialize + JsonSchema + Send + 'static,
        F: Fn(Visit, Q) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Fault>> + Send + 'static,
    {
        let serve = async move |State(desk): State<Desk>, request: Request| {
            let (mut parts, _) = request.into_parts();
            let asked = async {
                let visit = visit(desk, &mut parts).await?;
                let query = query_of::<Q>(&parts)?;
                act(visit, query).await
            };
            written(asked.await)
        };
        let shape = |schemas: &mut Schemas| Shape {
            query: Some(schemas.taken::<Q>()),
            body: None,
            answer: schemas.given::<A>(),
        };
        Self { method: Method::GET, path, summary, shape, serve: routing::get(serve) }
    }

    /// Does something that a person wants; `B` is the body.
    pub(super) fn post<B, A, F, Fut>(path: &'static str, summary: &'static str, act: F) -> Self
    where
        B: DeserializeOwned + JsonSchema + Send + 'static,
        A: Serialize + JsonSchema + Send + 'static,
        F: Fn(Visit, B) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Fault>> + Send + 'static,
    {
        let serve = routing::post(async move |State(desk): State<Desk>, request: Request| {
            written(changed(desk, request, act).await)
        });
        let shape = |schemas: &mut Schemas| Shape {
            query: None,
            body: (TypeId::of::<B>() != TypeId::of::<Nothing>()).then(|| schemas.taken::<B>()),
            answer: schemas.given::<A>(),
        };
        Self { method: Method::POST, path, summary, shape, serve }
    }

    /// Removes something that a person names in the path.
    pub(super) fn delete<A, F, Fut>(path: &'static str, summary: &'static str, act: F) -> Self
    where
        A: Serialize + JsonSchema + Send + 'static,
        F: Fn(Visit, Nothing) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Fault>> + Send + 'static,
    {
        let serve = routing::delete(async move |State(desk): State<Desk>, request: Request| {
            written(changed(desk, request, act).await)
        });
        let shape = |schemas: &mut Schemas| Shape { query: None, body: None, answer: schemas.given::<A>() };
        Self { method: Method::DELETE, path, summary, shape, serve }
    }

    /// Takes what a program signed; `B` describes the body, which `act` reads itself once it knows whose it is.
    pub(super) fn callback<B, A, F, Fut>(path: &'static str, summary: &'static str, act: F) -> Self
    where
        B: JsonSchema,
        A: Serialize + JsonSchema + Send + 'static,
        F: Fn(Callback) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Fault>> + Send + 'static,
    {
        let serve = async move |State(desk): State<Desk>, request: Request| {
            let (mut parts, body) = request.into_parts();
            let asked = async {
                query_of::<Nothing>(&parts)?;
                let parameter = parameter_of(&mut parts).await?;
                let body = body_of(&parts, body).await?;
                let peer = parts.extensions.get::<Arc<Peer>>().cloned();
                act(Callback { desk, peer, parameter, headers: parts.headers, body }).await
            };
            written(asked.await)
        };
        let shape = |schemas: &mut Schemas| Shape {
            query: None,
            body: Some(schemas.taken::<B>()),
            answer: schemas.given::<A>(),
        };
        Self { method: Method::POST, path, summary, shape, serve: routing::post(serve) }
    }
}

fn written<A: Serialize>(result: Result<A, Fault>) -> Response {
    match result {
        Ok(answer) => Json(answer).into_response(),
        Err(fault) => fault.into_response(),
    }
}

async fn changed<B, A, F, Fut>(desk: Desk, request: Request, act: F) -> Result<A, Fault>
where
    B: DeserializeOwned,
    A: Send + 'static,
    F: FnOnce(Visit, B) -> Fut,
    Fut: Future<Output = Result<A, Fault>> + Send + 'static,
{
    let (mut parts, body) = request.into_parts();
    let visit = visit(desk, &mut parts).await?;
    query_of::<Nothing>(&parts)?;
    let body = body_of(&parts, body).await?;
    let wanted = read(if body.is_empty() { b"{}" } else { &body })?;
    // Whoever hangs up does not cut it in half: what is recorded is also done.
    tokio::spawn(act(visit, wanted)).await.map_err(|_| Fault::internal())?
}

/// Nobody comes here without being known: without a person in the request it is refused.
async fn visit(desk: Desk, parts: &mut Parts) -> Result<Visit, Fault> {
    let parameter = parameter_of(parts).await?;
    let person = parts.extensions.get::<Person>().cloned();
    let correlation = parts.extensions.get::<CorrelationId>().copied();
    let (Some(person), Some(correlation)) = (person, correlation) else { return Err(Fault::internal()) };
    Ok(Visit { desk, person, correlation, parameter })
}

async fn parameter_of(parts: &mut Parts) -> Result<String, Fault> {
    let unreadable = |_| Fault::unreadable("the path holds a percent-encoding that is not UTF-8");
    let parameters = RawPathParams::from_request_parts(parts, &()).await.map_err(unreadable)?;
    Ok(parameters.iter().next().map_or_else(String::new, |(_, value)| value.to_owned()))
}

fn query_of<Q: DeserializeOwned>(parts: &Parts) -> Result<Q, Fault> {
    let query = Query::<Q>::try_from_uri(&parts.uri);
    query.map(|Query(query)| query).map_err(|error| Fault::unreadable(format!("the query: {}", error.body_text())))
}

async fn body_of(parts: &Parts, body: axum::body::Body) -> Result<Bytes, Fault> {
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let body = body::read(body, declared, LONGEST_BODY, BODY_WITHIN, None).await?;
    if !body.is_empty() {
        check_keys(&body).map_err(body::BodyFault::from)?;
    }
    Ok(body)
}

/// `json` as a `B`; the error names the field.
fn read<B: DeserializeOwned>(json: &[u8]) -> Result<B, Fault> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner());
        if path == "." { Fault::unreadable(inner.to_string()) } else { Fault::invalid(&path, inner) }
    })
}
