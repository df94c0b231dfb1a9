//! What the signer is asked for.

use crate::app::{new_id, now_s};
use crate::error::AppError;
use base64::Engine;
use fleeti_core::wire::problem::Code;
use fleeti_signer::handle::{SignerError, SignerHandle};
use fleeti_signer::wire::{REVOKED_AT_ONCE, Request, Response, RevokedSerial};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

impl From<SignerError> for AppError {
    fn from(e: SignerError) -> Self {
        match e {
            SignerError::Refused(reason) => {
                Self::new(Code::Conflict, format!("the signer refuses: {reason}"))
            }
            SignerError::Limited(_) => {
                Self::new(Code::Unavailable, e.to_string()).hint("come back in a minute")
            }
            other => Self::internal(other),
        }
    }
}

fn unexpected(response: &Response) -> AppError {
    AppError::internal(format!("the signer answered {response:?}"))
}

fn bytes(base64: &str) -> Result<Vec<u8>, AppError> {
    base64::engine::general_purpose::STANDARD.decode(base64).map_err(AppError::internal)
}

/// Largest list that is taken, bytes.
const LIST_MAX: u64 = 64 << 20;
/// The minute in which it was last said that the signer does not answer.
static SAID: AtomicU64 = AtomicU64::new(0);
/// How long somebody waits for the signer, who may be about to start.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks the signer, for a while.
///
/// # Errors
/// When it refuses or does not answer.
pub async fn ask(signer: &SignerHandle, request: Request) -> Result<Response, AppError> {
    ask_for(signer, request, PATIENCE).await
}

/// Asks the signer for what takes longer.
///
/// # Errors
/// When it refuses or does not answer.
pub async fn ask_for(
    signer: &SignerHandle,
    request: Request,
    patience: Duration,
) -> Result<Response, AppError> {
    let late = |_| {
        // Once a minute, however many wait.
        let minute = now_s() / 60;
        if SAID.swap(minute, Ordering::Relaxed) != minute {
            tracing::error!("the signer has not answered for {} s", patience.as_secs());
        }
        AppError::new(Code::Unavailable, "the signer does not answer")
            .hint("start fleeti-signer, or look into its log")
    };
    Ok(tokio::time::timeout(patience, signer.ask(request)).await.map_err(late)??)
}

/// A certificate, DER.
///
/// # Errors
/// When the signer refuses or does not answer.
pub async fn certificate(signer: &SignerHandle, request: Request) -> Result<Vec<u8>, AppError> {
    match ask(signer, request).await? {
        Response::Certificate { der } => bytes(&der),
        other => Err(unexpected(&other)),
    }
}

/// A revocation list of a device intermediate, DER. A large one goes there and comes back in parts:
/// a message is limited.
///
/// # Errors
/// When the signer refuses or does not answer.
pub async fn revocation_list(
    signer: &SignerHandle,
    issuer: &str,
    mut revoked: Vec<RevokedSerial>,
) -> Result<Vec<u8>, AppError> {
    let mut staged = None;
    if revoked.len() > REVOKED_AT_ONCE {
        let list = new_id("list");
        while !revoked.is_empty() {
            let some = revoked.split_off(revoked.len().saturating_sub(REVOKED_AT_ONCE));
            match ask(signer, Request::StageRevoked { list: list.clone(), revoked: some }).await? {
                Response::Staged { .. } => {}
                other => return Err(unexpected(&other)),
            }
        }
        staged = Some(list);
    }
    let (list, length) = match ask(
        signer,
        Request::RevocationList { revoked, issuer: Some(issuer.to_owned()), staged },
    )
    .await?
    {
        Response::RevocationList { der } => return bytes(&der),
        Response::LargeList { list, bytes } if bytes <= LIST_MAX => (list, bytes),
        other => return Err(unexpected(&other)),
    };
    let mut whole = Vec::new();
    while (whole.len() as u64) < length {
        match ask(signer, Request::ListPart { list: list.clone(), from: whole.len() as u64 })
            .await?
        {
            Response::ListPart { der } if !der.is_empty() => whole.extend(bytes(&der)?),
            other => return Err(unexpected(&other)),
        }
    }
    Ok(whole)
}
