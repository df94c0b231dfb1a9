//! Enrollment with a token. Requests that arrive while a batch is processed form the next batch:
//! one database read, one batch for the signing service, one commit.

use crate::attestation::tpm;
use crate::changes::record::record;
use crate::clock::new_id;
use crate::context::{Context, ContextRef};
use crate::enrollment::state::{Answer, Answers, QueuedEnrollment};
use crate::enrollment::token::{
    Channel, Reason, bad_request, certify, chain_pem, claimed_key_sha256, proved_key_sha256,
};
use crate::enrollment::tpm::{TOKEN_DIGITS, proved_enrollment, refused, rejected};
use crate::error::Error;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::enrollment::KeyOwner;
use fleeti_core::enrollment::certificate::window_of;
use fleeti_core::enrollment::token::{self as machine, Bearer, Effect, Event, KnownDevice, State};
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api;
use fleeti_core::wire::enrollment::{EnrollRequest, EnrollResponse};
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::Act;
use fleeti_pki::certificate::Protection;
use fleeti_signer_client::wire::Occasion;
use fleeti_store::devices::{Certified, WithCertificate};
use fleeti_store::enrollments::{StoredToken, Use};
use fleeti_store::tpms::Bound;
use fleeti_store::{self as store, tpms};
use futures::future::join_all;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Maximum number of requests in a batch.
const BATCH_MAX: usize = 128;
/// How long a batch waits for the next request while many come, and how often at most: the cost of
/// a batch is mostly that of its flushes to the disk, however many requests it has.
const GATHER: Duration = Duration::from_millis(1);
const GATHER_TIMES: usize = 8;

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
    let proved = |sent| proved_enrollment(cx, request, sent, channel);
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
            tracing::error!("enrollment: {}", e.for_log());
            pending.iter().map(|_| Err(Error::logged_internal())).collect()
        });
        for response in answers.iter().flatten() {
            cx.publish(api::Event::Device { id: response.device.clone() });
        }
        Answers::deliver(pending, answers);
    }
}

/// Adds requests to a batch while more come.
async fn gather(queue: &mut mpsc::Receiver<QueuedEnrollment>, batch: &mut Vec<QueuedEnrollment>) {
    for _ in 0..GATHER_TIMES {
        tokio::time::sleep(GATHER).await;
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

/// The requests of a batch, with what was read for them.
struct Batch<'a> {
    requests: &'a [QueuedEnrollment],
    /// Their tokens, by digest.
    tokens: HashMap<String, StoredToken>,
    /// For each request, whom its key belongs to.
    owners: Vec<KeyOwner>,
    now_s: u64,
}

impl QueuedEnrollment {
    fn bearer(&self, key_owner: KeyOwner) -> Bearer<'_> {
        Bearer {
            key_sha256: &self.key_sha256,
            key_owner,
            ek_sha256: self.tpm.as_ref().map(|tpm| tpm.row.ek_sha256.as_str()),
        }
    }
}

/// Processes a batch. Returns one result for each request.
async fn serve(cx: &Context, requests: &[QueuedEnrollment]) -> Result<Vec<Answer>, Error> {
    let digests: Vec<_> = requests.iter().map(|a| a.token_sha256.as_str()).collect();
    let keys: Vec<_> = requests.iter().map(|a| a.key_sha256.as_str()).collect();
    let (tokens, devices) = {
        // On the writer connection, which stores the results afterwards and then has these pages in
        // its cache. A reader would have to reload them, because the last batch changed some.
        let mut writer = cx.db.single_writer().await?;
        let tokens = store::enrollments::find(&mut writer, &digests).await?;
        (tokens, store::device_keys::owners(&mut writer, &keys).await?)
    };
    let mut seen_keys = HashSet::new();
    let owner = |a: &QueuedEnrollment| {
        let own = tokens.get(&a.token_sha256).and_then(|stored| stored.token.device());
        let is_of_another = devices
            .get(&a.key_sha256)
            .is_some_and(|owner| Some(owner.as_str()) != own.map(DeviceId::as_str));
        // Of two requests with the same key in a batch, the second one is refused.
        let is_second = !seen_keys.insert(a.key_sha256.clone());
        if is_of_another || is_second { KeyOwner::OtherDevice } else { KeyOwner::NoOther }
    };
    let owners = requests.iter().map(owner).collect();
    let batch = Batch { requests, tokens, owners, now_s: cx.now_s() };
    let signed = sign(cx, &batch, &devices).await;
    keep(cx, batch, signed).await
}

