//! The environment variables of the predecessors: each is honoured or refused at start, with the setting that takes
//! its place, and none is ignored without a word. Never shows the value of one that holds a secret.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::config::did_you_mean;

/// What the environment asks for, on top of a configuration file that says nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Environment {
    /// `http.max_body`, in bytes, with the variable's name.
    pub(super) max_body: Option<usize>,
    /// `targets_file`.
    pub(super) targets_file: Option<PathBuf>,
    /// The files that variables name by an absolute path: keys that targets refer to as `${NAME}`. No other value is
    /// kept, as it may be a secret.
    pub(super) files: BTreeMap<String, PathBuf>,
    /// For the log.
    pub(super) warnings: Vec<String>,
}

/// What becomes of a variable.
#[derive(Clone, Copy)]
enum Fate {
    /// One of these values asks for what is anyway; any other is refused.
    Only(&'static [&'static str]),
    /// Refused whatever it says; the value is not looked at.
    Refused,
    /// Megabytes for `http.max_body`.
    MaxBody,
    /// A path for `targets_file`.
    TargetsFile,
}

const YES: Fate = Fate::Only(&["true", "1", "yes", "on"]);

/// The predecessors' variables: name, what becomes of it, and what to do instead.
const KNOWN: &[(&str, Fate, &str)] = &[
    ("SYSTEMMANAGER_REQUIRE_AUTH", YES, "every request is authenticated and nothing turns that off"),
    (
        "SYSTEMMANAGER_SHARED_SECRET",
        Fate::Refused,
        "signing keys are files in data_dir, made by the service: make tokens with `tailops token mint`, keys with `tailops token rotate-key`",
    ),
    (
        "SYSTEMMANAGER_JWT_SECRET",
        Fate::Refused,
        "signing keys are files in data_dir, made by the service: make tokens with `tailops token mint`, keys with `tailops token rotate-key`",
    ),
    ("SYSTEMMANAGER_ENABLE_APPROVAL", YES, "critical operations always need a person's approval"),
    (
        "SYSTEMMANAGER_APPROVAL_WEBHOOK",
        Fate::Refused,
        "this version asks no webhook; critical operations are refused with approval_unavailable",
    ),
    (
        "SYSTEMMANAGER_AUDIT_LOG",
        Fate::Refused,
        "the audit log is kept in data_dir: set data_dir, and read it with `tailops audit export`",
    ),
    (
        "SYSTEMMANAGER_AUDIT_LEVEL",
        Fate::Only(&["detailed"]),
        "the audit log is always complete; log.level is the level of the service's own log",
    ),
    ("SYSTEMMANAGER_AUTH_MODE", Fate::Only(&["token"]), "this version authenticates with tokens: `tailops token mint`"),
    ("SYSTEMMANAGER_TARGETS_CONFIG", Fate::TargetsFile, "targets_file names the registry file"),
    ("TSIDP_URL", Fate::Refused, "this version authenticates with tokens only: `tailops token mint`"),
    (
        "MCP_DATA_ROOT",
        Fate::Refused,
        "targets.NAME.roots are the directories that file tools stay inside; data_dir is where the service keeps its state",
    ),
    ("MCP_MAX_FILE_SIZE_MB", Fate::Only(&["10"]), "a file that is written has at most 10 MB, and nothing changes that"),
    ("MCP_MAX_REQUEST_SIZE_MB", Fate::MaxBody, "http.max_body is the largest request body, such as \"50 MB\""),
    ("MCP_ENABLED", YES, "MCP is what the service speaks and cannot be turned off"),
];

/// The largest `http.max_body`, in MB.
const MOST_MB: usize = 1073;

