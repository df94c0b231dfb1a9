//! Registers the TPM of this device with the server once, and answers challenges of the server.

use crate::backoff::Backoff;
use crate::http::read_document;
use crate::outbox::Outbox;
use crate::privileged::Helper;
use anyhow::ensure;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::attestation::{Challenge, Evidence, TpmProof, TpmSecret};
use fleeti_core::wire::mqtt::{PAYLOAD_MAX, Up};
use reqwest::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// Timeout of a request.
const PATIENCE: Duration = Duration::from_secs(60);
/// Maximum size of a response.
const RESPONSE_MAX: usize = 16 * 1024;

/// The attester of this device (RFC 9334).
pub struct Attester {
    helper: Helper,
    http: reqwest::Client,
    url: String,
    device: DeviceId,
    outbox: Arc<Outbox>,
    /// Held while one challenge is answered.
    answering: Mutex<()>,
    /// The last answer to a challenge: sent, or why not.
    answered: watch::Sender<Result<(), String>>,
}

impl Attester {
    /// The attester of this device.
    #[must_use]
    pub fn new(
        helper: Helper,
        http: reqwest::Client,
        url: String,
        device: DeviceId,
        outbox: Arc<Outbox>,
    ) -> Self {
        let answered = watch::Sender::new(Ok(()));
        Self { helper, http, url, device, outbox, answering: Mutex::default(), answered }
    }

    /// Changes with each challenge that is answered from now on: sent, or why not.
    #[must_use]
    pub fn answered(&self) -> watch::Receiver<Result<(), String>> {
        self.answered.subscribe()
    }

    /// Registers the TPM, until the server has accepted or refused it. Does nothing without a TPM.
    pub async fn introduce(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.introduced().await {
                Ok(true) => return,
                Ok(false) => {
                    tracing::error!("the server refused this TPM");
                    self.helper.say("fleeti: the server refuses this TPM: the device is known by another one").await.ok();
                    return;
                }
                Err(e) => tracing::warn!("registering the TPM: {e:#}"),
            }
            backoff.wait().await;
        }
    }

    /// Whether the server accepted the TPM. It is registered again at each start, because the
    /// server may have lost it.
    async fn introduced(&self) -> anyhow::Result<bool> {
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
        // An older server does not know TPMs.
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
        // A failed proof is repeated. If another TPM is registered, the server refuses before that.
        self.http
            .post(format!("{}/tpm/proved", self.url))
            .json(&proof)
            .timeout(PATIENCE)
            .send()
            .await?
            .error_for_status()?;
        Ok(true)
    }

    /// Answers a challenge, or prints on the console why it cannot; the server then gets no
    /// evidence.
    pub async fn answer(&self, challenge: Challenge) {
        let result = self.send_evidence(challenge).await;
        let answered = match &result {
            Ok(()) => Ok(()),
            Err(e) => Err(format!("{e:#}")),
        };
        self.answered.send_modify(|last| *last = answered);
        if let Err(e) = result {
            tracing::warn!("answering a challenge: {e:#}");
            self.helper
                .say(&format!("fleeti: the TPM does not answer the server: {e:#}"))
                .await
                .ok();
        }
    }

    /// A new challenge waits while another one is answered; the server has dropped the older one.
    async fn send_evidence(&self, challenge: Challenge) -> anyhow::Result<()> {
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
            pcrs: measured.pcrs.into_iter().collect(),
            firmware_log: log_sha256,
            phases_log: measured.phases_log,
        };
        let payload = serde_json::to_vec(&evidence)?;
        // A message above the limit could never be sent, and would block all others.
        ensure!(
            payload.len() <= PAYLOAD_MAX,
            "the evidence has {} bytes, at most {PAYLOAD_MAX} can be sent",
            payload.len()
        );
        // The server no longer accepts answers to older challenges.
        self.outbox.push(Up::Evidence, &payload)
    }
}
