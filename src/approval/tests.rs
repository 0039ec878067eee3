//! Whose word counts, when, and for what: the refusals first.

mod model;
mod rig;
mod steps;

use std::collections::BTreeSet;

use self::rig::{Rig, Strict, approves, ballot, caller, person, tagged};
use super::*;
use crate::{
    config,
    model::{Strength, Vote},
    tailnet::{Approves, Grant, Peer},
};

async fn agent() -> Caller {
    caller(tagged(11, Vec::new()), "alice@example.org").await
}

fn code<T>(result: &Result<T, Unapproved>) -> &'static str {
    result.as_ref().map_or_else(Unapproved::code, |_| "ok")
}

fn said<T>(result: &Result<T, Undecided>) -> &'static str {
    result.as_ref().map_or_else(Undecided::code, |_| "ok")
}

/// A rule that lets its holder say yes to what is in this segment.
fn approves_in(segment: &str) -> Grant {
    let segments = Some(BTreeSet::from([segment.to_owned()]));
    Grant { approve: Some(Approves { risks: None, segments, tools: None }), ..approves() }
}

#[tokio::test]
async fn whoever_could_be_the_requester_cannot_agree() {
    let rig = Rig::new().await;
    // U+212A is the kelvin sign and U+017F the long s: some directories take them for k and s.
    for (owner, login) in [
        ("alice@example.org", "alice@example.org"),
        ("alice@example.org", "Alice@EXAMPLE.org"),
        ("nick.s@example.org", "nic\u{212a}.s@example.org"),
        ("nick.s@example.org", "nick.\u{17f}@example.org"),
        (" alice@example.org", "alice@example.org"),
    ] {
        let asked = rig.ask(&caller(tagged(11, Vec::new()), owner).await, 0).await.unwrap();
        // From a second device of theirs, too.
        for host in [21, 22] {
            rig.net.join(person(host, login, vec![approves()]));
            let own = rig.on(host).await.unwrap();
            assert_eq!(said(&rig.vote(&own, &asked, Vote::Approve).await), "own_request", "{owner} {login}");
        }
        rig.vote(&rig.on(21).await.unwrap(), &asked, Vote::Deny).await.unwrap();
    }
    let own_node = caller(person(2, "bob@example.org", Vec::new()), "dora@example.org").await;
    let asked = rig.ask(&own_node, 0).await.unwrap();
    assert_eq!(said(&rig.vote(&rig.bob().await, &asked, Vote::Approve).await), "own_request");
}

#[tokio::test]
async fn a_name_that_only_looks_alike_or_is_known_elsewhere_gives_no_right() {
    let mut rig = Rig::new().await;
    rig.settings.approvers = BTreeSet::from(["nick@example.org".to_owned()]);
    let asked = rig.ask(&agent().await, 0).await.unwrap();
    let nick = |name| Person::on_host(0, name);
    for name in ["nick", "nic\u{212a}@example.org", "nick@example.com", "nick@example.org.", ""] {
        assert_eq!(said(&rig.vote(&nick(name), &asked, Vote::Approve).await), "not_an_approver", "{name}");
    }
    rig.vote(&nick("Nick@example.org"), &asked, Vote::Approve).await.unwrap();
    assert!(rig.used(&agent().await, asked.id.as_str(), 0).await.is_err(), "another token");
}

#[tokio::test]
async fn configuration_names_nobody_whom_the_tailnet_has_rules_for() {
    let mut rig = Rig::new().await;
    rig.settings.approvers = BTreeSet::from(["mallory@example.org".to_owned()]);
    let asked = rig.ask(&agent().await, 0).await.unwrap();
    let mallory = rig.on(4).await.unwrap();
    assert_eq!(said(&rig.vote(&mallory, &asked, Vote::Approve).await), "approval_unknown");
}

