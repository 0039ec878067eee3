//! Somebody else agrees before something critical runs: who may, that it runs once and exactly as it was asked, and that
//! a right that is taken away after a yes stops it.

use std::{fs, net::SocketAddr, path::PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::{Answer, Silence, answer, http},
    node::Node,
    policy::{self, PORT},
    site::Site,
    wait::until,
};

over_every_way![a_person_agrees_and_it_runs_once, a_right_that_is_taken_away_after_a_yes_stops_the_run];

/// The agents may delete files, as far as people agree; bob may do what `bob` says, if anything.
fn policy(bob: Option<Value>) -> String {
    let agents = policy::gateway(&["tag:mcp-client"], json!({"scopes": ["readonly", "file:write"]}));
    let bob = bob.map(|rule| policy::gateway(&["bob@"], rule));
    policy::with(&[policy::alice(), agents, policy::targets()].into_iter().chain(bob).collect::<Vec<_>>())
}

/// He may look.
fn looks() -> Option<Value> {
    Some(json!({"scopes": ["approval:read"]}))
}

/// He may say yes to critical deletions, too.
fn approves() -> Option<Value> {
    Some(json!({"scopes": ["approval:read"], "approve": {"risks": ["critical"], "tools": ["file_delete"]}}))
}

/// What the agent wants, and how it goes about it.
struct Wish<'a> {
    site: &'a Site,
    token: String,
    file: PathBuf,
}

impl<'a> Wish<'a> {
    /// The token is alice's: she answers for the agent. It is good for every agent, so that a thief of it gets in.
    fn new(site: &'a Site, name: &str) -> Self {
        site.lab.control.set_policy(&policy(None));
        let owner = ["--owner", "alice@example.com"];
        let token =
            site.gateway.mint(&[&["--scopes", "readonly,file:write", "--bind", "tag:mcp-client"], &owner[..]].concat());
        let file = site.gateway.files().join(name);
        fs::write(&file, "of no use any more\n").unwrap();
        let wish = Self { site, token, file };
        until("the agent may see what would be deleted", || {
            let seen = wish.call(&site.lab.agent, json!({"dry_run": true}));
            seen.status == 200 && seen.body["result"]["isError"] != true
        });
        wish
    }

    /// Calls `file_delete` from `node`, with `more` arguments or others.
    fn call(&self, node: &Node, more: Value) -> Answer {
        let mut arguments =
            json!({"target": "local", "path": self.file, "reason": "it fills the disk", "dry_run": false});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        node.machine.call(&self.site.url(), Some(&self.token), "file_delete", arguments).unwrap()
    }

    /// Asks people, and returns what they are asked.
    #[track_caller]
    fn ask(&self) -> Value {
        let asked = self.call(&self.site.lab.agent, json!({}));
        assert_eq!(asked.code(), "approval_required", "{}", asked.body);
        let asked = asked.body["result"]["structuredContent"].clone();
        assert!(asked["decide_at"].as_str().unwrap().contains(&self.site.name), "{asked}");
        asked
    }

    #[track_caller]
    fn is_refused(&self, node: &Node, more: Value, code: &str) {
        let refused = self.call(node, more);
        assert_eq!(refused.code(), code, "{}", refused.body);
        assert!(self.file.exists(), "{code}, and it ran all the same");
    }
}

/// What `node` says to the people's API of a gateway, under its MagicDNS name.
pub fn says(gateway: &str, node: &Node, method: Method, path: &str, body: Option<Value>) -> Result<Answer, Silence> {
    let to = node.resolve(gateway).first().map(|ip| SocketAddr::new(*ip, PORT)).ok_or(Silence::Unreachable)?;
    let url = format!("http://{gateway}:{PORT}/api/v1/{path}");
    node.machine.visit(|| async {
        let http = http().resolve(gateway, to).build().unwrap();
        let request = http.request(method, url).header("X-Tailops-Request", "1");
        answer(body.iter().fold(request, |request, body| request.json(body))).await
    })
}

/// What `node` decides about what was asked.
pub fn decides(gateway: &str, node: &Node, asked: &Value, decision: &str) -> Answer {
    let path = format!("approvals/{}/decision", asked["approval_id"].as_str().unwrap());
    let body = json!({"decision": decision, "operation_hash": asked["operation_hash"], "comment": "as agreed"});
    says(gateway, node, Method::POST, &path, Some(body)).unwrap()
}

fn looks_at(site: &Site, node: &Node, asked: &Value) -> Result<Answer, Silence> {
    says(&site.name, node, Method::GET, &format!("approvals/{}", asked["approval_id"].as_str().unwrap()), None)
}

#[track_caller]
fn is(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{}", answer.body);
}

