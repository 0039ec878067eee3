//! Site policy as a site writes it: what is refused at load, what is judged, and that what is remembered is what would
//! be judged anew. Operations are planned by the real tools.

use std::{collections::BTreeSet, fmt::Write, sync::LazyLock};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    auth::Binding,
    config::{Config, SiteFile},
    fleet::Registry,
    model::{ScopeSet, TargetKind},
    policy::{Judgement, Policy},
    tailnet::Grants,
    tools::{self, Kind, PlanContext},
};

mod refused;

const NOON: &str = "2026-11-21T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn target(id: &str, segment: Option<&str>) -> Target {
    Target {
        id: id.into(),
        kind: TargetKind::Local,
        engagement: "acme".into(),
        capabilities: ScopeSet::new([Scope::Admin]),
        segment: segment.map(str::to_owned),
        tags: vec!["web".into()],
        roots: vec!["/var/log".into()],
        timeout: std::time::Duration::from_secs(60),
        concurrency: 1,
        sudo: crate::model::SudoPolicy::None,
        registered: None,
    }
}

fn targets() -> Vec<Target> {
    vec![target("prod-1", Some("production-a")), target("stage-1", Some("staging")), target("bare", None)]
}

fn catalogue() -> Vec<ToolFacts> {
    let facts = |tool: &&dyn tools::Tool| ToolFacts {
        name: tool.spec().name,
        effect: tool.spec().effect,
        risk: tool.spec().risk,
        on_target: tool.spec().kind == Kind::Host,
        scopes: tool.spec().scopes,
        input: tool.judged(),
    };
    tools::ALL.iter().map(facts).collect()
}

/// A site whose only file is `text`.
struct Site {
    text: String,
    time_zone: &'static str,
    exceptions: Vec<PolicyException>,
}

impl Site {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), time_zone: "UTC", exceptions: Vec::new() }
    }

    fn load(&self) -> Result<SitePolicy, SiteProblems> {
        SitePolicy::load(&SiteSource {
            tools: &catalogue(),
            files: &[SiteFile { name: "site.cedar".into(), text: self.text.clone() }],
            inventory: Some(Inventory { targets: &targets(), engagements: &["acme".into()] }),
            time_zone: self.time_zone,
            exceptions: &self.exceptions,
            now: at(NOON),
        })
    }

    fn policy(&self) -> Policy {
        let site = self.load().unwrap_or_else(|problems| panic!("{problems}"));
        Policy::new([("acme".into(), None)], site)
    }
}

fn peer() -> Peer {
    Peer {
        id: "uid:1000".into(),
        node: "laptop".into(),
        user: Some("maria".into()),
        tags: vec!["tag:ops".into()],
        tailnet: None,
        address: "127.0.0.1:1".parse().unwrap(),
        uid: Some(1000),
        grants: Grants::Unrestricted,
    }
}

fn claims(scopes: &str) -> Claims {
    Claims {
        jti: "1".to_owned().into(),
        subject: "agent-7".into(),
        owner: "maria".into(),
        scopes: ScopeSet::parse(scopes).unwrap(),
        engagement: "acme".into(),
        targets: None,
        tools: None,
        paths: None,
        issued: at(NOON),
        expires: at("2027-11-21T12:00:00Z"),
        binding: Binding::LocalUser(1000),
    }
}

fn operation(tool: &str, arguments: serde_json::Value) -> Operation {
    let registry = Registry::new(targets());
    let local = Config::development("/var/lib/tailops".into(), "127.0.0.1:8080".parse().unwrap());
    let engagement = EngagementId::from("acme");
    let context = PlanContext {
        token: &"1".into(),
        engagement: &engagement,
        registry: &registry,
        probe: &local.probe,
        paths: None,
        files: &local.files,
        now: at(NOON),
    };
    tools::find(tool).unwrap().plan(arguments.as_object().unwrap(), &context).unwrap()
}

fn restart(target: &str) -> Operation {
    let arguments =
        json!({"target": target, "unit": "nginx.service", "action": "restart", "reason": "it hangs", "wait_s": 5});
    operation("service_control", arguments)
}

fn judged(policy: &Policy, operation: &Operation, now: &str) -> Judgement {
    policy.judge(&peer(), &claims("admin"), operation, at(now))
}

#[track_caller]
fn says(judgement: &Judgement, verdict: Verdict, code: &str, policies: &[&str]) {
    let said = (judgement.verdict(), judgement.code(), judgement.policies());
    assert!(said.0 == verdict && said.1 == code && said.2 == policies, "{judgement:?}");
}

const PERMITTED: &[&str] = &["default-permit"];

