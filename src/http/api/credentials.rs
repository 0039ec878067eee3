//! The gateway's own secrets, as people on its own host look at them, and the replacement of login keys. Closed to
//! everybody else: answers name files, and whoever could ask from afar could have keys changed on hosts.

use std::path::PathBuf;

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, Visit, route::Nothing, targets::on_host};
use crate::{
    fleet::{Credential, KeyRotation, RotationFault},
    http::refuse::Refused,
};

/// What there is, the worst first.
#[derive(Serialize, JsonSchema)]
pub(super) struct Listed {
    /// One a secret; none of them says the secret.
    credentials: Vec<Credential>,
}

/// What to do about a login key.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Act {
    /// Replace it.
    #[default]
    Begin,
    /// Look whether it could be replaced, and change nothing.
    Look,
    /// Take up a replacement that was not finished.
    Resume,
}

/// Which key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Its file, as the registry names it.
    file: String,
    /// What to do about it.
    #[serde(default)]
    act: Act,
}

/// `GET /api/v1/credentials`
pub(super) async fn list(visit: Visit, _: Nothing) -> Result<Listed, Fault> {
    on_host(&visit)?;
    Ok(Listed { credentials: visit.desk.pipeline.credentials().await? })
}

/// `POST /api/v1/credentials/rotate`
pub(super) async fn rotate(visit: Visit, wanted: Wanted) -> Result<KeyRotation, Fault> {
    on_host(&visit)?;
    let file = PathBuf::from(&wanted.file);
    if !file.is_absolute() {
        return Err(Fault::invalid("file", "must be an absolute path"));
    }
    let (rules, rotations) = (visit.desk.rules.now(), &visit.desk.rotations);
    let (registry, by, correlation) = (&rules.registry, visit.person.login(), visit.correlation);
    let begun = match wanted.act {
        Act::Look => return Ok(rotations.look(registry, &file, by, correlation).await?),
        Act::Begin => rotations.begin(registry, &file, by, correlation).await,
        Act::Resume => rotations.resume(registry, &file, by, correlation).await,
    };
    if let Err(fault) = &begun {
        rotations.refused(fault, by).await?;
    }
    Ok(begun?)
}

/// `GET /api/v1/credentials/rotations/{id}`
pub(super) async fn rotation(visit: Visit, _: Nothing) -> Result<KeyRotation, Fault> {
    on_host(&visit)?;
    let rotation = visit.desk.rotations.stands(visit.parameter()).await?;
    rotation.ok_or_else(|| {
        Refused::new(StatusCode::NOT_FOUND, "rotation_unknown", "there is no rotation of this id").into()
    })
}

impl From<RotationFault> for Fault {
    fn from(fault: RotationFault) -> Self {
        let status = match &fault {
            RotationFault::Nothing | RotationFault::NotALoginKey => StatusCode::NOT_FOUND,
            RotationFault::Store(_) | RotationFault::Unrecorded => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::CONFLICT,
        };
        Refused::new(status, fault.code(), fault.to_string()).into()
    }
}
