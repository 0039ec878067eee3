//! `service_list`: units, timers, sockets, mounts and cron jobs of a host. Changes nothing; looks into no unit file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{Host, arguments, data, plain, schema_of, script, within},
    systemd::{missing, section},
};
use crate::model::{Content, Effect, Missing, Operation, RawOutput, Risk, Scope, Script, Step, Template};

mod cron;
mod units;

use cron::CronJob;
use units::Unit;

/// The tool.
pub(super) struct ServiceList;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum UnitKind {
    Service,
    Timer,
    Socket,
    Mount,
    Cron,
}

impl UnitKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Timer => "timer",
            Self::Socket => "socket",
            Self::Mount => "mount",
            Self::Cron => "cron",
        }
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    #[serde(default = "kind")]
    kind: UnitKind,
    /// failed, active, inactive, running, enabled, disabled, masked, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    state: Option<String>,
    /// Part of the unit's name, or a pattern with * and ?
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    matching: Option<String>,
    #[serde(default = "limit")]
    #[schemars(range(min = 1, max = 500))]
    limit: u32,
    /// next_cursor of the page before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    cursor: Option<String>,
}

fn kind() -> UnitKind {
    UnitKind::Service
}

fn limit() -> u32 {
    100
}

/// One page, by name. The counts are over all units of the kind, whatever the filter.
#[derive(Serialize, JsonSchema)]
struct Data {
    units: Vec<Unit>,
    cron: Vec<CronJob>,
    /// Null where units could not be listed
    failed_count: Option<usize>,
    /// How many match the filter
    total: usize,
}

const STATES: &[&str] = &[
    "active",
    "inactive",
    "failed",
    "activating",
    "deactivating",
    "reloading",
    "maintenance",
    "running",
    "exited",
    "dead",
    "listening",
    "mounted",
    "waiting",
    "elapsed",
    "auto-restart",
    "loaded",
    "not-found",
    "masked",
    "bad-setting",
    "error",
    "enabled",
    "disabled",
    "static",
    "indirect",
    "generated",
    "alias",
    "transient",
    "enabled-runtime",
    "linked",
];

