//! Expectations of a site's policies, as `tailops policy test` reads them: who calls what, when, and what must come of
//! it. A key that is not known is refused with its line; a call that cannot be planned is `invalid`, never a deny.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{anyhow, ensure};
use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::simulate::{self, Simulation};
use crate::{
    cli::columns,
    config::{GrantsMode, Tailnet},
    model::{ScopeSet, Strength, Subtree, SudoPolicy, Target, TargetKind},
    policy::Verdict,
    tailnet::{Grants, NotAdmitted, read_grants},
    tools,
};

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    targets: BTreeMap<String, SimulatedTarget>,
    /// Callers to be named in cases.
    #[serde(default)]
    callers: BTreeMap<String, Caller>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SimulatedTarget {
    #[serde(default = "default_engagement")]
    engagement: String,
    #[serde(default)]
    segment: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    capabilities: ScopeSet,
    #[serde(default)]
    roots: Vec<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Caller {
    subject: String,
    #[serde(default)]
    owner: String,
    scopes: ScopeSet,
    #[serde(default = "default_engagement")]
    engagement: String,
    #[serde(default)]
    targets: Option<BTreeSet<String>>,
    #[serde(default)]
    tools: Option<BTreeSet<String>>,
    #[serde(default)]
    paths: Option<BTreeSet<Subtree>>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    node: String,
    #[serde(default)]
    tags: Vec<String>,
    /// The rules of the tailnet policy, as its file has them; absent: nothing narrows.
    #[serde(default)]
    grants: Option<Vec<Value>>,
}

fn default_engagement() -> String {
    "default".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: Spanned<String>,
    caller: Who,
    call: Call,
    at: Timestamp,
    /// Whether enough people have agreed: then what asks is allowed.
    #[serde(default)]
    approved: bool,
    expect: Expected,
    #[serde(default)]
    by: Option<BTreeSet<String>>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    quorum: Option<u32>,
    #[serde(default)]
    strength: Option<Strength>,
}

/// One of `callers` by its name, or a caller of its own.
#[derive(Debug)]
enum Who {
    Named(String),
    Inline(Box<Caller>),
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WhoVisitor)
    }
}

struct WhoVisitor;

impl<'de> Visitor<'de> for WhoVisitor {
    type Value = Who;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a caller, or a caller with subject and scopes")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Who, E> {
        Ok(Who::Named(name.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Who, A::Error> {
        Caller::deserialize(MapAccessDeserializer::new(map)).map(|caller| Who::Inline(Box::new(caller)))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    tool: String,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    args: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Ask,
    Deny,
    Invalid,
}

impl Expected {
    fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
            Self::Invalid => "invalid",
        }
    }
}

/// What came of a case.
struct Outcome {
    verdict: Expected,
    by: BTreeSet<String>,
    code: String,
    quorum: u32,
    /// Where it asks.
    strength: Option<Strength>,
}

/// A case that came out otherwise.
pub(super) struct Difference {
    line: u64,
    name: String,
    expected: String,
    got: String,
    by: String,
}

/// The cases of one file.
pub(super) struct Cases(Document);

impl Cases {
    /// Reads `text`. Errors name the line.
    pub(super) fn read(file: &Path, text: &str) -> anyhow::Result<Self> {
        let document: Document =
            serde_saphyr::from_str(text).map_err(|error| anyhow!("{}: {error}", file.display()))?;
        ensure!(!document.cases.is_empty(), "{}: holds no case", file.display());
        for (name, caller) in &document.callers {
            caller.granted().map_err(|error| anyhow!("{}: callers.{name}.grants: {error}", file.display()))?;
        }
        let mut names = BTreeSet::new();
        for case in &document.cases {
            let place = format!("{}:{}", file.display(), case.name.referenced.line());
            ensure!(names.insert(&case.name.value), "{place}: there is a case {:?} already", case.name.value);
            if let Who::Named(name) = &case.caller {
                let known = || document.callers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let is_known = document.callers.contains_key(name);
                ensure!(is_known, "{place}: there is no caller {name:?}; the callers are {}", known());
            }
            if let Who::Inline(caller) = &case.caller {
                caller.granted().map_err(|error| anyhow!("{place}: grants: {error}"))?;
            }
            ensure!(tools::find(&case.call.tool).is_some(), "{place}: there is no tool {:?}", case.call.tool);
        }
        Ok(Self(document))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.cases.len()
    }

    /// The targets it brings along.
    pub(super) fn targets(&self, file: &Path) -> anyhow::Result<Vec<Target>> {
        let target = |(id, target): (&String, &SimulatedTarget)| {
            ensure!(
                target.roots.iter().all(|root| root.is_absolute()),
                "{}: targets.{id}.roots: must be absolute",
                file.display()
            );
            Ok(Target {
                id: id.as_str().into(),
                kind: TargetKind::Local,
                engagement: target.engagement.as_str().into(),
                capabilities: target.capabilities,
                segment: target.segment.clone(),
                tags: target.tags.clone(),
                roots: target.roots.clone(),
                timeout: Duration::from_secs(60),
                concurrency: 1,
                sudo: SudoPolicy::None,
                registered: None,
            })
        };
        self.0.targets.iter().map(target).collect()
    }

