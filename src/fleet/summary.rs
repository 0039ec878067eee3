//! How a fleet does, in one answer: totals, the targets worst first, and which differ from their like. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Condition, Known, Problem};
use crate::model::{Health, Target, TargetId};

/// The most groups of like targets, and of targets named in one.
const NAMED: usize = 20;

/// One target with how it does.
struct Line<'a> {
    target: &'a Target,
    condition: Condition<'a>,
}

impl Line<'_> {
    /// Worst first: the weightiest problem, then how bad it is and how much of it, then how many others, then by id.
    /// A target of which nothing is known stands before those that are well.
    fn rank(&self) -> impl Ord + use<> {
        let Condition { known, wrong, .. } = &self.condition;
        let first = wrong.first();
        let problem = first.map(|finding| finding.problem).or(known.is_none().then_some(Problem::Stale));
        (
            problem.is_none(),
            problem,
            first.map(|finding| Reverse((finding.health, finding.number))),
            Reverse(wrong.len()),
            self.target.id.clone(),
        )
    }

    fn shown(&self, now: Timestamp) -> Value {
        let mut shown = self.condition.shown(now);
        shown.insert("id".to_owned(), self.target.id.as_str().into());
        shown.into()
    }
}

/// How `targets` do at `now` by what is `known` of them: `limit` of them behind the first `skip`, worst first.
pub fn summary<'a>(
    targets: &'a [Arc<Target>],
    known: &'a BTreeMap<TargetId, Known>,
    now: Timestamp,
    (skip, limit): (u32, u32),
) -> Value {
    let line = |target: &'a Arc<Target>| Line { target, condition: Condition::of(known.get(&target.id), now) };
    let mut lines: Vec<Line<'_>> = targets.iter().map(line).collect();
    lines.sort_by_cached_key(Line::rank);
    let mut totals = Map::from_iter([("targets".to_owned(), Value::from(lines.len()))]);
    for health in Health::ALL {
        let count = lines.iter().filter(|line| line.condition.health == health).count();
        totals.insert(health.as_str().to_owned(), count.into());
    }
    let mut problems = Map::new();
    for problem in Problem::ALL {
        let has = |line: &&Line<'_>| line.condition.wrong.iter().any(|finding| finding.problem == problem);
        problems.insert(problem.as_str().to_owned(), lines.iter().filter(has).count().into());
    }
    let shown: Vec<Value> = lines.iter().skip(skip as usize).take(limit as usize).map(|line| line.shown(now)).collect();
    let end = skip as usize + shown.len();
    let next = (end < lines.len()).then(|| end.to_string());
    json!({
        "totals": totals,
        "problems": problems,
        "targets": shown,
        "drift": drift(&lines),
        "next_cursor": next,
    })
}

/// For every platform on more than one target: how many different sets of packages there are, and which targets have
/// another than most.
fn drift(lines: &[Line<'_>]) -> Vec<Value> {
    let mut platforms: BTreeMap<&str, BTreeMap<&str, BTreeSet<&TargetId>>> = BTreeMap::new();
    for line in lines {
        let facts = line.condition.known.and_then(|known| known.facts.as_ref()).map(|(_, facts)| facts);
        let group =
            facts.and_then(|facts| Some((facts.platform.as_deref()?, facts.packages.as_ref()?.sha256.as_str())));
        if let Some((platform, digest)) = group {
            platforms.entry(platform).or_default().entry(digest).or_default().insert(&line.target.id);
        }
    }
    let count = |sets: &BTreeMap<&str, BTreeSet<&TargetId>>| sets.values().map(BTreeSet::len).sum::<usize>();
    let groups = platforms.into_iter().filter(|(_, sets)| count(sets) > 1).take(NAMED);
    groups
        .map(|(platform, sets)| {
            let usual =
                sets.iter().max_by_key(|(digest, ids)| (ids.len(), Reverse(**digest))).map(|(digest, _)| *digest);
            let differing: Vec<&TargetId> = sets
                .iter()
                .filter(|(digest, _)| Some(**digest) != usual)
                .flat_map(|(_, ids)| ids.iter().copied())
                .collect();
            json!({
                "platform": platform,
                "targets": count(&sets),
                "package_sets": sets.len(),
                "differ": differing.len(),
                "differing": differing.into_iter().collect::<BTreeSet<_>>().into_iter().take(NAMED).collect::<Vec<_>>(),
            })
        })
        .collect()
}
