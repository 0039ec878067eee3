//! One file per station of a call.

mod bridge;
mod bridge_strangers;
mod cancel;
mod clear;
mod completion;
mod critical;
mod eras;
mod files;
mod guard;
mod hosts;
mod http;
mod limits;
mod live;
mod peer;
mod policy;
mod probe;
mod progress;
mod prompts;
mod relay;
mod resources;
mod revoke;
mod seen;
mod sessions;
mod site_policy;
mod tls;
mod token;