#[tokio::test]
async fn a_tagged_node_is_nobody_and_a_yes_from_a_node_that_was_tagged_since_counts_no_more() {
    let rig = Rig::new().await;
    assert_eq!(Person::of(&tagged(30, vec![approves()])).unwrap_err(), NotAPerson);
    let agent = agent().await;
    let asked = rig.ask(&agent, 0).await.unwrap();
    rig.vote(&rig.bob().await, &asked, Vote::Approve).await.unwrap();
    rig.net.join(tagged(2, vec![approves()]));
    assert_eq!(code(&rig.used(&agent, asked.id.as_str(), 0).await), "approval_pending");
    // The address is another node's now, of the same person even: nobody said yes from there.
    rig.net.join(Peer { id: "other".to_owned(), ..person(2, "bob@example.org", vec![approves()]) });
    assert_eq!(code(&rig.used(&agent, asked.id.as_str(), 0).await), "approval_pending");
    rig.vote(&rig.bob().await, &asked, Vote::Approve).await.unwrap();
    rig.used(&agent, asked.id.as_str(), 0).await.unwrap();
}

#[tokio::test]
async fn a_no_takes_back_a_yes_and_ends_it() {
    let rig = Rig::new().await;
    let agent = agent().await;
    let asked = rig.ask(&agent, 0).await.unwrap();
    let bob = rig.bob().await;
    rig.vote(&bob, &asked, Vote::Approve).await.unwrap();
    assert_eq!(said(&rig.vote(&bob, &asked, Vote::Approve).await), "already_decided");
    rig.vote(&bob, &asked, Vote::Deny).await.unwrap();
    assert_eq!(code(&rig.used(&agent, asked.id.as_str(), 0).await), "approval_denied");
    assert_eq!(said(&rig.vote(&rig.carol().await, &asked, Vote::Approve).await), "approval_denied");
}

#[tokio::test]
async fn what_happens_after_the_intent_is_on_record_still_counts() {
    let mut rig = Rig::new().await;
    let agent = agent().await;
    // A right lost.
    let asked = rig.ask(&agent, 0).await.unwrap();
    rig.vote(&rig.bob().await, &asked, Vote::Approve).await.unwrap();
    let ready = rig.agreed(&agent, asked.id.as_str(), 0).await.unwrap();
    rig.net.join(person(2, "bob@example.org", Vec::new()));
    // Somebody else's yes does not stand in for the one that the record names.
    rig.vote(&rig.carol().await, &asked, Vote::Approve).await.unwrap();
    assert_eq!(code(&rig.take(&agent, ready).await), "approval_pending");
    // An approver deleted from the settings.
    rig.settings.approvers = BTreeSet::from(["nick".to_owned()]);
    let asked = rig.ask(&agent, 1).await.unwrap();
    rig.vote(&Person::on_host(1000, "nick"), &asked, Vote::Approve).await.unwrap();
    let ready = rig.agreed(&agent, asked.id.as_str(), 1).await.unwrap();
    rig.settings.approvers.clear();
    assert_eq!(code(&rig.take(&agent, ready).await), "approval_pending");
    // Signatures are wanted from now on.
    let asked = rig.ask(&agent, 2).await.unwrap();
    rig.vote(&rig.carol().await, &asked, Vote::Approve).await.unwrap();
    let ready = rig.agreed(&agent, asked.id.as_str(), 2).await.unwrap();
    rig.settings.strength = Strength::Signature;
    assert_eq!(code(&rig.take(&agent, ready).await), "approval_pending");
    rig.settings.strength = Strength::Identity;
    rig.used(&agent, asked.id.as_str(), 2).await.unwrap();
}

#[tokio::test]
async fn the_right_is_looked_for_where_the_target_is_now() {
    let mut rig = Rig::new().await;
    for (host, name) in [(1, "alice"), (2, "bob"), (3, "carol")] {
        rig.net.join(person(host, &format!("{name}@example.org"), vec![approves_in("staging")]));
    }
    let agent = agent().await;
    assert_eq!(code(&rig.ask(&agent, 0).await), "approval_unavailable", "what is in no segment is nobody's");
    rig.segment = Some("staging");
    let asked = rig.ask(&agent, 0).await.unwrap();
    rig.vote(&rig.bob().await, &asked, Vote::Approve).await.unwrap();
    rig.segment = Some("production");
    assert_eq!(code(&rig.used(&agent, asked.id.as_str(), 0).await), "approval_pending");
    rig.segment = Some("staging");
    rig.used(&agent, asked.id.as_str(), 0).await.unwrap();
}

