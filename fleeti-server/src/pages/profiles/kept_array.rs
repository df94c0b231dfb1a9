//! A list in brackets, taken apart: each entry with the comments that are about it.
//!
//! A comment on the line of an entry is about this entry, also if it stands after the comma, where
//! the document has it as a part of what follows.

use super::kept_made::on_lines;
use toml_edit::{Array, RawString, Value};

/// An entry of a list.
pub struct Element {
    /// White space and comments before it.
    before: String,
    pub value: Value,
    /// The comment on its line.
    after: String,
}

/// A list in brackets.
pub struct Parts {
    /// What stands on the line of the opening bracket.
    head: String,
    pub elements: Vec<Element>,
    /// What stands before the closing bracket.
    end: String,
    /// What stands before an entry on a line of its own; `None` if the list is on one line.
    indent: Option<String>,
}

impl Parts {
    /// Takes the entries out of a list.
    pub fn take(array: &mut Array) -> Self {
        let taken = std::mem::take(array);
        *array.decor_mut() = taken.decor().clone();
        array.set_trailing_comma(taken.trailing_comma());
        let mut end = text(Some(taken.trailing()));
        let mut parts =
            Self { head: String::new(), elements: Vec::new(), end: String::new(), indent: None };
        let last = taken.len().saturating_sub(1);
        for (at, mut value) in taken.into_iter().enumerate() {
            let before = text(value.decor().prefix());
            let after = text(value.decor().suffix());
            value.decor_mut().clear();
            let before = parts.give_back(before);
            let (after, rest) = on_its_line(after);
            // What follows the last entry, when no comma does; elsewhere a comment of its own.
            if at == last || rest.contains('#') {
                end = rest + &end;
            }
            parts.elements.push(Element { before, value, after });
        }
        parts.end = parts.give_back(end);
        let own_line = parts.elements.iter().find_map(|element| element.before.rsplit_once('\n'));
        parts.indent = own_line.map(|(_, spaces)| format!("\n{spaces}"));
        parts
    }

    /// Gives the comment on the line before to what it is about, and returns the rest.
    fn give_back(&mut self, text: String) -> String {
        let (comment, rest) = on_its_line(text);
        match self.elements.last_mut() {
            Some(element) => element.after.push_str(&comment),
            None => self.head.push_str(&comment),
        }
        rest
    }

    /// An entry in the style of the list.
    pub fn new_element(&self, value: Value) -> Element {
        let before = self.indent.clone().unwrap_or_default();
        Element { before, value, after: String::new() }
    }

    /// Puts the entries back.
    pub fn put(self, array: &mut Array) {
        let was_on_one_line = self.indent.is_none() && !self.end.contains('\n');
        let mut is_after_comment = self.head.contains('#');
        let mut line = self.head;
        for (at, Element { before, mut value, after }) in self.elements.into_iter().enumerate() {
            if is_after_comment && !before.contains('\n') {
                line.push('\n');
            }
            if before.is_empty() && at > 0 {
                line.push(' ');
            }
            line.push_str(if at == 0 && self.indent.is_none() {
                before.trim_start_matches(' ')
            } else {
                &before
            });
            value.decor_mut().set_prefix(std::mem::take(&mut line));
            is_after_comment = after.contains('#');
            line = after;
            array.push_formatted(value);
        }
        if is_after_comment && !self.end.contains('\n') {
            line.push('\n');
        }
        line.push_str(&self.end);
        // A comment before the closing bracket needs a comma after the last entry.
        if line.contains('#') && !array.is_empty() {
            array.set_trailing_comma(true);
        }
        array.set_trailing(line);
        if was_on_one_line {
            on_lines(array);
        }
    }
}

fn text(raw: Option<&RawString>) -> String {
    raw.and_then(RawString::as_str).unwrap_or_default().to_owned()
}

/// The comment on the line of what comes before, and the rest.
fn on_its_line(text: String) -> (String, String) {
    let end = text.find('\n').unwrap_or(text.len());
    if text[..end].contains('#') {
        (text[..end].to_owned(), text[end..].to_owned())
    } else {
        (String::new(), text)
    }
}
