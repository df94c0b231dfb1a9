//! A device in memory: the real agent (daemon, enrollment, session, proxy and driver) on a
//! simulated host with slots. It stages a version by downloading and checking every payload, and
//! "reboots" by restarting the agent.
//!
//! ```no_run
//! # async fn example(record: fleeti_core::wire::enrollment::EnrollmentRecord) -> anyhow::Result<()> {
//! use fleeti_testkit::host::{Host, Setup};
//! let setup = Setup { dir: "/tmp/device-1".into(), public: "pki/public".into(), running: "kiosk@1".parse()?, record, is_healthy: true };
//! Host::new(setup)?.run().await
//! # }
//! ```

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use fleeti_agent::Paths;
use fleeti_agent::boot_secrets::Keeper;
use fleeti_agent::identity::Identity;
use fleeti_agent::privileged::collect::{self, Collected};
use fleeti_agent::privileged::{MESSAGE_MAX, Request, Response, StageRequest, reset, secrets};
use fleeti_agent::{anchors, boot_secrets, kept, release_log, storage};
use fleeti_core::id::{ReleaseName, Version};
use fleeti_core::strict;
use fleeti_core::update::{FailureCode, RollbackReason};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::boot::{BootSummary, FirmwareKeys, Slot, Verity};
use fleeti_core::wire::device::ReleaseProof;
use fleeti_core::wire::enrollment::EnrollmentRecord;
use fleeti_pki::manifest::{self, Signature};
use futures::StreamExt;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// Settings of a device in memory.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Folder of the device.
    pub dir: PathBuf,
    /// Public keys, as in an image.
    pub public: PathBuf,
    /// Version that it runs at first.
    pub running: ReleaseName,
    /// Enrollment record.
    pub record: EnrollmentRecord,
    /// Whether the next version passes its health checks.
    pub is_healthy: bool,
}

struct State {
    running: ReleaseName,
    slot: Slot,
    boots: u64,
    staged: Option<Version>,
    armed: Option<Version>,
    rolled_back: Option<Version>,
    /// Version that ran on trial and did not reach the server in time.
    unreached: Option<Version>,
    /// Version that runs on trial, and the previous version.
    trial: Option<(Version, Version)>,
    boot_change: u64,
}

/// A device in memory.
pub struct Host {
    paths: Paths,
    setup: Setup,
    /// Time limit of a trial boot to reach the server; `None` keeps it at once.
    deadline: Option<Duration>,
    state: Mutex<State>,
    reboot: Notify,
    reached: watch::Sender<bool>,
    on_hold: watch::Sender<bool>,
    declared: Vec<fleeti_core::profile::Secret>,
    keeper: Mutex<Arc<Keeper>>,
}

impl Host {
    /// A device with the files of an image in its folder.
    ///
    /// # Errors
    /// I/O.
    pub fn new(setup: Setup) -> Result<Arc<Self>> {
        Self::with_deadline(setup, None)
    }

    /// As [`Host::new`], but keeps a trial boot only after it has reached the server, and ends it
    /// after this time otherwise.
    ///
    /// # Errors
    /// I/O.
    pub fn with_deadline(setup: Setup, deadline: Option<Duration>) -> Result<Arc<Self>> {
        Self::with(setup, deadline, vec![])
    }

    /// As [`Host::new`], with an image that names these secrets of the boot. A minute of theirs
    /// takes a second.
    ///
    /// # Errors
    /// I/O.
    pub fn with_boot_secrets(
        setup: Setup,
        declared: Vec<fleeti_core::profile::Secret>,
    ) -> Result<Arc<Self>> {
        Self::with(setup, None, declared)
    }

