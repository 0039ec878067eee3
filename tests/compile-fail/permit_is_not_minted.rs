//! Only policy mints permits.
use tailops::{model::Operation, policy::Permit};

fn forged(operation: Operation) -> Permit {
    Permit::mint(operation, "none".into(), jiff::Timestamp::MAX)
}

fn main() {}
