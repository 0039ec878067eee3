//! Only executors turn a permit into an operation to run.
use tailops::{model::Operation, policy::Permit};

fn taken(permit: Permit) -> Operation {
    permit.redeem(jiff::Timestamp::MIN).unwrap()
}

fn main() {}
