//! Simulates devices: many instances of the real agent, on hosts in memory. They enroll, receive a
//! rollout and run it.
//!
//!     cargo xtask example fake_fleet --devices 100
//!     cargo xtask example fake_fleet --devices 5 --stay   # then open the page that it names
//!     fake_fleet --devices 5 --server http://127.0.0.1:8080 --token-file DIR/admin.token --public DIR/pki/public
//!
//! With --server, the devices join a running server and stay until Ctrl-C.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use fleeti_client::Client;
use fleeti_core::id::{FleetId, ReleaseName};
use fleeti_core::rollout::Phase;
use fleeti_core::wire::api::{CreateRollout, Event};
use fleeti_examples::Organisation;
use fleeti_testkit::host::{Host, Setup};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Parser)]
struct Arguments {
    /// Number of devices.
    #[arg(long, default_value_t = 10)]
    devices: usize,
    /// Fleet that the devices join.
    #[arg(long, default_value = "demo")]
    fleet: FleetId,
    /// Release that the devices run at first.
    #[arg(long, default_value = "kiosk@1")]
    running: ReleaseName,
    /// Number of devices that fail their health checks after an update.
    #[arg(long, default_value_t = 0)]
    unhealthy: usize,
    /// Keep running after the rollout, until Ctrl-C.
    #[arg(long)]
    stay: bool,
    /// Also make the releases 3 and 4 in this directory, signed and not published.
    #[arg(long)]
    make: Option<PathBuf>,
    /// Address of a running server.
    #[arg(long, requires_all = ["token_file", "public"])]
    server: Option<String>,
    /// File with the API token of its administrator.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Directory with its public keys.
    #[arg(long)]
    public: Option<PathBuf>,
}

#[actix_web::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir()?;
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    if let (Some(server), Some(token), Some(public)) =
        (&arguments.server, &arguments.token_file, &arguments.public)
    {
        let client = Client::new(server, std::fs::read_to_string(token)?.trim())?;
        power_on(&arguments, &client, public, dir.path()).await?;
        println!("{} devices connect to {server}; press Ctrl-C to stop", arguments.devices);
        return Ok(tokio::signal::ctrl_c().await?);
    }
    let organisation = Organisation::found(&dir.path().join("server")).await?;
    println!(
        "pages at {}, token in {}",
        organisation.url(),
        dir.path().join("server/admin.token").display()
    );
    for version in ["1", "2"] {
        organisation
            .publish(
                &ReleaseName { line: arguments.running.line.clone(), version: version.parse()? },
                1 << 20,
            )
            .await?;
    }
    if let Some(dir) = &arguments.make {
        for version in ["3", "4"] {
            let line = arguments.running.line.clone();
            let name = ReleaseName { line, version: version.parse()? };
            organisation.make(&name, 1 << 20, &dir.join(version))?;
        }
    }
    let client = organisation.client.clone();
    let started = Instant::now();
    let mut events = client.events().await?;
    power_on(&arguments, &client, &organisation.public(), dir.path()).await?;
    while client.devices().await?.iter().filter(|d| d.online && d.boot.is_some()).count()
        < arguments.devices
    {
        events.wait_for(|e| matches!(e, Event::Device { .. })).await?;
    }
    println!(
        "{} devices enrolled and connected after {:.1} s",
        arguments.devices,
        started.elapsed().as_secs_f64()
    );
    roll_out(&arguments, &client).await?;
    if arguments.stay {
        tokio::signal::ctrl_c().await?;
    }
    organisation.server.stop().await;
    Ok(())
}

async fn power_on(arguments: &Arguments, client: &Client, public: &Path, dir: &Path) -> Result<()> {
    for i in 0..arguments.devices {
        let setup = Setup {
            dir: dir.join(format!("device-{i}")),
            public: public.to_owned(),
            running: arguments.running.clone(),
            record: client.create_enrollment(&arguments.fleet, 3600).await?.record,
            is_healthy: i >= arguments.unhealthy,
        };
        let host = Host::new(setup)?;
        actix_web::rt::spawn(async move {
            if let Err(e) = host.run().await {
                eprintln!("device {i}: {e:#}");
            }
        });
    }
    Ok(())
}

async fn roll_out(arguments: &Arguments, client: &Client) -> Result<()> {
    let release = ReleaseName { line: arguments.running.line.clone(), version: "2".parse()? };
    let started = Instant::now();
    let mut events = client.events().await?;
    let request = CreateRollout {
        release: release.clone(),
        fleet: arguments.fleet.clone(),
        plan: None,
        urgent: None,
    };
    let id = client.start_rollout(&request).await?.id;
    let mut rollout = client.rollout(&id).await?;
    while !rollout.phase.is_terminal() {
        events.wait_for(|e| matches!(e, Event::Rollout { id: changed } if *changed == id)).await?;
        rollout = client.rollout(&id).await?;
    }
    let succeeded = rollout.counts.succeeded;
    println!(
        "{release}: {succeeded} of {} devices run it after {:.1} s",
        arguments.devices,
        started.elapsed().as_secs_f64()
    );
    let wanted = if arguments.unhealthy == 0 { Phase::Succeeded } else { Phase::Failed };
    ensure!(rollout.phase == wanted, "the rollout is {}", rollout.phase);
    ensure!(
        succeeded + arguments.unhealthy == arguments.devices,
        "not every healthy device runs the release"
    );
    let one =
        client.devices().await?.into_iter().find(|d| d.online).context("no device is online")?;
    println!("{} runs {}", one.id, one.boot.context("the device has not reported")?.running);
    Ok(())
}
