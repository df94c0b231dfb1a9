//! OEM strings of SMBIOS (DSP0134, 7.12).

/// The OEM string (type 11) that starts with `prefix`, without the prefix.
pub fn oem_string(table: &[u8], prefix: &str) -> Option<String> {
    const OEM_STRINGS: u8 = 11;
    let mut at = 0;
    while at + 4 <= table.len() {
        let (kind, length) = (table[at], usize::from(table[at + 1]));
        if length < 4 {
            return None;
        }
        let strings = table.get(at + length..)?;
        // The strings of a structure end with two NULs.
        let end = strings.windows(2).position(|w| w == [0, 0])?;
        if kind == OEM_STRINGS {
            let texts = strings[..end].split(|b| *b == 0);
            let found = texts
                .filter_map(|t| std::str::from_utf8(t).ok())
                .find_map(|t| t.strip_prefix(prefix));
            if let Some(text) = found {
                return Some(text.to_owned());
            }
        }
        at += length + end + 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_string_is_found_among_other_structures() {
        let mut table = vec![1, 4, 0, 0, b'x', 0, 0];
        table.extend([11, 5, 1, 0, 2]);
        table.extend(b"other=1\0fleeti.enrollment=abc\0\0");
        assert_eq!(oem_string(&table, "fleeti.enrollment=").as_deref(), Some("abc"));
        assert_eq!(oem_string(&table, "nothing="), None);
    }

    #[test]
    fn a_truncated_table_ends_the_search() {
        let table = [11u8, 5, 1, 0, 1, b'f', b'l'];
        for n in 0..table.len() {
            assert_eq!(oem_string(&table[..n], "fl"), None);
        }
        assert_eq!(oem_string(&[11, 0, 0, 0, 0, 0], "x"), None);
    }
}
