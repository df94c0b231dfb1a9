//! Build workers and their tokens.

use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::WorkerName;
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::worker::{CreateWorker, CreatedWorker, WORKERS_MAX, Worker};
use fleeti_pki::audit::Act;
use fleeti_store as store;

/// Audit action: a request with an unknown worker token.
const REFUSED: &str = "worker.refused";

/// Adds a worker. Only the return value contains its token.
///
/// # Errors
/// [`Code::Conflict`] for a name that is taken, or if there are [`WORKERS_MAX`] workers.
pub async fn add(cx: &Context, by: &Actor, request: &CreateWorker) -> Result<CreatedWorker, Error> {
    if list(cx).await?.len() >= WORKERS_MAX {
        return Err(Error::new(Code::Conflict, format!("limit of {WORKERS_MAX} workers reached"))
            .hint("remove a worker first"));
    }
    let token = hex::encode(rand::random::<[u8; 32]>());
    let mut tx = cx.db.write().await?;
    if !store::workers::insert(&mut tx, &request.name, &sha256_hex(token.as_bytes()), cx.now_s())
        .await?
    {
        let e = Error::new(
            Code::Conflict,
            format!("worker {:?} already exists", request.name.as_str()),
        );
        return Err(e.hint("choose another name, or remove that worker"));
    }
    cx.audit(&mut tx, by.act("worker.add", request.name.as_str())).await?;
    tx.commit().await?;
    Ok(CreatedWorker { name: request.name.clone(), token: Secret::new(token) })
}

/// All workers.
pub async fn list(cx: &Context) -> Result<Vec<Worker>, Error> {
    Ok(store::workers::all(cx.db.pool()).await?)
}

/// Removes a worker. Its token is no longer valid, and its build goes to another worker.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn remove(cx: &Context, by: &Actor, name: &WorkerName) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    if !store::workers::delete(&mut tx, name).await? {
        return Err(Error::not_found("worker", name.as_str()));
    }
    cx.audit(&mut tx, by.act("worker.remove", name.as_str())).await?;
    Ok(tx.commit().await?)
}

/// Returns the worker with this token.
///
/// # Errors
/// [`Code::Unauthenticated`].
pub async fn authenticate(cx: &Context, token: Option<&str>) -> Result<WorkerName, Error> {
    // Looks up the digest, so that the time reveals nothing about the token.
    let found = match token {
        Some(token) => {
            store::workers::by_token(cx.db.pool(), &sha256_hex(token.as_bytes())).await?
        }
        None => None,
    };
    if let Some(name) = found {
        return Ok(name);
    }
    if cx.alarms.is_new(REFUSED, "worker") {
        let mut tx = cx.db.write().await?;
        cx.audit(&mut tx, Act::new("unknown", REFUSED, "worker")).await?;
        tx.commit().await?;
    }
    Err(Error::new(Code::Unauthenticated, "missing or invalid worker token")
        .hint("create one with `fleeti worker add NAME`"))
}
