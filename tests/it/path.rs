//! One file per station of a call.

mod cancel;
mod eras;
mod files;
mod guard;
mod http;
mod limits;
mod peer;
mod policy;
mod seen;
mod sessions;
mod token;
