//! Builds, as rows with leases, so that a killed worker loses no build.

use crate::{Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::wire::api::{Build, BuildPhase, CreateBuild};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    release_name: String,
    revision: i64,
    created_s: i64,
    phase: String,
    detail: String,
    directory: Option<String>,
    signing: Option<String>,
    signing_detail: String,
}

const COLUMNS: &str = "SELECT id, release_name, revision, created_s, phase, detail, directory, signing, signing_detail FROM builds";

fn parse_phase(text: &str) -> Result<BuildPhase, StoreError> {
    let phases =
        [BuildPhase::Queued, BuildPhase::Running, BuildPhase::Succeeded, BuildPhase::Failed];
    phases
        .into_iter()
        .find(|p| phase_text(*p) == text)
        .ok_or_else(|| StoreError::value(format!("build phase {text:?}")))
}

fn phase_text(phase: BuildPhase) -> &'static str {
    match phase {
        BuildPhase::Queued => "queued",
        BuildPhase::Running => "running",
        BuildPhase::Succeeded => "succeeded",
        BuildPhase::Failed => "failed",
    }
}

impl TryFrom<Row> for Build {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            revision: u32::try_from(row.revision).map_err(StoreError::value)?,
            release: row.release_name.parse().map_err(StoreError::value)?,
            phase: parse_phase(&row.phase)?,
            created_s: from_seconds(row.created_s),
            detail: row.detail,
            directory: row.directory,
            signing: row.signing.as_deref().map(parse_phase).transpose()?,
            signing_detail: row.signing_detail,
        })
    }
}

/// Adds a build.
pub async fn insert(
    tx: &mut Tx<'_>,
    id: &str,
    revision: u32,
    request: &CreateBuild,
    now_s: u64,
) -> Result<(), StoreError> {
    sql::query(
        "INSERT INTO builds (id, release_name, created_s, phase, lease_until_s, request, detail, revision) \
         VALUES ($1, $2, $3, 'queued', 0, $4, 'waits for a worker', $5)",
    )
    .bind(id)
    .bind(format!("{}@{}", request.profile.name, request.version))
    .bind(seconds(now_s))
    .bind(serde_json::to_string(request)?)
    .bind(i64::from(revision))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Maximum number of attempts of a build, or of its signature, because it may kill every worker.
pub const ATTEMPTS_MAX: i64 = 3;

/// Fails builds after [`ATTEMPTS_MAX`] attempts. Returns their ids.
pub async fn give_up(tx: &mut Tx<'_>, now_s: u64) -> Result<Vec<String>, StoreError> {
    let text = "its worker ended before the build did, at every attempt; see the server's log";
    let mut ids: Vec<String> = sql::query_scalar(
        "UPDATE builds SET phase = 'failed', detail = $3 WHERE phase = 'running' AND lease_until_s < $1 AND attempts >= $2 RETURNING id",
    )
    .bind(seconds(now_s))
    .bind(ATTEMPTS_MAX)
    .bind(text)
    .fetch_all(&mut **tx)
    .await?;
    let unsigned: Vec<String> = sql::query_scalar(
        "UPDATE builds SET signing = 'failed', signing_detail = $3 \
         WHERE signing = 'running' AND lease_until_s < $1 AND signing_attempts >= $2 RETURNING id",
    )
    .bind(seconds(now_s))
    .bind(ATTEMPTS_MAX)
    .bind(text)
    .fetch_all(&mut **tx)
    .await?;
    ids.extend(unsigned);
    Ok(ids)
}

/// A lease of a build.
#[derive(Debug, Clone, Copy)]
pub struct Lease<'a> {
    /// The worker that holds it.
    pub worker: &'a str,
    /// Its unique id.
    pub id: &'a str,
    /// Its end, Unix seconds.
    pub until_s: u64,
}

/// A leased build.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Its id.
    pub id: String,
    /// Number of the profile's revision.
    pub revision: u32,
    /// What to build.
    pub request: CreateBuild,
}

