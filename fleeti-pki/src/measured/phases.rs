//! What user space measured (systemd's log, `/run/log/systemd/tpm2-measure.log`: a sequence of JSON
//! texts, RFC 7464, close to the TCG "Canonical Event Log"). It is not authenticated either: it
//! counts only once it is replayed.

use super::log::{Pcrs, extended, sha_256};
use crate::tpm::Unreadable;
use fleeti_core::strict;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

const WHAT: &str = "the user-space event log";
/// Maximum size of a log in bytes: some two hundred records.
pub const BYTES_MAX: usize = 32 * 1024;
/// Maximum length of text that is shown.
const WORDS_MAX: usize = 128;
/// PCRs that user space extends (UAPI "Linux TPM PCR Registry"): UKI and boot phases, system
/// identity.
const PCRS: [u8; 2] = [11, 15];
/// Starts each record (RFC 7464, 2.1).
const RECORD_SEPARATOR: char = '\u{1e}';

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// The PCR.
    pub pcr: u8,
    /// The SHA-256 digest by which it was extended.
    pub digest: [u8; 32],
    /// The text that was measured; `None` if the record does not show it.
    pub words: Option<String>,
}

/// A record with all that systemd writes, in its order: so it is in the form in which it would be
/// written again, and need not be read a second time to compare shapes. What is not used may be
/// anything.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    pcr: u8,
    #[serde(borrow)]
    digests: Vec<RecordDigest<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
}

#[derive(Serialize, Deserialize)]
struct RecordDigest<'a> {
    #[serde(rename = "hashAlg", borrow)]
    algorithm: Cow<'a, str>,
    #[serde(borrow)]
    digest: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    string: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_id: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event_type: Option<Value>,
}

/// Parses a log.
///
/// # Errors
/// [`Unreadable`] for anything but complete records with one SHA-256 digest each.
pub fn parse(bytes: &[u8]) -> Result<Vec<Measurement>, Unreadable> {
    let wrong = |detail| Unreadable::Wrong { what: WHAT, detail };
    if bytes.len() > BYTES_MAX {
        return Err(Unreadable::TooLong { what: WHAT, length: bytes.len(), max: BYTES_MAX });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
    let mut records = text.split(RECORD_SEPARATOR);
    if records.next().is_some_and(|before| !before.is_empty()) {
        return Err(wrong("it does not start with a record separator"));
    }
    let mut measurements = Vec::new();
    for record in records {
        let record = record.strip_suffix('\n').unwrap_or(record);
        let record: Record<'_> = strict::from_slice(record.as_bytes())
            .map_err(|_| wrong("a record is not in systemd's format"))?;
        let mut found = record.digests.iter().filter(|d| d.algorithm == "sha256");
        let (Some(digest), None) = (found.next(), found.next()) else {
            return Err(wrong("a record does not have exactly one SHA-256 digest"));
        };
        let mut measured = [0; 32];
        // The decoder would accept `0x` before the digits.
        let digits = Some(digest.digest.as_bytes()).filter(|digits| digits.len() == 64);
        digits
            .and_then(|digits| const_hex::decode_to_slice(digits, &mut measured).ok())
            .ok_or_else(|| wrong("a digest is not 64 hexadecimal digits"))?;
        let words = record.content.and_then(|c| c.string);
        // The text of a record counts only if its digest is the one measured.
        let words = words.filter(|w| {
            w.len() <= WORDS_MAX && w.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
        });
        let words = words.filter(|w| sha_256(&[w.as_bytes()]) == measured);
        // The firmware log alone explains the PCRs of the firmware.
        if !PCRS.contains(&record.pcr) {
            return Err(wrong("a record is for a PCR that user space does not extend"));
        }
        measurements.push(Measurement { pcr: record.pcr, digest: measured, words });
    }
    Ok(measurements)
}

/// Extends `pcrs` by all measurements.
pub fn replay(pcrs: &mut Pcrs, measurements: &[Measurement]) {
    for measurement in measurements {
        let pcr = pcrs.entry(measurement.pcr).or_insert([0; 32]);
        *pcr = extended(pcr, &measurement.digest);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const LOG: &str = include_str!("../../tests/fixtures/measured/ovmf-2022.11-systemd-257.phases");

    #[test]
    fn a_record_of_systemd_is_in_the_form_in_which_it_would_be_written() {
        let records: Vec<_> = LOG.split(RECORD_SEPARATOR).skip(1).collect();
        assert_eq!(records.len(), 5);
        for record in records {
            let record = record.strip_suffix('\n').unwrap();
            strict::from_canonical::<Record<'_>>(record.as_bytes()).unwrap();
        }
    }

    #[test]
    fn what_is_not_used_of_a_record_may_be_anything_but_written_twice() {
        let read = parse(LOG.as_bytes()).unwrap();
        for other in [
            LOG.replace(r#","content_type":"systemd""#, ""),
            LOG.replace(r#""content_type":"systemd""#, r#""content_type":[1,{"a":null}]"#),
            LOG.replace(r#""timestamp":"#, r#""more":{"a":1},"timestamp":-"#),
            LOG.replace(r#""bootId""#, r#""otherId""#),
            LOG.replace('\n', ""),
            LOG.replace('\n', " \n\n"),
        ] {
            assert_ne!(other, LOG);
            assert_eq!(parse(other.as_bytes()).unwrap(), read, "{other}");
        }
        for twice in [
            LOG.replace(r#""content_type":"systemd""#, r#""content_type":{"a":1,"a":1}"#),
            LOG.replace(r#""eventType""#, r#""timestamp""#),
            LOG.replace(r#""pcr":11"#, r#""pcr":11,"other":1,"other":2"#),
        ] {
            parse(twice.as_bytes()).unwrap_err();
        }
    }
}
