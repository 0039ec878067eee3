//! The rules of approvals, told once more and without what makes them hard: no database, no network, no tasks. Never asked
//! but in tests.

use std::collections::BTreeMap;

use super::rig::Strict;
use crate::approval::Asked;

/// The most open questions of one caller.
pub(super) const MOST: usize = 3;

/// How a question stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Open,
    Denied,
    Expired,
    Used,
}

pub(super) struct Question {
    pub(super) asked: Asked,
    pub(super) caller: usize,
    pub(super) variant: u8,
    pub(super) world: u8,
    pub(super) quorum: usize,
    pub(super) expires: i64,
    pub(super) votes: BTreeMap<usize, bool>,
    pub(super) end: End,
}

/// The rules, told once more. Times are in seconds.
pub(super) struct Reference {
    pub(super) wall: i64,
    /// The latest moment that was seen, and what of it is kept over a restart.
    pub(super) seen: i64,
    pub(super) kept: Option<i64>,
    pub(super) world: u8,
    pub(super) strict: Strict,
    pub(super) right: [bool; 4],
    pub(super) here: [bool; 4],
    pub(super) questions: Vec<Question>,
    pub(super) refusals: usize,
}

impl Reference {
    pub(super) fn look(&mut self, keep: bool) {
        self.seen = self.seen.max(self.wall);
        if keep {
            self.kept = Some(self.seen);
        }
    }

    /// What has expired is ended on record.
    pub(super) fn end_due(&mut self) {
        let seen = self.seen;
        let due = |question: &&mut Question| question.end == End::Open && seen >= question.expires;
        self.questions.iter_mut().filter(due).for_each(|question| question.end = End::Expired);
    }

    pub(super) fn quorum(&self) -> usize {
        if self.strict == Strict::Two { 2 } else { 1 }
    }

    pub(super) fn may(&self, who: usize, caller: usize) -> bool {
        self.right[who] && self.here[who] && !(who == 0 && caller == 0)
    }

    pub(super) fn over(&self, question: &Question) -> Option<&'static str> {
        match question.end {
            End::Open if self.seen < question.expires => None,
            End::Open | End::Expired => Some("approval_expired"),
            End::Denied => Some("approval_denied"),
            End::Used => Some("approval_used"),
        }
    }

    /// Whose yes counts.
    pub(super) fn standing(&self, question: &Question, strict: Strict) -> Vec<usize> {
        if strict == Strict::Signed {
            return Vec::new();
        }
        let said = question.votes.iter().filter(|(_, yes)| **yes).map(|(who, _)| *who);
        said.filter(|who| self.may(*who, question.caller)).collect()
    }

    /// Why a call cannot ask; none where it can.
    pub(super) fn cannot_ask(&mut self, caller: usize) -> Option<&'static str> {
        let open = self.questions.iter().filter(|question| question.caller == caller && question.end == End::Open);
        if open.count() >= MOST {
            return Some("approvals_full");
        }
        let able = (0..4).filter(|who| self.may(*who, caller)).count();
        if able < self.quorum() || self.strict == Strict::Signed {
            return Some("approval_unavailable");
        }
        self.look(true);
        self.end_due();
        None
    }

    pub(super) fn vote(&mut self, who: usize, about: usize, yes: bool, same: bool) -> &'static str {
        self.look(true);
        let (requester, named) = (who == 0 && self.questions[about].caller == 0, self.right[who]);
        let refused = if !named && !requester {
            Some("approval_unknown")
        } else if yes && requester {
            Some("own_request")
        } else if let Some(over) = self.over(&self.questions[about]) {
            if over == "approval_expired" {
                self.questions[about].end = End::Expired;
            }
            Some(over)
        } else if !same {
            Some("operation_changed")
        } else if yes && self.questions[about].votes.contains_key(&who) {
            Some("already_decided")
        } else {
            None
        };
        match refused {
            Some(code) => {
                self.refusals += 1;
                code
            }
            None => {
                self.questions[about].votes.insert(who, yes);
                if !yes {
                    self.questions[about].end = End::Denied;
                }
                "ok"
            }
        }
    }

    /// The first half of a use: whose yes the intent names.
    pub(super) fn agreed(&mut self, caller: usize, about: usize, variant: u8) -> Result<Vec<usize>, &'static str> {
        self.look(false);
        let question = &self.questions[about];
        if question.caller != caller {
            return Err("approval_unknown");
        }
        if let Some(over) = self.over(question) {
            return Err(over);
        }
        let standing = self.standing(question, self.strict);
        if standing.len() < question.quorum.max(self.quorum()) {
            return Err("approval_pending");
        }
        if question.variant != variant || question.world != self.world {
            return Err("approval_changed");
        }
        Ok(standing)
    }

    /// The second half, by the policy of the first.
    pub(super) fn take(&mut self, about: usize, named: &[usize], strict: Strict) -> &'static str {
        self.look(true);
        let quorum = if strict == Strict::Two { 2 } else { 1 };
        if let Some(over) = self.over(&self.questions[about]) {
            if over == "approval_expired" {
                self.questions[about].end = End::Expired;
            }
            return over;
        }
        let question = &self.questions[about];
        let standing = self.standing(question, strict);
        if standing.len() < question.quorum.max(quorum) || named.iter().any(|who| !standing.contains(who)) {
            return "approval_pending";
        }
        self.questions[about].end = End::Used;
        "ok"
    }
}
