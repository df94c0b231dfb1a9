//! Keys in a token (PKCS#11 2.40 and later): generated in it, never outside it.
//!
//! A key is named by an RFC 7512 URI with `token`, `object` and `module-path`, and, if the PIN is
//! not the passphrase of the other keys, `pin-source`:
//! `pkcs11:token=fleeti;object=device-ca?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin`.

use super::{Algorithm, ED25519_SPKI, Signer, der_of};
use crate::{Error, OrMalformed};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Pkcs11Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use der::asn1::{BitString, OctetString, UintRef};
use der::{Decode, Encode};
use sha2::{Digest, Sha256, Sha384};
use spki::{AlgorithmIdentifierOwned, ObjectIdentifier, SubjectPublicKeyInfoOwned};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// Prefix of a key file whose key is in a token.
pub const SCHEME: &str = "pkcs11:";
/// Maximum length of a URI.
pub const URI_MAX: usize = 4096;

const P256: ObjectIdentifier = const_oid::db::rfc5912::SECP_256_R_1;
const P384: ObjectIdentifier = const_oid::db::rfc5912::SECP_384_R_1;

/// The location of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUri {
    module: PathBuf,
    token: String,
    object: String,
    pin_source: Option<PathBuf>,
}

impl TokenUri {
    /// Whether the key is for this purpose: the name of its object is the purpose, or starts with
    /// it, as in `release` and `release-alice`.
    #[must_use]
    pub fn is_for(&self, purpose: &str) -> bool {
        self.object
            .strip_prefix(purpose)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
    /// The file with the PIN, if it is not the passphrase of the other keys.
    #[must_use]
    pub fn pin_source(&self) -> Option<&Path> {
        self.pin_source.as_deref()
    }
}

impl FromStr for TokenUri {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |detail: String| Error::Malformed { what: "PKCS#11 URI", detail };
        let text = text.trim_end();
        if text.len() > URI_MAX {
            return Err(wrong(format!(
                "{} bytes are too many, at most {URI_MAX} are allowed",
                text.len()
            )));
        }
        let parsed = pk11_uri_parser::parse(text).map_err(|e| wrong(e.to_string()))?;
        // A file that names a key must not contain its PIN.
        if parsed.pin_value().is_some() {
            return Err(wrong("it holds the PIN itself; instead name a file that only the signing service can read: pin-source=file:/PATH".into()));
        }
        let part = |name: &str, value: Option<&str>| {
            decoded(value.ok_or_else(|| wrong(format!("there is no {name}")))?)
        };
        let pin_source = parsed.pin_source().map(decoded).transpose()?;
        let pin_source = pin_source
            .map(|s| {
                s.strip_prefix("file:")
                    .map(|p| PathBuf::from(p.strip_prefix("//").unwrap_or(p)))
                    .filter(|p| p.is_absolute())
            })
            .map(|path| path.ok_or_else(|| wrong("pin-source is not file:/PATH".into())))
            .transpose()?;
        let module = PathBuf::from(part("module-path", parsed.module_path())?);
        if !module.is_absolute() {
            return Err(wrong("module-path is not absolute".into()));
        }
        Ok(Self {
            module,
            token: part("token", parsed.token())?,
            object: part("object", parsed.object())?,
            pin_source,
        })
    }
}

/// Decodes percent-encoding (RFC 3986, 2.1).
fn decoded(text: &str) -> Result<String, Error> {
    let bytes = percent_encoding::percent_decode_str(text);
    bytes.decode_utf8().map(|t| t.into_owned()).or_malformed("PKCS#11 URI")
}

/// The loaded modules: a process may initialise a module once.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

fn module(path: &Path) -> Result<Pkcs11, Error> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path).or_backend("loading the PKCS#11 module")?;
    module
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .or_backend("initialising the PKCS#11 module")?;
    modules.insert(path.to_owned(), module.clone());
    Ok(module)
}

