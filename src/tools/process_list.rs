//! `process_list`: the top processes of a host, measured now. Never shows lifetime averages; shows command lines as
//! they are, because `guard` redacts them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{Host, arguments, data, plain, schema_of, script, within},
    procfs::{Parts, Stat, state_word, tenth, users},
};
use crate::model::{Content, Effect, Missing, Operation, RawOutput, Risk, Scope, Script, Step, Template};

/// The tool.
pub(super) struct ProcessList;

#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Sort {
    Cpu,
    Mem,
    Io,
    Age,
}

impl Sort {
    fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Mem => "mem",
            Self::Io => "io",
            Self::Age => "age",
        }
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// From fleet_list
    target: String,
    /// Largest first; age: oldest first
    #[serde(default = "by_cpu")]
    sort: Sort,
    /// Fixed text in the name or command line
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    matching: Option<String>,
    /// User name or uid
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// 1 to 200
    #[serde(default = "limit")]
    limit: u32,
}

fn by_cpu() -> Sort {
    Sort::Cpu
}

fn limit() -> u32 {
    20
}

/// Processes in the order asked for.
#[derive(Serialize, JsonSchema)]
struct Data {
    processes: Vec<Process>,
    /// How many processes matched, shown or not.
    matched: u64,
    /// Of the whole host, whatever was asked for.
    totals: Totals,
    /// The time between the two samples.
    sample_ms: u64,
}

#[derive(Serialize, JsonSchema)]
struct Process {
    pid: u32,
    ppid: u32,
    /// Clock ticks from boot to its start: with the pid what process_signal takes.
    start_ticks: u64,
    /// The uid where it has no name; absent where the process ended meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    state: &'static str,
    name: String,
    /// Of one processor, between the two samples: 200 is two processors busy.
    cpu_now_pct: f64,
    /// Resident memory in bytes.
    rss: u64,
    threads: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_s: Option<u64>,
    /// Arguments, at most 512 bytes; control characters are shown as spaces; a name in brackets has no arguments.
    cmd: String,
    /// Whether it is a thread of the kernel.
    kernel: bool,
    /// Absent where it may not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    io: Option<Io>,
}

/// To and from storage, between the two samples.
#[derive(Serialize, JsonSchema)]
struct Io {
    read_bytes_per_s: u64,
    write_bytes_per_s: u64,
}

#[derive(Serialize, JsonSchema)]
struct Totals {
    processes: u64,
    threads: u64,
    /// Processes by state.
    states: BTreeMap<&'static str, u64>,
}

