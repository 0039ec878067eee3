//! The way in to the people's API: by the connection alone, and past everything that a page of another site could send.

use std::num::NonZeroU32;

use reqwest::{Response, header::HeaderMap};
use serde_json::{Value, json};
use tailops::tailnet::{NotAdmitted, Unidentified};

use crate::{
    harness::{Gateway, Grant},
    people::{People, Visitor, on_host, on_host_with, send},
};

const WHOAMI: &str = "/api/v1/whoami";
const DECISION: &str = "/api/v1/approvals/k3vd-9w2m-7qtp/decision";
/// One request of each kind.
const PATHS: [(&str, &str); 4] =
    [("GET", WHOAMI), ("GET", "/api/v1/approvals"), ("GET", "/api/v1/openapi.json"), ("POST", DECISION)];

/// A gateway that records every refusal and does not tire of them.
async fn patient() -> Gateway {
    Gateway::with(|config| {
        let many = NonZeroU32::new(10_000).unwrap();
        (config.limits.auth_failures_per_minute, config.limits.refusals_recorded_per_minute) = (many, many);
        config.http.origins = vec!["http://console.example:3000".to_owned()];
    })
    .await
}

/// The status and the code; the refusal is on record, once, with what was asked for.
async fn refused(gateway: &Gateway, request: reqwest::RequestBuilder) -> (u16, String) {
    let (client, request) = request.build_split();
    let request = request.unwrap();
    let asked = (request.method().to_string(), request.url().path().to_owned());
    let response = client.execute(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    guarded(&headers);
    let body: Value = response.json().await.unwrap();
    assert_eq!(headers["x-correlation-id"].to_str().unwrap(), body["correlation_id"]);
    let records = gateway.records().await;
    let of: Vec<&Value> = records.iter().filter(|record| record["correlation_id"] == body["correlation_id"]).collect();
    assert_eq!(of.len(), 1, "{body}");
    assert_eq!((&of[0]["code"], &of[0]["kind"]), (&body["code"], &json!("refusal")), "{}", of[0]);
    assert_eq!(of[0]["http"], json!({"method": asked.0, "path": asked.1, "status": status}));
    (status, body["code"].as_str().unwrap().to_owned())
}

/// Nothing of an answer is kept, framed or read by others.
#[track_caller]
fn guarded(headers: &HeaderMap) {
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(headers.get(name).map(|value| value.to_str().unwrap()), Some(value), "{name}");
    }
    assert!(!headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{headers:?}");
}

#[tokio::test]
async fn without_its_own_header_no_request_gets_in() {
    let gateway = patient().await;
    let bob = People::of(&gateway).approver("bob", json!(true));
    for (method, path) in PATHS {
        let wrong = (403, "request_header".to_owned());
        assert_eq!(refused(&gateway, bob.bare(method, path)).await, wrong);
        for value in ["", "0", "true", "1, 1"] {
            assert_eq!(
                refused(&gateway, bob.bare(method, path).header("X-Tailops-Request", value)).await,
                wrong,
                "{value}"
            );
        }
        let twice = bob.request(method, path).header("X-Tailops-Request", "1");
        assert_eq!(refused(&gateway, twice).await, wrong);
    }
    // What a page can make a browser send without asking first.
    let form = bob.bare("POST", DECISION).header("Content-Type", "text/plain").body("{}");
    assert_eq!(refused(&gateway, form).await.1, "request_header");
    gateway.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_are_turned_away() {
    let gateway = patient().await;
    let bob = People::of(&gateway).approver("bob", json!(true));
    let own = format!("http://{}", gateway.address);
    let port = gateway.address.port();
    let other_port = format!("http://127.0.0.1:{}", port ^ 1);
    let (secure, local) = (format!("https://{}", gateway.address), format!("http://localhost:{port}"));
    for (method, path) in PATHS {
        let request = || bob.request(method, path);
        for origin in ["http://evil.example", "null", "", "file://", "http://127.0.0.1", &other_port, &secure, &local] {
            let wrong = (403, "origin_not_allowed".to_owned());
            assert_eq!(refused(&gateway, request().header("Origin", origin)).await, wrong, "{origin}");
        }
        let both = request().header("Origin", &own).header("Origin", "http://evil.example");
        assert_eq!(refused(&gateway, both).await.1, "origin_not_allowed");
        for site in ["cross-site", "same-site", "", "Same-Origin", "none, none"] {
            let wrong = (403, "cross_site".to_owned());
            assert_eq!(refused(&gateway, request().header("Sec-Fetch-Site", site)).await, wrong, "{site}");
        }
        for host in ["evil.example", "tailops.evil.example"] {
            // A name that was made to lead here: its pages have it for their origin.
            let rebound = request().header("Host", host).header("Origin", format!("http://{host}"));
            assert_eq!(refused(&gateway, rebound).await, (403, "host_not_allowed".to_owned()));
        }
        let funnel = request().header("Tailscale-Funnel-Request", "?1");
        assert_eq!(refused(&gateway, funnel).await, (403, "funnel_refused".to_owned()));
    }
    for allowed in [
        bob.request("GET", WHOAMI).header("Origin", &own).header("Sec-Fetch-Site", "same-origin"),
        bob.request("GET", WHOAMI).header("Sec-Fetch-Site", "none"),
        bob.request("GET", WHOAMI).header("Origin", "http://console.example:3000"),
    ] {
        assert_eq!(send(allowed).await.status, 200);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_browser_that_asks_first_is_never_allowed() {
    let gateway = patient().await;
    let bob = People::of(&gateway).approver("bob", json!(true));
    for origin in ["http://evil.example", "http://console.example:3000"] {
        let asks = |request: reqwest::RequestBuilder| {
            let request = request.header("Origin", origin).header("Sec-Fetch-Site", "cross-site");
            request
                .header("Access-Control-Request-Method", "POST")
                .header("Access-Control-Request-Headers", "x-tailops-request")
        };
        assert_eq!(refused(&gateway, asks(bob.bare("OPTIONS", DECISION))).await.0, 403);
    }
    assert_eq!(refused(&gateway, bob.bare("OPTIONS", DECISION)).await, (403, "request_header".to_owned()));
    assert_eq!(refused(&gateway, bob.request("OPTIONS", DECISION)).await, (405, "method_not_allowed".to_owned()));
    gateway.stop().await;
}

#[tokio::test]
async fn only_people_get_in_and_a_token_makes_nobody_one() {
    let gateway = patient().await;
    let people = People::of(&gateway);
    let (agent, nobody) = (people.agent("agent"), people.person("nobody"));
    nobody.becomes(|peer| peer.user = None);
    let tagged = people.person("tagged");
    tagged.becomes(|peer| peer.tags = vec!["tag:laptop".to_owned()]);
    let token = gateway.mint(Grant::bound("admin", "tag:mcp-client")).await;
    agent.call(&token, "token_inspect", json!({})).await.data();
    let all = PATHS.iter().chain(&[("GET", "/api/v1/nowhere"), ("GET", "/api/"), ("DELETE", WHOAMI)]);
    for (method, path) in all {
        for node in [&agent, &nobody, &tagged] {
            let request = node.request(method, path).bearer_auth(&token);
            assert_eq!(refused(&gateway, request).await, (403, "not_a_person".to_owned()), "{method} {path}");
        }
    }
    // Whoever is a person stays one, whatever token comes along; and the token's own way needs it as before.
    let bob = people.approver("bob", json!(true));
    for token in ["rubbish", token.as_str()] {
        let who = send(bob.request("GET", WHOAMI).bearer_auth(token)).await;
        assert_eq!((who.status, &who.body["login"]), (200, &json!("bob@example.com")));
    }
    for path in ["/mcp", "/api", "/apis/v1/whoami", "//api/v1/whoami", "/API/v1/whoami", "/%61pi/v1/whoami"] {
        assert_eq!(send(bob.request("GET", path)).await.code(), "missing_token", "{path}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn peers_that_may_not_come_in_do_not() {
    let gateway = patient().await;
    let people = People::of(&gateway);
    let bob = people.approver("bob", json!(true));
    assert_eq!(bob.get(WHOAMI).await.status, 200);
    let peer = {
        let mut found = None;
        bob.becomes(|peer| found = Some(peer.clone()));
        found.unwrap()
    };
    gateway.peers_are(move |_| {
        Err(Unidentified::NotAdmitted { peer: Box::new(peer.clone()), why: NotAdmitted::SharedIn })
    });
    assert_eq!(refused(&gateway, bob.request("GET", WHOAMI)).await, (403, "peer_shared_in".to_owned()));
    gateway.peers_are(|address| Err(Unidentified::UnknownPeer(address)));
    assert_eq!(refused(&gateway, bob.request("POST", DECISION)).await, (403, "peer_unknown".to_owned()));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_there_for_people() {
    let gateway = patient().await;
    let bob = People::of(&gateway).approver("bob", json!(true));
    for path in [
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/api/v2/whoami",
        "/api/v1/whoami/",
        "/api/v1/approvals/a/b",
        "/api/v1/../v1/whoami/x",
    ] {
        assert_eq!(refused(&gateway, bob.request("GET", path)).await, (404, "unknown_path".to_owned()), "{path}");
    }
    for (method, path) in
        [("POST", WHOAMI), ("PUT", WHOAMI), ("DELETE", DECISION), ("GET", DECISION), ("PATCH", "/api/v1/approvals")]
    {
        assert_eq!(
            refused(&gateway, bob.request(method, path)).await,
            (405, "method_not_allowed".to_owned()),
            "{method}"
        );
    }
    let upgrade = bob.request("GET", WHOAMI).header("Connection", "Upgrade").header("Upgrade", "websocket");
    assert_eq!(send(upgrade).await.status, 200, "nothing is upgraded");
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_cannot_be_meant_is_refused_by_name() {
    let gateway = patient().await;
    let bob = People::of(&gateway).approver("bob", json!(true));
    let long = format!(r#"{{"decision":"approve","operation_hash":"0","comment":"{}"}}"#, "x".repeat(64 << 10));
    let deep = format!(r#"{{"decision":{}1{}}}"#, "[".repeat(2000), "]".repeat(2000));
    for (body, status, code) in [
        (long.as_str(), 413, "body_too_long"),
        (r#"{"decision":"deny","decision":"approve","operation_hash":"0"}"#, 400, "repeated_key"),
        (r#"{"decision":"deny","Decision":"approve","operation_hash":"0"}"#, 400, "repeated_key"),
        (r#"{"decision":"deny","operation_hash":"0"}{}"#, 400, "not_json"),
        ("approve", 400, "not_json"),
        ("\u{feff}{}", 400, "not_json"),
        (&deep, 400, "not_json"),
    ] {
        let found = refused(&gateway, bob.request("POST", DECISION).body(body.to_owned())).await;
        assert_eq!(found, (status, code.to_owned()), "{}", &body[..60.min(body.len())]);
    }
    for (body, named) in [
        ("", "`decision`"),
        ("{}", "`decision`"),
        (r#"{"decision":"approve"}"#, "`operation_hash`"),
        (r#"{"decision":"maybe","operation_hash":"0"}"#, "decision"),
        (r#"{"decision":"Approve","operation_hash":"0"}"#, "decision"),
        (r#"{"decision":"approve","operation_hash":7}"#, "operation_hash"),
        (r#"{"decision":"approve","operation_hash":"0","comment":null}"#, "comment"),
        (r#"{"decision":"approve","operation_hash":"0","login":"carol@example.com"}"#, "`login`"),
        ("[]", "struct Decision"),
    ] {
        let answer = send(bob.request("POST", DECISION).body(body)).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_arguments"), "{body}: {answer:?}");
        assert!(answer.body["message"].as_str().unwrap().contains(named), "{body}: {answer:?}");
    }
    let query = send(bob.request("POST", &format!("{DECISION}?decision=approve")).json(&json!({}))).await;
    assert_eq!(query.code(), "invalid_arguments", "{query:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn too_many_requests_of_one_person_are_put_off() {
    let gateway = Gateway::start().await;
    let people = People::of(&gateway);
    let (bob, carol) = (people.approver("bob", json!(true)), people.approver("carol", json!(true)));
    let phone = people.join(
        "phone",
        crate::harness::Behind::User("Bob@example.com"),
        crate::harness::grants(json!([{"scopes": ["readonly"]}])),
    );
    let ask = async |who: &Visitor| -> Response {
        who.request("POST", DECISION).json(&json!({"decision": "deny", "operation_hash": "0"})).send().await.unwrap()
    };
    let mut admitted = 0;
    let limited = loop {
        // By turns from two nodes: it is the same person.
        let response = ask(if admitted % 2 == 0 { &bob } else { &phone }).await;
        if response.status() != 404 {
            break response;
        }
        admitted += 1;
        assert!(admitted < 200, "nothing limits");
    };
    assert!(admitted >= 60, "{admitted}");
    assert_eq!(limited.status(), 429);
    let wait: u64 = limited.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    guarded(limited.headers());
    assert_eq!(limited.json::<Value>().await.unwrap()["code"], "rate_limited");
    assert_eq!(carol.get(WHOAMI).await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn what_a_page_makes_a_browser_send_uses_up_nothing() {
    let gateway = Gateway::start().await;
    let bob = People::of(&gateway).approver("bob", json!(true));
    let mut codes = Vec::new();
    for _ in 0..100 {
        let sent =
            bob.bare("GET", WHOAMI).header("Origin", "http://evil.example").header("Sec-Fetch-Site", "cross-site");
        codes.push(send(sent).await.code().to_owned());
    }
    assert_eq!((codes[0].as_str(), codes[99].as_str()), ("origin_not_allowed", "rate_limited"));
    assert_eq!(bob.get(WHOAMI).await.status, 200, "the person behind the browser still decides");
    gateway.stop().await;
}

#[tokio::test]
async fn reading_is_not_recorded() {
    let gateway = Gateway::start().await;
    let bob = People::of(&gateway).approver("bob", json!(true));
    for path in [WHOAMI, "/api/v1/approvals", "/api/v1/openapi.json"] {
        let response = bob.request("GET", path).send().await.unwrap();
        guarded(response.headers());
        assert_eq!((response.status().as_u16(), response.headers().contains_key("x-correlation-id")), (200, true));
    }
    assert!(gateway.records().await.is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn the_socket_on_the_host_asks_for_the_same_things() {
    let gateway = Gateway::start().await;
    for (method, path) in PATHS {
        for headers in
            [&[][..], &[("x-tailops-request", "0")], &[("x-tailops-request", "1"), ("x-tailops-request", "1")]]
        {
            let answer = on_host_with(&gateway, method, path, None, headers).await;
            assert_eq!((answer.status, answer.code()), (403, "request_header"), "{method} {path} {headers:?}");
        }
    }
    assert_eq!(on_host(&gateway, "GET", "/api/v1/nowhere", None).await.code(), "unknown_path");
    assert_eq!(on_host(&gateway, "PUT", WHOAMI, None).await.code(), "method_not_allowed");
    let long = json!({"decision": "approve", "operation_hash": "0", "comment": "x".repeat(64 << 10)});
    assert_eq!(on_host(&gateway, "POST", DECISION, Some(long)).await.code(), "body_too_long");
    let unknown =
        on_host(&gateway, "POST", DECISION, Some(json!({"decision": "approve", "operation_hash": "0"}))).await;
    assert_eq!((unknown.status, unknown.code()), (404, "approval_unknown"), "{unknown:?}");
    assert_eq!(on_host_with(&gateway, "GET", "/v1/report", None, &[]).await.status, 200);
    assert_eq!(on_host(&gateway, "POST", "/mcp", None).await.status, 404, "agents do not come this way");
    gateway.stop().await;
}
