//! `package_change` on hostile arguments and, as the real apt and dpkg do it, in a root of the test's own.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tools::{
    fakes::Fakes,
    rig::{self, Rig},
};

const HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A host with the packages that `host.sh` makes, of which `base-thing` (essential) and `tailops-lab` are installed.
/// None where the machine has no apt, or the test no rights to use it.
fn host() -> Option<Fakes> {
    let tools = ["/usr/bin/apt-get", "/usr/bin/dpkg-deb"];
    if !rustix::process::geteuid().is_root() || !tools.iter().all(|tool| Path::new(tool).exists()) {
        return None;
    }
    let fakes = Fakes::new(&[
        ("apt-get", r#"echo "$*" >>"$FAKE/calls"; exec /usr/bin/apt-get -c "$FAKE/apt.conf" "$@""#),
        ("apt-cache", r#"exec /usr/bin/apt-cache -c "$FAKE/apt.conf" "$@""#),
        ("dpkg-query", r#"exec /usr/bin/dpkg-query --admindir="$FAKE/root/var/lib/dpkg" "$@""#),
    ])
    .with_jobs()
    .moving("/run/reboot-required", "reboot-required");
    fakes.sh(include_bytes!("host.sh"), &[]);
    Some(fakes)
}

fn wish(action: &str, packages: &[&str]) -> Value {
    let packages: Vec<Value> = packages
        .iter()
        .map(|package| match package.split_once('=') {
            Some((name, version)) => json!({"name": name, "version": version}),
            None => json!({"name": package}),
        })
        .collect();
    json!({"action": action, "packages": packages, "reason": "lab test"})
}

fn preview(host: &Fakes, wish: &Value) -> Content {
    let content = host.call(&Rig::new(), &PackageChange, wish).unwrap();
    assert_eq!(content.changed, Some(false));
    content
}

/// A real run of what a preview showed just before.
fn really(host: &Fakes, wish: &Value) -> Result<Content, ToolError> {
    let shown = preview(host, wish).data["plan_sha256"].clone();
    run(host, wish, &shown)
}

fn run(host: &Fakes, wish: &Value, hash: &Value) -> Result<Content, ToolError> {
    let mut wish = wish.clone();
    wish["plan_sha256"] = hash.clone();
    wish["dry_run"] = json!(false);
    // Each run is a job of its own; its unit was taken away after its end.
    let _ = std::fs::remove_dir_all(host.path("units"));
    host.call(&Rig::new(), &PackageChange, &wish)
}

fn installed(host: &Fakes) -> String {
    let (text, _) = host.sh(b"dpkg-query -W -f='${db:Status-Abbrev}${Package} ${Version},'", &[]);
    let text = String::from_utf8(text).unwrap();
    let rest = text.split(',').filter_map(|package| package.strip_prefix("ii ")).collect::<Vec<_>>();
    rest.into_iter()
        .filter(|p| !p.starts_with("base-thing") && !p.starts_with("tailops-lab"))
        .collect::<Vec<_>>()
        .join(",")
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|change| change["name"].as_str().unwrap()).collect()
}

#[test]
fn wrong_arguments_are_named() {
    let of = |packages: Value| json!({"action": "install", "packages": packages, "reason": "because"});
    let with = |key: &str, value: Value| {
        let mut arguments = of(json!([{"name": "curl"}]));
        arguments[key] = value;
        arguments
    };
    for (arguments, field) in [
        (of(json!([])), "packages"),
        (of(json!("curl")), "packages"),
        (of(json!(["curl"])), "packages[0]"),
        (of(json!([{"name": "-y"}])), "packages[0].name"),
        (of(json!([{"name": "curl-"}])), "packages[0].name"),
        (of(json!([{"name": "./x.deb"}])), "packages[0].name"),
        (of(json!([{"name": "curl"}, {"name": "a b"}])), "packages[1].name"),
        (of(json!([{"name": "curl"}, {"name": "curl"}])), "packages[1].name"),
        (of(json!([{"name": "curl", "version": "1-"}])), "packages[0].version"),
        (of(json!([{"name": "curl", "version": "1 -o x"}])), "packages[0].version"),
        (of(json!([{"name": "curl", "arch": "i386"}])), "arch"),
        (of(Value::from(vec![json!({"name": "curl"}); 51])), "packages"),
        (with("action", json!("purge")), "action"),
        (with("action", json!("autoremove")), "action"),
        (with("reason", json!("")), "reason"),
        (with("force", json!(true)), "force"),
        (with("plan_sha256", json!("abc")), "plan_sha256"),
        (with("plan_sha256", json!("Z".repeat(64))), "plan_sha256"),
        (with("dry_run", json!(false)), "plan_sha256"),
        (json!({"action": "remove", "packages": [{"name": "curl", "version": "1"}], "reason": "because"}), "version"),
    ] {
        let error = rig::plan(&PackageChange, &arguments).unwrap_err();
        assert!(error.code == "invalid_arguments" && error.message.contains(field), "{arguments}: {error}");
    }
    for vital in ["tailops", "tailops-node", "apt", "openssh-server", "systemd", "tailscale"] {
        let error = rig::plan(&PackageChange, wish("remove", &[vital])).unwrap_err();
        assert!(error.code == "refused" && error.message.contains(vital), "{error}");
    }
    rig::fits_budget(&PackageChange);
}

/// Every hostile text, in every place of these tools that takes one: refused by name, or (a harmless word that stands
/// among them) nothing but letters, digits and `+-._~:\`, and then one argument as it is.
#[test]
fn hostile_texts_get_nowhere() {
    let unit = |tool| (tool, "unit", json!({"unit": "x", "action": "disable", "reason": "because"}));
    let change = || json!({"action": "install", "packages": [{"name": "curl", "version": "1"}], "reason": "because"});
    let power = json!({"action": "reboot", "boot_id": "x", "reason": "because"});
    let tools: [(&dyn Tool, &str, Value); 7] = [
        unit(rig::tool("service_configure")),
        (rig::tool("service_inspect"), "unit", json!({"unit": "x"})),
        (rig::tool("package_list"), "detail", json!({"detail": "x"})),
        (&PackageChange, "packages/0/name", change()),
        (&PackageChange, "packages/0/version", change()),
        (&PackageChange, "plan_sha256", change()),
        (rig::tool("host_power_control"), "boot_id", power),
    ];
    let mut refused = 0;
    for text in include_str!("../../../tests/cases/hostile-arguments.txt").lines().filter(|l| !l.starts_with("##")) {
        for (tool, place, arguments) in &tools {
            let mut arguments = arguments.clone();
            match arguments.pointer_mut(&format!("/{place}")) {
                Some(slot) => *slot = json!(text),
                None => arguments[*place] = json!(text),
            }
            match rig::plan(*tool, &arguments) {
                Err(error) => {
                    let field = place.rsplit('/').next().unwrap();
                    assert!(error.code == "invalid_arguments" && error.message.contains(field), "{text:?}: {error}");
                    refused += 1;
                }
                Ok(_) => {
                    let harmless = |c: char| c.is_ascii_alphanumeric() || "+-._~:@\\".contains(c);
                    assert!(text.chars().all(harmless) && !text.starts_with('-'), "{place}: {text:?}");
                }
            }
        }
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn it_is_critical_and_a_dry_run_unless_asked() {
    let operation = rig::plan(&PackageChange, wish("install", &["curl"])).unwrap();
    assert!(operation.dry_run && operation.effect == Effect::Read && operation.risk == Risk::Critical);
    let mut real = wish("install", &["curl"]);
    (real["dry_run"], real["plan_sha256"]) = (json!(false), json!(HASH));
    let operation = rig::plan(&PackageChange, &real).unwrap();
    assert!(!operation.dry_run && operation.effect == Effect::Destructive && operation.risk == Risk::Critical);
}

#[test]
fn what_was_shown_is_what_runs() {
    let Some(host) = host() else { return };
    let beta = wish("install", &["beta"]);
    let shown = preview(&host, &beta);
    assert_eq!(names(&shown.data["install"]), ["alpha", "beta"]);
    assert_eq!((&shown.data["install"][0]["to"], &shown.data["remove"]), (&json!("2.0"), &json!([])));
    assert_eq!(installed(&host), "");
    assert_eq!(preview(&host, &beta).data["plan_sha256"], shown.data["plan_sha256"], "the same set has the same name");

    // Another hash, of a set nobody saw.
    let error = run(&host, &beta, &json!(HASH)).unwrap_err();
    assert_eq!((error.code, installed(&host).as_str()), ("precondition_failed", ""), "{error}");
    // The archive moved on between the preview and the run.
    host.sh(b"cd \"$FAKE\"; sed -i 's/^Version: 2.0$/Version: 2.1/' repo/Packages; apt-get update -q >/dev/null", &[]);
    let error = run(&host, &beta, &shown.data["plan_sha256"]).unwrap_err();
    assert_eq!((error.code, installed(&host).as_str()), ("precondition_failed", ""), "{error}");
    host.sh(b"cd \"$FAKE\"; sed -i 's/^Version: 2.1$/Version: 2.0/' repo/Packages; apt-get update -q >/dev/null", &[]);

    let done = run(&host, &beta, &shown.data["plan_sha256"]).unwrap();
    assert_eq!(installed(&host), "alpha 2.0,beta 1.0");
    assert_eq!((done.changed, &done.data["done"]["as_planned"]), (Some(true), &json!(true)), "{:#}", done.data);
    assert_eq!(names(&done.data["done"]["changed"]), ["alpha:all", "beta:all"]);
    let call = host.kept("calls").lines().last().unwrap().to_owned();
    for wanted in ["-y", "--no-remove", "--force-confdef", "--force-confold", "DPkg::Lock::Timeout=", "install -- beta"]
    {
        assert!(call.contains(wanted), "{call}");
    }
    assert_eq!(done.data["job"], json!({"id": rig::JOB, "state": "succeeded", "exit_status": 0}));
    let command = host.kept("commands").lines().last().unwrap().to_owned();
    assert!(
        command.contains("-p RuntimeMaxSec=7200 ") && command.contains("DEBIAN_FRONTEND=noninteractive"),
        "{command}"
    );
    // Once more: the set is empty now, which is not what was shown.
    assert_eq!(run(&host, &beta, &shown.data["plan_sha256"]).unwrap_err().code, "precondition_failed");
    let nothing = really(&host, &beta).unwrap();
    assert_eq!((nothing.changed, nothing.warnings[0].as_str()), (Some(false), "there was nothing to do"));
}

#[test]
fn removals_need_a_word_and_vital_packages_stay() {
    let Some(host) = host() else { return };
    really(&host, &wish("install", &["beta"])).unwrap();
    let gamma = wish("install", &["gamma"]);
    let shown = preview(&host, &gamma);
    assert_eq!(names(&shown.data["remove"]), ["beta"]);
    assert!(shown.warnings[0].contains("allow_remove"), "{:?}", shown.warnings);
    assert_eq!(really(&host, &gamma).unwrap_err().code, "precondition_failed");
    // Alone it may go; with what needs it, only by name or by a word.
    assert_eq!(really(&host, &wish("remove", &["alpha"])).unwrap_err().code, "precondition_failed");
    assert_eq!(installed(&host), "alpha 2.0,beta 1.0");
    let mut both = gamma.clone();
    both["allow_remove"] = json!(true);
    let done = really(&host, &both).unwrap();
    assert_eq!(installed(&host), "alpha 2.0,gamma 1.0");
    assert_eq!(done.data["done"]["as_planned"], true);
    really(&host, &wish("remove", &["alpha"])).unwrap();
    assert_eq!(installed(&host), "gamma 1.0");

    let mut base = wish("remove", &["base-thing"]);
    base["allow_remove"] = json!(true);
    let shown = preview(&host, &base);
    assert_eq!(shown.data["vital"], json!(["base-thing"]));
    assert!(shown.warnings[0].contains("refused"));
    assert_eq!(really(&host, &base).unwrap_err().code, "refused");
    let (still, _) = host.sh(b"dpkg-query -W -f='${db:Status-Abbrev}' base-thing", &[]);
    assert_eq!(still, b"ii ");
    // Named by nobody, but taken along.
    let spoil = br#"cd "$FAKE"; sed -i '/^Package: gamma$/,/^$/{s/^Version: 1.0/Version: 1.1/;s/^Conflicts: beta/&, tailops-lab/}' repo/Packages; apt-get update -q >/dev/null"#;
    host.sh(spoil, &[]);
    let mut taking = wish("install", &["gamma"]);
    taking["allow_remove"] = json!(true);
    let shown = preview(&host, &taking);
    assert_eq!(shown.data["vital"], json!(["tailops-lab"]), "{:#}", shown.data);
    assert_eq!(really(&host, &taking).unwrap_err().code, "refused");
}

#[test]
fn versions_are_pinned_and_upgrades_found() {
    let Some(host) = host() else { return };
    really(&host, &wish("install", &["alpha=1.0"])).unwrap();
    assert_eq!(installed(&host), "alpha 1.0");
    let all = wish("upgrade", &[]);
    let shown = preview(&host, &all);
    assert_eq!((names(&shown.data["upgrade"]), &shown.data["upgrade"][0]["from"]), (vec!["alpha"], &json!("1.0")));
    assert_eq!(shown.data["services"], json!(["alpha.service"]));
    really(&host, &all).unwrap();
    assert_eq!(installed(&host), "alpha 2.0");
    // Back again, as the version is named.
    let done = really(&host, &wish("install", &["alpha=1.0"])).unwrap();
    assert_eq!((installed(&host).as_str(), &done.data["done"]["changed"][0]["to"]), ("alpha 1.0", &json!("1.0")));
    // One that is not installed is not brought by an upgrade.
    assert_eq!(preview(&host, &wish("upgrade", &["gamma"])).data["install"], json!([]));
    really(&host, &wish("upgrade", &["alpha"])).unwrap();
    assert_eq!(installed(&host), "alpha 2.0");
}

#[test]
fn names_are_never_patterns_or_actions() {
    let Some(host) = host() else { return };
    really(&host, &wish("install", &["libg++"])).unwrap();
    assert_eq!(installed(&host), "libg++ 1.0");
    for name in ["alph.", "al.ha", "alpha+", "alph", "no-such-package"] {
        let error = host.call(&Rig::new(), &PackageChange, &wish("install", &[name])).unwrap_err();
        assert!(error.code == "not_found" && error.message.contains(name), "{name}: {error}");
    }
    let error = host.call(&Rig::new(), &PackageChange, &wish("install", &["alpha=9"])).unwrap_err();
    assert!(error.code == "precondition_failed" && error.message.contains("was not found"), "{error}");
    let error = host.call(&Rig::new(), &PackageChange, &wish("install", &["broken"])).unwrap_err();
    assert_eq!(error.code, "precondition_failed", "{error}");
    assert_eq!(installed(&host), "libg++ 1.0");
}

#[test]
fn what_went_wrong_afterwards_is_told() {
    let Some(host) = host() else { return };
    host.keep("failing", "web.service loaded failed failed Web\n");
    host.keep("reboot-required", "");
    let done = really(&host, &wish("install", &["alpha"])).unwrap();
    assert_eq!(done.data["done"]["failed_units"], json!(["web.service"]), "{:#}", done.data);
    assert_eq!(done.data["reboot_required"], true);
    assert!(done.warnings[0].contains("web.service"), "{:?}", done.warnings);
    // A package whose file is not what the archive promised.
    host.sh(b"echo more >>\"$FAKE/repo/gamma_1.0.deb\"", &[]);
    let error = really(&host, &wish("install", &["gamma"])).unwrap_err();
    assert_eq!((error.code, installed(&host).as_str()), ("apt_failed", "alpha 2.0"), "{error}");
}

#[test]
fn without_systemd_or_the_right_nothing_is_changed() {
    let Some(host) = host() else { return };
    let alpha = wish("install", &["alpha"]);
    host.keep("forbidden", "");
    let error = really(&host, &alpha).unwrap_err();
    assert!(error.code == "permission_denied" && error.hint.unwrap().contains(&job_rule()), "{}", error.message);
    std::fs::remove_dir(host.path("systemd")).unwrap();
    let error = really(&host, &alpha).unwrap_err();
    assert!(error.code == "unsupported" && error.message.contains("no_systemd"), "{error}");
    assert_eq!((installed(&host).as_str(), host.kept("started").as_str()), ("", ""));
}

#[test]
fn refusals_of_apt_are_told_apart() {
    let args: Args = serde_json::from_value(json!({
        "target": "here", "action": "install", "packages": [{"name": "curl"}], "reason": "because",
    }))
    .unwrap();
    for (errors, code) in [
        ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7\n", "busy"),
        ("E: There were unauthenticated packages and -y was used without --allow-unauthenticated\n", "apt_failed"),
    ] {
        assert_eq!(failure(&args, 100, errors).code, code, "{errors}");
    }
}

#[test]
fn a_plan_that_is_not_the_hashed_one_is_refused() {
    let plan: &[u8] = b"Inst alpha (2.0 Lab:1/stable [all])\n";
    let hash = |plan: &[u8]| hex(digest::digest(&digest::SHA256, plan).as_ref()).into_bytes();
    let shown = |plan: &[u8], hash: &[u8], checked: bool| {
        let mut sections: Vec<(&str, &[u8])> = vec![("plan", plan), ("plan_sha256", hash)];
        if checked {
            sections.push(("checked", b"0\n"));
        }
        let operation = rig::plan(&PackageChange, wish("install", &["alpha"])).unwrap();
        PackageChange.render(&rig::pretend(operation, &sections, ""))
    };
    shown(plan, &hash(plan), true).unwrap();
    assert_eq!(shown(plan, HASH.as_bytes(), true).unwrap_err().code, "unreadable_output");
    assert_eq!(shown(plan, &hash(plan), false).unwrap_err().code, "unreadable_output");
    let odd = b"Inst alpha\n";
    assert_eq!(shown(odd, &hash(odd), true).unwrap_err().code, "unreadable_output");
}

proptest! {
    #[test]
    fn no_output_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), dry: bool, cut in 0..13_usize) {
        let mut wish = wish("install", &["alpha"]);
        (wish["dry_run"], wish["plan_sha256"]) = (json!(dry), json!(HASH));
        let operation = rig::plan(&PackageChange, wish).unwrap();
        let hash = hex(digest::digest(&digest::SHA256, b"").as_ref());
        let mut sections: Vec<(&str, &[u8])> = vec![("plan", b""), ("plan_sha256", hash.as_bytes()), ("checked", b"0")];
        for name in ["vital", "services", "reboot", "job_start", "job", "errors", "log", "changed", "failed_units", "refused"] {
            sections.push((name, &bytes));
        }
        sections.truncate(cut);
        let _ = PackageChange.render(&rig::pretend(operation, &sections, ""));
    }
}
