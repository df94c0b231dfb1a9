//! How a device gets its certificates.
//!
//! Three machines, each for one row of the database: [`token`] (the enrollment token with which a
//! device gets its first certificate) · [`pairing`] (the code that a device without a token shows)
//! · [`certificate`] (the certificates that follow). All are pure: the server stores the state that
//! a `step` returns, and applies the effects.

pub mod certificate;
pub mod pairing;
pub mod token;

/// Whom the key of a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOwner {
    /// The device itself, or no device.
    NoOther,
    /// Another device: it has or had this key, or requests a certificate for it.
    OtherDevice,
}
