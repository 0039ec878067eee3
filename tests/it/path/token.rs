//! The bearer token: format, life, binding, revocation, keys.

use std::{os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::json;
use tailops::{
    auth::{AuthFault, Authenticator, Sealed, rotate_key},
    model::{Clock, SystemClock},
    store::Store,
};

use crate::harness::{Gateway, Grant, alice, eventually, modern, peer_of, within};

#[tokio::test]
async fn every_flipped_bit_is_refused() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let authenticator =
        Authenticator::open(gateway.store().clone(), gateway.config.data_dir.clone(), clock).await.unwrap();
    let peer = Arc::new(alice(gateway.address));
    authenticator.authenticate(&peer, Some(&token)).await.unwrap();
    let mut flips = 0;
    for index in 0..token.len() {
        for bit in 0..8 {
            let mut bytes = token.clone().into_bytes();
            bytes[index] ^= 1 << bit;
            // What is not UTF-8 cannot come out of a header at all.
            let Ok(flipped) = String::from_utf8(bytes) else { continue };
            let fault = authenticator.authenticate(&peer, Some(&flipped)).await.unwrap_err();
            assert!(matches!(fault, AuthFault::Invalid(_)), "byte {index} bit {bit}: {fault:?}");
            flips += 1;
        }
    }
    assert!(flips >= token.len() * 7, "{flips}");
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_no_token_is_told_so_in_the_standard_way() {
    let gateway = Gateway::start().await;
    let cases = [
        (None, "missing_token", "invalid_request"),
        (Some("tailops_x.y.z"), "invalid_token", "invalid_token"),
        (Some("eyJhbGciOiJub25lIn0.e30."), "invalid_token", "invalid_token"),
    ];
    for (token, code, error) in cases {
        let request = modern(&gateway.http, &gateway.url("/mcp"), token, "token_inspect", json!({}));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401);
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        assert!(challenge.starts_with(&format!(r#"Bearer error="{error}", error_description="{code}"#)), "{challenge}");
        assert!(!challenge.contains("resource_metadata"));
    }
    // Two Authorization headers could be read two ways.
    let token = gateway.admin().await;
    let twice = modern(&gateway.http, &gateway.url("/mcp"), Some(&token), "token_inspect", json!({}));
    let answer = gateway.send(twice.header("Authorization", "Bearer x")).await;
    assert_eq!((answer.status, answer.code()), (401, "missing_token"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_ends_when_it_says() {
    let gateway = Gateway::start().await;
    let token = gateway.mint(Grant { ttl: Duration::from_secs(60), ..Grant::default() }).await;
    gateway.call(&token, "token_inspect", json!({})).await.data();
    // Stamps are whole seconds, and a slow machine takes some itself: not too close to the end.
    gateway.clock.advance(Duration::from_secs(45));
    gateway.call(&token, "token_inspect", json!({})).await.data();
    gateway.clock.advance(Duration::from_secs(16));
    let answer = gateway.call(&token, "token_inspect", json!({})).await;
    assert_eq!((answer.status, answer.code()), (401, "token_expired"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_works_only_from_the_peer_it_is_bound_to() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    gateway.peers_are(|address| Ok(peer_of(4002, "bob", address)));
    let answer = gateway.call(&token, "token_inspect", json!({})).await;
    assert_eq!((answer.status, answer.code()), (403, "token_unexpected_source"));
    let record = &gateway.records_of(&answer).await[0];
    assert_eq!(record["tailscale"]["tailscale_user"], "bob", "the record names who really called");
    gateway.stop().await;
}

#[tokio::test]
async fn revocation_by_another_process_is_felt_within_a_second_and_after_a_restart() {
    let gateway = Gateway::start().await;
    let (token, other) = (gateway.admin().await, gateway.admin().await);
    let jti = gateway.call(&token, "token_inspect", json!({})).await.data()["jti"].as_str().unwrap().to_owned();
    let elsewhere = Store::open(&gateway.config.data_dir).await.unwrap();
    let revoked = elsewhere.revoke_tokens(Some(&jti), SystemClock.now(), "tester").await.unwrap();
    assert_eq!(revoked, std::slice::from_ref(&jti));
    let code = async || gateway.call(&token, "token_inspect", json!({})).await.code().to_owned();
    within(Duration::from_secs(1), "it is refused", async || code().await == "token_revoked").await;
    gateway.call(&other, "token_inspect", json!({})).await.data();
    elsewhere.close().await;
    let (directory, config) = gateway.stop().await;
    let gateway = Gateway::on(directory, config).await;
    assert_eq!(gateway.call(&token, "token_inspect", json!({})).await.code(), "token_revoked");
    gateway.call(&other, "token_inspect", json!({})).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn a_new_key_ends_old_tokens_at_once_or_after_the_grace() {
    let gateway = Gateway::start().await;
    let (directory, store) = (gateway.config.data_dir.clone(), gateway.store().clone());
    let old = gateway.admin().await;
    rotate_key(&store, &directory, gateway.clock.now(), Duration::from_secs(600)).await.unwrap();
    let new = gateway.admin().await;
    eventually("the new key is known", || async { gateway.call(&new, "token_inspect", json!({})).await.status == 200 })
        .await;
    gateway.call(&old, "token_inspect", json!({})).await.data();
    gateway.clock.advance(Duration::from_secs(601));
    let answer = gateway.call(&old, "token_inspect", json!({})).await;
    assert_eq!((answer.status, answer.code()), (401, "invalid_token"));
    gateway.call(&new, "token_inspect", json!({})).await.data();
    rotate_key(&store, &directory, gateway.clock.now(), Duration::ZERO).await.unwrap();
    eventually("the kill switch works", || async {
        gateway.call(&new, "token_inspect", json!({})).await.status == 401
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_signed_token_that_nobody_registered_is_refused() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let fresh = tempfile::tempdir().unwrap();
    let elsewhere = fresh.path().join("data");
    std::fs::create_dir(&elsewhere).unwrap();
    // The same key, another database: a thief with the key file alone, or a restored backup.
    std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o700)).unwrap();
    let store = Store::open(&elsewhere).await.unwrap();
    let key_id = Sealed::parse(&token).unwrap().key_id.to_owned();
    store.add_token_key(&key_id, SystemClock.now(), SystemClock.now()).await.unwrap();
    std::fs::create_dir(elsewhere.join("keys")).unwrap();
    std::fs::set_permissions(elsewhere.join("keys"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let file = format!("keys/{key_id}.key");
    std::fs::copy(gateway.config.data_dir.join(&file), elsewhere.join(&file)).unwrap();
    let authenticator = Authenticator::open(store, elsewhere, Arc::new(SystemClock)).await.unwrap();
    let fault = authenticator.authenticate(&Arc::new(alice(gateway.address)), Some(&token)).await.unwrap_err();
    assert_eq!(fault, AuthFault::Invalid("unknown id"));
    gateway.stop().await;
}

#[tokio::test]
async fn keys_that_others_can_read_are_refused_with_the_mend() {
    let gateway = Gateway::start().await;
    let directory = gateway.config.data_dir.clone();
    gateway.admin().await;
    let key = std::fs::read_dir(directory.join("keys")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(directory.join("keys")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(directory.join("tailops.db")).unwrap().permissions().mode() & 0o777, 0o600);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    for (path, mode, mend) in [(&key, 0o644, "chmod 0600"), (&directory.join("keys"), 0o750, "chmod 0700")] {
        let right = std::fs::metadata(path).unwrap().permissions();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let opened = Authenticator::open(gateway.store().clone(), directory.clone(), clock.clone()).await;
        let error = opened.err().unwrap().to_string();
        assert!(error.contains(mend), "{error}");
        std::fs::set_permissions(path, right).unwrap();
    }
    gateway.stop().await;
}

#[tokio::test]
async fn each_state_of_a_tokens_life_is_reached() {
    use tailops::auth::state;
    let gateway = Gateway::start().await;
    let token = gateway.mint(Grant { ttl: Duration::from_secs(1000), ..Grant::default() }).await;
    let shown = || async {
        let row = gateway.store().tokens().await.unwrap().remove(0);
        state(&row, gateway.clock.now()).as_str()
    };
    assert_eq!(shown().await, "issued");
    gateway.call(&token, "token_inspect", json!({})).await.data();
    assert_eq!(shown().await, "active");
    gateway.clock.advance(Duration::from_secs(920));
    assert_eq!(shown().await, "expiring");
    gateway.clock.advance(Duration::from_secs(100));
    assert_eq!(shown().await, "expired");
    gateway.store().revoke_tokens(None, gateway.clock.now(), "tester").await.unwrap();
    assert_eq!(shown().await, "revoked");
    gateway.stop().await;
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,300}") {
        let _ = Sealed::parse(&text);
        let _ = Sealed::parse(&format!("tailops_{text}"));
    }
}
