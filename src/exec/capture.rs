//! Keeping the ends of a byte stream in constant memory, with the length and digest of all of it. Interprets nothing.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use ring::digest::{Context, SHA256};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::model::{Captured, Progress, hex};

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
pub(super) struct Budget {
    left: AtomicU64,
    progress: Progress,
}

/// The streams wrote more than they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow;

impl Budget {
    /// `bytes` over all streams. What is spent is told to `progress`.
    pub(super) fn new(bytes: u64, progress: Progress) -> Self {
        Self { left: AtomicU64::new(bytes), progress }
    }

    /// Errors once more was spent than there is.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), Overflow> {
        let spent = |left: u64| left.checked_sub(bytes);
        self.progress.add(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).map(drop).map_err(|_| Overflow)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::digest::digest;

    use super::*;

    fn captured(cap: usize, chunks: &[Vec<u8>]) -> Captured {
        let mut capture = Capture::new(cap);
        for chunk in chunks {
            capture.push(chunk);
            assert!(capture.head.len() + capture.tail.len() <= cap);
        }
        capture.finish()
    }

    #[test]
    fn the_budget_is_spent_once_over_all_streams() {
        let budget = Budget::new(10, Progress::default());
        assert_eq!(budget.spend(6), Ok(()));
        assert_eq!(budget.spend(4), Ok(()));
        assert_eq!(budget.spend(1), Err(Overflow));
        assert_eq!(Budget::new(10, Progress::default()).spend(11), Err(Overflow));
    }

    #[test]
    fn the_middle_is_dropped_and_counted() {
        let kept = captured(8, &[b"abc".to_vec(), b"defghijkl".to_vec(), b"m".to_vec()]);
        assert_eq!((kept.head.as_slice(), kept.tail.as_slice()), (b"abcdef".as_slice(), b"lm".as_slice()));
        assert_eq!((kept.total, kept.dropped()), (13, 5));
        assert_eq!(captured(0, &[b"abc".to_vec()]).dropped(), 3);
        assert!(captured(8, &[b"abcdefgh".to_vec()]).tail.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn head_tail_length_and_digest_are_those_of_the_stream(
            cap in 0..200_usize,
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..12),
        ) {
            let all = chunks.concat();
            let kept = captured(cap, &chunks);
            prop_assert_eq!(kept.total, all.len() as u64);
            prop_assert_eq!(&kept.sha256, &hex(digest(&SHA256, &all).as_ref()));
            prop_assert!(all.starts_with(&kept.head) && all.ends_with(&kept.tail));
            prop_assert_eq!(kept.head.len() + kept.tail.len(), all.len().min(cap));
            prop_assert!(all.len() > cap || kept.tail.is_empty());
        }
    }
}
