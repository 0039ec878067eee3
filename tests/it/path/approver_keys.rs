//! A yes that is a signature: which keys count, who may ask for that, and what a signature has to be over. Refusals first.

use serde_json::{Value, json};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, rand_core::OsRng};
use tailops::{
    approval::{NAMESPACE, Statement},
    audit::ApprovalCheck,
    config::Config,
    model::{Strength, Vote},
};

use crate::{
    harness::{Answer, Gateway, Grant, grants, records},
    people::{People, Visitor, on_host},
    record::plain,
};

const ASKS: &str = "@id(\"look-first\") @ask(\"somebody looks first\")
forbid (principal, action == Action::\"host_inspect\", resource) unless { context.approved };";

fn signed_only(config: &mut Config) {
    let directory = config.data_dir.parent().unwrap().join("policy");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("site.cedar"), ASKS).unwrap();
    config.policy.directory = Some(directory);
    config.approvals.strength = Strength::Signature;
}

/// A key of somebody.
struct Key(PrivateKey);

impl Key {
    fn new() -> Self {
        Self(PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap())
    }

    fn line(&self) -> String {
        self.0.public_key().to_openssh().unwrap()
    }

    fn id(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    fn sign(&self, text: &str) -> String {
        self.0.sign(NAMESPACE, HashAlg::Sha512, text.as_bytes()).unwrap().to_pem(LineEnding::LF).unwrap()
    }

    /// A yes to what `view` shows.
    fn yes(&self, view: &Value) -> String {
        self.sign(&statement(view, Vote::Approve).to_string())
    }
}

fn statement(view: &Value, vote: Vote) -> Statement {
    let text = |key: &str| view[key].as_str().unwrap();
    let expires = text("expires_at").parse().unwrap();
    Statement::new(text("id"), text("operation_hash"), vote, text("nonce"), text("gateway"), expires).unwrap()
}

fn wish(approval: Option<&str>) -> Value {
    match approval {
        None => json!({"target": "local"}),
        Some(id) => json!({"target": "local", "approval_id": id}),
    }
}

fn ballot(view: &Value, decision: &str, signature: Option<&str>) -> Value {
    let mut ballot = json!({"decision": decision, "operation_hash": view["operation_hash"], "comment": ""});
    if let Some(signature) = signature {
        ballot["signature"] = json!(signature);
    }
    ballot
}

fn place(id: &str) -> String {
    format!("/api/v1/approvals/{id}/decision")
}

fn key_place(key: &Key) -> String {
    format!("/api/v1/approver-keys/{}", key.id().replace('/', "%2F").replace('+', "%2B"))
}

/// A gateway that wants signatures, its people, and an agent with its token.
struct Cast {
    gateway: Gateway,
    people: People,
    agent: Visitor,
    token: String,
}

impl Cast {
    async fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        let gateway = Gateway::with(|config| {
            signed_only(config);
            adjust(config);
        })
        .await;
        let people = People::of(&gateway);
        let agent = people.agent("agent");
        let token = gateway.mint(Grant::bound("admin", "tag:mcp-client")).await;
        Self { gateway, people, agent, token }
    }

    async fn enrol(&self, login: &str, key: &Key) -> Answer {
        let body = json!({"login": login, "public_key": key.line(), "label": "laptop"});
        on_host(&self.gateway, "POST", "/api/v1/approver-keys", Some(body)).await
    }

    /// Enrols another key, with `by` saying yes.
    async fn enrol_agreed(&self, login: &str, key: &Key, by: (&Visitor, &Key)) {
        let asked = self.enrol(login, key).await;
        assert_eq!(asked.status, 200, "{asked:?}");
        let view = &asked.body["approval"];
        let done = self.say(by.0, view, "approve", Some(&by.1.yes(view))).await;
        assert_eq!((done.status, &done.body["state"]), (200, &json!("used")), "{done:?}");
    }

    async fn call(&self, approval: Option<&str>) -> Answer {
        self.agent.call(&self.token, "host_inspect", wish(approval)).await
    }

