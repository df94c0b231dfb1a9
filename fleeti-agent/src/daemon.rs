//! The main loop of the daemon.

use crate::announcements::Announcements;
use crate::attestation::Attester;
use crate::boot_secrets::{Given, Seen};
use crate::commands::{self, Background, Commands};
use crate::driver::{Driver, Jobs, Parts};
use crate::identity::Identity;
use crate::image;
use crate::outbox::Outbox;
use crate::privileged::Helper;
use crate::reach::Credential;
use crate::session::{self, Incoming};
use crate::vault::{self, Vault};
use crate::{Paths, anchors, clock, enrollment, http, identity, kept, search, telemetry};
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::command::ledger::{Effect, Entry, Event};
use fleeti_core::strict;
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::boot::BootSummary;
use fleeti_core::wire::command::{Cancellation, Command, CommandKind};
use fleeti_core::wire::device::{DesiredState, Notice};
use fleeti_core::wire::mqtt::{Down, Up};
use rustls::ClientConfig;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use zeroize::Zeroizing;

const TELEMETRY_INTERVAL: Duration = Duration::from_secs(60);

/// How often the daemon asks for a certificate that is due.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Runs until the process ends, or until a change needs a new start, such as a renewed certificate.
///
/// # Errors
/// If the device cannot enroll permanently, or its state cannot be stored.
pub async fn run(paths: Paths) -> Result<()> {
    let helper = Helper::at(paths.socket());
    let Begun { seen, boot, identity, tls, http } = begin(&paths, &helper).await?;
    let parts = Outside { paths: &paths, helper: &helper, identity: &identity, http: &http };
    let (mut daemon, mut jobs, noticed, mut background) = Daemon::new(parts, boot, seen)?;
    daemon.started(&paths).await?;
    let (outbox, announcements) = (Arc::clone(&daemon.outbox), Arc::clone(&daemon.announcements));
    let (attester, vault) = (Arc::clone(&daemon.attester), Arc::clone(&daemon.vault));
    let mut introduction = pin!(attester.introduce());
    let mut escrow = pin!(vault.escrow());
    let mut listening = pin!(announcements.run(noticed, &http, &identity.server.https_url));
    let (sender, mut incoming) = mpsc::channel(8);
    let (is_online, online) = watch::channel(false);
    let mut session = pin!(session::run(&identity, Arc::new(tls), &outbox, sender, is_online));
    let secrets_changed = Notify::new();
    let mut contact = pin!(vault::keep_contact(&helper, online, seen, &secrets_changed));
    let mut blessed = pin!(wait_blessed(helper.clone()));
    let mut clock = tokio::time::interval(TELEMETRY_INTERVAL);
    let mut renewal = tokio::time::interval(RENEWAL_INTERVAL);
    let (mut is_introduced, mut is_escrowed, mut is_blessed) = (false, false, false);
    let (mut reached, mut is_silent) = (false, false);
    // The same time that a boot on trial has: which version reached the server, and which did not,
    // is compared.
    let patience = Duration::from_secs(image::facts(&paths)?.server_contact.deadline_s.into());
    let mut silent = pin!(tokio::time::sleep(patience));
    let mut search = pin!(search::run(&paths, &identity, &helper, patience));
    loop {
        tokio::select! {
            () = &mut session => {}
            () = &mut listening => {}
            () = &mut introduction, if !is_introduced => is_introduced = true,
            () = &mut escrow, if !is_escrowed => is_escrowed = true,
            () = announcements.changed.notified() => daemon.driver.announcements().await?,
            () = announcements.stated.notified() => tell_helper_of_checkpoint(&announcements, &helper).await,
            () = announcements.bundle_changed.notified() => {
                // Reports first; the next start sets up TLS with the new bundle.
                return daemon.driver.report();
            }
            () = &mut silent, if !reached && !is_silent => {
                is_silent = true;
                daemon.driver.silent().await?;
            }
            // A change needs a new start, as does another secret with which the server is reached.
            () = &mut search, if !reached => return Ok(()),
            () = &mut contact => return Ok(()),
            () = secrets_changed.notified() => daemon.driver.secrets_changed().await?,
            Some(message) = incoming.recv() => {
                if !std::mem::replace(&mut reached, true) {
                    daemon.driver.reached().await?;
                }
                daemon.handle(message).await?;
            }
            Some(result) = jobs.results.recv() => daemon.driver.job_ended(result).await?,
            Some(event) = background.events.recv() => daemon.command(event).await?,
            // As a renewal, not on trial.
            Some(id) = background.rotations.recv(), if is_blessed => {
                if daemon.rotate(id, parts).await? { return Ok(()); }
            }
            Some(result) = jobs.boot.recv() => daemon.driver.boot_changed(result).await?,
            Ok(()) = jobs.progress.changed() => {
                if jobs.progress.borrow_and_update().is_some() { daemon.driver.report()?; }
            }
            () = &mut blessed, if !is_blessed => {
                is_blessed = true;
                daemon.driver.blessed().await?;
            }
            // Nothing is written on trial that the previous image could not read.
            _ = renewal.tick(), if is_blessed => {
                if is_renewed(&paths, &identity, &helper).await? { return Ok(()); }
            }
            _ = clock.tick() => daemon.minute_passed().await?,
        }
    }
}

