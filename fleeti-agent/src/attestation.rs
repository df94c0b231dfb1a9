//! Shows the TPM of this device to the server once, and answers what the server asks of it.

use crate::backoff::Backoff;
use crate::http::read_document;
use crate::outbox::Outbox;
use crate::privileged::Helper;
use anyhow::{Result, ensure};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::attestation::{Challenge, Evidence, TpmProof, TpmSecret};
use fleeti_core::wire::mqtt::PAYLOAD_MAX;
use reqwest::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// How long the server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest answer that is read.
const RESPONSE_MAX: usize = 16 * 1024;

/// What evidence is called in the outbox.
pub const LEAF: &str = "evidence";

/// What speaks for the TPM of this device.
pub struct Attester {
    helper: Helper,
    http: reqwest::Client,
    url: String,
    device: DeviceId,
    outbox: Arc<Outbox>,
    outbox_changed: Arc<Notify>,
    /// Held while one question is answered.
    answering: Mutex<()>,
}

impl Attester {
    /// One for this device.
    #[must_use]
    pub fn new(
        helper: Helper,
        http: reqwest::Client,
        url: String,
        device: DeviceId,
        (outbox, outbox_changed): (Arc<Outbox>, Arc<Notify>),
    ) -> Self {
        Self { helper, http, url, device, outbox, outbox_changed, answering: Mutex::default() }
    }

    /// Shows the TPM, until the server has taken or refused it. A device without one has nothing to
    /// show.
    pub async fn introduce(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.introduced().await {
                Ok(true) => return,
                Ok(false) => {
                    tracing::error!("the server refuses this TPM");
                    self.helper.say("fleeti: the server refuses this TPM: the device is known by another one").await.ok();
                    return;
                }
                Err(e) => tracing::warn!("showing the TPM: {e:#}"),
            }
            backoff.wait().await;
        }
    }

    /// Whether the server took it; it is asked anew at each start, because it may have lost what it
    /// knew.
    async fn introduced(&self) -> Result<bool> {
        let Some(identity) = self.helper.tpm_identity().await? else { return Ok(true) };
        let response = self
            .http
            .post(format!("{}/tpm", self.url))
            .json(&identity)
            .timeout(PATIENCE)
            .send()
            .await?;
        if response.status() == StatusCode::FORBIDDEN {
            return Ok(false);
        }
        // A server that knows no TPMs is an older one.
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(true);
        }
        let secret: TpmSecret =
            read_document("the server's secret", response.error_for_status()?, RESPONSE_MAX)
                .await?;
        let proof = TpmProof {
            id: secret.id,
            secret: self.helper.tpm_activate(secret.blob, secret.secret).await?,
        };
        // A proof that comes to nothing is shown anew; that the TPM is another one's, the server
        // says before it.
        self.http
            .post(format!("{}/tpm/proved", self.url))
            .json(&proof)
            .timeout(PATIENCE)
            .send()
            .await?
            .error_for_status()?;
        Ok(true)
    }

    /// Answers a question, or says on the console why it cannot: whoever asked sees that nothing
    /// came.
    pub async fn answer(&self, challenge: Challenge) {
        if let Err(e) = self.answered(challenge).await {
            tracing::warn!("the TPM's answer: {e:#}");
            self.helper
                .say(&format!("fleeti: the TPM does not answer the server: {e:#}"))
                .await
                .ok();
        }
    }

    /// One that comes while another one is answered waits; whoever asked has forgotten the older
    /// one.
    async fn answered(&self, challenge: Challenge) -> Result<()> {
        let _one = self.answering.lock().await;
        let measured = self.helper.evidence(challenge.nonce, self.device.clone()).await?;
        let log_sha256 = sha256_hex(&measured.firmware_log);
        if challenge.firmware_log.as_ref() != Some(&log_sha256) {
            let url = format!("{}/logs/{log_sha256}", self.url);
            self.http
                .put(url)
                .body(measured.firmware_log)
                .timeout(PATIENCE)
                .send()
                .await?
                .error_for_status()?;
        }
        let evidence = Evidence {
            challenge: challenge.id,
            quote: measured.quote,
            signature: measured.signature,
            registers: measured.registers.into_iter().collect(),
            firmware_log: log_sha256,
            phases_log: measured.phases_log,
        };
        let payload = serde_json::to_vec(&evidence)?;
        // What no message can carry would stand before every other one for ever.
        ensure!(
            payload.len() <= PAYLOAD_MAX,
            "evidence of {} bytes, {PAYLOAD_MAX} at the most",
            payload.len()
        );
        // An answer to an older question is nobody's any more.
        self.outbox.push(LEAF, &payload, true)?;
        self.outbox_changed.notify_one();
        Ok(())
    }
}
