//! The configuration as people write it: what is refused and in which words, and that the page of keys is true.

use super::*;

const TOOLS: &[&str] = &["fleet_list", "file_read", "host_inspect"];
const TARGET: &str = "[engagements.default]\n[targets.web]\nkind = \"local\"\nengagement = \"default\"\ncapabilities = [\"system:read\"]\n";

fn read_text(text: &str) -> Result<Config, Problems> {
    load(Path::new("tailops.toml"), text, TOOLS)
}

/// The only problem of `text`.
fn problem(text: &str) -> String {
    let problems = read_text(text).expect_err(text);
    assert_eq!(problems.count(), 1, "{problems}");
    problems.to_string()
}

#[test]
fn every_mistake_of_a_file_is_reported_with_its_place() {
    let problems = read_text(include_str!("fixtures/mistakes.toml")).unwrap_err();
    let expected = include_str!("fixtures/mistakes.txt");
    assert_eq!(format!("{problems}\n"), expected, "\n{problems}\n");
    assert_eq!(problems.iter().count(), expected.lines().count());
}

#[test]
fn a_text_that_is_not_toml_is_reported_with_every_syntax_error() {
    let problems = read_text("profile = \n[http\nmax_body = 1\nmax_body = 2\nnope = 1\n").unwrap_err();
    assert!(problems.count() > 1, "{problems}");
    assert!(
        problems.iter().all(|problem| problem.path.is_empty() && problem.line > 0 && problem.column > 0),
        "{problems}"
    );
    assert!(problem("a = 1\na = 2").starts_with("tailops.toml:2:1: duplicate key"));
}

#[test]
fn a_problem_is_one_line_whatever_stands_in_the_file() {
    let hostile = "\"a\\nb\\u001b[31m\" = 1\nprofile = \"x\\ny\"\n[targets.\"a\\nb\"]\n[http]\nmax_body = \"5\\n\"\nhosts = [\"\\n\"]\n";
    let problems = read_text(hostile).unwrap_err();
    assert_eq!(problems.to_string().lines().count(), problems.count(), "{problems}");
    assert!(!problems.to_string().contains('\u{1b}'));
}

#[test]
fn lines_and_columns_count_characters() {
    let problems = read_text("# äöü\nlog = { format = \"äöü\", level = \"infö\" }\n").unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| (problem.line, problem.column, problem.path.as_str())).collect();
    assert_eq!(places, [(2, 18, "log.format"), (2, 33, "log.level")]);
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = read_text("").unwrap();
    assert_eq!(config.profile, Profile::Recommended);
    assert_eq!(config.node, Node::Loopback { listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))] });
    assert_eq!((config.http, config.limits), (Http::default(), Limits::default()));
    assert_eq!((config.sessions, config.exec, config.log), (Sessions::default(), Exec::default(), Log::default()));
    assert!(config.engagements.is_empty() && config.targets.is_empty());
}

#[test]
fn only_the_two_loopback_addresses_can_be_listened_on() {
    for bad in ["0.0.0.0:1", "[::]:1", "127.0.0.2:1", "[::ffff:127.0.0.1]:1", "10.0.0.1:1", "100.64.0.1:1"] {
        let refused = problem(&format!("node.listen = [\"127.0.0.1:0\", \"{bad}\"]"));
        assert!(refused.contains("node.listen[1]: mode loopback listens on 127.0.0.1 and [::1] only"), "{refused}");
    }
    for bad in ["127.0.0.1", "localhost:8080", ":8080", "127.0.0.1:65536", "::1:8080", ""] {
        assert!(problem(&format!("node.listen = \"{bad}\"")).contains("is no address with a port"), "{bad}");
    }
    assert!(problem("node.listen = []").contains("at least one address"));
}

