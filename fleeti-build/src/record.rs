//! `build.json`: the record of a build.
//!
//! A record may come from another party: people read it before they sign, and code makes paths from
//! it. INVARIANT: every field of a [`BuildRecord`] that was read has its required form, so that
//! none leads out of a directory or repaints a terminal. Whether the record is *true* is a separate
//! question, which [`crate::compare`] answers.

use crate::error::{BuildError, io};
use crate::file::read_at_most;
pub use crate::step::{ArtifactName, NoArtifactName, Step};
use fleeti_core::canonical::is_sha256_hex;
use fleeti_core::id::{Architecture, ReleaseName, Version};
use fleeti_core::manifest::{Manifest, ReferenceValues};
use fleeti_core::strict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Size limit of `build.json`, bytes.
pub const RECORD_MAX: u64 = 1 << 20;
/// Largest number of files, and of steps, in a record.
const ENTRIES_MAX: usize = 64;
/// Longest version of a tool, bytes.
const TOOL_VERSION_MAX: usize = 64;

/// The content of `build.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildRecord {
    /// Schema version: 1.
    pub schema: u32,
    /// The release that was built.
    pub release: ReleaseName,
    /// Architecture of the devices.
    pub architecture: Architecture,
    /// Minimum version of the image.
    pub minimum_version: Version,
    /// Digests of the inputs.
    pub inputs: RecordedInputs,
    /// Derivation and output of each step.
    pub derivations: BTreeMap<ArtifactName, Step>,
    /// Version of Nix, for example `2.8.0`.
    pub nix_version: String,
    /// dm-verity root hash, hexadecimal.
    pub root_hash: String,
    /// Values of PCR 11 by boot phase, and the version of systemd that measures it.
    pub reference_values: ReferenceValues,
    /// Files in the directory of the build.
    pub files: BTreeMap<ArtifactName, FileRecord>,
}

/// The inputs of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedInputs {
    /// Number of the profile revision.
    pub revision: u32,
    /// SHA-256 of the canonical JSON of the revision's profile.
    pub revision_digest: String,
    /// SHA-256 of the canonical JSON of the lock.
    pub lock_digest: String,
    /// SHA-256 of the agent binary.
    pub agent_digest: String,
}