    fn with(
        setup: Setup,
        deadline: Option<Duration>,
        declared: Vec<fleeti_core::profile::Secret>,
    ) -> Result<Arc<Self>> {
        let paths = Paths::below(&setup.dir);
        let (trust, state) = (paths.lib.join("trust"), paths.data.join("state"));
        for folder in [&paths.state, &paths.helper_state, &paths.run, &trust, &state] {
            fs::create_dir_all(folder)?;
        }
        for name in ["root.pem", "release.pem", "issuers.pem", "audit.pub"] {
            let from = setup.public.join(name);
            fs::copy(&from, paths.lib.join("trust").join(name))
                .with_context(|| from.display().to_string())?;
        }
        // systemd-cryptenroll makes it at the first boot of a real device.
        let waiting = paths.helper_state.join("recovery-key");
        if !waiting.exists() && !paths.helper_state.join("recovery-key.kept").exists() {
            let letters: [u8; 16] = rand::random();
            let word =
                |half: &[u8]| half.iter().map(|b| char::from(b'a' + b % 26)).collect::<String>();
            fs::write(waiting, format!("{}-{}", word(&letters[..8]), word(&letters[8..])))?;
        }
        let state = State {
            running: setup.running.clone(),
            slot: Slot::A,
            boots: 0,
            staged: None,
            armed: None,
            rolled_back: None,
            unreached: None,
            trial: None,
            boot_change: 0,
        };
        let (reached, on_hold) = (watch::channel(false).0, watch::channel(false).0);
        let keeper = Mutex::new(Arc::new(keeper(&paths, &declared)?));
        Ok(Arc::new(Self {
            paths,
            setup,
            deadline,
            state: Mutex::new(state),
            reboot: Notify::new(),
            reached,
            on_hold,
            declared,
            keeper,
        }))
    }

