//! Remote attestation (RFC 9334): verifies evidence from a TPM about the booted system, and
//! appraises it.
//!
//! [`Challenge`] (what the verifier asks) · [`evidence`] (proves that one TPM answered the
//! challenge) · [`appraisal`] (claims and level) · [`key`] (proves that a key is in a known TPM).

pub mod appraisal;
pub mod evidence;
pub mod key;

use crate::tpm::Hash;
use crate::tpm::attest::Selection;
use fleeti_core::id::DeviceId;

/// The PCRs that evidence contains: all that something is measured into, except 10 (of a kernel
/// that measures files) and 8 (of a boot loader that Fleeti does not use).
pub const PCRS: [u8; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 14, 15];
/// Prefix of the data that a quote signs, so that no other signature of the key is taken for a
/// quote.
const CONTEXT: &[u8] = b"fleeti-attestation-v1\0";

/// A challenge that one device can answer once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// 32 random bytes.
    pub nonce: [u8; 32],
    /// The device that is asked.
    pub device: DeviceId,
}

impl Challenge {
    /// The PCRs to quote.
    #[must_use]
    pub fn selection() -> Selection {
        Selection::sha256(&PCRS)
    }

    /// The data that the TPM must include in the quote: 32 bytes, because a TPM with only SHA-256
    /// accepts 34 at most.
    #[must_use]
    pub fn qualifying_data(&self, firmware_log: &[u8], phases_log: &[u8]) -> Vec<u8> {
        let (firmware, phases) =
            (Hash::Sha256.digest(&[firmware_log]), Hash::Sha256.digest(&[phases_log]));
        Hash::Sha256.digest(&[
            CONTEXT,
            &self.nonce,
            &firmware,
            &phases,
            self.device.as_str().as_bytes(),
        ])
    }
}
