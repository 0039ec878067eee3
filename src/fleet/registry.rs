//! The registry of targets as configured. Answers for the way to each: a jump host that cannot be one is never left out
//! of the way, so that its target cannot be reached at all.

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{EngagementId, Target, TargetId, jumps};

/// All targets.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    targets: BTreeMap<TargetId, Arc<Target>>,
}

impl Registry {
    /// The registry of these targets, each linked to the jump hosts on its way. A later one replaces an earlier one of the
    /// same id.
    pub fn new(targets: impl IntoIterator<Item = Target>) -> Self {
        let all: BTreeMap<TargetId, Target> = targets.into_iter().map(|target| (target.id.clone(), target)).collect();
        Self { targets: all.values().map(|target| (target.id.clone(), Arc::new(linked(target, &all)))).collect() }
    }

    /// The target `id`, if it belongs to `engagement`.
    pub fn target(&self, engagement: &EngagementId, id: &str) -> Option<&Arc<Target>> {
        self.targets.get(id).filter(|target| target.engagement == *engagement)
    }

    /// Every target, whosever it is: for the gateway's own people, never for a caller.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.values()
    }

    /// The targets of `engagement`, by id.
    pub fn targets_of<'a>(&'a self, engagement: &'a EngagementId) -> impl Iterator<Item = &'a Arc<Target>> {
        self.targets.values().filter(move |target| target.engagement == *engagement)
    }
}

/// `target` with the jump hosts on its way; with none where one of them cannot be used.
fn linked(target: &Target, all: &BTreeMap<TargetId, Target>) -> Target {
    let way = jumps(target, |id| all.get(id)).unwrap_or_else(|fault| {
        let target = target.id.as_str();
        tracing::warn!(target, %fault, "a jump host cannot be used: every call on its target is refused");
        Vec::new()
    });
    let via = way.into_iter().rev().fold(None, |via, jump| Some(Arc::new(through(jump, via))));
    through(target, via)
}

/// `target`, reached through `via`.
fn through(target: &Target, via: Option<Arc<Target>>) -> Target {
    let mut target = target.clone();
    if let Some(connection) = target.registered.as_mut().and_then(|registered| registered.connection.as_mut()) {
        connection.via = via;
    }
    target
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::read_registry;

    /// Targets in a registry file: id, executor, engagement and jump host of each.
    fn registry(targets: &[(&str, &str, &str, Option<&str>)]) -> Registry {
        let mut text = "version: \"1.0\"\ntargets:\n".to_owned();
        for (id, executor, engagement, jump) in targets {
            let jump = jump.map(|jump| format!(", jump: {jump}")).unwrap_or_default();
            text += &format!(
                "  {id}: {{type: remote, executor: {executor}, engagement: {engagement}, capabilities: [],\n    \
                 connection: {{host: 10.0.0.1{jump}}}}}\n"
            );
        }
        let engagements = ["ours".into(), "theirs".into()];
        Registry::new(read_registry(Path::new("t.yaml"), &text, &"ours".into(), &engagements).unwrap())
    }

    /// The jump hosts on the way to a target, the one next to it first; none where it cannot be reached.
    fn way(registry: &Registry, id: &str) -> Option<Vec<String>> {
        let mut target = registry.target(&"ours".into(), id).unwrap();
        let mut way = Vec::new();
        loop {
            if target.is_cut_off() {
                return None;
            }
            let Some(via) = &target.connection().unwrap().via else { return Some(way) };
            way.push(via.id.as_str().to_owned());
            target = via;
        }
    }

    #[test]
    fn a_way_leads_through_every_jump_host_in_turn() {
        let registry = registry(&[
            ("a", "ssh", "ours", None),
            ("b", "ssh", "ours", Some("a")),
            ("c", "ssh", "ours", Some("b")),
            ("d", "ssh", "ours", Some("c")),
        ]);
        assert_eq!(way(&registry, "a").unwrap(), [""; 0]);
        assert_eq!(way(&registry, "d").unwrap(), ["c", "b", "a"]);
    }

    #[test]
    fn a_jump_host_that_cannot_be_one_cuts_its_target_off() {
        let registry = registry(&[
            ("gone", "ssh", "ours", Some("nobody")),
            ("theirs", "ssh", "theirs", None),
            ("stranger", "ssh", "ours", Some("theirs")),
            ("engine", "docker", "ours", None),
            ("wrong", "ssh", "ours", Some("engine")),
            ("self", "ssh", "ours", Some("self")),
            ("one", "ssh", "ours", Some("two")),
            ("two", "ssh", "ours", Some("one")),
            ("behind", "ssh", "ours", Some("one")),
            ("behind-gone", "ssh", "ours", Some("gone")),
            ("j1", "ssh", "ours", None),
            ("j2", "ssh", "ours", Some("j1")),
            ("j3", "ssh", "ours", Some("j2")),
            ("j4", "ssh", "ours", Some("j3")),
            ("j5", "ssh", "ours", Some("j4")),
        ]);
        for id in ["gone", "stranger", "wrong", "self", "one", "two", "behind", "behind-gone", "j5"] {
            assert_eq!(way(&registry, id), None, "{id}");
        }
        assert_eq!(way(&registry, "j4").unwrap().len(), 3);
    }
}
