//! Which intermediates count, and which ones sign. What counts, the root says: a bundle by its
//! signature, which is verified whenever the bundle is read. Rotation is: publish the bundle with
//! the new one, wait for devices, switch, wait until they have renewed their certificates, publish
//! the bundle without the old one.

use crate::app::{App, AppRef, now_s};
use crate::config::Pki;
use crate::db::{self, Db};
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
use fleeti_pki::crl::VerifiedList;
use fleeti_signer::wire::{Request, Response};
use std::sync::Arc;
use x509_cert::Certificate;

/// So many of a hundred devices must have taken a bundle before its new intermediate signs.
const TAKEN_OF_100: u64 = 99;
/// What ends within this time is told: a ceremony takes its people, and a rotation its devices.
const SOON_S: u64 = 30 * 86_400;
/// The same of the lists of those who make TPMs, which publish new ones by the week.
const LIST_SOON_S: u64 = 2 * 86_400;

/// An intermediate that counts.
#[derive(Clone)]
pub struct Accepted {
    /// What it certifies.
    pub purpose: Purpose,
    /// Its certificate.
    pub certificate: Certificate,
    /// The same, PEM: every device gets it with its own.
    pub pem: String,
    /// SHA-256 of it.
    pub sha256: String,
    /// Id of its key, by which its revocation list is named.
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

/// What counts and what signs.
#[derive(Clone)]
pub struct Trust {
    version: u64,
    root_list_ends_s: Option<u64>,
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
    /// What ends soon, or has ended, and nothing here can make anew, in words. What only counts may
    /// end: that is a rotation's end.
    fn warnings(&self, now_s: u64) -> Vec<String> {
        let list = self
            .root_list_ends_s
            .and_then(|at| ends(at, now_s, SOON_S))
            .map(|ends| format!("the root's revocation list {ends}, and no bundle is taken then: hold a ceremony (`fleeti pki root crl`)"));
        let issuing = [(Purpose::Device, &self.device), (Purpose::Server, &self.server)].into_iter().filter_map(|(purpose, a)| {
            let ends = ends(certificate::not_after_s(&a.certificate), now_s, SOON_S)?;
            let name = a.certificate.tbs_certificate().subject();
            Some(format!("the {} intermediate {name} {ends}: have the root sign another one (`fleeti pki root sign`)", purpose.as_str()))
        });
        list.into_iter().chain(issuing).collect()
    }
    /// Signs devices.
    #[must_use]
    pub fn device(&self) -> &Accepted {
        &self.device
    }
    /// Signs servers.
    #[must_use]
    pub fn server(&self) -> &Accepted {
        &self.server
    }
    /// Whose devices may come.
    pub fn devices(&self) -> impl Iterator<Item = &Accepted> {
        self.accepted.iter().filter(|a| a.purpose == Purpose::Device)
    }
}

/// When something ends, in words, if that is soon.
fn ends(at_s: u64, now_s: u64, soon_s: u64) -> Option<String> {
    match at_s.checked_sub(now_s) {
        None => Some("has ended".into()),
        Some(left_s) if left_s < soon_s => Some(format!("ends in {} days", left_s / 86_400)),
        Some(_) => None,
    }
}

/// What ends soon, or has ended, and people have to make anew, in words.
#[must_use]
pub fn warnings(app: &App, now_s: u64) -> Vec<String> {
    let makers = app.pki.makers.load();
    let lists = makers.lists().filter_map(|(maker, at)| {
        let ends = ends(at, now_s, LIST_SOON_S)?;
        Some(format!(
            "the revocation list of {maker}, who makes TPMs, {ends}, and none of them is believed then: put its newest one into tpm-makers"
        ))
    });
    let left_out = makers.left_out().iter().map(|(file, problem)| {
        format!("tpm-makers/{file} cannot be read and is left out: {problem}")
    });
    let missing = health::warnings(app).into_iter();
    missing.chain(app.trust.load().warnings(now_s)).chain(lists).chain(left_out).collect()
}

/// What counts, by the newest bundle, or, before the first, by the `public` folder.
///
/// # Errors
/// When the bundle in the database is not by the root, or no intermediate of it can sign.
pub async fn load(db: &Db, pki: &Pki) -> Result<Trust, AppError> {
    // Of this root: one that came under the root before it says nothing of this one's
    // intermediates.
    let (version, root_list_ends_s, accepted) = match db::trust::newest(db.pool(), &pki.root_sha256)
        .await?
    {
        Some(signed) => {
            let bundle = bundle::read(&signed, &pki.root)?;
            (
                bundle.version(),
                Some(VerifiedList::read(bundle.crl(), &pki.root)?.next_update_s()),
                accepted(&bundle)?,
            )
        }
        None => {
            let both = [(Purpose::Device, &pki.device_ca), (Purpose::Server, &pki.server_ca)];
            (0, None, both.into_iter().map(|(p, c)| Accepted::of(p, c)).collect::<Result<_, _>>()?)
        }
    };
    let chosen = db::trust::issuing(db.pool()).await?;
    let signs = |purpose: Purpose| {
        let mut of = accepted.iter().filter(|a| a.purpose == purpose);
        let wanted = chosen.get(purpose.as_str());
        let found = wanted
            .and_then(|sha256| of.clone().find(|a| a.sha256 == *sha256))
            .or_else(|| of.next());
        let missing =
            || AppError::internal(format!("no intermediate for {}s counts", purpose.as_str()));
        found.cloned().ok_or_else(missing)
    };
    let (device, server) = (signs(Purpose::Device)?, signs(Purpose::Server)?);
    Ok(Trust { version, root_list_ends_s, device, server, accepted })
}

fn accepted(bundle: &VerifiedBundle) -> Result<Vec<Accepted>, AppError> {
    let of =
        |purpose| bundle.of(purpose).map(move |certificate| Accepted::of(purpose, certificate));
    Purpose::ALL.into_iter().flat_map(of).collect()
}

/// Takes what came out of a ceremony: from then on it counts. The same again finishes what an
/// interrupted call left undone.
///
/// # Errors
/// [`Code::Untrusted`] for what the root has not signed; [`Code::Conflict`] for an older bundle,
/// for one without an intermediate that signs now, and, unless it is to be so, for one that leaves
/// devices behind.
pub async fn import(app: &AppRef, import: &ImportBundle) -> Result<TrustStatus, AppError> {
    // A task of its own: an operator whose connection breaks must not leave a server that has it
    // half.
    let (app, import) = (Arc::clone(app), import.clone());
    tokio::spawn(async move { carry_out_import(&app, &import).await })
        .await
        .map_err(AppError::internal)?
}

async fn carry_out_import(app: &App, import: &ImportBundle) -> Result<TrustStatus, AppError> {
    let untrusted = |e: fleeti_pki::Error| AppError::new(Code::Untrusted, e.to_string());
    let read = bundle::read(&import.bundle, &app.pki.root).map_err(untrusted)?;
    let signature = base64::engine::general_purpose::STANDARD.decode(&import.transcript_signature);
    let signature = signature
        .map_err(|e| AppError::new(Code::Invalid, format!("transcript_signature: {e}")))?;
    let transcript =
        Transcript::read(&import.transcript, &signature, &app.pki.root).map_err(untrusted)?;
    if !transcript.has_bundle(read.sha256()) {
        return Err(AppError::new(
            Code::Untrusted,
            "the transcript does not say that this bundle was made",
        ));
    }
    if VerifiedList::read(read.crl(), &app.pki.root).map_err(untrusted)?.next_update_s() < now_s() {
        return Err(AppError::new(Code::Conflict, "the root's revocation list has ended")
            .hint("make a new one: `fleeti pki root crl`"));
    }
    let _alone = app.lists.alone.lock().await;
    if db::trust::newest(app.db.pool(), &app.pki.root_sha256)
        .await?
        .is_some_and(|newest| newest == import.bundle)
    {
        take_up(app).await?;
        return status(app).await;
    }
    let next = accepted(&read)?;
    check_successor(app, &read, &next, &transcript, import.anyway).await?;
    let mut tx = app.db.write().await?;
    db::trust::insert(
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

/// That a bundle may follow the one of now.
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
        let text =
            format!("bundle {} is here already, this is version {}", now.version(), read.version());
        return conflict(text, "publish what came out of the last ceremony");
    }
    if let Some(older) = db::trust::transcript(app.db.pool(), &app.pki.root_sha256).await?
        && !transcript.follows(&older)
    {
        let hint = "an older copy of the root's folder brings back what was revoked since; go on with the newest copy";
        return conflict(
            "the transcript does not go on from the one that was published last".into(),
            hint,
        );
    }
    for signing in [now.device(), now.server()] {
        if !next.iter().any(|a| a.sha256 == signing.sha256) {
            let text = format!(
                "the {} intermediate that signs now is not in this bundle: {}",
                signing.purpose.as_str(),
                signing.sha256
            );
            return conflict(text, "first let another one sign: `fleeti pki bundle switch`");
        }
    }
    let first = certificate::fingerprint(&app.pki.device_ca)?;
    for gone in now.devices().filter(|a| !next.iter().any(|n| n.sha256 == a.sha256)) {
        let left = db::trust::devices_of(app.db.pool(), &gone.sha256, &first).await?;
        if left > 0 && !anyway {
            let text = format!(
                "{left} devices still have a certificate by an intermediate that is not in this bundle"
            );
            return conflict(
                text,
                "wait until they have renewed it, within 20 days; or publish with --anyway, and enroll them anew",
            );
        }
    }
    Ok(())
}

/// Has another intermediate sign.
///
/// # Errors
/// [`Code::NotFound`] for one that does not count; [`Code::Conflict`] while too few devices have
/// taken the bundle, or when the signer has no key for it.
pub async fn switch(app: &AppRef, order: &SwitchIssuer) -> Result<TrustStatus, AppError> {
    let (app, order) = (Arc::clone(app), order.clone());
    tokio::spawn(async move { carry_out_switch(&app, &order).await })
        .await
        .map_err(AppError::internal)?
}

async fn carry_out_switch(app: &App, order: &SwitchIssuer) -> Result<TrustStatus, AppError> {
    let _alone = app.lists.alone.lock().await;
    let trust = app.trust.load_full();
    let found = trust
        .accepted
        .iter()
        .find(|a| a.purpose.as_str() == order.purpose && a.sha256 == order.certificate_sha256);
    let hint = "`fleeti pki bundle show` has them";
    let found = found
        .ok_or_else(|| AppError::not_found("intermediate", &order.certificate_sha256).hint(hint))?;
    if !keys(app).await?.contains(&found.sha256) {
        let text = format!("the signer has no key for this {} intermediate", order.purpose);
        return Err(AppError::new(Code::Conflict, text)
            .hint("start it anew with the key and the certificate"));
    }
    let (devices, taken) = db::trust::taken(app.db.pool(), trust.version()).await?;
    if !order.anyway && taken * 100 < devices * TAKEN_OF_100 {
        let text = format!("{taken} of {devices} devices have taken bundle {}", trust.version());
        return Err(AppError::new(Code::Conflict, text)
            .hint("wait for the others, or switch with --anyway"));
    }
    let mut tx = app.db.write().await?;
    db::trust::switch(&mut tx, &order.purpose, &found.sha256).await?;
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

/// What was committed counts from now on: for whom may come, for the server's own certificate, and
/// for devices.
async fn take_up(app: &App) -> Result<(), AppError> {
    app.trust.store(Arc::new(load(&app.db, &app.pki).await?));
    revocation::swap_lists(app).await?;
    crate::server::renew_identity(app).await.map_err(AppError::internal)?;
    notice::tell(app).await;
    Ok(())
}

/// SHA-256 of the intermediates that the signer has keys for.
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

/// Which intermediates count, and who knows.
pub async fn status(app: &App) -> Result<TrustStatus, AppError> {
    let trust = app.trust.load_full();
    // What is known is shown without the signer as well; that it is away is among the warnings.
    let keys = if app.health.is_signer_away() { vec![] } else { keys_or_none(app).await };
    let (devices, devices_with_it) = db::trust::taken(app.db.pool(), trust.version()).await?;
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
        root_list_ends_s: trust.root_list_ends_s,
        warnings: warnings(app, now_s()),
    })
}

/// The newest bundle, for devices.
///
/// # Errors
/// [`Code::NotFound`] before the first.
pub async fn newest(app: &App) -> Result<SignedBundle, AppError> {
    db::trust::newest(app.db.pool(), &app.pki.root_sha256)
        .await?
        .ok_or_else(|| AppError::new(Code::NotFound, "there is no trust bundle yet"))
}

/// The revocation list of a device intermediate, DER, by the id of its key; `device` is the first
/// one, which had no other name once.
#[must_use]
pub fn revocation_list(app: &App, issuer: &str) -> Option<Bytes> {
    if issuer == "device" {
        return app.tls.revocation_list(&bundle::names(&app.pki.device_ca).ok()?.1);
    }
    app.tls.revocation_list(issuer)
}
