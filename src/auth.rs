//! From a peer and a bearer token to a [`Caller`], the only thing that may act. Mints, verifies, binds, revokes and
//! rotates; never looks at a header or an argument to learn who somebody is.

mod authenticate;
mod binding;
mod caller;
mod keys;
mod mint;
mod token;

pub use authenticate::{AuthFault, Authenticator};
pub use binding::{Binding, BindingError};
pub use caller::Caller;
pub use keys::{KeyError, KeyRing, rotate_key};
pub use mint::{MintError, MintRequest, Minted, State, mint, state};
pub use token::{Claims, MAX_TOKEN_BYTES, Sealed, TokenFault};
