//! Names of entries, made from names of files and interfaces.

/// A label of letters, digits and `-`, made from a text; `fallback` if nothing is left of it.
pub(crate) fn label(text: &str, fallback: &str) -> String {
    let label: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .skip_while(|c| *c == '-')
        .take(48)
        .collect();
    if label.is_empty() { fallback.to_owned() } else { label }
}

/// The label, or the label with the first number that makes it one that is not taken.
pub(crate) fn unused(label: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2_u32..).map(|number| format!("{label}-{number}"));
    let mut names = std::iter::once(label.to_owned()).chain(numbered);
    names.find(|name| !is_taken(name)).unwrap_or_else(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_made_of_any_text_and_is_not_taken() {
        assert_eq!(label("..eth0.10", "x"), "eth0-10");
        assert_eq!(label("\u{202e}", "x"), "x");
        assert_eq!(unused("a", |name| ["a", "a-2"].contains(&name)), "a-3");
    }
}
