//! What a site's files may not say: every mistake is refused when they are loaded, with its place.

use std::collections::BTreeSet;

use super::{Site, exception, forbid};
use crate::config::PolicyException;

/// The problem of `text`, which must be the only one.
#[track_caller]
fn problem(text: &str) -> String {
    let problems = Site::new(text).load().expect_err(text).to_string();
    assert_eq!(problems.lines().count(), 1, "{problems}");
    problems
}

#[test]
fn a_misspelt_name_is_refused_with_its_place() {
    for (text, wanted) in [
        (forbid("resource.segmnt == \"staging\""), "site.cedar:3:8: "),
        (forbid("context.args.unit == \"a\""), "site.cedar:3:8: "),
        (forbid("context.risk_level > \"high\""), "site.cedar:3:"),
        (forbid("principal.scopes.contains(\"system:raed\")"), "3:34: there is no scope \"system:raed\", did you mean system:read?"),
        (forbid("[\"system:raed\"].containsAny(principal.scopes)"), "there is no scope \"system:raed\""),
        (forbid("resource.segment == \"stagng\""), "3:28: there is no segment \"stagng\", did you mean staging?"),
        (forbid("[\"production-a\", \"stagng\"].contains(resource.segment)"), "there is no segment \"stagng\""),
        (forbid("principal.engagement == \"amce\""), "there is no engagement \"amce\", did you mean acme?"),
        (forbid("context.risk == \"hihg\""), "there is no risk \"hihg\", did you mean high?"),
        (forbid("context.effect != \"raed\""), "there is no effect \"raed\""),
        (forbid("resource == Target::\"prod-2\""), "3:28: there is no Target::\"prod-2\", did you mean prod-1?"),
        (forbid("resource == Gateway::\"gate\""), "there is no Gateway::\"gate\""),
        (
            "@id(\"x\") forbid (principal, action == Action::\"service_contrl\", resource);".to_owned(),
            "Action::\"service_contrl\"",
        ),
        ("@id(\"x\") forbid (principal, action in Action::\"file:raed\", resource);".to_owned(), "Action::\"file:raed\""),
        ("@id(\"x\") forbid (principal, action, resource == Target::\"prod-9\");".to_owned(), "prod-9"),
        (
            "@id(\"x\") forbid (principal, action == Action::\"service_control\", resource) when { context.args.action == \"restrat\" };".to_owned(),
            "there is no word for this argument \"restrat\", did you mean restart?",
        ),
        (
            "@id(\"x\") forbid (principal, action == Action::\"service_control\", resource) when { context.args.wait_s > 3 };".to_owned(),
            "wait_s",
        ),
        ("@id(\"x\") forbid (principal is Agnt, action, resource);".to_owned(), "Agnt"),
    ] {
        let problems = Site::new(&text).load().expect_err(&text).to_string();
        assert!(problems.lines().all(|line| line.starts_with("site.cedar:")), "{problems}");
        assert!(problems.contains(wanted), "{text}: {problems}");
    }
    let policy = Site::new(&forbid("resource.segment == \"edge\"")).policy();
    assert!(policy.site().warnings()[0].to_string().contains("there is no segment \"edge\""));
}

