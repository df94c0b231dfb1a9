//! CRLs that are larger than a message: their entries arrive in parts, and the signed CRL is sent
//! in parts. A few of each are kept; the newest replace the oldest.

use fleeti_core::canonical::sha256_hex;
use fleeti_pki::base64_text;
use fleeti_pki::crl::{Entries, Revoked};
use fleeti_signer_client::wire::{Request, Response, RevokedSerial};
use std::collections::VecDeque;

/// Maximum number of CRLs of each kind in memory, each with at most
/// [`fleeti_pki::crl::ENTRIES_MAX`] entries.
const KEPT_MAX: usize = 2;
/// Bytes of a CRL in one message.
pub const PART_MAX: usize = 2 << 20;
/// Longest name of a staged CRL, bytes.
const NAME_MAX: usize = 64;

/// CRLs that are being received or sent.
#[derive(Default)]
pub(crate) struct Crls {
    staged: VecDeque<(String, Entries)>,
    signed: VecDeque<(String, Vec<u8>)>,
}

fn keep<T>(all: &mut VecDeque<(String, T)>, name: String, one: T) {
    all.retain(|(kept, _)| *kept != name);
    while all.len() >= KEPT_MAX {
        all.pop_front();
    }
    all.push_back((name, one));
}

/// Entries for a CRL.
pub(crate) fn entries(revoked: Vec<RevokedSerial>) -> Vec<Revoked> {
    revoked
        .into_iter()
        .map(|r| Revoked { serial: r.serial, revoked_s: r.revoked_s, reason: r.reason })
        .collect()
}

impl Crls {
    /// Adds revoked certificates to a staged CRL.
    pub(crate) fn stage(&mut self, name: String, revoked: Vec<RevokedSerial>) -> Response {
        if name.len() > NAME_MAX {
            return Response::Refused {
                reason: format!("the name of a CRL is longer than {NAME_MAX} bytes"),
            };
        }
        let at = self.staged.iter().position(|(kept, _)| *kept == name);
        let mut crl =
            at.and_then(|at| self.staged.remove(at)).map(|(_, crl)| crl).unwrap_or_default();
        // A refused part drops the whole CRL: a part of it must never be signed.
        match crl.extend(&entries(revoked)) {
            Ok(()) => {
                let count = crl.count() as u64;
                keep(&mut self.staged, name, crl);
                Response::Staged { entries: count }
            }
            Err(e) => Response::Refused { reason: e.to_string() },
        }
    }

    /// Takes the staged entries of a name; empty for `None`.
    pub(crate) fn take(&mut self, staged: Option<&str>) -> Result<Entries, fleeti_pki::Error> {
        let Some(name) = staged else { return Ok(Entries::default()) };
        let at = self.staged.iter().position(|(kept, _)| kept == name);
        let found = at.and_then(|at| self.staged.remove(at));
        Ok(found
            .ok_or(fleeti_pki::Error::Refused(
                "the staged parts of this CRL are gone; send them again",
            ))?
            .1)
    }

    /// Returns a signed CRL: whole, or for fetching in parts.
    pub(crate) fn first_part(&mut self, staged: Option<String>, der: Vec<u8>) -> Response {
        if der.len() <= PART_MAX {
            return Response::Crl { der: base64_text(&der) };
        }
        let (bytes, name) = (der.len() as u64, staged.unwrap_or_else(|| sha256_hex(&der)));
        keep(&mut self.signed, name.clone(), der);
        Response::LargeCrl { name, bytes }
    }

    /// Returns a part of a signed CRL. The last part removes it here.
    pub(crate) fn part(&mut self, request: &Request) -> Response {
        let Request::CrlPart { name, from } = request else {
            return Response::Refused { reason: "not a request for a part of a CRL".into() };
        };
        let missing =
            || Response::Refused { reason: "this CRL is gone; request its signature again".into() };
        let Some(at) = self.signed.iter().position(|(kept, _)| kept == name) else {
            return missing();
        };
        let der = &self.signed[at].1;
        let Some(rest) = usize::try_from(*from).ok().and_then(|from| der.get(from..)) else {
            return missing();
        };
        let part = &rest[..rest.len().min(PART_MAX)];
        let (is_last, response) =
            (part.len() == rest.len(), Response::CrlPart { der: base64_text(part) });
        if is_last {
            self.signed.remove(at);
        }
        response
    }
}
