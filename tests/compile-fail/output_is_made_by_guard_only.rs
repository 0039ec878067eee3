//! What leaves went through the guard.
use tailops::{guard::Output, model::Content};

fn smuggled(content: Content) -> Output {
    Output { content, redactions: Default::default(), injection: Vec::new() }
}

fn main() {}
