//! Certificates built from any bytes, as manufacturers issue them: an issuer that follows no
//! profile, for tests.

use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use fleeti_pki::tpm::public::{EndorsementKey, Public};

/// One DER value.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let header = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [header, content.to_vec()].concat()
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// An OBJECT IDENTIFIER, as in `2.5.29.32`.
pub fn oid(text: &str) -> Vec<u8> {
    tlv(6, const_oid::ObjectIdentifier::new(text).unwrap().as_bytes())
}

/// An attribute of a name: its type, the tag of its text, and the text.
pub fn attribute(kind: &str, tag: u8, text: &[u8]) -> Vec<u8> {
    sequence(&[&oid(kind), &tlv(tag, text)])
}

/// A name with one attribute in each RDN, UTF8String.
pub fn name(parts: &[(&str, &str)]) -> Vec<u8> {
    let parts: Vec<u8> = parts
        .iter()
        .flat_map(|(kind, text)| tlv(0x31, &attribute(kind, 0x0c, text.as_bytes())))
        .collect();
    tlv(0x30, &parts)
}

pub fn common_name(text: &str) -> Vec<u8> {
    name(&[("2.5.4.3", text)])
}

pub fn extension(id: &str, is_critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if is_critical { tlv(1, &[0xff]) } else { vec![] };
    sequence(&[&oid(id), &critical, &tlv(4, value)])
}

pub fn policies(is_critical: bool, all: &[&str]) -> Vec<u8> {
    let all: Vec<u8> = all.iter().flat_map(|policy| sequence(&[&oid(policy)])).collect();
    extension("2.5.29.32", is_critical, &tlv(0x30, &all))
}

pub fn key_usage(bits: u8) -> Vec<u8> {
    extension("2.5.29.15", true, &tlv(3, &[0, bits]))
}

pub fn basic_constraints(is_authority: bool, length: Option<u8>) -> Vec<u8> {
    let authority = if is_authority { tlv(1, &[0xff]) } else { vec![] };
    let length = length.map(|n| tlv(2, &[n])).unwrap_or_default();
    extension("2.5.29.19", true, &sequence(&[&authority, &length]))
}

pub fn purposes(all: &[&str]) -> Vec<u8> {
    let all: Vec<u8> = all.iter().flat_map(|id| oid(id)).collect();
    extension("2.5.29.37", false, &tlv(0x30, &all))
}

/// The name of a TPM, as an extension.
pub fn tpm_name() -> Vec<u8> {
    let part =
        [("2.23.133.2.1", "id:53544D20"), ("2.23.133.2.2", "MODEL"), ("2.23.133.2.3", "id:0001")];
    extension("2.5.29.17", true, &sequence(&[&tlv(0xa4, &name(&part))]))
}

pub const EK: &str = "2.23.133.8.1";
pub const ANY_POLICY: &str = "2.5.29.32.0";
/// 2001 to 2049.
pub const ALWAYS: [&[u8]; 2] = [b"010101000000Z", b"491231235959Z"];

/// An issuer, and the contents of its certificate.
pub struct Issuer {
    pub key: SoftKey,
    pub name: Vec<u8>,
    /// AlgorithmIdentifier of its signatures.
    pub algorithm: Vec<u8>,
}

impl Issuer {
    pub fn new(name: &[u8]) -> Self {
        Self::of(Algorithm::P256, name)
    }

    pub fn of(algorithm: Algorithm, name: &[u8]) -> Self {
        let id = match algorithm {
            Algorithm::P384 => sequence(&[&oid("1.2.840.10045.4.3.3")]),
            Algorithm::Rsa2048 => sequence(&[&oid("1.2.840.113549.1.1.11"), &[5, 0]]),
            Algorithm::P256 | Algorithm::Ed25519 => sequence(&[&oid("1.2.840.10045.4.3.2")]),
        };
        Self { key: SoftKey::generate(algorithm).unwrap(), name: name.to_vec(), algorithm: id }
    }

    /// Its self-signed certificate.
    pub fn root(&self) -> Vec<u8> {
        Draft::authority(&self.name, self.key.public_key_der()).by(self)
    }
}

