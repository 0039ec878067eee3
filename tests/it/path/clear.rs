//! Plain HTTP where others could read it (P12): the service does not start.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use tailops::{app::StartError, config::Tls};

use crate::{
    child::BINARY,
    scripted::{Said, not_started},
};

/// The exit code and what was said, of a command with a configuration.
fn run(directory: &std::path::Path, arguments: &[&str], configuration: &str) -> (Option<i32>, String) {
    let file = directory.join("tailops.toml");
    fs::write(&file, configuration).unwrap();
    let output =
        Command::new(BINARY).args(arguments).arg(&file).arg("--data-dir").arg(directory.join("data")).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn p12_a_listener_that_others_reach_needs_tls() {
    let directory = tempfile::tempdir().unwrap();
    let configuration = |listen: &str, more: &str| {
        format!(
            "profile = \"development\"\n[node]\nmode = \"host\"\nlisten = {listen}\nsocket = \"/nonexistent/ts.sock\"\n{more}"
        )
    };
    for listen in ["\"0.0.0.0:8080\"", "\"[::]:8080\"", "\"192.168.1.4:8080\"", "[\"127.0.0.1:1\", \"10.1.2.3:8080\"]"]
    {
        for arguments in [&["config", "check"][..], &["serve", "--config"]] {
            let (code, said) = run(directory.path(), arguments, &configuration(listen, ""));
            assert_eq!(code, Some(3), "{arguments:?} {listen}: {said}");
            let address = listen.trim_matches(['[', ']', '"']).rsplit('"').next().unwrap();
            for part in [address, "node.listen", "plain HTTP", "tls.certificate_from"] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
    }
    let tls = "[tls]\ncertificate_from = \"node\"\n";
    for (listen, more) in [("\"0.0.0.0:8080\"", tls), ("\"127.0.0.1:8080\"", ""), ("\"100.64.0.1:8080\"", "")] {
        let (code, said) = run(directory.path(), &["config", "check"], &configuration(listen, more));
        assert_eq!(code, Some(0), "{listen}: {said}");
    }
}

#[tokio::test]
async fn p12_an_address_must_really_be_the_nodes() {
    for claimed in ["100.64.0.99:8080", "192.0.2.1:8080", "0.0.0.0:8080", "[fd7a:115c:a1e0::99]:8080"] {
        let refused = not_started(Said::on_tailnet(None), claimed, |_| {}).await.expect(claimed);
        assert!(
            matches!(&refused, StartError::Clear(listener) if listener.0 == claimed.parse::<SocketAddr>().unwrap())
        );
        assert!(refused.is_of_configuration() && refused.to_string().contains(claimed), "{refused}");
    }
    for claimed in ["100.64.0.1:8080", "[fd7a:115c:a1e0::1]:8080", "127.0.0.1:8080", "[::1]:8080"] {
        assert!(not_started(Said::on_tailnet(None), claimed, |_| {}).await.is_none(), "{claimed}");
    }
    assert!(not_started(Said::on_tailnet(None), "192.0.2.1:8080", |config| config.tls = Tls::Node).await.is_none());
}

#[tokio::test]
async fn a_certificate_that_cannot_be_served_stops_the_start() {
    let missing =
        Tls::Files { certificate: PathBuf::from("/nonexistent/chain.pem"), key: PathBuf::from("/nonexistent/key") };
    let refused = not_started(Said::on_tailnet(None), "127.0.0.1:1", |config| config.tls = missing).await.unwrap();
    assert!(matches!(refused, StartError::Tls(_)) && refused.is_of_configuration());
    assert!(refused.to_string().contains("tls.certificate_file: /nonexistent/chain.pem"), "{refused}");
}

#[tokio::test]
async fn p13_proxies_that_cannot_be_told_from_peers_stop_the_start() {
    let said = Said::on_tailnet(None);
    said.status_is(|status| status.userspace = true);
    let refused = not_started(said, "127.0.0.1:1", |config| config.http.trusted_proxies = [0].into()).await.unwrap();
    assert!(matches!(refused, StartError::Relays) && refused.is_of_configuration());
    assert!(refused.to_string().contains("http.trusted_proxies"), "{refused}");
}
