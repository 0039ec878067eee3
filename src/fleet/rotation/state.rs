//! How a rotation stands: what is kept of it, shown of it and recorded of it. Does nothing.

use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::files::Files;
use crate::{
    exec::LoginKey,
    fleet::Registry,
    model::{CorrelationId, Target},
    store::{KeyRotationRow, StoreError},
};

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RotationStage {
    /// Only looked at.
    Planned,
    /// The new key is put on the targets and proven there.
    Adding,
    /// Something failed: the new key is taken back.
    Undoing,
    /// The file holds the new key; the old one is taken out of the targets.
    Removing,
    /// Everything is as it was before. An end.
    Undone,
    /// The old key opens nothing any more. An end.
    Done,
}

impl RotationStage {
    /// The word that is shown and kept.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Adding => "adding",
            Self::Undoing => "undoing",
            Self::Removing => "removing",
            Self::Undone => "undone",
            Self::Done => "done",
        }
    }

    fn read(word: &str) -> Option<Self> {
        let kept = [Self::Adding, Self::Undoing, Self::Removing, Self::Undone, Self::Done];
        kept.into_iter().find(|stage| stage.as_str() == word)
    }
}

/// How far it is on one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// Nothing was done there.
    Pending,
    /// The old key was found, and could be replaced.
    Found,
    /// The new key is being put there: it may be there already.
    Adding,
    /// The new key is there.
    Added,
    /// A login with the new key was seen to work.
    Verified,
    /// The new key was taken back.
    TakenBack,
    /// The old key was taken out.
    Removed,
    /// The old key was seen to be refused.
    Refused,
    /// The target is not registered any more, so nothing more can be done there.
    Gone,
}

impl Reached {
    /// The words that are shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "nothing",
            Self::Found => "old key found",
            Self::Adding => "new key maybe added",
            Self::Added => "new key added",
            Self::Verified => "new key proven",
            Self::TakenBack => "new key taken back",
            Self::Removed => "old key taken out",
            Self::Refused => "old key refused",
            Self::Gone => "not registered any more",
        }
    }
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotationProblem {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// One target of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotatedTarget {
    /// Its id.
    pub target: String,
    /// How far it is there.
    pub reached: Reached,
    /// What went wrong there last; null where nothing did, or where it was mended since.
    pub problem: Option<RotationProblem>,
}

/// A rotation, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRotation {
    /// Its id, which is also the correlation id of the request that began it.
    pub id: String,
    /// The login key.
    pub file: String,
    /// How far it is.
    pub stage: RotationStage,
    /// Whether it goes on now.
    pub running: bool,
    /// The fingerprint of the key that was there.
    pub old_key: String,
    /// The fingerprint of the key that takes its place; empty where it was only looked at.
    pub new_key: String,
    /// What ended it early, or holds it up.
    pub problem: Option<RotationProblem>,
    /// The targets that are logged in on with the key.
    pub targets: Vec<RotatedTarget>,
}

/// A rotation, as it is worked on.
pub(super) struct Rotation {
    pub(super) id: String,
    pub(super) correlation: CorrelationId,
    pub(super) by: String,
    pub(super) files: Files,
    pub(super) stage: RotationStage,
    pub(super) old: LoginKey,
    pub(super) new: LoginKey,
    pub(super) targets: Vec<RotatedTarget>,
    pub(super) problem: Option<RotationProblem>,
    pub(super) swapped_at: Option<Timestamp>,
    pub(super) ended_at: Option<Timestamp>,
    started_at: String,
    started_by: String,
}

impl Rotation {
    pub(super) fn begun(
        (correlation, by): (CorrelationId, &str),
        file: &std::path::Path,
        (old, new): (LoginKey, LoginKey),
        targets: &[Arc<Target>],
        now: Timestamp,
    ) -> Self {
        let pending = |target: &Arc<Target>| RotatedTarget {
            target: target.id.as_str().to_owned(),
            reached: Reached::Pending,
            problem: None,
        };
        Self {
            id: correlation.to_string(),
            correlation,
            by: by.to_owned(),
            files: Files::of(file),
            stage: RotationStage::Adding,
            old,
            new,
            targets: targets.iter().map(pending).collect(),
            problem: None,
            swapped_at: None,
            ended_at: None,
            started_at: now.to_string(),
            started_by: by.to_owned(),
        }
    }

