//! Numbers from samples: medians, percentiles and the disk's own time for a durable write.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// What one server did in one round.
pub(crate) struct Round {
    pub(crate) calls: usize,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Round {
    /// The round of these calls, which together took `time`.
    pub(crate) fn of(mut calls: Vec<Duration>, time: Duration) -> Result<Self> {
        calls.sort_unstable();
        Ok(Self {
            calls: calls.len(),
            per_second: calls.len() as f64 / time.as_secs_f64(),
            p50: percentile(&calls, 50).context("no call ended in time")?,
            p99: percentile(&calls, 99).context("no call ended in time")?,
        })
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get(last * percent / 100).copied()
}

/// The median of `values`; of none, zero.
pub(crate) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// How long `count` appends of 4 KiB take to be on disk, one after the other, in `folder`.
pub(crate) fn sync_times(folder: &Path, count: usize) -> Result<Vec<Duration>> {
    let path = folder.join("fdatasync.probe");
    let mut file = File::create(&path)?;
    let page = [0x5a; 4096];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(times)
}
