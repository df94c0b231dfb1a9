//! Releases.

use super::page::{Page, Result, show};
use super::shown::{FileRow, ReleaseRow, bytes, instant};
use crate::app::AppRef;
use crate::db;
use crate::error::AppError;
use crate::service::devices;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_core::id::ReleaseName;
use fleeti_core::manifest::Manifest;
use fleeti_core::wire::api::Fleet;

const ROWS: u32 = 100;

#[derive(Template)]
#[template(path = "releases.html", blocks = ["main"])]
struct List {
    page: Page,
    releases: Vec<ReleaseRow>,
}

pub async fn list(app: Data<AppRef>, request: HttpRequest) -> Result<HttpResponse> {
    let releases = db::releases::newest(app.db.pool(), ROWS).await?.iter().map(ReleaseRow::from).collect();
    show!(request, List { page: Page::new("/releases", &request, &["release"]), releases })
}

#[derive(Template)]
#[template(path = "release.html", blocks = ["main"])]
struct One {
    page: Page,
    r: ReleaseRow,
    fleets: Vec<Fleet>,
    promises: Vec<(&'static str, String)>,
    signatures: Vec<(String, String)>,
    artifacts: Vec<FileRow>,
}

pub async fn show(app: Data<AppRef>, request: HttpRequest, name: Path<ReleaseName>) -> Result<HttpResponse> {
    let missing = || AppError::not_found("release", &name.to_string()).hint("publish it first");
    let release = db::releases::get(app.db.pool(), &name).await?.ok_or_else(missing)?;
    let (manifest, signatures) = db::releases::documents(app.db.pool(), &name).await?.ok_or_else(missing)?;
    let manifest = Manifest::parse(manifest.as_bytes()).map_err(AppError::internal)?;
    let artifacts = release.artifacts.iter().map(|a| FileRow { path: a.path.clone(), size: bytes(a.size), sha256: a.sha256.clone() });
    let mut promises = vec![
        ("manifest SHA-256", release.manifest_sha256.clone()),
        ("signed at", instant(manifest.created_s)),
        ("architecture", manifest.architecture.to_string()),
        ("root hash (dm-verity)", manifest.root_hash.clone()),
        ("nothing older than", manifest.minimum_version.to_string()),
        ("profile revision SHA-256", manifest.revision_digest.clone()),
        ("package lock SHA-256", manifest.lock_digest.clone()),
    ];
    if let Some(pcr11) = manifest.reference_values.pcr11.get(fleeti_core::manifest::PHASE_READY) {
        promises.push(("PCR 11 of a device that is up", pcr11.clone()));
    }
    let view = One {
        page: Page::new("/releases", &request, &["release"]),
        r: ReleaseRow::from(&release),
        fleets: devices::fleets(&app).await?,
        promises,
        signatures: serde_json::from_str(&signatures).map_err(AppError::internal)?,
        artifacts: artifacts.collect(),
    };
    show!(request, view)
}
