//! Signatures of certificates and CRLs, by the algorithms of webpki.

use super::names::dotted;
use super::read::{
    Element, Elements, INTEGER, OID, PublicKey, Read, SEQUENCE, Signed, without_null,
};
use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::ALL_VERIFICATION_ALGS;
use webpki::aws_lc_rs::{
    RSA_PSS_2048_8192_SHA256_LEGACY_KEY, RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
};

/// 1.2.840.113549.1.1: PKCS#1.
pub(super) const PKCS_1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
const ECDSA_WITH_SHA_1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
const SHA_2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

type Algorithm = &'static dyn SignatureVerificationAlgorithm;

/// Verifies that `key` signed the bytes.
///
/// # Errors
/// The reason, as text.
pub(super) fn verify(signed: &Signed<'_>, key: &PublicKey<'_>) -> Result<(), String> {
    let id = Elements::new(signed.algorithm)
        .expect(OID, "its signature algorithm cannot be read")?
        .content;
    if [
        &[PKCS_1, &[2]].concat(),
        &[PKCS_1, &[4]].concat(),
        &[PKCS_1, &[5]].concat(),
        &ECDSA_WITH_SHA_1.to_vec(),
    ]
    .iter()
    .any(|o| *o == id)
    {
        return Err("its signature uses SHA-1 or MD5, which can be forged".into());
    }
    let key_algorithm = without_null(key.algorithm);
    let is_pss = id == [PKCS_1, &[10]].concat();
    let algorithms: Vec<Algorithm> = match is_pss {
        true => vec![pss(signed.algorithm)?],
        false => {
            let of_both = |a: &Algorithm| {
                without_null(&a.signature_alg_id()) == without_null(signed.algorithm)
                    && without_null(&a.public_key_alg_id()) == key_algorithm
            };
            ALL_VERIFICATION_ALGS.iter().copied().filter(of_both).collect()
        }
    };
    if algorithms.is_empty() {
        return Err(format!("its signature algorithm is unknown for this key: {}", dotted(id)));
    }
    let wrong =
        "Signature: its issuer's key did not make it, or is an RSA key of less than 2048 bits";
    let is_right = algorithms
        .iter()
        .any(|a| a.verify_signature(key.bits, signed.message, signed.signature).is_ok());
    if is_right { Ok(()) } else { Err(wrong.into()) }
}

/// Parses RSASSA-PSS parameters (RFC 4055, 3.1): one hash for message and mask, and a salt of its
/// length, in any encoding.
fn pss(algorithm: &[u8]) -> Result<Algorithm, &'static str> {
    const WHAT: &str = "its RSASSA-PSS parameters are not SHA-2, MGF1 with the same hash, and a salt of its length";
    let mut fields = Elements::new(algorithm);
    fields.expect(OID, WHAT)?;
    let mut parameters = Elements::new(fields.expect(SEQUENCE, WHAT)?.content);
    fields.end(WHAT)?;
    let hash = hash(parameters.expect(0xa0, WHAT)?)?;
    let mut mask = Elements::new(
        Elements::only(parameters.expect(0xa1, WHAT)?.content, SEQUENCE, WHAT)?.content,
    );
    let is_mgf_1 = mask.expect(OID, WHAT)?.content == [PKCS_1, &[8]].concat();
    let of_mask = sha_2(mask.expect(SEQUENCE, WHAT)?.content)?;
    let salt = Elements::only(parameters.expect(0xa2, WHAT)?.content, INTEGER, WHAT)?.content;
    let trailer = parameters.optional(0xa3, WHAT)?.is_none_or(|e| e.content == [INTEGER, 1, 1]);
    parameters.end(WHAT)?;
    match (hash, salt) {
        _ if !is_mgf_1 || of_mask != hash || !trailer => Err(WHAT),
        (1, [32]) => Ok(RSA_PSS_2048_8192_SHA256_LEGACY_KEY),
        (2, [48]) => Ok(RSA_PSS_2048_8192_SHA384_LEGACY_KEY),
        (3, [64]) => Ok(RSA_PSS_2048_8192_SHA512_LEGACY_KEY),
        _ => Err(WHAT),
    }
}

fn hash(tagged: Element<'_>) -> Read<u8> {
    sha_2(Elements::only(tagged.content, SEQUENCE, "a hash")?.content)
}

/// The SHA-2 hash: 1 for SHA-256, 2 for SHA-384, 3 for SHA-512.
fn sha_2(algorithm: &[u8]) -> Read<u8> {
    const WHAT: &str = "its RSASSA-PSS parameters name a hash other than SHA-2";
    match without_null(algorithm) {
        [OID, 9, id @ ..] => {
            id.strip_prefix(SHA_2).and_then(|rest| rest.first().copied()).ok_or(WHAT)
        }
        _ => Err(WHAT),
    }
}
