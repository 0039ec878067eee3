//! The service's own log on standard error: text on a terminal, JSON otherwise. Carries correlation ids, never
//! arguments or secrets.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{Log, LogFormat};

/// Starts logging. Called once.
pub(super) fn start(log: &Log) {
    // The SDK and the database driver log what clients send: they speak up only when something is wrong inside.
    let filter = EnvFilter::new(format!("{},rmcp=off,sqlx=warn,hyper=warn", log.level));
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(io::stderr)).try_init()
    } else {
        registry.with(fmt::layer().with_ansi(super::colours(&io::stderr())).with_writer(io::stderr)).try_init()
    };
    if started.is_err() {
        tracing::warn!("logging was already started");
    }
}