    /// The engagements its callers belong to.
    pub(super) fn engagements(&self) -> Vec<&str> {
        let inline = self.0.cases.iter().filter_map(|case| match &case.caller {
            Who::Inline(caller) => Some(&**caller),
            Who::Named(_) => None,
        });
        self.0.callers.values().chain(inline).map(|caller| caller.engagement.as_str()).collect()
    }

    /// The cases that come out otherwise than expected, in order.
    pub(super) fn differences(&self, simulation: &Simulation) -> Vec<Difference> {
        let differs = |case: &Case| {
            let outcome = self.outcome(case, simulation);
            if case.is(&outcome) {
                return None;
            }
            let quorum = |quorum: Option<u32>| quorum.map(|quorum| format!(", {quorum} people")).unwrap_or_default();
            let coded = |code: &str| if code.is_empty() { String::new() } else { format!(" {code}") };
            let by = case.by.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ");
            let by = if by.is_empty() { by } else { format!(" by {by}") };
            let code = coded(case.code.as_deref().unwrap_or_default());
            let strength = |strength: Option<Strength>| strength.map(|word| format!(", {word}")).unwrap_or_default();
            let got_quorum = Some(outcome.quorum).filter(|quorum| *quorum > 0);
            // Shown only where it is compared.
            let got_strength = outcome.strength.filter(|_| case.strength.is_some());
            Some(Difference {
                line: case.name.referenced.line(),
                name: case.name.value.clone(),
                expected: format!(
                    "{}{code}{}{}{by}",
                    case.expect.as_str(),
                    quorum(case.quorum),
                    strength(case.strength)
                ),
                got: format!(
                    "{}{}{}{}",
                    outcome.verdict.as_str(),
                    coded(&outcome.code),
                    quorum(got_quorum),
                    strength(got_strength)
                ),
                by: outcome.by.into_iter().collect::<Vec<_>>().join(", "),
            })
        };
        self.0.cases.iter().filter_map(differs).collect()
    }

    fn outcome(&self, case: &Case, simulation: &Simulation) -> Outcome {
        let mut arguments = case.call.args.clone();
        if let Some(target) = &case.call.target {
            arguments.insert("target".into(), target.clone().into());
        }
        let verdict = Expected::Invalid;
        let invalid = |code: String| Outcome { verdict, by: BTreeSet::new(), code, quorum: 0, strength: None };
        let caller = match &case.caller {
            Who::Named(name) => self.0.callers.get(name),
            Who::Inline(caller) => Some(&**caller),
        };
        let Some(caller) = caller else { return invalid("unknown_caller".to_owned()) };
        match simulation.judge(&caller.simulated(), &case.call.tool, &arguments, case.at) {
            Ok(Ok((_, judgement))) => Outcome {
                verdict: match judgement.verdict() {
                    Verdict::Pass => Expected::Allow,
                    Verdict::Ask if case.approved => Expected::Allow,
                    Verdict::Ask => Expected::Ask,
                    Verdict::Deny => Expected::Deny,
                },
                by: judgement.decided_by().into_iter().map(str::to_owned).collect(),
                code: judgement.code().to_owned(),
                quorum: judgement.quorum(),
                strength: (judgement.verdict() == Verdict::Ask).then(|| judgement.strength()),
            },
            Ok(Err(error)) => invalid(error.code.to_owned()),
            Err(_) => invalid("unknown_tool".to_owned()),
        }
    }
}

impl Case {
    fn is(&self, outcome: &Outcome) -> bool {
        self.expect == outcome.verdict
            && self.by.as_ref().is_none_or(|by| *by == outcome.by)
            && self.code.as_ref().is_none_or(|code| *code == outcome.code)
            && self.quorum.is_none_or(|quorum| quorum == outcome.quorum)
            && self.strength.is_none_or(|strength| Some(strength) == outcome.strength)
    }
}

impl Caller {
    fn granted(&self) -> Result<Grants, NotAdmitted> {
        let settings = Tailnet { grants: GrantsMode::Optional, ..Tailnet::default() };
        read_grants(self.grants.as_deref(), &settings)
    }

    fn simulated(&self) -> simulate::Caller {
        simulate::Caller {
            subject: self.subject.clone(),
            owner: self.owner.clone(),
            scopes: self.scopes,
            engagement: self.engagement.clone(),
            targets: self.targets.as_ref().map(|targets| targets.iter().map(|id| id.as_str().into()).collect()),
            tools: self.tools.clone(),
            paths: self.paths.clone(),
            user: self.user.clone(),
            node: self.node.clone(),
            tags: self.tags.clone(),
            // They were read before; what cannot be read gives nothing.
            grants: self.granted().unwrap_or(Grants::Rules(Vec::new())),
        }
    }
}

/// The differences as a table.
pub(super) fn table(file: &Path, differences: &[Difference]) -> String {
    let row = |difference: &Difference| {
        let Difference { line, name, expected, got, by } = difference;
        vec![format!("{}:{line}: {name}", file.display()), expected.clone(), got.clone(), by.clone()]
    };
    columns(&["case", "expected", "got", "by"], differences.iter().map(row)).join("\n")
}
