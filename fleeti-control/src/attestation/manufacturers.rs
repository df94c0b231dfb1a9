//! Trusted TPM manufacturers: files in the data folder, which an operator can also change over the
//! API.

use crate::accounts::actor::Actor;
use crate::attestation::parse::{decoded, invalid};
use crate::attestation::tpm;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::pki::{manufacturer_files, manufacturers_folder};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::attestation::{
    AddTpmManufacturers, LeftOut, MANUFACTURERS_FILE_MAX, TpmKind, TpmManufacturer,
    TpmManufacturers,
};
use fleeti_core::wire::problem::Code;
use fleeti_pki::certificate::der_to_pem;
use fleeti_pki::tpm::endorsement::{Believed, Kind, MANUFACTURERS_MAX, Manufacturers};
use fleeti_pki::tpm::files;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Minimum number of hexadecimal digits that identify a certificate.
const ID_MIN: usize = 8;
/// Serialises changes of the files: concurrent ones would overwrite each other.
static CHANGING: Mutex<()> = Mutex::const_new(());

/// The trusted TPM manufacturers, and the files that the server ignores.
#[must_use]
pub fn list(cx: &Context) -> TpmManufacturers {
    let manufacturers = cx.pki.manufacturers.load();
    let left_out = manufacturers
        .left_out()
        .iter()
        .map(|(file, problem)| LeftOut { file: file.clone(), problem: problem.clone() });
    TpmManufacturers {
        manufacturers: manufacturers.all().into_iter().map(shown).collect(),
        left_out: left_out.collect(),
    }
}

fn shown(of: Believed) -> TpmManufacturer {
    TpmManufacturer {
        id: of.sha256,
        kind: match of.kind {
            Kind::Processor => TpmKind::Processor,
            Kind::Hardware => TpmKind::Hardware,
            Kind::Virtual => TpmKind::Virtual,
        },
        subject: of.subject,
        issuer: of.issuer,
        chain: of.chain,
        not_before_s: of.not_before_s,
        not_after_s: of.not_after_s,
        file: of.source,
    }
}

/// Trusts the TPM manufacturers in a file. Returns those that were not trusted before.
///
/// # Errors
/// [`Code::Invalid`] for a file without CA certificates; [`Code::TooLarge`]; [`Code::Conflict`] if
/// all of them are trusted already, or there would be more than [`MANUFACTURERS_MAX`].
pub async fn add(
    cx: &ContextRef,
    by: &Actor,
    request: &AddTpmManufacturers,
) -> Result<Vec<TpmManufacturer>, Error> {
    let bytes = decoded("file", &request.file)?;
    if bytes.len() > MANUFACTURERS_FILE_MAX {
        return Err(Error::new(
            Code::TooLarge,
            format!("file: {} bytes, at most {MANUFACTURERS_FILE_MAX} are allowed", bytes.len()),
        ));
    }
    let certificates = files::certificates(&bytes).map_err(|e| invalid("file", e))?;
    let _changing = CHANGING.lock().await;
    let before = list(cx).manufacturers;
    let mut added = Manufacturers::default();
    let mut new = Vec::new();
    for certificate in &certificates {
        added.believe(certificate, kind(request.kind)).map_err(|e| invalid("file", e))?;
        let id = sha256_hex(certificate);
        if !before.iter().any(|m| m.id == id) && !new.iter().any(|(other, _)| *other == id) {
            new.push((id, certificate.clone()));
        }
    }
    if new.is_empty() {
        return Err(Error::new(
            Code::Conflict,
            "all TPM manufacturers in this file are trusted already",
        ));
    }
    if before.len() + new.len() > MANUFACTURERS_MAX {
        return Err(Error::new(
            Code::Conflict,
            format!("too many TPM manufacturers: at most {MANUFACTURERS_MAX} can be trusted"),
        ));
    }
    let folder = manufacturers_folder(&cx.settings.data).join(request.kind.as_str());
    let mut tx = cx.db.write().await?;
    for (id, certificate) in &new {
        let subject = added
            .all()
            .into_iter()
            .find(|m| m.sha256 == *id)
            .map(|m| m.subject)
            .unwrap_or_default();
        cx.audit(
            &mut tx,
            by.act("tpm-manufacturer.add", format!("{} {id} {subject}", request.kind.as_str())),
        )
        .await?;
        let path = folder.join(format!("{}.pem", &id[..32]));
        write(path, vec![certificate.clone()]).await?;
    }
    tx.commit().await?;
    changed(cx).await?;
    Ok(list(cx)
        .manufacturers
        .into_iter()
        .filter(|m| new.iter().any(|(id, _)| *id == m.id))
        .collect())
}