fn session(uri: &TokenUri, pin: &[u8], writes: bool) -> Result<Session, Error> {
    let module = module(&uri.module)?;
    let slots = module.get_slots_with_initialized_token().or_backend("looking for tokens")?;
    let mut found = slots.into_iter().filter(|slot| {
        module.get_token_info(*slot).is_ok_and(|t| t.label().trim_end() == uri.token)
    });
    let Some(slot) = found.next() else {
        return Err(Error::Backend {
            what: "opening the token",
            detail: format!("there is no token {:?}", uri.token),
        });
    };
    if found.next().is_some() {
        return Err(Error::Backend {
            what: "opening the token",
            detail: format!("more than one token has the label {:?}", uri.token),
        });
    }
    // One wrong attempt too many locks the token for everyone: the last attempts are left to
    // operators.
    let info = module.get_token_info(slot).or_backend("looking for tokens")?;
    if info.user_pin_final_try() || info.user_pin_locked() {
        return Err(Error::Refused(
            "the token's PIN has at most one attempt left: unlock it with the token's own tools first",
        ));
    }
    let session = if writes { module.open_rw_session(slot) } else { module.open_ro_session(slot) }
        .or_backend("opening the token")?;
    let pin = std::str::from_utf8(pin).or_malformed("PIN")?;
    match session.login(UserType::User, Some(&AuthPin::new(pin.into()))) {
        Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(Pkcs11Error::Pkcs11(RvError::PinIncorrect, _)) => {
            Err(Error::Refused("the token does not accept this PIN"))
        }
        Err(e) => Err(e).or_backend("logging in to the token"),
    }
}

/// A private key that is in a token and cannot leave it.
pub struct TokenKey {
    session: Mutex<(Session, ObjectHandle)>,
    /// To open it again after the token was removed and inserted.
    uri: TokenUri,
    pin: Zeroizing<Vec<u8>>,
    algorithm: Algorithm,
    public_key_der: Vec<u8>,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenKey({:?})", self.algorithm)
    }
}

impl TokenKey {
    /// Opens a key.
    ///
    /// # Errors
    /// [`Error::Refused`] for a key that was not generated in the token or can leave it, and for a
    /// wrong PIN; [`Error::Backend`] if there is no such key.
    pub fn open(uri: &TokenUri, pin: &[u8]) -> Result<Self, Error> {
        let session = session(uri, pin, false)?;
        let private = one(&session, ObjectClass::PRIVATE_KEY, uri)?;
        let proof = [AttributeType::AlwaysSensitive, AttributeType::NeverExtractable];
        let proof =
            session.get_attributes(private, &proof).or_backend("reading the key's attributes")?;
        let is_true = |a: &Attribute| {
            matches!(a, Attribute::AlwaysSensitive(true) | Attribute::NeverExtractable(true))
        };
        if proof.len() != 2 || !proof.iter().all(is_true) {
            return Err(Error::Refused("the key was not generated in the token, or can leave it"));
        }
        let public = one(&session, ObjectClass::PUBLIC_KEY, uri)?;
        let (algorithm, public_key_der) = public_key(&session, public)?;
        let (uri, pin) = (uri.clone(), Zeroizing::new(pin.to_vec()));
        let key =
            Self { session: Mutex::new((session, private)), uri, pin, algorithm, public_key_der };
        // Both halves are found by name; only a signature proves that they belong together.
        let (message, signature) = (b"fleeti", key.sign(b"fleeti")?);
        let is_pair = match algorithm {
            Algorithm::P256 | Algorithm::P384 => {
                super::fast::verify(&key.public_key_der, message, &signature)
            }
            Algorithm::Rsa2048 => super::verify_rsa(&key.public_key_der, message, &signature),
            Algorithm::Ed25519 => {
                key.public_key_der.last_chunk().map_or(Err(super::NOT_BY_THIS_KEY), |k| {
                    super::verify_ed25519(k, message, &signature)
                })
            }
        };
        is_pair.map_err(|_| {
            Error::Refused("the token's private key does not match the public key of the same name")
        })?;
        Ok(key)
    }

