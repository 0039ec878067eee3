//! Reads a request's body under its limits and looks at it just enough: no key twice, and does it open a session?

use std::{pin::pin, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{StatusCode, header};
use serde::Deserialize;

use super::{
    refuse::Refused,
    upload::{FileTooLong, Upload},
};
use crate::{
    mcp::Opening,
    model::{KeyFault, check_keys},
};

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyFault {
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    #[error("the body did not arrive within {} s", .0.as_secs_f32())]
    TooSlow(Duration),
    #[error("the body ended too early")]
    Broken,
    #[error("{0}")]
    File(#[from] FileTooLong),
    #[error("{0}")]
    Keys(#[from] KeyFault),
}

impl BodyFault {
    /// As it is answered.
    pub(super) fn refused(&self) -> Refused {
        let (status, code) = match self {
            Self::TooLong(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_long"),
            Self::File(_) => (StatusCode::PAYLOAD_TOO_LARGE, "file_too_large"),
            Self::TooSlow(_) => (StatusCode::REQUEST_TIMEOUT, "body_too_slow"),
            Self::Broken => (StatusCode::BAD_REQUEST, "body_broken"),
            Self::Keys(KeyFault::Repeated(_)) => (StatusCode::BAD_REQUEST, "repeated_key"),
            Self::Keys(KeyFault::Syntax(_)) => (StatusCode::BAD_REQUEST, "not_json"),
        };
        // A body that was not read to its end leaves the connection in the middle of a request.
        Refused::new(status, code, self.to_string()).header(header::CONNECTION, "close")
    }
}

/// The whole body, no longer than `most` and no later than `within`. A declared length over the limit is refused
/// before a byte is read.
///
/// `upload` looks for a file's content in it that is too long, which is refused as soon as it is.
pub(super) async fn read(
    body: Body,
    declared: Option<u64>,
    most: usize,
    within: Duration,
    upload: Option<Upload>,
) -> Result<Bytes, BodyFault> {
    if declared.is_some_and(|declared| declared > most as u64) {
        return Err(BodyFault::TooLong(most));
    }
    tokio::time::timeout(within, collect(body, most, upload)).await.map_err(|_| BodyFault::TooSlow(within))?
}

async fn collect(body: Body, most: usize, mut upload: Option<Upload>) -> Result<Bytes, BodyFault> {
    let mut body = pin!(body);
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyFault::Broken)?.into_data() else { continue };
        let so_far = first.as_ref().map_or(0, Bytes::len) + rest.len();
        if data.len() > most.saturating_sub(so_far) {
            return Err(BodyFault::TooLong(most));
        }
        if let Some(upload) = &mut upload {
            upload.look(&data)?;
        }
        // Nearly every body is one frame, which then needs no copy.
        if first.is_none() { first = Some(data) } else { rest.extend_from_slice(&data) }
    }
    let first = first.unwrap_or_default();
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

#[derive(Deserialize)]
struct Method<'a> {
    #[serde(borrow, default)]
    method: std::borrow::Cow<'a, str>,
}

/// Refuses a body that two parsers could read differently; says whether it opens a session.
pub(super) fn check(body: &[u8]) -> Result<Opening, BodyFault> {
    check_keys(body)?;
    let opens = serde_json::from_slice::<Method<'_>>(body).is_ok_and(|message| message.method == "initialize");
    Ok(if opens { Opening::Session } else { Opening::Other })
}
