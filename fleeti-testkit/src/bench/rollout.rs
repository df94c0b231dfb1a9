//! Rollouts: what a report costs in a small fleet and in a large one, and how long a large rollout
//! takes to start. Each fleet has a server of its own. Keep the folder in memory (`/dev/shm`), so
//! that no figure contains the time of a flush.

use super::channel::Session;
use super::organisation::{Device, Organisation};
use super::process::{cpu_s, spent_s};
use super::{Record, Scale, rows};
use crate::synthetic;
use anyhow::{Context, Result, bail, ensure};
use fleeti_client::Client;
use fleeti_core::id::ReleaseName;
use fleeti_core::rollout::plan::{Plan, Rate, Start, Wave};
use fleeti_core::rollout::{Counts, Phase};
use fleeti_core::update::{Contact, State};
use fleeti_core::wire::api::CreateRollout;
use fleeti_core::wire::boot::{BootSummary, Slot, Verity};
use fleeti_core::wire::device::Report;
use fleeti_core::wire::mqtt::Up;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, Publish};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

const FLEET: &str = "bench";
/// The fleet of the devices that write while the rollout of the other fleet starts.
const OTHERS: &str = "others";
/// Number of devices that report; also the size of the small fleet.
const REPORTERS: usize = 100;
/// Reports of each device in a round. All rounds together stay below the burst that the server
/// reads at once from a device.
const REPORTS: usize = 30;
const ROUNDS: usize = 5;
/// Reports whose rows are counted.
const COUNTED: usize = 20;
/// Devices that write while a rollout starts, and the pause of each between two reports. All their
/// reports stay below the burst that the server reads at once from a device.
const WRITERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(40);
/// Devices that change in a period, and how long the periods are watched.
const CHANGED: usize = 100;
const WATCHED: Duration = Duration::from_secs(20);
/// Most time that another write may wait while a rollout starts, at p99.
const WAIT_MS_MAX: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the scenario in a folder.
///
/// # Errors
/// If a server does not start or serve, a report touches another number of rows in the large fleet,
/// or another write waits too long while the rollout starts.
pub fn run(dir: &Path, scale: Scale) -> Result<Vec<Record>> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let size = scale.pick(100_000, 2_000);
    let mut small = Side::new(&dir.join("small"), REPORTERS)?;
    let mut large = Side::new(&dir.join("large"), size)?;
    runtime.block_on(small.start())?;
    let (start_s, waited_ms) = runtime.block_on(large.start())?;
    if scale == Scale::Full {
        ensure!(waited_ms < WAIT_MS_MAX, "another write waited {waited_ms:.0} ms at p99");
    }
    let us = runtime.block_on(small_and_large(&mut small, &mut large))?;
    let rows_of = |side: &mut Side| side.rows(&runtime);
    let counted = [rows_of(&mut small)?, rows_of(&mut large)?];
    ensure!(counted[0] == counted[1], "a report touches {counted:?} rows");
    // Last, as it starts another rollout.
    large.restart()?;
    let tick_ms = runtime.block_on(large.tick(scale.pick(WATCHED, WATCHED / 5)))?;
    #[allow(clippy::cast_precision_loss)]
    let counted = counted.map(|rows| rows as f64);
    Ok(vec![
        Record::new("report_us_100", us[0], "us", "fleeti"),
        Record::new("report_us_100k", us[1], "us", "fleeti"),
        Record::new("report_rows_100", counted[0], "rows", "fleeti"),
        Record::new("report_rows_100k", counted[1], "rows", "fleeti"),
        Record::new("start_100k_seconds", start_s, "s", "fleeti"),
        Record::new("start_100k_other_write_p99_ms", waited_ms, "ms", "fleeti"),
        Record::new("tick_100k_100_changed_ms", tick_ms, "ms", "fleeti"),
    ])
}

/// The best round of each side: other load on the machine only slows a round. The sides take turns.
async fn small_and_large(small: &mut Side, large: &mut Side) -> Result<[f64; 2]> {
    let mut best = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        for (best, side) in best.iter_mut().zip([&mut *small, &mut *large]) {
            let us = side.round().await?;
            *best = best.min(us);
        }
    }
    Ok(best)
}

