//! Enrollment and renewal: exchanges a one-time token, or a certificate, for a certificate.

use crate::backoff::Backoff;
use crate::channel::{Channel, Refused, Unreachable};
use crate::device_key::KeptKey;
use crate::identity::{self, Identity, Server};
use crate::image::running_release;
use crate::privileged::{Helper, Occasion};
use crate::tpm::KeySeed;
use crate::{Paths, anchors, kept, transitions, write_durably};
use anyhow::{Context, Result, ensure};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::Architecture;
use fleeti_core::wire::attestation::{
    TpmEnrollRequest, TpmEnrollment, TpmIdentity, TpmProof, TpmSecret,
};
use fleeti_core::wire::enrollment::{
    EnrollRequest, EnrollResponse, EnrollmentRecord, PairRequest, PairResponse, PairWait,
    PairWaited, ProvedRenewRequest, RenewRequest, RenewResponse,
};
use fleeti_pki::{certificate, readmission};
use serde::{Deserialize, Serialize};

/// The identity of this device. Enrolls it if there is none, and retries until that succeeds.
///
/// # Errors
/// If there is no enrollment record, or its root is not the image's.
pub async fn ensure_enrolled(paths: &Paths, helper: &Helper) -> Result<Identity> {
    if let Some(identity) = Identity::load(paths)? {
        return Ok(identity);
    }
    let record = helper
        .enrollment_record()
        .await?
        .context("this device is not enrolled and has no enrollment record")?;
    if Identity::is_there(paths) {
        // The file with the server's address was lost; the record has it as well.
        Identity::keep_server(paths, &server_of(paths, &record)?)?;
        if let Some(identity) = Identity::load(paths)? {
            return Ok(identity);
        }
    }
    let mut backoff = Backoff::default();
    loop {
        let enrolled = match (check_root(paths, &record), record.token.is_empty()) {
            (Err(e), _) => Err(e),
            (Ok(()), true) => pair_and_enroll(paths, &record, helper).await,
            (Ok(()), false) => enroll(paths, &record, helper).await,
        };
        match enrolled {
            Ok(identity) => return Ok(identity),
            Err(e) => {
                tracing::warn!("enrollment failed: {e:#}");
                // An image may have been stored so long that the server's root is newer.
                match transitions::ask_any_server(paths, &server_of(paths, &record)?).await {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(e) => tracing::warn!("no server names newer trust anchors: {e:#}"),
                }
                helper.say(&format!("fleeti: enrollment failed: {e:#}")).await.ok();
                backoff.wait().await;
            }
        }
    }
}

/// Shows a pairing code, waits until an operator enters it, and enrolls with the token.
async fn pair_and_enroll(
    paths: &Paths,
    record: &EnrollmentRecord,
    helper: &Helper,
) -> Result<Identity> {
    // Kept until it expires: a response can be lost, and an operator may be typing the code.
    let (path, by_file) = (paths.state.join("pairing.json"), paths.state.join("pairing-by-file"));
    let begun = match kept::read(&path, kept::json::<Pairing>)
        .filter(|k| paths.clock.now_s() < k.begun.expires_s)
    {
        Some(kept) => kept,
        None => {
            // The token is bound to one key, so whether the TPM supports what is needed is checked
            // first.
            let is_in_tpm = !by_file.exists()
                && matches!(helper.tpm_identity().await, Ok(Some(_)))
                && identity::first_key(paths, helper, true).await.is_ok();
            let csr_pem = csr(&identity::first_key(paths, helper, is_in_tpm).await?, paths)?;
            let request = PairRequest { csr_pem, running: running_release(paths)? };
            let begun =
                anonymous(paths, &server_of(paths, record)?).await?.post("/pair", &request).await?;
            let pairing = Pairing { begun, is_in_tpm };
            write_durably(&path, &serde_json::to_vec(&pairing)?)?;
            pairing
        }
    };
    let Pairing { begun, is_in_tpm } = begun;
    helper
        .say(&format!("fleeti: pairing code {} (enter it with `fleeti device pair`)", begun.code))
        .await
        .ok();
    let wait = PairWait { token: begun.token.clone() };
    let mut channel = anonymous(paths, &server_of(paths, record)?).await?;
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
    let record = EnrollmentRecord { token: begun.token, ..record.clone() };
    let enrolled = match is_in_tpm {
        true => {
            match helper.tpm_identity().await.and_then(|shown| shown.context("the TPM is gone")) {
                Ok(shown) => enroll_with(paths, &record, helper, Some(shown)).await,
                Err(e) => Err(e),
            }
        }
        false => enroll_with(paths, &record, helper, None).await,
    };
    match &enrolled {
        Err(e) if e.is::<Unreachable>() => return enrolled,
        // The TPM is unusable: the next code is for a key in a file.
        Err(_) if is_in_tpm => write_durably(&by_file, b"")?,
        _ => drop(std::fs::remove_file(&by_file)),
    }
    std::fs::remove_file(&path).ok();
    enrolled
}

