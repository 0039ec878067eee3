//! Asking: a question is kept, within bounds, if anybody could answer it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;

use super::{
    Approvals, Asking, News, Person, Unapproved,
    person::{blurred, folded},
    right::{Matter, people_of},
};
use crate::{
    auth::Caller,
    config,
    model::{ApprovalId, CorrelationId, Strength, hex},
    policy::Pending,
    store::ApprovalRow,
};

/// A question as its asker is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Names it.
    pub id: ApprovalId,
    /// What is asked about: hex SHA-256.
    pub operation_hash: String,
    /// When it ends.
    pub expires: Timestamp,
    /// How many people have to agree.
    pub quorum: u32,
    /// Where people decide.
    pub decide_at: String,
}

impl Asked {
    /// What is told of a question that was kept.
    pub(super) fn of(row: ApprovalRow) -> Self {
        Self {
            decide_at: row.gateway,
            id: row.id.into(),
            operation_hash: row.operation_hash,
            expires: row.expires_at,
            quorum: row.quorum,
        }
    }
}

impl Approvals {
    /// Asks people about `asking`. Errors if nobody could answer or too much is open already.
    pub async fn ask(&self, settings: &config::Approvals, asking: Asking<'_>) -> Result<Asked, Unapproved> {
        let _turn = self.turn.lock().await;
        let now = self.seen().await?;
        self.expire_due(now).await?;
        let (operation, token, peer) = (asking.pending.operation(), asking.caller.token(), asking.caller.peer());
        self.room(settings, token.jti.as_str()).await?;
        let row = ApprovalRow {
            id: new_id()?,
            kind: "call".to_owned(),
            operation: asking.paper.canonical().to_owned(),
            operation_hash: asking.paper.hash().to_owned(),
            shown: Value::Object(asking.shown).to_string(),
            preview: asking.preview.as_ref().map(Value::to_string),
            trace: serde_json::to_string(asking.pending.trace()).unwrap_or_default(),
            why: asking.pending.why().into_owned(),
            quorum: asking.pending.quorum(),
            strength: asking.pending.strength().max(settings.strength).as_str().to_owned(),
            engagement: operation.engagement.to_string(),
            tool: operation.tool.to_owned(),
            target: operation.target.as_ref().map(|target| target.id.to_string()),
            segment: operation.target.as_ref().and_then(|target| target.segment.clone()),
            risk: operation.risk.as_str().to_owned(),
            jti: Some(token.jti.to_string()),
            subject: token.subject.clone(),
            owner: token.owner.clone(),
            peer: peer.id.clone(),
            login: peer.user.clone().filter(|_| peer.tags.is_empty()),
            correlation_id: asking.correlation.to_string(),
            gateway: self.origin(settings),
            nonce: random_hex()?,
            created_at: now,
            expires_at: now.checked_add(settings.ttl).unwrap_or(now),
            state: "pending".to_owned(),
            ended_at: None,
        };
        self.store.insert_approval(&row).await?;
        self.tell(News::Asked(Box::new(row.clone())));
        Ok(Asked::of(row))
    }

    /// Errors unless there is room for a question of `caller`'s and enough people could agree to it, as far as is known
    /// now. To be asked before anything runs for the sake of the question.
    pub async fn answerable(
        &self,
        settings: &config::Approvals,
        caller: &Caller,
        pending: &Pending,
    ) -> Result<(), Unapproved> {
        self.room(settings, caller.token().jti.as_str()).await?;
        let matter = Matter::of_pending(caller, pending);
        let least = pending.strength().max(settings.strength);
        let nobody = self.nobody(settings, &matter, least, pending.quorum()).await?;
        match nobody {
            None => Ok(()),
            Some(nobody) => Err(Unapproved::Unavailable { why: pending.why().into_owned(), nobody }),
        }
    }

    async fn room(&self, settings: &config::Approvals, jti: &str) -> Result<(), Unapproved> {
        let (all, own) = self.store.pending_approvals(Some(jti)).await?;
        self.bounded(settings, all, own, "of this token")
    }

