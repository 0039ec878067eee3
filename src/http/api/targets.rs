//! Machines, as people on the gateway's own host look at them: the host keys that one shows, and whether a target can be
//! used. Closed to everybody else: whoever could ask from afar could have the gateway connect anywhere.

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Fault, Visit, route::Nothing};
use crate::{
    approval::Place,
    audit::Unrecorded,
    http::refuse::Refused,
    pipeline::{HostKeys, Trial},
};

/// The code for a target that is not there.
const UNKNOWN: &str = "unknown_target";

/// Where to look.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Look {
    /// A name or an address.
    host: String,
    /// The port of its SSH server.
    #[schemars(range(min = 1))]
    port: u16,
    /// The target to look from, where the machine stands behind one.
    jump: Option<String>,
}

/// `POST /api/v1/targets/scan`
pub(super) async fn scan(visit: Visit, look: Look) -> Result<HostKeys, Fault> {
    on_host(&visit)?;
    let plain =
        !look.host.is_empty() && look.host.len() <= 253 && look.host.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain || look.host.starts_with('-') {
        return Err(Fault::invalid("host", "must be a name or an address"));
    }
    if look.port == 0 {
        return Err(Fault::invalid("port", "must be 1 to 65535"));
    }
    let (place, jump) = ((look.host.as_str(), look.port), look.jump.as_deref());
    let found = visit.desk.pipeline.scan_host(place, jump, visit.person.login(), visit.correlation).await?;
    Ok(found.map_err(|unseen| {
        let status = if unseen.code == UNKNOWN { StatusCode::NOT_FOUND } else { StatusCode::BAD_GATEWAY };
        Refused::new(status, unseen.code, unseen.message)
    })?)
}

/// `POST /api/v1/targets/{id}/test`
pub(super) async fn test(visit: Visit, _: Nothing) -> Result<Trial, Fault> {
    on_host(&visit)?;
    let (id, by) = (visit.parameter(), visit.person.login());
    let trial = visit.desk.pipeline.test_target(id, by, visit.correlation).await?;
    trial.ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, UNKNOWN, format!("there is no target {id:?}")).into())
}

pub(super) fn on_host(visit: &Visit) -> Result<(), Fault> {
    if matches!(visit.person.place(), Place::Host { .. }) {
        return Ok(());
    }
    let message = "this is for the gateway's own host only: run `tailops` there";
    Err(Refused::new(StatusCode::FORBIDDEN, "host_only", message).into())
}

impl From<Unrecorded> for Fault {
    fn from(Unrecorded: Unrecorded) -> Self {
        let message = "this cannot be recorded now, so its answer is not given";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable", message).into()
    }
}
