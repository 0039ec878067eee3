//! Registry files as people write them: the documented shape loads, what is wrong is told with its line, and what is
//! written reads back the same.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::model::ScopeSet;

/// The shape that predecessors documented.
const SAMPLE: &str = include_str!("../fixtures/registry.yaml");

fn read_text(text: &str) -> Result<Vec<Target>, Problems> {
    let known = [EngagementId::from("default"), EngagementId::from("other")];
    read_registry(Path::new("targets.yaml"), text, &known[0], &known)
}

/// All that is wrong with the sample once `old` is `new`.
fn problems(old: &str, new: &str) -> String {
    assert!(SAMPLE.contains(old), "{old}");
    read_text(&SAMPLE.replacen(old, new, 1)).expect_err(new).to_string()
}

#[test]
fn the_shape_of_the_predecessors_loads_as_it_stands() {
    let targets = read_text(SAMPLE).unwrap();
    let [target] = &targets[..] else { panic!("{targets:?}") };
    assert_eq!(
        (target.id.as_str(), target.kind, target.engagement.as_str()),
        ("web-server-01", TargetKind::Ssh, "default")
    );
    assert_eq!((target.timeout, target.concurrency, target.sudo), (Duration::from_secs(60), 2, SudoPolicy::Limited));
    assert_eq!(target.tags, ["web", "production", "ssh"]);
    assert!(target.capabilities.allows(Scope::NetworkDiag) && !target.capabilities.allows(Scope::LogRead));
    let registered = target.registered.as_deref().unwrap();
    assert_eq!(
        (registered.hostname.as_deref(), registered.platform.as_deref()),
        (Some("web-server-01"), Some("ubuntu-22.04"))
    );
    let connection = registered.connection.as_ref().unwrap();
    assert_eq!(
        (connection.host.as_str(), connection.port, connection.username.as_deref()),
        ("192.168.1.100", Some(22), Some("admin"))
    );
    assert_eq!(connection.key, Some(KeyReference::Variable("SSH_KEY_WEB_SERVER_01".to_owned())));
    assert_eq!(connection.timeout, Duration::from_secs(30));
}

#[test]
fn older_names_of_scopes_are_understood() {
    let text = SAMPLE.replace("\"container:read\"", "\"container:control\"");
    assert!(read_text(&text).unwrap()[0].capabilities.allows(Scope::ContainerWrite));
}