#[tokio::test]
async fn policy_that_became_stricter_counts_for_what_was_asked_before() {
    let mut rig = Rig::new().await;
    let agent = agent().await;
    let asked = rig.ask(&agent, 0).await.unwrap();
    rig.vote(&rig.bob().await, &asked, Vote::Approve).await.unwrap();
    for strict in [Strict::Two, Strict::Signed] {
        rig.strict = strict;
        assert_eq!(code(&rig.used(&agent, asked.id.as_str(), 0).await), "approval_pending", "{strict:?}");
    }
    rig.strict = Strict::Two;
    rig.vote(&rig.carol().await, &asked, Vote::Approve).await.unwrap();
    rig.used(&agent, asked.id.as_str(), 0).await.unwrap();
}

#[tokio::test]
async fn a_quorum_is_of_different_people() {
    let mut rig = Rig::new().await;
    rig.strict = Strict::Two;
    let agent = agent().await;
    let asked = rig.ask(&agent, 0).await.unwrap();
    rig.vote(&rig.bob().await, &asked, Vote::Approve).await.unwrap();
    // The same person from another device, and under a name that a directory may take for theirs.
    for (host, login, expected) in [(40, "BOB@example.org", "already_decided"), (41, "bob@example.org\u{a0}", "ok")] {
        rig.net.join(person(host, login, vec![approves()]));
        assert_eq!(said(&rig.vote(&rig.on(host).await.unwrap(), &asked, Vote::Approve).await), expected);
        assert_eq!(code(&rig.used(&agent, asked.id.as_str(), 0).await), "approval_pending", "{login:?}");
    }
}

#[tokio::test]
async fn an_outsider_does_not_learn_what_there_is() {
    let rig = Rig::new().await;
    let asked = rig.ask(&agent().await, 0).await.unwrap();
    let mallory = rig.on(4).await.unwrap();
    let missing = Asked { id: "aaaa-bbbb-cccc".into(), ..asked.clone() };
    let nothing = rig.vote(&mallory, &missing, Vote::Approve).await.unwrap_err();
    for (vote, hash, signature) in [
        (Vote::Approve, asked.operation_hash.clone(), None),
        (Vote::Deny, asked.operation_hash.clone(), None),
        (Vote::Approve, "0".repeat(64), None),
        (Vote::Approve, asked.operation_hash.clone(), Some("no signature".to_owned())),
    ] {
        let ballot = Ballot { operation_hash: hash, signature, ..ballot(&asked, vote) };
        let refused = rig.approvals.decide(&rig.settings, &mallory, &ballot).await.unwrap_err();
        let same = |why: &Undecided, id: &ApprovalId| (why.code(), why.to_string().replace(id.as_str(), "ID"));
        assert_eq!(same(&refused, &asked.id), same(&nothing, &missing.id));
    }
    let seen = rig.approvals.one_seen_by(&rig.settings, &mallory, asked.id.as_str()).await.unwrap();
    assert_eq!(seen, None);
    assert_eq!(rig.notes.all().iter().filter(|noted| noted.refused == Some("not_an_approver")).count(), 4);
}

#[tokio::test]
async fn a_comment_is_one_clean_line() {
    let rig = Rig::new().await;
    let asked = rig.ask(&agent().await, 0).await.unwrap();
    let bob = rig.bob().await;
    for comment in ["two\nlines".to_owned(), "\u{1b}[2J".to_owned(), "x".repeat(501)] {
        let ballot = Ballot { comment, ..ballot(&asked, Vote::Approve) };
        let refused = rig.approvals.decide(&rig.settings, &bob, &ballot).await.unwrap_err();
        assert!(refused.to_string().contains("`comment`"), "{refused}");
    }
    let ballot = Ballot { comment: "the password is hunter2".to_owned(), ..ballot(&asked, Vote::Approve) };
    rig.approvals.decide(&rig.settings, &bob, &ballot).await.unwrap();
    let seen = rig.approvals.one_seen_by(&rig.settings, &bob, asked.id.as_str()).await.unwrap().unwrap();
    assert_eq!(seen.votes[0].comment, "the password is ‹redacted›");
    assert!(rig.notes.all().iter().all(|noted| !format!("{noted:?}").contains("hunter2")));
}

