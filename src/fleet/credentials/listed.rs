//! One secret of the gateway in a list. Values only; holds no secret.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// The private key by which the gateway logs in on targets.
    LoginKey,
    /// The private key of the authority `[ssh.ca]`.
    SshCa,
    /// Signs tokens.
    TokenKey,
    /// Shared with a webhook.
    WebhookSecret,
    /// Sent to somebody who is told.
    NotifyToken,
    /// The private key of the certificate in `[tls]`.
    TlsKey,
    /// Logs the embedded node in.
    NodeCredential,
}

impl CredentialKind {
    /// The word that is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoginKey => "login_key",
            Self::SshCa => "ssh_ca",
            Self::TokenKey => "token_key",
            Self::WebhookSecret => "webhook_secret",
            Self::NotifyToken => "notify_token",
            Self::TlsKey => "tls_key",
            Self::NodeCredential => "node_credential",
        }
    }

    /// Whether it is an SSH key.
    pub fn is_ssh(self) -> bool {
        matches!(self, Self::LoginKey | Self::SshCa)
    }
}

/// How it stands. Ordered: the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CredentialState {
    /// As it should be.
    Ok,
    /// In the last fifth of its time.
    Due,
    /// Older than it may be.
    Overdue,
    /// It cannot be used, or its age is not known.
    Unreadable,
}

impl CredentialState {
    /// The word that is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Due => "due",
            Self::Overdue => "overdue",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether somebody has to do something now.
    pub fn is_bad(self) -> bool {
        self >= Self::Overdue
    }
}

/// How it is known when a secret was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KnownBy {
    /// The gateway made it, and kept when.
    Record,
    /// The last change of its file, which whoever can write the file can set.
    File,
}

/// One secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Credential {
    /// What it is for.
    pub kind: CredentialKind,
    /// What it is called: the key id of a token key, the name of a webhook; empty for a login key.
    pub name: String,
    /// Of the public key, where there is one.
    pub fingerprint: Option<String>,
    /// Where it is; null for what the gateway keeps in its data directory.
    pub file: Option<String>,
    /// The targets that are logged in on with it.
    pub used_by: Vec<String>,
    /// Since when there is this one.
    #[schemars(with = "Option<String>")]
    pub made_at: Option<Timestamp>,
    /// How that is known.
    pub known_by: Option<KnownBy>,
    /// How old it is, in seconds.
    pub age_s: Option<u64>,
    /// How old it may grow, in seconds; null where nothing limits it.
    pub max_age_s: Option<u64>,
    /// From when on it counts no more, for one that was replaced already.
    #[schemars(with = "Option<String>")]
    pub retires_at: Option<Timestamp>,
    /// How it stands.
    pub state: CredentialState,
    /// Why it cannot be used, or why its age is not known. Names no file.
    pub why: Option<String>,
}

impl Credential {
    /// Of `kind`, with nothing known.
    pub(super) fn new(kind: CredentialKind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            fingerprint: None,
            file: None,
            used_by: Vec::new(),
            made_at: None,
            known_by: None,
            age_s: None,
            max_age_s: None,
            retires_at: None,
            state: CredentialState::Ok,
            why: None,
        }
    }

    /// The same, which cannot be used or judged.
    pub(super) fn unreadable(self, why: String) -> Self {
        Self { state: CredentialState::Unreadable, why: Some(why), ..self }
    }
}