/// Reads `variables`. Errors with every variable that is refused, one message each.
pub(super) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Environment, Vec<String>> {
    let (mut asked, mut refused) = (Environment::default(), Vec::new());
    let mut variables: Vec<(String, OsString)> =
        variables.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
    variables.sort();
    for (name, value) in variables {
        let Some((_, fate, instead)) = KNOWN.iter().find(|(known, ..)| *known == name) else {
            let path = Path::new(&value);
            if path.is_absolute() && path.is_file() {
                asked.files.insert(name.clone(), path.to_owned());
            }
            if name.starts_with("SYSTEMMANAGER_") {
                let hint = did_you_mean(&name, KNOWN.iter().map(|(known, ..)| *known)).unwrap_or_default();
                refused.push(format!("environment: {name} is not known{hint}; unset it"));
            } else if name.starts_with("MCP_") {
                let name = name.escape_debug();
                asked.warnings.push(format!("environment: {name} means nothing to this service; unset it"));
            }
            continue;
        };
        let value = value.to_str().unwrap_or("\u{fffd}");
        match fate {
            Fate::Only(right) if right.iter().any(|right| value.eq_ignore_ascii_case(right)) => {}
            Fate::Only(right) => refused.push(format!(
                "environment: {name} can only be {}: {instead}; unset it",
                right.first().copied().unwrap_or_default()
            )),
            Fate::Refused => refused.push(format!("environment: {name} is refused: {instead}; unset it")),
            Fate::MaxBody => match value.parse::<usize>() {
                Ok(megabytes @ 1..=MOST_MB) => asked.max_body = Some(megabytes * 1_000_000),
                _ => refused.push(format!("environment: {name} must be a whole number from 1 to {MOST_MB}: {instead}")),
            },
            Fate::TargetsFile => {
                let path = PathBuf::from(value);
                if path.is_absolute() && !value.chars().any(char::is_control) {
                    asked.targets_file = Some(path);
                } else {
                    refused.push(format!("environment: {name} must be an absolute path: {instead}"));
                }
            }
        }
    }
    if refused.is_empty() { Ok(asked) } else { Err(refused) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn read_one(name: &str, value: &str) -> Result<Environment, String> {
        read([(name.into(), value.into())]).map_err(|refused| refused.join("\n"))
    }

    #[test]
    fn each_variable_is_honoured_or_refused() {
        for name in ["SYSTEMMANAGER_REQUIRE_AUTH", "SYSTEMMANAGER_ENABLE_APPROVAL", "MCP_ENABLED"] {
            for yes in ["true", "True", "1", "yes", "on"] {
                assert_eq!(read_one(name, yes), Ok(Environment::default()), "{name}={yes}");
            }
            for no in ["false", "0", "no", "off", "", "2", " true"] {
                let refused = read_one(name, no).unwrap_err();
                assert!(refused.contains(&format!("{name} can only be true")), "{refused}");
            }
        }
        assert_eq!(read_one("SYSTEMMANAGER_AUDIT_LEVEL", "detailed"), Ok(Environment::default()));
        assert!(read_one("SYSTEMMANAGER_AUDIT_LEVEL", "minimal").unwrap_err().contains("always complete"));
        assert_eq!(read_one("SYSTEMMANAGER_AUTH_MODE", "token"), Ok(Environment::default()));
        for mode in ["none", "oidc", "jwt"] {
            assert!(read_one("SYSTEMMANAGER_AUTH_MODE", mode).unwrap_err().contains("token mint"));
        }
        assert_eq!(read_one("MCP_MAX_FILE_SIZE_MB", "10"), Ok(Environment::default()));
        assert!(read_one("MCP_MAX_FILE_SIZE_MB", "100").unwrap_err().contains("10 MB"));
        assert_eq!(read_one("MCP_MAX_REQUEST_SIZE_MB", "50").unwrap().max_body, Some(50_000_000));
        for bad in ["0", "-1", "1074", "1.5", "50 MB", "", "18446744073709551616"] {
            assert!(read_one("MCP_MAX_REQUEST_SIZE_MB", bad).unwrap_err().contains("http.max_body"), "{bad}");
        }
        let file = read_one("SYSTEMMANAGER_TARGETS_CONFIG", "/etc/targets.yaml").unwrap().targets_file;
        assert_eq!(file, Some("/etc/targets.yaml".into()));
        assert!(read_one("SYSTEMMANAGER_TARGETS_CONFIG", "targets.yaml").unwrap_err().contains("targets_file"));
    }

    #[test]
    fn only_what_names_a_file_is_kept_and_no_other_value() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let kept = read_one("WEB_KEY", path).unwrap();
        assert_eq!(kept.files, BTreeMap::from([("WEB_KEY".to_owned(), file.path().to_owned())]));
        let folder = file.path().parent().unwrap().to_str().unwrap();
        for other in ["/hunter2", "hunter2", "", folder, "Cargo.toml"] {
            assert_eq!(read_one("WEB_KEY", other), Ok(Environment::default()), "{other}");
        }
    }

    #[test]
    fn what_is_refused_names_what_to_do_and_never_its_value() {
        for (name, hint) in [
            ("SYSTEMMANAGER_SHARED_SECRET", "tailops token mint"),
            ("SYSTEMMANAGER_JWT_SECRET", "tailops token mint"),
            ("SYSTEMMANAGER_APPROVAL_WEBHOOK", "approval_unavailable"),
            ("SYSTEMMANAGER_AUDIT_LOG", "data_dir"),
            ("TSIDP_URL", "tailops token mint"),
            ("MCP_DATA_ROOT", "targets.NAME.roots"),
        ] {
            for value in ["", "hunter2-\n", "/hunter2"] {
                let refused = read_one(name, value).unwrap_err();
                assert!(refused.contains(name) && refused.contains(hint), "{refused}");
                assert!(!refused.contains("hunter2"), "{refused}");
            }
        }
    }

    #[test]
    fn none_is_ignored_without_a_word() {
        let refused = read_one("SYSTEMMANAGER_REQUIRE_AUHT", "true").unwrap_err();
        assert!(refused.contains("did you mean SYSTEMMANAGER_REQUIRE_AUTH?"), "{refused}");
        assert!(read_one("SYSTEMMANAGER_X", "hunter2").is_err());
        let warned = read_one("MCP_TRANSPORT", "hunter2").unwrap();
        let [warning] = &warned.warnings[..] else { panic!("{warned:?}") };
        assert!(warning.contains("MCP_TRANSPORT") && !warning.contains("hunter2"), "{warning}");
        for other in ["PATH", "HOME", "TAILOPS_X", "systemmanager_x", "XMCP_ENABLED"] {
            assert_eq!(read_one(other, "x"), Ok(Environment::default()), "{other}");
        }
        let both = read([("MCP_ENABLED".into(), "no".into()), ("TSIDP_URL".into(), "x".into())]).unwrap_err();
        assert_eq!(both.len(), 2, "all are told at once");
    }

    #[test]
    fn the_page_lists_exactly_these() {
        let page = include_str!("../../docs/configuration.md");
        let (_, section) = page.split_once("## Older environment variables").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let listed: Vec<&str> =
            section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let known: BTreeSet<&str> = KNOWN.iter().map(|(name, ..)| *name).collect();
        assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), known);
        assert_eq!(listed.len(), KNOWN.len());
    }
}
