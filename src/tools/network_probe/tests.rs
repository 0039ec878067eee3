//! What is planned for each kind of probe, and how what programs print is read.

use std::time::Duration;

use serde_json::json;

use super::{super::rig, *};
use crate::model::{ProbeEnd, ProbeOutput, StepOutcome, StepOutput, Via};

fn probe(arguments: Value) -> Probe {
    let operation = rig::plan(&NetworkProbe, &arguments).unwrap_or_else(|error| panic!("{arguments}: {error}"));
    assert_eq!((operation.asks, operation.risk, operation.effect), (None, Risk::Moderate, Effect::Read));
    match operation.steps.as_slice() {
        [Step::Probe(probe)] => (**probe).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_script_never_gets_the_name_of_what_it_connects_to() {
    for (kind, name) in [("ping", ""), ("trace", ""), ("tcp", ""), ("tls", "web.example"), ("dns", "web.example")] {
        let port = (kind == "tcp").then_some(22);
        let mut arguments = json!({"kind": kind, "host": "WEB.example"});
        if let Some(port) = port {
            arguments["port"] = json!(port);
        }
        let Via::Target(script) = probe(arguments.clone()).via else { panic!("{kind} is not made on the target") };
        assert_eq!((script.args[0].as_str(), script.args.last().unwrap().as_str()), (kind, name));
        arguments["from"] = json!("gateway");
        match (kind, probe(arguments).via) {
            ("ping" | "trace", Via::Here(script)) => assert_eq!(script.args.last().unwrap(), ""),
            ("tcp" | "tls" | "dns", Via::Native) => {}
            (kind, via) => panic!("{kind}: {via:?}"),
        }
    }
}

#[test]
fn defaults_are_filled_in_and_the_host_is_written_plainly() {
    for (arguments, canonical) in [
        (json!({"kind": "ping", "host": "[::1]"}), json!({"kind": "ping", "host": "::1", "count": 3})),
        (json!({"kind": "tls", "host": "A.example"}), json!({"kind": "tls", "host": "a.example", "port": 443})),
        (
            json!({"kind": "tcp", "host": "127.0.0.1", "port": 22, "count": 1}),
            json!({"kind": "tcp", "host": "127.0.0.1", "port": 22, "count": 1}),
        ),
    ] {
        let mut wanted = canonical;
        (wanted["target"], wanted["from"]) = (json!("here"), json!("target"));
        assert_eq!(Value::Object(rig::plan(&NetworkProbe, arguments).unwrap().arguments), wanted);
    }
}

#[test]
fn a_literal_address_is_refused_with_the_setting_that_would_allow_it() {
    for from in ["gateway", "target"] {
        let refused = |host: &str| {
            let error = rig::plan(&NetworkProbe, json!({"kind": "ping", "host": host, "from": from})).unwrap_err();
            assert_eq!(error.code, "address_refused");
            error.hint.unwrap()
        };
        assert!(refused("10.0.0.1").contains("probe.networks"));
        assert!(refused("169.254.169.254").contains("no setting"));
        assert!(refused("fd00:ec2::254").contains("no setting"));
    }
}

#[test]
fn pings_are_read_in_both_dialects() {
    let iputils = "PING 192.0.2.1 (192.0.2.1) 56(84) bytes of data.\n64 bytes from 192.0.2.1: icmp_seq=1 ttl=57 time=3.91 ms\n\n--- 192.0.2.1 ping statistics ---\n3 packets transmitted, 2 received, 33.3333% packet loss, time 2003ms\nrtt min/avg/max/mdev = 3.906/4.012/4.118/0.106 ms\n";
    let busybox = "--- 192.0.2.1 ping statistics ---\n2 packets transmitted, 2 packets received, 0% packet loss\nround-trip min/avg/max = 0.051/0.063/0.075 ms\n";
    let lost = "--- 192.0.2.1 ping statistics ---\n2 packets transmitted, 0 received, 100% packet loss, time 1010ms\n";
    assert_eq!(printed::ping(iputils), Some((3, 2, Some(Rtt { min: 3.906, avg: 4.012, max: 4.118 }))));
    assert_eq!(printed::ping(busybox), Some((2, 2, Some(Rtt { min: 0.051, avg: 0.063, max: 0.075 }))));
    assert_eq!(printed::ping(lost), Some((2, 0, None)));
    for (text, word) in [
        ("ping: socktype: SOCK_RAW\nping: socket: Operation not permitted\n", "not_permitted"),
        ("ping: connect: Network is unreachable\n", "network_unreachable"),
        ("", "ping_failed"),
    ] {
        assert_eq!((printed::ping(text), printed::ping_failure(text)), (None, word));
    }
    assert_eq!(printed::ping("99999999999 packets transmitted, x received"), None);
}

#[test]
fn hops_are_read() {
    let text = " 1?: [LOCALHOST]                      pmtu 1500\n 1:  192.0.2.1                                             0.436ms \n 1:  192.0.2.1                                             0.312ms \n 2:  no reply\n 3:  2001:db8::1                                           9.811ms reached\n     Resume: pmtu 1500 hops 3 back 3 \n";
    let hop = |hop, address: Option<&str>, rtt_ms| Hop { hop, address: address.map(str::to_owned), rtt_ms };
    assert_eq!(
        printed::hops(text),
        [hop(1, Some("192.0.2.1"), Some(0.312)), hop(2, None, None), hop(3, Some("2001:db8::1"), Some(9.811))]
    );
    assert_eq!(printed::hops("tracepath: socket: not permitted\n"), []);
}

#[test]
fn tries_are_counted_even_where_their_time_is_unknown() {
    let (times, tried, failure) = printed::tries("made 1500\nfailed timed_out\nmade \nnoise\n");
    assert_eq!((times, tried, failure), (vec![1.5, 0.0], 3, Some("timed_out")));
    assert_eq!(lost(3, 2), Some(0.33));
    assert_eq!((lost(0, 0), lost(2, 3)), (None, Some(0.0)));
}

#[test]
fn a_handshake_that_the_server_pretends_is_not_taken() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(made.cert.der()));
    let text = format!(
        "{pem}New, TLSv1.3, Cipher is X\nVerify return code: 18 (self-signed certificate)\nVerify return code: 0 (ok)\n"
    );
    let tls = printed::handshake(&text).unwrap();
    assert_eq!((tls.version.as_deref(), tls.trusted), (Some("TLSv1.3"), Some(false)));
    assert_eq!(tls.untrusted.as_deref(), Some("18 (self-signed certificate)"));
    assert_eq!(printed::handshake(&pem).unwrap().trusted, None);
    for bad in ["", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\nAAAA"] {
        assert!(printed::handshake(bad).is_none(), "{bad}");
    }
}