#[test]
fn what_is_no_policy_of_ours_is_refused() {
    for (text, wanted) in [
        ("forbid (principal, action, resource);", "site.cedar:1:1: has no @id"),
        ("\n\n  forbid (principal, action, resource);", "site.cedar:3:3: has no @id"),
        ("@id(\"\") forbid (principal, action, resource);", "is no id"),
        ("@id(\"A b\") forbid (principal, action, resource);", "is no id"),
        ("@id(\"default-permit\") forbid (principal, action, resource);", "already, in acl/default.cedar"),
        (
            "@id(\"x\") @descripton(\"y\") forbid (principal, action, resource);",
            "unknown annotation @descripton, did you mean description?",
        ),
        (
            "@id(\"x\") @ask(\"y\") permit (principal, action, resource) when { context.approved };",
            "@ask belongs to a forbid",
        ),
        ("@id(\"x\") @ask(\"y\") forbid (principal, action, resource);", "@ask needs `unless { context.approved }`"),
        (
            "@id(\"x\") forbid (principal, action, resource) unless { context.approved };",
            "context.approved needs an @ask",
        ),
        (
            "@id(\"x\") @ask(\" \") forbid (principal, action, resource) unless { context.approved };",
            "@ask must be one line",
        ),
        (
            "@id(\"x\") @approvers(\"2\") forbid (principal, action, resource);",
            "@approvers belongs to a policy with @ask",
        ),
        (
            "@id(\"x\") @ask(\"y\") @approvers(\"0\") forbid (principal, action, resource) unless { context.approved };",
            "@approvers must be from 1 to 10, not \"0\"",
        ),
        (
            "@id(\"x\") @ask(\"y\") @approvers(\"two\") forbid (principal, action, resource) unless { context.approved };",
            "not \"two\"",
        ),
        (
            "@id(\"x\") @quorum(\"2\") forbid (principal, action, resource);",
            "unknown annotation @quorum; the annotations are",
        ),
        (
            "@id(\"x\") @strength(\"signature\") forbid (principal, action, resource);",
            "@strength belongs to a policy with @ask",
        ),
        (
            "@id(\"x\") @ask(\"y\") @strength(\"strong\") forbid (principal, action, resource) unless { context.approved };",
            "@strength must be identity or signature, not \"strong\"",
        ),
        ("@id(\"x\") forbid (principal == ?principal, action, resource);", "is a template"),
        ("@id(\"x\") forbid (principal, action, resource)", "site.cedar:1:"),
        ("@id(\"x\") forbid (principal, action == Action::\"fleet_list\", resource) when { false };", "site.cedar:1:"),
    ] {
        let said = problem(text);
        assert!(said.contains(wanted), "{text}: {said}");
    }
    let twice = format!("{}{}", forbid("true == context.dry_run"), forbid("context.dry_run"));
    assert!(problem(&twice).contains("site.cedar:4:1: there is a policy \"x\" already, in site.cedar"));
    let zone = Site { time_zone: "Mars/Olympus", ..Site::new("") };
    assert!(zone.load().unwrap_err().to_string().starts_with("policy.time_zone: "));
}

#[test]
fn every_problem_of_every_file_is_reported_at_once() {
    let text = format!(
        "{}forbid (principal, action, resource);\n{}",
        forbid("resource.segmnt == \"x\""),
        forbid("context.dry_run").replace("@id(\"x\")", "@id(\"y\") @why(\"z\")")
    );
    let problems = Site::new(&text).load().unwrap_err().to_string();
    let places: Vec<_> = problems.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["site.cedar:3:8", "site.cedar:4:1", "site.cedar:5:1"], "{problems}");
}

#[test]
fn an_exception_that_names_nothing_or_reaches_too_far_is_refused() {
    let text = format!("{} @id(\"p\") permit (principal, action, resource);", forbid("context.dry_run"));
    for (policy, expires, wanted) in [
        ("xx", "2026-12-01T00:00:00Z", "policy.exceptions[0].policy: there is no policy \"xx\""),
        ("default-tenant", "2026-12-01T00:00:00Z", "belongs to the default set"),
        ("p", "2026-12-01T00:00:00Z", "forbids nothing"),
        ("x", "2027-11-23T12:00:01Z", "policy.exceptions[0].expires: must be within a year"),
    ] {
        let site = Site { exceptions: vec![exception(policy, expires)], ..Site::new(&text) };
        let problems = site.load().expect_err(policy).to_string();
        assert!(problems.contains(wanted), "{problems}");
    }
    let misspelt =
        PolicyException { targets: Some(BTreeSet::from(["prod1".into()])), ..exception("x", "2026-12-01T00:00:00Z") };
    let problems = Site { exceptions: vec![misspelt], ..Site::new(&text) }.load().unwrap_err().to_string();
    assert!(
        problems.contains("policy.exceptions[0].targets: there is no target \"prod1\", did you mean prod-1?"),
        "{problems}"
    );
    let expired = Site { exceptions: vec![exception("x", "2026-11-21T12:00:00Z")], ..Site::new(&text) };
    let warnings = expired.load().unwrap().warnings().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(warnings.iter().any(|warning| warning.contains("expired at 2026-11-21T12:00:00Z")), "{warnings:?}");
}
