//! Commands of the server: runs each at most once, keeps results until they are uploaded, and
//! answers. [`fleeti_core::command::ledger`] decides; the ledger is stored before what follows from
//! it.

use crate::attestation::Attester;
use crate::backoff::Backoff;
use crate::privileged::{Collect, Helper};
use crate::{Paths, kept, write_durably};
use anyhow::{Context as _, Result};
use fleeti_core::command::ledger::{Context, Effect, Entry, Event, Ledger, Phase};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::command::{CommandKind, Outcome, VALID_S_MAX};
use reqwest::StatusCode;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// How long a command to attest waits for the server's challenge.
const CHALLENGED_WITHIN: Duration = Duration::from_secs(300);
/// Time limit of an upload.
const UPLOADED_WITHIN: Duration = Duration::from_secs(120);

/// The commands of the device.
pub struct Commands {
    path: PathBuf,
    results: PathBuf,
    ledger: Ledger,
    device: DeviceId,
    key_sha256: String,
    helper: Helper,
    attester: Arc<Attester>,
    http: reqwest::Client,
    https_url: String,
    running: HashMap<String, AbortHandle>,
    events: mpsc::Sender<Event>,
    rotations: mpsc::Sender<String>,
}

/// What commands work with.
pub struct Parts<'a> {
    /// File locations.
    pub paths: &'a Paths,
    /// The device.
    pub device: DeviceId,
    /// SHA-256 of its key.
    pub key_sha256: String,
    /// The helper.
    pub helper: Helper,
    /// Answers challenges.
    pub attester: Arc<Attester>,
    /// HTTPS with the device's identity.
    pub http: reqwest::Client,
    /// The server's device port.
    pub https_url: String,
}

/// What happens to commands in the background.
pub struct Background {
    /// Ends of commands.
    pub events: mpsc::Receiver<Event>,
    /// Commands to replace the device key, by id. The caller ends them with an event.
    pub rotations: mpsc::Receiver<String>,
}

impl Commands {
    /// The stored commands.
    ///
    /// # Errors
    /// I/O.
    pub fn load(parts: Parts<'_>) -> Result<(Self, Background)> {
        let Parts { paths, device, key_sha256, helper, attester, http, https_url } = parts;
        let (path, results) =
            (paths.state.join("command-ledger.json"), paths.state.join("results"));
        fs::create_dir_all(&results)?;
        let ledger = match kept::read(&path, kept::json) {
            Some(ledger) => ledger,
            None => of_older_agent(paths),
        };
        let (events, event_receiver) = mpsc::channel(16);
        let (rotations, rotation_receiver) = mpsc::channel(16);
        let running = HashMap::new();
        let commands = Self {
            path,
            results,
            ledger,
            device,
            key_sha256,
            helper,
            attester,
            http,
            https_url,
            running,
            events,
            rotations,
        };
        Ok((commands, Background { events: event_receiver, rotations: rotation_receiver }))
    }

    /// Applies an event and stores the ledger. Returns what must be done then.
    ///
    /// # Errors
    /// If the ledger cannot be stored: then nothing may be done.
    pub fn step(&mut self, event: Event, now_s: u64, boot_id: &str) -> Result<Vec<Effect>> {
        let ctx = Context { now_s, boot_id, key_sha256: &self.key_sha256 };
        let (ledger, effects) = self.ledger.step(event, ctx);
        if ledger != self.ledger {
            write_durably(&self.path, &serde_json::to_vec(&ledger)?)?;
            self.ledger = ledger;
        }
        Ok(effects)
    }

    /// Stops a command and deletes its result.
    pub fn stop(&mut self, id: &str) {
        if let Some(task) = self.running.remove(id) {
            task.abort();
        }
        fs::remove_file(self.results.join(id)).ok();
    }

    /// Runs a command that ends later, with an event. Returns an event if it has ended already;
    /// `None` for kinds that the caller runs.
    pub async fn run(&mut self, entry: &Entry) -> Option<Event> {
        let id = entry.id.clone();
        let end = |result: Result<String>| {
            Some(Event::Finished(id.clone(), result.map_err(|e| format!("{e:#}"))))
        };
        match entry.kind.as_ref()? {
            CommandKind::Report | CommandKind::ClearAlarm => None,
            CommandKind::NewRecoveryKey => {
                end(self.helper.forget_recovery_key().await.map(|()| String::new()))
            }
            CommandKind::TrySecrets => end(self.helper.try_secrets().await.map(|()| String::new())),
            // It is done in another boot.
            CommandKind::Reboot => end_if_failed(id, self.helper.reboot().await),
            CommandKind::Attest => self.attest(id),
            CommandKind::RotateKey => {
                self.rotations.try_send(id.clone()).err().and_then(|e| end(Err(e.into())))
            }
            CommandKind::Logs { unit } => self.collect(id, Collect::Logs { unit: unit.clone() }),
            CommandKind::Diagnostic { name } => {
                self.collect(id, Collect::Diagnostic { name: name.clone() })
            }
            CommandKind::SupportBundle { key } => {
                self.collect(id, Collect::SupportBundle { key: key.clone() })
            }
            CommandKind::FactoryReset { device } if *device != self.device => {
                end(Err(anyhow::anyhow!("the command names {device}, and this is another device")))
            }
            CommandKind::FactoryReset { .. } => match self.helper.factory_reset(&id).await {
                Ok(Some(wiped)) => end(Ok(format!("{wiped} directories are emptied"))),
                // The next boot makes it, whenever that is: only then is it known what became of it.
                Ok(None) => {
                    if let Err(e) = self.helper.reboot().await {
                        tracing::error!("the factory reset waits for a reboot: {e:#}");
                    }
                    None
                }
                Err(e) => end(Err(e)),
            },
        }
    }

