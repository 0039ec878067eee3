//! What is there stays, to the byte; what is missing is added once.

use proptest::prelude::*;

use super::{
    super::{
        blocks::Block,
        hujson::Document,
        tests::{blocks_of, config, with_targets},
    },
    *,
};

/// As people keep it: comments everywhere, trailing commas here and there, two ways to indent.
const REAL: &str = r#"// Example tailnet policy.
{
  // Who is who.
  "groups": {
    "group:dev": ["carol@example.com", "dave@example.com"], // both in Berlin
    "group:ops": [
      "alice@example.com",
      /* "bob@example.com", left in May */
    ]
  },

  "tagOwners": {
    "tag:web": ["autogroup:admin"],
    // no comma behind the next one
    "tag:tailops": ["group:ops"]
  },

  "acls": [
    {"action": "accept", "src": ["group:dev"], "dst": ["tag:web:80,443"]},
  ],
  "grants": [
    {
      "src": ["group:ops"],
      "dst": ["tag:web"],
      "ip": ["tcp:22"]
    } // ssh for ops
    // nothing else so far: [ { "not": "a grant" } ]
  ],

  "nodeAttrs": [{"target": ["autogroup:member"], "attr": ["mullvad"]}],
}
// the end
"#;

fn merged(text: &str, blocks: &[Block]) -> Merged {
    merge(text, blocks).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Whether `text` can be had from `merged` by leaving out characters.
fn is_within(text: &str, merged: &str) -> bool {
    let mut rest = merged.chars();
    text.chars().all(|wanted| rest.any(|c| c == wanted))
}

/// What must hold for every merge of `text`.
fn kept(text: &str, blocks: &[Block]) -> Merged {
    let once = merged(text, blocks);
    let twice = merged(&once.text, blocks);
    assert_eq!(once.text, twice.text, "a second merge changes nothing");
    assert_eq!(once.notes.len(), twice.notes.len(), "and has the same to say");
    assert!(is_within(text, &once.text), "nothing is taken away\n{text}\n{}", once.text);
    // A comma may have been put behind what was last; where a bracket stands, more may have been put in.
    let bare = |line: &str| line.replace(',', "");
    for line in text.lines().filter(|line| !line.contains(['{', '[', '}', ']'])) {
        assert!(once.text.lines().any(|new| bare(new) == bare(line)), "{line}");
    }
    let (before, after) =
        (Document::read(text).unwrap().root.value(), Document::read(&once.text).unwrap().root.value());
    for (name, section) in before.as_object().unwrap() {
        match section {
            Value::Array(items) => {
                assert!(after[name].as_array().unwrap().starts_with(items), "{name}: order and entries")
            }
            Value::Object(entries) => entries.iter().for_each(|(key, value)| assert_eq!(&after[name][key], value)),
            other => assert_eq!(&after[name], other),
        }
    }
    once
}

#[test]
fn a_real_policy_keeps_its_comments_and_order() {
    let flags = ["--operators", "group:ops"];
    let result = kept(REAL, &blocks_of(&with_targets(), &flags));
    insta::assert_snapshot!(result.text);
    assert_eq!(
        result.notes,
        ["line 15: the owners of tag:tailops are [\"group:ops\"] and not [\"autogroup:admin\"]; left as they are"]
    );
}

#[test]
fn small_policies_of_every_shape() {
    let blocks = blocks_of(&config(), &[]);
    for text in [
        "{}",
        "{ }",
        "{\n}",
        "{\n}\n",
        "// c\n{} // d",
        "{\"grants\":[]}",
        "{\"grants\":[],}",
        "{\"grants\": [ ], \"tagOwners\": {}}",
        "{\"grants\":[{\"src\":[\"*\"],\"dst\":[\"*\"],\"ip\":[\"*\"]}]}",
        "{\"grants\":[{\"src\":[\"*\"],\"dst\":[\"*\"],\"ip\":[\"*\"]},]}",
        "{\n\t\"grants\": [\n\t\t// none, so far\n\t],\n}",
        "{\r\n  \"grants\": [\r\n  ]\r\n}\r\n",
        "{\"tests\": [{\"src\": \"a@b\", \"accept\": [\"tag:x:1\"]} /* , ] */]}",
        "{\"Grants\": [], \"TAGOWNERS\": {\"tag:tailops\": [\"autogroup:admin\"]}}",
        "{\n    \"hosts\": {\"é\": \"1.2.3.4\"} // ü }\n}",
    ] {
        let result = kept(text, &blocks);
        assert!(result.notes.is_empty(), "{text}: {:?}", result.notes);
        let document = Document::read(&result.text).unwrap();
        assert!(document.map("tagOwners").iter().any(|entry| entry.name == "tag:tailops"), "{}", result.text);
        assert!(document.list("grants").iter().any(|grant| grant.texts("dst") == ["tag:tailops"]), "{}", result.text);
        assert_eq!(result.text.contains("\r\n"), text.contains("\r\n"));
        assert_eq!(
            result.text.matches('\n').count(),
            result.text.matches("\r\n").count()
                + if text.contains('\r') { 0 } else { result.text.matches('\n').count() }
        );
    }
}

#[test]
fn what_was_printed_needs_nothing() {
    for flags in [&[][..], &["--operators", "tag:mcp-client", "--approvers", "group:leads"]] {
        let blocks = blocks_of(&with_targets(), flags);
        let text = super::super::blocks::print(&blocks).unwrap();
        let result = kept(&text, &blocks);
        assert_eq!((result.text, result.notes), (text, Vec::new()));
    }
}

#[test]
fn a_grant_that_was_narrowed_is_not_widened() {
    let blocks = blocks_of(&config(), &["--clients", "tag:mcp-client", "--clients", "group:x@y.org"]);
    let narrow = r#"[{"scopes": ["system:read"]}]"#;
    for (src, rules) in [
        (r#"["tag:mcp-client", "group:x@y.org"]"#, narrow),
        (r#"["tag:mcp-client"]"#, narrow),
        (r#"["alice@x.org", "tag:mcp-client"]"#, narrow),
        (r#"["tag:mcp-client"]"#, "[]"),
    ] {
        let text = format!(
            r#"{{"grants": [{{"src": {src}, "dst": ["tag:tailops"], "ip": ["tcp:8080"],
            "app": {{"tailops.dev/cap/gateway": {rules}}}}}]}}"#
        );
        let result = kept(&text, &blocks);
        let [note] = result.notes.as_slice() else { panic!("{:?}", result.notes) };
        assert!(note.starts_with("line 1: this grant gives some of "), "{note}");
        assert!(note.ends_with("the block \"agents\" left out: print it for the others alone"), "{note}");
        assert_eq!(Document::read(&result.text).unwrap().list("grants").len(), 1);
        assert!(!result.text.contains("readonly"));
    }
}

