//! On the record. Nothing is changed before its intent is durable, nothing is disclosed before its outcome is durable.
//!
//! A leaf is the canonical JSON of one event with a dense sequence number and its RFC 6962 leaf hash; a Merkle log can
//! be built over these very leaves, so nothing written is ever rewritten. What cannot be recorded is refused, and the
//! gate stays closed until recording works again.

mod agreed;
mod alarms;
mod entry;
mod fold;
mod gate;
mod job_end;
mod query;
mod record;
mod strays;
mod surveyed;
mod usage;
mod writer;

use std::{sync::Arc, time::Duration};

pub use agreed::{ApprovalCheck, Checked};
pub use alarms::{HostAlert, host_alerts};
pub use entry::{Entry, Outcome};
use futures_util::future::BoxFuture;
pub use gate::Unrecorded;
pub use query::{Export, Page};
pub use record::{
    ApprovalFacts, ApproverFacts, Execution, Folded, HttpFacts, PeerFacts, Record, SignedFacts, Status, WireFacts,
};
use serde_json::{Map, Value};
pub use strays::{Stray, strays};
pub use surveyed::{Surveyed, TargetFailure};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
pub use usage::{Counts, Dimension, TokenUsage, UnknownDimension, Usage, token_usage};

use self::{
    fold::Folds,
    gate::Gate,
    writer::{Leaf, Writer},
};
use crate::{
    approval::{Begun, Event, NotRecorded, Recorder},
    auth::{Caller, Claims},
    guard::Guard,
    model::{Clock, CorrelationId},
    store::{LeafReader, Store, StoreError},
    tailnet::Peer,
};

/// How refusals are folded.
#[derive(Clone, Copy, Debug)]
pub struct FoldSettings {
    /// Refusals from one source that are recorded one by one in a window.
    pub singly: u32,
    /// The window; what came beyond is one entry at its end, with count, first and last time.
    pub window: Duration,
    /// The most sources told apart; the rest share one.
    pub sources: usize,
}

impl Default for FoldSettings {
    fn default() -> Self {
        Self { singly: 10, window: Duration::from_secs(60), sources: 1024 }
    }
}

/// The audit log of a running service.
pub struct Audit {
    writer: Writer,
    gate: Arc<Gate>,
    folds: Folds,
    /// Apart from refusals, which peers can make at will.
    alarms: Folds,
    reader: LeafReader,
    guard: Arc<Guard>,
    clock: Arc<dyn Clock>,
}

/// A refusal before there was a call.
#[derive(Clone, Debug)]
pub struct Refusal<'a> {
    /// Joins it to the reply and the log lines.
    pub correlation: CorrelationId,
    /// The peer, if the network named it.
    pub peer: Option<&'a Peer>,
    /// The address it came from.
    pub address: std::net::SocketAddr,
    /// What the token says, if it is ours and in force.
    pub token: Option<&'a Claims>,
    /// For programs, e.g. `token_expired`.
    pub code: &'static str,
    /// Why, for the auditor.
    pub reason: String,
    /// The HTTP method and path.
    pub request: (&'a str, &'a str),
    /// The HTTP status of the reply.
    pub status: u16,
}

impl Audit {
    /// Starts the log: closes intents that a crash left open as `interrupted`, then takes records. The task ends
    /// after `stop`, once everything taken is on disk.
    pub async fn start(
        store: &Store,
        guard: Arc<Guard>,
        clock: Arc<dyn Clock>,
        folding: FoldSettings,
        stop: CancellationToken,
    ) -> Result<(Arc<Self>, JoinHandle<()>), StoreError> {
        let reader = store.leaf_reader();
        let gate = Arc::new(Gate::default());
        let last = CancellationToken::new();
        let (writer, task) = Writer::start(store.clone(), gate.clone(), clock.clone(), last.clone()).await?;
        let audit = Arc::new(Self {
            writer,
            gate,
            folds: Folds::new(folding),
            alarms: Folds::new(alarms::folding(folding)),
            reader,
            guard,
            clock,
        });
        audit.close_interrupted().await?;
        let folder = tokio::spawn(fold::flush_until(audit.clone(), stop));
        let task = tokio::spawn(async move {
            let _ = folder.await;
            last.cancel();
            let _ = task.await;
        });
        Ok((audit, task))
    }

    /// Whether records are taken now: part of readiness.
    pub fn is_recording(&self) -> bool {
        self.gate.is_open() && self.writer.is_running()
    }

    /// Opens the entry of a call. Refused at once while the log cannot take records.
    pub fn open(
        self: &Arc<Self>,
        caller: &Caller,
        correlation: CorrelationId,
        tool: &str,
        arguments: &Map<String, Value>,
    ) -> Result<Entry, Unrecorded> {
        self.gate.check()?;
        // A tool's name is what the caller wrote, and can be anything until it is looked up.
        let tool = self.guard.text(tool).text;
        Ok(Entry::new(self.clone(), Record::of_call(caller, correlation, &tool, self.clock.now()), arguments))
    }

