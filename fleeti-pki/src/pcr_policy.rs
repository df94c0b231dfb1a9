//! A signed policy over register 11: what is sealed to it opens under every kernel image whose
//! register the holder of the key has signed, so that an update locks nothing.
//!
//! The form is systemd's (systemd-measure(1), `sign`): the key's public half is the section
//! `.pcrpkey` of the kernel image, and is measured; the signatures are its section `.pcrsig`, and
//! are not. A policy is the digest that TPM2_PolicyPCR leads to (TPM 2.0 Library, Part 3, 23.7),
//! its signature what TPM2_PolicyAuthorize asks for (23.16): RSASSA with SHA-256, the one that
//! systemd takes.

use crate::measured::predicted::register_11;
use crate::pe::{section, with_section};
use crate::signer::{Algorithm, Signer};
use crate::{Error, OrMalformed};
use der::asn1::BitStringRef;
use der::pem::LineEnding;
use der::{Decode, Document};
use object::read::pe::PeFile64;
use serde::Serialize;
use sha2_010::{Digest, Sha256};
use spki::SubjectPublicKeyInfoRef;

/// The phase in which the data partition is opened: before any service of the system has started.
/// Later, and in the initrd, the register holds something else.
pub const OPENED_IN: &str = "enter-initrd:leave-initrd";

const REGISTER: u32 = 11;
/// TPM_CC_PolicyPCR (Part 2, 6.5.2) and TPM_ALG_SHA256 (6.3).
const POLICY_PCR: [u8; 4] = [0, 0, 0x01, 0x7f];
const SHA256: [u8; 2] = [0, 0x0b];

#[derive(Serialize)]
struct Signatures {
    sha256: [Policy; 1],
}

#[derive(Serialize)]
struct Policy {
    pcrs: [u32; 1],
    /// SHA-256 of the RSAPublicKey, DER.
    pkfp: String,
    pol: String,
    sig: String,
}

/// The policy that register 11 has this value: what TPM2_PolicyPCR makes of a new session.
#[must_use]
pub fn policy(register: &[u8; 32]) -> [u8; 32] {
    // TPML_PCR_SELECTION: one bank, three bytes of bits.
    let selection = [&[0, 0, 0, 1][..], &SHA256, &[3, 0, 1 << (REGISTER - 8), 0]].concat();
    let values = Sha256::digest(register);
    Sha256::new()
        .chain_update([0; 32])
        .chain_update(POLICY_PCR)
        .chain_update(selection)
        .chain_update(values)
        .finalize()
        .into()
}

/// Signs the policy that register 11 has this value: the JSON of a section `.pcrsig`.
///
/// # Errors
/// [`Error::Refused`] for a key that is not RSA.
pub fn sign(register: &[u8; 32], signer: &dyn Signer) -> Result<String, Error> {
    if signer.algorithm() != Algorithm::Rsa2048 {
        return Err(Error::Refused(
            "a policy over a register is signed by an RSA key; systemd takes no other",
        ));
    }
    let spki =
        SubjectPublicKeyInfoRef::from_der(signer.public_key_der()).or_malformed("public key")?;
    let key: BitStringRef<'_> = spki.subject_public_key;
    let policy = policy(register);
    let signed = Policy {
        pcrs: [REGISTER],
        pkfp: hex::encode(Sha256::digest(key.raw_bytes())),
        pol: hex::encode(policy),
        sig: crate::base64_text(&signer.sign(&policy)?),
    };
    serde_json::to_string(&Signatures { sha256: [signed] }).or_malformed("signature over a policy")
}

/// Whether signatures (the JSON of a section `.pcrsig`) are over the policy that register 11 has
/// this value: what is sealed to their key opens then. Whose they are is the TPM's to check.
#[must_use]
pub fn is_signed(signatures: &[u8], register: &[u8; 32]) -> bool {
    let wanted = hex::encode(policy(register));
    let read = serde_json::from_slice::<serde_json::Value>(signatures).unwrap_or_default();
    let mut policies = read["sha256"].as_array().into_iter().flatten();
    policies.any(|p| p["pol"] == wanted.as_str() && p["pcrs"] == serde_json::json!([REGISTER]))
}