#[test]
fn a_wider_grant_is_enough_and_a_conditional_one_is_not() {
    let blocks = blocks_of(&config(), &[]);
    let grants = |extra: &str| {
        let text = format!(
            r#"{{"grants": [{{"src": ["group:x", "tag:mcp-client"], "dst": ["tag:y", "tag:tailops"], "ip": ["*"],{extra}
            "app": {{"tailops.dev/cap/gateway": [{{"scopes": ["readonly"]}}]}}}}]}}"#
        );
        Document::read(&kept(&text, &blocks).text).unwrap().list("grants").len()
    };
    assert_eq!(grants(""), 1);
    assert_eq!(grants(r#""srcPosture": ["posture:x"],"#), 2);
}

#[test]
fn what_cannot_be_merged_is_refused_with_its_place() {
    let blocks = blocks_of(&with_targets(), &[]);
    let refused = |text: &str| merge(text, &blocks).unwrap_err().to_string();
    assert!(
        refused("{\n  \"grants\": {}\n}").starts_with("2:13: grants must be an array"),
        "{}",
        refused("{\n  \"grants\": {}\n}")
    );
    assert!(refused("{\"tagOwners\": []}").starts_with("1:15: tagOwners must be an object"));
    assert!(refused("{\"grants\": [}").starts_with("1:"));
    assert!(refused("").contains("holds no policy"));
    let other = refused("{\n\"hosts\": {\"web-1\": \"100.64.0.99\"}}");
    let same = merged("{\n\"hosts\": {\"web-1\": \"100.64.0.11/32\"}}", &blocks).text;
    assert!(same.contains("100.64.0.11/32"), "the same machine, written in another way: {same}");
    assert!(other.starts_with("2:11: \"web-1\" is another machine here, not \"100.64.0.11\""), "{other}");
}

#[test]
fn the_members_of_a_group_stay() {
    let blocks = blocks_of(&config(), &["--clients", "group:ops"]);
    let result = kept(REAL, &blocks);
    assert_eq!(Document::read(&result.text).unwrap().map("groups").len(), 2);
    let blocks = blocks_of(&config(), &["--clients", "group:ops", "--member", "group:ops=eve@example.com"]);
    assert!(kept(REAL, &blocks).notes.iter().any(|note| note.contains("the members of group:ops are")));
}

/// Blanks and comments.
fn trivia() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", " ", "\n", "\n  ", "\t", " // ], } \" ,\n", "/* { [ , \" */", "\n\n// x\n    "])
        .prop_map(str::to_owned)
}

