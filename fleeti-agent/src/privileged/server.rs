//! The socket of the helper.

use super::first_reboot::{self, FirstReboot};
use super::{
    MESSAGE_MAX, PreviousRequest, Request, Response, StageRequest, collect, dmi, measured, reset,
    secrets, staging,
};
use crate::boot_secrets::{Keeper, Setup, Store};
use crate::clock::Clock;
use crate::image::{self, running_release};
use crate::next_key::{self, Next};
use crate::{Paths, anchors, boot, clock, console, kept, release_log, secure_boot, storage};
use anyhow::{Context, Result, ensure};
use fleeti_core::id::{DeviceId, Version};
use fleeti_core::strict;
use fleeti_core::update::{FailureCode, RollbackReason};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::boot::BootSummary;
use fleeti_core::wire::enrollment::{ESP_FILE, EnrollmentRecord, SMBIOS_PREFIX};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, watch};

const DMI_TABLE: &str = "/sys/firmware/dmi/tables/DMI";

struct State {
    paths: Paths,
    blessed: watch::Sender<bool>,
    reached: watch::Sender<bool>,
    /// One staging or arming at a time.
    slot: Mutex<()>,
    /// One TPM operation at a time.
    tpm: Mutex<()>,
    /// One collection at a time.
    collecting: Mutex<()>,
    first_reboot: FirstReboot,
    boot_secrets: Keeper,
}

/// Serves requests until the process ends.
///
/// # Errors
/// If the socket cannot be created, or the image is not one of Fleeti's.
pub async fn serve(paths: Paths, group: Option<u32>) -> Result<()> {
    // A time floor of its own: the helper does not trust the daemon's.
    let paths = Paths { clock: Clock::system(paths.helper_state.join("time-floor")), ..paths };
    paths.clock.raise(clock::image_s(&paths.lib).unwrap_or(0));
    set_clock(&paths);
    let socket = paths.socket();
    fs::remove_file(&socket).ok();
    let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o660))?;
    std::os::unix::fs::chown(&socket, None, group)?;
    console::say(&boot::console_line(&boot::summary(&paths)?));
    let (blessed, _) = watch::channel(boot::is_kept(&paths));
    let (reached, _) = watch::channel(false);
    let (slot, tpm, first_reboot) = (Mutex::new(()), Mutex::new(()), FirstReboot::by_systemd());
    let boot_secrets = boot_secrets(&paths)?;
    let collecting = Mutex::new(());
    let state =
        State { paths, blessed, reached, slot, tpm, collecting, first_reboot, boot_secrets };
    let state = Arc::new(state);
    let looking = Arc::clone(&state);
    tokio::spawn(async move { looking.boot_secrets.run().await });
    ready();
    loop {
        let (stream, _) = listener.accept().await?;
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            if let Err(e) = converse(stream, &state).await {
                tracing::warn!("request failed: {e:#}");
            }
        });
    }
}

fn boot_secrets(paths: &Paths) -> Result<Keeper> {
    let setup = Setup::device(boot::is_kept(paths) || !boot::is_counted());
    Ok(Keeper::new(Store::open(paths, image::facts(paths)?.boot_secrets, setup)?))
}

/// Sets a wrong clock to the latest signed time; NTP continues from there.
fn set_clock(paths: &Paths) {
    let clock = &paths.clock;
    let Some(wrong_by_s) = clock.wrong_by_s().filter(|_| paths.may_set_clock) else { return };
    console::say(&format!(
        "fleeti: the clock is wrong by {wrong_by_s} s, setting it to {}",
        clock.floor_s()
    ));
    let status = std::process::Command::new("/usr/bin/date")
        .args(["--utc", "--set", &format!("@{}", clock.floor_s())])
        .status();
    if !status.is_ok_and(|s| s.success()) {
        tracing::error!("the clock could not be set");
    }
}

/// Tells systemd that the service has started; does nothing if systemd did not start it.
fn ready() {
    if let Err(e) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!("systemd was not notified: {e}");
    }
}

