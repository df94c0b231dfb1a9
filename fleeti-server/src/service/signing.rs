//! What the signer is asked for.

use crate::error::AppError;
use base64::Engine;
use fleeti_core::wire::problem::Code;
use fleeti_signer::handle::{SignerError, SignerHandle};
use fleeti_signer::wire::{Request, Response};
use std::time::Duration;

impl From<SignerError> for AppError {
    fn from(e: SignerError) -> Self {
        match e {
            SignerError::Refused(reason) => Self::new(Code::Conflict, format!("the signer refuses: {reason}")),
            SignerError::Limited(_) => Self::new(Code::Unavailable, e.to_string()).hint("come back in a minute"),
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
pub async fn ask_for(signer: &SignerHandle, request: Request, patience: Duration) -> Result<Response, AppError> {
    let late = |_| {
        tracing::error!("the signer has not answered for {} s", patience.as_secs());
        AppError::new(Code::Unavailable, "the signer does not answer").hint("start fleeti-signer, or look into its log")
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

/// A revocation list, DER.
///
/// # Errors
/// When the signer refuses or does not answer.
pub async fn revocation_list(signer: &SignerHandle, request: Request) -> Result<Vec<u8>, AppError> {
    match ask(signer, request).await? {
        Response::RevocationList { der } => bytes(&der),
        other => Err(unexpected(&other)),
    }
}
