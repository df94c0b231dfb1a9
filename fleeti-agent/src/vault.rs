//! What device and server exchange to keep or use: the recovery key of the data partition goes to
//! the server once, and the secrets of the fleet come to the device at each boot.

use crate::backoff::Backoff;
use crate::boot_secrets::{Delivery, Seen};
use crate::http::read_document;
use crate::privileged::Helper;
use anyhow::{Result, ensure};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::vault::{
    FetchSecrets, RecoveryKey, SECRET_MAX, SECRETS_MAX, Secrets, SecretsTicket, TICKET_S,
};
use reqwest::StatusCode;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify, watch};

/// Timeout of a request.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause after the helper did not answer.
const HELPER_PAUSE: Duration = Duration::from_secs(5);
/// Maximum size of a response: base64, names and framing.
const SECRETS_BYTES_MAX: usize = SECRETS_MAX * (SECRET_MAX * 4 / 3 + 128) + 1024;

/// The device's end of the vault.
pub struct Vault {
    helper: Helper,
    http: reqwest::Client,
    url: String,
    /// The generation of the secrets of the boot with which the server is reached.
    generation: u64,
    /// Which version of the secrets is on the device; locked while secrets are fetched.
    version: Mutex<Option<u64>>,
}

impl Vault {
    /// The vault client of this device.
    #[must_use]
    pub fn new(helper: Helper, http: reqwest::Client, url: String, generation: u64) -> Self {
        Self { helper, http, url, generation, version: Mutex::default() }
    }

    /// Sends the recovery key to the server, and retries until the server has it.
    pub async fn escrow(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.escrowed().await {
                Ok(()) => return,
                Err(e) => tracing::warn!("sending the recovery key: {e:#}"),
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
        // An older server keeps no recovery keys; the next boot tries again.
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        response.error_for_status()?;
        self.helper.recovery_key_kept(sha256).await?;
        self.helper.say("fleeti: the server keeps the recovery key of the data partition").await
    }

    /// Fetches the secrets of the fleet with a ticket, unless the device has them; retries while
    /// the ticket is valid.
    pub async fn fetch(&self, ticket: SecretsTicket) {
        let mut backoff = Backoff::default();
        let until = Instant::now() + Duration::from_secs(TICKET_S);
        while let Err(e) = self.fetched(ticket.clone()).await {
            tracing::warn!("fetching the secrets of the fleet: {e:#}");
            // The server issues another ticket when the TPM has answered again.
            if Instant::now() >= until || is_refused(&e) {
                return;
            }
            backoff.wait().await;
        }
    }

    async fn fetched(&self, SecretsTicket { ticket, version }: SecretsTicket) -> Result<()> {
        let mut known = self.version.lock().await;
        if *known == Some(version) {
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
        let delivery = Delivery {
            secrets: secrets.secrets.into_iter().map(|(n, s)| (n.to_string(), s)).collect(),
            changes: secrets.changes.into_iter().map(|(n, c)| (n.to_string(), c)).collect(),
            generation: self.generation,
        };
        self.helper.put_secrets(delivery).await?;
        *known = Some(version);
        self.helper.say(&format!("fleeti: received {count} secrets of the fleet")).await
    }
}

/// Tells the helper of each session with the server, until another secret must be used to reach it.
/// `changed` gets a permit for each report that is due.
pub async fn keep_contact(
    helper: &Helper,
    mut is_online: watch::Receiver<bool>,
    mut seen: Seen,
    changed: &Notify,
) {
    let generation = seen.generation;
    // First that there is no session: the daemon that had the last one may not have said that it
    // ended.
    is_online.mark_changed();
    while seen.generation == generation {
        // One call, however many sessions there are: the helper keeps it open until it has news.
        let mut news = pin!(helper.boot_secrets(Some(seen)));
        let given = loop {
            tokio::select! {
                given = &mut news => break given,
                online = is_online.changed() => {
                    if online.is_err() {
                        return;
                    }
                    let is_reached = *is_online.borrow_and_update();
                    if let Err(e) = helper.contact(generation, is_reached).await {
                        tracing::warn!("{e:#}");
                        tokio::time::sleep(HELPER_PAUSE).await;
                        is_online.mark_changed();
                    }
                }
            }
        };
        match given {
            Ok(given) => {
                seen = given.seen;
                changed.notify_one();
            }
            Err(e) => {
                tracing::warn!("{e:#}");
                tokio::time::sleep(HELPER_PAUSE).await;
            }
        }
    }
}

/// Whether the server refuses the ticket permanently.
fn is_refused(e: &anyhow::Error) -> bool {
    e.downcast_ref::<reqwest::Error>().and_then(reqwest::Error::status)
        == Some(StatusCode::FORBIDDEN)
}
