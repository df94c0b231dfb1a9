//! The worker in the server's process. It sends builds to the signing service and, with
//! `--local-worker`, leases builds and runs them with `fleeti-build`.

use crate::clock::{new_id, now_s};
use crate::context::ContextRef;
use crate::releases;
use anyhow::{Context, Result};
use fleeti_build::build::{self, Request};
use fleeti_build::cache::Cache;
use fleeti_core::wire::api::{BuildPhase, CreateBuild, Event};
use fleeti_store as store;
use fleeti_store::builds::{Ended, Lease};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Duration of a lease, in seconds: a worker that does not renew in time loses its build.
const LEASE_S: u64 = 60;
const RENEW: Duration = Duration::from_secs(2);
/// Minimum interval of events about new lines of a log.
const LOG_INTERVAL: Duration = Duration::from_millis(300);

/// The agent binary for images; default: next to the server's binary.
pub struct Agent(pub Option<PathBuf>);

/// Works until the task is aborted; builds only with an agent. An interrupted build is taken again when its lease has expired.
pub async fn run(cx: ContextRef, local: Option<Agent>) {
    loop {
        // Signatures first: an operator has just requested one, and a build takes longer. A failure
        // of one must not stop the other.
        let built = async {
            match &local {
                Some(agent) => claim_and_run(&cx, agent).await,
                None => Ok(false),
            }
        };
        let results = [give_up(&cx).await.map(|()| false), claim_and_sign(&cx).await, built.await];
        let worked = results.iter().any(|r| matches!(r, Ok(true)));
        let failed = results.iter().any(Result::is_err);
        for e in results.into_iter().filter_map(Result::err) {
            tracing::error!("build worker: {e:#}");
        }
        if failed {
            tokio::time::sleep(Duration::from_secs(5)).await;
        } else if !worked {
            // No notification arrives when the lease of a killed server expires.
            tokio::time::timeout(Duration::from_secs(LEASE_S / 2), cx.build_queued.notified())
                .await
                .ok();
        }
    }
}

async fn give_up(cx: &ContextRef) -> Result<()> {
    let mut tx = cx.db.write().await?;
    let ended = store::builds::give_up(&mut tx, now_s()).await?;
    tx.commit().await?;
    for id in ended {
        cx.publish(Event::Build { id });
    }
    Ok(())
}

async fn claim_and_run(cx: &ContextRef, agent: &Agent) -> Result<bool> {
    // Builds wait until the disk has room again.
    if cx.health.disk.admit(&cx.settings, "build").is_err() {
        return Ok(false);
    }
    let lease = new_id("lease");
    let mut tx = cx.db.write().await?;
    let claimed = store::builds::claim(&mut tx, now_s(), local(&lease)).await?;
    tx.commit().await?;
    let Some(store::builds::Claimed { id, revision, request }) = claimed else { return Ok(false) };
    cx.publish(Event::Build { id: id.clone() });
    let directory = cx.settings.data.join("builds").join(&id);
    let result =
        build_with_lease(cx, &id, &lease, agent, revision, &request, directory.clone()).await;
    let pool = cx.db.writer();
    let (text, failure) = (directory.display().to_string(), result.err().map(|e| format!("{e:#}")));
    let ended = match &failure {
        None => Ended { phase: BuildPhase::Succeeded, detail: "done", directory: Some(&text) },
        Some(detail) => Ended { phase: BuildPhase::Failed, detail, directory: None },
    };
    if !store::builds::finish(pool, &id, local(&lease), ended).await? {
        tracing::warn!("{id}: lost the lease, the result is discarded");
    }
    cx.publish(Event::Build { id });
    Ok(true)
}

/// The lease of this process.
fn local(id: &str) -> Lease<'_> {
    Lease { worker: "", id, until_s: now_s() + LEASE_S }
}

async fn claim_and_sign(cx: &ContextRef) -> Result<bool> {
    let mut tx = cx.db.write().await?;
    let claimed = store::builds::claim_signing(&mut tx, now_s(), LEASE_S).await?;
    tx.commit().await?;
    let Some(build) = claimed else { return Ok(false) };
    cx.publish(Event::Build { id: build.id.clone() });
    // Poll both: one may hold the writer connection that the other one waits for.
    let signed = tokio::select! {
        signed = releases::sign(cx, &build) => signed,
        never = renew_signing(cx, &build.id) => match never {},
    };
    let (phase, detail) = match signed {
        Ok(release) => (BuildPhase::Succeeded, format!("published {}", release.name)),
        Err(e) => (
            BuildPhase::Failed,
            e.what_to_do().map_or_else(|| e.to_string(), |hint| format!("{e}; {hint}")),
        ),
    };
    store::builds::signing(cx.db.writer(), &build.id, phase, 0, &detail).await?;
    cx.publish(Event::Build { id: build.id.clone() });
    Ok(true)
}

/// Renews the lease of a signature as long as it is polled.
async fn renew_signing(cx: &ContextRef, id: &str) -> Infallible {
    let mut renewal = tokio::time::interval(RENEW);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        renewal.tick().await;
        let text = "the signing service reads, signs and compresses the build";
        // Only a lease that was not renewed in time is lost; a single failed write does not matter.
        if let Err(e) =
            store::builds::signing(cx.db.writer(), id, BuildPhase::Running, now_s() + LEASE_S, text)
                .await
        {
            tracing::warn!("{id}: cannot renew the lease: {e}");
        }
        cx.publish(Event::Build { id: id.to_owned() });
    }
}

async fn build_with_lease(
    cx: &ContextRef,
    id: &str,
    lease: &str,
    agent: &Agent,
    revision: u32,
    request: &CreateBuild,
    out: PathBuf,
) -> Result<()> {
    let agent = match &agent.0 {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("fleeti-agent"),
    };
    let request = Request {
        profile: request.profile.clone(),
        revision,
        version: request.version.clone(),
        minimum_version: None,
        trust: cx.settings.data.join("pki/public"),
        lock: None,
        agent,
        out,
    };
    let cache = Cache::discover()?;
    let last = Arc::new(Mutex::new(String::from("started")));
    let writer = Arc::clone(&last);
    let grew = Arc::new(AtomicBool::new(false));
    let has_grown = Arc::clone(&grew);
    let mut job = tokio::task::spawn_blocking(move || {
        build::run(&request, &cache, &mut |line| {
            line.clone_into(&mut writer.lock().unwrap_or_else(PoisonError::into_inner));
            has_grown.store(true, Ordering::Relaxed);
        })
    });
    let mut published = String::new();
    let mut renewal = tokio::time::interval(RENEW);
    let mut log_clock = tokio::time::interval(LOG_INTERVAL);
    loop {
        tokio::select! {
            _ = log_clock.tick() => {
                if grew.swap(false, Ordering::Relaxed) {
                    cx.publish(Event::BuildLog { id: id.to_owned() });
                }
            }
            done = &mut job => {
                done.context("the build ended abruptly")?.map_err(|e| {
                    let hint = e.hint().map(|h| format!(" (hint: {h})")).unwrap_or_default();
                    anyhow::anyhow!("{e}{hint}")
                })?;
                return Ok(());
            }
            _ = renewal.tick() => {
                let line = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Err(e) = store::builds::renew(cx.db.writer(), id, local(lease), Some(&line)).await {
                    tracing::warn!("{id}: cannot renew the lease: {e}");
                }
                if line != published {
                    cx.publish(Event::Build { id: id.to_owned() });
                    published = line;
                }
            }
        }
    }
}
