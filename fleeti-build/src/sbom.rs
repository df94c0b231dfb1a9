//! The SBOM of a release: CycloneDX 1.6, JSON.
//!
//! It is made from the lock, the profile and the list of all files, and from nothing else: the same
//! inputs give the same bytes. Its digest is in `build.json`, which approvers sign, and in the
//! manifest, which release keys sign. Every regular file of the root file system is of a package
//! that is listed, or is listed itself.

use crate::base::Inputs;
use crate::cache::Cache;
use crate::contents::{Contents, Kind};
use crate::error::{BuildError, io};
use crate::file::read_at_most;
use crate::lock::{IN_IMAGE, Lock};
use crate::package::{DEBIAN, Package};
use crate::purl::{self, Image, Source, version_of};
use crate::record::BuildRecord;
use fleeti_core::canonical::{self, sha256_hex};
use fleeti_core::strict;
use fleeti_core::wire::package::ReleasePackage;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Name of the file in a directory of a build.
pub const FILE: &str = "sbom.cdx.json";
/// Largest SBOM that is read, bytes: about 100,000 components.
pub const SBOM_MAX: u64 = 32 << 20;
/// The boot stub of the UKI, which is code of a package of tools.
const STUB: &str = "systemd-boot-efi";
/// Path of the agent, which is a component of its own.
const AGENT: &str = "/usr/lib/fleeti/fleeti-agent";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom {
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
}

#[derive(Serialize)]
struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    tools: Tools,
    component: Component,
}

#[derive(Serialize)]
struct Tools {
    components: Vec<Component>,
}

#[derive(Default, Serialize)]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "String::is_empty")]
    bom_ref: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<Supplier>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Serialize)]
struct Supplier {
    name: String,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Serialize, Deserialize)]
struct Property {
    name: String,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    of: String,
    depends_on: Vec<String>,
}

fn sha256(digest: &str) -> Vec<Hash> {
    vec![Hash { alg: "SHA-256", content: digest.to_owned() }]
}

fn property(name: &str, value: impl Into<String>) -> Property {
    Property { name: format!("fleeti:{name}"), value: value.into() }
}

/// Makes the SBOM of a build. `record` has the digests of its inputs and of its root file system.
pub(crate) fn make(
    inputs: &Inputs,
    record: &BuildRecord,
    contents: &Contents,
    cache: &Cache,
) -> Result<Vec<u8>, BuildError> {
    let mut components = packages(&inputs.lock, cache)?;
    components.push(distribution(&inputs.lock));
    components.push(Component {
        kind: "application",
        bom_ref: "fleeti-agent".into(),
        name: "fleeti-agent".into(),
        hashes: sha256(&record.inputs.agent_digest),
        ..Component::default()
    });
    components.extend(inputs.revision.profile.containers.iter().filter_map(|container| {
        let image = Image::read(&container.image)?;
        Some(Component {
            kind: "container",
            bom_ref: format!("container:{}", container.name),
            name: image.repository.to_owned(),
            version: Some(format!("sha256:{}", image.sha256)),
            hashes: sha256(image.sha256),
            purl: Some(image.url()),
            properties: vec![property("container", container.name.as_str())],
            ..Component::default()
        })
    }));
    components.extend(files(contents));
    let name = record.release.to_string();
    let bom = Bom {
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: serial_number(record),
        version: 1,
        dependencies: vec![Dependency {
            of: name,
            depends_on: components.iter().map(|component| component.bom_ref.clone()).collect(),
        }],
        metadata: Metadata {
            timestamp: made_at(&inputs.lock),
            tools: Tools {
                components: vec![Component {
                    kind: "application",
                    name: "fleeti".into(),
                    ..Component::default()
                }],
            },
            component: image(record),
        },
        components,
    };
    Ok(canonical::to_vec(&bom)?)
}

/// The image itself.
fn image(record: &BuildRecord) -> Component {
    let root = record.files.get("root.erofs").map(|file| sha256(&file.sha256));
    Component {
        kind: "firmware",
        bom_ref: record.release.to_string(),
        name: record.release.line.to_string(),
        version: Some(record.release.version.to_string()),
        hashes: root.unwrap_or_default(),
        properties: vec![
            property("lock_digest", record.inputs.lock_digest.as_str()),
            property("revision_digest", record.inputs.revision_digest.as_str()),
            property("root_hash", record.root_hash.as_str()),
        ],
        ..Component::default()
    }
}

