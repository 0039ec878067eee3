//! People and agents of a scripted tailnet, each at an address of its own, so that several can talk to one gateway at the
//! same time; and whoever sits at the gateway's own host.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tailops::tailnet::{Grants, NodePeer, Peer, Unidentified};
use tokio::net::UnixStream;

use crate::{
    harness::{Answer, Behind, Gateway, PLANTED, alice, grants, http_client, modern, tailnet_peer},
    openapi,
};

type Known = Arc<Mutex<BTreeMap<IpAddr, Peer>>>;

/// Everybody on the tailnet of one gateway.
#[derive(Clone)]
pub struct People {
    known: Known,
    gateway: SocketAddr,
}

impl People {
    /// Whoever was not added is the harness's own local user, `alice`.
    pub fn of(gateway: &Gateway) -> Self {
        let known = Known::default();
        let people = Self { known: known.clone(), gateway: gateway.address };
        gateway.peers_are(move |address| {
            let known = known.lock().unwrap();
            match known.get(&address.ip()) {
                Some(peer) => Ok(Peer { address, ..peer.clone() }),
                None if address.ip() == Ipv4Addr::LOCALHOST => Ok(alice(address)),
                None => Err(Unidentified::UnknownPeer(address)),
            }
        });
        let known = people.known.clone();
        gateway.peers_may(move || {
            let known = known.lock().unwrap();
            known.iter().map(|(ip, peer)| (node_peer(*ip, peer), Ok(peer.clone()))).collect()
        });
        people
    }

    /// One more node. Its id is made of its name.
    pub fn join(&self, name: &str, behind: Behind<'_>, grants: Grants) -> Visitor {
        let mut known = self.known.lock().unwrap();
        let ip = IpAddr::from([127, 0, 1, u8::try_from(known.len()).unwrap() + 1]);
        let (id, node) = (format!("n{}", name.to_uppercase()), format!("{name}.example.ts.net"));
        known.insert(ip, tailnet_peer(&id, &node, behind, grants, &format!("{ip}:0")));
        drop(known);
        // Each request on a connection of its own: who it is from is asked each time.
        let http = http_client().local_address(ip).pool_max_idle_per_host(0).build().unwrap();
        Visitor { ip, id, http, url: format!("http://{}", self.gateway), known: self.known.clone() }
    }

    /// `name@example.com` on a node called `name`, who may say yes to whatever `approve` covers.
    pub fn approver(&self, name: &str, approve: Value) -> Visitor {
        let rules = grants(json!([{"scopes": ["readonly"], "approve": approve}]));
        self.join(name, Behind::User(&format!("{name}@example.com")), rules)
    }

    /// `name@example.com` on a node called `name`, who may do everything an agent can but say yes to nothing.
    pub fn person(&self, name: &str) -> Visitor {
        let rules = grants(json!([{"scopes": ["admin"]}]));
        self.join(name, Behind::User(&format!("{name}@example.com")), rules)
    }

    /// A tagged node, whose policy lets it do everything; as far as that goes, say yes too.
    pub fn agent(&self, name: &str) -> Visitor {
        let rules = grants(json!([{"scopes": ["admin"], "approve": true}]));
        self.join(name, Behind::Tags(&["tag:mcp-client"]), rules)
    }
}

fn node_peer(ip: IpAddr, peer: &Peer) -> NodePeer {
    NodePeer {
        id: peer.id.clone(),
        name: peer.node.clone(),
        user: peer.user.clone(),
        tags: peer.tags.clone(),
        addresses: vec![ip],
        os: None,
        online: true,
        ssh_host_keys: Vec::new(),
    }
}

/// Somebody on one node.
pub struct Visitor {
    /// Its address.
    pub ip: IpAddr,
    /// The stable id of the node.
    pub id: String,
    pub http: reqwest::Client,
    url: String,
    known: Known,
}

impl Visitor {
    /// Changes what the network says of this node from now on.
    pub fn becomes(&self, change: impl FnOnce(&mut Peer)) {
        change(self.known.lock().unwrap().get_mut(&self.ip).unwrap());
    }

    /// Takes the node out of the network.
    pub fn leaves(&self) {
        self.known.lock().unwrap().remove(&self.ip);
    }

    /// A request as people's programs make it.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.bare(method, path).header("X-Tailops-Request", "1")
    }

    /// The same without the header that says what it is meant for.
    pub fn bare(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.sent("GET", path, self.request("GET", path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.sent("POST", path, self.request("POST", path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.sent("DELETE", path, self.request("DELETE", path)).await
    }

    /// The answer, which is one that the API's document promises.
    async fn sent(&self, method: &str, path: &str, request: reqwest::RequestBuilder) -> Answer {
        let answer = send(request).await;
        openapi::fits(method, path, &answer);
        answer
    }

    /// Says `decision` to the approval `id`, having looked at it.
    pub async fn decide(&self, id: &str, decision: &str) -> Answer {
        let seen = self.get(&format!("/api/v1/approvals/{id}")).await;
        let hash = seen.body["operation_hash"].as_str().unwrap_or("0");
        let body = json!({"decision": decision, "operation_hash": hash, "comment": "looked at it"});
        self.post(&format!("/api/v1/approvals/{id}/decision"), body).await
    }

    /// Calls a tool over MCP from this node.
    pub async fn call(&self, token: &str, tool: &str, arguments: Value) -> Answer {
        send(modern(&self.http, &format!("{}/mcp", self.url), Some(token), tool, arguments)).await
    }
}

/// Sends it; nothing that was planted comes back.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    assert!(!text.contains(PLANTED), "a planted secret left: {text}");
    Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

/// One request over the control socket of `gateway`, as the local user who runs the tests.
pub async fn on_host(gateway: &Gateway, method: &str, path: &str, body: Option<Value>) -> Answer {
    on_host_with(gateway, method, path, body, &[("x-tailops-request", "1")]).await
}

/// The same with these headers alone.
pub async fn on_host_with(
    gateway: &Gateway,
    method: &str,
    path: &str,
    body: Option<Value>,
    headers: &[(&str, &str)],
) -> Answer {
    let stream = UnixStream::connect(gateway.config.data_dir.join("control.sock")).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = hyper::Request::builder().method(method).uri(path).header("host", "tailops");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(bytes::Bytes::from(body.map(|body| body.to_string()).unwrap_or_default()));
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    connection.abort();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(!text.contains(PLANTED), "a planted secret left: {text}");
    let answer = Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) };
    if path.starts_with("/api/") {
        openapi::fits(method, path, &answer);
    }
    answer
}
