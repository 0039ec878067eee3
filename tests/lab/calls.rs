//! Who calls: users and agents are served and recorded as who they are, and everybody else is refused, over each way to
//! be on the tailnet.

use std::net::IpAddr;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::{
    client::{Silence, answer, http},
    control::DOMAIN,
    node::Node,
    policy::{self, PORT},
    site::{Site, Way},
    wait::until,
};

over_every_way![
    calls_are_on_record_with_who_made_them,
    a_peer_without_a_grant_is_dropped,
    a_peer_with_network_but_no_capability_is_refused,
    a_token_is_worth_no_more_than_the_grant,
    a_stolen_token_is_refused,
    headers_do_not_say_who_calls,
    the_gateway_is_no_peer_of_its_own,
    its_name_is_answered_to_and_no_other,
];

/// A record of what `node` did.
fn is_of(node: &Node) -> impl Fn(&Value) -> bool {
    let id = node.id();
    move |record| record["tailscale"]["tailscale_node_id"] == id.as_str()
}

fn calls_are_on_record_with_who_made_them(site: &Site) {
    let lab = site.lab;
    let of_alice = site.token("readonly", "user:alice@example.com");
    let of_agent = site.token("readonly", "tag:mcp-client");
    for pick in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        let url = format!("http://{}/mcp", site.address(pick));
        for (node, token, user, tags) in [
            (&lab.alice, &of_alice, json!("alice@example.com"), json!([])),
            (&lab.agent, &of_agent, Value::Null, json!(["tag:mcp-client"])),
        ] {
            let answer = node.machine.call(&url, Some(token), "token_inspect", json!({})).unwrap();
            assert_eq!(answer.data()["subject"], "lab");
            let record = site.last_record(|record| record["tool"] == "token_inspect");
            assert_eq!((&record["status"], &record["kind"]), (&json!("ok"), &json!("call")));
            let peer = &record["tailscale"];
            assert_eq!((&peer["tailscale_node_id"], &peer["tailscale_user"]), (&json!(node.id()), &user), "{peer}");
            assert_eq!(peer["tailscale_tags"], tags, "{peer}");
            assert!(peer["tailscale_node"].as_str().unwrap().starts_with(&node.machine.name), "{peer}");
            assert_eq!(peer["tailnet"], DOMAIN, "{peer}");
            let address: std::net::SocketAddr = peer["address"].as_str().unwrap().parse().unwrap();
            assert_eq!(node.addresses().into_iter().find(pick), Some(address.ip()), "{peer}");
            assert!(address.port() > 0);
            for key in ["timestamp", "tool", "subject", "args", "result_status", "scopes", "risk_level", "approved"] {
                assert!(record.get(key).is_some(), "{key}: {record}");
            }
        }
    }
    lab.alice.machine.converse(&site.url(), &of_alice, async |client| {
        let tools = client.list_all_tools().await.unwrap();
        assert!(tools.iter().any(|tool| tool.name == "token_inspect"));
    });
}

fn a_peer_without_a_grant_is_dropped(site: &Site) {
    let lab = site.lab;
    let token = site.token("readonly", "user:bob@example.com");
    assert_eq!(site.call(&lab.bob, &token).unwrap_err(), Silence::Unreachable, "he does not even know the node");
    // With a grant for another port he does, and its packet filter drops what he sends to this one.
    let elsewhere = policy::network(&["bob@"], "tag:tailops", PORT + 1);
    lab.control.set_policy(&policy::with(&[policy::alice(), policy::agent(), policy::targets(), elsewhere]));
    until("he knows the node", || lab.bob.knows(&site.id));
    assert_eq!(site.call(&lab.bob, &token).unwrap_err(), Silence::Dropped);
    assert!(!site.records().iter().any(is_of(&site.lab.bob)), "nothing of it reached the gateway");
}

fn a_peer_with_network_but_no_capability_is_refused(site: &Site) {
    let lab = site.lab;
    let bob = policy::network(&["bob@"], "tag:tailops", PORT);
    lab.control.set_policy(&policy::with(&[policy::alice(), policy::agent(), policy::targets(), bob]));
    until("bob's packets get through", || site.is_reached_by(&lab.bob));
    let token = site.token("readonly", "user:bob@example.com");
    let answer = site.call(&lab.bob, &token).unwrap();
    assert_eq!((answer.status, answer.code()), (403, "peer_no_grant"), "{}", answer.body);
    let record = site.last_record(is_of(&lab.bob));
    assert_eq!((&record["status"], &record["code"]), (&json!("denied"), &json!(answer.code())), "{record}");
    assert_eq!(record["tailscale"]["tailscale_user"], "bob@example.com");
}

