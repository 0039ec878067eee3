//! Reads the rules out of a capability's values. Answers for refusing whatever is not understood to the last field,
//! with the number of the rule and what would be right. Never repeats more than a few characters of what it read: an
//! admin may have pasted anything.

use std::{collections::BTreeSet, io};

use serde_json::{Map, Value, value::RawValue};

use super::{Approves, Grant, Grants};
use crate::{
    config::{GrantsMode, ID_FORM, Tailnet, did_you_mean, is_id},
    model::{KeyFault, Risk, Scope, ScopeSet, check_keys},
    tailnet::NotAdmitted,
};

/// The most rules that one peer may have, from all grants of the tailnet policy together.
pub(super) const MOST_RULES: usize = 100;
/// The longest that they may be together, as JSON without white space.
pub(super) const MOST_BYTES: usize = 64 * 1024;
/// The longest text that names anything; longer ones name nothing and are not searched for a likeness.
const LONGEST_NAME: usize = 64;
/// How much of a wrong text is shown.
const SHOWN: usize = 40;

const FIELDS: [&str; 4] = ["scopes", "targets", "engagements", "approve"];
const APPROVE_FIELDS: [&str; 3] = ["risks", "segments", "tools"];
const RISKS: [Risk; 4] = [Risk::Low, Risk::Moderate, Risk::High, Risk::Critical];

/// The rules in `values`, the values of the capability; none where the peer has not got the capability.
///
/// Errors with [`NotAdmitted::NoGrant`] where the configuration demands a rule and there is none, and with
/// [`NotAdmitted::BadGrant`] where one rule is not understood in full: such a peer has no rights at all until its rules
/// are mended. A peer that has the capability without a rule (`[]`) has no rights, also where rules are optional.
pub fn read(values: Option<&[Value]>, settings: &Tailnet) -> Result<Grants, NotAdmitted> {
    let required = settings.grants == GrantsMode::Required;
    let values = match values {
        None | Some([]) if required => return Err(NotAdmitted::NoGrant),
        None => return Ok(Grants::Unrestricted),
        Some(values) => values,
    };
    if values.len() > MOST_RULES {
        return Err(bad(format_args!("{} rules are more than the {MOST_RULES} that a peer may have", values.len())));
    }
    if serde_json::to_writer(&mut Room(MOST_BYTES), values).is_err() {
        return Err(bad(format_args!("the rules are longer than {MOST_BYTES} bytes together")));
    }
    let numbered = values.iter().zip(1..);
    let rules =
        numbered.map(|(value, number)| rule(value).map_err(|fault| bad(format_args!("rule {number}: {fault}"))));
    Ok(Grants::Rules(rules.collect::<Result<_, _>>()?))
}

/// As [`read`], from the JSON text of the values, which still shows a key that stands twice. Null is a capability
/// without rules: the peer has got it.
pub fn read_text(values: Option<&str>, settings: &Tailnet) -> Result<Grants, NotAdmitted> {
    let Some(text) = values else { return read(None, settings) };
    let list = || bad(format_args!("the capability's values are no list of rules, such as [{EXAMPLE}]"));
    let raw: Option<Vec<&RawValue>> = serde_json::from_str(text).map_err(|_| list())?;
    let read_one = |(raw, number): (&RawValue, usize)| {
        check_keys(raw.get().as_bytes()).map_err(|fault| match fault {
            KeyFault::Repeated(key) => bad(format_args!("rule {number}: the field {} stands twice", shown(&key))),
            KeyFault::Syntax(_) => list(),
        })?;
        serde_json::from_str::<Value>(raw.get()).map_err(|_| list())
    };
    let values: Vec<Value> = raw.unwrap_or_default().into_iter().zip(1..).map(read_one).collect::<Result<_, _>>()?;
    read(Some(&values), settings)
}

const EXAMPLE: &str = r#"{"scopes": ["readonly"]}"#;

fn bad(why: std::fmt::Arguments<'_>) -> NotAdmitted {
    NotAdmitted::BadGrant(why.to_string())
}

/// Takes so many bytes and no more, and keeps none.
struct Room(usize);