/// A fleet and its server.
struct Side {
    organisation: Organisation,
    server: u32,
    mqtt: SocketAddr,
    release: ReleaseName,
    size: usize,
    devices: Vec<Device>,
    others: Vec<Device>,
    sessions: Vec<Reporter>,
    rollout: String,
}

impl Side {
    fn new(dir: &Path, size: usize) -> Result<Self> {
        let mut organisation = Organisation::found(dir)?;
        let devices = organisation.devices(FLEET, REPORTERS)?;
        let others = organisation.devices(OTHERS, WRITERS)?;
        organisation.add_rows(FLEET, REPORTERS..size)?;
        let ports = organisation.start_server()?;
        let release: ReleaseName = "kiosk@1".parse()?;
        let folder = organisation.world.path("releases/1");
        synthetic::release(&folder, &release, &organisation.release_key()?, 4096)?;
        organisation.world.fleeti(&["release", "publish", &folder.display().to_string()])?;
        let server = organisation.world.server_id()?;
        let (sessions, rollout) = (Vec::new(), String::new());
        let mqtt = ports.mqtt;
        Ok(Self { organisation, server, mqtt, release, size, devices, others, sessions, rollout })
    }

    /// Starts the rollout, while devices of another fleet report. Returns the seconds until all
    /// devices have joined, and the milliseconds until a report is durable, at p99.
    async fn start(&mut self) -> Result<(f64, f64)> {
        let (stop, stopped) = watch::channel(false);
        let mut writing = JoinSet::new();
        for other in &self.others {
            let reporter = Reporter::open(other, self.mqtt).await?;
            writing.spawn(reporter.report_until(stopped.clone()));
        }
        let client = self.organisation.world.client()?.clone();
        let request = CreateRollout {
            release: self.release.clone(),
            fleet: FLEET.parse()?,
            plan: None,
            urgent: None,
        };
        let began = Instant::now();
        self.rollout = client.start_rollout(&request).await?.id;
        let counts = reaches(&client, &self.rollout, Phase::Running).await?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(counts.total == self.size, "{counts:?}");
        stop.send(true).ok();
        let mut times = Vec::new();
        while let Some(some) = writing.join_next().await {
            times.extend(some??);
        }
        times.sort_by(f64::total_cmp);
        let p99 = times.len() * 99 / 100;
        let waited_ms = times.get(p99).copied().context("no report while the rollout starts")?;
        for device in &self.devices {
            self.sessions.push(Reporter::open(device, self.mqtt).await?);
        }
        Ok((seconds, waited_ms))
    }

    fn restart(&mut self) -> Result<()> {
        self.mqtt = self.organisation.start_server()?.mqtt;
        self.server = self.organisation.world.server_id()?;
        Ok(())
    }

    /// Starts the rollout again, so that most devices wait for their place. Returns the CPU time of
    /// the server for the offers of a period, milliseconds: [`CHANGED`] of all devices change.
    async fn tick(&mut self, watched: Duration) -> Result<f64> {
        let client = self.organisation.world.client()?.clone();
        client.abort_rollout(&self.rollout).await?;
        reaches(&client, &self.rollout, Phase::Aborted).await?;
        let wave = Wave { size: "100%".parse()?, start: Start::AfterSuccess, soak_s: 0 };
        let rate = Some(Rate { devices: CHANGED, per_s: 1 });
        let plan = Some(Plan { rate, ..Plan::of(vec![wave]) });
        let request = CreateRollout {
            release: self.release.clone(),
            fleet: FLEET.parse()?,
            plan,
            urgent: None,
        };
        let id = client.start_rollout(&request).await?.id;
        reaches(&client, &id, Phase::Running).await?;
        let before = (client.rollout(&id).await?.counts.pending, cpu_s(self.server)?);
        tokio::time::sleep(watched).await;
        let spent = spent_s(before.1, cpu_s(self.server)?);
        let offered = before.0.saturating_sub(client.rollout(&id).await?.counts.pending);
        ensure!(offered >= CHANGED, "{offered} devices were offered the release");
        #[allow(clippy::cast_precision_loss)]
        let periods = offered as f64 / CHANGED as f64;
        Ok(spent * 1000.0 / periods)
    }

