//! Boot proofs of releases.

use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::error::Error;
use crate::releases;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::api::{Event, Release, SignedBootProof};
use fleeti_core::wire::problem::Code;
use fleeti_pki::manifest::Signature;
use fleeti_pki::{boot_proof, manifest};
use fleeti_store as store;

/// Stores a boot proof of a published release. Verifies that release keys signed it, and that its
/// measurements match the release's manifest. The release signers relied on the server that
/// verified the quote.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Untrusted`] if the proof does not match, or has too few signatures.
pub async fn add(
    cx: &Context,
    by: &Actor,
    name: &ReleaseName,
    sent: &SignedBootProof,
) -> Result<Release, Error> {
    releases::get(cx, name).await?;
    let untrusted = |e: &dyn std::error::Error| Error::new(Code::Untrusted, e.to_string());
    let documents = releases::documents(cx, name).await?;
    let signatures: Vec<(String, String)> = serde_json::from_slice(&documents.signatures)?;
    let keys = &cx.pki.release_keys;
    let release = manifest::verify(&documents.manifest, &Signature::all_of(&signatures), keys)
        .map_err(|e| untrusted(&e))?;
    let signed = Signature::all_of(&sent.signatures);
    let proof = boot_proof::verify(sent.proof.as_bytes(), &signed, keys, &release)
        .map_err(|e| untrusted(&e))?;
    let mut tx = cx.db.write().await?;
    store::releases::set_boot_proof(&mut tx, name, sent).await?;
    cx.audit(
        &mut tx,
        by.act(
            "release.boot-proof",
            format!("{name} by {} at {}", proof.device, proof.level.code()),
        ),
    )
    .await?;
    cx.commit(tx, Event::Release { name: name.clone() }).await?;
    releases::get(cx, name).await
}