#[tokio::test]
async fn what_cannot_be_recorded_does_not_count() {
    let rig = Rig::new().await;
    let agent = agent().await;
    let asked = rig.ask(&agent, 0).await.unwrap();
    rig.notes.breaks(true);
    for vote in [Vote::Approve, Vote::Deny] {
        assert_eq!(said(&rig.vote(&rig.bob().await, &asked, vote).await), "audit_unavailable");
    }
    assert_eq!(
        (rig.store.votes(asked.id.as_str()).await.unwrap(), rig.state(asked.id.as_str()).await),
        (vec![], "pending".into())
    );
    // An end by itself is written down later; it has come all the same.
    rig.clock.move_by(16);
    assert_eq!(code(&rig.approvals.look(&mut None).await), "audit_unavailable");
    assert_eq!(code(&rig.used(&agent, asked.id.as_str(), 0).await), "approval_expired");
    rig.notes.breaks(false);
    rig.approvals.look(&mut None).await.unwrap();
    assert_eq!((rig.state(asked.id.as_str()).await, rig.notes.count("approval.expired")), ("expired".into(), 1));
}

#[tokio::test]
async fn a_clock_that_jumps_neither_extends_nor_revives() {
    let mut rig = Rig::new().await;
    let agent = agent().await;
    let asked = rig.ask(&agent, 0).await.unwrap();
    rig.vote(&rig.bob().await, &asked, Vote::Approve).await.unwrap();
    rig.clock.move_by(10);
    rig.approvals.look(&mut None).await.unwrap();
    // Back by ten minutes, and with a restart: six minutes later the time is over, by whatever it was that counted.
    rig.clock.move_by(-10);
    rig.restart().await;
    assert!(rig.agreed(&agent, asked.id.as_str(), 0).await.is_ok());
    rig.clock.move_by(16);
    assert_eq!(code(&rig.used(&agent, asked.id.as_str(), 0).await), "approval_expired");
    // Nobody has ended it on record, and the clock is set back: it stays over, also after a restart.
    rig.clock.move_by(-30);
    assert_eq!(code(&rig.used(&agent, asked.id.as_str(), 0).await), "approval_expired");
    rig.approvals.look(&mut None).await.unwrap();
    rig.restart().await;
    assert_eq!(code(&rig.used(&agent, asked.id.as_str(), 0).await), "approval_expired");
    assert_eq!(rig.state(asked.id.as_str()).await, "expired");
}

#[tokio::test]
async fn a_clock_that_runs_on_after_it_was_set_back_counts_from_the_latest_moment_that_was_seen() {
    let mut rig = Rig::new().await;
    let agent = agent().await;
    rig.clock.move_by(60);
    let asked = rig.ask(&agent, 0).await.unwrap();
    rig.clock.move_by(-60);
    rig.restart().await;
    rig.vote(&rig.bob().await, &asked, Vote::Approve).await.unwrap();
    let seen = rig.approvals.one_seen_by(&rig.settings, &rig.bob().await, asked.id.as_str()).await.unwrap().unwrap();
    assert_eq!(seen.state, State::Approved);
    assert!(seen.votes[0].at >= seen.created_at, "{} {}", seen.votes[0].at, seen.created_at);
}

fn key(id: &str) -> Act {
    Act::EnrolKey {
        key_id: id.to_owned(),
        login: "bob@example.org".to_owned(),
        kind: "ssh".to_owned(),
        public_key: "ssh-ed25519 AAAA".to_owned(),
        label: "laptop".to_owned(),
    }
}

impl Rig {
    async fn ask_act(&self, by: &Person, act: &Act) -> Result<Asked, Undecided> {
        self.approvals.ask_act(&self.settings, by, act, CorrelationId::random()).await
    }
}

