//! The operations of the OpenAPI document, which tests of every client compare it with.

use serde_json::Value;
use std::collections::BTreeMap;

const DOCUMENT: &str = include_str!("../../fleeti-server/openapi.json");

/// Method and path of each operation, such as `GET /api/v1/devices/{device}`, by its id.
#[must_use]
pub fn documented() -> BTreeMap<String, String> {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    let mut found = BTreeMap::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
            found.insert(id, format!("{} {path}", method.to_uppercase()));
        }
    }
    found
}

/// Whether a request line, such as `GET /a/b?c HTTP/1.1`, is that of a template, such as `GET /a/{x}`.
#[must_use]
pub fn fits(line: &str, template: &str) -> bool {
    let target = line.trim().trim_end_matches(" HTTP/1.1");
    let target = target.split_once('?').map_or(target, |(path, _)| path);
    let mut parts = template.split(['{', '}']);
    let Some(mut rest) = parts.next().and_then(|first| target.strip_prefix(first)) else {
        return false;
    };
    while let (Some(name), Some(literal)) = (parts.next(), parts.next()) {
        let end = if literal.is_empty() { rest.len() } else { rest.find(literal).unwrap_or(0) };
        let value = &rest[..end];
        // Only the path of a file has more than one part.
        if value.is_empty() || (name != "path" && value.contains('/')) {
            return false;
        }
        rest = rest[end..].strip_prefix(literal).unwrap_or("wrong");
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_fits_its_own_template_only() {
        for (line, template) in [
            ("GET /a HTTP/1.1\r\n", "GET /a"),
            ("GET /a/1?x=/y HTTP/1.1", "GET /a/{id}"),
            ("PUT /a/1/files/b/c.d HTTP/1.1", "PUT /a/{id}/files/{path}"),
            ("GET /pki/00.crl HTTP/1.1", "GET /pki/{issuer}.crl"),
        ] {
            assert!(fits(line, template), "{line} {template}");
        }
        for (line, template) in [
            ("POST /a HTTP/1.1", "GET /a"),
            ("GET /a/1/b HTTP/1.1", "GET /a/{id}"),
            ("GET /a/ HTTP/1.1", "GET /a/{id}"),
            ("GET /a/1 HTTP/1.1", "GET /a/{id}/b"),
        ] {
            assert!(!fits(line, template), "{line} {template}");
        }
    }

    #[test]
    fn the_document_has_operations() {
        assert_eq!(documented()["get_device"], "GET /api/v1/devices/{device}");
    }
}
