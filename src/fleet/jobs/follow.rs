//! Watches every job that has not ended, whoever started it and whichever gateway, until its end is seen, recorded and
//! tidied up. Asks a target seldom: after one second, then ever later up to fifteen. A target that is slow to answer
//! holds up no other.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Jobs, attribution, judge};
use crate::{
    exec::JobStop,
    model::{JobId, WaitsFor},
    store::{JobRow, StoreError},
};

/// How often it is looked for work.
const TICK: Duration = Duration::from_millis(500);
/// The first pause between two looks at one job, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// The pause around the time of a planned shutdown.
const CLOSE: Duration = Duration::from_secs(2);
/// The most targets that are asked at the same time.
const AT_ONCE: usize = 64;

/// When what is looked at, and what is being looked at.
#[derive(Default)]
struct Rounds {
    next: HashMap<String, (Instant, Duration)>,
    now: HashSet<String>,
    looks: JoinSet<String>,
}

impl Jobs {
    /// Sees to all jobs until `stop`. A look that is cut short then is made again by the next gateway.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds = Rounds::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.poke.notified() => {}
            }
            while let Some(done) = rounds.looks.try_join_next() {
                match done {
                    Ok(id) => drop(rounds.now.remove(&id)),
                    // Which one panicked is not told: the others are looked at once too often.
                    Err(_) => rounds.now.clear(),
                }
            }
            match self.store.unfinished_jobs().await {
                Ok(rows) => self.turn(rows, &mut rounds),
                Err(error) => tracing::warn!(%error, "jobs cannot be read now"),
            }
        }
    }

    /// Begins what is due about `rows`.
    fn turn(self: &Arc<Self>, rows: Vec<JobRow>, rounds: &mut Rounds) {
        let attended = self.attended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        rounds.next.retain(|id, _| rows.iter().any(|row| row.id == *id));
        let now = Instant::now();
        for row in rows {
            let is_due = rounds.next.get(&row.id).is_none_or(|(at, _)| *at <= now);
            let is_free = !attended.contains(&row.id) && !rounds.now.contains(&row.id);
            if !is_free || !(is_due || row.ended_at.is_some()) || rounds.now.len() >= AT_ONCE {
                continue;
            }
            let pause = rounds.next.get(&row.id).map_or(PAUSES.0, |(_, pause)| (*pause * 2).min(PAUSES.1));
            let pause = if is_close(&row, self.clock.now()) { CLOSE } else { pause };
            rounds.next.insert(row.id.clone(), (now + pause, pause));
            rounds.now.insert(row.id.clone());
            let jobs = self.clone();
            rounds.looks.spawn(async move {
                if let Err(error) = jobs.see_to(&row).await {
                    tracing::warn!(job = row.id, %error, "a job could not be seen to now");
                }
                row.id
            });
        }
    }

    async fn see_to(&self, row: &JobRow) -> Result<(), StoreError> {
        if row.ended_at.is_none() {
            let look = self.look(row).await;
            return self.settle(judge::looked(row, &look, self.clock.now()), false).await;
        }
        if !row.recorded && self.record(row).await?.is_err() {
            return Ok(()); // the log takes no records now
        }
        if !row.cleaned {
            self.clean(row).await;
            self.store.job_cleaned(&row.id).await?;
        }
        Ok(())
    }

    /// Takes the unit of an ended job away. Tried once: what stays is a few lines in the memory of the target's systemd.
    async fn clean(&self, row: &JobRow) {
        let Some(target) = self.target(row).filter(|_| row.waits_for == WaitsFor::Unit) else { return };
        let id = JobId::from(row.id.as_str());
        if let Err(error) = self.executors.stop_job(&target, &id, JobStop::Clean, &attribution(row)).await {
            tracing::debug!(job = row.id, %error, "the unit of an ended job stays on its target");
        }
    }
}

/// Whether a planned shutdown is near, or over.
fn is_close(row: &JobRow, now: Timestamp) -> bool {
    row.due_at.is_some_and(|due| due.as_second() - now.as_second() <= 5)
}
