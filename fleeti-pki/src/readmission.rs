//! The readmission of a device whose certificate has expired and whose key is in a file. The device
//! signs, with the key of the expired certificate, which key is to be certified next, and the
//! connection that the request is sent over (RFC 9266). The server accepts this only while an
//! operator readmits devices of the fleet.

use crate::signer::{Signer, verify};
use crate::{Error, OrMalformed, base64_text};
use base64::Engine;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::readmission::ReadmitRequest;

/// Length of the value that both ends of a connection derive, in bytes.
pub const CHANNEL_BYTES: usize = 32;
/// Maximum size of a public key, bytes.
const KEY_MAX: usize = 512;

fn message(device: &DeviceId, channel: &[u8; CHANNEL_BYTES], csr_pem: &str) -> Vec<u8> {
    format!(
        "fleeti.readmission.v1\n{device}\n{}\n{}\n",
        hex::encode(channel),
        sha256_hex(csr_pem.as_bytes())
    )
    .into_bytes()
}

/// Creates a request, signed by the old key.
///
/// # Errors
/// [`Error::Backend`] if the key cannot sign.
pub fn request(
    device: &DeviceId,
    csr_pem: String,
    old: &dyn Signer,
    channel: &[u8; CHANNEL_BYTES],
) -> Result<ReadmitRequest, Error> {
    let signature = base64_text(&old.sign(&message(device, channel, &csr_pem))?);
    Ok(ReadmitRequest {
        device: device.clone(),
        csr_pem,
        public_key: base64_text(old.public_key_der()),
        signature,
    })
}

/// Verifies the signature. Returns SHA-256 of the key that made it, by which the server finds the
/// device.
///
/// # Errors
/// [`Error::Refused`], [`Error::Malformed`].
pub fn check(request: &ReadmitRequest, channel: &[u8; CHANNEL_BYTES]) -> Result<String, Error> {
    let decode = |text: &str| {
        base64::engine::general_purpose::STANDARD.decode(text).or_malformed("readmission")
    };
    let (key, signature) = (decode(&request.public_key)?, decode(&request.signature)?);
    if key.len() > KEY_MAX {
        return Err(Error::Malformed {
            what: "readmission",
            detail: format!("the key has {} bytes, at most {KEY_MAX} are allowed", key.len()),
        });
    }
    verify(&key, &message(&request.device, channel, &request.csr_pem), &signature)?;
    Ok(sha256_hex(&key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::{Algorithm, SoftKey};

    #[test]
    fn it_is_good_for_this_device_key_and_connection_alone() {
        let (old, other) = (
            SoftKey::generate(Algorithm::P256).unwrap(),
            SoftKey::generate(Algorithm::P256).unwrap(),
        );
        let device: DeviceId = "d1".parse().unwrap();
        let good = request(&device, "csr".into(), &old, &[1; 32]).unwrap();
        assert_eq!(check(&good, &[1; 32]).unwrap(), sha256_hex(old.public_key_der()));
        assert!(check(&good, &[2; 32]).is_err(), "another connection");
        let by_other = base64_text(other.public_key_der());
        for bad in [
            ReadmitRequest { device: "d2".parse().unwrap(), ..good.clone() },
            ReadmitRequest { csr_pem: "csr2".into(), ..good.clone() },
            ReadmitRequest { public_key: by_other, ..good.clone() },
            ReadmitRequest { signature: String::new(), ..good.clone() },
        ] {
            assert!(check(&bad, &[1; 32]).is_err(), "{bad:?}");
        }
    }
}
