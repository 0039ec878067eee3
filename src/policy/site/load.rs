//! From the texts of policy files to checked rules, or every problem with its file, line and column. What Cedar's own
//! validation lets through (identifiers, annotations, what asking means) is checked here and in `vocabulary`.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use cedar_policy::{Effect, Entities, Policy, PolicyId, PolicySet, ValidationMode, Validator};
use jiff::tz::TimeZoneDatabase;
use miette::Diagnostic;
use moka::sync::Cache;

use super::{
    Loaded, REMEMBERED, Rule, SiteProblem, SiteProblems, SiteSource,
    exception::Exceptions,
    problem::{Report, at},
    schema::{Fields, schema_of},
    vocabulary::{Vocabulary, asks_for_approval},
};
use crate::{
    config::{SiteFile, did_you_mean},
    model::Strength,
};

/// The default set: embedded, before the site's own files.
const DEFAULT: (&str, &str) = ("acl/default.cedar", include_str!("../../../acl/default.cedar"));

/// The annotations there are.
const ANNOTATIONS: [&str; 5] = ["id", "ask", "approvers", "strength", "description"];

/// The most people that can be asked for.
const MOST_PEOPLE: u32 = 10;

/// A policy that has a name, and where it stands.
struct Named<'t> {
    policy: Policy,
    file: &'t str,
    text: &'t str,
    offset: usize,
}

