//! SIGKILL at each step of a call, and at any moment under load: what was answered is in the log, what ran was announced
//! there, and the next start closes what was left open.

mod approved;

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    os::unix::process::ExitStatusExt,
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tailops::{
    auth::{Binding, MintRequest, mint},
    model::{Clock, ScopeSet, SystemClock},
    store::Store,
};
use tokio::task::JoinSet;

use crate::{
    child::{Prey, Service, directory, log_of, open_intents},
    harness::{correlation_of, eventually},
};

/// What a call that was killed has left in the log before the next start.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    Nothing,
    Intent,
    Outcome,
}

fn records_of<'a>(leaves: &'a [Value], tool: &str) -> Vec<&'a Value> {
    leaves.iter().filter(|leaf| leaf["tool"] == tool).collect()
}

/// Kills a service at `step` of one call of `tool` and starts another on its data.
async fn die(step: &str, tool: &str, arguments: Value, left: Left) {
    let (_directory, data) = directory();
    let service = Service::dying_at(&data, step).await;
    let answer = service.call(tool, arguments).await;
    assert!(answer.is_none(), "{step}: answered all the same: {answer:?}");
    assert_eq!(service.ended().await.signal(), Some(9), "{step}");

    let before = log_of(&data).await;
    let kinds: Vec<&Value> = records_of(&before, tool).iter().map(|leaf| &leaf["kind"]).collect();
    match (left, tool) {
        (Left::Nothing, _) => assert!(kinds.is_empty(), "{step}: {kinds:?}"),
        (Left::Intent, _) => assert_eq!(kinds, ["intent"], "{step}"),
        (Left::Outcome, "token_inspect") => assert_eq!(kinds, ["call"], "{step}"),
        (Left::Outcome, _) => assert_eq!(kinds, ["intent", "outcome"], "{step}"),
    }

    let service = Service::start(&data).await;
    let answer = service.call("token_inspect", json!({})).await.unwrap();
    answer.data();
    let after = log_of(&data).await;
    assert_eq!(after[..before.len()], before, "{step}: what was written is as it was");
    assert!(open_intents(&after).is_empty(), "{step}");
    let acknowledged = correlation_of(&answer.body);
    assert_eq!(after.iter().filter(|leaf| leaf["correlation_id"] == acknowledged).count(), 1);
    let interrupted: Vec<&Value> = after.iter().filter(|leaf| leaf["status"] == "interrupted").collect();
    if left == Left::Intent {
        let intent = records_of(&before, tool)[0];
        assert_eq!(interrupted.len(), 1, "{step}");
        assert_eq!(interrupted[0]["intent_seq"], intent["seq"]);
        assert_eq!(
            (&interrupted[0]["result_status"], &interrupted[0]["code"]),
            (&json!("error"), &json!("interrupted"))
        );
        assert!(interrupted[0]["error"].as_str().unwrap().contains("unknown"));
        for key in ["correlation_id", "subject", "target", "args", "args_commitment", "reason", "risk_level"] {
            assert_eq!(interrupted[0][key], intent[key], "{key}");
        }
    } else {
        assert!(interrupted.is_empty(), "{step}: {interrupted:?}");
    }
    service.kill().await;
    // The end of an intent is written once, however often the service starts.
    let service = Service::start(&data).await;
    service.kill().await;
    let again = log_of(&data).await;
    assert_eq!(again.iter().filter(|leaf| leaf["status"] == "interrupted").count(), interrupted.len());
}

#[tokio::test]
async fn a_read_that_dies_was_disclosed_to_nobody_or_is_on_record() {
    for (step, left) in [
        ("call-opened", Left::Nothing),
        ("after-run", Left::Nothing),
        ("before-outcome-commit", Left::Nothing),
        ("after-outcome-commit", Left::Outcome),
    ] {
        die(step, "token_inspect", json!({}), left).await;
    }
}

