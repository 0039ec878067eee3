//! The steps of a rotation, one target after the other. What is about to be done on a target is kept before it is done,
//! so that whoever takes the rotation up knows where something may have been left.

use std::{path::Path, sync::Arc};

use futures_util::{StreamExt, stream};

use super::{
    Rotations, attribution,
    state::{Reached, Rotation, RotationProblem, RotationStage},
};
use crate::{
    exec::LoginKeyAct,
    model::{Attribution, KeyReference, ScriptOutput, StepOutcome, Target, failpoint},
    store::StoreError,
};

/// How many targets are looked at at the same time.
const AT_ONCE: usize = 8;

impl RotationProblem {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

impl Rotations {
    /// Goes on to an end, or to where it cannot go on.
    pub(super) async fn advance(&self, rotation: &mut Rotation, targets: &[Arc<Target>]) -> Result<(), StoreError> {
        rotation.problem = None;
        if rotation.stage == RotationStage::Adding {
            self.add(rotation, targets).await?;
        }
        if rotation.stage == RotationStage::Removing {
            self.remove(rotation, targets).await?;
        }
        if rotation.stage == RotationStage::Undoing {
            self.undo(rotation, targets).await?;
        }
        self.keep(rotation).await
    }

    async fn keep(&self, rotation: &Rotation) -> Result<(), StoreError> {
        self.store.keep_key_rotation(&rotation.row()).await
    }

    /// The new key on every target, proven, and then in the place of the file.
    async fn add(&self, rotation: &mut Rotation, targets: &[Arc<Target>]) -> Result<(), StoreError> {
        let files = rotation.files.clone();
        if files.holds(&rotation.new.fingerprint) {
            // It was cut short between the file and the row that tells of it.
            return self.swapped(rotation).await;
        }
        if let Err(problem) = self.prove(rotation, targets).await? {
            rotation.problem = Some(problem);
            rotation.stage = RotationStage::Undoing;
            return self.keep(rotation).await;
        }
        failpoint("rotation.proven");
        // Where it failed after the file had changed, there is no way back.
        if let Err(error) = files.swap(&rotation.new.line)
            && !files.holds(&rotation.new.fingerprint)
        {
            rotation.problem = Some(RotationProblem::new("not_writable", format!("the key's file: {}", error.kind())));
            rotation.stage = RotationStage::Undoing;
            return self.keep(rotation).await;
        }
        failpoint("rotation.swapped");
        self.swapped(rotation).await
    }

    async fn swapped(&self, rotation: &mut Rotation) -> Result<(), StoreError> {
        rotation.swapped_at = Some(self.clock.now());
        rotation.stage = RotationStage::Removing;
        self.keep(rotation).await
    }

    /// Errors inside with what keeps the new key from taking the old one's place.
    async fn prove(
        &self,
        rotation: &mut Rotation,
        targets: &[Arc<Target>],
    ) -> Result<Result<(), RotationProblem>, StoreError> {
        let files = rotation.files.clone();
        if !files.holds(&rotation.old.fingerprint) {
            return Ok(Err(changed()));
        }
        // Nothing is changed anywhere unless it can be changed everywhere.
        self.look_everywhere(rotation, targets).await;
        if let Some(problem) = first_problem(rotation) {
            return Ok(Err(problem));
        }
        for place in 0..rotation.targets.len() {
            let Some(target) = registered(rotation, place, targets) else { continue };
            if reached(rotation, place) != Some(Reached::Verified) {
                self.reach(rotation, place, Reached::Adding).await?;
                let (old, new) = (rotation.old.line.clone(), rotation.new.line.clone());
                let add = LoginKeyAct::Add { old: &old, new: &new };
                if let Err(problem) = self.act(rotation, &target, &files.key, add).await {
                    return Ok(Err(self.failed(rotation, place, problem).await?));
                }
                self.reach(rotation, place, Reached::Added).await?;
            }
            if let Err(problem) = self.logs_in(rotation, &target, &files.new).await {
                return Ok(Err(self.failed(rotation, place, problem).await?));
            }
            self.reach(rotation, place, Reached::Verified).await?;
        }
        Ok(Ok(()))
    }

