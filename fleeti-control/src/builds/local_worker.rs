//! The worker in the server's process. It sends builds to the signing service and, with
//! `--local-worker`, leases builds and runs them with `fleeti-build`.

use crate::builds;
use crate::builds::change::{self, Change, Claimed, ClaimedSigning};
use crate::clock::new_id;
use crate::context::ContextRef;
use crate::error::for_log;
use crate::{health, releases};
use anyhow::{Context, Result};
use fleeti_build::build::{self, BuildError, BuildRecord, Request};
use fleeti_build::cache::Cache;
use fleeti_core::build::{Ctx, Event as BuildEvent, Holder, Outcome};
use fleeti_core::wire::api::Event;
use fleeti_store::builds::{Requested, Texts};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Duration of a lease, in seconds: a worker that does not renew in time loses its build.
const LEASE_S: u64 = 60;
const RENEW: Duration = Duration::from_secs(2);
/// Minimum interval of events about new lines of a log.
const LOG_INTERVAL: Duration = Duration::from_millis(300);

/// The agent binary for images; default: next to the server's binary.
pub struct Agent(pub Option<PathBuf>);

/// Works until the task is aborted; builds only with an agent. An interrupted build is taken again
/// when its lease has expired.
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
            tracing::error!("build worker: {}", for_log(&e));
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
    let ended = change::give_up(&mut tx, lease(cx)).await?;
    tx.commit().await?;
    ended.iter().for_each(|applied| applied.follow(cx));
    Ok(())
}

/// The time, and the lifetime of a lease of this process.
fn lease(cx: &ContextRef) -> Ctx {
    Ctx { now_s: cx.now_s(), lease_s: LEASE_S }
}

/// Applies an event to a build, in a transaction of its own.
async fn apply(cx: &ContextRef, id: &str, event: BuildEvent, texts: Texts<'_>) -> Result<()> {
    let change = Change { event, texts, ctx: lease(cx) };
    let mut tx = cx.db.write().await?;
    let applied = change.apply_to(&mut tx, id).await?;
    tx.commit().await?;
    applied.follow(cx);
    Ok(())
}

async fn claim_and_run(cx: &ContextRef, agent: &Agent) -> Result<bool> {
    // Builds wait until the disk has room again.
    if health::admit(cx, "build").is_err() {
        return Ok(false);
    }
    let holder = Holder { worker: String::new(), lease: new_id("lease") };
    let mut tx = cx.db.write().await?;
    let claimed = change::claim(&mut tx, &holder, lease(cx)).await?;
    tx.commit().await?;
    let Some(Claimed { applied, requested }) = claimed else { return Ok(false) };
    applied.follow(cx);
    let id = applied.id;
    let out = cx.settings.data.join("builds").join(&id);
    let directory = out.display().to_string();
    let leased = Leased { cx, id: &id, holder: &holder };
    let failure = leased.build(requested, agent, out).await.err().map(|e| format!("{e:#}"));
    let (outcome, texts) = match &failure {
        None => (
            Outcome::Succeeded,
            Texts { detail: Some("done"), directory: Some(&directory), ..Texts::default() },
        ),
        Some(detail) => (Outcome::Failed, Texts { detail: Some(detail), ..Texts::default() }),
    };
    let finish = BuildEvent::Finish { holder: holder.clone(), outcome };
    if let Err(e) = apply(cx, &id, finish, texts).await {
        tracing::warn!("{id}: the result is discarded: {}", for_log(&e));
    }
    Ok(true)
}

async fn claim_and_sign(cx: &ContextRef) -> Result<bool> {
    let mut tx = cx.db.write().await?;
    let claimed = change::claim_signing(&mut tx, lease(cx)).await?;
    tx.commit().await?;
    let Some(ClaimedSigning { applied, attempt }) = claimed else { return Ok(false) };
    applied.follow(cx);
    let build = builds::get(cx, &applied.id).await?;
    // Poll both: one may hold the writer connection that the other one waits for.
    let signed = tokio::select! {
        signed = releases::sign(cx, &build) => signed,
        never = renew_signing(cx, &build.id, attempt) => match never {},
    };
    let (outcome, detail) = match signed {
        Ok(release) => (Outcome::Succeeded, format!("published {}", release.name)),
        Err(e) => (
            Outcome::Failed,
            e.what_to_do().map_or_else(|| e.to_string(), |hint| format!("{e}; {hint}")),
        ),
    };
    let texts = Texts { signing_detail: Some(&detail), ..Texts::default() };
    apply(cx, &build.id, BuildEvent::FinishSigning { attempt, outcome }, texts).await?;
    Ok(true)
}