/// What is there before the parts.
struct Begun {
    seen: Seen,
    boot: BootSummary,
    identity: Identity,
    tls: ClientConfig,
    http: reqwest::Client,
}

async fn begin(paths: &Paths, helper: &Helper) -> Result<Begun> {
    paths.clock.raise(clock::image_s(&paths.lib)?);
    let Given { seen, proxy } = helper.boot_secrets(None).await?;
    let boot = helper.boot_summary().await?;
    let identity = load_identity(paths, helper, proxy).await?;
    let tls = identity.tls(paths)?;
    let http = http_client(&identity, tls.clone())?;
    Ok(Begun { seen, boot, identity, tls, http })
}

/// The device's identity, after enrollment if it has none. Sets the host name and names the server.
async fn load_identity(paths: &Paths, helper: &Helper, proxy: Option<Secret>) -> Result<Identity> {
    // Applies moves announced before this start, or to an image with other trust anchors.
    identity::follow(paths, anchors::of_daemon(paths)?.moves())?;
    let mut identity = enrollment::ensure_enrolled(paths, helper).await?;
    identity.server.credential = proxy.and_then(|secret| {
        let read = STANDARD.decode(secret.expose()).context("the secret for the proxy");
        let read = read.and_then(|bytes| Credential::parse(&Zeroizing::new(bytes)));
        // Without it the server is not reached, and the previous value returns.
        read.inspect_err(|e| tracing::error!("{e:#}")).ok()
    });
    helper.set_hostname(identity.device.clone()).await.ok();
    helper
        .say(&format!("fleeti: device {} at {}", identity.device, identity.server.https_url))
        .await
        .ok();
    Ok(identity)
}

fn http_client(identity: &Identity, tls: ClientConfig) -> Result<reqwest::Client> {
    let proxy = identity.server.proxy()?;
    let client = http::client(tls, proxy.as_ref())?
        .connect_timeout(Duration::from_secs(20))
        .read_timeout(Duration::from_secs(30))
        .build()?;
    Ok(client)
}

/// Reports the newest checkpoint of the audit log to the helper, as a signed time.
async fn tell_helper_of_checkpoint(announcements: &Announcements, helper: &Helper) {
    if let Some((note, entries)) = announcements.newest_checkpoint() {
        helper.say(&format!("fleeti: the audit log has {entries} entries")).await.ok();
        helper.signed_time(note).await.unwrap_or_else(|e| tracing::warn!("{e:#}"));
    }
}

