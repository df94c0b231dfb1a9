//! The agent of a device under an attacker's control. Everything but the helper is the real agent,
//! and the helper sends false evidence to the server after it has got the secrets of the fleet. Two
//! such devices are joined by a cable, and the TPM of one makes evidence for the other. See
//! `fleeti_testkit::adversary`.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use fleeti_pki::signer::Algorithm;
use fleeti_testkit::adversary::{BEGINS, Lie, MARK};
use fleeti_testkit::agent::privileged::{self, MESSAGE_MAX, Measured, Request, Response, measured};
use fleeti_testkit::agent::{Paths, console, program};
use fleeti_testkit::soft_tpm::SoftTpm;
use fleeti_testkit::vm::{FIRST_END, SECOND_END};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{BufRead, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;

/// Folder of the real helper.
const HONEST: &str = "/run/fleeti-honest";
/// Time limit for the other device's evidence, and for the cable to appear.
const PATIENCE: Duration = Duration::from_secs(120);
/// Polling interval where there is no event: udev creates the port late, and a port without a host
/// has no event.
const PAUSE: Duration = Duration::from_millis(200);
/// EV_EFI_VARIABLE_DRIVER_CONFIG in PCR 7, and the same event with an unknown type.
const EVENT: [u8; 8] = [7, 0, 0, 0, 0x01, 0, 0, 0x80];
const RETYPED: [u8; 8] = [7, 0, 0, 0, 0xa0, 0, 0, 0];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() != Some("helper") {
        return program::main().await;
    }
    match lie().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            console::say(&format!("adversary: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

/// State that survives a reboot: valid evidence, and the boot that it is from.
#[derive(Serialize, Deserialize)]
struct Kept {
    boot_id: String,
    answer: Measured,
}

/// The role of this device.
enum Role {
    /// Its TPM makes evidence for the other device; its own evidence is valid.
    Accomplice,
    /// Sends false evidence, also evidence of the other device.
    Adversary { cable: File, answers: Receiver<Measured> },
}

impl Role {
    /// The role, by the end of the cable at this device.
    fn find(paths: &Paths) -> Result<Self> {
        let ports = Path::new("/dev/virtio-ports");
        let started = Instant::now();
        let end = loop {
            if let Some(end) =
                [FIRST_END, SECOND_END].into_iter().find(|end| ports.join(end).exists())
            {
                break end;
            }
            ensure!(started.elapsed() < PATIENCE, "there is no cable");
            std::thread::sleep(PAUSE);
        };
        let cable = File::options().read(true).write(true).open(ports.join(end))?;
        let reader = cable.try_clone()?;
        if end == SECOND_END {
            let (sender, answers) = mpsc::channel();
            std::thread::spawn(move || {
                lines(reader, |line| Ok(sender.send(serde_json::from_slice(line)?)?))
            });
            return Ok(Self::Adversary { cable, answers });
        }
        let paths = paths.clone();
        let mut writer = cable;
        std::thread::spawn(move || {
            lines(reader, |line| {
                let Question { nonce, device } = serde_json::from_slice(line)?;
                Ok(writer.write_all(&line_with(&measured::evidence(&paths, &nonce, &device)?)?)?)
            });
        });
        Ok(Self::Accomplice)
    }

    /// The other device's evidence for a challenge to this device.
    fn evidence(&self, nonce: &str, device: &DeviceId) -> Result<Measured> {
        let Self::Adversary { cable, answers } = self else {
            bail!("this device sends no false evidence")
        };
        let mut cable = cable;
        cable.write_all(&line_with(&Question {
            nonce: nonce.to_owned(),
            device: device.clone(),
        })?)?;
        answers.recv_timeout(PATIENCE).context("the other device does not respond")
    }
}

/// A message in one direction of the cable; [`Measured`] in the other.
#[derive(Serialize, Deserialize)]
struct Question {
    nonce: String,
    device: DeviceId,
}

/// Reads lines from the cable, also before the other end is open.
fn lines(cable: File, mut process: impl FnMut(&[u8]) -> Result<()>) {
    let mut reader = std::io::BufReader::new(cable);
    let mut line = Vec::new();
    loop {
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => std::thread::sleep(PAUSE),
            Ok(_) if line.ends_with(b"\n") => {
                if let Err(e) = process(&line) {
                    console::say(&format!("adversary: {e:#}"));
                }
                line.clear();
            }
            Ok(_) => {}
            Err(e) => return console::say(&format!("adversary: the cable: {e}")),
        }
    }
}

struct Adversary {
    paths: Paths,
    honest: PathBuf,
    kept_at: PathBuf,
    boot_id: String,
    /// Valid evidence; the lies start when there is one.
    kept: Option<Kept>,
    last: Option<Measured>,
    role: Role,
    lies: usize,
}

async fn lie() -> Result<()> {
    let paths = Paths::device();
    fs::create_dir_all(HONEST)?;
    let honest = Paths { run: HONEST.into(), ..Paths::device() };
    let kept_at = paths.helper_state.join("adversary.json");
    let adversary = Adversary {
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
        kept: fs::read(&kept_at).ok().map(|bytes| serde_json::from_slice(&bytes)).transpose()?,
        honest: honest.socket(),
        kept_at,
        last: None,
        role: Role::find(&paths)?,
        lies: 0,
        paths,
    };
    let socket = adversary.paths.socket();
    fs::remove_file(&socket).ok();
    let listener = UnixListener::bind(&socket)?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o660))?;
    std::os::unix::fs::chown(&socket, None, program::daemon_group())?;
    tokio::spawn(async move { privileged::serve(honest, None).await });
    let adversary = Arc::new(Mutex::new(adversary));
    loop {
        let (stream, _) = listener.accept().await?;
        let adversary = Arc::clone(&adversary);
        tokio::spawn(async move {
            if let Err(e) = converse(stream, &adversary).await {
                console::say(&format!("adversary: {e:#}"));
            }
        });
    }
}

