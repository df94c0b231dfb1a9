//! Compares another party's release with one's own build.
//!
//! A release is a build plus what keys add. Therefore this module makes the files of the release
//! again from the own build, without a key: the UKI with the release's `.pcrsig`, which must be
//! exactly the permitted signature, and both EFI binaries padded. The files of the release must be
//! these bytes under their Authenticode signatures.

use crate::compare::{Comparison, Own, fields_of, files, read_plain, small};
use crate::error::{BuildError, io};
use crate::file::{open_plain, sha256_file};
use crate::pieces::{Difference, of_binaries};
use crate::release::{copied, measured_by};
use fleeti_core::manifest::{Artifact, CRITICAL_KNOWN, KIND, Manifest, ReferenceValues};
use fleeti_pki::measured::predicted;
use fleeti_pki::{authenticode, openpgp, pcr_policy, pe};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Size limit of `.pcrsig`, bytes.
const SIGNATURES_MAX: usize = 16 << 10;
/// Size limit of an EFI binary, bytes.
const BINARY_MAX: u64 = 1 << 30;
/// How far ahead a manifest may be dated, seconds: its date raises the earliest clock that devices
/// accept.
const AHEAD_S_MAX: u64 = 86_400;
const VIEWS: [&str; 2] = ["raw", "xz"];

/// Compares a release with one's own build.
///
/// # Errors
/// I/O errors of one's own build. Files of the release that cannot be read are differences.
pub fn with_release(
    own: &Own,
    release: &Path,
    manifest: &Manifest,
    now_s: u64,
) -> Result<Comparison, BuildError> {
    let mut found = Comparison::default();
    let (line, version) = (&own.record.release.line, &own.record.release.version);
    let (uki, boot_loader) = (format!("{line}_{version}.efi"), "systemd-boot.efi".to_owned());
    let copied = copied(&own.record);

    for (part, name) in &copied {
        found.differences.extend(files(
            &format!("raw/{name}"),
            &own.directory.join(part),
            &release.join("raw").join(name),
        )?);
    }
    let mut reference_values = own.record.reference_values.clone();
    for (name, part) in [(&uki, "uki.efi"), (&boot_loader, "systemd-boot.efi")] {
        let (path, mine) = (format!("raw/{name}"), own.directory.join(part));
        let mine = fs::read(&mine).map_err(io(&mine))?;
        match read_plain(&release.join(&path), BINARY_MAX)
            .and_then(|theirs| binary(own, part, &path, &mine, &theirs))
        {
            Ok((differences, measures)) => {
                found.differences.extend(differences);
                reference_values = measures.unwrap_or(reference_values);
            }
            Err(detail) => found.differences.push(Difference::new(&path, None, detail)),
        }
    }
    let names: BTreeSet<String> =
        copied.iter().map(|(_, name)| name.clone()).chain([uki, boot_loader]).collect();
    views(own, release, &names, &mut found);
    for name in &names {
        found.differences.extend(
            compressed(release, name)
                .map(|detail| Difference::new(&format!("xz/{name}.xz"), None, detail)),
        );
    }
    let wanted = wanted_manifest(own, release, manifest, &names, reference_values);
    found.differences.extend(fields_of("manifest.json", &wanted, manifest));
    if manifest.created_s > now_s.saturating_add(AHEAD_S_MAX) {
        let detail = format!(
            "is {} s ahead of this machine's clock: devices would set their clocks by it",
            manifest.created_s - now_s
        );
        found.differences.push(Difference::new("manifest.json", Some("created_s"), detail));
    }
    Ok(found)
}

type Looked = (Vec<Difference>, Option<ReferenceValues>);

/// Compares an EFI binary of the release with the one of the build. For the UKI it also computes
/// the reference values.
fn binary(own: &Own, part: &str, path: &str, mine: &[u8], theirs: &[u8]) -> Result<Looked, String> {
    let text = |e: fleeti_pki::Error| e.to_string();
    let is_uki = part == "uki.efi";
    let mut differences = Vec::new();
    let mut wanted = mine.to_vec();
    if is_uki {
        let key = pe::content(mine, ".pcrpkey")
            .map_err(text)?
            .map(|pem| String::from_utf8_lossy(pem).into_owned());
        let signatures = pe::content(theirs, ".pcrsig").map_err(text)?;
        match (key, signatures) {
            (Some(pem), Some(signatures)) if signatures.len() <= SIGNATURES_MAX => {
                let systemd = own
                    .record
                    .reference_values
                    .systemd()
                    .ok_or("your build does not record its systemd version")?;
                let pcr = predicted::pcr_11(mine, systemd, pcr_policy::OPENED_IN).map_err(text)?;
                if let Err(e) = pcr_policy::check(signatures, &pcr, &pem) {
                    differences.push(Difference::new(path, Some("section .pcrsig"), e.to_string()));
                }
                wanted = pe::with_section(mine, ".pcrsig", signatures).map_err(text)?;
            }
            (Some(_), Some(_)) => {
                differences.push(Difference::new(path, Some("section .pcrsig"), "is too long"))
            }
            (Some(_), None) => {
                differences.push(Difference::new(path, Some("section .pcrsig"), "is missing"))
            }
            // The comparison of the sections reports a signature that is not needed.
            (None, _) => {}
        }
    }
    let wanted = authenticode::padded(&wanted);
    differences.extend(of_binaries(path, &wanted, &authenticode::stripped(theirs).map_err(text)?));
    let (digest, expected) =
        (authenticode::digest(theirs).map_err(text)?, authenticode::digest(&wanted).map_err(text)?);
    if digest != expected {
        let detail = format!(
            "is {}, your build has {}: the value of PCR 4 would differ",
            hex::encode(digest),
            hex::encode(expected)
        );
        differences.push(Difference::new(path, Some("Authenticode digest"), detail));
    }
    // Computed from one's own sections; the reference values of the release must be equal.
    let measures = if is_uki {
        Some(measured_by(&wanted, &own.record.reference_values).map_err(|e| e.to_string())?)
    } else {
        None
    };
    Ok((differences, measures))
}

