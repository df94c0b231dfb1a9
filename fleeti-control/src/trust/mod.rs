//! Which intermediate CAs count, and which of them issue. The root decides what counts, by its
//! signature over the trust bundle, which the server verifies whenever it reads the bundle. To
//! rotate an intermediate CA: publish a bundle with the new one, wait until devices have it, switch
//! the issuer, wait until devices have renewed their certificates, publish a bundle without the old
//! one.

pub mod access;
pub(crate) mod identity;
pub mod notice;
pub mod revocation;
pub mod standby;
pub mod state;
pub mod transitions;
pub mod upkeep;

use self::state::{Accepted, Trust, ends};
use crate::accounts::actor::Actor;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::idempotency::running::carried;
use crate::pki::Pki;
use crate::{health, signing};
use base64::Engine;
use bytes::Bytes;
use fleeti_core::wire::api::{ImportBundle, Intermediate, SwitchIssuer, TrustStatus};
use fleeti_core::wire::device::SignedBundle;
use fleeti_core::wire::problem::Code;
use fleeti_pki::bundle::{self, VerifiedBundle};
use fleeti_pki::ceremony::Transcript;
use fleeti_pki::certificate::{self, Purpose};
use fleeti_pki::crl::VerifiedCrl;
use fleeti_signer_client::wire::{Request, Response};
use fleeti_store::trust::{BundleCoverage, NewBundle};
use fleeti_store::{self as store, Db};
use std::sync::Arc;

/// Percent of devices that must have a bundle before its new intermediate CA can issue.
const TAKEN_OF_100: u64 = 99;
/// The same for CRLs of TPM manufacturers, which publish new ones every week.
const LIST_SOON_S: u64 = 2 * 86_400;

/// The intermediate CAs that count now.
#[must_use]
pub fn current(cx: &Context) -> Arc<Trust> {
    cx.trust.current.load_full()
}

/// Warnings about what expires soon, or has expired, and operators must renew.
#[must_use]
pub fn warnings(cx: &Context, now_s: u64) -> Vec<String> {
    let manufacturers = cx.pki.manufacturers.load();
    let lists = manufacturers.lists().filter_map(|(manufacturer, at)| {
        let ends = ends(at, now_s, LIST_SOON_S)?;
        Some(format!(
            "the CRL of TPM manufacturer {manufacturer} {ends}; with an expired CRL its TPMs are not trusted: put its newest CRL into tpm-manufacturers"
        ))
    });
    let left_out = manufacturers.left_out().iter().map(|(file, problem)| {
        format!("tpm-manufacturers/{file} is ignored because it cannot be read: {problem}")
    });
    let missing = health::warnings(cx).into_iter();
    missing.chain(cx.trust.current.load().warnings(now_s)).chain(lists).chain(left_out).collect()
}

/// Loads what counts from the newest bundle, or from the `public` folder before the first one.
///
/// # Errors
/// When the root has not signed the bundle in the database, or none of its intermediate CAs can
/// issue.
pub async fn load(db: &Db, pki: &Pki) -> Result<Trust, Error> {
    // The newest bundle of this root: bundles of a previous root do not count.
    let newest = store::trust::newest(db.pool(), &pki.root_sha256).await?;
    let bundle = newest.map(|signed| bundle::read(&signed, &pki.root)).transpose()?;
    let (version, root_crl_ends_s) = match &bundle {
        Some(bundle) => {
            let crl = VerifiedCrl::read(bundle.crl(), &pki.root)?;
            (bundle.version(), Some(crl.next_update_s()))
        }
        None => (0, None),
    };
    let first = [(Purpose::Device, &pki.device_ca), (Purpose::Server, &pki.server_ca)];
    let accepted = match &bundle {
        Some(bundle) => accepted(bundle)?,
        None => first.into_iter().map(|(p, c)| Accepted::of(p, c)).collect::<Result<_, _>>()?,
    };
    let chosen = store::trust::issuing(db.pool()).await?;
    let signs = |purpose: Purpose| {
        let mut of = accepted.iter().filter(|a| a.purpose == purpose);
        let wanted = chosen.get(purpose.as_str());
        let found = wanted
            .and_then(|sha256| of.clone().find(|a| a.sha256 == *sha256))
            .or_else(|| of.next());
        let missing =
            || Error::internal(format!("no intermediate CA for {}s counts", purpose.as_str()));
        found.cloned().ok_or_else(missing)
    };
    let (device, server) = (signs(Purpose::Device)?, signs(Purpose::Server)?);
    Ok(Trust { version, root_crl_ends_s, device, server, accepted })
}

