//! Which intermediate CAs count, and which of them issue. The root decides what counts, by its
//! signature over the trust bundle, which the server verifies whenever it reads the bundle. To
//! rotate an intermediate CA: publish a bundle with the new one, wait until devices have it, switch
//! the issuer, wait until devices have renewed their certificates, publish a bundle without the old
//! one.

use crate::app::{App, AppRef, now_s};
use crate::config::Pki;
use crate::error::AppError;
use crate::service::{health, notice, revocation, signing};
use base64::Engine;
use bytes::Bytes;
use fleeti_core::wire::api::{ImportBundle, Intermediate, SwitchIssuer, TrustStatus};
use fleeti_core::wire::device::SignedBundle;
use fleeti_core::wire::problem::Code;
use fleeti_pki::bundle::{self, VerifiedBundle};
use fleeti_pki::ceremony::Transcript;
use fleeti_pki::certificate::{self, Purpose};
use fleeti_pki::crl::VerifiedCrl;
use fleeti_signer::wire::{Request, Response};
use fleeti_store::{self as store, Db};
use std::sync::Arc;
use x509_cert::Certificate;

/// Percent of devices that must have a bundle before its new intermediate CA can issue.
const TAKEN_OF_100: u64 = 99;
/// Warn about what expires within this time, because ceremonies and rotations take long.
const SOON_S: u64 = 30 * 86_400;
/// The same for CRLs of TPM manufacturers, which publish new ones every week.
const LIST_SOON_S: u64 = 2 * 86_400;

/// An intermediate CA that counts.
#[derive(Clone)]
pub struct Accepted {
    /// What it certifies.
    pub purpose: Purpose,
    /// Its certificate.
    pub certificate: Certificate,
    /// Its certificate, PEM: every device gets it with its own certificate.
    pub pem: String,
    /// SHA-256 of its certificate.
    pub sha256: String,
    /// Id of its key, which is the name of its CRL.
    pub key_id: String,
}

impl Accepted {
    fn of(purpose: Purpose, certificate: &Certificate) -> Result<Self, AppError> {
        let (sha256, key_id) = bundle::names(certificate)?;
        Ok(Self {
            purpose,
            certificate: certificate.clone(),
            pem: certificate::to_pem(certificate)?,
            sha256,
            key_id,
        })
    }
}

/// The intermediate CAs that count, and the issuing ones.
#[derive(Clone)]
pub struct Trust {
    version: u64,
    root_crl_ends_s: Option<u64>,
    accepted: Vec<Accepted>,
    device: Accepted,
    server: Accepted,
}

impl Trust {
    /// Version of the bundle; 0 before the first.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
    /// Warnings about what expires soon, or has expired, and the server cannot renew. Intermediate
    /// CAs that do not issue may expire: that ends a rotation.
    fn warnings(&self, now_s: u64) -> Vec<String> {
        let list = self
            .root_crl_ends_s
            .and_then(|at| ends(at, now_s, SOON_S))
            .map(|ends| format!("the root's CRL {ends}; with an expired CRL the server accepts no trust bundle: hold a ceremony (`fleeti pki root crl`)"));
        let issuing = [(Purpose::Device, &self.device), (Purpose::Server, &self.server)].into_iter().filter_map(|(purpose, a)| {
            let ends = ends(certificate::not_after_s(&a.certificate), now_s, SOON_S)?;
            let name = a.certificate.tbs_certificate().subject();
            Some(format!("the {} intermediate CA {name} {ends}: certify a new one with the root (`fleeti pki root sign`)", purpose.as_str()))
        });
        list.into_iter().chain(issuing).collect()
    }
    /// The intermediate CA that issues device certificates.
    #[must_use]
    pub fn device(&self) -> &Accepted {
        &self.device
    }
    /// The intermediate CA that issues server certificates.
    #[must_use]
    pub fn server(&self) -> &Accepted {
        &self.server
    }
    /// The intermediate CAs for devices.
    pub fn devices(&self) -> impl Iterator<Item = &Accepted> {
        self.accepted.iter().filter(|a| a.purpose == Purpose::Device)
    }
}

