//! What the package tools know of apt: names and versions by Debian policy, the lines of a simulated run, and which
//! archives bring security updates. Parses text only; runs nothing and decides nothing.

use schemars::JsonSchema;
use serde::Serialize;

use super::ToolError;

/// The most packages one call may name.
pub(super) const MOST: usize = 50;

/// Checks a package's name by Debian policy 5.6.1. A name that ends in `-` would mean its removal to apt, so it is none.
pub(super) fn package_name(field: &str, text: &str) -> Result<(), ToolError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fine = (2..=128).contains(&text.len())
        && text.starts_with(allowed)
        && text.chars().all(|c| allowed(c) || "+-.".contains(c))
        && !text.ends_with('-');
    if fine {
        return Ok(());
    }
    Err(ToolError::invalid(
        field,
        format_args!(
            "must be one package's name such as openssl: 2 to 128 of a-z, 0-9, `+`, `-`, `.`, starting with a letter or digit, not {text:?}"
        ),
    ))
}

/// Checks a version by Debian policy 5.6.12. One that ends in `+` or `-` would be an action to apt.
pub(super) fn package_version(field: &str, text: &str) -> Result<(), ToolError> {
    let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
    let fine = (1..=128).contains(&text.len())
        && !epoch.is_empty()
        && epoch.chars().all(|c| c.is_ascii_digit())
        && rest.starts_with(|c: char| c.is_ascii_digit())
        && rest.chars().all(|c| c.is_ascii_alphanumeric() || ".+-~:".contains(c))
        && !text.ends_with(['+', '-']);
    if fine {
        return Ok(());
    }
    Err(ToolError::invalid(field, format_args!("must be an exact version such as 1.2.3-4+deb12u1, not {text:?}")))
}

/// What a run does to one package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verb {
    Install,
    Remove,
    Purge,
}

/// One line of a simulated run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Change {
    #[serde(skip)]
    pub(super) verb: Verb,
    /// With `:arch` where it is not the host's own
    pub(super) name: String,
    /// Installed now
    pub(super) from: Option<String>,
    /// After the change
    pub(super) to: Option<String>,
    /// What the archives that have it call themselves, such as Debian-Security:12/oldstable-security
    pub(super) origins: Vec<String>,
    /// Whether one of them brings security updates
    pub(super) security: bool,
}

/// The `Inst`, `Remv` and `Purg` lines of `text`, by name; other lines are skipped. Errors with a line that looks like
/// one and cannot be read: what is not understood is not left out.
pub(super) fn changes(text: &str) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    for line in text.lines() {
        let verb = match line.get(..5) {
            Some("Inst ") => Verb::Install,
            Some("Remv ") => Verb::Remove,
            Some("Purg ") => Verb::Purge,
            _ => continue,
        };
        changes.push(change(verb, line.get(5..).unwrap_or_default()).ok_or_else(|| line.to_owned())?);
    }
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(changes)
}

/// `NAME [OLD] (NEW ORIGIN, ORIGIN [ARCH]) [broken meanwhile]`; `OLD` is absent for a new package, all from `(` on for
/// a removal.
fn change(verb: Verb, text: &str) -> Option<Change> {
    let (name, mut rest) = text.split_once(' ').unwrap_or((text, ""));
    let bare = name.split_once(':').map_or(name, |(bare, _)| bare);
    package_name("name", bare).ok()?;
    let mut from = None;
    if let Some(after) = rest.strip_prefix('[') {
        let (version, after) = after.split_once(']')?;
        from = Some(version.to_owned());
        rest = after.trim_start();
    }
    let mut change = Change { verb, name: name.to_owned(), from, to: None, origins: Vec::new(), security: false };
    if verb != Verb::Install {
        return change.from.is_some().then_some(change);
    }
    let (inside, _) = rest.strip_prefix('(')?.split_once("])")?;
    let (described, _arch) = inside.rsplit_once('[')?;
    let (to, origins) = described.split_once(' ')?;
    change.to = Some(to.to_owned());
    change.origins = origins.trim().split(", ").filter(|origin| !origin.is_empty()).map(str::to_owned).collect();
    change.security = change.origins.iter().any(|origin| is_security(origin));
    Some(change)
}

/// Whether an archive that calls itself `origin` (`LABEL:VERSION/ARCHIVE`) brings security updates: Debian and Ubuntu
/// end the archive's name in `-security`, Debian's label is `Debian-Security`.
fn is_security(origin: &str) -> bool {
    origin.ends_with("-security") || origin.starts_with("Debian-Security:")
}