/// A code that is shown, and the key that it is for.
#[derive(Serialize, Deserialize)]
struct Pairing {
    #[serde(flatten)]
    begun: PairResponse,
    #[serde(default)]
    is_in_tpm: bool,
}

/// The current address of the server that the record names.
fn server_of(paths: &Paths, record: &EnrollmentRecord) -> Result<Server> {
    Ok(Server::of(record)?.followed(anchors::of_daemon(paths)?.moves()))
}

async fn anonymous(paths: &Paths, server: &Server) -> Result<Channel> {
    Channel::open(&server.https_url, identity::anonymous_tls(paths)?, server.proxy()?.as_ref())
        .await
}

fn csr(key: &KeptKey, paths: &Paths) -> Result<String> {
    Ok(fleeti_pki::csr::create(key.open(paths)?.as_ref())?)
}

/// Checks that the root that the record names is the image's, or one that it has introduced.
fn check_root(paths: &Paths, record: &EnrollmentRecord) -> Result<()> {
    let image = anchors::of_image(paths)?;
    let walked = anchors::of_daemon(paths)?;
    let names = image
        .roots()
        .iter()
        .chain(walked.roots())
        .map(certificate::fingerprint)
        .collect::<Result<Vec<_>, _>>()?;
    let found = names.first().map_or("none", String::as_str);
    ensure!(
        names.contains(&record.root_sha256),
        "the enrollment record names the root {}, but the image trusts {found}",
        record.root_sha256
    );
    Ok(())
}

/// Enrolls with a key in the TPM or, without a usable TPM, with a key in a file. A token that is
/// bound to a TPM is not used without it.
async fn enroll(paths: &Paths, record: &EnrollmentRecord, helper: &Helper) -> Result<Identity> {
    // Slow TPM operations that need no connection come first.
    let by_tpm = match helper.tpm_identity().await {
        Ok(None) => return enroll_with(paths, record, helper, None).await,
        Ok(shown) => enroll_with(paths, record, helper, shown).await,
        Err(e) => Err(e),
    };
    let reason = match by_tpm {
        Ok(identity) => return Ok(identity),
        // An attacker who breaks connections must not decide where the key is.
        Err(e) if e.is::<Unreachable>() => return Err(e),
        Err(reason) => reason,
    };
    // If this fails as well, the caller logs both reasons.
    let identity = enroll_with(paths, record, helper, None)
        .await
        .map_err(|e| e.context(format!("with the TPM: {reason:#}; without the TPM")))?;
    tracing::warn!("the key is in a file, because enrollment with the TPM failed: {reason:#}");
    Ok(identity)
}

/// Enrolls over one connection. A device with a TPM presents the TPM first, returns the secret that
/// only this TPM can decrypt, and has it certify the device key.
async fn enroll_with(
    paths: &Paths,
    record: &EnrollmentRecord,
    helper: &Helper,
    shown: Option<TpmIdentity>,
) -> Result<Identity> {
    let server = server_of(paths, record)?;
    let kept = identity::first_key(paths, helper, shown.is_some()).await?;
    let csr_pem = csr(&kept, paths)?;
    let mut channel = anonymous(paths, &server).await?;
    let tpm = match kept.seed()?.zip(shown) {
        Some((seed, shown)) => {
            Some(prove(&mut channel, &record.token, &seed, shown, helper).await?)
        }
        None => None,
    };
    let request = EnrollRequest {
        token: record.token.clone(),
        csr_pem,
        architecture: Architecture::X86_64,
        running: running_release(paths)?,
        tpm,
    };
    let response: EnrollResponse = channel.post("/enroll", &request).await?;
    Identity::store(paths, kept, response, server)
}

