//! Talks to a gateway that runs: tokens, calls by HTTP and by the real client, and the records they leave.

use std::time::Duration;

use rmcp::{
    ClientServiceExt, RoleClient,
    model::{CallToolRequestParams, ClientConfig, ProtocolVersion},
    service::{ClientLifecycleMode, RunningService},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use secrecy::ExposeSecret;
use serde_json::Value;
use tailops::{
    audit::Export,
    auth::{Binding, MintRequest, mint},
    model::{Clock, ScopeSet},
    store::Store,
};

use super::{ALICE, Gateway, PLANTED, modern};

/// What a token of a test says; change what differs.
#[derive(Clone)]
pub struct Grant {
    pub subject: String,
    pub scopes: String,
    pub engagement: String,
    pub targets: Option<Vec<String>>,
    pub tools: Option<Vec<String>>,
    pub paths: Option<Vec<String>>,
    pub ttl: Duration,
    pub uid: u32,
    /// The binding as text, where it is another than to `uid`.
    pub bind: Option<String>,
}

impl Default for Grant {
    fn default() -> Self {
        Self {
            subject: "agent".to_owned(),
            scopes: "admin".to_owned(),
            engagement: "default".to_owned(),
            targets: None,
            tools: None,
            paths: None,
            ttl: Duration::from_secs(3600),
            uid: ALICE,
            bind: None,
        }
    }
}

impl Grant {
    pub fn scopes(scopes: &str) -> Self {
        Self { scopes: scopes.to_owned(), ..Self::default() }
    }

    pub fn bound(scopes: &str, bind: &str) -> Self {
        Self { bind: Some(bind.to_owned()), ..Self::scopes(scopes) }
    }
}

/// The answer to a tool call.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// The structured content, of a reply or of a refusal.
    pub fn content(&self) -> &Value {
        &self.body["result"]["structuredContent"]
    }

    pub fn is_error(&self) -> bool {
        self.body["result"]["isError"] == true
    }

    /// The refusal's code, wherever it stands.
    pub fn code(&self) -> &str {
        let places = [&self.body["code"], &self.content()["code"], &self.body["error"]["data"]["code"]];
        places.into_iter().find_map(Value::as_str).unwrap_or("")
    }

    #[track_caller]
    pub fn data(&self) -> &Value {
        assert_eq!((self.status, self.is_error()), (200, false), "{}", self.body);
        &self.content()["data"]
    }
}

impl Gateway {
    pub async fn mint(&self, grant: Grant) -> String {
        let request = MintRequest {
            subject: grant.subject,
            owner: "tester".to_owned(),
            scopes: ScopeSet::parse(&grant.scopes).unwrap(),
            engagement: grant.engagement.into(),
            targets: grant.targets.map(|targets| targets.into_iter().map(Into::into).collect()),
            tools: grant.tools.map(|tools| tools.into_iter().collect()),
            paths: grant.paths.map(|paths| paths.iter().map(|path| path.parse().unwrap()).collect()),
            ttl: grant.ttl,
            binding: grant.bind.map_or(Binding::LocalUser(grant.uid), |bind| bind.parse().unwrap()),
        };
        let caps = ("development", Duration::from_secs(365 * 86_400));
        let minted = mint(&self.store, &self.config.data_dir, request, caps, self.clock.now()).await.unwrap();
        minted.token.expose_secret().to_owned()
    }

    pub async fn admin(&self) -> String {
        self.mint(Grant::default()).await
    }

    /// Calls a tool by one self-contained request (2026-07-28).
    pub async fn call(&self, token: &str, tool: &str, arguments: Value) -> Answer {
        self.send(modern(&self.http, &self.url("/mcp"), Some(token), tool, arguments)).await
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        assert!(!text.contains(PLANTED), "a planted secret left: {text}");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status, body }
    }

    /// The real MCP client, in the era of `mode`.
    pub async fn client(&self, token: &str, mode: ClientLifecycleMode) -> RunningService<RoleClient, ClientConfig> {
        let config = StreamableHttpClientTransportConfig::with_uri(self.url("/mcp")).auth_header(token.to_owned());
        let transport = StreamableHttpClientTransport::with_client(self.http.clone(), config);
        ClientConfig::default().serve_with_lifecycle(transport, mode).await.unwrap()
    }

    /// Every record, oldest first: one a call.
    pub async fn records(&self) -> Vec<Value> {
        records(&self.store, false).await
    }

    /// The records that carry this correlation id.
    pub async fn records_of(&self, answer: &Answer) -> Vec<Value> {
        let id = correlation_of(&answer.body);
        self.records().await.into_iter().filter(|record| record["correlation_id"] == id).collect()
    }
}

pub async fn records(store: &Store, all: bool) -> Vec<Value> {
    let mut export = Export::new(store.leaf_reader(), all);
    let mut records = Vec::new();
    while let Some(lines) = export.next().await.unwrap() {
        records.extend(lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    records
}

/// The correlation id of a reply or refusal.
#[track_caller]
pub fn correlation_of(body: &Value) -> Value {
    let places = [
        &body["correlation_id"],
        &body["result"]["structuredContent"]["correlation_id"],
        &body["error"]["data"]["correlation_id"],
    ];
    places.into_iter().find(|id| id.is_string()).unwrap_or_else(|| panic!("no correlation id in {body}")).clone()
}

/// The older handshake, with a session.
pub fn legacy_era() -> ClientLifecycleMode {
    ClientLifecycleMode::Initialize
}

/// The stateless revision.
pub fn modern_era() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

/// The parameters of a call through the real client.
pub fn call_of(tool: &'static str, arguments: Value) -> CallToolRequestParams {
    CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone())
}
