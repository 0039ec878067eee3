//! Every host tool over SSH: the same answer, the same refusals and the same record as on the gateway's own machine. The
//! tools come from the catalogue, so that a new one is held to this as well.

use jiff::Timestamp;
use serde_json::{Value, json};
use tailops::{
    config::Config,
    model::{Scope, ScopeSet},
    tools,
};

use crate::{
    cases,
    harness::{Answer, Grant, alice, correlation_of, modern_era, peer_of},
    remote::{BOTH, Difference, LOCAL, REMOTE, Remote, host_cases, on, smallest},
};

const BOB: u32 = 4002;

/// What of an answer moves with everything else that runs on the machine: only whether it is there is compared.
const MOVES: &[(&str, &[&str])] = &[
    ("process_list", &["/data/processes"]),
    ("network_inspect", &["/data/listen", "/data/sockets", "/data/neighbours", "/data/interfaces", "/data/routes"]),
    ("disk_inspect", &["/data/deleted_open"]),
];

/// What is another thing over SSH and says so.
const DIFFERS: &[(&str, &str)] = &[("target_inspect", "/data/registry/kind")];

/// In place of an approval's id where there is none.
const NONE: &str = "no approval";

/// What a caller and an auditor see of one call.
#[derive(Debug, PartialEq)]
struct Seen {
    answer: Value,
    records: Vec<Value>,
}

/// `value` without what stands for this call or this moment alone: numbers, times and digests only by their kind, and
/// one name for both targets and for every approval.
fn settled(value: &Value, approval: &str) -> Value {
    match value {
        Value::Number(_) => json!("a number"),
        Value::String(text) => {
            let text = text.replace(REMOTE, LOCAL).replace(approval, "the approval");
            let is_hex = text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
            match text.parse::<Timestamp>() {
                Ok(_) => json!("a time"),
                Err(_) if is_hex => json!("a digest"),
                Err(_) => json!(text),
            }
        }
        Value::Array(items) => items.iter().map(|item| settled(item, approval)).collect(),
        Value::Object(entries) => {
            // The connection of a step: the machine itself is reached without one.
            let step = entries.contains_key("template_id");
            let entries = entries.iter().filter(|(key, _)| !(step && *key == "wire"));
            entries.map(|(key, value)| (key.clone(), settled(value, approval))).collect()
        }
        other => other.clone(),
    }
}

/// What is seen of `answer`, whose records are among `log`.
fn seen(log: &[Value], tool: &str, answer: &Answer, approval: &str) -> Seen {
    let mut content = answer.content().clone();
    for pointer in MOVES.iter().filter(|(of, _)| *of == tool).flat_map(|(_, pointers)| *pointers) {
        if let Some(moving) = content.pointer_mut(pointer) {
            *moving = json!(moving.is_array());
        }
    }
    // How it is reached is said of the one that is reached.
    if let Some(registry) = content.pointer_mut("/data/registry").and_then(Value::as_object_mut) {
        let reached = registry.remove("connection").is_some();
        assert_eq!(reached, answer.content()["target"] == REMOTE, "{tool}");
    }
    for (_, pointer) in DIFFERS.iter().filter(|(of, _)| *of == tool) {
        if let Some(differing) = content.pointer_mut(pointer) {
            *differing = json!("differs");
        }
    }
    let id = correlation_of(&answer.body);
    let mut records: Vec<Value> = log.iter().filter(|record| record["correlation_id"] == id).cloned().collect();
    assert!(!records.is_empty(), "{tool}: {answer:?}");
    for record in &mut records {
        for step in record["exec"].as_array().into_iter().flatten().filter(|step| !step["exit_code"].is_null()) {
            let login = (record["target"] == REMOTE).then_some("ops");
            assert_eq!(step["wire"]["login"].as_str(), login, "{tool}: {record}");
        }
        // The port at the caller's end.
        record["tailscale"]["address"].take();
    }
    Seen {
        answer: settled(&content, approval),
        records: records.iter().map(|record| settled(record, approval)).collect(),
    }
}

/// The call of `tool` as its caller makes it; where a person has to say yes, bob does, and it is made again.
async fn called(remote: &mut Remote, [agent, bob]: [&str; 2], tool: &str, arguments: Value) -> Vec<Seen> {
    let first = remote.gateway.call(agent, tool, arguments.clone()).await;
    if first.code() != "approval_required" {
        return vec![seen(&remote.gateway.records().await, tool, &first, NONE)];
    }
    let id = first.content()["approval_id"].as_str().unwrap().to_owned();
    let word = json!({
        "id": id, "operation_hash": first.content()["operation_hash"], "decision": "approve", "comment": "looked at it",
    });
    remote.gateway.visited_by(peer_of(BOB, "bob", "127.0.0.1:1".parse().unwrap()));
    remote.gateway.call(bob, "approval_decide", word).await.data();
    remote.gateway.visited_by(alice("127.0.0.1:1".parse().unwrap()));
    let mut again = arguments;
    again["approval_id"] = json!(id);
    let second = remote.gateway.call(agent, tool, again).await;
    assert!(!second.code().starts_with("approval"), "{tool}: {second:?}");
    let log = remote.gateway.records().await;
    vec![seen(&log, tool, &first, &id), seen(&log, tool, &second, &id)]
}

