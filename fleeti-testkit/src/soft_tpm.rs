//! Signatures of a TPM, made in software with a key that claims to be in a TPM: for attestations
//! that no real TPM makes, and for benchmarks with many devices. Signature verification accepts
//! them; they have no endorsement.

use anyhow::{Context, Result};
use fleeti_pki::signer::fast::FastKey;
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use fleeti_pki::tpm::Hash;
use fleeti_pki::tpm::attest::{Clock, Selection};
use fleeti_pki::tpm::public::{AttestationKey, Attributes, Public};

/// Attributes of a restricted signing key that the TPM generated.
pub const RESTRICTED: u32 = Attributes::FIXED_TPM
    | Attributes::FIXED_PARENT
    | Attributes::SENSITIVE_DATA_ORIGIN
    | Attributes::RESTRICTED
    | Attributes::SIGN;
/// TPM_ALG_ECDSA.
const ECDSA: u16 = 0x0018;
/// TPM_ALG_NULL.
const NULL: [u8; 2] = [0x00, 0x10];

/// Fields of the TPMT_PUBLIC of a signing key.
#[derive(Debug, Clone)]
pub struct Area {
    /// TPMI_ALG_HASH.
    pub name_hash: u16,
    /// TPMA_OBJECT.
    pub attributes: u32,
    /// TPMI_ALG_HASH of the scheme.
    pub scheme_hash: u16,
    /// TPM_ECC_CURVE.
    pub curve: u16,
    /// X and y.
    pub point: [Vec<u8>; 2],
}

/// A TPM2B: a 16-bit length and the bytes.
#[must_use]
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()[..], bytes].concat()
}

impl Area {
    /// TPMT_PUBLIC.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let fixed = [
            &[0x00, 0x23][..],
            &self.name_hash.to_be_bytes(),
            &self.attributes.to_be_bytes(),
            &[0, 0],
            &NULL,
        ]
        .concat();
        let scheme =
            [ECDSA.to_be_bytes(), self.scheme_hash.to_be_bytes(), self.curve.to_be_bytes(), NULL]
                .concat();
        [fixed, scheme, sized(&self.point[0]), sized(&self.point[1])].concat()
    }
}

/// The key, and the clock values that it reports.
pub struct SoftTpm {
    key: FastKey,
    hash: Hash,
    /// Its public area.
    pub area: Area,
    /// Clock values in its attestations.
    pub clock: Clock,
}

impl SoftTpm {
    /// A key on P-256 or P-384.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new(algorithm: Algorithm) -> Result<Self> {
        let soft = SoftKey::generate(algorithm)?;
        let (hash, curve, length) = if algorithm == Algorithm::P384 {
            (Hash::Sha384, 4, 48)
        } else {
            (Hash::Sha256, 3, 32)
        };
        let spki = soft.public_key_der();
        let (x, y) = spki[spki.len() - 2 * length..].split_at(length);
        Ok(Self {
            key: FastKey::from_pkcs8_der(&soft.to_pkcs8_der()?)?,
            hash,
            area: Area {
                name_hash: Hash::Sha256.id(),
                attributes: RESTRICTED,
                scheme_hash: hash.id(),
                curve,
                point: [x.to_vec(), y.to_vec()],
            },
            clock: Clock { milliseconds: 1_000, resets: 1, restarts: 0, safe: true },
        })
    }

    /// The key as the verifier sees it.
    ///
    /// # Errors
    /// If its public area is not that of an attestation key.
    pub fn attestation_key(&self) -> Result<AttestationKey> {
        Ok(AttestationKey::new(Public::parse(&self.area.to_bytes())?)?)
    }

    fn statement(
        &self,
        kind: u16,
        qualified_signer: &[u8],
        extra_data: &[u8],
        content: &[u8],
    ) -> Vec<u8> {
        let clock = &self.clock;
        let time = [
            &clock.milliseconds.to_be_bytes()[..],
            &clock.resets.to_be_bytes(),
            &clock.restarts.to_be_bytes(),
        ]
        .concat();
        let head = [
            &0xff54_4347_u32.to_be_bytes()[..],
            &kind.to_be_bytes(),
            &sized(qualified_signer),
            &sized(extra_data),
        ]
        .concat();
        [&head[..], &time, &[u8::from(clock.safe)], &[0; 8], content].concat()
    }

    /// TPMS_ATTEST of a quote over these PCRs; each bank by its TPM_ALG_ID.
    #[must_use]
    pub fn quote(
        &self,
        qualified_signer: &[u8],
        extra_data: &[u8],
        selections: &[(u16, u32)],
        digest: &[u8],
    ) -> Vec<u8> {
        let mut content =
            u32::try_from(selections.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        for (bank, pcrs) in selections {
            content.extend([&bank.to_be_bytes()[..], &[3], &pcrs.to_le_bytes()[..3]].concat());
        }
        content.extend(sized(digest));
        self.statement(0x8018, qualified_signer, extra_data, &content)
    }

    /// A valid quote over these PCRs of the SHA-256 bank, with these values.
    #[must_use]
    pub fn good_quote<'v>(
        &self,
        extra_data: &[u8],
        selection: Selection,
        values: impl Iterator<Item = &'v [u8; 32]>,
    ) -> Vec<u8> {
        let values: Vec<&[u8]> = values.map(|v| &v[..]).collect();
        self.quote(
            &[],
            extra_data,
            &[(Hash::Sha256.id(), selection.pcrs)],
            &self.hash.digest(&values),
        )
    }

    /// TPMS_ATTEST of a certification of the key with this name.
    #[must_use]
    pub fn certification(&self, extra_data: &[u8], name: &[u8]) -> Vec<u8> {
        self.statement(0x8017, &[], extra_data, &[sized(name), sized(&[])].concat())
    }

    /// R and s of a signature.
    ///
    /// # Errors
    /// If signing fails.
    pub fn numbers(&self, statement: &[u8]) -> Result<[Vec<u8>; 2]> {
        let der = self.key.sign(statement)?;
        let (_, rest) = der.split_at_checked(2).context("a signature")?;
        let number = |rest: &[u8]| -> Option<(Vec<u8>, usize)> {
            let length = usize::from(*rest.get(1)?);
            let digits = rest.get(2..2 + length)?;
            Some((digits.iter().copied().skip_while(|b| *b == 0).collect(), 2 + length))
        };
        let (r, used) = number(rest).context("r")?;
        let (s, _) = number(&rest[used..]).context("s")?;
        Ok([r, s])
    }

    /// TPMT_SIGNATURE.
    ///
    /// # Errors
    /// If signing fails.
    pub fn sign(&self, statement: &[u8]) -> Result<Vec<u8>> {
        let [r, s] = self.numbers(statement)?;
        Ok(signature(self.hash.id(), &r, &s))
    }
}

/// TPMT_SIGNATURE of these numbers.
#[must_use]
pub fn signature(hash: u16, r: &[u8], s: &[u8]) -> Vec<u8> {
    [&ECDSA.to_be_bytes()[..], &hash.to_be_bytes(), &sized(r), &sized(s)].concat()
}
