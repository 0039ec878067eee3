//! One file per station of a call.

mod bridge;
mod bridge_strangers;
mod cancel;
mod completion;
mod eras;
mod guard;
mod http;
mod limits;
mod peer;
mod policy;
mod progress;
mod prompts;
mod resources;
mod seen;
mod sessions;
mod token;
