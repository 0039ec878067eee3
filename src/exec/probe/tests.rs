//! Probes against scripted names and servers that misbehave. Every server listens on loopback.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Mutex,
};

use futures_util::future::{BoxFuture, pending};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::model::{AddressRules, HttpMethod, HttpUrl};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Answers in this order, and counts. Hangs where the script is at its end.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<io::Result<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = Vec<IpAddr>>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().map(Ok).collect()), asked: Mutex::default() })
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Resolver for Scripted {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.asked.lock().unwrap().push(name.to_owned());
        match self.answers.lock().unwrap().pop_front() {
            Some(answer) => Box::pin(async move { answer }),
            None => Box::pin(pending()),
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn loopback() -> Arc<AddressRules> {
    Arc::new(AddressRules::new(["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]))
}

fn probe(kind: ProbeKind, host: &str) -> Probe {
    Probe { kind, host: host.parse().unwrap(), via: Via::Native, rules: loopback() }
}

fn http(url: &str) -> Probe {
    let url: HttpUrl = url.parse().unwrap();
    Probe {
        host: url.host.clone(),
        kind: ProbeKind::Http { url, method: HttpMethod::Get },
        via: Via::Native,
        rules: loopback(),
    }
}

async fn made_by(prober: &Prober, probe: &Probe) -> ProbeOutput {
    prober.run(probe, Duration::from_secs(20), &CancellationToken::new()).await
}

async fn made(resolver: Arc<Scripted>, probe: &Probe) -> ProbeOutput {
    made_by(&Prober::new(resolver), probe).await
}

fn failure(output: &ProbeOutput) -> (&str, &str) {
    match &output.end {
        ProbeEnd::Failed(failure) => (failure.stage, &failure.reason),
        other => panic!("{other:?} {:?}", output.findings),
    }
}

/// Serves every connection by `answer` until the test ends; counts them.
struct Server {
    address: SocketAddr,
    connections: Arc<Mutex<u32>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn new<F: Future<Output = ()> + Send + 'static>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> Self {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *count.lock().unwrap() += 1;
                tokio::spawn(answer(stream));
            }
        });
        Self { address, connections, task }
    }

    /// Reads the request's head and writes `answer`, then holds the connection open.
    async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Vec<u8> = answer.into();
        Self::new(move |mut stream| {
            let answer = answer.clone();
            async move {
                request(&mut stream).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The head of a request.
async fn request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_name_with_any_refused_address_is_refused_as_a_whole() {
    let server = Server::saying("").await;
    let public = ip("8.8.8.8");
    for bad in ["10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fd00:ec2::254", "0.0.0.0", "100.64.0.1", "fe80::1"]
    {
        for addresses in [vec![ip(bad)], vec![HERE, ip(bad)], vec![ip(bad), HERE], vec![public, public, ip(bad)]] {
            let resolver = Scripted::new([addresses]);
            let tcp = ProbeKind::Tcp { port: server.address.port(), count: 3 };
            for kind in [tcp, ProbeKind::Dns, ProbeKind::Tls { port: server.address.port() }] {
                let resolver =
                    Scripted::new(resolver.answers.lock().unwrap().iter().map(|a| a.as_ref().unwrap().clone()));
                let output = made(resolver.clone(), &probe(kind, "web.example")).await;
                assert!(matches!(output.end, ProbeEnd::Refused(_)), "{bad}: {output:?}");
                assert!(output.findings.addresses.is_empty() && output.findings.tried == 0, "{output:?}");
                assert_eq!(resolver.asked(), 1);
            }
        }
    }
    assert_eq!(*server.connections.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_asked_once_and_the_first_answer_holds() {
    let server = Server::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    // 127.0.0.1 is allowed here and stands for the honest answer; the second answer would be refused.
    let resolver = Scripted::new([vec![HERE, ip("127.0.0.9")], vec![ip("10.0.0.1")]]);
    let output = made(resolver.clone(), &http(&format!("http://web.example:{}/", server.address.port()))).await;
    assert_eq!(output.end, ProbeEnd::Answered);
    assert_eq!((resolver.asked(), &output.findings.addresses[..]), (1, &[HERE, ip("127.0.0.9")][..]));
    assert_eq!((output.findings.head.unwrap().status, *server.connections.lock().unwrap()), (204, 1));

    // Several connections of one probe use one answer, too.
    let resolver = Scripted::new([vec![HERE], vec![ip("10.0.0.1")]]);
    let tcp = ProbeKind::Tcp { port: server.address.port(), count: 3 };
    let output = made(resolver.clone(), &probe(tcp, "web.example")).await;
    assert_eq!((resolver.asked(), output.findings.connects.len(), output.findings.tried), (1, 3, 3));
}

#[tokio::test]
async fn a_name_without_a_usable_answer_fails() {
    let many = (0..=u8::try_from(MOST_ADDRESSES).unwrap()).map(|last| IpAddr::from([127, 0, 0, last])).collect();
    let missing = Scripted::default();
    missing.answers.lock().unwrap().push_back(Err(io::Error::other("secret detail of 10.0.0.53")));
    for (resolver, reason) in [
        (Scripted::new([vec![]]), "not_found"),
        (Scripted::new([many]), "too_many_addresses"),
        (Arc::new(missing), "not_found"),
    ] {
        let output = made(resolver, &probe(ProbeKind::Dns, "web.example")).await;
        assert_eq!(failure(&output), ("resolve", reason));
    }
}

#[tokio::test]
async fn a_resolver_that_hangs_ends_in_time() {
    let (prober, limit) = (Prober::new(Scripted::new([])), Duration::from_millis(50));
    let output = prober.run(&probe(ProbeKind::Dns, "web.example"), limit, &CancellationToken::new()).await;
    assert_eq!(failure(&output), ("resolve", "timed_out"));
    assert!(output.duration < RESOLVE_LIMIT);
}

#[tokio::test]
async fn a_caller_who_leaves_stops_the_probe() {
    let gone = CancellationToken::new();
    gone.cancel();
    let resolver = Scripted::new([vec![HERE]]);
    let prober = Prober::new(resolver.clone());
    let output = prober.run(&probe(ProbeKind::Dns, "web.example"), LIMIT, &gone).await;
    assert_eq!((output.end, resolver.asked()), (ProbeEnd::Stopped(Stopped::Confirmed), 0));
}

#[tokio::test]
async fn the_request_says_who_asks_and_carries_nothing_else() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let server = Server::new(move |mut stream| {
        let seen = seen.clone();
        async move {
            let head = request(&mut stream).await;
            seen.lock().unwrap().push(head);
            let _ =
                stream.write_all(b"HTTP/1.1 503 Busy\r\nServer: x\r\nSet-Cookie: a=b\r\nRetry-After: 7\r\n\r\n").await;
        }
    })
    .await;
    let resolver = Scripted::new([vec![HERE]]);
    let port = server.address.port();
    let output = made(resolver, &http(&format!("http://web.example:{port}/up?a=b"))).await;
    let head = output.findings.head.unwrap();
    assert_eq!((output.end, head.status), (ProbeEnd::Answered, 503));
    assert_eq!(head.headers, [("retry-after", "7".to_owned()), ("server", "x".to_owned())]);
    let mut lines: Vec<String> = heads.lock().unwrap()[0].lines().map(str::to_lowercase).collect();
    assert_eq!(lines.remove(0), "get /up?a=b http/1.1");
    lines.sort();
    let agent = format!("user-agent: tailops/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(lines, ["", "accept: */*", "connection: close", &format!("host: web.example:{port}"), &agent]);
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let inside = Server::saying("HTTP/1.1 200 OK\r\n\r\n").await;
    for status in [301, 302, 303, 307, 308] {
        let location = inside.url("/secret?token=1");
        let server = Server::saying(format!("HTTP/1.1 {status} x\r\nLocation: {location}\r\n\r\n")).await;
        let output = made(Scripted::new([]), &http(&server.url("/"))).await;
        let head = output.findings.head.unwrap();
        assert_eq!((head.status, head.location), (status, Some(location)));
        assert_eq!(*server.connections.lock().unwrap(), 1);
    }
    assert_eq!(*inside.connections.lock().unwrap(), 0);
}

#[tokio::test]
async fn heads_that_are_too_long_or_no_http_fail() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2 * 16384));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000));
    let endless: String = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(200_000));
    for (answer, reasons) in [
        (long.into_bytes(), &["head_too_large"][..]),
        (many.into_bytes(), &["head_too_large"]),
        (endless.into_bytes(), &["head_too_large"]),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), &["not_http"]),
        (b"HTTP/1.1 2000 OK\r\n\r\n".to_vec(), &["not_http"]),
    ] {
        let server = Server::saying(answer).await;
        let output = made(Scripted::new([]), &http(&server.url("/"))).await;
        let (stage, reason) = failure(&output);
        assert!(stage == "http" && reasons.contains(&reason), "{stage} {reason}");
    }
    let server = Server::new(|stream| async move { drop(stream) }).await;
    let output = made(Scripted::new([]), &http(&server.url("/"))).await;
    assert!(["connection_closed", "connection_lost"].contains(&failure(&output).1), "{output:?}");
}

#[tokio::test]
async fn an_endless_body_is_left_unread() {
    let server = Server::new(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        // Ends only because the other side goes away.
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let output = made(Scripted::new([]), &http(&server.url("/"))).await;
    assert_eq!((output.end, output.findings.head.unwrap().status), (ProbeEnd::Answered, 200));
}

#[tokio::test]
async fn servers_that_never_finish_their_head_are_given_up() {
    let slow = Server::new(|mut stream| async move {
        for byte in b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
            if stream.write_u8(*byte).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let informed = Server::new(|mut stream| async move {
        while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let silent = Server::saying("").await;
    for server in [slow, informed, silent] {
        let prober = Prober::new(Scripted::new([]));
        let limit = Duration::from_millis(300);
        let output = prober.run(&http(&server.url("/")), limit, &CancellationToken::new()).await;
        assert_eq!(failure(&output), ("http", "timed_out"));
        // What was found before stays.
        assert_eq!((output.findings.connects.len(), &output.findings.addresses[..]), (1, &[HERE][..]));
    }
}

#[tokio::test]
async fn a_closed_port_is_told_from_an_open_one() {
    let closed = TcpListener::bind((HERE, 0)).await.unwrap().local_addr().unwrap().port();
    let tcp = |port| probe(ProbeKind::Tcp { port, count: 2 }, "127.0.0.1");
    let output = made(Scripted::new([]), &tcp(closed)).await;
    assert_eq!((failure(&output), output.findings.tried), (("connect", "connection_refused"), 2));
    let server = Server::saying("").await;
    let output = made(Scripted::new([]), &tcp(server.address.port())).await;
    assert_eq!((output.end, output.findings.connects.len(), output.findings.resolve), (ProbeEnd::Answered, 2, None));
}

#[tokio::test]
async fn a_script_gets_an_address_only_after_the_check() {
    static ECHO: crate::model::Template =
        crate::model::Template { id: "test.aim.v1", body: "echo \"$1\"", stdin: false };
    let script = || crate::model::Script::new(&ECHO, ["x"]);
    for (via, kind) in [
        (Via::Target(script()), ProbeKind::Ping),
        (Via::Here(script()), ProbeKind::Trace),
        (Via::Target(script()), ProbeKind::Tls { port: 443 }),
    ] {
        let aimed = |addresses: Vec<IpAddr>| {
            let probe = Probe { via: via.clone(), ..probe(kind.clone(), "web.example") };
            async move { made(Scripted::new([addresses]), &probe).await }
        };
        let output = aimed(vec![HERE]).await;
        assert_eq!((output.end, output.findings.addresses), (ProbeEnd::Aimed, vec![HERE]));
        assert!(matches!(aimed(vec![ip("192.168.0.1")]).await.end, ProbeEnd::Refused(_)));
        assert_eq!(failure(&aimed(vec![]).await), ("resolve", "not_found"));
    }
}

#[tokio::test]
async fn the_digest_names_what_was_asked() {
    let digest = async |probe: &Probe| made(Scripted::new([vec![HERE]]), probe).await.argv_sha256;
    let one = digest(&probe(ProbeKind::Tcp { port: 1, count: 1 }, "127.0.0.1")).await;
    assert_eq!(one, digest(&probe(ProbeKind::Tcp { port: 1, count: 1 }, "127.0.0.1")).await);
    assert_eq!(one.len(), 64);
    for other in [
        probe(ProbeKind::Tcp { port: 2, count: 1 }, "127.0.0.1"),
        probe(ProbeKind::Tcp { port: 1, count: 2 }, "127.0.0.1"),
        probe(ProbeKind::Tcp { port: 1, count: 1 }, "127.0.0.2"),
        probe(ProbeKind::Dns, "web.example"),
    ] {
        assert_ne!(one, digest(&other).await);
    }
}

mod secured;
