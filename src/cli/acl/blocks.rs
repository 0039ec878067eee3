//! The pieces of a policy: each entry of a section with its comment, made from the templates in `acl/blocks.hujson`.
//! One way to make them, so that what is printed and what is merged say the same.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{
    hujson::Document,
    needs::{Needs, Party},
};

const TEMPLATES: &str = include_str!("../../../acl/blocks.hujson");

/// The sections in the order in which they are printed, and whether each is an object.
pub(super) const SECTIONS: [(&str, bool); 5] =
    [("groups", true), ("hosts", true), ("tagOwners", true), ("grants", false), ("tests", false)];

/// One entry of one section.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) section: &'static str,
    /// The template's name; blocks of one template that follow each other share their comment.
    pub(super) template: &'static str,
    comment: Vec<String>,
    /// Its lines, indented by tabs, without a comma behind.
    lines: Vec<String>,
    /// Its name, in an object.
    pub(super) name: Option<String>,
    pub(super) value: Value,
}

/// Every block that `needs` has, in the order of [`SECTIONS`]; those of `tests` only where wanted.
pub(super) fn blocks(needs: &Needs, tests: bool) -> anyhow::Result<Vec<Block>> {
    let mut blocks = Vec::new();
    for (group, members) in &needs.groups {
        blocks.push(block("groups", "groups", &[("name", json!(group)), ("members", json!(members))])?);
    }
    for (name, address) in &needs.hosts {
        blocks.push(block("hosts", "hosts", &[("name", json!(name)), ("address", json!(address))])?);
    }
    let clients: Vec<&str> = needs.clients().filter(|who| who.starts_with("tag:")).collect();
    let mut owned = Vec::new();
    let tags = needs.tags.iter().map(|tag| ("owners of the gateway", tag.as_str()));
    let tags = tags.chain(clients.into_iter().map(|tag| ("owners of clients", tag)));
    for (template, tag) in tags.chain(needs.target_tag.as_deref().map(|tag| ("owners of targets", tag))) {
        if !owned.contains(&tag) {
            owned.push(tag);
            blocks.push(block("tagOwners", template, &[("name", json!(tag)), ("owners", json!(needs.owners))])?);
        }
    }
    let parties = [("agents", &needs.agents), ("operators", &needs.operators), ("approvers", &needs.approvers)];
    for (template, party) in parties {
        if !party.who.is_empty() {
            blocks.push(party_block(needs, template, party)?);
        }
    }
    let mut ways: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (port, names) in &needs.reach {
        ways.entry(names).or_default().push(format!("tcp:{port}"));
    }
    for (names, ports) in ways {
        let places = [("src", json!([needs.tag()])), ("dst", json!(names)), ("ip", json!(ports))];
        blocks.push(block("grants", "targets", &places)?);
    }
    if tests {
        blocks.extend(test_blocks(needs)?);
    }
    Ok(blocks)
}

fn party_block(needs: &Needs, template: &'static str, party: &Party) -> anyhow::Result<Block> {
    let places = [
        ("src", json!(party.who)),
        ("dst", json!([needs.tag()])),
        ("ip", json!([format!("tcp:{}", needs.port)])),
        ("capability", json!(needs.capability)),
        ("scopes", json!(party.scopes)),
    ];
    block("grants", template, &places)
}

fn test_blocks(needs: &Needs) -> anyhow::Result<Vec<Block>> {
    let at = |name: &str, port: u16| format!("{name}:{port}");
    let mut blocks = Vec::new();
    // A group without members stands for nobody, of whom nothing can be tested.
    let empty = |who: &&str| needs.groups.get(*who).is_some_and(Vec::is_empty);
    for client in needs.clients().filter(|who| !empty(who)) {
        let (accept, deny) = (at(needs.tag(), needs.port), at(needs.tag(), needs.other_port()));
        let places = [("src", json!(client)), ("accept", json!([accept])), ("deny", json!([deny]))];
        blocks.push(block("tests", "test of a client", &places)?);
    }
    let reached: Vec<String> =
        needs.reach.iter().flat_map(|(port, names)| names.iter().map(move |name| at(name, *port))).collect();
    if !reached.is_empty() {
        let places = [("src", json!(needs.tag())), ("accept", json!(reached))];
        blocks.push(block("tests", "test of targets", &places)?);
    }
    let own = std::iter::once(needs.tag());
    let operated = needs.target_tag.iter().map(String::as_str).chain(needs.hosts.keys().map(String::as_str));
    for outsider in own.chain(operated).filter(|who| !needs.clients().any(|client| client == *who)) {
        let places = [("src", json!(outsider)), ("deny", json!([at(needs.tag(), needs.port)]))];
        blocks.push(block("tests", "test of outsiders", &places)?);
    }
    Ok(blocks)
}

