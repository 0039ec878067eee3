//! How targets did when they were last read, in the list of the fleet and beside a probe of one: told from what is
//! kept, to those who may read them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Hosts, lines};
use crate::harness::{Answer, Gateway, Grant};

fn ids(answer: &Answer) -> Vec<String> {
    let targets = answer.data()["targets"].as_array().unwrap();
    targets.iter().map(|target| target["id"].as_str().unwrap().to_owned()).collect()
}

/// The list of the 50 hosts, read 90 s ago, by health: as the summary has it, and no host is asked.
pub async fn of_fifty(gateway: &Gateway, hosts: &Hosts) {
    let commands = || hosts.sshds.iter().map(|sshd| sshd.seen.commands.lock().unwrap().len()).sum::<usize>();
    let before = commands();
    gateway.clock.advance(Duration::from_secs(90));
    let token = gateway.mint(Grant::scopes("fleet:read,system:read")).await;
    let summary = gateway.call(&token, "fleet_summarize", json!({"limit": 200})).await;
    let told = summary.data()["targets"].as_array().unwrap();
    let old = |age: i64| (90..300).contains(&age);
    for (health, count) in [("ok", 32), ("unknown", 0), ("warning", 4), ("critical", 14)] {
        let answer = gateway.call(&token, "fleet_list", json!({"health": health, "limit": 200})).await;
        let data = answer.data();
        let mut wanted: Vec<_> = told.iter().filter(|target| target["health"] == health).collect();
        wanted.sort_by_key(|target| target["id"].as_str());
        assert_eq!((&data["total"], &data["unknown"]), (&json!(count), &json!(0)), "{health}");
        assert_eq!(ids(&answer), wanted.iter().map(|target| target["id"].as_str().unwrap()).collect::<Vec<_>>());
        // A target that never gave anything has no age; of the others the clock has gone on since.
        for (target, told) in data["targets"].as_array().unwrap().iter().zip(wanted) {
            let (age, told) = (target["facts_age_s"].as_i64(), told["facts_age_s"].as_i64());
            assert!(age.is_some() == told.is_some() && age >= told && age.is_none_or(old), "{target}");
        }
        assert!(answer.content().get("partial").is_none() && answer.content()["warnings"] == json!([]));
    }
    // With the other conditions, and in pages.
    let wish = |cursor: Value| {
        let mut wish = json!({"health": "critical", "tag": "fake", "kind": "ssh", "limit": 10});
        if cursor.is_string() {
            wish["cursor"] = cursor;
        }
        wish
    };
    let first = gateway.call(&token, "fleet_list", wish(Value::Null)).await;
    assert!(first.data()["targets"][1]["facts_age_s"].as_i64().is_some_and(old), "{}", first.body);
    let second = gateway.call(&token, "fleet_list", wish(first.content()["next_cursor"].clone())).await;
    let mut critical = [ids(&first), ids(&second)].concat();
    assert_eq!((critical.len(), &second.data()["total"], second.content().get("next_cursor")), (14, &json!(14), None));
    critical.dedup();
    assert!(critical.len() == 14 && critical.is_sorted(), "{critical:?}");
    let none = gateway.call(&token, "fleet_list", json!({"health": "critical", "tag": "no-such"})).await;
    assert_eq!(none.data()["total"], 0);
    // Another tool's page is no place in this list.
    let summary = gateway.call(&token, "fleet_summarize", json!({"limit": 1})).await;
    let wish = json!({"cursor": summary.content()["next_cursor"]});
    let answer = gateway.call(&token, "fleet_list", wish).await;
    assert_eq!(answer.code(), "invalid_arguments", "{}", answer.body);
    // A day later nothing recent is known, and nobody takes that for well.
    gateway.clock.advance(Duration::from_secs(24 * 3600));
    let token = gateway.mint(Grant::scopes("fleet:read,system:read")).await;
    let answer = gateway.call(&token, "fleet_list", json!({"health": "ok"})).await;
    assert_eq!((&answer.data()["total"], &answer.data()["unknown"]), (&json!(0), &json!(32)));
    assert!(answer.content()["warnings"][0].as_str().unwrap().contains("of 32 targets nothing recent"));
    assert_eq!(commands(), before);
    who_may_be_told(gateway).await;
}

async fn who_may_be_told(gateway: &Gateway) {
    let blind = gateway.mint(Grant::scopes("fleet:read")).await;
    let all = gateway.call(&blind, "fleet_list", json!({"limit": 200})).await;
    assert_eq!(all.data()["total"], 50);
    let shown = all.data()["targets"].as_array().unwrap();
    assert!(shown.iter().all(|target| target["health"].is_null() && target["facts_age_s"].is_null()), "{}", all.body);
    for health in ["ok", "unknown", "warning", "critical"] {
        let answer = gateway.call(&blind, "fleet_list", json!({"health": health})).await;
        assert_eq!((&answer.data()["total"], &answer.data()["unknown"]), (&json!(0), &json!(0)));
        let partial = answer.content()["partial"].as_array().unwrap();
        assert_eq!((partial.len(), &partial[0]), (50, &json!({"section": "clock", "reason": "insufficient_scope"})));
    }
    let one = Grant { targets: Some(vec!["full-97".to_owned()]), ..Grant::scopes("fleet:read,system:read") };
    let one = gateway.mint(one).await;
    let answer = gateway.call(&one, "fleet_list", json!({"health": "critical"})).await;
    assert_eq!((ids(&answer), answer.content()["partial"].as_array().unwrap().len()), (vec!["full-97".to_owned()], 49));
    let other = gateway.mint(Grant { engagement: "other".to_owned(), ..Grant::default() }).await;
    let answer = gateway.call(&other, "fleet_list", json!({})).await;
    assert_eq!(ids(&answer), ["theirs"]);
}

#[tokio::test]
async fn a_probe_stands_beside_what_the_summary_says_of_the_target() {
    let gateway = Gateway::start().await;
    let token = gateway.mint(Grant::scopes("fleet:read,system:read")).await;
    let inspect = async |token: &str| gateway.call(token, "target_inspect", json!({"target": "local"})).await;
    let never = inspect(&token).await;
    let known = &never.data()["known"];
    assert_eq!(
        (&known["health"], &known["facts_at"], &known["findings"]),
        (&json!("unknown"), &Value::Null, &json!([]))
    );

    let summary = gateway.call(&token, "fleet_summarize", json!({"refresh": true})).await;
    assert_eq!(lines(summary.data()).len(), 1);
    gateway.clock.advance(Duration::from_secs(7));
    let mut wanted = summary.data()["targets"][0].clone();
    wanted.as_object_mut().unwrap().remove("id");
    let first = wanted["facts_age_s"].as_i64().unwrap();
    let after = inspect(&token).await;
    let mut known = after.data()["known"].clone();
    let age = known["facts_age_s"].as_i64().unwrap();
    assert!(first >= 0 && (first + 7..first + 300).contains(&age), "{first} {age}");
    known["facts_age_s"] = json!(first);
    assert_eq!(known, wanted);
    assert_eq!(after.data()["probe"]["reachable"], true);

    // What is remembered of a target is a right of its own.
    let blind = gateway.mint(Grant::scopes("fleet:read")).await;
    let answer = inspect(&blind).await;
    assert!(answer.data().get("known").is_none() && answer.data()["probe"]["reachable"] == true, "{}", answer.body);
    let refused = json!({"section": "known", "reason": "insufficient_scope"});
    assert!(answer.content()["partial"].as_array().unwrap().contains(&refused), "{}", answer.body);
    gateway.stop().await;
}
