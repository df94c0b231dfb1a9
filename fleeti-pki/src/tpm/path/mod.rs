//! Paths from an endorsement certificate to a trusted manufacturer (RFC 5280, 6.1).
//!
//! webpki refuses extensions that TLS certificates never have, but that TPM manufacturers use:
//! critical certificate policies, name constraints on directory names, unique identifiers.
//! Signatures are verified by webpki's algorithms.
//!
//! [`read`] (certificates as their bytes) · [`names`] · [`policies`] · [`signed`] · [`lists`].

pub(super) mod lists;
pub(super) mod names;
mod policies;
pub(super) mod read;
mod signed;

pub(super) use lists::{List, Lists};
use names::{Subtrees, dotted, shown};
use policies::Policies;
pub(super) use read::{Certificate, PublicKey};
use read::{Elements, INTEGER, Read, SEQUENCE, public_key};

/// Maximum number of signatures that are verified for one path.
const SIGNATURES_MAX: usize = 64;
/// Maximum number of certificates of a path, without the manufacturer's.
const LENGTH_MAX: usize = super::endorsement::INTERMEDIATES_MAX + 1;
/// keyCertSign, in the first eight bits of a key usage.
const KEY_CERT_SIGN: u8 = 0x04;
/// Extensions that are checked, or that do not restrict paths: 2.5.29.N. Keys and their names (14,
/// 35, 18, 9, 16), where to find CRLs (31, 46), and those that are checked.
const KNOWN: [u8; 16] = [9, 14, 15, 16, 17, 18, 19, 30, 31, 32, 33, 35, 36, 37, 46, 54];
/// authorityInfoAccess and subjectInfoAccess, which say where to find something, and qcStatements
/// (RFC 3739, 3.2.6), which the TCG's first profile used for the conformance of a TPM.
const HARMLESS: [&[u8]; 3] =
    [&[0x2b, 6, 1, 5, 5, 7, 1, 1], &[0x2b, 6, 1, 5, 5, 7, 1, 11], &[0x2b, 6, 1, 5, 5, 7, 1, 3]];

/// Why there is no path; of several attempts, the one that came furthest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refused {
    /// No certificate has the name of the issuer.
    NoIssuer(String),
    Other(String),
    OldList,
    Revoked,
}

impl From<&'static str> for Refused {
    fn from(words: &'static str) -> Self {
        Self::Other(words.into())
    }
}

/// The input of the search for a path.
pub(super) struct Search<'s, 'a> {
    pub(super) between: &'s [Certificate<'a>],
    pub(super) believed: &'s [Certificate<'a>],
    pub(super) lists: &'s Lists,
    /// Contents of the OBJECT IDENTIFIERs of purposes. An intermediate CA that restricts its
    /// purposes must have one of them.
    pub(super) purposes: &'s [&'s [u8]],
    pub(super) now_s: u64,
}

