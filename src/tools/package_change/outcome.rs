//! What became of a real run: which packages dpkg has otherwise now, and whether that is what was planned.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::Section,
    tools::{apt::Change, service_control::lines, systemd::section},
};

/// The end of a run.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Done {
    /// Whether apt ended within the time; if not it goes on
    finished: bool,
    exit_status: Option<i32>,
    /// What dpkg has otherwise than before
    pub(super) changed: Vec<Changed>,
    /// Whether exactly the planned packages changed
    as_planned: bool,
    /// Units that failed since
    failed_units: Vec<String>,
    /// The end of what apt and dpkg printed
    log: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Changed {
    /// With its architecture
    name: String,
    from: Option<String>,
    to: Option<String>,
    /// dpkg's word where it is not fully installed, such as iF
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

impl Done {
    /// From the sections behind the run. `status` is none where apt had not ended.
    pub(super) fn read(
        sections: &[Section],
        status: Option<i32>,
        install: &[Change],
        upgrade: &[Change],
        remove: &[Change],
    ) -> Self {
        let text = |name: &str| section(sections, name).map(|section| section.text().into_owned()).unwrap_or_default();
        let changed = changed(&text("changed"));
        let planned: BTreeSet<(&str, Option<&str>)> = [install, upgrade, remove]
            .into_iter()
            .flatten()
            .map(|change| (bare(&change.name), change.to.as_deref()))
            .collect();
        let happened: BTreeSet<(&str, Option<&str>)> =
            changed.iter().map(|change| (bare(&change.name), change.to.as_deref())).collect();
        let as_planned = planned == happened && changed.iter().all(|change| change.broken.is_none());
        Self {
            finished: status.is_some(),
            exit_status: status,
            as_planned,
            changed,
            failed_units: lines(sections, "failed_units"),
            log: text("log"),
        }
    }

    /// What the caller should know.
    pub(super) fn warnings(&self, errors: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.finished {
            warnings.push("apt still runs: afterwards package_list filter=broken tells whether it ended well".into());
        } else if self.exit_status != Some(0) {
            warnings.push("apt failed half-way: see data.done.log".into());
        }
        if self.finished && !self.as_planned {
            warnings.push("what changed is not exactly what was planned".into());
        }
        if !self.failed_units.is_empty() {
            warnings.push(format!("units failed meanwhile: {}", self.failed_units.join(", ")));
        }
        warnings.extend(errors.lines().filter_map(|line| line.strip_prefix("E: ")).take(5).map(str::to_owned));
        warnings
    }
}

fn bare(name: &str) -> &str {
    name.split_once(':').map_or(name, |(bare, _)| bare)
}

/// The lines of `comm -3`: those of before at the margin, those of after behind a tab; `NAME:ARCH`, version and status.
fn changed(text: &str) -> Vec<Changed> {
    type Half = Option<(String, String)>;
    let mut names: BTreeMap<String, (Half, Half)> = BTreeMap::new();
    for line in text.lines() {
        let (is_after, line) = line.strip_prefix('\t').map_or((false, line), |line| (true, line));
        let mut fields = line.split('\t');
        let (Some(name), Some(version), Some(status)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let entry = names.entry(name.to_owned()).or_default();
        let half = if is_after { &mut entry.1 } else { &mut entry.0 };
        *half = Some((version.to_owned(), status.trim().to_owned()));
    }
    // `rc` and `un` are packages that are gone but for their configuration.
    let is_there = |half: &&(String, String)| !matches!(half.1.get(1..2), Some("c" | "n") | None);
    let version = |half: &Half| half.as_ref().filter(is_there).map(|(version, _)| version.clone());
    let all = names.into_iter().map(|(name, (before, after))| Changed {
        broken: after.as_ref().filter(is_there).map(|(_, status)| status.clone()).filter(|s| s.get(1..) != Some("i")),
        from: version(&before),
        to: version(&after),
        name,
    });
    all.filter(|change| change.from != change.to || change.broken.is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_paired() {
        let text = "curl:amd64\t7.1\tii \n\tcurl:amd64\t7.2\tii \n\tnew:all\t1\tii \nold:amd64\t1\tii \n\told:amd64\t1\trc \n\
                    half:all\t1\tii \n\thalf:all\t2\tiF \nconf:all\t1\trc \n";
        let short = |c: &Changed| (c.name.clone(), c.from.clone(), c.to.clone(), c.broken.clone());
        let some = |text: &str| Some(text.to_owned());
        let all: Vec<_> = changed(text).iter().map(short).collect();
        assert_eq!(
            all,
            [
                ("curl:amd64".into(), some("7.1"), some("7.2"), None),
                ("half:all".into(), some("1"), some("2"), some("iF")),
                ("new:all".into(), None, some("1"), None),
                ("old:amd64".into(), some("1"), None, None),
            ]
        );
    }
}