#[tokio::test]
async fn a_write_that_dies_ran_only_with_its_intent_on_record() {
    for (step, left, ran) in [
        ("call-opened", Left::Nothing, false),
        ("before-intent", Left::Nothing, false),
        ("after-intent", Left::Intent, false),
        ("after-run", Left::Intent, true),
        ("before-outcome-commit", Left::Intent, true),
        ("after-outcome-commit", Left::Outcome, true),
    ] {
        let mut prey = Prey::sleeping();
        die(step, "process_signal", prey.arguments("KILL"), left).await;
        assert_eq!(prey.lives(), !ran, "{step}");
    }
}

/// Tokens of the local user, so that no client meets the limit of another.
async fn tokens(data: &std::path::Path, count: usize) -> Vec<String> {
    let store = Store::open(data).await.unwrap();
    let mut tokens = Vec::new();
    for n in 0..count {
        let request = MintRequest {
            subject: format!("client-{n}"),
            owner: "tester".to_owned(),
            scopes: ScopeSet::parse("admin").unwrap(),
            engagement: "default".into(),
            targets: None,
            tools: None,
            paths: None,
            ttl: Duration::from_secs(3600),
            binding: Binding::LocalUser(rustix::process::geteuid().as_raw()),
        };
        let caps = ("development", Duration::from_secs(86_400));
        let minted = mint(&store, data, request, caps, SystemClock.now()).await.unwrap();
        tokens.push(minted.token.expose_secret().to_owned());
    }
    store.close().await;
    tokens
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_call_survives_a_kill_at_any_moment_under_load() {
    const CLIENTS: usize = 32;
    let (_directory, data) = directory();
    Service::start(&data).await.kill().await;
    let tokens = tokens(&data, CLIENTS).await;
    let prey = Prey::sleeping();
    let acknowledged = Arc::new(Mutex::new(HashSet::new()));
    for round in 0..4 {
        let service = Arc::new(Service::start(&data).await);
        let (before, mut clients) = (acknowledged.lock().unwrap().len(), JoinSet::new());
        for (n, token) in tokens.iter().cloned().enumerate() {
            let (service, acknowledged, arguments) = (service.clone(), acknowledged.clone(), prey.arguments("CONT"));
            clients.spawn(async move {
                // A few clients change something: CONT to a process that runs harms nobody.
                let changes = n % 8 == 0;
                let (tool, arguments) =
                    if changes { ("process_signal", arguments) } else { ("token_inspect", json!({})) };
                while let Some(answer) = service.call_as(Some(&token), tool, arguments.clone()).await {
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    acknowledged.lock().unwrap().insert(correlation_of(&answer.body).as_str().unwrap().to_owned());
                }
            });
        }
        let enough = before + 40 + RandomState::new().hash_one(round) as usize % 400;
        eventually("there is load", || async { acknowledged.lock().unwrap().len() >= enough }).await;
        rustix::process::kill_process(service.pid(), rustix::process::Signal::KILL).unwrap();
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        let service = Arc::into_inner(service).unwrap();
        assert_eq!(service.ended().await.signal(), Some(9));
        let leaves = log_of(&data).await;
        let ended: HashSet<&str> = leaves
            .iter()
            .filter(|leaf| leaf["kind"] == "call" || leaf["kind"] == "outcome")
            .map(|leaf| leaf["correlation_id"].as_str().unwrap())
            .collect();
        for id in acknowledged.lock().unwrap().iter() {
            assert!(ended.contains(id.as_str()), "round {round}: {id} was answered and is not in the log");
        }
    }
    Service::start(&data).await.kill().await;
    assert!(open_intents(&log_of(&data).await).is_empty());
}

#[tokio::test]
async fn a_tool_that_panics_gives_an_answer_and_a_record() {
    let (_directory, data) = directory();
    let service = Service::dying_at(&data, "panic:after-run").await;
    let answer = service.call("token_inspect", json!({})).await.expect("an answer, not a request that hangs");
    assert_eq!((answer.status, answer.code()), (200, "internal"));
    assert_eq!(service.get("/healthz").await, (200, "ok\n".to_owned()));
    let records: Vec<Value> = log_of(&data).await;
    let of_call = records_of(&records, "token_inspect");
    assert_eq!(of_call.len(), 1);
    assert_eq!((&of_call[0]["status"], &of_call[0]["code"]), (&json!("failed"), &json!("internal")));
    service.kill().await;
}