fn a_token_is_worth_no_more_than_the_grant(site: &Site) {
    let lab = site.lab;
    let probe = json!({"target": "local", "from": "gateway", "kind": "tcp", "host": "10.99.0.1", "port": 8080});
    let (of_agent, of_alice) = (site.token("admin", "tag:mcp-client"), site.token("admin", "user:alice@example.com"));
    let answer = lab.alice.machine.call(&site.url(), Some(&of_alice), "network_probe", probe.clone()).unwrap();
    answer.data();
    let answer = lab.agent.machine.call(&site.url(), Some(&of_agent), "network_probe", probe).unwrap();
    assert_eq!((answer.status, answer.code()), (200, "insufficient_grant"), "{}", answer.body);
    let record = site.last_record(is_of(&lab.agent));
    assert_eq!((&record["tool"], &record["status"]), (&json!("network_probe"), &json!("denied")), "{record}");
}

fn headers_do_not_say_who_calls(site: &Site) {
    let lab = site.lab;
    let token = site.token("readonly", "tag:mcp-client");
    let answer = lab.agent.machine.visit(|| async {
        let mut lies = HeaderMap::new();
        for (name, lie) in [
            ("tailscale-user-login", "alice@example.com"),
            ("tailscale-user-name", "Alice"),
            ("tailscale-app-capabilities", r#"{"tailops.dev/cap/gateway":[{"scopes":["admin"]}]}"#),
            ("x-forwarded-for", "100.64.0.99"),
            ("forwarded", "for=100.64.0.99"),
        ] {
            lies.insert(name, lie.parse().unwrap());
        }
        let http = http().default_headers(lies).build().unwrap();
        crate::client::call(&http, &site.url(), Some(&token), "token_inspect", json!({})).await.unwrap()
    });
    answer.data();
    let record = site.last_record(|record| record["tool"] == "token_inspect");
    assert!(is_of(&lab.agent)(&record), "{record}");
    assert_eq!(record["tailscale"]["tailscale_user"], Value::Null);
}

fn a_stolen_token_is_refused(site: &Site) {
    let lab = site.lab;
    let token = site.token("readonly", &format!("node:{}", lab.agent.id()));
    site.call(&lab.agent, &token).unwrap().data();
    let answer = site.call(&lab.thief, &token).unwrap();
    assert_eq!((answer.status, answer.code()), (403, "token_unexpected_source"));
    let record = site.last_record(|record| record["code"] == "token_unexpected_source");
    assert!(is_of(&lab.thief)(&record), "{record}");
    assert_eq!((&record["kind"], &record["status"]), (&json!("refusal"), &json!("denied")));
    // Its owner can still use it.
    site.call(&lab.agent, &token).unwrap().data();
}

fn the_gateway_is_no_peer_of_its_own(site: &Site) {
    let token = site.token("readonly", "tag:tailops");
    for pick in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        let url = format!("http://{}/mcp", site.address(pick));
        match site.machine.call(&url, Some(&token), "token_inspect", json!({})) {
            Ok(answer) => assert_eq!((answer.status, answer.code()), (403, "peer_own_node"), "{}", answer.body),
            // Where the node is a process of its own, its addresses are not the machine's.
            Err(silence) => assert!(site.way != Way::Host, "{silence:?}"),
        }
    }
    assert!(!site.records().iter().any(|record| record["tool"] == "token_inspect"));
}

fn its_name_is_answered_to_and_no_other(site: &Site) {
    let lab = site.lab;
    let token = site.token("readonly", "user:alice@example.com");
    let resolved = lab.alice.resolve(&site.name);
    assert_eq!(resolved, [site.ipv4().ip()]);
    let foreign = "gateway.example.com";
    let ask = |name: &str| {
        let to = std::net::SocketAddr::new(resolved[0], PORT);
        let url = format!("http://{name}:{PORT}/mcp");
        lab.alice.machine.visit(|| async {
            let http = http().resolve(name, to).build().unwrap();
            crate::client::call(&http, &url, Some(&token), "token_inspect", json!({})).await
        })
    };
    ask(&site.name).unwrap().data();
    let answer = ask(foreign).unwrap();
    assert_eq!((answer.status, answer.code()), (403, "host_not_allowed"));
    // The same by a header that the connection knows nothing of.
    let lied = lab.alice.machine.visit(|| async {
        let request = http().build().unwrap().post(site.url()).header("Host", foreign).bearer_auth(&token);
        answer_of(request).await
    });
    assert_eq!((lied.status, lied.code()), (403, "host_not_allowed"));
}

async fn answer_of(request: reqwest::RequestBuilder) -> crate::client::Answer {
    answer(request).await.unwrap()
}
