//! The one writer: numbers the leaves, hashes them and commits whatever has queued as one transaction. A reply waits
//! for the commit that holds its leaf, so calls share the disk's sync.

use std::{sync::Arc, time::Duration};

use ring::digest;
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{Record, Unrecorded, gate::Gate};
use crate::{
    model::{Clock, canonical_json, failpoint},
    store::{LeafRow, LeafWriter, Store, StoreError},
};

/// The most leaves in one transaction.
const GROUP: usize = 256;
/// Leaves waiting to be taken; senders wait beyond.
const QUEUE: usize = 1024;
/// How often recording is tried again after it failed.
const RETRY: Duration = Duration::from_millis(500);
/// How often a sequence number may turn out to be taken by another process before it is a failure.
const CONFLICTS: u32 = 8;

/// What one leaf says.
pub(super) enum Body {
    /// An event of this run.
    Record(Box<Record>),
    /// An event of an earlier run, taken up again.
    Keys(Map<String, Value>),
}

/// A leaf to append, not yet numbered.
pub(super) struct Leaf {
    pub(super) body: Body,
    /// The salt of the commitment to the arguments.
    pub(super) salt: Option<[u8; 16]>,
    /// Whether it is an intent.
    pub(super) opens: bool,
    /// The intent it closes.
    pub(super) closes: Option<i64>,
    /// Whether it tells of something that already happened: it is written later if it cannot be written now.
    pub(super) owed: bool,
}

impl Leaf {
    /// A leaf of its own.
    pub(super) fn of(record: Record) -> Self {
        Self { body: Body::Record(Box::new(record)), salt: None, opens: false, closes: None, owed: false }
    }

    /// A leaf that must come into the log sooner or later.
    pub(super) fn owed(keys: Map<String, Value>) -> Self {
        Self { body: Body::Keys(keys), salt: None, opens: false, closes: None, owed: true }
    }

    /// Whether it tells how a call of this run ended, and not an act of people, which no token makes.
    fn ends_call(&self) -> bool {
        matches!(&self.body, Body::Record(record) if matches!(record.kind, "call" | "outcome") && record.jti.is_some())
    }

    fn number(&mut self, seq: i64) -> Result<LeafRow, serde_json::Error> {
        let bytes = match &mut self.body {
            Body::Record(record) => {
                record.seq = seq;
                // Already in canonical form: see `Record`.
                serde_json::to_vec(record)?
            }
            Body::Keys(keys) => {
                keys.insert("seq".to_owned(), Value::from(seq));
                canonical_json(keys)?
            }
        };
        let leaf_hash = leaf_hash(&bytes);
        let leaf = String::from_utf8(bytes).map_err(<serde_json::Error as serde::ser::Error>::custom)?;
        Ok(LeafRow { seq, leaf, leaf_hash, salt: self.salt, opens: self.opens, closes: self.closes })
    }
}

/// The leaf hash of RFC 6962, section 2.1: SHA-256(0x00 ‖ leaf).
pub(super) fn leaf_hash(leaf: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[0]);
    context.update(leaf);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

struct Job {
    leaf: Leaf,
    done: oneshot::Sender<Result<i64, Unrecorded>>,
}

/// Hands leaves to the writer's task.
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the task. It ends after `stop`, once everything handed over is on disk or refused.
    pub(super) async fn start(
        store: Store,
        gate: Arc<Gate>,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let mut writer = store.leaf_writer().await?;
        let last = writer.last_seq().await?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let task = Task { store, writer: Some(writer), last, gate, clock, owed: Vec::new() };
        Ok((Self { jobs }, tokio::spawn(task.run(queue, stop))))
    }

    /// Whether the task is there to take leaves.
    pub(super) fn is_running(&self) -> bool {
        !self.jobs.is_closed()
    }

    /// Appends `leaf` and returns its sequence number once it is on disk.
    pub(super) async fn append(&self, leaf: Leaf) -> Result<i64, Unrecorded> {
        let (done, written) = oneshot::channel();
        self.jobs.send(Job { leaf, done }).await.map_err(|_| Unrecorded)?;
        written.await.map_err(|_| Unrecorded)?
    }
}