const SPEC: Spec = Spec {
    name: "process_list",
    title: "List processes",
    help: "Lists the top processes of a host with CPU and I/O measured now, over half a second. Gives the pid and start_ticks that process_signal takes.",
    scopes: &[Scope::SystemRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// Two passes over `/proc`, half a second apart. Section `sample`: a line of totals (milliseconds between the passes,
/// ticks a second, page size, seconds up, processes that match, threads, then `letter=count` by state), then a line a
/// process: sort key, pid, ticks, bytes read, bytes written (-1: may not be read), its `/proc/PID/stat`. Section
/// `detail`: pid, uid, command line. Section `users`: passwd lines. Arguments: sort, match, user, limit.
///
/// What belongs to the measurement itself, this shell with all below it and `timeout` above it, is left out.
const TEMPLATE: Template = Template { id: "process_list.v1", stdin: false, body: include_str!("process_list.sh") };

impl Tool for ProcessList {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        within("limit", args.limit, 1..=200)?;
        if let Some(text) = &args.matching {
            plain("match", text, 200)?;
        }
        if let Some(user) = &args.user {
            plain("user", user, 64)?;
        }
        let target = Host::find(context, &args.target)?;
        let script = Script::new(
            &TEMPLATE,
            [
                args.sort.as_str(),
                args.matching.as_deref().unwrap_or_default(),
                args.user.as_deref().unwrap_or_default(),
                &args.limit.to_string(),
            ],
        );
        SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let output = script(raw, 0)?;
        let parts = Parts::of(output)?;
        if parts.reason("user").is_some() {
            return Err(ToolError::new("not_found", "the target has no such user").hint("leave `user` out to see all"));
        }
        let mut partial = parts.missing();
        let Some(sample) = parts.text("sample") else {
            let reason = parts.reason("sample").unwrap_or("no output");
            return Err(ToolError::unreadable(&format!("processes: {reason}")));
        };
        let mut lines = sample.lines();
        let totals =
            lines.next().and_then(Measured::parse).ok_or_else(|| ToolError::unreadable("the line of totals"))?;
        let details = parts.text("detail").unwrap_or_default();
        let details = details.lines().filter_map(Detail::parse).map(|detail| (detail.pid, detail)).collect();
        let users = users(&parts.text("users").unwrap_or_default());
        let rows = lines.filter(|line| !line.trim().is_empty());
        let (good, bad): (Vec<_>, Vec<_>) =
            rows.map(|line| process(line, &totals, &details, &users)).partition(Option::is_some);
        let processes: Vec<Process> = good.into_iter().flatten().collect();
        if !bad.is_empty() {
            partial.push(Missing { section: "processes".into(), reason: "unreadable_line".into() });
        }
        let known = partial.iter().any(|missing| missing.section == "io");
        if !known && processes.iter().any(|process| process.io.is_none()) {
            partial.push(Missing { section: "io".into(), reason: "permission_denied".into() });
        }
        let truncated = output.stdout.dropped() > 0 || totals.matched > processes.len() as u64;
        let data = data(&Data {
            processes,
            matched: totals.matched,
            totals: Totals { processes: totals.states.values().sum(), threads: totals.threads, states: totals.states },
            sample_ms: totals.sample_ms,
        })?;
        Ok(Content { partial, truncated, ..Content::new(data) })
    }
}

/// The line of totals.
struct Measured {
    sample_ms: u64,
    hz: f64,
    page: u64,
    up_s: f64,
    matched: u64,
    threads: u64,
    states: BTreeMap<&'static str, u64>,
}

impl Measured {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let sample_ms = words.next()?.parse().ok().filter(|ms| *ms > 0)?;
        let hz: f64 = words.next()?.parse().ok().filter(|hz| *hz > 0.0)?;
        let page = words.next()?.parse().ok()?;
        let up_s = words.next()?.parse().ok()?;
        let matched = words.next()?.parse().ok()?;
        let threads = words.next()?.parse().ok()?;
        let mut states = BTreeMap::new();
        for word in words {
            let (letter, count) = word.split_once('=')?;
            let count: u32 = count.parse().ok()?;
            *states.entry(state_word(letter.chars().next()?)).or_default() += u64::from(count);
        }
        Some(Self { sample_ms, hz, page, up_s, matched, threads, states })
    }
}

struct Detail<'a> {
    pid: u32,
    uid: u32,
    cmd: &'a str,
}

impl<'a> Detail<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.splitn(3, ' ');
        let (pid, uid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { pid, uid, cmd: words.next().unwrap_or_default() })
    }
}

