//! `package_list`: what is installed, what an upgrade would bring, what is held back; one package in detail. From dpkg's
//! records and a simulated upgrade: changes nothing, takes no lock, fetches nothing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    apt::{self, Change, Verb},
    kit::{Host, arguments, data, plain, schema_of, script, within},
    service_list::{matches, page},
    systemd::{missing, section},
};
use crate::model::{Content, Effect, Missing, Operation, RawOutput, Risk, Scope, Script, Section, Step, Template};

mod policy;

use policy::Detail;

/// The tool.
pub(super) struct PackageList;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Filter {
    Installed,
    Upgradable,
    Security,
    Held,
    Broken,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    #[serde(default = "filter")]
    filter: Filter,
    /// Part of the name, or a pattern with * and ?
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    matching: Option<String>,
    /// Versions and origins of this package
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    detail: Option<String>,
    #[serde(default = "limit")]
    #[schemars(range(min = 1, max = 500))]
    limit: u32,
    /// next_cursor of the page before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    cursor: Option<String>,
}

fn filter() -> Filter {
    Filter::Upgradable
}

fn limit() -> u32 {
    100
}

/// One page, by name. The counts are over all packages, whatever the filter; null where they cannot be had.
#[derive(Serialize, JsonSchema)]
struct Data {
    packages: Vec<Package>,
    /// How many match the filter
    total: usize,
    installed_count: Option<usize>,
    upgradable_count: Option<usize>,
    security_count: Option<usize>,
    held_count: Option<usize>,
    /// Neither fully installed nor gone
    broken_count: Option<usize>,
    /// What a full upgrade would install besides
    would_install: Vec<String>,
    /// What a full upgrade would remove
    would_remove: Vec<String>,
    /// Since the package lists were fetched
    lists_age_s: Option<i64>,
    detail: Option<Detail>,
}

#[derive(Serialize, JsonSchema)]
struct Package {
    name: String,
    arch: String,
    installed: String,
    /// The version an upgrade would bring
    candidate: Option<String>,
    /// Where that comes from
    origins: Vec<String>,
    /// Whether that is a security update
    security: bool,
    held: bool,
    /// Where it is not simply installed: unpacked, half-configured, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<&'static str>,
}

