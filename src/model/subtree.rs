//! `DIR/**`: a directory and everything under it, as tokens are limited to. Compares texts, component by component; what
//! a path leads to is found out on the target.

use std::{fmt, path::Path, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest directory, in bytes.
const MOST_BYTES: usize = 1024;

/// A directory and everything under it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subtree {
    /// As written: the directory, then `/**`.
    text: String,
}

/// A text that is no subtree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} {wanted}, such as /var/log/**")]
pub struct SubtreeError {
    given: String,
    wanted: &'static str,
}

impl Subtree {
    /// The text form, e.g. `/var/log/**`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The directory, absolute.
    pub fn directory(&self) -> &str {
        self.text.strip_suffix("/**").unwrap_or(&self.text)
    }

    /// Whether `path`, absolute and plain, is the directory or lies under it as it is written.
    pub fn covers(&self, path: &str) -> bool {
        Path::new(path).starts_with(self.directory())
    }

    /// The part of the directory `root` that is in this subtree, if there is one.
    pub fn within<'a>(&'a self, root: &'a str) -> Option<&'a str> {
        if self.covers(root) {
            return Some(root);
        }
        Path::new(self.directory()).starts_with(root).then(|| self.directory())
    }
}

impl FromStr for Subtree {
    type Err = SubtreeError;

    fn from_str(text: &str) -> Result<Self, SubtreeError> {
        let wrong = |wanted| Err(SubtreeError { given: text.to_owned(), wanted });
        let Some(directory) = text.strip_suffix("/**") else {
            return wrong("must be a directory followed by /**");
        };
        let Some(names) = directory.strip_prefix('/') else {
            return wrong("must be an absolute directory, and not the whole file system, followed by /**");
        };
        if directory.len() > MOST_BYTES {
            return wrong("must be at most 1024 bytes long");
        }
        if names.split('/').any(|name| ["", ".", ".."].contains(&name)) {
            return wrong("must not have the components . or .., nor an empty one");
        }
        // Nothing is expanded but the end; nothing is decoded at all.
        if directory.contains(['*', '?', '[', ']', '{', '}', '\\', '~', '%', '$']) {
            return wrong("must have no wildcard, escape or variable but the /** at its end");
        }
        if directory.chars().any(|c| c.is_control() || (c != ' ' && c.is_whitespace())) {
            return wrong("must not contain control characters or unusual spaces");
        }
        Ok(Self { text: text.to_owned() })
    }
}

impl fmt::Display for Subtree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Subtree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Subtree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p73_wrong_patterns_are_refused() {
        for bad in [
            "",
            "/**",
            "/",
            "**",
            "/var/log",
            "/var/log/",
            "/var/log/*",
            "/var/*/log/**",
            "/var/../etc/**",
            "/var/./log/**",
            "//var/**",
            "/var//log/**",
            "/var/log//**",
            "var/log/**",
            "~/**",
            "/~root/**",
            "/var/%2e%2e/**",
            "/var\\log/**",
            "/var/log/**/**",
            "/var/lo?/**",
            "/var/[l]og/**",
            "/{var,etc}/**",
            "/$HOME/**",
            "/var/\n/**",
            "/var/\0/**",
            "/var/\u{2028}/**",
            " /var/**",
        ] {
            assert!(bad.parse::<Subtree>().is_err(), "{bad:?}");
        }
        assert!(format!("/{}/**", "a".repeat(1024)).parse::<Subtree>().is_err());
    }

    #[test]
    fn p73_a_subtree_covers_whole_components() {
        let logs: Subtree = "/var/log/**".parse().unwrap();
        for inside in ["/var/log", "/var/log/a", "/var/log/a/b"] {
            assert!(logs.covers(inside), "{inside}");
        }
        for outside in ["/var", "/var/logs", "/var/log-old/a", "/etc/hostname", "/", "var/log/a", ""] {
            assert!(!logs.covers(outside), "{outside}");
        }
        assert_eq!(logs.within("/var/log/apt"), Some("/var/log/apt"));
        assert_eq!(logs.within("/var"), Some("/var/log"));
        assert_eq!(logs.within("/"), Some("/var/log"));
        assert_eq!((logs.within("/etc"), logs.within("/var/lo")), (None, None));
        let json = serde_json::to_string(&logs).unwrap();
        assert_eq!((json.as_str(), serde_json::from_str::<Subtree>(&json).unwrap()), ("\"/var/log/**\"", logs));
    }
}
