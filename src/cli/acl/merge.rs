//! Adds what is missing to a policy, as text: nothing that is there is removed, moved or rewritten, so every comment
//! stays where it was. Never touches an entry that says something else; it says so.

use serde_json::Value;

use super::{
    blocks::{Block, SECTIONS, entries, section},
    hujson::{Document, Entry, Kind, Malformed, Node},
};

/// What came of it.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) text: String,
    /// What was left as it is although it differs, one line each.
    pub(super) notes: Vec<String>,
}

/// `text` with those of `blocks` that it lacks. Errors where it is no policy, or where a part of it would turn what is
/// added into something else.
pub(super) fn merge(text: &str, blocks: &[Block]) -> Result<Merged, Malformed> {
    let document = Document::read(text)?;
    let style = Style::of(&document);
    let (mut edits, mut notes, mut new) = (Vec::new(), Vec::new(), Vec::new());
    for (name, object) in SECTIONS {
        let own: Vec<&Block> = blocks.iter().filter(|block| block.section == name).collect();
        let Some(entry) = document.section(name) else {
            if !own.is_empty() {
                new.push((name, object, own));
            }
            continue;
        };
        if !matches!((&entry.value.kind, object), (Kind::Map(_), true) | (Kind::List(_), false)) {
            let wanted = if object { "an object" } else { "an array" };
            return Err(document.fault(entry.value.start, format!("{name} must be {wanted}")));
        }
        let mut missing = Vec::new();
        for block in own {
            match standing(&document, entry, block, blocks)? {
                Standing::Missing => missing.push(block),
                Standing::There => {}
                Standing::Differs(note) => notes.push(note),
            }
        }
        style.add(&document, &entry.value, |base, trailing| entries(&missing, base, &style.unit, trailing), &mut edits);
    }
    let sections = |base: &str, trailing: bool| {
        let count = new.len();
        let lines = new.iter().enumerate().flat_map(|(index, (name, object, own))| {
            section(name, *object, own, &style.unit, trailing || index + 1 < count)
        });
        // A section is made for the first level; `base` is that level here.
        lines.map(|line| format!("{base}{}", line.strip_prefix(&style.unit).unwrap_or(&line))).collect()
    };
    style.add(&document, &document.root, sections, &mut edits);
    edits.sort_by_key(|edit: &Edit| edit.at);
    let mut merged = String::with_capacity(text.len());
    let mut done = 0;
    for edit in &edits {
        merged.push_str(text.get(done..edit.at).unwrap_or_default());
        merged.push_str(&edit.text);
        done = edit.at;
    }
    merged.push_str(text.get(done..).unwrap_or_default());
    Document::read(&merged)?;
    Ok(Merged { text: merged, notes })
}

/// A text to put in front of a byte.
#[derive(Debug)]
struct Edit {
    at: usize,
    text: String,
}

/// How a policy is written.
struct Style {
    newline: &'static str,
    /// One level of indentation.
    unit: String,
}

impl Style {
    fn of(document: &Document<'_>) -> Self {
        let text = document.text;
        let crlf = text.find('\n').is_some_and(|newline| text.get(..newline).is_some_and(|line| line.ends_with('\r')));
        let first = document.sections().first().map(|entry| indentation(text, entry.start));
        let unit = first.filter(|unit| !unit.is_empty()).unwrap_or("\t").to_owned();
        Self { newline: if crlf { "\r\n" } else { "\n" }, unit }
    }

    /// Adds the lines that `lines` makes, for an indentation and whether its last entry has a comma behind, at the end
    /// of `container`.
    fn add(
        &self,
        document: &Document<'_>,
        container: &Node,
        lines: impl Fn(&str, bool) -> Vec<String>,
        edits: &mut Vec<Edit>,
    ) {
        let text = document.text;
        let close = container.end.saturating_sub(1);
        let last = match &container.kind {
            Kind::List(items) => items.last().map(|item| item.end),
            Kind::Map(entries) => entries.last().map(|entry| entry.value.end),
            Kind::Plain(_) | Kind::Text(_) => return,
        };
        let trailing = last.is_some_and(|last| document.comma_between(last, close));
        let line = text.get(..close).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
        // The bracket begins its own line if nothing but blanks stands before it there.
        let alone = line > container.start && text.get(line..close).is_some_and(|before| before.trim().is_empty());
        let base = if alone { text.get(line..close).unwrap_or_default() } else { indentation(text, container.start) };
        let lines = lines(&format!("{base}{}", self.unit), trailing);
        if lines.is_empty() {
            return;
        }
        if let Some(last) = last.filter(|_| !trailing) {
            edits.push(Edit { at: last, text: ",".to_owned() });
        }
        let lines = lines.join(self.newline);
        let newline = self.newline;
        edits.push(if alone {
            Edit { at: line, text: format!("{lines}{newline}") }
        } else {
            Edit { at: close, text: format!("{newline}{lines}{newline}{base}") }
        });
    }
}

