//! `process_signal`: one signal to one process, named by pid and start time. Never signals what it was not shown: a
//! reused pid, a thread of the kernel, or the chain of processes that the gateway itself hangs on are refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Kind, PlanContext, Settled, Spec, Tool, ToolError,
    kit::{Host, arguments, data, schema_of, script},
    procfs::{Parts, Stat, state_word, users},
    rights::reason,
};
use crate::model::{Content, Effect, Operation, RawOutput, Risk, Scope, Script, Step, Template};

/// The tool.
pub(super) struct ProcessSignal;

#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Signal {
    Term,
    Kill,
    Hup,
    Int,
    Quit,
    Usr1,
    Usr2,
    Stop,
    Cont,
}

impl Signal {
    fn as_str(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Kill => "KILL",
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// From fleet_list
    target: String,
    /// From process_list
    pid: u32,
    /// From process_list
    start_ticks: u64,
    signal: Signal,
    /// Only preview
    #[serde(default)]
    dry_run: bool,
    /// Why, 3 to 500 characters
    reason: String,
}

/// What was signalled, and what became of it.
#[derive(Serialize, JsonSchema)]
struct Data {
    /// Whether the signal was sent.
    signalled: bool,
    /// As it was before.
    process: Process,
    /// How long after the signal it was last seen alive, where it still was when the look ended (2 s at most).
    #[serde(skip_serializing_if = "Option::is_none")]
    alive_after_ms: Option<u64>,
    /// `gone`, or the state it was last seen in.
    #[serde(skip_serializing_if = "Option::is_none")]
    state_after: Option<&'static str>,
}

#[derive(Serialize, JsonSchema)]
struct Process {
    pid: u32,
    ppid: u32,
    start_ticks: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    name: String,
    state: &'static str,
    /// Arguments, at most 512 bytes.
    cmd: String,
}

const SPEC: Spec = Spec {
    name: "process_signal",
    title: "Signal a process",
    help: "Signals one process and watches up to 2 s what becomes of it. Try dry_run first.",
    scopes: &[Scope::SystemControl],
    risk: Risk::High,
    effect: Effect::Destructive,
    kind: Kind::Host,
    idempotent: false,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// Looks, checks, looks again and signals; nothing but the shell's own built-ins run between the last look and the
/// signal. Sections: `stat`, `owner`, `cmdline`, `users` say what the process is; then either `refused` with a reason
/// or `done` with how it was sent (`dry_run` where it was not), the state it was last seen in and the milliseconds.
/// Arguments: pid, start ticks, signal, 1 for a dry run, 1 where sudo may be used.
const TEMPLATE: Template = Template { id: "process_signal.v1", stdin: false, body: include_str!("process_signal.sh") };

impl Tool for ProcessSignal {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        // The kernel takes pids as signed numbers, and 0 and 1 mean a whole group and the first process.
        if args.pid <= 1 || i32::try_from(args.pid).is_err() {
            return Err(ToolError::invalid("pid", format_args!("must be from 2 to {}, not {}", i32::MAX, args.pid)));
        }
        reason(&args.reason)?;
        let target = Host::find(context, &args.target)?;
        let flag = |on: bool| if on { "1" } else { "0" };
        let script = Script::new(
            &TEMPLATE,
            [
                args.pid.to_string().as_str(),
                &args.start_ticks.to_string(),
                args.signal.as_str(),
                flag(args.dry_run),
                flag(target.sudo.is_used()),
            ],
        );
        let operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        Ok(Operation {
            dry_run: args.dry_run,
            effect: if args.dry_run { Effect::Read } else { SPEC.effect },
            reason: Some(args.reason),
            ..operation
        })
    }

    fn rechecks(&self) -> &'static [&'static str] {
        &["start_ticks", "name", "cmd", "user"]
    }