async fn converse(mut stream: UnixStream, state: &State) -> Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(MESSAGE_MAX));
    reader.read_until(b'\n', &mut line).await?;
    let request: Request = strict::from_request(&line).context("not a request")?;
    let is_for_caller = matches!(request, Request::Collect { .. });
    let answered = async {
        tokio::select! {
            answered = answer(request, state) => answered,
            // What is collected for a caller that is gone is of no use.
            _ = reader.fill_buf(), if is_for_caller => anyhow::bail!("the caller is gone"),
        }
    };
    let response = answered.await.unwrap_or_else(|e| {
        tracing::warn!("{e:#}");
        Response::Failed { code: FailureCode::StageFailed, detail: format!("{e:#}") }
    });
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    Ok(writer.write_all(&line).await?)
}

async fn answer(request: Request, state: &State) -> Result<Response> {
    let paths = &state.paths;
    Ok(match request {
        Request::BootSummary => {
            let secrets = state.boot_secrets.statuses().await;
            Response::Boot { summary: BootSummary { secrets, ..boot::summary(paths)? } }
        }
        Request::EnrollmentRecord => Response::Record { record: enrollment_record(paths)? },
        Request::ChangeBoot { change } => {
            let _one = state.slot.lock().await;
            secure_boot::change(paths, &change)?;
            Response::Done
        }
        Request::Stage(StageRequest { manifest, signatures, proof, boot, url, transitions }) => {
            let _one = state.slot.lock().await;
            anchors::take(paths, &paths.helper_state, &transitions)?;
            let proof = proof.as_deref();
            let staged = match staging::check(paths, &manifest, &signatures, proof, &url) {
                Ok(verified) => {
                    // After the check: what is refused must not replace those of a staged version.
                    staging::keep_signatures(paths, &signatures, &boot)?;
                    staging::transfer(paths, &verified, &manifest, &url).await
                }
                Err(refusal) => Err(refusal),
            };
            match staged {
                Ok(()) => Response::Done,
                Err((code, detail)) => Response::Failed { code, detail },
            }
        }
        Request::LogSize { transitions } => {
            anchors::take(paths, &paths.helper_state, &transitions)?;
            Response::LogSize { size: release_log::seen(paths)? }
        }
        Request::Arm { version, may_reboot } => arm_or_reboot(state, &version, may_reboot).await?,
        Request::ArmPrevious(request) => arm_previous_or_reboot(state, &request).await?,
        Request::Reboot => done(first_reboot::reboot().await)?,
        Request::WhyFailed { version } => Response::Reason { reason: why_failed(paths, &version)? },
        request @ (Request::WaitBlessed
        | Request::BlessedChanged
        | Request::Reached
        | Request::WaitReached) => answer_about_boot(request, state).await?,
        Request::SignedTime { note } => done(apply_signed_time(paths, &note))?,
        Request::SetAside => Response::SetAside { reasons: kept::unreported(&paths.helper_state) },
        Request::SetAsideReported => {
            kept::reported(&paths.helper_state);
            Response::Done
        }
        request @ (Request::TpmIdentity
        | Request::TpmActivate { .. }
        | Request::DeviceKey { .. }
        | Request::Sign { .. }
        | Request::Certify { .. }
        | Request::Evidence { .. }) => answer_by_tpm(request, state).await?,
        request @ (Request::RecoveryKey
        | Request::RecoveryKeyKept { .. }
        | Request::ForgetRecoveryKey
        | Request::PutSecrets { .. }
        | Request::BootSecrets { .. }
        | Request::Contact { .. }
        | Request::TrySecrets) => answer_about_secrets(request, state).await?,
        request @ (Request::Collect { .. } | Request::FactoryReset { .. }) => {
            answer_to_command(request, state).await?
        }
        Request::SetHostname { device } => done(set_hostname(paths, &device))?,
        Request::Say { line } => say(&line),
    })
}

async fn answer_about_boot(request: Request, state: &State) -> Result<Response> {
    match request {
        Request::WaitBlessed => wait_until(&state.blessed).await,
        Request::BlessedChanged => done(update_blessed(state).await),
        Request::Reached => {
            state.reached.send_replace(true);
            Ok(Response::Done)
        }
        Request::WaitReached => wait_until(&state.reached).await,
        _ => anyhow::bail!("not a request about this boot"),
    }
}