    /// The agent asks; what `who` sees of it.
    async fn asked(&self, who: &Visitor) -> Value {
        let answer = self.call(None).await;
        assert_eq!(answer.code(), "approval_required", "{answer:?}");
        let id = answer.content()["approval_id"].as_str().unwrap();
        who.get(&format!("/api/v1/approvals/{id}")).await.body
    }

    async fn say(&self, who: &Visitor, view: &Value, decision: &str, signature: Option<&str>) -> Answer {
        who.post(&place(view["id"].as_str().unwrap()), ballot(view, decision, signature)).await
    }

    /// What an auditor who has only the export finds.
    async fn faults(&self, id: &str) -> Vec<String> {
        let mut check = ApprovalCheck::new(id);
        for record in records(self.gateway.store(), true).await {
            check.take(&record.to_string());
        }
        check.finish().faults
    }
}

fn refused(answer: &Answer, code: &str, wanted: &str) {
    let message = answer.body["message"].as_str().unwrap_or_default();
    assert_eq!((answer.status, answer.body["code"].as_str()), (403, Some(code)), "{answer:?}");
    assert!(message.contains(wanted), "{wanted:?} in {message}");
}

#[tokio::test]
async fn a_signature_that_does_not_fit_counts_for_nothing_and_one_that_does_lets_it_run() {
    let cast = Cast::with(|_| {}).await;
    let bob = cast.people.approver("bob", json!(true));
    assert_eq!(cast.call(None).await.code(), "approval_unavailable", "nobody has a key");
    let (of_bob, of_carol, of_nobody) = (Key::new(), Key::new(), Key::new());
    let first = cast.enrol("bob@example.com", &of_bob).await;
    assert_eq!((first.status, &first.body["enrolled"]), (200, &json!(true)), "{first:?}");
    cast.enrol_agreed("carol@example.com", &of_carol, (&bob, &of_bob)).await;

    let (view, other) = (cast.asked(&bob).await, cast.asked(&bob).await);
    let id = view["id"].as_str().unwrap();
    let changed = |field: &str, value: &str| {
        let mut changed = view.clone();
        changed[field] = json!(value);
        of_bob.yes(&changed)
    };
    refused(&cast.say(&bob, &view, "approve", None).await, "signature_required", "signature");
    let cases = [
        ("hello".to_owned(), "ssh-keygen -Y sign"),
        (of_nobody.yes(&view), "is not enrolled"),
        (of_carol.yes(&view), "somebody else's"),
        (of_bob.sign(&statement(&view, Vote::Deny).to_string()), "turned around"),
        (of_bob.yes(&other), "another approval"),
        (changed("gateway", "https://other.example.ts.net"), "gateway"),
        (changed("expires_at", "2100-01-01T00:00:00Z"), "expiry"),
        (changed("operation_hash", &"0".repeat(64)), "operation"),
        (changed("nonce", &"0".repeat(32)), "nonce"),
    ];
    for (signature, wanted) in &cases {
        refused(&cast.say(&bob, &view, "approve", Some(signature)).await, "bad_signature", wanted);
    }
    let flipped = cast.say(&bob, &view, "deny", Some(&of_bob.yes(&view))).await;
    refused(&flipped, "bad_signature", "turned around");
    let stranger = cast.people.person("mallory");
    let unseen = cast.say(&stranger, &view, "approve", Some("hello")).await;
    assert_eq!(
        (unseen.status, &unseen.body["code"]),
        (404, &json!("approval_unknown")),
        "who may not know learns nothing"
    );
    assert_eq!(cast.call(Some(id)).await.code(), "approval_pending");

    let good = cast.say(&bob, &view, "approve", Some(&of_bob.yes(&view))).await;
    assert_eq!((good.status, &good.body["state"]), (200, &json!("approved")), "{good:?}");
    assert_eq!(good.body["votes"][0]["key_id"], json!(of_bob.id()));
    assert!(!cast.call(Some(id)).await.is_error());

    let log = cast.gateway.records().await;
    let wrong = log.iter().filter(|record| record["code"] == "bad_signature").count();
    assert_eq!(wrong, cases.len() + 1, "each is on record");
    let of_this = |record: &&Value| record["approval"]["id"] == id && !record["approval"]["signed"].is_null();
    let decision: Vec<&Value> = log.iter().filter(of_this).collect();
    assert_eq!(decision.len(), 1);
    let signed = &decision[0]["approval"]["signed"];
    assert_eq!(signed["statement"], json!(statement(&view, Vote::Approve).to_string()));
    assert_eq!(signed["signature"], json!(of_bob.yes(&view)), "as it came, past redaction");
    assert_eq!(cast.faults(id).await, Vec::<String>::new());
    assert_eq!(cast.faults("none").await.len(), 1);
    cast.gateway.stop().await;
}

