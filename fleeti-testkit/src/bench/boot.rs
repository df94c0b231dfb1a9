//! Secure Boot of a fleet: the cost of one release for devices that each boot it with a signature
//! by their own key.

use super::organisation::Organisation;
use super::{Record, Scale};
use crate::synthetic;
use anyhow::{Context, Result, ensure};
use fleeti_core::id::{Architecture, FleetId, ReleaseName};
use fleeti_core::wire::api::{CreateRollout, Provision};
use fleeti_core::wire::enrollment::EnrollRequest;
use fleeti_pki::csr;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_store::Db;
use std::path::Path;
use std::time::{Duration, Instant};

/// Runs the scenario in a folder: server and signing service, each a process, as in production.
///
/// # Errors
/// If a server does not start or sign.
#[allow(clippy::cast_precision_loss)]
pub fn run(dir: &Path, scale: Scale) -> Result<Vec<Record>> {
    let count = scale.pick(1000, 4);
    let mut organisation = Organisation::found(dir)?;
    let ports = organisation.start_server()?;
    let fleet: FleetId = "bench".parse()?;
    let names: [ReleaseName; 2] = ["kiosk@1".parse()?, "kiosk@2".parse()?];
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for name in &names {
        let folder = organisation.world.path(&name.to_string());
        synthetic::release(&folder, name, &organisation.release_key()?, 4096)?;
        organisation.world.fleeti(&["release", "publish", &folder.display().to_string()])?;
    }
    let tls = organisation.anonymous_tls()?;
    let http = reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).build()?;
    let client = organisation.world.client()?;
    let made = Instant::now();
    runtime.block_on(async {
        let request = Provision {
            valid_s: 3600,
            release: None,
            ek_sha256: None,
            fleet_keys: false,
            proxy: None,
        };
        for _ in 0..count {
            let token = client.provision(&fleet, &request).await?.record.token;
            let csr_pem = csr::create(&SoftKey::generate(Algorithm::P256)?)?;
            let body = EnrollRequest {
                token,
                csr_pem,
                architecture: Architecture::X86_64,
                running: names[0].clone(),
                tpm: None,
            };
            let url = format!("https://localhost:{}/enroll", ports.https.port());
            http.post(url).json(&body).send().await?.error_for_status()?;
        }
        anyhow::Ok(())
    })?;
    let provisioned = f64::from(count) / made.elapsed().as_secs_f64();
    let signed = runtime.block_on(async {
        let db = Db::open(&organisation.world.path("server/fleeti.db")).await?;
        let started = Instant::now();
        client
            .start_rollout(&CreateRollout {
                release: names[1].clone(),
                fleet: fleet.clone(),
                plan: None,
                urgent: None,
            })
            .await?;
        while !fleeti_store::boot::unsigned(db.pool(), &fleet, &names[1], "", 1).await?.is_empty() {
            ensure!(
                started.elapsed() < Duration::from_secs(300),
                "the signatures are not completed"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let seconds = started.elapsed().as_secs_f64();
        db.close().await;
        anyhow::Ok(seconds)
    });
    Ok(vec![
        Record::new("uki_signatures_1000_seconds", signed.context("signing")?, "s", "fleeti"),
        Record::new("devices_provisioned_per_s", provisioned, "1/s", "fleeti"),
    ])
}