async fn answer_to_command(request: Request, state: &State) -> Result<Response> {
    use base64::Engine;
    let paths = &state.paths;
    Ok(match request {
        Request::Collect { what } => {
            let _one = state.collecting.lock().await;
            let collect::Collected { bytes, detail } = collect::collect(paths, &what).await?;
            let content = base64::engine::general_purpose::STANDARD.encode(bytes);
            Response::Collected { content, detail }
        }
        Request::FactoryReset { command } => {
            let boot_id = boot::summary(paths)?.boot_id;
            Response::Reset { wiped: reset::request(paths, &command, &boot_id)? }
        }
        _ => anyhow::bail!("not a request of a command"),
    })
}

fn say(line: &str) -> Response {
    let line: String = line.chars().filter(|c| !c.is_control()).take(400).collect();
    console::say(&line);
    Response::Done
}

async fn arm_or_reboot(state: &State, version: &Version, may_reboot: bool) -> Result<Response> {
    let _one = state.slot.lock().await;
    Ok(match arm(&state.paths, version)? {
        Next::Arm => Response::Done,
        Next::Reboot if !may_reboot => Response::NeedsReboot,
        Next::Reboot => state.first_reboot.ask().await,
    })
}

async fn arm_previous_or_reboot(state: &State, request: &PreviousRequest) -> Result<Response> {
    let _one = state.slot.lock().await;
    Ok(match arm_previous(&state.paths, request)? {
        Next::Arm => Response::Done,
        Next::Reboot if !request.may_reboot => Response::NeedsReboot,
        Next::Reboot => state.first_reboot.ask().await,
    })
}

async fn answer_about_secrets(request: Request, state: &State) -> Result<Response> {
    let paths = &state.paths;
    Ok(match request {
        Request::RecoveryKey => Response::RecoveryKey {
            key: storage::recovery_key(paths)?.map(|key| Secret::new(key.to_string())),
        },
        Request::RecoveryKeyKept { sha256 } => done(storage::recovery_key_kept(paths, &sha256))?,
        Request::ForgetRecoveryKey => done(storage::forget_recovery_key(paths))?,
        Request::PutSecrets { delivery } => {
            // First, and without waiting for a download: the network may change before it ends.
            let rest = state.boot_secrets.put(delivery).await?;
            let _one = state.slot.lock().await;
            put_secrets(paths, &rest).await?;
            Response::Done
        }
        Request::BootSecrets { known } => {
            Response::BootSecrets { given: state.boot_secrets.given(known).await? }
        }
        Request::Contact { generation, is_reached } => {
            done(state.boot_secrets.contact(generation, is_reached).await)?
        }
        Request::TrySecrets => done(state.boot_secrets.retry().await)?,
        _ => anyhow::bail!("not a request about secrets"),
    })
}

async fn answer_by_tpm(request: Request, state: &State) -> Result<Response> {
    Ok(match request {
        Request::TpmIdentity => {
            Response::Tpm { identity: with_tpm(state, measured::identity).await? }
        }
        Request::TpmActivate { blob, secret } => Response::Secret {
            secret: with_tpm(state, move |paths| measured::activate(paths, &blob, &secret)).await?,
        },
        Request::DeviceKey { seed } => Response::DeviceKey {
            public: with_tpm(state, move |paths| measured::device_key(paths, &seed)).await?,
        },
        Request::Sign { seed, digest } => Response::Signature {
            signature: with_tpm(state, move |paths| measured::sign(paths, &seed, &digest)).await?,
        },
        Request::Certify { seed, occasion, channel } => Response::Certified {
            key: with_tpm(state, move |paths| measured::certify(paths, &seed, &occasion, &channel))
                .await?,
        },
        Request::Evidence { nonce, device } => {
            let measured =
                with_tpm(state, move |paths| measured::evidence(paths, &nonce, &device)).await?;
            Response::Evidence { measured: Box::new(measured) }
        }
        _ => anyhow::bail!("not a request for the TPM"),
    })
}

fn done(result: Result<()>) -> Result<Response> {
    result.map(|()| Response::Done)
}

/// Why the version that was tried does not run.
fn why_failed(paths: &Paths, version: &Version) -> Result<Option<RollbackReason>> {
    let running = running_release(paths)?;
    let reason = boot::why_failed(paths, running.line.as_str(), version)?;
    boot::clear_pstore();
    Ok(reason)
}

async fn wait_until(value: &watch::Sender<bool>) -> Result<Response> {
    let mut value = value.subscribe();
    value.wait_for(|is_set| *is_set).await?;
    Ok(Response::Done)
}

