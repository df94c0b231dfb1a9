//! Facts of the releases that evidence is compared with.

use super::reference::{Facts, boot_loader, reference};
use crate::context::Context;
use crate::error::Error;
use crate::releases;
use fleeti_core::id::ReleaseName;
use fleeti_core::manifest::Manifest;
use fleeti_store as store;
use fleeti_store::attestations::Subject;
use std::collections::{HashMap, HashSet};

/// Facts by release.
pub(super) type Releases = HashMap<ReleaseName, Facts>;

async fn of_release(cx: &Context, name: &ReleaseName) -> Result<Option<Facts>, Error> {
    // Read the counter first: a change meanwhile invalidates the entry.
    let changes = cx.attestation.policies.changes();
    if let Some(known) = cx.attestation.facts.get(name, changes) {
        return Ok(Some(known));
    }
    let Some(release) = store::releases::get(cx.db.pool(), name).await? else { return Ok(None) };
    let documents = releases::documents(cx, name).await?;
    let reference = match Manifest::parse(&documents.manifest) {
        Ok(manifest) => reference(&manifest, release.revoked_s.is_some()),
        Err(e) => {
            tracing::error!("{name}: {e}");
            None
        }
    };
    let found = Facts { reference, boot_loader: boot_loader(&release) };
    cx.attestation.facts.insert(name, changes, &found);
    Ok(Some(found))
}

/// All releases that one of these devices has as its desired version, reports to run, ran at its
/// last attestation, or was provisioned with.
pub(super) async fn of(
    cx: &Context,
    subjects: impl Iterator<Item = &Subject>,
) -> Result<Releases, Error> {
    let names: HashSet<&ReleaseName> = subjects
        .flat_map(|s| [&s.wanted, &s.running, &s.not_given, &s.last.release, &s.loader_release])
        .flatten()
        .collect();
    let mut releases = Releases::new();
    for name in names {
        if let Some(facts) = of_release(cx, name).await? {
            releases.insert(name.clone(), facts);
        }
    }
    Ok(releases)
}