/// Checks everything. See [`super::SitePolicy::load`].
pub(super) fn load(source: &SiteSource<'_>) -> Result<Loaded, SiteProblems> {
    let arguments: BTreeMap<_, _> = source.tools.iter().map(|tool| (tool.name, Fields::of(&tool.input))).collect();
    let schema = schema_of(source.tools, &arguments)
        .map_err(|error| SiteProblems::about("the tool catalogue", format_args!("makes no schema: {error}")))?;
    let actions = Entities::from_entities([], Some(&schema))
        .map_err(|error| SiteProblems::about("the tool catalogue", format_args!("makes no actions: {error}")))?;
    let mut problems = Vec::new();
    let zone = TimeZoneDatabase::bundled().get(source.time_zone);
    if let Err(error) = &zone {
        problems.extend(SiteProblems::about("policy.time_zone", error).iter().cloned());
    }

    let default = SiteFile { name: DEFAULT.0.to_owned(), text: DEFAULT.1.to_owned() };
    let (mut named, mut rules): (BTreeMap<String, Named<'_>>, BTreeMap<String, Rule>) = Default::default();
    for (file, own) in [(&default, false)].into_iter().chain(source.files.iter().map(|file| (file, true))) {
        let mut report = Report::new(&file.name, &file.text);
        for (offset, policy) in parsed(file, &mut report) {
            let Some((id, rule)) = rule(&policy, offset, own, &mut report) else { continue };
            if let Some(earlier) = named.get(&id) {
                report.add(offset, format_args!("there is a policy {id:?} already, in {}", earlier.file));
                continue;
            }
            let policy = policy.new_id(PolicyId::new(&id));
            named.insert(id.clone(), Named { policy, file: &file.name, text: &file.text, offset });
            rules.insert(id, rule);
        }
        problems.append(&mut report.list);
    }

    let vocabulary = Vocabulary::new(source.tools, &arguments, source.inventory);
    let mut warnings = Vec::new();
    let mut policies = PolicySet::new();
    for (id, Named { policy, file, text, offset }) in &named {
        let mut report = Report::new(file, text);
        let mut doubtful = Report::new(file, text);
        vocabulary.check(policy, *offset, &schema, &mut report, &mut doubtful);
        if policy.effect() == Effect::Permit && rules.get(id).is_some_and(|rule| rule.own) {
            doubtful.add(*offset, format_args!("{id:?} permits what is permitted already; only forbid has an effect"));
        }
        if let Err(error) = policies.add(policy.clone()) {
            report.add(*offset, error);
        }
        problems.append(&mut report.list);
        warnings.append(&mut doubtful.list);
    }
    let validated = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
    let errors = validated.validation_errors().map(|error| (error.policy_id(), error as &dyn Diagnostic));
    // A policy that can never apply is a mistake too.
    let more = validated.validation_warnings().map(|warning| (warning.policy_id(), warning as &dyn Diagnostic));
    let mut places = BTreeSet::new();
    for (id, diagnostic) in errors.chain(more) {
        let id: &str = id.as_ref();
        // Said once for each tool a policy is about: the first is enough.
        if !places.insert((id, place_of(diagnostic))) {
            continue;
        }
        problems.push(match named.get(id) {
            Some(Named { file, text, offset, .. }) => {
                at(file, text, place_of(diagnostic).unwrap_or(*offset), said_by(diagnostic))
            }
            None => SiteProblem { file: id.to_owned(), place: None, message: said_by(diagnostic) },
        });
    }

    let ids: Vec<&str> = rules.iter().filter(|(_, rule)| rule.own).map(|(id, _)| id.as_str()).collect();
    let (exceptions, wrong, expired) = Exceptions::check(
        source.exceptions,
        |id| rules.get(id),
        &ids,
        source.inventory.map(|inventory| inventory.targets),
        source.now,
    );
    problems.extend(wrong);
    warnings.extend(expired);
    match zone {
        Ok(zone) if problems.is_empty() => {
            let answers = Cache::new(REMEMBERED);
            Ok(Loaded { schema, actions, policies, rules, arguments, zone, exceptions, warnings, answers })
        }
        _ => Err(SiteProblems::new(problems)),
    }
}

/// The policies of one file in its order, each with the byte it begins at. What does not parse is reported.
fn parsed(file: &SiteFile, report: &mut Report<'_>) -> Vec<(usize, Policy)> {
    let set = match PolicySet::from_str(&file.text) {
        Ok(set) => set,
        Err(errors) => {
            for error in errors.iter() {
                report.add(place_of(error).unwrap_or(0), said_by(error));
            }
            return Vec::new();
        }
    };
    for template in set.templates() {
        let offset = file.text.find(&template.to_cedar()).unwrap_or(0);
        report.add(offset, "is a template (?principal, ?resource); write the policy out");
    }
    // Cedar numbers them as they stand: policy0, policy1, …
    let number = |policy: &Policy| policy.id().to_string().strip_prefix("policy").and_then(|id| id.parse::<u32>().ok());
    let mut policies: Vec<Policy> = set.policies().cloned().collect();
    policies.sort_by_key(number);
    let mut from = 0;
    let placed = policies.into_iter().map(|policy| {
        let text = policy.to_cedar().unwrap_or_default();
        let found = file.text.get(from..).and_then(|rest| rest.find(text.as_str())).map_or(from, |at| from + at);
        from = found + text.len();
        (found, policy)
    });
    placed.collect()
}

/// What the annotations of a policy say; none if it has no usable id.
fn rule(policy: &Policy, offset: usize, own: bool, report: &mut Report<'_>) -> Option<(String, Rule)> {
    let before = report.list.len();
    let forbids = policy.effect() == Effect::Forbid;
    for (name, _) in policy.annotations() {
        if !ANNOTATIONS.contains(&name) {
            let hint = did_you_mean(name, ANNOTATIONS).unwrap_or_default();
            let known = ANNOTATIONS.map(|name| format!("@{name}")).join(", ");
            report.add(offset, format_args!("unknown annotation @{name}{hint}; the annotations are {known}"));
        }
    }
    let text = |name: &str| policy.annotation(name).map(|text| text.trim().to_owned());
    for (name, value) in [("ask", text("ask")), ("description", text("description"))] {
        if value.is_some_and(|value| value.is_empty() || value.len() > 300 || value.chars().any(char::is_control)) {
            report.add(offset, format_args!("@{name} must be one line of 1 to 300 bytes"));
        }
    }
    let ask = text("ask");
    let asks = asks_for_approval(policy);
    if ask.is_some() && !forbids {
        report.add(offset, "@ask belongs to a forbid: what is forbidden until somebody approves");
    } else if ask.is_some() && !asks {
        report.add(offset, "@ask needs `unless { context.approved }`: without it no approval would ever do");
    } else if ask.is_none() && asks {
        report.add(offset, "context.approved needs an @ask(\"reason\"): without it nobody is asked and it never holds");
    }
    for name in ["approvers", "strength"] {
        if ask.is_none() && text(name).is_some() {
            report.add(offset, format_args!("@{name} belongs to a policy with @ask"));
        }
    }
    let quorum = text("approvers").filter(|_| ask.is_some()).map_or(1, |given| {
        let people = given.parse().ok().filter(|people| (1..=MOST_PEOPLE).contains(people));
        people.unwrap_or_else(|| {
            report.add(offset, format_args!("@approvers must be from 1 to {MOST_PEOPLE}, not {given:?}"));
            1
        })
    });
    let strength = text("strength").filter(|_| ask.is_some()).map_or(Strength::Identity, |given| {
        let known = [Strength::Identity, Strength::Signature].into_iter().find(|strength| strength.as_str() == given);
        known.unwrap_or_else(|| {
            report.add(offset, format_args!("@strength must be identity or signature, not {given:?}"));
            Strength::Signature
        })
    });
    let Some(id) = policy.annotation("id") else {
        report.add(offset, "has no @id(\"…\"), by which decisions and exceptions name it");
        return None;
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest = |byte: u8| plain(byte) || matches!(byte, b'.' | b'_' | b'-');
    if id.len() > 64 || !id.bytes().next().is_some_and(plain) || !id.bytes().all(rest) {
        const FORM: &str = "1 to 64 of a-z, 0-9, `.`, `_` and `-`, a letter or digit first";
        report.add(offset, format_args!("@id({id:?}) is no id: {FORM}"));
    }
    let rule = Rule { forbids, ask, quorum, strength, description: text("description"), own };
    (report.list.len() == before).then(|| (id.to_owned(), rule))
}

/// The byte a diagnostic points at.
fn place_of(diagnostic: &(impl Diagnostic + ?Sized)) -> Option<usize> {
    diagnostic.labels().and_then(|mut labels| labels.next()).map(|label| label.offset())
}

/// A diagnostic with its advice, in one line.
fn said_by(diagnostic: &(impl Diagnostic + ?Sized)) -> String {
    match diagnostic.help() {
        Some(help) => format!("{diagnostic} ({help})"),
        None => diagnostic.to_string(),
    }
}
