//! Packages of releases, and the devices that have them.

use crate::batch::push_rows;
use crate::dialect::Dialect;
use crate::sql::{self, QueryBuilder};
use crate::{Pool, StoreError, Tx, from_seconds, seconds};
use fleeti_core::attestation::Level;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::wire::package::ReleasePackage;

/// Rows of one statement.
const ROWS: usize = 1000;

/// Stores the packages of a release that was just added.
pub async fn insert(
    tx: &mut Tx<'_>,
    release: &ReleaseName,
    packages: &[ReleasePackage],
) -> Result<(), StoreError> {
    let name = release.to_string();
    for rows in packages.chunks(ROWS) {
        let mut query = QueryBuilder::new(
            "INSERT INTO release_packages (package, release_name, version, source, source_version) SELECT * FROM (",
        );
        push_rows(&mut query, rows.iter(), |row, package| {
            row.push_bind(package.name.as_str())
                .push_bind(name.as_str())
                .push_bind(package.version.as_str())
                .push_bind(package.source.as_str())
                .push_bind(package.source_version.as_str());
        });
        query.push(") AS new WHERE column1 IS NOT NULL");
        query.build().execute(&mut **tx).await?;
    }
    let sql = "UPDATE releases SET packages = $2 WHERE name = $1";
    let number = seconds(packages.len() as u64);
    sql::query(sql).bind(&name).bind(number).execute(&mut **tx).await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct PackageRow {
    release_name: String,
    package: String,
    version: String,
    source: String,
    source_version: String,
}

/// Packages of this name, or of a source package of this name, with their releases.
pub async fn named(
    pool: &Pool,
    name: &str,
) -> Result<Vec<(ReleaseName, ReleasePackage)>, StoreError> {
    let columns = "SELECT release_name, package, version, source, source_version";
    let sql = format!(
        "{columns} FROM release_packages WHERE package = $1 UNION \
         {columns} FROM release_packages WHERE source = $1 ORDER BY release_name, package, version"
    );
    let rows: Vec<PackageRow> =
        sql::query_as(sql::AssertSqlSafe(sql)).bind(name).fetch_all(pool).await?;
    let package = |row: PackageRow| {
        let release = row.release_name.parse().map_err(StoreError::value)?;
        let PackageRow { package: name, version, source, source_version, .. } = row;
        Ok((release, ReleasePackage { name, version, source, source_version }))
    };
    rows.into_iter().map(package).collect()
}

/// Names of releases whose packages are known.
pub async fn known(pool: &Pool) -> Result<Vec<ReleaseName>, StoreError> {
    let sql = "SELECT name FROM releases WHERE packages > 0";
    let names: Vec<String> = sql::query_scalar(sql).fetch_all(pool).await?;
    names.into_iter().map(|name| name.parse().map_err(StoreError::value)).collect()
}

/// Devices that are looked at, and which evidence counts.
#[derive(Debug, Clone, Copy)]
pub struct Among<'a> {
    /// Evidence that was appraised later counts, Unix seconds.
    pub fresh_after_s: u64,
    /// The fleets; all if `None`.
    pub fleets: Option<&'a [&'a FleetId]>,
}

impl Among<'_> {
    fn fleets_json(&self) -> Result<Option<String>, StoreError> {
        Ok(self.fleets.map(serde_json::to_string).transpose()?)
    }
}

/// Devices that are not revoked, with their newest proof that counts: `$1` is a time, `$2` a level,
/// `$3` fleets. Both tables are read by an index that has all columns.
fn from(dialect: &Dialect, in_fleets: bool) -> String {
    let fleets = if in_fleets {
        // Not the column itself, by which SQLite would choose an index that has not all columns.
        format!(" AND COALESCE(d.fleet, '') IN (SELECT value FROM {})", dialect.strings_in(3))
    } else {
        // PostgreSQL must know the type of each parameter.
        " AND CAST($3 AS TEXT) IS NULL".to_owned()
    };
    format!(
        "FROM devices d LEFT JOIN attestations a ON a.device = d.id AND a.appraised_s > $1 AND a.level >= $2 \
         AND a.release_name IS NOT NULL WHERE d.revoked_s IS NULL{fleets}"
    )
}

