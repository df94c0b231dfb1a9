//! The cost of TPM evidence: verification and appraisal alone, and the whole path (challenge,
//! evidence over MQTT, attestation result, durable row). Also the time that an agent takes for a
//! quote by swtpm.

use super::channel::Session;
use super::organisation::{Device, Organisation};
use super::process::{cpu_s, spent_s};
use super::{Record, Scale};
use crate::soft_tpm::SoftTpm;
use crate::synthetic::{self, Measures};
use crate::tpm::{Manufacturer, Tpm, phases_log};
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_agent::privileged::measured;
use fleeti_client::Client;
use fleeti_core::attestation::Level;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::wire::attestation::{Challenge, Evidence};
use fleeti_core::wire::boot::FirmwareKeys;
use fleeti_core::wire::mqtt::{Down, Up};
use fleeti_pki::attestation::appraisal::{FirmwareCode, Known, Reference, appraise};
use fleeti_pki::attestation::evidence::{self, verify};
use fleeti_pki::attestation::{Challenge as Question, PCRS};
use fleeti_pki::measured::boot::MeasuredBoot;
use fleeti_pki::measured::log::{FirmwareLog, Pcrs};
use fleeti_pki::measured::phases;
use fleeti_pki::signer::Algorithm;
use fleeti_pki::tpm::endorsement::Kind;
use fleeti_pki::uefi;
use fleeti_signer_client::wire::BootState;
use fleeti_store::tpms::{self, TpmKeys, TpmRow};
use fleeti_store::{Db, attestations, boot};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAck, PubAckReason, Publish};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, mpsc};

/// Event logs of firmware and systemd 257, recorded in QEMU.
const FIRMWARE_LOG: &[u8] =
    include_bytes!("../../../fleeti-pki/tests/fixtures/measured/ovmf-2022.11-systemd-257.log");
const PHASES_LOG: &str =
    include_str!("../../../fleeti-pki/tests/fixtures/measured/ovmf-2022.11-systemd-257.phases");
const ROUNDS: usize = 10;
/// Challenges to each device in a round: the kernel counts CPU time in hundredths of a second.
const ASKED: usize = 3;
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(120);
const FLEET: &str = "bench";

/// Runs the scenario in a folder.
///
/// # Errors
/// If evidence is not verified, or a server does not respond.
pub fn run(dir: &Path, scale: Scale) -> Result<Vec<Record>> {
    let mut records =
        vec![Record::new("appraisals_per_s", appraisals(scale.pick(4000, 20))?, "1/s", "fleeti")];
    records.extend(quotes(scale.pick(50, 3))?);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // Before and after, as the machine may have been busy during one of them.
    let before = p256_verifications()?;
    let of_server = attestations(dir, &runtime, scale)?;
    let verifications = before.max(p256_verifications()?);
    let share = of_server[0].value / verifications;
    records.extend(of_server);
    records.push(Record::new("p256_verifications", verifications, "1/CPU-s", "openssl"));
    records.push(Record::new("attestations_per_p256_verification", share, "", "openssl"));
    Ok(records)
}

fn pcrs() -> Result<Pcrs> {
    let mut replayed = FirmwareLog::parse(FIRMWARE_LOG)?.replay();
    phases::replay(&mut replayed, &phases::parse(PHASES_LOG.as_bytes())?);
    Ok(PCRS.into_iter().map(|r| (r, replayed.get(&r).copied().unwrap_or_default())).collect())
}

/// The server's knowledge of a device with the recorded boot.
fn known() -> Result<Known> {
    let log = FirmwareLog::parse(FIRMWARE_LOG)?;
    let boot = MeasuredBoot::of(&log)?;
    let certificates = |name| -> Result<Vec<String>> {
        Ok(uefi::certificates(boot.variable(name))
            .context("certificates")?
            .iter()
            .map(|der| sha256_hex(der))
            .collect())
    };
    let pcrs = pcrs()?;
    let [boot_loader, kernel_image] = boot.binaries[..] else { bail!("two programs") };
    Ok(Known {
        manufacturer: Some(Kind::Processor),
        firmware_keys: Some(FirmwareKeys {
            pk: certificates("PK")?.pop(),
            kek: certificates("KEK")?,
            db: certificates("db")?,
            ..FirmwareKeys::default()
        }),
        references: vec![Reference {
            release: "kiosk@1".parse()?,
            kernel_image,
            pcr_9: None,
            pcr_11: pcrs[&11],
            is_revoked: false,
        }],
        boot_loaders: vec![boot_loader],
        firmware_code: Some(FirmwareCode { is_accepted: true, ..FirmwareCode::seen(&pcrs) }),
        firmware: fleeti_core::attestation::policy::Firmware::Pinned,
        ..Known::default()
    })
}

