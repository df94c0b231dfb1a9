//! TPMs that must return a secret which only they can decrypt.

use super::parse::decoded;
use crate::error::Error;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::attestation::TpmProof;
use fleeti_core::wire::problem::Code;
use fleeti_store::tpms::TpmRow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Maximum number of TPMs whose proof is pending.
const PROVING_MAX: usize = 1024;

/// Who presents a TPM: a device with a certificate, or the holder of a token (named by its digest).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Bearer {
    Device(DeviceId),
    Token(String),
}

/// A TPM with an outstanding secret.
pub(super) struct Pending {
    pub(super) id: String,
    pub(super) secret: [u8; 32],
    pub(super) row: TpmRow,
    pub(super) asked: Instant,
}

/// TPMs with outstanding secrets.
#[derive(Default)]
pub(super) struct Proving {
    pending: Mutex<HashMap<Bearer, Pending>>,
}

impl Proving {
    pub(super) fn put(
        &self,
        bearer: Bearer,
        pending: Pending,
        patience: Duration,
    ) -> Result<(), Error> {
        let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, p| p.asked.elapsed() < patience);
        if all.len() >= PROVING_MAX {
            return Err(Error::new(Code::Unavailable, "too many devices are proving their TPM")
                .hint("try again in a minute"));
        }
        all.insert(bearer, pending);
        Ok(())
    }

    /// Takes a pending proof. Each secret allows a single attempt, successful or not.
    pub(super) fn take(
        &self,
        bearer: &Bearer,
        proof: &TpmProof,
        patience: Duration,
    ) -> Result<TpmRow, Error> {
        let given = decoded("secret", proof.secret.expose())?;
        let found = self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(bearer);
        let found = found.filter(|p| p.asked.elapsed() < patience && p.id == proof.id);
        // The same error for every reason. Compares digests, so that the time reveals nothing about
        // the secret.
        let found = found.filter(|p| sha256_hex(&p.secret) == sha256_hex(&given));
        let refused = || {
            Error::new(Code::Forbidden, "wrong or expired secret for this TPM")
                .hint("present the TPM again")
        };
        found.map(|p| p.row).ok_or_else(refused)
    }
}
