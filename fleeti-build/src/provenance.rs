//! The provenance of a release: an in-toto Statement v1 with a SLSA provenance v1 predicate.
//!
//! It says what was built from what. It names no machine and no time, so that everybody who builds
//! from the same inputs gets the same bytes; who vouches for it is said by the signatures over
//! `build.json` and over the manifest, which have its digest.

use crate::base::Inputs;
use crate::error::BuildError;
use crate::lock::Lock;
use crate::purl;
use crate::record::{BuildRecord, FileRecord};
use fleeti_core::canonical;
use fleeti_core::wire::worker::REPORTS;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Name of the file in a directory of a build.
pub const FILE: &str = "provenance.intoto.json";
/// What the parameters of a build mean: `docs/reference/formats.md`.
const BUILD_TYPE: &str = "urn:fleeti:build:debian:v1";
/// The builder: Fleeti's steps in Nix's sandbox, on any machine.
const BUILDER: &str = "urn:fleeti:builder:nix:v1";

/// <https://github.com/in-toto/attestation/blob/main/spec/v1/resource_descriptor.md>
#[derive(Serialize)]
struct Resource {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    digest: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, Value>,
}

impl Resource {
    fn new(name: impl Into<String>, sha256: &str) -> Self {
        let digest = [("sha256", sha256.to_owned())].into();
        Self { name: name.into(), uri: None, digest, annotations: BTreeMap::new() }
    }
}

/// Makes the provenance of a build. `record` has the digests of all other files.
pub(crate) fn make(inputs: &Inputs, record: &BuildRecord) -> Result<Vec<u8>, BuildError> {
    let is_report = |name: &str| REPORTS.contains(&name);
    let resources = |reports: bool| -> Vec<Resource> {
        let of = |(name, file): (&crate::step::ArtifactName, &FileRecord)| {
            (is_report(name.as_str()) == reports)
                .then(|| Resource::new(name.as_str(), &file.sha256))
        };
        record.files.iter().filter_map(of).collect()
    };
    let derivations: BTreeMap<_, _> =
        record.derivations.iter().map(|(name, step)| (name, &step.derivation)).collect();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": resources(false),
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "release": record.release,
                    "architecture": record.architecture,
                    "minimum_version": record.minimum_version,
                    "revision": record.inputs.revision,
                    "revision_digest": record.inputs.revision_digest,
                    "lock_digest": record.inputs.lock_digest,
                },
                "internalParameters": {"derivations": derivations},
                "resolvedDependencies": materials(&inputs.lock, record),
            },
            "runDetails": {
                "builder": {"id": BUILDER},
                "byproducts": resources(true),
            },
        },
    });
    Ok(canonical::to_vec(&statement)?)
}

/// All that entered the build: profile, lock and agent, and every package of the lock, that of tools
/// too.
fn materials(lock: &Lock, record: &BuildRecord) -> Vec<Resource> {
    let inputs = &record.inputs;
    let mut packages: BTreeMap<(&str, &str), (Resource, BTreeSet<&str>)> = BTreeMap::new();
    for (set, package) in
        lock.sets.iter().flat_map(|(set, list)| list.iter().map(move |p| (set, p)))
    {
        let key = (&*package.name, &*package.sha256);
        let material = || {
            let (name, version) = (&package.name, &package.version);
            let mut material = Resource::new(format!("{name} {version}"), &package.sha256);
            material.uri = Some(purl::of_package(package, None, &lock.suite));
            let path: &str = &package.path;
            material.annotations.insert("path", path.into());
            if let Some(origin) = package.origin.as_deref() {
                material.annotations.insert("origin", origin.into());
            }
            (material, BTreeSet::new())
        };
        packages.entry(key).or_insert_with(material).1.insert(set);
    }
    let packages = packages.into_values().map(|(mut material, sets)| {
        material.annotations.insert("sets", json!(sets));
        material
    });
    [
        Resource::new("profile", &inputs.revision_digest),
        Resource::new("lock.json", &inputs.lock_digest),
        Resource::new("fleeti-agent", &inputs.agent_digest),
    ]
    .into_iter()
    .chain(packages)
    .collect()
}