/// Renews the lease of a signature as long as it is polled.
async fn renew_signing(cx: &ContextRef, id: &str, attempt: u8) -> Infallible {
    let mut renewal = tokio::time::interval(RENEW);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let text = "the signing service reads, signs and compresses the build";
    let texts = Texts { signing_detail: Some(text), ..Texts::default() };
    loop {
        renewal.tick().await;
        // Only a lease that was not renewed in time is lost; a single failed write does not matter.
        if let Err(e) = apply(cx, id, BuildEvent::RenewSigning { attempt }, texts).await {
            tracing::warn!("{id}: cannot renew the lease: {}", for_log(&e));
        }
    }
}

/// A build that this process has leased.
struct Leased<'a> {
    cx: &'a ContextRef,
    id: &'a str,
    holder: &'a Holder,
}

impl Leased<'_> {
    async fn build(&self, requested: Requested, agent: &Agent, out: PathBuf) -> Result<()> {
        let agent = match &agent.0 {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("fleeti-agent"),
        };
        let refresh_packages = requested.request.packages_to_refresh()?;
        let request = Request {
            profile: requested.request.profile,
            revision: requested.revision,
            version: requested.request.version,
            minimum_version: None,
            trust: self.cx.settings.data.join("pki/public"),
            lock: None,
            refresh_lock: requested.request.refresh_lock,
            refresh_packages,
            agent,
            out,
        };
        let cache = Cache::discover()?;
        let log = Arc::new(Log::default());
        let writer = Arc::clone(&log);
        let job = tokio::task::spawn_blocking(move || {
            build::run(&request, &cache, &mut |line| writer.write(line))
        });
        self.follow(job, &log).await
    }

    /// Renews the lease and publishes progress until the build ends.
    async fn follow(
        &self,
        mut job: JoinHandle<Result<BuildRecord, BuildError>>,
        log: &Log,
    ) -> Result<()> {
        let mut published = String::new();
        let mut renewal = tokio::time::interval(RENEW);
        let mut log_clock = tokio::time::interval(LOG_INTERVAL);
        loop {
            tokio::select! {
                _ = log_clock.tick() => {
                    if log.has_grown.swap(false, Ordering::Relaxed) {
                        self.cx.publish_unstored(Event::BuildLog { id: self.id.to_owned() });
                    }
                }
                done = &mut job => {
                    done.context("the build ended abruptly")?.map_err(|e| {
                        let hint = e.hint().map(|h| format!(" (hint: {h})")).unwrap_or_default();
                        anyhow::anyhow!("{e}{hint}")
                    })?;
                    return Ok(());
                }
                _ = renewal.tick() => self.renew(log.last(), &mut published).await,
            }
        }
    }

    async fn renew(&self, line: String, published: &mut String) {
        let texts = Texts { detail: Some(&line), ..Texts::default() };
        let renew = BuildEvent::Renew(self.holder.clone());
        if let Err(e) = apply(self.cx, self.id, renew, texts).await {
            tracing::warn!("{}: cannot renew the lease: {}", self.id, for_log(&e));
        }
        if line != *published {
            self.cx.publish_unstored(Event::Build { id: self.id.to_owned() });
            *published = line;
        }
    }
}

/// What a running build has written.
struct Log {
    last: Mutex<String>,
    has_grown: AtomicBool,
}

impl Default for Log {
    fn default() -> Self {
        Self { last: Mutex::new("started".to_owned()), has_grown: AtomicBool::new(false) }
    }
}

impl Log {
    fn write(&self, line: &str) {
        line.clone_into(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner));
        self.has_grown.store(true, Ordering::Relaxed);
    }

    fn last(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
