//! Making a token, and telling in which state one is.

use std::{collections::BTreeSet, fmt, path::Path, time::Duration};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{Binding, Claims, KeyError, KeyRing, MAX_TOKEN_BYTES};
use crate::{
    model::{EngagementId, Scope, ScopeSet, Subtree, TargetId},
    store::{Store, StoreError, TokenRow},
};

/// What a new token shall say.
#[derive(Clone, Debug)]
pub struct MintRequest {
    /// The agent it is for.
    pub subject: String,
    /// Who makes it.
    pub owner: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// Its tenant.
    pub engagement: EngagementId,
    /// The only targets it may touch.
    pub targets: Option<BTreeSet<TargetId>>,
    /// The only tools it may call.
    pub tools: Option<BTreeSet<String>>,
    /// The only directories it may reach on targets.
    pub paths: Option<BTreeSet<Subtree>>,
    /// How long it lives.
    pub ttl: Duration,
    /// The peer it works from.
    pub binding: Binding,
}

/// A new token.
#[derive(Debug)]
pub struct Minted {
    /// What it says.
    pub claims: Claims,
    /// Its text: to be shown once, and kept nowhere.
    pub token: SecretString,
    /// Whether another token of the same subject is alive.
    pub duplicate_subject: bool,
}

/// Why a token was not made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The subject is empty, long, or holds odd characters.
    #[error("agent: must be 1 to 64 letters, digits, `.`, `_`, `-`, `@` or `/`, not {0:?}")]
    Subject(String),
    /// Nothing granted.
    #[error("scopes: at least one scope is needed, e.g. `readonly`")]
    NoScopes,
    /// People decide: such a token works only from one person's own nodes.
    #[error(
        "scopes: approval:decide is for one person: bind the token to them by user:LOGIN (on loopback uid:NUMBER), not {0}"
    )]
    ApprovalDecide(Binding),
    /// No life, or too long a one.
    #[error("ttl: must be between 1s and {max} in profile {profile}, not {asked}", max = Days(*max), asked = Days(*asked))]
    Ttl {
        /// What was asked.
        asked: Duration,
        /// The most there is.
        max: Duration,
        /// The profile that says so.
        profile: &'static str,
    },
    /// It says so much that no gateway would read it.
    #[error("the token would be longer than {MAX_TOKEN_BYTES} bytes: name fewer targets, tools or paths")]
    TooLong,
    /// The keys failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The payload cannot be written.
    #[error("the payload cannot be written: {0}")]
    Payload(#[from] serde_json::Error),
}

struct Days(Duration);

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds % 86_400, seconds % 3_600) {
            (0, _) => write!(f, "{}d", seconds / 86_400),
            (_, 0) => write!(f, "{}h", seconds / 3_600),
            _ => write!(f, "{seconds}s"),
        }
    }
}

/// Makes and registers a token that lives at most `max_ttl`, the cap of `profile`.
pub async fn mint(
    store: &Store,
    directory: &Path,
    request: MintRequest,
    (profile, max_ttl): (&'static str, Duration),
    now: Timestamp,
) -> Result<Minted, MintError> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "._-@/".contains(c));
    if request.subject.is_empty() || request.subject.len() > 64 || request.subject.contains(odd) {
        return Err(MintError::Subject(request.subject));
    }
    if request.scopes.is_empty() {
        return Err(MintError::NoScopes);
    }
    let of_a_person = matches!(request.binding, Binding::User(_) | Binding::LocalUser(_));
    if request.scopes.allows(Scope::ApprovalDecide) && !of_a_person {
        return Err(MintError::ApprovalDecide(request.binding));
    }
    if request.ttl < Duration::from_secs(1) || request.ttl > max_ttl {
        return Err(MintError::Ttl { asked: request.ttl, max: max_ttl, profile });
    }
    let too_long = |_| MintError::Ttl { asked: request.ttl, max: max_ttl, profile };
    // Whole seconds: shorter tokens, and nothing needs more.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let ring = KeyRing::open(store, directory, now).await?;
    let (key_id, key) = ring.signing()?;
    let claims = Claims {
        jti: Uuid::now_v7().simple().to_string().into(),
        subject: request.subject,
        owner: request.owner,
        scopes: request.scopes,
        engagement: request.engagement,
        targets: request.targets,
        tools: request.tools,
        paths: request.paths,
        issued: now,
        expires: now.checked_add(request.ttl).map_err(too_long)?,
        binding: request.binding,
    };
    let alive = |row: &TokenRow| row.subject == claims.subject && state(row, now).usable();
    let duplicate_subject = store.tokens().await?.iter().any(alive);
    let token = claims.seal(key_id, key)?;
    if token.expose_secret().len() > MAX_TOKEN_BYTES {
        return Err(MintError::TooLong);
    }
    store.insert_token(&row_of(&claims, key_id)).await?;
    Ok(Minted { claims, token, duplicate_subject })
}

fn row_of(claims: &Claims, key_id: &str) -> TokenRow {
    TokenRow {
        jti: claims.jti.to_string(),
        subject: claims.subject.clone(),
        owner: claims.owner.clone(),
        scopes: claims.scopes.to_string(),
        engagement: claims.engagement.to_string(),
        targets: claims.targets.as_ref().map(|targets| targets.iter().map(TargetId::to_string).collect()),
        tools: claims.tools.as_ref().map(|tools| tools.iter().cloned().collect()),
        paths: claims.paths.as_ref().map(|paths| paths.iter().map(Subtree::to_string).collect()),
        binding: claims.binding.to_string(),
        key_id: key_id.to_owned(),
        issued_at: claims.issued,
        expires_at: claims.expires,
        first_used_at: None,
        revoked_at: None,
        revoked_by: None,
    }
}

/// Where a token is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, never used.
    Issued,
    /// In use.
    Active,
    /// In the last tenth of its life, at most the last seven days.
    Expiring,
    /// Past its end.
    Expired,
    /// Taken back.
    Revoked,
}

impl State {
    /// The word shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Active => "active",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// Whether a call with it can be let in.
    pub fn usable(self) -> bool {
        matches!(self, Self::Issued | Self::Active | Self::Expiring)
    }
}

/// The state of `row` at `now`.
pub fn state(row: &TokenRow, now: Timestamp) -> State {
    let life = row.expires_at.as_second() - row.issued_at.as_second();
    let left = row.expires_at.as_second() - now.as_second();
    if row.revoked_at.is_some() {
        State::Revoked
    } else if now >= row.expires_at {
        State::Expired
    } else if left <= (life / 10).min(7 * 86_400) {
        State::Expiring
    } else if row.first_used_at.is_some() {
        State::Active
    } else {
        State::Issued
    }
}
