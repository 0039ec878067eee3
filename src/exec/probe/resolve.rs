//! Names to addresses. Answers with all the addresses there are and judges none.

use std::{io, net::IpAddr};

use futures_util::future::BoxFuture;

/// Where addresses of names come from. The system's, except in tests.
pub trait Resolver: Send + Sync {
    /// All addresses of `name`, the one to prefer first. Called once a probe.
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// What the machine's own programs would be told.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    }
}