const fn kind(kind: TpmKind) -> Kind {
    match kind {
        TpmKind::Processor => Kind::Processor,
        TpmKind::Hardware => Kind::Hardware,
        TpmKind::Virtual => Kind::Virtual,
    }
}

/// Stops trusting a TPM manufacturer, named by the SHA-256 of its certificate or a prefix of it.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a prefix that is not unique.
pub async fn remove(cx: &ContextRef, by: &Actor, id: &str) -> Result<TpmManufacturer, Error> {
    let _changing = CHANGING.lock().await;
    let mut found: Vec<_> = list(cx)
        .manufacturers
        .into_iter()
        .filter(|m| id.len() >= ID_MIN && m.id.starts_with(id))
        .collect();
    found.dedup_by(|a, b| a.id == b.id);
    let removed = match found.as_slice() {
        [] => {
            return Err(Error::not_found("TPM manufacturer", id)
                .hint("give its id, or at least the first 8 digits: see `fleeti attest manufacturers list`"));
        }
        [one] => one.clone(),
        [..] => {
            return Err(Error::new(
                Code::Conflict,
                format!("the ids of {} TPM manufacturers begin with {id}", found.len()),
            ));
        }
    };
    let mut tx = cx.db.write().await?;
    let what = format!("{} {} {}", removed.kind.as_str(), removed.id, removed.subject);
    cx.audit(&mut tx, by.act("tpm-manufacturer.remove", &what)).await?;
    let folder = manufacturers_folder(&cx.settings.data);
    for (_, path) in TpmKind::ALL.iter().flat_map(|kind| manufacturer_files(&folder, kind.as_str()))
    {
        let bytes = tokio::fs::read(&path).await.map_err(Error::internal)?;
        let Ok(certificates) = files::certificates(&bytes) else { continue };
        let kept: Vec<_> =
            certificates.iter().filter(|c| sha256_hex(c) != removed.id).cloned().collect();
        if kept.len() < certificates.len() {
            write(path, kept).await?;
        }
    }
    tx.commit().await?;
    changed(cx).await?;
    Ok(removed)
}

/// Applies the new set at once. A task of its own then appraises the TPMs of devices again.
async fn changed(cx: &ContextRef) -> Result<(), Error> {
    cx.pki.manufacturers.store(Arc::new(tpm::read_manufacturers(cx).await?));
    let cx = Arc::clone(cx);
    tokio::spawn(async move {
        if let Err(e) = tpm::reappraise_all(&cx).await {
            tracing::error!("the TPMs of devices were not appraised again: {}", e.for_log());
        }
    });
    Ok(())
}

/// Replaces a file with these certificates, or removes it if there are none.
async fn write(path: PathBuf, certificates: Vec<Vec<u8>>) -> Result<(), Error> {
    let written = tokio::task::spawn_blocking(move || written(&path, &certificates));
    written.await.map_err(Error::internal)?.map_err(Error::internal)
}

fn written(path: &Path, certificates: &[Vec<u8>]) -> anyhow::Result<()> {
    if certificates.is_empty() {
        return Ok(fs::remove_file(path)?);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let pem = certificates.iter().map(|der| der_to_pem(der)).collect::<Result<String, _>>()?;
    Ok(fleeti_files::write_durably(path, pem.as_bytes(), fleeti_files::PUBLIC)?)
}