#[tokio::test]
async fn an_act_needs_somebody_else_with_a_right_that_reaches_the_gateway() {
    let rig = Rig::new().await;
    let (bob, carol, mallory) = (rig.bob().await, rig.carol().await, rig.on(4).await.unwrap());
    assert_eq!(said(&rig.ask_act(&mallory, &key("SHA256:a")).await), "not_an_approver");
    let asked = rig.ask_act(&bob, &key("SHA256:a")).await.unwrap();
    assert_eq!(said(&rig.vote(&bob, &asked, Vote::Approve).await), "own_request");
    // Rules for some engagements, targets or segments say nothing about the gateway.
    let engagements = Grant { engagements: Some(BTreeSet::from(["test".into()])), ..approves() };
    let targets = Grant { targets: Some(BTreeSet::from(["web".into()])), ..approves() };
    for rule in [engagements, targets, approves_in("staging")] {
        rig.net.join(person(50, "erin@example.org", vec![rule]));
        assert_eq!(said(&rig.vote(&rig.on(50).await.unwrap(), &asked, Vote::Approve).await), "approval_unknown");
    }
    assert!(rig.store.approver_keys().await.unwrap().is_empty());
    // No call can use what is not a call's.
    assert_eq!(code(&rig.used(&agent().await, asked.id.as_str(), 0).await), "approval_unknown");

    rig.vote(&carol, &asked, Vote::Approve).await.unwrap();
    let keys = rig.store.approver_keys().await.unwrap();
    assert_eq!((keys.len(), keys[0].key_id.as_str(), keys[0].added_by.as_str()), (1, "SHA256:a", "bob@example.org"));
    assert_eq!(rig.state(asked.id.as_str()).await, "used");
    let sorts: Vec<_> = rig
        .notes
        .all()
        .into_iter()
        .filter(|noted| noted.refused.is_none())
        .map(|noted| (noted.act, noted.sort))
        .collect();
    assert_eq!(
        sorts,
        [
            ("approval.ask", "event"),
            ("approval.approve", "event"),
            ("approver_key.add", "begun"),
            ("approver_key.add", "finished"),
        ]
    );
    assert_eq!(rig.notes.all().last().unwrap().details["public_key"], "ssh-ed25519 AAAA");

    let gone = Act::RemoveKey { key_id: "SHA256:a".to_owned(), login: "bob@example.org".to_owned() };
    let asked = rig.ask_act(&carol, &gone).await.unwrap();
    rig.vote(&bob, &asked, Vote::Approve).await.unwrap();
    assert_eq!(rig.store.approver_key("SHA256:a").await.unwrap(), None);
}

#[tokio::test]
async fn an_act_that_cannot_be_done_changes_nothing_and_says_so() {
    let rig = Rig::new().await;
    let (bob, carol) = (rig.bob().await, rig.carol().await);
    let [first, second] =
        [rig.ask_act(&bob, &key("SHA256:a")).await.unwrap(), rig.ask_act(&bob, &key("SHA256:a")).await.unwrap()];
    rig.vote(&carol, &first, Vote::Approve).await.unwrap();
    assert_eq!(said(&rig.vote(&carol, &second, Vote::Approve).await), "act_impossible");
    let last = rig.notes.all().pop().unwrap();
    assert_eq!((last.sort, last.refused), ("finished", Some("act_impossible")));
    assert_eq!(
        (rig.state(second.id.as_str()).await, rig.store.votes(second.id.as_str()).await.unwrap()),
        ("pending".into(), vec![])
    );
    // Without its intent on record nothing is done.
    let third = rig.ask_act(&bob, &key("SHA256:b")).await.unwrap();
    rig.notes.breaks(true);
    assert_eq!(said(&rig.vote(&carol, &third, Vote::Approve).await), "audit_unavailable");
    assert_eq!(rig.store.approver_keys().await.unwrap().len(), 1);
}

#[tokio::test]
async fn acts_are_bounded_and_denied_and_expire_like_every_question() {
    let mut rig = Rig::new().await;
    rig.settings.max_pending_per_token = 1.try_into().unwrap();
    let (bob, carol) = (rig.bob().await, rig.carol().await);
    let asked = rig.ask_act(&bob, &key("SHA256:a")).await.unwrap();
    assert_eq!(said(&rig.ask_act(&bob, &key("SHA256:b")).await), "approvals_full");
    rig.vote(&carol, &asked, Vote::Deny).await.unwrap();
    let asked = rig.ask_act(&bob, &key("SHA256:b")).await.unwrap();
    rig.clock.move_by(16);
    assert_eq!(said(&rig.vote(&carol, &asked, Vote::Approve).await), "approval_expired");
    assert!(rig.store.approver_keys().await.unwrap().is_empty());
    let alone = config::Approvals { approvers: BTreeSet::from(["root".to_owned()]), ..rig.settings.clone() };
    rig.net.change(|peers| peers.clear());
    let root = Person::on_host(0, "root");
    let refused = rig.approvals.ask_act(&alone, &root, &key("SHA256:c"), CorrelationId::random()).await;
    assert_eq!(said(&refused), "approval_unavailable");
}
