//! One attempt to stage a release: the daemon verifies its documents, then the helper stages it
//! from a proxy that serves nothing else.

use crate::announcements::{Announcements, NotTaken};
use crate::http::read_limited;
use crate::pace::Pace;
use crate::privileged::{Armed, Helper, PreviousRequest, StageRequest};
use crate::proxy::Proxy;
use crate::{Paths, anchors};
use anyhow::{Context, Result};
use fleeti_core::strict;
use fleeti_core::update::FailureCode;
use fleeti_core::wire::device::{Progress, ReleaseProof};
use fleeti_pki::manifest::{Signature, verify};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// One attempt to stage a release.
pub struct Staging {
    /// File locations.
    pub paths: Paths,
    /// The helper.
    pub helper: Helper,
    /// HTTPS with the device's identity.
    pub http: reqwest::Client,
    /// The server's device port.
    pub https_url: String,
    /// The URL of the release.
    pub upstream: String,
    /// The announcements.
    pub announcements: Arc<Announcements>,
    /// Highest rate of the download, KiB per second.
    pub download_kib_s: Option<u32>,
    /// The progress of the download.
    pub progress: watch::Sender<Option<Progress>>,
}

impl Staging {
    /// Verifies the release, serves it through the proxy, and has the helper stage it.
    ///
    /// # Errors
    /// The code and detail of a failure.
    pub async fn run(&self) -> Result<(), (FailureCode, String)> {
        let unreachable = |e: anyhow::Error| (FailureCode::Unreachable, format!("{e:#}"));
        let manifest = self.get("manifest.json").await.map_err(unreachable)?;
        let signatures = self.get("signatures.json").await.map_err(unreachable)?;
        let untrusted = |e: String| (FailureCode::ManifestUntrusted, e);
        let signatures: Vec<(String, String)> = strict::from_slice(signatures.as_bytes())
            .map_err(|e| untrusted(format!("signatures.json: {e}")))?;
        // The proxy serves only verified files; the helper verifies again, because it does not
        // trust the daemon.
        let anchors = anchors::of_daemon(&self.paths).map_err(|e| untrusted(format!("{e:#}")))?;
        let verified =
            verify(manifest.as_bytes(), &Signature::all_of(&signatures), anchors.release_keys())
                .map_err(|e| untrusted(e.to_string()))?;
        let transitions = anchors::seen(&self.paths.state);
        // The helper decides whether the proof is valid.
        let seen = self
            .helper
            .log_size(transitions.clone())
            .await
            .map_err(|e| (FailureCode::NotInLog, format!("{e:#}")))?;
        let proof = self.get(&format!("proof.json?size={seen}")).await.map_err(unreachable)?;
        let proof: Box<ReleaseProof> = strict::from_slice(proof.as_bytes())
            .map_err(|e| (FailureCode::NotInLog, format!("proof.json: {e}")))?;
        // The helper remembers the log from earlier releases, the daemon from notices: both must be
        // the same log, or it is split.
        self.announcements
            .take_checkpoint(&proof.published.checkpoint, &self.http, &self.https_url)
            .await
            .map_err(|e| {
                let code = match e {
                    NotTaken::Split(_) => FailureCode::LogSplit,
                    NotTaken::Forged(_) => FailureCode::NotInLog,
                    NotTaken::Old(_) => FailureCode::LogStale,
                    NotTaken::Unproved(_) | NotTaken::Failed(_) => FailureCode::Unreachable,
                };
                (code, e.to_string())
            })?;
        // The helper checks these signatures against the firmware's keys when it arms.
        let boot = self.get("boot.json").await.map_err(unreachable)?;
        let boot = strict::from_slice(boot.as_bytes())
            .map_err(|e| (FailureCode::StageFailed, format!("boot.json: {e}")))?;
        let pace = self.download_kib_s.map(Pace::of);
        let proxy = Proxy::start(self.http.clone(), self.upstream.clone(), verified, pace)
            .await
            .map_err(unreachable)?;
        let staging = self.helper.stage(StageRequest {
            manifest,
            signatures,
            proof: Some(proof),
            boot,
            url: proxy.url.clone(),
            transitions,
        });
        tokio::pin!(staging);
        loop {
            tokio::select! {
                result = &mut staging => return result.map_err(|e| (FailureCode::StageFailed, format!("{e:#}")))?,
                () = tokio::time::sleep(Duration::from_secs(2)) => { self.progress.send_replace(Some(proxy.progress())); }
            }
        }
    }

    /// Has the helper make a release bootable that the other slot has already.
    ///
    /// # Errors
    /// If the release's documents cannot be read, or the helper refuses.
    pub async fn arm_previous(&self, may_reboot: bool) -> Result<Armed> {
        let manifest = self.get("manifest.json").await?;
        let signatures = self.get("signatures.json").await?;
        let signatures = strict::from_slice(signatures.as_bytes()).context("signatures.json")?;
        let transitions = anchors::seen(&self.paths.state);
        let request = PreviousRequest { manifest, signatures, transitions, may_reboot };
        self.helper.arm_previous(request).await
    }

    async fn get(&self, name: &str) -> Result<String> {
        let request =
            self.http.get(format!("{}/{name}", self.upstream)).timeout(Duration::from_secs(60));
        let response = request.send().await?.error_for_status()?;
        let document = name.split('?').next().unwrap_or(name).to_owned();
        let bytes = read_limited(response, fleeti_core::manifest::BYTES_MAX)
            .await
            .with_context(|| document.clone())?;
        String::from_utf8(bytes).context(document)
    }
}
