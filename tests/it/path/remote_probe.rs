//! Probes from a host behind SSH: what they may reach is decided here, and the host gets the one address that was checked.

use serde_json::{Value, json};

use super::probe::{Names, OK, Server, rules};
use crate::{
    harness::Answer,
    remote::{Difference, REMOTE, Remote},
};

/// A host behind SSH that may probe these networks and URLs, without approval.
async fn scene(names: std::sync::Arc<Names>, networks: &'static [&'static str], urls: Vec<String>) -> Remote {
    let config = Box::new(move |config: &mut tailops::config::Config| {
        let urls: Vec<(&str, bool)> = urls.iter().map(|url| (url.as_str(), true)).collect();
        config.probe = rules(networks, &urls);
    });
    Remote::with(Difference { config, resolver: names, ..Difference::default() }).await
}

async fn probe(remote: &Remote, tool: &str, mut arguments: Value) -> Answer {
    arguments["target"] = json!(REMOTE);
    arguments["from"] = json!("target");
    let token = remote.gateway.admin().await;
    remote.gateway.call(&token, tool, arguments).await
}

#[tokio::test]
async fn p33_the_host_itself_its_metadata_and_its_neighbours_are_not_asked() {
    let server = Server::saying(OK).await;
    let hosts = ["127.0.0.1", "[::1]", "169.254.169.254", "10.0.0.1", "192.168.1.1", "100.64.0.1", "[fd00:ec2::254]"];
    let urls: Vec<String> = hosts.iter().map(|host| format!("http://{host}:{}/", server.port)).collect();
    let remote = scene(Names::new([]), &[], urls.clone()).await;
    for url in urls {
        let answer = probe(&remote, "http_probe", json!({"url": url, "method": "GET"})).await;
        assert_eq!(answer.code(), "address_refused", "{url}");
    }
    for host in hosts {
        for kind in ["tcp", "tls", "ping", "trace"] {
            let mut call = json!({"kind": kind, "host": host});
            if ["tcp", "tls"].contains(&kind) {
                call["port"] = json!(server.port);
            }
            let answer = probe(&remote, "network_probe", call).await;
            assert_eq!(answer.code(), "address_refused", "{kind} {host}: {answer:?}");
        }
    }
    assert_eq!((remote.commands(), server.requests()), (0, 0));
    remote.gateway.stop().await;
}

#[tokio::test]
async fn p33_a_name_that_leads_inside_or_moves_is_used_as_it_was_checked() {
    let server = Server::saying(OK).await;
    let url = format!("http://web.example:{}/", server.port);
    // The host would find another address, and so would a second look.
    for inside in [&["127.0.0.1"][..], &["8.8.8.8", "10.0.0.1"], &["::ffff:127.0.0.1"]] {
        let names = Names::new([inside, &["127.0.0.1"]]);
        let remote = scene(names.clone(), &[], vec![url.clone()]).await;
        let answer = probe(&remote, "http_probe", json!({"url": url, "method": "GET"})).await;
        assert_eq!((answer.code(), names.asked(), remote.commands()), ("address_refused", 1, 0), "{answer:?}");
        remote.gateway.stop().await;
    }
    let names = Names::new([&["127.0.0.1"], &["127.0.0.2"]]);
    let remote = scene(names.clone(), &["127.0.0.1/32"], vec![url.clone()]).await;
    let answer = probe(&remote, "http_probe", json!({"url": url, "method": "GET"})).await;
    let data = answer.data();
    let has_curl = answer.content()["partial"].is_null();
    if has_curl {
        assert_eq!((&data["status"], &data["address"]), (&json!(200), &json!("127.0.0.1")), "{data}");
    }
    assert_eq!((names.asked(), server.requests(), remote.commands()), (1, usize::from(has_curl), 1));
    remote.gateway.stop().await;
}

#[tokio::test]
async fn p33_a_redirect_inside_is_told_and_a_url_that_is_not_listed_is_not_asked() {
    let inside = Server::saying(OK).await;
    let location = format!("http://127.0.0.1:{}/private", inside.port);
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
    let server = Server::saying(moved).await;
    let url = format!("http://127.0.0.1:{}/open", server.port);
    let remote = scene(Names::new([]), &["127.0.0.1/32"], vec![url.clone()]).await;
    let answer = probe(&remote, "http_probe", json!({"url": url, "method": "GET"})).await;
    if answer.content()["partial"].is_null() {
        assert_eq!((&answer.data()["status"], &answer.data()["redirect_to"]), (&json!(302), &json!(location)));
    }
    let before = remote.commands();
    for url in [location, url.replace("open", "other"), "file:///etc/passwd".to_owned(), "http://[::1]/".to_owned()] {
        let answer = probe(&remote, "http_probe", json!({"url": url, "method": "GET"})).await;
        assert!(
            ["not_allowlisted", "invalid_arguments", "address_refused"].contains(&answer.code()),
            "{url}: {answer:?}"
        );
    }
    assert_eq!((remote.commands(), inside.requests()), (before, 0));
    remote.gateway.stop().await;
}

#[tokio::test]
async fn a_port_of_the_host_is_reached_from_there_where_it_may_be() {
    let server = Server::saying(OK).await;
    let remote = scene(Names::new([]), &["127.0.0.1/32"], Vec::new()).await;
    let call = json!({"kind": "tcp", "host": "127.0.0.1", "port": server.port});
    let answer = probe(&remote, "network_probe", call).await;
    assert_eq!((&answer.data()["from"], remote.commands()), (&json!("target"), 1), "{answer:?}");
    if answer.content()["partial"].is_null() {
        assert_eq!(answer.data()["ok"], true, "{answer:?}");
    }
    remote.gateway.stop().await;
}