/// Renews the certificate if that is due. `false` if it was not renewed.
async fn is_renewed(paths: &Paths, identity: &Identity, helper: &Helper) -> Result<bool> {
    if !identity.is_due(paths.clock.now_s())? {
        return Ok(false);
    }
    match enrollment::renew(paths, identity, helper).await {
        Ok(()) => Ok(true),
        Err(e) => {
            tracing::warn!("the certificate was not renewed: {e:#}");
            Ok(false)
        }
    }
}

/// Reports files that could not be read, of daemon and helper. Once they are stored as an alarm,
/// they need not be reported again.
async fn report_broken(
    paths: &Paths,
    announcements: &Announcements,
    helper: &Helper,
) -> Result<()> {
    let folders = [paths.state.clone(), paths.state.join("outbox")];
    let own = folders.iter().flat_map(|folder| kept::unreported(folder));
    let of_helper = helper.set_aside().await.unwrap_or_else(|e| {
        tracing::warn!("{e:#}");
        vec![]
    });
    announcements.report_broken(&own.chain(of_helper).collect::<Vec<_>>())?;
    folders.iter().for_each(|folder| kept::reported(folder));
    helper.set_aside_reported().await.unwrap_or_else(|e| tracing::warn!("{e:#}"));
    Ok(())
}

/// Answers a challenge in the background, because a TPM is slow.
fn answer(attester: &Arc<Attester>, payload: &[u8]) {
    let challenge = match strict::from_slice(payload) {
        Ok(challenge) => challenge,
        Err(e) => return tracing::error!("challenge: {e}"),
    };
    let attester = Arc::clone(attester);
    tokio::spawn(async move { attester.answer(challenge).await });
}