impl Claimed {
    fn of(row: Option<(String, i64, String)>) -> Result<Option<Self>, StoreError> {
        let Some((id, revision, request)) = row else { return Ok(None) };
        Ok(Some(Self {
            id,
            revision: u32::try_from(revision).map_err(StoreError::value)?,
            request: serde_json::from_str(&request)?,
        }))
    }
}

/// The build of a lease: a worker that repeats a request gets the same build.
pub async fn held(
    tx: &mut Tx<'_>,
    now_s: u64,
    lease: Lease<'_>,
) -> Result<Option<Claimed>, StoreError> {
    let row = sql::query_as(
        "UPDATE builds SET lease_until_s = $2 WHERE phase = 'running' AND worker = $3 AND lease = $4 AND lease_until_s >= $1 \
         RETURNING id, revision, request",
    )
    .bind(seconds(now_s))
    .bind(seconds(lease.until_s))
    .bind(lease.worker)
    .bind(lease.id)
    .fetch_optional(&mut **tx)
    .await?;
    Claimed::of(row)
}

/// Leases the oldest build that is queued, or whose lease has expired.
pub async fn claim(
    tx: &mut Tx<'_>,
    now_s: u64,
    lease: Lease<'_>,
) -> Result<Option<Claimed>, StoreError> {
    let row = sql::query_as(
        "UPDATE builds SET phase = 'running', lease_until_s = $2, detail = 'started', attempts = attempts + 1, worker = $4, lease = $5 \
         WHERE id = (SELECT id FROM builds WHERE phase = 'queued' OR (phase = 'running' AND lease_until_s < $1 AND attempts < $3) \
          ORDER BY created_s, id LIMIT 1) RETURNING id, revision, request",
    )
    .bind(seconds(now_s))
    .bind(seconds(lease.until_s))
    .bind(ATTEMPTS_MAX)
    .bind(lease.worker)
    .bind(lease.id)
    .fetch_optional(&mut **tx)
    .await?;
    Claimed::of(row)
}

/// Renews a lease and, with `detail`, stores the worker's progress. Returns `false` if another
/// worker has the lease.
pub async fn renew(
    pool: &Pool,
    id: &str,
    lease: Lease<'_>,
    detail: Option<&str>,
) -> Result<bool, StoreError> {
    let sql = "UPDATE builds SET lease_until_s = $2, detail = COALESCE($3, detail) \
         WHERE id = $1 AND phase = 'running' AND worker = $4 AND lease = $5";
    let done = sql::query(sql)
        .bind(id)
        .bind(seconds(lease.until_s))
        .bind(detail)
        .bind(lease.worker)
        .bind(lease.id)
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The end of a build.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// Succeeded or failed.
    pub phase: BuildPhase,
    /// The reason, in words.
    pub detail: &'a str,
    /// The folder with `build.json`.
    pub directory: Option<&'a str>,
}

/// Ends a build. Returns `false` if another worker has the lease.
pub async fn finish(
    pool: &Pool,
    id: &str,
    lease: Lease<'_>,
    ended: Ended<'_>,
) -> Result<bool, StoreError> {
    let sql = "UPDATE builds SET phase = $2, detail = $3, directory = $4 WHERE id = $1 AND phase = 'running' AND worker = $5 AND lease = $6";
    let query = sql::query(sql)
        .bind(id)
        .bind(phase_text(ended.phase))
        .bind(ended.detail)
        .bind(ended.directory);
    Ok(query.bind(lease.worker).bind(lease.id).execute(pool).await?.rows_affected() == 1)
}

/// Queues a build for signing. Returns `false` if it has not succeeded, or is queued already.
pub async fn ask_to_sign(tx: &mut Tx<'_>, id: &str) -> Result<bool, StoreError> {
    let sql = "UPDATE builds SET signing = 'queued', signing_detail = 'waits for a worker', signing_attempts = 0 \
         WHERE id = $1 AND phase = 'succeeded' AND (signing IS NULL OR signing = 'failed')";
    Ok(sql::query(sql).bind(id).execute(&mut **tx).await?.rows_affected() == 1)
}

