//! The first start after a restore: the audit log, which the signing service holds, says what
//! happened after the backup was made. What was *taken* is taken again, before any device connects:
//! revocations of devices and releases, holds, roles, accounts, tokens, build workers, schedules, rollouts. Devices
//! that have renewed their certificates meanwhile are known by their new keys, so that none needs a
//! visit. What was *given* is not given again: it is listed in `DIR/restore-report.json`.
//!
//! INVARIANT: a restored database serves nobody before this is done, and it is not done without the
//! signing service.

mod newer;

use crate::accounts::actor::Actor;
use crate::accounts::{people, tokens};
use crate::builds::{schedule, workers};
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::releases::revoke;
use crate::restored::newer::{Newer, Taken};
use crate::trust::revocation;
use crate::{audit, channels, rollouts};
use anyhow::{Context as _, Result, ensure};
use fleeti_core::id::DeviceId;
use fleeti_core::strict;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::updates::UpdateOrder;
use fleeti_pki::audit::Entry;
use fleeti_signer_client::wire::ENTRIES_MAX;
use fleeti_store as store;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// The clocks of server and signing service may differ by this time, seconds. An act that the
/// database has already is repeated without effect. What was taken and given back within this time is
/// taken again: the safe side.
const MARGIN_S: u64 = 3600;

/// A restore whose consequences are still to be drawn (`DIR/restored.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Time of the backup, Unix seconds.
    pub made_s: u64,
    /// Time of the restore, Unix seconds.
    pub restored_s: u64,
}

impl Restored {
    fn file(data: &Path) -> PathBuf {
        data.join("restored.json")
    }
    /// Leaves word for the next start. Returns the file.
    ///
    /// # Errors
    /// I/O.
    pub fn write(&self, data: &Path) -> Result<PathBuf> {
        let path = Self::file(data);
        fleeti_files::write_durably(&path, &serde_json::to_vec(self)?, fleeti_files::PRIVATE)?;
        Ok(path)
    }
    fn read(data: &Path) -> Result<Option<Self>> {
        match fs::read(Self::file(data)) {
            Ok(bytes) => Ok(Some(strict::from_slice(&bytes).context("restored.json")?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).context("restored.json"),
        }
    }
}

/// What was done after a restore (`DIR/restore-report.json`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// Time of the backup, Unix seconds.
    pub made_s: u64,
    /// Time of the restore, Unix seconds.
    pub restored_s: u64,
    /// What was taken again: `ACTION SUBJECT`.
    pub repeated: Vec<String>,
    /// Number of devices that are known by a newer key than in the backup.
    pub devices_with_newer_keys: u64,
    /// Devices that enrolled after the backup. They must enroll again.
    pub unknown_devices: Vec<String>,
    /// Number of enrollment tokens that were ended, because these devices may have used them.
    #[serde(default)]
    pub enrollment_tokens_ended: u64,
    /// Acts that are lost: `TIME ACTOR ACTION SUBJECT`.
    pub lost: Vec<String>,
    /// Further ones.
    pub lost_more: u64,
}

impl RestoreReport {
    fn file(data: &Path) -> PathBuf {
        data.join("restore-report.json")
    }
    /// The report of the last restore; `None` after an operator has removed it.
    #[must_use]
    pub fn read(data: &Path) -> Option<Self> {
        strict::from_slice(&fs::read(Self::file(data)).ok()?).ok()
    }
    /// Number of things that people have to decide.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.unknown_devices.len() as u64 + self.lost.len() as u64 + self.lost_more
    }
}

/// Draws the consequences of a restore, if there was one.
///
/// # Errors
/// When the signing service or the database does not answer. Then no server may start.
pub(crate) async fn settle(cx: &ContextRef, has_signer: bool) -> Result<()> {
    let data = &cx.settings.data;
    let Some(restored) = Restored::read(data)? else { return Ok(()) };
    ensure!(
        has_signer,
        "this server was restored from a backup and needs its signing service once, to learn what was revoked since; hint: start fleeti-signer"
    );
    let newer = newer(cx, restored.made_s.saturating_sub(MARGIN_S)).await?;
    let report = repeat(cx, newer, restored).await?;
    let bytes = serde_json::to_vec_pretty(&report)?;
    fleeti_files::write_durably(&RestoreReport::file(data), &bytes, fleeti_files::PRIVATE)?;
    fs::remove_file(Restored::file(data))?;
    tracing::warn!(
        "restored from a backup: {} acts were repeated, {} devices have newer keys, {} things are left to people: {}",
        report.repeated.len(),
        report.devices_with_newer_keys,
        report.open(),
        RestoreReport::file(data).display()
    );
    Ok(())
}

/// Reads the audit log from a time on.
async fn newer(cx: &Context, from_s: u64) -> Result<Newer> {
    let size = cx.pki.log.verify(&audit::checkpoint(cx).await?)?.checkpoint().size;
    let mut next = first_since(cx, from_s, size).await?;
    let mut newer = Newer::default();
    while next < size {
        let lines = audit::entries(cx, next, ENTRIES_MAX.min(size - next)).await?.lines;
        ensure!(!lines.is_empty(), "the signing service has no entry {next} of its log");
        for line in &lines {
            newer.add(&Entry::parse(line.as_bytes())?);
        }
        next += lines.len() as u64;
    }
    Ok(newer)
}