fn forbid(when: &str) -> String {
    format!("@id(\"x\")\nforbid (principal, action, resource)\nwhen {{ {when} }};\n")
}

#[test]
fn a_policy_that_fails_denies_whatever_the_others_say() {
    for failing in ["context.args.wait_s + 9223372036854775807 > 3", "context.args.wait_s * 9223372036854775807 > 3"] {
        let text = format!(
            "@id(\"x\") forbid (principal, action == Action::\"service_control\", resource) when {{ context.args has wait_s && {failing} }};"
        );
        let judgement = judged(&Site::new(&text).policy(), &restart("stage-1"), NOON);
        says(&judgement, Verdict::Deny, "site_policy_error", &["x"]);
        assert!(judgement.message().contains("of x failed"), "{}", judgement.message());
        assert_eq!(judgement.rule(), "site_policy: x");
    }
    // Also behind an @ask, and only once approved.
    let text = "@id(\"x\") @ask(\"why\") forbid (principal, action == Action::\"service_control\", resource) unless { context.approved && context.args has wait_s && context.args.wait_s + 9223372036854775807 > 3 };";
    says(&judged(&Site::new(text).policy(), &restart("stage-1"), NOON), Verdict::Deny, "site_policy_error", &["x"]);
}

#[test]
fn an_exception_does_not_hide_that_its_policy_fails() {
    let text = "@id(\"x\") forbid (principal, action == Action::\"service_control\", resource) when { context.args has wait_s && context.args.wait_s + 9223372036854775807 > 3 };";
    let site = Site { exceptions: vec![exception("x", "2026-12-01T00:00:00Z")], ..Site::new(text) };
    says(&judged(&site.policy(), &restart("stage-1"), NOON), Verdict::Deny, "site_policy_error", &["x"]);
}

#[test]
fn permits_widen_nothing() {
    let policy = Site::new("@id(\"all\") permit (principal, action, resource);").policy();
    assert!(policy.site().warnings()[0].to_string().contains("site.cedar:1:1: \"all\" permits what is permitted"));
    let judgement = policy.judge(&peer(), &claims("log:read"), &restart("stage-1"), at(NOON));
    assert_eq!((judgement.verdict(), judgement.code()), (Verdict::Deny, "insufficient_scope"));
    assert!(judgement.policies().is_empty(), "site policy was not even asked");
    let critical = operation(
        "service_control",
        json!({"target": "bare", "unit": "ssh.service", "action": "restart", "reason": "it hangs", "dry_run": false}),
    );
    says(&judged(&policy, &critical, NOON), Verdict::Ask, "approval_required", &[]);
    assert_eq!(judged(&policy, &critical, NOON).decided_by(), ["risk"]);
}

#[test]
fn what_the_catalogue_does_not_know_is_denied() {
    let mut unknown = restart("stage-1");
    unknown.tool = "service_explode";
    says(&judged(&Site::new("").policy(), &unknown, NOON), Verdict::Deny, "site_policy_error", &[]);
    let mut odd = restart("stage-1");
    odd.arguments.insert("wait_s".into(), json!(u64::MAX));
    says(&judged(&Site::new("").policy(), &odd, NOON), Verdict::Deny, "site_policy_error", &[]);
    odd.arguments.remove("unit");
    odd.arguments.insert("wait_s".into(), json!(1));
    says(&judged(&Site::new("").policy(), &odd, NOON), Verdict::Deny, "site_policy_error", &[]);
}

