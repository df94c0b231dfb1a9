//! A device in memory: the real agent (its daemon, enrollment, session, proxy and driver) on a host that only
//! pretends to have slots. It stages by downloading and checking every payload, and "reboots" by starting the
//! agent anew.
//!
//! ```no_run
//! # async fn example(record: fleeti_core::wire::device::EnrollmentRecord) -> anyhow::Result<()> {
//! use fleeti_testkit::host::{Host, Setup};
//! let setup = Setup { dir: "/tmp/device-1".into(), public: "pki/public".into(), running: "kiosk@1".parse()?, record, is_healthy: true };
//! Host::new(setup)?.run().await
//! # }
//! ```

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use fleeti_agent::Paths;
use fleeti_agent::identity::Identity;
use fleeti_agent::image::release_keys;
use fleeti_agent::privileged::{MESSAGE_MAX, Request, Response, secrets};
use fleeti_agent::{release_log, storage};
use fleeti_core::id::{ReleaseName, Version};
use fleeti_core::update::{FailureCode, RollbackReason};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::device::{BootSummary, EnrollmentRecord, FirmwareKeys, ReleaseProof, Slot, Verity};
use fleeti_pki::manifest::{self, Signature};
use futures::StreamExt;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

/// What a device in memory is.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its own folder.
    pub dir: PathBuf,
    /// The public halves of the keys, as in an image.
    pub public: PathBuf,
    /// What it runs at first.
    pub running: ReleaseName,
    /// How it enrolls.
    pub record: EnrollmentRecord,
    /// Whether what it boots next passes its health checks.
    pub is_healthy: bool,
}

struct State {
    running: ReleaseName,
    slot: Slot,
    boots: u64,
    staged: Option<Version>,
    armed: Option<Version>,
    rolled_back: Option<Version>,
    boot_change: u64,
}

/// A device in memory.
pub struct Host {
    paths: Paths,
    setup: Setup,
    state: Mutex<State>,
    reboot: Notify,
}

