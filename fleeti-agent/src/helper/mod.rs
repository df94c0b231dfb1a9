//! The privileged half: a root process with fixed verbs on a Unix socket that only the daemon may open.
//!
//! It trusts the daemon with nothing: it verifies the manifest itself, downloads from the loopback only, and
//! arms only what the manifest it staged names.

mod dmi;
mod server;
pub mod staging;

pub use server::serve;

use anyhow::{Context, Result, bail};
use fleeti_core::id::{DeviceId, Version};
use fleeti_core::update::{FailureCode, RollbackReason};
use fleeti_core::wire::device::{BootChange, BootSignatures, BootSummary, EnrollmentRecord, ReleaseProof};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Largest request or answer, bytes.
pub const MESSAGE_MAX: u64 = 1 << 20;

/// A verb and its arguments.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What runs.
    BootSummary,
    /// The enrollment record, from SMBIOS or the ESP.
    EnrollmentRecord,
    /// Verify the manifest and run systemd-sysupdate against a loopback URL.
    Stage {
        /// `manifest.json`, as it is.
        manifest: String,
        /// Key id and DER (base64) of each signature.
        signatures: Vec<(String, String)>,
        /// That it is in the audit log.
        proof: Option<Box<ReleaseProof>>,
        /// This device's own signatures over its programs.
        boot: BootSignatures,
        /// `http://127.0.0.1:...`.
        url: String,
    },
    /// Change the Secure Boot variables.
    ChangeBoot {
        /// How.
        change: BootChange,
    },
    /// How many entries of the audit log this device has seen.
    LogSize,
    /// Make the staged version bootable.
    Arm {
        /// Which.
        version: Version,
    },
    /// Reboot.
    Reboot,
    /// Why an armed version does not run.
    WhyFailed {
        /// Which.
        version: Version,
    },
    /// Answers when the running version was blessed.
    WaitBlessed,
    /// Look again whether the running version was blessed.
    BlessedChanged,
    /// Set the host name by the image's pattern.
    SetHostname {
        /// The device's id.
        device: DeviceId,
    },
    /// Write a line on the console.
    Say {
        /// The line.
        line: String,
    },
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Response {
    /// Done.
    Done,
    /// Of [`Request::BootSummary`].
    Boot {
        /// What runs.
        summary: BootSummary,
    },
    /// Of [`Request::EnrollmentRecord`].
    Record {
        /// The record, if there is one.
        record: Option<EnrollmentRecord>,
    },
    /// Of [`Request::WhyFailed`].
    Reason {
        /// Why; nothing when it was never armed.
        reason: Option<RollbackReason>,
    },
    /// Of [`Request::LogSize`].
    LogSize {
        /// Entries of the last statement that was believed.
        size: u64,
    },
    /// It could not be done.
    Failed {
        /// The stable code.
        code: FailureCode,
        /// In words.
        detail: String,
    },
}

/// The daemon's end of the socket.
#[derive(Debug, Clone)]
pub struct Helper {
    socket: PathBuf,
}

impl Helper {
    /// The helper behind this socket.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    async fn call(&self, request: &Request) -> Result<Response> {
        let mut stream = UnixStream::connect(&self.socket).await.context("the helper does not answer")?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        BufReader::new(stream.take(MESSAGE_MAX)).read_until(b'\n', &mut answer).await?;
        serde_json::from_slice(&answer).context("the helper's answer")
    }

    async fn done(&self, request: &Request) -> Result<()> {
        match self.call(request).await? {
            Response::Done => Ok(()),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }

    /// What runs.
    ///
    /// # Errors
    /// When the helper does not answer.
    pub async fn boot_summary(&self) -> Result<BootSummary> {
        match self.call(&Request::BootSummary).await? {
            Response::Boot { summary } => Ok(summary),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// The enrollment record.
    ///
    /// # Errors
    /// When the helper does not answer, or the record is malformed.
    pub async fn enrollment_record(&self) -> Result<Option<EnrollmentRecord>> {
        match self.call(&Request::EnrollmentRecord).await? {
            Response::Record { record } => Ok(record),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Changes the Secure Boot variables.
    ///
    /// # Errors
    /// Why the device would not boot afterwards, or what failed.
    pub async fn change_boot(&self, change: BootChange) -> Result<()> {
        self.done(&Request::ChangeBoot { change }).await
    }
    /// Stages a release; the code and words of a refusal are the inner error.
    ///
    /// # Errors
    /// When the helper does not answer.
    pub async fn stage(
        &self,
        manifest: String,
        signatures: Vec<(String, String)>,
        proof: Option<Box<ReleaseProof>>,
        boot: BootSignatures,
        url: String,
    ) -> Result<Result<(), (FailureCode, String)>> {
        match self.call(&Request::Stage { manifest, signatures, proof, boot, url }).await? {
            Response::Done => Ok(Ok(())),
            Response::Failed { code, detail } => Ok(Err((code, detail))),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// How many entries of the audit log this device has seen.
    ///
    /// # Errors
    /// When the helper does not answer.
    pub async fn log_size(&self) -> Result<u64> {
        match self.call(&Request::LogSize).await? {
            Response::LogSize { size } => Ok(size),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Arms what was staged.
    ///
    /// # Errors
    /// When it is not what the manifest named.
    pub async fn arm(&self, version: Version) -> Result<()> {
        self.done(&Request::Arm { version }).await
    }
    /// Reboots.
    ///
    /// # Errors
    /// When systemd refuses.
    pub async fn reboot(&self) -> Result<()> {
        self.done(&Request::Reboot).await
    }
    /// Why a version does not run.
    ///
    /// # Errors
    /// When the helper does not answer.
    pub async fn why_failed(&self, version: Version) -> Result<Option<RollbackReason>> {
        match self.call(&Request::WhyFailed { version }).await? {
            Response::Reason { reason } => Ok(reason),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Returns when the running version was blessed.
    ///
    /// # Errors
    /// When the helper goes away.
    pub async fn wait_blessed(&self) -> Result<()> {
        self.done(&Request::WaitBlessed).await
    }
    /// Makes the helper look again.
    ///
    /// # Errors
    /// When the helper does not answer.
    pub async fn blessed_changed(&self) -> Result<()> {
        self.done(&Request::BlessedChanged).await
    }
    /// Sets the host name.
    ///
    /// # Errors
    /// When the helper does not answer.
    pub async fn set_hostname(&self, device: DeviceId) -> Result<()> {
        self.done(&Request::SetHostname { device }).await
    }
    /// Writes a line on the console.
    ///
    /// # Errors
    /// When the helper does not answer.
    pub async fn say(&self, line: &str) -> Result<()> {
        self.done(&Request::Say { line: line.to_owned() }).await
    }
}