/// Appends one record from a process that runs no writer: the command line, beside a running service or without one.
pub(super) async fn append_once(store: &Store, record: Record, clock: Arc<dyn Clock>) -> Result<(), StoreError> {
    let mut writer = store.leaf_writer().await?;
    let last = writer.last_seq().await?;
    let mut task =
        Task { store: store.clone(), writer: Some(writer), last, gate: Arc::default(), clock, owed: Vec::new() };
    task.append(vec![&mut Leaf::of(record)]).await.map(drop)
}

struct Task {
    store: Store,
    writer: Option<LeafWriter>,
    last: i64,
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    owed: Vec<Leaf>,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>, stop: CancellationToken) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            // After `stop` what is queued is still taken, and senders find the queue closed.
            let taken = match stop.run_until_cancelled(queue.recv_many(&mut group, GROUP)).await {
                Some(taken) => taken,
                None => {
                    queue.close();
                    queue.recv_many(&mut group, GROUP).await
                }
            };
            if taken == 0 {
                return;
            }
            // Calls that are ready to hand over their leaf do so first: fewer, larger commits. Costs nothing when idle.
            tokio::task::yield_now().await;
            while group.len() < GROUP
                && let Ok(job) = queue.try_recv()
            {
                group.push(job);
            }
            if let Err(error) = self.commit(&mut group).await {
                tracing::error!(%error, "the audit log cannot be written: calls are refused until it can");
                self.gate.close();
                for job in group.drain(..) {
                    self.refuse(job);
                }
                self.recover(&mut queue, &stop).await;
            }
        }
    }

    fn refuse(&mut self, job: Job) {
        if job.leaf.owed {
            self.owed.push(job.leaf);
        }
        let _ = job.done.send(Err(Unrecorded));
    }

    /// Appends the group in one transaction, then answers each job. On an error nothing is appended and the jobs
    /// stay in `group`.
    async fn commit(&mut self, group: &mut Vec<Job>) -> Result<(), StoreError> {
        if group.iter().any(|job| job.leaf.ends_call()) {
            failpoint("before-outcome-commit");
        }
        let first = self.append(group.iter_mut().map(|job| &mut job.leaf).collect()).await?;
        for (seq, job) in (first..).zip(group.drain(..)) {
            let _ = job.done.send(Ok(seq));
        }
        Ok(())
    }

    /// Appends `leaves` in one transaction and returns the first one's sequence number.
    async fn append(&mut self, mut leaves: Vec<&mut Leaf>) -> Result<i64, StoreError> {
        let mut conflicts = 0;
        loop {
            let first = self.last + 1;
            let mut rows = Vec::with_capacity(leaves.len());
            for (seq, leaf) in (first..).zip(&mut leaves) {
                rows.push(leaf.number(seq).map_err(|error| StoreError::File(error.into()))?);
            }
            let mut writer = match self.writer.take() {
                Some(writer) => writer,
                None => self.store.leaf_writer().await?,
            };
            match writer.append(&rows).await {
                Ok(()) => {
                    self.last += rows.len() as i64;
                    self.writer = Some(writer);
                    return Ok(first);
                }
                // Another process (the command line) appended meanwhile: number again behind it.
                Err(error) if error.is_conflict() && conflicts < CONFLICTS => {
                    conflicts += 1;
                    self.last = writer.last_seq().await?;
                    self.writer = Some(writer);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Tries to record that recording works again, what is owed first, until it does. Everything asked meanwhile is
    /// refused.
    async fn recover(&mut self, queue: &mut mpsc::Receiver<Job>, stop: &CancellationToken) {
        let since = self.clock.now();
        let mut retry = tokio::time::interval(RETRY);
        retry.reset();
        loop {
            tokio::select! {
                job = queue.recv() => match job {
                    Some(job) => self.refuse(job),
                    None => return,
                },
                _ = retry.tick() => {
                    let mut owed = std::mem::take(&mut self.owed);
                    let mut resumed = Leaf::of(Record::of_resumption(since, self.clock.now()));
                    let result = self.append(owed.iter_mut().chain([&mut resumed]).collect()).await;
                    if result.is_ok() {
                        tracing::info!("the audit log takes records again");
                        self.gate.open();
                        return;
                    }
                    self.owed = owed;
                    if stop.is_cancelled() {
                        return;
                    }
                }
            }
        }
    }
}
