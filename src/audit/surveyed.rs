//! How a call over many targets went, for its record: how many were read and which were not. Never what they said.

use serde::Serialize;

use crate::model::TargetId;

/// The most failures that one record names: a record stays far below 64 KiB.
const NAMED: usize = 256;

/// Many targets that one call read.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct Surveyed {
    pub asked: usize,
    pub failed: Vec<TargetFailure>,
    pub failures: usize,
    pub template_id: &'static str,
}

/// One that gave nothing.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct TargetFailure {
    pub code: String,
    pub target: TargetId,
}

impl Surveyed {
    /// `asked` targets, each by this template.
    pub fn of(template_id: &'static str, asked: usize) -> Self {
        Self { asked, failed: Vec::new(), failures: 0, template_id }
    }

    /// `target` gave nothing.
    pub fn failed(&mut self, target: &TargetId, code: &str) {
        self.failures += 1;
        if self.failed.len() < NAMED {
            let code = code.chars().take(40).collect();
            self.failed.push(TargetFailure { code, target: target.clone() });
        }
    }
}
