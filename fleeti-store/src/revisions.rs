//! Immutable, numbered revisions of profiles.

use crate::{Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::Line;
use fleeti_core::profile::{Profile, Revision};
use fleeti_core::wire::api::ProfileRevision;
use fleeti_core::wire::profile::MadeOf;

#[derive(sqlx::FromRow)]
struct Row {
    line: String,
    number: i64,
    digest: String,
    created_s: i64,
    document: String,
    text: Option<String>,
    made_of: Option<String>,
}

impl TryFrom<Row> for ProfileRevision {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            line: row.line.parse().map_err(StoreError::value)?,
            number: u32::try_from(row.number).map_err(StoreError::value)?,
            digest: row.digest,
            created_s: from_seconds(row.created_s),
            profile: serde_json::from_str(&row.document)?,
            text: row.text,
            made_of: row
                .made_of
                .as_deref()
                .map(serde_json::from_str)
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

/// A revision in a list, without its document.
pub struct Head {
    /// The profile's name.
    pub line: String,
    /// 1 for the first of its line.
    pub number: u32,
    /// SHA-256 of the canonical JSON, hexadecimal.
    pub digest: String,
    /// When it was saved.
    pub created_s: u64,
    /// The profile's description.
    pub description: String,
}

#[derive(sqlx::FromRow)]
struct HeadRow {
    line: String,
    number: i64,
    digest: String,
    created_s: i64,
    description: String,
}

impl TryFrom<HeadRow> for Head {
    type Error = StoreError;
    fn try_from(row: HeadRow) -> Result<Self, StoreError> {
        Ok(Self {
            line: row.line,
            number: u32::try_from(row.number).map_err(StoreError::value)?,
            digest: row.digest,
            created_s: from_seconds(row.created_s),
            description: row.description,
        })
    }
}

/// The newest revisions of a line, without their documents.
pub async fn heads_of_line(pool: &Pool, line: &Line, limit: u32) -> Result<Vec<Head>, StoreError> {
    let sql = "SELECT line, number, digest, created_s, description FROM revisions WHERE line = $1 ORDER BY number DESC LIMIT $2";
    let rows: Vec<HeadRow> =
        sql::query_as(sql).bind(line.as_str()).bind(i64::from(limit)).fetch_all(pool).await?;
    rows.into_iter().map(Head::try_from).collect()
}

/// The newest revision of each line, without their documents.
pub async fn heads(pool: &Pool, limit: u32) -> Result<Vec<Head>, StoreError> {
    let sql = "SELECT r.line, r.number, r.digest, r.created_s, r.description FROM revisions r \
         JOIN (SELECT line, MAX(number) AS number FROM revisions GROUP BY line) n ON n.line = r.line AND n.number = r.number \
         ORDER BY r.line LIMIT $1";
    let rows: Vec<HeadRow> = sql::query_as(sql).bind(i64::from(limit)).fetch_all(pool).await?;
    rows.into_iter().map(Head::try_from).collect()
}

/// One revision.
pub async fn get(
    pool: &Pool,
    line: &Line,
    number: u32,
) -> Result<Option<ProfileRevision>, StoreError> {
    let sql = "SELECT line, number, digest, created_s, document, text, made_of FROM revisions WHERE line = $1 AND number = $2";
    let row = sql::query_as::<Row>(sql)
        .bind(line.as_str())
        .bind(i64::from(number))
        .fetch_optional(pool)
        .await?;
    row.map(ProfileRevision::try_from).transpose()
}

/// The newest revisions of a line.
pub async fn of_line(
    pool: &Pool,
    line: &Line,
    limit: u32,
) -> Result<Vec<ProfileRevision>, StoreError> {
    let sql = "SELECT line, number, digest, created_s, document, text, made_of FROM revisions WHERE line = $1 ORDER BY number DESC LIMIT $2";
    let rows = sql::query_as::<Row>(sql)
        .bind(line.as_str())
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?;
    rows.into_iter().map(ProfileRevision::try_from).collect()
}

/// The newest revision of each line.
pub async fn newest(pool: &Pool, limit: u32) -> Result<Vec<ProfileRevision>, StoreError> {
    let sql = "SELECT r.line, r.number, r.digest, r.created_s, r.document, r.text, r.made_of FROM revisions r \
         JOIN (SELECT line, MAX(number) AS number FROM revisions GROUP BY line) n ON n.line = r.line AND n.number = r.number \
         ORDER BY r.line LIMIT $1";
    let rows = sql::query_as::<Row>(sql).bind(i64::from(limit)).fetch_all(pool).await?;
    rows.into_iter().map(ProfileRevision::try_from).collect()
}

/// Number of the newest revision of a line; `None` if there is none.
pub async fn newest_number(pool: &Pool, line: &str) -> Result<Option<u32>, StoreError> {
    let sql = "SELECT MAX(number) FROM revisions WHERE line = $1";
    let number: Option<i64> = sql::query_scalar(sql).bind(line).fetch_one(pool).await?;
    number.map(u32::try_from).transpose().map_err(StoreError::value)
}

/// As [`newest_number`], in a transaction.
pub async fn newest_in(tx: &mut Tx<'_>, line: &Line) -> Result<Option<u32>, StoreError> {
    let sql = "SELECT MAX(number) FROM revisions WHERE line = $1";
    let number: Option<i64> =
        sql::query_scalar(sql).bind(line.as_str()).fetch_one(&mut **tx).await?;
    number.map(u32::try_from).transpose().map_err(StoreError::value)
}

/// Keeps what a revision was made of, unless that is known.
pub async fn keep_made_of(
    tx: &mut Tx<'_>,
    line: &Line,
    number: u32,
    made_of: &[MadeOf],
) -> Result<(), StoreError> {
    let sql =
        "UPDATE revisions SET made_of = $3 WHERE line = $1 AND number = $2 AND made_of IS NULL";
    sql::query(sql)
        .bind(line.as_str())
        .bind(i64::from(number))
        .bind(serde_json::to_string(made_of)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The revision number of a profile: with the text that its author wrote, that of the same profile
/// with the same text; without one, that of the newest revision with the same profile. Otherwise the
/// next number.
pub async fn number(
    tx: &mut Tx<'_>,
    profile: &Profile,
    text: Option<&str>,
    now_s: u64,
) -> Result<u32, StoreError> {
    let digest = Revision::new(0, profile.clone()).map_err(StoreError::value)?.digest;
    let same_text = if text.is_some() { "AND text = $3" } else { "" };
    let sql = sql::AssertSqlSafe(format!(
        "SELECT number FROM revisions WHERE line = $1 AND digest = $2 {same_text} \
         ORDER BY number DESC LIMIT 1"
    ));
    let mut query = sql::query_scalar::<i64>(sql).bind(profile.name.as_str()).bind(&digest);
    if let Some(text) = text {
        query = query.bind(text);
    }
    let known: Option<i64> = query.fetch_optional(&mut **tx).await?;
    let number = match known {
        Some(number) => number,
        None => {
            sql::query_scalar(
                "INSERT INTO revisions (line, number, digest, created_s, document, description, text) \
                 VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM revisions WHERE line = $1), $2, $3, $4, $5, $6) RETURNING number",
            )
            .bind(profile.name.as_str())
            .bind(&digest)
            .bind(seconds(now_s))
            .bind(serde_json::to_string(profile)?)
            .bind(&profile.description)
            .bind(text)
            .fetch_one(&mut **tx)
            .await?
        }
    };
    u32::try_from(number).map_err(StoreError::value)
}
