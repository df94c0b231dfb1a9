//! What a change expects of the object that it replaces (RFC 9110, 13.1), so that nobody overwrites
//! a change that they have not seen. The expectation is checked in the transaction of the change.

use crate::error::Error;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::problem::Code;
use serde::Serialize;

/// Length of a tag, characters.
const TAG_LENGTH: usize = 32;
/// Maximum number of tags in a request.
pub const TAGS_MAX: usize = 16;

/// What must be there for a change to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Expected {
    /// Whatever is there.
    #[default]
    Anything,
    /// Some object.
    Present,
    /// No object.
    Absent,
    /// An object with one of these tags.
    Tags(Vec<String>),
}

/// The tag of an object: another one as soon as its JSON differs.
///
/// # Errors
/// If it has no JSON.
pub fn tag(object: &impl Serialize) -> Result<String, Error> {
    let mut digest = sha256_hex(&serde_json::to_vec(object)?);
    digest.truncate(TAG_LENGTH);
    Ok(digest)
}

impl Expected {
    /// The expectation of a form of the pages, which has the tag of what it showed; an empty one
    /// expects nothing.
    #[must_use]
    pub fn of_form(tag: &str) -> Self {
        if tag.is_empty() { Self::Anything } else { Self::Tags(vec![tag.to_owned()]) }
    }

    /// Checks what is there now.
    ///
    /// # Errors
    /// [`Code::PreconditionFailed`].
    pub fn check(&self, now: Option<&impl Serialize>) -> Result<(), Error> {
        let is_met = match (self, now) {
            (Self::Anything, _) | (Self::Present, Some(_)) | (Self::Absent, None) => true,
            (Self::Tags(tags), Some(object)) => tags.contains(&tag(object)?),
            (Self::Present | Self::Tags(_), None) | (Self::Absent, Some(_)) => false,
        };
        if is_met {
            return Ok(());
        }
        let (text, hint) = match now {
            Some(_) if *self == Self::Absent => {
                ("it exists already", "read it, and send its ETag as If-Match to replace it")
            }
            Some(_) => (
                "another change was made since it was read; nothing has changed now",
                "read it again, and make the change in what is there now; the API takes the new ETag as If-Match",
            ),
            None => ("it does not exist", "send the request without If-Match to make it"),
        };
        Err(Error::new(Code::PreconditionFailed, text).hint(hint))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_expected_is_replaced() {
        let (one, other) = (tag(&"one").unwrap(), tag(&"other").unwrap());
        assert_eq!(one.len(), TAG_LENGTH);
        assert_ne!(one, other);
        let none: Option<&&str> = None;
        let both = Expected::Tags(vec![other.clone(), one.clone()]);
        for (expected, now, is_met) in [
            (Expected::Anything, none, true),
            (Expected::Anything, Some(&"one"), true),
            (Expected::Present, Some(&"one"), true),
            (Expected::Present, none, false),
            (Expected::Absent, none, true),
            (Expected::Absent, Some(&"one"), false),
            (Expected::Tags(vec![one.clone()]), Some(&"one"), true),
            (Expected::Tags(vec![one.clone()]), Some(&"other"), false),
            (Expected::Tags(vec![one]), none, false),
            (both, Some(&"one"), true),
            (Expected::Tags(vec![]), Some(&"one"), false),
        ] {
            let checked = expected.check(now);
            assert_eq!(checked.is_ok(), is_met, "{expected:?} {now:?}");
            let code = checked.err().map(|e| e.code());
            assert_eq!(code, (!is_met).then_some(Code::PreconditionFailed));
        }
    }
}