    /// Generates a key in the token.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is one of that name; [`Error::Backend`] if the token cannot
    /// generate it.
    pub fn generate(uri: &TokenUri, pin: &[u8], algorithm: Algorithm) -> Result<Self, Error> {
        let session = session(uri, pin, true)?;
        let label = Attribute::Label(uri.object.clone().into_bytes());
        if !session
            .find_objects(std::slice::from_ref(&label))
            .or_backend("looking into the token")?
            .is_empty()
        {
            return Err(Error::Refused(
                "the token has an object of this name already; keys are never overwritten",
            ));
        }
        let id = Attribute::Id(rand::random::<[u8; 16]>().to_vec());
        let mut public =
            vec![Attribute::Token(true), Attribute::Verify(true), label.clone(), id.clone()];
        let curve =
            |oid: ObjectIdentifier| oid.to_der().map(Attribute::EcParams).or_malformed("curve");
        let mechanism = match algorithm {
            Algorithm::P256 => {
                public.push(curve(P256)?);
                Mechanism::EccKeyPairGen
            }
            Algorithm::P384 => {
                public.push(curve(P384)?);
                Mechanism::EccKeyPairGen
            }
            Algorithm::Ed25519 => {
                public.push(curve(const_oid::db::rfc8410::ID_ED_25519)?);
                Mechanism::EccEdwardsKeyPairGen
            }
            Algorithm::Rsa2048 => {
                public.extend([
                    Attribute::ModulusBits(2048.into()),
                    Attribute::PublicExponent(vec![1, 0, 1]),
                ]);
                Mechanism::RsaPkcsKeyPairGen
            }
        };
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            label,
            id,
        ];
        session
            .generate_key_pair(&mechanism, &public, &private)
            .or_backend("generating a key in the token")?;
        drop(session);
        Self::open(uri, pin)
    }

    fn raw(&self, mechanism: &Mechanism<'_>, data: &[u8]) -> Result<Vec<u8>, Error> {
        let mut open = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = match open.0.sign(mechanism, open.1, data) {
            Ok(signature) => return Ok(signature),
            Err(e) => e,
        };
        let gone = [
            RvError::SessionHandleInvalid,
            RvError::SessionClosed,
            RvError::DeviceRemoved,
            RvError::UserNotLoggedIn,
            RvError::KeyHandleInvalid,
        ];
        if !matches!(&lost, Pkcs11Error::Pkcs11(e, _) if gone.contains(e)) {
            return Err(lost).or_backend("signing in the token");
        }
        let session = session(&self.uri, &self.pin, false)?;
        let private = one(&session, ObjectClass::PRIVATE_KEY, &self.uri)?;
        *open = (session, private);
        open.0.sign(mechanism, open.1, data).or_backend("signing in the token")
    }
}

fn one(session: &Session, class: ObjectClass, uri: &TokenUri) -> Result<ObjectHandle, Error> {
    let template = [Attribute::Class(class), Attribute::Label(uri.object.clone().into_bytes())];
    match session.find_objects(&template).or_backend("looking into the token")?.as_slice() {
        [found] => Ok(*found),
        found => Err(Error::Backend {
            what: "opening the key",
            detail: format!(
                "the token {:?} has {} objects {class} named {:?}, not one",
                uri.token,
                found.len(),
                uri.object
            ),
        }),
    }
}

/// RSAPublicKey (RFC 8017, A.1.1).
#[derive(der::Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// Algorithm and SubjectPublicKeyInfo.
fn public_key(session: &Session, public: ObjectHandle) -> Result<(Algorithm, Vec<u8>), Error> {
    const UNKNOWN: Error =
        Error::Refused("the token's key is neither P-256, P-384, Ed25519 nor RSA-2048");
    let asked = [
        AttributeType::KeyType,
        AttributeType::EcParams,
        AttributeType::EcPoint,
        AttributeType::Modulus,
        AttributeType::PublicExponent,
    ];
    let (mut kind, mut curve, mut point, mut modulus, mut exponent) =
        (None, vec![], vec![], vec![], vec![]);
    for attribute in session.get_attributes(public, &asked).or_backend("reading the public key")? {
        match attribute {
            Attribute::KeyType(k) => kind = Some(k),
            Attribute::EcParams(bytes) => curve = bytes,
            // PKCS#11 requires a DER OCTET STRING; some tokens return the bare point.
            Attribute::EcPoint(bytes) => {
                point = OctetString::from_der(&bytes)
                    .map_or(bytes.clone(), |octets| octets.as_bytes().to_vec());
            }
            Attribute::Modulus(bytes) => modulus = bytes,
            Attribute::PublicExponent(bytes) => exponent = bytes,
            _ => {}
        }
    }
    let info = |oid, parameters, key: &[u8]| {
        let subject_public_key = BitString::from_bytes(key).or_malformed("public key")?;
        der_of(
            &SubjectPublicKeyInfoOwned {
                algorithm: AlgorithmIdentifierOwned { oid, parameters },
                subject_public_key,
            },
            "public key",
        )
    };
    match kind {
        Some(KeyType::EC) => {
            let oid = ObjectIdentifier::from_der(&curve).map_err(|_| UNKNOWN)?;
            let algorithm = [(P256, Algorithm::P256), (P384, Algorithm::P384)]
                .into_iter()
                .find(|(o, _)| *o == oid)
                .ok_or(UNKNOWN)?
                .1;
            let spki = info(const_oid::db::rfc5912::ID_EC_PUBLIC_KEY, Some((&oid).into()), &point)?;
            Ok((algorithm, spki))
        }
        Some(KeyType::EC_EDWARDS) if point.len() == 32 => {
            Ok((Algorithm::Ed25519, [&ED25519_SPKI[..], &point].concat()))
        }
        Some(KeyType::RSA) if modulus.len() == 256 => {
            let uint = |bytes| UintRef::new(bytes).or_malformed("public key");
            let key = der_of(
                &RsaPublicKey { modulus: uint(&modulus)?, exponent: uint(&exponent)? },
                "public key",
            )?;
            Ok((
                Algorithm::Rsa2048,
                info(const_oid::db::rfc5912::RSA_ENCRYPTION, Some(der::asn1::Any::null()), &key)?,
            ))
        }
        _ => Err(UNKNOWN),
    }
}