    /// Cuts the power of a device whose [`Host::run`] was dropped: what is in memory is lost.
    ///
    /// # Errors
    /// I/O.
    pub fn cut_power(&self) -> Result<()> {
        fs::remove_dir_all(&self.paths.boot_secrets)?;
        let next = Arc::new(keeper(&self.paths, &self.declared)?);
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// What the helper offers of the secrets of the boot.
    #[must_use]
    pub fn boot_secrets(&self) -> Arc<Keeper> {
        Arc::clone(&self.keeper.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device's TLS configuration, from its enrollment and later announcements.
    ///
    /// # Errors
    /// If it is not enrolled.
    pub fn tls(&self) -> Result<rustls::ClientConfig> {
        Identity::load(&self.paths)?.context("the device has not enrolled")?.tls(&self.paths)
    }

    /// Runs the device until the future is dropped.
    ///
    /// # Errors
    /// If the agent ends with an error.
    pub async fn run(self: &Arc<Self>) -> Result<()> {
        let socket = self.paths.socket();
        fs::remove_file(&socket).ok();
        let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
        let mut helper = JoinSet::new();
        helper.spawn(serve(Arc::clone(self), listener));
        let keeper = self.boot_secrets();
        helper.spawn(async move { keeper.run().await });
        self.boots().await
    }

    async fn boots(&self) -> Result<()> {
        loop {
            self.boot()?;
            tokio::select! {
                // The agent ends by itself after a renewal of its certificate.
                ended = self.daemon() => ended?,
                () = self.reboot.notified() => {}
                () = self.trial_ends() => {}
            }
        }
    }

    async fn daemon(&self) -> Result<()> {
        if self.state().trial.is_some() {
            self.on_hold.subscribe().wait_for(|on_hold| !on_hold).await?;
        }
        fleeti_agent::daemon::run(self.paths.clone()).await
    }

    /// Delays the daemon's start in trial boots, as on a slow machine.
    pub fn hold_trials(&self, on_hold: bool) {
        self.on_hold.send_replace(on_hold);
    }

    /// Ends a trial boot that does not reach the server, as health checks and boot loader do.
    async fn trial_ends(&self) {
        let (Some(deadline), true) = (self.deadline, self.state().trial.is_some()) else {
            return std::future::pending().await;
        };
        self.on_hold.subscribe().wait_for(|on_hold| !on_hold).await.ok();
        let mut reached = self.reached.subscribe();
        let is_reached = tokio::time::timeout(deadline, reached.wait_for(|r| *r)).await.is_ok();
        let trial = self.state().trial.take();
        if is_reached {
            return std::future::pending().await;
        }
        let mut state = self.state();
        if let Some((version, before)) = trial {
            state.running.version = before;
            state.slot = if state.slot == Slot::A { Slot::B } else { Slot::A };
            state.unreached = Some(version);
        }
    }

    /// The running version.
    #[must_use]
    pub fn running(&self) -> ReleaseName {
        self.state().running.clone()
    }

    /// The version of the next boot, and what its image then reports.
    fn boot(&self) -> Result<()> {
        let mut state = self.state();
        self.reached.send_replace(false);
        state.boots += 1;
        if let Some(version) = state.armed.take() {
            if self.setup.is_healthy {
                let before = std::mem::replace(&mut state.running.version, version.clone());
                state.trial = self.deadline.map(|_| (version, before));
                state.slot = if state.slot == Slot::A { Slot::B } else { Slot::A };
            } else {
                state.rolled_back = Some(version);
            }
        }
        let deadline_s = self.deadline.map_or(600, |d| d.as_secs().max(1));
        let facts = serde_json::json!({"minimum_version": state.running.version, "hostname": "{id}", "health_checks": [],
            "server_contact": {"deadline_s": deadline_s}, "wiped": ["var+lib+app"],
            "support_keys": self.support_keys(),
            "diagnostics": [{"name": "hello", "command": ["/bin/echo", "hello"]}, {"name": "slow", "command": ["/bin/sleep", "600"]}]});
        fs::write(self.paths.lib.join("image.json"), facts.to_string())?;
        reset::apply(&self.paths)?;
        let text =
            format!("IMAGE_ID={}\nIMAGE_VERSION={}\n", state.running.line, state.running.version);
        Ok(fs::write(&self.paths.os_release, text)?)
    }

    /// Each version has the support keys of the one before: a test writes them into the first one.
    fn support_keys(&self) -> serde_json::Value {
        let facts = fs::read(self.paths.lib.join("image.json")).ok();
        let facts: Option<serde_json::Value> = facts.and_then(|f| strict::from_slice(&f).ok());
        facts.map_or_else(|| serde_json::json!([]), |facts| facts["support_keys"].clone())
    }

    async fn answer(&self, request: Request) -> Result<Response> {
        Ok(match request {
            Request::BootSummary => {
                let secrets = self.boot_secrets().statuses().await;
                Response::Boot { summary: BootSummary { secrets, ..self.summary() } }
            }
            Request::EnrollmentRecord => {
                Response::Record { record: Some(self.setup.record.clone()) }
            }
            Request::ChangeBoot { change } => {
                self.state().boot_change = change.number;
                Response::Done
            }
            Request::Stage(StageRequest {
                manifest, signatures, proof, url, transitions, ..
            }) => {
                anchors::take(&self.paths, &self.paths.helper_state, &transitions)?;
                let staged = self.stage(&manifest, &signatures, proof.as_deref(), &url).await;
                self.keep_staged(staged)
            }
            Request::LogSize { transitions } => {
                anchors::take(&self.paths, &self.paths.helper_state, &transitions)?;
                Response::LogSize { size: release_log::seen(&self.paths)? }
            }
            Request::Arm { version, .. } => self.arm(&version)?,
            Request::ArmPrevious(_) => {
                anyhow::bail!("a device in memory has no image to go back to")
            }
            Request::Reboot => {
                self.reboot.notify_one();
                Response::Done
            }
            Request::WhyFailed { version } => {
                Response::Reason { reason: self.why_failed(&version) }
            }
            // A device in memory has no TPM.
            Request::TpmIdentity => Response::Tpm { identity: None },
            Request::TpmActivate { .. }
            | Request::DeviceKey { .. }
            | Request::Sign { .. }
            | Request::Certify { .. }
            | Request::Evidence { .. } => anyhow::bail!("this device has no TPM"),
            request @ (Request::RecoveryKey
            | Request::RecoveryKeyKept { .. }
            | Request::ForgetRecoveryKey
            | Request::PutSecrets { .. }
            | Request::BootSecrets { .. }
            | Request::Contact { .. }
            | Request::TrySecrets) => self.answer_about_secrets(request).await?,
            Request::Reached => {
                self.reached.send_replace(true);
                Response::Done
            }
            Request::WaitReached => self.wait_reached().await?,
            // A trial boot is kept after it has reached the server.
            Request::WaitBlessed if self.deadline.is_some() => self.wait_reached().await?,
            request @ (Request::Collect { .. }
            | Request::FactoryReset { .. }
            | Request::SetAside
            | Request::SetAsideReported) => self.answer_about_files(request).await?,
            Request::SignedTime { .. }
            | Request::WaitBlessed
            | Request::BlessedChanged
            | Request::SetHostname { .. }
            | Request::Say { .. } => Response::Done,
        })
    }

    async fn answer_about_files(&self, request: Request) -> Result<Response> {
        Ok(match request {
            Request::Collect { what } => {
                let Collected { bytes, detail } = collect::collect(&self.paths, &what).await?;
                let content = base64::engine::general_purpose::STANDARD.encode(bytes);
                Response::Collected { content, detail }
            }
            Request::FactoryReset { command } => {
                let boot_id = self.summary().boot_id;
                Response::Reset { wiped: reset::request(&self.paths, &command, &boot_id)? }
            }
            Request::SetAside => {
                Response::SetAside { reasons: kept::unreported(&self.paths.helper_state) }
            }
            Request::SetAsideReported => {
                kept::reported(&self.paths.helper_state);
                Response::Done
            }
            _ => bail!("not a request about files"),
        })
    }

    async fn answer_about_secrets(&self, request: Request) -> Result<Response> {
        Ok(match request {
            Request::RecoveryKey => Response::RecoveryKey {
                key: storage::recovery_key(&self.paths)?.map(|k| Secret::new(k.to_string())),
            },
            Request::RecoveryKeyKept { sha256 } => {
                storage::recovery_key_kept(&self.paths, &sha256)?;
                Response::Done
            }
            Request::ForgetRecoveryKey => {
                storage::forget_recovery_key(&self.paths)?;
                Response::Done
            }
            Request::PutSecrets { delivery } => {
                let rest = self.boot_secrets().put(delivery).await?;
                secrets::put(&self.paths.secrets, &rest)?;
                Response::Done
            }
            Request::BootSecrets { known } => {
                Response::BootSecrets { given: self.boot_secrets().given(known).await? }
            }
            Request::Contact { generation, is_reached } => {
                self.boot_secrets().contact(generation, is_reached).await?;
                Response::Done
            }
            Request::TrySecrets => {
                self.boot_secrets().retry().await?;
                Response::Done
            }
            _ => bail!("not a request about secrets"),
        })
    }

    fn keep_staged(&self, staged: Result<Version>) -> Response {
        match staged {
            Ok(version) => {
                self.state().staged = Some(version);
                Response::Done
            }
            Err(e) => Response::Failed { code: FailureCode::StageFailed, detail: format!("{e:#}") },
        }
    }

    fn arm(&self, version: &Version) -> Result<Response> {
        let mut state = self.state();
        ensure!(state.staged.as_ref() == Some(version), "{version} is not staged");
        state.armed = state.staged.take();
        Ok(Response::Done)
    }

    async fn wait_reached(&self) -> Result<Response> {
        self.reached.subscribe().wait_for(|r| *r).await?;
        Ok(Response::Done)
    }

    fn why_failed(&self, version: &Version) -> Option<RollbackReason> {
        let state = self.state();
        let is = |found: &Option<Version>| found.as_ref() == Some(version);
        if is(&state.unreached) {
            let evidence = "the server was not reached".to_owned();
            return Some(RollbackReason::ServerUnreachable { evidence });
        }
        let evidence = "health check \"always fails\": exit status 1".to_owned();
        is(&state.rolled_back).then_some(RollbackReason::Health { evidence })
    }

    fn summary(&self) -> BootSummary {
        let state = self.state();
        BootSummary {
            boot_id: format!("boot-{}", state.boots),
            running: state.running.clone(),
            slot: state.slot,
            verity: Verity::Verified,
            secure_boot: true,
            pcr11: None,
            firmware: Some(FirmwareKeys { change: state.boot_change, ..FirmwareKeys::default() }),
            sealed_data: Some(true),
            secrets: vec![],
        }
    }

    /// Downloads every payload from the agent's proxy, as systemd-sysupdate does, and checks it.
    async fn stage(
        &self,
        manifest: &str,
        signatures: &[(String, String)],
        proof: Option<&ReleaseProof>,
        url: &str,
    ) -> Result<Version> {
        let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text);
        let signatures: Vec<_> = signatures
            .iter()
            .map(|(key_id, text)| {
                anyhow::Ok(Signature { key_id: key_id.clone(), der: decode(text)? })
            })
            .collect::<Result<_>>()?;
        let anchors = anchors::of_helper(&self.paths)?;
        let verified = manifest::verify(manifest.as_bytes(), &signatures, anchors.release_keys())?;
        let now_s = self.paths.clock.now_s();
        release_log::check(&self.paths, &verified, proof, now_s)
            .map_err(|(code, detail)| anyhow::anyhow!("{code:?}: {detail}"))?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        for artifact in &verified.manifest().artifacts {
            let Some(name) = artifact.path.strip_prefix("raw/") else { continue };
            let mut body =
                client.get(format!("{url}{name}")).send().await?.error_for_status()?.bytes_stream();
            let mut hash = Sha256::new();
            while let Some(chunk) = body.next().await {
                hash.update(chunk?);
            }
            ensure!(
                hex::encode(hash.finalize()) == artifact.sha256,
                "{name} differs from the manifest"
            );
        }
        Ok(verified.manifest().release.version.clone())
    }
}

/// How much faster the time of secrets of the boot passes.
const SPEED: u128 = 60;

fn keeper(paths: &Paths, declared: &[fleeti_core::profile::Secret]) -> Result<Keeper> {
    let began = Instant::now();
    let setup = boot_secrets::Setup {
        is_sealed: true,
        is_kept: true,
        uptime: Arc::new(move || {
            u64::try_from(began.elapsed().as_millis() * SPEED / 1000).unwrap_or(u64::MAX)
        }),
        restart: Arc::new(|_| ()),
        say: Arc::new(|_| ()),
        look_every: Duration::from_millis(20),
    };
    Ok(Keeper::new(boot_secrets::Store::open(paths, declared.to_vec(), setup)?))
}

async fn serve(host: Arc<Host>, listener: UnixListener) {
    let mut requests = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let host = Arc::clone(&host);
        while requests.try_join_next().is_some() {}
        requests.spawn(async move {
            // Ignore a caller that closes early because it "rebooted".
            converse(&host, stream).await.ok();
        });
    }
}

async fn converse(host: &Host, mut stream: UnixStream) -> Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = Vec::new();
    BufReader::new(reader.take(MESSAGE_MAX)).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        bail!("no request");
    }
    let answer = host.answer(serde_json::from_slice(&line)?).await;
    let answer = answer.unwrap_or_else(|e| Response::Failed {
        code: FailureCode::StageFailed,
        detail: format!("{e:#}"),
    });
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    Ok(writer.write_all(&text).await?)
}
