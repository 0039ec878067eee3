//! What the SSH client asks us while a connection lives: whether it is the right host, and nothing else. Every channel
//! that a host wants to open towards us is refused.

use std::sync::{Arc, Mutex, PoisonError};

use russh::{
    Channel, ChannelOpenFailure,
    client::{self, ChannelOpenHandle, Msg},
    keys::PublicKeyOrCertificate,
};

use super::{SshFault, trust::Trust};

/// What the handshake found: the fingerprint of the host's key, or why it was refused.
pub(super) type Verdict = Arc<Mutex<Option<Result<String, SshFault>>>>;

/// Our side of one connection.
pub(super) struct Handler {
    pub(super) trust: Trust,
    pub(super) verdict: Verdict,
}

/// What a host asked for and does not get.
async fn refuse(reply: ChannelOpenHandle) {
    reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
}

impl client::Handler for Handler {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let verdict = self.trust.check(shown);
        let trusted = verdict.is_ok();
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
        Ok(trusted)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await;
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await;
        Ok(())
    }
}