#[test]
fn every_mistake_is_reported_with_its_line() {
    let text = SAMPLE
        .replace("    type:", "    tpye: 1\n    type:")
        .replace("port: 22", "port: 99999")
        .replace("sudo_policy: \"limited\"", "sudo_policy: \"always\", sudo: 1")
        .replace("\"system:read\"", "\"system:raed\"");
    let problems = read_text(&text).unwrap_err();
    let lines: Vec<_> = problems.iter().map(|problem| (problem.line, problem.path.as_str())).collect();
    assert_eq!(
        lines,
        [
            (5, "targets.web-server-01.tpye"),
            (8, "targets.web-server-01.connection.port"),
            (9, "targets.web-server-01.capabilities[0]"),
            (10, "targets.web-server-01.constraints.sudo_policy"),
            (10, "targets.web-server-01.constraints.sudo"),
        ],
        "{problems}"
    );
    assert!(
        problems
            .to_string()
            .starts_with("targets.yaml:5:5: targets.web-server-01.tpye: unknown key, did you mean type?")
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    for (old, new, wanted) in [
        ("\"1.0\"", "\"2.0\"", "version: must be \"1.0\""),
        ("\"1.0\"", "1.0", "version: must be \"1.0\", not a fraction"),
        ("id: \"web-server-01\"", "id: \"web-2\"", "as the target's key is"),
        ("  web-server-01:", "  Web:", "no name for a target"),
        ("\"remote\"", "\"local\"", "must be local where the type is local"),
        ("\"ssh\" ", "\"local\" ", "must be ssh, docker or http where the type is remote"),
        ("\"ssh\" ", "\"telnet\" ", "must be one of \"local\", \"ssh\", \"docker\", \"http\""),
        ("\"192.168.1.100\"", "\"-oProxyCommand=x\"", "no host name or address"),
        ("\"192.168.1.100\"", "\"a b\"", "no host name or address"),
        ("host: \"192.168.1.100\", ", "", "connection.host: missing"),
        ("\"admin\"", "\"-l root\"", "no login name"),
        ("\"admin\"", "\"\"", "no login name"),
        ("port: 22", "port: 0", "from 1 to 65535"),
        ("port: 22", "port: \"22\"", "must be a whole number"),
        ("timeout: 30", "timeout: 0", "from 1 to 300"),
        ("concurrency: 2", "concurrency: 65", "from 1 to 64"),
        ("username:", "password:", "unknown key"),
        ("    metadata:", "    engagement: \"nobody\"\n    metadata:", "no engagement \"nobody\""),
        ("    metadata:", "    type: \"remote\"\n    metadata:", "duplicate"),
        ("targets:", "targets: [", "targets.yaml:"),
        ("version: \"1.0\"\n", "", "version: missing"),
    ] {
        let found = problems(old, new);
        assert!(found.contains(wanted), "{new}: {found}");
    }
    for text in ["", "- 1", "7", "version: \"1.0\"", "version: \"1.0\"\ntargets:\n"] {
        read_text(text).expect_err(text);
    }
    assert_eq!(read_text("version: \"1.0\"\ntargets: {}").unwrap(), []);
    let local = SAMPLE.replace("\"remote\"", "\"local\"").replace("\"ssh\" ", "\"local\" ");
    assert!(read_text(&local).unwrap_err().to_string().contains("has no connection"));
    let homeless = read_registry(Path::new("t"), SAMPLE, &"nobody".into(), &["default".into()]).unwrap_err();
    assert!(homeless.to_string().contains("engagement nobody"), "{homeless}");
}

#[test]
fn a_key_is_referred_to_and_what_stands_in_its_place_is_not_shown() {
    for bad in [
        "-----BEGIN OPENSSH PRIVATE KEY-----hunter2",
        "hunter2",
        "${hunter2",
        "${a}hunter2",
        "/keys/${hunter2}",
        "${hunter2-x}",
        "${}",
        "/keys/../hunter2",
        "/keys//hunter2",
        "~/hunter2",
        "/",
    ] {
        let found = problems("${SSH_KEY_WEB_SERVER_01}", bad);
        assert!(found.contains("connection.key_path: must be a variable"), "{found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
    let file = SAMPLE.replace("${SSH_KEY_WEB_SERVER_01}", "/etc/tailops/keys/web");
    let key = read_text(&file).unwrap()[0].registered.clone().unwrap().connection.unwrap().key.unwrap();
    assert_eq!(key, KeyReference::File("/etc/tailops/keys/web".into()));
}

#[test]
fn no_text_makes_more_than_one_line_of_a_problem() {
    for text in ["a: \"\\n\\e[31m\"", "\"a\\nb\": 1", "a: &x [*x, *x]", "\u{1b}[31m", "a: b: c", "!!binary x", "<<: 1"]
    {
        let problems = read_text(text).unwrap_err();
        assert_eq!(problems.to_string().lines().count(), problems.count(), "{problems}");
        assert!(!problems.to_string().contains('\u{1b}'), "{problems}");
    }
}

fn name() -> impl Strategy<Value = String> {
    // Also words that YAML could take for numbers, dates, truth or nothing.
    prop_oneof![
        "[a-z0-9][a-z0-9._-]{0,20}",
        Just("1.0".to_owned()),
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("2024-01-01".to_owned()),
        Just("1e3".to_owned()),
        Just("0x1f".to_owned()),
        Just("no".to_owned())
    ]
}

prop_compose! {
    fn any_connection()(
        host in "[a-z0-9]{1,9}(\\.[a-z0-9]{1,9}){0,2}",
        port in proptest::option::of(1u16..),
        username in proptest::option::of("[a-z_][a-z0-9_.-]{0,10}"),
        key in proptest::option::of(prop_oneof![
            "[A-Z_][A-Z0-9_]{0,12}".prop_map(KeyReference::Variable),
            "/[a-z]{1,8}/[ -#%-.0-9a-z]{3,8}x".prop_map(|path| KeyReference::File(path.into())),
        ]),
        timeout in 1u64..=300,
    ) -> Connection {
        Connection {
            host,
            port,
            username,
            key,
            certificate: None,
            host_keys: Vec::new(),
            node: None,
            jump: None,
            via: None,
            timeout: Duration::from_secs(timeout),
        }
    }
}

prop_compose! {
    fn any_target()(
        id in name(),
        kind in proptest::sample::select(vec![TargetKind::Local, TargetKind::Ssh, TargetKind::Docker, TargetKind::Http]),
        engagement in proptest::sample::select(vec!["default", "other"]),
        scopes in proptest::sample::subsequence(Scope::ALL.to_vec(), 0..8),
        segment in proptest::option::of(name()),
        tags in proptest::collection::btree_set(name(), 0..5),
        roots in proptest::collection::btree_set("/[a-z]{1,8}x/[a-zA-Z0-9 \"'#:ü]{1,8}x", 0..4),
        numbers in (1u64..=3600, 1usize..=64),
        sudo in proptest::sample::select(vec![SudoPolicy::None, SudoPolicy::Limited, SudoPolicy::Full]),
        connection in any_connection(),
        hostname in proptest::option::of("[a-z0-9]{1,10}"),
        platform in proptest::option::of("[!-~]{1,20}"),
    ) -> Target {
        let connection = (kind != TargetKind::Local).then_some(connection);
        Target {
            id: id.into(),
            kind,
            engagement: engagement.into(),
            capabilities: ScopeSet::new(scopes),
            segment,
            tags: tags.into_iter().collect(),
            roots: roots.into_iter().map(PathBuf::from).collect(),
            timeout: Duration::from_secs(numbers.0),
            concurrency: numbers.1,
            sudo,
            registered: Some(Box::new(Registered { connection, hostname, platform })),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(targets in proptest::collection::vec(any_target(), 0..5)) {
        let wanted: BTreeMap<String, Target> =
            targets.into_iter().map(|target| (target.id.as_str().to_owned(), target)).collect();
        let entries: Vec<_> = wanted.iter().map(|(id, target)| (id.as_str(), registry_entry(target))).collect();
        let text = registry_file(entries.iter().map(|(id, entry)| (*id, entry)));
        let read = read_text(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let read: BTreeMap<String, Target> =
            read.into_iter().map(|target| (target.id.as_str().to_owned(), target)).collect();
        prop_assert_eq!(read, wanted);
    }

    #[test]
    fn nothing_panics(text in "[ -~\n]{0,200}") {
        let _ = read_text(&text);
    }
}