/// On one core: signature, challenge, PCRs, replay of both logs, their interpretation, the policy.
fn appraisals(of_one_round: u32) -> Result<f64> {
    let tpm = SoftTpm::new(Algorithm::P256)?;
    let question = Question { nonce: [7; 32], device: "dev-1".parse()? };
    let (pcrs, known, key) = (pcrs()?, known()?, tpm.attestation_key()?);
    let asked = question.qualifying_data(FIRMWARE_LOG, PHASES_LOG.as_bytes());
    let quote = tpm.good_quote(&asked, Question::selection(), pcrs.values());
    let signature = tpm.sign(&quote)?;
    let sent = evidence::Evidence {
        quote: &quote,
        signature: &signature,
        pcrs: &pcrs,
        firmware_log: FIRMWARE_LOG,
        phases_log: PHASES_LOG.as_bytes(),
    };
    let events = FirmwareLog::parse(FIRMWARE_LOG)?.events().len();
    eprintln!("    a log of {events} events and {} bytes", FIRMWARE_LOG.len());
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..of_one_round {
            let verified = verify(&sent, &question, &key, None)?;
            let result = appraise(&verified, &known);
            ensure!(result.level == Level::VerifiedFirmware, "{:?}", result.claims);
        }
        fastest = fastest.min(started.elapsed());
    }
    Ok(f64::from(of_one_round) / fastest.as_secs_f64())
}

