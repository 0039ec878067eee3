//! Tables `token` and `token_key`.

use jiff::Timestamp;
use sqlx::{FromRow, Row, sqlite::SqliteRow};

use super::{Store, StoreError};

/// A minted token as it is kept: everything but the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of table token, explained in its migration")]
pub struct TokenRow {
    pub jti: String,
    pub subject: String,
    pub owner: String,
    pub scopes: String,
    pub engagement: String,
    pub targets: Option<Vec<String>>,
    pub tools: Option<Vec<String>>,
    pub paths: Option<Vec<String>>,
    pub binding: String,
    pub key_id: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub first_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub revoked_by: Option<String>,
}

/// A signing key as it is known; the key itself is a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Names the file and stands in every token.
    pub key_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it verifies; none for the current key.
    pub retires_at: Option<Timestamp>,
}

fn damaged(table: &'static str, column: &'static str) -> StoreError {
    StoreError::Damaged { table, column }
}

fn stamp(text: &str, table: &'static str, column: &'static str) -> Result<Timestamp, StoreError> {
    text.parse().map_err(|_| damaged(table, column))
}

fn list(text: Option<String>, column: &'static str) -> Result<Option<Vec<String>>, StoreError> {
    text.map(|text| serde_json::from_str(&text).map_err(|_| damaged("token", column))).transpose()
}

impl TokenRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let optional = |column| -> Result<Option<Timestamp>, StoreError> {
            row.try_get::<Option<String>, _>(column)?.map(|text| stamp(&text, "token", column)).transpose()
        };
        Ok(Self {
            jti: row.try_get("jti")?,
            subject: row.try_get("subject")?,
            owner: row.try_get("owner")?,
            scopes: row.try_get("scopes")?,
            engagement: row.try_get("engagement")?,
            targets: list(row.try_get("targets")?, "targets")?,
            tools: list(row.try_get("tools")?, "tools")?,
            paths: list(row.try_get("paths")?, "paths")?,
            binding: row.try_get("binding")?,
            key_id: row.try_get("key_id")?,
            issued_at: stamp(&row.try_get::<String, _>("issued_at")?, "token", "issued_at")?,
            expires_at: stamp(&row.try_get::<String, _>("expires_at")?, "token", "expires_at")?,
            first_used_at: optional("first_used_at")?,
            revoked_at: optional("revoked_at")?,
            revoked_by: row.try_get("revoked_by")?,
        })
    }
}

#[derive(FromRow)]
struct RawKey {
    key_id: String,
    created_at: String,
    retires_at: Option<String>,
}

impl RawKey {
    fn read(self) -> Result<KeyRow, StoreError> {
        Ok(KeyRow {
            created_at: stamp(&self.created_at, "token_key", "created_at")?,
            retires_at: self.retires_at.map(|text| stamp(&text, "token_key", "retires_at")).transpose()?,
            key_id: self.key_id,
        })
    }
}

fn json(list: &Option<Vec<String>>) -> Option<String> {
    list.as_ref().map(|list| serde_json::Value::from(list.clone()).to_string())
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl Store {
    /// Keeps a new token.
    pub async fn insert_token(&self, row: &TokenRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO token (jti, subject, owner, scopes, engagement, targets, tools, paths, binding, key_id, issued_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&row.jti)
        .bind(&row.subject)
        .bind(&row.owner)
        .bind(&row.scopes)
        .bind(&row.engagement)
        .bind(json(&row.targets))
        .bind(json(&row.tools))
        .bind(json(&row.paths))
        .bind(&row.binding)
        .bind(&row.key_id)
        .bind(row.issued_at.to_string())
        .bind(row.expires_at.to_string())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The token `jti`.
    pub async fn token(&self, jti: &str) -> Result<Option<TokenRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM token WHERE jti = ?").bind(jti).fetch_optional(&self.pool).await?;
        row.as_ref().map(TokenRow::read).transpose()
    }

    /// Every token, oldest first.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM token ORDER BY issued_at, jti").fetch_all(&self.pool).await?;
        rows.iter().map(TokenRow::read).collect()
    }

    /// Revokes `jti`, or every token where it is none. Returns the ids that were not revoked before.
    pub async fn revoke_tokens(&self, jti: Option<&str>, at: Timestamp, by: &str) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "UPDATE token SET revoked_at = ?1, revoked_by = ?2
             WHERE revoked_at IS NULL AND (?3 IS NULL OR jti = ?3) RETURNING jti",
        )
        .bind(at.to_string())
        .bind(by)
        .bind(jti)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Notes that `jti` was used, if that is news.
    pub async fn mark_token_used(&self, jti: &str, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE token SET first_used_at = ? WHERE jti = ? AND first_used_at IS NULL")
            .bind(at.to_string())
            .bind(jti)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Every signing key that is not forgotten, newest first.
    pub async fn token_keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        let rows: Vec<RawKey> =
            sqlx::query_as("SELECT key_id, created_at, retires_at FROM token_key ORDER BY created_at DESC, key_id")
                .fetch_all(&self.pool)
                .await?;
        rows.into_iter().map(RawKey::read).collect()
    }

    /// Makes `key_id` the current signing key. Those before it verify until `retire_others`.
    pub async fn add_token_key(&self, key_id: &str, at: Timestamp, retire_others: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("UPDATE token_key SET retires_at = ?1 WHERE retires_at IS NULL OR retires_at > ?1")
            .bind(retire_others.to_string())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO token_key (key_id, created_at) VALUES (?, ?)")
            .bind(key_id)
            .bind(at.to_string())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}
