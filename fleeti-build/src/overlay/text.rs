//! How values are written into files of systemd.

/// A word of a unit file, quoted, with `%` as itself (systemd.syntax(7), systemd.unit(5)).
pub(super) fn word(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

/// A word of a command line in a unit file: as [`word`], with `$` as itself as well
/// (systemd.service(5)).
pub(super) fn command_word(value: &str) -> String {
    word(value).replace('$', "$$")
}

/// A value that is the rest of a line, with `%` as itself.
pub(super) fn line(value: &str) -> String {
    value.replace('%', "%%")
}

/// The name of the mount unit of a path (systemd-escape(1) with `--path`).
pub(super) fn mount_unit(path: &str) -> String {
    let mut name = String::new();
    for (i, byte) in path.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if i == 0 => name.push_str("\\x2e"),
            b':' | b'_' | b'.' => name.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    format!("{name}.mount")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_meaning_in_a_unit_file() {
        assert_eq!(word(r#"a "b" \ 100%"#), r#""a \"b\" \\ 100%%""#);
        assert_eq!(command_word("$HOME 5%"), r#""$$HOME 5%%""#);
        assert_eq!(line("50%"), "50%%");
    }

    #[test]
    fn a_mount_unit_has_the_escaped_name_of_its_path() {
        assert_eq!(mount_unit("/var/lib/web"), "var-lib-web.mount");
        assert_eq!(mount_unit("/srv/my-app/a b"), "srv-my\\x2dapp-a\\x20b.mount");
    }
}
