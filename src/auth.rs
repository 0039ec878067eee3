//! From a peer and a bearer token to a [`Caller`], the only thing that may act.

mod caller;
mod token;

pub use caller::Caller;
pub use token::{Binding, Claims, MAX_TOKEN_BYTES, Sealed, TokenFault};
