//! What a target's sudoers file has to list so that the tools can do what the registry lets them: one line a command,
//! the program by its full path, every word of it. Makes text only; whether a host has the lines is asked elsewhere.

use super::{ToolError, find, package_change, package_refresh, rights::sudoers_line, systemd::unit_name};
use crate::model::ScopeSet;

/// One line of `sudoers(5)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SudoRule {
    /// The tool that runs it.
    pub tool: &'static str,
    /// The line, without its end.
    pub line: String,
    /// What it lets its user do beyond what its words say; empty where it is only that.
    pub beyond: &'static str,
    /// Whether the arguments are a regular expression, which sudo reads since 1.9.10. An older sudo takes it for the
    /// argument itself and refuses everything else.
    pub expression: bool,
}

const SYSTEMCTL: &str = "/usr/bin/systemctl";
const SYSTEMD_RUN: &str = "/usr/bin/systemd-run";
/// The kinds of units that `service_control` acts on, and `service_configure` besides.
const CONTROLLED: &[&str] = &["service", "socket", "timer", "path"];
const ROOT: &str = "whoever chooses packages has root: the gateway's policy is then the only fence";

/// The lines that `user` needs on a target with these capabilities, for the units `units`. Errors name the unit that is
/// none.
pub fn sudo_rules(user: &str, capabilities: &ScopeSet, units: &[String]) -> Result<Vec<SudoRule>, ToolError> {
    let units = units.iter().map(|unit| unit_name("unit", unit, CONTROLLED)).collect::<Result<Vec<_>, _>>()?;
    let mut rules = Rules { user, capabilities, rules: Vec::new() };
    for unit in &units {
        // Paths are only configured.
        for action in ["start", "stop", "restart", "reload"].into_iter().filter(|_| !unit.ends_with(".path")) {
            rules.exact("service_control", &[SYSTEMCTL, action, "--no-ask-password", "--", unit]);
        }
        for action in ["enable", "disable", "mask", "unmask"] {
            rules.exact("service_configure", &[SYSTEMCTL, action, "--no-ask-password", "--", unit]);
            if action != "unmask" {
                let words = [SYSTEMCTL, action, "--now", "--no-block", "--no-ask-password", "--", unit];
                rules.exact("service_configure", &words);
            }
        }
    }
    let kill = "^-s (TERM|KILL|HUP|INT|QUIT|USR1|USR2|STOP|CONT) -- [0-9]+$";
    rules.expression("process_signal", "/bin/kill", kill, "it signals every process of the host");
    rules.expression("package_refresh", SYSTEMD_RUN, &package_refresh::job_rule(), "");
    rules.expression("package_change", SYSTEMD_RUN, &package_change::job_rule(), ROOT);
    for tool in ["package_refresh", "package_change"] {
        // A job is ended, and taken away once its outcome is known.
        let unit = r"^(stop|reset-failed) --no-ask-password -- tailops-[0-9a-f]+\.service$";
        rules.expression(tool, SYSTEMCTL, unit, "");
    }
    rules.expression("host_power_control", "/usr/sbin/shutdown", r"^-[rP] \+[0-9]+$", "");
    rules.exact("host_power_control", &["/usr/sbin/shutdown", "-c"]);
    if capabilities.allows(crate::model::Scope::SecurityRead) {
        rules.exact("network_inspect", &["/usr/sbin/nft", "-j", "list", "ruleset"]);
    }
    // Two tools may need one line.
    let mut seen: Vec<SudoRule> = Vec::new();
    for rule in rules.rules {
        if !seen.iter().any(|known| known.line == rule.line) {
            seen.push(rule);
        }
    }
    Ok(seen)
}

struct Rules<'a> {
    user: &'a str,
    capabilities: &'a ScopeSet,
    rules: Vec<SudoRule>,
}

