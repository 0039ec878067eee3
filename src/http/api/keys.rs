//! The keys whose signatures count, over HTTP. What anybody may see and ask for is settled by [`crate::approval`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, Visit, route::Nothing};
use crate::{
    approval::{ApprovalView, Enrolment, KeyWish, Undecided},
    model::ApprovalId,
    store::ApproverKeyRow,
};

/// Several keys.
#[derive(Serialize, JsonSchema)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

/// A key whose signatures count.
#[derive(Serialize, JsonSchema)]
struct Key {
    /// Its fingerprint, as `ssh-keygen -l` prints it.
    key_id: String,
    /// Whose.
    login: String,
    /// `ssh`.
    kind: String,
    /// One line of OpenSSH.
    public_key: String,
    /// For people.
    label: String,
    /// When it was enrolled.
    added_at: String,
    /// Who asked for it.
    added_by: String,
}

impl From<ApproverKeyRow> for Key {
    fn from(row: ApproverKeyRow) -> Self {
        let ApproverKeyRow { key_id, login, kind, public_key, label, added_by, .. } = row;
        Self { key_id, login, kind, public_key, label, added_at: row.added_at.to_string(), added_by }
    }
}

/// A key that somebody wants to count.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WantedKey")]
pub(super) struct Wanted {
    /// Whose: your own login; on the gateway's own host any.
    login: String,
    /// One line of OpenSSH, as `ssh-keygen` writes it to a .pub file.
    public_key: String,
    /// For people: one line of at most 100 characters.
    #[serde(default)]
    label: String,
}

/// What came of it: done, or to be agreed to.
#[derive(Serialize, JsonSchema)]
pub(super) struct Enrolled {
    /// True where it is done already.
    #[serde(skip_serializing_if = "Option::is_none")]
    enrolled: Option<bool>,
    /// What people have to agree to first.
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<ApprovalView>,
    /// What keeps the key from being of use as things are.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// What came of it: done, or to be agreed to.
#[derive(Serialize, JsonSchema)]
pub(super) struct Removed {
    /// True where it is done already.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<bool>,
    /// What people have to agree to first.
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<ApprovalView>,
}

/// `GET /api/v1/approver-keys`
pub(super) async fn list(visit: Visit, _: Nothing) -> Result<Keys, Fault> {
    let rules = visit.desk.rules.now();
    let keys = visit.desk.approvals.keys_seen_by(&rules.approvals, &visit.person).await?;
    Ok(Keys { keys: keys.into_iter().map(Key::from).collect() })
}

/// `POST /api/v1/approver-keys`
pub(super) async fn enrol(visit: Visit, wanted: Wanted) -> Result<Enrolled, Fault> {
    let rules = visit.desk.rules.now();
    let Wanted { login, public_key, label } = wanted;
    let wanted = Enrolment { login, public_key, label };
    let wish = visit.desk.approvals.enrol_key(&rules.approvals, &visit.person, &wanted, visit.correlation).await?;
    let useful = visit.desk.approvals.could_approve(&rules.approvals, &wanted.login).await;
    let warning = (!useful).then(|| {
        format!("nothing gives {} the right to approve: neither approvals.approvers nor a node seen now", wanted.login)
    });
    let approval = shown(&visit, &wish).await?;
    Ok(Enrolled { enrolled: approval.is_none().then_some(true), approval, warning })
}

/// `DELETE /api/v1/approver-keys/{key_id}`
pub(super) async fn remove(visit: Visit, _: Nothing) -> Result<Removed, Fault> {
    let rules = visit.desk.rules.now();
    let approvals = &visit.desk.approvals;
    let wish = approvals.remove_key(&rules.approvals, &visit.person, visit.parameter(), visit.correlation).await?;
    let approval = shown(&visit, &wish).await?;
    Ok(Removed { removed: approval.is_none().then_some(true), approval })
}

/// What people were asked; none where it is done.
async fn shown(visit: &Visit, wish: &KeyWish) -> Result<Option<ApprovalView>, Fault> {
    let KeyWish::Asked(asked) = wish else { return Ok(None) };
    let rules = visit.desk.rules.now();
    let seen = visit.desk.approvals.one_seen_by(&rules.approvals, &visit.person, asked.id.as_str()).await?;
    seen.map(Some).ok_or_else(|| Undecided::Unknown(ApprovalId::from(asked.id.as_str())).into())
}
