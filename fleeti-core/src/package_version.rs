//! The order of versions of Debian packages (Debian Policy 5.6.12).
//!
//! ```
//! use fleeti_core::package_version::compare;
//! use std::cmp::Ordering;
//! assert_eq!(compare("1.26.3-3+deb13u2", "1.26.3-3+deb13u10"), Ordering::Less);
//! assert_eq!(compare("1:1.0", "2.0"), Ordering::Greater);
//! assert_eq!(compare("1.0~rc1", "1.0"), Ordering::Less);
//! ```

use std::cmp::Ordering;

/// Compares two versions as dpkg does. Every text has a place in the order.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let ((epoch_a, a), (epoch_b, b)) = (epoch(a), epoch(b));
    let ((upstream_a, revision_a), (upstream_b, revision_b)) = (revision(a), revision(b));
    number(epoch_a, epoch_b)
        .then_with(|| part(upstream_a, upstream_b))
        .then_with(|| part(revision_a, revision_b))
}

fn epoch(version: &str) -> (&str, &str) {
    version.split_once(':').unwrap_or(("0", version))
}

fn revision(version: &str) -> (&str, &str) {
    version.rsplit_once('-').unwrap_or((version, ""))
}

/// Compares numbers of any length.
fn number(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Splits a text after the digits at its start, or after the other characters at its start.
fn split(text: &str, is_digits: bool) -> (&str, &str) {
    let end = text.bytes().position(|b| b.is_ascii_digit() != is_digits);
    // A digit is one byte, so the end is never inside a character.
    text.split_at(end.unwrap_or(text.len()))
}

/// Compares upstream versions or revisions: texts and numbers in turns.
fn part(mut a: &str, mut b: &str) -> Ordering {
    while !(a.is_empty() && b.is_empty()) {
        let ((text_a, rest_a), (text_b, rest_b)) = (split(a, false), split(b, false));
        let ((number_a, rest_a), (number_b, rest_b)) = (split(rest_a, true), split(rest_b, true));
        let order = text(text_a, text_b).then_with(|| number(number_a, number_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

/// Compares texts: `~` before the end, the end before letters, letters before all else.
fn text(a: &str, b: &str) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    let (a, b) = (a.as_bytes(), b.as_bytes());
    (0..a.len().max(b.len()))
        .map(|i| weight(a.get(i)).cmp(&weight(b.get(i))))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_have_the_order_of_dpkg() {
        let ascending = [
            "1.0~~",
            "1.0~~a",
            "1.0~",
            "1.0",
            "1.0-1~bpo13+1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1+deb13u2",
            "1.0-1+deb13u10",
            "1.0-2",
            "1.0a",
            "1.0b",
            "1.0+x",
            "1.0.1",
            "1.9",
            "1.10",
            "1:0.1",
            "2:0",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} {b}");
            }
        }
        for (a, b) in [("0:1", "1"), ("1.0-0", "1.0"), ("1.00", "1.0"), ("1.01", "1.1"), ("", "0")]
        {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_one(a in "[0-9a-z~+.:-]{0,12}|\\PC{0,6}", b in "[0-9a-z~+.:-]{0,12}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
        }
    }
}
