//! Steps: the typed actions an operation consists of. Never a shell string: a script is a compiled-in constant with
//! an id, its arguments are quoted by [`quote`] and nothing else.

use std::time::Duration;

use bytes::Bytes;

use super::{Probe, Question, WaitsFor};

/// One typed action.
#[derive(Clone, Debug)]
pub enum Step {
    /// A compiled-in script on a host.
    Script(Script),
    /// A question the gateway answers about itself.
    Gateway(Question),
    /// A question to the network.
    Probe(Box<Probe>),
}

/// A compiled-in `sh` script. Only `const` items make one; a test checks that each parses and has a unique id.
///
/// The body is the inside of a function that runs with standard input closed (unless `stdin` says that it carries
/// data), so a script that arrives only in part does nothing at all. Its arguments are `$1`…; two functions stand
/// ready: `section NAME` opens a section of the output, `missing NAME REASON` says that one cannot be had and why
/// (reason: one word such as `missing_tool`, `permission_denied`, `no_systemd`). See [`super::ScriptOutput`].
#[derive(Debug)]
pub struct Template {
    /// Shown in audit and replies, e.g. `host_inspect.v1`.
    pub id: &'static str,
    /// POSIX sh.
    pub body: &'static str,
    /// Whether the script reads data from standard input.
    pub stdin: bool,
}

/// Stands before every template: keeps what it creates from other users, takes the section marker off the arguments
/// and defines the two functions.
const PRELUDE: &str = r#"umask 077
m=$1; shift
section() { printf '\n%s %s\n' "$m" "$1"; }
missing() { printf '\n%s !%s %s\n' "$m" "$1" "$2"; }
"#;

/// Stands behind the prelude of a script that starts a job: takes the job's id off the arguments and defines three
/// functions. `job_able` fails, saying why, where the host runs no systemd. `job_start RIGHTS SECONDS COMMAND…` (rights:
/// sudo|direct) hands the command to systemd as a transient unit named after the job, which systemd does once: a second
/// unit of the name is refused. `job_wait SECONDS` waits for the unit's end and prints section `job`. `job_log` prints
/// what the command said, both streams in one.
const JOB_PRELUDE: &str = include_str!("job.sh");

/// A template with its arguments: what one step runs.
#[derive(Clone, Debug)]
pub struct Script {
    /// The constant.
    pub template: &'static Template,
    /// Its arguments, unquoted.
    pub args: Vec<String>,
    /// Data for standard input; only where the template takes it.
    pub stdin: Option<Bytes>,
    /// How long it may run, if shorter than the target's limit.
    pub limit: Option<Duration>,
    /// For one that is about a job: what the job's end is. The executor puts the job's id before its arguments.
    pub job: Option<WaitsFor>,
}

impl Script {
    /// `template` with `args`.
    pub fn new(template: &'static Template, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { template, args: args.into_iter().map(Into::into).collect(), stdin: None, limit: None, job: None }
    }

    /// The same, about a job that ends with `waits_for`.
    pub fn about_job(self, waits_for: WaitsFor) -> Self {
        Self { job: Some(waits_for), ..self }
    }

    fn prelude(&self) -> String {
        format!("{PRELUDE}{}", if self.job.is_some() { JOB_PRELUDE } else { "" })
    }

    /// What goes to `sh`'s standard input: the script, or its data where the template takes data.
    pub fn input(&self) -> Vec<u8> {
        if self.template.stdin {
            self.stdin.as_deref().unwrap_or_default().to_vec()
        } else {
            // In braces, so that a call cut short is a syntax error and not a call with fewer arguments.
            let (prelude, body) = (self.prelude(), self.template.body);
            format!("{prelude}main() {{\n{body}\n}}\n{{ main \"$@\" </dev/null; }}\n").into_bytes()
        }
    }

