//! Filtered lists of devices in a database of a large organisation, without a web server.

use super::{Record, Scale};
use anyhow::{Result, ensure};
use fleeti_core::filter::Filter;
use fleeti_core::id::{DeviceId, FleetId, LabelKey};
use fleeti_core::update::State;
use fleeti_core::wire::boot::{BootSummary, Slot, Verity};
use fleeti_core::wire::device::{Report, Telemetry};
use fleeti_core::wire::labels::{LabelKeyInfo, LabelType};
use fleeti_store::devices::{Certified, WithCertificate};
use fleeti_store::labels::{Described, Label};
use fleeti_store::selection::Selection;
use fleeti_store::{self as store, Db};
use std::path::Path;
use std::time::Instant;

/// Filters that find many devices, few, and none: by an index of labels, and by a look at each
/// device.
const FILTERS: [&str; 6] = [
    "site=berlin",
    "site=berlin and version<2.1 and not revoked",
    "name~kiosk",
    "last_seen>7d",
    "version<2.1 and fleet=shops",
    "nothing",
];
/// Devices of a page.
const PAGE: u32 = 100;
/// Devices of one transaction.
const CHUNK: usize = 1000;
const NOW_S: u64 = 1_800_000_000;

/// Runs the scenario in a folder.
///
/// # Errors
/// If the database does not answer.
pub fn run(dir: &Path, scale: Scale) -> Result<Vec<Record>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (devices, looks) = (scale.pick(100_000, 300), scale.pick(200, 2));
    runtime.block_on(async {
        let db = Db::open(&dir.join("fleeti.db")).await?;
        fill(&db, devices).await?;
        let slowest = look(&db, looks).await?;
        db.close().await;
        Ok(vec![Record::new("list_p99_ms", slowest, "ms", "fleeti")])
    })
}

async fn fill(db: &Db, devices: usize) -> Result<()> {
    let keys: [(LabelKey, _); 2] =
        [("site".parse()?, LabelType::Text), ("floor".parse()?, LabelType::Number)];
    let mut tx = db.write().await?;
    for (key, of) in keys.clone() {
        store::labels::declare(&mut tx, &LabelKeyInfo { key, of }, NOW_S).await?;
    }
    tx.commit().await?;
    let fleets: [FleetId; 2] = ["shops".parse()?, "depots".parse()?];
    let all: Vec<DeviceId> = (0..devices)
        .map(|n| {
            let digest = fleeti_core::canonical::sha256_hex(format!("device {n}").as_bytes());
            Ok(format!("dev-{}", &digest[..16]).parse()?)
        })
        .collect::<Result<_>>()?;
    for (chunk, ids) in all.chunks(CHUNK).enumerate() {
        let certificates: Vec<_> = ids.iter().map(certificate).collect();
        let rows: Vec<_> = ids
            .iter()
            .zip(&certificates)
            .enumerate()
            .map(|(n, (device, certificate))| WithCertificate {
                device,
                fleet: &fleets[n % 2],
                certificate,
            })
            .collect();
        let mut tx = db.write().await?;
        store::devices::insert_new(&mut tx, &rows, NOW_S).await?;
        let mut labels = Vec::new();
        for (n, device) in ids.iter().enumerate() {
            let number = chunk * CHUNK + n;
            describe(&mut tx, device, number).await?;
            let site = if number.is_multiple_of(2) { "berlin" } else { "bonn" };
            labels.push(Label { device, key: &keys[0].0, value: site, number: None });
            labels.push(Label { device, key: &keys[1].0, value: "3", number: Some(3) });
        }
        store::labels::set(&mut tx, &labels).await?;
        tx.commit().await?;
    }
    Ok(())
}

fn certificate(device: &DeviceId) -> Certified {
    let digest = |of: &str| fleeti_core::canonical::sha256_hex(format!("{of} {device}").as_bytes());
    Certified {
        key_sha256: digest("key"),
        serial: digest("serial")[..40].to_owned(),
        pem: "PEM".repeat(300),
        certificate_sha256: digest("certificate"),
        not_after_s: NOW_S + 86_400,
        issuer: digest("issuer"),
        is_in_tpm: true,
    }
}

/// A name, a report and telemetry. One of a thousand is silent, one of a thousand has another name.
async fn describe(tx: &mut store::Tx<'_>, device: &DeviceId, number: usize) -> Result<()> {
    let kind = if number % 1000 == 7 { "kiosk" } else { "till" };
    let name = format!("{kind} {number} in shop {}", number / 10);
    let about = Described { device, name: Some(&name), note: None };
    store::labels::describe(tx, about).await?;
    let seen_s = if number % 1000 == 250 { NOW_S - 8 * 86_400 } else { NOW_S - 60 };
    let report = Report {
        sequence: 1,
        epoch: None,
        clock_wrong_by_s: None,
        generation: 0,
        boot: BootSummary {
            boot_id: "00000000-0000-0000-0000-000000000000".into(),
            running: format!("till@{}.{}", 1 + number % 4, number % 10).parse()?,
            slot: Slot::A,
            verity: Verity::Verified,
            secure_boot: true,
            pcr11: Some("0".repeat(64)),
            firmware: None,
            sealed_data: Some(true),
            secrets: vec![],
        },
        update: State::Idle,
        trust_bundle: 1,
        alarm: None,
        progress: None,
        waits: None,
        time_zone: None,
        detail: None,
    };
    store::reports::report(tx, device, &report, seen_s).await?;
    let telemetry = Telemetry {
        uptime_s: 1,
        load_milli: 1,
        memory_used_kib: 1,
        memory_total_kib: 1,
        agent_memory_kib: 1,
        data_used_kib: 1,
        data_total_kib: 1,
    };
    store::reports::telemetry(tx, device, &telemetry, seen_s).await?;
    Ok(())
}

/// The 99th percentile of each filter; returns the highest.
async fn look(db: &Db, looks: usize) -> Result<f64> {
    let mut slowest = 0.0_f64;
    for text in FILTERS {
        let filter: Filter = text.parse()?;
        let selection =
            Selection { filter: &filter, fleets: None, is_drifting: false, now_s: NOW_S };
        let (mut times, mut found) = (Vec::new(), 0);
        for _ in 0..looks {
            let began = Instant::now();
            let ids = store::selection::page(db.pool(), selection, "", PAGE).await?;
            let devices = store::devices::listed(db.pool(), &ids).await?;
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            found = devices.len();
        }
        ensure!((found == 0) == (text == "nothing"), "{text} found {found} devices");
        times.sort_by(f64::total_cmp);
        let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        eprintln!("    {text:<44} {found:>4} devices, median {median:.1} ms, p99 {p99:.1} ms");
        slowest = slowest.max(p99);
    }
    Ok(slowest)
}
