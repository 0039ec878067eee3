//! What may happen to approvals, and how often: mostly what people and agents do, sometimes what goes wrong.

use proptest::prelude::*;

use super::rig::Strict;

/// How a call fits the question that it names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Call {
    Same,
    OfAnother,
    Altered,
}

#[derive(Clone, Debug)]
pub(super) enum Do {
    Ask {
        caller: usize,
        variant: u8,
    },
    Vote {
        who: usize,
        about: usize,
        yes: bool,
        same: bool,
    },
    /// Gives or takes the right.
    Right {
        who: usize,
        has: bool,
    },
    /// Joins or leaves the tailnet.
    Here {
        who: usize,
        is: bool,
    },
    World(u8),
    Strict(Strict),
    /// Moves the wall clock, in minutes.
    Clock(i64),
    /// What the service does every second.
    Look,
    Restart,
    Use {
        about: usize,
        call: Call,
    },
    /// Two at once.
    Race {
        about: usize,
        call: Call,
    },
    /// Something else happens when the intent is on record and the approval is not used yet.
    Between {
        about: usize,
        what: Box<Do>,
    },
}

/// Mostly the latest question.
fn about() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![0, 0, 0, 0, 0, 1, 1, 2])
}

fn call() -> impl Strategy<Value = Call> {
    prop::sample::select(vec![Call::Same, Call::Same, Call::Same, Call::Same, Call::OfAnother, Call::Altered])
}

fn small() -> impl Strategy<Value = Do> {
    let who = prop::sample::select(vec![0, 1, 1, 1, 2, 2, 2, 3]);
    prop_oneof![
        5 => (0..2usize, 0..2u8).prop_map(|(caller, variant)| Do::Ask { caller, variant }),
        12 => (who, about(), prop::bool::weighted(0.9), prop::bool::weighted(0.95))
            .prop_map(|(who, about, yes, same)| Do::Vote { who, about, yes, same }),
        2 => (0..3usize, prop::bool::weighted(0.6)).prop_map(|(who, has)| Do::Right { who, has }),
        1 => (0..4usize, prop::bool::weighted(0.6)).prop_map(|(who, is)| Do::Here { who, is }),
        1 => (0..2u8).prop_map(Do::World),
        1 => prop::sample::select(vec![Strict::One, Strict::One, Strict::One, Strict::Two, Strict::Signed])
            .prop_map(Do::Strict),
        3 => prop::sample::select(vec![-20, -7, -3, -1, 1, 2, 3, 5, 8, 16, 20]).prop_map(Do::Clock),
        1 => Just(Do::Look),
        1 => Just(Do::Restart),
        8 => (about(), call()).prop_map(|(about, call)| Do::Use { about, call }),
    ]
}

/// What may come in between.
fn disturbance() -> impl Strategy<Value = Do> {
    prop_oneof![
        3 => small(),
        2 => (1..3usize, 0..2usize).prop_map(|(who, about)| Do::Vote { who, about, yes: false, same: true }),
        3 => (1..3usize).prop_map(|who| Do::Right { who, has: false }),
        2 => (1..3usize).prop_map(|who| Do::Here { who, is: false }),
        1 => prop::sample::select(vec![8, 16]).prop_map(Do::Clock),
        1 => about().prop_map(|about| Do::Use { about, call: Call::Same }),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Do> {
    prop_oneof![
        8 => small(),
        2 => (about(), call()).prop_map(|(about, call)| Do::Race { about, call }),
        3 => (about(), disturbance()).prop_map(|(about, what)| Do::Between { about, what: Box::new(what) }),
    ]
}
