//! The state machine against a small reference that knows only the rules: who said what, who may, what the time is.

use std::{cell::RefCell, collections::BTreeMap};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use tokio::{join, runtime};

use super::rig::{Rig, Strict, approves, caller, person, tagged};
use super::steps::{Call, Do, step};
use crate::{
    approval::{Asked, Ballot, Unapproved},
    auth::Caller,
    model::Vote,
};

/// alice, bob, carol, mallory: the first made the token of the first caller, the last never has a right.
const PEOPLE: [&str; 4] = ["alice@example.org", "bob@example.org", "carol@example.org", "mallory@example.org"];
/// A question's time, in seconds.
const TTL: i64 = 15 * 60 + 30;
/// The most open questions of one caller.
const MOST: usize = 3;

/// How a question stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Open,
    Denied,
    Expired,
    Used,
}

struct Question {
    asked: Asked,
    caller: usize,
    variant: u8,
    world: u8,
    quorum: usize,
    expires: i64,
    votes: BTreeMap<usize, bool>,
    end: End,
}

/// The rules, told once more. Times are in seconds.
struct Reference {
    wall: i64,
    /// The latest moment that was seen, and what of it is kept over a restart.
    seen: i64,
    kept: Option<i64>,
    world: u8,
    strict: Strict,
    right: [bool; 4],
    here: [bool; 4],
    questions: Vec<Question>,
    refusals: usize,
}

impl Reference {
    fn look(&mut self, keep: bool) {
        self.seen = self.seen.max(self.wall);
        if keep {
            self.kept = Some(self.seen);
        }
    }

    /// What has expired is ended on record.
    fn end_due(&mut self) {
        let seen = self.seen;
        let due = |question: &&mut Question| question.end == End::Open && seen >= question.expires;
        self.questions.iter_mut().filter(due).for_each(|question| question.end = End::Expired);
    }

    fn quorum(&self) -> usize {
        if self.strict == Strict::Two { 2 } else { 1 }
    }

    fn may(&self, who: usize, caller: usize) -> bool {
        self.right[who] && self.here[who] && !(who == 0 && caller == 0)
    }

    fn over(&self, question: &Question) -> Option<&'static str> {
        match question.end {
            End::Open if self.seen < question.expires => None,
            End::Open | End::Expired => Some("approval_expired"),
            End::Denied => Some("approval_denied"),
            End::Used => Some("approval_used"),
        }
    }

    /// Whose yes counts.
    fn standing(&self, question: &Question, strict: Strict) -> Vec<usize> {
        if strict == Strict::Signed {
            return Vec::new();
        }
        let said = question.votes.iter().filter(|(_, yes)| **yes).map(|(who, _)| *who);
        said.filter(|who| self.may(*who, question.caller)).collect()
    }

    /// Why a call cannot ask; none where it can.
    fn cannot_ask(&mut self, caller: usize) -> Option<&'static str> {
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

    fn vote(&mut self, who: usize, about: usize, yes: bool, same: bool) -> &'static str {
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
    fn agreed(&mut self, caller: usize, about: usize, variant: u8) -> Result<Vec<usize>, &'static str> {
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
    fn take(&mut self, about: usize, named: &[usize], strict: Strict) -> &'static str {
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

fn code<T>(result: &Result<T, Unapproved>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(why) => why.code(),
    }
}

/// The real thing and the reference, side by side.
struct Pair<'a> {
    rig: Rig,
    callers: &'a [Caller; 2],
    reference: Reference,
    seen: &'a RefCell<BTreeMap<(&'static str, &'static str), usize>>,
}

