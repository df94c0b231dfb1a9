//! `fleeti-server worker`: builds images for a server, also on another machine. The server then
//! needs no Nix.
//!
//! The worker leases a build, runs it as its own user, sends the log while it grows, uploads the
//! files, and finishes the build. If the worker is killed, its lease expires and another worker
//! takes the build.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_build::build::{self, BuildRecord, Request};
use fleeti_build::cache::Cache;
use fleeti_build::suite;
use fleeti_client::{ClientError, Piece, WholeIndex, WorkerClient};
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::worker::{
    ARTIFACTS, CHUNK_MAX, Finish, Job, LEASE_S, LOG_MAX, Outcome, Renew,
};
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Interval at which new lines of the log are sent.
const REPORT: Duration = Duration::from_secs(1);
/// Interval at which the lease is renewed.
const RENEW: Duration = Duration::from_secs(LEASE_S / 4);
/// Maximum delay between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Maximum attempts of a request while the server is away: about ten minutes.
const TRIES_MAX: u32 = 24;
/// Maximum bytes of the log in a request.
const LOG_PIECE: usize = 256 * 1024;
/// Maximum size of a public key file, in bytes.
const TRUST_FILE_MAX: usize = 1 << 20;

/// Runs builds: Nix, or a fake in tests.
pub trait Builder: Send + Sync + 'static {
    /// Builds into `request.out`, and passes each line of the log to `line`.
    ///
    /// # Errors
    /// The reason why the build failed, for the log and pages.
    fn build(&self, request: &Request, line: &mut dyn FnMut(&str)) -> Result<(), String>;

    /// Makes the index of the suite, and returns its path; `None` for a builder that makes none.
    ///
    /// # Errors
    /// The reason why there is no index.
    fn index(&self) -> Result<Option<PathBuf>, String> {
        Ok(None)
    }
}

/// The Nix of this machine.
#[derive(Debug)]
pub struct Nix;

impl Builder for Nix {
    fn build(&self, request: &Request, line: &mut dyn FnMut(&str)) -> Result<(), String> {
        let cache = Cache::discover().map_err(|e| e.to_string())?;
        build::run(request, &cache, line).map(drop).map_err(|e| {
            let hint = e.hint().map(|h| format!(" (hint: {h})")).unwrap_or_default();
            format!("{e}{hint}")
        })
    }

    fn index(&self) -> Result<Option<PathBuf>, String> {
        let cache = Cache::discover().map_err(|e| e.to_string())?;
        let say = &mut |line: &str| tracing::info!("index of {}: {line}", suite::SUITE);
        suite::refresh(&cache, say).map_err(|e| e.to_string())?;
        Ok(Some(suite::path(&cache)))
    }
}

/// A build worker.
pub struct RemoteWorker {
    /// The client of its server.
    pub client: WorkerClient,
    /// The folder for builds.
    pub work: PathBuf,
    /// The agent binary for images.
    pub agent: PathBuf,
    /// Runs the builds.
    pub builder: Arc<dyn Builder>,
}

/// Progress of a running build.
#[derive(Default)]
struct Progress {
    log: Vec<u8>,
    last: String,
    /// Bytes of the log so far, including those of previous workers.
    logged: u64,
    /// Bytes of the log that the server has.
    sent: u64,
}

impl Progress {
    fn add(&mut self, line: &str) {
        line.clone_into(&mut self.last);
        let size = line.len() as u64 + 1;
        if self.logged + size <= LOG_MAX {
            self.logged += size;
            self.log.extend_from_slice(line.as_bytes());
            self.log.push(b'\n');
        }
    }
}

/// A build that this worker has leased.
struct Claimed<'a> {
    worker: &'a RemoteWorker,
    job: &'a Job,
    lease: &'a str,
    progress: Arc<Mutex<Progress>>,
}

