//! Parses `Range` headers (RFC 9110, 14.1.2 and 14.2).

use std::ops;

/// Maximum number of ranges; a header with more gets the whole file.
const RANGES_MAX: usize = 16;

/// What to send.
#[derive(Debug, PartialEq, Eq)]
pub enum Range {
    /// The whole file: the header has several satisfiable ranges, another unit, or is invalid.
    Whole,
    /// One part, never empty.
    Part(ops::Range<u64>),
    /// The file has none of these bytes.
    Unsatisfiable,
}

/// Parses a `Range` header for a file of `size` bytes.
#[must_use]
pub fn of(header: &str, size: u64) -> Range {
    let Some((unit, ranges)) = header.split_once('=') else { return Range::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.split(',').count() > RANGES_MAX {
        return Range::Whole;
    }
    let Some(ranges) = ranges.split(',').map(|r| one(r.trim(), size)).collect::<Option<Vec<_>>>()
    else {
        return Range::Whole;
    };
    let mut there = ranges.into_iter().filter(|r| !r.is_empty());
    match (there.next(), there.next()) {
        (None, _) => Range::Unsatisfiable,
        (Some(part), None) => Range::Part(part),
        (Some(_), Some(_)) => Range::Whole,
    }
}

/// Parses `first-last`, `first-` or `-suffix length`. Returns an empty range if the file has none
/// of these bytes, and `None` for an invalid range.
fn one(text: &str, size: u64) -> Option<ops::Range<u64>> {
    // A number beyond `u64` is larger than every file.
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = text.split_once('-')?;
    if first.is_empty() {
        return Some(size.saturating_sub(number(last)?)..size);
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some(first.min(size)..last.saturating_add(1).min(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_sent_and_what_is_no_range_is_not_looked_at() {
        use Range::{Part, Unsatisfiable, Whole};
        for (header, sent) in [
            ("bytes=0-9", Part(0..10)),
            ("Bytes=0-9", Part(0..10)),
            ("bytes=90-", Part(90..100)),
            ("bytes=90-1000", Part(90..100)),
            ("bytes=-10", Part(90..100)),
            ("bytes=-1000", Part(0..100)),
            ("bytes=0-99", Part(0..100)),
            ("bytes=99-99999999999999999999999", Part(99..100)),
            ("bytes=200-300, 5-6", Part(5..7)),
            ("bytes=100-", Unsatisfiable),
            ("bytes=100-200", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=0-1,5-6", Whole),
            ("bytes=9-0", Whole),
            ("bytes=5", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=a-b", Whole),
            ("bytes", Whole),
            ("", Whole),
            ("items=0-1", Whole),
            ("bytes=0-1,items", Whole),
        ] {
            assert_eq!(of(header, 100), sent, "{header}");
        }
        assert_eq!(of("bytes=0-", 0), Unsatisfiable, "an empty file has no bytes");
        assert_eq!(of(&format!("bytes={}", "0-1,".repeat(1000)), 100), Whole);
    }
}