fn process(
    line: &str,
    totals: &Measured,
    details: &BTreeMap<u32, Detail<'_>>,
    users: &BTreeMap<u32, String>,
) -> Option<Process> {
    let mut words = line.splitn(6, ' ').skip(2);
    let ticks: f64 = words.next()?.parse().ok()?;
    let read: i64 = words.next()?.parse().ok()?;
    let written: i64 = words.next()?.parse().ok()?;
    let stat = Stat::parse(words.next()?)?;
    let detail = details.get(&stat.pid);
    let seconds = totals.sample_ms as f64 / 1000.0;
    let rate = |bytes: i64| u64::try_from(bytes).ok().map(|bytes| (bytes as f64 / seconds) as u64);
    // Inside a container the time up may be the container's, and a process older than it has no known age.
    let age = totals.up_s - stat.start_ticks as f64 / totals.hz;
    Some(Process {
        user: detail.map(|detail| users.get(&detail.uid).cloned().unwrap_or_else(|| detail.uid.to_string())),
        cmd: stat.command(detail.map(|detail| detail.cmd)),
        cpu_now_pct: tenth(100.0 * ticks / totals.hz / seconds),
        rss: stat.rss_pages.saturating_mul(totals.page),
        age_s: (age >= 0.0).then_some(age as u64),
        io: rate(read)
            .zip(rate(written))
            .map(|(read_bytes_per_s, write_bytes_per_s)| Io { read_bytes_per_s, write_bytes_per_s }),
        pid: stat.pid,
        ppid: stat.ppid,
        start_ticks: stat.start_ticks,
        state: state_word(stat.state),
        name: stat.comm,
        threads: stat.threads,
        kernel: stat.kernel,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{
        super::rig::{AS_NOBODY, Child, MARKER, Rig, call, conforms, fits_budget, plan, plan_exactly, recorded},
        *,
    };

    const STAT: &str = "S 1 7 7 0 -1 4194560 99 0 0 0 12 5 0 0 20 0 3 0 1000 3133440 10 184467440737 1 1";

    fn render(stdout: impl Into<Vec<u8>>) -> Result<Content, ToolError> {
        let operation = plan(&ProcessList, json!({"target": "here"})).unwrap();
        ProcessList.render(&recorded(operation, stdout, ""))
    }

    #[test]
    fn bad_arguments_are_named() {
        for (bad, field) in [
            (json!({"target": "here", "limit": 0}), "limit"),
            (json!({"target": "here", "limit": 201}), "limit"),
            (json!({"target": "here", "limit": -1}), "limit"),
            (json!({"target": "here", "match": ""}), "match"),
            (json!({"target": "here", "match": "a\u{0}b"}), "match"),
            (json!({"target": "here", "user": "a\nb"}), "user"),
            (json!({"target": "here", "sort": "name"}), "sort"),
            (json!({"target": "here", "extra": 1}), "extra"),
            (json!({}), "target"),
        ] {
            let error = plan_exactly(&ProcessList, &bad).unwrap_err();
            assert_eq!(error.code, "invalid_arguments");
            assert!(error.message.contains(field), "{bad}: {error}");
        }
        assert_eq!(plan(&ProcessList, json!({"target": "elsewhere"})).unwrap_err().code, "unknown_target");
    }

    #[test]
    fn the_definition_is_short() {
        fits_budget(&ProcessList);
    }

    #[test]
    fn a_busy_process_is_on_top_now() {
        let busy = Child::sh("while :; do :; done");
        let content = call(&ProcessList, json!({"target": "here", "limit": 3})).unwrap();
        let processes = content.data["processes"].as_array().unwrap();
        let found = processes.iter().find(|process| process["pid"] == busy.id()).expect("the busy one is in the top 3");
        assert!(found["cpu_now_pct"].as_f64().unwrap() > 20.0, "{found}");
        assert_eq!(found["start_ticks"], busy.stat().start_ticks);
        assert!(found["rss"].as_u64().unwrap() > 4096 && found["threads"] == 1, "{found}");
        assert!(found["cmd"].as_str().unwrap().starts_with("sh -c while"), "{found}");
        assert!(content.data["sample_ms"].as_u64().unwrap() >= 490);
        assert!(content.truncated, "there are more than three processes");
    }

    #[test]
    fn a_match_finds_name_and_arguments_and_never_the_measurement() {
        let quiet = Child::sh("sleep 60 # $(x) 'needle-7f3a' \"quoted\"\nwait");
        quiet.settle("S");
        for text in ["needle-7f3a", "$(x) 'needle-7f3a' \"quoted\""] {
            let content = call(&ProcessList, json!({"target": "here", "match": text, "sort": "age"})).unwrap();
            let pids: Vec<u64> =
                content.data["processes"].as_array().unwrap().iter().map(|p| p["pid"].as_u64().unwrap()).collect();
            assert_eq!(pids, [u64::from(quiet.id())], "{:#}", content.data);
            assert_eq!(content.data["matched"], 1);
            assert!(!content.truncated);
        }
        let content = call(&ProcessList, json!({"target": "here", "match": "no such thing at all"})).unwrap();
        assert_eq!(content.data["processes"], json!([]));
        assert!(content.data["totals"]["processes"].as_u64().unwrap() > 1);
    }

    #[test]
    fn sorting_and_users() {
        let content = call(&ProcessList, json!({"target": "here", "sort": "mem", "limit": 5})).unwrap();
        let sizes: Vec<u64> =
            content.data["processes"].as_array().unwrap().iter().map(|p| p["rss"].as_u64().unwrap()).collect();
        assert!(sizes.is_sorted_by(|a, b| a >= b) && !sizes.is_empty(), "{sizes:?}");
        let content = call(&ProcessList, json!({"target": "here", "sort": "age", "limit": 5})).unwrap();
        let starts: Vec<u64> =
            content.data["processes"].as_array().unwrap().iter().map(|p| p["start_ticks"].as_u64().unwrap()).collect();
        assert!(starts.is_sorted() && starts.len() > 1, "{starts:?}");
        let quiet = Child::sh("sleep 60 # needle-user-91\nwait");
        quiet.settle("S");
        let own = rustix::process::geteuid().as_raw();
        for (uid, found) in [(own, 1), (own + 1, 0)] {
            let wanted = json!({"target": "here", "user": uid.to_string(), "match": "needle-user-91"});
            assert_eq!(call(&ProcessList, &wanted).unwrap().data["matched"], found);
        }
        call(&ProcessList, json!({"target": "here", "sort": "io", "user": "root"})).unwrap();
        let unknown = call(&ProcessList, json!({"target": "here", "user": "--help"})).unwrap_err();
        assert_eq!(unknown.code, "not_found");
    }

    #[test]
    fn what_may_not_be_read_is_said() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let rig = Rig::new().under(AS_NOBODY);
        let content = rig.call(&ProcessList, json!({"target": "here", "limit": 200})).unwrap();
        let io = Missing { section: "io".into(), reason: "permission_denied".into() };
        assert!(content.partial.contains(&io), "{:?}", content.partial);
        assert!(content.data["processes"].as_array().unwrap().iter().any(|process| process["user"] == "root"));
    }

    #[test]
    fn names_and_numbers_survive_hostile_lines() {
        let stdout = format!(
            "before\n{MARKER} sample\n500 100 4096 100.00 3 9 S=2 Z=1 ?=1\n\
             25 42 25 1000 0 42 (a) R 1 (b) {STAT}\nrubbish\n1 43 x -1 -1 43 (c) {STAT}\n\
             0 44 0 -1 -1 44 (d) {STAT}\n\n{MARKER} detail\n42 33 x\u{1}y {MARKER} sample\n44 7\n\
             {MARKER}x detail\nnonsense\n\n{MARKER} users\nweb:x:33:33::/:/x\n"
        );
        let content = render(stdout).unwrap();
        conforms(&ProcessList, &content.data);
        let processes = content.data["processes"].as_array().unwrap();
        assert_eq!(processes.len(), 2, "{processes:#?}");
        assert_eq!(processes[0]["name"], "a) R 1 (b");
        assert_eq!(processes[0]["user"], "web");
        assert_eq!(processes[0]["cpu_now_pct"], 50.0);
        assert_eq!(processes[0]["rss"], 40960);
        assert_eq!(processes[0]["age_s"], 90);
        assert_eq!(processes[0]["io"], json!({"read_bytes_per_s": 2000, "write_bytes_per_s": 0}));
        assert_eq!(processes[1]["user"], "7");
        assert_eq!(processes[1]["cmd"], "[d]");
        assert!(processes[1].get("io").is_none());
        assert_eq!(content.data["totals"]["states"], json!({"sleeping": 2, "zombie": 1, "other": 1}));
        let reasons: Vec<&str> = content.partial.iter().map(|missing| missing.reason.as_str()).collect();
        assert_eq!(reasons, ["unreadable_line", "permission_denied"]);
    }

    #[test]
    fn an_answer_that_says_nothing_is_an_error() {
        let (empty, missing) = (format!("\n{MARKER} sample\n"), format!("\n{MARKER} !sample no_proc\n"));
        for stdout in ["", "\n@other sample\n1 2 3\n", &empty, &missing] {
            assert_eq!(render(stdout).unwrap_err().code, "unreadable_output", "{stdout:?}");
        }
        let zero = format!("\n{MARKER} sample\n0 100 4096 1 1 1\n");
        assert_eq!(render(zero).unwrap_err().code, "unreadable_output", "no time passed");
    }

    proptest! {
        #[test]
        fn nothing_panics(
            head in proptest::collection::vec(any::<u8>(), 0..80),
            row in "[0-9 ().:=S-]{0,80}",
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut stdout = format!("\n{MARKER} sample\n500 100 4096 9 1 1 S=1\n{row}\n").into_bytes();
            stdout.extend_from_slice(&head);
            for name in ["detail", "users"] {
                stdout.extend_from_slice(format!("\n{MARKER} {name}\n").as_bytes());
                stdout.extend_from_slice(&rest);
            }
            let content = render(stdout).unwrap();
            conforms(&ProcessList, &content.data);
            let mut bare = format!("\n{MARKER} sample\n").into_bytes();
            bare.extend_from_slice(&head);
            let _ = render(bare);
        }
    }
}