/// Words for an expiry that is past or soon, else `None`.
fn ends(at_s: u64, now_s: u64, soon_s: u64) -> Option<String> {
    match at_s.checked_sub(now_s) {
        None => Some("has expired".into()),
        Some(left_s) if left_s < soon_s => Some(format!("expires in {} days", left_s / 86_400)),
        Some(_) => None,
    }
}

/// Warnings about what expires soon, or has expired, and operators must renew.
#[must_use]
pub fn warnings(app: &App, now_s: u64) -> Vec<String> {
    let manufacturers = app.pki.manufacturers.load();
    let lists = manufacturers.lists().filter_map(|(manufacturer, at)| {
        let ends = ends(at, now_s, LIST_SOON_S)?;
        Some(format!(
            "the CRL of TPM manufacturer {manufacturer} {ends}; with an expired CRL its TPMs are not trusted: put its newest CRL into tpm-manufacturers"
        ))
    });
    let left_out = manufacturers.left_out().iter().map(|(file, problem)| {
        format!("tpm-manufacturers/{file} is ignored because it cannot be read: {problem}")
    });
    let missing = health::warnings(app).into_iter();
    missing.chain(app.trust.load().warnings(now_s)).chain(lists).chain(left_out).collect()
}

/// Loads what counts from the newest bundle, or from the `public` folder before the first one.
///
/// # Errors
/// When the root has not signed the bundle in the database, or none of its intermediate CAs can
/// issue.
pub async fn load(db: &Db, pki: &Pki) -> Result<Trust, AppError> {
    // The newest bundle of this root: bundles of a previous root do not count.
    let (version, root_crl_ends_s, accepted) =
        match store::trust::newest(db.pool(), &pki.root_sha256).await? {
            Some(signed) => {
                let bundle = bundle::read(&signed, &pki.root)?;
                (
                    bundle.version(),
                    Some(VerifiedCrl::read(bundle.crl(), &pki.root)?.next_update_s()),
                    accepted(&bundle)?,
                )
            }
            None => {
                let both = [(Purpose::Device, &pki.device_ca), (Purpose::Server, &pki.server_ca)];
                (
                    0,
                    None,
                    both.into_iter().map(|(p, c)| Accepted::of(p, c)).collect::<Result<_, _>>()?,
                )
            }
        };
    let chosen = store::trust::issuing(db.pool()).await?;
    let signs = |purpose: Purpose| {
        let mut of = accepted.iter().filter(|a| a.purpose == purpose);
        let wanted = chosen.get(purpose.as_str());
        let found = wanted
            .and_then(|sha256| of.clone().find(|a| a.sha256 == *sha256))
            .or_else(|| of.next());
        let missing =
            || AppError::internal(format!("no intermediate CA for {}s counts", purpose.as_str()));
        found.cloned().ok_or_else(missing)
    };
    let (device, server) = (signs(Purpose::Device)?, signs(Purpose::Server)?);
    Ok(Trust { version, root_crl_ends_s, device, server, accepted })
}

fn accepted(bundle: &VerifiedBundle) -> Result<Vec<Accepted>, AppError> {
    let of =
        |purpose| bundle.of(purpose).map(move |certificate| Accepted::of(purpose, certificate));
    Purpose::ALL.into_iter().flat_map(of).collect()
}

/// Imports the result of a ceremony and puts it in force. Idempotent: repeating the call completes
/// an interrupted one.
///
/// # Errors
/// [`Code::Untrusted`] for a bundle that the root has not signed; [`Code::Conflict`] for an older
/// bundle, for one without the current issuer, and, unless `anyway` is set, for one that excludes
/// certificates of devices.
pub async fn import(app: &AppRef, import: &ImportBundle) -> Result<TrustStatus, AppError> {
    // A task of its own: if the operator's connection breaks, the import must still complete.
    let (app, import) = (Arc::clone(app), import.clone());
    tokio::spawn(async move { apply_import(&app, &import).await })
        .await
        .map_err(AppError::internal)?
}

