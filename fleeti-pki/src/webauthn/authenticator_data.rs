//! What an authenticator says of a ceremony (6.1).

use super::cbor::Reader;
use super::{CREDENTIAL_ID_MAX, NotAccepted, PART_MAX, RelyingParty};
use aws_lc_rs::digest;

const WHAT: &str = "the authenticator data";

const PRESENT: u8 = 1 << 0;
const VERIFIED: u8 = 1 << 2;
const MAY_BE_COPIED: u8 = 1 << 3;
const IS_COPIED: u8 = 1 << 4;
const HAS_CREDENTIAL: u8 = 1 << 6;
const HAS_EXTENSIONS: u8 = 1 << 7;

/// A new credential in the data.
pub(super) struct Attested<'a> {
    pub credential_id: &'a [u8],
    /// Its key, as it is stored (COSE).
    pub key: &'a [u8],
}

/// The data, read to their end.
pub(super) struct AuthenticatorData<'a> {
    party_sha256: &'a [u8],
    flags: u8,
    pub counter: u32,
    pub attested: Option<Attested<'a>>,
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |n, byte| (n << 8) | u32::from(*byte))
}

impl<'a> AuthenticatorData<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, NotAccepted> {
        Self::parse(bytes).ok_or(NotAccepted::Malformed(WHAT))
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > PART_MAX {
            return None;
        }
        let mut rest = bytes;
        let party_sha256 = take(&mut rest, 32)?;
        let flags = *take(&mut rest, 1)?.first()?;
        let counter = big_endian(take(&mut rest, 4)?);
        let mut attested = None;
        if flags & HAS_CREDENTIAL != 0 {
            // The model of the authenticator, which is not looked at.
            take(&mut rest, 16)?;
            let length = usize::try_from(big_endian(take(&mut rest, 2)?)).ok()?;
            if !(1..=CREDENTIAL_ID_MAX).contains(&length) {
                return None;
            }
            let credential_id = take(&mut rest, length)?;
            let key = Reader::new(rest)?.skip()?;
            take(&mut rest, key.len())?;
            attested = Some(Attested { credential_id, key });
        }
        if flags & HAS_EXTENSIONS != 0 {
            let mut reader = Reader::new(rest)?;
            reader.skip()?;
            rest = if reader.is_at_end() { &[] } else { rest };
        }
        rest.is_empty().then_some(Self { party_sha256, flags, counter, attested })
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether the authenticator may copy the credential to others of its user.
    pub(super) fn may_be_copied(&self) -> bool {
        self.has(MAY_BE_COPIED)
    }

    /// Checks that it is for this server, and that the authenticator has verified its user.
    pub(super) fn check(&self, party: &RelyingParty) -> Result<(), NotAccepted> {
        if self.party_sha256 != digest::digest(&digest::SHA256, party.id.as_bytes()).as_ref() {
            return Err(NotAccepted::RelyingParty);
        }
        if !self.has(PRESENT) {
            return Err(NotAccepted::NotPresent);
        }
        if !self.has(VERIFIED) {
            return Err(NotAccepted::NotVerified);
        }
        if self.has(IS_COPIED) && !self.may_be_copied() {
            return Err(NotAccepted::Malformed(WHAT));
        }
        Ok(())
    }
}
