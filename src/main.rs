//! The `tailops` command.

fn main() {}
