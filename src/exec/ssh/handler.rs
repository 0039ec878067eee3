//! What the SSH client asks us while a connection lives: whether it is the right host, and nothing else. Every channel
//! that a host wants to open towards us is refused, of what it says before the login little is kept, and the keys it
//! announces are never learnt.

use std::sync::{Arc, Mutex, PoisonError};

use russh::{
    Channel, ChannelOpenFailure, Names,
    client::{self, ChannelOpenHandle, Msg},
    keys::{PublicKey, PublicKeyOrCertificate},
};

use super::{
    SshFault,
    alarm::Bell,
    greeting::Hearing,
    trust::{Proven, Trust},
};
use crate::model::Clock;

/// What a host may say before the login, in bytes.
const MOST_BANNER: usize = 64 << 10;

/// What the handshake found: the proof, or why the host was refused.
pub(super) type Verdict = Arc<Mutex<Option<Result<Proven, SshFault>>>>;

/// What the host said of itself up to the login.
pub(super) type Heard = Arc<Mutex<Hearing>>;

/// Our side of one connection.
pub(super) struct Handler {
    trust: Arc<Trust>,
    bell: Bell,
    clock: Arc<dyn Clock>,
    verdict: Verdict,
    heard: Heard,
    /// Bytes that the host said before the login.
    banner: usize,
}

impl Handler {
    /// Lets in a host that `trust` trusts; another one is told of by `bell`. Where the verdict will be found, and what
    /// the host said.
    pub(super) fn new(trust: Arc<Trust>, bell: Bell, clock: Arc<dyn Clock>) -> (Self, Verdict, Heard) {
        let (verdict, heard) = (Verdict::default(), Heard::default());
        (Self { trust, bell, clock, verdict: verdict.clone(), heard: heard.clone(), banner: 0 }, verdict, heard)
    }
}

/// What a host asked for and does not get.
async fn refuse(reply: ChannelOpenHandle) -> Result<(), russh::Error> {
    reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
    Ok(())
}

impl client::Handler for Handler {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let checked = self.trust.check(shown, self.clock.now());
        if let Err(fault) = &checked {
            self.bell.ring(&self.trust, fault).await;
        }
        let trusted = checked.is_ok();
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(checked);
        Ok(trusted)
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut client::Session) -> Result<(), Self::Error> {
        // Each costs at least its message.
        self.banner = self.banner.saturating_add(banner.len().max(64));
        if self.banner > MOST_BANNER {
            return Err(russh::Error::PacketSize(self.banner));
        }
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).said(banner);
        Ok(())
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        _: &Names,
        session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        // The key exchange covers it: it is the word of who holds the host key.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).identified(session.remote_sshid());
        Ok(())
    }

    async fn openssh_ext_host_keys_announced(
        &mut self,
        _: Vec<PublicKey>,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        // Enrolling a key is an act of people.
        Ok(())
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
        refuse(reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_unknown(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }
}
