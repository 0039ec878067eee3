//! `tailops policy` on files, as a site's own tests use it; and that the page and the example say what is so.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use tailops::{config, tools};

use crate::{
    child::BINARY,
    harness::{Gateway, Grant},
};

fn policy(arguments: &[&str]) -> Output {
    Command::new(BINARY).arg("policy").args(arguments).output().unwrap()
}

#[track_caller]
fn says(output: &Output, code: i32, wanted: &[&str]) {
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    for wanted in wanted {
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
}

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policy").join(file)
}

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/policy");
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/policy/tailops.toml");

#[test]
fn a_planted_wrong_expectation_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let cases = folder.path().join("cases.yaml");
    let text = fs::read_to_string(example("cases.yaml")).unwrap();
    let wrong = text
        .replacen("expect: allow\n    by: [default-permit]", "expect: deny\n    by: [night-read-only]", 1)
        .replacen("by: [two-for-deletes]\n    quorum: 2", "by: [two-for-deletes]\n    quorum: 3", 1);
    assert_ne!(text, wrong);
    fs::write(&cases, wrong).unwrap();
    let output = policy(&["test", cases.to_str().unwrap(), "--config", CONFIG, "--directory", EXAMPLE]);
    says(
        &output,
        1,
        &["expected", "staging restarts freely", "deny by night-read-only", "2 difference(s)", "3 people"],
    );
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(table.lines().count(), 4, "{table}");
    let line = text.lines().position(|line| line.contains("name: staging restarts freely")).unwrap() + 1;
    assert!(table.contains(&format!("cases.yaml:{line}: staging restarts freely")), "{table}");
}

#[test]
fn the_example_answers_as_its_cases_expect() {
    let cases = example("cases.yaml");
    let output = policy(&["test", cases.to_str().unwrap(), "--config", CONFIG, "--directory", EXAMPLE]);
    says(&output, 0, &["34 case(s), 0 difference(s)"]);
    let output = policy(&["check", "--config", CONFIG, "--directory", EXAMPLE]);
    says(&output, 0, &["night-read-only", "default-permit", "the exception to \"large-reads\"", "1 warning(s)"]);
    // Each rule of the example decides some case.
    let text = fs::read_to_string(&cases).unwrap();
    for file in ["production.cedar", "agents.cedar", "arguments.cedar"] {
        for id in fs::read_to_string(example(file)).unwrap().lines().filter_map(|line| line.strip_prefix("@id(\"")) {
            let id = id.trim_end_matches("\")");
            assert!(
                text.contains(&format!("by: [{id}]")) || text.contains(&format!(", {id}]")),
                "{id} decides no case"
            );
        }
    }
}

/// People who read the example of approvals get what it says: who has to agree to what, and where signatures are wanted.
#[test]
fn the_example_of_approvals_answers_as_its_cases_expect() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/approvals");
    let [cases, config] = ["cases.yaml", "tailops.toml"].map(|file| folder.join(file).to_str().unwrap().to_owned());
    let directory = folder.to_str().unwrap();
    let output = policy(&["test", &cases, "--config", &config, "--directory", directory]);
    says(&output, 0, &["6 case(s), 0 difference(s)"]);
    let weaker = fs::read_to_string(&cases).unwrap().replacen("strength: signature", "strength: identity", 1);
    let altered = tempfile::NamedTempFile::new().unwrap();
    fs::write(&altered, weaker).unwrap();
    let output = policy(&["test", altered.path().to_str().unwrap(), "--config", &config, "--directory", directory]);
    says(&output, 1, &["1 difference(s)", "ask, 2 people, identity", "ask approval_required, 2 people, signature"]);
    let explained = policy(&[
        "explain",
        "--config",
        &config,
        "--directory",
        directory,
        "--scopes",
        "file:write",
        "--tool",
        "file_delete",
        "--target",
        "prod-1",
        "--args",
        r#"{"path": "/srv/prod/a", "reason": "space", "dry_run": false}"#,
    ]);
    says(&explained, 0, &["file_delete: ask", "people who must agree: 2, each with a signature"]);
}