impl<'a> Search<'_, 'a> {
    /// The index of the trusted certificate that a path leads to.
    pub(super) fn from(&self, leaf: &Certificate<'a>) -> Result<usize, Refused> {
        self.onwards(&mut vec![leaf.clone()], &mut 0)
    }

    fn onwards(
        &self,
        path: &mut Vec<Certificate<'a>>,
        signatures: &mut usize,
    ) -> Result<usize, Refused> {
        let Some(head) = path.last().cloned() else { return Err("there is no certificate".into()) };
        let mut refused = Refused::NoIssuer(format!(
            "no certificate of its issuer is known: {}",
            shown(head.issuer)
        ));
        for (at, anchor) in self.believed.iter().enumerate() {
            if names::are_same(head.issuer, anchor.subject) {
                match signed(&head, anchor, signatures).and_then(|()| self.judge(path, anchor)) {
                    Ok(()) => return Ok(at),
                    Err(e) => refused = refused.max(e),
                }
            }
        }
        for next in self.between {
            let is_new = !path.iter().any(|c| c.der == next.der);
            if is_new && path.len() < LENGTH_MAX && names::are_same(head.issuer, next.subject) {
                let found = signed(&head, next, signatures).and_then(|()| {
                    path.push(next.clone());
                    let found = self.onwards(path, signatures);
                    path.pop();
                    found
                });
                match found {
                    Ok(at) => return Ok(at),
                    Err(e) => refused = refused.max(e),
                }
            }
        }
        Err(refused)
    }

    /// Checks a path, from its leaf up, whose signatures are verified.
    fn judge(&self, path: &[Certificate<'a>], anchor: &Certificate<'a>) -> Result<(), Refused> {
        let mut policies = Policies::new(path.len());
        let mut constraints = vec![Subtrees::of(anchor)?];
        let mut authorities_left = u64::MAX;
        let mut issuer = lists::Issuer { key: &anchor.key, key_usage: None };
        for (at, certificate) in path.iter().enumerate().rev() {
            let of = |words: &str| Refused::Other(format!("{}: {words}", whose(certificate)));
            let is_last = at == 0;
            self.usual(certificate, is_last).map_err(|e| of(&e))?;
            self.lists.check(certificate, issuer, self.now_s)?;
            if is_last || !certificate.is_self_issued() {
                constraints.iter().try_for_each(|c| c.check(certificate)).map_err(of)?;
            }
            policies.follow(certificate, is_last).map_err(of)?;
            if !is_last {
                authorities_left = below(certificate, authorities_left).map_err(of)?;
                constraints.push(Subtrees::of(certificate).map_err(of)?);
                issuer = lists::Issuer {
                    key: &certificate.key,
                    key_usage: certificate.key_usage().map_err(of)?,
                };
            }
        }
        Ok(())
    }

    /// Checks that concern a certificate by itself.
    fn usual(&self, certificate: &Certificate<'_>, is_last: bool) -> Result<(), String> {
        if self.now_s < certificate.not_before_s {
            return Err("it is not valid yet".into());
        }
        if self.now_s > certificate.not_after_s {
            return Err("it has expired".into());
        }
        let unknown = certificate.extensions().iter().find(|e| e.critical && !is_known(e.id));
        if let Some(extension) = unknown {
            return Err(format!("it has an unknown critical extension: {}", dotted(extension.id)));
        }
        let purposes = certificate.purposes()?;
        if !is_last && purposes.is_some_and(|all| !all.iter().any(|p| self.purposes.contains(p))) {
            return Err("it may not certify endorsement keys (extended key usage)".into());
        }
        Ok(())
    }
}

/// Checks an intermediate CA (6.1.4 k to n); returns how many more may follow it.
fn below(certificate: &Certificate<'_>, left: u64) -> Read<u64> {
    let (is_authority, length) = certificate.authority()?;
    if !is_authority || !certificate.is_version_3 {
        return Err("it is not a CA certificate");
    }
    if certificate.key_usage()?.is_some_and(|usage| usage & KEY_CERT_SIGN == 0) {
        return Err("it may not sign certificates (key usage)");
    }
    let left = if certificate.is_self_issued() {
        left
    } else {
        left.checked_sub(1).ok_or("more CAs than a CA above it allows")?
    };
    Ok(left.min(length.unwrap_or(u64::MAX)))
}

fn signed(
    certificate: &Certificate<'_>,
    issuer: &Certificate<'_>,
    signatures: &mut usize,
) -> Result<(), Refused> {
    *signatures += 1;
    if *signatures > SIGNATURES_MAX {
        return Err("too many issuers have the same name".into());
    }
    signed::verify(&certificate.signed, &issuer.key)
        .map_err(|e| Refused::Other(format!("{}: {e}", whose(certificate))))
}