/// The blanks at the beginning of the line of this byte.
fn indentation(text: &str, at: usize) -> &str {
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let line = text.get(start..at).unwrap_or_default();
    line.get(..line.len() - line.trim_start_matches([' ', '\t']).len()).unwrap_or_default()
}

/// Whether a policy has a block.
enum Standing {
    There,
    Missing,
    Differs(String),
}

fn standing(document: &Document<'_>, entry: &Entry, block: &Block, blocks: &[Block]) -> Result<Standing, Malformed> {
    let line = |at: usize| document.line(at);
    if let Some(name) = &block.name {
        let Some(known) = entry.value.entries().iter().find(|known| known.name == *name) else {
            return Ok(Standing::Missing);
        };
        let at = line(known.start);
        let whole = |address: &Value| {
            address.as_str().map(|address| address.trim_end_matches("/32").trim_end_matches("/128").to_owned())
        };
        let address = block.section == "hosts" && whole(&known.value.value()) == whole(&block.value);
        if address
            || same(&known.value.value(), &block.value)
            || (block.section == "groups" && block.value == Value::Array(Vec::new()))
        {
            return Ok(Standing::There);
        }
        if block.section == "hosts" {
            // Rules name the machine by this name: they would be about another machine.
            let what = format!("{name:?} is another machine here, not {}: rename one of the two", block.value);
            return Err(document.fault(known.start, what));
        }
        return Ok(Standing::Differs(format!(
            "line {at}: {} of {name} are {} and not {}; left as they are",
            if block.section == "groups" { "the members" } else { "the owners" },
            known.value.value(),
            block.value
        )));
    }
    let items = entry.value.items();
    if block.section == "tests" {
        let there = ["accept", "deny"].iter().all(|verdict| {
            let rows = items.iter().filter(|row| row.get("src").and_then(Node::text) == text_of(&block.value, "src"));
            let rows = rows.filter(|row| row.get("proto").is_none());
            let said: Vec<&str> = rows.flat_map(|row| row.texts(verdict)).collect();
            texts(&block.value, verdict).iter().all(|wanted| said.contains(wanted))
        });
        return Ok(if there { Standing::There } else { Standing::Missing });
    }
    if items.iter().any(|grant| covers(grant, &block.value)) {
        return Ok(Standing::There);
    }
    // A grant that hands the same ones other rights on the gateway was written on purpose: what this block adds to it
    // would widen it.
    let Some((capability, _)) = capability(&block.value) else { return Ok(Standing::Missing) };
    let ours: Vec<&Value> = blocks.iter().filter_map(|block| capability_rules(&block.value)).flatten().collect();
    let other = items.iter().find(|grant| {
        let rules = grant.get("app").and_then(|app| app.entries().iter().find(|entry| entry.name == *capability));
        // A capability without rules gives nothing, on purpose too.
        let differ = |rules: &[Node]| rules.is_empty() || rules.iter().any(|rule| !ours.contains(&&rule.value()));
        grant.texts("src").iter().any(|src| texts(&block.value, "src").contains(src))
            && texts(&block.value, "dst").iter().all(|dst| grant.texts("dst").contains(dst))
            && rules.is_some_and(|rules| differ(rules.value.items()))
    });
    Ok(other.map_or(Standing::Missing, |grant| {
        Standing::Differs(format!(
            "line {}: this grant gives some of {} other rights on the gateway; left as it is, and the block {:?} left out: print it for the others alone",
            line(grant.start),
            list(&block.value, "src"),
            block.template
        ))
    }))
}

/// Whether `grant` gives all that `wanted` gives, under no further condition.
fn covers(grant: &Node, wanted: &Value) -> bool {
    let grant = grant.value();
    let conditional = grant.get("srcPosture").is_some() || grant.get("via").is_some();
    let all = |name: &str| texts(wanted, name).iter().all(|one| texts(&grant, name).contains(one));
    let ip = texts(&grant, "ip").contains(&"*") || all("ip");
    let app = capability(wanted).is_none_or(|(name, rules)| {
        let has = grant.get("app").and_then(|app| app.get(name)).and_then(Value::as_array);
        has.is_some_and(|has| rules.iter().all(|rule| has.contains(rule)))
    });
    !conditional && all("src") && all("dst") && ip && app
}

/// The one capability of a block, and its rules.
fn capability(value: &Value) -> Option<(&String, &Vec<Value>)> {
    let (name, rules) = value.get("app")?.as_object()?.iter().next()?;
    Some((name, rules.as_array()?))
}

fn capability_rules(value: &Value) -> Option<&Vec<Value>> {
    capability(value).map(|(_, rules)| rules)
}

fn list(value: &Value, name: &str) -> Value {
    value.get(name).cloned().unwrap_or_default()
}

fn texts<'v>(value: &'v Value, name: &str) -> Vec<&'v str> {
    value.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn text_of<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

/// Whether two values are the same, lists in any order.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => {
            left.iter().all(|item| right.contains(item)) && right.iter().all(|item| left.contains(item))
        }
        (left, right) => left == right,
    }
}

#[cfg(test)]
mod tests;