async fn apply_import(app: &App, import: &ImportBundle) -> Result<TrustStatus, AppError> {
    let untrusted = |e: fleeti_pki::Error| AppError::new(Code::Untrusted, e.to_string());
    let read = bundle::read(&import.bundle, &app.pki.root).map_err(untrusted)?;
    let signature = base64::engine::general_purpose::STANDARD.decode(&import.transcript_signature);
    let signature = signature
        .map_err(|e| AppError::new(Code::Invalid, format!("transcript_signature: {e}")))?;
    let transcript =
        Transcript::read(&import.transcript, &signature, &app.pki.root).map_err(untrusted)?;
    if !transcript.has_bundle(read.sha256()) {
        return Err(AppError::new(Code::Untrusted, "the transcript does not contain this bundle"));
    }
    if VerifiedCrl::read(read.crl(), &app.pki.root).map_err(untrusted)?.next_update_s() < now_s() {
        return Err(AppError::new(Code::Conflict, "the root's CRL has expired")
            .hint("make a new one with `fleeti pki root crl`"));
    }
    let _alone = app.crls.alone.lock().await;
    if store::trust::newest(app.db.pool(), &app.pki.root_sha256)
        .await?
        .is_some_and(|newest| newest == import.bundle)
    {
        take_up(app).await?;
        return status(app).await;
    }
    let next = accepted(&read)?;
    check_successor(app, &read, &next, &transcript, import.anyway).await?;
    let mut tx = app.db.write().await?;
    store::trust::insert(
        &mut tx,
        (&app.pki.root_sha256, read.version()),
        &import.bundle,
        transcript.text(),
        now_s(),
    )
    .await?;
    app.audit(
        &mut tx,
        now_s(),
        "admin",
        "trust-bundle.import",
        &format!("version {} {}", read.version(), read.sha256()),
    )
    .await?;
    tx.commit().await?;
    take_up(app).await?;
    status(app).await
}

/// Checks that a bundle can replace the current one.
async fn check_successor(
    app: &App,
    read: &VerifiedBundle,
    next: &[Accepted],
    transcript: &Transcript,
    anyway: bool,
) -> Result<(), AppError> {
    let conflict = |text: String, hint| Err(AppError::new(Code::Conflict, text).hint(hint));
    let now = app.trust.load_full();
    if read.version() <= now.version() {
        let text = format!(
            "version {} of the bundle is already in force, this is version {}",
            now.version(),
            read.version()
        );
        return conflict(text, "publish the bundle of the last ceremony");
    }
    if let Some(older) = store::trust::transcript(app.db.pool(), &app.pki.root_sha256).await?
        && !transcript.follows(&older)
    {
        let hint =
            "an older copy of the root's folder would undo later revocations; use the newest copy";
        return conflict("the transcript does not continue the last published one".into(), hint);
    }
    for signing in [now.device(), now.server()] {
        if !next.iter().any(|a| a.sha256 == signing.sha256) {
            let text = format!(
                "the current {} issuer is not in this bundle: {}",
                signing.purpose.as_str(),
                signing.sha256
            );
            return conflict(
                text,
                "first switch to another issuer with `fleeti pki bundle switch`",
            );
        }
    }
    let first = certificate::fingerprint(&app.pki.device_ca)?;
    for gone in now.devices().filter(|a| !next.iter().any(|n| n.sha256 == a.sha256)) {
        let left = store::trust::devices_of(app.db.pool(), &gone.sha256, &first).await?;
        if left > 0 && !anyway {
            let text = format!(
                "{left} devices still have a certificate of an intermediate CA that is not in this bundle"
            );
            return conflict(
                text,
                "wait until they have renewed it, at most 20 days; or publish with --anyway and enroll them again",
            );
        }
    }
    Ok(())
}

/// Switches the issuer to another intermediate CA.
///
/// # Errors
/// [`Code::NotFound`] for one that does not count; [`Code::Conflict`] while too few devices have
/// the bundle, or if the signing service does not have its key.
pub async fn switch(app: &AppRef, order: &SwitchIssuer) -> Result<TrustStatus, AppError> {
    let (app, order) = (Arc::clone(app), order.clone());
    tokio::spawn(async move { apply_switch(&app, &order).await })
        .await
        .map_err(AppError::internal)?
}

