//! The threads that serve connections: each has a runtime of its own, and a connection stays on one of them with all
//! that its calls do. A call that is handed from thread to thread at every await costs more than all its checks.

use std::{
    io,
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, JoinHandle},
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The threads. What still runs on them ends when this is dropped: drop it only after every call has ended.
pub struct Threads {
    threads: Vec<(Handle, Option<JoinHandle<()>>)>,
    next: AtomicUsize,
    stop: CancellationToken,
}

impl Threads {
    /// Starts one thread a processor.
    pub fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let mut threads = Vec::new();
        for number in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let stopped = stop.clone();
            let thread = thread::Builder::new().name(format!("serve-{number}")).spawn(move || {
                runtime.block_on(stopped.cancelled());
                // Does not wait for what blocks: there is nothing left that anybody waits for.
                runtime.shutdown_background();
            })?;
            threads.push((handle, Some(thread)));
        }
        Ok(Self { threads, next: AtomicUsize::new(0), stop })
    }

    /// The runtime for the next connection: each in its turn. None only where there is no thread at all.
    pub(super) fn next(&self) -> Option<&Handle> {
        let next = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(self.threads.len())?;
        self.threads.get(next).map(|(handle, _)| handle)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.iter_mut().filter_map(|(_, thread)| thread.take()) {
            let _ = thread.join();
        }
    }
}
