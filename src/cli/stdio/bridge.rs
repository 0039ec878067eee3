//! Carries messages between the client and the gateway, many at a time. Every request gets exactly one answer or was
//! cancelled; none is sent twice once it may have been received.

use std::{
    collections::{HashMap, hash_map::Entry},
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use hyper::{
    HeaderMap, StatusCode,
    header::{HeaderName, HeaderValue},
};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    answer::{self, Incoming},
    link::{Failure, Link},
    message::{Era, Message, Notice, Request, header_value, repeated_id},
    session::{NotOpened, Session},
};

/// How long farewells to the gateway may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// Pauses between attempts to hold the session's own stream open.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// One client, one gateway.
pub(super) struct Bridge {
    link: Link,
    session: Session,
    out: mpsc::Sender<String>,
    running: Mutex<HashMap<String, Running>>,
    begun: AtomicU64,
    listens: AtomicBool,
    tasks: TaskTracker,
    end: CancellationToken,
}

struct Running {
    /// Ids are used again, numbers are not.
    number: u64,
    id: Value,
    era: Era,
    stop: CancellationToken,
}

impl Bridge {
    /// A bridge that writes to `out`.
    pub(super) fn new(link: Link, out: mpsc::Sender<String>) -> Arc<Self> {
        Arc::new(Self {
            link,
            session: Session::new(),
            out,
            running: Mutex::default(),
            begun: AtomicU64::new(0),
            listens: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
        })
    }

    /// Carries one line of the client.
    pub(super) async fn carry(self: &Arc<Self>, line: Bytes) {
        match Message::read(line) {
            Ok(Message::Request(request)) => self.begin(request).await,
            Ok(Message::Notice(notice)) => self.pass_on(notice).await,
            Err(answer) => self.say(answer).await,
        }
    }

    /// Stops: what is in flight is cancelled, a session closed.
    pub(super) async fn stop(&self) {
        let running: Vec<Running> = {
            let mut running = self.running();
            running.drain().map(|(_, running)| running).collect()
        };
        let farewell = async {
            let (_, headers) = self.session.headers().await;
            for one in &running {
                if one.era == Era::Legacy {
                    let _ = self.link.post(&headers, &cancelled(&one.id)).await;
                }
                one.stop.cancel();
            }
            if !headers.is_empty() {
                let _ = self.link.close(&headers).await;
            }
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            note("the gateway did not take leave in time");
        }
        for one in &running {
            one.stop.cancel();
        }
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the id was free.
    fn enlist(&self, key: &str, one: Running) -> bool {
        match self.running().entry(key.to_owned()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(one);
                true
            }
        }
    }

    /// Whether the request was still on the list.
    fn discharge(&self, key: &str, number: u64) -> bool {
        let mut running = self.running();
        let listed = running.get(key).is_some_and(|one| one.number == number);
        if listed {
            running.remove(key);
        }
        listed
    }

    async fn say(&self, line: String) {
        // Nobody reads any more: the bridge is about to end.
        let _ = self.out.send(line).await;
    }

    async fn begin(self: &Arc<Self>, request: Request) {
        let key = request.id.to_string();
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let stop = self.end.child_token();
        let one = Running { number, id: request.id.clone(), era: request.era.clone(), stop: stop.clone() };
        if !self.enlist(&key, one) {
            return self.say(repeated_id(&request.id)).await;
        }
        let this = self.clone();
        self.tasks.spawn(async move {
            // Dropping the response closes its stream, which is how this era cancels.
            let last = stop.run_until_cancelled(this.ask(&request)).await;
            // One that was cancelled has left the list, and gets no answer any more.
            if let (true, Some(last)) = (this.discharge(&key, number), last) {
                this.say(last).await;
            }
        });
    }

    /// Asks the gateway; whatever comes before the answer is passed on at once.
    async fn ask(&self, request: &Request) -> String {
        let response = match self.respond(request).await {
            Ok(response) => response,
            Err(line) => return line,
        };
        let headers = response.headers().clone();
        let mut messages = answer::messages(response);
        while let Some(Ok(Incoming { text, answers })) = messages.next().await {
            if !answers {
                self.say(text).await;
                continue;
            }
            if request.era == Era::Legacy && request.method == "initialize" {
                self.session.opened(request.body.clone(), &headers, &text).await;
            }
            return text;
        }
        answer::failed(&request.id, &Failure::Unknown)
    }