#[test]
fn a_typo_is_refused_at_start_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("policy");
    fs::create_dir(&directory).unwrap();
    fs::write(
        directory.join("a.cedar"),
        "@id(\"a\")\nforbid (principal, action == Action::\"file_raed\", resource);\n",
    )
    .unwrap();
    fs::write(
        directory.join("b.cedar"),
        "@id(\"b\")\nforbid (principal, action, resource)\nwhen { principal.scopes.contains(\"system:raed\") };\n",
    )
    .unwrap();
    let file = folder.path().join("tailops.toml");
    let data = folder.path().join("data");
    let text = format!(
        "data_dir = {data:?}\nnode.listen = \"127.0.0.1:0\"\npolicy.directory = {directory:?}\n[engagements.default]\n"
    );
    fs::write(&file, text).unwrap();
    let wanted = ["a.cedar:2:", "file_raed", "b.cedar:3:34: there is no scope \"system:raed\", did you mean"];
    let serve = Command::new(BINARY).args(["serve", "--config", file.to_str().unwrap()]).output().unwrap();
    says(&serve, 3, &wanted);
    says(&policy(&["check", "--config", file.to_str().unwrap()]), 3, &wanted);
    says(&policy(&["check", "--directory", directory.to_str().unwrap()]), 3, &wanted);
    says(&policy(&["check", "--directory", "/nowhere"]), 3, &["/nowhere: "]);
}

#[test]
fn a_file_of_cases_is_read_strictly() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cases.yaml");
    let case = "cases:\n  - name: one\n    caller: {subject: a, scopes: [readonly]}\n    call: {tool: fleet_list}\n    at: 2026-11-18T10:00:00Z\n    expect: allow\n";
    let directory = example("");
    let try_ = |text: &str, code, wanted: &[&str]| {
        fs::write(&file, text).unwrap();
        says(&policy(&["test", file.to_str().unwrap(), "--directory", directory.to_str().unwrap()]), code, wanted);
    };
    try_(case, 0, &["1 case(s), 0 difference(s)"]);
    // Rights from the tailnet policy, as its file has them.
    let granted = |rules: &str, expect: &str| {
        let rules = format!("scopes: [readonly], grants: {rules}}}");
        case.replace("scopes: [readonly]}", &rules).replace("expect: allow", expect)
    };
    try_(&granted("[{scopes: [fleet:read]}]", "expect: allow"), 0, &["0 difference(s)"]);
    try_(
        &granted("[{scopes: [admin], engagements: [other]}]", "expect: deny\n    code: insufficient_grant"),
        0,
        &["0 diff"],
    );
    try_(&granted("[]", "expect: deny\n    by: [grant]"), 0, &["0 difference(s)"]);
    try_(&granted("[{scopes: [log:read]}]", "expect: allow"), 1, &["deny insufficient_grant"]);
    try_(
        &granted("[{scope: [log:read]}]", "expect: allow"),
        3,
        &["cases.yaml:2: grants: ", "rule 1: there is no field"],
    );
    let named = case
        .replace("cases:", "callers:\n  a: {subject: a, scopes: [readonly], grants: [{scopes: []}]}\ncases:")
        .replace("{subject: a, scopes: [readonly]}\n    call", "a\n    call");
    try_(&named, 3, &["callers.a.grants: ", "rule 1: scopes: must name at least one"]);
    try_(&format!("{case}    exspect: deny\n"), 3, &["exspect", "line 7"]);
    try_(&case.replace("subject: a", "subjekt: a"), 3, &["subjekt"]);
    try_(&case.replace("expect: allow", "expect: allowed"), 3, &["allowed"]);
    try_(&case.replace("readonly", "readnoly"), 3, &["readnoly"]);
    try_(&case.replace("fleet_list", "fleet_lst"), 3, &["cases.yaml:2: there is no tool \"fleet_lst\""]);
    try_(&case.replace("{subject: a, scopes: [readonly]}", "bob"), 3, &["there is no caller \"bob\""]);
    try_(&case.replace("2026-11-18T10:00:00Z", "noon"), 3, &["noon"]);
    try_("cases: []\n", 3, &["holds no case"]);
    try_(&format!("{case}{}", case.trim_start_matches("cases:\n")), 3, &["there is a case \"one\" already"]);
    says(&policy(&["test", "/nowhere.yaml", "--directory", "/"]), 1, &["/nowhere.yaml"]);
}

