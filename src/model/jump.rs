//! Jump hosts: whether the target that another one names can stand between it and the gateway. Pure; connects to nothing.

use super::{Target, TargetId, TargetKind};

/// The most jump hosts between the gateway and a target.
const MOST: usize = 3;

/// Why a target cannot be reached through the jump host it names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JumpFault {
    /// There is none, or it is another tenant's, which looks the same.
    #[error("there is no target {0} in the same engagement to jump through")]
    Unknown(TargetId),
    /// Only what speaks SSH can carry SSH.
    #[error("{id} is no jump host: it is a target of kind {}, and a jump host one of kind ssh", kind.as_str())]
    Kind {
        /// Which.
        id: TargetId,
        /// What it is.
        kind: TargetKind,
    },
    /// The way leads through the same target twice.
    #[error("the way leads through {0} twice")]
    Circle(TargetId),
    /// Too many on the way.
    #[error("more than {MOST} jump hosts stand on the way")]
    TooMany,
}

/// The jump hosts on the way to `target`, the one next to it first; `find` looks targets up by id.
pub fn jumps<'t>(
    target: &'t Target,
    find: impl Fn(&TargetId) -> Option<&'t Target>,
) -> Result<Vec<&'t Target>, JumpFault> {
    let mut way: Vec<&Target> = Vec::new();
    let mut last = target;
    while let Some(id) = last.connection().and_then(|connection| connection.jump.as_ref()) {
        if *id == target.id || way.iter().any(|jump| jump.id == *id) {
            return Err(JumpFault::Circle(id.clone()));
        }
        if way.len() == MOST {
            return Err(JumpFault::TooMany);
        }
        let jump = find(id).filter(|jump| jump.engagement == target.engagement);
        let jump = jump.ok_or_else(|| JumpFault::Unknown(id.clone()))?;
        if jump.kind != TargetKind::Ssh {
            return Err(JumpFault::Kind { id: id.clone(), kind: jump.kind });
        }
        way.push(jump);
        last = jump;
    }
    Ok(way)
}
