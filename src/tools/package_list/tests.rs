//! `package_list` on hostile arguments, on recorded output and on this machine.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tools::{
    fakes::Fakes,
    rig::{self, Rig},
};

const UPGRADES: &[u8] = include_bytes!("../../../tests/cases/apt/dist-upgrade.txt");
const PACKAGES: &[u8] =
    b"ii \tbash\t5.2.15-2+b8\tamd64\nii \tliblzma5\t5.4.1-1\tamd64\nhi \tcurl\t7.88.1-10+deb12u14\tamd64\n\
                          rc \tgone\t1\tall\niF \thalf\t2\tamd64\niU \tupacked\t2\tamd64\nii \tadduser\t3.134\tall\n\
                          ii \tliblzma5\t5.4.0\ti386\niiR\todd\t1\tall\n";

fn shown(arguments: Value, sections: &[(&str, &[u8])]) -> Result<Content, ToolError> {
    let operation = rig::plan(&PackageList, arguments).unwrap();
    let content = PackageList.render(&rig::pretend(operation, sections, ""))?;
    rig::conforms(&PackageList, &content.data);
    Ok(content)
}

fn full() -> Vec<(&'static str, &'static [u8])> {
    vec![("packages", PACKAGES), ("upgrades", UPGRADES), ("upgrades_end", b""), ("age", b"1000\n1600\n")]
}

fn names(content: &Content) -> Vec<&str> {
    content.data["packages"].as_array().unwrap().iter().map(|package| package["name"].as_str().unwrap()).collect()
}

#[test]
fn wrong_arguments_are_named() {
    for (arguments, field) in [
        (json!({"filter": "all"}), "filter"),
        (json!({"limit": 0}), "limit"),
        (json!({"limit": 501}), "limit"),
        (json!({"match": ""}), "match"),
        (json!({"match": "a\u{1b}"}), "match"),
        (json!({"cursor": ""}), "cursor"),
        (json!({"detail": "-o"}), "detail"),
        (json!({"detail": "a b"}), "detail"),
        (json!({"detail": "*"}), "detail"),
        (json!({"package": "x"}), "package"),
    ] {
        let error = rig::plan(&PackageList, arguments).unwrap_err();
        assert!(error.code == "invalid_arguments" && error.message.contains(field), "{field}: {error}");
    }
    rig::fits_budget(&PackageList);
}

#[test]
fn filters_and_counts() {
    let all = shown(json!({"filter": "installed"}), &full()).unwrap();
    assert_eq!(names(&all), ["adduser", "bash", "curl", "half", "liblzma5", "liblzma5", "odd", "upacked"]);
    let data = &all.data;
    for (count, wanted) in
        [("installed_count", 8), ("upgradable_count", 3), ("security_count", 1), ("held_count", 1), ("broken_count", 3)]
    {
        assert_eq!(data[count], wanted, "{count}");
    }
    assert_eq!(data["lists_age_s"], 600);
    let upgradable = shown(json!({}), &full()).unwrap();
    assert_eq!(names(&upgradable), ["bash", "curl", "liblzma5"]);
    let lzma = &upgradable.data["packages"][2];
    assert_eq!(
        (&lzma["candidate"], &lzma["security"], &lzma["arch"]),
        (&json!("5.4.1-1+deb12u2"), &json!(true), &json!("amd64"))
    );
    assert_eq!(names(&shown(json!({"filter": "security"}), &full()).unwrap()), ["liblzma5"]);
    assert_eq!(names(&shown(json!({"filter": "held"}), &full()).unwrap()), ["curl"]);
    assert_eq!(names(&shown(json!({"filter": "broken"}), &full()).unwrap()), ["half", "odd", "upacked"]);
    assert_eq!(names(&shown(json!({"filter": "installed", "match": "l*5"}), &full()).unwrap()).len(), 2);
}

