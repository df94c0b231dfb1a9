//! Files that manufacturers publish: certificates and CRLs in every published format, as their
//! original bytes. Re-encoding a certificate could change the name that its issuer signed.

use super::endorsement;
use super::path::read::{Elements, INTEGER, OID, Read, SEQUENCE, SET};
use crate::Error;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

/// signedData of PKCS#7 (RFC 2315, 14).
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// Starts every PEM text (RFC 7468).
const PEM: &[u8] = b"-----BEGIN ";
/// PEM labels of a PKCS#7 message.
const PKCS_7: [&str; 2] = ["PKCS7", "CMS"];

/// Certificates (DER): from PEM, concatenated DER, or a PKCS#7 message in either.
///
/// # Errors
/// [`Error::Malformed`] for a file without certificates, or with anything else.
pub fn certificates(file: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let wrong = |detail: String| Error::Malformed { what: "file of certificates", detail };
    let all = if is_pem(file) {
        let read = CertificateDer::pem_slice_iter(file)
            .map(|c| c.map(|c| c.to_vec()))
            .collect::<Result<Vec<_>, _>>();
        let mut all = read.map_err(|e| wrong(format!("its PEM: {e}")))?;
        for message in pkcs_7_in_pem(file) {
            all.extend(in_message(&message.map_err(wrong)?).map_err(|e| wrong(e.into()))?);
        }
        all
    } else if let Ok(all) = in_message(endorsement::unpadded(file)) {
        all
    } else {
        let all: Vec<Vec<u8>> = endorsement::each_of(file).map(<[u8]>::to_vec).collect();
        let rest = file.iter().rev().skip_while(|byte| [0x00, 0xff].contains(*byte)).count();
        if all.iter().map(Vec::len).sum::<usize>() < rest { Vec::new() } else { all }
    };
    if all.is_empty() {
        Err(wrong("it has no certificate in PEM, DER or PKCS#7".into()))
    } else {
        Ok(all)
    }
}

/// CRLs (DER) from PEM or DER.
///
/// # Errors
/// [`Error::Malformed`] for invalid PEM, or a file without a CRL.
pub fn lists(file: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let wrong = |detail: String| Error::Malformed { what: "file of a CRL", detail };
    if !is_pem(file) {
        return Ok(vec![file.to_vec()]);
    }
    let read = CertificateRevocationListDer::pem_slice_iter(file)
        .map(|list| list.map(|l| l.to_vec()))
        .collect::<Result<Vec<_>, _>>();
    let all = read.map_err(|e| wrong(format!("its PEM: {e}")))?;
    if all.is_empty() { Err(wrong("it has no CRL".into())) } else { Ok(all) }
}

fn is_pem(file: &[u8]) -> bool {
    file.windows(PEM.len()).any(|w| w == PEM)
}

/// PKCS#7 messages in a PEM text, which the certificate reader skips.
fn pkcs_7_in_pem(file: &[u8]) -> impl Iterator<Item = Result<Vec<u8>, String>> {
    let text = String::from_utf8_lossy(file).into_owned();
    let blocks: Vec<String> = PKCS_7
        .iter()
        .flat_map(|label| {
            let (begin, end) =
                (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
            text.split(&begin)
                .skip(1)
                .filter_map(|rest| rest.split_once(&end))
                .map(|(block, _)| block.to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    blocks.into_iter().map(|block| {
        use base64::Engine;
        let block: String = block.split_ascii_whitespace().collect();
        base64::engine::general_purpose::STANDARD
            .decode(block)
            .map_err(|e| format!("its PKCS#7: {e}"))
    })
}

/// The certificates in a PKCS#7 message that signs nothing.
fn in_message(der: &[u8]) -> Read<Vec<Vec<u8>>> {
    const WHAT: &str = "it is not a PKCS#7 message with certificates";
    let mut message = Elements::new(Elements::only(der, SEQUENCE, WHAT)?.content());
    if message.expect(OID, WHAT)?.content() != SIGNED_DATA {
        return Err(WHAT);
    }
    let mut signed = Elements::new(
        Elements::only(message.expect(0xa0, WHAT)?.content(), SEQUENCE, WHAT)?.content(),
    );
    signed.expect(INTEGER, WHAT)?;
    signed.expect(SET, WHAT)?;
    signed.expect(SEQUENCE, WHAT)?;
    let certificates = signed.optional(0xa0, WHAT)?.ok_or(WHAT)?;
    Ok(Elements::new(certificates.content())
        .each(SEQUENCE, WHAT)?
        .iter()
        .map(|e| e.whole().to_vec())
        .collect())
}