    fn attest(&mut self, id: String) -> Option<Event> {
        // Before the challenge is read, which follows the command.
        let (helper, mut answered) = (self.helper.clone(), self.attester.answered());
        self.spawn(id.clone(), async move {
            let waited = async {
                anyhow::ensure!(helper.tpm_identity().await?.is_some(), "the device has no TPM");
                tokio::time::timeout(CHALLENGED_WITHIN, answered.changed())
                    .await
                    .context("the server sent no challenge")??;
                answered.borrow().clone().map_err(anyhow::Error::msg)
            };
            let result = waited.await.map(|()| "the evidence is sent".to_owned());
            Event::Finished(id, result.map_err(|e| format!("{e:#}")))
        })
    }

    fn collect(&mut self, id: String, what: Collect) -> Option<Event> {
        let (helper, path) = (self.helper.clone(), self.results.join(&id));
        self.spawn(id.clone(), async move {
            let collected = async {
                let (bytes, detail) = helper.collect(what).await?;
                write_durably(&path, &bytes)?;
                anyhow::Ok(detail)
            };
            match collected.await {
                Ok(detail) => Event::Produced(id, detail),
                Err(e) => Event::Finished(id, Err(format!("{e:#}"))),
            }
        })
    }

    /// Uploads a stored result, until the server takes or refuses it.
    pub fn upload(&mut self, id: String) {
        let path = self.results.join(&id);
        let (http, url) = (self.http.clone(), format!("{}/commands/{id}/result", self.https_url));
        self.spawn(id.clone(), async move {
            let mut backoff = Backoff::default();
            loop {
                let uploaded = match fs::read(&path) {
                    Ok(bytes) => upload(&http, &url, bytes).await,
                    Err(e) => Ok(Err(format!("the result is lost: {e}"))),
                };
                match uploaded {
                    Ok(result) => return Event::Uploaded(id, result),
                    Err(e) => tracing::warn!("the result of {id}: {e:#}"),
                }
                backoff.wait().await;
            }
        });
    }

    fn spawn(
        &mut self,
        id: String,
        task: impl Future<Output = Event> + Send + 'static,
    ) -> Option<Event> {
        let events = self.events.clone();
        let handle = tokio::spawn(async move {
            let event = task.await;
            events.send(event).await.ok();
        });
        self.running.retain(|_, task| !task.is_finished());
        self.running.insert(id, handle.abort_handle());
        None
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        for task in self.running.values() {
            task.abort();
        }
    }
}

fn end_if_failed(id: String, result: Result<()>) -> Option<Event> {
    result.err().map(|e| Event::Finished(id, Err(format!("{e:#}"))))
}

/// The inner error is a refusal, which another attempt would get as well.
async fn upload(http: &reqwest::Client, url: &str, bytes: Vec<u8>) -> Result<Result<(), String>> {
    let response = http.put(url).body(bytes).timeout(UPLOADED_WITHIN).send().await?;
    match response.status() {
        status if status.is_success() => Ok(Ok(())),
        status @ (StatusCode::NOT_FOUND
        | StatusCode::CONFLICT
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY
        | StatusCode::BAD_REQUEST) => Ok(Err(format!("the server refused the result: {status}"))),
        status => anyhow::bail!("the server answered {status}"),
    }
}

/// What an older agent has run: `commands.json` has ids of commands and of boots.
fn of_older_agent(paths: &Paths) -> Ledger {
    let path = paths.state.join("commands.json");
    let done: Vec<(String, String)> = kept::read(&path, kept::json).unwrap_or_default();
    let deadline_s = paths.clock.now_s().saturating_add(VALID_S_MAX.into());
    let entry = |(id, boot_id)| Entry {
        id,
        kind: None,
        deadline_s,
        boot_id,
        key_sha256: String::new(),
        phase: Phase::Ended { outcome: Outcome::Done, detail: String::new() },
    };
    Ledger { entries: done.into_iter().map(entry).collect() }
}
