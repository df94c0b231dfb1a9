//! Requests to the signing service.

use crate::clock::new_id;
use crate::error::Error;
use base64::Engine;
use fleeti_core::wire::problem::Code;
use fleeti_signer_client::handle::{SignerError, SignerHandle};
use fleeti_signer_client::wire::{REVOKED_AT_ONCE, Request, Response, RevokedSerial};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

impl From<SignerError> for Error {
    fn from(e: SignerError) -> Self {
        match e {
            SignerError::Refused(reason) => {
                Self::new(Code::Conflict, format!("the signing service refuses: {reason}"))
            }
            SignerError::Limited(_) => {
                Self::new(Code::Unavailable, e.to_string()).hint("try again in a minute")
            }
            // Its client has logged why, once for all requests that waited.
            SignerError::Unavailable(_) => Self::logged_internal(),
        }
    }
}

fn unexpected(response: &Response) -> Error {
    Error::internal(format!("unexpected response of the signing service: {response:?}"))
}

fn bytes(base64: &str) -> Result<Vec<u8>, Error> {
    base64::engine::general_purpose::STANDARD.decode(base64).map_err(Error::internal)
}

/// Maximum size of a CRL, in bytes.
const CRL_MAX: u64 = 64 << 20;
/// When the log last said that the signing service does not answer.
static SAID: Mutex<Option<Instant>> = Mutex::new(None);
/// The log says it again after this time, however many requests wait.
const SAID_AGAIN: Duration = Duration::from_secs(60);
/// How long a request waits for the signing service, which may be starting.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sends a request to the signing service, with the default timeout.
///
/// # Errors
/// When the signing service refuses or does not answer.
pub async fn ask(signer: &SignerHandle, request: Request) -> Result<Response, Error> {
    ask_for(signer, request, PATIENCE).await
}

/// Sends a request to the signing service, with a timeout.
///
/// # Errors
/// When the signing service refuses or does not answer.
pub async fn ask_for(
    signer: &SignerHandle,
    request: Request,
    patience: Duration,
) -> Result<Response, Error> {
    let late = |_| {
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| at.elapsed() >= SAID_AGAIN) {
            *said = Some(Instant::now());
            tracing::error!("the signing service has not answered for {} s", patience.as_secs());
        }
        Error::new(Code::Unavailable, "the signing service does not answer")
            .hint("start fleeti-signer, or read its log")
    };
    Ok(tokio::time::timeout(patience, signer.ask(request)).await.map_err(late)??)
}

/// Requests a certificate, DER.
///
/// # Errors
/// When the signing service refuses or does not answer.
pub async fn certificate(signer: &SignerHandle, request: Request) -> Result<Vec<u8>, Error> {
    match ask(signer, request).await? {
        Response::Certificate { der } => bytes(&der),
        other => Err(unexpected(&other)),
    }
}

/// Requests the CRL of an intermediate CA for devices, DER. The size of a message is limited, so a
/// large CRL is sent and received in parts.
///
/// # Errors
/// When the signing service refuses or does not answer.
pub async fn crl(
    signer: &SignerHandle,
    issuer: &str,
    mut revoked: Vec<RevokedSerial>,
) -> Result<Vec<u8>, Error> {
    let mut staged = None;
    if revoked.len() > REVOKED_AT_ONCE {
        let crl = new_id("list");
        while !revoked.is_empty() {
            let some = revoked.split_off(revoked.len().saturating_sub(REVOKED_AT_ONCE));
            match ask(signer, Request::StageRevoked { name: crl.clone(), revoked: some }).await? {
                Response::Staged { .. } => {}
                other => return Err(unexpected(&other)),
            }
        }
        staged = Some(crl);
    }
    let (crl, length) =
        match ask(signer, Request::Crl { revoked, issuer: Some(issuer.to_owned()), staged }).await?
        {
            Response::Crl { der } => return bytes(&der),
            Response::LargeCrl { name, bytes } if bytes <= CRL_MAX => (name, bytes),
            other => return Err(unexpected(&other)),
        };
    let mut whole = Vec::new();
    while (whole.len() as u64) < length {
        match ask(signer, Request::CrlPart { name: crl.clone(), from: whole.len() as u64 }).await? {
            Response::CrlPart { der } if !der.is_empty() => whole.extend(bytes(&der)?),
            other => return Err(unexpected(&other)),
        }
    }
    Ok(whole)
}
