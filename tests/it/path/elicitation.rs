//! The round trip in which a client waits for people (2026-07-28): who gets it, that what a form says approves nothing,
//! and that what the client carries is good for nothing but its own call.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use rmcp::{
    ClientHandler, ClientServiceExt, ErrorData, RoleClient,
    model::{
        CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult,
        ElicitationAction, InputRequiredResult, InputResponses,
    },
    service::{ClientLifecycleMode, RequestContext, RunningService},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Grant, call_of, legacy_era, modern, modern_era, peer_of, records};

const BOB: u32 = 4002;

async fn gateway() -> (Gateway, String, String) {
    let gateway = Gateway::with(|config| {
        config.approvals.approvers.insert("bob".to_owned());
        config.limits.critical_per_hour = std::num::NonZeroU32::new(1000).unwrap();
        config.approvals.max_pending_per_token = std::num::NonZeroU32::new(100).unwrap();
    })
    .await;
    let agent = gateway.admin().await;
    let bob = gateway.mint(Grant { uid: BOB, ..Grant::scopes("approval:decide") }).await;
    (gateway, agent, bob)
}

/// A person at a client, who fills in forms.
#[derive(Clone)]
struct Reader {
    /// What they answer.
    answer: Arc<dyn Fn() -> ElicitResult + Send + Sync>,
    /// What they read.
    read: Arc<Mutex<Vec<String>>>,
}

impl Reader {
    fn who(answer: impl Fn() -> ElicitResult + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), read: Arc::default() }
    }
}

impl ClientHandler for Reader {
    fn get_info(&self) -> ClientConfig {
        let mut config = ClientConfig::default();
        config.capabilities = ClientCapabilities::builder().enable_elicitation().build();
        config
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams { message, .. } = request else { panic!("{request:?}") };
        self.read.lock().unwrap().push(message);
        Ok((self.answer)())
    }
}

async fn client(
    gateway: &Gateway,
    token: &str,
    mode: ClientLifecycleMode,
    reader: Reader,
) -> RunningService<RoleClient, Reader> {
    let config = StreamableHttpClientTransportConfig::with_uri(gateway.url("/mcp")).auth_header(token.to_owned());
    let transport = StreamableHttpClientTransport::with_client(gateway.http.clone(), config);
    reader.serve_with_lifecycle(transport, mode).await.unwrap()
}

fn accepted(again: bool) -> ElicitResult {
    ElicitResult::new(ElicitationAction::Accept).with_content(json!({"again": again}))
}

fn deletion(gateway: &Gateway, name: &str) -> Value {
    let path = gateway.config.data_dir.join("files").join(name);
    fs::write(&path, "content").unwrap();
    json!({"target": "local", "path": path, "dry_run": false, "reason": "a test of waiting"})
}

fn exists(gateway: &Gateway, name: &str) -> bool {
    gateway.config.data_dir.join("files").join(name).exists()
}

/// The one question there is, decided on by bob over a connection of his own.
async fn bob_says(address: &str, bob: &str, http: &reqwest::Client, decision: &str, id: &Value, hash: &Value) {
    let word = json!({"id": id, "operation_hash": hash, "decision": decision, "comment": "looked at it"});
    let request = modern(http, address, Some(bob), "approval_decide", word);
    let body: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(body["result"]["isError"], false, "{body}");
}

/// Says that new connections are bob's, and opens one; then alice's again.
async fn bobs_connection(gateway: &mut Gateway, bob: &str) -> reqwest::Client {
    let alices = gateway.http.clone();
    gateway.visited_by(peer_of(BOB, "bob", "127.0.0.1:1".parse().unwrap()));
    // Bound to bob: an answer of policy, not of authentication, proves the connection.
    assert_eq!(gateway.call(bob, "fleet_list", json!({})).await.code(), "insufficient_scope");
    let http = std::mem::replace(&mut gateway.http, alices);
    gateway.peers_are(|address| Ok(crate::harness::alice(address)));
    http
}

async fn question(gateway: &Gateway, agent: &str) -> Value {
    gateway.call(agent, "approval_list", json!({})).await.data()["approvals"][0].clone()
}

/// A call with these capabilities of the client, and what an earlier round gave.
async fn round(gateway: &Gateway, token: &str, call: &Value, capabilities: Value, more: Value) -> Answer {
    let mut params = json!({"name": "file_delete", "arguments": call, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    }});
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let request = gateway.http.post(gateway.url("/mcp")).bearer_auth(token).json(&body);
    let headers = [
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "file_delete"),
        ("Accept", "application/json, text/event-stream"),
    ];
    let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    gateway.send(request).await
}

fn forms() -> Value {
    json!({"elicitation": {}})
}

