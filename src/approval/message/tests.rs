//! What every form says, and that nothing of an operation but its names gets into it.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::approval::notify::example;

const NOW: &str = "2026-11-21T18:40:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn asked() -> Message {
    Message::News(Arc::new(News::Asked(Box::new(example("k3vd-9w2m-7qtp", at("2026-11-21T18:55:00Z"))))))
}

fn forms() -> [Form; 3] {
    let token = HeaderValue::from_static("Bearer tk_1");
    [
        Form::Webhook { name: "duty".to_owned(), seal: Arc::new(Seal::of(b"0123456789abcdef0123456789abcdef")) },
        Form::Json(Some(token.clone())),
        Form::Ntfy(Some(token)),
    ]
}

fn json(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn a_webhook_is_asked_with_names_and_hashes_and_no_arguments() {
    let [webhook, plain_json, _] = forms();
    let (headers, body) = webhook.written(&asked(), at(NOW));
    let wanted = json!({
        "v": 1, "event": "asked", "id": "k3vd-9w2m-7qtp", "operation_hash": "5e".repeat(32),
        "nonce": "00112233445566778899aabbccddeeff", "gateway": "https://tailops.example.ts.net",
        "expires_at": "2026-11-21T18:55:00Z", "tool": "file_delete", "target": "web01", "engagement": "default",
        "risk": "critical", "subject": "deploy-agent", "reason": "replaced by app.conf",
        "why": "file_delete is critical", "quorum": 1, "strength": "identity",
        "callback": "https://tailops.example.ts.net/api/v1/webhooks/duty",
    });
    assert_eq!(json(&body), wanted);
    assert_eq!(headers["x-tailops-timestamp"], at(NOW).as_second().to_string().as_str());
    let signature = headers["x-tailops-signature"].to_str().unwrap();
    let seal = Seal::of(b"0123456789abcdef0123456789abcdef");
    assert_eq!(signature, seal.sign(&at(NOW).as_second().to_string(), &body));
    assert!(!headers.contains_key("authorization"));

    let (headers, body) = plain_json.written(&asked(), at(NOW));
    assert_eq!(
        (json(&body).get("callback"), &headers["authorization"]),
        (None, &HeaderValue::from_static("Bearer tk_1"))
    );
    assert!(!headers.contains_key("x-tailops-signature"));
}

/// The blocks of the documentation, without their fences.
fn documented() -> Vec<&'static str> {
    let page = include_str!("../../../docs/webhooks.md");
    let blocks = page.split("\n```").skip(1).step_by(2);
    blocks.map(|block| block.split_once('\n').map_or("", |(_, text)| text)).collect()
}

#[test]
fn the_example_of_the_documentation_is_what_is_sent_and_what_is_heard() {
    let blocks = documented();
    let at_secret = blocks.iter().position(|block| *block == "0123456789abcdef0123456789abcdef").unwrap();
    let [secret, time, body, signature, ..] = &blocks[at_secret..] else { panic!("{blocks:?}") };
    let seal = Arc::new(Seal::of(secret.as_bytes()));
    let webhook = Form::Webhook { name: "duty".to_owned(), seal: seal.clone() };
    let (headers, sent) = webhook.written(&asked(), at(NOW));
    // The order of keys means nothing, and the signature is of the bytes as they stand there.
    assert_eq!(json(&sent), json(&Bytes::from(*body)));
    assert_eq!(headers[TIMESTAMP], *time);
    assert_eq!(seal.sign(time, body.as_bytes()), *signature);

    // The answer, three blocks that stand together.
    let answer = blocks.iter().position(|block| block.contains("\"decision\":\"approve\"")).unwrap();
    let [time, body, signature] = [answer - 1, answer, answer + 1].map(|at| blocks[at]);
    assert_eq!(seal.sign(time, body.as_bytes()), signature);
    let said = crate::approval::webhook::read(body.as_bytes()).unwrap();
    assert_eq!((said.id.as_str(), said.vote), ("k3vd-9w2m-7qtp", Vote::Approve));

    let [.., ntfy] = forms();
    let (headers, text) = ntfy.written(&asked(), at(NOW));
    let block = blocks.iter().find(|block| block.starts_with("POST /tailops-duty")).unwrap();
    let (head, shown) = block.split_once("\n\n").unwrap();
    assert_eq!(text, shown);
    for line in head.lines().skip(2) {
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(headers[name.to_lowercase().as_str()], value, "{name}");
    }
}

