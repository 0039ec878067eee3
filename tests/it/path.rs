//! One file per station of a call.

mod eras;
mod http;
mod limits;
mod peer;
mod policy;
mod sessions;
mod token;
