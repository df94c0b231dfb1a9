//! Signing requests and approvals, for releases that the signing service signs. The server stores
//! them for display only: the signing service verifies the approvals by their signatures.

use crate::accounts::actor::Actor;
use crate::builds::change::{self, Change, NotApplied};
use crate::context::Context;
use crate::error::Error;
use crate::{builds, signing};
use fleeti_build::build::BuildRecord;
use fleeti_core::build::{Approvals, Ctx, Event, Rejected};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::api::{Approver, Build, RequestSignature, SignatureStatus, SignedBy};
use fleeti_core::wire::problem::Code;
use fleeti_pki::approval::{Intent, KIND, NotApproved, Policy, Word};
use fleeti_pki::audit::Act;
use fleeti_signer_client::wire::{Request, Response};
use fleeti_store as store;
use fleeti_store::approvals::Asked;
use fleeti_store::builds::Texts;
use std::path::Path;
use std::time::Duration;

/// Validity of a request that needs no approvals, in seconds: as long as the signing service may be
/// busy with another release.
const ALONE_S: u64 = 3600;
/// How long signing may take: the signing service reads and compresses all files.
const SIGNATURE: Duration = Duration::from_secs(20 * 60);

/// The approval policy and the id of the release key; `None` if the signing service has no release
/// key.
///
/// # Errors
/// When the signing service does not answer.
pub async fn policy(cx: &Context) -> Result<Option<(Policy, String)>, Error> {
    match signing::ask(&cx.signer, Request::ApprovalPolicy).await? {
        Response::ApprovalPolicy { policy: Some(text), release_key } => {
            Ok(Some((Policy::parse(&text)?, release_key)))
        }
        Response::ApprovalPolicy { policy: None, .. } => Ok(None),
        other => {
            Err(Error::internal(format!("unexpected response of the signing service: {other:?}")))
        }
    }
}

async fn needed_policy(cx: &Context) -> Result<(Policy, String), Error> {
    let threshold = cx.pki.release_keys.threshold();
    if threshold > 1 {
        let text = format!(
            "devices require signatures of {threshold} release keys, and this server holds at most one"
        );
        let hint = "run `fleeti release create` on the machine with the organisation's keys, let the other release signers run \
                    `fleeti release sign`, then run `fleeti release publish`";
        return Err(Error::new(Code::Conflict, text).hint(hint));
    }
    let hint = "sign on the machine that holds the key: run `fleeti release create`, then `fleeti release publish`";
    policy(cx).await?.ok_or_else(|| {
        Error::new(Code::Conflict, "the release key is not on this server").hint(hint)
    })
}

/// The approvals of a build: how many it needs, who may give them, and who did.
///
/// # Errors
/// [`Code::NotFound`]; when the signing service does not answer.
pub async fn status(cx: &Context, id: &str) -> Result<SignatureStatus, Error> {
    builds::get(cx, id).await?;
    let keys_needed = u32::try_from(cx.pki.release_keys.threshold()).unwrap_or(u32::MAX);
    // If devices require more than one release key, a signature of this server is not enough.
    let Some((policy, release_key)) = (if keys_needed == 1 { policy(cx).await? } else { None })
    else {
        return Ok(SignatureStatus {
            keys_needed,
            available: false,
            approvals_needed: 0,
            requester_counts: false,
            approvers: vec![],
            release_key: String::new(),
            intent: None,
            approved_by: vec![],
        });
    };
    let kept = store::approvals::get(&mut cx.db.reader().await?, id).await?;
    let approved_by = match &kept {
        Some(Asked { request, approvals }) => {
            let intent = Intent::parse(&request.intent)?;
            // Approvals of people who are no longer in the policy do not count.
            let counting =
                approvals.iter().filter_map(|by| policy.recognise(Word::Approve, &intent, by).ok());
            counting.map(|a| a.name.clone()).collect()
        }
        None => vec![],
    };
    Ok(SignatureStatus {
        keys_needed,
        available: true,
        approvals_needed: u32::try_from(policy.approvals()).unwrap_or(u32::MAX),
        requester_counts: policy.requester_counts(),
        approvers: policy
            .approvers()
            .iter()
            .map(|a| Approver { name: a.name.clone(), key_id: a.key.id() })
            .collect(),
        release_key,
        intent: kept.map(|asked| asked.request.intent),
        approved_by,
    })
}