#[tokio::test]
async fn p64_every_host_tool_answers_over_ssh_as_it_does_here() {
    let config = Box::new(|config: &mut Config| {
        config.approvals.approvers.insert("bob".to_owned());
    });
    let mut remote = Remote::with(Difference { config, ..Difference::default() }).await;
    let agent = remote.gateway.admin().await;
    let bob = Grant { subject: "bob".to_owned(), uid: BOB, ..Grant::scopes("approval:decide,approval:read") };
    let bob = remote.gateway.mint(bob).await;
    let mut sent = 0;
    for case in host_cases() {
        // The machine goes on working: a difference of the way there stays, one of the moment goes away.
        let mut looks = 0;
        loop {
            let before = remote.commands();
            let mut both = Vec::new();
            for target in BOTH {
                both.push(called(&mut remote, [&agent, &bob], case.tool, on(target, &smallest(&case))).await);
            }
            looks += 1;
            if both[0] == both[1] || looks == 5 {
                assert_eq!(both[0], both[1], "{}", case.tool);
                sent += usize::from(remote.commands() > before);
                break;
            }
        }
    }
    // All but the two probes, whose smallest call is made from the gateway.
    assert_eq!(sent, host_cases().len() - 2, "the calls went over SSH");
    remote.gateway.stop().await;
}

#[tokio::test]
async fn what_is_refused_here_is_refused_over_ssh_in_the_same_words() {
    let remote = Remote::start().await;
    let token = remote.gateway.admin().await;
    let mut answers = Vec::new();
    for case in host_cases() {
        for (arguments, names) in case.invalid {
            let mut both = Vec::new();
            for target in BOTH {
                let answer = remote.gateway.call(&token, case.tool, on(target, &arguments)).await;
                assert!(answer.is_error(), "{} {arguments}: {answer:?}", case.tool);
                assert!(answer.content()["message"].as_str().unwrap().contains(&names), "{} {arguments}", case.tool);
                both.push(answer);
            }
            answers.push((case.tool, arguments, both));
        }
    }
    let log = remote.gateway.records().await;
    for (tool, arguments, both) in &answers {
        assert_eq!(seen(&log, tool, &both[0], NONE), seen(&log, tool, &both[1], NONE), "{tool} {arguments}");
    }
    assert!(answers.len() > 250, "only {}", answers.len());
    assert_eq!(remote.commands(), 0, "nothing was sent");
    remote.gateway.stop().await;
}

#[tokio::test]
async fn capabilities_of_the_registry_bound_every_tool_over_ssh() {
    let config = Box::new(|config: &mut Config| {
        config.targets[0].capabilities = ScopeSet::parse("policy:read").unwrap();
    });
    let remote = Remote::with(Difference { config, ..Difference::default() }).await;
    let token = remote.gateway.admin().await;
    for case in host_cases() {
        let spec = tools::find(case.tool).unwrap().spec();
        if spec.scopes == [Scope::FleetRead] {
            // What the registry knows is no capability of a target.
            continue;
        }
        let answer = remote.gateway.call(&token, case.tool, on(REMOTE, &case.call)).await;
        assert_eq!(answer.code(), "target_capability", "{}: {answer:?}", case.tool);
        assert!(remote.gateway.records_of(&answer).await[0]["exec"].is_null());
    }
    assert_eq!(remote.commands(), 0, "nothing was sent");
    remote.gateway.stop().await;
}

#[tokio::test]
async fn a_host_tool_is_offered_where_ssh_is_all_there_is() {
    // The engagement of the token has one target, and that is behind SSH.
    let config = Box::new(|config: &mut Config| config.targets[0].id = "zz-unused".into());
    let remote = Remote::with(Difference { config, ..Difference::default() }).await;
    let token = remote.gateway.mint(Grant { targets: Some(vec![REMOTE.to_owned()]), ..Grant::default() }).await;
    let client = remote.gateway.client(&token, modern_era()).await;
    let offered: Vec<String> =
        client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into_owned()).collect();
    for case in host_cases() {
        assert!(offered.iter().any(|name| name == case.tool), "{} is not offered", case.tool);
    }
    client.cancel().await.unwrap();
    remote.gateway.stop().await;
}

#[test]
fn the_lists_of_what_differs_name_tools() {
    for tool in MOVES.iter().map(|(tool, _)| tool).chain(DIFFERS.iter().map(|(tool, _)| tool)) {
        assert!(tools::find(tool).is_some() && cases::all().iter().any(|case| case.tool == *tool), "{tool}");
    }
}
