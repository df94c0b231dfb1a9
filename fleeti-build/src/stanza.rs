//! Stanzas of control files (deb822(5)).

use std::collections::BTreeMap;

/// Fields by name. A value that continues on further lines is one line here.
pub(crate) type Stanza = BTreeMap<String, String>;

/// Reads all stanzas of a text.
pub(crate) fn read(text: &str) -> Vec<Stanza> {
    let mut stanzas = vec![Stanza::new()];
    let mut last = None::<String>;
    for line in text.lines() {
        let Some(stanza) = stanzas.last_mut() else { break };
        if line.trim().is_empty() {
            if !stanza.is_empty() {
                stanzas.push(Stanza::new());
            }
            last = None;
        } else if line.starts_with([' ', '\t']) {
            if let Some(value) = last.as_ref().and_then(|name| stanza.get_mut(name)) {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            stanza.insert(name.to_owned(), value.trim().to_owned());
            last = Some(name.to_owned());
        }
    }
    stanzas.retain(|stanza| !stanza.is_empty());
    stanzas
}

/// A field, or nothing.
pub(crate) fn field<'a>(stanza: &'a Stanza, name: &str) -> &'a str {
    stanza.get(name).map_or("", String::as_str)
}

/// Names of all packages in relations such as `libc6:any (>= 2.38) | libc7, b`.
pub(crate) fn related(relations: &str) -> impl Iterator<Item = &str> {
    relations.split([',', '|']).filter_map(|relation| {
        let name = relation.trim().split([' ', '(', '[', ':']).next()?;
        (!name.is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_continues_is_whole() {
        let found =
            read("\nPackage: a\nDepends: b,\n c (>= 1) | d:any\n\n\nPackage: e\n lost\nX\n");
        assert_eq!(found.len(), 2);
        let names: Vec<_> = related(field(&found[0], "Depends")).collect();
        assert_eq!(names, ["b", "c", "d"]);
        assert_eq!((field(&found[1], "Package"), field(&found[1], "X")), ("e lost", ""));
    }
}
