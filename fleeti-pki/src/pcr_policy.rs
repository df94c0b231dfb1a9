//! A signed PCR policy for PCR 11. What is sealed to the key opens with every UKI whose PCR 11 the
//! holder of the key has signed, so an update does not lock it.
//!
//! The format is systemd's (systemd-measure(1), `sign`): the key's public half is the section
//! `.pcrpkey` of the UKI, and is measured; the signatures are its section `.pcrsig`, and are not. A
//! policy is the digest that TPM2_PolicyPCR gives (TPM 2.0 Library, Part 3, 23.7).
//! TPM2_PolicyAuthorize requires its signature (23.16): RSASSA with SHA-256, the only one that
//! systemd supports.

use crate::measured::predicted::pcr_11;
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
/// In the initrd, and later, PCR 11 has another value.
pub const OPENED_IN: &str = "enter-initrd:leave-initrd";

const PCR: u32 = 11;
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

/// The policy for this value of PCR 11: the result of TPM2_PolicyPCR in a new session.
#[must_use]
pub fn policy(pcr: &[u8; 32]) -> [u8; 32] {
    // TPML_PCR_SELECTION: one bank, a bit mask of three bytes.
    let selection = [&[0, 0, 0, 1][..], &SHA256, &[3, 0, 1 << (PCR - 8), 0]].concat();
    let values = Sha256::digest(pcr);
    Sha256::new()
        .chain_update([0; 32])
        .chain_update(POLICY_PCR)
        .chain_update(selection)
        .chain_update(values)
        .finalize()
        .into()
}

/// Signs the policy for this value of PCR 11: the JSON of a section `.pcrsig`.
///
/// # Errors
/// [`Error::Refused`] for a key that is not RSA.
pub fn sign(pcr: &[u8; 32], signer: &dyn Signer) -> Result<String, Error> {
    if signer.algorithm() != Algorithm::Rsa2048 {
        return Err(Error::Refused(
            "a PCR policy must be signed by an RSA key: systemd supports no other",
        ));
    }
    let spki =
        SubjectPublicKeyInfoRef::from_der(signer.public_key_der()).or_malformed("public key")?;
    let key: BitStringRef<'_> = spki.subject_public_key;
    let policy = policy(pcr);
    let signed = Policy {
        pcrs: [PCR],
        pkfp: hex::encode(Sha256::digest(key.raw_bytes())),
        pol: hex::encode(policy),
        sig: crate::base64_text(&signer.sign(&policy)?),
    };
    serde_json::to_string(&Signatures { sha256: [signed] })
        .or_malformed("signature of a PCR policy")
}

/// Whether signatures (the JSON of a section `.pcrsig`) are for this value of PCR 11, so that what
/// is sealed to their key opens. The TPM verifies the signatures.
#[must_use]
pub fn is_signed(signatures: &[u8], pcr: &[u8; 32]) -> bool {
    let wanted = hex::encode(policy(pcr));
    let read = serde_json::from_slice::<serde_json::Value>(signatures).unwrap_or_default();
    let mut policies = read["sha256"].as_array().into_iter().flatten();
    policies.any(|p| p["pol"] == wanted.as_str() && p["pcrs"] == serde_json::json!([PCR]))
}

/// Verifies that the bytes of a section `.pcrsig` are exactly what [`fn@sign`] makes for this value
/// of PCR 11 with the key of `pem`. The section is in memory when a device boots, so no byte of it
/// may differ.
///
/// # Errors
/// [`Error::Malformed`], [`Error::Refused`].
pub fn check(section: &[u8], pcr: &[u8; 32], pem: &str) -> Result<(), Error> {
    const NOT_OURS: Error = Error::Refused(
        "the section .pcrsig is not the signature for PCR 11 by the key of .pcrpkey",
    );
    let (_, key) = Document::from_pem(pem).or_malformed("public key")?;
    let spki = SubjectPublicKeyInfoRef::from_der(key.as_bytes()).or_malformed("public key")?;
    let bits: BitStringRef<'_> = spki.subject_public_key;
    let text = serde_json::from_slice::<serde_json::Value>(section).map_err(|_| NOT_OURS)?;
    let signature = text["sha256"][0]["sig"].as_str().ok_or(NOT_OURS)?;
    let policy = policy(pcr);
    let wanted = Policy {
        pcrs: [PCR],
        pkfp: hex::encode(Sha256::digest(bits.raw_bytes())),
        pol: hex::encode(policy),
        sig: signature.to_owned(),
    };
    if serde_json::to_vec(&Signatures { sha256: [wanted] })
        .or_malformed("signature of a PCR policy")?
        != section
    {
        return Err(NOT_OURS);
    }
    let signature = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, signature)
        .map_err(|_| NOT_OURS)?;
    crate::signer::verify_rsa(key.as_bytes(), &policy, &signature)
}

/// The public half of the key, PEM: the section `.pcrpkey` of a UKI.
///
/// # Errors
/// [`Error::Malformed`].
pub fn public_pem(signer: &dyn Signer) -> Result<String, Error> {
    Document::try_from(signer.public_key_der())
        .and_then(|d| d.to_pem("PUBLIC KEY", LineEnding::LF))
        .or_malformed("public key")
}

/// Parses a PEM key with any line ends: SubjectPublicKeyInfo, DER. So different PEM texts of one
/// key compare equal.
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

/// The public key that a UKI was built for, as the PEM text in it; `None` if it was built for none.
///
/// # Errors
/// [`Error::Malformed`] for anything but a UKI.
pub fn key_of(uki: &[u8]) -> Result<Option<String>, Error> {
    let file = PeFile64::parse(uki).or_malformed("UKI")?;
    let Some(content) = section(&file, ".pcrpkey")? else { return Ok(None) };
    Ok(Some(String::from_utf8(content.to_vec()).or_malformed("public key")?))
}

/// Whether a UKI was built for a key that signs its PCR 11.
///
/// # Errors
/// [`Error::Malformed`] for anything but a UKI.
pub fn is_asked_for(uki: &[u8]) -> Result<bool, Error> {
    Ok(section(&PeFile64::parse(uki).or_malformed("UKI")?, ".pcrpkey")?.is_some())
}

/// Adds to an unsigned UKI the signature for its PCR 11, as the stub of `systemd` (as in 257)
/// measures it.
///
/// # Errors
/// [`Error::Refused`] for a UKI that was built for another key.
pub fn attach(uki: &[u8], systemd: u16, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
    let file = PeFile64::parse(uki).or_malformed("UKI")?;
    let built_for = section(&file, ".pcrpkey")?.unwrap_or_default();
    if built_for.trim_ascii_end() != public_pem(signer)?.trim_end().as_bytes() {
        return Err(Error::Refused("the UKI was built for another key for PCR 11 (pcr.pem)"));
    }
    let signatures = sign(&pcr_11(uki, systemd, OPENED_IN)?, signer)?;
    with_section(uki, ".pcrsig", signatures.as_bytes())
}