    /// Lets all sessions report. Returns the CPU time of the server for a report, microseconds.
    async fn round(&mut self) -> Result<f64> {
        let before = cpu_s(self.server)?;
        let mut reporting = JoinSet::new();
        for mut session in self.sessions.drain(..) {
            reporting.spawn(async move {
                for _ in 0..REPORTS {
                    session.report().await?;
                }
                anyhow::Ok(session)
            });
        }
        while let Some(session) = reporting.join_next().await {
            self.sessions.push(session??);
        }
        #[allow(clippy::cast_precision_loss)]
        let reports = (REPORTS * self.sessions.len()) as f64;
        Ok(spent_s(before, cpu_s(self.server)?) * 1e6 / reports)
    }

    /// Stops the server and counts the rows of a report in a server in this process.
    fn rows(&mut self, runtime: &Runtime) -> Result<u64> {
        let last = self.sessions.iter().map(|s| s.sequence).max().unwrap_or_default();
        self.sessions.clear();
        self.organisation.world.stop_server_alone();
        let device = self.devices.first().context("no device")?;
        let world = &self.organisation.world;
        rows::counted(runtime, world, async |mqtt, count| {
            let mut reporter = Reporter::open(device, mqtt).await?;
            reporter.sequence = last;
            reporter.report().await?;
            // Reports are alike; a job of the server may add rows to one of them.
            let mut fewest = u64::MAX;
            for _ in 0..COUNTED {
                let before = count();
                reporter.report().await?;
                fewest = fewest.min(count() - before);
            }
            Ok(fewest)
        })
    }
}

/// Waits until a rollout is in a phase, through those on the way there.
async fn reaches(client: &Client, id: &str, phase: Phase) -> Result<Counts> {
    let began = Instant::now();
    loop {
        let rollout = client.rollout(id).await?;
        match rollout.phase {
            found if found == phase => return Ok(rollout.counts),
            Phase::Starting | Phase::Aborting => {}
            other => bail!("the rollout is {other}"),
        }
        ensure!(began.elapsed() < PATIENCE, "the rollout does not become {phase}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// A device with an MQTT session. Its reports say by turns that it stages the release, and that it
/// ran it without reaching the server: each changes its row and the counters of the rollout.
struct Reporter {
    session: Session,
    device: Device,
    sequence: u64,
}

impl Reporter {
    async fn open(device: &Device, mqtt: SocketAddr) -> Result<Self> {
        let session = Session::open(device, mqtt, device.id.as_str()).await?;
        Ok(Self { session, device: device.clone(), sequence: 0 })
    }

    /// Reports until it is told to stop. Returns the milliseconds until each report was durable.
    async fn report_until(mut self, stopped: watch::Receiver<bool>) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        while !*stopped.borrow() {
            let began = Instant::now();
            self.report().await?;
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(times)
    }

    /// Reports, and waits until the report is durable.
    async fn report(&mut self) -> Result<()> {
        self.sequence += 1;
        let target = "1".parse()?;
        let update = if self.sequence.is_multiple_of(2) {
            State::Staging { target, attempt: 1 }
        } else {
            State::Unconfirmed { target, trials: 0, contact: Contact::Waiting }
        };
        let report = Report {
            sequence: self.sequence,
            epoch: None,
            clock_wrong_by_s: None,
            generation: 1,
            boot: BootSummary {
                boot_id: "00000000-0000-0000-0000-000000000000".into(),
                running: "kiosk@0".parse()?,
                slot: Slot::A,
                verity: Verity::Verified,
                secure_boot: true,
                pcr11: Some("0".repeat(64)),
                firmware: None,
                sealed_data: None,
                secrets: vec![],
            },
            update,
            trust_bundle: 0,
            alarm: None,
            progress: None,
            waits: None,
            time_zone: None,
            detail: None,
        };
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Up::Report.topic(&self.device.id).into(),
            pkid: 1,
            payload: serde_json::to_vec(&report)?.into(),
            properties: None,
        };
        self.session.send(&Packet::Publish(publish)).await?;
        loop {
            let received = tokio::time::timeout(PATIENCE, self.session.receive());
            match received.await.context("no acknowledgement")?? {
                Packet::PubAck(ack) if ack.reason == PubAckReason::Success => return Ok(()),
                Packet::PubAck(ack) => bail!("the report is refused: {:?}", ack.reason),
                _ => {}
            }
        }
    }
}
