//! The cohort of a device in a rollout: where it is in the order of the waves.

use crate::id::DeviceId;
use sha2::{Digest, Sha256};

/// The cohort of a device: the first 8 bytes, big-endian, of
/// `SHA-256("fleeti-rollout-v1" | salt | device id)`, the fields joined by one `|` byte. The salt
/// is the id of the rollout, so that another rollout begins with other devices. Devices with lower
/// cohorts come first.
///
/// ```
/// # use fleeti_core::rollout::cohort::cohort;
/// let device = "lobby-1".parse().unwrap();
/// assert_eq!(cohort("rollout-a", &device), cohort("rollout-a", &device));
/// assert_ne!(cohort("rollout-a", &device), cohort("rollout-b", &device));
/// ```
#[must_use]
pub fn cohort(salt: &str, device: &DeviceId) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"fleeti-rollout-v1|");
    hash.update(salt.as_bytes());
    hash.update(b"|");
    hash.update(device.as_str().as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    digest.iter().take(8).fold(0, |n, byte| (n << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anybody can compute a cohort: `printf 'fleeti-rollout-v1|r|device-5' | sha256sum`.
    #[test]
    fn a_cohort_is_what_the_published_formula_gives() {
        let device = "device-5".parse().unwrap();
        assert_eq!(format!("{:016x}", cohort("r", &device)), "175634cb1c44e9fe");
    }
}
