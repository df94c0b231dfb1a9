//! Shows untrusted text in a terminal or a log.
//!
//! Devices, servers and build records contain text that their author chose. A line feed can forge a
//! log line, an escape sequence can repaint a terminal, and a bidirectional override can show a
//! name in another order. Only this module makes such text harmless, and `cargo xtask tidy` checks
//! that other code uses it.

use std::fmt::{self, Debug, Display, Write};

/// Default number of characters of untrusted text in a log line.
pub const LOG_CHARS_MAX: usize = 200;

/// Displays untrusted text safely. Control characters, line separators, and invisible or
/// direction-changing characters are written as `\u{..}`, a backslash as `\\`. A text of more than
/// `chars_max` characters is cut and ends with `…`.
///
/// ```
/// use fleeti_core::foreign::Foreign;
/// assert_eq!(Foreign::new("kiosk\n\u{1b}[2J", 20).to_string(), "kiosk\\n\\u{1b}[2J");
/// assert_eq!(Foreign::new("abcdef", 3).to_string(), "abc…");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Foreign<'a> {
    text: &'a str,
    chars_max: usize,
}

impl<'a> Foreign<'a> {
    /// Shows at most `chars_max` characters of `text`, counted before escaping.
    #[must_use]
    pub const fn new(text: &'a str, chars_max: usize) -> Self {
        Self { text, chars_max }
    }

    /// Shows at most [`LOG_CHARS_MAX`] characters, for a log line.
    #[must_use]
    pub const fn log(text: &'a str) -> Self {
        Self::new(text, LOG_CHARS_MAX)
    }
}

impl Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, c) in self.text.chars().enumerate() {
            if at == self.chars_max {
                return f.write_char('…');
            }
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' | '\r' | '\t' => write!(f, "{}", c.escape_default())?,
                c if is_hidden(c) => write!(f, "{}", c.escape_unicode())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Largest number of characters in one field of a log line.
const FIELD_CHARS_MAX: usize = 600;

/// Formats one field of a log event, for `debug_fn` of tracing-subscriber. No value can begin a new
/// line, move the cursor, or be longer than 600 characters. Server, signing service and agent write
/// all log fields with this function.
///
/// ```
/// let mut line = String::new();
/// fleeti_core::foreign::log_field(&mut line, "device", &"a\u{1b}[2J\nb").unwrap();
/// assert!(!line.contains(['\u{1b}', '\n']));
/// ```
///
/// # Errors
/// If writing to `out` fails.
pub fn log_field(out: &mut dyn Write, name: &str, value: &dyn Debug) -> fmt::Result {
    let mut text = Cut { text: String::new(), left: FIELD_CHARS_MAX + 1 };
    // The writer returns an error when the length limit is reached.
    write!(text, "{value:?}").ok();
    let text = Foreign::new(&text.text, FIELD_CHARS_MAX);
    match name {
        "message" => write!(out, "{text}"),
        // Fields that the `log` crate adds about itself.
        name if name.starts_with("log.") => Ok(()),
        name => write!(out, " {name}={text}"),
    }
}

/// A writer that stops after a number of characters.
struct Cut {
    text: String,
    left: usize,
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(c);
        }
        Ok(())
    }
}

/// Makes a JSON document safe for a terminal: hidden characters, which JSON allows in strings, are
/// written as `\\uXXXX`. The document keeps its meaning. Line feeds stay, because a document has
/// them only between values.
///
/// ```
/// use fleeti_core::foreign::json;
/// assert_eq!(json("{\"name\": \"a\u{9b}1A\"}"), "{\"name\": \"a\\u009b1A\"}");
/// ```
#[must_use]
pub fn json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        if c == '\n' || !is_hidden(c) {
            shown.push(c);
        } else {
            let mut units = [0; 2];
            shown.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    shown
}

/// Makes a TOML document safe for a terminal: hidden characters other than line feeds and tabs are
/// written as `\\uXXXX` or `\\UXXXXXXXX`, which is their escape in basic strings.
///
/// ```
/// use fleeti_core::foreign::toml;
/// assert_eq!(toml("a = \"x\u{9b}1A\"\n"), "a = \"x\\u009b1A\"\n");
/// ```
#[must_use]
pub fn toml(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        match u32::from(c) {
            _ if matches!(c, '\n' | '\t') || !is_hidden(c) => shown.push(c),
            code if code <= 0xffff => shown.push_str(&format!("\\u{code:04x}")),
            code => shown.push_str(&format!("\\U{code:08x}")),
        }
    }
    shown
}

/// Whether a reader cannot see a character, or it changes how others are shown: controls (Unicode
/// category Cc), line and paragraph separators, format characters (the zero-width and bidirectional
/// ones of UAX #9), tags, and variation selectors.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_of_a_log_line_moves_the_cursor_or_is_longer_than_its_limit() {
        let shown = |name: &str, value: &dyn Debug| {
            let mut line = String::new();
            log_field(&mut line, name, value).unwrap();
            line
        };
        let evil = "x\u{1b}[2J\u{9b}1A\nerror: all is well\u{202e}";
        for line in [
            shown("message", &format_args!("it says {evil}")),
            shown("device", &format_args!("{evil}")),
            shown("why", &evil),
        ] {
            assert!(
                !line.chars().any(is_hidden) && line.contains("error: all is well"),
                "{line:?}"
            );
        }
        assert!(
            shown("device", &format_args!("a")).starts_with(" device=a")
                && shown("log.target", &1).is_empty()
        );
        assert_eq!(
            shown("message", &format_args!("{}", "a".repeat(FIELD_CHARS_MAX + 9))).chars().count(),
            FIELD_CHARS_MAX + 1
        );
    }

    #[test]
    fn foreign_text_cannot_begin_a_line_or_move_the_cursor() {
        for c in (0..=0x9f).filter_map(char::from_u32).filter(|c| c.is_control()).chain([
            '\u{2028}',
            '\u{202e}',
            '\u{200b}',
            '\u{e0041}',
        ]) {
            let shown = Foreign::log(&format!("a{c}b")).to_string();
            assert!(
                !shown.contains(c) && shown.starts_with("a\\") && shown.ends_with('b'),
                "{shown:?}"
            );
        }
    }

    #[test]
    fn an_escape_in_the_input_differs_from_one_that_this_module_made() {
        assert_ne!(Foreign::log("\\n").to_string(), Foreign::log("\n").to_string());
    }

    #[test]
    fn a_json_document_hides_nothing_and_means_the_same() {
        let value = serde_json::json!({"name\u{202e}": "a\u{9b}\u{7f}\u{e0041}\n\u{1b}b", "n": [1, "東京"]});
        let shown = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!shown.chars().any(|c| c != '\n' && is_hidden(c)), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn ordinary_text_stays_as_it_is_and_long_text_is_cut() {
        assert_eq!(Foreign::log("Zürich, 東京").to_string(), "Zürich, 東京");
        assert_eq!(
            Foreign::log(&"x".repeat(LOG_CHARS_MAX + 1)).to_string().chars().count(),
            LOG_CHARS_MAX + 1
        );
    }
}