#[tokio::test]
async fn the_command_explains_what_the_tool_explains() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let file = path.join("tailops.toml");
    let text = fs::read_to_string(CONFIG)
        .unwrap()
        .replace("/var/lib/tailops", path.join("data").to_str().unwrap())
        .replace("/etc/tailops/policy", EXAMPLE);
    fs::write(&file, &text).unwrap();
    let names: Vec<_> = tools::ALL.iter().map(|tool| tool.spec().name).collect();
    let gateway = Gateway::on(folder, config::load(&file, &text, &names).unwrap()).await;
    let token = gateway.mint(Grant { engagement: "operations".to_owned(), ..Grant::default() }).await;
    for (tool, target, args) in [
        ("service_control", "prod-db-1", json!({"unit": "x.service", "action": "stop", "reason": "a test"})),
        ("journal_query", "stage-web-1", json!({})),
        ("host_inspect", "partner-1", json!({})),
    ] {
        let mut all = args.clone();
        all["target"] = json!(target);
        let answer = gateway.call(&token, "policy_explain", json!({"tool": tool, "args": all})).await;
        let args = args.to_string();
        #[rustfmt::skip]
        let arguments = [
            "explain", "--config", file.to_str().unwrap(), "--token-subject", "agent", "--owner", "tester",
            "--scopes", "admin", "--engagement", "operations", "--user", "alice", "--node", "laptop",
            "--tool", tool, "--target", target, "--args", &args,
        ];
        let output = policy(&[&arguments[..], &["--json"]].concat());
        says(&output, 0, &[]);
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(&printed, answer.data());
        says(&policy(&arguments), 0, &[&format!("{tool}: {}", printed["decision"].as_str().unwrap())]);
    }
    let twice = ["explain", "--directory", EXAMPLE, "--scopes", "admin", "--tool", "fleet_list", "--args"];
    says(&policy(&[&twice[..], &["{\"a\":1,\"A\":2}"]].concat()), 2, &["more than once"]);
    gateway.stop().await;
}

/// The blocks of one language on a page.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let begin = format!("```{language}\n");
    page.split(&begin).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

#[test]
fn what_the_page_shows_loads_and_answers_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.md")).unwrap();
    let cedar = blocks(&page, "cedar");
    assert!(cedar.len() >= 4, "{}", cedar.len());
    fs::write(folder.path().join("page.cedar"), cedar.join("\n")).unwrap();
    for (number, cases) in blocks(&page, "yaml").into_iter().enumerate() {
        let file = folder.path().join(format!("{number}.yaml"));
        fs::write(&file, cases).unwrap();
        let output = policy(&["test", file.to_str().unwrap(), "--directory", folder.path().to_str().unwrap()]);
        says(&output, 0, &["0 difference(s)"]);
    }
    let toml = blocks(&page, "toml");
    let targets = "[engagements.default]\n[targets.prod-db-1]\nkind = \"local\"\nengagement = \"default\"\ncapabilities = []\nsegment = \"production-a\"\ntags = [\"web\"]\n";
    let file = folder.path().join("tailops.toml");
    fs::write(&file, format!("{}\n{targets}", toml.join("\n"))).unwrap();
    let output = policy(&["check", "--config", file.to_str().unwrap(), "--directory", folder.path().to_str().unwrap()]);
    says(&output, 0, &["fine"]);
}
