//! Builds, as rows with leases, so that a killed worker loses no build.

use crate::page::After;
use crate::{Connection, Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::build::{ATTEMPTS_MAX, Files, Holder, SIGNING_ATTEMPTS_MAX, Signing, State};
use fleeti_core::id::{Line, ReleaseName, Version};
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
    refreshed: Option<String>,
}

const COLUMNS: &str = "SELECT id, release_name, revision, created_s, phase, detail, directory, signing, signing_detail, refreshed FROM builds";

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
            refreshed: row
                .refreshed
                .as_deref()
                .map(serde_json::from_str)
                .transpose()?
                .unwrap_or_default(),
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
    let packages = &request.refresh_packages;
    let refreshed = (!packages.is_empty()).then(|| serde_json::to_string(packages)).transpose()?;
    sql::query(
        "INSERT INTO builds (id, release_name, created_s, phase, lease_until_s, request, detail, revision, refreshed) \
         VALUES ($1, $2, $3, 'queued', 0, $4, 'waits for a worker', $5, $6)",
    )
    .bind(id)
    .bind(format!("{}@{}", request.profile.name, request.version))
    .bind(seconds(now_s))
    .bind(serde_json::to_string(request)?)
    .bind(i64::from(revision))
    .bind(refreshed)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The newest versions of a line that were built, or published, or are being built.
pub async fn versions(
    connection: &mut Connection,
    line: &Line,
    limit: u32,
) -> Result<Vec<Version>, StoreError> {
    let of_line = format!("{line}@");
    let mut names: Vec<String> = Vec::new();
    for sql in [
        "SELECT release_name FROM builds WHERE substr(release_name, 1, length($1)) = $1 ORDER BY created_s DESC, id LIMIT $2",
        "SELECT name FROM releases WHERE substr(name, 1, length($1)) = $1 ORDER BY published_s DESC, name LIMIT $2",
    ] {
        let query = sql::query_scalar::<String>(sql).bind(&of_line).bind(i64::from(limit));
        names.extend(query.fetch_all(&mut *connection).await?);
    }
    let parsed = names.iter().map(|name| name.parse::<ReleaseName>().map_err(StoreError::value));
    parsed.map(|name| name.map(|name| name.version)).collect()
}

/// The newest successful build of a line that has its files.
pub async fn newest_with_files(pool: &Pool, line: &Line) -> Result<Option<Build>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "{COLUMNS} WHERE substr(release_name, 1, length($1)) = $1 AND phase = 'succeeded' \
         AND directory IS NOT NULL ORDER BY created_s DESC, id LIMIT 1"
    ));
    let row = sql::query_as::<Row>(sql).bind(format!("{line}@")).fetch_optional(pool).await?;
    row.map(Build::try_from).transpose()
}

/// The newest successful build of a release that has its files.
pub async fn with_files(pool: &Pool, release: &ReleaseName) -> Result<Option<Build>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "{COLUMNS} WHERE release_name = $1 AND phase = 'succeeded' AND directory IS NOT NULL \
         ORDER BY created_s DESC, id LIMIT 1"
    ));
    let row = sql::query_as::<Row>(sql).bind(release.to_string()).fetch_optional(pool).await?;
    row.map(Build::try_from).transpose()
}

/// Builds of a release, the newest first.
pub async fn of_release(
    pool: &Pool,
    release: &ReleaseName,
    limit: u32,
) -> Result<Vec<Build>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "{COLUMNS} WHERE release_name = $1 ORDER BY created_s DESC, id LIMIT $2"
    ));
    let query = sql::query_as::<Row>(sql).bind(release.to_string()).bind(i64::from(limit));
    query.fetch_all(pool).await?.into_iter().map(Build::try_from).collect()
}

/// The revision from which a release was built; `None` if this server did not build it.
pub async fn revision_of(pool: &Pool, release: &ReleaseName) -> Result<Option<u32>, StoreError> {
    let sql =
        "SELECT revision FROM builds WHERE release_name = $1 ORDER BY created_s DESC, id LIMIT 1";
    let found: Option<i64> =
        sql::query_scalar(sql).bind(release.to_string()).fetch_optional(pool).await?;
    found.map(|number| u32::try_from(number).map_err(StoreError::value)).transpose()
}

/// The first build of a line whose release was published: the release and the revision.
pub async fn first_released(pool: &Pool, line: &Line) -> Result<Option<(String, u32)>, StoreError> {
    let start = format!("{line}@");
    let sql = "SELECT b.release_name, b.revision FROM builds b JOIN releases r ON r.name = b.release_name \
         WHERE substr(b.release_name, 1, length($1)) = $1 ORDER BY b.created_s, b.id LIMIT 1";
    let row: Option<(String, i64)> = sql::query_as(sql).bind(start).fetch_optional(pool).await?;
    row.map(|(release, revision)| {
        Ok((release, u32::try_from(revision).map_err(StoreError::value)?))
    })
    .transpose()
}

/// The state of a build as it is stored.
#[derive(Debug, Clone)]
pub struct StoredBuild {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: State,
    row: StateRow,
}

