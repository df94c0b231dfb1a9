//! Package URLs (<https://github.com/package-url/purl-spec>): names of packages and container images
//! that scanners know.

use crate::error::BuildError;
use crate::package::{DEBIAN, Package, PackageName, PackageVersion};
use crate::stanza;
use fleeti_core::foreign::Foreign;
use std::io::Error;
use std::path::Path;
use std::process::Command;

/// The source package that a package was built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) name: PackageName,
    pub(crate) version: PackageVersion,
}

impl Source {
    /// Reads it from the .deb of a package. Advisories are about source packages: `libssl3t64` is
    /// built from `openssl`.
    pub(crate) fn of(deb: &Path) -> Result<Self, BuildError> {
        let failed = |text: String| BuildError::Io {
            path: deb.to_owned(),
            source: Error::other(format!("dpkg-deb: {}", Foreign::log(&text))),
        };
        let output = Command::new("dpkg-deb")
            .arg("--field")
            .arg(deb)
            .args(["Package", "Source", "Version"])
            .output()
            .map_err(|e| failed(e.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let stanza = stanza::read(&String::from_utf8_lossy(&output.stdout)).pop();
        let stanza = stanza.ok_or_else(|| failed("no control fields".to_owned()))?;
        Self::in_control(&stanza).map_err(failed)
    }

    /// `Source: NAME (VERSION)`; both are those of the package if they are absent (deb-control(5)).
    fn in_control(stanza: &stanza::Stanza) -> Result<Self, String> {
        let field = |name| stanza::field(stanza, name);
        let (name, version) = match field("Source").split_once(' ') {
            Some((name, version)) => (name, version.trim_matches(['(', ')'])),
            None => (field("Source"), field("Version")),
        };
        let name = if name.is_empty() { field("Package") } else { name };
        let wrong = |e: crate::package::WrongForm| e.to_string();
        Ok(Self { name: name.parse().map_err(wrong)?, version: version.parse().map_err(wrong)? })
    }
}

/// The package URL of a package, with its source if that has another name or version:
/// `pkg:deb/debian/libssl3t64@3.5.1-1?arch=amd64&distro=debian-13&upstream=openssl`.
pub(crate) fn of_package(package: &Package, source: Option<&Source>, suite: &str) -> String {
    let file = package.path.rsplit('/').next().unwrap_or_default();
    let architecture = file.trim_end_matches(".deb").rsplit('_').next().unwrap_or_default();
    let (name, version) = (encoded(&package.name), encoded(&package.version));
    let mut url = format!("pkg:deb/{}/{name}@{version}", encoded(package.repository()));
    // The file names of one's own packages may not say it.
    let mut mark = '?';
    let mut add = |name: &str, value: &str| {
        url.push_str(&format!("{mark}{name}={}", encoded(value)));
        mark = '&';
    };
    if ["amd64", "all"].contains(&architecture) {
        add("arch", architecture);
    }
    if package.repository() == DEBIAN {
        add("distro", &format!("debian-{}", version_of(suite)));
    }
    match source {
        Some(Source { name, version }) if *version != package.version => {
            add("upstream", &format!("{name}@{version}"))
        }
        Some(Source { name, .. }) if *name != package.name => add("upstream", name),
        Some(_) | None => {}
    }
    url
}

/// The number of a suite, as in `VERSION_ID` of os-release(5).
pub(crate) fn version_of(suite: &str) -> &str {
    if suite == "trixie" { "13" } else { suite }
}

/// A container image that is pinned by its digest.
pub(crate) struct Image<'a> {
    /// Without tag and digest.
    pub(crate) repository: &'a str,
    /// SHA-256, hexadecimal.
    pub(crate) sha256: &'a str,
    tag: Option<&'a str>,
}

impl<'a> Image<'a> {
    /// Reads `registry/name:tag@sha256:DIGEST`.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let (name, sha256) = text.rsplit_once("@sha256:")?;
        let last = name.rfind('/').map_or(0, |at| at + 1);
        // A `:` before the last `/` is that of a port.
        let (repository, tag) = match name[last..].split_once(':') {
            Some((short, tag)) => (&name[..last + short.len()], Some(tag)),
            None => (name, None),
        };
        Some(Self { repository, sha256, tag })
    }

