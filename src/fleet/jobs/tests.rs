//! What two that come upon the end of one job at the same time do about it.

use std::path::Path;

use super::*;
use crate::{
    audit::{Export, FoldSettings},
    config,
    guard::GuardLimits,
    model::SystemClock,
};

/// Jobs on targets that nobody reaches.
async fn jobs(folder: &Path) -> Jobs {
    let (store, clock) = (Store::open(folder).await.unwrap(), Arc::new(SystemClock));
    let guard = Arc::new(Guard::new(GuardLimits::default(), &config::Guard::default()));
    let stop = tokio_util::sync::CancellationToken::new();
    let audit = Audit::start(&store, guard.clone(), clock.clone(), FoldSettings::default(), stop).await.unwrap().0;
    let executors = Arc::new(Executors::new(config::Exec::default(), clock.clone()));
    Jobs::new((store, clock), executors, (audit, guard), Arc::new(|_, _| None))
}

fn running(now: jiff::Timestamp) -> JobRow {
    JobRow {
        id: JobId::random().to_string(),
        tool: "package_refresh".into(),
        target: "web".into(),
        engagement: "lab".into(),
        subject: "agent".into(),
        owner: "ops".into(),
        jti: "jti".into(),
        correlation_id: CorrelationId::random().to_string(),
        operation: "{}".into(),
        script_s: 60,
        state: JobState::Running,
        waits_for: WaitsFor::Unit,
        boot_id: None,
        new_boot_id: None,
        due_at: None,
        down_s: None,
        result: None,
        exit_status: None,
        cancelled_by: None,
        started_at: now,
        seen_at: None,
        ended_at: None,
        recorded: false,
        cleaned: false,
    }
}

#[tokio::test]
async fn an_end_that_several_come_upon_is_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = jobs(folder.path()).await;
    let row = running(jobs.clock.now());
    jobs.store.insert_job(&row).await.unwrap();
    let ended = JobRow { state: JobState::Succeeded, ended_at: Some(jobs.clock.now()), ..row };
    assert!(jobs.store.update_job(&ended).await.unwrap());
    // As the follower and a waiting call have read it: it ended, and is not on record.
    let all = futures_util::future::join_all((0..8).map(|_| jobs.record(&ended))).await;
    assert!(all.iter().all(|recorded| matches!(recorded, Ok(Ok(())))), "{all:?}");
    assert!(jobs.store.job(&ended.id).await.unwrap().unwrap().recorded);
    assert!(jobs.audit.has_end_of(&ended).await.unwrap());
    assert!(!jobs.audit.has_end_of(&JobRow { id: JobId::random().to_string(), ..ended.clone() }).await.unwrap());
    let lines = Export::new(jobs.store.leaf_reader(), true).next().await.unwrap().unwrap();
    assert_eq!(lines.iter().filter(|line| line.contains(&ended.id)).count(), 1, "{lines:?}");
}