/// Has a certificate signed for each request whose token permits one: invalid requests cost the
/// signing service nothing and do not wait. `devices` are those that the keys belong to.
async fn sign(
    cx: &Context,
    batch: &Batch<'_>,
    devices: &HashMap<String, String>,
) -> Vec<Result<Signed, Error>> {
    let mut seen = HashSet::new();
    join_all(batch.requests.iter().zip(&batch.owners).map(|(a, owner)| {
        let is_first = seen.insert(a.token_sha256.as_str());
        let is_known = devices.contains_key(&a.key_sha256);
        async move {
            // Twice in one batch: the device repeats the second request and then gets the result of
            // the first.
            let stored = batch.tokens.get(&a.token_sha256).filter(|_| is_first);
            let token = &stored.ok_or_else(refused)?.token;
            let (device, kept) = match device_for(token, a.bearer(*owner), batch.now_s)? {
                Some(device) => (device, Kept::KnownDevice),
                None => (new_id("dev").parse().map_err(Error::internal)?, Kept::NewDevice),
            };
            // The response was lost. Repeating it signs and stores nothing.
            if is_known && let Some(certified) = again(cx, &device, a, batch.now_s).await? {
                return Ok(Signed { device, certified, kept: Kept::Already });
            }
            let protection = a.tpm.as_ref().map_or(Protection::Software, |t| t.protection);
            let reason = Reason { occasion: Occasion::Enrollment, protection };
            let certified = certify(cx, &device, &a.csr_pem, reason).await.map_err(bad_request)?;
            Ok(Signed { device, certified, kept })
        }
    }))
    .await
}

/// The device that a token permits a certificate for; `None` for a new one.
fn device_for(
    token: &machine::Token,
    bearer: Bearer<'_>,
    now_s: u64,
) -> Result<Option<DeviceId>, Error> {
    let (_, effects) =
        machine::step(token, Event::Request(bearer), now_s).map_err(|e| rejected(&e))?;
    let device = effects.into_iter().find_map(|effect| match effect {
        Effect::Certify { device } => Some(device),
        Effect::ChallengeTpm | Effect::Store => None,
    });
    device.ok_or_else(refused)
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
    mut batch: Batch<'_>,
    signed: Vec<Result<Signed, Error>>,
) -> Result<Vec<Answer>, Error> {
    let mut tx = cx.db.write().await?;
    // Only the use of a token can have changed since it was read.
    let digests: Vec<_> = batch.requests.iter().map(|a| a.token_sha256.as_str()).collect();
    batch.tokens.extend(store::enrollments::used(&mut tx, &digests).await?);
    let known_devices = signed.iter().flatten().filter(|s| s.kept != Kept::NewDevice);
    let ids: Vec<_> = known_devices.map(|s| &s.device).collect();
    let known = store::devices::existing(&mut tx, &ids).await?;
    let keys: Vec<_> = batch.requests.iter().map(|a| a.key_sha256.as_str()).collect();
    let devices = store::device_keys::owners(&mut tx, &keys).await?;
    let mut good: Vec<Result<Good, Error>> = batch
        .requests
        .iter()
        .zip(signed)
        .map(|(a, signed)| {
            let signed = signed?;
            let is_of_another =
                devices.get(&a.key_sha256).is_some_and(|owner| owner != signed.device.as_str());
            let owner = if is_of_another { KeyOwner::OtherDevice } else { KeyOwner::NoOther };
            let known = known.get(signed.device.as_str()).map(|(key, is_revoked)| {
                if *is_revoked { KnownDevice::Revoked } else { KnownDevice::Uses(key.clone()) }
            });
            batch.certified(a, owner, signed, known)
        })
        .collect();
    let taken = refuse_bound_tpms(&mut tx, &batch, &mut good).await?;
    if good.iter().any(Result::is_ok) {
        keep_good(cx, &mut tx, &batch, &good).await?;
        tx.commit().await?;
    } else {
        drop(tx);
    }
    for TakenTpm { who, tpm } in taken {
        tpm::alarm(cx, &who, tpm).await?;
    }
    let answer = |good: Good| EnrollResponse {
        certificate_chain_pem: chain_pem(cx, &good.certified),
        renewal: window_of(good.certified.not_after_s),
        device: good.device,
        fleet: good.fleet,
    };
    Ok(good.into_iter().map(|g| g.map(answer)).collect())
}

/// What a request gets.
struct Good {
    /// The device.
    device: DeviceId,
    /// The fleet that it joins.
    fleet: FleetId,
    /// Its certificate.
    certified: Certified,
    /// Whether that is in the database.
    kept: Kept,
}

