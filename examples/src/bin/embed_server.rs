//! Embeds the whole control plane in a program: keys, server, client, and a watcher of its events.
//!
//!     cargo xtask example embed_server            # until Ctrl-C
//!     cargo xtask example embed_server --exit     # ends by itself

use anyhow::Result;
use fleeti_core::wire::api::Event;
use fleeti_examples::Organisation;

#[actix_web::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let organisation = Organisation::found(dir.path()).await?;
    println!(
        "pages and API at {}, token in {}",
        organisation.url(),
        dir.path().join("admin.token").display()
    );

    let mut events = organisation.client.events().await?;
    let name = "kiosk@1".parse()?;
    organisation.publish(&name, 64 * 1024).await?;
    while events.next().await? != Some(Event::Release { name: name.clone() }) {}
    println!("published {name}");

    let enrollment = organisation.client.create_enrollment(&"demo".parse()?, 3600).await?;
    println!("a device of fleet demo enrolls at {}", enrollment.record.https_url);
    if !std::env::args().any(|a| a == "--exit") {
        tokio::signal::ctrl_c().await?;
    }
    organisation.server.stop().await;
    Ok(())
}
