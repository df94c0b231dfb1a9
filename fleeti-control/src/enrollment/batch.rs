//! Enrollment with a token. Requests that arrive while a batch is processed form the next batch:
//! one database read, one batch for the signing service, one commit.

use crate::attestation::tpm;
use crate::clock::new_id;
use crate::context::{Context, ContextRef};
use crate::enrollment::renewal;
use crate::enrollment::state::{Answer, Answers, QueuedEnrollment};
use crate::enrollment::token::{
    Channel, bad_request, certify, chain_pem, claimed_key_sha256, proved_key_sha256,
};
use crate::enrollment::tpm::{TOKEN_DIGITS, proved_enrollment, refused};
use crate::enrollment::window::window_of;
use crate::error::Error;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::enrollment::{EnrollRequest, EnrollResponse};
use fleeti_core::wire::problem::Code;
use fleeti_pki::certificate::Protection;
use fleeti_signer_client::wire::Occasion;
use fleeti_store::devices::Certified;
use fleeti_store::enrollments::EnrollmentRow;
use fleeti_store::tpms::Bound;
use fleeti_store::{self as store, from_seconds, tpms};
use futures::future::join_all;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Maximum number of requests in a batch.
const BATCH_MAX: usize = 128;
/// How long a batch waits for the next request while many come, and how often at most. The cost of
/// a batch is mostly that of its flushes to the disk, however many requests it has.
const GATHER: (Duration, usize) = (Duration::from_millis(1), 8);

/// Issues a certificate for a token. The same key may repeat the request with the same token,
/// because a response can be lost; another key may not.
///
/// # Errors
/// [`Code::Forbidden`] for a token that is unknown, expired, used, or reserved for another TPM;
/// [`Code::Invalid`] for a bad request.
pub async fn enroll(cx: &Context, request: &EnrollRequest, channel: Channel) -> Answer {
    if request.token.len() != TOKEN_DIGITS {
        return Err(refused());
    }
    let proved = |sent| proved_enrollment(cx, (&request.token, &request.csr_pem), sent, channel);
    let (answer, waiting) = oneshot::channel();
    let pending = QueuedEnrollment {
        token_sha256: sha256_hex(request.token.as_bytes()),
        key_sha256: claimed_key_sha256(&request.csr_pem)?,
        csr_pem: request.csr_pem.clone(),
        tpm: request.tpm.as_ref().map(proved).transpose()?,
        answer,
    };
    let full = |_| {
        Error::new(Code::Unavailable, "too many devices are enrolling")
            .hint("try again in a minute")
    };
    cx.enrollment.queue.try_send(pending).map_err(full)?;
    let (answer, _others) =
        waiting.await.map_err(|_| Error::internal("the enrollment task has stopped"))?;
    answer
}

/// Processes enrollment requests until the task is aborted.
pub(crate) async fn run(cx: ContextRef, mut queue: mpsc::Receiver<QueuedEnrollment>) {
    let (mut batch, mut are_many) = (Vec::new(), false);
    while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
        if are_many {
            gather(&mut queue, &mut batch).await;
        }
        are_many = batch.len() > 1;
        let pending = std::mem::take(&mut batch);
        let answers = serve(&cx, &pending).await.unwrap_or_else(|e| {
            tracing::error!("enrollment: {e}");
            pending.iter().map(|_| Err(Error::internal("see the server's log"))).collect()
        });
        for response in answers.iter().flatten() {
            cx.publish(Event::Device { id: response.device.clone() });
        }
        Answers::deliver(pending, answers);
    }
}

/// Adds requests to a batch while more come.
async fn gather(queue: &mut mpsc::Receiver<QueuedEnrollment>, batch: &mut Vec<QueuedEnrollment>) {
    for _ in 0..GATHER.1 {
        tokio::time::sleep(GATHER.0).await;
        let before = batch.len();
        while batch.len() < BATCH_MAX
            && let Ok(pending) = queue.try_recv()
        {
            batch.push(pending);
        }
        if batch.len() == before || batch.len() == BATCH_MAX {
            return;
        }
    }
}

/// What a token entitles a key to.
struct Admission {
    device: DeviceId,
    fleet: FleetId,
}

/// What a token entitles a key to. `minted` is the device's new id if the token is unused.
fn admission(
    row: Option<&EnrollmentRow>,
    pending: &QueuedEnrollment,
    now: u64,
    minted: &DeviceId,
) -> Result<Admission, Error> {
    let key_sha256 = &pending.key_sha256;
    let row = row.filter(|r| from_seconds(r.expires_s) >= now).ok_or_else(refused)?;
    if row.for_key_sha256.as_ref().is_some_and(|k| k != key_sha256) {
        return Err(refused());
    }
    let ek_sha256 = pending.tpm.as_ref().map(|t| &t.row.ek_sha256);
    if row.ek_sha256.is_some() && row.ek_sha256.as_ref() != ek_sha256 {
        let text = "this token is reserved for another TPM, or the device did not show its TPM";
        return Err(Error::new(Code::Forbidden, text)
            .hint("compare --ek-sha256 with the endorsement key of the device"));
    }
    let device = match (&row.device, &row.key_sha256) {
        (None, _) => row
            .reserved
            .as_ref()
            .map_or_else(|| Ok(minted.clone()), |id| id.parse())
            .map_err(Error::internal)?,
        (Some(device), Some(used_by)) if used_by == key_sha256 => {
            device.parse().map_err(Error::internal)?
        }
        (Some(_), _) => return Err(refused()),
    };
    Ok(Admission { device, fleet: row.fleet.parse().map_err(Error::internal)? })
}