impl Pair<'_> {
    /// The latest question is number 0.
    fn about(&self, about: usize) -> Option<usize> {
        self.reference.questions.len().checked_sub(about + 1)
    }

    /// Whose call it is that names a question, and what it wants.
    fn call(&self, about: usize, call: Call) -> (usize, u8) {
        let question = &self.reference.questions[about];
        match call {
            Call::Same => (question.caller, question.variant),
            Call::OfAnother => (1 - question.caller, question.variant),
            Call::Altered => (question.caller, 1 - question.variant),
        }
    }

    /// Counts what came of what.
    fn tally(&self, what: &'static str, code: &'static str) {
        *self.seen.borrow_mut().entry((what, code)).or_default() += 1;
    }

    /// Does one thing to both and compares.
    async fn play(&mut self, step: &Do) -> Result<(), TestCaseError> {
        match *step {
            Do::Ask { caller, variant } => {
                let expected = self.reference.cannot_ask(caller).unwrap_or("ok");
                let result = self.rig.ask(&self.callers[caller], variant).await;
                prop_assert_eq!(code(&result), expected);
                self.tally("ask", expected);
                if let Ok(asked) = result {
                    let (world, quorum) = (self.reference.world, self.reference.quorum());
                    let expires = self.reference.seen + TTL;
                    let (votes, end) = (BTreeMap::new(), End::Open);
                    let question = Question { asked, caller, variant, world, quorum, expires, votes, end };
                    self.reference.questions.push(question);
                }
            }
            Do::Vote { who, about, yes, same } => {
                let Some(about) = self.about(about) else { return Ok(()) };
                let Some(person) = self.rig.on(who as u8 + 1).await else { return Ok(()) };
                let expected = self.reference.vote(who, about, yes, same);
                let asked = &self.reference.questions[about].asked;
                let ballot = Ballot {
                    id: asked.id.clone(),
                    vote: if yes { Vote::Approve } else { Vote::Deny },
                    operation_hash: if same { asked.operation_hash.clone() } else { "0".repeat(64) },
                    comment: "as agreed".to_owned(),
                    signature: None,
                };
                let result = self.rig.approvals.decide(&self.rig.settings, &person, &ballot).await;
                let code = result.as_ref().map_or_else(|why| why.code(), |_| "ok");
                prop_assert_eq!(code, expected, "{:?}", result);
                self.tally("vote", code);
            }
            Do::Right { who, has } => {
                self.reference.right[who] = has;
                self.dwell(who);
            }
            Do::Here { who, is } => {
                self.reference.here[who] = is;
                self.dwell(who);
            }
            Do::World(world) => (self.reference.world, self.rig.world) = (world, world),
            Do::Strict(strict) => (self.reference.strict, self.rig.strict) = (strict, strict),
            Do::Clock(minutes) => {
                self.reference.wall += minutes * 60;
                self.rig.clock.move_by(minutes);
            }
            Do::Look => {
                // With nothing open there is nothing to look at.
                if self.reference.questions.iter().any(|question| question.end == End::Open) {
                    self.reference.look(true);
                    self.reference.end_due();
                }
                self.rig.approvals.look(&mut None).await.unwrap();
            }
            Do::Restart => {
                self.rig.restart().await;
                self.reference.seen =
                    self.reference.kept.map_or(self.reference.wall, |kept| kept.max(self.reference.wall));
            }
            Do::Use { about, call } => {
                let Some(about) = self.about(about) else { return Ok(()) };
                let ((caller, variant), strict) = (self.call(about, call), self.reference.strict);
                let expected = match self.reference.agreed(caller, about, variant) {
                    Ok(named) => self.reference.take(about, &named, strict),
                    Err(code) => code,
                };
                let id = self.reference.questions[about].asked.id.clone();
                let result = self.rig.used(&self.callers[caller], id.as_str(), variant).await;
                prop_assert_eq!(code(&result), expected, "{:?}", result);
                self.tally("use", expected);
                if let Ok(permit) = result {
                    prop_assert_eq!(&permit.operation().arguments["variant"], variant);
                }
            }
            Do::Race { about, call } => {
                let Some(about) = self.about(about) else { return Ok(()) };
                let ((caller, variant), strict) = (self.call(about, call), self.reference.strict);
                let expected = match self.reference.agreed(caller, about, variant) {
                    Ok(named) => [self.reference.take(about, &named, strict), "approval_used"],
                    Err(code) => [code, code],
                };
                let id = self.reference.questions[about].asked.id.clone();
                let caller = &self.callers[caller];
                let use_it = || self.rig.used(caller, id.as_str(), variant);
                let (one, two) = join!(use_it(), use_it());
                let mut codes = [code(&one), code(&two)];
                codes.sort_by_key(|code| *code != "ok");
                prop_assert_eq!(codes, expected);
                self.tally("race", expected[0]);
            }
            Do::Between { about, ref what } => {
                let Some(about) = self.about(about) else { return Ok(()) };
                let ((caller, variant), strict) = (self.call(about, Call::Same), self.reference.strict);
                let expected = self.reference.agreed(caller, about, variant);
                let id = self.reference.questions[about].asked.id.clone();
                let result = self.rig.agreed(&self.callers[caller], id.as_str(), variant).await;
                prop_assert_eq!(code(&result), expected.as_ref().map_or_else(|code| *code, |_| "ok"));
                let (Ok(named), Ok(ready)) = (expected, result) else { return Ok(()) };
                Box::pin(self.play(what)).await?;
                let expected = self.reference.take(about, &named, strict);
                let result = self.rig.take(&self.callers[caller], ready).await;
                prop_assert_eq!(code(&result), expected, "{:?} after {:?}", result, what);
                self.tally("between", expected);
            }
        }
        Ok(())
    }

    /// Puts on the tailnet what the reference says of `who`.
    fn dwell(&self, who: usize) {
        let host = who as u8 + 1;
        let rules = if self.reference.right[who] { vec![approves()] } else { Vec::new() };
        let peer = person(host, PEOPLE[who], rules);
        if self.reference.here[who] {
            self.rig.net.join(peer);
        } else {
            self.rig.net.change(|peers| drop(peers.remove(&peer.address.ip())));
        }
    }

    /// Compares what is left.
    async fn compare(&mut self) -> Result<(), TestCaseError> {
        Box::pin(self.play(&Do::Look)).await?;
        let (mut expired, mut said) = (0, [0, 0]);
        for question in &self.reference.questions {
            let row = self.rig.store.approval(question.asked.id.as_str()).await.unwrap().unwrap();
            let state = match question.end {
                End::Open => "pending",
                End::Denied => "denied",
                End::Expired => "expired",
                End::Used => "used",
            };
            prop_assert_eq!(&row.state, state);
            prop_assert_eq!(row.ended_at.is_some(), question.end != End::Open);
            let votes = self.rig.store.votes(&row.id).await.unwrap();
            let mut kept: Vec<(String, bool)> =
                votes.into_iter().map(|vote| (vote.login, vote.vote == "approve")).collect();
            kept.sort();
            let expected: Vec<(String, bool)> =
                question.votes.iter().map(|(who, yes)| (PEOPLE[*who].to_owned(), *yes)).collect();
            prop_assert_eq!(kept, expected);
            expired += usize::from(question.end == End::Expired);
            for yes in question.votes.values() {
                said[usize::from(*yes)] += 1;
            }
        }
        prop_assert_eq!(self.rig.notes.count("approval.expired"), expired);
        prop_assert_eq!(self.rig.notes.count("approval.deny"), said[0]);
        // A yes that became a no was a yes first, and a yes that was said again is one vote.
        prop_assert!(self.rig.notes.count("approval.approve") >= said[1]);
        let refusals = self.rig.notes.all().iter().filter(|noted| noted.refused.is_some()).count();
        prop_assert_eq!(refusals, self.reference.refusals);
        Ok(())
    }
}

