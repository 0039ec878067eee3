//! Over real connections: hosts that are not who they should be, hosts that offer nothing safe, and hosts that want
//! something of us. None of them gets a login.

use std::{sync::Mutex, time::Instant};

use futures_util::{FutureExt, future::BoxFuture};
use russh::{
    Channel, ChannelId, ChannelOpenFailure, Error,
    keys::{
        Certificate, HashAlg, PublicKey,
        ssh_key::certificate::{Builder, CertType},
    },
    server::{self, Auth, ChannelOpenHandle, Msg, Session, VerifiedPublicKey},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use super::{
    super::{
        alarm::{Alarms, HostAlarm},
        tether::tether,
    },
    *,
};
use crate::config::HostCa;

impl Rig {
    /// How a call that never began was refused: the code and the words.
    async fn refused(&self) -> (&'static str, String) {
        match self.run(&Script::new(&ECHO, ["x"])).await.outcome {
            StepOutcome::NotStarted { code, why } => (code, why),
            other => panic!("{other:?}"),
        }
    }
}

/// A host that does with each connection what `conduct` says.
async fn host<F: Future<Output = ()> + Send + 'static>(
    conduct: impl Fn(TcpStream) -> F + Send + 'static,
) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        conduct(stream).await;
    });
    (port, served)
}

/// A rig whose target is at `port`.
async fn aimed_at(port: u16) -> Rig {
    let mut rig = rig(|_, _| {}).await;
    rig.connection().port = Some(port);
    rig
}

/// The first message of a key exchange, with `lists` of names in the order of the protocol.
fn key_exchange_init(lists: [&str; 10]) -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend([7; 16]);
    for list in lists {
        payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
        payload.extend(list.as_bytes());
    }
    payload.extend([0; 5]);
    let padding = 4 + (8 - (payload.len() + 5 + 4) % 8);
    let mut packet = u32::try_from(payload.len() + 1 + padding).unwrap().to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap());
    packet.extend(payload);
    packet.extend(vec![0; padding]);
    packet
}

