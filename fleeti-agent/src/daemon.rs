//! The main loop of the daemon.

use crate::announcements::Announcements;
use crate::attestation::Attester;
use crate::driver::{Driver, Parts};
use crate::identity::Identity;
use crate::image;
use crate::outbox::Outbox;
use crate::privileged::Helper;
use crate::session::{self, Incoming};
use crate::vault::Vault;
use crate::{
    Paths, anchors, clock, enrollment, http, identity, kept, search, telemetry, write_durably,
};
use anyhow::Result;
use fleeti_core::strict;
use fleeti_core::wire::device::{
    Acknowledgement, Command, CommandKind, DesiredState, Notice, Outcome,
};
use fleeti_core::wire::mqtt::Down;
use rustls::ClientConfig;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

const TELEMETRY_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum number of remembered commands. A remembered command is not run twice.
const COMMANDS_MAX: usize = 256;

/// How often the daemon asks for a certificate that is due.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Runs until the process ends, or until a change needs a new start, such as a renewed certificate.
///
/// # Errors
/// If the device cannot enroll permanently, or its state cannot be stored.
pub async fn run(paths: Paths) -> Result<()> {
    let helper = Helper::at(paths.socket());
    paths.clock.raise(clock::image_s(&paths.lib)?);
    let boot = helper.boot_summary().await?;
    let identity = load_identity(&paths, &helper).await?;
    let tls = identity.tls(&paths)?;
    let http = http_client(&identity, tls.clone())?;
    let outbox = Arc::new(Outbox::open(&paths.state.join("outbox"))?);
    let outbox_changed = Arc::new(Notify::new());
    let announcements = Arc::new(Announcements::open(&paths)?);
    let (mut driver, mut jobs) = Driver::new(Parts {
        announcements: Arc::clone(&announcements),
        paths: paths.clone(),
        helper: helper.clone(),
        outbox: Arc::clone(&outbox),
        outbox_changed: Arc::clone(&outbox_changed),
        http: http.clone(),
        https_url: identity.server.https_url.clone(),
        boot,
    })?;
    let attester = Arc::new(Attester::new(
        helper.clone(),
        http.clone(),
        identity.server.https_url.clone(),
        identity.device.clone(),
        (Arc::clone(&outbox), Arc::clone(&outbox_changed)),
    ));
    let introduction = attester.introduce();
    tokio::pin!(introduction);
    let mut is_introduced = false;
    let vault =
        Arc::new(Vault::new(helper.clone(), http.clone(), identity.server.https_url.clone()));
    let escrow = vault.escrow();
    tokio::pin!(escrow);
    let mut is_escrowed = false;
    let mut commands = Commands::load(&paths);
    report_broken(&paths, &announcements, &helper).await?;
    driver.started().await?;
    let (notices, noticed) = watch::channel(None);
    let listening = announcements.run(noticed, &http, &identity.server.https_url);
    tokio::pin!(listening);
    let (sender, mut incoming) = mpsc::channel(8);
    let session = session::run(&identity, Arc::new(tls), &outbox, &outbox_changed, sender);
    tokio::pin!(session);
    let mut blessed = Box::pin(wait_blessed(helper.clone()));
    let mut is_blessed = false;
    let mut clock = tokio::time::interval(TELEMETRY_INTERVAL);
    let mut renewal = tokio::time::interval(RENEWAL_INTERVAL);
    let mut reached = false;
    // The same time that a boot on trial has: which version reached the server, and which did not,
    // is compared.
    let patience = Duration::from_secs(image::facts(&paths)?.server_contact.deadline_s.into());
    let mut silent = Box::pin(tokio::time::sleep(patience));
    let mut is_silent = false;
    let search = search::run(&paths, &identity, &helper, patience);
    tokio::pin!(search);
    loop {
        tokio::select! {
            () = &mut session => {}
            () = &mut listening => {}
            () = &mut introduction, if !is_introduced => is_introduced = true,
            () = &mut escrow, if !is_escrowed => is_escrowed = true,
            () = announcements.changed.notified() => driver.announcements().await?,
            () = announcements.stated.notified() => tell_helper_of_checkpoint(&announcements, &helper).await,
            () = announcements.bundle_changed.notified() => {
                // Reports first; the next start sets up TLS with the new bundle.
                driver.report()?;
                return Ok(());
            }
            () = &mut silent, if !reached && !is_silent => {
                is_silent = true;
                driver.silent().await?;
            }
            // A change needs a new start.
            () = &mut search, if !reached => return Ok(()),
            Some(message) = incoming.recv() => {
                if !std::mem::replace(&mut reached, true) {
                    driver.reached().await?;
                }
                handle(&mut driver, &mut commands, &outbox, &helper, (&outbox_changed, &notices), (&announcements, &attester, &vault), message).await?;
            }
            Some(result) = jobs.results.recv() => driver.job_ended(result).await?,
            Some(result) = jobs.boot.recv() => driver.boot_changed(result).await?,
            Ok(()) = jobs.progress.changed() => {
                if jobs.progress.borrow_and_update().is_some() { driver.report()?; }
            }
            () = &mut blessed, if !is_blessed => {
                is_blessed = true;
                driver.blessed().await?;
            }
            // Nothing is written on trial that the previous image could not read.
            _ = renewal.tick(), if is_blessed => {
                if is_renewed(&paths, &identity, &helper).await? { return Ok(()); }
            }
            _ = clock.tick() => {
                outbox.push("telemetry", &serde_json::to_vec(&telemetry::read())?, true)?;
                outbox_changed.notify_one();
            }
        }
    }
}

