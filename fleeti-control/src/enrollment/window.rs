//! Validity of device certificates, and when they are renewed.

use fleeti_core::wire::enrollment::RenewalWindow;

/// Validity of a device certificate, in seconds.
pub const CERTIFICATE_S: u64 = 30 * 86_400;

/// The renewal window of a certificate with this expiry: from one third to one half of its
/// validity. At the end of the window 15 days are left, so that no device goes offline when the
/// signing service is away for two weeks.
#[must_use]
pub fn window_of(not_after_s: u64) -> RenewalWindow {
    let start_s = not_after_s.saturating_sub(CERTIFICATE_S / 3 * 2);
    RenewalWindow { start_s, end_s: start_s + CERTIFICATE_S / 6 }
}
