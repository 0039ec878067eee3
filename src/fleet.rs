//! The fleet: which targets there are. Hands a target out only to its own engagement; an id of
//! another engagement looks exactly like one that does not exist.

mod registry;
mod stored;

pub use registry::Registry;
pub use stored::{read_rows, stored_targets};
