//! What the editor posts: its form, or the text of the document.

use super::document;
use super::read::{Fields, FormError, one, read};
use serde_json::Value;

/// What the user edits.
pub enum Posted {
    /// The form: what the profile itself says, and the text that the form was made from.
    Form { value: Value, source: String },
    /// The text view.
    Text(String),
}

impl Posted {
    /// Reads a form.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn read(fields: &Fields) -> Result<Self, FormError> {
        let lines = |name: &str| one(fields, name).unwrap_or_default().replace("\r\n", "\n");
        if one(fields, "in") == Some("text") {
            return Ok(Self::Text(lines("text")));
        }
        Ok(Self::Form { value: read(fields)?, source: lines("source") })
    }

    /// The document.
    ///
    /// # Errors
    /// [`FormError::Toml`].
    pub fn text(&self) -> Result<String, FormError> {
        match self {
            Self::Form { value, source } => Ok(document::kept_or_written(value, source)?),
            Self::Text(text) => Ok(text.clone()),
        }
    }
}