/// The bytes of a build's record, whose digest approvers sign.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a build that has not succeeded.
pub async fn record(cx: &Context, id: &str) -> Result<Vec<u8>, Error> {
    let build = builds::get(cx, id).await?;
    let unbuilt = || Error::new(Code::Conflict, format!("{} has not been built", build.release));
    let directory = build.directory.clone().ok_or_else(unbuilt)?;
    tokio::task::spawn_blocking(move || BuildRecord::bytes(Path::new(&directory)))
        .await
        .map_err(Error::internal)?
        .map_err(Error::internal)
}

/// Queues a build for signing, if the policy requires no approvals.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] if the policy requires approvals, the build has not
/// succeeded or is being signed, or the release key is not on this server.
pub async fn sign_alone(cx: &Context, by: &Actor, id: &str) -> Result<Build, Error> {
    let build = builds::get(cx, id).await?;
    let needed = needed_policy(cx).await?.0.approvals();
    if needed > 0 {
        let hint = "request approvals with `fleeti build sign BUILD --key YOUR.key`";
        return Err(Error::new(
            Code::Conflict,
            format!("this server signs only after {needed} approvals"),
        )
        .hint(hint));
    }
    let ctx = ctx(cx);
    let mut tx = cx.db.write().await?;
    let applied = change::queue_signing(&mut tx, id, Event::RequestSignature, ctx).await;
    let applied = applied.map_err(|e| not_signable(e, &build.release))?;
    let queued = format!("{id} {}", build.release);
    cx.audit(&mut tx, by.act("release.queue", &queued)).await?;
    tx.commit().await?;
    applied.follow(cx);
    builds::get(cx, id).await
}

/// The time; none of these events leases a build.
fn ctx(cx: &Context) -> Ctx {
    Ctx { now_s: cx.now_s(), lease_s: 0 }
}

/// The error for a build that cannot be signed now.
fn not_signable(e: NotApplied, release: &ReleaseName) -> Error {
    let is_removed = matches!(e, NotApplied::Rejected(Rejected::FilesRemoved));
    e.or(|| {
        if is_removed {
            let text = format!("the files of {release} were removed to make room");
            return Error::new(Code::Conflict, text).hint("build the release again");
        }
        let text = format!("{release} is not built yet, or is signed or being signed already");
        Error::new(Code::Conflict, text)
    })
}

/// Stores the signing request of an approver.
///
/// # Errors
/// [`Code::Invalid`] for a request of another build, or by someone who is not in the policy.
pub async fn request(
    cx: &Context,
    id: &str,
    request: &RequestSignature,
) -> Result<SignatureStatus, Error> {
    let (policy, release_key) = needed_policy(cx).await?;
    let build = builds::get(cx, id).await?;
    let invalid = |detail: String| Error::new(Code::Invalid, detail);
    let intent = Intent::parse(&request.intent).map_err(|e| invalid(format!("intent: {e}")))?;
    let found = sha256_hex(&record(cx, id).await?);
    if intent.release_key != release_key {
        return Err(invalid(format!("intent: wrong release key, this server has {release_key}")));
    }
    if intent.build_sha256 != found || intent.release != build.release {
        return Err(invalid(format!(
            "intent: wrong record digest, the record of this build has {found}"
        )));
    }
    let requester = policy
        .recognise(Word::Request, &intent, &request.by)
        .map_err(|e| invalid(e.to_string()))?;
    if requester.key.id() != intent.requester {
        return Err(invalid("intent: the requester is not the key that signed it".into()));
    }
    let ctx = ctx(cx);
    let subject = format!("{} {}", intent.release, intent.digest()?);
    let change = Change { event: Event::RequestApprovals, texts: Texts::default(), ctx };
    let mut tx = cx.db.write().await?;
    let applied = change.apply_to(&mut tx, id).await;
    let applied = applied.map_err(|e| not_signable(e, &build.release))?;
    store::approvals::ask(&mut tx, id, request, ctx.now_s).await?;
    cx.audit(&mut tx, Act::new(&requester.name, "release.request", &subject)).await?;
    tx.commit().await?;
    applied.follow(cx);
    status(cx, id).await
}