async fn update_blessed(state: &State) -> Result<()> {
    let is_blessed = boot::is_kept(&state.paths);
    state.blessed.send_replace(is_blessed);
    if is_blessed {
        next_key::end_unused(&state.paths).unwrap_or_else(|e| tracing::warn!("{e:#}"));
        state.boot_secrets.image_kept().await?;
    }
    Ok(())
}

fn apply_signed_time(paths: &Paths, note: &str) -> Result<()> {
    let stated = anchors::of_helper(paths)?.log().verify(note)?;
    paths.clock.raise(stated.stated_s());
    set_clock(paths);
    Ok(())
}

async fn put_secrets(paths: &Paths, new: &BTreeMap<String, Secret>) -> Result<()> {
    // Restarts units that are `PartOf` the target only if a secret has changed.
    let verb = if secrets::put(&paths.secrets, new)? { "restart" } else { "start" };
    let mut systemctl = tokio::process::Command::new("/usr/bin/systemctl");
    let status = systemctl.args(["--no-block", verb, "fleeti-secrets.target"]).status().await?;
    ensure!(status.success(), "systemctl {verb} fleeti-secrets.target: {status}");
    Ok(())
}

/// Runs a TPM operation, which may take a second, on a blocking thread.
async fn with_tpm<T: Send + 'static>(
    state: &State,
    ask: impl FnOnce(&Paths) -> Result<T> + Send + 'static,
) -> Result<T> {
    let _one = state.tpm.lock().await;
    let paths = state.paths.clone();
    tokio::task::spawn_blocking(move || ask(&paths)).await?
}

/// Arms the staged version if it will open the data partition. The manifest is verified again,
/// because it was stored on disk.
fn arm(paths: &Paths, version: &Version) -> Result<Next> {
    let (manifest, signatures) = (staging::staged(paths)?, staging::staged_signatures(paths)?);
    let verified = staging::check_manifest(paths, &manifest, &signatures)
        .map_err(|(_, detail)| anyhow::anyhow!(detail))?;
    ensure!(verified.manifest().release.version == *version, "{version} is not the staged version");
    if let Some(kernel_image) = staging::staged_kernel_image(paths, &verified)?
        && next_key::before_arming(paths, version, &kernel_image)? == Next::Reboot
    {
        return Ok(Next::Reboot);
    }
    staging::arm(paths, &verified).map(|()| Next::Arm)
}

/// Makes the older version in the other slot bootable if it will open the data partition.
fn arm_previous(paths: &Paths, request: &PreviousRequest) -> Result<Next> {
    anchors::take(paths, &paths.helper_state, &request.transitions)?;
    let verified = staging::check_previous(paths, &request.manifest, &request.signatures)
        .map_err(|(_, detail)| anyhow::anyhow!(detail))?;
    let kernel_image = staging::previous_kernel_image(paths, &verified)?;
    let version = &verified.manifest().release.version;
    if next_key::before_arming(paths, version, &kernel_image)? == Next::Reboot {
        return Ok(Next::Reboot);
    }
    staging::arm_previous(paths, &verified).map(|()| Next::Arm)
}

/// The enrollment record: one named SMBIOS string or one ESP file, and no other source.
fn enrollment_record(paths: &Paths) -> Result<Option<EnrollmentRecord>> {
    use base64::Engine;
    if let Ok(table) = fs::read(DMI_TABLE)
        && let Some(text) = dmi::oem_string(&table, SMBIOS_PREFIX)
    {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text.trim())
            .context("the SMBIOS enrollment record is not base64")?;
        return strict::from_slice(&bytes).map(Some).context("the SMBIOS enrollment record");
    }
    match fs::read(paths.esp.join(ESP_FILE)) {
        Ok(bytes) => {
            strict::from_slice(&bytes).map(Some).context("the enrollment record on the ESP")
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).context("the enrollment record on the ESP"),
    }
}

fn set_hostname(paths: &Paths, device: &DeviceId) -> Result<()> {
    let name = image::facts(paths)?.hostname.replace("{id}", device.as_str());
    let name: String = name.chars().take(63).collect();
    Ok(fs::write("/proc/sys/kernel/hostname", name)?)
}