/// A list or an object of these, with trivia around and perhaps a comma behind.
fn container(open: &'static str, items: Vec<String>, close: &'static str) -> impl Strategy<Value = String> {
    let count = items.len();
    (prop::collection::vec(trivia(), count * 2 + 2), any::<bool>()).prop_map(move |(trivia, trailing)| {
        let mut gaps = trivia.into_iter();
        let mut text = open.to_owned();
        for (index, item) in items.iter().enumerate() {
            text += &gaps.next().unwrap_or_default();
            text += item;
            text += &gaps.next().unwrap_or_default();
            text += if trailing || index + 1 < count { "," } else { "" };
        }
        text + &gaps.next().unwrap_or_default() + close
    })
}

fn section(
    name: &'static str,
    open: &'static str,
    pool: &'static [&'static str],
    close: &'static str,
) -> impl Strategy<Value = Option<String>> {
    let items = prop::sample::subsequence(pool, 0..=pool.len());
    let text = items.prop_flat_map(move |items| container(open, items.into_iter().map(str::to_owned).collect(), close));
    prop::option::of((text, trivia()).prop_map(move |(text, gap)| format!("\"{name}\"{gap}:{text}")))
}

fn policy() -> impl Strategy<Value = String> {
    const GRANTS: &[&str] = &[
        r#"{"src": ["*"], "dst": ["*"], "ip": ["*"]}"#,
        r#"{"src": ["tag:mcp-client"], "dst": ["tag:tailops"], "ip": ["tcp:8080"]}"#,
        r#"{"src": ["tag:mcp-client"], "dst": ["tag:tailops"], "app": {"tailops.dev/cap/gateway": [{"scopes": ["readonly"]}]}}"#,
        "{\"src\": [\"tag:tailops\"], // c\n \"dst\": [\"web-1\", \"host-10.9.8.7\",], \"ip\": [\"tcp:22\"]}",
        r#"{"src": ["group:ops"], "dst": ["tag:tailops"], "ip": [], "app": {"tailops.dev/cap/gateway": []}}"#,
    ];
    const OWNERS: &[&str] =
        &[r#""tag:tailops": ["autogroup:admin"]"#, r#""tag:mcp-client": []"#, r#""tag:é": ["a@b"]"#];
    const TESTS: &[&str] = &[
        r#"{"src": "tag:mcp-client", "accept": ["tag:tailops:8080"]}"#,
        r#"{"src": "tag:mcp-client", "deny": ["tag:tailops:22"]}"#,
        r#"{"src": "web-1", "deny": ["tag:tailops:8080"], "proto": "tcp"}"#,
    ];
    let sections = (
        section("grants", "[", GRANTS, "]"),
        section("tagOwners", "{", OWNERS, "}"),
        section("tests", "[", TESTS, "]"),
        section("hosts", "{", &[r#""web-1": "100.64.0.11""#, r#""x": "1.2.3.4""#], "}"),
        section("acls", "[", &[r#"{"action": "accept", "src": ["*"], "dst": ["*:*"]}"#], "]"),
    );
    let sections =
        sections.prop_map(|(a, b, c, d, e)| [a, b, c, d, e].into_iter().flatten().collect::<Vec<_>>()).prop_shuffle();
    (trivia(), sections.prop_flat_map(|sections| container("{", sections, "}")), trivia())
        .prop_map(|(before, policy, after)| format!("{before}{policy}{after}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_policy_is_kept_and_merged_once(text in policy()) {
        kept(&text, &blocks_of(&with_targets(), &["--operators", "group:ops"]));
    }

    #[test]
    fn no_text_at_all_makes_it_panic(text in ".{0,200}") {
        let _ = merge(&text, &blocks_of(&config(), &[]));
    }
}