impl Batch<'_> {
    /// Applies a signed certificate to the token of its request. The request binds the token to its
    /// device and key.
    fn certified(
        &self,
        request: &QueuedEnrollment,
        owner: KeyOwner,
        signed: Signed,
        known: Option<KnownDevice>,
    ) -> Result<Good, Error> {
        let Signed { device, certified, kept } = signed;
        let StoredToken { fleet, token, .. } =
            self.tokens.get(&request.token_sha256).ok_or_else(refused)?;
        let event = Event::Certified(machine::Certified {
            bearer: request.bearer(owner),
            device: &device,
            known,
        });
        let (after, _) = machine::step(token, event, self.now_s).map_err(|e| rejected(&e))?;
        match after.state {
            State::Used { .. } => Ok(Good { device, fleet: fleet.clone(), certified, kept }),
            State::Unused => Err(refused()),
        }
    }
}

/// A TPM of another device, and who presented it.
struct TakenTpm<'a> {
    who: String,
    tpm: &'a tpms::TpmRow,
}

/// Refuses requests that show a TPM of another device, or one of another request in the batch.
/// Returns the TPMs, which raise alarms.
async fn refuse_bound_tpms<'a>(
    tx: &mut store::Tx<'_>,
    batch: &Batch<'a>,
    good: &mut [Result<Good, Error>],
) -> Result<Vec<TakenTpm<'a>>, Error> {
    // The transaction holds the write lock, so no other request can bind one of these TPMs
    // meanwhile.
    let (mut taken, mut shown) = (Vec::new(), HashSet::new());
    for ((request, result), owner) in batch.requests.iter().zip(good).zip(&batch.owners) {
        let Some(tpm) = &request.tpm else { continue };
        // A key of another device in a TPM of another device raises one more alarm.
        let device = match (&result, owner) {
            (Ok(good), _) => good.device.clone(),
            (Err(_), KeyOwner::OtherDevice) => new_id("dev").parse().map_err(Error::internal)?,
            (Err(_), KeyOwner::NoOther) => continue,
        };
        let is_twice = !shown.insert(&tpm.row.ek_sha256) || !shown.insert(&tpm.row.attestation_key);
        if is_twice || tpms::is_taken(tx, &device, &tpm.row).await? {
            let who = format!("token {}", &request.token_sha256[..16]);
            taken.push(TakenTpm { who, tpm: &tpm.row });
            *result = Err(tpm::other());
        }
    }
    Ok(taken)
}

/// Stores devices, uses of tokens and bindings of TPMs.
async fn keep_good(
    cx: &Context,
    tx: &mut store::Tx<'_>,
    batch: &Batch<'_>,
    good: &[Result<Good, Error>],
) -> Result<(), Error> {
    let now_s = batch.now_s;
    let devices = good.iter().flatten().map(|good| api::Event::Device { id: good.device.clone() });
    record(tx, now_s, &devices.collect::<Vec<_>>()).await?;
    let those = |wanted: Kept| -> Vec<_> {
        let found = good.iter().flatten().filter(|good| good.kept == wanted);
        found
            .map(|good| WithCertificate {
                device: &good.device,
                fleet: &good.fleet,
                certificate: &good.certified,
            })
            .collect()
    };
    store::devices::insert_new(tx, &those(Kept::NewDevice), now_s).await?;
    // One by one: two tokens may be reserved for one device.
    for known in those(Kept::KnownDevice) {
        store::devices::upsert(tx, &[known], now_s).await?;
    }
    let uses: Vec<_> = batch
        .requests
        .iter()
        .zip(good)
        .filter_map(|(request, good)| {
            Some(Use {
                token_sha256: &request.token_sha256,
                device: &good.as_ref().ok()?.device,
                key_sha256: &request.key_sha256,
            })
        })
        .collect();
    store::enrollments::consume(tx, &uses).await?;
    for (request, result) in batch.requests.iter().zip(good) {
        let (Some(tpm), Ok(good)) = (&request.tpm, result) else { continue };
        match tpms::bind(tx, &good.device, &tpm.row).await? {
            Bound::New => {
                let (who, ek_sha256) = (good.device.as_str(), &tpm.row.ek_sha256);
                cx.audit(tx, Act::new(who, "device.tpm-bound", ek_sha256)).await?;
            }
            Bound::Same => {}
            Bound::Refused => {
                return Err(Error::internal("a TPM that is bound to no device was refused"));
            }
        }
    }
    Ok(())
}
