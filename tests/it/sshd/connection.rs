//! One connection to the SSH server for tests: who may log in, what may be asked for, and where its commands go.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use russh::{
    Channel, ChannelId,
    keys::{Certificate, HashAlg},
    server::{self, Auth, ChannelOpenHandle, Msg, Session, VerifiedPublicKey},
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Seen, Settings,
    running::{Group, Out, answered, ran},
};

/// One of them, with the sessions on it.
pub(super) struct Connection {
    pub(super) settings: Arc<Settings>,
    pub(super) seen: Arc<Seen>,
    /// Where the input of each command goes; closed at its end.
    pub(super) inputs: HashMap<ChannelId, mpsc::UnboundedSender<Vec<u8>>>,
    /// Where the output of each command goes, until its channel is closed.
    pub(super) outs: HashMap<ChannelId, (Arc<Out>, DropGuard)>,
    pub(super) open: Arc<AtomicUsize>,
    /// The process groups of the commands that were started.
    pub(super) groups: HashMap<ChannelId, Group>,
    /// Shared with the tasks that end them.
    pub(super) sessions: Arc<Mutex<HashSet<ChannelId>>>,
}

impl Connection {
    fn asked(&self, what: &'static str) {
        self.seen.asked.lock().unwrap().push(what);
    }

    fn logged_in(&self, user: &str, credential: String) -> Auth {
        self.seen.logins.lock().unwrap().push((user.to_owned(), credential));
        Auth::Accept
    }
}

impl server::Handler for Connection {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        let changed = self.settings.says.lock().unwrap().banner.clone();
        Ok(changed.or_else(|| self.settings.banner.clone()))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let known = self.settings.authorized.iter().any(|known| known.key_data() == key.public_key.key_data());
        let line = key.public_key.to_openssh().unwrap();
        let blob = line.split(' ').nth(1).unwrap();
        let listed = self.settings.authorized_keys.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let listed = listed.is_some_and(|text| text.lines().any(|line| !line.starts_with('#') && line.contains(blob)));
        if !known && !listed {
            return Ok(Auth::reject());
        }
        Ok(self.logged_in(user, key.public_key.fingerprint(HashAlg::Sha256).to_string()))
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Self::Error> {
        let Some(ca) = &self.settings.user_ca else { return Ok(Auth::reject()) };
        let valid = certificate.validate([&ca.fingerprint(HashAlg::Sha256)]).is_ok();
        if !valid || !certificate.valid_principals().iter().any(|principal| principal == user) {
            return Ok(Auth::reject());
        }
        self.seen.certificates.lock().unwrap().push(certificate.clone());
        Ok(self.logged_in(user, certificate.key_id().to_owned()))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.open.load(Ordering::SeqCst) >= self.settings.max_sessions {
            reply.reject(russh::ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        }
        self.open.fetch_add(1, Ordering::SeqCst);
        self.sessions.lock().unwrap().insert(channel.id());
        let (id, closed) = (channel.id(), CancellationToken::new());
        let out = Arc::new(Out { write: channel.split().1, closed: closed.clone() });
        self.outs.insert(id, (out, closed.drop_guard()));
        self.seen.sessions.fetch_add(1, Ordering::SeqCst);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.seen.forwarded.lock().unwrap().push(format!("{host}:{port}"));
        let further = match self.settings.forwards {
            true => tokio::net::TcpStream::connect((host, u16::try_from(port).unwrap())).await.ok(),
            false => None,
        };
        let Some(mut further) = further else {
            reply.reject(russh::ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        reply.accept().await;
        tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut channel.into_stream(), &mut further).await;
        });
        Ok(())
    }

    async fn pty_request(
        &mut self,
        _: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(russh::Pty, u32)],
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.asked("pty");
        Ok(())
    }

    async fn x11_request(
        &mut self,
        _: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.asked("x11");
        Ok(())
    }

    async fn env_request(&mut self, _: ChannelId, _: &str, _: &str, _: &mut Session) -> Result<(), Self::Error> {
        self.asked("env");
        Ok(())
    }

    async fn shell_request(&mut self, _: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.asked("shell");
        Ok(())
    }

    async fn subsystem_request(&mut self, _: ChannelId, _: &str, _: &mut Session) -> Result<(), Self::Error> {
        self.asked("subsystem");
        Ok(())
    }

    async fn agent_request(&mut self, _: ChannelId, _: &mut Session) -> Result<bool, Self::Error> {
        self.asked("agent");
        Ok(false)
    }

    async fn tcpip_forward(&mut self, _: &str, _: &mut u32, _: &mut Session) -> Result<bool, Self::Error> {
        self.asked("tcpip-forward");
        Ok(false)
    }

    async fn streamlocal_forward(&mut self, _: &str, _: &mut Session) -> Result<bool, Self::Error> {
        self.asked("streamlocal-forward");
        Ok(false)
    }

    /// To the whole group of the command, as sshd does.
    async fn signal(&mut self, channel: ChannelId, signal: russh::Sig, _: &mut Session) -> Result<(), Self::Error> {
        let group = self.groups.get(&channel).and_then(|group| *group.lock().unwrap());
        let signal = match signal {
            russh::Sig::INT => rustix::process::Signal::INT,
            russh::Sig::KILL => rustix::process::Signal::KILL,
            _ => rustix::process::Signal::TERM,
        };
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, signal);
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.groups.remove(&channel);
        self.outs.remove(&channel);
        if self.sessions.lock().unwrap().remove(&channel) {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
        self.inputs.remove(&channel);
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.inputs.remove(&channel);
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        if let Some(input) = self.inputs.get(&channel) {
            let _ = input.send(data.to_vec());
        }
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let line = String::from_utf8_lossy(line).into_owned();
        self.seen.commands.lock().unwrap().push(line.clone());
        session.channel_success(channel)?;
        let (input, received) = mpsc::unbounded_channel();
        self.inputs.insert(channel, input);
        let (sessions, open) = (self.sessions.clone(), self.open.clone());
        let group = Group::default();
        self.groups.insert(channel, group.clone());
        let (handle, settings, seen) = (session.handle(), self.settings.clone(), self.seen.clone());
        let out = self.outs[&channel].0.clone();
        let run = settings.instead.as_deref().map_or_else(|| line.clone(), |instead| instead(&line));
        tokio::spawn(async move {
            let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most_running.fetch_max(running, Ordering::SeqCst);
            match &settings.answer {
                Some(answer) => {
                    let status = answered(&**answer, &line, received, &out).await;
                    let _ = handle.exit_status_request(channel, status).await;
                }
                None => ran(&run, received, (&handle, channel, &out), (&settings, group)).await,
            }
            seen.running.fetch_sub(1, Ordering::SeqCst);
            let _ = handle.eof(channel).await;
            if sessions.lock().unwrap().remove(&channel) {
                open.fetch_sub(1, Ordering::SeqCst);
            }
            let _ = handle.close(channel).await;
        });
        Ok(())
    }
}
