//! Revocation lists that are larger than a message: what is to be on them comes in parts, and what
//! was signed goes in parts. A few of each are held, and the oldest make room.

use crate::wire::{Request, Response, RevokedSerial};
use fleeti_core::canonical::sha256_hex;
use fleeti_pki::base64_text;
use fleeti_pki::crl::{Entries, Revoked};
use std::collections::VecDeque;

/// Lists of each kind that are held; every one has [`fleeti_pki::crl::ENTRIES_MAX`] entries at the
/// most.
const HELD_MAX: usize = 2;
/// Bytes of a list in one message.
pub const PART_MAX: usize = 2 << 20;
/// Longest name of a list.
const NAME_MAX: usize = 64;

/// Lists on their way.
#[derive(Default)]
pub(crate) struct Lists {
    staged: VecDeque<(String, Entries)>,
    signed: VecDeque<(String, Vec<u8>)>,
}

fn hold<T>(all: &mut VecDeque<(String, T)>, name: String, one: T) {
    all.retain(|(held, _)| *held != name);
    while all.len() >= HELD_MAX {
        all.pop_front();
    }
    all.push_back((name, one));
}

/// Certificates as they are put on a list.
pub(crate) fn entries(revoked: Vec<RevokedSerial>) -> Vec<Revoked> {
    revoked
        .into_iter()
        .map(|r| Revoked { serial: r.serial, revoked_s: r.revoked_s, reason: r.reason })
        .collect()
}

impl Lists {
    /// Adds certificates to a list that is to be signed.
    pub(crate) fn stage(&mut self, name: String, revoked: Vec<RevokedSerial>) -> Response {
        if name.len() > NAME_MAX {
            return Response::Refused {
                reason: format!("the name of a list has {NAME_MAX} bytes at the most"),
            };
        }
        let at = self.staged.iter().position(|(held, _)| *held == name);
        let mut list =
            at.and_then(|at| self.staged.remove(at)).map(|(_, list)| list).unwrap_or_default();
        // What was begun is gone when a part of it is refused: half a list must never be signed.
        match list.extend(&entries(revoked)) {
            Ok(()) => {
                let count = list.count() as u64;
                hold(&mut self.staged, name, list);
                Response::Staged { entries: count }
            }
            Err(e) => Response::Refused { reason: e.to_string() },
        }
    }

    /// What came in parts under a name; nothing where there is none.
    pub(crate) fn take(&mut self, staged: Option<&str>) -> Result<Entries, fleeti_pki::Error> {
        let Some(name) = staged else { return Ok(Entries::default()) };
        let at = self.staged.iter().position(|(held, _)| held == name);
        let found = at.and_then(|at| self.staged.remove(at));
        Ok(found
            .ok_or(fleeti_pki::Error::Refused(
                "the parts of this list are not here; send them again",
            ))?
            .1)
    }

    /// What was signed: whole, or to be fetched in parts.
    pub(crate) fn hand_out(&mut self, staged: Option<String>, der: Vec<u8>) -> Response {
        if der.len() <= PART_MAX {
            return Response::RevocationList { der: base64_text(&der) };
        }
        let (bytes, list) = (der.len() as u64, staged.unwrap_or_else(|| sha256_hex(&der)));
        hold(&mut self.signed, list.clone(), der);
        Response::LargeList { list, bytes }
    }

    /// A part of a list that was signed. The last part is the end of it here.
    pub(crate) fn part(&mut self, request: &Request) -> Response {
        let Request::ListPart { list, from } = request else {
            return Response::Refused { reason: "this is no part of a list".into() };
        };
        let missing = || Response::Refused {
            reason: "this list is not here any more; have it signed again".into(),
        };
        let Some(at) = self.signed.iter().position(|(held, _)| held == list) else {
            return missing();
        };
        let der = &self.signed[at].1;
        let Some(rest) = usize::try_from(*from).ok().and_then(|from| der.get(from..)) else {
            return missing();
        };
        let part = &rest[..rest.len().min(PART_MAX)];
        let (is_last, response) =
            (part.len() == rest.len(), Response::ListPart { der: base64_text(part) });
        if is_last {
            self.signed.remove(at);
        }
        response
    }
}
