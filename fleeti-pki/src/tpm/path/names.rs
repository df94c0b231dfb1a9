//! Directory names (RFC 5280, 4.1.2.4): compared byte for byte or by their text (7.1), displayed,
//! and checked against name constraints (4.2.1.10).

use super::read::{Certificate, Element, Elements, OID, Read, SEQUENCE, SET};
use const_oid::ObjectIdentifier;

const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];
/// Tags of a GeneralName.
const RFC_822: u8 = 0x81;
const DNS: u8 = 0x82;
pub(in crate::tpm) const DIRECTORY: u8 = 0xa4;
const UNREADABLE: &str = "a name cannot be read";
/// Maximum length of a displayed name, in characters.
const SHOWN_MAX: usize = 200;

/// One attribute of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tpm) struct Attribute<'a> {
    /// Contents of the OBJECT IDENTIFIER.
    pub(in crate::tpm) kind: &'a [u8],
    value: Element<'a>,
}

impl Attribute<'_> {
    /// The text, in any of the encodings of a DirectoryString; invalid bytes are replaced.
    pub(in crate::tpm) fn text(&self) -> String {
        let wide = |unit: usize| {
            self.value
                .content
                .chunks(unit)
                .map(|c| c.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
        };
        let of = |c| char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER);
        match self.value.tag {
            // TeletexString, which issuers encode as Latin-1.
            0x14 => self.value.content.iter().map(|byte| char::from(*byte)).collect(),
            0x1e => char::decode_utf16(wide(2).map(|c| u16::try_from(c).unwrap_or(0xfffd)))
                .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
            0x1c => wide(4).map(of).collect(),
            _ => String::from_utf8_lossy(self.value.content).into_owned(),
        }
    }

    /// The value to compare: for text, regardless of case, encoding and spaces; otherwise the
    /// bytes.
    fn compared(&self) -> (&[u8], Vec<u8>) {
        let said = match self.value.tag {
            0x0c | 0x13 | 0x14 | 0x16 | 0x1c | 0x1e => {
                let text = self.text().to_lowercase();
                text.split_whitespace().collect::<Vec<_>>().join(" ").into_bytes()
            }
            _ => self.value.whole.to_vec(),
        };
        (self.kind, said)
    }
}

/// The attributes of a name, grouped by RDN.
pub(in crate::tpm) fn parts(name: &[u8]) -> Read<Vec<Vec<Attribute<'_>>>> {
    Elements::new(name).each(SET, UNREADABLE)?.into_iter().map(part).collect()
}

fn part(set: Element<'_>) -> Read<Vec<Attribute<'_>>> {
    Elements::new(set.content).each(SEQUENCE, UNREADABLE)?.into_iter().map(attribute).collect()
}

fn attribute(element: Element<'_>) -> Read<Attribute<'_>> {
    let mut fields = Elements::new(element.content);
    let kind = fields.expect(OID, UNREADABLE)?.content;
    let value = fields.next().and_then(Result::ok).ok_or(UNREADABLE)?;
    fields.end(UNREADABLE)?;
    Ok(Attribute { kind, value })
}

/// Whether two names are the same; an empty name equals no other.
pub(super) fn are_same(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return !a.is_empty();
    }
    match (parts(a), parts(b)) {
        (Ok(a), Ok(b)) => !a.is_empty() && a.len() == b.len() && is_prefix(&a, &b),
        _ => false,
    }
}

fn is_prefix(base: &[Vec<Attribute<'_>>], name: &[Vec<Attribute<'_>>]) -> bool {
    let said = |part: &[Attribute<'_>]| {
        let mut said: Vec<_> =
            part.iter().map(|a| a.compared()).map(|(kind, text)| (kind.to_vec(), text)).collect();
        said.sort();
        said
    };
    base.len() <= name.len() && base.iter().zip(name).all(|(a, b)| said(a) == said(b))
}

/// A name as text, as in `CN=Root 1, O=Somebody`, or as its bytes if it cannot be parsed.
pub(in crate::tpm) fn shown(name: &[u8]) -> String {
    let Ok(parts) = parts(name) else { return hex::encode(name).chars().take(SHOWN_MAX).collect() };
    let part =
        |part: &Vec<Attribute<'_>>| part.iter().map(attribute_shown).collect::<Vec<_>>().join("+");
    parts.iter().map(part).collect::<Vec<_>>().join(", ").chars().take(SHOWN_MAX).collect()
}

fn attribute_shown(attribute: &Attribute<'_>) -> String {
    let kind = match attribute.kind {
        [0x55, 0x04, 3] => "CN".to_owned(),
        [0x55, 0x04, 5] => "serialNumber".to_owned(),
        [0x55, 0x04, 6] => "C".to_owned(),
        [0x55, 0x04, 7] => "L".to_owned(),
        [0x55, 0x04, 8] => "ST".to_owned(),
        [0x55, 0x04, 10] => "O".to_owned(),
        [0x55, 0x04, 11] => "OU".to_owned(),
        other => dotted(other),
    };
    format!("{kind}={}", attribute.text())
}

/// The dotted form of an OBJECT IDENTIFIER's contents, as in `2.5.29.32`.
pub(super) fn dotted(id: &[u8]) -> String {
    ObjectIdentifier::from_bytes(id).map_or_else(|_| hex::encode(id), |id| id.to_string())
}

/// The name constraints of a CA.
#[derive(Debug, Default)]
pub(super) struct Subtrees<'a> {
    permitted: Vec<Element<'a>>,
    excluded: Vec<Element<'a>>,
}