/// Leases the oldest build that waits for its signature, or whose signing lease has expired.
pub async fn claim_signing(
    tx: &mut Tx<'_>,
    now_s: u64,
    lease_s: u64,
) -> Result<Option<Build>, StoreError> {
    let row = sql::query_as::<Row>(
        "UPDATE builds SET signing = 'running', lease_until_s = $2, signing_detail = 'started', signing_attempts = signing_attempts + 1 WHERE id = \
         (SELECT id FROM builds WHERE phase = 'succeeded' AND (signing = 'queued' OR (signing = 'running' AND lease_until_s < $1 AND signing_attempts < $3)) \
          ORDER BY created_s, id LIMIT 1) \
         RETURNING id, release_name, revision, created_s, phase, detail, directory, signing, signing_detail",
    )
    .bind(seconds(now_s))
    .bind(seconds(now_s + lease_s))
    .bind(ATTEMPTS_MAX)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Build::try_from).transpose()
}

/// Renews the signing lease of a build and stores progress, or ends it.
pub async fn signing(
    pool: &Pool,
    id: &str,
    phase: BuildPhase,
    until_s: u64,
    detail: &str,
) -> Result<(), StoreError> {
    sql::query("UPDATE builds SET signing = $2, lease_until_s = $3, signing_detail = $4 WHERE id = $1 AND signing = 'running'")
        .bind(id)
        .bind(phase_text(phase))
        .bind(seconds(until_s))
        .bind(detail)
        .execute(pool)
        .await?;
    Ok(())
}

/// The request of a build: number of the profile's revision, and the profile.
pub async fn request(pool: &Pool, id: &str) -> Result<Option<(u32, CreateBuild)>, StoreError> {
    let sql = "SELECT id, revision, request FROM builds WHERE id = $1";
    let row = sql::query_as(sql).bind(id).fetch_optional(pool).await?;
    Ok(Claimed::of(row)?.map(|c| (c.revision, c.request)))
}

/// One build.
pub async fn get(pool: &Pool, id: &str) -> Result<Option<Build>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{COLUMNS} WHERE id = $1"));
    sql::query_as::<Row>(sql).bind(id).fetch_optional(pool).await?.map(Build::try_from).transpose()
}

/// The newest builds.
pub async fn newest(pool: &Pool, limit: u32) -> Result<Vec<Build>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{COLUMNS} ORDER BY created_s DESC, id LIMIT $1"));
    let rows = sql::query_as::<Row>(sql).bind(i64::from(limit)).fetch_all(pool).await?;
    rows.into_iter().map(Build::try_from).collect()
}

/// Ended builds with files, beyond the newest ones. Excludes builds that a release was made from,
/// that are being signed, or that have a signing request.
pub async fn beyond(pool: &Pool, newest: u32) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT id FROM builds b WHERE phase IN ('succeeded', 'failed') AND has_files = 1 \
               AND COALESCE(signing, '') NOT IN ('queued', 'running') \
               AND NOT EXISTS (SELECT 1 FROM releases r WHERE r.name = b.release_name) \
               AND NOT EXISTS (SELECT 1 FROM signature_requests s WHERE s.build = b.id) \
               ORDER BY created_s DESC, id DESC LIMIT $2 OFFSET $1";
    sql::query_scalar(sql).bind(i64::from(newest)).bind(i64::MAX).fetch_all(pool).await
}

/// Records that the files of a build were removed.
pub async fn files_removed(pool: &Pool, id: &str) -> Result<(), StoreError> {
    let sql = "UPDATE builds SET has_files = 0, directory = NULL, detail = detail || '; its files were removed to make room' WHERE id = $1";
    sql::query(sql).bind(id).execute(pool).await?;
    Ok(())
}
