//! The file of a key: the sealed key or, for a key in a token, its RFC 7512 URI.

use super::fast::FastKey;
use super::{Algorithm, Signer, SoftKey};
use crate::{Error, sealed};

/// The content of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The key, sealed under a passphrase.
    Sealed,
    /// The URI of a key in a token.
    Token,
}

/// The content of a key file, before it is opened.
#[must_use]
pub fn kind(file: &[u8]) -> Kind {
    if file.starts_with(b"pkcs11:") { Kind::Token } else { Kind::Sealed }
}

/// Opens a key for its purpose. `secret` is the passphrase of a sealed key, or the PIN of the
/// token.
///
/// # Errors
/// [`Error::Refused`] for a wrong passphrase, PIN or purpose, and for a token if the program was
/// built without PKCS#11; [`Error::Malformed`]; [`Error::Backend`].
pub fn open(file: &[u8], purpose: &str, secret: &[u8]) -> Result<Box<dyn Signer>, Error> {
    match kind(file) {
        Kind::Token => open_token(file, purpose, secret),
        Kind::Sealed => {
            let der = sealed::open(file, purpose, secret)?;
            let key = SoftKey::from_pkcs8_der(&der)?;
            Ok(match key.algorithm() {
                Algorithm::P256 | Algorithm::P384 => Box::new(FastKey::from_pkcs8_der(&der)?),
                Algorithm::Rsa2048 | Algorithm::Ed25519 => Box::new(key),
            })
        }
    }
}

/// The file with the PIN of a key file's token, if the URI names one; otherwise the passphrase is
/// the PIN.
///
/// # Errors
/// [`Error::Malformed`] for an invalid URI.
#[cfg(feature = "pkcs11")]
pub fn pin_source(file: &[u8]) -> Result<Option<std::path::PathBuf>, Error> {
    Ok(match kind(file) {
        Kind::Token => token_uri(file)?.pin_source().map(std::path::Path::to_owned),
        Kind::Sealed => None,
    })
}

#[cfg(feature = "pkcs11")]
fn token_uri(file: &[u8]) -> Result<super::token::TokenUri, Error> {
    std::str::from_utf8(file).map_err(|_| Error::Refused("the PKCS#11 URI is not UTF-8"))?.parse()
}

#[cfg(feature = "pkcs11")]
fn open_token(file: &[u8], purpose: &str, pin: &[u8]) -> Result<Box<dyn Signer>, Error> {
    let uri = token_uri(file)?;
    if !uri.is_for(purpose) {
        return Err(Error::Refused(
            "the name of the token's object does not match the purpose, so it is a key for something else",
        ));
    }
    Ok(Box::new(super::token::TokenKey::open(&uri, pin)?))
}

#[cfg(not(feature = "pkcs11"))]
fn open_token(_: &[u8], _: &str, _: &[u8]) -> Result<Box<dyn Signer>, Error> {
    Err(Error::Refused("this program was built without PKCS#11"))
}