impl<'a> Subtrees<'a> {
    /// The name constraints of a certificate; empty if it has none.
    pub(super) fn of(certificate: &Certificate<'a>) -> Read<Self> {
        const WHAT: &str = "its name constraints cannot be read";
        let Some(value) = certificate.extension(0x1e) else { return Ok(Self::default()) };
        let mut fields = Elements::new(Elements::only(value, SEQUENCE, WHAT)?.content);
        let permitted =
            fields.optional(0xa0, WHAT)?.map(|e| bases(e.content)).transpose()?.unwrap_or_default();
        let excluded =
            fields.optional(0xa1, WHAT)?.map(|e| bases(e.content)).transpose()?.unwrap_or_default();
        fields.end(WHAT)?;
        Ok(Self { permitted, excluded })
    }

    /// Checks that every name of a certificate is permitted and none is excluded. A form of name
    /// that cannot be compared is not permitted, and is excluded.
    pub(super) fn check(&self, certificate: &Certificate<'_>) -> Read<()> {
        if self.permitted.is_empty() && self.excluded.is_empty() {
            return Ok(());
        }
        for (tag, name) in presented(certificate)? {
            let of_form = |base: &&Element<'_>| base.tag == tag;
            let mut permitted = self.permitted.iter().filter(of_form).peekable();
            let is_outside = permitted.peek().is_some()
                && !permitted.any(|base| is_below(base, name).unwrap_or(false));
            if is_outside
                || self
                    .excluded
                    .iter()
                    .filter(of_form)
                    .any(|base| is_below(base, name).unwrap_or(true))
            {
                return Err("a CA above it may not certify its name (name constraints)");
            }
        }
        Ok(())
    }
}

fn bases(content: &[u8]) -> Read<Vec<Element<'_>>> {
    Elements::new(content).each(SEQUENCE, UNREADABLE)?.into_iter().map(base).collect()
}

/// The base of a GeneralSubtree; RFC 5280 does not use its other fields.
fn base(subtree: Element<'_>) -> Read<Element<'_>> {
    let mut fields = Elements::new(subtree.content);
    let base = fields.next().and_then(Result::ok).ok_or(UNREADABLE)?;
    let is_from_zero = fields.optional(0x80, UNREADABLE)?.is_none_or(|e| e.content == [0]);
    fields.end(UNREADABLE)?;
    if is_from_zero { Ok(base) } else { Err(UNREADABLE) }
}

/// Every name of a certificate: tag and contents (for a directory name those of its SEQUENCE).
fn presented<'a>(certificate: &Certificate<'a>) -> Read<Vec<(u8, &'a [u8])>> {
    let mut names = Vec::new();
    for name in certificate.alternative_names()? {
        names.push((name.tag, if name.tag == DIRECTORY { directory(name)? } else { name.content }));
    }
    if !certificate.subject.is_empty() {
        names.push((DIRECTORY, certificate.subject));
        let emails =
            parts(certificate.subject)?.into_iter().flatten().filter(|a| a.kind == EMAIL_ADDRESS);
        names.extend(emails.map(|a| (RFC_822, a.value.content)));
    }
    Ok(names)
}

/// The contents of the Name in a GeneralName.
pub(in crate::tpm) fn directory(name: Element<'_>) -> Read<&[u8]> {
    Ok(Elements::only(name.content, SEQUENCE, "a directory's name cannot be read")?.content)
}

/// `None` for a form that cannot be compared.
fn is_below(base: &Element<'_>, name: &[u8]) -> Option<bool> {
    match base.tag {
        DIRECTORY => Some(is_prefix(&parts(directory(*base).ok()?).ok()?, &parts(name).ok()?)),
        DNS => {
            let (base, name) = (base.content.to_ascii_lowercase(), name.to_ascii_lowercase());
            let rest = name.strip_suffix(base.as_slice());
            Some(rest.is_some_and(|rest| {
                base.is_empty() || rest.is_empty() || rest.ends_with(b".") || base.starts_with(b".")
            }))
        }
        _ => None,
    }
}