const SPEC: Spec = Spec {
    name: "package_list",
    title: "List packages",
    help: "Installed, upgradable, security, held or broken Debian packages, or one in detail. lists_age_s tells how fresh the lists are.",
    scopes: &[Scope::SystemRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// `$1` the package to show in detail, or nothing.
const TEMPLATE: Template = Template {
    id: "package_list.v1",
    stdin: false,
    body: concat!(include_str!("lists.sh"), include_str!("package_list/list.sh")),
};

/// How old the lists may be before an answer says so, in seconds.
const OLD_S: i64 = 3 * 86_400;

impl Tool for PackageList {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        within("limit", args.limit, 1..=500)?;
        for (field, text) in [("match", &args.matching), ("cursor", &args.cursor)] {
            text.as_deref().map_or(Ok(()), |text| plain(field, text, 256))?;
        }
        if let Some(name) = &args.detail {
            apt::package_name("detail", name)?;
        }
        let target = Host::find(context, &args.target)?;
        let script = Script::new(&TEMPLATE, [args.detail.as_deref().unwrap_or_default()]);
        SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let output = script(raw, 0)?;
        let sections = output.sections();
        let mut content = Content { partial: missing(&sections), ..Content::default() };
        let installed = match section(&sections, "packages") {
            Some(Section { content: Ok(text), .. }) => Some(String::from_utf8_lossy(text)),
            _ => None,
        };
        let upgrades = upgrades(&sections, &mut content)?;
        if installed.is_none() && content.partial.iter().all(|missing| missing.section != "packages") {
            return Err(ToolError::unreadable("no list of packages"));
        }
        if let Some(errors) = section(&sections, "errors") {
            content.warnings.extend(errors.text().lines().take(5).map(str::to_owned));
        }
        if output.stdout.dropped() > 0 {
            content.truncated = true;
            content.warnings.push("the host's list was too long to be read in full; the counts are too low".into());
        }
        let mut packages = read(installed.as_deref().unwrap_or_default(), upgrades.as_deref().unwrap_or_default());
        let counted = |known: bool, test: &dyn Fn(&Package) -> bool| {
            known.then(|| packages.iter().filter(|package| test(package)).count())
        };
        let (has_list, has_upgrades) = (installed.is_some(), upgrades.is_some() && installed.is_some());
        let names = |wanted: &dyn Fn(&Change) -> bool| {
            let wanted = upgrades.iter().flatten().filter(|change| wanted(change));
            wanted.map(|change| change.name.clone()).collect::<Vec<_>>()
        };
        let mut answer = Data {
            total: 0,
            installed_count: counted(has_list, &|_| true),
            upgradable_count: counted(has_upgrades, &|package| package.candidate.is_some()),
            security_count: counted(has_upgrades, &|package| package.security),
            held_count: counted(has_list, &|package| package.held),
            broken_count: counted(has_list, &|package| package.broken.is_some()),
            would_install: names(&|change| change.verb == Verb::Install && change.from.is_none()),
            would_remove: names(&|change| change.verb != Verb::Install),
            lists_age_s: section(&sections, "age").and_then(|section| apt::age_s(&section.text())),
            detail: None,
            packages: Vec::new(),
        };
        packages.retain(|package| {
            let listed = match args.filter {
                Filter::Installed => true,
                Filter::Upgradable => package.candidate.is_some(),
                Filter::Security => package.security,
                Filter::Held => package.held,
                Filter::Broken => package.broken.is_some(),
            };
            listed && args.matching.as_deref().is_none_or(|pattern| matches(pattern, &package.name))
        });
        if let (Some(name), Some(section)) = (&args.detail, section(&sections, "detail")) {
            let detail = policy::read(name, &section.text());
            let error = || ToolError::new("not_found", format!("neither dpkg nor apt knows a package {name}"));
            answer.detail = Some(detail.ok_or_else(error)?);
        }
        answer.total = packages.len();
        content.next_cursor = page(&mut packages, args.cursor.as_deref(), args.limit, Package::key);
        content.truncated |= content.next_cursor.is_some();
        if let Some(age) = answer.lists_age_s.filter(|age| *age > OLD_S) {
            content
                .warnings
                .push(format!("the package lists are {} days old: package_refresh fetches new ones", age / 86_400));
        }
        answer.packages = packages;
        content.data = data(&answer)?;
        Ok(content)
    }
}

impl Package {
    fn key(&self) -> String {
        format!("{}:{}", self.name, self.arch)
    }
}

/// What an upgrade would do; none where apt cannot tell.
fn upgrades(sections: &[Section], content: &mut Content) -> Result<Option<Vec<Change>>, ToolError> {
    let Some(Section { content: Ok(text), .. }) = section(sections, "upgrades") else { return Ok(None) };
    if section(sections, "upgrades_end").is_none() {
        content.partial.push(Missing { section: "upgrades".into(), reason: "unreadable_output".into() });
        return Ok(None);
    }
    let changes = apt::changes(&String::from_utf8_lossy(text));
    changes.map(Some).map_err(|line| ToolError::unreadable(&format!("apt printed {line:?}")))
}

/// dpkg's records joined with what an upgrade would do. Packages of which only configuration is left are not there.
fn read(text: &str, upgrades: &[Change]) -> Vec<Package> {
    let mut candidates: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in upgrades.iter().filter(|change| change.verb == Verb::Install) {
        let bare = change.name.split_once(':').map_or(change.name.as_str(), |(bare, _)| bare);
        candidates.entry(bare).or_default().push(change);
    }
    let mut packages = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (Some(status), Some(name), Some(version), Some(arch)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let mut letters = status.chars();
        let (wanted, state, error) = (letters.next(), letters.next(), letters.next());
        let broken = match state {
            _ if error == Some('R') => Some("reinstallation-required"),
            Some('i') => None,
            Some('U') => Some("unpacked"),
            Some('F') => Some("half-configured"),
            Some('H') => Some("half-installed"),
            Some('W') => Some("triggers-awaited"),
            Some('t') => Some("triggers-pending"),
            _ => continue,
        };
        // A package of another architecture is named with it; the plain name is the host's own.
        let full = format!("{name}:{arch}");
        let all = candidates.get(name).map(Vec::as_slice).unwrap_or_default();
        let change = all
            .iter()
            .find(|change| change.name == full)
            .or_else(|| all.iter().find(|change| change.name == name && change.from.as_deref() == Some(version)));
        packages.push(Package {
            name: name.to_owned(),
            arch: arch.to_owned(),
            installed: version.to_owned(),
            candidate: change.and_then(|change| change.to.clone()),
            origins: change.map(|change| change.origins.clone()).unwrap_or_default(),
            security: change.is_some_and(|change| change.security),
            held: wanted == Some('h'),
            broken,
        });
    }
    packages
}

#[cfg(test)]
mod tests;