/// A certificate before signing; each field has the encoded bytes.
#[derive(Clone)]
pub struct Draft {
    pub version: Vec<u8>,
    pub serial: Vec<u8>,
    pub validity: Vec<u8>,
    pub subject: Vec<u8>,
    pub key: Vec<u8>,
    pub identifiers: Vec<u8>,
    pub extensions: Vec<Vec<u8>>,
}

impl Draft {
    pub fn new(subject: &[u8], key_der: &[u8], extensions: &[Vec<u8>]) -> Self {
        Self {
            version: tlv(0xa0, &tlv(2, &[2])),
            serial: vec![1],
            validity: sequence(&[&tlv(0x17, ALWAYS[0]), &tlv(0x17, ALWAYS[1])]),
            subject: subject.to_vec(),
            key: key_der.to_vec(),
            identifiers: vec![],
            extensions: extensions.to_vec(),
        }
    }

    pub fn authority(subject: &[u8], key_der: &[u8]) -> Self {
        Self::new(subject, key_der, &[basic_constraints(true, None), key_usage(0x06)])
    }

    /// A certificate for an endorsement key, as the profile requires.
    pub fn endorsement(key: &EndorsementKey) -> Self {
        let extensions =
            [tpm_name(), basic_constraints(false, None), purposes(&[EK]), key_usage(0x08)];
        Self::new(&tlv(0x30, &[]), &key.public().to_spki_der().unwrap(), &extensions)
    }

    pub fn by(&self, issuer: &Issuer) -> Vec<u8> {
        self.signed(&issuer.name, &issuer.algorithm, |message| issuer.key.sign(message).unwrap())
    }

    pub fn signed(
        &self,
        issuer: &[u8],
        algorithm: &[u8],
        sign: impl Fn(&[u8]) -> Vec<u8>,
    ) -> Vec<u8> {
        let extensions = if self.extensions.is_empty() {
            vec![]
        } else {
            tlv(0xa3, &tlv(0x30, &self.extensions.concat()))
        };
        let serial = tlv(2, &self.serial);
        let parts: [&[u8]; 9] = [
            &self.version,
            &serial,
            algorithm,
            issuer,
            &self.validity,
            &self.subject,
            &self.key,
            &self.identifiers,
            &extensions,
        ];
        let message = sequence(&parts);
        let signature = tlv(3, &[&[0][..], &sign(&message)].concat());
        sequence(&[&message, algorithm, &signature])
    }
}

/// An endorsement key with this uncompressed point, P-256 or P-384.
pub fn endorsement_key(point: &[u8]) -> EndorsementKey {
    let length = point.len() / 2;
    let (curve, hash, bits) =
        if length == 32 { (3u16, 0x000bu16, 128u16) } else { (4, 0x000c, 256) };
    let sized =
        |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let attributes: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 17;
    let area = [
        &0x0023u16.to_be_bytes()[..],
        &hash.to_be_bytes(),
        &attributes.to_be_bytes(),
        &sized(&[]),
        &[0, 6],
        &bits.to_be_bytes(),
        &[0, 0x43, 0, 0x10],
        &curve.to_be_bytes(),
        &[0, 0x10],
        &sized(&point[1..=length]),
        &sized(&point[1 + length..]),
    ];
    EndorsementKey::new(Public::parse(&area.concat()).unwrap()).unwrap()
}

/// A new endorsement key, P-256 or P-384.
pub fn new_key(algorithm: Algorithm) -> EndorsementKey {
    let key = SoftKey::generate(algorithm).unwrap();
    let length = if algorithm == Algorithm::P384 { 97 } else { 65 };
    endorsement_key(&key.public_key_der()[key.public_key_der().len() - length..])
}

/// An RSA endorsement key with this modulus.
pub fn rsa_key(modulus: &[u8]) -> EndorsementKey {
    let sized =
        |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let attributes: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 17;
    let bits = u16::try_from(modulus.len() * 8).unwrap();
    let area = [
        &0x0001u16.to_be_bytes()[..],
        &0x000bu16.to_be_bytes(),
        &attributes.to_be_bytes(),
        &sized(&[]),
        &[0, 6, 0, 128, 0, 0x43, 0, 0x10],
        &bits.to_be_bytes(),
        &0u32.to_be_bytes(),
        &sized(modulus),
    ];
    EndorsementKey::new(Public::parse(&area.concat()).unwrap()).unwrap()
}