async fn wait_blessed(helper: Helper) {
    while let Err(e) = helper.wait_blessed().await {
        tracing::warn!("{e:#}");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// The parts that process messages of the server.
struct Daemon {
    driver: Driver,
    commands: Commands,
    outbox: Arc<Outbox>,
    helper: Helper,
    announcements: Arc<Announcements>,
    attester: Arc<Attester>,
    vault: Arc<Vault>,
    notices: watch::Sender<Option<Notice>>,
}

/// What the parts work with.
#[derive(Clone, Copy)]
struct Outside<'a> {
    paths: &'a Paths,
    helper: &'a Helper,
    identity: &'a Identity,
    http: &'a reqwest::Client,
}

impl Daemon {
    /// The parts, the results of the driver's jobs, the notices for the announcements, and what
    /// happens to commands.
    fn new(
        outside: Outside<'_>,
        boot: BootSummary,
        seen: Seen,
    ) -> Result<(Self, Jobs, watch::Receiver<Option<Notice>>, Background)> {
        let Outside { paths, helper, identity, http } = outside;
        let https_url = &identity.server.https_url;
        let outbox = Arc::new(Outbox::open(&paths.state.join("outbox"))?);
        let announcements = Arc::new(Announcements::open(paths)?);
        let (driver, jobs) = Driver::new(Parts {
            announcements: Arc::clone(&announcements),
            paths: paths.clone(),
            helper: helper.clone(),
            outbox: Arc::clone(&outbox),
            http: http.clone(),
            https_url: https_url.clone(),
            boot,
        })?;
        let attester = Arc::new(Attester::new(
            helper.clone(),
            http.clone(),
            https_url.clone(),
            identity.device.clone(),
            Arc::clone(&outbox),
        ));
        let (commands, background) = Commands::load(commands::Parts {
            paths,
            device: identity.device.clone(),
            key_sha256: sha256_hex(identity.signer().public_key_der()),
            helper: helper.clone(),
            attester: Arc::clone(&attester),
            http: http.clone(),
            https_url: https_url.clone(),
        })?;
        let vault = Vault::new(helper.clone(), http.clone(), https_url.clone(), seen.generation);
        let (notices, noticed) = watch::channel(None);
        let daemon = Self {
            driver,
            commands,
            outbox,
            helper: helper.clone(),
            announcements,
            attester,
            vault: Arc::new(vault),
            notices,
        };
        Ok((daemon, jobs, noticed, background))
    }

    /// Handles a boot, or a restart of the agent.
    async fn started(&mut self, paths: &Paths) -> Result<()> {
        report_broken(paths, &self.announcements, &self.helper).await?;
        self.driver.started().await?;
        self.command(Event::Started).await
    }

    /// Sends telemetry, and looks whether a window has opened.
    async fn minute_passed(&mut self) -> Result<()> {
        self.outbox.push(Up::Telemetry, &serde_json::to_vec(&telemetry::read())?)?;
        self.driver.look().await
    }

    async fn handle(&mut self, message: Incoming) -> Result<()> {
        match message.kind {
            Down::Desired => match DesiredState::parse(&message.payload) {
                Ok(desired) => self.driver.desired(desired).await?,
                Err(e) => tracing::error!("{e}"),
            },
            Down::Command => match command_of(&message.payload) {
                Ok(event) => self.command(event).await?,
                Err(e) => tracing::error!("command: {e}"),
            },
            Down::Challenge => answer(&self.attester, &message.payload),
            Down::Secrets => match strict::from_slice(&message.payload) {
                Ok(ticket) => {
                    let vault = Arc::clone(&self.vault);
                    tokio::spawn(async move { vault.fetch(ticket).await });
                }
                Err(e) => tracing::error!("ticket for secrets: {e}"),
            },
            Down::Notice => match strict::from_slice::<Notice>(&message.payload) {
                Ok(notice) => drop(self.notices.send_replace(Some(notice))),
                Err(e) => tracing::error!("notice: {e}"),
            },
        }
        message.dealt_with.send(()).ok();
        Ok(())
    }

    /// Applies an event of commands, and what follows from it.
    async fn command(&mut self, event: Event) -> Result<()> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let (now_s, boot_id) = (self.driver.now_s(), self.driver.boot_id().to_owned());
            for effect in self.commands.step(event, now_s, &boot_id)? {
                match effect {
                    Effect::Run(entry) => events.extend(self.run_command(&entry).await?),
                    Effect::Stop(id) => self.commands.stop(&id),
                    Effect::Upload(id) => self.commands.upload(id),
                    Effect::Answer(answer) => {
                        self.outbox.push(Up::Acknowledgement, &serde_json::to_vec(&answer)?)?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn run_command(&mut self, entry: &Entry) -> Result<Option<Event>> {
        match entry.kind {
            Some(CommandKind::Report) => self.driver.report()?,
            Some(CommandKind::ClearAlarm) => self.announcements.clear_alarm()?,
            None
            | Some(
                CommandKind::Reboot
                | CommandKind::NewRecoveryKey
                | CommandKind::TrySecrets
                | CommandKind::Attest
                | CommandKind::RotateKey
                | CommandKind::Logs { .. }
                | CommandKind::Diagnostic { .. }
                | CommandKind::SupportBundle { .. }
                | CommandKind::FactoryReset { .. },
            ) => return Ok(self.commands.run(entry).await),
        }
        Ok(Some(Event::Finished(entry.id.clone(), Ok(String::new()))))
    }

    /// Replaces the device key for a command. Whether the daemon must start again with it.
    async fn rotate(&mut self, id: String, outside: Outside<'_>) -> Result<bool> {
        let renewed = enrollment::renew(outside.paths, outside.identity, outside.helper).await;
        let is_renewed = renewed.is_ok();
        let result = renewed.map(|()| "the device has a new key".to_owned());
        self.command(Event::Finished(id, result.map_err(|e| format!("{e:#}")))).await?;
        Ok(is_renewed)
    }
}

/// What a message on the topic of commands asks for.
fn command_of(payload: &[u8]) -> Result<Event, serde_json::Error> {
    match strict::from_slice::<Cancellation>(payload) {
        Ok(cancellation) => Ok(Event::Cancelled(cancellation)),
        Err(_) => strict::from_slice::<Command>(payload).map(Event::Received),
    }
}
