//! The audit log as a device uses it: it rejects a release that is not in the log, an old
//! checkpoint, which may hide newer ones, and a log that does not continue the known one, which has
//! two histories.

use crate::image;
use crate::{Paths, anchors, kept, write_durably};
use anyhow::Result;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::update::FailureCode;
use fleeti_core::wire::device::ReleaseProof;
use fleeti_pki::audit::{RELEASE_PUBLISH, Stage, verify_log_consistency, verify_proof};
use fleeti_pki::manifest::Verified;
use fleeti_pki::transition::Anchors;
use fleeti_pki::transparency::note::{LogKey, VerifiedCheckpoint};
use std::path::PathBuf;

const DAY_S: u64 = 86_400;

/// A refusal: its code and detail.
type Refusal = (FailureCode, String);

/// Named after the log: an image with another log starts a file of its own.
fn remembered_path(paths: &Paths, key: &LogKey) -> PathBuf {
    paths.helper_state.join(format!("checkpoint-{}", &sha256_hex(key.to_text().as_bytes())[..16]))
}

/// When the last applied reset of this log was signed.
fn reset_path(paths: &Paths, key: &LogKey) -> PathBuf {
    remembered_path(paths, key).with_extension("reset")
}

/// The newest checkpoint of this log that the device has accepted. An unreadable one is set aside.
fn remembered(paths: &Paths, key: &LogKey) -> Option<VerifiedCheckpoint> {
    let text = |bytes: &[u8]| Ok(std::str::from_utf8(bytes)?.to_owned());
    let found = kept::read(&remembered_path(paths, key), |bytes| Ok(key.verify(&text(bytes)?)?));
    // The file name before there could be several logs.
    found.or_else(|| key.verify(&kept::read(&paths.helper_state.join("checkpoint"), text)?).ok())
}

/// Applies a reset that release keys have signed, once.
fn take_up_reset(paths: &Paths, anchors: &Anchors) -> Result<()> {
    let Some(reset) = anchors.reset() else { return Ok(()) };
    let path = reset_path(paths, anchors.log());
    let applied_s =
        kept::read(&path, |bytes| Ok(std::str::from_utf8(bytes)?.trim().parse::<u64>()?))
            .unwrap_or(0);
    if reset.issued_s <= applied_s {
        return Ok(());
    }
    write_durably(&remembered_path(paths, anchors.log()), reset.note.as_bytes())?;
    Ok(write_durably(&path, reset.issued_s.to_string().as_bytes())?)
}

/// Entries of the newest checkpoint that this device has accepted; 0 for none.
///
/// # Errors
/// If the image's trust anchors cannot be read.
pub fn seen(paths: &Paths) -> Result<u64> {
    let anchors = anchors::of_helper(paths)?;
    take_up_reset(paths, &anchors)?;
    Ok(remembered(paths, anchors.log()).map_or(0, |c| c.checkpoint().size))
}

/// Checks that a release is in the audit log, by a recent checkpoint of a log that is consistent
/// with the known one. The checkpoint is then remembered.
///
/// # Errors
/// [`FailureCode::NotInLog`], [`FailureCode::LogStale`] or [`FailureCode::LogSplit`], each with a
/// detail.
pub fn check(
    paths: &Paths,
    release: &Verified,
    proof: Option<&ReleaseProof>,
    now_s: u64,
) -> Result<(), Refusal> {
    let missing = |detail: String| (FailureCode::NotInLog, detail);
    let internal = |e: anyhow::Error| missing(format!("{e:#}"));
    let policy = image::facts(paths).map_err(internal)?.release_log;
    if policy.optional {
        return Ok(());
    }
    let anchors = anchors::of_helper(paths).map_err(internal)?;
    take_up_reset(paths, &anchors).map_err(internal)?;
    let key = anchors.log();
    let name = &release.manifest().release;
    let proof =
        proof.ok_or_else(|| missing(format!("{name} has no proof that it is in the audit log")))?;
    let proved = verify_proof(&proof.published, key).map_err(|e| missing(e.to_string()))?;
    let (act, is_done) = (&proved.entry().act, proved.entry().stage == Stage::Done);
    let is_this =
        act.subject == name.to_string() && act.sha256.as_deref() == Some(release.sha256());
    if act.action != RELEASE_PUBLISH || !is_this || !is_done {
        return Err(missing(format!(
            "entry {} of the audit log does not publish this {name}",
            proved.entry().number
        )));
    }
    let stated = proved.checkpoint();
    let old = remembered(paths, key);
    // A clock that is behind must not make an old checkpoint recent: it is at least as late as the
    // known checkpoint.
    let now_s = old.as_ref().map_or(now_s, |old| now_s.max(old.stated_s()));
    let age_s = now_s.saturating_sub(stated.stated_s());
    if age_s > u64::from(policy.age_days_max) * DAY_S {
        let text = format!(
            "the checkpoint of the audit log is {} days old, {} are allowed",
            age_s / DAY_S,
            policy.age_days_max
        );
        return Err((FailureCode::LogStale, text));
    }
    if let Some(old) = old {
        let (was, is) = (old.checkpoint().size, stated.checkpoint().size);
        verify_log_consistency(&old, stated, &proof.consistency).map_err(|e| {
            (
                FailureCode::LogSplit,
                format!("the audit log had {was} entries and has {is} now: {e}"),
            )
        })?;
    }
    write_durably(&remembered_path(paths, key), proof.published.checkpoint.as_bytes())
        .map_err(|e| internal(e.into()))
}