const SEGMENTS: &str = "@id(\"prod-asks\") @ask(\"restarts in production\") @approvers(\"2\")
forbid (principal, action in Action::\"changes\", resource)
when { resource.segment like \"production-*\" && context.effect != \"read\" }
unless { context.approved };
@id(\"prod-asks-too\") @ask(\"and this\")
forbid (principal, action in Action::\"service\", resource)
when { resource.segment like \"production-*\" && context.effect != \"read\" }
unless { context.approved };";

#[test]
fn one_call_is_allowed_in_staging_and_asks_in_production() {
    let policy = Site::new(SEGMENTS).policy();
    says(&judged(&policy, &restart("stage-1"), NOON), Verdict::Pass, "", PERMITTED);
    says(&judged(&policy, &restart("bare"), NOON), Verdict::Pass, "", PERMITTED);
    let asked = judged(&policy, &restart("prod-1"), NOON);
    says(&asked, Verdict::Ask, "approval_required", &["prod-asks", "prod-asks-too"]);
    assert_eq!((asked.quorum(), asked.rule().as_ref()), (2, "site_policy: prod-asks, prod-asks-too"));
    assert_eq!(asked.message(), "restarts in production (prod-asks); and this (prod-asks-too); 2 people must agree");
    assert_eq!(asked.strength(), Strength::Identity);
    let line = asked.trace().last().unwrap();
    assert_eq!((line.name, line.verdict), ("site_policy", Verdict::Ask));
    // An ask beside a plain forbid is a deny, and so is an ask that approval does not lift.
    let both = format!("{SEGMENTS}{}", forbid("resource.segment == \"production-a\""));
    says(&judged(&Site::new(&both).policy(), &restart("prod-1"), NOON), Verdict::Deny, "site_policy_denied", &["x"]);
    let never = format!(
        "{SEGMENTS}@id(\"n\") @ask(\"only by day\") forbid (principal, action, resource) unless {{ context.approved && context.time.hour < 12 }};"
    );
    says(&judged(&Site::new(&never).policy(), &restart("prod-1"), NOON), Verdict::Deny, "site_policy_denied", &["n"]);
}

#[test]
fn the_strongest_yes_that_any_asking_policy_wants_is_needed() {
    const ASK: &str = "forbid (principal, action in Action::\"service\", resource) unless { context.approved };";
    for (annotations, wanted) in [
        (["", ""], Strength::Identity),
        (["@strength(\"identity\")", ""], Strength::Identity),
        (["@strength(\"identity\")", "@strength(\"signature\")"], Strength::Signature),
        (["@strength(\" signature \")", ""], Strength::Signature),
    ] {
        let [a, b] = annotations;
        let text = format!("@id(\"a\") @ask(\"a\") {a} {ASK} @id(\"b\") @ask(\"b\") {b} {ASK}");
        let asked = judged(&Site::new(&text).policy(), &restart("stage-1"), NOON);
        says(&asked, Verdict::Ask, "approval_required", &["a", "b"]);
        assert_eq!(asked.strength(), wanted, "{annotations:?}");
        let signed = asked.message().ends_with("; each yes must be signed");
        assert_eq!(signed, wanted == Strength::Signature, "{}", asked.message());
    }
    // One that does not ask about this call wants nothing of it.
    let elsewhere = format!(
        "@id(\"a\") @ask(\"a\") {ASK} @id(\"b\") @ask(\"b\") @strength(\"signature\") {}",
        ASK.replace("service", "file")
    );
    let asked = judged(&Site::new(&elsewhere).policy(), &restart("stage-1"), NOON);
    assert_eq!((asked.strength(), asked.policies()), (Strength::Identity, &["a".to_owned()][..]));
}

#[test]
fn a_critical_change_names_both_who_ask() {
    let critical = operation(
        "service_control",
        json!({"target": "prod-1", "unit": "ssh.service", "action": "stop", "reason": "it hangs", "dry_run": false}),
    );
    let asked = judged(&Site::new(SEGMENTS).policy(), &critical, NOON);
    says(&asked, Verdict::Ask, "approval_required", &["prod-asks", "prod-asks-too"]);
    assert_eq!((asked.rule().as_ref(), asked.quorum()), ("risk; site_policy: prod-asks, prod-asks-too", 2));
    assert!(asked.message().contains("protected unit") && asked.message().contains("restarts in production"));
}

#[test]
fn groups_arguments_and_callers_are_what_the_page_says() {
    let holds = |when: &str, head: &str, operation: &Operation| {
        let text = format!("@id(\"x\") forbid (principal, {head}, resource) when {{ {when} }};");
        judged(&Site::new(&text).policy(), operation, NOON).verdict() == Verdict::Deny
    };
    let change = restart("prod-1");
    for head in [
        "action in Action::\"destroys\"",
        "action in Action::\"changes\"",
        "action in Action::\"risk:high\"",
        "action in Action::\"service\"",
        "action in Action::\"system:control\"",
        "action == Action::\"service_control\"",
    ] {
        assert!(holds("context.dry_run == false", head, &change), "{head}");
    }
    for head in ["action in Action::\"reads\"", "action in Action::\"file\"", "action == Action::\"file_read\""] {
        assert!(!holds("context.dry_run == false", head, &change), "{head}");
    }
    let head = "action == Action::\"service_control\"";
    for when in [
        "context.args.unit == \"nginx.service\" && context.args.action == \"restart\"",
        "context.args has wait_s && context.args.wait_s == 5",
        "context.risk == \"high\" && context.risk_level == 3 && context.effect == \"destructive\"",
        "context.reason_given && !context.dry_run",
        "context.time.hour == 12 && context.time.weekday == 6 && context.time.date == \"2026-11-21\"",
        "context.time.minute_of_day == 720 && context.time.month == 11 && context.time.day == 21 && context.time.year == 2026",
        "context.now == datetime(\"2026-11-21T12:00:00Z\")",
        "principal == Agent::\"agent-7\" && principal.subject == \"agent-7\" && principal.owner == \"maria\"",
        "principal.user == \"maria\" && principal.node == \"laptop\" && principal.tags.contains(\"tag:ops\")",
        "principal.scopes.contains(\"system:read\") && principal.engagement == \"acme\"",
        "resource == Target::\"prod-1\" && resource.tags.contains(\"web\") && resource.kind == \"local\"",
    ] {
        assert!(holds(when, head, &change), "{when}");
    }
    assert!(!holds("context.args has wait_s && context.args.wait_s > 5", head, &change));
    let listing = operation("host_inspect", json!({"target": "prod-1", "sections": ["mem"]}));
    let head = "action == Action::\"host_inspect\"";
    assert!(holds("context.args has sections && context.args.sections.contains(\"mem\")", head, &listing));
    let fleet = operation("fleet_list", json!({}));
    assert!(holds("resource is Gateway && resource.kind == \"gateway\" && resource.segment == \"\"", "action", &fleet));
}

#[test]
fn hours_are_those_of_the_site_also_on_the_nights_clocks_change() {
    let text = "@id(\"night\") forbid (principal, action in Action::\"changes\", resource) when { context.time.minute_of_day < 180 || context.time.hour >= 22 };";
    let policy = Site { time_zone: "Europe/Berlin", ..Site::new(text) }.policy();
    for (now, denied) in [
        ("2026-07-01T19:59:59Z", false),
        ("2026-07-01T20:00:00Z", true),
        ("2026-12-01T20:00:00Z", false),
        ("2026-12-01T21:00:00Z", true),
        // Spring forward on 2026-03-29: 01:00Z is 03:00 there, and 02:00 to 03:00 is skipped.
        ("2026-03-29T00:59:59Z", true),
        ("2026-03-29T01:00:00Z", false),
        // Back on 2026-10-25: 02:00 to 03:00 comes twice.
        ("2026-10-25T00:30:00Z", true),
        ("2026-10-25T01:59:00Z", true),
        ("2026-10-25T02:00:00Z", false),
    ] {
        let verdict = if denied { Verdict::Deny } else { Verdict::Pass };
        assert_eq!(judged(&policy, &restart("prod-1"), now).verdict(), verdict, "{now}");
    }
}

fn exception(policy: &str, expires: &str) -> PolicyException {
    PolicyException {
        policy: policy.to_owned(),
        owner: "maria".to_owned(),
        reason: "OPS-7".to_owned(),
        expires: at(expires),
        subject: None,
        targets: None,
        tools: None,
    }
}

#[test]
fn an_exception_ends_on_the_second_and_is_for_whom_it_names() {
    let text = "@id(\"freeze\") forbid (principal, action in Action::\"changes\", resource); @id(\"other\") forbid (principal, action in Action::\"changes\", resource == Target::\"bare\");";
    let with = |exception| Site { exceptions: vec![exception], ..Site::new(text) }.policy();
    let general = with(exception("freeze", "2026-11-21T12:00:30Z"));
    let allowed = judged(&general, &restart("prod-1"), "2026-11-21T12:00:29Z");
    says(&allowed, Verdict::Pass, "", PERMITTED);
    let line = allowed.trace().last().unwrap().detail.to_string();
    assert!(line.contains("exception to freeze by maria until 2026-11-21T12:00:30Z: OPS-7"), "{line}");
    // The same minute, and so the same facts but for the exception.
    says(
        &judged(&general, &restart("prod-1"), "2026-11-21T12:00:30Z"),
        Verdict::Deny,
        "site_policy_denied",
        &["freeze"],
    );
    says(&judged(&general, &restart("prod-1"), "2026-11-21T12:00:29Z"), Verdict::Pass, "", PERMITTED);
    // Only that one policy is left out.
    says(&judged(&general, &restart("bare"), "2026-11-21T12:00:29Z"), Verdict::Deny, "site_policy_denied", &["other"]);
    let later = "2026-12-01T00:00:00Z";
    for narrowed in [
        PolicyException { subject: Some("agent-8".into()), ..exception("freeze", later) },
        PolicyException { targets: Some(BTreeSet::from(["stage-1".into()])), ..exception("freeze", later) },
        PolicyException { tools: Some(BTreeSet::from(["process_signal".into()])), ..exception("freeze", later) },
    ] {
        says(&judged(&with(narrowed), &restart("prod-1"), NOON), Verdict::Deny, "site_policy_denied", &["freeze"]);
    }
    let exact = PolicyException {
        subject: Some("agent-7".into()),
        targets: Some(BTreeSet::from(["prod-1".into()])),
        tools: Some(BTreeSet::from(["service_control".into()])),
        ..exception("freeze", later)
    };
    says(&judged(&with(exact), &restart("prod-1"), NOON), Verdict::Pass, "", PERMITTED);
}

#[test]
fn newly_loaded_rules_remember_nothing() {
    let (before, call) = (Site::new("").policy(), restart("prod-1"));
    for _ in 0..3 {
        says(&judged(&before, &call, NOON), Verdict::Pass, "", PERMITTED);
    }
    let after = Site::new(&forbid("context.dry_run == false")).policy();
    says(&judged(&after, &call, NOON), Verdict::Deny, "site_policy_denied", &["x"]);
}

const EVERYTHING: &str = "@id(\"a\") forbid (principal, action, resource) when { principal.node == \"odd\" };
@id(\"b\") @ask(\"b\") forbid (principal, action in Action::\"changes\", resource) when { context.time.hour < 6 } unless { context.approved };
@id(\"c\") forbid (principal, action == Action::\"service_control\", resource) when { context.args has wait_s && context.args.wait_s > 60 };
@id(\"d\") forbid (principal, action, resource) when { principal.tags.contains(\"tag:bad\") || principal.user == \"eve\" };
@id(\"e\") @ask(\"e\") @approvers(\"3\") @strength(\"signature\") forbid (principal, action, resource) when { resource.segment like \"production-*\" && context.risk_level >= 3 } unless { context.approved };
@id(\"f\") forbid (principal, action, resource) unless { principal.scopes.contains(\"system:control\") || context.now < datetime(\"2026-11-21T13:00:00Z\") };
@id(\"g\") forbid (principal, action in Action::\"destroys\", resource) when { principal.subject == \"agent-9\" && !context.dry_run };";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn what_is_remembered_is_what_would_be_judged_anew(
        calls in prop::collection::vec((
            0..3_usize, prop::sample::select(vec!["laptop", "odd"]), prop::sample::select(vec!["maria", "eve"]),
            prop::sample::select(vec!["agent-7", "agent-9"]), prop::sample::select(vec!["system:control", "system:read", "admin"]),
            any::<bool>(), (prop::sample::select(vec![5, 61]), any::<bool>()), 0..14_400_i64,
        ), 1..12)
    ) {
        // One memory for all cases, as in the gateway.
        static POLICY: LazyLock<SitePolicy> = LazyLock::new(|| {
            let for_one = PolicyException { subject: Some("agent-7".into()), ..exception("c", "2026-11-21T13:30:10Z") };
            let exceptions = vec![for_one, exception("e", "2026-11-21T14:00:59Z")];
            Site { exceptions, ..Site::new(EVERYTHING) }.load().unwrap()
        });
        let policy = &*POLICY;
        for (target, node, user, subject, scopes, bad, (wait_s, dry_run), after) in calls {
            let mut peer = Peer { node: node.into(), user: Some(user.into()), ..peer() };
            if bad {
                peer.tags.push("tag:bad".into());
            }
            let token = Claims { subject: subject.into(), ..claims(scopes) };
            let target = ["prod-1", "stage-1", "bare"][target];
            let operation = operation("service_control", json!({"target": target, "unit": "nginx.service",
                "action": "restart", "reason": "it hangs", "wait_s": wait_s, "dry_run": dry_run}));
            let now = Timestamp::from_second(at(NOON).as_second() + after).unwrap();
            let first = policy.judge(&peer, &token, &operation, now);
            let second = policy.judge(&peer, &token, &operation, now);
            prop_assert_eq!(first.as_ref(), second.as_ref());
            prop_assert_eq!(first.as_ref(), &policy.judge_anew(&peer, &token, &operation, now));
        }
    }
}

#[test]
fn every_tool_of_the_catalogue_can_be_judged() {
    let policy = Site::new(SEGMENTS).policy();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/tools");
    let mut seen = String::new();
    for tool in tools::ALL {
        let name = tool.spec().name;
        let case: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap()).unwrap();
        let mut call = case["call"].clone();
        if let Some(target) = call.get_mut("target") {
            *target = json!("stage-1");
        }
        let judgement = judged(&policy, &operation(name, call), NOON);
        if judgement.code() == "site_policy_error" {
            writeln!(seen, "{name}: {}", judgement.message()).unwrap();
        }
    }
    assert_eq!(seen, "");
}