/// The answer where the target's resolver says this.
fn resolved(printed: &str) -> Result<Content, ToolError> {
    let operation = rig::plan(&NetworkProbe, json!({"kind": "dns", "host": "web.example"})).unwrap();
    let aimed = ProbeOutput {
        template_id: "probe.dns.v1",
        argv_sha256: String::new(),
        end: ProbeEnd::Aimed,
        findings: Findings::default(),
        duration: Duration::ZERO,
    };
    let stdout = format!("\n{} dns\n{printed}", rig::MARKER);
    let script = rig::printed(TEMPLATE.id, StepOutcome::Exited(0), stdout.into(), Vec::new());
    let outputs = vec![StepOutput::Probe(Box::new(aimed)), StepOutput::Script(Box::new(script))];
    NetworkProbe.render(&RawOutput { operation, outputs })
}

#[test]
fn what_the_targets_resolver_says_is_judged_before_it_is_shown() {
    let content = resolved("8.8.8.8 STREAM web\n8.8.8.8 DGRAM\n::1 STREAM\n127.0.0.1 RAW\nstatus 0\n").unwrap();
    rig::conforms(&NetworkProbe, &content.data);
    assert_eq!(
        (&content.data["ok"], &content.data["addresses"]),
        (&json!(true), &json!(["8.8.8.8", "::1", "127.0.0.1"]))
    );
    let refused = resolved("8.8.8.8 STREAM web\n10.1.2.3 STREAM\nstatus 0\n").unwrap_err();
    assert_eq!(refused.code, "address_refused");
    assert!(!refused.message.contains("10.1.2.3"), "{refused}");
    let nothing = resolved("status 2\n").unwrap();
    assert_eq!((&nothing.data["ok"], &nothing.data["error"]["reason"]), (&json!(false), &json!("not_found")));
}

#[test]
fn the_definition_fits_its_budget() {
    rig::fits_budget(&NetworkProbe);
}