#[tokio::test]
async fn a_key_that_is_taken_out_after_the_yes_stops_the_run() {
    let cast = Cast::with(|_| {}).await;
    let (bob, carol) = (cast.people.approver("bob", json!(true)), cast.people.approver("carol", json!(true)));
    let (of_bob, of_carol) = (Key::new(), Key::new());
    cast.enrol("bob@example.com", &of_bob).await;
    cast.enrol_agreed("carol@example.com", &of_carol, (&bob, &of_bob)).await;
    let view = cast.asked(&bob).await;
    assert_eq!(cast.say(&bob, &view, "approve", Some(&of_bob.yes(&view))).await.status, 200);

    let stranger = cast.people.person("mallory").delete(&key_place(&of_bob)).await;
    assert_eq!((stranger.status, &stranger.body["code"]), (403, &json!("not_an_approver")), "{stranger:?}");
    let other = carol.delete(&key_place(&of_bob)).await;
    assert_eq!((other.status, &other.body["code"]), (403, &json!("not_your_login")), "{other:?}");
    let unknown = bob.delete(&key_place(&Key::new())).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (404, &json!("key_unknown")), "{unknown:?}");
    let asked = bob.delete(&key_place(&of_bob)).await;
    let act = &asked.body["approval"];
    assert_eq!((&act["kind"], &act["tool"]), (&json!("act"), &json!("approver_key.remove")), "{asked:?}");
    refused(&cast.say(&bob, act, "approve", Some(&of_bob.yes(act))).await, "own_request", "somebody else");
    let done = cast.say(&carol, act, "approve", Some(&of_carol.yes(act))).await;
    assert_eq!(done.body["state"], "used", "{done:?}");

    let run = cast.call(Some(view["id"].as_str().unwrap())).await;
    assert_eq!(run.code(), "approval_pending", "{run:?}");
    let again = cast.say(&bob, &view, "approve", Some(&of_bob.yes(&view))).await;
    refused(&again, "bad_signature", "enrolled no more");
    let back = cast.enrol("bob@example.com", &of_bob).await;
    assert_eq!((back.status, &back.body["code"]), (409, &json!("key_taken_out")), "{back:?}");
    let listed = carol.get("/api/v1/approver-keys").await;
    let ids: Vec<&Value> = listed.body["keys"].as_array().unwrap().iter().map(|key| &key["key_id"]).collect();
    assert_eq!(ids, [&json!(of_carol.id())]);
    cast.gateway.stop().await;
}

