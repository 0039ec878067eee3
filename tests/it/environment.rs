//! The predecessors' environment variables, profiles as shipped, and pinned configurations, on the real binary.

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    child::BINARY,
    served::{Place, Served, refuses, serve},
};

const CONFIG: &str =
    "data_dir = \"DATA\"\nnode.listen = \"127.0.0.1:0\"\nlog.format = \"json\"\n[engagements.default]\n";

#[tokio::test]
async fn a_variable_that_is_refused_stops_the_start_and_its_value_is_not_shown() {
    let place = Place::with(CONFIG);
    for (name, value, hint) in [
        ("SYSTEMMANAGER_REQUIRE_AUTH", "false", "every request is authenticated"),
        ("SYSTEMMANAGER_SHARED_SECRET", "hunter2", "tailops token mint"),
        ("SYSTEMMANAGER_JWT_SECRET", "hunter2", "tailops token mint"),
        ("SYSTEMMANAGER_ENABLE_APPROVL", "hunter2", "did you mean SYSTEMMANAGER_ENABLE_APPROVAL?"),
        ("MCP_ENABLED", "0", "cannot be turned off"),
    ] {
        for mut command in [serve(&place.file), {
            let mut dev = tokio::process::Command::new(BINARY);
            dev.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&place.data);
            dev
        }] {
            let (code, said) = refuses(command.env(name, value)).await;
            assert_eq!(code, 3, "{said}");
            assert!(said.contains(name) && said.contains(hint) && !said.contains("hunter2"), "{said}");
        }
    }
    assert!(!place.data.exists(), "nothing was begun");
}

#[tokio::test]
async fn a_variable_that_is_honoured_does_what_it_says() {
    let place = Place::with(CONFIG);
    let registry = place.beside("targets.yaml", "version: \"1.0\"\ntargets:\n  web:\n    type: remote\n    executor: http\n    connection: {host: web.example.org}\n    capabilities: []\n");
    let service = Served::run(
        serve(&place.file)
            .env("MCP_MAX_REQUEST_SIZE_MB", "1")
            .env("SYSTEMMANAGER_TARGETS_CONFIG", &registry)
            .env("SYSTEMMANAGER_REQUIRE_AUTH", "true")
            .env("MCP_TRANSPORT", "hunter2"),
    )
    .await;
    let token = place.token("default").await;
    assert_eq!(service.call(&token, "fleet_list", json!({"kind": "http"})).await.data()["total"], 1);
    let size = |bytes: usize| json!({"tag": "x".repeat(bytes)});
    assert_eq!(service.call(&token, "fleet_list", size(900_000)).await.status, 200);
    assert_eq!(service.call(&token, "fleet_list", size(1_000_001)).await.status, 413);
    assert!(service.log().contains("MCP_TRANSPORT means nothing"), "{}", service.log());
    assert!(!service.log().contains("hunter2"));
    place.said(&["reload"]).await;
    service.stop().await;
    place.write(&format!("http.max_body = \"2 MB\"\n{CONFIG}"));
    let (code, said) = refuses(serve(&place.file).env("MCP_MAX_REQUEST_SIZE_MB", "1")).await;
    assert!(code == 3 && said.contains("is not what http.max_body says"), "{said}");
    Served::run(serve(&place.file).env("MCP_MAX_REQUEST_SIZE_MB", "2")).await.stop().await;
}

fn example(profile: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/profiles").join(profile).join("tailops.toml")
}

