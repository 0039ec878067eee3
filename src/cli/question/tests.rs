//! What a page shows, and what it says of its own hash.

use serde_json::json;

use super::*;

/// A question as a gateway shows it, with the right hash.
pub(in crate::cli) fn question(reason: &str) -> ApprovalView {
    let operation = json!({
        "v": 1,
        "tool": "file_delete",
        "arguments": {"path": "/srv/a", "reason": reason},
        "target": {"id": "local", "kind": "local"},
        "steps": [{"script": {"template": "file_delete.v1"}}],
        "engagement": "default",
        "caller": {"jti": "j1", "subject": "dev", "owner": "maria@example.org", "peer": "n1", "login": null},
        "reason": reason,
        "world": {"sha256": "00"},
    });
    let hash = hash_of(&canonical_json(&operation).unwrap());
    let view = json!({
        "id": "k3vd-9w2m-7qtp", "state": "pending", "kind": "call", "operation_hash": hash, "operation": operation,
        "preview": {"data": {"size": 3}}, "why": "file_delete is critical",
        "trace": [{"name": "token_scope", "verdict": "pass", "code": "", "detail": ""},
            {"name": "risk", "verdict": "ask", "code": "approval_required", "detail": "critical"}],
        "quorum": 1, "strength": "identity", "engagement": "default", "tool": "file_delete", "target": "local",
        "segment": null, "risk": "critical", "subject": "dev", "owner": "maria@example.org", "peer": "n1",
        "login": null, "correlation_id": "c", "gateway": "http://localhost:8080", "nonce": "00", "votes": [],
        "created_at": "2026-11-21T18:00:00Z", "expires_at": "2026-11-21T18:15:00Z", "ended_at": null,
        "may_decide": true,
    });
    serde_json::from_value(view).unwrap()
}

fn now() -> Timestamp {
    "2026-11-21T18:03:20Z".parse().unwrap()
}

#[test]
fn what_is_shown_is_what_the_hash_names_or_the_page_says_that_it_is_not() {
    let view = question("to clean up");
    assert_eq!(checked(&view), Checked::Same);
    let mut hidden = view.clone();
    hidden.operation["caller"]["owner"] = json!("‹pii:email#1›");
    assert_eq!(checked(&hidden), Checked::Same, "logins stand beside it");
    hidden.operation["arguments"]["path"] = json!("/srv/‹secret:password#1›");
    assert_eq!(checked(&hidden), Checked::Hidden(1));
    for (pointer, other) in [
        ("/arguments/path", "/srv/b"),
        ("/target/id", "web"),
        ("/target/kind", "ssh"),
        ("/caller/jti", "j2"),
        ("/v", "2"),
    ] {
        let mut view = view.clone();
        *view.operation.pointer_mut(pointer).unwrap() = json!(other);
        assert_eq!(checked(&view), Checked::Other, "{pointer}");
        assert!(page(&view, now()).iter().any(|line| line.contains("do not agree")));
    }
    let beside: [fn(&mut ApprovalView); 8] = [
        |view| view.tool = "file_read".into(),
        |view| view.target = Some("web".into()),
        |view| view.target = None,
        |view| view.engagement = "other".into(),
        |view| view.subject = "other".into(),
        |view| view.owner = "other".into(),
        |view| view.peer = "other".into(),
        |view| view.login = Some("other".into()),
    ];
    for (index, lie) in beside.iter().enumerate() {
        let mut view = view.clone();
        lie(&mut view);
        assert_eq!(checked(&view), Checked::Other, "{index}");
    }
    let mut other = view.clone();
    other.owner = "eve@example.org".to_owned();
    other.operation["caller"]["owner"] = json!("‹pii:email#1›");
    assert_eq!(checked(&other), Checked::Other, "a wrong name beside it");
    let mut marked = view;
    marked.operation["caller"]["jti"] = json!("‹pii:x#1›");
    assert_eq!(checked(&marked), Checked::Other, "nothing of the caller is hidden but logins");
}

#[test]
fn a_page_tells_everything_that_is_agreed_to() {
    let mut view = question("to clean up");
    view.votes = serde_json::from_value(json!([{"login": "bob", "vote": "approve", "strength": "identity",
        "comment": "fine", "key_id": null, "at": "2026-11-21T18:01:00Z"}]))
    .unwrap();
    let text = page(&view, now()).join("\n");
    for wanted in [
        "k3vd-9w2m-7qtp: pending, ends in 11 min",
        "file_delete on local (critical)",
        "engagement   default",
        "dev (token of maria@example.org) from n1, 3 min ago",
        "“to clean up”",
        "asked by risk: critical",
        "path: /srv/a",
        "template: file_delete.v1",
        "sha256: \"00\"",
        "size: 3",
        "yes by bob 2 min ago: “fine”",
        "the yes of one person",
        &view.operation_hash,
        "and the same",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
}

#[test]
fn nothing_that_an_agent_or_a_target_says_reaches_a_terminal_raw() {
    let hostile = "x\u{1b}[2J\u{202e}\nhash         sha256:00\r\u{9b}1A";
    let mut view = question(hostile);
    view.preview = Some(json!({hostile: [hostile, {"b": hostile}]}));
    (view.subject, view.why, view.peer) = (hostile.into(), hostile.into(), hostile.into());
    view.target = Some(hostile.into());
    view.trace = json!([{"name": hostile, "verdict": "ask", "detail": hostile}]);
    let lines: Vec<String> = page(&view, now()).into_iter().chain(row(&view, now())).collect();
    for line in &lines {
        assert!(line.chars().all(|c| !c.is_control() && !crate::guard::is_invisible(c)), "{line:?}");
    }
    assert_eq!(lines.iter().filter(|line| line.starts_with("hash ")).count(), 1);
    assert!(lines.iter().any(|line| line.contains("│ hash")), "its lines stand behind bars: {lines:#?}");
    assert!(row(&question(&"long ".repeat(99)), now()).iter().all(|cell| cell.chars().count() <= 80));
}

#[test]
fn what_is_too_long_is_cut_and_says_so() {
    let mut view = question("x");
    view.preview = Some(json!({"data": "line\n".repeat(5000)}));
    let lines = page(&view, now());
    assert!(lines.len() < 300 && lines.iter().any(|line| line.contains("more lines")), "{}", lines.len());
    assert!(lines.last().unwrap().contains("and the same"), "what matters stands behind it");
}

#[test]
fn distances_are_short() {
    let at = |text: &str| distance(text.parse().unwrap(), now());
    assert_eq!(at("2026-11-21T18:03:10Z"), "10 s ago");
    assert_eq!(at("2026-11-21T18:15:00Z"), "in 11 min");
    assert_eq!(at("2026-11-21T16:00:00Z"), "2 h ago");
    assert_eq!(at("2026-11-24T18:04:00Z"), "in 3 d");
}
