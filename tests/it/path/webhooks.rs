//! Webhooks and notifications through the whole gateway: a sealed callback is a person's word, once and in time, and
//! nothing else that the other end does is one.

use std::{
    collections::VecDeque,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use ring::hmac;
use serde_json::{Value, json};
use tailops::{
    config::{Config, Notify, NotifyForm, Webhook},
    model::Clock,
};
use tokio::net::TcpListener;

use crate::{
    harness::{Answer, Behind, Gateway, Grant, eventually, grants},
    people::{People, Visitor, on_host, send},
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

/// The other end. Answers with these statuses, then 200, always with a body that looks like a yes.
#[derive(Clone, Default)]
struct Ear {
    answers: Arc<Mutex<VecDeque<u16>>>,
    heard: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Ear {
    async fn open() -> (Self, String) {
        let (ear, listener) = (Self::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(ear.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (ear, url)
    }

    fn answers(&self, statuses: &[u16]) {
        *self.answers.lock().unwrap() = statuses.iter().copied().collect();
    }

    fn bodies(&self) -> Vec<Value> {
        self.heard.lock().unwrap().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }

    /// What was asked about `id`.
    async fn question(&self, id: &str) -> Value {
        eventually("the webhook is asked", || async { self.bodies().iter().any(|body| body["id"] == id) }).await;
        self.bodies().into_iter().find(|body| body["id"] == id).unwrap()
    }
}

async fn answer(State(ear): State<Ear>, headers: HeaderMap, body: Bytes) -> Response {
    let about: Value = serde_json::from_slice(&body).unwrap_or_default();
    ear.heard.lock().unwrap().push((headers, body));
    let status = ear.answers.lock().unwrap().pop_front().unwrap_or(200);
    let yes = json!({
        "id": about["id"], "operation_hash": about["operation_hash"], "decision": "approve", "comment": "", "state": "approved",
    });
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("location", "/yes"), ("content-type", "application/json")], yes.to_string()).into_response()
}

fn private(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Two webhooks at `url`: `duty`, who is maria, and `own`, who is the owner of every token of a test.
fn with_webhooks(url: &str) -> impl FnOnce(&mut Config) {
    let url = url.to_owned();
    move |config| {
        let directory = config.data_dir.parent().unwrap().to_owned();
        fs::create_dir_all(config.data_dir.join("files")).unwrap();
        fs::set_permissions(&config.data_dir, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(config.data_dir.join("files/old.conf"), "content").unwrap();
        // Each refusal is a record of its own.
        config.limits.refusals_recorded_per_minute = 1000.try_into().unwrap();
        config.limits.critical_per_hour = 1000.try_into().unwrap();
        let webhook = |name: &str, secret: &str, identity: &str| Webhook {
            name: name.to_owned(),
            url: url.clone(),
            secret_file: private(&directory, &format!("{name}.secret"), secret),
            identity: identity.to_owned(),
        };
        config.approvals.webhooks = vec![webhook("duty", SECRET, "maria@example.com"), webhook("own", OTHER, "tester")];
    }
}

fn wish(gateway: &Gateway) -> Value {
    let path = file(gateway);
    json!({"target": "local", "path": path, "reason": "replaced by another", "dry_run": false})
}

fn file(gateway: &Gateway) -> PathBuf {
    gateway.config.data_dir.join("files/old.conf")
}

struct Cast {
    gateway: Gateway,
    agent: Visitor,
    /// The node that the webhook's program runs on.
    bot: Visitor,
    token: String,
    ear: Ear,
}

impl Cast {
    async fn meet() -> Self {
        let (ear, url) = Ear::open().await;
        Self::around(Gateway::with(with_webhooks(&url)).await, ear).await
    }

    async fn around(gateway: Gateway, ear: Ear) -> Self {
        let people = People::of(&gateway);
        let agent = people.agent("agent");
        // No tool may be called from there, and nobody approve.
        let bot = people.join("bot", Behind::Tags(&["tag:duty"]), grants(json!([{"scopes": ["log:read"]}])));
        let token = gateway.mint(Grant::bound("admin", "tag:mcp-client")).await;
        Self { gateway, agent, bot, token, ear }
    }

    /// Asks; what the agent is told to wait for.
    async fn asked(&self) -> (String, String) {
        let answer = self.agent.call(&self.token, "file_delete", wish(&self.gateway)).await;
        assert_eq!(answer.code(), "approval_required", "{answer:?}");
        let text = |key: &str| answer.content()[key].as_str().unwrap().to_owned();
        (text("approval_id"), text("operation_hash"))
    }

    async fn retried(&self, id: &str) -> Answer {
        let mut wish = wish(&self.gateway);
        wish["approval_id"] = json!(id);
        self.agent.call(&self.token, "file_delete", wish).await
    }

    fn now(&self) -> i64 {
        self.gateway.clock.now().as_second()
    }

    /// A callback to the webhook `name`, sealed with `secret` at `at`.
    async fn says(&self, name: &str, secret: &str, at: i64, body: &str) -> Answer {
        let headers = [("x-tailops-timestamp", at.to_string()), ("x-tailops-signature", seal(secret, at, body))];
        self.posts(name, &headers, body).await
    }

    async fn posts(&self, name: &str, headers: &[(&str, String)], body: &str) -> Answer {
        let mut request = self.bot.bare("POST", &format!("/api/v1/webhooks/{name}")).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        send(request).await
    }

    /// The code of the newest record of this answer.
    async fn code_on_record(&self, answer: &Answer) -> Value {
        self.gateway.records_of(answer).await.last().map_or(Value::Null, |record| record["code"].clone())
    }
}

fn seal(secret: &str, at: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v1={digits}")
}

fn word(id: &str, hash: &str, decision: &str) -> String {
    json!({"id": id, "operation_hash": hash, "decision": decision, "comment": "on the duty channel"}).to_string()
}

#[tokio::test]
async fn p38_a_sealed_callback_lets_it_run_exactly_once() {
    let cast = Cast::meet().await;
    let (id, hash) = cast.asked().await;
    let question = cast.ear.question(&id).await;
    assert_eq!((&question["operation_hash"], &question["reason"]), (&json!(hash), &json!("replaced by another")));
    let callback = question["callback"].as_str().unwrap();
    assert!(callback.ends_with("/api/v1/webhooks/duty") || callback.ends_with("/api/v1/webhooks/own"), "{callback}");
    assert_eq!(cast.retried(&id).await.code(), "approval_pending");
    let heard = cast.says("duty", SECRET, cast.now(), &word(&id, &hash, "approve")).await;
    let wanted = json!({"id": id, "decision": "approve", "state": "approved"});
    assert_eq!((heard.status, &heard.body), (200, &wanted));

    let (one, two) = tokio::join!(cast.retried(&id), cast.retried(&id));
    assert_eq!([&one, &two].iter().filter(|answer| !answer.is_error()).count(), 1, "{one:?} {two:?}");
    assert_eq!(cast.retried(&id).await.code(), "approval_used");
    assert!(!file(&cast.gateway).exists());
    let records = cast.gateway.records().await;
    let runs: Vec<_> = records.iter().filter(|record| record["approved"] == true && record["status"] == "ok").collect();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0]["approval"]["approvers"][0]["login"], "maria@example.com");
    let word: Vec<_> = records.iter().filter(|record| record["tool"] == "approval.approve").collect();
    assert_eq!((word.len(), &word[0]["status"]), (1, &json!("ok")));
    assert_eq!(word[0]["args"]["from"], json!({"kind": "webhook", "name": "duty"}));
    assert_eq!(
        (&word[0]["subject"], &word[0]["tailscale"]["tailscale_node_id"]),
        (&json!("maria@example.com"), &json!(cast.bot.id),)
    );
    // Nothing secret was sent, and no argument.
    let sent: String = cast.ear.heard.lock().unwrap().iter().map(|(head, body)| format!("{head:?}{body:?}")).collect();
    assert!(!sent.contains(SECRET) && !sent.contains(&cast.token) && !sent.contains("\"arguments\""), "{sent}");
    cast.gateway.stop().await;
}

#[tokio::test]
async fn p38_a_no_ends_it() {
    let cast = Cast::meet().await;
    let (id, hash) = cast.asked().await;
    let heard = cast.says("duty", SECRET, cast.now(), &word(&id, &hash, "deny")).await;
    assert_eq!((heard.status, &heard.body["state"]), (200, &json!("denied")), "{heard:?}");
    assert_eq!(cast.retried(&id).await.code(), "approval_denied");
    let late = cast.says("duty", SECRET, cast.now() + 1, &word(&id, &hash, "approve")).await;
    assert_eq!((late.status, late.code()), (409, "approval_denied"));
    assert_eq!(cast.retried(&id).await.code(), "approval_denied");
    cast.gateway.stop().await;
}

#[tokio::test]
async fn p38_whatever_the_other_end_answers_is_no_yes() {
    let cast = Cast::meet().await;
    for status in [200, 201, 302, 307, 400, 401, 500, 503] {
        cast.ear.answers(&[status, status]);
        let (id, hash) = cast.asked().await;
        cast.ear.question(&id).await;
        assert_eq!(cast.retried(&id).await.code(), "approval_pending", "{status}");
        // So that the next one is not bounded by those that wait.
        let no = cast.says("duty", SECRET, cast.now(), &word(&id, &hash, "deny")).await;
        assert_eq!(no.status, 200, "{no:?}");
    }
    // Nobody followed a redirect.
    let records = cast.gateway.records().await;
    assert!(!records.iter().any(|record| record["approved"] == true), "{records:?}");
    cast.gateway.stop().await;
}

#[tokio::test]
async fn p38_what_is_not_sealed_fresh_and_new_is_refused_and_recorded() {
    let cast = Cast::meet().await;
    let (id, hash) = cast.asked().await;
    let now = cast.now();
    let yes = word(&id, &hash, "approve");
    let right = seal(SECRET, now, &yes);
    let time = |at: i64| ("x-tailops-timestamp", at.to_string());
    let signed = |text: &str| ("x-tailops-signature", text.to_owned());
    let question = cast.ear.question(&id).await.to_string();
    for (what, name, headers, body) in [
        ("no headers", "duty", vec![], &yes),
        ("no signature", "duty", vec![time(now)], &yes),
        ("no time", "duty", vec![signed(&right)], &yes),
        ("a bad signature", "duty", vec![time(now), signed(&seal("another secret", now, &yes))], &yes),
        ("another webhook's", "duty", vec![time(now), signed(&seal(OTHER, now, &yes))], &yes),
        ("for another webhook", "own", vec![time(now), signed(&right)], &yes),
        ("a name there is not", "nobody", vec![time(now), signed(&right)], &yes),
        ("another time", "duty", vec![time(now + 1), signed(&right)], &yes),
        ("another body", "duty", vec![time(now), signed(&right)], &word(&id, &hash, "deny")),
        ("two signatures", "duty", vec![time(now), signed(&right), signed(&right)], &yes),
        ("two times", "duty", vec![time(now), time(now), signed(&right)], &yes),
    ] {
        let refused = cast.posts(name, &headers, body).await;
        assert_eq!((refused.status, refused.code()), (401, "webhook_unknown"), "{what}: {refused:?}");
        assert_eq!(cast.code_on_record(&refused).await, "webhook_unknown", "{what}");
    }
    for (at, secret, body, status, code) in [
        (now - 360, SECRET, yes.clone(), 401, "callback_skewed"),
        (now + 360, SECRET, yes.clone(), 401, "callback_skewed"),
        // What the gateway sent, sent back.
        (now, SECRET, question, 400, "callback_invalid"),
        (
            now,
            SECRET,
            json!({"id": id, "operation_hash": hash, "decision": "approve"}).to_string(),
            400,
            "callback_invalid",
        ),
        (now, SECRET, word("0000-0000-0000", &hash, "approve"), 404, "approval_unknown"),
        (now, SECRET, word(&id, &"0".repeat(64), "approve"), 409, "operation_changed"),
        (now, SECRET, word(&id, &hash.to_uppercase(), "approve"), 409, "operation_changed"),
    ] {
        let refused = cast.says("duty", secret, at, &body).await;
        assert_eq!((refused.status, refused.code()), (status, code), "{body}: {refused:?}");
    }
    // The webhook that is the token's owner.
    let own = cast.says("own", OTHER, now, &yes).await;
    assert_eq!((own.status, own.code()), (403, "own_request"), "{own:?}");
    assert_eq!(cast.retried(&id).await.code(), "approval_pending", "nothing of all that was a yes");
    assert!(file(&cast.gateway).exists());
    let records = cast.gateway.records().await;
    for code in ["webhook_unknown", "callback_skewed", "callback_invalid", "operation_changed", "own_request"] {
        assert!(records.iter().any(|record| record["code"] == code), "{code} is not on record");
    }

    // A yes counts once, and so does its callback.
    assert_eq!(cast.says("duty", SECRET, now, &yes).await.status, 200);
    let replayed = cast.says("duty", SECRET, now, &yes).await;
    assert_eq!((replayed.status, replayed.code()), (409, "callback_replayed"));
    assert_eq!(cast.code_on_record(&replayed).await, "callback_replayed");
    let again = cast.says("duty", SECRET, now + 1, &yes).await;
    assert_eq!((again.status, again.code()), (409, "already_decided"));
    assert!(!cast.retried(&id).await.is_error());
    let used = cast.says("duty", SECRET, now + 2, &yes).await;
    assert_eq!((used.status, used.code()), (409, "approval_used"));
    cast.gateway.stop().await;
}

#[tokio::test]
async fn p38_a_yes_after_the_end_and_from_a_stranger_is_none() {
    let cast = Cast::meet().await;
    let (id, hash) = cast.asked().await;
    let yes = word(&id, &hash, "approve");
    cast.bot.leaves();
    let stranger = cast.says("duty", SECRET, cast.now(), &yes).await;
    assert_eq!(stranger.status, 403, "{stranger:?}");
    let from_agent = Cast { bot: cast.agent, agent: cast.bot, ..cast };
    from_agent.gateway.clock.advance(Duration::from_secs(16 * 60));
    let late = from_agent.says("duty", SECRET, from_agent.now(), &yes).await;
    assert_eq!((late.status, late.code()), (409, "approval_expired"), "{late:?}");
    from_agent.gateway.stop().await;
}

#[tokio::test]
async fn one_node_is_bounded() {
    let cast = Cast::meet().await;
    let mut limited = 0;
    for number in 0..150 {
        let refused = cast.says("duty", "guess", cast.now(), &number.to_string()).await;
        assert!([401, 429].contains(&refused.status), "{refused:?}");
        limited += usize::from(refused.status == 429);
    }
    assert!(limited > 0, "{limited}");
    // Others are heard.
    let (id, _) = cast.asked().await;
    assert_eq!(cast.retried(&id).await.code(), "approval_pending");
    cast.gateway.stop().await;
}

#[tokio::test]
async fn open_questions_are_sent_again_by_the_next_run() {
    let (ear, url) = Ear::open().await;
    let cast = Cast::around(Gateway::with(with_webhooks(&url)).await, ear.clone()).await;
    let (open, hash) = cast.asked().await;
    ear.question(&open).await;
    // Another one is over by then.
    let mut wish = wish(&cast.gateway);
    wish["reason"] = json!("for another reason");
    let answer = cast.agent.call(&cast.token, "file_delete", wish).await;
    let over = answer.content()["approval_id"].as_str().unwrap().to_owned();
    let other = answer.content()["operation_hash"].as_str().unwrap().to_owned();
    assert_eq!(cast.says("duty", SECRET, cast.now(), &word(&over, &other, "deny")).await.status, 200);
    let Cast { gateway, token, .. } = cast;
    let (directory, config) = gateway.stop().await;
    ear.heard.lock().unwrap().clear();
    let cast = Cast::around(Gateway::on(directory, config).await, ear.clone()).await;
    let cast = Cast { token, ..cast };
    ear.question(&open).await;
    let heard = cast.says("duty", SECRET, cast.now() + 1, &word(&open, &hash, "approve")).await;
    assert_eq!(heard.status, 200, "{heard:?}");
    assert!(!cast.retried(&open).await.is_error());
    assert!(ear.bodies().iter().all(|body| body["id"] == open), "{:?}", ear.bodies());
    cast.gateway.stop().await;
}

#[tokio::test]
async fn whoever_does_not_hear_shows_in_readiness_and_report_until_they_do() {
    let (ear, url) = Ear::open().await;
    let told = url.clone();
    let adjust = move |config: &mut Config| {
        with_webhooks("http://127.0.0.1:9/nobody")(config);
        let directory = config.data_dir.parent().unwrap().to_owned();
        config.approvals.webhooks.clear();
        config.approvals.approvers.insert("bob".to_owned());
        config.approvals.notify = vec![Notify {
            name: "phones".to_owned(),
            url: told,
            form: NotifyForm::Ntfy,
            token_file: Some(private(&directory, "ntfy.token", "tk_0123456789\n")),
        }];
    };
    let gateway = Gateway::with(adjust).await;
    let people = People::of(&gateway);
    let agent = people.agent("agent");
    let token = gateway.mint(Grant::bound("admin", "tag:mcp-client")).await;
    let ready = async || {
        let answer = send(agent.http.get(gateway.url("/readyz")).bearer_auth(&token)).await;
        (answer.status, answer.body["checks"]["notifications"].clone())
    };
    let line = async || {
        let report = on_host(&gateway, "GET", "/v1/report", None).await.body;
        let lines = report["lines"].as_array().unwrap().clone();
        lines.into_iter().find(|line| line["subject"] == "notifications").unwrap()
    };
    assert_eq!((ready().await, &line().await["level"]), ((200, json!(true)), &json!("ok")));
    // It fails until that was seen.
    ear.answers(&[500; 100]);
    let began = tokio::time::Instant::now();
    let answer = agent.call(&token, "file_delete", wish(&gateway)).await;
    assert_eq!(answer.code(), "approval_required", "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
    eventually("readiness says so", || async { ready().await == (503, json!(false)) }).await;
    let found = line().await;
    let finding = found["finding"].as_str().unwrap();
    assert!(finding.starts_with("notify phones takes no messages since ") && finding.contains("status 500"), "{found}");
    assert!(!found.to_string().contains("/hook"), "{found}");
    ear.answers(&[]);
    eventually("it is heard", || async { ready().await == (200, json!(true)) }).await;
    assert_eq!(line().await["level"], "ok");
    let heard = ear.heard.lock().unwrap().clone();
    let (headers, body) = heard.last().unwrap();
    assert_eq!(
        (&headers["authorization"], &headers["priority"]),
        (&"Bearer tk_0123456789".parse().unwrap(), &"5".parse().unwrap())
    );
    assert!(headers["title"].to_str().unwrap().starts_with("approval wanted: file_delete on local ("), "{headers:?}");
    assert!(String::from_utf8_lossy(body).contains("Reason: replaced by another"), "{body:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_that_never_comes_delays_nobody() {
    // Takes connections and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let cast = Cast::around(Gateway::with(with_webhooks(&url)).await, Ear::default()).await;
    let began = tokio::time::Instant::now();
    let (id, hash) = cast.asked().await;
    let heard = cast.says("duty", SECRET, cast.now(), &word(&id, &hash, "deny")).await;
    assert_eq!(heard.status, 200);
    cast.gateway.stop().await;
    assert!(began.elapsed() < Duration::from_secs(9), "a delivery may take ten seconds, and nobody waits for it");
    drop(listener);
}

#[tokio::test]
async fn whoever_is_told_hears_of_the_end_and_of_a_broken_glass() {
    let (ear, url) = Ear::open().await;
    let adjust = move |config: &mut Config| {
        with_webhooks(&url)(config);
        config.approvals.notify =
            vec![Notify { name: "desk".to_owned(), url: url.clone(), form: NotifyForm::Json, token_file: None }];
    };
    let cast = Cast::around(Gateway::with(adjust).await, ear).await;
    let about = |event: &'static str| cast.ear.bodies().into_iter().filter(move |body| body["event"] == event);
    let hears = async |event| {
        eventually("it is heard", || async { about(event).next().is_some() }).await;
        let heard: Vec<Value> = about(event).collect();
        // Webhooks are asked, and told nothing else.
        assert!(event == "asked" || heard.len() == 1, "{heard:?}");
        heard[0].clone()
    };
    let (id, hash) = cast.asked().await;
    hears("asked").await;
    cast.says("duty", SECRET, cast.now(), &word(&id, &hash, "deny")).await;
    let decided = hears("decided").await;
    assert_eq!((&decided["id"], &decided["decision"]), (&json!(id), &json!("deny")), "{decided}");
    assert_eq!((&decided["by"], &decided["settled"]), (&json!("maria@example.com"), &json!(true)));
    let (unanswered, _) = cast.asked().await;
    cast.gateway.clock.advance(Duration::from_secs(16 * 60));
    assert_eq!(hears("expired").await["id"], json!(unanswered));

    let reason = json!({"reason": "the site is down", "ttl_s": 600});
    let pass = on_host(&cast.gateway, "POST", "/api/v1/break-glass", Some(reason)).await;
    assert_eq!(pass.status, 200, "{pass:?}");
    let made = hears("break_glass").await;
    assert_eq!((&made["id"], &made["reason"]), (&pass.body["id"], &json!("the site is down")));
    let credential = pass.body["credential"].as_str().unwrap();
    cast.retried(credential).await.data();
    let review = hears("review").await;
    assert_eq!((&review["id"], &review["tool"]), (&pass.body["id"], &json!("file_delete")));
    let sent: String = cast.ear.bodies().iter().map(Value::to_string).collect();
    assert!(!sent.contains(credential) && !sent.contains("old.conf"), "{sent}");
    cast.gateway.stop().await;
}