#[test]
fn ntfy_has_a_title_a_priority_and_where_to_decide() {
    let [.., ntfy] = forms();
    let (headers, body) = ntfy.written(&asked(), at(NOW));
    assert_eq!(headers["title"], "approval wanted: file_delete on web01 (critical)");
    assert_eq!(
        (&headers["priority"], &headers["tags"]),
        (&HeaderValue::from(5), &HeaderValue::from_static("question"))
    );
    assert_eq!(
        (&headers["click"], &headers["authorization"]),
        (&HeaderValue::from_static("https://tailops.example.ts.net"), &HeaderValue::from_static("Bearer tk_1"),)
    );
    let wanted = "deploy-agent asks, in engagement default.\nReason: replaced by app.conf\nWhy you: file_delete is critical\n\
        Until 2026-11-21T18:55:00Z: tailops approve k3vd-9w2m-7qtp";
    assert_eq!(body, wanted);
}

#[test]
fn every_event_says_which_it_is() {
    let question = || Box::new(example("k3vd-9w2m-7qtp", at(NOW)));
    let alarm = || {
        Box::new(Alarm {
            id: "p".into(),
            by: "root".into(),
            reason: "site down".into(),
            expires: Some(at(NOW)),
            tool: Some("file_delete".into()),
            target: None,
        })
    };
    let decided = |vote, settled| News::Decided { question: question(), vote, by: "bob@example.org".into(), settled };
    let [_, plain_json, ntfy] = forms();
    for (news, event, title) in [
        (decided(Vote::Approve, true), "decided", "approved: file_delete on web01"),
        (decided(Vote::Deny, true), "decided", "denied: file_delete on web01"),
        (News::Expired(question()), "expired", "expired: file_delete on web01"),
        (News::BreakGlass(alarm()), "break_glass", "a pass for emergencies was made"),
        (News::Review(alarm()), "review", "a pass let file_delete through"),
    ] {
        let message = Message::News(Arc::new(news));
        let body = json(&plain_json.written(&message, at(NOW)).1);
        assert_eq!((&body["v"], &body["event"]), (&json!(1), &json!(event)));
        assert_eq!(ntfy.written(&message, at(NOW)).0["title"], title);
    }
    let missed = Message::Missed { count: 3, since: at(NOW) };
    let body = json(&plain_json.written(&missed, at(NOW)).1);
    assert_eq!(body, json!({"v": 1, "event": "missed", "count": 3, "since": NOW}));
    assert_eq!(ntfy.written(&missed, at(NOW)).0["title"], "tailops: 3 messages were missed");
}

#[test]
fn what_is_long_is_cut_and_what_is_not_seen_is_a_space() {
    assert_eq!(plain("a\r\nb\u{202e}c\u{200b}d\te", 99), "a  b c d e");
    assert_eq!(plain("abcdef", 3), "abc…");
    assert_eq!(ascii("Überall?\u{7f}"), "?berall??");
}

proptest! {
    #[test]
    fn no_text_of_an_agent_leaves_its_field(text in "(?s).{0,700}|[\\r\\n:A-Za-z ]{0,200}") {
        let mut question = example("k3vd-9w2m-7qtp", at("2026-11-21T18:55:00Z"));
        question.subject.clone_from(&text);
        question.target = Some(text.clone());
        question.why.clone_from(&text);
        question.shown = json!({"reason": text, "arguments": {"path": "/srv/hunter2"}}).to_string();
        let message = Message::News(Arc::new(News::Asked(Box::new(question))));
        for form in forms() {
            let (headers, body) = form.written(&message, at(NOW));
            // As many headers as ever, each on one line.
            let (usual, _) = form.written(&asked(), at(NOW));
            prop_assert_eq!(headers.len(), usual.len());
            for value in headers.values() {
                prop_assert!(value.as_bytes().iter().all(|byte| (b' '..0x7f).contains(byte)), "{:?}", value);
                prop_assert!(value.len() < 400);
            }
            let text = String::from_utf8(body.to_vec()).unwrap();
            prop_assert!(!text.contains("hunter2") && text.len() < 20_000);
            match form {
                Form::Ntfy(_) => prop_assert_eq!(text.lines().count(), 4),
                _ => {
                    let body: Value = serde_json::from_str(&text).unwrap();
                    let reason = body["reason"].as_str().unwrap();
                    prop_assert!(reason.chars().count() <= LONGEST + 1 && !reason.chars().any(char::is_control));
                }
            }
        }
    }
}