/// Forwards requests that are not about evidence to the real helper.
async fn converse(mut stream: UnixStream, adversary: &Mutex<Adversary>) -> Result<()> {
    let (reader, mut writer) = stream.split();
    let line = line_of(reader).await?;
    let request: Request = serde_json::from_slice(&line)?;
    let honest = adversary.lock().await.honest.clone();
    let truth = ask(&honest, &line).await?;
    let answer = adversary.lock().await.answer(request, truth)?;
    Ok(writer.write_all(&answer).await?)
}

async fn line_of(stream: impl AsyncReadExt + Unpin) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(MESSAGE_MAX)).read_until(b'\n', &mut line).await?;
    Ok(line)
}

impl Adversary {
    /// The false response to the daemon.
    fn answer(&mut self, request: Request, truth: Vec<u8>) -> Result<Vec<u8>> {
        if matches!(self.role, Role::Accomplice) {
            return Ok(truth);
        }
        Ok(match (request, serde_json::from_slice(&truth)?) {
            (Request::Evidence { .. }, Response::Evidence { measured }) if self.kept.is_none() => {
                self.last = Some(*measured);
                truth
            }
            (Request::Evidence { nonce, device }, Response::Evidence { measured }) => {
                let measured = self.lie(*measured, &nonce, &device)?;
                line_with(&Response::Evidence { measured: Box::new(measured) })?
            }
            (Request::PutSecrets { delivery }, Response::Done)
                if self.kept.is_none() && !delivery.secrets.is_empty() =>
            {
                let answer =
                    self.last.take().context("secrets arrived before the first evidence")?;
                let kept = Kept { boot_id: self.boot_id.clone(), answer };
                fs::write(&self.kept_at, serde_json::to_vec(&kept)?)?;
                self.kept = Some(kept);
                console::say(BEGINS);
                truth
            }
            (Request::TpmIdentity, Response::Tpm { identity: Some(mut identity) })
                if self.kept.is_some() =>
            {
                identity.attestation_key =
                    STANDARD.encode(SoftTpm::new(Algorithm::P256)?.area.to_bytes());
                line_with(&Response::Tpm { identity: Some(identity) })?
            }
            _ => truth,
        })
    }

    /// The false evidence.
    fn lie(&mut self, mut measured: Measured, nonce: &str, device: &DeviceId) -> Result<Measured> {
        let kept = self.kept.as_ref().context("no stored evidence")?;
        let lie = if kept.boot_id == self.boot_id {
            Lie::ALL[self.lies % Lie::ALL.len()]
        } else {
            Lie::BeforeRestart
        };
        self.lies += 1;
        match lie {
            Lie::SoftwareKey => {
                let signature =
                    SoftTpm::new(Algorithm::P256)?.sign(&STANDARD.decode(&measured.quote)?)?;
                measured.signature = STANDARD.encode(signature);
            }
            Lie::OtherMachine => measured = self.role.evidence(nonce, device)?,
            Lie::OlderAnswer | Lie::BeforeRestart => measured = kept.answer.clone(),
            Lie::ChangedPcr => {
                let pcr = measured
                    .pcrs
                    .iter_mut()
                    .find(|(number, _)| *number == 4)
                    .context("no PCR 4")?;
                pcr.1 = "00".repeat(32);
            }
            Lie::RetypedEvent => {
                let at = measured
                    .firmware_log
                    .windows(EVENT.len())
                    .position(|w| w == EVENT)
                    .context("no such event")?;
                measured.firmware_log[at..at + EVENT.len()].copy_from_slice(&RETYPED);
                let changed = PathBuf::from(HONEST).join("firmware.log");
                fs::write(&changed, &measured.firmware_log)?;
                measured = measured::evidence(
                    &Paths { firmware_log: changed, ..self.paths.clone() },
                    nonce,
                    device,
                )?;
            }
        }
        console::say(&format!(
            "{MARK}{} {}",
            sha256_hex(&STANDARD.decode(&measured.quote)?),
            lie.name()
        ));
        Ok(measured)
    }
}

async fn ask(honest: &PathBuf, line: &[u8]) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(honest).await.context("the real helper")?;
    stream.write_all(line).await?;
    line_of(stream).await
}

fn line_with(message: &impl Serialize) -> Result<Vec<u8>> {
    Ok([&serde_json::to_vec(message)?[..], b"\n"].concat())
}
