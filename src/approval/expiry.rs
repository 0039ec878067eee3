//! The end of questions that nobody used in time: on record, whether or not anybody asks for them again. Keeps the time
//! that was seen, so that a restart with a clock that was set back revives nothing.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Agreement, Approvals, Event, News, Unapproved, ask::correlation_of};
use crate::store::{ApprovalRow, ApprovalSelection};

/// How often it is looked for what has expired.
const LOOK: Duration = Duration::from_secs(1);
/// How often the time is kept while a question is open.
const KEEP: Duration = Duration::from_secs(10);

impl Approvals {
    /// Ends what expires, until `stop`.
    pub async fn expire_until(&self, stop: CancellationToken) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut kept, mut failing) = (None, false);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            match self.look(&mut kept).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "what expires cannot be recorded as expired now; it counts no more all the same");
                }
                Err(_) => {}
            }
        }
    }

    pub(super) async fn look(&self, kept: &mut Option<Instant>) -> Result<(), Unapproved> {
        let (open, _) = self.store.pending_approvals(None).await?;
        if open == 0 {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let now = if kept.is_none_or(|kept| kept.elapsed() >= KEEP) {
            *kept = Some(Instant::now());
            self.seen().await?
        } else {
            self.ticking.now()
        };
        self.expire_due(now).await
    }

    /// Ends every question whose time is over. Only for whoever has the turn.
    pub(super) async fn expire_due(&self, now: Timestamp) -> Result<(), Unapproved> {
        let open = ApprovalSelection { state: Some("pending".to_owned()), limit: u32::MAX, ..Default::default() };
        for row in self.store.approvals(&open).await? {
            if now >= row.expires_at {
                self.expire(&row, now).await?;
            }
        }
        Ok(())
    }

    /// Ends a question that nobody used in time, first on record. Only for whoever has the turn.
    pub(super) async fn expire(&self, row: &ApprovalRow, now: Timestamp) -> Result<(), Unapproved> {
        let event = Event {
            act: "approval.expired",
            correlation: correlation_of(row),
            engagement: Some(row.engagement.as_str()).filter(|name| !name.is_empty()).map(Into::into),
            target: row.target.as_deref().map(Into::into),
            approval: Some(Agreement {
                id: row.id.clone(),
                operation_hash: row.operation_hash.clone(),
                ..Agreement::default()
            }),
            by: None,
            signed: None,
            details: serde_json::Map::from_iter([("tool".to_owned(), row.tool.as_str().into())]),
            refused: None,
        };
        self.recorder.record(event).await?;
        self.store.end_approval(&row.id, "expired", now).await?;
        self.tell(News::Expired(Box::new(row.clone())));
        Ok(())
    }
}