/// The columns of a state. After the end of a build, those of its lease stay as they were.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct StateRow {
    id: String,
    phase: String,
    worker: String,
    lease: String,
    lease_until_s: i64,
    attempts: i64,
    signing: Option<String>,
    signing_attempts: i64,
    directory: Option<String>,
}

const STATE: &str = "SELECT id, phase, worker, lease, lease_until_s, attempts, signing, signing_attempts, directory FROM builds";

fn attempt(count: i64) -> Result<u8, StoreError> {
    u8::try_from(count).map_err(StoreError::value)
}

impl TryFrom<StateRow> for StoredBuild {
    type Error = StoreError;
    fn try_from(row: StateRow) -> Result<Self, StoreError> {
        let state = match parse_phase(&row.phase)? {
            BuildPhase::Queued => State::Queued,
            BuildPhase::Running => State::Running {
                holder: Holder { worker: row.worker.clone(), lease: row.lease.clone() },
                until_s: from_seconds(row.lease_until_s),
                attempt: attempt(row.attempts)?,
            },
            BuildPhase::Succeeded => State::Succeeded {
                files: if row.directory.is_some() { Files::Kept } else { Files::Removed },
                signing: row.signing()?,
            },
            BuildPhase::Failed => State::Failed,
        };
        Ok(Self { id: row.id.clone(), state, row })
    }
}

impl StateRow {
    fn signing(&self) -> Result<Signing, StoreError> {
        let Some(text) = &self.signing else { return Ok(Signing::NotRequested) };
        Ok(match parse_phase(text)? {
            BuildPhase::Queued => Signing::Queued,
            BuildPhase::Running => Signing::Running {
                until_s: from_seconds(self.lease_until_s),
                attempt: attempt(self.signing_attempts)?,
            },
            BuildPhase::Succeeded => Signing::Succeeded,
            BuildPhase::Failed => Signing::Failed,
        })
    }

    /// The row of the state that follows; `directory` is that of new files.
    fn followed_by(&self, state: &State, directory: Option<&str>) -> Self {
        let mut row = Self { phase: state.name().to_owned(), ..self.clone() };
        match state {
            State::Queued | State::Failed => {}
            State::Running { holder, until_s, attempt } => {
                row.worker.clone_from(&holder.worker);
                row.lease.clone_from(&holder.lease);
                row.lease_until_s = seconds(*until_s);
                row.attempts = i64::from(*attempt);
            }
            State::Succeeded { files, signing } => {
                match files {
                    Files::Kept => {
                        row.directory =
                            directory.map(str::to_owned).or_else(|| self.directory.clone());
                    }
                    Files::Removed => row.directory = None,
                }
                row.signing = match signing {
                    Signing::NotRequested => None,
                    Signing::Queued
                    | Signing::Running { .. }
                    | Signing::Succeeded
                    | Signing::Failed => Some(signing.name().to_owned()),
                };
                if let Signing::Running { until_s, attempt } = signing {
                    row.lease_until_s = seconds(*until_s);
                    row.signing_attempts = i64::from(*attempt);
                }
            }
        }
        row
    }
}

/// Texts that are stored with a state; `None` leaves a text as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Texts<'a> {
    /// What the worker does now, or why the build failed.
    pub detail: Option<&'a str>,
    /// What the signing job does now, or why it failed.
    pub signing_detail: Option<&'a str>,
    /// The folder with the files and `build.json`.
    pub directory: Option<&'a str>,
}

/// The state of a build.
pub async fn load(
    connection: &mut Connection,
    id: &str,
) -> Result<Option<StoredBuild>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{STATE} WHERE id = $1"));
    let row: Option<StateRow> = sql::query_as(sql).bind(id).fetch_optional(connection).await?;
    row.map(StoredBuild::try_from).transpose()
}

/// The build that a worker has leased: a worker that repeats its request gets the same one.
pub async fn leased_by(
    tx: &mut Tx<'_>,
    holder: &Holder,
    now_s: u64,
) -> Result<Option<StoredBuild>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "{STATE} WHERE phase = 'running' AND worker = $1 AND lease = $2 AND lease_until_s >= $3"
    ));
    let query = sql::query_as(sql).bind(&holder.worker).bind(&holder.lease).bind(seconds(now_s));
    let row: Option<StateRow> = query.fetch_optional(&mut **tx).await?;
    row.map(StoredBuild::try_from).transpose()
}

/// The oldest build that a worker may take: it is queued, or its lease has ended.
pub async fn claimable(tx: &mut Tx<'_>, now_s: u64) -> Result<Option<StoredBuild>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "{STATE} WHERE phase = 'queued' OR (phase = 'running' AND lease_until_s < $1 AND attempts < $2) \
         ORDER BY created_s, id LIMIT 1"
    ));
    let query = sql::query_as(sql).bind(seconds(now_s)).bind(i64::from(ATTEMPTS_MAX));
    let row: Option<StateRow> = query.fetch_optional(&mut **tx).await?;
    row.map(StoredBuild::try_from).transpose()
}

