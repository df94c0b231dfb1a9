//! Enrollment of a device that shows its TPM together with its token.

use super::state::ProvedTpm;
use crate::attestation::proving::Bearer;
use crate::attestation::tpm::{challenge, check_key, protection, read, redeem_proof};
use crate::context::Context;
use crate::enrollment::renewal;
use crate::error::Error;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::enrollment::token::{self, Event, Rejected};
use fleeti_core::wire::attestation::{TpmEnrollRequest, TpmEnrollment, TpmSecret};
use fleeti_core::wire::enrollment::EnrollRequest;
use fleeti_core::wire::problem::Code;
use fleeti_pki::attestation::key::{CHANNEL_BYTES, Purpose};
use fleeti_store as store;
use fleeti_store::enrollments::StoredToken;

/// Length of a token in characters.
pub(crate) const TOKEN_DIGITS: usize = 64;

/// The same error for every reason, so that an attacker learns nothing.
pub(crate) fn refused() -> Error {
    Error::new(Code::Forbidden, "the token is unknown, expired or used")
        .hint("create a new one with `fleeti device enrollment`")
}

/// The error for a token to which an event does not apply.
pub(crate) fn rejected(e: &Rejected) -> Error {
    match e {
        Rejected::TpmMismatch => {
            let text = "this token is reserved for another TPM, or the device did not show its TPM";
            Error::new(Code::Forbidden, text)
                .hint("compare --ek-sha256 with the endorsement key of the device")
        }
        Rejected::KeyOfOther => renewal::foreign_key(),
        _ => refused(),
    }
}

/// A token that has not expired, used or not.
///
/// # Errors
/// [`Code::Forbidden`] for any other.
async fn good_token(cx: &Context, token: &str) -> Result<StoredToken, Error> {
    if token.len() != TOKEN_DIGITS {
        return Err(refused());
    }
    let sha256 = sha256_hex(token.as_bytes());
    let mut found = store::enrollments::find(&mut cx.db.reader().await?, &[&sha256]).await?;
    found.remove(&sha256).filter(|row| !row.token.has_expired(cx.now_s())).ok_or_else(refused)
}

/// A device with a token presents its TPM before it enrolls. Returns a secret that only this TPM
/// can decrypt.
///
/// # Errors
/// [`Code::Forbidden`] for an invalid token, or one reserved for another TPM; [`Code::Invalid`] for
/// keys with wrong attributes.
pub async fn begin_enrollment(
    cx: &Context,
    request: &TpmEnrollRequest,
) -> Result<TpmSecret, Error> {
    // Check the token first: the server computes and stores nothing for an invalid one.
    let StoredToken { token_sha256, token, .. } = good_token(cx, &request.token).await?;
    let tpm = read(cx, &request.tpm)?;
    token::step(&token, Event::PresentTpm(tpm.ek_sha256()), cx.now_s())
        .map_err(|e| rejected(&e))?;
    challenge(cx, Bearer::Token(token_sha256), tpm)
}

/// Completes [`begin_enrollment`]: checks the returned secret, and that the key of the CSR is in
/// this TPM.
///
/// # Errors
/// [`Code::Forbidden`], with the check that failed.
pub(crate) fn proved_enrollment(
    cx: &Context,
    request: &EnrollRequest,
    sent: &TpmEnrollment,
    channel: Option<[u8; CHANNEL_BYTES]>,
) -> Result<ProvedTpm, Error> {
    let token_sha256 = sha256_hex(request.token.as_bytes());
    let row = redeem_proof(cx, &Bearer::Token(token_sha256.clone()), &sent.proof)?;
    check_key(&row, &sent.key, &request.csr_pem, channel, |channel| {
        Purpose::enrollment(&token_sha256, channel)
    })?;
    let protection = protection(&row);
    Ok(ProvedTpm { row, protection })
}
