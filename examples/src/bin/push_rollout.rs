//! Pushes a staged rollout of a published release, and waits for it.
//!
//!     cargo xtask example push_rollout           # with a server and a simulated fleet of its own
//!     push_rollout http://127.0.0.1:8080 TOKEN-FILE RELEASE FLEET

use anyhow::{Context, Result, ensure};
use fleeti_client::Client;
use fleeti_core::rollout::Phase;
use fleeti_core::rollout::plan::{Plan, Start, Wave};
use fleeti_core::wire::api::{CreateRollout, Rollout};
use fleeti_examples::Organisation;
use fleeti_testkit::host::{Host, Setup};

async fn push(client: &Client, release: &str, fleet: &str) -> Result<Rollout> {
    let wave = |size: &str| {
        anyhow::Ok(Wave { size: size.parse()?, start: Start::AfterSuccess, soak_s: 0 })
    };
    let plan = Some(Plan::of(vec![wave("1")?, wave("10%")?, wave("100%")?]));
    let request =
        CreateRollout { release: release.parse()?, fleet: fleet.parse()?, plan, urgent: None };
    let started = client.start_rollout(&request).await?;
    let ended = client.wait_for_rollout(&started.id).await?;
    ensure!(ended.phase == Phase::Succeeded, "{release} is {} in {fleet}", ended.phase);
    Ok(ended)
}

#[actix_web::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.as_slice() {
        [server, token, release, fleet] => {
            let token = std::fs::read_to_string(token)?;
            push(&Client::new(server, token.trim())?, release, fleet).await?
        }
        [] => with_a_fleet_of_its_own().await?,
        _ => anyhow::bail!("usage: push_rollout [SERVER TOKEN-FILE RELEASE FLEET]"),
    };
    println!("{} of {} devices run {}", ended.counts.succeeded, ended.counts.total, ended.release);
    Ok(())
}

async fn with_a_fleet_of_its_own() -> Result<Rollout> {
    let dir = tempfile::tempdir()?;
    let organisation = Organisation::found(&dir.path().join("server")).await?;
    let client = &organisation.client;
    for release in ["kiosk@1", "kiosk@2"] {
        organisation.publish(&release.parse()?, 1 << 16).await?;
    }
    let mut events = client.events().await?;
    for n in 0..3 {
        let host = Host::new(Setup {
            dir: dir.path().join(format!("device-{n}")),
            public: organisation.public(),
            running: "kiosk@1".parse()?,
            record: client.create_enrollment(&"demo".parse()?, 3600).await?.record,
            is_healthy: true,
        })?;
        actix_web::rt::spawn(async move { host.run().await });
    }
    while client.devices().await?.iter().filter(|d| d.online && d.boot.is_some()).count() < 3 {
        events.wait_for(|_| true).await.context("a device did not come")?;
    }
    let ended = push(client, "kiosk@2", "demo").await;
    organisation.server.stop().await;
    ended
}
