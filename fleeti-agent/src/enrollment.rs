//! Enrollment: a one-time token for a certificate.

use crate::backoff::Backoff;
use crate::helper::Helper;
use crate::http::{self, read_limited};
use crate::identity::{self, Identity, Server};
use crate::image::running_release;
use crate::{Paths, now_s, write_durably};
use anyhow::{Context, Result, ensure};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::Architecture;
use fleeti_core::wire::device::{
    EnrollRequest, EnrollResponse, EnrollmentRecord, PairRequest, PairResponse, PairWait, PairWaited, RenewRequest, RenewResponse,
};
use fleeti_core::wire::problem::Problem;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Largest answer that is read.
const RESPONSE_MAX: usize = 64 * 1024;

/// The identity of this device; enrolls, as often as it takes, when there is none.
///
/// # Errors
/// When there is no enrollment record, or the image's root is not the record's.
pub async fn ensure_enrolled(paths: &Paths, helper: &Helper) -> Result<Identity> {
    if let Some(identity) = Identity::load(paths)? {
        return Ok(identity);
    }
    let record = helper.enrollment_record().await?.context("this device is not enrolled and has no enrollment record")?;
    check_root(paths, &record)?;
    let mut backoff = Backoff::default();
    loop {
        let enrolled = match record.token.is_empty() {
            true => pair_and_enroll(paths, &record, helper).await,
            false => enroll(paths, &record).await,
        };
        match enrolled {
            Ok(identity) => return Ok(identity),
            Err(e) => {
                tracing::warn!("enrollment failed: {e:#}");
                helper.say(&format!("fleeti: enrollment failed: {e:#}")).await.ok();
                backoff.wait().await;
            }
        }
    }
}

/// Shows a code, waits until somebody has entered it, and enrolls with what it stands for.
async fn pair_and_enroll(paths: &Paths, record: &EnrollmentRecord, helper: &Helper) -> Result<Identity> {
    let url = Server::of(record)?.https_url;
    let client = http::client(identity::anonymous_tls(paths)?).build()?;
    // Kept until it ends: an answer can be lost, and somebody may be typing the code.
    let path = paths.state.join("pairing.json");
    let kept = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<PairResponse>(&bytes).ok());
    let begun = match kept.filter(|k| now_s() < k.expires_s) {
        Some(kept) => kept,
        None => {
            let request = PairRequest { csr_pem: fleeti_pki::csr::create(&identity::key(paths)?)?, running: running_release(paths)? };
            let begun: PairResponse = ask(&client, &format!("{url}/pair"), &request).await?;
            write_durably(&path, &serde_json::to_vec(&begun)?)?;
            begun
        }
    };
    helper.say(&format!("fleeti: let this device in with the code {} (`fleeti device pair`)", begun.code)).await.ok();
    let wait = PairWait { token: begun.token.clone() };
    loop {
        match ask::<_, PairWaited>(&client, &format!("{url}/pair/wait"), &wait).await {
            Ok(waited) if waited.is_paired => break,
            Ok(_) => {}
            Err(e) => {
                if e.is::<Refused>() {
                    std::fs::remove_file(&path).ok(); // the next try has a new code
                }
                return Err(e);
            }
        }
    }
    let identity = enroll(paths, &EnrollmentRecord { token: begun.token, ..record.clone() }).await?;
    std::fs::remove_file(&path).ok();
    Ok(identity)
}

/// The record names the root that the server must chain to; the image brings it.
fn check_root(paths: &Paths, record: &EnrollmentRecord) -> Result<()> {
    let pem = std::fs::read(paths.lib.join("trust/root.pem"))?;
    let root = CertificateDer::from_pem_slice(&pem).context("the image's root")?;
    let found = sha256_hex(&root);
    ensure!(found == record.root_sha256, "the record is for the root {}, the image trusts {found}", record.root_sha256);
    Ok(())
}

async fn enroll(paths: &Paths, record: &EnrollmentRecord) -> Result<Identity> {
    let server = Server::of(record)?;
    let client = http::client(identity::anonymous_tls(paths)?).build()?;
    let request = EnrollRequest {
        token: record.token.clone(),
        csr_pem: fleeti_pki::csr::create(&identity::key(paths)?)?,
        architecture: Architecture::X86_64,
        running: running_release(paths)?,
    };
    let response: EnrollResponse = ask(&client, &format!("{}/enroll", server.https_url), &request).await?;
    Identity::store(paths, response, server)
}

/// The server's no, which asking again does not change.
#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server refused: {}", self.0)
    }
}

impl std::error::Error for Refused {}

async fn ask<Q: Serialize, A: DeserializeOwned>(client: &reqwest::Client, url: &str, request: &Q) -> Result<A> {
    let response = client.post(url).json(request).timeout(Duration::from_secs(60)).send().await?;
    let status = response.status();
    let body = read_limited(response, RESPONSE_MAX).await?;
    if !status.is_success() {
        let detail = serde_json::from_slice::<Problem>(&body).map_or_else(|_| status.to_string(), |p| p.detail);
        return Err(Refused(detail).into());
    }
    Ok(serde_json::from_slice(&body)?)
}

/// A new certificate over a new key, while the old one is good.
///
/// # Errors
/// When the server refuses or cannot be reached.
pub async fn renew(paths: &Paths, identity: &Identity, http: &reqwest::Client) -> Result<()> {
    let next = identity::next_key(paths)?;
    let request = RenewRequest { csr_pem: fleeti_pki::csr::create(&next)? };
    let url = format!("{}/renew", identity.server.https_url);
    let response = http.post(url).json(&request).timeout(Duration::from_secs(60)).send().await?.error_for_status()?;
    let response: RenewResponse = serde_json::from_slice(&read_limited(response, RESPONSE_MAX).await?)?;
    identity.store_renewed(paths, next, response)
}