fn accepted(bundle: &VerifiedBundle) -> Result<Vec<Accepted>, Error> {
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
pub async fn import(
    cx: &ContextRef,
    by: &Actor,
    import: &ImportBundle,
) -> Result<TrustStatus, Error> {
    // A task of its own: if the operator's connection breaks, the import must still complete.
    let (cx, by, import) = (Arc::clone(cx), by.clone(), import.clone());
    tokio::spawn(carried(async move { apply_import(&cx, &by, &import).await }))
        .await
        .map_err(Error::internal)?
}

async fn apply_import(
    cx: &Context,
    by: &Actor,
    import: &ImportBundle,
) -> Result<TrustStatus, Error> {
    let untrusted = |e: fleeti_pki::Error| Error::new(Code::Untrusted, e.to_string());
    let read = bundle::read(&import.bundle, &cx.pki.root).map_err(untrusted)?;
    let signature = base64::engine::general_purpose::STANDARD.decode(&import.transcript_signature);
    let signature =
        signature.map_err(|e| Error::new(Code::Invalid, format!("transcript_signature: {e}")))?;
    let transcript =
        Transcript::read(&import.transcript, &signature, &cx.pki.root).map_err(untrusted)?;
    if !transcript.has_bundle(read.sha256()) {
        return Err(Error::new(Code::Untrusted, "the transcript does not contain this bundle"));
    }
    if VerifiedCrl::read(read.crl(), &cx.pki.root).map_err(untrusted)?.next_update_s() < cx.now_s()
    {
        return Err(Error::new(Code::Conflict, "the root's CRL has expired")
            .hint("make a new one with `fleeti pki root crl`"));
    }
    let _alone = cx.trust.crls.alone.lock().await;
    if store::trust::newest(cx.db.pool(), &cx.pki.root_sha256)
        .await?
        .is_some_and(|newest| newest == import.bundle)
    {
        take_up(cx).await?;
        return status(cx).await;
    }
    let next = accepted(&read)?;
    check_successor(cx, &read, &next, &transcript, import.anyway).await?;
    let mut tx = cx.db.write().await?;
    let row = NewBundle {
        root_sha256: &cx.pki.root_sha256,
        version: read.version(),
        bundle: &import.bundle,
        transcript: transcript.text(),
    };
    store::trust::insert(&mut tx, row, cx.now_s()).await?;
    let act = format!("version {} {}", read.version(), read.sha256());
    cx.audit(&mut tx, by.act("trust-bundle.import", &act)).await?;
    tx.commit().await?;
    take_up(cx).await?;
    status(cx).await
}

/// Checks that a bundle can replace the current one.
async fn check_successor(
    cx: &Context,
    read: &VerifiedBundle,
    next: &[Accepted],
    transcript: &Transcript,
    anyway: bool,
) -> Result<(), Error> {
    let conflict = |text: String, hint| Err(Error::new(Code::Conflict, text).hint(hint));
    let now = cx.trust.current.load_full();
    if read.version() <= now.version() {
        let text = format!(
            "version {} of the bundle is already in force, this is version {}",
            now.version(),
            read.version()
        );
        return conflict(text, "publish the bundle of the last ceremony");
    }
    if let Some(older) = store::trust::transcript(cx.db.pool(), &cx.pki.root_sha256).await?
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
    let first = certificate::fingerprint(&cx.pki.device_ca)?;
    for gone in now.devices().filter(|a| !next.iter().any(|n| n.sha256 == a.sha256)) {
        let left = store::trust::devices_of(cx.db.pool(), &gone.sha256, &first).await?;
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
pub async fn switch(
    cx: &ContextRef,
    by: &Actor,
    request: &SwitchIssuer,
) -> Result<TrustStatus, Error> {
    let (cx, by, request) = (Arc::clone(cx), by.clone(), request.clone());
    tokio::spawn(carried(async move { apply_switch(&cx, &by, &request).await }))
        .await
        .map_err(Error::internal)?
}

async fn apply_switch(
    cx: &Context,
    by: &Actor,
    request: &SwitchIssuer,
) -> Result<TrustStatus, Error> {
    let _alone = cx.trust.crls.alone.lock().await;
    let trust = cx.trust.current.load_full();
    let found = trust
        .accepted
        .iter()
        .find(|a| a.purpose.as_str() == request.purpose && a.sha256 == request.certificate_sha256);
    let hint = "list them with `fleeti pki bundle show`";
    let found = found.ok_or_else(|| {
        Error::not_found("intermediate CA", &request.certificate_sha256).hint(hint)
    })?;
    if !keys(cx).await?.contains(&found.sha256) {
        let text =
            format!("the signing service has no key for this {} intermediate CA", request.purpose);
        return Err(
            Error::new(Code::Conflict, text).hint("restart it with the key and the certificate")
        );
    }
    let BundleCoverage { devices, with_bundle } =
        store::trust::coverage(cx.db.pool(), trust.version()).await?;
    if !request.anyway && with_bundle * 100 < devices * TAKEN_OF_100 {
        let text = format!("{with_bundle} of {devices} devices have bundle {}", trust.version());
        return Err(Error::new(Code::Conflict, text)
            .hint("wait for the other devices, or switch with --anyway"));
    }
    let mut tx = cx.db.write().await?;
    store::trust::switch(&mut tx, &request.purpose, &found.sha256).await?;
    let act = format!("{} {}", request.purpose, found.sha256);
    cx.audit(&mut tx, by.act("trust-bundle.switch", &act)).await?;
    tx.commit().await?;
    take_up(cx).await?;
    status(cx).await
}

/// Puts the committed bundle in force: for client certificates, for the server's own certificate,
/// and for devices.
async fn take_up(cx: &Context) -> Result<(), Error> {
    cx.trust.current.store(Arc::new(load(&cx.db, &cx.pki).await?));
    revocation::swap_crls(cx).await?;
    identity::renew_identity(cx).await.map_err(Error::internal)?;
    notice::tell(cx).await;
    Ok(())
}

/// SHA-256 of the intermediate CAs whose keys the signing service has.
async fn keys(cx: &Context) -> Result<Vec<String>, Error> {
    match signing::ask(&cx.signer, Request::Issuers).await? {
        Response::Issuers { device, server } => Ok([device, server].concat()),
        other => {
            Err(Error::internal(format!("unexpected response of the signing service: {other:?}")))
        }
    }
}

async fn keys_or_none(cx: &Context) -> Vec<String> {
    let found = keys(cx).await;
    health::signer_answered(cx, found.is_ok());
    found.unwrap_or_default()
}

/// The status of the trust bundle: intermediate CAs, and how many devices have it.
pub async fn status(cx: &Context) -> Result<TrustStatus, Error> {
    let trust = cx.trust.current.load_full();
    // Works without the signing service as well; the warnings say that it is away.
    let keys = if health::is_signer_away(cx) { vec![] } else { keys_or_none(cx).await };
    let coverage = store::trust::coverage(cx.db.pool(), trust.version()).await?;
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
        devices: coverage.devices,
        devices_with_it: coverage.with_bundle,
        root_crl_ends_s: trust.root_crl_ends_s,
        warnings: warnings(cx, cx.now_s()),
    })
}

/// The newest bundle, for devices.
///
/// # Errors
/// [`Code::NotFound`] before the first bundle.
pub async fn newest(cx: &Context) -> Result<SignedBundle, Error> {
    store::trust::newest(cx.db.pool(), &cx.pki.root_sha256)
        .await?
        .ok_or_else(|| Error::new(Code::NotFound, "there is no trust bundle yet"))
}

/// The CRL of an intermediate CA for devices, DER, by the id of its key. `device` names the first
/// one, for certificates from before ids were used.
#[must_use]
pub fn crl(cx: &Context, issuer: &str) -> Option<Bytes> {
    if issuer == "device" {
        return cx.access.crl(&bundle::names(&cx.pki.device_ca).ok()?.1);
    }
    cx.access.crl(issuer)
}