    fn settle(&self, arguments: &Map<String, Value>, preview: &Content) -> Result<Settled, ToolError> {
        let process = preview.data.get("process").ok_or_else(|| ToolError::unreadable("the process"))?;
        // Pid and start time are arguments; what the process runs can change under them.
        Ok(Settled::unchanged(arguments).stay(process, &["name", "cmd", "user"]))
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let parts = Parts::of(script(raw, 0)?)?;
        match parts.reason("process") {
            Some("not_found") => return Err(not_found()),
            Some(reason) => return Err(ToolError::unreadable(reason)),
            None => {}
        }
        let stat = parts.text("stat").as_deref().and_then(|text| Stat::parse(text.trim_end()));
        let stat = stat.ok_or_else(|| ToolError::unreadable("the process"))?;
        if let Some(why) = parts.text("refused") {
            return Err(refused(why.trim(), &stat, raw));
        }
        let done = parts.text("done").ok_or_else(|| ToolError::unreadable("what became of the signal"))?;
        let outcome = Outcome::parse(done.trim()).ok_or_else(|| ToolError::unreadable("what became of the signal"))?;
        let owner = parts.text("owner").and_then(|text| text.trim().parse::<u32>().ok());
        let users = users(&parts.text("users").unwrap_or_default());
        let cmd = stat.command(parts.text("cmdline").as_deref());
        let before = state_word(stat.state);
        let process = Process {
            user: owner.map(|uid| users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())),
            pid: stat.pid,
            ppid: stat.ppid,
            start_ticks: stat.start_ticks,
            name: stat.comm,
            state: before,
            cmd,
        };
        let mut warnings = Vec::new();
        if before == "zombie" {
            let parent = process.ppid;
            warnings.push(format!("the process had already ended; it goes when its parent {parent} collects it"));
        }
        let (signalled, state_after, alive_after_ms) = match outcome {
            Outcome::Preview => (false, None, None),
            Outcome::Sent { after: None, .. } => (true, Some("gone"), None),
            Outcome::Sent { after: Some(letter), ms } => {
                let word = state_word(letter);
                (true, Some(word), (!matches!(word, "zombie" | "dead")).then_some(ms))
            }
        };
        Ok(Content {
            changed: Some(signalled && before != "zombie"),
            before: Some(json!({"state": before})),
            after: state_after.map(|state| json!({"state": state})),
            warnings,
            ..Content::new(data(&Data { signalled, process, alive_after_ms, state_after })?)
        })
    }
}

enum Outcome {
    Preview,
    /// The letter of the state it was last seen in; none where it was gone.
    Sent {
        after: Option<char>,
        ms: u64,
    },
}

impl Outcome {
    fn parse(line: &str) -> Option<Self> {
        if line == "dry_run" {
            return Some(Self::Preview);
        }
        let mut words = line.split_ascii_whitespace();
        if !matches!(words.next()?, "direct" | "sudo") {
            return None;
        }
        let after = match words.next()? {
            "gone" => None,
            letter => Some(letter.chars().next()?),
        };
        Some(Self::Sent { after, ms: words.next()?.parse().ok()? })
    }
}

fn not_found() -> ToolError {
    ToolError::new("not_found", "there is no such process").hint("process_list shows those there are")
}

