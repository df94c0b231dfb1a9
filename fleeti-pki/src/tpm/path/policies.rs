//! Certificate policies (RFC 5280, 6.1), with any-policy as the initial set: manufacturers choose
//! their policies, unless one of their CAs requires a valid one.
//!
//! The only question is whether the policy tree is empty. So only the latest depth is kept, with
//! one node for each policy.

use super::read::{Certificate, Elements, INTEGER, OID, Read, SEQUENCE, number};
use std::collections::{BTreeMap, BTreeSet};

/// anyPolicy, the contents of its OBJECT IDENTIFIER.
const ANY: &[u8] = &[0x55, 0x1d, 0x20, 0x00];

/// Valid policies at a depth, and the expected policies below each.
type Valid<'a> = BTreeMap<&'a [u8], BTreeSet<&'a [u8]>>;

/// The state between two certificates of a path.
pub(super) struct Policies<'a> {
    valid: Valid<'a>,
    /// Remaining certificates until a policy is required, and until mapping and any-policy are
    /// inhibited.
    explicit: u64,
    mapping: u64,
    any: u64,
}

impl<'a> Policies<'a> {
    /// The state before the first of `length` certificates.
    pub(super) fn new(length: usize) -> Self {
        let never = length as u64 + 1;
        Self {
            valid: BTreeMap::from([(ANY, BTreeSet::from([ANY]))]),
            explicit: never,
            mapping: never,
            any: never,
        }
    }

    /// Processes the next certificate (6.1.3 d to f), then its effect on those below it (6.1.4) or,
    /// for the last one, on itself (6.1.5).
    pub(super) fn follow(&mut self, certificate: &Certificate<'a>, is_last: bool) -> Read<()> {
        const NONE: &str = "a CA above it requires a certificate policy, and none is valid";
        let is_self_issued = certificate.is_self_issued();
        // Unreadable policies in the TPM's own certificate are ignored.
        let of_last = |e| if is_last { Ok(None) } else { Err(e) };
        self.valid = match named(certificate).or_else(of_last)? {
            Some(named) => self.below(&named, self.any > 0 || (!is_last && is_self_issued)),
            None => Valid::new(),
        };
        if self.explicit == 0 && self.valid.is_empty() {
            return Err(NONE);
        }
        if !is_last {
            self.map(certificate)?;
        }
        if is_last || !is_self_issued {
            self.explicit = self.explicit.saturating_sub(1);
        }
        if is_last {
            let is_asked = self.explicit == 0
                || constraints(certificate).is_ok_and(|(explicit, _)| explicit == Some(0));
            return if is_asked && self.valid.is_empty() { Err(NONE) } else { Ok(()) };
        }
        let (explicit, mapping) = constraints(certificate)?;
        if !is_self_issued {
            self.mapping = self.mapping.saturating_sub(1);
            self.any = self.any.saturating_sub(1);
        }
        self.explicit = self.explicit.min(explicit.unwrap_or(u64::MAX));
        self.mapping = self.mapping.min(mapping.unwrap_or(u64::MAX));
        self.any = self.any.min(inhibit_any(certificate)?.unwrap_or(u64::MAX));
        Ok(())
    }

    /// The policies that a certificate names and that are expected.
    fn below(&self, named: &[&'a [u8]], is_any_taken: bool) -> Valid<'a> {
        let is_expected =
            |policy: &[u8]| self.valid.values().any(|expected| expected.contains(policy));
        let is_any_valid = self.valid.contains_key(ANY);
        let own = named.iter().copied().filter(|p| *p != ANY && (is_expected(p) || is_any_valid));
        let mut valid: Valid<'a> = own.map(|p| (p, BTreeSet::from([p]))).collect();
        if is_any_taken && named.contains(&ANY) {
            for policy in self.valid.values().flatten().copied() {
                valid.entry(policy).or_insert_with(|| BTreeSet::from([policy]));
            }
        }
        valid
    }

    /// Policy mappings (6.1.4 a, b).
    fn map(&mut self, certificate: &Certificate<'a>) -> Read<()> {
        const WHAT: &str = "its policy mappings cannot be read";
        let Some(value) = certificate.extension(0x21) else { return Ok(()) };
        let mut mappings: Valid<'a> = Valid::new();
        for pair in
            Elements::new(Elements::only(value, SEQUENCE, WHAT)?.content).each(SEQUENCE, WHAT)?
        {
            let mut pair = Elements::new(pair.content);
            let (issuers, subjects) =
                (pair.expect(OID, WHAT)?.content, pair.expect(OID, WHAT)?.content);
            pair.end(WHAT)?;
            if issuers == ANY || subjects == ANY {
                return Err("it maps any-policy");
            }
            mappings.entry(issuers).or_default().insert(subjects);
        }
        let is_any_valid = self.valid.contains_key(ANY);
        for (policy, expected) in mappings {
            if self.mapping == 0 {
                self.valid.remove(policy);
            } else if is_any_valid || self.valid.contains_key(policy) {
                self.valid.insert(policy, expected);
            }
        }
        Ok(())
    }
}

/// The policies that a certificate names (4.2.1.4), without qualifiers.
fn named<'a>(certificate: &Certificate<'a>) -> Read<Option<Vec<&'a [u8]>>> {
    const WHAT: &str = "its certificate policies cannot be read";
    let Some(value) = certificate.extension(0x20) else { return Ok(None) };
    let all = Elements::new(Elements::only(value, SEQUENCE, WHAT)?.content).each(SEQUENCE, WHAT)?;
    all.iter()
        .map(|e| Elements::new(e.content).expect(OID, WHAT).map(|e| e.content))
        .collect::<Read<Vec<_>>>()
        .map(Some)
}

/// requireExplicitPolicy and inhibitPolicyMapping (4.2.1.11).
fn constraints(certificate: &Certificate<'_>) -> Read<(Option<u64>, Option<u64>)> {
    const WHAT: &str = "its policy constraints cannot be read";
    let Some(value) = certificate.extension(0x24) else { return Ok((None, None)) };
    let mut fields = Elements::new(Elements::only(value, SEQUENCE, WHAT)?.content);
    let mut skip =
        |tag| fields.optional(tag, WHAT)?.map(|e| number(e.content).ok_or(WHAT)).transpose();
    let found = (skip(0x80)?, skip(0x81)?);
    fields.end(WHAT)?;
    Ok(found)
}

/// inhibitAnyPolicy (4.2.1.14).
fn inhibit_any(certificate: &Certificate<'_>) -> Read<Option<u64>> {
    const WHAT: &str = "its inhibit-any-policy cannot be read";
    let Some(value) = certificate.extension(0x36) else { return Ok(None) };
    number(Elements::only(value, INTEGER, WHAT)?.content).ok_or(WHAT).map(Some)
}
