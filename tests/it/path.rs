//! One file per station of a call.

mod cancel;
mod critical;
mod eras;
mod guard;
mod http;
mod limits;
mod peer;
mod policy;
mod revoke;
mod seen;
mod sessions;
mod token;
