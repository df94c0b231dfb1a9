//! The privileged half: a root process with fixed verbs on a Unix socket that only the daemon may open.
//!
//! It trusts the daemon with nothing: it verifies the manifest itself, downloads from the loopback only, and
//! arms only what the manifest it staged names.

mod dmi;
pub mod measured;
mod server;
pub mod staging;

pub use server::serve;

use crate::tpm::KeySeed;
use anyhow::{Context, Result, bail};
use base64::Engine;
use fleeti_core::id::{DeviceId, Version};
use fleeti_core::update::{FailureCode, RollbackReason};
use fleeti_core::wire::attestation::{KeyProof, Secret, TpmIdentity};
use fleeti_core::wire::device::{BootChange, BootSignatures, BootSummary, EnrollmentRecord, ReleaseProof};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// How long a TPM may take for a signature, waiting for another question included.
const SIGNING: Duration = Duration::from_secs(20);

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
    /// What the TPM is known by.
    TpmIdentity,
    /// Give away the secret that was made for this TPM and its attestation key; both base64.
    TpmActivate {
        /// TPM2B_ID_OBJECT.
        blob: String,
        /// TPM2B_ENCRYPTED_SECRET.
        secret: String,
    },
    /// The device key of a seed.
    DeviceKey {
        /// 32 bytes, hexadecimal.
        seed: String,
    },
    /// Sign with the device key of a seed.
    Sign {
        /// 32 bytes, hexadecimal.
        seed: String,
        /// SHA-256, hexadecimal.
        digest: String,
    },
    /// Say that the device key of a seed is in the TPM.
    Certify {
        /// 32 bytes, hexadecimal.
        seed: String,
        /// For what.
        occasion: Occasion,
        /// What both ends derived of the connection, hexadecimal.
        channel: String,
    },
    /// Say what was measured, as the answer to a question of the server.
    Evidence {
        /// 32 bytes, hexadecimal.
        nonce: String,
        /// This device, as the server knows it.
        device: DeviceId,
    },
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

/// What a key is certified for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// To enroll with the token of this digest (SHA-256, hexadecimal).
    Enrollment(String),
    /// For the next certificate of this device.
    Renewal(DeviceId),
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
    /// Of [`Request::TpmIdentity`].
    Tpm {
        /// Its keys; nothing without a TPM.
        identity: Option<TpmIdentity>,
    },
    /// Of [`Request::TpmActivate`].
    Secret {
        /// Base64.
        secret: Secret,
    },
    /// Of [`Request::DeviceKey`].
    DeviceKey {
        /// TPMT_PUBLIC, base64.
        public: String,
    },
    /// Of [`Request::Sign`].
    Signature {
        /// TPMT_SIGNATURE, base64.
        signature: String,
    },
    /// Of [`Request::Certify`].
    Certified {
        /// What the TPM says.
        key: KeyProof,
    },
    /// Of [`Request::Evidence`].
    Evidence {
        /// What was measured.
        measured: Box<Measured>,
    },
    /// It could not be done.
    Failed {
        /// The stable code.
        code: FailureCode,
        /// In words.
        detail: String,
    },
}

/// What was measured, and what the TPM says of it; bytes base64.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    /// TPMS_ATTEST.
    pub quote: String,
    /// TPMT_SIGNATURE.
    pub signature: String,
    /// What the registers held, hexadecimal. No map: its numbers would be texts within a tagged answer.
    pub registers: Vec<(u8, String)>,
    /// Firmware's log.
    #[serde(with = "base64_bytes")]
    pub firmware_log: Vec<u8>,
    /// The log of user space.
    pub phases_log: String,
}

mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
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
    /// What the TPM is known by; nothing without one.
    ///
    /// # Errors
    /// When the TPM does not answer.
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
    /// When it was made for another one.
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
    /// When the TPM does not answer.
    pub async fn device_key(&self, seed: &KeySeed) -> Result<String> {
        match self.call(&Request::DeviceKey { seed: hex::encode(seed) }).await? {
            Response::DeviceKey { public } => Ok(public),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// What the TPM says of the device key of a seed.
    ///
    /// # Errors
    /// When the TPM does not answer.
    pub async fn certify(&self, seed: &KeySeed, occasion: Occasion, channel: &[u8]) -> Result<KeyProof> {
        match self.call(&Request::Certify { seed: hex::encode(seed), occasion, channel: hex::encode(channel) }).await? {
            Response::Certified { key } => Ok(key),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// Has the device key of a seed sign a SHA-256 digest: TPMT_SIGNATURE. Blocks, because TLS asks for a signature where
    /// nothing else can be done meanwhile; the helper is another process.
    ///
    /// # Errors
    /// When the TPM does not answer.
    pub fn sign(&self, seed: &KeySeed, digest: &[u8]) -> Result<Vec<u8>> {
        use std::io::{BufRead, Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&self.socket).context("the helper does not answer")?;
        stream.set_read_timeout(Some(SIGNING))?;
        let request = Request::Sign { seed: hex::encode(seed), digest: hex::encode(digest) };
        stream.write_all(&[&serde_json::to_vec(&request)?[..], b"\n"].concat())?;
        let mut answer = Vec::new();
        std::io::BufReader::new(stream.take(MESSAGE_MAX)).read_until(b'\n', &mut answer)?;
        match serde_json::from_slice(&answer).context("the helper's answer")? {
            Response::Signature { signature } => Ok(base64::engine::general_purpose::STANDARD.decode(signature)?),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
    }
    /// What was measured, as the answer to a question.
    ///
    /// # Errors
    /// When the TPM does not answer, or a log cannot be read.
    pub async fn evidence(&self, nonce: String, device: DeviceId) -> Result<Measured> {
        match self.call(&Request::Evidence { nonce, device }).await? {
            Response::Evidence { measured } => Ok(*measured),
            Response::Failed { detail, .. } => bail!(detail),
            other => bail!("the helper answered {other:?}"),
        }
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
