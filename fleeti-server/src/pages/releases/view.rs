//! Pages of releases.

use super::page::{Page, Result, see, show};
use super::view::{FileRow, ReleaseRow, bytes, instant};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::context::Context;
use fleeti_control::releases;
use fleeti_control::releases::Details;
use fleeti_control::releases::revoke;
use fleeti_core::boot_proof::BootProof;
use fleeti_core::id::ReleaseName;
use fleeti_core::manifest::{Artifact, Manifest, PHASE_READY};
use fleeti_core::wire::api::Fleet;

const ROWS: u32 = 100;

#[derive(Template)]
#[template(path = "releases.html", blocks = ["main"])]
struct List {
    page: Page,
    releases: Vec<ReleaseRow>,
}

pub async fn list(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let releases = releases::newest(&cx, ROWS).await?.iter().map(ReleaseRow::from).collect();
    show!(request, List { page: Page::new("/releases", &request, &["release"]), releases })
}

#[derive(Template)]
#[template(path = "release.html", blocks = ["main"])]
struct One {
    page: Page,
    r: ReleaseRow,
    fleets: Vec<Fleet>,
    promises: Vec<(&'static str, String)>,
    /// Rows of the boot proof; empty if there is none.
    proof: Vec<(&'static str, String)>,
    signatures: Vec<(String, String)>,
    artifacts: Vec<FileRow>,
}

pub async fn revoke(cx: Data<Context>, name: Path<ReleaseName>) -> Result<HttpResponse> {
    revoke::revoke(&cx, &name).await?;
    Ok(see(&format!("/releases/{name}")))
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    name: Path<ReleaseName>,
) -> Result<HttpResponse> {
    let details = releases::details(&cx, &name).await?;
    show!(request, One::of(Page::new("/releases", &request, &["release"]), details))
}

impl One {
    fn of(page: Page, details: Details) -> Self {
        let Details { release, manifest, signatures, fleets } = details;
        let file = |a: &Artifact| FileRow {
            path: a.path.clone(),
            size: bytes(a.size),
            sha256: a.sha256.clone(),
        };
        Self {
            page,
            r: ReleaseRow::from(&release),
            fleets,
            promises: promises(&release.manifest_sha256, &manifest),
            proof: release.boot_proof.as_ref().map(proof).unwrap_or_default(),
            signatures,
            artifacts: release.artifacts.iter().map(file).collect(),
        }
    }
}

fn proof(proof: &BootProof) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("device", proof.device.to_string()),
        ("attestation level", format!("{}, {}", proof.level.code(), proof.level.title())),
        ("quoted at", instant(proof.proved_s)),
        ("quote SHA-256", proof.evidence.clone()),
    ];
    let named = [
        ("PCR 0", "0"),
        ("PCR 2", "2"),
        ("PCR 4", "4"),
        ("PCR 7", "7"),
        ("PCR 9", "9"),
        ("PCR 11", "11"),
        ("PCR 12", "12"),
    ];
    rows.extend(
        named.into_iter().filter_map(|(name, pcr)| Some((name, proof.pcrs.get(pcr)?.clone()))),
    );
    rows
}

fn promises(manifest_sha256: &str, manifest: &Manifest) -> Vec<(&'static str, String)> {
    let mut promises = vec![
        ("manifest SHA-256", manifest_sha256.to_owned()),
        ("signed at", instant(manifest.created_s)),
        ("architecture", manifest.architecture.to_string()),
        ("root hash (dm-verity)", manifest.root_hash.clone()),
        ("minimum version", manifest.minimum_version.to_string()),
        ("profile revision SHA-256", manifest.revision_digest.clone()),
        ("package lock SHA-256", manifest.lock_digest.clone()),
    ];
    if let Some(pcr11) = manifest.reference_values.pcr11.get(PHASE_READY) {
        promises.push(("PCR 11 after boot", pcr11.clone()));
    }
    for (name, value) in [
        ("PCR 9: command line and initrd", &manifest.reference_values.pcr9),
        ("PCR 12: nothing from outside the UKI", &manifest.reference_values.pcr12),
    ] {
        promises.extend(value.as_ref().map(|v| (name, v.clone())));
    }
    promises
}