    /// As it is kept.
    pub(super) fn row(&self) -> KeyRotationRow {
        KeyRotationRow {
            id: self.id.clone(),
            file: self.files.key.display().to_string(),
            stage: self.stage.as_str().to_owned(),
            old_key: self.old.line.clone(),
            new_key: self.new.line.clone(),
            old_print: self.old.fingerprint.clone(),
            new_print: self.new.fingerprint.clone(),
            targets: json!(self.targets).to_string(),
            problem: self.problem.as_ref().map(|problem| json!(problem).to_string()),
            started_at: self.started_at.clone(),
            started_by: self.started_by.clone(),
            swapped_at: self.swapped_at.map(|at| at.to_string()),
            ended_at: self.ended_at.map(|at| at.to_string()),
        }
    }

    /// What `row` keeps.
    pub(super) fn read(row: &KeyRotationRow) -> Result<Self, StoreError> {
        let damaged = |column| StoreError::Damaged { table: "key_rotation", column };
        let stamp = |text: &Option<String>, column| -> Result<Option<Timestamp>, StoreError> {
            text.as_ref().map(|text| text.parse()).transpose().map_err(|_| damaged(column))
        };
        let problem = row.problem.as_deref().map(serde_json::from_str).transpose();
        Ok(Self {
            id: row.id.clone(),
            correlation: row.id.parse().map_err(|_| damaged("id"))?,
            by: row.started_by.clone(),
            files: Files::of(&PathBuf::from(&row.file)),
            stage: RotationStage::read(&row.stage).ok_or_else(|| damaged("stage"))?,
            old: LoginKey { line: row.old_key.clone(), fingerprint: row.old_print.clone() },
            new: LoginKey { line: row.new_key.clone(), fingerprint: row.new_print.clone() },
            targets: serde_json::from_str(&row.targets).map_err(|_| damaged("targets"))?,
            problem: problem.map_err(|_| damaged("problem"))?,
            swapped_at: stamp(&row.swapped_at, "swapped_at")?,
            ended_at: stamp(&row.ended_at, "ended_at")?,
            started_at: row.started_at.clone(),
            started_by: row.started_by.clone(),
        })
    }

    /// Its targets, as far as they are registered still.
    pub(super) fn registered(&self, registry: &Registry) -> Vec<Arc<Target>> {
        let ours = |target: &&Arc<Target>| self.targets.iter().any(|ours| ours.target == target.id.as_str());
        registry.all().filter(ours).cloned().collect()
    }

    pub(super) fn shown(&self, running: bool) -> KeyRotation {
        KeyRotation {
            id: self.id.clone(),
            file: self.files.key.display().to_string(),
            stage: self.stage,
            running,
            old_key: self.old.fingerprint.clone(),
            new_key: self.new.fingerprint.clone(),
            problem: self.problem.clone(),
            targets: self.targets.clone(),
        }
    }

    /// For the record: the keys by their fingerprints, the targets with how far each is. Names no file.
    pub(super) fn details(&self, phase: &str) -> Map<String, Value> {
        let targets: Map<String, Value> =
            self.targets.iter().map(|one| (one.target.clone(), json!(one.reached))).collect();
        Map::from_iter([
            ("rotation".to_owned(), json!(self.id)),
            ("phase".to_owned(), json!(phase)),
            ("stage".to_owned(), json!(self.stage)),
            ("old_key".to_owned(), json!(self.old.fingerprint)),
            ("new_key".to_owned(), json!(self.new.fingerprint)),
            ("targets".to_owned(), Value::Object(targets)),
        ])
    }
}