/// Processes a batch. Returns one result for each request.
async fn serve(cx: &Context, pending: &[QueuedEnrollment]) -> Result<Vec<Answer>, Error> {
    let now = cx.now_s();
    let tokens: Vec<_> = pending.iter().map(|a| a.token_sha256.as_str()).collect();
    let keys: Vec<_> = pending.iter().map(|a| a.key_sha256.as_str()).collect();
    let (known, owners) = {
        // On the writer connection, which stores the results afterwards and then has these pages in
        // its cache. A reader would have to reload them, because the last batch changed some.
        let mut writer = cx.db.single_writer().await?;
        let known = store::enrollments::find(&mut writer, &tokens).await?;
        (known, store::device_keys::owners(&mut writer, &keys).await?)
    };
    let mut seen_keys = HashSet::new();
    let has_foreign_key: Vec<_> = pending
        .iter()
        .map(|a| {
            let own = known
                .get(&a.token_sha256)
                .and_then(|row| row.device.as_ref().or(row.reserved.as_ref()));
            let is_of_another = owners.get(&a.key_sha256).is_some_and(|owner| Some(owner) != own);
            // Of two requests with the same key in a batch, the second one is refused.
            is_of_another | !seen_keys.insert(a.key_sha256.as_str())
        })
        .collect();
    // Only valid tokens reach the signing service: invalid ones cost it nothing and do not wait.
    let mut seen = HashSet::new();
    let signed = join_all(pending.iter().zip(&has_foreign_key).map(|(a, has_foreign_key)| {
        let is_first = seen.insert(a.token_sha256.as_str());
        let (row, is_known) = (known.get(&a.token_sha256), owners.contains_key(&a.key_sha256));
        async move {
            let minted = new_id("dev").parse().map_err(Error::internal)?;
            // Twice in one batch: the device repeats the second request and then gets the result of
            // the first.
            let admitted =
                if is_first { admission(row, a, now, &minted)? } else { return Err(refused()) };
            if *has_foreign_key {
                return Err(renewal::foreign_key());
            }
            // The response was lost. Repeating it signs and stores nothing.
            if is_known && let Some(certified) = again(cx, &admitted.device, a, now).await? {
                return Ok(Signed { device: admitted.device, certified, kept: Kept::Already });
            }
            let kept = if admitted.device == minted { Kept::NewDevice } else { Kept::KnownDevice };
            let protection = a.tpm.as_ref().map_or(Protection::Software, |t| t.protection);
            let occasion = (Occasion::Enrollment, protection);
            let certified =
                certify(cx, &admitted.device, &a.csr_pem, occasion).await.map_err(bad_request)?;
            Ok(Signed { device: admitted.device, certified, kept })
        }
    }))
    .await;
    keep(cx, pending, known, (signed, &has_foreign_key), now).await
}

/// The certificate for a request.
struct Signed {
    device: DeviceId,
    certified: Certified,
    kept: Kept,
}

/// What the database knows of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// The certificate.
    Already,
    /// Perhaps its device.
    KnownDevice,
    /// Nothing: the id of its device was minted for it.
    NewDevice,
}

/// The certificate that the device already has.
async fn again(
    cx: &Context,
    device: &DeviceId,
    pending: &QueuedEnrollment,
    now: u64,
) -> Result<Option<Certified>, Error> {
    if proved_key_sha256(&pending.csr_pem)? != pending.key_sha256 {
        return Err(refused());
    }
    Ok(store::certificates::of_key(&mut cx.db.reader().await?, device, &pending.key_sha256, now)
        .await?)
}