#[test]
fn roots_that_lead_out_or_deceive_are_refused() {
    for (bad, reason) in [
        ("/", "whole file system"),
        ("//", "whole file system"),
        ("/.", "whole file system"),
        ("/srv/..", "must not contain `..`"),
        ("/srv/../etc", "must not contain `..`"),
        ("/srv/", "written plainly: \"/srv\""),
        ("/srv//a", "written plainly: \"/srv/a\""),
        ("//srv", "written plainly: \"/srv\""),
        ("/srv/./a", "written plainly: \"/srv/a\""),
        ("srv", "absolute directory"),
        ("./srv", "absolute directory"),
        ("~/x", "absolute directory"),
        ("", "absolute directory"),
        ("/srv\\u0000", "absolute directory"),
        ("/srv\\n", "absolute directory"),
        ("/proc", "must not lie in /proc"),
        ("/proc/self/root", "must not lie in /proc"),
        ("/sys/kernel", "must not lie in /sys"),
        ("/dev", "must not lie in /dev"),
    ] {
        let refused = problem(&format!("{TARGET}roots = [\"{bad}\"]"));
        assert!(refused.contains("targets.web.roots[0]: ") && refused.contains(reason), "{bad}: {refused}");
    }
    assert!(
        problem(&format!("{TARGET}roots = [\"/srv\", \"/srv\"]")).contains("targets.web.roots[1]: is there already")
    );
    assert!(read_text(&format!("{TARGET}roots = [\"/srv\", \"/process\", \"/developers\"]")).is_ok());
    assert!(problem("data_dir = \"state\"").contains("data_dir: "));
}

#[test]
fn names_have_one_form() {
    for bad in ["", "A", "-a", ".a", "_a", "a b", "a/b", "ä", &"a".repeat(65)] {
        let refused = problem(&format!("[engagements.\"{bad}\"]"));
        assert!(refused.contains("is no name for an engagement: 1 to 64 of"), "{bad}: {refused}");
    }
    for good in ["a", "0", "web-server-01", "a.b_c", &"a".repeat(64)] {
        assert!(read_text(&format!("[engagements.\"{good}\"]")).is_ok(), "{good}");
    }
}

#[test]
fn hosts_and_origins_are_exact() {
    for bad in [
        "*",
        "*.example.org",
        "localhost:8080",
        "http://localhost",
        "LOCALHOST",
        "a..b",
        "-a",
        "[::1",
        "[::01]",
        "::1",
        "",
    ] {
        assert!(problem(&format!("http.hosts = [\"{bad}\"]")).contains("without port"), "{bad}");
    }
    assert!(problem("http.hosts = []").contains("at least one Host"));
    for bad in [
        "*",
        "null",
        "https://*",
        "https://a.example/",
        "ftp://a",
        "a.example",
        "https://a:0",
        "https://a:+1",
        "https://a:x",
        "https://",
    ] {
        assert!(problem(&format!("http.origins = [\"{bad}\"]")).contains("scheme, host and optional port"), "{bad}");
    }
    let good =
        "http.origins = [\"https://a.example\", \"http://localhost:3000\", \"http://[::1]:80\", \"http://[::1]\"]";
    assert_eq!(read_text(good).unwrap().http.origins.len(), 4);
}

#[test]
fn profiles_forbid_what_they_say() {
    for (profile, setting, reason) in [
        ("recommended", "log.level = \"debug\"", "log.level: profile recommended refuses \"debug\""),
        ("maximum", "log.level = \"trace\"", "log.level: profile maximum refuses \"trace\""),
        ("maximum", "sessions.max_age = \"9h\"", "sessions.max_age: profile maximum allows at most 8h, not 9h"),
        ("maximum", "sessions.idle = \"16min\"", "sessions.idle: profile maximum allows at most 15min, not 16min"),
        (
            "maximum",
            "limits.critical_per_hour = 11",
            "limits.critical_per_hour: profile maximum allows at most 10, not 11",
        ),
        ("maximum", "limits.auth_failures_per_minute = 21", "profile maximum allows at most 20, not 21"),
        (
            "maximum",
            "approvals = {strength = \"signature\", second_person = false}",
            "approvals.second_person: profile maximum refuses false: somebody else has to agree",
        ),
    ] {
        let refused = problem(&format!("profile = \"{profile}\"\n{setting}"));
        assert!(refused.starts_with("tailops.toml:2:") && refused.contains(reason), "{refused}");
        assert!(read_text(&format!("profile = \"development\"\n{setting}")).is_ok(), "{setting}");
        assert!(read_text(&format!("profile = \"{profile}\"")).is_ok());
    }
    assert!(problem("log.level = \"debug\"").contains("profile recommended"), "the default profile is strict too");
}