impl RemoteWorker {
    /// Works forever.
    pub async fn run(&self) -> Infallible {
        let mut pause = Duration::from_secs(1);
        let mut index_due = Instant::now();
        let mut pace = suite::Pace::default();
        loop {
            if Instant::now() >= index_due {
                let shared = self.share_index().await;
                if let Err(e) = &shared {
                    tracing::warn!(
                        "profiles are not checked against new packages: {}",
                        Foreign::new(&format!("{e:#}"), 500)
                    );
                }
                index_due = Instant::now() + pace.after(shared.is_ok());
            }
            match self.one().await {
                Ok(has_built) => {
                    pause = Duration::from_secs(1);
                    if has_built {
                        // The build showed what its packages create.
                        index_due = Instant::now();
                    }
                }
                Err(e) => {
                    tracing::warn!(
                        "{}; retrying in {} s",
                        Foreign::new(&format!("{e:#}"), 500),
                        pause.as_secs()
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Leases and completes a build. Returns `false` if there was none.
    ///
    /// # Errors
    /// When the server is away, or the lease was lost.
    pub async fn one(&self) -> Result<bool> {
        let lease = hex::encode(rand::random::<[u8; 16]>());
        // With the same lease, the server repeats a response that was lost.
        let Some(job) = patiently(async || self.client.claim(&lease).await).await? else {
            return Ok(false);
        };
        tracing::info!(
            "{}: {}@{}",
            Foreign::log(&job.build),
            job.request.profile.name,
            job.request.version
        );
        let logged = job.log_size;
        let claimed = Claimed {
            worker: self,
            job: &job,
            lease: &lease,
            progress: Arc::new(Mutex::new(Progress {
                logged,
                sent: logged,
                ..Progress::default()
            })),
        };
        let folder = self.folder(&job.build)?;
        let outcome = match claimed.build(&folder).await? {
            Ok(()) => tokio::select! {
                uploaded = claimed.upload(&folder) => Outcome::Succeeded { record: uploaded? },
                lost = claimed.keep() => return Err(lost),
            },
            Err(detail) => Outcome::Failed { detail },
        };
        let finish = Finish { lease: lease.clone(), outcome };
        let finished = patiently(async || self.client.finish(&job.build, &finish).await).await;
        // The server has stored or refused the build, so it is no longer needed here.
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        finished?;
        tracing::info!("{}: ended", Foreign::log(&job.build));
        Ok(true)
    }

    /// Makes the index of the suite and uploads it, unless the server has the same one.
    ///
    /// # Errors
    /// When the index cannot be made, or the server is away or refuses it.
    pub async fn share_index(&self) -> Result<()> {
        let builder = Arc::clone(&self.builder);
        let made = tokio::task::spawn_blocking(move || builder.index()).await?;
        let Some(path) = made.map_err(anyhow::Error::msg)? else { return Ok(()) };
        // Another process of this machine may replace the file: all that follows is about this one.
        let file = Arc::new(fs::File::open(&path).with_context(|| path.display().to_string())?);
        let size = file.metadata()?.len();
        let hashed = Arc::clone(&file);
        let digest = tokio::task::spawn_blocking(move || sha256(&hashed)).await??;
        let known = patiently(async || self.client.known_index(suite::SUITE).await).await?;
        if known.digest.as_ref() == Some(&digest) {
            return Ok(());
        }
        let whole = WholeIndex { digest, size };
        let mut offset = 0;
        while offset < size {
            let bytes = read(&file, offset, size).await?;
            let length = bytes.len() as u64;
            patiently(async || {
                self.client.put_index(suite::SUITE, &whole, offset, bytes.clone()).await
            })
            .await?;
            offset += length;
        }
        tracing::info!("the server has the index of {}", suite::SUITE);
        Ok(())
    }

    /// Creates an empty folder for a build.
    fn folder(&self, id: &str) -> Result<PathBuf> {
        let is_plain = !id.is_empty()
            && id.len() <= 100
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_plain {
            bail!("invalid build id from the server: {}", Foreign::log(id));
        }
        let folder = self.work.join(id);
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| folder.display().to_string());
            }
            _ => {}
        }
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }
}

impl Claimed<'_> {
    /// Runs a build, and reports progress to the server. `Err` of the inner result is the reason
    /// why the build failed.
    async fn build(&self, folder: &Path) -> Result<std::result::Result<(), String>> {
        let trust = folder.join("trust");
        write_trust(&trust, self.job)?;
        let request = Request {
            profile: self.job.request.profile.clone(),
            revision: self.job.revision,
            version: self.job.request.version.clone(),
            minimum_version: None,
            trust,
            lock: None,
            refresh_lock: self.job.request.refresh_lock,
            refresh_packages: self.job.request.packages_to_refresh()?,
            agent: self.worker.agent.clone(),
            out: folder.to_owned(),
        };
        let (builder, progress) = (Arc::clone(&self.worker.builder), Arc::clone(&self.progress));
        let mut building = tokio::task::spawn_blocking(move || {
            builder.build(&request, &mut |line| {
                progress.lock().unwrap_or_else(PoisonError::into_inner).add(line)
            })
        });
        let mut reporter = Reporter::new(self);
        let mut clock = tokio::time::interval(REPORT);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let built = loop {
            tokio::select! {
                done = &mut building => break done.context("the build ended abruptly")?,
                _ = clock.tick() => if let Err(e) = reporter.report().await {
                    // The build cannot be cancelled, and another one must not run next to it: wait
                    // for it.
                    building.await.ok();
                    return Err(e);
                }
            }
        };
        // The rest of the log.
        patiently(async || reporter.try_to_report().await).await?;
        Ok(built)
    }

    /// Renews the lease until the server refuses that.
    async fn keep(&self) -> anyhow::Error {
        let mut reporter = Reporter::new(self);
        let mut clock = tokio::time::interval(REPORT);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            if let Err(e) = reporter.report().await {
                return e;
            }
        }
    }

