//! The examination of a server: gathers facts, which [`fleeti_core::doctor`] judges. The running
//! server answers `GET /doctor` with it; `fleeti-server doctor` examines the data folder, whether or
//! not a server runs.

pub mod endings;

use crate::context::Context;
use crate::doctor::endings::Known;
use crate::restored::RestoreReport;
use crate::{audit, health, suites, trust};
use fleeti_core::doctor::{Clock, Facts, SignerFacts};
use fleeti_core::strict;
use fleeti_core::wire::doctor::{Diagnosis, Ending};
use fleeti_store as store;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Exists once systemd-timesyncd has set the clock. Other programs do not make it.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

/// Everything that ends, as a running server knows it.
#[must_use]
pub fn endings(cx: &Context) -> Vec<Ending> {
    let (trust, manufacturers) = (trust::current(cx), cx.pki.manufacturers.load());
    endings::of(&Known {
        pki: &cx.pki,
        trust: &trust,
        manufacturers: &manufacturers,
        settings: &cx.settings,
        identity_ends_s: cx.ports.identity_ends_s(),
        crl_ends_s: Some(cx.access.crl_ends_s()),
    })
}

/// Examines the running server.
pub async fn diagnose(cx: &Context) -> Diagnosis {
    health::look(cx).await;
    let database = store::releases::newest(cx.db.pool(), 1).await;
    let signer = match health::signer_away_s(cx) {
        None => SignerFacts::Answers,
        Some(s) => SignerFacts::Away { since_s: Some(s) },
    };
    let trust = trust::current(cx);
    fleeti_core::doctor::diagnose(Facts {
        now_s: cx.now_s(),
        clock: Clock { stated_s: stated_s(cx).await, ..clock(&trust) },
        database: database.map(drop).map_err(|e| e.to_string()),
        disk: health::disk_of(&cx.settings),
        audit_disk: health::signer_disk_warning(cx),
        signer,
        waiting_acts: health::waiting_acts(cx),
        waiting_many: health::ACTS_MANY,
        index_s: suites::made_s(&cx.settings.data),
        backup_s: LastBackup::read(&cx.settings.data).map(|backup| backup.made_s),
        restore_open: RestoreReport::read(&cx.settings.data).map_or(0, |report| report.open()),
        ports: vec![],
        endings: endings(cx),
    })
}

/// What the clock is compared with, as far as files say it.
#[must_use]
pub fn clock(trust: &trust::state::Trust) -> Clock {
    let newest = trust.devices().map(|a| fleeti_pki::certificate::not_before_s(&a.certificate));
    Clock {
        not_before_s: newest.max().unwrap_or_default(),
        stated_s: None,
        is_synchronized: Path::new(SYNCHRONIZED).exists().then_some(true),
    }
}

/// Time of the audit log's newest checkpoint.
async fn stated_s(cx: &Context) -> Option<u64> {
    if health::is_signer_away(cx) {
        return None;
    }
    let note = audit::checkpoint(cx).await.ok()?;
    cx.pki.log.verify(&note).ok().map(|verified| verified.stated_s())
}

/// The last backup that was made of a data folder (`DIR/backup.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    /// When it was complete, Unix seconds.
    pub made_s: u64,
    /// Where it was written.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
}

impl LastBackup {
    fn file(data: &Path) -> PathBuf {
        data.join("backup.json")
    }
    /// The last one; `None` before the first, and for a file that is damaged.
    #[must_use]
    pub fn read(data: &Path) -> Option<Self> {
        strict::from_slice(&fs::read(Self::file(data)).ok()?).ok()
    }
    /// Remembers it.
    ///
    /// # Errors
    /// I/O.
    pub fn write(&self, data: &Path) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        Ok(fleeti_files::write_durably(&Self::file(data), &bytes, fleeti_files::PRIVATE)?)
    }
}
