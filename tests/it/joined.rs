//! The binary in host mode: it joins by the configuration, and says what is in its way.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Reply},
    served::{Place, Served, refuses, serve},
};

/// A daemon without a network device on this tailnet; it knows the nodes at these local addresses.
fn daemon(nodes: BTreeMap<&'static str, Value>) -> Daemon {
    Daemon::start(move |head| {
        if head.contains("/status") {
            return Reply::Json(json!({
                "TUN": false, "BackendState": "Running", "MagicDNSSuffix": "lab.test",
                "Self": {"ID": "nGateway", "DNSName": "tailops.lab.test.", "TailscaleIPs": ["100.64.0.2"]},
            }));
        }
        let known = nodes.iter().find(|(address, _)| head.contains(&format!("addr={address}%3A")));
        known.map_or(Reply::Status(404, "no match for IP:port".to_owned()), |(_, node)| Reply::Json(node.clone()))
    })
}

fn place(daemon: &Daemon, node: &str) -> Place {
    let socket = daemon.socket().display();
    Place::with(&format!(
        "data_dir = \"DATA\"\nlog.format = \"json\"\n\
         node.mode = \"host\"\nnode.socket = \"{socket}\"\n{node}\n[engagements.default]\n"
    ))
}

#[tokio::test]
async fn it_serves_whom_the_daemon_knows_and_no_local_process() {
    let alice = json!({
        "Node": {"StableID": "nAlice", "Name": "laptop.lab.test.", "Addresses": ["100.64.0.7/32"]},
        "UserProfile": {"LoginName": "alice@example.com"},
        "CapMap": {"tailops.dev/cap/gateway": [{"scopes": ["readonly"]}]},
    });
    let daemon = daemon([("127.0.0.11", alice)].into());
    let place = place(&daemon, "node.listen = \"127.0.0.1:0\"");
    let served = Served::start(&place).await;
    let code = async |from: &str| {
        let http = crate::harness::http_client().local_address(from.parse::<std::net::IpAddr>().unwrap());
        let response = http.build().unwrap().get(&served.url).header("Host", "tailops.lab.test").send().await.unwrap();
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        body["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code("127.0.0.1").await, "peer_unknown");
    assert_eq!(code("127.0.0.11").await, "missing_token");
    served.stop().await;
    let records = place.records().await;
    let ids: Vec<&Value> = records.iter().filter(|record| !record["http"].is_null()).collect();
    assert_eq!(ids.len(), 2, "{records:?}");
    assert_eq!(ids[0]["tailscale"]["tailscale_node_id"], Value::Null);
    assert_eq!(ids[1]["tailscale"]["tailscale_node_id"], "nAlice");
}

#[tokio::test]
async fn a_port_in_use_has_an_exit_code_of_its_own() {
    let daemon = daemon(BTreeMap::new());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for node in [format!("node.port = {}", address.port()), format!("node.listen = \"{address}\"")] {
        let (code, said) = refuses(&mut serve(&place(&daemon, &node).file)).await;
        assert_eq!(code, 4, "{said}");
        assert!(said.contains(&format!("{address} is in use")) && said.contains("`node.port`"), "{said}");
    }
}