    /// The old key out of every target, and refused there. One that fails holds up no other.
    async fn remove(&self, rotation: &mut Rotation, targets: &[Arc<Target>]) -> Result<(), StoreError> {
        let files = rotation.files.clone();
        if !files.holds(&rotation.new.fingerprint) {
            rotation.problem = Some(changed());
            return Ok(());
        }
        for place in 0..rotation.targets.len() {
            if reached(rotation, place) == Some(Reached::Refused) {
                continue;
            }
            let Some(target) = registered(rotation, place, targets) else {
                self.reach(rotation, place, Reached::Gone).await?;
                continue;
            };
            let (old, new) = (rotation.old.line.clone(), rotation.new.line.clone());
            let take_out = LoginKeyAct::Drop { gone: &old, kept: &new };
            if let Err(problem) = self.act(rotation, &target, &files.key, take_out).await {
                self.failed(rotation, place, problem).await?;
                continue;
            }
            self.reach(rotation, place, Reached::Removed).await?;
            match self.is_refused(rotation, &target, &files.old).await {
                Ok(()) => self.reach(rotation, place, Reached::Refused).await?,
                Err(problem) => self.failed(rotation, place, problem).await.map(drop)?,
            }
        }
        if let Some(problem) = first_problem(rotation) {
            rotation.problem = Some(problem);
            return Ok(());
        }
        if let Err(error) = files.forget_old() {
            let why = format!("the old key's file cannot be removed: {}", error.kind());
            rotation.problem = Some(RotationProblem::new("not_writable", why));
            return Ok(());
        }
        (rotation.stage, rotation.ended_at) = (RotationStage::Done, Some(self.clock.now()));
        Ok(())
    }

    /// The new key off every target where it may be. The rotation has ended only once it is off all of them.
    async fn undo(&self, rotation: &mut Rotation, targets: &[Arc<Target>]) -> Result<(), StoreError> {
        let files = rotation.files.clone();
        // Taking back what logs us in now would lock us out.
        if !files.holds(&rotation.old.fingerprint) {
            rotation.problem = Some(changed());
            return Ok(());
        }
        // Whatever is left of it on a host, nobody can use it any more.
        files.forget_new();
        let mut left = None;
        for place in 0..rotation.targets.len() {
            if !matches!(reached(rotation, place), Some(Reached::Adding | Reached::Added | Reached::Verified)) {
                continue;
            }
            let Some(target) = registered(rotation, place, targets) else {
                self.reach(rotation, place, Reached::Gone).await?;
                continue;
            };
            let (old, new) = (rotation.old.line.clone(), rotation.new.line.clone());
            let take_out = LoginKeyAct::Drop { gone: &new, kept: &old };
            match self.act(rotation, &target, &files.key, take_out).await {
                // What went wrong there before is why it was taken back, and stays.
                Ok(()) => {
                    if let Some(one) = rotation.targets.get_mut(place) {
                        one.reached = Reached::TakenBack;
                    }
                    self.keep(rotation).await?;
                }
                Err(problem) => left = Some(self.failed(rotation, place, problem).await?),
            }
        }
        match left {
            None => {
                // A link to the key itself, from a swap that failed half way.
                if let Err(error) = files.forget_old() {
                    tracing::warn!(%error, "the second name of a login key could not be removed");
                }
                (rotation.stage, rotation.ended_at) = (RotationStage::Undone, Some(self.clock.now()));
                let unknown = || RotationProblem::new("interrupted", "it was taken back after it was interrupted");
                rotation.problem.get_or_insert_with(unknown);
            }
            Some(problem) => rotation.problem = Some(problem),
        }
        Ok(())
    }

