//! The end of a job on record: written once, also where the gateway died between writing it and noting that it did. Never
//! judges how a job ended.

use jiff::Timestamp;
use serde_json::Value;

use super::{Audit, Record, Unrecorded, writer::Leaf};
use crate::store::{JobRow, StoreError};

/// Leaves read at a time.
const BATCH: u32 = 256;

impl Audit {
    /// Records the end of a job, which was seen on its target or given up. Returns once it is on disk.
    pub async fn job_ended(&self, job: &JobRow) -> Result<(), Unrecorded> {
        self.gate.check()?;
        let record = Record::of_job(job, &self.guard, self.clock.now());
        self.writer.append(Leaf::of(record)).await.map(drop)
    }

    /// Whether the end of `job` is in the log. Looks at what was written since that end: where the clock was set back
    /// meanwhile it may miss the record, never see one that is not there.
    pub async fn has_end_of(&self, job: &JobRow) -> Result<bool, StoreError> {
        let Some(ended_at) = job.ended_at else { return Ok(false) };
        let mut before = i64::MAX;
        loop {
            let leaves = self.reader.before(before, BATCH).await?;
            let Some(last) = leaves.last() else { return Ok(false) };
            before = last.seq;
            for leaf in &leaves {
                let record: Value = serde_json::from_str(&leaf.leaf).unwrap_or_default();
                let text = |pointer| record.pointer(pointer).and_then(Value::as_str);
                if text("/kind") == Some("job") && text("/args/job_id") == Some(job.id.as_str()) {
                    return Ok(true);
                }
                let written: Option<Timestamp> = text("/timestamp").and_then(|at| at.parse().ok());
                if written.is_some_and(|at| at < ended_at) {
                    return Ok(false);
                }
            }
        }
    }
}
