//! How long the certificates and CRLs count that the signing service signs. Those of the offline
//! root are in [`fleeti_pki::hierarchy`] and [`fleeti_pki::ceremony`].

/// Longest validity of a device certificate, seconds. The server asks for
/// [`fleeti_core::enrollment::certificate::CERTIFICATE_S`].
pub const DEVICE_S_MAX: u64 = 30 * 86_400;
/// Shortest validity of a device certificate, seconds.
pub const DEVICE_S_MIN: u64 = 7 * 86_400;
/// Validity of a server certificate, seconds. Devices check no CRL for it, so a stolen key can be
/// used for this long. The server renews it every six hours; it must outlast two weeks without the
/// signing service, and the time for its repair.
pub const SERVER_S: u64 = 21 * 86_400;
/// Validity of a CRL, seconds; it is renewed well before.
pub const LIST_S: u64 = 24 * 3600;
