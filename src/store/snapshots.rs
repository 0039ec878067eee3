//! Tables `snapshot`, `snapshot_section` and `section_text`: kept readings of many targets, each text once. Knows rows,
//! not what a section holds.

use sqlx::FromRow;

use super::{Store, StoreError};

/// A snapshot as it is kept, without its sections.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
#[expect(missing_docs, reason = "the columns of table snapshot, explained in its migration")]
pub struct SnapshotRow {
    pub id: String,
    pub engagement: String,
    pub label: Option<String>,
    pub created_at: String,
    pub created_by: String,
    pub sections: String,
    pub asked: i64,
    pub failed: i64,
}

/// One section of one target in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct SectionRow {
    /// Whose.
    pub target: String,
    /// Which.
    pub section: String,
    /// SHA-256 of its text; none where there is no text.
    pub digest: Option<Vec<u8>>,
    /// Why there is no text.
    pub missing: Option<String>,
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl Store {
    /// Keeps a snapshot with its sections and those of `texts` (digest and text) that are not there yet. Of its
    /// engagement no more than the newest `most` stay, this one included; gives the ids of those that went.
    pub async fn keep_snapshot(
        &self,
        snapshot: &SnapshotRow,
        sections: &[SectionRow],
        texts: &[(Vec<u8>, String)],
        most: u32,
    ) -> Result<Vec<String>, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO snapshot (id, engagement, label, created_at, created_by, sections, asked, failed)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&snapshot.id)
        .bind(&snapshot.engagement)
        .bind(&snapshot.label)
        .bind(&snapshot.created_at)
        .bind(&snapshot.created_by)
        .bind(&snapshot.sections)
        .bind(snapshot.asked)
        .bind(snapshot.failed)
        .execute(&mut *transaction)
        .await?;
        for (digest, text) in texts {
            sqlx::query("INSERT INTO section_text (digest, text) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(digest)
                .bind(text)
                .execute(&mut *transaction)
                .await?;
        }
        for row in sections {
            sqlx::query(
                "INSERT INTO snapshot_section (snapshot, target, section, digest, missing) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(&snapshot.id)
            .bind(&row.target)
            .bind(&row.section)
            .bind(&row.digest)
            .bind(&row.missing)
            .execute(&mut *transaction)
            .await?;
        }
        let gone: Vec<String> = sqlx::query_scalar(
            "DELETE FROM snapshot WHERE engagement = ?1 AND id NOT IN
                 (SELECT id FROM snapshot WHERE engagement = ?1 ORDER BY created_at DESC, id DESC LIMIT ?2)
             RETURNING id",
        )
        .bind(&snapshot.engagement)
        .bind(most)
        .fetch_all(&mut *transaction)
        .await?;
        if !gone.is_empty() {
            sqlx::query(
                "DELETE FROM section_text WHERE NOT EXISTS
                     (SELECT 1 FROM snapshot_section WHERE snapshot_section.digest = section_text.digest)",
            )
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(gone)
    }

    /// The snapshot `id`, if it is of `engagement`.
    pub async fn snapshot(&self, engagement: &str, id: &str) -> Result<Option<SnapshotRow>, StoreError> {
        let row = sqlx::query_as("SELECT * FROM snapshot WHERE engagement = ? AND id = ?").bind(engagement).bind(id);
        Ok(row.fetch_optional(&self.pool).await?)
    }

    /// The newest `limit` snapshots of `engagement` with this label, if one is given, and from before `before`, newest
    /// first; and how many have that label at all.
    pub async fn snapshots(
        &self,
        engagement: &str,
        label: Option<&str>,
        before: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<SnapshotRow>, i64), StoreError> {
        let rows = sqlx::query_as(
            "SELECT * FROM snapshot WHERE engagement = ?1 AND (?2 IS NULL OR label = ?2) AND (?3 IS NULL OR id < ?3)
             ORDER BY id DESC LIMIT ?4",
        )
        .bind(engagement)
        .bind(label)
        .bind(before)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let total =
            sqlx::query_scalar("SELECT count(*) FROM snapshot WHERE engagement = ?1 AND (?2 IS NULL OR label = ?2)")
                .bind(engagement)
                .bind(label)
                .fetch_one(&self.pool)
                .await?;
        Ok((rows, total))
    }

    /// The sections of the snapshot `id`, which is of `engagement`.
    pub async fn snapshot_sections(&self, engagement: &str, id: &str) -> Result<Vec<SectionRow>, StoreError> {
        let rows = sqlx::query_as(
            "SELECT target, section, digest, missing FROM snapshot_section JOIN snapshot ON snapshot.id = snapshot
             WHERE engagement = ? AND snapshot = ? ORDER BY target, section",
        );
        Ok(rows.bind(engagement).bind(id).fetch_all(&self.pool).await?)
    }

    /// The text with this digest, if a snapshot of `engagement` holds it.
    pub async fn section_text(&self, engagement: &str, digest: &[u8]) -> Result<Option<String>, StoreError> {
        let text = sqlx::query_scalar(
            "SELECT text FROM section_text WHERE digest = ?2 AND EXISTS
                 (SELECT 1 FROM snapshot_section JOIN snapshot ON snapshot.id = snapshot
                  WHERE snapshot_section.digest = ?2 AND engagement = ?1)",
        );
        Ok(text.bind(engagement).bind(digest).fetch_optional(&self.pool).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: &str, engagement: &str) -> SnapshotRow {
        SnapshotRow {
            id: id.to_owned(),
            engagement: engagement.to_owned(),
            label: Some("nightly".to_owned()),
            created_at: format!("2026-11-21T00:00:0{id}Z"),
            created_by: "agent".to_owned(),
            sections: r#"["os"]"#.to_owned(),
            asked: 1,
            failed: 0,
        }
    }

    fn section(digest: u8) -> SectionRow {
        SectionRow { target: "web".into(), section: "os".into(), digest: Some(vec![digest]), missing: None }
    }

    #[tokio::test]
    async fn a_tenant_sees_no_others_and_the_oldest_go_with_their_texts() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let keep = async |id: &str, engagement: &str, digest: u8| {
            let texts = [(vec![digest], format!("text {digest}"))];
            store.keep_snapshot(&snapshot(id, engagement), &[section(digest)], &texts, 2).await.unwrap()
        };
        assert!(keep("1", "a", 1).await.is_empty());
        assert!(keep("2", "b", 2).await.is_empty());
        assert!(keep("3", "a", 2).await.is_empty());
        assert_eq!(keep("4", "a", 4).await, ["1"]);

        let ids = async |engagement: &str| {
            let (rows, total) = store.snapshots(engagement, Some("nightly"), None, 9).await.unwrap();
            assert_eq!(rows.len(), usize::try_from(total).unwrap());
            rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert_eq!(
            (ids("a").await, ids("b").await, ids("c").await),
            (vec!["4".into(), "3".into()], vec!["2".to_owned()], vec![])
        );
        assert_eq!(store.snapshots("a", Some("other"), None, 9).await.unwrap(), (vec![], 0));
        assert_eq!(store.snapshots("a", None, Some("4"), 9).await.unwrap().0, [snapshot("3", "a")]);
        assert_eq!(store.snapshot("b", "3").await.unwrap(), None);
        assert_eq!(store.snapshot_sections("b", "3").await.unwrap(), []);
        assert_eq!(store.snapshot_sections("a", "3").await.unwrap(), [section(2)]);

        assert_eq!(store.section_text("a", &[1]).await.unwrap(), None, "it went with its snapshot");
        assert_eq!(store.section_text("a", &[2]).await.unwrap().as_deref(), Some("text 2"));
        assert_eq!(store.section_text("b", &[4]).await.unwrap(), None, "it is another tenant's");
    }
}
