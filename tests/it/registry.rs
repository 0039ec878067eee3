//! The registry at the command line: files imported and exported, machines added, scanned and tested; in force in a running
//! service, and honest about what cannot be operated yet.

mod machines;

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::{
    harness::{eventually, within},
    served::{Place, Served, refuses, serve},
};

const CONFIG: &str = "data_dir = \"DATA\"\nnode.listen = \"127.0.0.1:0\"\nlog.format = \"json\"\n[engagements.default]\n[engagements.other]\ndata_root = \"/srv/other\"\n\
    [targets.here]\nkind = \"local\"\nengagement = \"default\"\ncapabilities = [\"system:admin\"]\n";

/// The shape that predecessors documented.
const SAMPLE: &str = include_str!("../../src/config/fixtures/registry.yaml");

/// The same as a target that nothing reaches yet.
fn engine() -> String {
    SAMPLE.replace("\"ssh\"   ", "\"docker\"")
}

fn two() -> String {
    let (_, first) = SAMPLE.split_once("targets:\n").unwrap();
    format!(
        "{SAMPLE}{}",
        first
            .replace("web-server-01", "db-01")
            .replace("\"ssh\"   ", "\"docker\"")
            .replace("    metadata", "    engagement: other\n    metadata")
    )
}

/// A target on the gateway's own machine with this file root.
fn local(root: &str) -> String {
    let target = format!(
        "{{type: local, executor: local, capabilities: [\"file:read\"], constraints: {{roots: [\"{root}\"]}}}}"
    );
    format!("version: \"1.0\"\ntargets:\n  mine: {target}\n")
}

#[tokio::test]
async fn an_import_is_in_force_at_once_and_a_call_says_which_executor_is_missing() {
    let place = Place::with(CONFIG);
    let service = Served::start(&place).await;
    let token = place.token("default").await;
    let file = place.beside("targets.yaml", &engine());
    let file = file.to_str().unwrap();
    let dry = place.said(&["target", "import", file, "--dry-run"]).await;
    assert!(dry.contains("added      web-server-01\ndry run, nothing was changed: 1 added"), "{dry}");
    assert_eq!(place.said(&["target", "export"]).await, "version: \"1.0\"\ntargets: {}\n");
    let said = place.said(&["target", "import", file]).await;
    assert!(said.ends_with("1 added, 0 changed, 0 removed, 0 unchanged\n"), "{said}");
    let listed = async || service.call(&token, "fleet_list", json!({"kind": "docker"})).await.data()["total"] == 1;
    within(Duration::from_secs(2), "the target is in force", listed).await;
    let list = service.call(&token, "fleet_list", json!({})).await;
    let target = &list.data()["targets"][1];
    assert_eq!((&target["id"], &target["kind"]), (&json!("web-server-01"), &json!("docker")));
    let answer = service.call(&token, "target_inspect", json!({"target": "web-server-01"})).await;
    assert_eq!(answer.code(), "no_executor");
    assert!(answer.body.to_string().contains("the docker executor is not part of this version"), "{}", answer.body);
    let theirs = place.token("other").await;
    assert_eq!(service.call(&theirs, "fleet_list", json!({})).await.data()["total"], 0);
    place.said(&["target", "remove", "web-server-01"]).await;
    let gone = async || {
        service.call(&token, "target_inspect", json!({"target": "web-server-01"})).await.code() == "unknown_target"
    };
    eventually("the target is gone", gone).await;
    let acts: Vec<Value> = place.records().await.into_iter().filter(|record| record["kind"] == "admin").collect();
    let acts: Vec<_> = acts.iter().map(|record| (record["tool"].as_str().unwrap(), &record["args"])).collect();
    let import = json!({"added": ["web-server-01"], "changed": [], "removed": [], "unchanged": []});
    assert!(acts.contains(&("target.import", &import)), "{acts:?}");
    assert!(acts.contains(&("target.remove", &json!({"id": "web-server-01"}))), "{acts:?}");
    assert_eq!(acts.iter().filter(|(act, _)| *act == "target.import").count(), 1, "a dry run is no act");
    assert!(!service.log().contains("SSH_KEY"), "references stay out of the log");
    service.stop().await;
}