impl io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn rule(value: &Value) -> Result<Grant, String> {
    let fields =
        value.as_object().ok_or_else(|| format!("must be an object such as {EXAMPLE}, not {}", kind(value)))?;
    known(fields, &FIELDS)?;
    let approve = fields.get("approve").map(approves).transpose()?;
    let scopes = match fields.get("scopes") {
        Some(value) => scopes(value)?,
        // A rule for people who only decide.
        None if approve.is_some() => ScopeSet::default(),
        None => return Err(format!("scopes: missing; a rule is such as {EXAMPLE}, or has approve")),
    };
    let ids = |name: &'static str| {
        let wanted = |text: &str| format!("{} is no id: {ID_FORM}; leave {name} out for all of them", shown(text));
        fields.get(name).map(|value| each(value, name, |text| is_id(text).then_some(()).ok_or_else(|| wanted(text))))
    };
    let targets = ids("targets").transpose()?;
    let engagements = ids("engagements").transpose()?;
    Ok(Grant {
        scopes,
        targets: targets.map(|ids| ids.into_iter().map(|(id, ())| id.into()).collect()),
        engagements: engagements.map(|ids| ids.into_iter().map(|(id, ())| id.into()).collect()),
        approve,
    })
}

fn scopes(value: &Value) -> Result<ScopeSet, String> {
    let scope = |text: &str| {
        if text.len() > LONGEST_NAME {
            return Err(format!("there is no scope {}", shown(text)));
        }
        Scope::parse(text).map_err(|error| {
            let hint = error.suggestion.map(|near| format!(", did you mean {near}?")).unwrap_or_default();
            format!("there is no scope {}{hint}", shown(text))
        })
    };
    let scopes = each(value, "scopes", scope)?;
    Ok(ScopeSet::new(scopes.into_iter().map(|(_, scope)| scope)))
}

fn approves(value: &Value) -> Result<Approves, String> {
    const WANTED: &str = r#"approve: must be true, or an object such as {"risks": ["high"]}"#;
    let fields = match value {
        Value::Bool(true) => return Ok(Approves { risks: None, segments: None, tools: None }),
        Value::Bool(false) => return Err(format!("{WANTED}; leave it out where nothing may be approved")),
        Value::Object(fields) if fields.is_empty() => return Err(format!("{WANTED}, not an empty object")),
        Value::Object(fields) => fields,
        other => return Err(format!("{WANTED}, not {}", kind(other))),
    };
    known(fields, &APPROVE_FIELDS).map_err(|fault| format!("approve: {fault}"))?;
    let risk = |text: &str| {
        let words = RISKS.map(Risk::as_str).join(", ");
        let found = RISKS.into_iter().find(|risk| risk.as_str() == text);
        found.ok_or_else(|| format!("there is no risk {}; there is {words}", shown(text)))
    };
    let segment =
        |text: &str| is_id(text).then_some(()).ok_or_else(|| format!("{} is no label: {ID_FORM}", shown(text)));
    let tool = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let named = text.len() <= LONGEST_NAME && !text.is_empty() && text.bytes().all(plain);
        named.then_some(()).ok_or_else(|| format!("{} is no name of a tool, such as service_control", shown(text)))
    };
    let risks = fields.get("risks").map(|value| each(value, "approve.risks", risk)).transpose()?;
    let segments = fields.get("segments").map(|value| each(value, "approve.segments", segment)).transpose()?;
    let tools = fields.get("tools").map(|value| each(value, "approve.tools", tool)).transpose()?;
    let names =
        |named: Vec<(&str, ())>| -> BTreeSet<String> { named.into_iter().map(|(name, ())| name.into()).collect() };
    Ok(Approves {
        risks: risks.map(|risks| risks.into_iter().map(|(_, risk)| risk).collect()),
        segments: segments.map(names),
        tools: tools.map(names),
    })
}

/// Refuses fields beside `names`.
fn known(fields: &Map<String, Value>, names: &[&'static str]) -> Result<(), String> {
    let Some(unknown) = fields.keys().find(|field| !names.contains(&field.as_str())) else { return Ok(()) };
    let short = unknown.len() <= LONGEST_NAME;
    let hint = short.then(|| did_you_mean(unknown, names.iter().copied())).flatten().unwrap_or_default();
    Err(format!("there is no field {}{hint}; the fields are {}", shown(unknown), names.join(", ")))
}

/// Every text of the list at `field`, which must not be empty, each with what `read` makes of it.
fn each<'v, T>(
    value: &'v Value,
    field: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<(&'v str, T)>, String> {
    let items = value.as_array().ok_or_else(|| format!("{field}: must be a list of texts, not {}", kind(value)))?;
    if items.is_empty() {
        return Err(format!("{field}: must name at least one"));
    }
    let item = |item: &'v Value| {
        let text = item.as_str().ok_or_else(|| format!("{field}: must hold texts only, not {}", kind(item)))?;
        Ok((text, read(text).map_err(|fault| format!("{field}: {fault}"))?))
    };
    items.iter().map(item).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The beginning of `text`, in quotes.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}