fn refused(why: &str, stat: &Stat, raw: &RawOutput) -> ToolError {
    let signal = raw.operation.arguments.get("signal").and_then(Value::as_str).unwrap_or_default();
    let wire = script(raw, 0).ok().and_then(|script| script.wire.as_ref());
    let login = wire.map(|wire| wire.login.as_str());
    let user = login.unwrap_or("USER");
    match why {
        "start_ticks" => ToolError::new(
            "precondition_failed",
            format!("pid {} is another process now: it started at {}", stat.pid, stat.start_ticks),
        )
        .hint("list again and take pid and start_ticks from one line"),
        "not_permitted" => ToolError::new(
            "permission_denied",
            "the login user may not signal this process; sudo is off for this target",
        ),
        "no_sudo" => {
            ToolError::new("permission_denied", "the login user may not signal this process, and there is no sudo")
        }
        "sudo" => ToolError::new("permission_denied", "neither the login user nor its sudo may signal this process")
            .hint(format!(
                "add to the target's sudoers{}: {user} ALL=(root) NOPASSWD: /bin/kill ^-s {signal} -- [0-9]+$",
                if login.is_none() { ", with the login user for USER" } else { "" }
            )),
        "kernel_thread" => ToolError::new("refused", "this is a thread of the kernel and takes no signals"),
        "thread" => ToolError::invalid("pid", "names a thread; a signal would reach its whole process"),
        "own_chain" | "own_chain_unknown" => {
            ToolError::new("refused", "the gateway's own access to this target hangs on this process")
        }
        _ => ToolError::unreadable("why it was refused"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::rig::{AS_NOBODY, Child, MARKER, Rig, call, conforms, fits_budget, plan, plan_exactly, recorded},
        *,
    };

    const WAIT: &str = "while :; do sleep 0.2; done";

    fn args(child: &Child, signal: &str) -> Value {
        json!({
            "target": "here", "pid": child.id(), "start_ticks": child.stat().start_ticks, "signal": signal,
            "reason": "a test of signals",
        })
    }

    #[test]
    fn bad_arguments_are_named() {
        let good = json!({"target": "here", "pid": 99, "start_ticks": 1, "signal": "TERM", "reason": "why not"});
        assert!(plan(&ProcessSignal, &good).is_ok());
        for (field, value) in [
            ("pid", json!(0)),
            ("pid", json!(1)),
            ("pid", json!(-1)),
            ("pid", json!(2_147_483_648_u32)),
            ("pid", json!("99")),
            ("start_ticks", json!(-1)),
            ("signal", json!("SEGV")),
            ("signal", json!("term")),
            ("signal", json!(9)),
            ("reason", json!("")),
            ("reason", json!("  a  ")),
            ("reason", json!("a\u{1b}[2Jb")),
            ("reason", json!("x".repeat(501))),
            ("group", json!(true)),
        ] {
            let mut bad = good.clone();
            bad[field] = value.clone();
            let error = plan(&ProcessSignal, &bad).unwrap_err();
            assert_eq!(error.code, "invalid_arguments", "{field} {value}");
            assert!(error.message.contains(field), "{field} {value}: {error}");
        }
        for field in ["target", "pid", "start_ticks", "signal", "reason"] {
            let mut bad = good.clone();
            bad.as_object_mut().unwrap().remove(field);
            assert!(plan_exactly(&ProcessSignal, &bad).unwrap_err().message.contains(field));
        }
    }

    #[test]
    fn a_dry_run_is_a_read_and_sends_nothing() {
        let child = Child::sh(WAIT);
        let mut wanted = args(&child, "KILL");
        wanted["dry_run"] = json!(true);
        let operation = plan(&ProcessSignal, &wanted).unwrap();
        assert!(operation.dry_run && operation.effect == Effect::Read && operation.risk == Risk::High);
        assert_eq!(operation.reason.as_deref(), Some("a test of signals"));
        let content = call(&ProcessSignal, &wanted).unwrap();
        assert_eq!(content.changed, Some(false));
        assert_eq!(content.data["signalled"], false);
        assert_eq!(content.data["process"]["pid"], child.id());
        assert!(content.data["process"]["cmd"].as_str().unwrap().starts_with("sh -c while"), "{:#}", content.data);
        assert!(!"ZX".contains(child.stat().state));
        assert_eq!(plan(&ProcessSignal, args(&child, "KILL")).unwrap().effect, Effect::Destructive);
    }

    #[test]
    fn another_start_time_is_refused_and_the_process_lives() {
        let child = Child::sh(WAIT);
        let mut wanted = args(&child, "KILL");
        wanted["start_ticks"] = json!(child.stat().start_ticks + 1);
        assert_eq!(call(&ProcessSignal, &wanted).unwrap_err().code, "precondition_failed");
        assert!(!"ZX".contains(child.stat().state));
    }

    #[test]
    fn own_chain_kernel_threads_and_threads_are_refused() {
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        let own = Stat::parse(&own).unwrap();
        let mut wanted = json!({
            "target": "here", "pid": own.pid, "start_ticks": own.start_ticks, "signal": "KILL", "reason": "must not",
        });
        assert_eq!(call(&ProcessSignal, &wanted).unwrap_err().code, "refused");
        let link = std::fs::read_link("/proc/thread-self").unwrap();
        let thread: u32 = link.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let line = std::fs::read_to_string(format!("/proc/{thread}/stat")).unwrap();
        wanted["pid"] = json!(thread);
        wanted["start_ticks"] = json!(Stat::parse(&line).unwrap().start_ticks);
        let error = call(&ProcessSignal, &wanted).unwrap_err();
        assert!(error.message.contains("thread"), "{error}");
        let kernel = std::fs::read_to_string("/proc/2/stat").ok().and_then(|line| Stat::parse(line.trim()));
        if let Some(kernel) = kernel.filter(|stat| stat.kernel) {
            wanted["pid"] = json!(kernel.pid);
            wanted["start_ticks"] = json!(kernel.start_ticks);
            assert_eq!(call(&ProcessSignal, &wanted).unwrap_err().code, "refused");
        }
    }

    #[test]
    fn term_and_kill_end_it() {
        for (body, signal) in [(WAIT, "TERM"), ("trap '' TERM HUP INT; while :; do sleep 0.2; done", "KILL")] {
            let child = Child::sh(body);
            let content = call(&ProcessSignal, args(&child, signal)).unwrap();
            // The test has not collected it yet, so it is seen as a zombie.
            assert_eq!(content.data["state_after"], "zombie", "{:#}", content.data);
            assert!(content.data.get("alive_after_ms").is_none());
            assert_eq!((content.changed, content.data["signalled"].as_bool()), (Some(true), Some(true)));
        }
    }

    #[test]
    fn one_that_ignores_it_is_seen_alive() {
        let child = Child::sh("trap '' TERM; kill -STOP $$; while :; do sleep 0.2; done");
        child.settle("T");
        call(&ProcessSignal, args(&child, "CONT")).unwrap();
        let content = call(&ProcessSignal, args(&child, "TERM")).unwrap();
        assert!(content.data["alive_after_ms"].as_u64().unwrap() >= 1900, "{:#}", content.data);
        assert!(!"ZX".contains(child.stat().state));
    }

    #[test]
    fn stop_and_continue() {
        let child = Child::sh(WAIT);
        let content = call(&ProcessSignal, args(&child, "STOP")).unwrap();
        assert_eq!(content.data["state_after"], "stopped");
        assert_eq!(child.stat().state, 'T');
        let content = call(&ProcessSignal, args(&child, "CONT")).unwrap();
        assert_eq!(content.before, Some(json!({"state": "stopped"})));
        assert_ne!(content.data["state_after"], "stopped");
        assert_ne!(child.stat().state, 'T');
    }

    #[test]
    fn a_zombie_is_said_to_be_one_and_a_gone_process_is_not_found() {
        let child = Child::sh("exit 0");
        child.settle("Z");
        let wanted = args(&child, "KILL");
        let content = call(&ProcessSignal, &wanted).unwrap();
        assert_eq!(content.changed, Some(false));
        assert!(content.warnings[0].contains(&std::process::id().to_string()), "{:?}", content.warnings);
        drop(child);
        assert_eq!(call(&ProcessSignal, &wanted).unwrap_err().code, "not_found");
    }

    #[test]
    fn without_the_right_it_is_refused_and_says_what_would_help() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let child = Child::sh(WAIT);
        let wanted = args(&child, "TERM");
        let error = Rig::new().under(AS_NOBODY).call(&ProcessSignal, &wanted).unwrap_err();
        assert_eq!(error.code, "permission_denied");
        assert!(error.message.contains("sudo is off"), "{error}");
        let error = Rig::with_sudo().under(AS_NOBODY).call(&ProcessSignal, &wanted).unwrap_err();
        assert_eq!(error.code, "permission_denied");
        assert!(!"ZX".contains(child.stat().state));
    }

    #[test]
    fn the_sudoers_line_names_the_signal() {
        let child = Child::sh(WAIT);
        let operation = plan(&ProcessSignal, args(&child, "USR1")).unwrap();
        let pid = child.id();
        let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let stdout = format!("\n{MARKER} stat\n{line}\n{MARKER} refused\nsudo\n");
        let error = ProcessSignal.render(&recorded(operation, stdout, "")).unwrap_err();
        assert!(error.hint.unwrap().ends_with("/bin/kill ^-s USR1 -- [0-9]+$"));
    }

    #[test]
    fn the_definition_is_short() {
        fits_budget(&ProcessSignal);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_nothing_is_taken_for_success(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            word in "[a-z0-9 ]{0,20}",
        ) {
            let wanted = json!({"target": "here", "pid": 99, "start_ticks": 1, "signal": "TERM", "reason": "why not"});
            let operation = plan(&ProcessSignal, &wanted).unwrap();
            let mut stdout = format!(
                "\n{MARKER} stat\n9 (x) S 1 7 7 0 -1 0 9 0 0 0 1 5 0 0 20 0 3 0 1 3 10 18\n{MARKER} done\n{word}\n\
                 {MARKER} owner\n"
            )
            .into_bytes();
            stdout.extend_from_slice(&bytes);
            let known = word == "dry_run" || word.trim_start().starts_with("direct") || word.contains("sudo");
            match ProcessSignal.render(&recorded(operation.clone(), stdout, "")) {
                Ok(content) => {
                    prop_assert!(known);
                    conforms(&ProcessSignal, &content.data);
                }
                Err(error) => prop_assert_eq!(error.code, "unreadable_output"),
            }
            prop_assert!(ProcessSignal.render(&recorded(operation, bytes, "")).is_err());
        }
    }
}