#[test]
fn profiles_are_words() {
    for profile in Profile::ALL {
        assert_eq!(profile.as_str().parse(), Ok(profile));
    }
    assert!("Maximum".parse::<Profile>().is_err());
    let days = Profile::ALL.map(|profile| profile.max_token_ttl().as_secs() / 86_400);
    assert_eq!(days, [365, 30, 1]);
}

#[test]
fn limits_of_a_part_follow_the_whole() {
    let config = read_text("http.max_connections = 10\nsessions.max = 5\nexec.hard_output = \"64 KiB\"").unwrap();
    assert_eq!((config.http.max_connections_per_peer, config.sessions.max_per_token), (10, 5));
    assert_eq!((config.exec.max_stdout_bytes, config.exec.max_stderr_bytes), (65_536, 65_536));
    let refused = problem("sessions.max = 5\nsessions.max_per_token = 6");
    assert_eq!(refused, "tailops.toml:2:26: sessions.max_per_token: must be from 1 to 5, not 6");
}

#[test]
fn numbers_are_held_to_their_range() {
    for bad in [
        "0",
        "-1",
        "100001",
        "9223372036854775807",
        "99999999999999999999999",
        "0x7fffffffffffffff",
        "1.5",
        "true",
        "\"5\"",
    ] {
        let refused = problem(&format!("http.max_connections = {bad}"));
        assert!(refused.contains("from 1 to 100000, not"), "{bad}: {refused}");
    }
    assert_eq!(read_text("http.max_connections = 0x1_0").unwrap().http.max_connections, 16);
    for bad in ["1023", "\"2 GiB\"", "0", "-1", "1.5", "\"1 Mb\"", "99999999999999999999999", "[1]"] {
        let refused = problem(&format!("http.max_body = {bad}"));
        assert!(refused.contains("from 1 KiB to 1 GiB"), "{bad}: {refused}");
    }
    for bad in ["10", "\"10\"", "\"500ms\"", "\"61s\"", "\"-1s\"", "\"\"", "1979-05-27"] {
        let refused = problem(&format!("http.header_timeout = {bad}"));
        assert!(refused.contains("from 1s to 1min"), "{bad}: {refused}");
    }
}

#[test]
fn a_target_reads_as_written() {
    let text = format!(
        "{TARGET}segment = \"production-a\"\ntags = [\"web\"]\nroots = [\"/var/log\"]\ntimeout = \"5s\"\nconcurrency = 2\nsudo = \"limited\"\n[targets.db]\nkind = \"local\"\nengagement = \"default\"\ncapabilities = [\"container:control\"]\n"
    );
    let targets = read_text(&text).unwrap().targets;
    let [db, web] = &targets[..] else { panic!("{targets:?}") };
    assert!(db.capabilities.allows(Scope::ContainerWrite), "older names are understood");
    assert_eq!((web.id.as_str(), web.engagement.as_str(), web.kind), ("web", "default", TargetKind::Local));
    assert_eq!((web.segment.as_deref(), &web.tags[..]), (Some("production-a"), &["web".to_owned()][..]));
    assert_eq!((&web.roots[..], web.timeout), (&[PathBuf::from("/var/log")][..], Duration::from_secs(5)));
    assert_eq!((web.concurrency, web.sudo), (2, SudoPolicy::Limited));
    assert!(web.capabilities.allows(Scope::SystemRead) && !web.capabilities.allows(Scope::SystemControl));
}

