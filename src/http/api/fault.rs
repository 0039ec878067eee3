//! Why a request of the API is not done: the refusals of the parts behind it as HTTP statuses. Writes and records nothing.

use std::{fmt, ops::Deref};

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;

use crate::{
    approval::{KeyTrouble, Unapproved, Undecided},
    http::{body::BodyFault, refuse::Refused},
    store::StoreError,
};

/// One refusal, on its way out.
#[derive(Clone)]
pub(in crate::http) struct Fault(Box<Refused>);

impl Fault {
    /// A field is wrong; `wanted` says what would be right.
    pub(in crate::http) fn invalid(field: &str, wanted: impl fmt::Display) -> Self {
        Self::unreadable(format!("`{field}`: {wanted}"))
    }

    /// The request cannot be understood.
    pub(in crate::http) fn unreadable(message: impl Into<String>) -> Self {
        Refused::new(StatusCode::BAD_REQUEST, "invalid_arguments", message).into()
    }

    /// Something is wrong here, not with the request.
    pub(in crate::http) fn internal() -> Self {
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the gateway made a mistake").into()
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self(Box::new(refused))
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        *fault.0
    }
}

impl Deref for Fault {
    type Target = Refused;

    fn deref(&self) -> &Refused {
        &self.0
    }
}

/// Without a body: that is written where the refusal is recorded.
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<BodyFault> for Fault {
    fn from(fault: BodyFault) -> Self {
        fault.refused().into()
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the database failed");
        let message = "the gateway's database cannot be used now";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).into()
    }
}

impl From<Unapproved> for Fault {
    fn from(why: Unapproved) -> Self {
        Refused::new(of_unapproved(&why), why.code(), why.to_string()).into()
    }
}

fn of_unapproved(why: &Unapproved) -> StatusCode {
    match why {
        Unapproved::Unknown(_) => StatusCode::NOT_FOUND,
        Unapproved::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        Unapproved::NotRecorded(_) | Unapproved::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::CONFLICT,
    }
}

impl From<Undecided> for Fault {
    fn from(why: Undecided) -> Self {
        let status = match &why {
            Undecided::Unknown(_) | Undecided::Hidden(_) => StatusCode::NOT_FOUND,
            Undecided::Over(over) => of_unapproved(over),
            Undecided::OtherOperation | Undecided::Twice | Undecided::Impossible => StatusCode::CONFLICT,
            Undecided::Key(KeyTrouble::Unknown(_)) => StatusCode::NOT_FOUND,
            Undecided::Key(KeyTrouble::Enrolled { .. } | KeyTrouble::TakenOut(_)) => StatusCode::CONFLICT,
            Undecided::Invalid { .. } | Undecided::Key(KeyTrouble::Unfit(_)) => StatusCode::BAD_REQUEST,
            Undecided::NotRecorded(_) | Undecided::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::FORBIDDEN,
        };
        let mut refused = Refused::new(status, why.code(), why.to_string());
        // These are events of the approval, which its record has.
        refused.recorded = why.is_recorded();
        refused.into()
    }
}