#[tokio::test]
async fn each_profile_starts_as_shipped() {
    for profile in ["development", "recommended", "maximum"] {
        let shipped = fs::read_to_string(example(profile)).unwrap();
        assert!(shipped.contains("127.0.0.1:8080") && shipped.contains("\"/var/lib/tailops\""), "{profile}");
        let place = Place::with(&shipped.replace("/var/lib/tailops", "DATA").replace("127.0.0.1:8080", "127.0.0.1:0"));
        let file = place.file.to_str().unwrap();
        let checked = place.said(&["config", "check", file]).await;
        assert!(checked.contains(&format!("fine: profile {profile}")), "{checked}");
        if profile == "maximum" {
            assert!(checked.contains("wants a pin"), "{checked}");
            let (code, said) = refuses(&mut serve(&place.file)).await;
            assert!(code == 3 && said.contains("profile maximum wants a pinned configuration"), "{said}");
            place.said(&["config", "pin", file]).await;
            let checked = place.said(&["config", "check", file]).await;
            assert!(!checked.contains("warning"), "{checked}");
        } else {
            assert!(!checked.contains("warning"), "a shipped file is what its profile stands for: {checked}");
        }
        let service = Served::start(&place).await;
        let token = place.said(&["token", "mint", "--agent", "a", "--scopes", "security:read", "--ttl", "1h"]).await;
        let answer = service.call(token.trim(), "gateway_inspect", json!({})).await;
        assert_eq!(answer.data()["config"]["profile"], profile);
        service.stop().await;
    }
    let place = Place::with(&fs::read_to_string(example("maximum")).unwrap());
    let shipped = example("maximum");
    assert!(
        place.said(&["config", "check", shipped.to_str().unwrap()]).await.contains("fine"),
        "the pin as shipped holds"
    );
}

#[tokio::test]
async fn an_altered_configuration_does_not_start() {
    let place = Place::with(CONFIG);
    let registry = place.beside("targets.yaml", "version: \"1.0\"\ntargets: {}\n");
    let config = format!("targets_file = {:?}\n{CONFIG}", registry.to_str().unwrap());
    place.write(&config);
    let file = place.file.to_str().unwrap();
    let printed = place.said(&["config", "pin", file, "--print"]).await;
    let digest = printed.lines().find_map(|line| line.strip_prefix("--config-sha256 ")).unwrap().to_owned();
    let pinned = async || {
        let mut command = serve(&place.file);
        refuses(command.args(["--config-sha256", &digest])).await
    };
    Served::run(serve(&place.file).args(["--config-sha256", &digest])).await.stop().await;
    fs::write(&registry, "version: \"1.0\"\ntargets: {} \n").unwrap();
    let (code, said) = pinned().await;
    assert!(code == 3 && said.contains("not what --config-sha256 pins"), "{said}");
    fs::write(&registry, "version: \"1.0\"\ntargets: {}\n").unwrap();
    place.said(&["config", "pin", file]).await;
    let check = std::process::Command::new("sha256sum")
        .args(["-c", "tailops.toml.sha256"])
        .current_dir(place.file.parent().unwrap())
        .output()
        .unwrap();
    assert!(check.status.success(), "a pin is what sha256sum checks: {check:?}");
    for (path, text) in [
        (&place.file, format!("{config}\n")),
        (&place.file, "[broken".to_owned()),
        (&registry, "version: 1".to_owned()),
    ] {
        let right = fs::read(path).unwrap();
        fs::write(path, text.replace("DATA", place.data.to_str().unwrap())).unwrap();
        let (code, said) = refuses(&mut serve(&place.file)).await;
        assert!(code == 3 && said.contains(&format!("{}: was altered after it was pinned", path.display())), "{said}");
        fs::write(path, right).unwrap();
    }
    Served::start(&place).await.stop().await;
    let (code, said) = refuses(serve(&place.file).args(["--config-sha256", "abc"])).await;
    assert!(code == 2 && said.contains("64 hexadecimal digits"), "{said}");
}

#[tokio::test]
async fn what_is_shown_reads_back_the_same() {
    for text in [
        CONFIG.to_owned(),
        fs::read_to_string(example("maximum")).unwrap(),
        include_str!("../../examples/loopback/tailops.toml").to_owned(),
    ] {
        let place = Place::with(&text);
        let shown = place.said(&["config", "show", place.file.to_str().unwrap()]).await;
        let again = place.beside("again.toml", &shown);
        assert_eq!(place.said(&["config", "show", again.to_str().unwrap()]).await, shown);
        for wanted in ["exec.queue_timeout = \"10s\"", "log.level = \"info\""] {
            assert!(shown.contains(wanted), "{wanted}: {shown}");
        }
    }
}