    pub(crate) fn url(&self) -> String {
        let name = self.repository.rsplit('/').next().unwrap_or_default().to_lowercase();
        let mut url = format!(
            "pkg:oci/{}@sha256%3A{}?repository_url={}",
            encoded(&name),
            self.sha256,
            self.repository.split('/').map(encoded).collect::<Vec<_>>().join("/")
        );
        if let Some(tag) = self.tag {
            url.push_str(&format!("&tag={}", encoded(tag)));
        }
        url
    }
}

/// A part of a package URL: all but letters, digits, `.`, `-`, `_`, `~` and `:` is encoded.
fn encoded(text: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b".-_~:".contains(&b);
    let byte = |b: u8| if is_plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_package_is_read_as_debian_writes_it() {
        for (control, name, version) in [
            ("Package: acl\nVersion: 2.3.2-2+b1\n", "acl", "2.3.2-2+b1"),
            ("Package: libssl3t64\nSource: openssl\nVersion: 3.5.1-1\n", "openssl", "3.5.1-1"),
            ("Package: acl\nSource: acl (2.3.2-2)\nVersion: 2.3.2-2+b1\n", "acl", "2.3.2-2"),
        ] {
            let source = Source::in_control(&stanza::read(control)[0]).unwrap();
            assert_eq!((&*source.name, &*source.version), (name, version), "{control}");
        }
        for bad in
            ["Package: aa\nSource: ../x\nVersion: 1\n", "Package: aa\nVersion: 1;id\n", "X: y\n"]
        {
            assert!(Source::in_control(&stanza::read(bad)[0]).is_err(), "{bad}");
        }
    }

    #[test]
    fn package_urls_are_those_that_scanners_know() {
        let package = |name: &str, version: &str, path: &str, origin: Option<&str>| Package {
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
            sha256: "0".repeat(64).parse().unwrap(),
            size: 1,
            path: path.parse().unwrap(),
            origin: origin.map(|text| text.parse().unwrap()),
        };
        let source = |name: &str, version: &str| Source {
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
        };
        for (package, source, expected) in [
            (
                package("attr", "1:2.5.2-3", "pool/main/a/attr/attr_2.5.2-3_amd64.deb", None),
                source("attr", "1:2.5.2-3"),
                "pkg:deb/debian/attr@1:2.5.2-3?arch=amd64&distro=debian-13",
            ),
            (
                package("libstdc++6", "14.2.0-19", "pool/libstdc%2b%2b6_14.2.0-19_amd64.deb", None),
                source("gcc-14", "14.2.0-19"),
                "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=debian-13&upstream=gcc-14",
            ),
            (
                package("tzdata", "2025b-4+deb13u1", "pool/tzdata_2025b-4_all.deb", None),
                source("tzdata", "2025b-4"),
                "pkg:deb/debian/tzdata@2025b-4%2Bdeb13u1?arch=all&distro=debian-13&upstream=tzdata%402025b-4",
            ),
            (
                package("probe", "1.0~rc1", "probe.deb", Some("own")),
                source("probe", "1.0~rc1"),
                "pkg:deb/own/probe@1.0~rc1",
            ),
        ] {
            assert_eq!(of_package(&package, Some(&source), "trixie"), expected);
        }
    }

    #[test]
    fn an_image_has_its_registry_its_tag_and_its_digest() {
        let digest = "a".repeat(64);
        for (image, url) in [
            (
                "r.example:5000/group/Web:1.2",
                "pkg:oci/web@sha256%3A<>?repository_url=r.example:5000/group/Web&tag=1.2",
            ),
            ("debian", "pkg:oci/debian@sha256%3A<>?repository_url=debian"),
        ] {
            let text = format!("{image}@sha256:{digest}");
            assert_eq!(Image::read(&text).unwrap().url(), url.replace("<>", &digest));
        }
        assert!(Image::read("debian:13").is_none());
    }
}
