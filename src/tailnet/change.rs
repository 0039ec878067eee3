//! What a peer lost between two looks at it. Answers for naming it; what follows from a loss is decided elsewhere.

use super::{Grants, Peer};

impl Peer {
    /// What `self` had and `now` has not: a tag, its login, a rule of the tailnet policy, or all of it because another
    /// node stands there now. None where it has at least what it had.
    ///
    /// Rules are compared whole. A rule that was changed counts as lost, also where it grants more than before: what it
    /// took away cannot be told from what it added.
    pub fn lost(&self, now: &Self) -> Option<String> {
        if self.id != now.id || self.tailnet != now.tailnet || self.uid != now.uid {
            return Some(format!("its address belongs to {} now", now.node));
        }
        if let Some(tag) = self.tags.iter().find(|tag| !now.tags.contains(tag)) {
            return Some(format!("it no longer has {tag}"));
        }
        if let Some(user) = &self.user
            && now.user.as_ref() != Some(user)
        {
            return Some(format!("it is no longer {user}'s"));
        }
        let narrower = match (&self.grants, &now.grants) {
            (Grants::Unrestricted, Grants::Unrestricted) => None,
            (Grants::Unrestricted, Grants::Rules(_)) => Some("rules of the tailnet policy narrow it now"),
            // Whoever took the rules away did not mean to free it of them.
            (Grants::Rules(_), Grants::Unrestricted) => Some("the tailnet policy no longer has its rules"),
            (Grants::Rules(before), Grants::Rules(after)) => {
                let gone = before.iter().any(|rule| !after.contains(rule));
                gone.then_some("the tailnet policy no longer has one of its rules")
            }
        };
        narrower.map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Scope, ScopeSet},
        tailnet::Grant,
    };

    fn rule(scope: Scope) -> Grant {
        Grant { scopes: ScopeSet::new([scope]), targets: None, engagements: None, approve: None }
    }

    fn peer() -> Peer {
        Peer {
            id: "nABC".to_owned(),
            node: "laptop".to_owned(),
            user: Some("alice@example.com".to_owned()),
            tags: Vec::new(),
            tailnet: Some("example.com".to_owned()),
            address: "100.64.0.7:4000".parse().unwrap(),
            uid: None,
            grants: Grants::Rules(vec![rule(Scope::FleetRead), rule(Scope::LogRead)]),
        }
    }

    fn tagged(tags: &[&str]) -> Peer {
        Peer { user: None, tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..peer() }
    }

    #[test]
    fn what_it_no_longer_has_is_a_loss() {
        let losses = [
            (peer(), Peer { id: "nXYZ".to_owned(), ..peer() }),
            (peer(), Peer { tailnet: Some("example.org".to_owned()), ..peer() }),
            (Peer { uid: Some(1), ..peer() }, Peer { uid: Some(2), ..peer() }),
            (peer(), Peer { user: Some("bob@example.com".to_owned()), ..peer() }),
            (peer(), tagged(&["tag:a"])),
            (tagged(&["tag:a"]), peer()),
            (tagged(&["tag:a", "tag:b"]), tagged(&["tag:b", "tag:c"])),
            (Peer { grants: Grants::Unrestricted, ..peer() }, peer()),
            (peer(), Peer { grants: Grants::Unrestricted, ..peer() }),
            (peer(), Peer { grants: Grants::Rules(vec![rule(Scope::FleetRead)]), ..peer() }),
            (peer(), Peer { grants: Grants::Rules(vec![rule(Scope::FleetRead), rule(Scope::Admin)]), ..peer() }),
            (peer(), Peer { grants: Grants::Rules(Vec::new()), ..peer() }),
        ];
        for (number, (before, now)) in losses.iter().enumerate() {
            assert!(before.lost(now).is_some(), "{number}");
        }
    }

    #[test]
    fn what_it_gained_and_what_it_is_called_is_none() {
        let more = Grants::Rules(vec![rule(Scope::Admin), rule(Scope::LogRead), rule(Scope::FleetRead)]);
        let same = [
            (peer(), peer()),
            (peer(), Peer { node: "desk".to_owned(), address: "100.64.0.7:1".parse().unwrap(), ..peer() }),
            (peer(), Peer { grants: more, ..peer() }),
            (tagged(&["tag:a"]), tagged(&["tag:b", "tag:a"])),
        ];
        for (number, (before, now)) in same.iter().enumerate() {
            assert_eq!(before.lost(now), None, "{number}");
        }
    }
}
