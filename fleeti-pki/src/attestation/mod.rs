//! Remote attestation (RFC 9334): what a TPM says of the system that started, verified, and what it
//! means.
//!
//! [`Challenge`] (what is asked) · [`evidence`] (that a TPM answered it, and nothing else did) ·
//! [`appraisal`] (what the answer means) · [`key`] (that a key is in the TPM that is known).

pub mod appraisal;
pub mod evidence;
pub mod key;

use crate::tpm::Hash;
use crate::tpm::attest::Selection;
use fleeti_core::id::DeviceId;

/// Registers that a device is asked for: all that something is measured into, but 10, which belongs
/// to a kernel that measures files, and 8, which to a boot loader that is not ours.
pub const REGISTERS: [u8; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 14, 15];
/// Begins what a quote answers, so that no answer to anything else is one.
const CONTEXT: &[u8] = b"fleeti-attestation-v1\0";

/// A question that only one device can answer, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Random.
    pub nonce: [u8; 32],
    /// Who is asked.
    pub device: DeviceId,
}

impl Challenge {
    /// Which registers are asked for.
    #[must_use]
    pub fn selection() -> Selection {
        Selection::sha256(&REGISTERS)
    }

    /// What the TPM is to put into its answer: 32 bytes, because a TPM with SHA-256 alone takes 34
    /// at the most.
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
