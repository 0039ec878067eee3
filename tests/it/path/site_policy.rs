//! Site policy through the whole gateway: what it refuses first, then what it asks and leaves alone.

use std::{fs, path::Path, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use tailops::{
    app::rules,
    auth::{Binding, Claims},
    config::{Config, PolicyException},
    model::{EngagementId, Operation, ScopeSet, SystemClock},
    pipeline::RulesInForce,
    policy::Verdict,
    tailnet::Peer,
    tools::{self, PlanContext},
};

use crate::harness::{Gateway, Grant, alice};

/// Puts `text` into force for the gateway that `config` describes, in two segments.
fn site(config: &mut Config, text: &str) {
    let directory = config.data_dir.parent().unwrap().join("policy");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("site.cedar"), text).unwrap();
    config.policy.directory = Some(directory);
    for (id, segment) in [("staging-1", "staging"), ("prod-1", "production-a")] {
        let mut target = config.targets[0].clone();
        (target.id, target.segment) = (id.into(), Some(segment.to_owned()));
        config.targets.push(target);
    }
}

const FAILS: &str = "@id(\"overflows\") forbid (principal, action == Action::\"process_list\", resource)
when { context.args has limit && context.args.limit + 9223372036854775807 > 0 };";

#[tokio::test]
async fn a_policy_that_fails_denies_and_is_named() {
    let gateway = Gateway::with(|config| site(config, FAILS)).await;
    let token = gateway.admin().await;
    let answer = gateway.call(&token, "process_list", json!({"target": "staging-1"})).await;
    assert_eq!(answer.code(), "site_policy_error");
    assert!(answer.content()["message"].as_str().unwrap().contains("overflows"), "{}", answer.body);
    let records = gateway.records_of(&answer).await;
    let facts = [&records[0]["rule"], &records[0]["decision"], &records[0]["exec"]];
    assert_eq!(facts, [&json!("site_policy: overflows"), &json!("deny"), &Value::Null]);
    gateway.call(&token, "host_inspect", json!({"target": "staging-1"})).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn permits_of_a_site_widen_nothing() {
    let all = "@id(\"all\") permit (principal, action, resource); @id(\"me\") permit (principal == Agent::\"agent\", action, resource);";
    let gateway = Gateway::with(|config| site(config, all)).await;
    let low = gateway.mint(Grant::scopes("log:read")).await;
    let arguments =
        json!({"target": "prod-1", "unit": "ssh.service", "action": "stop", "reason": "a test", "dry_run": false});
    assert_eq!(gateway.call(&low, "service_control", arguments.clone()).await.code(), "insufficient_scope");
    let one = gateway.mint(Grant { targets: Some(vec!["staging-1".to_owned()]), ..Grant::default() }).await;
    assert_eq!(gateway.call(&one, "process_list", json!({"target": "prod-1"})).await.code(), "token_target_denied");
    let admin = gateway.admin().await;
    assert_eq!(gateway.call(&admin, "service_control", arguments).await.code(), "approval_unavailable");
    gateway.stop().await;
}

const SEGMENTS: &str =
    "@id(\"look-first\") @ask(\"production is looked at by two\") @approvers(\"2\") @strength(\"signature\")
forbid (principal, action == Action::\"process_list\", resource)
when { resource.segment == \"production-a\" }
unless { context.approved };
@id(\"no-journals\") @description(\"journals stay where they are\")
forbid (principal, action in Action::\"journal\", resource);";

#[tokio::test]
async fn one_call_is_allowed_in_one_segment_and_asks_in_another() {
    let gateway = Gateway::with(|config| site(config, SEGMENTS)).await;
    let token = gateway.admin().await;
    gateway.call(&token, "process_list", json!({"target": "staging-1"})).await.data();
    let asked = gateway.call(&token, "process_list", json!({"target": "prod-1"})).await;
    assert_eq!(asked.code(), "approval_unavailable");
    assert!(asked.content()["message"].as_str().unwrap().contains("production is looked at by two (look-first)"));
    let records = gateway.records_of(&asked).await;
    let facts = [&records[0]["rule"], &records[0]["decision"], &records[0]["exec"]];
    assert_eq!(facts, [&json!("site_policy: look-first"), &json!("ask"), &Value::Null]);

    let question = json!({"tool": "process_list", "args": {"target": "prod-1"}});
    let explained = gateway.call(&token, "policy_explain", question).await;
    let data = explained.data();
    let facts = [&data["decision"], &data["policies"], &data["quorum"], &data["strength"]];
    assert_eq!(facts, [&json!("ask"), &json!(["look-first"]), &json!(2), &json!("signature")]);
    assert_eq!(data["checks"].as_array().unwrap().last().unwrap()["name"], "site_policy");

    let denied = gateway.call(&token, "journal_query", json!({"target": "staging-1"})).await;
    assert_eq!(denied.code(), "site_policy_denied");
    assert_eq!(denied.content()["message"], "journals stay where they are (no-journals)");
    gateway.stop().await;
}

#[tokio::test]
async fn an_expired_exception_no_longer_applies() {
    let gateway = Gateway::with(|config| {
        site(config, SEGMENTS);
        config.policy.exceptions.push(PolicyException {
            policy: "no-journals".to_owned(),
            owner: "maria".to_owned(),
            reason: "OPS-7".to_owned(),
            expires: Timestamp::from_second(Timestamp::now().as_second() + 1800).unwrap(),
            subject: Some("agent".to_owned()),
            targets: None,
            tools: None,
        });
    })
    .await;
    let token = gateway.admin().await;
    let other = gateway.mint(Grant { subject: "another".to_owned(), ..Grant::default() }).await;
    let call = json!({"target": "staging-1"});
    assert_eq!(gateway.call(&other, "journal_query", call.clone()).await.code(), "site_policy_denied");
    let answer = gateway.call(&token, "journal_query", call.clone()).await;
    assert_ne!(answer.code(), "site_policy_denied");
    let question = json!({"tool": "journal_query", "args": call});
    let explained = gateway.call(&token, "policy_explain", question).await;
    let line = explained.data()["checks"].as_array().unwrap().last().unwrap()["detail"].to_string();
    assert!(line.contains("exception to no-journals by maria until"), "{line}");
    gateway.clock.advance(Duration::from_secs(1801));
    assert_eq!(gateway.call(&token, "journal_query", call).await.code(), "site_policy_denied");
    gateway.stop().await;
}

/// What the rules in force say to one call of an admin's agent.
fn verdict(rules: &RulesInForce, arguments: &Value) -> Verdict {
    let rules = rules.now();
    let engagement = EngagementId::from("default");
    let now = Timestamp::now();
    let context = PlanContext {
        token: &"x".into(),
        engagement: &engagement,
        registry: &rules.registry,
        probe: &rules.probe,
        paths: None,
        files: &rules.files,
        now,
    };
    let tool = tools::find("process_list").unwrap();
    let operation: Operation = tool.plan(arguments.as_object().unwrap(), &context).unwrap();
    let peer: Peer = alice("127.0.0.1:1".parse().unwrap());
    let token = Claims {
        jti: "x".into(),
        subject: "agent".to_owned(),
        owner: "tester".to_owned(),
        scopes: ScopeSet::parse("admin").unwrap(),
        engagement: engagement.clone(),
        targets: None,
        tools: None,
        paths: None,
        issued: now,
        expires: now,
        binding: Binding::LocalUser(1),
    };
    rules.policy.judge(&peer, &token, &operation, now).verdict()
}

#[test]
fn replaced_rules_hold_from_the_very_next_call() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::development(folder.path().join("data"), "127.0.0.1:0".parse().unwrap());
    site(&mut config, "// Nothing yet.");
    let clock = || tailops::model::Clock::now(&SystemClock);
    let in_force = RulesInForce::new(rules(&config, Vec::new(), clock()).unwrap());
    let before = in_force.now().config_sha256.clone();
    let call = json!({"target": "prod-1"});
    for _ in 0..3 {
        assert_eq!(verdict(&in_force, &call), Verdict::Pass);
    }
    let file = config.policy.directory.clone().unwrap().join("site.cedar");
    fs::write(&file, "@id(\"stop\") forbid (principal, action in Action::\"process\", resource);").unwrap();
    in_force.replace(rules(&config, Vec::new(), clock()).unwrap());
    assert_eq!(verdict(&in_force, &call), Verdict::Deny);
    assert_ne!(in_force.now().config_sha256, before, "the policies are part of what is in force");
    // What cannot be loaded replaces nothing.
    fs::write(&file, "@id(\"stop\") forbid (principal, action in Action::\"proces\", resource);").unwrap();
    assert!(rules(&config, Vec::new(), clock()).unwrap_err().to_string().contains("site.cedar:1:"));
    assert_eq!(verdict(&in_force, &call), Verdict::Deny);
}

#[test]
fn a_directory_that_cannot_be_trusted_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::development(folder.path().join("data"), "127.0.0.1:0".parse().unwrap());
    site(&mut config, "");
    let directory = config.policy.directory.clone().unwrap();
    let says = |config: &Config| rules(config, Vec::new(), Timestamp::now()).unwrap_err().to_string();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&directory.join("site.cedar"), 0o666);
    assert!(says(&config).contains("site.cedar: everybody may write to it"));
    mode(&directory.join("site.cedar"), 0o644);
    mode(&directory, 0o777);
    assert!(says(&config).contains("everybody may write to it"));
    mode(&directory, 0o755);
    assert!(rules(&config, Vec::new(), Timestamp::now()).is_ok());
    fs::rename(directory.join("site.cedar"), directory.join("site.ceder")).unwrap();
    assert!(says(&config).contains("holds no file called *.cedar"));
    config.policy.directory = Some(directory.join("nowhere"));
    assert!(says(&config).contains("nowhere: "));
}
