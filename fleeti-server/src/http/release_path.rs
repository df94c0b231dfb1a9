//! The path of a file of a release: `/releases/LINE/VERSION/FILE`.
//!
//! A scope with a fixed prefix and this type replace patterns of actix-web. Each pattern is a
//! regular expression, and one took a tenth of the CPU time of a manifest.

use super::extract::said;
use crate::error::AppError;
use actix_web::HttpRequest;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::problem::Code;
use percent_encoding::percent_decode_str;
use std::fmt::Display;

/// A file of a release.
#[derive(Debug, PartialEq, Eq)]
pub struct ReleasePath {
    /// The release.
    pub release: ReleaseName,
    /// The path of the file in the release, such as `manifest.json`. It is what the client sent,
    /// decoded, so it may have `..`: the release knows its files by name.
    pub file: String,
}

impl ReleasePath {
    /// Reads the part of a request's path that the scope did not match.
    ///
    /// # Errors
    /// [`Code::NotFound`] if a part is missing, [`Code::Invalid`] if one does not parse.
    pub fn of(request: &HttpRequest) -> Result<Self, AppError> {
        Self::parse(request.match_info().unprocessed())
    }

    fn parse(rest: &str) -> Result<Self, AppError> {
        let missing = || AppError::new(Code::NotFound, "path not found");
        let mut parts = rest.strip_prefix('/').ok_or_else(missing)?.splitn(3, '/');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or_else(missing);
        let (line, version, file) = (part()?, part()?, part()?);
        let release = ReleaseName {
            line: decoded(line)?.parse().map_err(|e| wrong(&e))?,
            version: decoded(version)?.parse().map_err(|e| wrong(&e))?,
        };
        Ok(Self { release, file: decoded(file)? })
    }
}

fn decoded(part: &str) -> Result<String, AppError> {
    let part = percent_decode_str(part).decode_utf8().map_err(|e| wrong(&e))?;
    Ok(part.into_owned())
}

fn wrong(e: &impl Display) -> AppError {
    said("the path", e)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(rest: &str) -> Code {
        ReleasePath::parse(rest).unwrap_err().code()
    }

    #[test]
    fn a_path_names_a_release_and_a_file() {
        let path = ReleasePath::parse("/kiosk/1.2/raw/kiosk_1.2.root").unwrap();
        assert_eq!(path.release.to_string(), "kiosk@1.2");
        assert_eq!(path.file, "raw/kiosk_1.2.root");
        let encoded = ReleasePath::parse("/k%69osk/1/manifest%2Ejson").unwrap();
        assert_eq!(
            (encoded.release.to_string().as_str(), &*encoded.file),
            ("kiosk@1", "manifest.json")
        );
    }

    #[test]
    fn a_path_with_a_part_missing_or_malformed_is_refused() {
        for missing in
            ["", "/", "/kiosk", "/kiosk/1", "/kiosk/1/", "//1/f", "/kiosk//f", "kiosk/1/f"]
        {
            assert_eq!(code(missing), Code::NotFound, "{missing}");
        }
        for malformed in ["/%00/1/f", "/Kiosk/1/f", "/kiosk/one/f", "/kiosk/1/%ff", "/..%2f/1/f"] {
            assert_eq!(code(malformed), Code::Invalid, "{malformed}");
        }
    }
}