/// A file of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Size, bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl BuildRecord {
    /// Whether a manifest is of this build.
    #[must_use]
    pub fn made(&self, manifest: &Manifest) -> bool {
        self.release == manifest.release
            && self.root_hash == manifest.root_hash
            && self.inputs.revision_digest == manifest.revision_digest
            && self.inputs.lock_digest == manifest.lock_digest
    }

    /// Reads the `build.json` of a directory.
    ///
    /// # Errors
    /// [`BuildError::Io`], [`BuildError::Malformed`], [`BuildError::Field`].
    pub fn read(directory: &Path) -> Result<Self, BuildError> {
        Self::parse(directory, &Self::bytes(directory)?)
    }

    /// Parses the bytes of a `build.json`. `directory` is for messages.
    ///
    /// # Errors
    /// [`BuildError::Malformed`], [`BuildError::Field`].
    pub fn parse(directory: &Path, bytes: &[u8]) -> Result<Self, BuildError> {
        let path = directory.join("build.json");
        let record: Self = strict::from_slice(bytes)
            .map_err(|source| BuildError::Malformed { path: path.clone(), source })?;
        match record.broken() {
            None => Ok(record),
            Some((field, problem)) => Err(BuildError::Field { path, field, problem }),
        }
    }

    /// Every digest, with its field.
    fn digests(&self) -> Vec<(String, &str)> {
        let mut digests: Vec<(String, &str)> = vec![
            ("inputs.revision_digest".into(), &self.inputs.revision_digest),
            ("inputs.lock_digest".into(), &self.inputs.lock_digest),
            ("inputs.agent_digest".into(), &self.inputs.agent_digest),
            ("root_hash".into(), &self.root_hash),
        ];
        digests.extend(
            self.files
                .iter()
                .map(|(name, file)| (format!("files.{name}.sha256"), file.sha256.as_str())),
        );
        let values = &self.reference_values;
        digests.extend(
            values
                .pcr11
                .iter()
                .map(|(phase, value)| (format!("reference_values.pcr11.{phase}"), value.as_str())),
        );
        for (pcr, value) in [("pcr9", &values.pcr9), ("pcr12", &values.pcr12)] {
            digests.extend(
                value.iter().map(|value| (format!("reference_values.{pcr}"), value.as_str())),
            );
        }
        digests
    }

    /// The first field with a wrong form, and what is wrong.
    fn broken(&self) -> Option<(String, &'static str)> {
        const DIGEST: &str = "is not a SHA-256 in hexadecimal";
        const STORE_PATH: &str = "is not a path in the Nix store";
        let values = &self.reference_values;
        let is_phases = |text: &str| {
            text.len() <= 128
                && text
                    .split(':')
                    .all(|phase| is_word(phase, |b| b.is_ascii_lowercase() || b == b'-'))
        };
        let paths = self.derivations.iter().flat_map(|(name, step)| {
            [
                (format!("derivations.{name}.derivation"), &step.derivation, ".drv"),
                (format!("derivations.{name}.output"), &step.output, ""),
            ]
        });
        let too_many = [
            ("files", self.files.len()),
            ("derivations", self.derivations.len()),
            ("reference_values.pcr11", values.pcr11.len()),
        ];
        None.or_else(|| (self.schema != 1).then(|| ("schema".to_owned(), "is not 1")))
            .or_else(|| {
                too_many
                    .iter()
                    .find(|(_, n)| *n > ENTRIES_MAX)
                    .map(|(field, _)| ((*field).to_owned(), "has too many entries"))
            })
            .or_else(|| {
                values
                    .pcr11
                    .keys()
                    .find(|phases| !is_phases(phases))
                    .map(|_| ("reference_values.pcr11".into(), "has invalid boot phases"))
            })
            .or_else(|| {
                self.digests()
                    .into_iter()
                    .find(|(_, text)| !is_sha256_hex(text))
                    .map(|(field, _)| (field, DIGEST))
            })
            .or_else(|| {
                let is_store = |path: &Path, end: &str| {
                    path.to_str().is_some_and(|text| is_store_path(text) && text.ends_with(end))
                };
                paths
                    .into_iter()
                    .find(|(_, path, end)| !is_store(path, end))
                    .map(|(field, ..)| (field, STORE_PATH))
            })
            .or_else(|| {
                let plain = |text: &str| {
                    is_word(text, |b| b.is_ascii_alphanumeric() || b"._+~-".contains(&b))
                };
                (!plain(&self.nix_version)).then(|| ("nix_version".to_owned(), "is not a version"))
            })
            .or_else(|| {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b" ()._+~:-".contains(&b);
                (!is_word(&values.systemd_version, plain))
                    .then(|| ("reference_values.systemd_version".to_owned(), "is not a version"))
            })
    }

    /// The bytes of `build.json`. Approvers sign their digest.
    ///
    /// # Errors
    /// [`BuildError::Io`], also if the record is larger than [`RECORD_MAX`].
    pub fn bytes(directory: &Path) -> Result<Vec<u8>, BuildError> {
        let path = directory.join("build.json");
        read_at_most(&path, RECORD_MAX).map_err(io(&path))
    }
}

