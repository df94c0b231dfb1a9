//! Embeds the agent in a program: one device whose host is in memory enrolls, connects, and is sent a
//! command.
//!
//!     cargo xtask example embed_agent
//!
//! A program for real hardware implements `fleeti_agent`'s host instead; `fleeti-agent` does so for
//! Debian with systemd.

use anyhow::{Context, Result};
use fleeti_core::wire::api::Event;
use fleeti_examples::Organisation;
use fleeti_testkit::host::{Host, Setup};

#[actix_web::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let organisation = Organisation::found(&dir.path().join("server")).await?;
    let client = &organisation.client;
    let mut events = client.events().await?;
    let record = client.create_enrollment(&"demo".parse()?, 3600).await?.record;
    let host = Host::new(Setup {
        dir: dir.path().join("device"),
        public: organisation.public(),
        running: "kiosk@1".parse()?,
        record,
        is_healthy: true,
    })?;
    actix_web::rt::spawn(async move { host.run().await });
    let device = loop {
        events.wait_for(|event| matches!(event, Event::Device { .. })).await?;
        let found = client.devices().await?.into_iter().find(|d| d.online && d.boot.is_some());
        if let Some(device) = found {
            break device;
        }
    };
    let boot = device.boot.context("a report")?;
    println!(
        "{} of fleet {} runs {} from slot {:?}",
        device.id, device.fleet, boot.running, boot.slot
    );
    organisation.server.stop().await;
    Ok(())
}
