//! What people are told besides the answer that whoever asked gets: that there is a question, how it ended, that a pass
//! for emergencies was made. Told at most, and never a yes: whoever does not hear of it changes nothing.

use jiff::Timestamp;

use super::Approvals;
use crate::{
    model::Vote,
    store::{ApprovalRow, ApprovalSelection, StoreError},
};

/// Something that people should know.
#[derive(Clone, Debug)]
pub enum News {
    /// There is a question.
    Asked(Box<ApprovalRow>),
    /// Somebody decided.
    Decided {
        /// On what.
        question: Box<ApprovalRow>,
        /// How.
        vote: Vote,
        /// Who: their login.
        by: String,
        /// Whether nobody else need decide: it was denied, or enough people agreed.
        settled: bool,
    },
    /// Nobody answered, or nobody used the answer, in time.
    Expired(Box<ApprovalRow>),
    /// A pass for emergencies was made.
    BreakGlass(Box<Alarm>),
    /// What a pass let through waits to be looked at.
    Review(Box<Alarm>),
}

/// Something out of the ordinary.
#[derive(Clone, Debug, Default)]
pub struct Alarm {
    /// Names the pass.
    pub id: String,
    /// Who made it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// How long it can be used; none where it was used.
    pub expires: Option<Timestamp>,
    /// What it let through.
    pub tool: Option<String>,
    /// On which target.
    pub target: Option<String>,
}

impl News {
    /// The question it is about; none for alarms.
    pub(super) fn question(&self) -> Option<&ApprovalRow> {
        match self {
            Self::Asked(question) | Self::Decided { question, .. } | Self::Expired(question) => Some(question),
            Self::BreakGlass(_) | Self::Review(_) => None,
        }
    }

    /// The question that nobody need be asked any more.
    pub(super) fn ends(&self) -> Option<&str> {
        match self {
            Self::Decided { question, settled: true, .. } | Self::Expired(question) => Some(&question.id),
            _ => None,
        }
    }
}

/// Passes news on.
pub trait Notifier: Send + Sync + 'static {
    /// Takes `news` and returns at once: nobody who asks or decides waits for it to arrive.
    fn tell(&self, news: News);
}

/// Tells nobody: where nobody is to be told.
pub(super) struct Nobody;

impl Notifier for Nobody {
    fn tell(&self, _: News) {}
}

impl Approvals {
    /// Passes `news` on to whoever is to be told.
    pub fn tell(&self, news: News) {
        self.notifier.tell(news);
    }

    /// Tells of every question that still waits: whoever was told by an earlier run of the service may not have heard.
    pub async fn tell_of_open_ones(&self) -> Result<(), StoreError> {
        let now = self.ticking.now();
        let selection = ApprovalSelection { state: Some("pending".into()), limit: u32::MAX, ..Default::default() };
        for row in self.store.approvals(&selection).await? {
            let votes = self.store.votes(&row.id).await?;
            let yeses = votes.iter().filter(|vote| vote.vote == Vote::Approve.as_str()).count();
            if now < row.expires_at && yeses < row.quorum as usize {
                self.tell(News::Asked(Box::new(row)));
            }
        }
        Ok(())
    }
}

/// A question as the database has it, for tests.
#[cfg(test)]
pub(super) fn example(id: &str, expires: Timestamp) -> ApprovalRow {
    ApprovalRow {
        id: id.to_owned(),
        kind: "call".to_owned(),
        operation: r#"{"arguments":{"path":"/srv/hunter2"}}"#.to_owned(),
        operation_hash: "5e".repeat(32),
        shown: r#"{"arguments":{"path":"/srv/hunter2"},"reason":"replaced by app.conf"}"#.to_owned(),
        preview: Some(r#"{"data":"hunter2"}"#.to_owned()),
        trace: "[]".to_owned(),
        why: "file_delete is critical".to_owned(),
        quorum: 1,
        strength: "identity".to_owned(),
        engagement: "default".to_owned(),
        tool: "file_delete".to_owned(),
        target: Some("web01".to_owned()),
        segment: None,
        risk: "critical".to_owned(),
        jti: Some("hunter2-jti".to_owned()),
        subject: "deploy-agent".to_owned(),
        owner: "alice@example.org".to_owned(),
        peer: "nAgent".to_owned(),
        login: None,
        correlation_id: "0".to_owned(),
        gateway: "https://tailops.example.ts.net".to_owned(),
        nonce: "00112233445566778899aabbccddeeff".to_owned(),
        created_at: expires.checked_sub(jiff::SignedDuration::from_mins(15)).expect("a time"),
        expires_at: expires,
        state: "pending".to_owned(),
        ended_at: None,
    }
}
