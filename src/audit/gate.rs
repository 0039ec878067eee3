//! Whether records can be taken. Closed by the first record that could not be written, opened by the first that could.

use std::sync::atomic::{AtomicBool, Ordering};

/// The record could not be made durable: nothing may be changed or disclosed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot take records now")]
pub struct Unrecorded;

/// Open or closed.
#[derive(Debug, Default)]
pub(super) struct Gate {
    closed: AtomicBool,
}

impl Gate {
    pub(super) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    pub(super) fn check(&self) -> Result<(), Unrecorded> {
        if self.is_open() { Ok(()) } else { Err(Unrecorded) }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn open(&self) {
        self.closed.store(false, Ordering::Release);
    }
}