impl Rules<'_> {
    /// Whether the target has what `tool` needs.
    fn has(&self, tool: &str) -> bool {
        find(tool).is_some_and(|tool| tool.spec().scopes.iter().all(|scope| self.capabilities.allows(*scope)))
    }

    fn exact(&mut self, tool: &'static str, words: &[&str]) {
        if self.has(tool) {
            let line = sudoers_line(self.user, words);
            self.rules.push(SudoRule { tool, line, beyond: "", expression: false });
        }
    }

    fn expression(&mut self, tool: &'static str, program: &str, arguments: &str, beyond: &'static str) {
        if self.has(tool) {
            // In an expression nothing is escaped for sudoers: it ends at its `$`.
            let line = format!("{} {arguments}", sudoers_line(self.user, &[program]));
            self.rules.push(SudoRule { tool, line, beyond, expression: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;
    use crate::model::Scope;

    fn lines(scopes: &[Scope], units: &[&str]) -> Vec<String> {
        let units: Vec<String> = units.iter().map(|unit| (*unit).to_owned()).collect();
        let rules = sudo_rules("ops", &ScopeSet::new(scopes.iter().copied()), &units).unwrap();
        rules.into_iter().map(|rule| rule.line).collect()
    }

    /// Whether a line of `lines` allows `command`, read as sudo does: an expression for all arguments, or these words.
    fn allows(lines: &[String], command: &str) -> bool {
        let (program, arguments) = command.split_once(' ').unwrap();
        lines.iter().any(|line| {
            let rule = line.strip_prefix("ops ALL=(root) NOPASSWD: ").unwrap();
            let (allowed, wanted) = rule.split_once(' ').unwrap();
            // What the file's reader makes of it, and what the pattern that this is fits.
            let read = Regex::new(r"\\([\\,:=#])").unwrap().replace_all(wanted, "$1").into_owned();
            let words = Regex::new(r"\\(.)").unwrap().replace_all(&read, "$1").into_owned();
            let fits = match wanted.starts_with('^') && wanted.ends_with('$') {
                true => Regex::new(wanted).unwrap().is_match(arguments),
                false => words == arguments,
            };
            allowed == program && fits
        })
    }

    #[test]
    fn what_may_only_be_read_needs_no_line() {
        assert_eq!(lines(&[Scope::Readonly, Scope::FileWrite], &["web"]), [""; 0]);
        assert_eq!(lines(&[], &["web"]), [""; 0]);
    }

    #[test]
    fn lines_name_units_and_take_no_pattern_but_where_something_varies() {
        let control = lines(&[Scope::SystemControl], &["web", "db.socket", r"dev-disk\x2dby\x2dlabel.timer"]);
        assert!(allows(&control, r"/usr/bin/systemctl restart --no-ask-password -- dev-disk\x2dby\x2dlabel.timer"));
        assert!(allows(&control, "/usr/bin/systemctl restart --no-ask-password -- web.service"));
        assert!(allows(&control, "/usr/bin/systemctl stop --no-ask-password -- db.socket"));
        for refused in [
            "/usr/bin/systemctl restart --no-ask-password -- ssh.service",
            "/usr/bin/systemctl restart --no-ask-password -- web.service ssh.service",
            "/usr/bin/systemctl enable --no-ask-password -- web.service",
            "/usr/sbin/shutdown -r +5",
            "/usr/bin/systemd-run --quiet sh",
        ] {
            assert!(!allows(&control, refused), "{refused}");
        }
        let admin = lines(&[Scope::SystemAdmin], &["web"]);
        assert!(allows(&admin, "/usr/bin/systemctl mask --now --no-block --no-ask-password -- web.service"));
        assert!(allows(&admin, "/usr/sbin/shutdown -P +1440") && allows(&admin, "/usr/sbin/shutdown -c"));
        for line in &admin {
            let is_expression = line.contains(" ^") && line.ends_with('$');
            assert!(is_expression || !line.contains(['*', '?', '[']), "sudo's * fits blanks too: {line}");
        }
        let lone = lines(&[Scope::SystemAdmin], &[]);
        assert!(!lone.iter().any(|line| line.contains("-- web")));
        assert!(sudo_rules("ops", &ScopeSet::new([Scope::SystemAdmin]), &["a b".into()]).is_err());
        assert!(sudo_rules("ops", &ScopeSet::new([Scope::SystemAdmin]), &["*.service".into()]).is_err());
    }

    #[test]
    fn jobs_run_what_the_tools_run_and_nothing_else() {
        let admin = lines(&[Scope::SystemAdmin], &[]);
        let run = |seconds, command: &str| {
            format!(
                "/usr/bin/systemd-run --quiet --no-ask-password --unit=tailops-0123456789abcdef -p Type=exec \
                 -p RemainAfterExit=yes -p RuntimeMaxSec={seconds} -E LC_ALL=C -E DEBIAN_FRONTEND=noninteractive -- {command}"
            )
        };
        let apt = "apt-get -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=30";
        assert!(allows(&admin, &run(1800, "apt-get update -q")));
        for action in [
            "upgrade",
            "install -- nginx",
            "install -- nginx:amd64=1.22.1-9+deb12u1 libc6",
            "install --only-upgrade -- nginx",
            "--no-remove install -- g++-12",
            "--no-remove --allow-downgrades install -- nginx=1:2~rc1-1",
            "remove -- nginx",
        ] {
            assert!(allows(&admin, &run(7200, &format!("{apt} {action}"))), "{action}");
        }
        for action in [
            "install -- ./x.deb",
            "install -- /tmp/x.deb",
            "install -o APT::Update::Pre-Invoke::=sh -- nginx",
            "install -- nginx -o Dpkg::Pre-Invoke::=sh",
            "install --",
            "upgrade -o x=y",
            "install -- -oDPkg::Pre-Invoke::=sh",
        ] {
            assert!(!allows(&admin, &run(7200, &format!("{apt} {action}"))), "{action}");
        }
        assert!(!allows(&admin, &run(1800, "sh")) && !allows(&admin, &run(1800, "apt-get update -q -o x=y")));
        assert!(!allows(&admin, &run(1800, "apt-get update -q").replace("tailops-", "ssh-")));
        assert!(allows(&admin, "/usr/bin/systemctl stop --no-ask-password -- tailops-0123.service"));
        assert!(!allows(&admin, "/usr/bin/systemctl stop --no-ask-password -- tailops-0123.service ssh.service"));
        assert!(!allows(&admin, "/usr/bin/systemctl stop --no-ask-password -- tailops.service"));
    }
}