#[tokio::test]
async fn a_host_that_offers_nothing_safe_is_refused_with_the_reason() {
    let names = (0..60).map(|n| format!("evil\u{1b}[2J{n}")).collect::<Vec<_>>().join(",");
    let weak_exchanges = "diffie-hellman-group1-sha1,diffie-hellman-group14-sha256,ecdh-sha2-nistp256";
    let good = ("curve25519-sha256", "ssh-ed25519", "aes256-ctr", "hmac-sha2-256-etm@openssh.com", "none");
    for (what, at, offered) in [
        ("key exchange", 0, weak_exchanges),
        ("key exchange", 0, &names),
        ("host key", 1, "ssh-rsa,ssh-dss"),
        ("host key", 1, "ssh-ed25519-cert-v01@openssh.com"),
        ("cipher", 2, "aes128-cbc,3des-cbc,arcfour"),
        ("MAC", 4, "hmac-sha1,hmac-md5,hmac-sha2-256,none"),
        ("compression", 6, "zlib,zlib@openssh.com"),
    ] {
        let (kex, key, cipher, mac, compression) = good;
        let mut lists = [kex, key, cipher, cipher, mac, mac, compression, compression, "", ""];
        lists[at] = offered;
        if (2..8).contains(&at) {
            lists[at + 1] = offered;
        }
        let packet = key_exchange_init(lists);
        let (port, served) = host(move |mut stream| {
            let packet = packet.clone();
            async move {
                stream.write_all(b"SSH-2.0-old\r\n").await.unwrap();
                stream.write_all(&packet).await.unwrap();
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await;
        let (code, why) = aimed_at(port).await.refused().await;
        assert_eq!(code, "weak_algorithms", "{what}: {why}");
        assert!(why.contains(&format!("no {what} that is safe")), "{why}");
        let first = offered.split(',').next().unwrap().replace(|c: char| !c.is_ascii_graphic(), "?");
        assert!(why.contains(&first), "{why}");
        assert!(why.len() < 600 && why.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{why:?}");
        timeout(Duration::from_secs(10), served).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_host_with_a_short_rsa_key_is_refused_though_it_was_pinned() {
    let short = include_str!("rsa_1024");
    let key = PrivateKey::from_openssh(short).unwrap();
    let pin = pin_of(key.public_key());
    let rig = rig(|settings, connection| {
        settings.host_keys = vec![key];
        connection.host_keys = vec![pin.parse().unwrap()];
    })
    .await;
    let (code, why) = rig.refused().await;
    assert_eq!(code, "weak_algorithms", "{why}");
    assert!(why.contains("1024 bits"), "{why}");
    assert!(rig.sshd.seen.logins.lock().unwrap().is_empty());
}

/// Whatever a host says before it has said who it is, it is left in bounded time, and the connection is closed.
#[tokio::test]
async fn a_host_that_never_comes_to_the_point_is_left() {
    type Conduct = fn(TcpStream) -> BoxFuture<'static, ()>;
    let endless_line: Conduct = |mut stream| {
        async move {
            let chunk = [b'x'; 64 << 10];
            stream.write_all(b"SSH-2.0-").await.unwrap();
            while stream.write_all(&chunk).await.is_ok() {}
        }
        .boxed()
    };
    let endless_lines: Conduct =
        |mut stream| async move { while stream.write_all(b"hello\r\n").await.is_ok() {} }.boxed();
    let huge_packet: Conduct = |mut stream| {
        async move {
            stream.write_all(b"SSH-2.0-x\r\n\xff\xff\xff\xff").await.unwrap();
            let chunk = [0; 64 << 10];
            while stream.write_all(&chunk).await.is_ok() {}
        }
        .boxed()
    };
    let silent: Conduct = |mut stream| {
        async move {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        .boxed()
    };
    let stalls: Conduct = |mut stream| {
        async move {
            stream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        .boxed()
    };
    // A message that says nothing, again and again, in place of the key exchange.
    let chatters: Conduct = |mut stream| {
        async move {
            stream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
            let nothing = [0, 0, 0, 12, 6, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            while stream.write_all(&nothing).await.is_ok() {}
        }
        .boxed()
    };
    for (name, conduct, late) in [
        ("an identification without end", endless_line, false),
        ("lines without end", endless_lines, false),
        ("a packet of 4 GiB", huge_packet, false),
        ("silence", silent, true),
        ("an identification and nothing else", stalls, true),
        ("chatter", chatters, true),
    ] {
        let (port, served) = host(conduct).await;
        let mut rig = aimed_at(port).await;
        if late {
            rig.connection().timeout = Duration::from_millis(500);
        }
        let started = Instant::now();
        let (code, why) = rig.refused().await;
        assert_eq!(code, "unreachable", "{name}: {why}");
        assert!(started.elapsed() < Duration::from_secs(10), "{name}: {:?}", started.elapsed());
        assert!(why.len() < 300, "{name}: {why}");
        timeout(Duration::from_secs(10), served).await.unwrap_or_else(|_| panic!("{name}: still connected")).unwrap();
    }
}

#[tokio::test]
async fn a_banner_is_dropped_and_one_without_measure_ends_the_connection() {
    let said = |bytes: usize| rig(move |settings, _| settings.banner = Some("b".repeat(bytes)));
    let output = said(4000).await.run(&Script::new(&ECHO, ["x"])).await;
    assert_eq!((output.outcome, output.stdout.text().as_ref()), (StepOutcome::Exited(3), "x"));
    for bytes in [100 << 10, 1 << 20] {
        let rig = said(bytes).await;
        let (code, why) = rig.refused().await;
        // The connection ends in the middle of the login.
        assert!(["unreachable", "login_refused"].contains(&code), "{bytes}: {code} {why}");
        assert!(!why.contains("bbbb") && rig.sshd.seen.logins.lock().unwrap().is_empty());
    }
}

/// Lets everybody in, and opens every kind of channel towards the client before it answers a command.
struct Pushy {
    results: mpsc::UnboundedSender<(&'static str, Result<(), Error>)>,
}

impl server::Handler for Pushy {
    type Error = Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(&mut self, channel: ChannelId, _: &[u8], session: &mut Session) -> Result<(), Error> {
        session.channel_success(channel)?;
        let (handle, results) = (session.handle(), self.results.clone());
        tokio::spawn(async move {
            let found = [
                ("session", handle.channel_open_session().await.map(drop)),
                ("agent", handle.channel_open_agent().await.map(drop)),
                ("x11", handle.channel_open_x11("127.0.0.1", 6000).await.map(drop)),
                ("forwarded", handle.channel_open_forwarded_tcpip("127.0.0.1", 1, "127.0.0.1", 2).await.map(drop)),
                ("forwarded local", handle.channel_open_forwarded_streamlocal("/run/x").await.map(drop)),
                ("direct", handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 2).await.map(drop)),
                ("direct local", handle.channel_open_direct_streamlocal("/run/x").await.map(drop)),
            ];
            for result in found {
                results.send(result).unwrap();
            }
            let _ = handle.exit_status_request(channel, 0).await;
            let _ = handle.close(channel).await;
        });
        Ok(())
    }
}

#[tokio::test]
async fn every_channel_that_a_host_opens_is_refused_and_the_command_goes_on() {
    let key = new_key();
    let pin = pin_of(key.public_key());
    let (results, mut found) = mpsc::unbounded_channel();
    let config = Arc::new(server::Config { keys: vec![key], ..server::Config::default() });
    let (port, _served) = host(move |stream| {
        let (config, pushy) = (config.clone(), Pushy { results: results.clone() });
        async move {
            let _ = server::run_stream(config, stream, pushy).await.unwrap().await;
        }
    })
    .await;
    let mut rig = aimed_at(port).await;
    rig.connection().host_keys = vec![pin.parse().unwrap()];
    let output = rig.run(&Script::new(&ECHO, ["x"])).await;
    assert_eq!(output.outcome, StepOutcome::Exited(0));
    for _ in 0..7 {
        let (kind, result) = found.recv().await.unwrap();
        let refused = matches!(result, Err(Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited)));
        assert!(refused, "{kind}: {result:?}");
    }
}

#[derive(Default)]
pub(super) struct Heard(pub(super) Mutex<Vec<HostAlarm>>);

impl Alarms for Heard {
    fn raise(&self, alarm: HostAlarm) -> BoxFuture<'_, bool> {
        self.0.lock().unwrap().push(alarm);
        std::future::ready(true).boxed()
    }
}

/// `rig` with somebody who hears its alarms.
fn heard(rig: Rig) -> (Rig, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    (Rig { ssh: rig.ssh.telling(heard.clone()), ..rig }, heard)
}

/// A certificate for the host of the rig.
fn certificate(ca: &PrivateKey, key: &PublicKey, ended: bool) -> Certificate {
    let now = u64::try_from(SystemClock.now().as_second()).unwrap();
    let until = if ended { now - 60 } else { now + 3600 };
    let mut builder = Builder::new(vec![1; 16], key.key_data().clone(), now - 3600, until).unwrap();
    builder.cert_type(CertType::Host).unwrap().valid_principal("127.0.0.1").unwrap();
    builder.sign(ca).unwrap()
}

fn authority(ca: &PrivateKey) -> HostCa {
    HostCa { hosts: vec!["127.0.0.*".into()], public_key: ca.public_key().to_openssh().unwrap() }
}

#[tokio::test]
async fn another_key_raises_an_alarm_that_says_whose_and_what() {
    let shown = new_key();
    let key = shown.clone();
    let (mut rig, heard) = heard(rig(move |settings, _| settings.host_keys = vec![key]).await);
    let enrolled = rig.connection().host_keys[0].to_string();
    let port = rig.sshd.address.port();
    let (_, why) = rig.refused().await;
    let alarms = heard.0.lock().unwrap().clone();
    assert_eq!(alarms.len(), 1);
    assert_eq!((alarms[0].target.as_str(), alarms[0].engagement.as_str()), ("web", "test"));
    assert_eq!((alarms[0].host.as_str(), alarms[0].port, alarms[0].code), ("127.0.0.1", port, "host_key_mismatch"));
    assert_eq!((&alarms[0].shown, &alarms[0].enrolled), (&pin_of(shown.public_key()), &vec![enrolled]));
    assert_eq!((alarms[0].subject.as_str(), &alarms[0].why), ("test", &why));
}

#[tokio::test]
async fn an_unknown_host_raises_none_and_is_not_learnt() {
    let (rig, heard) = heard(rig(|_, connection| connection.host_keys.clear()).await);
    for _ in 0..2 {
        assert_eq!(rig.refused().await.0, "host_key_unknown");
    }
    assert!(heard.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_certificate_lets_a_host_in_that_has_no_pin_until_it_is_revoked() {
    let (ca, key) = (new_key(), new_key());
    let made = certificate(&ca, key.public_key(), false);
    let (rig, heard) = heard(
        rig(move |settings, connection| {
            (settings.host_keys, settings.host_certificates) = (vec![key], vec![made]);
            connection.host_keys.clear();
        })
        .await,
    );
    assert_eq!(rig.refused().await.0, "host_key_unknown");
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("revoked");
    let trusting = |rig: Rig| {
        let settings =
            config::Ssh { host_cas: vec![authority(&ca)], revoked_keys: Some(list.clone()), ..config::Ssh::default() };
        let node = rig.ssh.node.clone();
        let ssh = Ssh::open(settings, config::Exec::default(), node, Arc::new(SystemClock)).telling(heard.clone());
        Rig { ssh, ..rig }
    };
    let rig = trusting(rig);
    assert_eq!(rig.refused().await.0, "revocation_unreadable");
    fs::write(&list, "# nobody\n").unwrap();
    let output = rig.run(&Script::new(&ECHO, ["x"])).await;
    assert_eq!(output.outcome, StepOutcome::Exited(3));
    let by = ca.public_key().fingerprint(HashAlg::Sha256).to_string();
    assert_eq!(output.wire.unwrap().trust, HostTrust::Certificate(by));
    assert!(heard.0.lock().unwrap().is_empty());
    fs::write(&list, format!("serial: {} 0\n", ca.public_key().fingerprint(HashAlg::Sha256))).unwrap();
    let rig = trusting(rig);
    assert_eq!(rig.refused().await.0, "host_key_revoked");
    assert_eq!(heard.0.lock().unwrap().len(), 1);
    assert_eq!(rig.sshd.seen.logins.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_certificate_that_ended_is_no_way_in_and_an_alarm() {
    let (ca, key) = (new_key(), new_key());
    let (shown, made) = (pin_of(key.public_key()), certificate(&ca, key.public_key(), true));
    let (mut rig, heard) =
        heard(rig(move |settings, _| (settings.host_keys, settings.host_certificates) = (vec![key], vec![made])).await);
    rig.ssh.settings.host_cas = vec![authority(&ca)];
    assert_eq!(rig.refused().await.0, "host_certificate_invalid");
    let alarms = heard.0.lock().unwrap().clone();
    assert_eq!((alarms.len(), &alarms[0].shown), (1, &shown));
    assert_eq!(alarms[0].enrolled.len(), 2, "{:?}", alarms[0].enrolled);
}

#[tokio::test]
async fn what_is_tethered_ends_with_its_owner_for_both_directions() {
    let (ours, mut theirs) = tokio::io::duplex(16);
    let (mut bytes, guard) = tether(ours);
    theirs.write_all(b"in").await.unwrap();
    let mut buffer = [0; 2];
    bytes.read_exact(&mut buffer).await.unwrap();
    bytes.write_all(b"out").await.unwrap();
    let reader = tokio::spawn(async move {
        // Nothing comes; the guard wakes it.
        let ended = bytes.read(&mut [0; 1]).await;
        (ended, bytes.write_all(b"more").await)
    });
    drop(guard);
    let (read, written) = timeout(Duration::from_secs(10), reader).await.unwrap().unwrap();
    assert!(read.is_err() && written.is_err());
}