    /// Records a refusal, or folds it into the count of its source. Returns once it is on disk or counted.
    pub async fn refuse(&self, refusal: &Refusal<'_>) -> Result<(), Unrecorded> {
        self.gate.check()?;
        let now = self.clock.now();
        let source = refusal.peer.map_or_else(|| refusal.address.ip().to_string(), |peer| peer.id.clone());
        let record = Record::of_refusal(refusal, &self.guard, now);
        match self.folds.take(source, record, now) {
            Some(record) => self.writer.append(Leaf::of(record)).await.map(drop),
            None => Ok(()),
        }
    }

    /// Records that `peer` lost its rights while it was connected, or folds it like a refusal. Returns once it is on disk
    /// or counted.
    pub async fn lost(&self, peer: &Peer, code: &'static str, reason: &str) -> Result<(), Unrecorded> {
        self.gate.check()?;
        let now = self.clock.now();
        let record = Record::of_loss(peer, code, self.guard.text(reason).text, now);
        match self.folds.take(peer.id.clone(), record, now) {
            Some(record) => self.writer.append(Leaf::of(record)).await.map(drop),
            None => Ok(()),
        }
    }

    /// Records an act of administration by the local user `by`, e.g. `token.mint`, from a process that runs no
    /// service. Returns once it is on disk.
    pub async fn administered(
        store: &Store,
        clock: Arc<dyn Clock>,
        act: &str,
        by: &str,
        details: Map<String, Value>,
    ) -> Result<(), StoreError> {
        let record = Record::of_administration(act, by, &details, None, clock.now());
        writer::append_once(store, record, clock).await
    }

    /// Records an act of administration of the running service that `by` asked for; `refused` says why it was not
    /// done. Returns once it is on disk.
    pub async fn act(
        &self,
        act: &str,
        by: &str,
        details: &Map<String, Value>,
        refused: Option<String>,
    ) -> Result<(), Unrecorded> {
        self.gate.check()?;
        let record = Record::of_administration(act, by, details, refused, self.clock.now());
        self.writer.append(Leaf::of(record)).await.map(drop)
    }

    async fn note(&self, event: Event<'_>) -> Result<(), NotRecorded> {
        self.gate.check().map_err(|Unrecorded| NotRecorded)?;
        let record = Record::of_event(&event, &self.guard, self.clock.now());
        self.writer.append(Leaf::of(record)).await.map(drop).map_err(|Unrecorded| NotRecorded)
    }

    async fn begin_act(&self, event: Event<'_>) -> Result<Begun, NotRecorded> {
        self.gate.check().map_err(|Unrecorded| NotRecorded)?;
        let record = Record::of_act(&event, &self.guard, self.clock.now());
        let leaf = Leaf { opens: true, ..Leaf::of(record) };
        self.writer.append(leaf).await.map(Begun).map_err(|Unrecorded| NotRecorded)
    }

    async fn finish_act(&self, Begun(seq): Begun, event: Event<'_>) -> Result<(), NotRecorded> {
        let record = Record::of_act(&event, &self.guard, self.clock.now()).ending(seq, &event, &self.guard);
        let leaf = Leaf { closes: Some(seq), owed: true, ..Leaf::of(record) };
        self.writer.append(leaf).await.map(drop).map_err(|Unrecorded| NotRecorded)
    }

    /// Reads the log.
    pub fn reader(&self) -> &LeafReader {
        &self.reader
    }

    async fn close_interrupted(&self) -> Result<(), StoreError> {
        for intent in self.reader.open_intents().await? {
            let Some(outcome) = record::interrupted(&intent) else {
                return Err(StoreError::Damaged { table: "audit_leaf", column: "leaf" });
            };
            if self.writer.append(Leaf { closes: Some(intent.seq), ..Leaf::owed(outcome) }).await.is_err() {
                // The gate is closed now and the record is owed: the writer goes on trying.
                break;
            }
            tracing::warn!(seq = intent.seq, "an operation was interrupted by a restart; its end is unknown");
        }
        Ok(())
    }
}

impl Recorder for Audit {
    fn record<'a>(&'a self, event: Event<'a>) -> BoxFuture<'a, Result<(), NotRecorded>> {
        Box::pin(self.note(event))
    }

    fn begin<'a>(&'a self, event: Event<'a>) -> BoxFuture<'a, Result<Begun, NotRecorded>> {
        Box::pin(self.begin_act(event))
    }

    fn finish<'a>(&'a self, begun: Begun, event: Event<'a>) -> BoxFuture<'a, Result<(), NotRecorded>> {
        Box::pin(self.finish_act(begun, event))
    }

    fn cleaned(&self, text: &str) -> String {
        self.guard.text(text).text
    }
}