/// Whoever sits at the gateway's own host may hold the key of somebody who is known on the tailnet.
#[tokio::test]
async fn on_the_gateways_own_host_a_signature_is_the_word_of_its_keys_owner() {
    let cast = Cast::with(|_| {}).await;
    let (bob, of_bob) = (cast.people.approver("bob", json!(true)), Key::new());
    cast.enrol("Bob@example.com", &of_bob).await;
    let view = cast.asked(&bob).await;
    let id = view["id"].as_str().unwrap();
    let unsigned = on_host(&cast.gateway, "POST", &place(id), Some(ballot(&view, "approve", None))).await;
    refused(&unsigned, "not_an_approver", "you may not");
    let seen = on_host(&cast.gateway, "GET", &format!("/api/v1/approvals/{id}"), None).await;
    assert_eq!(
        (seen.status, &seen.body["may_decide"]),
        (200, &json!(false)),
        "who holds a key has to see what it signs"
    );
    let strange = Key::new().yes(&view);
    let strange = on_host(&cast.gateway, "POST", &place(id), Some(ballot(&view, "approve", Some(&strange)))).await;
    refused(&strange, "bad_signature", "is not enrolled");
    let may = |approve: Value| {
        move |peer: &mut tailops::tailnet::Peer| {
            peer.grants = grants(json!([{"scopes": ["readonly"], "approve": approve}]));
        }
    };
    let signed = ballot(&view, "approve", Some(&of_bob.yes(&view)));
    bob.becomes(may(json!({"risks": ["critical"]})));
    let powerless = on_host(&cast.gateway, "POST", &place(id), Some(signed.clone())).await;
    refused(&powerless, "not_an_approver", "you may not");
    bob.becomes(may(json!(true)));
    let done = on_host(&cast.gateway, "POST", &place(id), Some(signed)).await;
    assert_eq!((done.status, &done.body["votes"][0]["login"]), (200, &json!("bob@example.com")), "{done:?}");
    bob.leaves();
    assert_eq!(cast.call(Some(id)).await.code(), "approval_pending", "nothing gives bob the right now");
    let bob = cast.people.approver("bob", json!(true));
    assert!(!cast.call(Some(id)).await.is_error());
    assert_eq!(bob.get(&format!("/api/v1/approvals/{id}")).await.body["state"], "used");
    assert_eq!(cast.faults(id).await, Vec::<String>::new());
    cast.gateway.stop().await;
}

#[tokio::test]
async fn whoever_asked_agrees_by_a_signature_where_that_is_allowed_and_by_nothing_else() {
    let cast = Cast::with(|config| config.approvals.second_person = false).await;
    let (maria, of_maria) = (cast.people.approver("maria", json!(true)), Key::new());
    cast.enrol("maria@example.com", &of_maria).await;
    let rules = grants(json!([{"scopes": ["admin"], "approve": true}]));
    maria.becomes(|peer| peer.grants = rules);
    let token = cast.gateway.mint(Grant::bound("admin", "user:maria@example.com")).await;
    let asked = maria.call(&token, "host_inspect", wish(None)).await;
    assert_eq!(asked.code(), "approval_required", "{asked:?}");
    let id = asked.content()["approval_id"].as_str().unwrap();
    let view = maria.get(&format!("/api/v1/approvals/{id}")).await.body;
    refused(&cast.say(&maria, &view, "approve", None).await, "signature_required", "signature");
    let good = cast.say(&maria, &view, "approve", Some(&of_maria.yes(&view))).await;
    assert_eq!((good.status, &good.body["state"]), (200, &json!("approved")), "{good:?}");
    assert!(!maria.call(&token, "host_inspect", wish(Some(id))).await.is_error());
    cast.gateway.stop().await;
}