#[test]
fn pages_lose_and_repeat_nothing() {
    let mut seen = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let mut arguments = json!({"filter": "installed", "limit": 3});
        if cursor.is_string() {
            arguments["cursor"] = cursor.clone();
        }
        let page = shown(arguments, &full()).unwrap();
        seen.extend(page.data["packages"].as_array().unwrap().iter().map(|p| format!("{}:{}", p["name"], p["arch"])));
        let Some(next) = page.next_cursor else { break };
        assert!(page.truncated);
        cursor = json!(next);
    }
    assert_eq!(seen.len(), 8);
    assert!(seen.is_sorted());
}

#[test]
fn what_cannot_be_had_is_named() {
    let without_apt: &[(&str, &[u8])] = &[("packages", PACKAGES), ("!upgrades", b"missing_tool")];
    let content = shown(json!({"filter": "installed"}), without_apt).unwrap();
    assert_eq!(content.partial[0].reason, "missing_tool");
    assert_eq!((&content.data["upgradable_count"], &content.data["installed_count"]), (&Value::Null, &json!(8)));
    let failed: &[(&str, &[u8])] =
        &[("packages", PACKAGES), ("!upgrades", b"apt_failed"), ("errors", b"E: Unmet dependencies.\n")];
    assert_eq!(shown(json!({}), failed).unwrap().warnings, ["E: Unmet dependencies."]);
    // A list that broke off is not taken for a short one.
    let cut: &[(&str, &[u8])] = &[("packages", PACKAGES), ("upgrades", UPGRADES)];
    let content = shown(json!({}), cut).unwrap();
    assert_eq!((content.partial[0].section.as_str(), &content.data["upgradable_count"]), ("upgrades", &Value::Null));
    let odd: &[(&str, &[u8])] = &[("packages", PACKAGES), ("upgrades", b"Inst ???\n"), ("upgrades_end", b"")];
    assert_eq!(shown(json!({}), odd).unwrap_err().code, "unreadable_output");
    assert_eq!(shown(json!({}), &[]).unwrap_err().code, "unreadable_output");
}

#[test]
fn old_lists_are_remarked() {
    let mut sections = full();
    sections[3] = ("age", b"1000\n2000000\n");
    assert!(shown(json!({}), &sections).unwrap().warnings[0].contains("23 days"));
}

#[test]
fn this_machine_agrees_with_its_own_tools() {
    if !std::path::Path::new("/usr/bin/apt-get").exists() {
        return;
    }
    let content = rig::call(&PackageList, json!({"filter": "installed", "detail": "dpkg", "match": "dpkg"})).unwrap();
    assert!(content.partial.is_empty(), "{:?}", content.partial);
    let fakes = Fakes::new(&[]);
    let (installed, _) = fakes.sh(b"dpkg-query -W -f='${db:Status-Abbrev}\\n' | grep -c '^.[^nc]'", &[]);
    let count: u64 = String::from_utf8(installed).unwrap().trim().parse().unwrap();
    assert_eq!(content.data["installed_count"], count);
    let (upgrades, _) =
        fakes.sh(b"apt-get -s -o Debug::NoLocking=true dist-upgrade | grep -c '^Inst [^ ]* \\['; true", &[]);
    let count: u64 = String::from_utf8(upgrades).unwrap().trim().parse().unwrap();
    assert_eq!(content.data["upgradable_count"], count);
    let (version, _) = fakes.sh(b"dpkg-query -W -f='${Version}' dpkg", &[]);
    let dpkg = content.data["packages"].as_array().unwrap().iter().find(|package| package["name"] == "dpkg").unwrap();
    assert_eq!(dpkg["installed"], String::from_utf8(version).unwrap());
    assert_eq!(content.data["detail"]["installed"], dpkg["installed"]);
    let error = Rig::new().call(&PackageList, json!({"detail": "tailops-no-such-package"})).unwrap_err();
    assert_eq!(error.code, "not_found");
}

proptest! {
    #[test]
    fn no_output_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..6_usize) {
        let operation = rig::plan(&PackageList, json!({"detail": "curl"})).unwrap();
        let mut sections: Vec<(&str, &[u8])> = Vec::new();
        for name in ["packages", "upgrades", "upgrades_end", "age", "detail"] {
            sections.push((name, &bytes));
        }
        sections.truncate(cut);
        let _ = PackageList.render(&rig::pretend(operation, &sections, ""));
    }
}