#[test]
fn an_exception_needs_owner_reason_and_an_end_in_utc() {
    const GOOD: &str = "policy = \"p\"\nowner = \"maria\"\nreason = \"OPS-7\"\nexpires = \"2026-12-01T00:00:00Z\"\n";
    let text = |exception: &str| format!("{TARGET}[[policy.exceptions]]\n{exception}");
    let full =
        read_text(&text(&format!("{GOOD}subject = \"a\"\ntargets = [\"web\"]\ntools = [\"file_read\"]\n"))).unwrap();
    let [exception] = &full.policy.exceptions[..] else { panic!("{:?}", full.policy) };
    assert_eq!((exception.owner.as_str(), exception.expires.as_second()), ("maria", 1_796_083_200));
    assert_eq!(exception.targets, Some(BTreeSet::from(["web".into()])));
    for key in ["policy", "owner", "reason", "expires"] {
        let without: String =
            GOOD.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect();
        let refused = problem(&text(&without));
        assert!(refused.contains(&format!("policy.exceptions[0].{key}: missing, such as {key} = ")), "{refused}");
    }
    for (line, wanted) in [
        ("subject = 5", "subject: must be"),
        ("subject = \" \"", "subject: must say"),
        ("targets = []", "targets: must name at least one target"),
        ("targets = [\"We b\"]", "targets[0]: \"We b\" is no label"),
        ("tools = [\"file_raed\"]", "tools[0]: there is no tool \"file_raed\", did you mean file_read?"),
        ("until = 1", "until: unknown key"),
    ] {
        let refused = problem(&text(&format!("{GOOD}{line}\n")));
        assert!(refused.contains(&format!("policy.exceptions[0].{wanted}")), "{refused}");
    }
    for moment in ["2026-12-01", "2026-12-01T00:00:00+01:00", "tomorrow", ""] {
        let refused = problem(&text(&GOOD.replace("2026-12-01T00:00:00Z", moment)));
        assert!(refused.contains("expires: must be a moment in UTC"), "{refused}");
    }
    assert!(problem("policy.time_zone = \"Europe/Berln\"").contains("did you mean Europe/Berlin?"));
    assert!(problem("policy.directory = \"policies\"").contains("policy.directory: "));
}

#[test]
fn development_offers_this_machine_and_would_pass_as_a_file() {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config::development(PathBuf::from("/tmp/state"), listen);
    let text = "profile = \"development\"\ndata_dir = \"/tmp/state\"\nnode.listen = \"127.0.0.1:0\"\nprobe.networks = [\"127.0.0.0/8\", \"::1/128\"]\nprobe.urls.gateway.url = \"http://127.0.0.1:8080/healthz\"\n[engagements.default]\n[targets.local]\nkind = \"local\"\nengagement = \"default\"\ncapabilities = [\"system:admin\", \"log:read\", \"network:diag\", \"file:write\"]\nroots = [\"/tmp/state/files\", \"/var/log\"]\n";
    assert_eq!(format!("{config:?}"), format!("{:?}", read_text(text).unwrap()));
}

#[test]
fn the_example_loads() {
    let config = read_text(include_str!("../../examples/loopback/tailops.toml")).unwrap();
    assert_eq!((config.engagements.len(), config.targets.len()), (2, 1));
    let tools = ["fleet_list", "host_inspect", "journal_query", "policy_explain", "service_control"];
    let text = include_str!("../../examples/policy/tailops.toml");
    let config = load(Path::new("tailops.toml"), text, &tools).unwrap();
    assert_eq!((config.targets.len(), config.policy.exceptions.len()), (4, 2));
}

/// The rows of the tables of keys: path, default.
fn documented() -> Vec<(&'static str, Option<&'static str>)> {
    let code = |cell: &'static str| cell.trim().strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
    let (tables, _) = include_str!("../../docs/configuration.md").split_once("## Profiles").unwrap();
    let rows = tables.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').collect::<Vec<_>>());
    rows.map(|cells| (code(cells[1]).unwrap(), code(cells[3]))).collect()
}