#[test]
fn whatever_happens_in_whatever_order_the_reference_says_the_same() {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let callers = runtime.block_on(async {
        let (one, two) = (tagged(11, Vec::new()), tagged(12, Vec::new()));
        [caller(one, "Alice@example.org").await, caller(two, "dora@example.org").await]
    });
    let seen = RefCell::default();
    let mut runner = TestRunner::new(Config { cases: 56, failure_persistence: None, ..Config::default() });
    let tried = runner.run(&vec(step(), 8..56), |steps| {
        runtime.block_on(async {
            let mut rig = Rig::new().await;
            rig.settings.max_pending_per_token = u32::try_from(MOST).unwrap().try_into().unwrap();
            let reference = Reference {
                wall: 0,
                seen: 0,
                kept: None,
                world: 0,
                strict: Strict::One,
                right: [true, true, true, false],
                here: [true; 4],
                questions: Vec::new(),
                refusals: 0,
            };
            let mut pair = Pair { rig, callers: &callers, reference, seen: &seen };
            for step in &steps {
                pair.play(step).await?;
            }
            pair.compare().await
        })
    });
    tried.unwrap();
    // What was never met was not tested.
    let seen = seen.into_inner();
    for met in [
        ("ask", "ok"),
        ("ask", "approval_unavailable"),
        ("vote", "ok"),
        ("vote", "own_request"),
        ("vote", "already_decided"),
        ("vote", "approval_unknown"),
        ("use", "ok"),
        ("use", "approval_pending"),
        ("use", "approval_unknown"),
        ("use", "approval_used"),
        ("use", "approval_denied"),
        ("race", "ok"),
        ("between", "ok"),
    ] {
        assert!(seen.contains_key(&met), "never met {met:?}: {seen:?}");
    }
}
