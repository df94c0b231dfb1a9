//! One's own build with a runner that builds nothing: what a verifier or an approver compares comes
//! from their own inputs, and every difference to another party's record is named.

use crate::{profile, trust};
use fleeti_build::build::{self, BuildRecord, Request};
use fleeti_build::cache::Cache;
use fleeti_build::compare::{self, Comparison, Own};
use fleeti_build::lock::Lock;
use fleeti_build::runner::{RunError, Runner};
use fleeti_testkit::own_build::{OwnBuild, STEPS, derivation};
use std::fs;
use std::path::{Path, PathBuf};

/// A runner whose steps were built before.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) outputs: PathBuf,
    /// The step that is different when it is built again.
    unstable: Option<&'static str>,
}

impl Runner for Fake {
    fn instantiate(
        &self,
        file: &Path,
        arguments: &[(&str, &str)],
        attributes: &[&str],
    ) -> Result<Vec<PathBuf>, RunError> {
        assert!(file.exists() && Path::new(arguments[0].1).exists(), "scripts and specification");
        Ok(attributes.iter().map(|step| derivation(step)).collect())
    }

    fn realise(
        &self,
        derivations: &[PathBuf],
        check: bool,
        _line: &mut dyn FnMut(&str),
    ) -> Result<Vec<PathBuf>, RunError> {
        let step = |path: &PathBuf| STEPS.into_iter().find(|step| derivation(step) == *path);
        let steps: Vec<_> = derivations.iter().filter_map(step).collect();
        if check && self.unstable.is_some_and(|step| steps.contains(&step)) {
            let tail = "the output may not be deterministic".to_owned();
            return Err(RunError::Failed { program: "nix-store", tail });
        }
        Ok(steps.into_iter().map(|step| self.outputs.join(step)).collect())
    }

    fn version(&self) -> Result<String, RunError> {
        Ok("2.26.3".into())
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) cache: Cache,
    pub(crate) fake: Fake,
    pub(crate) request: Request,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let OwnBuild { cache, lock, outputs } =
            OwnBuild::new(dir.path(), &profile("kiosk")).unwrap();
        let agent = dir.path().join("agent");
        fs::write(&agent, "an agent").unwrap();
        let request = Request {
            profile: profile("kiosk"),
            revision: 1,
            version: "2".parse().unwrap(),
            minimum_version: None,
            trust: trust(dir.path()),
            lock: Some(lock),
            refresh_lock: false,
            refresh_packages: Vec::new(),
            agent,
            out: dir.path().join("theirs"),
        };
        Self { dir, cache, fake: Fake { outputs, unstable: None }, request }
    }

    /// The record of another party's build from the same inputs.
    pub(crate) fn theirs(&self) -> BuildRecord {
        build::run_with(&self.request, &self.cache, |_| self.fake.clone(), &mut |_| {}).unwrap()
    }

    /// One's own build from these inputs.
    fn own(&self, request: &Request) -> Own {
        Own::make_with(request, &self.cache, |_| self.fake.clone(), &mut |_| {}).unwrap()
    }
}

fn parts(found: &Comparison) -> Vec<&str> {
    found.differences.iter().filter_map(|d| d.part.as_deref()).collect()
}

#[test]
fn a_record_of_the_same_inputs_and_the_same_bytes_is_identical() {
    let world = World::new();
    let (theirs, own) = (world.theirs(), world.own(&world.request));
    assert_eq!(compare::with_record(&own, &theirs).unwrap(), Comparison::default());
    assert_eq!(own.rebuild_with(&world.fake, &mut |_| {}).unwrap(), []);
}

/// The other party chooses nothing: a build of other inputs is a difference, whatever their record
/// says.
#[test]
fn ones_own_profile_lock_and_agent_decide_what_is_built() {
    let world = World::new();
    let theirs = world.theirs();
    let agent = world.dir.path().join("my-agent");
    fs::write(&agent, "another agent").unwrap();
    let mut profile = world.request.profile.clone();
    profile.description = "another one".into();
    let lock = world.dir.path().join("my-lock.json");
    let mut packages = Lock::read(world.request.lock.as_ref().unwrap()).unwrap();
    packages.sets.insert("device".into(), packages.sets["tools"].clone());
    packages.write(&lock).unwrap();
    for (part, request) in [
        ("inputs.agent_digest", Request { agent, ..world.request.clone() }),
        ("inputs.revision_digest", Request { profile, ..world.request.clone() }),
        ("inputs.lock_digest", Request { lock: Some(lock), ..world.request.clone() }),
        ("inputs.revision", Request { revision: 2, ..world.request.clone() }),
        ("release", Request { version: "3".parse().unwrap(), ..world.request.clone() }),
    ] {
        let own = world.own(&request);
        let found = compare::with_record(&own, &theirs).unwrap();
        assert!(parts(&found).contains(&part), "{part}: {found:?}");
    }
}

/// A server that swaps a file of a build records its digest. The approver's own file has another.
#[test]
fn each_file_that_another_party_swaps_is_named() {
    let world = World::new();
    let own = world.own(&world.request);
    for (path, part) in [
        ("root/root.erofs", "files.root.erofs.sha256"),
        ("root/root.verity", "files.root.verity.sha256"),
        ("uki/uki.efi", "files.uki.efi.sha256"),
        ("uki/systemd-boot.efi", "files.systemd-boot.efi.sha256"),
        ("disk/disk.raw", "files.disk.raw.sha256"),
        ("root/roothash", "root_hash"),
    ] {
        let file = world.fake.outputs.join(path);
        let honest = fs::read(&file).unwrap();
        let mut swapped = honest.clone();
        swapped[0] ^= 1;
        fs::write(&file, swapped).unwrap();
        let theirs = world.theirs();
        fs::write(&file, honest).unwrap();
        let found = compare::with_record(&own, &theirs).unwrap();
        // The SBOM and the provenance name what they are about, by its digest.
        let first: Vec<_> = parts(&found);
        let is_about = |part: &&&str| !part.contains("cdx.json") && !part.contains("intoto.json");
        assert_eq!(first.iter().filter(is_about).collect::<Vec<_>>(), [&part]);
    }
}

#[test]
fn a_step_that_is_built_differently_again_and_a_changed_file_of_ones_own_are_named() {
    let world = World::new();
    let (theirs, own) = (world.theirs(), world.own(&world.request));
    let unstable = Fake { unstable: Some("uki"), ..world.fake.clone() };
    let named = own.rebuild_with(&unstable, &mut |_| {}).unwrap();
    let named: Vec<_> = named.iter().map(ToString::to_string).collect();
    assert!(named.len() == 1 && named[0].starts_with("step uki"), "{named:?}");
    fs::write(own.directory.join("uki.efi"), "changed after the build").unwrap();
    let found = compare::with_record(&own, &theirs).unwrap();
    let text = found.differences[0].to_string();
    assert!(text.contains("uki.efi") && text.contains("of your own build"), "{text}");
}