#[track_caller]
fn state_of(answer: &Answer) -> &str {
    assert_eq!(answer.body["result"]["resultType"], "input_required", "{}", answer.body);
    answer.body["result"]["requestState"].as_str().unwrap()
}

fn filled_in(state: &str, form: Value) -> Value {
    json!({"requestState": state, "inputResponses": {"approval": form}})
}

fn yes() -> Value {
    json!({"action": "accept", "content": {"again": true}})
}

#[tokio::test]
async fn only_who_shows_forms_gets_one() {
    let (gateway, agent, _) = gateway().await;
    let call = deletion(&gateway, "a.txt");
    for capabilities in [json!({}), json!({"elicitation": {"url": {}}}), json!({"sampling": {}})] {
        let plain = round(&gateway, &agent, &call, capabilities.clone(), json!({})).await;
        assert!(plain.is_error() && plain.code() == "approval_required", "{capabilities}: {}", plain.body);
    }
    for capabilities in [forms(), json!({"elicitation": {"form": {}}}), json!({"elicitation": {"form": {}, "url": {}}})]
    {
        let form = round(&gateway, &agent, &call, capabilities, json!({})).await;
        state_of(&form);
        let request = &form.body["result"]["inputRequests"]["approval"];
        assert_eq!((&request["method"], &request["params"]["mode"]), (&json!("elicitation/create"), &json!("form")));
        assert_eq!(request["params"]["requestedSchema"]["properties"]["again"]["type"], "boolean");
    }
    // The older handshake says the same in its own way, whatever the client can show.
    let reader = Reader::who(|| panic!("nothing to fill in"));
    let legacy = client(&gateway, &agent, legacy_era(), reader).await;
    let refused = legacy.call_tool(call_of("file_delete", call.clone())).await.unwrap();
    assert_eq!(refused.is_error, Some(true));
    assert_eq!(refused.structured_content.unwrap()["code"], "approval_required");
    legacy.cancel().await.unwrap();
    // What runs without asking does so, and what is denied is refused, with a form at hand or without.
    let mut dry = call;
    dry["dry_run"] = json!(true);
    round(&gateway, &agent, &dry, forms(), json!({})).await.data();
    let reader = gateway.mint(Grant::scopes("readonly")).await;
    assert_eq!(round(&gateway, &reader, &dry, forms(), json!({})).await.code(), "insufficient_scope");
    gateway.stop().await;
}