/// The template of this name: its comment and its lines.
fn template(name: &str) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let mut lines = TEMPLATES.lines().skip_while(|line| line.strip_prefix("//# ") != Some(name));
    ensure!(lines.next().is_some(), "acl/blocks.hujson has no template {name:?}");
    let lines: Vec<String> = lines.take_while(|line| !line.starts_with("//# ")).map(str::to_owned).collect();
    Ok(lines.into_iter().partition(|line| line.starts_with("//")))
}

fn block(section: &'static str, name: &'static str, places: &[(&str, Value)]) -> anyhow::Result<Block> {
    let (comment, lines) = template(name)?;
    let places: BTreeMap<&str, String> = places.iter().map(|(place, value)| (*place, spaced(value))).collect();
    let lines = lines.iter().map(|line| fill(line, &places)).collect::<anyhow::Result<Vec<_>>>()?;
    let object = SECTIONS.iter().any(|(known, object)| *known == section && *object);
    // Read back by the reader of policies: whatever was filled in, this is one entry and nothing else.
    let entry = lines.join("\n");
    let text = if object { format!("{{{entry}}}") } else { format!("{{\"entry\": {entry}}}") };
    let document = Document::read(&text).with_context(|| format!("template {name:?}"))?;
    let [read] = document.sections() else { anyhow::bail!("template {name:?} makes more than one entry") };
    let (name_of, value) = (object.then(|| read.name.clone()), read.value.value());
    Ok(Block { section, template: name, comment, lines, name: name_of, value })
}

/// `line` with every `{{place}}` replaced.
fn fill(line: &str, places: &BTreeMap<&str, String>) -> anyhow::Result<String> {
    let mut filled = String::new();
    let mut rest = line;
    while let Some((before, (place, after))) =
        rest.split_once("{{").and_then(|(before, rest)| Some((before, rest.split_once("}}")?)))
    {
        filled.push_str(before);
        filled.push_str(places.get(place).with_context(|| format!("a template has an unknown place {place:?}"))?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// JSON on one line, with a blank behind each comma of a list.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// The lines of `blocks`, of one section, each indented by `base` and the template's tabs replaced by `unit`. A comma
/// behind each entry, behind the last one only if `trailing`.
pub(super) fn entries(blocks: &[&Block], base: &str, unit: &str, trailing: bool) -> Vec<String> {
    let mut out = Vec::new();
    let mut template = "";
    for (index, block) in blocks.iter().enumerate() {
        if block.template != template {
            out.extend(block.comment.iter().map(|line| format!("{base}{line}")));
            template = block.template;
        }
        for (at, line) in block.lines.iter().enumerate() {
            let text = line.trim_start_matches('\t');
            let indent = unit.repeat(line.len() - text.len());
            let last = at + 1 == block.lines.len();
            let comma = if last && (trailing || index + 1 < blocks.len()) { "," } else { "" };
            out.push(format!("{base}{indent}{text}{comma}"));
        }
    }
    out
}

/// The lines of a whole section: its name, its entries, its end, with a comma behind if `comma`.
pub(super) fn section(name: &str, object: bool, blocks: &[&Block], unit: &str, comma: bool) -> Vec<String> {
    let (open, close) = if object { ('{', '}') } else { ('[', ']') };
    let mut lines = vec![format!("{unit}\"{name}\": {open}")];
    lines.extend(entries(blocks, &unit.repeat(2), unit, true));
    lines.push(format!("{unit}{close}{}", if comma { "," } else { "" }));
    lines
}

/// A whole policy.
pub(super) fn print(blocks: &[Block]) -> anyhow::Result<String> {
    let (mut lines, _) = template("head")?;
    lines.push("{".to_owned());
    let mut first = true;
    for (name, object) in SECTIONS {
        let own: Vec<&Block> = blocks.iter().filter(|block| block.section == name).collect();
        if own.is_empty() {
            continue;
        }
        if !first {
            lines.push(String::new());
        }
        first = false;
        lines.extend(section(name, object, &own, "\t", true));
    }
    lines.push("}\n".to_owned());
    Ok(lines.join("\n"))
}
