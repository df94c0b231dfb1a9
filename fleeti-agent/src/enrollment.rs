//! Enrollment: a one-time token for a certificate.

use crate::backoff::Backoff;
use crate::channel::{Channel, Refused};
use crate::device_key::KeptKey;
use crate::helper::{Helper, Occasion};
use crate::identity::{self, Identity, Server};
use crate::image::running_release;
use crate::tpm::KeySeed;
use crate::{Paths, now_s, write_durably};
use anyhow::{Context, Result, ensure};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::Architecture;
use fleeti_core::wire::attestation::{KeyProof, TpmEnrollRequest, TpmEnrollment, TpmProof, TpmSecret};
use fleeti_core::wire::device::{
    EnrollRequest, EnrollResponse, EnrollmentRecord, PairRequest, PairResponse, PairWait, PairWaited, ProvedRenewRequest, RenewRequest,
    RenewResponse,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

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
            false => enroll(paths, &record, helper).await,
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
    let mut channel = anonymous(paths, &Server::of(record)?).await?;
    // Kept until it ends: an answer can be lost, and somebody may be typing the code.
    let path = paths.state.join("pairing.json");
    let kept = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<PairResponse>(&bytes).ok());
    let begun = match kept.filter(|k| now_s() < k.expires_s) {
        Some(kept) => kept,
        None => {
            let key = identity::first_key(paths, helper).await?.open(paths)?;
            let request = PairRequest { csr_pem: fleeti_pki::csr::create(key.as_ref())?, running: running_release(paths)? };
            let begun: PairResponse = channel.post("/pair", &request).await?;
            write_durably(&path, &serde_json::to_vec(&begun)?)?;
            begun
        }
    };
    helper.say(&format!("fleeti: let this device in with the code {} (`fleeti device pair`)", begun.code)).await.ok();
    let wait = PairWait { token: begun.token.clone() };
    loop {
        match channel.post::<_, PairWaited>("/pair/wait", &wait).await {
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
    let identity = enroll(paths, &EnrollmentRecord { token: begun.token, ..record.clone() }, helper).await?;
    std::fs::remove_file(&path).ok();
    Ok(identity)
}

async fn anonymous(paths: &Paths, server: &Server) -> Result<Channel> {
    Channel::open(&server.https_url, identity::anonymous_tls(paths)?).await
}

/// The record names the root that the server must chain to; the image brings it.
fn check_root(paths: &Paths, record: &EnrollmentRecord) -> Result<()> {
    let pem = std::fs::read(paths.lib.join("trust/root.pem"))?;
    let root = CertificateDer::from_pem_slice(&pem).context("the image's root")?;
    let found = sha256_hex(&root);
    ensure!(found == record.root_sha256, "the record is for the root {}, the image trusts {found}", record.root_sha256);
    Ok(())
}

/// A token for a certificate. A device with a TPM shows it first, gives back what only that TPM gives away, and has it say
/// that the key is in it, all over one connection.
async fn enroll(paths: &Paths, record: &EnrollmentRecord, helper: &Helper) -> Result<Identity> {
    let server = Server::of(record)?;
    let kept = identity::first_key(paths, helper).await?;
    let mut channel = anonymous(paths, &server).await?;
    let tpm = match kept.seed()? {
        Some(seed) => Some(prove(&mut channel, &record.token, &seed, helper).await?),
        None => None,
    };
    let request = EnrollRequest {
        token: record.token.clone(),
        csr_pem: fleeti_pki::csr::create(kept.open(paths)?.as_ref())?,
        architecture: Architecture::X86_64,
        running: running_release(paths)?,
        tpm,
    };
    let response: EnrollResponse = channel.post("/enroll", &request).await?;
    Identity::store(paths, response, server)
}

async fn prove(channel: &mut Channel, token: &str, seed: &KeySeed, helper: &Helper) -> Result<TpmEnrollment> {
    let tpm = helper.tpm_identity().await?.context("the TPM is gone")?;
    let secret: TpmSecret = channel.post("/enroll/tpm", &TpmEnrollRequest { token: token.to_owned(), tpm }).await?;
    let given = helper.tpm_activate(secret.blob, secret.secret).await?;
    let key = helper.certify(seed, Occasion::Enrollment(sha256_hex(token.as_bytes())), &channel.binding()?).await?;
    Ok(TpmEnrollment { proof: TpmProof { id: secret.id, secret: given }, key })
}

/// A new certificate over a new key. While the old one is good it stands for the device; afterwards its TPM does.
///
/// # Errors
/// When the server refuses or cannot be reached.
pub async fn renew(paths: &Paths, identity: &Identity, helper: &Helper) -> Result<()> {
    let next = identity::next_key(paths, helper).await?;
    let url = &identity.server.https_url;
    let by_certificate = async {
        let mut channel = Channel::open(url, identity.tls(paths)?).await?;
        let (csr_pem, key) = request_of(paths, &next, identity, helper, &channel).await?;
        channel.post("/renew", &RenewRequest { csr_pem, key }).await
    };
    let response: RenewResponse = match by_certificate.await {
        Ok(response) => response,
        Err(e) if next.seed()?.is_some() => {
            tracing::warn!("the certificate renews nothing: {e:#}; the TPM is asked");
            let mut channel = Channel::open(url, identity::anonymous_tls(paths)?).await?;
            let (csr_pem, key) = request_of(paths, &next, identity, helper, &channel).await?;
            let key = key.context("a key in the TPM is certified")?;
            channel.post("/renew/proved", &ProvedRenewRequest { device: identity.device.clone(), csr_pem, key }).await?
        }
        Err(e) => return Err(e),
    };
    identity.store_renewed(paths, next, response)
}

/// The request for a key, and what the TPM says of it over this connection.
async fn request_of(
    paths: &Paths,
    next: &KeptKey,
    identity: &Identity,
    helper: &Helper,
    channel: &Channel,
) -> Result<(String, Option<KeyProof>)> {
    let csr_pem = fleeti_pki::csr::create(next.open(paths)?.as_ref())?;
    let key = match next.seed()? {
        Some(seed) => Some(helper.certify(&seed, Occasion::Renewal(identity.device.clone()), &channel.binding()?).await?),
        None => None,
    };
    Ok((csr_pem, key))
}