    /// Looks on every target where nothing was done yet whether the old key is there and could be replaced.
    pub(super) async fn look_everywhere(&self, rotation: &mut Rotation, targets: &[Arc<Target>]) {
        let (key, old) = (rotation.files.key.clone(), rotation.old.line.clone());
        let places = (0..rotation.targets.len())
            .filter(|place| matches!(reached(rotation, *place), Some(Reached::Pending | Reached::Found)));
        let places: Vec<_> = places.map(|place| (place, registered(rotation, place, targets))).collect();
        let (key, old, attribution) = (key.as_path(), old.as_str(), attribution(rotation));
        let look = |(place, target): (usize, Option<Arc<Target>>)| {
            let attribution = &attribution;
            async move {
                let Some(target) = target else { return (place, Err(gone())) };
                (place, self.act_for(attribution, &target, key, LoginKeyAct::Look(old)).await)
            }
        };
        let looked: Vec<_> = stream::iter(places.into_iter().map(look)).buffer_unordered(AT_ONCE).collect().await;
        for (place, found) in looked {
            if let Some(one) = rotation.targets.get_mut(place) {
                one.problem = found.err();
                one.reached = if one.problem.is_none() { Reached::Found } else { Reached::Pending };
            }
        }
        rotation.problem = first_problem(rotation);
    }

    async fn reach(&self, rotation: &mut Rotation, place: usize, reached: Reached) -> Result<(), StoreError> {
        if let Some(one) = rotation.targets.get_mut(place) {
            (one.reached, one.problem) = (reached, None);
        }
        self.keep(rotation).await
    }

    /// Keeps what went wrong on a target, and returns it with the target's name.
    async fn failed(
        &self,
        rotation: &mut Rotation,
        place: usize,
        problem: RotationProblem,
    ) -> Result<RotationProblem, StoreError> {
        let mut whole = problem.clone();
        if let Some(one) = rotation.targets.get_mut(place) {
            whole.message = format!("{}: {}", one.target, problem.message);
            one.problem = Some(problem);
        }
        self.keep(rotation).await?;
        Ok(whole)
    }

    /// Does `act` on `target`, logged in by the key in `key`.
    async fn act(
        &self,
        rotation: &Rotation,
        target: &Target,
        key: &Path,
        act: LoginKeyAct<'_>,
    ) -> Result<(), RotationProblem> {
        self.act_for(&attribution(rotation), target, key, act).await
    }

    async fn act_for(
        &self,
        attribution: &Attribution,
        target: &Target,
        key: &Path,
        act: LoginKeyAct<'_>,
    ) -> Result<(), RotationProblem> {
        let output = self.executors.act_on_login_key(&by_key(target, key), act, attribution).await;
        let output = output.map_err(|error| RotationProblem::new(error.code(), error.to_string()))?;
        judged(&output)
    }

    async fn login(&self, rotation: &Rotation, target: &Target, key: &Path) -> Result<ScriptOutput, RotationProblem> {
        let (target, attribution) = (by_key(target, key), attribution(rotation));
        let output = self.executors.act_on_login_key(&target, LoginKeyAct::Login, &attribution).await;
        output.map_err(|error| RotationProblem::new(error.code(), error.to_string()))
    }

    /// Errors unless a new connection logs in by the key in `key`, which must be the new one.
    async fn logs_in(&self, rotation: &Rotation, target: &Target, key: &Path) -> Result<(), RotationProblem> {
        let output = self.login(rotation, target, key).await?;
        judged(&output)?;
        let by = output.wire.as_ref().map(|wire| wire.credential.as_str());
        if by != Some(rotation.new.fingerprint.as_str()) {
            return Err(RotationProblem::new("key_changed", "the login was not made with the new key"));
        }
        Ok(())
    }

