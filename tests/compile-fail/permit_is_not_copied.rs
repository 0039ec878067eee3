//! One permit runs one operation once.
use tailops::policy::Permit;

fn twice(permit: &Permit) -> Permit {
    permit.clone()
}

fn main() {}