/// The helper's work for a challenge, with swtpm: open the TPM, make the key, quote, read the PCRs.
fn quotes(count: usize) -> Result<[Record; 2]> {
    let tpm = Tpm::new(&Manufacturer::new()?)?;
    let paths = tpm.paths(FIRMWARE_LOG, &phases_log(&["ready"]))?;
    let device = "dev-1".parse()?;
    let mut took = Vec::with_capacity(count);
    for nonce in 0..count {
        let started = Instant::now();
        measured::evidence(&paths, &format!("{nonce:064x}"), &device)?;
        took.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    let slowest = took.last().copied().unwrap_or_default();
    Ok([
        Record::new("agent_quote_ms", took[took.len() / 2], "ms", "fleeti"),
        Record::new("agent_quote_slowest_ms", slowest, "ms", "fleeti"),
    ])
}

/// P-256 verifications by OpenSSL per second of CPU: how fast this machine is. Every figure of
/// evidence contains one such verification, so that their ratio is comparable between machines.
fn p256_verifications() -> Result<f64> {
    let mut command = Command::new("openssl");
    command.args(["speed", "-mr", "-seconds", "1", "ecdsap256"]).stdin(Stdio::null());
    let output = command.output().context("openssl: is it installed?")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    // +F4:ID:BITS:SIGNATURES:VERIFICATIONS, per second of CPU.
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("+F4:")).context("no result")?;
    let rate = line.rsplit(':').next().context("no rate")?;
    rate.trim().parse().with_context(|| format!("openssl speed: {line:?}"))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The server as a process; its simulated devices respond from memory.
fn attestations(
    dir: &Path,
    runtime: &tokio::runtime::Runtime,
    scale: Scale,
) -> Result<[Record; 2]> {
    let (count, rounds) = scale.pick((1000, ROUNDS), (20, 2));
    let mut organisation = Organisation::found(dir)?;
    let devices = organisation.devices(FLEET, count)?;
    let tpms = devices.iter().map(|_| SoftTpm::new(Algorithm::P256)).collect::<Result<Vec<_>>>()?;
    let machines: Vec<_> =
        devices.into_iter().zip(tpms).map(|(device, tpm)| Machine { device, tpm }).collect();
    let (release, known): (ReleaseName, Known) = ("kiosk@1".parse()?, known()?);
    let database = organisation.world.path("server/fleeti.db");
    runtime.block_on(store_tpms(&database, &machines, &known, &release))?;
    let ports = organisation.start_server()?;
    publish(&organisation, &known, &release)?;
    let server = Asked {
        process: organisation.world.server_id()?,
        client: organisation.world.client()?.clone(),
        fleet: FLEET.parse()?,
        first: machines[0].device.id.clone(),
        count,
    };
    runtime.block_on(async {
        let mut answered = connect(machines, ports.mqtt).await?;
        // The evidence at the start of their sessions.
        wait(&mut answered, count).await?;
        let rates = server.rates(rounds, &mut answered).await?;
        let [slowest, median, fastest] = [&rates[0], &rates[rounds / 2], &rates[rounds - 1]];
        eprintln!(
            "    rounds: {:.0} to {:.0}, median {:.0}",
            slowest.per_cpu_s, fastest.per_cpu_s, median.per_cpu_s
        );
        Ok([
            Record::new("attestations_per_cpu_s", fastest.per_cpu_s, "1/CPU-s", "fleeti"),
            Record::new("attestations_per_s", fastest.per_s, "1/s", "fleeti"),
        ])
    })
}

/// A simulated device with its TPM.
struct Machine {
    device: Device,
    tpm: SoftTpm,
}

/// Writes what the server would know of the devices after their enrollment: TPM, Secure Boot keys,
/// event log, and the release that they run and should run.
async fn store_tpms(
    database: &Path,
    machines: &[Machine],
    known: &Known,
    release: &ReleaseName,
) -> Result<()> {
    let expected = known.firmware_keys.clone().context("no keys")?;
    let manufacturer = tpms::Manufacturer {
        kind: Some("processor".into()),
        description: "a benchmark".into(),
        judged_by: String::new(),
    };
    let log_sha256 = sha256_hex(FIRMWARE_LOG);
    let db = Db::open(database).await?;
    let mut tx = db.write().await?;
    for (i, Machine { device, tpm }) in machines.iter().enumerate() {
        let key = STANDARD.encode(tpm.area.to_bytes());
        let keys = TpmKeys {
            ek_sha256: format!("{i:064x}"),
            endorsement_key: String::new(),
            attestation_key: key,
        };
        let row = TpmRow::new(keys, vec![], manufacturer.clone(), now_s());
        tpms::bind(&mut tx, &device.id, &row).await?;
        let state = BootState { wrapped: String::new(), epoch: 1, expected: expected.clone() };
        boot::insert(&mut tx, &device.id, &state, Some(release), now_s()).await?;
        attestations::keep_log(&mut tx, &device.id, &log_sha256, FIRMWARE_LOG, now_s()).await?;
    }
    let ids: Vec<_> = machines.iter().map(|m| m.device.id.clone()).collect();
    fleeti_store::desired::set_desired(&mut tx, &ids, Some(release)).await?;
    tx.commit().await?;
    db.close().await;
    Ok(())
}

/// Publishes a release that measures what the recorded boot measured.
fn publish(organisation: &Organisation, known: &Known, name: &ReleaseName) -> Result<()> {
    let release = organisation.world.path("releases/1");
    let [reference] = &known.references[..] else { bail!("one release") };
    let measures = Measures {
        boot_loader: known.boot_loaders[0],
        kernel_image: reference.kernel_image,
        pcr_11: reference.pcr_11,
    };
    let key = organisation.release_key()?;
    synthetic::release_that_measures(&release, name, &key, 4096, &measures)?;
    organisation.world.fleeti(&["release", "publish", &release.display().to_string()])?;
    Ok(())
}

/// Opens a session for each device, which then responds to challenges at once. The receiver gets
/// the acknowledgement of each evidence message.
async fn connect(
    machines: Vec<Machine>,
    mqtt: SocketAddr,
) -> Result<mpsc::UnboundedReceiver<PubAckReason>> {
    let pcrs = Arc::new(pcrs()?.into_iter().map(|(r, v)| (r, hex::encode(v))).collect());
    let (acknowledged, answered) = mpsc::unbounded_channel();
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut connecting = Vec::new();
    for machine in machines {
        let permit = Arc::clone(&at_once).acquire_owned().await?;
        let (acknowledged, pcrs) = (acknowledged.clone(), Arc::clone(&pcrs));
        connecting.push(tokio::spawn(async move {
            let id = machine.device.id.clone();
            let mut session = Session::open(&machine.device, mqtt, id.as_str()).await?;
            session.subscribe(&Down::Challenge.topic(&id)).await?;
            drop(permit);
            tokio::spawn(answer_all(session, machine, pcrs, acknowledged));
            anyhow::Ok(())
        }));
    }
    for task in connecting {
        task.await??;
    }
    Ok(answered)
}

/// The server that is measured, and the fleet that it challenges.
struct Asked {
    process: u32,
    client: Client,
    fleet: FleetId,
    /// One of the devices, whose result is checked.
    first: DeviceId,
    count: usize,
}

/// Attestations of one round.
struct Rate {
    per_cpu_s: f64,
    per_s: f64,
}

impl Asked {
    /// Challenges every device, in rounds. The slowest round first.
    async fn rates(
        &self,
        rounds: usize,
        answered: &mut mpsc::UnboundedReceiver<PubAckReason>,
    ) -> Result<Vec<Rate>> {
        let mut rates = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let (cpu, started) = (cpu_s(self.process)?, Instant::now());
            for _ in 0..ASKED {
                let challenged = self.client.challenge_fleet(&self.fleet).await?;
                ensure!(challenged == self.count as u64, "not every device is online");
                wait(answered, self.count).await?;
            }
            #[allow(clippy::cast_precision_loss)]
            let answers = (ASKED * self.count) as f64;
            rates.push(Rate {
                per_cpu_s: answers / spent_s(cpu, cpu_s(self.process)?),
                per_s: answers / started.elapsed().as_secs_f64(),
            });
        }
        let found = self.client.attestation(&self.first).await?;
        ensure!(found.level == Level::VerifiedBoot, "{:#?}", found.result);
        // Other processes on the machine only slow it down.
        rates.sort_by(|a, b| a.per_cpu_s.total_cmp(&b.per_cpu_s));
        Ok(rates)
    }
}