impl Host {
    /// A device with an image's facts in its folder.
    ///
    /// # Errors
    /// I/O.
    pub fn new(setup: Setup) -> Result<Arc<Self>> {
        let paths = Paths::below(&setup.dir);
        for folder in [&paths.state, &paths.helper_state, &paths.run, &paths.lib.join("trust")] {
            fs::create_dir_all(folder)?;
        }
        for name in ["root.pem", "release.pem", "issuers.pem", "audit.pub"] {
            let from = setup.public.join(name);
            fs::copy(&from, paths.lib.join("trust").join(name)).with_context(|| from.display().to_string())?;
        }
        // As systemd-cryptenroll would have made it at the first boot.
        let waiting = paths.helper_state.join("recovery-key");
        if !waiting.exists() && !paths.helper_state.join("recovery-key.kept").exists() {
            let letters: [u8; 16] = rand::random();
            let word = |half: &[u8]| half.iter().map(|b| char::from(b'a' + b % 26)).collect::<String>();
            fs::write(waiting, format!("{}-{}", word(&letters[..8]), word(&letters[8..])))?;
        }
        let state =
            State { running: setup.running.clone(), slot: Slot::A, boots: 0, staged: None, armed: None, rolled_back: None, boot_change: 0 };
        Ok(Arc::new(Self { paths, setup, state: Mutex::new(state), reboot: Notify::new() }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// TLS as the device speaks it, by what it has enrolled with and heard since.
    ///
    /// # Errors
    /// When it has not enrolled.
    pub fn tls(&self) -> Result<rustls::ClientConfig> {
        Identity::load(&self.paths)?.context("the device has not enrolled")?.tls(&self.paths)
    }

    /// Runs the device until the future is dropped.
    ///
    /// # Errors
    /// When the agent ends for good.
    pub async fn run(self: &Arc<Self>) -> Result<()> {
        let socket = self.paths.socket();
        fs::remove_file(&socket).ok();
        let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
        let helper = tokio::spawn(serve(Arc::clone(self), listener));
        let result = self.boots().await;
        helper.abort();
        result
    }

    async fn boots(&self) -> Result<()> {
        loop {
            self.boot()?;
            tokio::select! {
                // It ends by itself when its certificate was renewed.
                ended = fleeti_agent::daemon::run(self.paths.clone()) => ended?,
                () = self.reboot.notified() => {}
            }
        }
    }

    /// What the next boot runs, and what the image then says about itself.
    fn boot(&self) -> Result<()> {
        let mut state = self.state();
        state.boots += 1;
        if let Some(version) = state.armed.take() {
            if self.setup.is_healthy {
                state.running.version = version;
                state.slot = if state.slot == Slot::A { Slot::B } else { Slot::A };
            } else {
                state.rolled_back = Some(version);
            }
        }
        let facts = serde_json::json!({"minimum_version": state.running.version, "hostname": "{id}", "health_checks": []});
        fs::write(self.paths.lib.join("image.json"), facts.to_string())?;
        let text = format!("IMAGE_ID={}\nIMAGE_VERSION={}\n", state.running.line, state.running.version);
        Ok(fs::write(&self.paths.os_release, text)?)
    }

    async fn answer(&self, request: Request) -> Result<Response> {
        Ok(match request {
            Request::BootSummary => Response::Boot { summary: self.summary() },
            Request::EnrollmentRecord => Response::Record { record: Some(self.setup.record.clone()) },
            Request::ChangeBoot { change } => {
                self.state().boot_change = change.number;
                Response::Done
            }
            Request::Stage { manifest, signatures, proof, url, .. } => {
                match self.stage(&manifest, &signatures, proof.as_deref(), &url).await {
                    Ok(version) => {
                        self.state().staged = Some(version);
                        Response::Done
                    }
                    Err(e) => Response::Failed { code: FailureCode::StageFailed, detail: format!("{e:#}") },
                }
            }
            Request::LogSize => Response::LogSize { size: release_log::seen(&self.paths)? },
            Request::Arm { version } => {
                let mut state = self.state();
                ensure!(state.staged.as_ref() == Some(&version), "{version} is not staged");
                state.armed = state.staged.take();
                Response::Done
            }
            Request::Reboot => {
                self.reboot.notify_one();
                Response::Done
            }
            Request::WhyFailed { version } => {
                let failed = self.state().rolled_back.as_ref() == Some(&version);
                let evidence = "health check \"always fails\": exit status 1".to_owned();
                Response::Reason { reason: failed.then_some(RollbackReason::Health { evidence }) }
            }
            // A device in memory has no TPM.
            Request::TpmIdentity => Response::Tpm { identity: None },
            Request::TpmActivate { .. }
            | Request::DeviceKey { .. }
            | Request::Sign { .. }
            | Request::Certify { .. }
            | Request::Evidence { .. } => anyhow::bail!("this device has no TPM"),
            Request::RecoveryKey => Response::RecoveryKey { key: storage::recovery_key(&self.paths)?.map(|k| Secret::new(k.to_string())) },
            Request::RecoveryKeyKept { sha256 } => {
                storage::recovery_key_kept(&self.paths, &sha256)?;
                Response::Done
            }
            Request::ForgetRecoveryKey => {
                storage::forget_recovery_key(&self.paths)?;
                Response::Done
            }
            Request::PutSecrets { secrets: given } => {
                secrets::put(&self.paths.secrets, &given)?;
                Response::Done
            }
            Request::WaitBlessed | Request::BlessedChanged | Request::SetHostname { .. } | Request::Say { .. } => Response::Done,
        })
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
        }
    }

    /// Downloads every payload from the agent's proxy, as systemd-sysupdate would, and checks it.
    async fn stage(&self, manifest: &str, signatures: &[(String, String)], proof: Option<&ReleaseProof>, url: &str) -> Result<Version> {
        let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text);
        let signatures: Vec<_> = signatures
            .iter()
            .map(|(key_id, text)| anyhow::Ok(Signature { key_id: key_id.clone(), der: decode(text)? }))
            .collect::<Result<_>>()?;
        let verified = manifest::verify(manifest.as_bytes(), &signatures, &release_keys(&self.paths)?)?;
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        release_log::check(&self.paths, &verified, proof, now_s).map_err(|(code, detail)| anyhow::anyhow!("{code:?}: {detail}"))?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        for artifact in &verified.manifest().artifacts {
            let Some(name) = artifact.path.strip_prefix("raw/") else { continue };
            let mut body = client.get(format!("{url}{name}")).send().await?.error_for_status()?.bytes_stream();
            let mut hash = Sha256::new();
            while let Some(chunk) = body.next().await {
                hash.update(chunk?);
            }
            ensure!(hex::encode(hash.finalize()) == artifact.sha256, "{name} is not what was signed");
        }
        Ok(verified.manifest().release.version.clone())
    }
}

async fn serve(host: Arc<Host>, listener: UnixListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let host = Arc::clone(&host);
        tokio::spawn(async move {
            // A caller that goes away in the middle, because it "rebooted", is no news.
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
    let answer = answer.unwrap_or_else(|e| Response::Failed { code: FailureCode::StageFailed, detail: format!("{e:#}") });
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    Ok(writer.write_all(&text).await?)
}
