//! One file per station of a call.

mod cancel;
mod critical;
mod eras;
mod files;
mod guard;
mod http;
mod limits;
mod peer;
mod policy;
mod probe;
mod revoke;
mod seen;
mod sessions;
mod site_policy;
mod token;
