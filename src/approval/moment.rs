//! The moment that a kept question counts from. A call that says how long ago means the same when it runs as when people
//! were asked: it is planned at that moment again. Decides nothing.

use jiff::Timestamp;
use serde_json::Value;

use super::{Approvals, Unapproved};
use crate::{auth::Caller, model::ApprovalId};

impl Approvals {
    /// The moment that the question `id` of `caller` counts from; none where it counts from none, or is not theirs.
    pub async fn moment_of(&self, caller: &Caller, id: &ApprovalId) -> Result<Option<Timestamp>, Unapproved> {
        let row = self.store.approval(id.as_str()).await?;
        let own = row.filter(|row| row.jti.as_deref() == Some(caller.token().jti.as_str()));
        let document: Option<Value> = own.and_then(|row| serde_json::from_str(&row.operation).ok());
        let moment = document.as_ref().and_then(|document| document.get("moment")).and_then(Value::as_str);
        Ok(moment.and_then(|text| text.parse().ok()))
    }
}
