//! What user space measured (systemd's log, `/run/log/systemd/tpm2-measure.log`: a sequence of JSON
//! texts, RFC 7464, close to the TCG "Canonical Event Log"). Nobody vouches for it either: it
//! counts once it is replayed.

use super::log::{Registers, extended, sha_256};
use crate::tpm::Unreadable;
use fleeti_core::strict;
use serde::{Deserialize, Serialize};

const WHAT: &str = "the log of user space";
/// Bytes of the largest log: some two hundred records.
pub const BYTES_MAX: usize = 32 * 1024;
/// Longest words that are shown.
const WORDS_MAX: usize = 128;
/// What user space extends (UAPI "Linux TPM PCR Registry"): the kernel image's, its own identity.
const REGISTERS: [u8; 2] = [11, 15];
/// Begins each record (RFC 7464, 2.1).
const RECORD_SEPARATOR: char = '\u{1e}';

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// Into which register.
    pub register: u8,
    /// What it was extended by, SHA-256.
    pub digest: [u8; 32],
    /// The words whose digest it is; `None` where the record does not show what was measured.
    pub words: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    pcr: u8,
    digests: Vec<RecordDigest>,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Serialize, Deserialize)]
struct RecordDigest {
    #[serde(rename = "hashAlg")]
    algorithm: String,
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct Content {
    #[serde(default)]
    string: Option<String>,
}

/// Reads a log.
///
/// # Errors
/// [`Unreadable`] for anything but whole records with one SHA-256 digest each.
pub fn parse(bytes: &[u8]) -> Result<Vec<Measurement>, Unreadable> {
    let wrong = |detail| Unreadable::Wrong { what: WHAT, detail };
    if bytes.len() > BYTES_MAX {
        return Err(Unreadable::TooLong { what: WHAT, length: bytes.len(), max: BYTES_MAX });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is no text"))?;
    let mut records = text.split(RECORD_SEPARATOR);
    if records.next().is_some_and(|before| !before.is_empty()) {
        return Err(wrong("it does not begin with a record"));
    }
    let mut measurements = Vec::new();
    for record in records {
        let record: Record = strict::from_slice(record.as_bytes())
            .map_err(|_| wrong("a record is not one of systemd's"))?;
        let mut found = record.digests.iter().filter(|d| d.algorithm == "sha256");
        let (Some(digest), None) = (found.next(), found.next()) else {
            return Err(wrong("a record has no one SHA-256 digest"));
        };
        let mut measured = [0; 32];
        hex::decode_to_slice(&digest.digest, &mut measured)
            .map_err(|_| wrong("a digest is none"))?;
        let words = record.content.and_then(|c| c.string);
        // What a record shows counts only where it is what was measured.
        let words = words.filter(|w| {
            w.len() <= WORDS_MAX && w.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
        });
        let words = words.filter(|w| sha_256(&[w.as_bytes()]) == measured);
        // Firmware's registers are firmware's: what its log does not tell nobody else may tell
        // instead.
        if !REGISTERS.contains(&record.pcr) {
            return Err(wrong("a record is of a register that user space does not extend"));
        }
        measurements.push(Measurement { register: record.pcr, digest: measured, words });
    }
    Ok(measurements)
}

/// What `registers` hold after all of it.
pub fn replay(registers: &mut Registers, measurements: &[Measurement]) {
    for measurement in measurements {
        let register = registers.entry(measurement.register).or_insert([0; 32]);
        *register = extended(register, &measurement.digest);
    }
}
