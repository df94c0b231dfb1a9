//! What the pages of releases show.

use crate::pages::display::{Fact, FileRow, instant, time};
use crate::pages::page::Page;
use askama::Template;
use fleeti_control::releases::Details;
use fleeti_core::boot_proof::BootProof;
use fleeti_core::manifest::{Artifact, Manifest, PHASE_READY};
use fleeti_core::size::bytes;
use fleeti_core::wire::api::{Fleet, Release};

/// Maximum number of releases on a page.
pub const ROWS: u32 = 100;

/// A release in a list.
pub struct ReleaseRow {
    pub name: String,
    pub revoked: bool,
    pub size: String,
    pub published: String,
}

impl From<&Release> for ReleaseRow {
    fn from(r: &Release) -> Self {
        Self {
            name: r.name.to_string(),
            revoked: r.revoked_s.is_some(),
            size: bytes(r.artifacts.iter().map(|a| a.size).sum()),
            published: r.published_s.map_or_else(|| "not yet".to_owned(), time),
        }
    }
}

/// The list of releases.
#[derive(Template)]
#[template(path = "releases.html", blocks = ["main"])]
pub struct ReleaseList {
    page: Page,
    releases: Vec<ReleaseRow>,
}

impl ReleaseList {
    pub fn of(page: Page, releases: &[Release]) -> Self {
        Self { page, releases: releases.iter().map(ReleaseRow::from).collect() }
    }
}

/// The page of one release.
#[derive(Template)]
#[template(path = "release.html", blocks = ["main"])]
pub struct ReleasePage {
    page: Page,
    r: ReleaseRow,
    fleets: Vec<Fleet>,
    /// Why lower versions must run it first; empty if it is no floor.
    floor: String,
    /// Versions that are not offered it, and why.
    blocked: Vec<(String, String)>,
    manifest: Vec<Fact>,
    /// Rows of the boot proof; empty if there is none.
    proof: Vec<Fact>,
    /// Key id and signature.
    signatures: Vec<(String, String)>,
    artifacts: Vec<FileRow>,
    /// What is to be read: title, and path below `files`.
    documents: Vec<(&'static str, String)>,
}

impl ReleasePage {
    pub fn of(page: Page, details: Details) -> Self {
        let Details { release, manifest, signatures, fleets, path } = details;
        let file = |a: &Artifact| FileRow {
            path: a.path.clone(),
            size: bytes(a.size),
            sha256: a.sha256.clone(),
        };
        Self {
            page,
            r: ReleaseRow::from(&release),
            fleets,
            floor: path.floor.unwrap_or_default(),
            blocked: path
                .blocked
                .iter()
                .map(|way| (way.from.to_string(), way.reason.clone()))
                .collect(),
            manifest: manifest_facts(&release.manifest_sha256, &manifest),
            proof: release.boot_proof.as_ref().map(proof_facts).unwrap_or_default(),
            signatures,
            artifacts: release.artifacts.iter().map(file).collect(),
            documents: documents(&manifest),
        }
    }
}

fn documents(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let found = [
        ("SBOM (CycloneDX)", manifest.sbom()),
        ("Provenance (in-toto, SLSA)", manifest.provenance()),
    ];
    found.into_iter().filter_map(|(title, file)| Some((title, file?.path.clone()))).collect()
}

fn proof_facts(proof: &BootProof) -> Vec<Fact> {
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

/// What the manifest declares.
fn manifest_facts(manifest_sha256: &str, manifest: &Manifest) -> Vec<Fact> {
    let mut facts = vec![
        ("manifest SHA-256", manifest_sha256.to_owned()),
        ("signed at", instant(manifest.created_s)),
        ("architecture", manifest.architecture.to_string()),
        ("root hash (dm-verity)", manifest.root_hash.clone()),
        ("minimum version", manifest.minimum_version.to_string()),
        ("profile revision SHA-256", manifest.revision_digest.clone()),
        ("package lock SHA-256", manifest.lock_digest.clone()),
    ];
    if let Some(pcr11) = manifest.reference_values.pcr11.get(PHASE_READY) {
        facts.push(("PCR 11 after boot", pcr11.clone()));
    }
    for (name, value) in [
        ("PCR 9: command line and initrd", &manifest.reference_values.pcr9),
        ("PCR 12: nothing from outside the UKI", &manifest.reference_values.pcr12),
    ] {
        facts.extend(value.as_ref().map(|v| (name, v.clone())));
    }
    facts
}