    /// The command line that the target's shell gets: the same bytes locally and over SSH.
    ///
    /// `marker` opens sections; `limit` is enforced on the target by `timeout`, which also ends the children.
    /// Errors if an argument has a byte that no argument can carry.
    pub fn command_line(&self, marker: &str, limit: Duration) -> Result<String, QuoteError> {
        let seconds = limit.as_secs().max(1);
        let mut line = format!("exec env -i LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin timeout -k 5 {seconds} sh ");
        if self.template.stdin {
            line.push_str("-c ");
            line.push_str(&quote(&format!("{}{}", self.prelude(), self.template.body))?);
            line.push_str(" sh ");
        } else {
            line.push_str("-s -- ");
        }
        line.push_str(&quote(marker)?);
        for arg in &self.args {
            line.push(' ');
            line.push_str(&quote(arg)?);
        }
        Ok(line)
    }
}

/// An argument that cannot be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// C strings end at NUL.
    #[error("an argument contains a NUL byte")]
    Nul,
}

/// Quotes one argument for a POSIX shell: in single quotes, each `'` as `'\''`. The result is one word whose value is
/// byte for byte `arg`.
pub fn quote(arg: &str) -> Result<String, QuoteError> {
    if arg.contains('\0') {
        return Err(QuoteError::Nul);
    }
    let mut quoted = String::with_capacity(arg.len() + 2);
    quoted.push('\'');
    for (i, part) in arg.split('\'').enumerate() {
        if i > 0 {
            quoted.push_str("'\\''");
        }
        quoted.push_str(part);
    }
    quoted.push('\'');
    Ok(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    static PLAIN: Template = Template { id: "test.plain.v1", body: "echo \"$1\"", stdin: false };
    static DATA: Template = Template { id: "test.data.v1", body: "cat > \"$1\"", stdin: true };
    const PREFIX: &str = "exec env -i LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin timeout -k 5";

    #[test]
    fn a_nul_byte_is_refused_wherever_it_stands() {
        assert_eq!(quote("a\0b"), Err(QuoteError::Nul));
        for script in [Script::new(&PLAIN, ["a", "\0"]), Script::new(&DATA, ["\0"])] {
            assert_eq!(script.command_line("m", Duration::from_secs(1)), Err(QuoteError::Nul));
        }
        let marked = Script::new(&PLAIN, ["a"]).command_line("m\0", Duration::from_secs(1));
        assert_eq!(marked, Err(QuoteError::Nul));
    }

    #[test]
    fn an_argument_is_one_quoted_word() {
        assert_eq!(quote("").unwrap(), "''");
        assert_eq!(quote("it's $(id)").unwrap(), r"'it'\''s $(id)'");
        assert_eq!(quote("''").unwrap(), r"''\'''\'''");
    }

    #[test]
    fn the_line_carries_arguments_and_the_script_travels_apart() {
        let script = Script::new(&PLAIN, ["-n", "b c"]);
        let line = script.command_line("mark", Duration::from_secs(30)).unwrap();
        assert_eq!(line, format!("{PREFIX} 30 sh -s -- 'mark' '-n' 'b c'"));
        assert!(String::from_utf8(script.input()).unwrap().contains(PLAIN.body));
    }

    #[test]
    fn a_script_that_takes_data_stands_in_the_line() {
        let script = Script { stdin: Some(Bytes::from_static(b"\0data")), ..Script::new(&DATA, ["f"]) };
        let line = script.command_line("mark", Duration::from_secs(30)).unwrap();
        assert!(line.starts_with(&format!("{PREFIX} 30 sh -c '")), "{line}");
        assert!(line.ends_with("cat > \"$1\"' sh 'mark' 'f'"), "{line}");
        assert_eq!(script.input(), b"\0data");
        assert_eq!(Script::new(&DATA, ["f"]).input(), b"");
    }

    #[test]
    fn there_is_always_a_limit() {
        let line = Script::new(&PLAIN, ["a"]).command_line("m", Duration::ZERO).unwrap();
        assert!(line.starts_with(&format!("{PREFIX} 1 sh")), "{line}");
    }
}