/// Waits until this number of evidence messages is acknowledged, which means stored.
async fn wait(answered: &mut mpsc::UnboundedReceiver<PubAckReason>, count: usize) -> Result<()> {
    let all = async {
        for _ in 0..count {
            let reason = answered.recv().await.context("a session ended")?;
            ensure!(reason == PubAckReason::Success, "{reason:?}");
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await.context("not every device was acknowledged")?
}

type HexPcrs = std::collections::BTreeMap<u8, String>;

/// A device that responds to challenges at once.
async fn answer_all(
    mut session: Session,
    machine: Machine,
    pcrs: Arc<HexPcrs>,
    acknowledged: mpsc::UnboundedSender<PubAckReason>,
) -> Result<()> {
    let Machine { device, mut tpm } = machine;
    let log_sha256 = sha256_hex(FIRMWARE_LOG);
    loop {
        match session.receive().await? {
            Packet::Publish(publish) => {
                session.send(&Packet::PubAck(PubAck::new(publish.pkid, None))).await?;
                let Ok(challenge) = serde_json::from_slice::<Challenge>(&publish.payload) else {
                    continue;
                };
                let mut question = Question { nonce: [0; 32], device: device.id.clone() };
                hex::decode_to_slice(&challenge.nonce, &mut question.nonce)?;
                tpm.clock.milliseconds += 1;
                let values = pcrs.values().map(|v| -> Result<[u8; 32]> {
                    let mut value = [0; 32];
                    hex::decode_to_slice(v, &mut value)?;
                    Ok(value)
                });
                let values = values.collect::<Result<Vec<_>>>()?;
                let asked = question.qualifying_data(FIRMWARE_LOG, PHASES_LOG.as_bytes());
                let quote = tpm.good_quote(&asked, Question::selection(), values.iter());
                let evidence = Evidence {
                    challenge: challenge.id,
                    signature: STANDARD.encode(tpm.sign(&quote)?),
                    quote: STANDARD.encode(quote),
                    pcrs: HexPcrs::clone(&pcrs),
                    firmware_log: log_sha256.clone(),
                    phases_log: PHASES_LOG.to_owned(),
                };
                let publish = Publish {
                    dup: false,
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    topic: Up::Evidence.topic(&device.id).into(),
                    pkid: 9,
                    payload: serde_json::to_vec(&evidence)?.into(),
                    properties: None,
                };
                session.send(&Packet::Publish(publish)).await?;
            }
            Packet::PubAck(ack) if acknowledged.send(ack.reason).is_err() => return Ok(()),
            _ => {}
        }
    }
}
