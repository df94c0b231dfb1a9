//! Certificate signing requests (PKCS#10, RFC 2986). Only the key and its proof of possession
//! count. Which kinds of keys are accepted is in [`crate::signer::check_form`].

use crate::signer::{Signer, Verify, X509Signer, check_form, verify};
use crate::{Error, OrMalformed};
use der::pem::PemLabel;
use der::{Decode, EncodePem, Header, Reader, SliceReader};
use std::str::FromStr;
use x509_cert::builder::Builder;
use x509_cert::name::Name;
use x509_cert::request::{CertReq, RequestBuilder};

/// Maximum size of a request.
pub const PEM_MAX: usize = 8 * 1024;

/// Creates a request with this key, PEM.
///
/// # Errors
/// [`Error::Backend`] if the key cannot sign.
pub fn create(signer: &dyn Signer) -> Result<String, Error> {
    let subject = Name::from_str("CN=device").or_malformed("name")?;
    let signer = X509Signer::new(signer);
    let request = RequestBuilder::new(subject)
        .or_backend("creating a request")?
        .build(&signer)
        .or_backend("signing a request")?;
    request.to_pem(der::pem::LineEnding::LF).or_malformed("request")
}

/// A public key whose holder has proved possession of the private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedKey {
    public_key_der: Vec<u8>,
}

impl ProvedKey {
    /// SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }
}

/// The key in a request, DER, without proof of possession: to look a request up, not to trust it.
///
/// # Errors
/// [`Error::Malformed`], also for a key in a form that [`check`] refuses.
pub fn claimed_key(pem: &str) -> Result<Vec<u8>, Error> {
    Ok(read(pem)?.public_key_der)
}

/// A request as its original bytes: re-encoding could change the signed bytes.
struct Request {
    /// CertificationRequestInfo.
    message: Vec<u8>,
    public_key_der: Vec<u8>,
    signature: Vec<u8>,
}

fn read(pem: &str) -> Result<Request, Error> {
    if pem.len() > PEM_MAX {
        return Err(Error::Malformed {
            what: "request",
            detail: format!("{} bytes are too many, at most {PEM_MAX} are allowed", pem.len()),
        });
    }
    // Not `from_pem`, which accepts trailing bytes.
    let (label, der) = der::pem::decode_vec(pem.as_bytes()).or_malformed("request")?;
    if label != CertReq::PEM_LABEL {
        return Err(Error::Malformed { what: "request", detail: format!("it is a {label}") });
    }
    let request = CertReq::from_der(&der).or_malformed("request")?;
    let signature = request
        .signature
        .as_bytes()
        .ok_or(Error::Refused("the signature of the request is not a whole number of bytes"))?;
    let (message, public_key_der) = parts(&der).or_malformed("request")?;
    check_form(public_key_der)?;
    Ok(Request {
        message: message.to_vec(),
        public_key_der: public_key_der.to_vec(),
        signature: signature.to_vec(),
    })
}

/// CertificationRequestInfo and its SubjectPublicKeyInfo, from a CertificationRequest (RFC 2986,
/// 4).
fn parts(der: &[u8]) -> der::Result<(&[u8], &[u8])> {
    let mut outer = SliceReader::new(der)?;
    Header::decode(&mut outer)?;
    let message = outer.tlv_bytes()?;
    let mut fields = SliceReader::new(message)?;
    Header::decode(&mut fields)?;
    let (_version, _subject) = (fields.tlv_bytes()?, fields.tlv_bytes()?);
    Ok((message, fields.tlv_bytes()?))
}

/// Parses a request and verifies its proof of possession. Subject, extensions and attributes are
/// ignored.
///
/// # Errors
/// [`Error::Refused`] for a wrong proof; [`Error::Malformed`] for invalid bytes or another kind of
/// key.
pub fn check(pem: &str) -> Result<ProvedKey, Error> {
    check_with(pem, verify)
}

/// As [`check`], with one of the backends: [`verify`] or [`crate::signer::fast::verify`].
///
/// # Errors
/// As [`check`].
pub fn check_with(pem: &str, verify: Verify) -> Result<ProvedKey, Error> {
    let Request { message, public_key_der, signature } = read(pem)?;
    verify(&public_key_der, &message, &signature)?;
    Ok(ProvedKey { public_key_der })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::{Algorithm, SoftKey};
    use der::{Decode, DecodePem, Encode};

    #[test]
    fn a_request_proves_its_key() {
        let key = SoftKey::generate(Algorithm::P256).unwrap();
        assert_eq!(check(&create(&key).unwrap()).unwrap().public_key_der(), key.public_key_der());
    }

    #[test]
    fn a_request_for_another_partys_key_is_refused() {
        let (mine, theirs) = (
            SoftKey::generate(Algorithm::P256).unwrap(),
            SoftKey::generate(Algorithm::P256).unwrap(),
        );
        let mut request = CertReq::from_pem(create(&mine).unwrap()).unwrap();
        request.info.public_key =
            spki::SubjectPublicKeyInfoOwned::from_der(theirs.public_key_der()).unwrap();
        let pem = CertReq::from_der(&request.to_der().unwrap())
            .unwrap()
            .to_pem(der::pem::LineEnding::LF)
            .unwrap();
        assert!(matches!(check(&pem), Err(Error::Refused(_))));
    }
}
