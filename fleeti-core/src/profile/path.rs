//! Paths of fields, such as `users[1].ssh_keys[0]` and `kernel.sysctl["net.ipv4.ip_forward"]`.

use std::fmt::Write as _;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// A field of a table.
    Field(String),
    /// An entry of a list.
    Index(usize),
}

/// Appends a field. A name that is not a bare key of TOML is quoted.
pub(super) fn field(path: &str, name: &str) -> String {
    let is_bare = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match (is_bare, path.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{path}.{name}"),
        (false, _) => format!("{path}[\"{name}\"]"),
    }
}

/// Appends an index.
pub(super) fn index(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// The segments of a path. Malformed rests are ignored, as paths come from this crate or from a
/// person who asks for one.
pub(super) fn segments(path: &str) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let Some((name, after)) = quoted.split_once("\"]") else { break };
            segments.push(Segment::Field(name.to_owned()));
            rest = after;
        } else if let Some(number) = rest.strip_prefix('[') {
            let Some((number, after)) = number.split_once(']') else { break };
            let Ok(number) = number.parse() else { break };
            segments.push(Segment::Index(number));
            rest = after;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end == 0 {
                break;
            }
            segments.push(Segment::Field(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    segments
}

/// The text of segments that follow `path`.
pub(super) fn join(path: &str, segments: &[Segment]) -> String {
    segments.iter().fold(path.to_owned(), |mut path, segment| {
        match segment {
            Segment::Field(name) => path = field(&path, name),
            Segment::Index(number) => {
                // Writing to a string does not fail.
                write!(path, "[{number}]").ok();
            }
        }
        path
    })
}

/// A path with `[]` for each entry of a list or map, such as `users[].ssh_keys[]`.
///
/// ```
/// assert_eq!(fleeti_core::profile::pattern("users[12].ssh_keys[0]"), "users[].ssh_keys[]");
/// ```
#[must_use]
pub fn pattern(path: &str) -> String {
    let mut parts = path.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |pattern, part| {
        let rest = part.split_once(']').map_or("", |(_, rest)| rest);
        pattern + "[]" + rest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_back_as_it_is_written() {
        for path in ["", "name", "users[1].ssh_keys[0]", "kernel.sysctl[\"net.ipv4.ip_forward\"]"] {
            assert_eq!(join("", &segments(path)), path);
        }
        assert_eq!(segments("a[x].b").len(), 1, "the malformed rest is ignored");
    }
}