/// The device's identity, after enrollment if it has none. Sets the host name and names the server.
async fn load_identity(paths: &Paths, helper: &Helper) -> Result<Identity> {
    // Applies moves announced before this start, or to an image with other trust anchors.
    identity::follow(paths, anchors::of_daemon(paths)?.moves())?;
    let identity = enrollment::ensure_enrolled(paths, helper).await?;
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

async fn handle(
    driver: &mut Driver,
    commands: &mut Commands,
    outbox: &Outbox,
    helper: &Helper,
    (changed, notices): (&Notify, &watch::Sender<Option<Notice>>),
    (announcements, attester, vault): (&Announcements, &Arc<Attester>, &Arc<Vault>),
    message: Incoming,
) -> Result<()> {
    match message.kind {
        Down::Desired => match strict::from_slice::<DesiredState>(&message.payload) {
            Ok(desired) => driver.desired(desired).await?,
            Err(e) => tracing::error!("desired state: {e}"),
        },
        Down::Command => match strict::from_slice::<Command>(&message.payload) {
            Ok(command) => {
                apply(driver, commands, outbox, helper, (changed, announcements), command).await?
            }
            Err(e) => tracing::error!("command: {e}"),
        },
        Down::Challenge => answer(attester, &message.payload),
        Down::Secrets => match strict::from_slice(&message.payload) {
            Ok(ticket) => {
                let vault = Arc::clone(vault);
                tokio::spawn(async move { vault.fetch(ticket).await });
            }
            Err(e) => tracing::error!("ticket for secrets: {e}"),
        },
        Down::Notice => match strict::from_slice::<Notice>(&message.payload) {
            Ok(notice) => drop(notices.send_replace(Some(notice))),
            Err(e) => tracing::error!("notice: {e}"),
        },
    }
    message.dealt_with.send(()).ok();
    Ok(())
}

async fn apply(
    driver: &mut Driver,
    commands: &mut Commands,
    outbox: &Outbox,
    helper: &Helper,
    (changed, announcements): (&Notify, &Announcements),
    command: Command,
) -> Result<()> {
    let outcome =
        if driver.now_s() > command.deadline_s { Outcome::Expired } else { Outcome::Done };
    let boot_id = driver.boot_id().to_owned();
    if outcome == Outcome::Done && !commands.is_done(&command, &boot_id) {
        match command.kind {
            CommandKind::Report => driver.report()?,
            CommandKind::ClearAlarm => announcements.clear_alarm()?,
            CommandKind::NewRecoveryKey => helper.forget_recovery_key().await?,
            CommandKind::Reboot => {
                // Stored with this boot first: a reboot counts as done only in another boot.
                commands.remember(&command.id, &boot_id)?;
                helper.reboot().await?;
            }
        }
        commands.remember(&command.id, &boot_id)?;
    }
    let acknowledgement = Acknowledgement { command: command.id, outcome };
    outbox.push("ack", &serde_json::to_vec(&acknowledgement)?, false)?;
    changed.notify_one();
    Ok(())
}

/// Commands that were run, and the boot in which they were; on the data partition, because one of
/// them is a reboot.
struct Commands {
    path: std::path::PathBuf,
    done: VecDeque<(String, String)>,
}

impl Commands {
    fn load(paths: &Paths) -> Self {
        let path = paths.state.join("commands.json");
        let done = kept::read(&path, kept::json).unwrap_or_default();
        Self { path, done }
    }
    /// A reboot is done once the device has booted again; other commands are done once they are
    /// remembered.
    fn is_done(&self, command: &Command, boot_id: &str) -> bool {
        let remembered = self.done.iter().find(|(id, _)| *id == command.id);
        remembered.is_some_and(|(_, boot)| command.kind != CommandKind::Reboot || boot != boot_id)
    }
    fn remember(&mut self, id: &str, boot_id: &str) -> Result<()> {
        if self.done.iter().any(|(known, _)| known == id) {
            return Ok(());
        }
        self.done.push_back((id.to_owned(), boot_id.to_owned()));
        while self.done.len() > COMMANDS_MAX {
            self.done.pop_front();
        }
        self.keep()
    }
    fn keep(&self) -> Result<()> {
        Ok(write_durably(&self.path, &serde_json::to_vec(&self.done)?)?)
    }
}