/// Compares the checksum files and their signatures, and finds additional files.
fn views(own: &Own, release: &Path, names: &BTreeSet<String>, found: &mut Comparison) {
    for view in VIEWS {
        let folder = release.join(view);
        let listed: BTreeSet<String> = names
            .iter()
            .map(|name| if view == "xz" { format!("{name}.xz") } else { name.clone() })
            .collect();
        let mut sums = String::new();
        for name in &listed {
            match digest_of(&folder.join(name)) {
                Ok((_, sha256)) => sums.push_str(&format!("{sha256}  {name}\n")),
                Err(detail) => {
                    found.differences.push(Difference::new(&format!("{view}/{name}"), None, detail))
                }
            }
        }
        let path = format!("{view}/SHA256SUMS");
        found.differences.extend(small(&path, sums.as_bytes(), &folder.join("SHA256SUMS")));
        let signature = read_plain(&folder.join("SHA256SUMS.gpg"), 64 << 10);
        let verified = signature.and_then(|signature| {
            openpgp::verify(&own.openpgp, sums.as_bytes(), &signature).map_err(|e| e.to_string())
        });
        found.differences.extend(
            verified.err().map(|detail| Difference::new(&format!("{path}.gpg"), None, detail)),
        );
        let more = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned());
        let more = more.filter(|name| {
            !listed.contains(name) && !["SHA256SUMS", "SHA256SUMS.gpg"].contains(&name.as_str())
        });
        found.differences.extend(
            more.map(|name| {
                Difference::new(&format!("{view}/{name}"), None, "is not in your build")
            }),
        );
    }
}

/// What is wrong with a compressed file. It must be a single stream, without trailing data, of the
/// file in `raw`.
fn compressed(release: &Path, name: &str) -> Option<String> {
    let looked = || -> std::io::Result<Option<String>> {
        let raw = open_plain(&release.join("raw").join(name))?;
        let mut stream = liblzma::read::XzDecoder::new(open_plain(
            &release.join("xz").join(format!("{name}.xz")),
        )?);
        let first = crate::pieces::first_difference(raw, &mut stream, u64::MAX)?;
        if let Some(at) = first {
            return Ok(Some(format!("does not unpack to raw/{name}: first differs at byte {at}")));
        }
        let (packed, mut left) = (stream.total_in(), Vec::new());
        let mut file = open_plain(&release.join("xz").join(format!("{name}.xz")))?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(packed))?;
        file.take(1).read_to_end(&mut left)?;
        Ok((!left.is_empty()).then(|| format!("has trailing data at byte {packed}")))
    };
    looked().unwrap_or_else(|e| Some(format!("cannot be read: {e}")))
}

fn digest_of(path: &Path) -> Result<(u64, String), String> {
    let size = open_plain(path)
        .and_then(|file| file.metadata())
        .map_err(|e| format!("cannot be read: {e}"))?
        .len();
    Ok((size, sha256_file(path).map_err(|e| format!("cannot be read: {e}"))?))
}

/// The manifest that this release must have, computed from the own build and the files of the
/// release.
fn wanted_manifest(
    own: &Own,
    release: &Path,
    manifest: &Manifest,
    names: &BTreeSet<String>,
    reference_values: ReferenceValues,
) -> Manifest {
    let paths = VIEWS.into_iter().flat_map(|view| {
        let end = if view == "xz" { ".xz" } else { "" };
        let sums = ["SHA256SUMS".to_owned(), "SHA256SUMS.gpg".to_owned()];
        names
            .iter()
            .map(move |name| format!("{name}{end}"))
            .chain(sums)
            .map(move |name| format!("{view}/{name}"))
    });
    let artifact = |path: String| {
        let file = release.join(&path);
        let (size, sha256) = digest_of(&file).unwrap_or_default();
        let digest = path.ends_with(".efi").then(|| {
            read_plain(&file, BINARY_MAX).ok().and_then(|binary| authenticode::digest(&binary).ok())
        });
        Artifact { path, size, sha256, authenticode: digest.flatten().map(hex::encode) }
    };
    let record = &own.record;
    Manifest {
        kind: KIND.to_owned(),
        release: record.release.clone(),
        architecture: record.architecture,
        revision_digest: record.inputs.revision_digest.clone(),
        lock_digest: record.inputs.lock_digest.clone(),
        artifacts: paths.map(artifact).collect(),
        root_hash: record.root_hash.clone(),
        reference_values,
        minimum_version: record.minimum_version.clone(),
        // Only the party that made the release knows its date.
        created_s: manifest.created_s,
        critical: CRITICAL_KNOWN.iter().map(|field| (*field).to_owned()).collect(),
    }
}