/// The seconds since the package lists were fetched, from `AGE`: a line with the newest stamp of the lists and one with
/// the time now.
pub(super) fn age_s(text: &str) -> Option<i64> {
    let mut stamps = text.lines().map(|line| line.trim().parse::<i64>());
    let (fetched, now) = (stamps.next()?.ok()?, stamps.next()?.ok()?);
    Some((now - fetched).max(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UPGRADE: &str = include_str!("../../tests/cases/apt/dist-upgrade.txt");
    const INSTALL: &str = include_str!("../../tests/cases/apt/install-nginx-light.txt");

    #[test]
    fn names_that_apt_would_read_otherwise_are_refused() {
        for bad in [
            "",
            "a",
            "-y",
            "--purge",
            "nginx-",
            "Nginx",
            "nginx*",
            "nginx^",
            "nginx/stable",
            "nginx=1",
            "nginx:i386",
            "a b",
            "./x.deb",
            "/tmp/x.deb",
            "x\n",
            "naïve",
            "a_b",
            "~nx",
            "?essential",
            &"x".repeat(129),
        ] {
            assert!(package_name("packages", bad).unwrap_err().message.starts_with("`packages`"), "{bad:?}");
        }
        for good in ["g++", "libstdc++6", "python3.11", "0ad", "memtest86+", "nginx-light"] {
            package_name("packages", good).unwrap();
        }
    }

    #[test]
    fn versions_are_exact() {
        for bad in ["", "1.0-", "1.0+", "stable", "*", "1.0*", "-1", ":1", "a:1", "1 0", "1.0\n", "1/2", "1;id", "1_2"]
        {
            assert!(package_version("version", bad).is_err(), "{bad:?}");
        }
        for good in ["1", "7.88.1-10+deb12u15", "1:0.63-4", "4:12.2.0-3", "2.0~rc1-1", "0"] {
            package_version("version", good).unwrap();
        }
    }

    #[test]
    fn a_real_simulation_is_read_in_full() {
        let read = changes(UPGRADE).unwrap();
        assert_eq!(read.len(), UPGRADE.lines().filter(|line| line.starts_with("Inst ")).count());
        assert!(read.len() > 100 && read.is_sorted_by(|a, b| a.name < b.name));
        let find = |name: &str| read.iter().find(|change| change.name == name).unwrap();
        let bash = find("bash");
        assert_eq!((bash.from.as_deref(), bash.to.as_deref()), (Some("5.2.15-2+b8"), Some("5.2.15-2+b13")));
        assert_eq!((bash.origins.as_slice(), bash.security), (&["Debian:12.15/oldstable".to_owned()][..], false));
        let gcrypt = find("libgcrypt20-dev");
        assert_eq!((gcrypt.origins.len(), gcrypt.security), (2, true));
        assert!(find("liblzma5").security);
    }

    #[test]
    fn new_packages_have_no_version_before() {
        let read = changes(INSTALL).unwrap();
        assert_eq!(read.len(), 4);
        assert!(read.iter().all(|change| change.verb == Verb::Install && change.from.is_none()));
        assert_eq!(read[0].to.as_deref(), Some("1:0.63-4"));
    }

    #[test]
    fn odd_lines() {
        let read = |line: &str| changes(line).map(|mut changes| changes.remove(0));
        let removed = read("Remv libx:i386 [1.0-2] [a:amd64 b:amd64 ]").unwrap();
        assert_eq!((removed.name.as_str(), removed.from.as_deref(), removed.to), ("libx:i386", Some("1.0-2"), None));
        assert_eq!(read("Purg old-conf [1.0]").unwrap().verb, Verb::Purge);
        let local = read("Inst own (2.0 [amd64])").unwrap();
        assert_eq!((local.to.as_deref(), local.origins.len()), (Some("2.0"), 0));
        let ubuntu = read("Inst xx [1] (2 Ubuntu:22.04/jammy-updates, Ubuntu:22.04/jammy-security [amd64])").unwrap();
        assert!(ubuntu.security);
        assert!(!read("Inst xx [1] (2 insecurity:1/not-security-at-all [amd64])").unwrap().security);
        for broken in
            ["Inst xx", "Inst xx [1]", "Inst xx (2", "Remv xx", "Inst -x (2 a [b])", "Inst xx [1] (2 a)", "Remv [1]"]
        {
            assert_eq!(read(broken).unwrap_err(), broken);
        }
        assert_eq!(changes("Reading package lists...\nConf x (1 a [b])\n").unwrap(), []);
    }

    #[test]
    fn ages() {
        assert_eq!(age_s("100\n160\n"), Some(60));
        assert_eq!(age_s("100\n60\n"), Some(0));
        assert_eq!(age_s("\n60\n"), None);
        assert_eq!(age_s(""), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(Inst |Remv |Purg )?\\PC{0,80}") {
            let _ = changes(&text);
        }

        #[test]
        fn an_accepted_package_is_one_plain_word(name in "\\PC{0,12}", version in "\\PC{0,12}") {
            if package_name("p", &name).is_ok() {
                prop_assert!(!name.starts_with('-') && !name.ends_with('-') && !name.contains([' ', '=', '/', '*', ':']));
            }
            if package_version("v", &version).is_ok() {
                prop_assert!(!version.contains([' ', '/', '=', '*']) && !version.ends_with(['+', '-']));
            }
        }
    }
}