async fn prove(
    channel: &mut Channel,
    token: &str,
    seed: &KeySeed,
    tpm: TpmIdentity,
    helper: &Helper,
) -> Result<TpmEnrollment> {
    let secret: TpmSecret =
        channel.post("/enroll/tpm", &TpmEnrollRequest { token: token.to_owned(), tpm }).await?;
    let given = helper.tpm_activate(secret.blob, secret.secret).await?;
    let key = helper
        .certify(seed, Occasion::Enrollment(sha256_hex(token.as_bytes())), &channel.binding()?)
        .await?;
    Ok(TpmEnrollment { proof: TpmProof { id: secret.id, secret: given }, key })
}

/// Renews the certificate with a new key. A valid certificate authenticates the device; after it
/// has expired, the TPM does. A key in the TPM is followed by another one in the TPM; so is a key
/// in a file, if the server accepts that.
///
/// # Errors
/// If the server refuses or is unreachable, or the TPM does not answer.
pub async fn renew(paths: &Paths, identity: &Identity, helper: &Helper) -> Result<()> {
    match renew_in_tpm(paths, identity, helper).await {
        Err(e) if !identity.is_in_tpm && !e.is::<Unreachable>() => {
            tracing::info!("the next key will be in a file: {e:#}");
            let next = identity::next_key(paths, helper, false).await?;
            let request = RenewRequest { csr_pem: csr(&next, paths)?, key: None };
            let proxy = identity.server.proxy()?;
            let by_certificate = async {
                let mut channel =
                    Channel::open(&identity.server.https_url, identity.tls(paths)?, proxy.as_ref())
                        .await?;
                channel.post("/renew", &request).await
            };
            let response: RenewResponse = match by_certificate.await {
                Ok(response) => response,
                Err(e) => {
                    tracing::warn!("renewal with the certificate failed: {e:#}; trying its key");
                    // An operator may readmit devices whose certificates have expired.
                    let mut channel = Channel::open(
                        &identity.server.https_url,
                        identity::anonymous_tls(paths)?,
                        proxy.as_ref(),
                    )
                    .await?;
                    let asked = readmission::request(
                        &identity.device,
                        csr(&next, paths)?,
                        identity.signer(),
                        &channel.binding()?,
                    )?;
                    channel.post("/renew/readmitted", &asked).await?
                }
            };
            identity.store_renewed(paths, next, response)
        }
        result => result,
    }
}

async fn renew_in_tpm(paths: &Paths, identity: &Identity, helper: &Helper) -> Result<()> {
    let next = identity::next_key(paths, helper, true).await?;
    let seed = next.seed()?.context("a key in the TPM")?;
    let csr_pem = csr(&next, paths)?;
    let (url, proxy) = (&identity.server.https_url, identity.server.proxy()?);
    let certified = async |channel: &Channel| {
        helper.certify(&seed, Occasion::Renewal(identity.device.clone()), &channel.binding()?).await
    };
    let by_certificate = async {
        let mut channel = Channel::open(url, identity.tls(paths)?, proxy.as_ref()).await?;
        let key = Some(certified(&channel).await?);
        channel.post("/renew", &RenewRequest { csr_pem: csr_pem.clone(), key }).await
    };
    let response: RenewResponse = match by_certificate.await {
        Ok(response) => response,
        Err(e) => {
            tracing::warn!("renewal with the certificate failed: {e:#}; trying the TPM");
            let mut channel =
                Channel::open(url, identity::anonymous_tls(paths)?, proxy.as_ref()).await?;
            let key = certified(&channel).await?;
            let request = ProvedRenewRequest {
                device: identity.device.clone(),
                csr_pem: csr_pem.clone(),
                key,
            };
            channel.post("/renew/proved", &request).await?
        }
    };
    identity.store_renewed(paths, next, response)
}