impl Signer for TokenKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
    fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match self.algorithm {
            Algorithm::P256 => self.sign_digest(&Sha256::digest(message)),
            Algorithm::P384 => self.sign_digest(&Sha384::digest(message)),
            Algorithm::Rsa2048 => self.raw(&Mechanism::Sha256RsaPkcs, message),
            Algorithm::Ed25519 => self
                .raw(&Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)), message),
        }
    }
    fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, Error> {
        // The token returns r and s, each as long as the curve's order.
        let raw = match self.algorithm {
            Algorithm::P256 | Algorithm::P384 => self.raw(&Mechanism::Ecdsa, digest)?,
            Algorithm::Rsa2048 | Algorithm::Ed25519 => return Err(super::NO_DIGEST),
        };
        if self.algorithm == Algorithm::P256 {
            Ok(p256::ecdsa::Signature::from_slice(&raw)
                .or_malformed("signature of the token")?
                .to_der()
                .as_bytes()
                .to_vec())
        } else {
            Ok(p384::ecdsa::Signature::from_slice(&raw)
                .or_malformed("signature of the token")?
                .to_der()
                .as_bytes()
                .to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_module_token_and_object() {
        let uri: TokenUri = "pkcs11:token=my%20token;object=device-ca?module-path=/lib/m.so&pin-source=file:/run/pin".parse().unwrap();
        assert_eq!((uri.token.as_str(), uri.object.as_str()), ("my token", "device-ca"));
        assert_eq!(
            (uri.module.as_path(), uri.pin_source()),
            (Path::new("/lib/m.so"), Some(Path::new("/run/pin")))
        );
    }

    #[test]
    fn an_object_is_called_after_its_purpose() {
        let uri = |object: &str| {
            format!("pkcs11:token=t;object={object}?module-path=/m.so").parse::<TokenUri>().unwrap()
        };
        assert!(uri("release").is_for("release") && uri("release-alice").is_for("release"));
        assert!(
            !uri("releases").is_for("release")
                && !uri("device-ca").is_for("release")
                && !uri("alice-release").is_for("release")
        );
    }

    #[test]
    fn a_uri_that_names_too_little_or_holds_the_pin_is_refused() {
        for (uri, why) in [
            ("pkcs11:object=o?module-path=/m.so", "no token"),
            ("pkcs11:token=t?module-path=/m.so", "no object"),
            ("pkcs11:token=t;object=o", "no module-path"),
            ("pkcs11:token=t;object=o?module-path=m.so", "not absolute"),
            ("pkcs11:token=t;object=o?module-path=/m.so&pin-value=1234", "holds the PIN"),
            ("pkcs11:token=t;object=o?module-path=/m.so&pin-source=|/bin/sh", "not file:"),
            ("https://example.com", ""),
        ] {
            let e = uri.parse::<TokenUri>().unwrap_err().to_string();
            assert!(e.contains(why), "{uri}: {e}");
        }
    }
}