/// Stores the certificates, unless the token was used or the device revoked meanwhile.
async fn keep(
    cx: &Context,
    pending: &[QueuedEnrollment],
    mut known: HashMap<String, EnrollmentRow>,
    (signed, has_foreign_key): (Vec<Result<Signed, Error>>, &[bool]),
    now: u64,
) -> Result<Vec<Answer>, Error> {
    let mut tx = cx.db.write().await?;
    // Only the use of a token can have changed since it was read.
    let tokens: Vec<_> = pending.iter().map(|a| a.token_sha256.as_str()).collect();
    known.extend(store::enrollments::used(&mut tx, &tokens).await?);
    let known_devices = signed.iter().flatten().filter(|s| s.kept != Kept::NewDevice);
    let ids: Vec<_> = known_devices.map(|s| &s.device).collect();
    let standing = store::devices::existing(&mut tx, &ids).await?;
    let keys: Vec<_> = pending.iter().map(|a| a.key_sha256.as_str()).collect();
    let owners = store::device_keys::owners(&mut tx, &keys).await?;
    let mut good: Vec<Good> = pending
        .iter()
        .zip(signed)
        .map(|(a, signed)| {
            let Signed { device, certified, kept } = signed?;
            let admitted = admission(known.get(&a.token_sha256), a, now, &device)?;
            // A device that has renewed its key since cannot enroll again with the old key and its
            // token.
            let may_repeat = standing
                .get(device.as_str())
                .is_none_or(|(key, is_revoked)| !is_revoked && *key == a.key_sha256);
            if admitted.device != device || !may_repeat {
                return Err(refused());
            }
            if owners.get(&a.key_sha256).is_some_and(|owner| owner != device.as_str()) {
                return Err(renewal::foreign_key());
            }
            Ok((admitted, certified, kept))
        })
        .collect();
    let taken = refuse_bound_tpms(&mut tx, pending, &mut good, has_foreign_key).await?;
    if good.iter().any(Result::is_ok) {
        keep_good(cx, &mut tx, pending, &good, now).await?;
        tx.commit().await?;
    } else {
        drop(tx);
    }
    for (who, tpm) in taken {
        tpm::alarm(cx, &who, tpm).await?;
    }
    let answer = |(admitted, certified, _): (Admission, Certified, Kept)| {
        let (certificate_chain_pem, renewal) =
            (chain_pem(cx, &certified), window_of(certified.not_after_s));
        Ok(EnrollResponse {
            device: admitted.device,
            fleet: admitted.fleet,
            certificate_chain_pem,
            renewal,
        })
    };
    Ok(good.into_iter().map(|g| g.and_then(answer)).collect())
}

/// What a request gets: where it enrolls, its certificate, and whether that is in the database.
type Good = Result<(Admission, Certified, Kept), Error>;

/// Refuses requests that show a TPM of another device, or one of another request in the batch.
/// Returns the refused requests and their TPMs, which raise alarms.
async fn refuse_bound_tpms<'a>(
    tx: &mut store::Tx<'_>,
    pending: &'a [QueuedEnrollment],
    good: &mut [Good],
    has_foreign_key: &[bool],
) -> Result<Vec<(String, &'a tpms::TpmRow)>, Error> {
    // The transaction holds the write lock, so no other request can bind one of these TPMs
    // meanwhile.
    let (mut taken, mut shown) = (Vec::new(), HashSet::new());
    for ((pending, result), has_foreign_key) in pending.iter().zip(good).zip(has_foreign_key) {
        let Some(tpm) = &pending.tpm else { continue };
        // A key of another device in a TPM of another device raises one more alarm.
        let device = match &result {
            Ok((admitted, ..)) => admitted.device.clone(),
            Err(_) if *has_foreign_key => new_id("dev").parse().map_err(Error::internal)?,
            Err(_) => continue,
        };
        let is_twice = !shown.insert(&tpm.row.ek_sha256) || !shown.insert(&tpm.row.attestation_key);
        if is_twice || tpms::is_taken(tx, &device, &tpm.row).await? {
            taken.push((format!("token {}", &pending.token_sha256[..16]), &tpm.row));
            *result = Err(tpm::other());
        }
    }
    Ok(taken)
}

/// Stores devices, uses of tokens and bindings of TPMs.
async fn keep_good(
    cx: &Context,
    tx: &mut store::Tx<'_>,
    pending: &[QueuedEnrollment],
    good: &[Good],
    now: u64,
) -> Result<(), Error> {
    let those = |wanted: Kept| -> Vec<_> {
        let found = good.iter().flatten().filter(|(_, _, kept)| *kept == wanted);
        found.map(|(a, c, _)| (&a.device, &a.fleet, c)).collect()
    };
    store::devices::insert_new(tx, &those(Kept::NewDevice), now).await?;
    // One by one: two tokens may be reserved for one device.
    for known in those(Kept::KnownDevice) {
        store::devices::upsert(tx, &[known], now).await?;
    }
    let uses: Vec<_> = pending
        .iter()
        .zip(good)
        .filter_map(|(a, g)| {
            g.as_ref().ok().map(|(admitted, ..)| {
                (a.token_sha256.as_str(), &admitted.device, a.key_sha256.as_str())
            })
        })
        .collect();
    store::enrollments::consume(tx, &uses).await?;
    for (pending, result) in pending.iter().zip(good) {
        let (Some(tpm), Ok((admitted, ..))) = (&pending.tpm, result) else { continue };
        match tpms::bind(tx, &admitted.device, &tpm.row).await? {
            Bound::New => {
                cx.audit(tx, now, admitted.device.as_str(), "device.tpm-bound", &tpm.row.ek_sha256)
                    .await?
            }
            Bound::Same => {}
            Bound::Refused => {
                return Err(Error::internal("a TPM that is bound to no device was refused"));
            }
        }
    }
    Ok(())
}
