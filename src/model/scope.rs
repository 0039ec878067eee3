//! Scopes: what a token narrows to. One vocabulary, a closure (a scope implies those under it) and the older names
//! that are still understood.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strsim::jaro_winkler;

macro_rules! scopes {
    ($($variant:ident $text:literal => [$($implied:ident)*];)*) => {
        /// One right. The text form is `area:verb`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each variant is its text form")]
        #[repr(u8)]
        pub enum Scope { $($variant),* }

        impl Scope {
            /// Every scope, in the order they are shown.
            pub const ALL: &'static [Scope] = &[$(Scope::$variant),*];

            /// The text form, e.g. `system:read`.
            pub fn as_str(self) -> &'static str {
                match self { $(Scope::$variant => $text),* }
            }

            /// The scopes directly under this one.
            pub fn implied(self) -> &'static [Scope] {
                match self { $(Scope::$variant => &[$(Scope::$implied),*]),* }
            }
        }
    };
}

scopes! {
    Admin "admin" => [SystemAdmin DockerAdmin ContainerAdmin FileWrite NetworkDiag ProxmoxAdmin FleetAdmin
        SecurityRead LogRead PolicyRead PlanWrite ApprovalRead AuditRead TokenAdmin];
    Readonly "readonly" => [SystemRead NetworkRead ContainerRead FileRead LogRead FleetRead ProxmoxRead PolicyRead];
    SystemRead "system:read" => [];
    SystemControl "system:control" => [SystemRead];
    SystemAdmin "system:admin" => [SystemControl];
    LogRead "log:read" => [];
    NetworkRead "network:read" => [];
    NetworkDiag "network:diag" => [NetworkRead];
    FileRead "file:read" => [];
    FileWrite "file:write" => [FileRead];
    ContainerRead "container:read" => [];
    ContainerWrite "container:write" => [ContainerRead];
    ContainerAdmin "container:admin" => [ContainerWrite];
    DockerAdmin "docker:admin" => [];
    ProxmoxRead "proxmox:read" => [];
    ProxmoxControl "proxmox:control" => [ProxmoxRead];
    ProxmoxAdmin "proxmox:admin" => [ProxmoxControl];
    FleetRead "fleet:read" => [];
    FleetAdmin "fleet:admin" => [FleetRead];
    SecurityRead "security:read" => [];
    PolicyRead "policy:read" => [];
    PlanWrite "plan:write" => [];
    ApprovalRead "approval:read" => [];
    ApprovalDecide "approval:decide" => [];
    AuditRead "audit:read" => [];
    TokenAdmin "token:admin" => [];
}

/// Names that predecessors used, and what they mean here.
const ALIASES: &[(&str, Scope)] =
    &[("container:control", Scope::ContainerWrite), ("stack:deploy", Scope::ContainerAdmin)];

impl Scope {
    /// Reads a scope or one of the older names.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        Self::ALL
            .iter()
            .copied()
            .find(|scope| scope.as_str() == text)
            .or_else(|| ALIASES.iter().find(|(alias, _)| *alias == text).map(|(_, scope)| *scope))
            .ok_or_else(|| ScopeError::unknown(text))
    }

    fn bit(self) -> u32 {
        1 << (self as u8)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope {given:?}{}", suggestion.map(|s| format!(", did you mean `{s}`?")).unwrap_or_default())]
pub struct ScopeError {
    /// What was written.
    pub given: String,
    /// The nearest scope, if one is near.
    pub suggestion: Option<&'static str>,
}

impl ScopeError {
    fn unknown(given: &str) -> Self {
        let suggestion = Scope::ALL
            .iter()
            .map(|scope| (jaro_winkler(scope.as_str(), given), scope.as_str()))
            .filter(|(score, _)| *score > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, text)| text);
        Self { given: given.to_owned(), suggestion }
    }
}

/// A set of scopes. Holds what was granted; [`ScopeSet::allows`] answers by the closure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScopeSet {
    granted: u32,
    closure: u32,
}

impl ScopeSet {
    /// The set of `scopes` and, for [`Self::allows`], all that they imply.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let mut set = Self::default();
        for scope in scopes {
            set.granted |= scope.bit();
            set.close(scope);
        }
        set
    }

    fn close(&mut self, scope: Scope) {
        if self.closure & scope.bit() == 0 {
            self.closure |= scope.bit();
            for &under in scope.implied() {
                self.close(under);
            }
        }
    }

    /// Reads scopes separated by commas or white space. An empty text is an empty set.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        text.split(|c: char| c == ',' || c.is_whitespace())
            .filter(|word| !word.is_empty())
            .map(Scope::parse)
            .collect::<Result<Vec<_>, _>>()
            .map(Self::new)
    }

    /// Whether `scope` is granted, directly or because a granted scope implies it.
    pub fn allows(&self, scope: Scope) -> bool {
        self.closure & scope.bit() != 0
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.granted == 0
    }

    /// The granted scopes themselves, without what they imply.
    pub fn granted(&self) -> impl Iterator<Item = Scope> {
        let granted = self.granted;
        Scope::ALL.iter().copied().filter(move |scope| granted & scope.bit() != 0)
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.granted().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl Serialize for ScopeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.granted().map(Scope::as_str))
    }
}

impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        let scopes = words.iter().map(|word| Scope::parse(word)).collect::<Result<Vec<_>, _>>();
        scopes.map(Self::new).map_err(serde::de::Error::custom)
    }
}
