//! Which calls are planned, which of them need a person, and how curl's report is read.

use serde_json::json;

use super::{super::rig::Rig, *};
use crate::model::UrlRule;

/// A rig whose list has `/open`, which is waived, and `/` on the same host.
fn listed() -> Rig {
    let mut rig = Rig::new();
    for (url, waived) in [("https://a.example/", false), ("https://a.example/open", true)] {
        rig.probe.urls.push(UrlRule { url: url.parse().unwrap(), waived, engagements: None });
    }
    rig
}

#[test]
fn a_call_needs_a_person_unless_its_entry_waives_it() {
    for (url, asks) in [
        ("https://a.example/open", false),
        ("https://a.example/open/x", false),
        ("https://a.example/opened", true),
        ("https://a.example/", true),
        ("http://127.0.0.1:8080/healthz", true),
    ] {
        for from in ["gateway", "target"] {
            let operation = listed().plan(&HttpProbe, json!({"url": url, "from": from})).unwrap();
            assert_eq!((operation.asks.is_some(), operation.risk), (asks, Risk::High), "{url}");
            assert_eq!((operation.effect, operation.dry_run), (Effect::Read, false));
        }
    }
}

#[test]
fn what_is_not_listed_names_the_setting() {
    for url in ["https://b.example/", "http://a.example/", "https://a.example:8443/", "https://a.example/open?x=1"] {
        let error = listed().plan(&HttpProbe, json!({"url": url})).unwrap_err();
        assert_eq!(error.code, "not_allowlisted", "{url}");
        assert!(error.hint.unwrap().contains("probe.urls"));
    }
    let mut nothing = Rig::new();
    nothing.probe = crate::model::ProbeRules::default();
    let error = nothing.plan(&HttpProbe, json!({"url": "https://a.example/"})).unwrap_err();
    assert_eq!(error.code, "not_allowlisted");
    // Being on the list does not make an address acceptable.
    nothing.probe.urls = Rig::new().probe.urls;
    let error = nothing.plan(&HttpProbe, json!({"url": "http://127.0.0.1:8080/healthz"})).unwrap_err();
    assert_eq!(error.code, "address_refused");
}

#[test]
fn an_entry_of_another_tenant_lists_nothing() {
    let mut rig = listed();
    let url = || "https://theirs.example/".parse().unwrap();
    let mut call = |engagements: &[&str]| {
        let engagements = Some(engagements.iter().copied().map(Into::into).collect());
        rig.probe.urls = vec![UrlRule { url: url(), waived: true, engagements }];
        rig.plan(&HttpProbe, json!({"url": "https://theirs.example/"})).map(drop).map_err(|error| error.code)
    };
    assert_eq!(call(&["lab"]), Ok(()));
    assert_eq!(call(&["other", "lab"]), Ok(()));
    assert_eq!((call(&["other"]), call(&[])), (Err("not_allowlisted"), Err("not_allowlisted")));
}

#[test]
fn the_target_gets_the_canonical_url() {
    let operation = listed().plan(&HttpProbe, json!({"url": "HTTPS://A.example:443"})).unwrap();
    assert_eq!(operation.arguments["url"], "https://a.example/");
    let Some(Step::Probe(probe)) = operation.steps.first() else { panic!("no probe") };
    let Via::Target(script) = &probe.via else { panic!("not on the target") };
    assert_eq!(script.args, ["https://a.example/", "HEAD", "443"]);
}

#[test]
fn a_dry_run_sends_nothing_and_is_held_to_the_same_list() {
    for from in ["gateway", "target"] {
        let call = |url: &str| listed().plan(&HttpProbe, json!({"url": url, "from": from, "dry_run": true}));
        let operation = call("https://a.example/").unwrap();
        let Some(Step::Probe(probe)) = operation.steps.first() else { panic!("no probe") };
        assert!(operation.dry_run && matches!((&probe.kind, &probe.via), (ProbeKind::Dns, Via::Native)), "{probe:?}");
        assert_eq!(call("https://b.example/").unwrap_err().code, "not_allowlisted");
        assert_eq!(call("http://10.0.0.1/").unwrap_err().code, "address_refused");
    }
}

#[test]
fn curls_report_is_read() {
    let text = "{\"http_code\":301,\"remote_ip\":\"192.0.2.1\",\"redirect_url\":\"http://10.0.0.1/?t=1\",\"ssl_verify_result\":0,\"time_namelookup\":0.001,\"time_connect\":0.011,\"time_appconnect\":0.031,\"time_pretransfer\":0.032,\"time_starttransfer\":0.052}\nexit 0\n";
    let answer = curl::read(text).unwrap();
    assert_eq!((answer.status, answer.trusted, answer.trouble.is_none()), (Some(301), Some(true), true));
    assert_eq!(without_query(&answer.redirect.unwrap()), "http://10.0.0.1/");
    let timings = answer.timings;
    assert_eq!((timings.connect_ms, timings.tls_ms, timings.first_byte_ms), (Some(10.0), Some(20.0), Some(20.0)));
    for (exit, connect, stage, reason) in [
        (7, 0.0, "connect", "connection_failed"),
        (28, 0.0, "connect", "timed_out"),
        (28, 0.1, "http", "timed_out"),
        (60, 0.1, "tls", "certificate_not_trusted"),
        (35, 0.1, "tls", "handshake_failed"),
        (52, 0.1, "http", "connection_closed"),
        (99, 0.1, "http", "no_answer"),
    ] {
        let answer = curl::read(&format!("{{\"http_code\":0,\"time_connect\":{connect}}}\nexit {exit}\n")).unwrap();
        let trouble = answer.trouble.unwrap();
        assert_eq!((trouble.stage.as_str(), trouble.reason.as_str(), answer.status), (stage, reason, None), "{exit}");
        assert_eq!(answer.trusted, (exit == 60).then_some(false));
    }
    for text in ["", "exit 0", "{}", "curl: unknown --write-out variable: 'json'\nexit 0\n", "[1]\nexit 0"] {
        assert!(curl::read(text).is_none(), "{text}");
    }
}

#[test]
fn the_definition_fits_its_budget() {
    super::super::rig::fits_budget(&HttpProbe);
}