    /// The response, if it is a success; else the answer to give.
    async fn respond(&self, request: &Request) -> Result<Response, String> {
        let failed = |failure: Failure| answer::failed(&request.id, &failure);
        let response = match &request.era {
            Era::Modern { version, name } => {
                let headers = modern_headers(version, &request.method, name.as_deref());
                self.link.post(&headers, &request.body).await.map_err(failed)?
            }
            Era::Legacy if request.method == "initialize" => {
                self.link.post(&HeaderMap::new(), &request.body).await.map_err(failed)?
            }
            Era::Legacy => self.in_session(request).await?,
        };
        if response.status().is_success() && response.status() != StatusCode::ACCEPTED {
            return Ok(response);
        }
        Err(answer::refusal(&request.id, response).await)
    }

    async fn in_session(&self, request: &Request) -> Result<Response, String> {
        let failed = |failure: Failure| answer::failed(&request.id, &failure);
        let (generation, headers) = self.session.headers().await;
        let response = self.link.post(&headers, &request.body).await.map_err(failed)?;
        if response.status() != StatusCode::NOT_FOUND {
            return Ok(response);
        }
        // There is no such session, so nothing was done in it.
        match self.session.reopen(&self.link, generation).await {
            Ok(true) => {
                let (_, headers) = self.session.headers().await;
                self.link.post(&headers, &request.body).await.map_err(failed)
            }
            Ok(false) => Ok(response),
            Err(NotOpened::Refused(response)) => Err(answer::refusal(&request.id, response).await),
            Err(NotOpened::Failed(failure)) => Err(failed(failure)),
        }
    }

    async fn pass_on(self: &Arc<Self>, notice: Notice) {
        if let Some(id) = &notice.cancels {
            let Some(running) = self.running().remove(&id.to_string()) else { return };
            if running.era == Era::Legacy {
                self.post_notice(&notice).await;
            }
            running.stop.cancel();
            return;
        }
        if notice.method.as_deref() == Some("notifications/initialized") {
            self.session.is_ready().await;
            // One listener follows every opening of the session.
            if self.post_notice(&notice).await && !self.listens.swap(true, Ordering::Relaxed) {
                let this = self.clone();
                self.tasks.spawn(async move { this.end.run_until_cancelled(this.listen()).await });
            }
            return;
        }
        self.post_notice(&notice).await;
    }

    /// Whether the gateway took it.
    async fn post_notice(&self, notice: &Notice) -> bool {
        let (generation, headers) = self.session.headers().await;
        if generation == 0 {
            note("a notification came before `initialize`, and belongs to nothing");
            return false;
        }
        match self.link.post(&headers, &notice.body).await {
            Ok(response) if response.status().is_success() => true,
            Ok(response) => {
                note(format_args!("the gateway refused a notification: HTTP {}", response.status()));
                false
            }
            Err(failure) => {
                note(format_args!("a notification did not get through: {failure}"));
                false
            }
        }
    }

    /// Passes on what the gateway says in the session by itself, over every opening of it.
    async fn listen(&self) {
        let mut openings = self.session.openings();
        let mut pause = FIRST_PAUSE;
        loop {
            openings.mark_unchanged();
            let (_, headers) = self.session.headers().await;
            let began = Instant::now();
            match self.link.listen(&headers).await {
                Ok(response) if response.status().is_success() && answer::is_event_stream(&response) => {
                    let mut messages = answer::messages(response);
                    while let Some(Ok(message)) = messages.next().await {
                        self.say(message.text).await;
                    }
                }
                Ok(response) if response.status() == StatusCode::METHOD_NOT_ALLOWED => return,
                // The session has ended. The next request opens another; until then nobody needs one.
                Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                    if openings.changed().await.is_err() {
                        return;
                    }
                }
                Ok(_) | Err(_) => {}
            }
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                _ = openings.changed() => pause = FIRST_PAUSE,
            }
        }
    }
}

fn modern_headers(version: &str, method: &str, name: Option<&str>) -> HeaderMap {
    let named = [("mcp-protocol-version", Some(version)), ("mcp-method", Some(method)), ("mcp-name", name)];
    let header = |(key, value): (&'static str, Option<&str>)| {
        let value = HeaderValue::from_str(&header_value(value?)).ok()?;
        Some((HeaderName::from_static(key), value))
    };
    named.into_iter().filter_map(header).collect()
}

fn cancelled(id: &Value) -> Bytes {
    let params = json!({"requestId": id, "reason": "the client went away"});
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).to_string().into()
}

/// For people: standard output belongs to the protocol.
fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "tailops stdio: {text}");
}
