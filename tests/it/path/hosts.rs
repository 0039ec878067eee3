//! The names of the gateway on a tailnet, and headers that speak of somebody else.

use serde_json::{Value, json};
use tailops::tailnet::NodeState;

use crate::scripted::{Said, Wire, gateway, request};

#[tokio::test]
async fn p15_the_names_of_the_node_are_accepted_and_no_others() {
    let (gateway, said) = gateway(Said::on_tailnet(None), |_| {}).await;
    let token = gateway.admin().await;
    for host in ["tailops", "TAILOPS.example.ts.net.:8080", "100.64.0.1:8080", "[fd7a:115c:a1e0::1]:8080"] {
        let mut wire = Wire::to(&gateway).await;
        let (status, body) =
            wire.call_with(&format!("Host: {host}\r\n"), &token, "token_inspect", json!({})).await.unwrap();
        assert_eq!(status, 200, "{host}: {body}");
    }
    for hosts in [
        "Host: localhost\r\n",
        "Host: 127.0.0.1\r\n",
        "Host: [::1]\r\n",
        "Host: evil.example\r\n",
        "Host: tailops.evil.example\r\n",
        "Host: evil@tailops\r\n",
        "Host: tailops@evil.example\r\n",
        "Host: tailops\r\nHost: tailops\r\n",
        "Host: tailops\r\nHost: evil.example\r\n",
        "Host: \r\n",
        "Host: 100.64.0.2\r\n",
        "X-Forwarded-Host: tailops\r\nHost: evil.example\r\n",
        "Forwarded: host=tailops\r\nHost: evil.example\r\n",
    ] {
        let mut wire = Wire::to(&gateway).await;
        let (status, body) = wire.call_with(hosts, &token, "token_inspect", json!({})).await.unwrap();
        assert_eq!((status, &body["code"]), (403, &json!("host_not_allowed")), "{hosts:?}");
    }
    said.status_is(|status| status.own.as_mut().unwrap().name = "tailops-1.example.ts.net".to_owned());
    let mut wire = Wire::to(&gateway).await;
    let renamed = wire.call_with("Host: tailops-1\r\n", &token, "token_inspect", json!({})).await.unwrap();
    assert_eq!(renamed.0, 200, "the name it has now");
    assert_eq!(wire.call(&token, "token_inspect", json!({})).await.unwrap().0, 403, "the name it had");
    gateway.stop().await;
}

#[tokio::test]
async fn p15_the_request_line_cannot_name_another_host() {
    let (gateway, _) = gateway(Said::on_tailnet(None), |_| {}).await;
    let token = gateway.admin().await;
    for (line, status) in [("http://evil.example/mcp", 403), ("http://tailops:1/mcp", 200)] {
        let (head, body) = request("Host: tailops\r\n", &token, "token_inspect", &json!({}));
        let mut wire = Wire::to(&gateway).await;
        wire.send(&head.replacen("/mcp", line, 1), &body).await.unwrap();
        assert_eq!(wire.answer().await.unwrap().0, status, "{line}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_funnel_lets_in_is_refused() {
    let (gateway, _) = gateway(Said::on_tailnet(None), |_| {}).await;
    let token = gateway.admin().await;
    for value in ["?1", "?0", ""] {
        let mut wire = Wire::to(&gateway).await;
        let headers = format!("Host: tailops\r\nTailscale-Funnel-Request: {value}\r\n");
        let (status, body) = wire.call_with(&headers, &token, "token_inspect", json!({})).await.unwrap();
        assert_eq!((status, &body["code"]), (403, &json!("funnel_refused")));
    }
    let records = gateway.records().await;
    let refused: Vec<&Value> = records.iter().filter(|record| record["code"] == "funnel_refused").collect();
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|record| record["subject"] == json!(null)), "no token was looked at");
    gateway.stop().await;
}

#[tokio::test]
async fn readiness_names_the_check_that_fails() {
    let (gateway, said) = gateway(Said::on_tailnet(None), |_| {}).await;
    let token = gateway.admin().await;
    let mut wire = Wire::to(&gateway).await;
    let mut ready = async || {
        let head = format!("GET /readyz HTTP/1.1\r\nHost: tailops\r\nAuthorization: Bearer {token}\r\n");
        wire.send(&head, "").await.unwrap();
        let (status, _, body) = wire.answer().await.unwrap();
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let checks = |tailnet: bool| json!({"ready": tailnet, "checks": {"audit": true, "tailnet": tailnet, "notifications": true, "tokens": true}});
    assert_eq!(ready().await, (200, checks(true)));
    for state in [NodeState::Starting, NodeState::NeedsLogin, NodeState::Unreachable("gone".to_owned())] {
        said.status_is(|status| status.state = state);
        assert_eq!(ready().await, (503, checks(false)), "it keeps its word");
    }
    said.status_is(|status| status.state = NodeState::Running);
    assert_eq!(ready().await, (200, checks(true)));
    gateway.stop().await;
}