/// What the loader says it knows: it lists the keys of a table to whoever writes an unknown one there.
fn understood() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for table in [
        "",
        "node.",
        "tailnet.",
        "tailnet.require.",
        "http.",
        "tls.",
        "limits.",
        "sessions.",
        "exec.",
        "ssh.",
        "ssh.host_cas[].",
        "ssh.ca.",
        "credentials.",
        "files.",
        "guard.",
        "probe.",
        "probe.urls.NAME.",
        "approvals.",
        "approvals.webhooks[].",
        "approvals.notify[].",
        "log.",
        "policy.",
        "policy.exceptions[].",
        "engagements.NAME.",
        "targets.NAME.",
    ] {
        let text = match table.strip_suffix("[].") {
            Some(list) => format!("{list} = [{{zzz = 1}}]\n"),
            None => format!("{}zzz = 1\n", table.replace("NAME", "x")),
        };
        let problems = read_text(&text).unwrap_err();
        let listed = problems
            .iter()
            .find_map(|problem| problem.message.strip_prefix("unknown key; the keys here are "))
            .unwrap();
        keys.extend(listed.split(", ").map(|key| format!("{table}{key}")));
    }
    keys.retain(|key| {
        ![
            "node",
            "tailnet",
            "tailnet.require",
            "http",
            "tls",
            "limits",
            "sessions",
            "exec",
            "ssh",
            "ssh.host_cas",
            "ssh.ca",
            "credentials",
            "files",
            "guard",
            "probe",
            "probe.urls",
            "approvals",
            "approvals.webhooks",
            "approvals.notify",
            "log",
            "policy",
            "policy.exceptions",
            "engagements",
            "targets",
        ]
        .contains(&key.as_str())
    });
    keys
}

#[test]
fn the_page_lists_exactly_the_keys_there_are() {
    let documented: Vec<String> = documented().iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(documented.iter().cloned().collect::<BTreeSet<_>>(), understood());
    assert_eq!(documented.len(), understood().len(), "a key is listed twice");
}

#[test]
fn the_page_tells_the_true_defaults() {
    let mut tried = 0;
    for (key, default) in documented() {
        let Some(default) = default else { continue };
        // Keys that only some modes have are tried in one that has them.
        let mode = match key {
            "node.mode" => "",
            "node.socket" | "node.port" | "http.trusted_proxies" => "node.mode = \"host\"\n",
            key if key.starts_with("tailnet.") => "node.mode = \"host\"\n",
            key if key.starts_with("ssh.ca.") => "ssh.ca.key_file = \"/ca\"\n",
            key if key.starts_with("node.") && key != "node.listen" => "node.mode = \"embedded\"\n",
            _ => "",
        };
        let defaults = format!("{:?}", read_text(&format!("{mode}{TARGET}")).unwrap());
        let text = match key.strip_prefix("targets.NAME.") {
            Some(key) => format!("{TARGET}{key} = {default}\n"),
            None => format!("{mode}{key} = {default}\n{TARGET}"),
        };
        assert_eq!(format!("{:?}", read_text(&text).unwrap()), defaults, "{key} = {default}");
        tried += 1;
    }
    assert_eq!(tried, documented().len() - 36, "all but required keys and those without a default");
}

