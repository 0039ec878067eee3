//! A pending operation becomes a permit only through a person.
use tailops::policy::{Pending, Permit};

fn waved_through(pending: Pending) -> Permit {
    pending.into()
}

fn main() {}
