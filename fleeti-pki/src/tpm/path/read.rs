//! Certificates as their bytes (RFC 5280, 4.1). Nothing is re-encoded: the bytes of a
//! manufacturer's certificate are what its issuer signed and named, also where DER requires another
//! order. Rules of RFC 5280 for issuers that no check needs are not enforced, because a device
//! cannot change its certificate.

use der::{DateTime, Decode, Header, Reader, SliceReader};

pub(super) const BOOLEAN: u8 = 0x01;
pub(in crate::tpm) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(in crate::tpm) const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
pub(in crate::tpm) const SEQUENCE: u8 = 0x30;
pub(in crate::tpm) const SET: u8 = 0x31;
/// Maximum number of extensions of a certificate.
const EXTENSIONS_MAX: usize = 64;

/// What was read, or the part that cannot be read.
pub(in crate::tpm) type Read<T> = Result<T, &'static str>;

/// One DER value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tpm) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) whole: &'a [u8],
    pub(super) content: &'a [u8],
}

impl<'a> Element<'a> {
    pub(in crate::tpm) const fn is(&self, tag: u8) -> bool {
        self.tag == tag
    }

    pub(in crate::tpm) const fn whole(&self) -> &'a [u8] {
        self.whole
    }

    pub(in crate::tpm) const fn content(&self) -> &'a [u8] {
        self.content
    }
}

/// Concatenated DER values.
#[derive(Debug, Clone)]
pub(in crate::tpm) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    pub(in crate::tpm) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The single value in `bytes`.
    pub(in crate::tpm) fn only(bytes: &'a [u8], tag: u8, what: &'static str) -> Read<Element<'a>> {
        let mut elements = Self(bytes);
        let element = elements.expect(tag, what)?;
        elements.end(what)?;
        Ok(element)
    }

    pub(in crate::tpm) fn expect(&mut self, tag: u8, what: &'static str) -> Read<Element<'a>> {
        self.next().and_then(Result::ok).filter(|e| e.tag == tag).ok_or(what)
    }

    /// The next value, if it has this tag.
    pub(in crate::tpm) fn optional(
        &mut self,
        tag: u8,
        what: &'static str,
    ) -> Read<Option<Element<'a>>> {
        if self.0.first() == Some(&tag) { self.expect(tag, what).map(Some) } else { Ok(None) }
    }

    pub(super) const fn end(self, what: &'static str) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { Err(what) }
    }

    /// All values, which must have this tag.
    pub(in crate::tpm) fn each(self, tag: u8, what: &'static str) -> Read<Vec<Element<'a>>> {
        self.map(|e| e.ok().filter(|e| e.tag == tag).ok_or(what)).collect()
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Read<Element<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.0;
        let tag = *bytes.first()?;
        let element = (|| {
            let whole = SliceReader::new(bytes)?.tlv_bytes()?;
            let length = usize::try_from(Header::decode(&mut SliceReader::new(whole)?)?.length())?;
            Ok::<_, der::Error>(Element { tag, whole, content: &whole[whole.len() - length..] })
        })();
        self.0 = element.as_ref().ok().and_then(|e| bytes.get(e.whole.len()..)).unwrap_or_default();
        Some(element.map_err(|_| "a value is not DER"))
    }
}

/// An extension (4.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Extension<'a> {
    /// Contents of the OBJECT IDENTIFIER.
    pub(super) id: &'a [u8],
    pub(super) critical: bool,
    pub(super) value: &'a [u8],
}

/// A public key: the contents of its AlgorithmIdentifier, and its bits.
#[derive(Debug, Clone, Copy)]
pub(in crate::tpm) struct PublicKey<'a> {
    pub(in crate::tpm) algorithm: &'a [u8],
    pub(in crate::tpm) bits: &'a [u8],
}

/// Signed bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) message: &'a [u8],
    /// Contents of the AlgorithmIdentifier.
    pub(super) algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// The common structure of certificates and CRLs.
    pub(super) fn read(der: &'a [u8], what: &'static str) -> Read<(Element<'a>, Self)> {
        let mut parts = Elements::new(Elements::only(der, SEQUENCE, what)?.content);
        let message = parts.expect(SEQUENCE, what)?;
        let algorithm = parts.expect(SEQUENCE, what)?.content;
        let signature = whole_bytes(parts.expect(BIT_STRING, what)?).ok_or(what)?;
        parts.end(what)?;
        Ok((message, Self { message: message.whole, algorithm, signature }))
    }
}

/// A certificate; names as the contents of their SEQUENCE.
#[derive(Debug, Clone)]
pub(in crate::tpm) struct Certificate<'a> {
    pub(in crate::tpm) der: &'a [u8],
    pub(super) signed: Signed<'a>,
    pub(super) is_version_3: bool,
    /// Contents of the INTEGER, whatever its sign or length.
    pub(in crate::tpm) serial: &'a [u8],
    pub(in crate::tpm) issuer: &'a [u8],
    pub(in crate::tpm) subject: &'a [u8],
    /// Unix seconds, inclusive.
    pub(in crate::tpm) not_before_s: u64,
    pub(in crate::tpm) not_after_s: u64,
    pub(in crate::tpm) key: PublicKey<'a>,
    extensions: Vec<Extension<'a>>,
}

