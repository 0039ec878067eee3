//! What a host says of itself before the login, its identification string and its banner, and whether that is what it
//! said before. Tells of a change and refuses nothing for it: an update of sshd changes what it says. Keeps little of it,
//! however much it is.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use jiff::Timestamp;
use ring::digest::{self, SHA256, digest};
use serde_json::json;
use tokio::{
    io::{self, AsyncRead, AsyncWrite, ReadBuf},
    sync::Mutex as Turn,
};

use super::{alarm::Bell, way::Way};
use crate::{
    model::{Connection, EngagementId, Target, hex},
    store::{GreetingRow, Store, StoreError},
};

/// The longest identification string, in bytes: that of the protocol.
const LONGEST: usize = 255;
/// How much of a banner's first line is kept, in characters.
const LINE: usize = 120;
/// How much of a connection is looked through for the identification string: with the lines that may stand before it.
const MOST: usize = 21 * LONGEST;

/// What a host says while somebody connects to it.
pub(super) struct Hearing {
    identification: Vec<u8>,
    banner: digest::Context,
    line: String,
    /// Whether the banner's first line is over.
    ended: bool,
}

impl Default for Hearing {
    fn default() -> Self {
        Self { identification: Vec::new(), banner: digest::Context::new(&SHA256), line: String::new(), ended: false }
    }
}

impl Hearing {
    /// The identification string, without the end of its line.
    pub(super) fn identified(&mut self, identification: &[u8]) {
        self.identification = identification.iter().take(LONGEST).copied().collect();
    }

    /// One more banner, or a part of it. Blank lines at its beginning do not count as its first.
    pub(super) fn said(&mut self, banner: &str) {
        self.banner.update(banner.as_bytes());
        for c in banner.chars() {
            if self.ended {
                return;
            }
            match c {
                '\n' if self.line.trim().is_empty() => self.line.clear(),
                '\n' => self.ended = true,
                _ if self.line.chars().count() < LINE => self.line.push(c),
                _ => self.ended = true,
            }
        }
    }

    /// What was said up to now.
    pub(super) fn greeting(&self) -> Greeting {
        Greeting {
            identification: escaped(&self.identification),
            banner: Banner {
                sha256: hex(self.banner.clone().finish().as_ref()),
                line: self.line.trim_end().escape_debug().to_string(),
            },
        }
    }
}

/// Bytes as text: what is not printable ASCII is escaped, and no two are the same.
fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// What a host said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    identification: String,
    banner: Banner,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Banner {
    sha256: String,
    line: String,
}

/// A change of what a host says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// For programs.
    pub(super) code: &'static str,
    /// What it says now.
    pub(super) shown: String,
    /// What it said before.
    pub(super) before: String,
}

impl Change {
    /// None where nothing changed, as far as both are known.
    fn between(before: &GreetingRow, now: &GreetingRow) -> Option<Self> {
        let identified = before.identification != now.identification;
        let bannered = before.banner_sha256.is_some() && before.banner_sha256 != now.banner_sha256;
        let code = match (identified, bannered) {
            (false, false) => return None,
            (true, _) => "host_identification_changed",
            (false, true) => "host_banner_changed",
        };
        let told = |row: &GreetingRow| {
            let identification = identified.then(|| row.identification.clone());
            let banner = bannered.then(|| described(row));
            identification.into_iter().chain(banner).collect::<Vec<_>>().join(", ")
        };
        Some(Self { code, shown: told(now), before: told(before) })
    }
}

/// The banner of `row` in words.
fn described(row: &GreetingRow) -> String {
    match (row.banner_line.as_deref(), row.banner_sha256.as_deref()) {
        (Some(""), Some(sha256)) if *sha256 == hex(digest(&SHA256, b"").as_ref()) => "no banner".to_owned(),
        (line, sha256) => format!("banner \"{}\" (SHA-256 {})", line.unwrap_or_default(), sha256.unwrap_or_default()),
    }
}

/// Names what a host was enrolled as: whose target it is, where it is, and which keys were pinned. Of another enrolment
/// nothing is expected.
fn enrolment(engagement: &EngagementId, connection: &Connection) -> String {
    let mut keys: Vec<&str> = connection.host_keys.iter().map(|pin| pin.fingerprint.as_str()).collect();
    keys.sort_unstable();
    let Connection { host, port, node, jump, .. } = connection;
    let parts = json!([engagement, host.to_lowercase(), port.unwrap_or(22), node, jump, keys]).to_string();
    hex(digest(&SHA256, parts.as_bytes()).as_ref())
}

/// What is kept of `target` when it is enrolled, where a scan saw how its host identifies itself. None where it is not
/// reached by SSH.
pub fn greeting_at_enrolment(target: &Target, identification: &str, now: Timestamp) -> Option<GreetingRow> {
    Some(GreetingRow {
        target: target.id.as_str().to_owned(),
        enrolment: enrolment(&target.engagement, target.connection()?),
        identification: identification.to_owned(),
        banner_sha256: None,
        banner_line: None,
        seen_at: now.to_string(),
    })
}

/// How what a host says stands to what is kept.
enum Standing {
    Same,
    /// Nothing is kept with which it could be compared, or less than it says.
    New,
    Changed(Change),
}

/// What hosts said, kept in the store.
pub(super) struct Greetings {
    store: Store,
    /// Held by the one who tells of a change: the others find it told.
    turn: Turn<()>,
}

impl Greetings {
    pub(super) fn kept_in(store: Store) -> Self {
        Self { store, turn: Turn::default() }
    }