/// Every package whose files can be in the image, by name.
fn packages(lock: &Lock, cache: &Cache) -> Result<Vec<Component>, BuildError> {
    let mut found: BTreeMap<(&str, &str), (&Package, BTreeSet<&str>)> = BTreeMap::new();
    let in_image = IN_IMAGE.iter().flat_map(|set| lock.set(set).iter().map(move |p| (*set, p)));
    let stub = lock.set("tools").iter().filter(|package| &*package.name == STUB);
    for (set, package) in in_image.chain(stub.map(|package| ("uki", package))) {
        let key = (&*package.name, &*package.sha256);
        found.entry(key).or_insert_with(|| (package, BTreeSet::new())).1.insert(set);
    }
    let component = |(package, sets): (&Package, BTreeSet<&str>)| {
        let source = Source::of(&cache.package(&package.sha256))?;
        let mut properties =
            vec![property("source", &*source.name), property("source_version", &*source.version)];
        properties.extend(package.origin.as_deref().map(|origin| property("origin", origin)));
        properties.extend(sets.into_iter().map(|set| property("set", set)));
        let supplier = match package.repository() {
            DEBIAN => "Debian".to_owned(),
            other => other.to_owned(),
        };
        Ok(Component {
            kind: "library",
            bom_ref: format!("deb:{}", package.sha256),
            supplier: Some(Supplier { name: supplier }),
            name: package.name.to_string(),
            version: Some(package.version.to_string()),
            hashes: sha256(&package.sha256),
            purl: Some(purl::of_package(package, Some(&source), &lock.suite)),
            properties,
        })
    };
    found.into_values().map(component).collect()
}

/// The component by which scanners choose their list of advisories.
fn distribution(lock: &Lock) -> Component {
    Component {
        kind: "operating-system",
        bom_ref: "debian".into(),
        supplier: Some(Supplier { name: "Debian".into() }),
        name: "debian".into(),
        version: Some(version_of(&lock.suite).to_owned()),
        ..Component::default()
    }
}

/// Regular files that no package brings: of the profile, of Fleeti, and what scripts made.
fn files(contents: &Contents) -> impl Iterator<Item = Component> {
    let is_own = |entry: &&crate::contents::Entry| {
        entry.kind == Kind::File && entry.package.is_none() && entry.path != AGENT
    };
    contents.files.iter().filter(is_own).map(|entry| Component {
        kind: "file",
        bom_ref: format!("file:{}", entry.path),
        name: entry.path.clone(),
        hashes: entry.sha256.as_deref().map(sha256).unwrap_or_default(),
        ..Component::default()
    })
}

/// When the newest list of packages was made: a time of the inputs, not of a machine.
fn made_at(lock: &Lock) -> Option<String> {
    let newest = lock.snapshots.values().map(|snapshot| snapshot.date_s).max()?;
    Some(jiff::Timestamp::from_second(i64::try_from(newest).ok()?).ok()?.to_string())
}

/// A UUID (RFC 9562, version 8) that names what the SBOM is about.
fn serial_number(record: &BuildRecord) -> String {
    let BuildRecord { release, inputs, root_hash, .. } = record;
    let text = format!(
        "fleeti-sbom-v1|{release}|{}|{}|{root_hash}",
        inputs.revision_digest, inputs.lock_digest
    );
    let h = sha256_hex(text.as_bytes());
    format!("urn:uuid:{}-{}-8{}-8{}-{}", &h[..8], &h[8..12], &h[13..16], &h[17..20], &h[20..32])
}

#[derive(Serialize, Deserialize)]
struct BomRead {
    components: Vec<ComponentRead>,
}

#[derive(Serialize, Deserialize)]
struct ComponentRead {
    name: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    purl: Option<String>,
    #[serde(default)]
    properties: Vec<Property>,
}

/// The Debian packages that an SBOM lists, each once.
///
/// # Errors
/// [`BuildError::Io`]; [`BuildError::Malformed`].
pub fn packages_of(path: &Path) -> Result<Vec<ReleasePackage>, BuildError> {
    let text = read_at_most(path, SBOM_MAX).map_err(io(path))?;
    let read: BomRead = strict::from_slice(&text)
        .map_err(|source| BuildError::Malformed { path: path.to_owned(), source })?;
    let packages = read.components.into_iter().filter_map(|component| {
        component.purl.filter(|purl| purl.starts_with("pkg:deb/"))?;
        let (name, version) = (component.name, component.version?);
        let property = |wanted: &str, default: &str| {
            let found = component.properties.iter().find(|property| property.name == wanted);
            found.map_or(default, |property| &property.value).to_owned()
        };
        let source = property("fleeti:source", &name);
        let source_version = property("fleeti:source_version", &version);
        let package = ReleasePackage { name, version, source, source_version };
        Some(((package.name.clone(), package.version.clone()), package))
    });
    // The same version can be there with two digests.
    Ok(packages.collect::<BTreeMap<_, _>>().into_values().collect())
}