    /// Uploads all files, and returns the record.
    async fn upload(&self, folder: &Path) -> Result<String> {
        let record = String::from_utf8(BuildRecord::bytes(folder)?).context("build.json")?;
        for name in ARTIFACTS {
            self.progress.lock().unwrap_or_else(PoisonError::into_inner).last =
                format!("uploading {name}");
            let path = folder.join(name);
            let file = Arc::new(fs::File::open(&path).with_context(|| path.display().to_string())?);
            let size = file.metadata()?.len();
            let mut offset = 0;
            while offset < size {
                let bytes =
                    read(&file, offset, size).await.with_context(|| path.display().to_string())?;
                let length = bytes.len() as u64;
                // The server fills chunks that are not uploaded with zeros.
                if bytes.iter().any(|b| *b != 0) {
                    let (client, build) = (&self.worker.client, &self.job.build);
                    patiently(async || {
                        let piece = Piece { offset, bytes: bytes.clone() };
                        client.put_file(build, self.lease, name, piece).await
                    })
                    .await?;
                }
                offset += length;
            }
        }
        Ok(record)
    }
}

/// SHA-256 of a file, hexadecimal.
fn sha256(file: &fs::File) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut bytes = vec![0; CHUNK_MAX];
    let mut offset = 0;
    loop {
        let length = file.read_at(&mut bytes, offset)?;
        if length == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&bytes[..length]);
        offset += length as u64;
    }
}

/// Reads the next chunk of a file.
async fn read(file: &Arc<fs::File>, offset: u64, size: u64) -> Result<Vec<u8>> {
    let file = Arc::clone(file);
    let length = usize::try_from((size - offset).min(CHUNK_MAX as u64))?;
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).map(|()| bytes)
    });
    Ok(read.await??)
}

fn write_trust(folder: &Path, job: &Job) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (name, content) in &job.trust {
        let is_plain = !name.starts_with('.')
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if !is_plain || content.len() > TRUST_FILE_MAX {
            bail!("invalid name of a public key file from the server: {}", Foreign::log(name));
        }
        fs::write(
            folder.join(name),
            STANDARD.decode(content).with_context(|| format!("the server's {name}"))?,
        )?;
    }
    Ok(())
}

/// Reports progress to the server.
struct Reporter<'a> {
    claimed: &'a Claimed<'a>,
    reported: String,
    renewed: Option<Instant>,
}

impl<'a> Reporter<'a> {
    fn new(claimed: &'a Claimed<'a>) -> Self {
        Self { claimed, reported: String::new(), renewed: None }
    }

    /// Sends new lines of the log, and renews the lease when it is time.
    ///
    /// # Errors
    /// When the lease is lost. After other failures the next call sends the lines.
    async fn report(&mut self) -> Result<()> {
        match self.try_to_report().await {
            Ok(()) => Ok(()),
            Err(e) if is_final(&e) => Err(e.into()),
            Err(e) => {
                tracing::warn!("{}", Foreign::log(&e.to_string()));
                Ok(())
            }
        }
    }

    async fn try_to_report(&mut self) -> std::result::Result<(), ClientError> {
        let Claimed { worker, job, lease, progress } = self.claimed;
        let (client, build) = (&worker.client, job.build.as_str());
        loop {
            let piece = {
                let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
                let bytes = progress.log[..progress.log.len().min(LOG_PIECE)].to_vec();
                Piece { offset: progress.sent, bytes }
            };
            if piece.bytes.is_empty() {
                break;
            }
            let length = piece.bytes.len();
            client.append_log(build, lease, piece).await?;
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.log.drain(..length);
            progress.sent += length as u64;
        }
        let last = progress.lock().unwrap_or_else(PoisonError::into_inner).last.clone();
        if last != self.reported || self.renewed.is_none_or(|at| at.elapsed() >= RENEW) {
            client
                .renew(build, &Renew { lease: (*lease).to_owned(), detail: last.clone() })
                .await?;
            (self.reported, self.renewed) = (last, Some(Instant::now()));
        }
        Ok(())
    }
}

/// Whether a retry would be refused again.
fn is_final(e: &ClientError) -> bool {
    match e {
        ClientError::Refused(problem) => problem.status < 500 && problem.status != 429,
        ClientError::Transport(_) => false,
        _ => true,
    }
}

/// Repeats a request while the server is away.
async fn patiently<T>(
    mut ask: impl AsyncFnMut() -> std::result::Result<T, ClientError>,
) -> Result<T> {
    let mut pause = Duration::from_secs(1);
    for _ in 1..TRIES_MAX {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(e) if is_final(&e) => return Err(e.into()),
            Err(e) => tracing::warn!(
                "{}; retrying in {} s",
                Foreign::log(&e.to_string()),
                pause.as_secs()
            ),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    Ok(ask().await?)
}