    /// Errors where as many questions are open as may be: `own` of whoever asks, `all` in all.
    pub(super) fn bounded(
        &self,
        settings: &config::Approvals,
        all: u32,
        own: u32,
        whose: &'static str,
    ) -> Result<(), Unapproved> {
        if own >= settings.max_pending_per_token.get() {
            return Err(Unapproved::TooMany(whose));
        }
        if all >= settings.max_pending.get() {
            return Err(Unapproved::TooMany("in all"));
        }
        Ok(())
    }

    /// Why too few people could agree; none where enough could.
    pub(super) async fn nobody(
        &self,
        settings: &config::Approvals,
        matter: &Matter,
        least: Strength,
        quorum: u32,
    ) -> Result<Option<String>, Unapproved> {
        let keys = self.store.approver_keys().await?;
        let signs =
            |login: &str| keys.iter().any(|key| key.removed_at.is_none() && folded(&key.login) == folded(login));
        let mut named: BTreeSet<String> = settings.approvers.iter().map(|login| folded(login)).collect();
        named.extend(settings.webhooks.iter().map(|hook| folded(&hook.identity)));
        let people = people_of(&*self.node).await;
        named.extend(people.iter().filter(|person| matter.is_named(settings, person)).map(Person::folded));
        if named.is_empty() {
            return Ok(Some("no approver is configured".to_owned()));
        }
        let could = |login: &&String| {
            let own = matter.requesters.contains(&blurred(login));
            let signed = signs(login);
            (!own || (!settings.second_person && signed)) && (least == Strength::Identity || signed)
        };
        let able = named.iter().filter(could).count();
        Ok(match able {
            0 if least == Strength::Signature => {
                Some("no approver has an enrolled key, and this needs a signature".to_owned())
            }
            0 => Some("nobody may approve this but whoever asks, and somebody else has to".to_owned()),
            able if able < quorum as usize => Some(format!("{quorum} people have to agree, and only {able} could")),
            _ => None,
        })
    }

    /// Where people decide, which signatures name: as configured, or by the names the node has.
    pub fn origin(&self, settings: &config::Approvals) -> String {
        if let Some(url) = &settings.url {
            return url.clone();
        }
        let status = self.node.status();
        let address = self.node.addresses().first().copied();
        let port = address.map_or(0, |address| address.port());
        match status.hosts().into_iter().next() {
            Some(name) => format!("http://{name}:{port}"),
            None => format!("http://{}", address.map_or_else(|| "localhost".to_owned(), |address| address.to_string())),
        }
    }
}

/// The least strength that counts for a kept question; the greatest where the row says nothing that is known.
pub(super) fn strength_of(row: &ApprovalRow) -> Strength {
    if row.strength == Strength::Identity.as_str() { Strength::Identity } else { Strength::Signature }
}

/// The correlation id of the call that asked.
pub(super) fn correlation_of(row: &ApprovalRow) -> CorrelationId {
    row.correlation_id.parse().unwrap_or_else(|_| CorrelationId::random())
}

/// Random bytes that nobody can guess.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], Unapproved> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Unapproved::Store("the system's random generator failed".to_owned()))?;
    Ok(bytes)
}

/// 60 random bits in Crockford's base 32, which has no letters that look like digits: `k3vd-9w2m-7qtp`.
pub(super) fn new_id() -> Result<String, Unapproved> {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let letters: Vec<char> = random_bytes::<12>()?
        .iter()
        .filter_map(|byte| LETTERS.get(usize::from(byte % 32)))
        .map(|letter| char::from(*letter))
        .collect();
    Ok(letters.chunks(4).map(|part| part.iter().collect::<String>()).collect::<Vec<_>>().join("-"))
}

/// 128 random bits in hex.
pub(super) fn random_hex() -> Result<String, Unapproved> {
    random_bytes::<16>().map(|bytes| hex(&bytes))
}