/// Verifies that the bytes of a section `.pcrsig` are exactly what [`fn@sign`] makes for this value
/// of register 11 by the key of `pem`. The section is in the initrd's memory when a device starts,
/// so no byte of it may be anything else.
///
/// # Errors
/// [`Error::Malformed`], [`Error::Refused`].
pub fn check(section: &[u8], register: &[u8; 32], pem: &str) -> Result<(), Error> {
    const NOT_OURS: Error = Error::Refused(
        "the section .pcrsig is not the signature over register 11 by the key of .pcrpkey",
    );
    let (_, key) = Document::from_pem(pem).or_malformed("public key")?;
    let spki = SubjectPublicKeyInfoRef::from_der(key.as_bytes()).or_malformed("public key")?;
    let bits: BitStringRef<'_> = spki.subject_public_key;
    let text = serde_json::from_slice::<serde_json::Value>(section).map_err(|_| NOT_OURS)?;
    let signature = text["sha256"][0]["sig"].as_str().ok_or(NOT_OURS)?;
    let policy = policy(register);
    let wanted = Policy {
        pcrs: [REGISTER],
        pkfp: hex::encode(Sha256::digest(bits.raw_bytes())),
        pol: hex::encode(policy),
        sig: signature.to_owned(),
    };
    if serde_json::to_vec(&Signatures { sha256: [wanted] })
        .or_malformed("signature over a policy")?
        != section
    {
        return Err(NOT_OURS);
    }
    let signature = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, signature)
        .map_err(|_| NOT_OURS)?;
    crate::signer::verify_rsa(key.as_bytes(), &policy, &signature)
}

/// The public half of the key, PEM: what a kernel image has as `.pcrpkey`.
///
/// # Errors
/// [`Error::Malformed`].
pub fn public_pem(signer: &dyn Signer) -> Result<String, Error> {
    Document::try_from(signer.public_key_der())
        .and_then(|d| d.to_pem("PUBLIC KEY", LineEnding::LF))
        .or_malformed("public key")
}

/// The key of a PEM text, however its lines end: SubjectPublicKeyInfo, DER. Two texts of one key
/// are one key.
///
/// # Errors
/// [`Error::Malformed`].
pub fn public_key_der(pem: &[u8]) -> Result<Vec<u8>, Error> {
    let text = std::str::from_utf8(pem).or_malformed("public key")?;
    let (label, key) =
        Document::from_pem(text.trim_end_matches('\0').trim()).or_malformed("public key")?;
    if label != "PUBLIC KEY" {
        return Err(Error::Malformed { what: "public key", detail: format!("it is a {label}") });
    }
    Ok(key.as_bytes().to_vec())
}

/// The public half of the key that a kernel image was built for, PEM as it is there; `None` where
/// it was built for none.
///
/// # Errors
/// [`Error::Malformed`] for anything but a kernel image.
pub fn key_of(uki: &[u8]) -> Result<Option<String>, Error> {
    let file = PeFile64::parse(uki).or_malformed("UKI")?;
    let Some(content) = section(&file, ".pcrpkey")? else { return Ok(None) };
    Ok(Some(String::from_utf8(content.to_vec()).or_malformed("public key")?))
}

/// Whether a kernel image was built for a key that signs its register 11.
///
/// # Errors
/// [`Error::Malformed`] for anything but a kernel image.
pub fn is_asked_for(uki: &[u8]) -> Result<bool, Error> {
    Ok(section(&PeFile64::parse(uki).or_malformed("UKI")?, ".pcrpkey")?.is_some())
}

/// An unsigned kernel image with the signature over its register 11, as the stub of `systemd` (as
/// in 257) measures it.
///
/// # Errors
/// [`Error::Refused`] for an image that was built for another key.
pub fn attach(uki: &[u8], systemd: u16, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
    let file = PeFile64::parse(uki).or_malformed("UKI")?;
    let built_for = section(&file, ".pcrpkey")?.unwrap_or_default();
    if built_for.trim_ascii_end() != public_pem(signer)?.trim_end().as_bytes() {
        return Err(Error::Refused(
            "the kernel image was built for another key that signs its register 11 (pcr.pem)",
        ));
    }
    let signatures = sign(&register_11(uki, systemd, OPENED_IN)?, signer)?;
    with_section(uki, ".pcrsig", signatures.as_bytes())
}