#[test]
fn a_node_on_a_tailnet_reads_as_written() {
    let host = read_text(
        "[node]\nmode = \"host\"\nsocket = \"/tmp/ts.sock\"\nport = 81\nlisten = [\"100.64.0.1:81\"]\n[http]\ntrusted_proxies = [0, 33]",
    )
    .unwrap();
    let Node::Host(HostNode { socket, port: 81, listen: Some(listen) }) = &host.node else { panic!("{:?}", host.node) };
    assert_eq!((socket.to_str(), listen.len()), (Some("/tmp/ts.sock"), 1));
    assert_eq!(host.http.trusted_proxies, BTreeSet::from([0, 33]));
    assert_eq!(host.tailnet, Tailnet::default());
    let text = "[node]\nmode = \"embedded\"\nhostname = \"ops\"\ncontrol_url = \"https://hs.example.org\"\nauth_key_file = \"/etc/key\"\ntags = [\"tag:a\"]\nadvertise_tags = false\nephemeral = true\nlog_upload = true\n\
        [tailnet]\ncapability = \"example.org/cap/ops\"\ngrants = \"optional\"\nallow_shared = true\nallow_routers = [\"n1CNTRL\"]\nrequire.tags = [\"tag:mcp-client\"]\nrequire.users = [\"maria@example.org\"]\n\
        [tls]\ncertificate_from = \"files\"\ncertificate_file = \"/c.pem\"\nkey_file = \"/k.pem\"";
    let embedded = read_text(text).unwrap();
    let Node::Embedded(node) = &embedded.node else { panic!("{:?}", embedded.node) };
    assert_eq!(node.credential, Some(NodeCredential::AuthKey("/etc/key".into())));
    assert_eq!((node.tags.clone(), node.advertise_tags, node.ephemeral), (vec!["tag:a".to_owned()], false, true));
    assert_eq!(embedded.tailnet.grants, GrantsMode::Optional);
    assert_eq!(embedded.tls, Tls::Files { certificate: "/c.pem".into(), key: "/k.pem".into() });
    for config in [host, embedded] {
        let again = read_text(&config.effective()).unwrap();
        assert_eq!((&again.node, &again.tailnet, &again.tls), (&config.node, &config.tailnet, &config.tls));
        assert_eq!(again.http, config.http);
    }
}

/// Whoever writes a key that does nothing expects something of it.
#[test]
fn keys_of_another_mode_and_half_a_setting_are_refused() {
    for (text, wanted) in [
        ("node.hostname = \"ops\"", "node.hostname: has no meaning in mode loopback; it belongs to mode embedded"),
        ("node.port = 80", "node.port: has no meaning in mode loopback; it belongs to mode host and embedded"),
        ("[node]\nmode = \"embedded\"\nlisten = \"127.0.0.1:1\"", "it belongs to mode loopback and host"),
        ("tailnet.grants = \"optional\"", "tailnet: has no meaning in node.mode loopback"),
        ("http.trusted_proxies = [0]", "http.trusted_proxies: has no meaning in node.mode loopback"),
        ("tls.certificate_from = \"node\"", "node.mode loopback has none"),
        ("tls.key_file = \"/k\"", "tls.key_file: has no meaning unless tls.certificate_from is \"files\""),
        ("[tls]\ncertificate_from = \"files\"\nkey_file = \"/k\"", "tls.certificate_file: missing"),
        ("[node]\nmode = \"embedded\"\ntags = []", "node.tags: must name at least one tag"),
        ("[node]\nmode = \"embedded\"\ntags = [\"ops\"]", "\"ops\" must be a tag such as"),
        (
            "[node]\nmode = \"embedded\"\nauth_key_file = \"/a\"\noauth_secret_file = \"/b\"",
            "node.oauth_secret_file: stands beside auth_key_file",
        ),
        (
            "[node]\nmode = \"embedded\"\nadvertise_tags = false\noauth_secret_file = \"/b\"",
            "node.advertise_tags: must be true with oauth_secret_file",
        ),
        ("[node]\nmode = \"embedded\"\nhostname = \"a.b\"", "node.hostname: \"a.b\" must be a name"),
        ("[node]\nmode = \"embedded\"\ncontrol_url = \"ftp://x\"", "node.control_url: \"ftp://x\" must be"),
        ("[node]\nmode = \"embedded\"\nephemeral = 1", "node.ephemeral: must be true or false, not a whole number"),
    ] {
        let refused = problem(text);
        assert!(refused.contains(wanted), "{text}: {refused}");
    }
    for capability in
        ["https://example.org/cap", "tailscale.com/cap/x", "a.tailscale.com/x", "example.org", "a/b", "x.y/"]
    {
        let refused = problem(&format!("node.mode = \"host\"\ntailnet.capability = {capability:?}"));
        assert!(refused.contains("must be a domain of yours and a path"), "{refused}");
    }
}