/// Whether a text is one word of a version or a phase.
fn is_word(text: &str, plain: impl Fn(u8) -> bool) -> bool {
    (1..=TOOL_VERSION_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// Whether a text is `/nix/store/`, 32 characters of Nix's base 32, `-`, and a name (Nix manual,
/// "Store Path").
fn is_store_path(text: &str) -> bool {
    let Some((hash, name)) = text.strip_prefix("/nix/store/").and_then(|rest| rest.split_once('-'))
    else {
        return false;
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b);
    hash.len() == 32
        && hash
            .bytes()
            .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() && !b"eotu".contains(&b))
        && (1..=211).contains(&name.len())
        && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn good() -> Value {
        let digest = "a".repeat(64);
        let store = |name: &str| format!("/nix/store/{}-{name}", "0".repeat(32));
        json!({
            "schema": 1, "release": "kiosk@2", "architecture": "x86_64", "minimum_version": "1",
            "inputs": {"revision": 1, "revision_digest": digest, "lock_digest": digest, "agent_digest": digest},
            "derivations": {"root": {"derivation": store("fleeti-root-kiosk-2.drv"), "output": store("fleeti-root-kiosk-2")}},
            "nix_version": "2.26.3", "root_hash": digest,
            "reference_values": {"systemd_version": "257 (257.13-1~deb13u1)", "pcr11": {"enter-initrd:leave-initrd": digest}},
            "files": {"uki.efi": {"size": 1, "sha256": digest}},
        })
    }

    fn parse(record: &Value) -> Result<BuildRecord, BuildError> {
        BuildRecord::parse(Path::new("b"), record.to_string().as_bytes())
    }

    #[test]
    fn every_text_of_a_record_that_repaints_a_terminal_is_refused_by_its_field() {
        assert!(parse(&good()).is_ok());
        const EVIL: &str = "x\u{1b}[2J\nroot hash aaaa";
        let mut texts = Vec::new();
        walk(&good(), String::new(), &mut texts);
        assert!(texts.len() > 12, "{texts:?}");
        for pointer in texts {
            let mut record = good();
            *record.pointer_mut(&pointer).unwrap() = EVIL.into();
            let error = parse(&record).unwrap_err().to_string();
            assert!(!error.contains('\u{1b}') && !error.contains('\n'), "{pointer}: {error:?}");
        }
    }

    /// Pointers to all texts of a document.
    fn walk(value: &Value, at: String, texts: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| walk(value, format!("{at}/{name}"), texts))
            }
            Value::String(_) => texts.push(at),
            _ => {}
        }
    }

    #[test]
    fn names_of_files_and_steps_are_plain() {
        for name in [
            "",
            "..",
            "a..b",
            ".x",
            "-x",
            "a/b",
            "/etc/passwd",
            "A",
            "a b",
            "a\u{1b}[31m",
            "a\n",
            "ä",
            &"a".repeat(65),
        ] {
            assert!(name.parse::<ArtifactName>().is_err(), "{name:?}");
            let mut record = good();
            record["files"] = json!({name: {"size": 1, "sha256": "a".repeat(64)}});
            assert!(parse(&record).is_err(), "{name:?}");
        }
        assert_eq!(
            "systemd-boot.efi".parse::<ArtifactName>().unwrap().as_str(),
            "systemd-boot.efi"
        );
    }

    #[test]
    fn a_list_where_an_object_is_meant_is_refused_wherever_it_is() {
        for pointer in
            ["", "/inputs", "/derivations/root", "/reference_values", "/files/uki.efi", "/files"]
        {
            let mut record = good();
            let object = record.pointer_mut(pointer).unwrap();
            *object = object.as_object().unwrap().values().cloned().collect::<Vec<_>>().into();
            assert!(matches!(parse(&record), Err(BuildError::Malformed { .. })), "{pointer:?}");
        }
        let twice = good().to_string().replacen(
            "\"files\":{",
            "\"files\":{\"uki.efi\":{\"size\":2,\"sha256\":\"\"},",
            1,
        );
        assert!(matches!(
            BuildRecord::parse(Path::new("b"), twice.as_bytes()),
            Err(BuildError::Malformed { .. })
        ));
    }

    #[test]
    fn a_field_that_nobody_knows_is_refused() {
        let mut record = good();
        record["inputs"]["approved"] = true.into();
        assert!(matches!(parse(&record), Err(BuildError::Malformed { .. })));
    }
}