impl<'a> Certificate<'a> {
    pub(in crate::tpm) fn read(der: &'a [u8]) -> Read<Self> {
        let (tbs, signed) = Signed::read(der, "it is not an X.509 certificate")?;
        let mut fields = Elements::new(tbs.content);
        let version = fields.optional(0xa0, "its version")?.map(|e| e.content);
        let is_version_3 = match version {
            None | Some([INTEGER, 1, 0 | 1]) => false,
            Some([INTEGER, 1, 2]) => true,
            Some(_) => return Err("its version is not one of X.509"),
        };
        let serial = fields.expect(INTEGER, "its serial number")?.content;
        let algorithm = fields.expect(SEQUENCE, "its signature algorithm")?.content;
        if without_null(algorithm) != without_null(signed.algorithm) {
            return Err("it names two signature algorithms");
        }
        let issuer = fields.expect(SEQUENCE, "its issuer")?.content;
        let mut validity = Elements::new(fields.expect(SEQUENCE, "its validity")?.content);
        let (not_before_s, not_after_s) = (time(&mut validity)?, time(&mut validity)?);
        validity.end("its validity")?;
        let subject = fields.expect(SEQUENCE, "its subject")?.content;
        let key = public_key(fields.expect(SEQUENCE, "its public key")?.content)?;
        // Unique identifiers (4.1.2.8) are ignored.
        fields.optional(0x81, "its issuer's unique identifier")?;
        fields.optional(0x82, "its subject's unique identifier")?;
        let extensions = fields
            .optional(0xa3, "its extensions")?
            .map(|e| extensions(e.content))
            .transpose()?
            .unwrap_or_default();
        fields.end("it has more fields than a certificate")?;
        Ok(Self {
            der,
            signed,
            is_version_3,
            serial,
            issuer,
            subject,
            not_before_s,
            not_after_s,
            key,
            extensions,
        })
    }

    pub(super) fn extensions(&self) -> &[Extension<'a>] {
        &self.extensions
    }

    /// The value of an extension of RFC 5280 (2.5.29.`number`).
    pub(in crate::tpm) fn extension(&self, number: u8) -> Option<&'a [u8]> {
        self.extensions.iter().find(|e| e.id == [0x55, 0x1d, number]).map(|e| e.value)
    }

    /// Whether it is a CA's, and how many CAs may follow (4.2.1.9).
    pub(in crate::tpm) fn authority(&self) -> Read<(bool, Option<u64>)> {
        const WHAT: &str = "its basic constraints cannot be read";
        let Some(value) = self.extension(0x13) else { return Ok((false, None)) };
        let mut parts = Elements::new(Elements::only(value, SEQUENCE, WHAT)?.content);
        let is_authority = parts.optional(BOOLEAN, WHAT)?.is_some_and(|e| e.content != [0]);
        let length =
            parts.optional(INTEGER, WHAT)?.map(|e| number(e.content).ok_or(WHAT)).transpose()?;
        parts.end(WHAT)?;
        Ok((is_authority, length))
    }

    /// The first eight bits of the key usage, the first one highest (4.2.1.3); `None` without the
    /// extension.
    pub(in crate::tpm) fn key_usage(&self) -> Read<Option<u8>> {
        const WHAT: &str = "its key usage cannot be read";
        let Some(value) = self.extension(0x0f) else { return Ok(None) };
        match Elements::only(value, BIT_STRING, WHAT)?.content {
            [0..=7, usage, ..] => Ok(Some(*usage)),
            [0] => Ok(Some(0)),
            _ => Err(WHAT),
        }
    }

    /// Contents of the OBJECT IDENTIFIERs of its purposes (4.2.1.12); `None` without the extension.
    pub(in crate::tpm) fn purposes(&self) -> Read<Option<Vec<&'a [u8]>>> {
        const WHAT: &str = "its extended key usage cannot be read";
        let Some(value) = self.extension(0x25) else { return Ok(None) };
        let all = Elements::new(Elements::only(value, SEQUENCE, WHAT)?.content).each(OID, WHAT)?;
        if all.is_empty() {
            return Err("its extended key usage is empty");
        }
        Ok(Some(all.iter().map(|e| e.content).collect()))
    }

    /// Subject alternative names (4.2.1.6): GeneralNames.
    pub(in crate::tpm) fn alternative_names(&self) -> Read<Vec<Element<'a>>> {
        const WHAT: &str = "its subject alternative name cannot be read";
        let Some(value) = self.extension(0x11) else { return Ok(Vec::new()) };
        Elements::new(Elements::only(value, SEQUENCE, WHAT)?.content)
            .map(|e| e.map_err(|_| WHAT))
            .collect()
    }

    /// Whether its issuer has its own name (6.1).
    pub(super) fn is_self_issued(&self) -> bool {
        super::names::are_same(self.issuer, self.subject)
    }
}

