//! Response times of pages, with a thousand devices in the database.

use super::organisation::Organisation;
use super::{Record, Scale};
use crate::synthetic;
use anyhow::{Result, bail, ensure};
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::profile;
use fleeti_core::rollout::device::Device;
use fleeti_core::rollout::header::Header;
use fleeti_core::rollout::{Counts, DevicePhase, Phase};
use fleeti_core::update::State;
use fleeti_core::wire::api::{CreateBuild, CreateRollout};
use fleeti_core::wire::boot::{BootSummary, Slot, Verity};
use fleeti_core::wire::device::Report;
use fleeti_store::rollout_devices::Joining;
use fleeti_store::rollouts::StoredRollout;
use fleeti_store::{self as store, Db};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Numbers of past builds, revisions and rollouts.
const HISTORY: u64 = 100;
const PAGES: &[&str] =
    &["/", "/devices", "/profiles", "/profiles/new", "/builds", "/releases", "/rollouts"];

/// Runs the scenario in a folder.
///
/// # Errors
/// If the server does not start or serve.
pub fn run(dir: &Path, scale: Scale) -> Result<Vec<Record>> {
    let mut organisation = Organisation::found(dir)?;
    let devices = organisation.devices("bench", scale.pick(1000, 20))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let database = organisation.world.path("server/fleeti.db");
    let ids: Vec<DeviceId> = devices.into_iter().map(|d| d.id).collect();
    runtime.block_on(fill(&database, &ids))?;
    organisation.start_server()?;
    let name: ReleaseName = "kiosk@1".parse()?;
    let release = organisation.world.path("releases/1");
    synthetic::release(&release, &name, &organisation.release_key()?, 4096)?;
    organisation.world.fleeti(&["release", "publish", &release.display().to_string()])?;
    runtime.block_on(look(&organisation, &name, &ids[0], scale.pick(50, 2)))
}

/// A database as after a year: every device has reported, and there are many builds, revisions and
/// rollouts to all devices.
async fn fill(database: &Path, ids: &[DeviceId]) -> Result<()> {
    let db = Db::open(database).await?;
    let text = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\ndescription = \"number N\"\nsoftware.packages = [\"jq\", \"curl\"]\n";
    let boot = BootSummary {
        boot_id: "00000000-0000-0000-0000-000000000000".into(),
        running: "kiosk@0".parse()?,
        slot: Slot::A,
        verity: Verity::Verified,
        secure_boot: true,
        pcr11: Some("0".repeat(64)),
        firmware: None,
        sealed_data: None,
        secrets: vec![],
    };
    let mut tx = db.write().await?;
    for id in ids {
        let report = Report {
            sequence: 1,
            epoch: None,
            clock_wrong_by_s: None,
            generation: 0,
            boot: boot.clone(),
            update: State::Idle,
            trust_bundle: 0,
            alarm: None,
            progress: None,
            waits: None,
            time_zone: None,
            detail: None,
        };
        store::reports::report(&mut tx, id, &report, 1).await?;
    }
    for i in 0..HISTORY {
        let Ok(profile) = profile::check(&text.replace('N', &i.to_string())) else {
            bail!("the profile")
        };
        let number = store::revisions::number(&mut tx, &profile, None, i).await?;
        let build = CreateBuild {
            profile,
            version: (i + 1).to_string().parse()?,
            refresh_lock: false,
            refresh_packages: Vec::new(),
        };
        store::builds::insert(&mut tx, &format!("build-{i}"), number, &build, i).await?;
        synthetic::end_build(&mut tx, &format!("build-{i}"), None).await?;
        let phase = DevicePhase::Succeeded;
        let row = |id: &DeviceId| Joining {
            id: id.clone(),
            device: Device::new(phase.clone(), i, None),
            cohort: None,
            listed: None,
        };
        let (fleet, release) = ("bench".parse()?, "kiosk@0".parse()?);
        let counts = Counts { total: ids.len(), succeeded: ids.len(), ..Counts::default() };
        let rollout = StoredRollout {
            header: Header { phase: Phase::Succeeded, counts, waves: None },
            ..StoredRollout::ready(format!("rollout-{i}"), fleet, release, i)
        };
        store::rollouts::insert(&mut tx, &rollout).await?;
        let rows: Vec<_> = ids.iter().map(row).collect();
        store::rollout_devices::insert(&mut tx, &rollout.id, &rows).await?;
    }
    tx.commit().await?;
    db.close().await;
    Ok(())
}

/// Signs in as administrator and returns the cookie of the login session.
pub(super) async fn sign_in(organisation: &Organisation) -> Result<String> {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let token = fs::read_to_string(organisation.world.path("server/admin.token"))?;
    let signed_in = http
        .post(format!("{}/signin", organisation.world.api()))
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("token={}", token.trim()))
        .send()
        .await?;
    let cookie =
        signed_in.headers().get("set-cookie").and_then(|c| c.to_str().ok()).unwrap_or_default();
    Ok(cookie.split(';').next().unwrap_or_default().to_owned())
}

async fn look(
    organisation: &Organisation,
    release: &ReleaseName,
    device: &DeviceId,
    looks: usize,
) -> Result<Vec<Record>> {
    let rollout = organisation
        .world
        .client()?
        .start_rollout(&CreateRollout {
            release: release.clone(),
            fleet: "bench".parse()?,
            plan: None,
            urgent: None,
        })
        .await?;
    let details = [
        format!("/devices/{device}"),
        format!("/releases/{release}"),
        format!("/rollouts/{}", rollout.id),
        "/builds/build-7".to_owned(),
        "/profiles/kiosk/7".to_owned(),
    ];
    let pages: Vec<&str> =
        PAGES.iter().copied().chain(details.iter().map(String::as_str)).collect();
    let api = organisation.world.api();
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let cookie = sign_in(organisation).await?;
    let mut worst = (0.0f64, 0.0f64);
    for page in pages {
        let mut times = Vec::with_capacity(looks);
        for _ in 0..looks {
            let started = Instant::now();
            let response =
                http.get(format!("{api}{page}")).header("cookie", &cookie).send().await?;
            times.push(started.elapsed().as_secs_f64() * 1000.0);
            ensure!(response.status() == 200, "{page}: {}", response.status());
            response.bytes().await?;
        }
        times.sort_by(f64::total_cmp);
        eprintln!(
            "    {page:<40} median {:.1} ms, slowest {:.1} ms",
            times[looks / 2],
            times[looks - 1]
        );
        worst = (worst.0.max(times[looks / 2]), worst.1.max(times[looks - 1]));
    }
    Ok(vec![
        Record::new("page_first_byte_median_ms", worst.0, "ms", "fleeti"),
        Record::new("page_first_byte_slowest_ms", worst.1, "ms", "fleeti"),
    ])
}
