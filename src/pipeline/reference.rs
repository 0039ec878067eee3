//! What a caller says stands for a yes, read before anything else looks at the call. Keeps no text that could be a
//! credential.

use serde_json::Value;

use super::CallError;
use crate::{
    approval::Credential,
    model::ApprovalId,
    tools::{APPROVAL_ID, ToolError},
};

/// The longest text that is taken for an approval's id: too short for a credential, or for enough of one.
const LONGEST_ID: usize = 20;

/// What the argument `approval_id` of a call says.
#[derive(Clone, Debug)]
pub enum Reference {
    /// An approval.
    Approval(ApprovalId),
    /// A pass for emergencies, by the hash of its credential.
    Pass(Credential),
    /// An approval, by a client whose user would rather not try now: nothing runs.
    NotNow(ApprovalId),
    /// Neither; not kept, as it may be a secret.
    Malformed,
}

impl Reference {
    /// What `argument` says.
    pub(super) fn read(argument: &Value) -> Self {
        let Some(text) = argument.as_str() else { return Self::Malformed };
        match Credential::shown(text) {
            Some(credential) => Self::Pass(credential),
            None if is_id(text) => Self::Approval(text.into()),
            None => Self::Malformed,
        }
    }
}

/// The refusal of [`Reference::Malformed`].
pub(super) fn malformed() -> CallError {
    let wanted = "must be the id that approval_required answered, and a requestState the one of this very call";
    ToolError::invalid(APPROVAL_ID, wanted).into()
}

fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
