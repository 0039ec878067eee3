//! One file per station of a call.

mod bridge;
mod bridge_strangers;
mod cancel;
mod completion;
mod critical;
mod eras;
mod files;
mod grants;
mod guard;
mod http;
mod limits;
mod peer;
mod policy;
mod probe;
mod progress;
mod prompts;
mod resources;
mod revoke;
mod seen;
mod sessions;
mod site_policy;
mod tailnet;
mod token;
