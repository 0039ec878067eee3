//! What the gateway finds when it looks at itself: one line a finding, each with what mends it. Values only: whoever
//! looks decides the level.

use serde::{Deserialize, Serialize};

/// How good or bad a finding is. Ordered: `Ok < Warn < Fail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works now, and somebody should look at it.
    Warn,
    /// Does not work.
    Fail,
}

impl Level {
    /// The word that is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

macro_rules! subjects {
    ($($(#[$doc:meta])* $variant:ident $text:literal;)*) => {
        /// What a finding is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Subject { $($(#[$doc])* #[serde(rename = $text)] $variant),* }

        impl Subject {
            /// Every subject, in the order they are shown.
            pub const ALL: &'static [Subject] = &[$(Subject::$variant),*];

            /// The word that is shown.
            pub fn as_str(self) -> &'static str {
                match self { $(Subject::$variant => $text),* }
            }
        }
    };
}

subjects! {
    /// Whether the gateway runs.
    Service "service";
    /// Whether its configuration is valid.
    Configuration "configuration";
    /// Whether the configuration is the one that was pinned.
    Pin "pin";
    /// Who may enter the data directory.
    Directory "directory";
    /// Whether the database is whole and of this version.
    Database "database";
    /// The room that is left.
    Disk "disk";
    /// Whether the audit log takes records, and its head.
    Audit "audit";
    /// The wall clock.
    Clock "clock";
    /// How far the node has come.
    Node "node";
    /// Whose the node is.
    Tags "tags";
    /// Until when its key holds.
    KeyExpiry "key_expiry";
    /// Its MagicDNS name.
    Name "name";
    /// What its daemon finds wrong.
    Daemon "daemon";
    /// Where it listens.
    Listeners "listeners";
    /// Whether HTTP is wrapped, and until when the certificate holds.
    Tls "tls";
    /// Which targets can be operated.
    Targets "targets";
    /// Whether a person can be asked.
    Approvals "approvals";
    /// Whether those who are to be told of questions hear of them.
    Notifications "notifications";
    /// Whether anybody still has to look at what was let through by breaking the glass.
    Reviews "reviews";
    /// Whether a secret of the gateway is too old, or cannot be used.
    Credentials "credentials";
    /// Bound tokens that came from elsewhere.
    Sources "sources";
    /// Who would be let in.
    Peers "peers";
    /// One peer: with which rights it comes in, or why it does not.
    Peer "peer";
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What it is about.
    pub subject: Subject,
    /// How good or bad.
    pub level: Level,
    /// What was found.
    pub finding: String,
    /// What to do about it; none where nothing is to be done.
    pub mend: Option<String>,
}

impl Line {
    /// Something that is as it should be.
    pub fn ok(subject: Subject, finding: impl Into<String>) -> Self {
        Self { subject, level: Level::Ok, finding: finding.into(), mend: None }
    }

    /// Something to look at.
    pub fn warn(subject: Subject, finding: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { subject, level: Level::Warn, finding: finding.into(), mend: Some(mend.into()) }
    }

    /// Something that does not work.
    pub fn fail(subject: Subject, finding: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { subject, level: Level::Fail, finding: finding.into(), mend: Some(mend.into()) }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this form: 1.
    pub version: u32,
    /// Whether the gateway itself answered.
    pub running: bool,
    /// The worst of the lines.
    pub level: Level,
    /// The findings.
    pub lines: Vec<Line>,
}

impl Report {
    /// The report of these findings, in the order of [`Subject::ALL`].
    pub fn new(running: bool, mut lines: Vec<Line>) -> Self {
        lines.sort_by_key(|line| line.subject as usize); // stable: lines of one subject keep their order
        let level = lines.iter().map(|line| line.level).max().unwrap_or(Level::Ok);
        Self { version: 1, running, level, lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_as_bad_as_its_worst_line_and_keeps_the_order_of_the_subjects() {
        let lines = vec![
            Line::ok(Subject::Peer, "b"),
            Line::ok(Subject::Peer, "a"),
            Line::warn(Subject::Clock, "late", "set it"),
            Line::ok(Subject::Service, "runs"),
        ];
        let report = Report::new(true, lines);
        assert_eq!(report.level, Level::Warn);
        let order: Vec<&str> = report.lines.iter().map(|line| line.finding.as_str()).collect();
        assert_eq!(order, ["runs", "late", "b", "a"]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["lines"][1]["subject"], "clock");
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
        for subject in Subject::ALL {
            assert_eq!(serde_json::to_value(subject).unwrap(), subject.as_str());
        }
    }
}
