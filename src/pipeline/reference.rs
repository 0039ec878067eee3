//! What a caller says stands for a yes, read before anything else looks at the call. Keeps no text that could be a
//! credential.

use serde_json::Value;

use crate::{approval::Credential, model::ApprovalId};

/// The longest text that is taken for an approval's id: too short for a credential, or for enough of one.
const LONGEST_ID: usize = 20;

/// What the argument `approval_id` of a call says.
#[derive(Clone, Debug)]
pub enum Reference {
    /// An approval.
    Approval(ApprovalId),
    /// A pass for emergencies, by the hash of its credential.
    Pass(Credential),
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

fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