/// The statement of [`counts`].
#[must_use]
pub fn counts_sql(dialect: &Dialect, in_fleets: bool) -> String {
    format!(
        "SELECT COALESCE(a.release_name, d.running) AS runs, COUNT(*) AS devices, COUNT(a.release_name) AS proved {} GROUP BY runs",
        from(dialect, in_fleets)
    )
}

/// Devices by release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The release that they prove or report; `None` if they have done neither.
    pub release: Option<ReleaseName>,
    /// Those that prove it.
    pub proved: u64,
    /// Those that report it and prove none.
    pub reported: u64,
}

/// Counts devices by the release that they prove, or else report.
pub async fn counts(pool: &Pool, among: Among<'_>) -> Result<Vec<Count>, StoreError> {
    let sql = if among.fleets.is_some() {
        sql::Text::each(|dialect| counts_sql(dialect, true))
    } else {
        sql::Text::each(|dialect| counts_sql(dialect, false))
    };
    let rows: Vec<(Option<String>, i64, i64)> = sql::query_as(sql)
        .bind(seconds(among.fresh_after_s))
        .bind(Level::VerifiedBoot as i64)
        .bind(among.fleets_json()?)
        .fetch_all(pool)
        .await?;
    let count = |(release, devices, proved): (Option<String>, i64, i64)| {
        Ok(Count {
            release: release.map(|r| r.parse()).transpose().map_err(StoreError::value)?,
            proved: from_seconds(proved),
            reported: from_seconds(devices - proved),
        })
    };
    rows.into_iter().map(count).collect()
}

/// The statement of [`page`].
#[must_use]
pub fn page_sql(dialect: &Dialect, in_fleets: bool) -> String {
    let runs = "COALESCE(a.release_name, d.running)";
    format!(
        "SELECT d.id, d.fleet, d.running, a.release_name AS proved {} AND d.id > $4 AND ({runs} IS NULL \
         OR {runs} IN (SELECT value FROM {}) OR {runs} NOT IN (SELECT name FROM releases WHERE packages > 0)) \
         ORDER BY d.id LIMIT $6",
        from(dialect, in_fleets),
        dialect.strings_in(5)
    )
}

/// A device, and what is known of its release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    /// The device.
    pub id: DeviceId,
    /// Its fleet.
    pub fleet: FleetId,
    /// The release that it proves.
    pub proved: Option<ReleaseName>,
    /// The release that it reports.
    pub reported: Option<ReleaseName>,
}

#[derive(sqlx::FromRow)]
struct RunsRow {
    id: String,
    fleet: String,
    running: Option<String>,
    proved: Option<String>,
}

impl TryFrom<RunsRow> for Runs {
    type Error = StoreError;
    fn try_from(row: RunsRow) -> Result<Self, StoreError> {
        let release =
            |text: Option<String>| text.map(|t| t.parse()).transpose().map_err(StoreError::value);
        Ok(Self {
            id: row.id.parse().map_err(StoreError::value)?,
            fleet: row.fleet.parse().map_err(StoreError::value)?,
            proved: release(row.proved)?,
            reported: release(row.running)?,
        })
    }
}

/// The next devices after an id that run one of these releases, or of whose packages nothing is
/// known.
pub async fn page(
    pool: &Pool,
    among: Among<'_>,
    releases: &[&ReleaseName],
    (after, limit): (&str, u32),
) -> Result<Vec<Runs>, StoreError> {
    let sql = if among.fleets.is_some() {
        sql::Text::each(|dialect| page_sql(dialect, true))
    } else {
        sql::Text::each(|dialect| page_sql(dialect, false))
    };
    let rows: Vec<RunsRow> = sql::query_as(sql)
        .bind(seconds(among.fresh_after_s))
        .bind(Level::VerifiedBoot as i64)
        .bind(among.fleets_json()?)
        .bind(after)
        .bind(serde_json::to_string(releases)?)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?;
    rows.into_iter().map(Runs::try_from).collect()
}