    /// Compares what the host at the end of `way` said with what it said before, and tells of a change by `bell`. The
    /// host has proved who it is, and let us in. What goes wrong here is logged, and the call goes on.
    pub(super) async fn compare(&self, way: &Way<'_>, bell: &Bell, said: Greeting, now: Timestamp) {
        if let Err(error) = self.compared(way, bell, said, now).await {
            let target_id = way.target.id.as_str();
            tracing::warn!(target_id, %error, "what a host says of itself was not compared with what it said before");
        }
    }

    async fn compared(&self, way: &Way<'_>, bell: &Bell, said: Greeting, now: Timestamp) -> Result<(), StoreError> {
        let row = GreetingRow {
            target: way.target.id.as_str().to_owned(),
            enrolment: enrolment(&way.target.engagement, &way.key.connection),
            identification: said.identification,
            banner_sha256: Some(said.banner.sha256),
            banner_line: Some(said.banner.line),
            seen_at: now.to_string(),
        };
        let mut standing = self.standing(&row).await?;
        let mut turn = None;
        if matches!(standing, Standing::Changed(_)) {
            turn = Some(self.turn.lock().await);
            // Somebody else may have told of it meanwhile.
            standing = self.standing(&row).await?;
        }
        let told = match standing {
            Standing::Same => return Ok(()),
            Standing::New => true,
            Standing::Changed(change) => bell.ring_of_change(&way.key.trust, change).await,
        };
        // What nobody could keep is told of again.
        if told {
            self.store.put_greeting(&row).await?;
        }
        drop(turn);
        Ok(())
    }

    async fn standing(&self, row: &GreetingRow) -> Result<Standing, StoreError> {
        let kept = self.store.greeting(&row.target).await?.filter(|kept| kept.enrolment == row.enrolment);
        let Some(kept) = kept else { return Ok(Standing::New) };
        if (GreetingRow { seen_at: row.seen_at.clone(), ..kept.clone() }) == *row {
            return Ok(Standing::Same);
        }
        Ok(Change::between(&kept, row).map_or(Standing::New, Standing::Changed))
    }
}

/// A connection's bytes, of which the identification string is overheard: for who ends the connection before the key
/// exchange is over.
pub(super) struct Overheard<S> {
    stream: S,
    heard: Arc<Mutex<Overhearing>>,
}

/// What was overheard.
#[derive(Default)]
pub(super) struct Overhearing {
    bytes: Vec<u8>,
    identification: Option<String>,
    /// Nothing that comes now is the identification string.
    over: bool,
}

impl<S> Overheard<S> {
    pub(super) fn new(stream: S) -> (Self, Arc<Mutex<Overhearing>>) {
        let heard = Arc::<Mutex<Overhearing>>::default();
        (Self { stream, heard: heard.clone() }, heard)
    }
}

impl Overhearing {
    /// The identification string, escaped, if it came.
    pub(super) fn identification(&mut self) -> Option<String> {
        self.identification.take()
    }

    fn hear(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        self.bytes.extend(bytes.iter().take(MOST.saturating_sub(self.bytes.len())));
        let whole = self.bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or_default();
        let lines = self.bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        let line = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).find(|line| line.starts_with(b"SSH-"));
        self.identification = line.filter(|line| line.len() <= LONGEST).map(escaped);
        self.over = line.is_some() || self.bytes.len() == MOST;
        if self.over {
            self.bytes = Vec::new();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).hear(new);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(parts: &[&str]) -> Greeting {
        let mut hearing = Hearing::default();
        parts.iter().for_each(|part| hearing.said(part));
        hearing.greeting()
    }

    #[test]
    fn of_a_banner_its_digest_and_its_first_line_are_kept() {
        let greeting = heard(&["\r\n  \nWel", "come\u{1b}[2J\u{202e}\r\nsecond\n", "third"]);
        let whole = "\r\n  \nWelcome\u{1b}[2J\u{202e}\r\nsecond\nthird";
        assert_eq!(greeting.banner.sha256, hex(digest(&SHA256, whole.as_bytes()).as_ref()));
        assert_eq!(greeting.banner.line, "Welcome\\u{1b}[2J\\u{202e}");
        assert_eq!(heard(&["x".repeat(1 << 16).as_str()]).banner.line.len(), LINE);
        assert_eq!(heard(&[]).banner.line, "");
    }

    #[test]
    fn what_is_no_text_is_escaped_and_stays_apart() {
        let identification = |bytes: &[u8]| {
            let mut hearing = Hearing::default();
            hearing.identified(bytes);
            hearing.greeting().identification
        };
        assert_eq!(identification(b"SSH-2.0-x\x1b[2J"), "SSH-2.0-x\\x1b[2J");
        assert_ne!(identification(b"SSH-2.0-\\x1b"), identification(b"SSH-2.0-\x1b"));
        assert_eq!(identification(&[b'x'; 9000]).len(), LONGEST);
    }

    #[test]
    fn an_identification_is_overheard_whole_or_not_at_all() {
        let overheard = |parts: &[&[u8]]| {
            let mut hearing = Overhearing::default();
            parts.iter().for_each(|part| hearing.hear(part));
            assert!(hearing.bytes.len() <= MOST);
            hearing.identification()
        };
        assert_eq!(overheard(&[b"hello\r\nSSH-2.0", b"-one\r", b"\nSSH-2.0-two\r\n"]).as_deref(), Some("SSH-2.0-one"));
        assert_eq!(overheard(&[b"SSH-2.0-cut"]), None);
        assert_eq!(overheard(&[b"SSH-", &[b'x'; 300], b"\r\n"]), None);
        assert_eq!(overheard(&[&[b'\n'; 3 * MOST], b"SSH-2.0-late\r\n"]), None);
    }
}