    /// Errors unless the host refuses a login by the key in `key`.
    async fn is_refused(&self, rotation: &Rotation, target: &Target, key: &Path) -> Result<(), RotationProblem> {
        let output = self.login(rotation, target, key).await?;
        match &output.outcome {
            // The refusal of a jump host says nothing of the target.
            StepOutcome::NotStarted { code: "login_refused", why } if !why.starts_with("at the jump host") => Ok(()),
            StepOutcome::NotStarted { code, why } => Err(RotationProblem::new(code, why.clone())),
            _ => Err(RotationProblem::new(
                "old_key_accepted",
                "the host still takes the old key: it stands somewhere else than in ~/.ssh/authorized_keys too",
            )),
        }
    }
}

fn changed() -> RotationProblem {
    RotationProblem::new("key_changed", "the key's file holds another key than the rotation left there, or none")
}

fn gone() -> RotationProblem {
    RotationProblem::new("unknown_target", "it is not registered any more")
}

fn reached(rotation: &Rotation, place: usize) -> Option<Reached> {
    rotation.targets.get(place).map(|one| one.reached)
}

fn registered(rotation: &Rotation, place: usize, targets: &[Arc<Target>]) -> Option<Arc<Target>> {
    let one = rotation.targets.get(place)?;
    targets.iter().find(|target| target.id.as_str() == one.target).cloned()
}

/// The first thing that is wrong on a target, with the target's name.
fn first_problem(rotation: &Rotation) -> Option<RotationProblem> {
    rotation.targets.iter().find_map(|one| {
        let problem = one.problem.as_ref()?;
        Some(RotationProblem::new(&problem.code, format!("{}: {}", one.target, problem.message)))
    })
}

/// `target`, logged in on by the key in `key`.
fn by_key(target: &Target, key: &Path) -> Target {
    let mut target = target.clone();
    if let Some(connection) = target.registered.as_mut().and_then(|registered| registered.connection.as_mut()) {
        connection.key = Some(KeyReference::File(key.to_owned()));
    }
    target
}

/// Errors unless the script did what it was told.
fn judged(output: &ScriptOutput) -> Result<(), RotationProblem> {
    let failed = |message: String| Err(RotationProblem::new("failed", message));
    match &output.outcome {
        StepOutcome::Exited(0) => {}
        StepOutcome::Exited(status) => return failed(format!("the change ended with status {status}")),
        StepOutcome::Signalled(signal) => return failed(format!("the change was killed by signal {signal}")),
        StepOutcome::Stopped { limit, .. } => return failed(format!("the change was stopped at its limit ({limit})")),
        StepOutcome::Lost(why) => return Err(RotationProblem::new("unknown_outcome", why.clone())),
        StepOutcome::NotStarted { code, why } => return Err(RotationProblem::new(code, why.clone())),
    }
    let sections = output.sections();
    match sections.iter().find(|section| section.name == "result").map(|section| &section.content) {
        Some(Ok(_)) => Ok(()),
        Some(Err(reason)) => Err(refused(reason)),
        None => failed("the host did not say what came of it".to_owned()),
    }
}

/// Why the script changed nothing.
fn refused(reason: &str) -> RotationProblem {
    let (code, message) = match reason {
        "not_found" => (
            "old_key_not_found",
            "the key it was logged in with is not in ~/.ssh/authorized_keys, as one \
                         blank between type and key: it is let in by something else",
        ),
        "symlink" => ("authorized_keys_unsafe", "~/.ssh or ~/.ssh/authorized_keys is a symbolic link"),
        "foreign_owner" => ("authorized_keys_unsafe", "~/.ssh or ~/.ssh/authorized_keys belongs to somebody else"),
        "no_file" => ("authorized_keys_unsafe", "there is no ~/.ssh/authorized_keys that is a regular file"),
        "no_home" => ("authorized_keys_unsafe", "the login user has no home directory"),
        "too_large" => ("authorized_keys_unsafe", "~/.ssh/authorized_keys is larger than 1 MiB"),
        "not_text" => ("authorized_keys_unsafe", "~/.ssh/authorized_keys is no text"),
        "not_writable" => (
            "permission_denied",
            "the login user may not write ~/.ssh/authorized_keys and its folder, \
                            or the disk is full",
        ),
        "changed" => ("busy", "somebody else changed ~/.ssh/authorized_keys meanwhile"),
        "would_lock_out" => ("would_lock_out", "the key that would be left is not in ~/.ssh/authorized_keys"),
        _ => ("failed", "the host gave a reason that is not known here"),
    };
    RotationProblem::new(code, message)
}