fn time(fields: &mut Elements<'_>) -> Read<u64> {
    let element = fields.next().and_then(Result::ok).ok_or("its validity")?;
    moment(element).ok_or("its validity has a time that cannot be read")
}

/// Parses a UTCTime or GeneralizedTime (X.680, 46 and 47), also in forms that DER and RFC 5280 do
/// not allow: without seconds, with fractions, or in another time zone. A time before 1970 becomes
/// 1970.
fn moment(element: Element<'_>) -> Option<u64> {
    let text = std::str::from_utf8(element.content).ok()?;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let two = |at: usize| number.get(at..at + 2)?.parse::<u16>().ok();
    let (year, at) = match element.tag {
        UTC_TIME => (two(0).map(|y| if y < 50 { 2000 + y } else { 1900 + y })?, 2),
        GENERALIZED_TIME => (two(0)? * 100 + two(2)?, 4),
        _ => return None,
    };
    let is_length = digits == at + 8 || digits == at + 10;
    let [month, day, hour, minute] = [two(at)?, two(at + 2)?, two(at + 4)?, two(at + 6)?];
    let second = if digits == at + 10 { two(at + 8)? } else { 0 };
    let zone = match rest.strip_prefix(['.', ',']) {
        Some(fraction) if element.tag == GENERALIZED_TIME => {
            fraction.trim_start_matches(|c: char| c.is_ascii_digit())
        }
        Some(_) => return None,
        None => rest,
    };
    let east_s = zone_s(zone).filter(|_| is_length)?;
    let is_early = year < 1970;
    let byte = |n: u16| u8::try_from(n).ok();
    let year = year.max(1970);
    let whole = DateTime::new(
        year,
        byte(month)?,
        byte(day)?,
        byte(hour)?,
        byte(minute)?,
        byte(second.min(59))?,
    )
    .ok()?;
    let local = i64::try_from(whole.unix_duration().as_secs()).ok()?;
    if is_early { Some(0) } else { Some(u64::try_from(local - east_s).unwrap_or(0)) }
}

/// Seconds east of Greenwich.
fn zone_s(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.as_bytes().first()? {
        b'Z' if zone.len() == 1 => return Some(0),
        b'+' => (1, &zone[1..]),
        b'-' => (-1, &zone[1..]),
        _ => return None,
    };
    let is_digits = rest.len() == 4 && rest.bytes().all(|b| b.is_ascii_digit());
    let number: i64 = rest.parse().ok().filter(|_| is_digits)?;
    Some(sign * (number / 100 * 3600 + number % 100 * 60))
}

pub(super) fn public_key(content: &[u8]) -> Read<PublicKey<'_>> {
    const WHAT: &str = "its public key cannot be read";
    let mut parts = Elements::new(content);
    let algorithm = parts.expect(SEQUENCE, WHAT)?.content;
    let bits = whole_bytes(parts.expect(BIT_STRING, WHAT)?).ok_or(WHAT)?;
    parts.end(WHAT)?;
    Ok(PublicKey { algorithm, bits })
}

fn extensions(content: &[u8]) -> Read<Vec<Extension<'_>>> {
    const WHAT: &str = "its extensions cannot be read";
    let mut all: Vec<Extension<'_>> = Vec::new();
    for element in
        Elements::new(Elements::only(content, SEQUENCE, WHAT)?.content).each(SEQUENCE, WHAT)?
    {
        let mut parts = Elements::new(element.content);
        let id = parts.expect(OID, WHAT)?.content;
        let critical = parts.optional(BOOLEAN, WHAT)?.is_some_and(|e| e.content != [0]);
        let value = parts.expect(OCTET_STRING, WHAT)?.content;
        parts.end(WHAT)?;
        if all.len() == EXTENSIONS_MAX || all.iter().any(|e| e.id == id) {
            return Err("it has an extension twice, or too many of them");
        }
        all.push(Extension { id, critical, value });
    }
    Ok(all)
}

fn whole_bytes(bits: Element<'_>) -> Option<&[u8]> {
    bits.content.split_first().filter(|(unused, _)| **unused == 0).map(|(_, bytes)| bytes)
}

/// A number that is not negative; numbers of more than 64 bits become the highest one.
pub(super) fn number(content: &[u8]) -> Option<u64> {
    let first = content.iter().position(|byte| *byte != 0).unwrap_or(content.len());
    if content.first().is_none_or(|byte| byte & 0x80 != 0) {
        return None;
    }
    let digits = &content[first..];
    if digits.len() > 8 {
        Some(u64::MAX)
    } else {
        Some(digits.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }
}

/// An AlgorithmIdentifier without the NULL that some algorithms require and some issuers omit.
pub(super) fn without_null(algorithm: &[u8]) -> &[u8] {
    algorithm.strip_suffix(&[5, 0]).unwrap_or(algorithm)
}