async fn apply_switch(app: &App, order: &SwitchIssuer) -> Result<TrustStatus, AppError> {
    let _alone = app.crls.alone.lock().await;
    let trust = app.trust.load_full();
    let found = trust
        .accepted
        .iter()
        .find(|a| a.purpose.as_str() == order.purpose && a.sha256 == order.certificate_sha256);
    let hint = "list them with `fleeti pki bundle show`";
    let found = found.ok_or_else(|| {
        AppError::not_found("intermediate CA", &order.certificate_sha256).hint(hint)
    })?;
    if !keys(app).await?.contains(&found.sha256) {
        let text =
            format!("the signing service has no key for this {} intermediate CA", order.purpose);
        return Err(
            AppError::new(Code::Conflict, text).hint("restart it with the key and the certificate")
        );
    }
    let (devices, taken) = store::trust::taken(app.db.pool(), trust.version()).await?;
    if !order.anyway && taken * 100 < devices * TAKEN_OF_100 {
        let text = format!("{taken} of {devices} devices have bundle {}", trust.version());
        return Err(AppError::new(Code::Conflict, text)
            .hint("wait for the other devices, or switch with --anyway"));
    }
    let mut tx = app.db.write().await?;
    store::trust::switch(&mut tx, &order.purpose, &found.sha256).await?;
    app.audit(
        &mut tx,
        now_s(),
        "admin",
        "trust-bundle.switch",
        &format!("{} {}", order.purpose, found.sha256),
    )
    .await?;
    tx.commit().await?;
    take_up(app).await?;
    status(app).await
}

/// Puts the committed bundle in force: for client certificates, for the server's own certificate,
/// and for devices.
async fn take_up(app: &App) -> Result<(), AppError> {
    app.trust.store(Arc::new(load(&app.db, &app.pki).await?));
    revocation::swap_crls(app).await?;
    crate::server::renew_identity(app).await.map_err(AppError::internal)?;
    notice::tell(app).await;
    Ok(())
}

/// SHA-256 of the intermediate CAs whose keys the signing service has.
async fn keys(app: &App) -> Result<Vec<String>, AppError> {
    match signing::ask(&app.signer, Request::Issuers).await? {
        Response::Issuers { device, server } => Ok([device, server].concat()),
        other => Err(AppError::internal(format!(
            "unexpected response of the signing service: {other:?}"
        ))),
    }
}

async fn keys_or_none(app: &App) -> Vec<String> {
    let found = keys(app).await;
    app.health.signer(found.is_ok(), app.now_s());
    found.unwrap_or_default()
}

/// The status of the trust bundle: intermediate CAs, and how many devices have it.
pub async fn status(app: &App) -> Result<TrustStatus, AppError> {
    let trust = app.trust.load_full();
    // Works without the signing service as well; the warnings say that it is away.
    let keys = if app.health.is_signer_away() { vec![] } else { keys_or_none(app).await };
    let (devices, devices_with_it) = store::trust::taken(app.db.pool(), trust.version()).await?;
    let shown = |a: &Accepted| Intermediate {
        purpose: a.purpose.as_str().to_owned(),
        certificate_sha256: a.sha256.clone(),
        name: a.certificate.tbs_certificate().subject().to_string(),
        not_after_s: certificate::not_after_s(&a.certificate),
        is_issuing: [&trust.device.sha256, &trust.server.sha256].contains(&&a.sha256),
        has_key: keys.contains(&a.sha256),
    };
    Ok(TrustStatus {
        version: trust.version(),
        intermediates: trust.accepted.iter().map(shown).collect(),
        devices,
        devices_with_it,
        root_crl_ends_s: trust.root_crl_ends_s,
        warnings: warnings(app, now_s()),
    })
}

/// The newest bundle, for devices.
///
/// # Errors
/// [`Code::NotFound`] before the first bundle.
pub async fn newest(app: &App) -> Result<SignedBundle, AppError> {
    store::trust::newest(app.db.pool(), &app.pki.root_sha256)
        .await?
        .ok_or_else(|| AppError::new(Code::NotFound, "there is no trust bundle yet"))
}

/// The CRL of an intermediate CA for devices, DER, by the id of its key. `device` names the first
/// one, for certificates from before ids were used.
#[must_use]
pub fn crl(app: &App, issuer: &str) -> Option<Bytes> {
    if issuer == "device" {
        return app.tls.crl(&bundle::names(&app.pki.device_ca).ok()?.1);
    }
    app.tls.crl(issuer)
}