/// The oldest build that waits for its signature, or whose signing lease has ended.
pub async fn signable(tx: &mut Tx<'_>, now_s: u64) -> Result<Option<StoredBuild>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "{STATE} WHERE phase = 'succeeded' AND (signing = 'queued' OR (signing = 'running' AND lease_until_s < $1 AND signing_attempts < $2)) \
         ORDER BY created_s, id LIMIT 1"
    ));
    let query = sql::query_as(sql).bind(seconds(now_s)).bind(i64::from(SIGNING_ATTEMPTS_MAX));
    let row: Option<StateRow> = query.fetch_optional(&mut **tx).await?;
    row.map(StoredBuild::try_from).transpose()
}

/// Builds whose last attempt, of the build or of its signature, let its lease end.
pub async fn abandoned(tx: &mut Tx<'_>, now_s: u64) -> Result<Vec<StoredBuild>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "{STATE} WHERE (phase = 'running' AND lease_until_s < $1 AND attempts >= $2) \
         OR (phase = 'succeeded' AND signing = 'running' AND lease_until_s < $1 AND signing_attempts >= $3) \
         ORDER BY created_s, id"
    ));
    let query = sql::query_as(sql)
        .bind(seconds(now_s))
        .bind(i64::from(ATTEMPTS_MAX))
        .bind(i64::from(SIGNING_ATTEMPTS_MAX));
    let rows: Vec<StateRow> = query.fetch_all(&mut **tx).await?;
    rows.into_iter().map(StoredBuild::try_from).collect()
}

/// Stores the state that follows. Returns `false`, and stores nothing, if the build is no longer in
/// the state in which it was loaded.
pub async fn set(
    tx: &mut Tx<'_>,
    before: &StoredBuild,
    after: &State,
    texts: Texts<'_>,
) -> Result<bool, StoreError> {
    let (old, new) = (&before.row, before.row.followed_by(after, texts.directory));
    let sql = "UPDATE builds SET phase = $2, worker = $3, lease = $4, lease_until_s = $5, attempts = $6, signing = $7, signing_attempts = $8, \
         directory = $9, detail = COALESCE($10, detail), signing_detail = COALESCE($11, signing_detail) \
         WHERE id = $1 AND phase = $12 AND worker = $13 AND lease = $14 AND lease_until_s = $15 AND attempts = $16 \
         AND signing IS NOT DISTINCT FROM $17 AND signing_attempts = $18 AND directory IS NOT DISTINCT FROM $19";
    let query = sql::query(sql)
        .bind(&before.id)
        .bind(&new.phase)
        .bind(&new.worker)
        .bind(&new.lease)
        .bind(new.lease_until_s)
        .bind(new.attempts)
        .bind(&new.signing)
        .bind(new.signing_attempts)
        .bind(&new.directory)
        .bind(texts.detail)
        .bind(texts.signing_detail)
        .bind(&old.phase)
        .bind(&old.worker)
        .bind(&old.lease)
        .bind(old.lease_until_s)
        .bind(old.attempts)
        .bind(&old.signing)
        .bind(old.signing_attempts)
        .bind(&old.directory);
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// What to build.
#[derive(Debug, Clone)]
pub struct Requested {
    /// Number of the profile's revision.
    pub revision: u32,
    /// Profile and version.
    pub request: CreateBuild,
}

/// What to build.
pub async fn request(
    connection: &mut Connection,
    id: &str,
) -> Result<Option<Requested>, StoreError> {
    let sql = "SELECT revision, request FROM builds WHERE id = $1";
    let row: Option<(i64, String)> = sql::query_as(sql).bind(id).fetch_optional(connection).await?;
    let Some((revision, request)) = row else { return Ok(None) };
    Ok(Some(Requested {
        revision: u32::try_from(revision).map_err(StoreError::value)?,
        request: serde_json::from_str(&request)?,
    }))
}

/// One build.
pub async fn get(pool: &Pool, id: &str) -> Result<Option<Build>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{COLUMNS} WHERE id = $1"));
    sql::query_as::<Row>(sql).bind(id).fetch_optional(pool).await?.map(Build::try_from).transpose()
}

/// Up to `limit` builds after one, newest first.
pub async fn page(
    pool: &Pool,
    after: Option<&After>,
    limit: u32,
) -> Result<Vec<Build>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "{COLUMNS} WHERE created_s < $2 OR (created_s = $2 AND id > $3) \
         ORDER BY created_s DESC, id LIMIT $1"
    ));
    let (at_s, id) = After::values(after);
    let rows = sql::query_as::<Row>(sql).bind(i64::from(limit)).bind(at_s).bind(id);
    rows.fetch_all(pool).await?.into_iter().map(Build::try_from).collect()
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

/// Records that the files of a build are deleted, after its state says that they are removed.
pub async fn files_deleted(pool: &Pool, id: &str) -> Result<(), StoreError> {
    let sql = "UPDATE builds SET has_files = 0, detail = detail || '; its files were removed to make room' WHERE id = $1";
    sql::query(sql).bind(id).execute(pool).await?;
    Ok(())
}