#[tokio::test]
async fn only_the_first_key_and_only_from_the_host_needs_nobodys_yes() {
    let cast = Cast::with(|config| config.approvals.strength = Strength::Identity).await;
    let (bob, carol) = (cast.people.approver("bob", json!(true)), cast.people.approver("carol", json!(true)));
    let of_bob = Key::new();
    let body = |login: &str, key: &str| json!({"login": login, "public_key": key, "label": ""});
    let post = async |who: &Visitor, body: Value| who.post("/api/v1/approver-keys", body).await;
    let told = |answer: &Answer| (answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned());
    let stranger = cast.people.person("mallory");
    let of_mallory = body("mallory@example.com", &Key::new().line());
    assert_eq!(told(&post(&stranger, of_mallory).await), (403, "not_an_approver".into()));
    assert_eq!(told(&post(&bob, body("carol@example.com", &of_bob.line())).await), (403, "not_your_login".into()));
    for (field, bad) in [
        ("public_key", body("bob@example.com", "ssh-rsa AAAA")),
        ("public_key", body("bob@example.com", &format!("no-pty {}", of_bob.line()))),
        ("public_key", body("bob@example.com", &of_bob.0.to_openssh(LineEnding::LF).unwrap())),
        ("login", body("", &of_bob.line())),
        ("login", body("bob example", &of_bob.line())),
        ("label", json!({"login": "bob@example.com", "public_key": of_bob.line(), "label": "a\nb"})),
        ("label", json!({"login": "bob@example.com", "public_key": of_bob.line(), "label": "x".repeat(101)})),
    ] {
        let answer = post(&bob, bad).await;
        assert_eq!(told(&answer), (400, "invalid_arguments".into()), "{answer:?}");
        assert!(answer.body["message"].as_str().unwrap().contains(field), "{field}: {answer:?}");
    }
    // Over the tailnet the first key, too, needs a yes of somebody else.
    let asked = post(&bob, body("bob@example.com", &of_bob.line())).await;
    let act = &asked.body["approval"];
    assert_eq!((&act["state"], &act["kind"]), (&json!("pending"), &json!("act")), "{asked:?}");
    assert_eq!(carol.get("/api/v1/approver-keys").await.body["keys"], json!([]));
    refused(&cast.say(&bob, act, "approve", None).await, "own_request", "somebody else");
    let done = cast.say(&carol, act, "approve", None).await;
    assert_eq!(done.body["state"], "used", "{done:?}");
    assert_eq!(bob.get("/api/v1/whoami").await.body["keys"], json!([of_bob.id()]));
    assert_eq!(
        stranger.get("/api/v1/approver-keys").await.body["keys"],
        json!([]),
        "others' keys are not for everybody"
    );
    // No more at once, also not from the host, and no key twice.
    let next = cast.enrol("dave@example.com", &Key::new()).await;
    assert_eq!(next.body["approval"]["state"], "pending", "{next:?}");
    assert!(next.body["warning"].as_str().unwrap().contains("dave@example.com"), "{next:?}");
    let twice = cast.enrol("carol@example.com", &of_bob).await;
    assert_eq!(told(&twice), (409, "key_enrolled".into()));
    let log = cast.gateway.records().await;
    let added: Vec<&Value> = log.iter().filter(|record| record["tool"] == "approver_key.add").collect();
    assert_eq!(added.len(), 1, "{added:#?}");
    assert_eq!((&added[0]["approved"], &added[0]["args"]["key_id"]), (&json!(true), &json!(of_bob.id())));
    assert_eq!(added[0]["args"]["public_key"], json!(of_bob.line()), "no secret, and not taken for one");
    cast.gateway.stop().await;
}

/// Whoever can write the database can name anybody as having agreed, and still cannot sign for them.
#[tokio::test]
async fn a_signed_yes_is_checked_again_when_it_is_used() {
    let cast = Cast::with(|_| {}).await;
    let (bob, of_bob) = (cast.people.approver("bob", json!(true)), Key::new());
    cast.enrol("bob@example.com", &of_bob).await;
    let (view, other) = (cast.asked(&bob).await, cast.asked(&bob).await);
    let id = view["id"].as_str().unwrap();
    let place = json!({"kind": "tailnet", "node": bob.id, "address": bob.ip.to_string()}).to_string();
    let mut database = plain(&cast.gateway.config.data_dir).await;
    let mut put = async |signature: &str| {
        let insert = "INSERT OR REPLACE INTO approval_vote (approval_id, login, vote, strength, place, comment, key_id, \
                      signature, signed, voted_at) VALUES (?, 'bob@example.com', 'approve', 'signature', ?, '', ?, ?, \
                      'as agreed', '2026-01-01T00:00:00Z')";
        let insert = sqlx::query(insert).bind(id).bind(&place).bind(of_bob.id()).bind(signature);
        insert.execute(&mut database).await.unwrap();
    };
    for forged in [String::new(), Key::new().yes(&view), of_bob.yes(&other)] {
        put(&forged).await;
        assert_eq!(cast.call(Some(id)).await.code(), "approval_pending");
    }
    put(&of_bob.yes(&view)).await;
    assert!(!cast.call(Some(id)).await.is_error(), "the row itself is right");
    cast.gateway.stop().await;
}
