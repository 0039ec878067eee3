//! A connection whose request heads must come in time, however slowly the client sends. The server's own limit starts
//! with the wait for a request; this one starts with the first byte of a head, so that keep-alive may last longer.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Whether a request is being served: between the end of its head and its response, the time limit on heads rests.
#[derive(Clone, Default)]
pub(super) struct Phase {
    serving: Arc<AtomicBool>,
}

impl Phase {
    /// A head has been read; the limit rests until the guard is dropped.
    pub(super) fn serving(&self) -> Serving {
        self.serving.store(true, Ordering::Release);
        Serving { phase: self.clone() }
    }
}

pub(super) struct Serving {
    phase: Phase,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.phase.serving.store(false, Ordering::Release);
    }
}

/// A stream with the limit.
pub(super) struct Paced<S> {
    stream: S,
    phase: Phase,
    head: Duration,
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, phase: Phase, head: Duration) -> Self {
        Self { stream, phase, head, until: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.phase.serving.load(Ordering::Acquire) {
            self.until = None;
        }
        if let Some(until) = &mut self.until
            && until.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let got = buffer.filled().len() > before;
        if got && self.until.is_none() && !self.phase.serving.load(Ordering::Acquire) {
            self.until = Some(Box::pin(tokio::time::sleep(self.head)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // An answer goes out: the head it answers has been read.
        self.until = None;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.until = None;
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