#[tokio::test]
async fn what_a_form_says_approves_nothing() {
    let (gateway, agent, _) = gateway().await;
    let call = deletion(&gateway, "a.txt");
    let reader = Reader::who(|| accepted(true));
    let client = client(&gateway, &agent, modern_era(), reader.clone()).await;
    let params: CallToolRequestParams = call_of("file_delete", call);
    let rounds = client.call_tool_with_mrtr_max_rounds(params, 4).await;
    assert!(rounds.is_err(), "it must still wait: {rounds:?}");
    assert!(exists(&gateway, "a.txt"));
    let read = reader.read.lock().unwrap().clone();
    let question = question(&gateway, &agent).await;
    assert_eq!((question["state"].as_str(), read.len()), (Some("pending"), 4));
    let hash = question["operation_hash"].as_str().unwrap();
    for message in &read {
        for part in [question["id"].as_str().unwrap(), &hash[..12], question["expires_at"].as_str().unwrap()] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(message.contains("decides nothing"), "{message}");
    }
    // One question, however often it was tried.
    let all = gateway.call(&agent, "approval_list", json!({})).await;
    assert_eq!(all.data()["approvals"].as_array().unwrap().len(), 1);
    let leaves = records(gateway.store(), true).await;
    assert!(!leaves.iter().any(|leaf| leaf["approved"] == true), "nothing was begun");
    client.cancel().await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn once_a_person_agreed_the_next_try_runs() {
    let (mut gateway, agent, bob) = gateway().await;
    let http = bobs_connection(&mut gateway, &bob).await;
    let call = deletion(&gateway, "a.txt");
    let tried = Arc::new(AtomicBool::new(false));
    let seen = tried.clone();
    let reader = Reader::who(move || {
        seen.store(true, Ordering::SeqCst);
        accepted(true)
    });
    let client = client(&gateway, &agent, modern_era(), reader.clone()).await;
    let CallToolResponse::InputRequired(first) =
        client.call_tool_once(call_of("file_delete", call.clone())).await.unwrap()
    else {
        panic!("no form")
    };
    let question = question(&gateway, &agent).await;
    bob_says(&gateway.url("/mcp"), &bob, &http, "approve", &question["id"], &question["operation_hash"]).await;
    let InputRequiredResult { request_state: Some(state), .. } = first else { panic!("{first:?}") };
    let answers = InputResponses::from([("approval".to_owned(), yes())]);
    let retry = call_of("file_delete", call.clone()).with_input_responses(answers).with_request_state(state.clone());
    let CallToolResponse::Complete(done) = client.call_tool_once(retry.clone()).await.unwrap() else { panic!("again") };
    assert_eq!(done.is_error, Some(false), "{done:?}");
    assert!(!exists(&gateway, "a.txt"));
    // The same state again is the same approval, which is used up.
    fs::write(call["path"].as_str().unwrap(), "content").unwrap();
    let CallToolResponse::Complete(used) = client.call_tool_once(retry).await.unwrap() else { panic!("again") };
    assert_eq!(used.structured_content.unwrap()["code"], "approval_used");
    assert!(exists(&gateway, "a.txt") && !tried.load(Ordering::SeqCst));
    client.cancel().await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn whoever_would_rather_not_gets_the_refusal_and_nothing_runs() {
    let (mut gateway, agent, bob) = gateway().await;
    let http = bobs_connection(&mut gateway, &bob).await;
    let call = deletion(&gateway, "a.txt");
    let first = round(&gateway, &agent, &call, forms(), json!({})).await;
    let state = state_of(&first).to_owned();
    let question = question(&gateway, &agent).await;
    // Not even an approval that stands runs by a no.
    bob_says(&gateway.url("/mcp"), &bob, &http, "approve", &question["id"], &question["operation_hash"]).await;
    for form in [
        json!({"action": "decline"}),
        json!({"action": "cancel"}),
        json!({"action": "accept", "content": {"again": false}}),
        json!({"action": "accept", "content": {"again": "yes"}}),
        json!(null),
    ] {
        let refused = round(&gateway, &agent, &call, forms(), filled_in(&state, form.clone())).await;
        assert!(refused.is_error() && refused.code() == "approval_pending", "{form}: {}", refused.body);
        let record = &gateway.records_of(&refused).await[0];
        assert_eq!((&record["status"], &record["exec"]), (&json!("denied"), &Value::Null), "{form}: {record}");
    }
    let alone = round(&gateway, &agent, &call, forms(), json!({"requestState": state})).await;
    assert_eq!(alone.code(), "approval_pending");
    assert!(exists(&gateway, "a.txt"));
    let done = round(&gateway, &agent, &call, forms(), filled_in(&state, yes())).await;
    assert!(done.data()["trash"].is_string());
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_carried_is_good_for_nothing_else() {
    let (mut gateway, agent, bob) = gateway().await;
    let http = bobs_connection(&mut gateway, &bob).await;
    let call = deletion(&gateway, "a.txt");
    let state = state_of(&round(&gateway, &agent, &call, forms(), json!({})).await).to_owned();
    let question = question(&gateway, &agent).await;
    bob_says(&gateway.url("/mcp"), &bob, &http, "approve", &question["id"], &question["operation_hash"]).await;
    let mut altered = call.clone();
    altered["reason"] = json!("another reason");
    let other_token = gateway.admin().await;
    let mut forged = state.clone();
    let middle = forged.len() / 2;
    let byte = if forged.as_bytes()[middle] == b'A' { "B" } else { "A" };
    forged.replace_range(middle..=middle, byte);
    for (token, call, state, what) in [
        (&agent, &altered, state.as_str(), "another call"),
        (&other_token, &call, state.as_str(), "another token"),
        (&agent, &call, forged.as_str(), "a forgery"),
        (&agent, &call, "", "nothing"),
        (&agent, &call, question["id"].as_str().unwrap(), "the id itself"),
    ] {
        let refused = round(&gateway, token, call, forms(), filled_in(state, yes())).await;
        assert!(refused.is_error() && refused.code() == "invalid_arguments", "{what}: {}", refused.body);
        assert!(refused.content()["message"].as_str().unwrap().contains("requestState"), "{what}: {}", refused.body);
        let record = &gateway.records_of(&refused).await[0];
        assert_eq!((&record["status"], &record["exec"]), (&json!("invalid"), &Value::Null), "{what}");
    }
    assert!(exists(&gateway, "a.txt"));
    // A later run of the service opens none of it, and the approval itself is still there.
    let (directory, config) = gateway.stop().await;
    let gateway = Gateway::on(directory, config).await;
    let refused = round(&gateway, &agent, &call, forms(), filled_in(&state, yes())).await;
    assert_eq!(refused.code(), "invalid_arguments", "{}", refused.body);
    let mut plain = call.clone();
    plain["approval_id"] = question["id"].clone();
    round(&gateway, &agent, &plain, forms(), json!({})).await.data();
    gateway.stop().await;
}
