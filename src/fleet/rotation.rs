//! Replacing a login key on every target that is logged in on with it: the new key is put beside the old one, proven by a
//! login with it everywhere, and only then takes the place of the file; after that the old one is taken out and seen to be
//! refused.
//!
//! Answers for never leaving a target that nobody can log in on: before the file changes hands everything can be taken
//! back, and is where anything fails; how far it is, is on disk before the next step. Decides nothing for an agent, and
//! never sees a private key but the file it moves.

mod files;
mod state;
mod steps;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::task::TaskTracker;

pub use self::state::{KeyRotation, Reached, RotatedTarget, RotationProblem, RotationStage};
use self::{files::Files, state::Rotation};
use super::{Registry, Secrets};
use crate::{
    audit::{Audit, Unrecorded},
    exec::{Executors, LoginKey},
    model::{Attribution, Clock, CorrelationId, Target},
    store::{Store, StoreError},
};

/// Replaces login keys, one at a time.
pub struct Rotations {
    store: Store,
    executors: Arc<Executors>,
    secrets: Arc<Secrets>,
    audit: Arc<Audit>,
    clock: Arc<dyn Clock>,
    /// The one that runs now.
    running: Arc<Mutex<Option<String>>>,
    tasks: TaskTracker,
}

/// Why no rotation was begun or taken up. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RotationFault {
    /// One at a time.
    #[error("another rotation runs now: wait for its end")]
    Running,
    /// A rotation of this file has not ended.
    #[error("a rotation of this key was not finished: --resume takes it up where it stands")]
    Open,
    /// There is none to take up.
    #[error("there is no rotation of this key that was not finished")]
    Nothing,
    /// No target is logged in on with this file.
    #[error("no target names this file as its login key: `tailops credential status` shows those that are")]
    NotALoginKey,
    /// A certificate was made for the key.
    #[error(
        "target {0} is logged in on with a certificate for this key: make a new key and have its authority certify it, then name both in the registry"
    )]
    Certified(String),
    /// The key cannot be used.
    #[error("the key cannot be used: {0}")]
    Unusable(String),
    /// A file that is about to be made is there already.
    #[error("{0} is there already: look whose it is, and move it away")]
    InTheWay(String),
    /// The folder cannot be written.
    #[error("no new key can be made beside the old one: {0}; the service must be able to write the key's folder")]
    NotWritable(String),
    /// The database failed.
    #[error("the gateway's database cannot be used now")]
    Store(#[from] StoreError),
    /// What cannot be recorded is not done.
    #[error("this cannot be recorded now, so it is not done")]
    Unrecorded,
}

impl From<Unrecorded> for RotationFault {
    fn from(Unrecorded: Unrecorded) -> Self {
        Self::Unrecorded
    }
}

impl RotationFault {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Running => "rotation_running",
            Self::Open => "rotation_open",
            Self::Nothing => "rotation_unknown",
            Self::NotALoginKey => "not_a_login_key",
            Self::Certified(_) => "key_certified",
            Self::Unusable(_) => "credential_unusable",
            Self::InTheWay(_) => "file_in_the_way",
            Self::NotWritable(_) => "not_writable",
            Self::Store(_) => "unavailable",
            Self::Unrecorded => "audit_unavailable",
        }
    }
}

