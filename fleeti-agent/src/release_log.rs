//! The audit log as a device sees it: a release that is not in it does not exist; a statement that is old may hide newer
//! ones; a log that is not the one of last time has two histories.

use crate::image::{ImageFacts, log_key};
use crate::{Paths, write_durably};
use anyhow::{Context, Result};
use fleeti_core::update::FailureCode;
use fleeti_core::wire::device::ReleaseProof;
use fleeti_pki::audit::{RELEASE_PUBLISH, Stage, verify_growth, verify_proof};
use fleeti_pki::manifest::Verified;
use fleeti_pki::transparency::note::VerifiedCheckpoint;
use std::path::PathBuf;

const DAY_S: u64 = 86_400;

/// A refusal: its code and its words.
type Refusal = (FailureCode, String);

fn remembered_path(paths: &Paths) -> PathBuf {
    paths.helper_state.join("checkpoint")
}

/// The newest statement that this device has believed.
fn remembered(paths: &Paths) -> Result<Option<VerifiedCheckpoint>> {
    match std::fs::read_to_string(remembered_path(paths)) {
        Ok(note) => Ok(Some(log_key(paths)?.verify(&note).context("the remembered checkpoint")?)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Entries of the newest statement that this device has believed; 0 for none.
///
/// # Errors
/// When it cannot be read, or is not by the log of this image.
pub fn seen(paths: &Paths) -> Result<u64> {
    Ok(remembered(paths)?.map_or(0, |c| c.checkpoint().size))
}

/// That a release is in the audit log, by a statement that is not old, of a log that has only grown. The statement is
/// remembered then.
///
/// # Errors
/// [`FailureCode::NotInLog`], [`FailureCode::LogStale`], [`FailureCode::LogSplit`], each with words.
pub fn check(paths: &Paths, release: &Verified, proof: Option<&ReleaseProof>, now_s: u64) -> Result<(), Refusal> {
    let missing = |detail: String| (FailureCode::NotInLog, detail);
    let internal = |e: anyhow::Error| missing(format!("{e:#}"));
    let policy = ImageFacts::read(paths).map_err(internal)?.release_log;
    if policy.optional {
        return Ok(());
    }
    let key = log_key(paths).map_err(internal)?;
    let name = &release.manifest().release;
    let proof = proof.ok_or_else(|| missing(format!("{name} came without a proof that it is in the audit log")))?;
    let proved = verify_proof(&proof.published, &key).map_err(|e| missing(e.to_string()))?;
    let (act, is_done) = (&proved.entry().act, proved.entry().stage == Stage::Done);
    let is_this = act.subject == name.to_string() && act.sha256.as_deref() == Some(release.sha256());
    if act.action != RELEASE_PUBLISH || !is_this || !is_done {
        return Err(missing(format!("entry {} of the audit log does not publish this {name}", proved.entry().number)));
    }
    let stated = proved.checkpoint();
    let old = remembered(paths).map_err(internal)?;
    // A clock that is behind makes nothing young: it is at least as late as when the log said something before.
    let now_s = old.as_ref().map_or(now_s, |old| now_s.max(old.stated_s()));
    let age_s = now_s.saturating_sub(stated.stated_s());
    if age_s > u64::from(policy.age_days_max) * DAY_S {
        let text = format!("the audit log's statement is {} days old, {} are allowed", age_s / DAY_S, policy.age_days_max);
        return Err((FailureCode::LogStale, text));
    }
    if let Some(old) = old {
        let (was, is) = (old.checkpoint().size, stated.checkpoint().size);
        verify_growth(&old, stated, &proof.growth)
            .map_err(|e| (FailureCode::LogSplit, format!("the audit log had {was} entries and has {is} now: {e}")))?;
    }
    write_durably(&remembered_path(paths), proof.published.checkpoint.as_bytes()).map_err(|e| internal(e.into()))
}