#[tokio::test]
async fn what_is_exported_imports_without_change() {
    let place = Place::with(CONFIG);
    Served::start(&place).await.stop().await;
    let file = place.beside("targets.yaml", &two());
    place.said(&["target", "import", file.to_str().unwrap()]).await;
    let exported = place.said(&["target", "export"]).await;
    let again = place.beside("again.yaml", &exported);
    let again = again.to_str().unwrap();
    let said = place.said(&["target", "import", again, "--prune"]).await;
    assert!(said.ends_with("0 added, 0 changed, 0 removed, 2 unchanged\n"), "{said}");
    assert_eq!(place.said(&["target", "export"]).await, exported);
    let json: Value = serde_json::from_str(&place.said(&["target", "export", "--format", "json"]).await).unwrap();
    assert_eq!(json["targets"]["web-server-01"]["connection"]["key_path"], "${SSH_KEY_WEB_SERVER_01}");
    let other = place.said(&["target", "export", "--engagement", "other"]).await;
    assert!(other.contains("db-01") && !other.contains("web-server-01"), "{other}");
    let list = place.said(&["target", "list"]).await;
    for wanted in ["here           local   default", "db-01          docker  other", "web-server-01  ssh     default"] {
        assert!(list.contains(wanted), "{list}");
    }
    let list: Value = serde_json::from_str(&place.said(&["target", "list", "--json"]).await).unwrap();
    let sources: Vec<_> = list.as_array().unwrap().iter().map(|row| row["source"].as_str().unwrap()).collect();
    assert_eq!(sources, ["import", "configuration", "import"]);
    let shown = place.said(&["target", "show", "db-01"]).await;
    assert!(exported.contains(shown.split_once("targets:\n").unwrap().1.trim_end()), "{shown}");
    assert!(place.refused(1, &["target", "show", "nothing"]).await.contains("no target"));
    assert!(place.refused(1, &["target", "remove", "here"]).await.contains("no imported target"));
    // A change, an addition and, with --prune, a removal.
    fs::write(again, SAMPLE.replace("concurrency: 2", "concurrency: 3").replace("web-server-01", "web-2")).unwrap();
    let said = place.said(&["target", "import", again]).await;
    assert!(
        said.ends_with("1 added, 0 changed, 0 removed, 2 unchanged\n")
            || said.ends_with("1 added, 0 changed, 0 removed, 0 unchanged\n"),
        "{said}"
    );
    fs::write(again, SAMPLE.replace("concurrency: 2", "concurrency: 3")).unwrap();
    let said = place.said(&["target", "import", again, "--prune"]).await;
    assert_eq!(
        said,
        "changed    web-server-01\nremoved    db-01\nremoved    web-2\n0 added, 1 changed, 2 removed, 0 unchanged\n"
    );
}

#[tokio::test]
async fn an_import_is_all_or_nothing() {
    let place = Place::with(CONFIG);
    let never = place.beside("never.yaml", SAMPLE);
    assert!(place.refused(1, &["target", "import", never.to_str().unwrap()]).await.contains("no tailops data"));
    Served::start(&place).await.stop().await;
    for (text, arguments, wanted) in [
        (
            two().replace("sudo_policy", "sudo_polic"),
            &[][..],
            "targets.yaml:9:48: targets.web-server-01.constraints.sudo_polic: unknown key, did you mean sudo_policy?",
        ),
        (two().replace("db-01", "here"), &[], "target here is configured already"),
        (two(), &["--engagement", "nobody"], "there is no engagement \"nobody\"; there is default, other"),
        (two().replace("engagement: other", "engagement: nobody"), &[], "no engagement \"nobody\""),
        ("version: [".to_owned(), &[], "targets.yaml:1:"),
        (local("/srv/other/notes"), &[], "shares files with the data_root of engagement other"),
        (local(&place.file.with_file_name("data").display().to_string()), &[], "shares files with data_dir"),
    ] {
        let file = place.beside("targets.yaml", &text);
        let arguments = [&["target", "import", file.to_str().unwrap()], arguments].concat();
        let refused = place.refused(3, &arguments).await;
        assert!(refused.contains(wanted), "{wanted}: {refused}");
        assert_eq!(place.said(&["target", "export"]).await, "version: \"1.0\"\ntargets: {}\n");
    }
    assert!(place.refused(3, &["target", "import", "/nowhere.yaml"]).await.contains("/nowhere.yaml"));
    assert!(place.records().await.iter().all(|record| record["tool"] != "target.import"));
}

#[tokio::test]
async fn a_registry_file_of_the_configuration_is_read_at_start_and_reload() {
    let place = Place::with(CONFIG);
    let registry = place.beside("targets.yaml", &engine());
    let config = format!("targets_file = {:?}\n{CONFIG}", registry.to_str().unwrap());
    place.write(&config);
    let service = Served::start(&place).await;
    let token = place.token("default").await;
    let before = service.digest(&token).await;
    assert_eq!(service.call(&token, "fleet_list", json!({})).await.data()["total"], 2);
    fs::write(&registry, SAMPLE.replace("sudo_policy", "sudo")).unwrap();
    assert!(place.refused(3, &["reload"]).await.contains("targets.yaml:9:"));
    fs::write(&registry, engine().replace("web-server-01", "web-2")).unwrap();
    place.said(&["reload"]).await;
    assert_ne!(service.digest(&token).await, before, "the digest covers the registry file");
    assert_eq!(service.call(&token, "target_inspect", json!({"target": "web-2"})).await.code(), "no_executor");
    assert_eq!(
        service.call(&token, "target_inspect", json!({"target": "web-server-01"})).await.code(),
        "unknown_target"
    );
    // Imported now, configured later: refused at reload and at start, with the way out.
    let import = place.beside("import.yaml", SAMPLE);
    place.said(&["target", "import", import.to_str().unwrap()]).await;
    fs::write(&registry, SAMPLE).unwrap();
    let clash = "target web-server-01 is configured and was imported too";
    assert!(place.refused(3, &["reload"]).await.contains(clash));
    service.stop().await;
    let (code, said) = refuses(&mut serve(&place.file)).await;
    assert!(code == 3 && said.contains(clash), "{code} {said}");
    fs::write(&registry, SAMPLE.replace("web-server-01", "here")).unwrap();
    let (code, said) = refuses(&mut serve(&place.file)).await;
    assert!(code == 3 && said.contains("target here is configured already"), "{code} {said}");
    fs::remove_file(&registry).unwrap();
    let (code, said) = refuses(&mut serve(&place.file)).await;
    assert!(code == 3 && said.contains("targets.yaml"), "{code} {said}");
}