/// Held by the one that runs.
struct Turn(Arc<Mutex<Option<String>>>);

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Rotations {
    /// Rotations of what `secrets` names.
    pub fn new(
        (store, clock): (Store, Arc<dyn Clock>),
        executors: Arc<Executors>,
        secrets: Arc<Secrets>,
        audit: Arc<Audit>,
    ) -> Self {
        let running = Arc::default();
        Self { store, executors, secrets, audit, clock, running, tasks: TaskTracker::new() }
    }

    /// Begins to replace the login key in `file`, for `by`, somebody on the gateway's own host: makes the new key, puts
    /// the beginning on record and goes on by itself; [`Self::stands`] says how far it is.
    pub async fn begin(
        self: &Arc<Self>,
        registry: &Registry,
        file: &Path,
        by: &str,
        correlation: CorrelationId,
    ) -> Result<KeyRotation, RotationFault> {
        let turn = self.turn(&correlation.to_string())?;
        if self.open(file).await?.is_some() {
            return Err(RotationFault::Open);
        }
        let (targets, old) = self.users(registry, file)?;
        let files = Files::of(file);
        if let Some(taken) = files.in_the_way() {
            return Err(RotationFault::InTheWay(taken));
        }
        let new = LoginKey::make(&files.new).map_err(RotationFault::NotWritable)?;
        let rotation = Rotation::begun((correlation, by), file, (old, new), &targets, self.clock.now());
        let kept = async {
            self.record(&rotation, "begun").await?;
            self.store.keep_key_rotation(&rotation.row()).await?;
            Ok::<_, RotationFault>(())
        };
        if let Err(fault) = kept.await {
            // Nothing knows of the new key but this.
            files.forget_new();
            return Err(fault);
        }
        Ok(self.go_on(turn, rotation, targets))
    }

    /// Takes up the rotation of `file` that was not finished.
    pub async fn resume(
        self: &Arc<Self>,
        registry: &Registry,
        file: &Path,
        by: &str,
        correlation: CorrelationId,
    ) -> Result<KeyRotation, RotationFault> {
        let row = self.open(file).await?.ok_or(RotationFault::Nothing)?;
        let turn = self.turn(&row.id)?;
        let mut rotation = Rotation::read(&row)?;
        (rotation.by, rotation.correlation) = (by.to_owned(), correlation);
        self.record(&rotation, "resumed").await?;
        let targets = rotation.registered(registry);
        Ok(self.go_on(turn, rotation, targets))
    }

    /// Looks on every target that is logged in on with `file` whether the key could be replaced. Changes nothing; the
    /// logins are on record.
    pub async fn look(
        &self,
        registry: &Registry,
        file: &Path,
        by: &str,
        correlation: CorrelationId,
    ) -> Result<KeyRotation, RotationFault> {
        let (targets, old) = self.users(registry, file)?;
        if let Some(taken) = Files::of(file).in_the_way() {
            return Err(RotationFault::InTheWay(taken));
        }
        let none = LoginKey { line: String::new(), fingerprint: String::new() };
        let mut rotation = Rotation::begun((correlation, by), file, (old, none), &targets, self.clock.now());
        rotation.stage = RotationStage::Planned;
        self.look_everywhere(&mut rotation, &targets).await;
        self.record(&rotation, "looked").await?;
        Ok(rotation.shown(false))
    }

    /// How the rotation `id` stands.
    pub async fn stands(&self, id: &str) -> Result<Option<KeyRotation>, RotationFault> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(id);
        let Some(row) = self.store.key_rotation(id).await? else { return Ok(None) };
        Ok(Some(Rotation::read(&row)?.shown(running)))
    }

    /// Puts on record that `by` was refused.
    pub async fn refused(&self, fault: &RotationFault, by: &str) -> Result<(), Unrecorded> {
        self.audit.act("credential.rotate", by, &serde_json::Map::new(), Some(fault.code().to_owned())).await
    }

    fn turn(&self, id: &str) -> Result<Turn, RotationFault> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some() {
            return Err(RotationFault::Running);
        }
        *running = Some(id.to_owned());
        Ok(Turn(self.running.clone()))
    }

    async fn open(&self, file: &Path) -> Result<Option<crate::store::KeyRotationRow>, StoreError> {
        let name = file.display().to_string();
        Ok(self.store.open_key_rotations().await?.into_iter().find(|row| row.file == name))
    }

    /// The targets that are logged in on with `file`, and the key in it.
    fn users(&self, registry: &Registry, file: &Path) -> Result<(Vec<Arc<Target>>, LoginKey), RotationFault> {
        let of_file = |target: &&Arc<Target>| self.secrets.login_key(target) == Some(file);
        let targets: Vec<_> = registry.all().filter(of_file).cloned().collect();
        if targets.is_empty() {
            return Err(RotationFault::NotALoginKey);
        }
        let certified = |target: &&Arc<Target>| target.connection().is_some_and(|it| it.certificate.is_some());
        if let Some(target) = targets.iter().find(certified) {
            return Err(RotationFault::Certified(target.id.as_str().to_owned()));
        }
        Ok((targets, LoginKey::read(file).map_err(RotationFault::Unusable)?))
    }

    /// Goes on in a task of its own: whoever asked may go away.
    fn go_on(self: &Arc<Self>, turn: Turn, rotation: Rotation, targets: Vec<Arc<Target>>) -> KeyRotation {
        let shown = rotation.shown(true);
        let this = self.clone();
        self.tasks.spawn(async move {
            let mut rotation = rotation;
            if let Err(error) = this.advance(&mut rotation, &targets).await {
                tracing::error!(%error, rotation = rotation.id, "a rotation of a login key stopped: it can be taken up");
            }
            if this.record(&rotation, "ended").await.is_err() {
                tracing::error!(rotation = rotation.id, "the end of a rotation could not be recorded");
            }
            drop(turn);
        });
        shown
    }

    async fn record(&self, rotation: &Rotation, phase: &str) -> Result<(), Unrecorded> {
        let refused = rotation
            .problem
            .as_ref()
            .filter(|_| matches!(phase, "ended" | "looked"))
            .map(|problem| problem.code.clone());
        self.audit.act("credential.rotate", &rotation.by, &rotation.details(phase), refused).await
    }
}

/// Whom the hosts' logs are told of.
fn attribution(rotation: &Rotation) -> Attribution {
    Attribution { subject: rotation.by.clone(), correlation: rotation.correlation }
}
