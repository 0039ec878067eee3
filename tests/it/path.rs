//! One file per station of a call.

mod eras;
mod limits;
mod peer;
mod token;
