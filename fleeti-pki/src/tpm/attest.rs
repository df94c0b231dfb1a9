//! What a TPM attests (TPMS_ATTEST; Part 2, 10.12.12), and the verification of the signature by one
//! of its keys.

use super::public::{AttestationKey, Key};
use super::signature::{NotSigned, Signature};
use super::{Hash, Reader, Unreadable};

const WHAT: &str = "TPMS_ATTEST";
/// Prefix of everything that a TPM attests, so that nothing else is taken for it
/// (TPM_GENERATED_VALUE).
const MAGIC: u32 = 0xff54_4347;
const CERTIFY: u16 = 0x8017;
const QUOTE: u16 = 0x8018;
/// Size of a PCR selection: three octets, as on every PC.
const SELECT_BYTES: u8 = 3;
/// Maximum size of a TPMS_ATTEST in bytes.
pub const BYTES_MAX: usize = 1024;

/// The TPM's clock (TPMS_CLOCK_INFO; Part 2, 10.11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds for which the TPM was powered.
    pub milliseconds: u64,
    /// TPM resets since it was last cleared: one for each power cut or orderly reboot.
    pub resets: u32,
    /// Resumes since the last reset.
    pub restarts: u32,
    /// Whether the clock never stated a higher value before. False after a power cut, which is no
    /// fault.
    pub safe: bool,
}

/// A selection of PCRs of one bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// The bank.
    pub bank: Hash,
    /// Bit n selects PCR n.
    pub pcrs: u32,
}

impl Selection {
    /// PCRs of the SHA-256 bank.
    #[must_use]
    pub fn sha256(pcrs: &[u8]) -> Self {
        Self {
            bank: Hash::Sha256,
            pcrs: pcrs.iter().filter(|r| **r < 24).fold(0, |bits, r| bits | 1 << r),
        }
    }
}

/// What is attested.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Statement {
    /// The PCRs had these values (TPM2_Quote).
    Quote {
        /// The PCRs; as many banks as requested.
        selections: Vec<Selection>,
        /// Digest over their values, by the hash of the key's *scheme*.
        digest: Vec<u8>,
    },
    /// A key with this name is in this TPM (TPM2_Certify).
    Certify {
        /// The name.
        name: Vec<u8>,
    },
}

/// A parsed TPMS_ATTEST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attest {
    /// The qualifying data of the caller.
    pub extra_data: Vec<u8>,
    /// The clock.
    pub clock: Clock,
    /// The firmware version, in the manufacturer's format.
    pub firmware: u64,
    /// What is attested.
    pub statement: Statement,
    bytes: Vec<u8>,
}

/// Why a TPMS_ATTEST is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It cannot be parsed.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It does not start with TPM_GENERATED.
    #[error("not made by a TPM: it does not start with TPM_GENERATED")]
    Magic,
    /// It attests something else.
    #[error("its type is {0:#06x}")]
    Kind(u16),
    /// The signature.
    #[error("the signature: {0}")]
    Signature(#[from] NotSigned),
}

impl Attest {
    fn parse(bytes: &[u8], wanted: u16) -> Result<Self, Refused> {
        if bytes.len() > BYTES_MAX {
            return Err(
                Unreadable::TooLong { what: WHAT, length: bytes.len(), max: BYTES_MAX }.into()
            );
        }
        let mut r = Reader::new(WHAT, bytes);
        if r.u32()? != MAGIC {
            return Err(Refused::Magic);
        }
        let kind = r.u16()?;
        if kind != wanted {
            return Err(Refused::Kind(kind));
        }
        let _qualified_signer = r.sized(66)?;
        let extra_data = r.sized(66)?.to_vec();
        let clock = Clock {
            milliseconds: r.u64()?,
            resets: r.u32()?,
            restarts: r.u32()?,
            safe: match r.u8()? {
                0 => false,
                1 => true,
                other => {
                    return Err(Unreadable::Unknown {
                        what: WHAT,
                        field: "safe",
                        value: other.into(),
                    }
                    .into());
                }
            },
        };
        let firmware = r.u64()?;
        let statement = if kind == QUOTE {
            Statement::Quote { selections: selections(&mut r)?, digest: r.sized(64)?.to_vec() }
        } else {
            let name = r.sized(66)?.to_vec();
            let _qualified_name = r.sized(66)?;
            Statement::Certify { name }
        };
        r.end()?;
        Ok(Self { extra_data, clock, firmware, statement, bytes: bytes.to_vec() })
    }

    fn signed(
        bytes: &[u8],
        kind: u16,
        signature: &[u8],
        key: &AttestationKey,
    ) -> Result<Self, Refused> {
        let attest = Self::parse(bytes, kind)?;
        let signature = Signature::parse(signature)?;
        // INVARIANT: an attestation key is an ECC key.
        let Key::Ecc { curve, point } = &key.public().key else {
            return Err(NotSigned::Wrong.into());
        };
        signature.verify(*curve, point, &attest.bytes)?;
        Ok(attest)
    }

    /// A quote that `key` signed.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn quote(bytes: &[u8], signature: &[u8], key: &AttestationKey) -> Result<Self, Refused> {
        Self::signed(bytes, QUOTE, signature, key)
    }

    /// A certification that `key` signed.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn certification(
        bytes: &[u8],
        signature: &[u8],
        key: &AttestationKey,
    ) -> Result<Self, Refused> {
        Self::signed(bytes, CERTIFY, signature, key)
    }
}

fn selections(r: &mut Reader<'_>) -> Result<Vec<Selection>, Unreadable> {
    let count = r.u32()?;
    if count > 16 {
        return r.unknown("count of selections", count);
    }
    (0..count)
        .map(|_| {
            let id = r.u16()?;
            let Some(bank) = Hash::from_id(id) else { return r.unknown("bank", id.into()) };
            match r.u8()? {
                SELECT_BYTES => {}
                other => return r.unknown("sizeofSelect", other.into()),
            }
            let [low, middle, high] = r.array::<3>()?;
            Ok(Selection { bank, pcrs: u32::from_le_bytes([low, middle, high, 0]) })
        })
        .collect()
}