/// Stores an approval. The last one that is needed queues the build for signing.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Invalid`] for a signature that does not count; [`Code::Conflict`]
/// without a signing request, or if the build is signed or being signed already.
pub async fn approve(cx: &Context, id: &str, by: &SignedBy) -> Result<SignatureStatus, Error> {
    let build = builds::get(cx, id).await?;
    let (policy, _) = needed_policy(cx).await?;
    let ctx = ctx(cx);
    // One transaction: of two concurrent approvals the second one sees the first, and a request
    // that was replaced meanwhile gets no approval that was meant for another.
    let mut tx = cx.db.write().await?;
    let hint = "request one with `fleeti build sign BUILD --key YOUR.key`";
    let asked = store::approvals::get(&mut tx, id).await?;
    let asked = asked.ok_or_else(|| {
        Error::new(Code::Conflict, "there is no signing request for this build").hint(hint)
    })?;
    let intent = Intent::parse(&asked.request.intent)?;
    let approver = policy
        .recognise(Word::Approve, &intent, by)
        .map_err(|e| Error::new(Code::Invalid, e.to_string()))?;
    store::approvals::approve(&mut tx, id, by).await?;
    let approvals =
        store::approvals::get(&mut tx, id).await?.map(|asked| asked.approvals).unwrap_or_default();
    let approvals = match policy.check(&intent, Some(&asked.request.by), &approvals, ctx.now_s) {
        Ok(_) => Approvals::Enough,
        Err(NotApproved::TooFew { .. }) => Approvals::TooFew,
        Err(e) => {
            return Err(Error::new(Code::Conflict, e.to_string())
                .hint("request the signature again with `fleeti build sign`"));
        }
    };
    let subject = format!("{} {}", intent.release, intent.digest()?);
    cx.audit(&mut tx, Act::new(&approver.name, "release.approve", &subject)).await?;
    let event = Event::Approve(approvals);
    let applied = match approvals {
        Approvals::TooFew => {
            Change { event, texts: Texts::default(), ctx }.apply_to(&mut tx, id).await
        }
        Approvals::Enough => change::queue_signing(&mut tx, id, event, ctx).await,
    };
    let applied = applied.map_err(|e| not_signable(e, &build.release))?;
    if approvals == Approvals::Enough {
        let queued = format!("{id} {}", build.release);
        cx.audit(&mut tx, Act::new(&approver.name, "release.queue", &queued)).await?;
    }
    tx.commit().await?;
    applied.follow(cx);
    status(cx, id).await
}

/// Makes the signing service create the release of a build, under a name in its outbox.
///
/// # Errors
/// When the signing service refuses or does not answer.
pub(crate) async fn have_signed(cx: &Context, build: &Build, out: &str) -> Result<(), Error> {
    let (policy, release_key) = needed_policy(cx).await?;
    let kept = store::approvals::get(&mut cx.db.reader().await?, &build.id).await?;
    let (intent, request, approvals) = match kept {
        // Only if the policy still requires approvals: otherwise a stored request may have expired.
        Some(Asked { request, approvals }) if policy.approvals() > 0 => {
            (request.intent, Some(request.by), approvals)
        }
        _ => {
            let build_sha256 = sha256_hex(&record(cx, &build.id).await?);
            let (created_s, expires_s) = (cx.now_s(), cx.now_s() + ALONE_S);
            let (kind, release) = (KIND.to_owned(), build.release.clone());
            let intent = Intent {
                kind,
                release,
                build_sha256,
                release_key,
                requester: String::new(),
                created_s,
                expires_s,
            };
            (intent.to_text()?, None, vec![])
        }
    };
    let request = Request::SignRelease {
        build: build.id.clone(),
        out: out.to_owned(),
        intent,
        request,
        approvals,
    };
    match signing::ask_for(&cx.signer, request, SIGNATURE).await? {
        Response::Release { .. } => Ok(()),
        other => {
            Err(Error::internal(format!("unexpected response of the signing service: {other:?}")))
        }
    }
}
