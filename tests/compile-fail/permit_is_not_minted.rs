//! Only policy mints permits.
use tailops::{model::Operation, policy::Permit};

fn forged(operation: Operation) -> Permit {
    Permit::mint(operation, "none", jiff::Timestamp::MAX)
}

fn main() {}
