//! Keeping the ends of a byte stream in constant memory, with the length and digest of all of it. Interprets nothing.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use ring::digest::{Context, SHA256};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::launch::hex;
use crate::model::Captured;

/// A stream while it is being read: the first three quarters of what may be kept are its head, the rest is a window
/// over its end.
pub(super) struct Capture {
    head: Vec<u8>,
    head_cap: usize,
    tail: VecDeque<u8>,
    tail_cap: usize,
    total: u64,
    digest: Context,
}

impl Capture {
    /// Keeps at most `cap` bytes.
    pub(super) fn new(cap: usize) -> Self {
        let tail_cap = cap / 4;
        Self {
            head: Vec::new(),
            head_cap: cap - tail_cap,
            tail: VecDeque::new(),
            tail_cap,
            total: 0,
            digest: Context::new(&SHA256),
        }
    }

    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.digest.update(bytes);
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_cap - self.head.len()));
        self.head.extend_from_slice(head);
        let (_, rest) = rest.split_at(rest.len().saturating_sub(self.tail_cap));
        let over = (self.tail.len() + rest.len()).saturating_sub(self.tail_cap);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// What was kept.
    pub(super) fn finish(mut self) -> Captured {
        let mut tail = Vec::from(self.tail);
        if (self.head.len() + tail.len()) as u64 == self.total {
            self.head.append(&mut tail);
        }
        Captured { head: self.head, tail, total: self.total, sha256: hex(self.digest.finish().as_ref()) }
    }
}

/// How much the streams of one command may still write together.
pub(super) struct Budget(AtomicU64);

/// The streams wrote more than they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow;

impl Budget {
    /// `bytes` over all streams.
    pub(super) fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    fn spend(&self, bytes: u64) -> Result<(), Overflow> {
        let spent = |left: u64| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).map(drop).map_err(|_| Overflow)
    }
}

/// Reads `from` to its end into `into`. Errors once `budget` is overspent; what was read by then is kept.
pub(super) async fn pump(
    mut from: impl AsyncRead + Unpin,
    into: &mut Capture,
    budget: &Budget,
) -> Result<(), Overflow> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        // A stream that cannot be read any more has ended.
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        into.push(bytes);
        budget.spend(read as u64)?;
    }
}