const SPEC: Spec = Spec {
    name: "service_list",
    title: "List services, timers, sockets, mounts, cron jobs",
    help: "Lists systemd units of one kind, or cron jobs. Start here when a host is broken: state=failed.",
    scopes: &[Scope::SystemRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// `$1`: the kind. systemd's times are asked for in UTC.
const TEMPLATE: Template = Template { id: "service_list.v1", stdin: false, body: include_str!("service_list/list.sh") };

impl Tool for ServiceList {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        within("limit", args.limit, 1..=500)?;
        if let Some(state) = &args.state {
            if args.kind == UnitKind::Cron {
                return Err(ToolError::invalid("state", "cron jobs have no state; leave it out"));
            }
            if !STATES.contains(&state.as_str()) {
                return Err(ToolError::invalid("state", format_args!("must be one of {}", STATES.join(", "))));
            }
        }
        for (field, text) in [("match", &args.matching), ("cursor", &args.cursor)] {
            text.as_deref().map_or(Ok(()), |text| plain(field, text, 512))?;
        }
        let target = Host::find(context, &args.target)?;
        let script = Script::new(&TEMPLATE, [args.kind.as_str()]);
        SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let output = script(raw, 0)?;
        let sections = output.sections();
        let mut partial = missing(&sections);
        let wanted = |name: &str| args.matching.as_deref().is_none_or(|pattern| matches(pattern, name));
        let mut failed_count = None;
        let (mut units, mut cron) = (Vec::new(), Vec::new());
        if args.kind == UnitKind::Cron {
            cron = cron::read(&sections);
            cron.retain(|job| wanted(&job.command) || wanted(&job.source));
        } else if let Some(section) = section(&sections, "units") {
            if section.content.is_ok() {
                let all = units::read(&sections, args.kind.as_str());
                failed_count = Some(all.iter().filter(|unit| unit.active == "failed").count());
                units = all;
                units.retain(|unit| wanted(&unit.unit) && args.state.as_deref().is_none_or(|state| unit.is(state)));
            }
        } else {
            partial.push(Missing { section: "units".into(), reason: "unreadable_output".into() });
        }
        let mut content = Content { partial, ..Content::default() };
        if output.stdout.dropped() > 0 {
            content.truncated = true;
            content.warnings.push("the host's list was too long to be read in full; the counts are too low".into());
        }
        let total = units.len() + cron.len();
        let after = args.cursor.as_deref();
        content.next_cursor = page(&mut units, after, args.limit, |unit| unit.unit.clone()).or(page(
            &mut cron,
            after,
            args.limit,
            CronJob::key,
        ));
        content.truncated |= content.next_cursor.is_some();
        content.data = data(&Data { units, cron, failed_count, total })?;
        Ok(content)
    }
}

/// Cuts `items`, brought into the order of their keys, to those after `after`, at most `limit`; the key of the last
/// one where more follow.
pub(super) fn page<T>(
    items: &mut Vec<T>,
    after: Option<&str>,
    limit: u32,
    key: impl Fn(&T) -> String,
) -> Option<String> {
    items.sort_by_cached_key(&key);
    items.retain(|item| after.is_none_or(|after| key(item).as_str() > after));
    let limit = limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    items.last().filter(|_| more).map(key)
}

/// Whether `name` matches: the whole name where the pattern has `*` or `?`, otherwise some part of it.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    if !pattern.contains(['*', '?']) {
        return name.contains(pattern);
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Greedy with one step back: the last star takes one more character on each failure.
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(c) if *c == '?' || name.get(seen) == Some(c) => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((behind, taken)) = star else { return false };
                star = Some((behind, taken + 1));
                at = behind + 1;
                seen = taken + 1;
            }
        }
    }
    pattern.iter().skip(at).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::tools::rig;

    const UNITS: &[u8] = include_bytes!("../../tests/cases/systemd/show-services.txt");
    const FILES: &[u8] = include_bytes!("../../tests/cases/systemd/unit-files-service.txt");
    const SOCKETS: &[u8] = include_bytes!("../../tests/cases/systemd/show-sockets.txt");
    const TIMERS: &[u8] = include_bytes!("../../tests/cases/systemd/show-timers.txt");

    fn shown(arguments: Value, sections: &[(&str, &[u8])]) -> Content {
        let operation = rig::plan(&ServiceList, arguments).unwrap();
        let content = ServiceList.render(&rig::pretend(operation, sections, "")).unwrap();
        rig::conforms(&ServiceList, &content.data);
        content
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (arguments, field) in [
            (json!({"kind": "slice"}), "kind"),
            (json!({"state": "broken"}), "state"),
            (json!({"state": "failed", "kind": "cron"}), "state"),
            (json!({"match": ""}), "match"),
            (json!({"limit": 0}), "limit"),
            (json!({"limit": 501}), "limit"),
            (json!({"cursor": "a\nb"}), "cursor"),
            (json!({"units": []}), "units"),
        ] {
            let error = rig::plan(&ServiceList, arguments).unwrap_err();
            assert!(error.code == "invalid_arguments" && error.message.contains(field), "{error}");
        }
        assert_eq!(rig::plan(&ServiceList, json!({"target": "nowhere"})).unwrap_err().code, "unknown_target");
        rig::fits_budget(&ServiceList);
    }

    #[test]
    fn a_machine_without_systemd_says_so() {
        let content = rig::call(&ServiceList, json!({})).unwrap();
        match content.partial.first() {
            Some(missing) => {
                assert_eq!(missing.section, "units");
                assert_eq!(content.data["failed_count"], Value::Null);
            }
            None => assert!(!content.data["units"].as_array().unwrap().is_empty()),
        }
    }

    #[test]
    fn cron_jobs_of_this_machine_are_read() {
        let content = rig::call(&ServiceList, json!({"kind": "cron"})).unwrap();
        assert!(content.data["units"].as_array().unwrap().is_empty());
    }

    #[test]
    fn real_units_are_joined_with_their_files() {
        let all = shown(json!({"limit": 500}), &[("units", UNITS), ("files", FILES)]);
        let units = all.data["units"].as_array().unwrap();
        let find = |name: &str| units.iter().find(|unit| unit["unit"] == name).unwrap();
        assert_eq!(find("ssh.service")["active"], "active");
        assert_eq!(find("lab-broken.service")["result"], "exit-code");
        assert_eq!(find("debug-shell.service")["enabled"], "disabled");
        assert!(all.data["failed_count"].as_u64().unwrap() >= 1);
        let failed = shown(json!({"state": "failed"}), &[("units", UNITS), ("files", FILES)]);
        assert_eq!(failed.data["failed_count"], all.data["failed_count"]);
        assert_eq!(failed.data["units"].as_array().unwrap().len() as u64, failed.data["failed_count"]);
    }

    #[test]
    fn pages_neither_repeat_nor_lose_units() {
        let sections: &[(&str, &[u8])] = &[("units", UNITS), ("files", FILES)];
        let whole = shown(json!({"limit": 500}), sections);
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut arguments = json!({"limit": 7});
            if let Some(cursor) = &cursor {
                arguments["cursor"] = json!(cursor);
            }
            let page = shown(arguments, sections);
            seen.extend(page.data["units"].as_array().unwrap().clone());
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(Value::Array(seen), whole.data["units"]);
    }

    #[test]
    fn timers_tell_when() {
        let content = shown(json!({"kind": "timer"}), &[("units", TIMERS), ("boot", b"1795250000\n")]);
        let timers = content.data["units"].as_array().unwrap();
        assert!(timers.iter().any(|timer| timer["next"].is_string()), "{timers:#?}");
        assert!(timers.iter().all(|timer| timer["activates"].is_string()));
    }

    #[test]
    fn sockets_tell_where_they_listen_and_what_they_start() {
        let content = shown(json!({"kind": "socket", "match": "dbus.*"}), &[("units", SOCKETS)]);
        let socket = &content.data["units"][0];
        assert_eq!(socket["listen"], json!(["/run/dbus/system_bus_socket (Stream)"]));
        assert_eq!(socket["activates"], "dbus.service");
    }

    #[test]
    fn a_list_that_was_cut_says_so() {
        let operation = rig::plan(&ServiceList, json!({"limit": 500})).unwrap();
        let cut = UNITS.get(..UNITS.len() / 2).unwrap();
        let raw = rig::dropping(rig::pretend(operation, &[("units", cut)], ""), 5000);
        let content = ServiceList.render(&raw).unwrap();
        rig::conforms(&ServiceList, &content.data);
        assert!(content.truncated && content.warnings[0].contains("too long"));
    }

    #[test]
    fn lines_that_only_look_like_sections_are_content() {
        let faked =
            b"Id=a.service\nActiveState=active\nDescription=x\n\nffffffffffffffffffffffffffffffff !units no_systemd\n";
        let content = shown(json!({}), &[("units", faked)]);
        assert!(content.partial.is_empty());
        assert_eq!(content.data["units"][0]["unit"], "a.service");
    }

    #[test]
    fn patterns() {
        for (pattern, name, hit) in [
            ("ssh", "openssh.service", true),
            ("ssh*", "openssh.service", false),
            ("*.service", "a.service", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xaxxb", true),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern, name), hit, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn no_output_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), cron: bool) {
            let kind = if cron { "cron" } else { "timer" };
            let operation = rig::plan(&ServiceList, json!({"kind": kind})).unwrap();
            let sections: &[(&str, &[u8])] =
                &[("units", &bytes), ("files", &bytes), ("boot", &bytes), ("system /etc/crontab", &bytes)];
            let _ = ServiceList.render(&rig::pretend(operation, sections, ""));
        }
    }
}
