//! Calls that a machine of the lab makes: TCP, HTTP and MCP with the real client, each from inside its namespace.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use rmcp::{
    ClientServiceExt, RoleClient,
    model::{ClientConfig, ProtocolVersion},
    service::{ClientLifecycleMode, RunningService},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::Value;

use crate::machine::Machine;

/// How long a connection may take. What the packet filter drops takes longer.
const CONNECT: Duration = Duration::from_secs(3);
/// The same for one that is tried again and again.
const TRY: Duration = Duration::from_millis(500);
/// How long a whole call may take.
const CALL: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The connection was never made: its packets were dropped.
    Dropped,
    /// The connection was never made: the node knows no way there.
    Unreachable,
    /// The other end refused the connection.
    Refused,
    /// The connection ended, or hung, before there was an answer.
    Broken,
}

impl Answer {
    /// The refusal's code, wherever it stands.
    pub fn code(&self) -> &str {
        let content = &self.body["result"]["structuredContent"];
        let places = [&self.body["code"], &content["code"], &self.body["error"]["data"]["code"]];
        places.into_iter().find_map(Value::as_str).unwrap_or("")
    }

    /// What a tool returned.
    #[track_caller]
    pub fn data(&self) -> &Value {
        assert_eq!((self.status, &self.body["result"]["isError"] == true), (200, false), "{}", self.body);
        &self.body["result"]["structuredContent"]["data"]
    }
}

impl Machine {
    /// Listens here. Used from any thread, the listener stays in this machine.
    pub fn listen(&self, address: SocketAddr) -> TcpListener {
        self.inside(|| TcpListener::bind(address).unwrap())
    }

    /// Connects from here.
    pub fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&address, CONNECT))
    }

    /// Whether a connection can be made from here right now.
    pub fn reaches(&self, address: SocketAddr) -> bool {
        self.inside(|| TcpStream::connect_timeout(&address, TRY).is_ok())
    }

    /// Calls a tool from here over a connection of its own.
    pub fn call(&self, url: &str, token: Option<&str>, tool: &str, arguments: Value) -> Result<Answer, Silence> {
        self.visit(|| async { call(&http().build().unwrap(), url, token, tool, arguments).await })
    }

    /// The real MCP client, from here, for as long as `work` takes.
    pub fn converse<T: Send>(
        &self,
        url: &str,
        token: &str,
        work: impl AsyncFnOnce(RunningService<RoleClient, ClientConfig>) -> T + Send,
    ) -> T {
        let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(token.to_owned());
        let era = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
        self.visit(|| async {
            let transport = StreamableHttpClientTransport::with_client(http().build().unwrap(), config);
            work(ClientConfig::default().serve_with_lifecycle(transport, era).await.unwrap()).await
        })
    }
}

/// An HTTP client to be, with the one TLS provider there is; no proxy of the environment stands in its way.
pub fn http() -> reqwest::ClientBuilder {
    // An error says that another thread installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().connect_timeout(CONNECT).timeout(CALL)
}

/// Calls a tool by one self-contained request (2026-07-28).
pub async fn call(
    http: &reqwest::Client,
    url: &str,
    token: Option<&str>,
    tool: &str,
    arguments: Value,
) -> Result<Answer, Silence> {
    answer(crate::request::modern(http, url, token, tool, arguments)).await
}

/// Sends a request and reads its answer.
pub async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, Silence> {
    let response = request.send().await.map_err(|error| silence(&error))?;
    let status = response.status().as_u16();
    let text = response.text().await.map_err(|error| silence(&error))?;
    Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
}

fn silence(error: &reqwest::Error) -> Silence {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    let mut kind = None;
    while let Some(cause) = source {
        kind = cause.downcast_ref::<io::Error>().map(io::Error::kind).or(kind);
        source = cause.source();
    }
    match (error.is_connect(), error.is_timeout(), kind) {
        (true, true, _) => Silence::Dropped,
        (true, _, Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable)) => Silence::Unreachable,
        (true, ..) => Silence::Refused,
        (false, ..) => Silence::Broken,
    }
}
