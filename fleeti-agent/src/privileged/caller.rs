//! The daemon's end of the helper's socket.

use super::protocol::{
    Collect, MESSAGE_MAX, Measured, Occasion, PreviousRequest, Request, Response, StageRequest,
};
use crate::boot_secrets::{Delivery, Given, Seen};
use crate::tpm::KeySeed;
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use fleeti_core::id::{DeviceId, Version};
use fleeti_core::strict;
use fleeti_core::update::{FailureCode, RollbackReason};
use fleeti_core::wire::attestation::{KeyProof, Secret, TpmIdentity};
use fleeti_core::wire::boot::{BootChange, BootSummary};
use fleeti_core::wire::enrollment::EnrollmentRecord;
use fleeti_core::wire::readmission::SignedTransition;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// How long a TPM may take for a signature, including the wait for other requests.
const SIGNING: Duration = Duration::from_secs(20);

/// The answer to a request to arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Armed {
    /// It is armed.
    Yes,
    /// Nothing was done: the device must reboot before, and may not.
    NeedsReboot,
}

/// The daemon's end of the helper's socket.
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
        let mut stream =
            UnixStream::connect(&self.socket).await.context("the helper does not answer")?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream.take(MESSAGE_MAX + 1).read_to_end(&mut answer).await?;
        read_answer(&answer)
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
    /// If the helper does not answer.
    pub async fn boot_summary(&self) -> Result<BootSummary> {
        match self.call(&Request::BootSummary).await? {
            Response::Boot { summary } => Ok(summary),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// The enrollment record.
    ///
    /// # Errors
    /// If the helper does not answer, or the record is malformed.
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
    /// Why the device would not boot after the change, or what failed.
    pub async fn change_boot(&self, change: BootChange) -> Result<()> {
        self.done(&Request::ChangeBoot { change }).await
    }
    /// Stages a release; the inner error is a refusal, with its code and detail.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn stage(&self, release: StageRequest) -> Result<Result<(), (FailureCode, String)>> {
        match self.call(&Request::Stage(release)).await? {
            Response::Done => Ok(Ok(())),
            Response::Failed { code, detail } => Ok(Err((code, detail))),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// How many entries the audit log had in the newest checkpoint that this device has accepted.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn log_size(&self, transitions: Vec<SignedTransition>) -> Result<u64> {
        match self.call(&Request::LogSize { transitions }).await? {
            Response::LogSize { size } => Ok(size),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Arms the staged version. The helper may have to reboot before.
    ///
    /// # Errors
    /// If it does not match the manifest.
    pub async fn arm(&self, version: Version, may_reboot: bool) -> Result<Armed> {
        self.armed(&Request::Arm { version, may_reboot }).await
    }
    async fn armed(&self, request: &Request) -> Result<Armed> {
        match self.call(request).await? {
            Response::Done => Ok(Armed::Yes),
            Response::NeedsReboot => Ok(Armed::NeedsReboot),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Makes the older version in the other slot bootable.
    ///
    /// # Errors
    /// If the other slot does not have exactly this release, or the device may not run it.
    pub async fn arm_previous(&self, request: PreviousRequest) -> Result<Armed> {
        self.armed(&Request::ArmPrevious(request)).await
    }
    /// Reboots.
    ///
    /// # Errors
    /// If systemd refuses.
    pub async fn reboot(&self) -> Result<()> {
        self.done(&Request::Reboot).await
    }
    /// Why a version does not run.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn why_failed(&self, version: Version) -> Result<Option<RollbackReason>> {
        match self.call(&Request::WhyFailed { version }).await? {
            Response::Reason { reason } => Ok(reason),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Returns when the running version is blessed.
    ///
    /// # Errors
    /// If the connection to the helper ends.
    pub async fn wait_blessed(&self) -> Result<()> {
        self.done(&Request::WaitBlessed).await
    }
    /// Makes the helper check again whether the running version is blessed.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn blessed_changed(&self) -> Result<()> {
        self.done(&Request::BlessedChanged).await
    }
    /// The keys that identify the TPM; `None` without one.
    ///
    /// # Errors
    /// If the TPM does not answer.
    pub async fn tpm_identity(&self) -> Result<Option<TpmIdentity>> {
        match self.call(&Request::TpmIdentity).await? {
            Response::Tpm { identity } => Ok(identity),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// The secret that was made for this TPM, base64.
    ///
    /// # Errors
    /// If it was made for another TPM or key.
    pub async fn tpm_activate(&self, blob: String, secret: String) -> Result<Secret> {
        match self.call(&Request::TpmActivate { blob, secret }).await? {
            Response::Secret { secret } => Ok(secret),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// The device key of a seed: TPMT_PUBLIC, base64.
    ///
    /// # Errors
    /// If the TPM does not answer.
    pub async fn device_key(&self, seed: &KeySeed) -> Result<String> {
        match self.call(&Request::DeviceKey { seed: hex::encode(seed) }).await? {
            Response::DeviceKey { public } => Ok(public),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Has the TPM certify the device key of a seed.
    ///
    /// # Errors
    /// If the TPM does not answer.
    pub async fn certify(
        &self,
        seed: &KeySeed,
        occasion: Occasion,
        channel: &[u8],
    ) -> Result<KeyProof> {
        match self
            .call(&Request::Certify {
                seed: hex::encode(seed),
                occasion,
                channel: hex::encode(channel),
            })
            .await?
        {
            Response::Certified { key } => Ok(key),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Signs a SHA-256 digest with the device key of a seed: TPMT_SIGNATURE. Blocks, because TLS
    /// cannot do anything else meanwhile; the helper is another process.
    ///
    /// # Errors
    /// If the TPM does not answer.
    pub fn sign(&self, seed: &KeySeed, digest: &[u8]) -> Result<Vec<u8>> {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&self.socket)
            .context("the helper does not answer")?;
        stream.set_read_timeout(Some(SIGNING))?;
        let request = Request::Sign { seed: hex::encode(seed), digest: hex::encode(digest) };
        stream.write_all(&[&serde_json::to_vec(&request)?[..], b"\n"].concat())?;
        let mut answer = Vec::new();
        stream.take(MESSAGE_MAX + 1).read_to_end(&mut answer)?;
        match read_answer(&answer)? {
            Response::Signature { signature } => {
                Ok(base64::engine::general_purpose::STANDARD.decode(signature)?)
            }
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Evidence for a challenge.
    ///
    /// # Errors
    /// If the TPM does not answer, or a log cannot be read.
    pub async fn evidence(&self, nonce: String, device: DeviceId) -> Result<Measured> {
        match self.call(&Request::Evidence { nonce, device }).await? {
            Response::Evidence { measured } => Ok(*measured),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// The recovery key of the data partition, if there is one that the server does not keep.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn recovery_key(&self) -> Result<Option<Secret>> {
        match self.call(&Request::RecoveryKey).await? {
            Response::RecoveryKey { key } => Ok(key),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Tells the helper that the server keeps the recovery key of this digest.
    ///
    /// # Errors
    /// If another one is waiting.
    pub async fn recovery_key_kept(&self, sha256: String) -> Result<()> {
        self.done(&Request::RecoveryKeyKept { sha256 }).await
    }
    /// Makes the next boot create a new recovery key.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn forget_recovery_key(&self) -> Result<()> {
        self.done(&Request::ForgetRecoveryKey).await
    }
    /// Replaces the secrets that services load, and passes on those of the boot.
    ///
    /// # Errors
    /// If they cannot be written.
    pub async fn put_secrets(&self, delivery: Delivery) -> Result<()> {
        self.done(&Request::PutSecrets { delivery }).await
    }
    /// What the daemon gets of the secrets of the boot, once it is not what it knows.
    ///
    /// # Errors
    /// If the connection to the helper ends.
    pub async fn boot_secrets(&self, known: Option<Seen>) -> Result<Given> {
        match self.call(&Request::BootSecrets { known }).await? {
            Response::BootSecrets { given } => Ok(given),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Tells the helper that a session with the server began or ended.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn contact(&self, generation: u64, is_reached: bool) -> Result<()> {
        self.done(&Request::Contact { generation, is_reached }).await
    }
    /// Has values of secrets of the boot tried again.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn try_secrets(&self) -> Result<()> {
        self.done(&Request::TrySecrets).await
    }
    /// Tells the helper that the server was reached in this boot.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn reached(&self) -> Result<()> {
        self.done(&Request::Reached).await
    }
    /// Returns when the server is reached in this boot.
    ///
    /// # Errors
    /// If the connection to the helper ends.
    pub async fn wait_reached(&self) -> Result<()> {
        self.done(&Request::WaitReached).await
    }
    /// Passes on a checkpoint of the audit log, which states the time.
    ///
    /// # Errors
    /// If the log did not sign it, or the clock cannot be set.
    pub async fn signed_time(&self, note: String) -> Result<()> {
        self.done(&Request::SignedTime { note }).await
    }
    /// Texts about damaged state files of the helper that are not reported yet.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn set_aside(&self) -> Result<Vec<String>> {
        match self.call(&Request::SetAside).await? {
            Response::SetAside { reasons } => Ok(reasons),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Tells the helper that its damaged state files were reported.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn set_aside_reported(&self) -> Result<()> {
        self.done(&Request::SetAsideReported).await
    }
    /// Sets the host name.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn set_hostname(&self, device: DeviceId) -> Result<()> {
        self.done(&Request::SetHostname { device }).await
    }
    /// Collects the result of a command: bytes, and what they are in words.
    ///
    /// # Errors
    /// If the image does not declare it, or it cannot be collected.
    pub async fn collect(&self, what: Collect) -> Result<(Vec<u8>, String)> {
        match self.call(&Request::Collect { what }).await? {
            Response::Collected { content, detail } => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(content)?;
                Ok((bytes, detail))
            }
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Requests a factory reset for a command: the number of emptied directories after it, `None`
    /// if the device must reboot.
    ///
    /// # Errors
    /// If the image names nothing to wipe, or the boot did not make the reset.
    pub async fn factory_reset(&self, command: &str) -> Result<Option<usize>> {
        match self.call(&Request::FactoryReset { command: command.to_owned() }).await? {
            Response::Reset { wiped } => Ok(wiped),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Writes a line to the console.
    ///
    /// # Errors
    /// If the helper does not answer.
    pub async fn say(&self, line: &str) -> Result<()> {
        self.done(&Request::Say { line: line.to_owned() }).await
    }
}

/// Parses a response strictly. The helper closes the connection after it.
fn read_answer(bytes: &[u8]) -> Result<Response> {
    ensure!(
        bytes.len() as u64 <= MESSAGE_MAX,
        "the helper's answer has more than {MESSAGE_MAX} bytes"
    );
    strict::from_slice(bytes).context("the helper's answer")
}
