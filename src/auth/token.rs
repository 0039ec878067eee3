//! The token format: `tailops_<key id>.<payload>.<mac>`, payload and mac in base64url without padding, the payload
//! JSON, the mac HMAC-SHA-256 over everything before its dot.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::hmac;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::Binding;
use crate::model::{EngagementId, Jti, ScopeSet, Subtree, TargetId};

/// Longer texts are no tokens.
pub const MAX_TOKEN_BYTES: usize = 4096;
const PREFIX: &str = "tailops_";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Its id.
    pub jti: Jti,
    /// The agent it was made for.
    pub subject: String,
    /// Who made it.
    pub owner: String,
    /// What it narrows to.
    pub scopes: ScopeSet,
    /// The tenant it belongs to.
    pub engagement: EngagementId,
    /// The only targets it may touch; none means every target of its engagement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<BTreeSet<TargetId>>,
    /// The only tools it may call; none means every tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<BTreeSet<String>>,
    /// The only directories it may reach on targets; none means all that a target's roots hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<BTreeSet<Subtree>>,
    /// When it was made.
    pub issued: Timestamp,
    /// When it ends. There is no token without an end.
    pub expires: Timestamp,
    /// The peer it works from.
    pub binding: Binding,
}

/// Why a text is not a token of ours. All of these look the same to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Not the format.
    #[error("not a tailops token")]
    Malformed,
    /// The mac does not fit.
    #[error("the signature does not fit")]
    Forged,
    /// Signed by us, but not what this version writes.
    #[error("the payload cannot be read")]
    Payload,
}

/// A token's text, taken apart but not yet believed.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'a> {
    /// Which key signed it.
    pub key_id: &'a str,
    signed: &'a str,
    payload: &'a str,
    mac: &'a str,
}

impl<'a> Sealed<'a> {
    /// Takes `text` apart. Errors unless it has exactly the three parts.
    pub fn parse(text: &'a str) -> Result<Self, TokenFault> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::Malformed);
        }
        let (signed, mac) = text.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let (key_id, payload) =
            signed.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')).ok_or(TokenFault::Malformed)?;
        let valid_id = !key_id.is_empty() && key_id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !valid_id || payload.contains('.') {
            return Err(TokenFault::Malformed);
        }
        Ok(Self { key_id, signed, payload, mac })
    }

    /// The claims, if `key` signed them. Compares in constant time and reads the payload only after.
    pub fn open(&self, key: &hmac::Key) -> Result<Claims, TokenFault> {
        let mac = URL_SAFE_NO_PAD.decode(self.mac).map_err(|_| TokenFault::Malformed)?;
        hmac::verify(key, self.signed.as_bytes(), &mac).map_err(|_| TokenFault::Forged)?;
        let payload = URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| TokenFault::Payload)?;
        serde_json::from_slice(&payload).map_err(|_| TokenFault::Payload)
    }
}

impl Claims {
    /// The token's text, signed with `key`.
    pub fn seal(&self, key_id: &str, key: &hmac::Key) -> Result<SecretString, serde_json::Error> {
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(self)?);
        let signed = format!("{PREFIX}{key_id}.{payload}");
        let mac = URL_SAFE_NO_PAD.encode(hmac::sign(key, signed.as_bytes()));
        Ok(SecretString::from(format!("{signed}.{mac}")))
    }
}
