//! The way in for people, on the listener: nobody but by their connection, and nothing that a page of another site could
//! have sent. Programs that sign what they say come the same way, and need not be people. Reads no body and no token.

use std::sync::Arc;

use axum::{extract::Request, middleware::Next, response::Response};
use hyper::{HeaderMap, StatusCode, Uri, header};

use super::{
    Front, Line,
    api::{self, Fault},
    enter::{Refusal, known, too_many},
    refuse::{Refused, refuse},
    relay::Foreign,
};
use crate::{approval::Person, model::CorrelationId, tailnet::Peer};

/// Whose request it is.
struct Visitor {
    peer: Arc<Peer>,
    /// None for a program.
    person: Option<Person>,
}

/// Lets a request to the people's API in, or refuses it. Its answer is on record where it is a refusal.
pub(super) async fn enter(
    front: &Front,
    line: &Line,
    (correlation, foreign): (CorrelationId, Foreign),
    mut request: Request,
    next: Next,
) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let refusing = async |peer: Option<&Peer>, refused| {
        refuse(front, line, (peer, None), correlation, (method.as_str(), &path), refused).await
    };
    let visitor = match admit(front, line, &foreign, request.uri(), request.headers()).await {
        Ok(visitor) => visitor,
        Err(refusal) => return api::guarded(refusing(refusal.peer.as_deref(), refusal.refused).await),
    };
    let extensions = request.extensions_mut();
    extensions.insert(correlation);
    extensions.insert(visitor.peer.clone());
    if let Some(person) = visitor.person {
        extensions.insert(person);
    }
    let mut response = next.run(request).await;
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        response = refusing(Some(&visitor.peer), fault.into()).await;
    }
    response.headers_mut().insert(super::CORRELATION_ID, super::correlation_header(correlation));
    api::guarded(response)
}

async fn admit(
    front: &Front,
    line: &Line,
    foreign: &Foreign,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Visitor, Box<Refusal>> {
    let peer = known(front, line, foreign, uri, headers).await?;
    let refusal = |refused| Box::new(Refusal { refused, peer: Some(peer.clone()), caller: None });
    let (who, visitor) = match of(front, line, &peer, uri, headers) {
        Ok(Some(person)) => (person.folded(), Some(person)),
        Ok(None) => (peer.id.clone(), None),
        Err(fault) => {
            // Not out of the person's own bucket: a page elsewhere could use that up.
            let limited = front.limits.auth_failure(&peer.id);
            return Err(refusal(limited.err().map_or_else(|| fault.into(), |limited| too_many(&limited))));
        }
    };
    front.limits.person(&who).map_err(|limited| refusal(too_many(&limited)))?;
    Ok(Visitor { peer, person: visitor })
}

/// The person whose request it is; none for a program.
fn of(front: &Front, line: &Line, peer: &Peer, uri: &Uri, headers: &HeaderMap) -> Result<Option<Person>, Fault> {
    check_site(front, line, headers)?;
    if api::is_for_programs(uri.path()) {
        return Ok(None);
    }
    api::check_meant(headers)?;
    let person =
        Person::of(peer).map_err(|why| Refused::new(StatusCode::FORBIDDEN, "not_a_person", why.to_string()))?;
    Ok(Some(person))
}

/// Against pages of other sites in the browser of somebody who may decide.
fn check_site(front: &Front, line: &Line, headers: &HeaderMap) -> Result<(), Fault> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    // A relay that ends TLS has another scheme on its far side.
    let schemes: &[&str] = match (&front.tls, line.identity.is_relay()) {
        (Some(_), false) => &["https"],
        (None, false) => &["http"],
        (_, true) => &["https", "http"],
    };
    let own = |origin: &str| schemes.iter().any(|scheme| is_origin(origin, scheme, host));
    let listed = |origin: &str| front.settings.origins.iter().any(|listed| listed == origin);
    let mut origins = headers.get_all(header::ORIGIN).iter();
    if !origins.all(|origin| origin.to_str().is_ok_and(|origin| own(origin) || listed(origin))) {
        let message = "pages of other origins may not use this API";
        return Err(Refused::new(StatusCode::FORBIDDEN, "origin_not_allowed", message).into());
    }
    let near = |site: &header::HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
    if !headers.get_all("sec-fetch-site").iter().all(near) {
        let message = "the browser says that a page of another site made this request";
        return Err(Refused::new(StatusCode::FORBIDDEN, "cross_site", message).into());
    }
    Ok(())
}

/// Whether `origin` is `scheme` and `host`, a port that goes without saying left out or not.
fn is_origin(origin: &str, scheme: &str, host: &str) -> bool {
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let bare = |text: &str| text.strip_suffix(usual).unwrap_or(text).to_ascii_lowercase();
    let authority = origin.split_once("://").filter(|(named, _)| named.eq_ignore_ascii_case(scheme));
    authority.is_some_and(|(_, authority)| !host.is_empty() && bare(authority) == bare(host))
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn an_origin_is_ours_by_scheme_host_and_port() {
        for (origin, scheme, host) in [
            ("http://tailops:8080", "http", "tailops:8080"),
            ("http://tailops", "http", "tailops:80"),
            ("https://Tailops.example.ts.net", "https", "tailops.example.ts.net:443"),
            ("https://[fd7a:115c:a1e0::1]", "https", "[fd7a:115c:a1e0::1]"),
        ] {
            assert!(is_origin(origin, scheme, host), "{origin} {host}");
        }
        for (origin, scheme, host) in [
            ("http://tailops:8081", "http", "tailops:8080"),
            ("http://tailops", "http", "tailops:8080"),
            ("https://tailops:8080", "http", "tailops:8080"),
            ("http://tailops:443", "https", "tailops"),
            ("https://tailops:80", "https", "tailops"),
            ("http://tailops.evil.example", "http", "tailops"),
            ("http://evil.example", "http", "tailops"),
            ("null", "http", "tailops"),
            ("null", "http", "null"),
            ("", "http", ""),
            ("http://", "http", ""),
            ("http://tailops/", "http", "tailops"),
            ("http://me@tailops", "http", "tailops"),
        ] {
            assert!(!is_origin(origin, scheme, host), "{origin} {host}");
        }
    }
}