/// Number of the first entry since a time. Times in the log never decrease.
async fn first_since(cx: &Context, from_s: u64, size: u64) -> Result<u64> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        let lines = audit::entries(cx, middle, 1).await?.lines;
        let line = lines.first().with_context(|| format!("entry {middle} of the audit log"))?;
        if Entry::parse(line.as_bytes())?.at_s < from_s {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Repeats what was taken.
async fn repeat(cx: &ContextRef, mut newer: Newer, restored: Restored) -> Result<RestoreReport> {
    let by = Actor::of_process("restore");
    let mut repeated = Repeated::default();
    for (device, reason) in &newer.revoked {
        let subject = format!("device.revoke {device} {}", reason.as_str());
        repeated.note(subject, revocation::mark(cx, &by, device, *reason).await)?;
    }
    for release in &newer.releases {
        repeated
            .note(format!("release.revoke {release}"), revoke::revoke(cx, &by, release).await)?;
    }
    for id in &newer.aborted {
        repeated.note(format!("rollout.abort {id}"), rollouts::abort(cx, &by, id).await)?;
    }
    for id in &newer.paused {
        repeated.note(format!("rollout.pause {id}"), rollouts::pause(cx, &by, id).await)?;
    }
    for taken in &newer.accounts {
        match taken {
            Taken::Disabled(name) => {
                let done = people::disable(cx, &by, name).await;
                repeated.note(format!("account.disable {name}"), done)?;
            }
            Taken::Offboarded(name) => {
                let done = people::offboard(cx, &by, name).await;
                repeated.note(format!("account.offboard {name}"), done)?;
            }
            Taken::Role(name, grant) => {
                let done = people::ungrant(cx, &by, name, grant).await;
                repeated.note(format!("account.ungrant {name}: {grant}"), done)?;
            }
        }
    }
    for (device, (reason, until_s)) in &newer.holds {
        if until_s.is_none_or(|until_s| until_s > cx.now_s()) {
            let hold = UpdateOrder::Hold { reason: reason.clone(), until_s: *until_s };
            let done = channels::order(cx, &by, device, &hold).await;
            repeated.note(format!("device.hold {device}"), done)?;
        }
    }
    for id in &newer.tokens {
        repeated.note(format!("token.remove {id}"), tokens::remove(cx, &by, id).await)?;
    }
    for name in &newer.workers {
        repeated.note(format!("worker.remove {name}"), workers::remove(cx, &by, name).await)?;
    }
    for line in &newer.schedules {
        let removed = schedule::remove(cx, &by, line).await;
        repeated.note(format!("refresh-schedule.remove {line}"), removed)?;
    }
    let (known, unknown) = keys(cx, &newer).await?;
    let enrollment_tokens_ended = end_used_tokens(cx, &by, &unknown).await?;
    sign_everybody_out(cx, &by).await?;
    // CRLs of before do not have what was revoked again.
    revocation::publish_crls(cx).await?;
    repeated.refused.drain(..).for_each(|act| newer.lose(act));
    Ok(RestoreReport {
        made_s: restored.made_s,
        restored_s: restored.restored_s,
        repeated: repeated.done,
        devices_with_newer_keys: known,
        unknown_devices: unknown.iter().map(DeviceId::to_string).collect(),
        enrollment_tokens_ended,
        lost: newer.lost,
        lost_more: newer.lost_more,
    })
}

/// Acts that were repeated, and those that could not be.
#[derive(Default)]
struct Repeated {
    done: Vec<String>,
    refused: Vec<String>,
}

impl Repeated {
    /// Notes the result of an act.
    fn note<T>(&mut self, act: String, result: Result<T, Error>) -> Result<()> {
        match result {
            Ok(_) => self.done.push(act),
            // What it is about is newer than the backup as well, or has ended by itself.
            // Said, so that nobody gives it again without knowing.
            Err(e) if e.code() == Code::NotFound => {
                self.refused.push(format!("{act}: not in the backup; do not give it again"));
            }
            Err(e) if e.code() == Code::Conflict => self.refused.push(format!("{act}: {e}")),
            Err(e) => return Err(e).context(act),
        }
        Ok(())
    }
}

/// Makes devices known by the keys that they have renewed to. Returns their number, and the devices
/// that the database does not know.
async fn keys(cx: &Context, newer: &Newer) -> Result<(u64, Vec<DeviceId>)> {
    let (mut count, mut unknown) = (0, Vec::new());
    for (device, key) in &newer.keys {
        let mut tx = cx.db.write().await?;
        match store::devices::expect_key(&mut tx, device, key).await? {
            store::devices::Expected::Next => count += 1,
            store::devices::Expected::Known => {}
            store::devices::Expected::NoDevice => unknown.push(device.clone()),
        }
        tx.commit().await?;
    }
    Ok((count, unknown))
}

/// Ends the enrollment tokens that devices may have used since the backup. Returns their number.
async fn end_used_tokens(cx: &Context, by: &Actor, unknown: &[DeviceId]) -> Result<u64> {
    let mut tx = cx.db.write().await?;
    let count = store::enrollments::end_open(&mut tx, unknown, cx.now_s()).await?;
    if count > 0 {
        cx.audit(&mut tx, by.act("enrollment.end", format!("{count} tokens"))).await?;
    }
    tx.commit().await?;
    Ok(count)
}

/// Ends all login sessions: which of them were ended since the backup, the log does not say.
async fn sign_everybody_out(cx: &Context, by: &Actor) -> Result<()> {
    let accounts = people::list(cx).await?;
    let mut tx = cx.db.write().await?;
    for account in accounts {
        store::sessions::delete_all(&mut tx, &account.name).await?;
        // One-time links: the copy does not know which were used since.
        store::accounts::remove_link(&mut tx, Some(&account.name)).await?;
    }
    store::accounts::remove_link(&mut tx, None).await?;
    cx.audit(&mut tx, by.act("server.restored", "from a backup; all login sessions ended")).await?;
    Ok(tx.commit().await?)
}
