//! What the server keeps for this device and what it gives to it: the recovery key of the data
//! partition goes up once, the secrets of the fleet come down at each boot.

use crate::backoff::Backoff;
use crate::http::read_document;
use crate::privileged::Helper;
use anyhow::{Result, ensure};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::vault::{
    FetchSecrets, RecoveryKey, SECRET_MAX, SECRETS_MAX, Secrets, SecretsTicket, TICKET_S,
};
use reqwest::StatusCode;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long the server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest answer that is read: base64, names and what is around them.
const SECRETS_BYTES_MAX: usize = SECRETS_MAX * (SECRET_MAX * 4 / 3 + 128) + 1024;

/// This device's end of it.
pub struct Vault {
    helper: Helper,
    http: reqwest::Client,
    url: String,
    /// Which secrets are here; held while others are fetched.
    version: Mutex<Option<u64>>,
}

impl Vault {
    /// One for this device.
    #[must_use]
    pub fn new(helper: Helper, http: reqwest::Client, url: String) -> Self {
        Self { helper, http, url, version: Mutex::default() }
    }

    /// Gives the recovery key to the server, until the server has it.
    pub async fn escrow(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.escrowed().await {
                Ok(()) => return,
                Err(e) => tracing::warn!("the recovery key: {e:#}"),
            }
            backoff.wait().await;
        }
    }

    async fn escrowed(&self) -> Result<()> {
        let Some(key) = self.helper.recovery_key().await? else { return Ok(()) };
        let sha256 = sha256_hex(key.expose().as_bytes());
        let response = self
            .http
            .put(format!("{}/recovery-key", self.url))
            .json(&RecoveryKey { key })
            .timeout(PATIENCE)
            .send()
            .await?;
        // A server that keeps none is an older one; the next boot tries again.
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        response.error_for_status()?;
        self.helper.recovery_key_kept(sha256).await?;
        self.helper.say("fleeti: the server keeps the recovery key of the data partition").await
    }

    /// Fetches the secrets of the fleet by a ticket, unless they are here; again while the ticket
    /// is good.
    pub async fn fetch(&self, ticket: SecretsTicket) {
        let mut backoff = Backoff::default();
        let until = Instant::now() + Duration::from_secs(TICKET_S);
        while let Err(e) = self.fetched(ticket.clone()).await {
            tracing::warn!("the secrets of the fleet: {e:#}");
            // Whoever gave the ticket gives another one when the TPM has answered again.
            if Instant::now() >= until || is_refused(&e) {
                return;
            }
            backoff.wait().await;
        }
    }

    async fn fetched(&self, SecretsTicket { ticket, version }: SecretsTicket) -> Result<()> {
        let mut held = self.version.lock().await;
        if *held == Some(version) {
            return Ok(());
        }
        let sent = self
            .http
            .post(format!("{}/secrets", self.url))
            .json(&FetchSecrets { ticket })
            .timeout(PATIENCE)
            .send()
            .await?;
        let secrets: Secrets =
            read_document("the server's secrets", sent.error_for_status()?, SECRETS_BYTES_MAX)
                .await?;
        ensure!(
            secrets.secrets.len() <= SECRETS_MAX,
            "{} secrets are too many",
            secrets.secrets.len()
        );
        let (version, count) = (secrets.version, secrets.secrets.len());
        self.helper
            .put_secrets(
                secrets
                    .secrets
                    .into_iter()
                    .map(|(name, secret)| (name.to_string(), secret))
                    .collect(),
            )
            .await?;
        *held = Some(version);
        self.helper.say(&format!("fleeti: {count} secrets of the fleet have come")).await
    }
}

/// Whether the server does not take the ticket, now or ever.
fn is_refused(e: &anyhow::Error) -> bool {
    e.downcast_ref::<reqwest::Error>().and_then(reqwest::Error::status)
        == Some(StatusCode::FORBIDDEN)
}
