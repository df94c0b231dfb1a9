//! Canonical JSON: exactly one byte string for a value, so that it can be hashed and signed.
//!
//! This is the subset of RFC 8785 (JCS) that Fleeti uses: objects with sorted keys, no white space,
//! integers only. Numbers with a fraction are refused, because their text is not unique. Keys are
//! sorted by code point, which is RFC 8785's order for keys without characters above U+FFFF; those
//! of Fleeti are ASCII.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// Why a value has no canonical form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CanonicalError {
    /// A number with a fraction or an exponent.
    #[error("number {0} is not an integer and has no canonical form")]
    NotAnInteger(serde_json::Number),
    /// The value could not be turned into JSON.
    #[error("not representable as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The canonical bytes of `value`.
///
/// # Errors
/// [`CanonicalError`] when the value holds a non-integer number or does not serialise.
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    // INVARIANT: serde_json's map is a BTreeMap (feature `preserve_order` is off), so keys are
    // sorted.
    let value = serde_json::to_value(value)?;
    refuse_fractions(&value)?;
    Ok(serde_json::to_vec(&value)?)
}

/// Lower-case hexadecimal SHA-256 of `bytes`.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    const_hex::encode(Sha256::digest(bytes))
}

/// Whether a text has the form that [`sha256_hex`] returns.
#[must_use]
pub fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn refuse_fractions(value: &serde_json::Value) -> Result<(), CanonicalError> {
    use serde_json::Value;
    match value {
        Value::Number(n) if !n.is_i64() && !n.is_u64() => {
            Err(CanonicalError::NotAnInteger(n.clone()))
        }
        Value::Array(items) => items.iter().try_for_each(refuse_fractions),
        Value::Object(map) => map.values().try_for_each(refuse_fractions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_white_space_is_gone() {
        let v = serde_json::json!({"b": 1, "a": [true, null, "x"]});
        assert_eq!(to_vec(&v).unwrap(), br#"{"a":[true,null,"x"],"b":1}"#);
    }

    #[test]
    fn a_fraction_has_no_canonical_form() {
        assert!(matches!(to_vec(&0.5f64), Err(CanonicalError::NotAnInteger(_))));
    }
}