/// Whether a certificate's key is that of a SubjectPublicKeyInfo (DER). For an elliptic curve key:
/// its point in any form, with any EC algorithm (RFC 5480, 2.1), and its curve by name or by
/// parameters. For an RSA key: its numbers, with any RSA algorithm.
pub(super) fn is_key(key: &PublicKey<'_>, wanted_der: &[u8], is_rsa: bool) -> bool {
    const RSA: [&[u8]; 3] = [&[1], &[7], &[10]];
    // id-ecPublicKey, id-ecDH and id-ecMQV.
    const EC_KEYS: [&[u8]; 3] = [
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01],
        &[0x2b, 0x81, 0x04, 0x01, 0x0c],
        &[0x2b, 0x81, 0x04, 0x01, 0x0d],
    ];
    let wanted = Elements::only(wanted_der, SEQUENCE, "").and_then(|e| public_key(e.content));
    let (Ok(wanted), Some(Ok(id))) = (wanted, Elements::new(key.algorithm).next()) else {
        return false;
    };
    if is_rsa {
        let is_of_rsa =
            id.content.strip_prefix(signed::PKCS_1).is_some_and(|last| RSA.contains(&last));
        return is_of_rsa
            && (key.bits == wanted.bits
                || rsa_numbers(key.bits).is_some_and(|own| Some(own) == rsa_numbers(wanted.bits)));
    }
    let parameters = |of: &PublicKey<'_>| {
        Elements::new(of.algorithm).nth(1).and_then(Result::ok).map(|e| (e.tag, e.whole.to_vec()))
    };
    let is_curve = match parameters(key) {
        Some((SEQUENCE, _)) => true,
        other => other == parameters(&wanted),
    };
    EC_KEYS.contains(&id.content)
        && is_curve
        && (key.bits == wanted.bits
            || other_forms(wanted.bits).iter().flatten().any(|p| p == key.bits))
}

/// Modulus and exponent (RFC 8017, A.1.1). Some issuers omit the leading zero, as if the numbers
/// could be negative.
fn rsa_numbers(bits: &[u8]) -> Option<[&[u8]; 2]> {
    let mut fields = Elements::new(Elements::only(bits, SEQUENCE, "").ok()?.content);
    let mut next = || {
        let content = fields.expect(INTEGER, "").ok()?.content;
        Some(&content[content.iter().position(|byte| *byte != 0)?..])
    };
    let numbers = [next()?, next()?];
    fields.end("").ok().map(|()| numbers)
}

/// The compressed and the hybrid form of an uncompressed point (SEC 1, 2.3.3; X9.62).
fn other_forms(point: &[u8]) -> Option<[Vec<u8>; 2]> {
    let (_, coordinates) = point.split_first().filter(|(form, _)| **form == 4)?;
    let (x, y) = coordinates.split_at(coordinates.len() / 2);
    let odd = y.last()? & 1;
    Some([[&[2 + odd][..], x].concat(), [&[6 + odd][..], coordinates].concat()])
}

/// Subjects of the issuers of a certificate, from the lowest up, as far as they are among `all`.
pub(super) fn above<'a, 'c: 'a>(
    certificate: &Certificate<'c>,
    all: impl Iterator<Item = &'a Certificate<'c>> + Clone,
) -> Vec<String> {
    let (mut chain, mut head) = (Vec::new(), certificate.clone());
    while chain.len() < LENGTH_MAX && !head.is_self_issued() {
        let is_issuer = |c: &&Certificate<'_>| {
            names::are_same(head.issuer, c.subject) && signed::verify(&head.signed, &c.key).is_ok()
        };
        let Some(issuer) = all.clone().find(is_issuer) else { break };
        chain.push(shown(issuer.subject));
        head = issuer.clone();
    }
    chain
}

/// Whether a certificate is signed by its own key.
pub(super) fn is_self_signed(certificate: &Certificate<'_>) -> bool {
    certificate.is_self_issued() && signed::verify(&certificate.signed, &certificate.key).is_ok()
}

/// Whether a certificate is a CA's: by its basic constraints or, in a version without extensions,
/// because it is self-signed.
pub(super) fn is_authority(certificate: &Certificate<'_>) -> Read<bool> {
    Ok(certificate.authority()?.0 || (!certificate.is_version_3 && is_self_signed(certificate)))
}

fn whose(certificate: &Certificate<'_>) -> String {
    if certificate.subject.is_empty() {
        "the endorsement certificate".into()
    } else {
        shown(certificate.subject)
    }
}

fn is_known(id: &[u8]) -> bool {
    match id {
        [0x55, 0x1d, number] => KNOWN.contains(number),
        _ => HARMLESS.contains(&id),
    }
}