fn a_person_agrees_and_it_runs_once(site: &Site) {
    let lab = site.lab;
    let wish = Wish::new(site, "once.log");
    let asked = wish.ask();
    let with_it = json!({"approval_id": asked["approval_id"]});
    wish.is_refused(&lab.agent, with_it.clone(), "approval_pending");

    // She owns the token, so it is she who asks, whatever her grant says.
    assert_eq!(looks_at(site, &lab.alice, &asked).unwrap().status, 200);
    is(&decides(&site.name, &lab.alice, &asked, "approve"), 403, "own_request");
    let record = site.last_record(|record| record["code"] == "own_request");
    assert_eq!((&record["kind"], &record["tool"]), (&json!("approval"), &json!("approval.approve")), "{record}");
    assert_eq!(record["tailscale"]["tailscale_user"], "alice@example.com");
    // Agents are nobody, whatever they know.
    is(&decides(&site.name, &lab.agent, &asked, "approve"), 403, "not_a_person");
    // He gets in, and it is none of his business.
    lab.control.set_policy(&policy(looks()));
    until("bob is let in", || {
        says(&site.name, &lab.bob, Method::GET, "whoami", None).is_ok_and(|said| said.status == 200)
    });
    is(&decides(&site.name, &lab.bob, &asked, "approve"), 404, "approval_unknown");
    wish.is_refused(&lab.agent, with_it.clone(), "approval_pending");

    lab.control.set_policy(&policy(approves()));
    until("bob sees it", || looks_at(site, &lab.bob, &asked).is_ok_and(|said| said.status == 200));
    let other = json!({"approval_id": asked["approval_id"], "operation_hash": "0".repeat(64)});
    is(&decides(&site.name, &lab.bob, &other, "approve"), 409, "operation_changed");
    let decided = decides(&site.name, &lab.bob, &asked, "approve");
    assert_eq!((decided.status, &decided.body["state"]), (200, &json!("approved")), "{}", decided.body);

    // Nobody else uses it, and not for anything else.
    wish.is_refused(&lab.thief, with_it.clone(), "approval_unknown");
    let altered = json!({"approval_id": asked["approval_id"], "reason": "it fills the disk!"});
    wish.is_refused(&lab.agent, altered, "approval_changed");
    fs::write(site.gateway.files().join("other.log"), "still of use\n").unwrap();
    let other = json!({"approval_id": asked["approval_id"], "path": site.gateway.files().join("other.log")});
    wish.is_refused(&lab.agent, other, "approval_changed");
    assert!(site.gateway.files().join("other.log").exists());

    let trash = wish.call(&lab.agent, with_it.clone()).data()["trash"].clone();
    assert!(trash.is_string() && !wish.file.exists());
    fs::write(&wish.file, "of no use any more\n").unwrap();
    wish.is_refused(&lab.agent, with_it, "approval_used");

    let id = asked["approval_id"].as_str().unwrap();
    let run = site.last_record(|record| record["tool"] == "file_delete" && record["status"] == "ok");
    assert_eq!((&run["approved"], &run["approval"]["id"]), (&json!(true), &json!(id)), "{run}");
    assert_eq!(run["approval"]["approvers"], json!([{"login": "bob@example.com", "strength": "identity"}]), "{run}");
    assert_eq!(run["approval"]["operation_hash"], asked["operation_hash"]);
    let yes = site.last_record(|record| record["tool"] == "approval.approve" && record["status"] == "ok");
    assert_eq!(
        (&yes["subject"], &yes["correlation_id"]),
        (&json!("bob@example.com"), &asked["correlation_id"]),
        "{yes}"
    );
    assert_eq!(yes["tailscale"]["tailscale_node_id"], lab.bob.id(), "{yes}");
    // The last query of docs/audit.md: nothing critical was done that nobody approved.
    let records = site.records();
    let critical = || records.iter().filter(|record| record["risk_level"] == "critical" && record["dry_run"] != true);
    assert_eq!(critical().filter(|record| record["status"] == "ok").count(), 1);
    assert!(critical().all(|record| record["approved"] == true || record["status"] != "ok"));
}

fn a_right_that_is_taken_away_after_a_yes_stops_the_run(site: &Site) {
    let lab = site.lab;
    let wish = Wish::new(site, "stopped.log");
    lab.control.set_policy(&policy(approves()));
    let asked = wish.ask();
    until("bob sees it", || looks_at(site, &lab.bob, &asked).is_ok_and(|said| said.status == 200));
    assert_eq!(decides(&site.name, &lab.bob, &asked, "approve").body["state"], "approved");
    lab.control.set_policy(&policy(looks()));
    until("bob has no right", || looks_at(site, &lab.bob, &asked).is_ok_and(|said| said.status == 404));
    let with_it = json!({"approval_id": asked["approval_id"]});
    wish.is_refused(&lab.agent, with_it.clone(), "approval_pending");
    let record = site.last_record(|record| record["code"] == "approval_pending");
    assert!(record["error"].as_str().unwrap().contains("counts no more"), "{record}");
    assert_eq!((&record["approved"], &record["exec"]), (&json!(false), &Value::Null), "{record}");
    // Nor does it count where he cannot be found at all.
    lab.control.set_policy(&policy(None));
    until("bob knows no way there", || says(&site.name, &lab.bob, Method::GET, "whoami", None).is_err());
    wish.is_refused(&lab.agent, with_it.clone(), "approval_pending");
    // It was looked up, not forgotten: with the right back, his word counts as he gave it.
    lab.control.set_policy(&policy(approves()));
    until("bob has his right again", || looks_at(site, &lab.bob, &asked).is_ok_and(|said| said.status == 200));
    wish.call(&lab.agent, with_it).data();
    assert!(!wish.file.exists());
}
