//! Uses the control plane as a library: no web server and no port. Keys, database and signing service
//! are in this process.
//!
//!     cargo xtask example control_plane

use anyhow::{Context, Result};
use fleeti_control::accounts::actor::Actor;
use fleeti_control::accounts::password::PasswordCost;
use fleeti_control::accounts::state::AccountSecrets;
use fleeti_control::builds::{self, BuildOf, details};
use fleeti_control::enrollment::token;
use fleeti_control::pki::Pki;
use fleeti_control::ports::{Addresses, NoPorts};
use fleeti_control::precondition::Expected;
use fleeti_control::settings::Settings;
use fleeti_control::start::{self, Parts};
use fleeti_control::{audit, profiles};
use fleeti_core::wire::api::CreateEnrollment;
use fleeti_examples::{create_keys, signer};
use fleeti_store::Db;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    create_keys(dir.path())?;
    let parts = Parts {
        settings: Settings::new(dir.path()),
        pki: Pki::open(dir.path())?,
        db: Db::open(&dir.path().join("fleeti.db")).await?,
        signer: signer(dir.path())?,
        accounts: AccountSecrets {
            admin_token: "this program has no API".to_owned(),
            seal_key: "and no accounts".to_owned(),
            password_cost: PasswordCost::default(),
        },
    };
    // A program that serves devices passes its TLS configuration here.
    let opened = start::open(parts, |_identity, _access, _issuers| Ok(NoPorts)).await?;
    let cx = opened.cx.clone();
    let tasks = opened.run();
    let mut changes = cx.events.subscribe();

    // The audit log names who acts.
    let me = Actor::of_process("control_plane");
    // Every operation is a function of an area. The same call is behind `POST /api/v1/profiles`.
    let profile = toml::from_str(include_str!("../../profiles/kiosk.toml"))?;
    let revision = profiles::save(&cx, &me, &profile, &Expected::Anything).await?;
    println!("profile {} has revision {}", revision.profile.name, revision.number);

    let queued = builds::create_of(
        &cx,
        &me,
        BuildOf {
            line: profile.name.clone(),
            revision: revision.number,
            version: "1".parse()?,
            refresh_lock: false,
        },
    )
    .await?;
    println!("build {} of {} is {:?}", queued.id, queued.release, queued.phase);
    println!("change: {:?}", changes.recv().await?);
    let details = details::details(&cx, &queued.id).await?;
    println!("it needs {} approvals", details.signature.approvals_needed);

    let on = |port| ([192, 0, 2, 1], port).into();
    let addresses = Addresses { api: on(443), https: on(8443), mqtt: on(8883) };
    let wanted = CreateEnrollment { valid_s: 3600 };
    let enrollment = token::create(&cx, &me, &"demo".parse()?, &wanted, &addresses).await?;
    println!("a device of fleet demo enrolls at {}", enrollment.record.https_url);

    // Each of these acts is in the audit log of the signing service.
    let acts = loop {
        let lines = audit::entries(&cx, 0, 100).await?.lines;
        if lines.iter().any(|line| line.contains("enrollment.create")) {
            break lines;
        }
        tokio::task::yield_now().await;
    };
    println!("last entry of the audit log: {}", acts.last().context("an entry")?);

    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    cx.db.close().await;
    Ok(())
}
