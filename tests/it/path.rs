//! One file per station of a call.

mod cancel;
mod eras;
mod http;
mod limits;
mod peer;
mod policy;
mod seen;
mod sessions;
mod token;
